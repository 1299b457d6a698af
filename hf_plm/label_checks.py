"""Refuses labels that are neither 1, 0 nor unknown, without making a training step wait for the device."""

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from .display import quoted
from .label_tensors import first_in_rows


def can_read(labels: Tensor) -> bool:
    """Whether the values can be read without waiting for a device."""
    return labels.device.type == "cpu"


class LabelChecks:
    """Refuses wrong labels: at once on a CPU, and on another device when `raise_found` is called.

    Args:
        num_labels, label_names: the number of labels and their names, for the message.
        are_class_ids: whether labels come as class ids, see `multi_hot_labels`.
    """

    def __init__(self, num_labels: int, label_names: Sequence[str] | None, are_class_ids: bool):
        self.num_labels = num_labels
        self.label_names = label_names
        self.are_class_ids = are_class_ids
        self._found: Tensor | None = None  # the number of wrong rows; row, column and value of the first

    def check(self, wrong: Tensor, labels: Tensor, first_row: int = 0) -> None:
        """Raise a ValueError for wrong labels of a batch; if they are not on the CPU, keep them for `raise_found`.

        Args:
            wrong (bool, the shape of `labels`): see `wrong_labels` and `wrong_class_ids`.
            labels (`(batch, num_labels)`, or class ids `(batch, at least 1)`): as given.
            first_row: the number of the first of these rows in the batch.
        """
        if not can_read(labels) or wrong.any():
            self.check_rows(first_in_rows(wrong), labels, first_row)

    def check_rows(self, first: Tensor, labels: Tensor, first_row: int = 0) -> None:
        """As `check`, but with the index of each row's first wrong label, int32 `(batch,)`; see `first_in_rows`."""
        width = labels.shape[1]
        wrong = first < width
        if not len(labels) or (can_read(labels) and not wrong.any()):
            return
        row = wrong.int().argmax()
        place = first.take(row).clamp(max=width - 1)
        value = labels.take(row * width + place)
        if can_read(labels):
            self._raise(first_row + int(row), int(place), value.item())
        found = torch.stack([part.float() for part in (wrong.sum(), first_row + row, place, value)])
        if (before := self._found) is not None:
            found = torch.cat([before[:1] + found[:1], torch.where(before[0] > 0, before[1:], found[1:])])
        self._found = found

    def raise_found(self) -> None:
        """Wait for the device, and raise a ValueError if any batch since the last call had a wrong label."""
        if self._found is not None:
            (rows, row, place, value), self._found = self._found.tolist(), None
            if rows:
                self._raise(int(row), int(place), value, f" ({rows:,.0f} rows have wrong labels)")

    def _raise(self, row: int, place: int, value: float, how_many: str = "") -> NoReturn:
        if self.are_class_ids:
            raise ValueError(
                f"row {row} of the batch: the class id {value:.0f} is not in [0, {self.num_labels}){how_many}; give "
                "the ids of the positive labels, padded with -100; for a row without a known label give -1 only"
            )
        shown = f"{value:.6g}"
        shown = repr(value) if shown in ("0", "-0", "1") else shown
        label = str(place) if self.label_names is None else quoted(self.label_names[place])
        raise ValueError(
            f"row {row} of the batch, label {label}: the label is {shown}{how_many}; it must be 1, 0, or unknown "
            "(NaN or -100). Masks need such labels: do not use label smoothing or mixing"
        )
