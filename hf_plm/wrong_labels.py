"""Labels that are neither 1, 0 nor unknown: an error at once on the CPU, and without holding up another device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .display import quoted
from .label_tensors import last_wrong


class WrongLabels:
    """Counts rows with wrong labels on the device where they are, and keeps the first of them."""

    def __init__(self) -> None:
        self._num_rows: Tensor | None = None
        self._first: Tensor | None = None  # value, row, column; float64 (3,)
        self._names: Sequence[str] | None = None

    @staticmethod
    def would_wait(device: torch.device) -> bool:
        """Whether the host waits where it looks at a value of this device."""
        return device.type != "cpu"

    def check(self, labels: Tensor, wrong: Tensor, names: Sequence[str] | None) -> None:
        """Look at the labels of a batch.

        Args:
            labels (`(batch, columns)`): in any dtype.
            wrong (bool, the same shape): which of them are wrong; or int32 `(batch,)`, see `last_wrong`.
            names: of the labels; None if they have none, or the columns are class ids.

        Raises:
            ValueError: if one is wrong, and the host need not wait to see it.
        """
        would_wait = self.would_wait(labels.device)
        if not labels.numel() or not (would_wait or (wrong.any() if wrong.dim() == 2 else wrong.amax() >= 0)):
            return
        columns = last_wrong(wrong) if wrong.dim() == 2 else wrong
        row = (columns >= 0).int().argmax()
        column = columns[row].long()
        first = torch.stack([labels[row, column].double(), row.double(), column.double()])
        if self._num_rows is None or self._first is None or self._num_rows.device != labels.device:
            self._num_rows, self._first = torch.zeros((), dtype=torch.long, device=labels.device), first
        self._first = torch.where(self._num_rows == 0, first, self._first)
        self._num_rows = self._num_rows + (columns >= 0).sum()
        self._names = names
        if not would_wait:
            self.raise_if_any()

    def raise_if_any(self) -> None:
        """Raise a ValueError with value and place of the first wrong label since the last call, if there was one."""
        num_rows, first, self._num_rows, self._first = self._num_rows, self._first, None, None
        if num_rows is None or first is None or not num_rows.item():
            return
        value, row, column = first.tolist()
        name = quoted(self._names[int(column)]) if self._names is not None else str(int(column))
        raise ValueError(
            f"row {int(row)} of the batch, label {name}: the label is {value:g}; it must be 1, 0 or unknown (NaN or "
            f"-100), or as a class id that of a label or -100 (rows with such labels: {int(num_rows.item())})"
        )
