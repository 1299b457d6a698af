"""Splits in which every label has its share on each side."""

import warnings
from collections.abc import Sequence

import numpy as np
from datasets import Dataset, DatasetDict
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

from .counting import positive_entries, read_labels


def train_test_split_multilabel(
    dataset: Dataset,
    test_size: float = 0.1,
    seed: int = 0,
    num_labels: int | None = None,
    column: str = "labels",
    label_format: str = "auto",
    label_names: Sequence[str] | None = None,
) -> DatasetDict:
    """A split in which every label has its share on both sides, by iterative stratification.

    No label with two or more positives is missing from a side: where stratification leaves one out, a row that has it
    is moved. Warns where the rows allow no such split.

    Source: Sechidis et al., "On the Stratification of Multi-Label Data", ECML PKDD 2011.

    Args:
        test_size: the share of the rows that go to `test`, in (0, 1).
        seed: of the split.
        num_labels, column, label_format, label_names: see `count_labels`.

    Returns:
        `train` and `test`, with the rows in their order.

    Raises:
        ValueError: if `test_size` is out of range, or the labels cannot be read.
    """
    if not 0 < test_size < 1:
        raise ValueError(f"test_size is {test_size}; it must be a share of the rows, between 0 and 1")
    counts, form = read_labels(dataset, num_labels, column, label_format, label_names)
    labels = np.zeros((len(dataset), counts.num_labels), np.int64)
    labels[positive_entries(dataset, counts, column, form)] = 1
    splitter = MultilabelStratifiedShuffleSplit(1, test_size=test_size, random_state=seed)
    _, test = next(splitter.split(labels, labels))
    in_test = np.zeros(len(dataset), bool)
    in_test[test] = True
    missing = _spread(labels, in_test)
    if len(missing):
        names = [counts.label_names[label] if counts.label_names else int(label) for label in missing]
        warnings.warn(f"no split has these labels on both sides: {names}", stacklevel=2)
    sides = {"train": np.flatnonzero(~in_test), "test": np.flatnonzero(in_test)}
    return DatasetDict({name: dataset.select(rows) for name, rows in sides.items()})


def _spread(labels: np.ndarray, in_test: np.ndarray, max_passes: int = 10) -> np.ndarray:
    """Move rows, in `in_test`, until each label with two positives is on both sides; the labels that cannot be."""
    several = labels.sum(0) >= 2
    for _ in range(max_passes):
        on_side = _on_sides(labels, in_test)
        missing = np.flatnonzero(several & (on_side == 0).any(0))
        if not len(missing):
            break
        for label in missing:
            on_side = _on_sides(labels, in_test)
            if on_side[:, label].all():  # an earlier row brought it along
                continue
            rows = np.flatnonzero(labels[:, label])
            source = int(in_test[rows[0]])
            would_vanish = (labels[rows] * (on_side[source] == 1)).sum(1)
            in_test[rows[would_vanish.argmin()]] = not source
    on_side = _on_sides(labels, in_test)
    return np.flatnonzero(several & (on_side == 0).any(0))


def _on_sides(labels: np.ndarray, in_test: np.ndarray) -> np.ndarray:
    """The positives of each label in `train` and in `test`, int64 `(2, num_labels)`."""
    return np.stack([labels[~in_test].sum(0), labels[in_test].sum(0)])
