"""Splits and folds in which each part has its share of every label."""

import warnings
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
from datasets import Dataset, DatasetDict
from scipy.sparse import csr_array

from .counting import positive_entries, read_labels
from .stratification import stratify


def train_test_split_multilabel(
    dataset: Dataset,
    test_size: float | int = 0.1,
    validation_size: float | int | None = None,
    seed: int = 0,
    num_labels: int | None = None,
    column: str = "labels",
    label_format: str = "auto",
    label_names: Sequence[str] | None = None,
) -> DatasetDict:
    """Split into two or three parts, each with its share of every label, by iterative stratification.

        parts = train_test_split_multilabel(dataset, test_size=0.1, validation_size=0.1)

    Each label is in every part, or in as many parts as it has positives. This has priority over the sizes: with many
    rare labels the small parts become larger than requested, and a warning says so. A second warning names labels
    that are missing from a part because their rows also have other rare labels. Unknown labels are not positive.

    Source: Sechidis et al., "On the Stratification of Multi-Label Data", ECML PKDD 2011.

    Args:
        test_size: the share of the rows that go to `test`, a float in (0, 1); or their number, an int.
        validation_size: the same for `validation`; None for no such part.
        seed: the seed of the split.
        num_labels, column, label_format, label_names: see `count_labels`; one class per row is possible, too.

    Returns:
        `train`, `validation` (if requested) and `test`, with the rows in their original order.

    Raises:
        ValueError: if a size is out of range, if no row is left for `train`, or if the labels cannot be read.
    """
    positives, names = _positives(dataset, num_labels, column, label_format, label_names)
    sizes = _sizes({"validation_size": validation_size, "test_size": test_size}, len(dataset))
    part_of, missing = stratify(positives, np.array(list(sizes.values())), seed)
    _warn_of_missing(missing, names)
    split = DatasetDict({name: dataset.select(np.flatnonzero(part_of == part)) for part, name in enumerate(sizes)})
    for name, size in sizes.items():
        if name != "train" and len(split[name]) != size:
            warnings.warn(
                f"{name} has {len(split[name])} rows instead of {size}, so that every label is in every part",
                stacklevel=2,
            )
    return split


def multilabel_folds(
    dataset: Dataset,
    num_folds: int = 5,
    seed: int = 0,
    num_labels: int | None = None,
    column: str = "labels",
    label_format: str = "auto",
    label_names: Sequence[str] | None = None,
) -> list[DatasetDict]:
    """Folds for cross-validation, each with its share of every label, by iterative stratification.

        for fold in multilabel_folds(dataset, 5):
            PLMTrainer(make_model(), args, train_dataset=fold["train"], eval_dataset=fold["test"]).train()

    Each row is in `test` of one fold, and in `train` of all others. Each label is in every `test`, or in as many as it
    has positives; a warning names the labels for which this is not possible. See `train_test_split_multilabel`.

    Args:
        num_folds: the number of folds, 2 or more.
        seed: the seed of the folds.
        num_labels, column, label_format, label_names: see `count_labels`; one class per row is possible, too.

    Returns:
        for each fold `train` and `test`, with the rows in their original order.

    Raises:
        ValueError: if `num_folds` is below 2 or above the number of rows, or if the labels cannot be read.
    """
    if not isinstance(num_folds, Integral) or num_folds < 2:
        raise ValueError(f"num_folds is {num_folds!r}; it must be a whole number, 2 or more")
    positives, names = _positives(dataset, num_labels, column, label_format, label_names)
    if num_folds > len(dataset):
        raise ValueError(
            f"num_folds is {num_folds}, but the data set has only {len(dataset)} rows; each fold needs one or more"
        )
    sizes = len(dataset) // num_folds + (np.arange(num_folds) < len(dataset) % num_folds)
    part_of, missing = stratify(positives, sizes, seed)
    _warn_of_missing(missing, names)
    tests = [part_of == part for part in range(num_folds)]
    return [
        DatasetDict(train=dataset.select(np.flatnonzero(~test)), test=dataset.select(np.flatnonzero(test)))
        for test in tests
    ]


def _sizes(asked: dict[str, float | int | None], num_rows: int) -> dict[str, int]:
    """The number of rows of each part, `train` first, from the arguments for the sizes of the other parts."""
    sizes = {"train": num_rows}
    given = {argument: size for argument, size in asked.items() if size is not None}
    for argument, size in given.items():
        is_count = isinstance(size, Integral) and not isinstance(size, bool)
        if not (size >= 1 if is_count else isinstance(size, Real) and 0 < size < 1):
            raise ValueError(
                f"{argument} is {size!r}; it must be a share of the rows, a float between 0 and 1, or a number of "
                "rows, an int of 1 or more"
            )
        rows = int(size) if is_count else max(1, round(size * num_rows))
        sizes[argument.removesuffix("_size")] = rows
        sizes["train"] -= rows
    if sizes["train"] < 1:
        shown = " and ".join(f"{argument} is {size}" for argument, size in given.items())
        raise ValueError(f"{shown}; this leaves no row for train: the data set has {num_rows} rows")
    return sizes


def _positives(
    dataset: Dataset, num_labels: int | None, column: str, label_format: str, label_names: Sequence[str] | None
) -> tuple[csr_array, Sequence[str] | None]:
    """A bool matrix `(rows, num_labels)` of where labels are positive, and the names of the labels or None."""
    counts, form = read_labels(dataset, num_labels, column, label_format, label_names)
    entries = positive_entries(dataset, counts, column, form)
    ones = np.ones(len(entries[0]), bool)
    return csr_array((ones, entries), shape=(len(dataset), counts.num_labels)), counts.label_names


def _warn_of_missing(labels: np.ndarray, names: Sequence[str] | None) -> None:
    """Warn of labels that are missing from a part although they have enough positives."""
    if len(labels):
        shown = [names[label] if names else int(label) for label in labels]
        warnings.warn(
            f"these labels are missing from a part, because their rows also have other rare labels: {shown}",
            stacklevel=3,
        )
