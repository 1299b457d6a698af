"""Labels as tensors: which are known, which are wrong, and multi-hot rows made of class ids. It needs torch alone."""

import torch
import torch.nn.functional as F
from torch import Tensor


def known_labels(labels: Tensor) -> Tensor:
    """Where a label is known: neither NaN nor -100. Bool, the shape of `labels`."""
    return (labels == labels) & (labels != -100)  # NaN alone is not equal to itself


def one_hot_labels(class_ids: Tensor, num_labels: int) -> Tensor:
    """Labels of a single-label task as float rows; an unknown class (-100) gives an unknown row of NaN.

    Args:
        class_ids (int, `(batch,)`): a class in `[0, num_labels)`, or -100.

    Returns:
        float32, `(batch, num_labels)`.
    """
    rows = F.one_hot(class_ids.clamp(min=0), num_labels).float()
    return rows.masked_fill((class_ids == -100).unsqueeze(-1), torch.nan)


def multi_hot_labels(class_ids: Tensor, num_labels: int) -> Tensor:
    """Labels from the ids of the positive classes of each row, on the device where the ids are.

    Args:
        class_ids (int64, `(batch, at least 1)`): ids in `[0, num_labels)`, filled up with -100; nothing but -1 in a
            row of which no label is known.

    Returns:
        int8, `(batch, num_labels)`: 1, 0, or -100 for unknown.

    Raises:
        ValueError: if the shape or the dtype is another.
    """
    if class_ids.dim() != 2 or class_ids.dtype != torch.int64:
        raise ValueError(
            f"labels have shape {tuple(class_ids.shape)} and dtype {class_ids.dtype}; with sparse=True, give the "
            "class ids of each row, int64 (batch, at least 1), filled up with -100, as MultiLabelCollator("
            "sparse=True) does"
        )
    empty = torch.where(class_ids[:, :1] == -1, -100, 0).to(torch.int8)
    values = torch.where((class_ids >= 0) & (class_ids < num_labels), 1, -100).to(torch.int8)
    places = class_ids.clamp(0, num_labels - 1)
    return empty.repeat(1, num_labels).scatter_reduce_(1, places, values, "amax")


def wrong_labels(labels: Tensor) -> Tensor:
    """Where a label is neither 1, 0 nor unknown. Bool, the shape of `labels`."""
    return known_labels(labels) & (labels != 0) & (labels != 1)


def wrong_class_ids(class_ids: Tensor, num_labels: int) -> Tensor:
    """Where a class id is none: neither in `[0, num_labels)`, nor filling (-100), nor in a row of nothing but -1.

    Args:
        class_ids (int64, `(batch, at least 1)`): see `multi_hot_labels`.

    Returns:
        bool, the shape of `class_ids`.
    """
    is_unknown_row = (class_ids == -1).all(1, keepdim=True)
    return ((class_ids < 0) | (class_ids >= num_labels)) & (class_ids != -100) & ~is_unknown_row


def last_wrong(wrong: Tensor) -> Tensor:
    """The last column of each row of a bool tensor `(batch, columns)` that is true, int32 `(batch,)`; -1 for none."""
    columns = torch.arange(wrong.shape[1], dtype=torch.int32, device=wrong.device)
    return torch.where(wrong, columns, -1).amax(1)
