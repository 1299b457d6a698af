"""The compared models and their inputs: small models from scratch, or a pretrained one."""

import copy
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    ViTConfig,
)

from hf_plm.small_models import train_tokenizer

IMAGE_MODEL = "google/vit-base-patch16-224-in21k"
"""The model for pictures with `Source.full`."""


def rows_of(inputs: dict[str, Tensor], labels: list) -> Dataset:
    """Rows from tensors in memory."""
    dataset = Dataset.from_dict({"row": np.arange(len(labels)), "labels": labels})

    def read(batch: dict) -> dict:
        if "row" not in batch:
            return batch
        index = torch.as_tensor(batch["row"])
        return {**{name: tensor[index] for name, tensor in inputs.items()}, "labels": batch["labels"]}

    return dataset.with_transform(read)


def scaled(pixels: np.ndarray) -> Tensor:
    """uint8 pictures as float, from -1 to 1, `(count, channels, height, width)`."""
    tensor = torch.from_numpy(pixels).float() / 127.5 - 1
    return tensor.unsqueeze(1) if tensor.dim() == 3 else tensor.permute(0, 3, 1, 2).contiguous()


def scaled_pictures(pictures: Sequence[Any], size: int) -> Tensor:
    """PIL pictures as float, from -1 to 1, `(count, 3, size, size)`."""
    return scaled(np.stack([np.asarray(picture.convert("RGB").resize((size, size))) for picture in pictures]))


def tokenized(tokenizer: PreTrainedTokenizerBase, max_length: int) -> Callable[[Dataset], Dataset]:
    """A function from rows of texts to inputs, all of the same length."""

    def encode(rows: Dataset) -> Dataset:
        encoded = tokenizer(
            list(rows["text"]), truncation=True, max_length=max_length, padding="max_length", return_tensors="pt"
        )
        return rows_of({name: encoded[name] for name in ("input_ids", "attention_mask")}, rows["labels"])

    return encode


def pretrained_text_model(name: str | Path, num_labels: int, max_length: int) -> tuple[Callable, Callable]:
    """A function from texts to inputs, and a function that makes the pretrained model for them."""
    make_model = functools.partial(
        AutoModelForSequenceClassification.from_pretrained, name, num_labels=num_labels, ignore_mismatched_sizes=True
    )
    return tokenized(AutoTokenizer.from_pretrained(name), max_length), make_model


def small_modernbert(texts: list[str], num_labels: int, max_length: int) -> tuple[Callable, Callable]:
    """As `pretrained_text_model`, with a tokenizer trained on `texts` and a small ModernBERT from scratch."""
    tokenizer = train_tokenizer(texts)
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        classifier_pooling="mean",
        num_labels=num_labels,
        pad_token_id=0,
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=None,
        eos_token_id=None,
    )
    return tokenized(tokenizer, max_length), functools.partial(from_config, AutoModelForSequenceClassification, config)


def image_model(size: int, num_labels: int, full: bool) -> tuple[Callable, Callable[[], nn.Module]]:
    """As `pretrained_text_model`, for pictures: a small ViT from scratch, or a pretrained one of full size."""
    if full:
        processor = AutoImageProcessor.from_pretrained(IMAGE_MODEL)
        make_model = functools.partial(
            AutoModelForImageClassification.from_pretrained,
            IMAGE_MODEL,
            num_labels=num_labels,
            ignore_mismatched_sizes=True,
        )

        def encode(rows: Dataset) -> Dataset:
            def read(batch: dict) -> dict:
                if "image" not in batch:
                    return batch
                pictures = [image.convert("RGB") for image in batch["image"]]
                return {**processor(pictures, return_tensors="pt"), "labels": batch["labels"]}

            return rows.with_transform(read)

        return encode, make_model
    config = ViTConfig(
        image_size=size,
        patch_size=size // 8,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_labels=num_labels,
    )

    def encode_small(rows: Dataset) -> Dataset:
        return rows_of({"pixel_values": scaled_pictures(rows["image"], size)}, rows["labels"])

    return encode_small, functools.partial(from_config, AutoModelForImageClassification, config)


def from_config(auto_class: Any, config: PreTrainedConfig) -> nn.Module:
    """A new model with its own copy of the configuration, because training and calibration write into it."""
    return auto_class.from_config(copy.deepcopy(config))


class DigitNet(nn.Module):
    """A small convolutional network that finds digits at any place."""

    def __init__(self, num_labels: int):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.BatchNorm2d(16), nn.ReLU()]
        for channels in (16, 32):
            layers += [
                nn.Conv2d(channels, 2 * channels, 3, padding=1),
                nn.BatchNorm2d(2 * channels),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.features = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten())
        self.features.to(memory_format=torch.channels_last)  # nearly twice as fast on a CPU
        self.classifier = nn.Linear(64, num_labels)

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        return {"logits": self.classifier(self.features(pixel_values.to(memory_format=torch.channels_last)))}
