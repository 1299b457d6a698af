"""Makes batches with multi-hot labels from a label column in any form."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import default_data_collator

from .label_formats import LabelRows, arrow_rows, flatten, read_ids, read_multi_hot, read_names
from .label_readings import candidate_forms, check_label_format, one_reading
from .label_space import LabelSpace, label_order

PLACE = "row {} of the batch"


class MultiLabelCollator:
    """Turns the labels of a batch into a tensor, and calls a second collator for the other columns.

    A `PLMTrainer` adds the names of the labels, their form, and the order of the class ids of each data set.

    Args:
        num_labels: the number of labels.
        collator: makes the batch of all other columns; None for `transformers.default_data_collator`.
        column: the column that holds the labels.
        label_format: the form of a row's labels: `multi_hot` (one value per label: 1, 0, or NaN or -100 if it is
            unknown), `ids` (a list of class ids), `names` (a list of class names), or `auto` (decided once, from the
            first batch that has labels; an error if that batch can be read in two ways).
        label_names: the names of the labels in the order of their ids, for `names`.
        sparse: whether the labels of a batch are class ids; use it for thousands of labels. A batch then has only a
            few numbers for each row, and `PLMLoss(sparse=True)` makes the multi-hot labels on the device. Rows must be
            `ids` or `names`.

    Attributes:
        order (int64, `(num_labels,)`): the label of each class id in the rows; None if it is the id itself.

    Raises:
        ValueError: if arguments contradict each other.
    """

    def __init__(
        self,
        num_labels: int,
        collator: Callable[[list[Any]], Mapping[str, Any]] | None = None,
        column: str = "labels",
        label_format: str = "auto",
        label_names: Sequence[str] | None = None,
        sparse: bool = False,
    ):
        LabelSpace(num_labels, tuple(label_names) if label_names is not None else None)  # checks both
        check_label_format(label_format)
        if sparse and label_format == "multi_hot":
            raise ValueError(
                "sparse is True, but label_format is 'multi_hot'; use lists of class ids or of class names"
            )
        self.num_labels = num_labels
        self.collator = collator if collator is not None else default_data_collator
        self.label_format = label_format
        self.label_names = label_names
        self.column = column
        self.sparse = sparse
        self.order: np.ndarray | None = None

    def fitted(
        self, space: LabelSpace, order: np.ndarray | None = None, form: str | None = None
    ) -> "MultiLabelCollator":
        """This collator with the names and form of a label space; a copy, unless nothing changes.

        Args:
            order: see the attribute `order`.
            form: the form of the rows of this data set; None for that of the space.

        Raises:
            ValueError: if the two have different numbers, names, forms or columns of labels.
        """
        for name, own, other in (
            ("num_labels", self.num_labels, space.num_labels),
            ("column", self.column, space.column),
            ("label_format", self.label_format, self.label_format if space.form is None else space.form),
        ):
            if own not in (other, "auto"):
                raise ValueError(
                    f"the data_collator (MultiLabelCollator) has {name}={own!r}, but the training data and the model "
                    f"have {other!r}; make it with {name}={other!r}"
                )
        form, names = form or space.form or self.label_format, self.label_names
        if space.names is not None:
            if names is not None:
                label_order(names, "the data_collator", space.names, "the model")
            names = list(space.names)
        if order is None and self.order is None and (form, names) == (self.label_format, self.label_names):
            return self
        fitted = copy.copy(self)
        fitted.label_format, fitted.label_names, fitted.order = form, names, order
        return fitted

    @property
    def tokenizer(self) -> Any:
        """The wrapped collator's tokenizer, if it has one: `Trainer` saves it with the model."""
        return getattr(self.collator, "tokenizer", None)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate rows.

        Returns:
            the wrapped collator's batch, with the labels as float32 `(batch, num_labels)`, NaN where unknown; if
            `sparse`, as int64 `(batch, most positives of a row, at least 1)`, ids padded with -100. Rows without
            the label column (for prediction) give a batch without it.

        Raises:
            ValueError: if a row's labels do not have the expected form (the message has the column, the row's
                position in the batch, the value and the remedy), or if only some rows have labels.
        """
        with_labels = [row for row, features in enumerate(rows) if self.column in features]
        if not with_labels:
            return dict(self.collator(list(rows)))
        if len(with_labels) < len(rows):
            missing = next(row for row in range(len(rows)) if row not in with_labels)
            raise ValueError(
                f"column '{self.column}', {PLACE.format(missing)}: this row has no labels, but other rows have"
            )
        labels = self.collate_labels([row[self.column] for row in rows])
        others = [{name: value for name, value in row.items() if name != self.column} for row in rows]
        try:
            batch = dict(self.collator(others))
        except KeyError as error:
            if error.args != (self.column,):
                raise
            raise ValueError(
                f"the wrapped collator reads the column '{self.column}', which MultiLabelCollator already makes; "
                "remove it from the wrapped collator"
            ) from error
        return {**batch, self.column: labels}

    def collate_labels(self, rows: Sequence[Any]) -> Tensor:
        """The labels of a batch, made from those of its rows. Returns and raises the same as `__call__`."""
        flat = flatten(arrow_rows(rows, self.column, PLACE, 0), self.column, PLACE)
        readings, errors = {}, {}
        for form in candidate_forms(flat, self.label_format, num_labels=self.num_labels):
            try:
                readings[form] = self._read(flat, form)
            except ValueError as error:
                errors[form] = error
        if flat.values.size == 0 and readings:  # no row has a positive class: all forms give the same
            return next(iter(readings.values()))
        form = one_reading(list(readings), errors, self.column)
        self.label_format = form
        return readings[form]

    def _read(self, rows: LabelRows, form: str) -> Tensor:
        if form == "multi_hot":
            if self.sparse:
                raise rows.error(0, "the labels are multi-hot. With sparse=True, give lists of class ids or names")
            values = read_multi_hot(rows, self.num_labels, self.label_names).astype(np.float32)
            return torch.from_numpy(np.where(values == -100, np.float32(np.nan), values))
        if form == "names":
            if self.label_names is None:
                raise rows.error(0, "the labels are class names. Pass label_names=..., in the order of the class ids")
            rows = read_names(rows, {name: index for index, name in enumerate(self.label_names)})
        else:
            rows = read_ids(rows, self.num_labels).reordered(self.order)
        if self.sparse:
            positions = np.arange(rows.lengths.max(initial=1))
            class_ids = np.full((len(rows.lengths), len(positions)), -100)
            class_ids[positions < rows.lengths[:, None]] = rows.values
            return torch.from_numpy(class_ids)
        values = np.zeros((len(rows.lengths), self.num_labels), np.float32)
        values[np.repeat(np.arange(len(rows.lengths)), rows.lengths), rows.values] = 1
        return torch.from_numpy(values)


class ClassIdCollator:
    """Changes the class ids in a collator's batch, one per row, to the order of the model's outputs.

    Args:
        collator: makes the batch with its class ids.
        column: the column of the class ids; -100 is unknown.
        order (int64, `(num_labels,)`): the label of each class id in the rows.
    """

    def __init__(self, collator: Callable[[list[Any]], Mapping[str, Any]], column: str, order: np.ndarray):
        self.collator = collator
        self.column = column
        self.order = torch.from_numpy(order)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate rows, with or without class ids. Returns the collator's batch."""
        batch = dict(self.collator(list(rows)))
        if self.column in batch:
            class_ids = torch.as_tensor(batch[self.column])
            batch[self.column] = torch.where(class_ids == -100, -100, self.order[class_ids.clamp(min=0)])
        return batch
