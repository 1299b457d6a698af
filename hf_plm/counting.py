"""Reads the labels of data sets: counts them, finds the label space, and compares other data with it."""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
from torch.utils.data import ConcatDataset, Subset

from .label_columns import check_column, feature_names_of, form_of_type, label_rows
from .label_counts import LabelCounts
from .label_formats import LabelRows, read_class_ids, read_ids, read_multi_hot, read_names
from .label_readings import candidate_forms, common_forms, one_reading
from .label_space import LabelSpace, label_order, shown_list


def count_labels(
    dataset: Any,
    num_labels: int | None = None,
    column: str = "labels",
    label_format: str = "auto",
    label_names: Sequence[str] | None = None,
) -> LabelCounts:
    """Count how often each label is positive and negative.

    Args:
        dataset: a `datasets.Dataset` (read through Arrow, without Python lists); a `datasets.IterableDataset` or any
            other iterable of rows (mappings that have `column`) or of label rows, read once; or known counts: a
            `LabelCounts`, or a mapping as for `LabelCounts.from_mapping`.
        num_labels: the number of labels. If None: the number of names in the column's type or in `label_names`, the
            length of the multi-hot vectors, or the largest id plus one.
        column: the column that holds the labels: multi-hot vectors, lists of class ids, lists of class names, or one
            class id per row.
        label_format: `multi_hot`, `ids`, `names`, or `auto`: the only form that fits the column's type and all rows.
        label_names: the names of the labels in the order of their ids. The column's type may have the same names in a
            different order; the counts are in the order of `label_names`.

    Raises:
        ValueError: if the data set is empty, has no positive label or lacks the column; if a row does not have the
            form (the message has the row, the value and the remedy); or if the rows can be read in two ways.
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
    names_source: str = "label_names",
) -> tuple[LabelCounts, str]:
    """`count_labels` of a data set, and the form of its labels: `multi_hot`, `ids`, `names` or `class_id`.

    Args:
        names_source: where `label_names` come from, for messages.
    """
    tallies, errors, num_rows = _tally(dataset, num_labels, column, label_format, label_names, names_source)
    if tallies and not any(tally.positives.any() for tally in tallies.values()):
        raise ValueError(
            f"column '{column}': not one positive label in {num_rows} rows; check the column and its form"
        )
    form = one_reading(list(tallies), errors, column)
    return tallies[form].result(), form


def label_space_of(
    *dataset: Any,
    num_labels: int | None = None,
    column: str = "labels",
    label_format: str = "auto",
    label_names: Sequence[str] | None = None,
) -> LabelSpace:
    """The labels of several data sets together, such as those of training and of evaluation.

        space = label_space_of(train_set, validation_set)
        model = AutoModelForSequenceClassification.from_pretrained(name, **space.config_arguments())

    Args:
        *dataset: one or more data sets.
        num_labels, column, label_format, label_names: see `count_labels`; names that only some sets have are added.

    Raises:
        ValueError: as `count_labels`; also if the data sets have no form in common.
    """
    if not dataset:
        raise ValueError("label_space_of() needs at least one data set")
    found = [_tally(each, num_labels, column, label_format, label_names, "label_names")[:2] for each in dataset]
    forms = common_forms([list(tallies) for tallies, _ in found], column)
    form = one_reading(forms, {form: error for _, errors in found for form, error in errors.items()}, column)
    counts = [tallies[form].result() for tallies, _ in found]
    names = [each.label_names for each in counts]
    if form == "names" and label_names is None:
        together = sorted({name for each in names for name in each or ()})
        return LabelSpace(len(together), tuple(together), column, form)
    named = [(index, each) for index, each in enumerate(names) if each is not None]
    for index, each in named[1:]:
        label_order(each, f"data set {index}", named[0][1], f"data set {named[0][0]}")
    width = max(each.num_labels for each in counts)
    return LabelSpace(width, tuple(named[0][1]) if named else None, column, form)


def check_labels(dataset: Any, space: LabelSpace, source: str) -> None:
    """Compare the labels of a data set, such as an evaluation set, with a label space.

    It reads the rows of a `datasets.Dataset` or a list, also inside a `Subset` or `ConcatDataset`. For other
    data sets it compares only the names in the column's type. Without the column, there is nothing to compare.

    Args:
        source: what the data set is, for messages.

    Raises:
        ValueError: if label names, the form of the rows or the name of the column differ, or an id is out of range.
    """
    if isinstance(dataset, ConcatDataset):
        for part in dataset.datasets:
            check_labels(part, space, source)
    if isinstance(dataset, Subset) and isinstance(dataset.dataset, datasets.Dataset):
        dataset = dataset.dataset.select(dataset.indices)
    check_column(dataset, space.column, source)
    order = space.order_of(feature_names_of(dataset, space.column), f"{source}, column '{space.column}',")
    if not _has_rows_to_read(dataset, space.column):
        return
    form = form_of_rows(dataset, space)
    if form is None:
        return
    tally = _Tally(form, space.num_labels, space.names, order)
    unknown: dict[str, None] = {}
    errors: list[ValueError] = []
    for rows in label_rows(dataset, space.column):
        if space.names is not None:
            unknown |= dict.fromkeys(name for name in rows.names or () if name not in tally.name_to_id)
        try:
            tally.add(rows)
        except ValueError as error:
            errors.append(error)
    if unknown:
        raise ValueError(
            f"{source} has label names that the model and its training data lack: {shown_list(list(unknown), None)}. "
            "Correct these rows, or give the model all names (model.config.id2label): label_space_of(train_set, "
            "validation_set).config_arguments() for from_pretrained"
        )
    if errors:
        raise ValueError(f"{source} does not have the labels of the training data: {errors[0]}")


def _has_rows_to_read(dataset: Any, column: str) -> bool:
    """Whether the labels of all rows can be read without the other columns."""
    if isinstance(dataset, datasets.Dataset):
        return column in dataset.column_names
    return isinstance(dataset, list) and all(isinstance(row, Mapping) and column in row for row in dataset)


def form_of_rows(dataset: Any, space: LabelSpace) -> str | None:
    """The form of the rows of an evaluation set: that of its column's type, or else that of the space.

    The type counts only if the space has names: then one set may have names, and the other class ids for them.
    """
    if space.names is None or space.form == "class_id":
        return space.form
    return form_of_type(dataset, space.column) or space.form


def positive_entries(dataset: Any, counts: LabelCounts, column: str, form: str) -> tuple[np.ndarray, np.ndarray]:
    """The row and the label of each positive, two int64 arrays, in the order of the rows.

    Args:
        counts, form: as `read_labels` gives them for this data set.
    """
    names = feature_names_of(dataset, column)
    order = None
    if names is not None and counts.label_names is not None:
        order = label_order(names, f"column '{column}'", counts.label_names, "the counts")
    tally = _Tally(form, counts.num_labels, counts.label_names, order)
    entries = []
    for rows in label_rows(dataset, column):
        if form == "multi_hot":
            row, label = (read_multi_hot(rows, counts.num_labels, counts.label_names) == 1).nonzero()
        else:
            known = tally.read_ids(rows)
            row, label = np.repeat(np.arange(len(known.lengths)), known.lengths), known.values
        entries.append((rows.number(row), label))
    row, label = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    order = np.argsort(row, kind="stable")
    return row[order], label[order]


def _tally(
    dataset: Any,
    num_labels: int | None,
    column: str,
    label_format: str,
    label_names: Sequence[str] | None,
    names_source: str,
) -> tuple[dict[str, "_Tally"], dict[str, ValueError], int]:
    """Count the labels in every form that fits. Returns the tallies and errors by form, and the number of rows."""
    feature_names = feature_names_of(dataset, column)
    order = None
    if feature_names is not None and label_names is not None:
        order = label_order(feature_names, f"column '{column}'", list(label_names), names_source)
    label_names = label_names if label_names is not None else feature_names
    if num_labels is None and label_names is not None:
        num_labels = len(label_names)
    if num_labels is not None and label_names is not None and len(label_names) != num_labels:
        raise ValueError(
            f"column '{column}' has {len(label_names)} label names and num_labels is {num_labels}; set num_labels "
            f"(also of the model) to {len(label_names)}"
        )
    tallies: dict[str, _Tally] = {}
    errors: dict[str, ValueError] = {}
    num_rows = 0
    for rows in label_rows(dataset, column):
        if not num_rows:
            forms = candidate_forms(rows, label_format, feature_names is not None, num_labels)
            label_names = label_names if label_names is not None else rows.value_names
            if order is not None and "multi_hot" in forms and rows.value_names is None:
                raise ValueError(
                    f"column '{column}' holds class ids (ClassLabel), and label_format is 'multi_hot'; leave out "
                    "label_format, or cast the column to numbers"
                )
            tallies = {form: _Tally(form, num_labels, label_names, order) for form in forms}
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
    return tallies, errors, num_rows


class _Tally:
    """The sums of positives and negatives over chunks of rows, read in one form.

    Args:
        order: for each class id of the rows, the index of its label in `label_names`; None if they are equal.
    """

    def __init__(
        self, form: str, num_labels: int | None, label_names: Sequence[str] | None, order: np.ndarray | None = None
    ):
        self.form = form
        self.num_labels = num_labels
        self.label_names = label_names
        self.order = order
        self.name_to_id = {name: index for index, name in enumerate(label_names or ())}
        self.positives = np.zeros(num_labels or 0, np.int64)
        self.unknown: np.ndarray | int = 0
        self.num_rows = 0

    def add(self, rows: LabelRows) -> None:
        """Add rows to the sums. Raises a ValueError if they do not have this form."""
        if self.form == "multi_hot":
            matrix = read_multi_hot(rows, self.num_labels, self.label_names)
            self.num_labels = matrix.shape[1]
            self.unknown = self.unknown + ((matrix != 0) & (matrix != 1)).sum(0)
            positives = (matrix == 1).sum(0)
        else:
            rows = self.read_ids(rows)
            positives = np.bincount(rows.values, minlength=len(self.positives))
        if len(positives) > len(self.positives):  # this chunk has larger ids
            self.positives = np.pad(self.positives, (0, len(positives) - len(self.positives)))
        self.positives += positives
        self.num_rows += len(rows.values) if self.form == "class_id" else len(rows.lengths)

    def read_ids(self, rows: LabelRows) -> LabelRows:
        """The rows as ids in the order of the label names. Raises a ValueError if they do not have this form."""
        if self.form == "names":
            if self.label_names is None:  # collect the names here; `result` sorts them
                for name in rows.names or ():
                    self.name_to_id.setdefault(name, len(self.name_to_id))
            return read_names(rows, self.name_to_id)
        read = read_ids if self.form == "ids" else read_class_ids
        return read(rows, self.num_labels).reordered(self.order)

    def result(self) -> LabelCounts:
        """The counts. Raises a ValueError if there are more or fewer names than labels."""
        if self.form == "names" and self.num_labels not in (None, len(self.name_to_id)):
            raise ValueError(
                f"the rows hold {len(self.name_to_id)} distinct label names and num_labels is {self.num_labels}; pass "
                "the names of all labels as label_names=... (for PLMTrainer, set model.config.id2label)"
            )
        names = list(self.name_to_id) if self.form == "names" else self.label_names
        counts = LabelCounts(self.positives, self.num_rows - self.unknown - self.positives, names)
        return counts.reordered(sorted(self.name_to_id)) if self.name_to_id and self.label_names is None else counts
