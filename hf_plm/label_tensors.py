"""Functions on tensors of labels: which are known or invalid, and how class ids become rows of labels.

This file needs only torch. No function reads a value back to the host.
"""

import torch
from torch import Tensor


def known_labels(labels: Tensor) -> Tensor:
    """True where a label is known: neither NaN nor -100. Bool, the shape of `labels`."""
    if labels.dtype == torch.uint8:  # -100 becomes 156
        return torch.ones_like(labels, dtype=torch.bool)
    return (labels == labels) & (labels != -100)  # only NaN is not equal to itself


def wrong_labels(labels: Tensor) -> Tensor:
    """True where a label is invalid: neither 1, 0, nor unknown (NaN or -100). Bool, the shape of `labels`."""
    if labels.dtype == torch.bool:
        return torch.zeros_like(labels)
    return known_labels(labels) & (labels != 0) & (labels != 1)


def wrong_class_ids(class_ids: Tensor, num_labels: int) -> Tensor:
    """True where an entry is neither a class id in `[0, num_labels)` nor padding that `multi_hot_labels` accepts.

    Args:
        class_ids (int64, `(batch, at least 1)`): see `multi_hot_labels`.

    Returns:
        bool, the shape of `class_ids`.
    """
    is_filling = (class_ids == -100) | (class_ids == -1).all(-1, keepdim=True)
    return ((class_ids < 0) | (class_ids >= num_labels)) & ~is_filling


def first_in_rows(found: Tensor) -> Tensor:
    """The index of the first True of each row; the length of the row if it has none.

    Args:
        found (bool, `(batch, length)`).

    Returns:
        int32, `(batch,)`.
    """
    length = found.shape[-1]
    places = torch.arange(length, dtype=torch.int32, device=found.device)
    return torch.where(found, places, length).amin(-1)


def one_hot_labels(class_ids: Tensor, num_labels: int) -> Tensor:
    """Labels of a single-label task as float rows; an unknown class (-100) becomes a row of NaN.

    Args:
        class_ids (int, `(batch,)`): a class in `[0, num_labels)`, or -100. Any other value fills its row, so
            that `PLMLoss` refuses it and shows it.

    Returns:
        float32, `(batch, num_labels)`.
    """
    ids = class_ids.unsqueeze(-1)
    rows = (ids == torch.arange(num_labels, device=class_ids.device)).float()
    rows = torch.where((ids >= 0) & (ids < num_labels), rows, ids.float())
    return rows.masked_fill(ids == -100, torch.nan)


def multi_hot_labels(class_ids: Tensor, num_labels: int) -> Tensor:
    """Labels from the ids of the positive classes of each row, on the device of the ids.

    Args:
        class_ids (int64, `(batch, at least 1)`): ids in `[0, num_labels)`, padded with -100; a row without a known
            label holds only -1. Other ids (see `wrong_class_ids`) are ignored.

    Returns:
        int8, `(batch, num_labels)`: 1, 0, or -100 for unknown.

    Raises:
        ValueError: if the shape or the dtype is wrong.
    """
    if class_ids.dim() != 2 or class_ids.dtype != torch.int64:
        raise ValueError(
            f"labels have shape {tuple(class_ids.shape)} and dtype {class_ids.dtype}; with sparse=True, give the "
            "class ids of each row, int64 (batch, at least 1), padded with -100, as MultiLabelCollator("
            "sparse=True) does"
        )
    empty = torch.where(class_ids[:, :1] == -1, -100, 0).to(torch.int8)
    values = torch.where((class_ids >= 0) & (class_ids < num_labels), 1, -100).to(torch.int8)
    ids = class_ids.clamp(0, num_labels - 1)
    return empty.repeat(1, num_labels).scatter_reduce_(1, ids, values, "amax")
