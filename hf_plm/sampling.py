"""Chooses the rows for training: class-aware re-sampling, and long-tailed subsets."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features
from torch.utils.data import Dataset as TorchDataset

from .counting import positive_entries, read_labels


class ClassAwareDataset(TorchDataset[dict[str, Any]]):
    """A data set of the same size with rows drawn by class: first a random class, then one of its rows.

    Every epoch draws new rows, from the seed and the number of the epoch. Pass it to `PLMTrainer` as `train_dataset`,
    with or without masks; the label ratios are then those of the rows in the first epoch.

    Source: class-aware sampling, Shen, Lin and Huang, "Relay Backpropagation for Effective Learning of Deep
    Convolutional Neural Networks", ECCV 2016.

    Args:
        dataset: a `datasets.Dataset` with a column of labels.
        num_labels, column, label_format, label_names: see `count_labels`.
        seed: the seed of the random draws.

    Attributes:
        label_names: the names of the labels in the order of their ids, from the data or the argument, or None.

    Raises:
        ValueError: if the labels cannot be read.
    """

    def __init__(
        self,
        dataset: Dataset,
        num_labels: int | None = None,
        column: str = "labels",
        label_format: str = "auto",
        label_names: Sequence[str] | None = None,
        seed: int = 0,
    ):
        self.dataset = dataset
        self.seed = seed
        counts, form = read_labels(dataset, num_labels, column, label_format, label_names)
        self.label_names = counts.label_names
        rows, labels = positive_entries(dataset, counts, column, form)
        self._rows = rows[np.argsort(labels, kind="stable")]  # the rows of class 0, then of class 1, ...
        self._counts = np.bincount(labels, minlength=counts.num_labels)
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()  # so that persistent workers see the new epoch
        self._drawn_epoch: int | None = None

    def set_epoch(self, epoch: int) -> None:
        """Use the rows of an epoch; `PLMTrainer` calls this when the epoch begins."""
        self._epoch.fill_(epoch)

    @property
    def drawn(self) -> Dataset:
        """The rows of the current epoch."""
        epoch = int(self._epoch)
        if epoch != self._drawn_epoch:
            generator = np.random.default_rng((self.seed, epoch))
            classes = generator.choice(np.flatnonzero(self._counts), len(self.dataset))
            first = np.cumsum(self._counts) - self._counts
            self._drawn = self.dataset.select(self._rows[first[classes] + generator.integers(self._counts[classes])])
            self._drawn_epoch = epoch
        return self._drawn

    @property
    def features(self) -> Features:
        """The types of the columns."""
        return self.dataset.features

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = self.drawn[index]
        return row

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.drawn.__getitems__(indices)
        return rows


def make_long_tailed(
    dataset: Dataset,
    imbalance_factor: float,
    seed: int = 0,
    num_labels: int | None = None,
    column: str = "label",
    label_format: str = "auto",
    label_names: Sequence[str] | None = None,
) -> Dataset:
    """A long-tailed subset of a single-label data set: class sizes decrease exponentially with the class id.

    Class c of C keeps `n * imbalance_factor ** (-c / (C - 1))` rows, where n is the size of the smallest class.
    CIFAR-10-LT and CIFAR-100-LT are made from CIFAR in this way.

    Source: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, Section 5.1.

    Args:
        imbalance_factor: the size of the first class divided by that of the last, 1 or more.
        seed: the seed for choosing the rows that are kept; their order does not change.
        num_labels, column, label_format, label_names: see `count_labels`; there must be one class id per row.

    Raises:
        ValueError: if `imbalance_factor` is below 1, the column does not hold class ids, there are fewer than two
            classes, or a class has no rows.
    """
    if not imbalance_factor >= 1:
        raise ValueError(f"imbalance_factor is {imbalance_factor}; it must be 1 or more")
    counts, form = read_labels(dataset, num_labels, column, label_format, label_names)
    if form != "class_id":
        raise ValueError(f"column '{column}' has labels of the form '{form}'; it must have one class id per row")
    smallest = int(counts.positives.min())
    if smallest == 0 or counts.num_labels < 2:
        raise ValueError(f"column '{column}': the classes have {counts.positives.tolist()} rows; each needs some")
    rows, labels = positive_entries(dataset, counts, column, form)
    sizes = smallest * imbalance_factor ** (-np.arange(counts.num_labels) / (counts.num_labels - 1))
    generator = np.random.default_rng(seed)
    kept = [
        generator.choice(rows[labels == label], max(1, round(size)), replace=False) for label, size in enumerate(sizes)
    ]
    return dataset.select(np.sort(np.concatenate(kept)))
