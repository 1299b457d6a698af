"""What the methods are compared on: data in three parts, a model, and how long it trains.

`train` is trained on, `dev` (a tenth of the training data) is where settings and thresholds are chosen, `validation`
is what the tables report.
"""

import functools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, Image, load_dataset
from models import DigitNet, from_config, image_model, rows_of, scaled
from multimnist import make_multi_digit
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    ModernBertConfig,
)

from hf_plm import LabelCounts, count_labels, make_long_tailed

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.append(str(EXAMPLES))
from train_text import train_tokenizer  # noqa: E402

TEXT_MODEL = "answerdotai/ModernBERT-base"
"""What `Source.full` trains on texts."""

SPLIT_SEED = 0
"""Draws `dev`; the same for all runs."""


@dataclass
class Task:
    """A data set, and how a model is trained on it.

    Attributes:
        train, dev, validation: rows of the model's inputs and `labels` (lists of class ids, or one class id).
        counts: of the labels of `train`.
        make_model: a new model, random or pretrained.
        epochs, batch_size, learning_rate: of a run; a method may multiply the learning rate.
        is_single_label: one class id per row.
    """

    train: Dataset
    dev: Dataset
    validation: Dataset
    counts: LabelCounts
    make_model: Callable[[], nn.Module]
    epochs: int
    batch_size: int
    learning_rate: float
    is_single_label: bool = False


@dataclass(frozen=True)
class Source:
    """Where the data come from, and how much of everything is used.

    Attributes:
        mnist: MNIST, as a data set of the Hub or a parquet file.
        data: the folder of data that you have to get yourself (COCO).
        full: full-size pretrained models, for a GPU.
        quick: a third of the training data.
    """

    mnist: str = "ylecun/mnist"
    data: str | None = None
    full: bool = False
    quick: bool = False

    @property
    def size(self) -> str:
        """`full`, `quick` or `small`."""
        return "full" if self.full else "quick" if self.quick else "small"


def cut(dataset: Dataset, source: Source) -> tuple[Dataset, Dataset]:
    """`train` and `dev`."""
    parts = dataset.train_test_split(0.1, seed=SPLIT_SEED)
    train = parts["train"].select(range(len(parts["train"]) // 3)) if source.quick else parts["train"]
    return train, parts["test"]


def debtags(source: Source) -> Task:
    """Descriptions of Debian packages, 365 labels."""
    folder = EXAMPLES / "data" / "debtags"
    data = load_dataset("parquet", data_files={name: str(folder / f"{name}.parquet") for name in SPLITS})
    num_labels = count_labels(data["train"]).num_labels
    if source.full:
        max_length = 128
        tokenizer = AutoTokenizer.from_pretrained(TEXT_MODEL)
        make_model = functools.partial(
            AutoModelForSequenceClassification.from_pretrained,
            TEXT_MODEL,
            num_labels=num_labels,
            ignore_mismatched_sizes=True,
        )
    else:
        max_length = 32
        tokenizer = train_tokenizer(data["train"]["text"])
        special = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": None, "eos_token_id": None}
        config = ModernBertConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            classifier_pooling="mean",
            num_labels=num_labels,
            **special,
        )
        make_model = functools.partial(from_config, AutoModelForSequenceClassification, config)

    def encode(rows: Dataset) -> Dataset:
        encoded = tokenizer(
            list(rows["text"]), truncation=True, max_length=max_length, padding="max_length", return_tensors="pt"
        )
        names = ("input_ids", "attention_mask")
        return rows_of({name: encoded[name] for name in names}, rows["labels"])

    train, dev = cut(encode(data["train"]), source)
    counts = count_labels(train, num_labels)
    rate = 5e-5 if source.full else 4e-3
    return Task(train, dev, encode(data["validation"]), counts, make_model, 4, 64, rate)


def clipart(source: Source) -> Task:
    """Open Clip Art pictures, 113 labels."""
    folder = EXAMPLES / "data" / "clipart"
    data = load_dataset("parquet", data_files={name: str(folder / f"{name}.parquet") for name in SPLITS})
    num_labels = count_labels(data["train"]).num_labels
    encode, make_model = image_model(64, num_labels, source.full)
    train, dev = cut(encode(data["train"]), source)
    counts = count_labels(train, num_labels)
    rate = 5e-5 if source.full else 2e-3
    return Task(train, dev, encode(data["validation"]), counts, make_model, 8, 64, rate)


def coco(source: Source) -> Task:
    """COCO 2017, 80 labels, from its pictures and its instance annotations in the folder `data`.

    The folder holds `train2017/`, `val2017/` and `annotations/instances_{train,val}2017.json`, as COCO is distributed.
    """
    if source.data is None:
        raise ValueError("coco needs --data FOLDER, with train2017/, val2017/ and annotations/instances_*2017.json")
    parts = {name: read_coco(Path(source.data), f"{name}2017") for name in ("train", "val")}
    num_labels = len(parts["train"][1])
    encode, make_model = image_model(64, num_labels, source.full)
    train, dev = cut(encode(parts["train"][0]), source)
    counts = count_labels(train, num_labels, label_names=parts["train"][1])
    rate = 5e-5 if source.full else 2e-3
    return Task(train, dev, encode(parts["val"][0]), counts, make_model, 8, 64, rate)


def read_coco(folder: Path, split: str) -> tuple[Dataset, list[str]]:
    """The pictures of a split with the ids of the categories they show, and the names of the categories."""
    annotations = json.loads((folder / "annotations" / f"instances_{split}.json").read_text())
    categories = {category["id"]: index for index, category in enumerate(annotations["categories"])}
    labels: dict[int, set[int]] = {image["id"]: set() for image in annotations["images"]}
    for annotation in annotations["annotations"]:
        labels[annotation["image_id"]].add(categories[annotation["category_id"]])
    images = [str(folder / split / image["file_name"]) for image in annotations["images"]]
    rows = Dataset.from_dict({"image": images, "labels": [sorted(shown) for shown in labels.values()]})
    return rows.cast_column("image", Image()), [category["name"] for category in annotations["categories"]]


def multimnist(source: Source, imbalance_factor: float = 100) -> Task:
    """1 to 4 MNIST digits on a canvas of 48 x 48, 0 a hundred times as frequent as 9."""
    images, classes = read_mnist(source.mnist)
    parts = []
    for seed, (first, last, num_rows) in enumerate([(0, 50_000, 12_000), (50_000, 60_000, 6_000)]):
        pixels, labels = make_multi_digit(
            images[first:last], classes[first:last], num_rows, imbalance_factor, SPLIT_SEED + seed
        )
        parts.append(rows_of({"pixel_values": scaled(pixels)}, labels))
    train, dev = cut(parts[0], source)
    return Task(train, dev, parts[1], count_labels(train, 10), lambda: DigitNet(10), 6, 64, 5e-3)


def long_tailed_mnist(source: Source, imbalance_factor: float) -> Task:
    """MNIST digits thinned exponentially; the validation data are balanced, 500 of each."""
    images, classes = read_mnist(source.mnist)
    rows = rows_of({"pixel_values": scaled(images)}, classes.tolist())
    held_back = np.concatenate([np.flatnonzero(classes[50_000:] == label)[:600] + 50_000 for label in range(10)])
    is_dev = np.arange(len(held_back)) % 6 == 0
    train = make_long_tailed(rows.select(range(50_000)), imbalance_factor, SPLIT_SEED, column="labels")
    if source.quick:
        train = train.shuffle(SPLIT_SEED).select(range(len(train) // 3))
    dev, validation = rows.select(held_back[is_dev]), rows.select(held_back[~is_dev])
    counts = count_labels(train, 10)
    return Task(train, dev, validation, counts, lambda: DigitNet(10), 8, 64, 2e-3, is_single_label=True)


def long_tailed_cifar(source: Source, num_labels: int, imbalance_factor: float = 100) -> Task:
    """CIFAR-10-LT or CIFAR-100-LT, made from the Hub's CIFAR; its test set is what the literature reports on."""
    data = load_dataset(f"uoft-cs/cifar{num_labels}")
    return _long_tailed_images(data["train"], data["test"], num_labels, imbalance_factor, source)


def _long_tailed_images(
    train: Dataset, validation: Dataset, num_labels: int, imbalance_factor: float, source: Source
) -> Task:
    names = {"img": "image", "label": "labels", "fine_label": "labels"}
    train, validation = (
        part.rename_columns({name: new for name, new in names.items() if name in part.column_names})
        for part in (train, validation)
    )
    encode, make_model = image_model(32, num_labels, source.full)
    rest, dev = cut(train, source)
    rest = make_long_tailed(rest, imbalance_factor, SPLIT_SEED, column="labels")
    counts = count_labels(rest, num_labels)
    rate = 5e-5 if source.full else 2e-3
    return Task(encode(rest), encode(dev), encode(validation), counts, make_model, 10, 64, rate, is_single_label=True)


def read_mnist(source: str) -> tuple[np.ndarray, np.ndarray]:
    """The 60,000 training digits, uint8 `(60000, 28, 28)`, and their classes."""
    if source.endswith(".parquet"):
        data = load_dataset("parquet", data_files=source, split="train").with_format("numpy")
    else:
        data = load_dataset(source, split="train").with_format("numpy")
    pixels = data["pixels"] if "pixels" in data.column_names else data["image"]
    return np.asarray(pixels[:]).reshape(-1, 28, 28).astype(np.uint8), np.asarray(data["label"][:])


SPLITS = ("train", "validation")
TASKS: dict[str, Callable[[Source], Task]] = {
    "debtags": debtags,
    "clipart": clipart,
    "multimnist": multimnist,
    "multimnist-10": functools.partial(multimnist, imbalance_factor=10),
    "multimnist-1": functools.partial(multimnist, imbalance_factor=1),
    "mnist-lt-10": functools.partial(long_tailed_mnist, imbalance_factor=10),
    "mnist-lt-50": functools.partial(long_tailed_mnist, imbalance_factor=50),
    "mnist-lt-100": functools.partial(long_tailed_mnist, imbalance_factor=100),
    "coco": coco,
    "cifar10-lt": functools.partial(long_tailed_cifar, num_labels=10),
    "cifar100-lt": functools.partial(long_tailed_cifar, num_labels=100),
}
