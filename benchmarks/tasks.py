"""The tasks on which the methods are compared."""

import functools
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from datasets import Dataset, Image, load_dataset
from models import DigitNet, image_model, pretrained_text_model, rows_of, scaled, small_modernbert
from multimnist import make_multi_digit
from small_tasks import fine_tuned_efficientnet, fine_tuned_minilm, frozen_features, keywords, small_debtags
from sources import SPLIT_SEED, Source, Task, cut, read_parts

from hf_plm import count_labels, make_long_tailed

TEXT_MODEL = "answerdotai/ModernBERT-base"
"""The model for texts with `Source.full`."""


def debtags(source: Source) -> Task:
    """Descriptions of Debian packages, 365 labels."""
    data = read_parts("debtags")
    num_labels = count_labels(data["train"]).num_labels
    if source.full:
        encode, make_model = pretrained_text_model(TEXT_MODEL, num_labels, max_length=128)
    else:
        encode, make_model = small_modernbert(data["train"]["text"], num_labels, max_length=32)
    train, dev = cut(encode(data["train"]), source)
    counts = count_labels(train, num_labels)
    rate = 5e-5 if source.full else 4e-3
    return Task(train, dev, encode(data["validation"]), counts, make_model, 4, 64, rate)


def clipart(source: Source) -> Task:
    """Open Clip Art pictures, 113 labels."""
    data = read_parts("clipart")
    num_labels = count_labels(data["train"]).num_labels
    encode, make_model = image_model(64, num_labels, source.full)
    train, dev = cut(encode(data["train"]), source)
    counts = count_labels(train, num_labels)
    rate = 5e-5 if source.full else 2e-3
    return Task(train, dev, encode(data["validation"]), counts, make_model, 8, 64, rate)


def coco(source: Source) -> Task:
    """COCO 2017, 80 labels, from the pictures and instance annotations in the folder `data`.

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


def long_tailed_mnist(source: Source, imbalance_factor: float, fashion: bool = False) -> Task:
    """MNIST or Fashion-MNIST, thinned exponentially; `validation` (500 of each class) and `dev` (400) are balanced."""
    images, classes = read_fashion(source.fashion) if fashion else read_mnist(source.mnist)
    rows = rows_of({"pixel_values": scaled(images)}, classes.tolist())
    held_back = [np.flatnonzero(classes[50_000:] == label) + 50_000 for label in range(10)]
    validation, dev = (
        rows.select(np.concatenate([of_class[first:last] for of_class in held_back]))
        for first, last in ((0, 500), (500, 900))
    )
    train = make_long_tailed(rows.select(range(50_000)), imbalance_factor, SPLIT_SEED, column="labels")
    if source.quick:
        train = train.shuffle(SPLIT_SEED).select(range(len(train) // 3))
    counts = count_labels(train, 10)
    return Task(train, dev, validation, counts, lambda: DigitNet(10), 8, 64, 2e-3, is_single_label=True)


def long_tailed_cifar(source: Source, num_labels: int, imbalance_factor: float = 100) -> Task:
    """CIFAR-10-LT or CIFAR-100-LT, made from CIFAR on the Hub; the literature reports scores on its test set."""
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


def read_fashion(source: str) -> tuple[np.ndarray, np.ndarray]:
    """The 60,000 training pictures of Fashion-MNIST, uint8 `(60000, 28, 28)`, and their classes."""
    if not Path(source).is_dir():
        return read_mnist(source)
    images, classes = (
        np.frombuffer(gzip.decompress((Path(source) / f"train-{name}-ubyte.gz").read_bytes()), np.uint8, offset=start)
        for name, start in (("images-idx3", 16), ("labels-idx1", 8))
    )
    return images.reshape(-1, 28, 28).copy(), classes.astype(np.int64)  # arrays read from bytes are read-only


def read_mnist(source: str) -> tuple[np.ndarray, np.ndarray]:
    """The 60,000 training digits, uint8 `(60000, 28, 28)`, and their classes."""
    if source.endswith(".parquet"):
        data = load_dataset("parquet", data_files=source, split="train").with_format("numpy")
    else:
        data = load_dataset(source, split="train").with_format("numpy")
    pixels = data["pixels"] if "pixels" in data.column_names else data["image"]
    return np.asarray(pixels[:]).reshape(-1, 28, 28).astype(np.uint8), np.asarray(data["label"][:])


TASKS: dict[str, Callable[[Source], Task]] = {
    "debtags": debtags,
    "clipart": clipart,
    "multimnist": multimnist,
    "multimnist-10": functools.partial(multimnist, imbalance_factor=10),
    "multimnist-1": functools.partial(multimnist, imbalance_factor=1),
    "mnist-lt-10": functools.partial(long_tailed_mnist, imbalance_factor=10),
    "mnist-lt-50": functools.partial(long_tailed_mnist, imbalance_factor=50),
    "mnist-lt-100": functools.partial(long_tailed_mnist, imbalance_factor=100),
    "fashion-lt-10": functools.partial(long_tailed_mnist, imbalance_factor=10, fashion=True),
    "fashion-lt-100": functools.partial(long_tailed_mnist, imbalance_factor=100, fashion=True),
    **{
        f"features-debtags-{num_rows}": functools.partial(
            frozen_features, name="debtags", learning_rate=rate, num_rows=num_rows
        )
        for num_rows, rate in ((500, 8e-3), (1500, 4e-3), (5000, 4e-3))
    },
    "features-debtags": functools.partial(frozen_features, name="debtags", learning_rate=2e-3),
    "features-clipart": functools.partial(frozen_features, name="clipart", learning_rate=4e-3),
    "minilm-debtags": fine_tuned_minilm,
    "efficientnet-clipart": fine_tuned_efficientnet,
    "debtags-small": small_debtags,
    "keywords": keywords,
    "coco": coco,
    "cifar10-lt": functools.partial(long_tailed_cifar, num_labels=10),
    "cifar100-lt": functools.partial(long_tailed_cifar, num_labels=100),
}
