"""How often each label is positive and negative in a data set."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .label_formats import (
    LabelRows,
    arrow_rows,
    candidate_forms,
    check_label_names,
    flatten,
    one_reading,
    read_class_ids,
    read_ids,
    read_multi_hot,
    read_names,
)

CHUNK_ROWS = 50_000
"""How many rows are read at a time."""


class LabelCounts:
    """The known positives and negatives of each label over a training set.

    Args:
        positives (int, `(num_labels,)`): how often each label is 1. A sequence, an array or a tensor.
        negatives (int, `(num_labels,)`): how often each label is 0. Unknown labels count in neither.
        label_names: the names of the labels in the order of their ids.

    Attributes:
        positives, negatives (int64, `(num_labels,)`), label_names (list or None): the same.

    Raises:
        ValueError: if the lengths differ, a count is negative or not a whole number, or a name stands twice.
    """

    def __init__(self, positives: ArrayLike, negatives: ArrayLike, label_names: Sequence[str] | None = None):
        self.positives = _whole_numbers(positives, "positives")
        self.negatives = _whole_numbers(negatives, "negatives")
        self.label_names = list(label_names) if label_names is not None else None
        if len(self.positives) != len(self.negatives):
            raise ValueError(
                f"positives has {len(self.positives)} labels and negatives {len(self.negatives)}; give both for each"
            )
        if self.label_names is not None:
            check_label_names(self.label_names, self.num_labels)

    def __repr__(self) -> str:
        return (
            f"LabelCounts(positives={self.positives.tolist()}, negatives={self.negatives.tolist()}, "
            f"label_names={self.label_names})"
        )

    @classmethod
    def from_mapping(cls, counts: Mapping[str, Any], num_rows: int | None = None) -> "LabelCounts":
        """Counts by label name.

        Args:
            counts: name -> (positives, negatives), or, with `num_rows`, name -> positives.
            num_rows: the number of rows of the data set, in which every label is known.

        Raises:
            ValueError: if plain counts come without `num_rows`, or exceed it.
        """
        pairs = []
        for name, count in counts.items():
            if np.ndim(count) == 1:
                if len(count) != 2:
                    raise ValueError(f"the count of label {name!r} is {count!r}; give (positives, negatives)")
                pairs.append(tuple(count))
            elif num_rows is None:
                raise ValueError(
                    f"the count of label {name!r} is {count!r}, which says nothing about its negatives; give "
                    "(positives, negatives), or LabelCounts.from_mapping(counts, num_rows=...)"
                )
            else:
                pairs.append((count, num_rows - count))
        positives, negatives = zip(*pairs, strict=True) if pairs else ((), ())
        return cls(positives, negatives, list(counts))

    @property
    def num_labels(self) -> int:
        return len(self.positives)

    def reordered(self, label_names: Sequence[str]) -> "LabelCounts":
        """The same counts in another order of the labels. Raises a ValueError if the names are others."""
        if self.label_names is None or set(self.label_names) != set(label_names):
            unknown = sorted(set(self.label_names or ()) ^ set(label_names))[:5]
            raise ValueError(f"the counts' label names are not the model's; they differ in {unknown}")
        place = {name: index for index, name in enumerate(self.label_names)}
        order = [place[name] for name in label_names]
        return LabelCounts(self.positives[order], self.negatives[order], label_names)

    def groups(self, head: float = 0.1, tail: float = 0.5) -> dict[str, Tensor]:
        """The labels as head, medium and tail, cut by their number of positives.

        The `head` share of the labels that have the most positives (at least one label), the `tail` share that have
        the fewest, and the rest as medium. Labels with equally many positives stand in the order of their ids.

        Returns:
            three bool tensors `(num_labels,)`, under `head`, `medium` and `tail`; together they hold each label once.

        Raises:
            ValueError: if the shares are not in [0, 1], or exceed 1 together.
        """
        if not (0 <= head <= 1 and 0 <= tail <= 1 and head + tail <= 1):
            raise ValueError(f"head={head} and tail={tail} must be shares of the labels, together at most 1")
        rank = torch.empty(self.num_labels, dtype=torch.long)
        rank[torch.sort(self.positives, descending=True, stable=True).indices] = torch.arange(self.num_labels)
        num_head = max(1, int(head * self.num_labels))
        first_tail = max(num_head, self.num_labels - int(tail * self.num_labels))
        return {
            "head": rank < num_head,
            "medium": (rank >= num_head) & (rank < first_tail),
            "tail": rank >= first_tail,
        }


def _whole_numbers(counts: ArrayLike, name: str) -> Tensor:
    """`counts` as int64 `(num_labels,)`, checked."""
    values = counts.detach().cpu().clone() if isinstance(counts, Tensor) else torch.tensor(np.asarray(counts))
    if values.dim() != 1:
        raise ValueError(f"{name} has shape {tuple(values.shape)}; give one count per label")
    if values.is_floating_point() and not torch.equal(values, values.round()):
        raise ValueError(f"{name} holds a count that is no whole number (or NaN); give how often each label occurs")
    if (values < 0).any():
        raise ValueError(f"{name} holds {values.min().item()}; a count cannot be negative")
    return values.long()


class _Tally:
    """Positives and negatives added up over chunks of rows that are read in one form."""

    def __init__(self, form: str, num_labels: int | None, label_names: Sequence[str] | None):
        self.form = form
        self.num_labels = num_labels
        self.label_names = label_names
        self.name_to_id = {name: index for index, name in enumerate(label_names or ())}
        self.positives = np.zeros(num_labels or 0, np.int64)
        self.unknown: np.ndarray | int = 0
        self.num_rows = 0

    def add(self, rows: LabelRows) -> None:
        """Raises a ValueError if the rows cannot be read in this form."""
        if self.form == "multi_hot":
            matrix = read_multi_hot(rows, self.num_labels)
            self.num_labels = matrix.shape[1]
            self.unknown = self.unknown + ((matrix != 0) & (matrix != 1)).sum(0)
            positives = (matrix == 1).sum(0)
        else:
            rows = self._read_ids(rows)
            positives = np.bincount(rows.values, minlength=len(self.positives))
        if len(positives) > len(self.positives):  # ids that no chunk had before
            self.positives = np.pad(self.positives, (0, len(positives) - len(self.positives)))
        self.positives += positives
        self.num_rows += len(rows.lengths)

    def _read_ids(self, rows: LabelRows) -> LabelRows:
        if self.form == "ids":
            return read_ids(rows, self.num_labels)
        if self.form == "class_id":
            return read_class_ids(rows, self.num_labels)
        if self.label_names is None:  # the names are learnt on the way, and sorted at the end
            for name in rows.names or ():
                self.name_to_id.setdefault(name, len(self.name_to_id))
        return read_names(rows, self.name_to_id)

    def result(self) -> LabelCounts:
        """Raises a ValueError if there are more or fewer names than labels."""
        if self.form == "names" and self.num_labels not in (None, len(self.name_to_id)):
            raise ValueError(
                f"the rows hold {len(self.name_to_id)} distinct label names and num_labels is {self.num_labels}; pass "
                "label_names=..., the name of every label (for PLMTrainer, set model.config.id2label)"
            )
        names = list(self.name_to_id) if self.form == "names" else self.label_names
        counts = LabelCounts(self.positives, self.num_rows - self.unknown - self.positives, names)
        return counts.reordered(sorted(self.name_to_id)) if self.name_to_id and self.label_names is None else counts


def count_labels(
    dataset: Any,
    num_labels: int | None = None,
    column: str = "labels",
    label_format: str = "auto",
    label_names: Sequence[str] | None = None,
) -> LabelCounts:
    """Count how often each label is positive and negative.

    Args:
        dataset: a `datasets.Dataset` (read through Arrow, no Python lists are built); a `datasets.IterableDataset` or
            any other iterable, of rows (mappings that have `column`) or of label rows, read once; or counts that are
            known already: a `LabelCounts`, or a mapping as for `LabelCounts.from_mapping`.
        num_labels: how many labels there are. Without it: as many as the column's type or `label_names` name, as the
            multi-hot vectors are long, or the largest id plus one.
        column: the column that holds the labels: multi-hot vectors, lists of class ids, lists of class names, or one
            class id per row.
        label_format: `multi_hot`, `ids`, `names`, or `auto`: the one form that the column's type and all rows admit.
        label_names: the names of the labels in the order of their ids.

    Raises:
        ValueError: for an empty data set, one without a single positive, a missing column, rows that are not labels
            of this form (with the row, the value and the remedy), or rows that can be read in two ways.
    """
    if isinstance(dataset, LabelCounts):
        if num_labels not in (None, dataset.num_labels):
            raise ValueError(f"there are counts of {dataset.num_labels} labels, and num_labels is {num_labels}")
        return dataset
    if isinstance(dataset, Mapping) and not isinstance(dataset, datasets.DatasetDict | datasets.IterableDatasetDict):
        return LabelCounts.from_mapping(dataset)
    return read_labels(dataset, num_labels, column, label_format, label_names)[0]


def read_labels(
    dataset: Any,
    num_labels: int | None = None,
    column: str = "labels",
    label_format: str = "auto",
    label_names: Sequence[str] | None = None,
) -> tuple[LabelCounts, str]:
    """`count_labels` of a data set, and the form of its labels: `multi_hot`, `ids`, `names` or `class_id`."""
    feature_names = feature_names_of(dataset, column)
    if feature_names is not None and label_names is not None and feature_names != list(label_names):
        raise ValueError(
            f"column '{column}' has other label names, or another order of them, than label_names (for PLMTrainer, "
            "than model.config.id2label); give the model the names of the data"
        )
    label_names = label_names if label_names is not None else feature_names
    if num_labels is None and label_names is not None:
        num_labels = len(label_names)
    if num_labels is not None and label_names is not None and len(label_names) != num_labels:
        raise ValueError(
            f"column '{column}' has {len(label_names)} label names and num_labels is {num_labels}; set num_labels (of "
            f"the model, too) to {len(label_names)}"
        )

    tallies: dict[str, _Tally] = {}
    errors: dict[str, ValueError] = {}
    num_rows = 0
    for rows in _label_rows(dataset, column):
        if not num_rows:
            forms = candidate_forms(rows, label_format, are_class_ids=feature_names is not None)
            tallies = {form: _Tally(form, num_labels, label_names) for form in forms}
        num_rows += len(rows.lengths)
        for form in list(tallies):
            try:
                tallies[form].add(rows)
            except ValueError as error:
                errors[form] = error
                del tallies[form]
        if not tallies:
            break
    if not num_rows:
        raise ValueError(f"the data set is empty: there are no labels to count in column '{column}'")
    if tallies and not any(tally.positives.any() for tally in tallies.values()):
        raise ValueError(
            f"column '{column}': not one positive label in {num_rows} rows; check the column and its form"
        )
    form = one_reading(list(tallies), errors, column)
    return tallies[form].result(), form


def positive_entries(dataset: Any, counts: LabelCounts, column: str, form: str) -> tuple[np.ndarray, np.ndarray]:
    """Where the labels are positive: the number of the row and of the label of each positive, two int64 arrays.

    Args:
        counts, form: as `read_labels` gives them for this data set.
    """
    name_to_id = {name: index for index, name in enumerate(counts.label_names or ())}
    entries = []
    for rows in _label_rows(dataset, column):
        if form == "multi_hot":
            row, label = (read_multi_hot(rows, counts.num_labels) == 1).nonzero()
        else:
            label = read_names(rows, name_to_id).values if form == "names" else rows.values
            row = np.repeat(np.arange(len(rows.lengths)), rows.lengths)
        entries.append((row[label >= 0] + rows.first_row, label[label >= 0]))  # without unknown class ids
    row, label = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    return row, label


def feature_names_of(dataset: Any, column: str) -> list[str] | None:
    """The class names in the column's type, where it is a `datasets.ClassLabel` or a list of them."""
    feature = (getattr(dataset, "features", None) or {}).get(column)
    feature = getattr(feature, "feature", feature)
    return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None


def _label_rows(dataset: Any, column: str) -> Iterator[LabelRows]:
    """The rows of the label column, `CHUNK_ROWS` at a time."""
    first_row = 0
    columns = _arrow_column if isinstance(dataset, datasets.Dataset) else _python_column
    for array in columns(dataset, column):
        rows = flatten(array, column, "row {}", first_row)
        first_row += len(rows.lengths)
        yield rows


def _arrow_column(dataset: datasets.Dataset, column: str) -> Iterator[pa.Array]:
    if column not in dataset.column_names and dataset.format["type"] == "custom":
        raise ValueError(
            f"column '{column}' is made by the data set's transform, and labels are counted as they are stored; count "
            f"the transformed rows, count_labels(row['{column}'] for row in dataset), and pass them as label_counts"
        )
    _require_column(dataset.column_names, column)
    for table in dataset.select_columns([column]).with_format("arrow").iter(batch_size=CHUNK_ROWS):
        yield table[column].combine_chunks()  # a shuffled data set has one chunk per row


def _python_column(dataset: Any, column: str) -> Iterator[pa.Array]:
    if isinstance(dataset, datasets.DatasetDict | datasets.IterableDatasetDict):
        raise ValueError(f"this is a dictionary of splits; pass one of them, such as dataset[{next(iter(dataset))!r}]")
    if isinstance(dataset, datasets.IterableDataset) and dataset.column_names is not None:
        _require_column(dataset.column_names, column)
        dataset = dataset.select_columns([column])  # nothing else is decoded
    if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):  # a torch Dataset has no iterator of its own
        iterator = (dataset[index] for index in range(len(dataset)))
    else:
        iterator = iter(dataset)
    first_row = 0
    while chunk := list(itertools.islice(iterator, CHUNK_ROWS)):
        if isinstance(chunk[0], Mapping):
            _require_column(list(chunk[0]), column)
            chunk = [row[column] for row in chunk]
        yield arrow_rows(chunk, column, "row {}", first_row)
        first_row += len(chunk)


def _require_column(names: Sequence[str], column: str) -> None:
    if column not in names:
        raise ValueError(
            f"there is no column '{column}' to count labels in, only {', '.join(map(repr, names))}; name it with "
            f"column=..., or rename it (for PLMTrainer: dataset.rename_column(..., '{column}'))"
        )
