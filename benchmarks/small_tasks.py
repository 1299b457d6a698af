"""Typical tasks of users: frozen features, a pretrained model, little data."""

import functools

import torch
from datasets import Dataset
from features import NUM_FEATURES_OF, FeatureNet, PooledEncoder, kept, load_efficientnet, minilm_folder
from keywords import NUM_TOKENS, POSITIVES, VOCABULARY, make_keyword_texts
from models import from_config, rows_of, scaled_pictures, small_modernbert, tokenized
from sources import SPLIT_SEED, Source, Task, cut, read_parts
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig

from hf_plm import count_labels


def few(train: Dataset, num_rows: int | None, source: Source) -> Dataset:
    """The first rows; a third of them if `source.quick`."""
    if num_rows is None:
        return train
    return train.select(range(num_rows // 3 if source.quick else num_rows))


def frozen_features(source: Source, name: str, learning_rate: float, num_rows: int | None = None) -> Task:
    """A head on the frozen features of debtags (MiniLM) or clipart (EfficientNet-Lite0).

    Args:
        num_rows: number of training rows; None for all.
    """
    data = read_parts(name)
    parts = {part: rows_of({"features": kept(name, part, rows)}, rows["labels"]) for part, rows in data.items()}
    num_labels = count_labels(data["train"]).num_labels
    train, dev = cut(parts["train"], source)
    train = few(train, num_rows, source)
    make_model = functools.partial(FeatureNet, NUM_FEATURES_OF[name], num_labels)
    return Task(train, dev, parts["validation"], count_labels(train, num_labels), make_model, 12, 64, learning_rate)


def fine_tuned_minilm(source: Source) -> Task:
    """MiniLM-L6, all of it trained, on 6,000 rows of debtags."""
    data = read_parts("debtags")
    num_labels = count_labels(data["train"]).num_labels
    encode = tokenized(AutoTokenizer.from_pretrained(minilm_folder()), max_length=32)
    make_model = functools.partial(PooledEncoder, minilm_folder(), num_labels)
    train, dev = cut(encode(data["train"]), source)
    train = few(train, 6000, source)
    counts = count_labels(train, num_labels)
    return Task(train, dev, encode(data["validation"]), counts, make_model, 4, 32, 1e-4, bf16=True)


def fine_tuned_efficientnet(source: Source, size: int = 96) -> Task:
    """EfficientNet-Lite0, all of it trained, on clipart's pictures in `size` x `size` pixels."""
    data = read_parts("clipart")
    num_labels = count_labels(data["train"]).num_labels
    parts = {
        name: rows_of({"pixel_values": scaled_pictures(rows["image"], size)}, rows["labels"])
        for name, rows in data.items()
    }
    train, dev = cut(parts["train"], source)
    make_model = functools.partial(load_efficientnet, num_labels)
    return Task(train, dev, parts["validation"], count_labels(train, num_labels), make_model, 4, 32, 1e-3)


def small_debtags(source: Source, num_labels: int = 40) -> Task:
    """1,500 rows of debtags with their 40 most frequent labels, and a ModernBERT from scratch."""
    data = read_parts("debtags").map(
        lambda row: {"labels": [label for label in row["labels"] if label < num_labels]}  # sorted by frequency
    )
    encode, make_model = small_modernbert(data["train"]["text"][:1500], num_labels, max_length=32)
    train, dev = cut(encode(data["train"]), source)
    train = few(train, 1500, source)
    return Task(train, dev, encode(data["validation"]), count_labels(train, num_labels), make_model, 12, 32, 4e-3)


def keywords(source: Source) -> Task:
    """Synthetic texts, ten labels with 697 to 7 positives, and a BERT from scratch."""
    train, dev, validation = (
        rows_of({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}, labels)
        for tokens, labels in (
            make_keyword_texts(rows, SPLIT_SEED + seed) for seed, rows in enumerate((1200, 1200, 3000))
        )
    )
    train = few(train, 1200, source)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=NUM_TOKENS,
        num_labels=len(POSITIVES),
    )
    make_model = functools.partial(from_config, AutoModelForSequenceClassification, config)
    return Task(train, dev, validation, count_labels(train, len(POSITIVES)), make_model, 12, 32, 2e-3)
