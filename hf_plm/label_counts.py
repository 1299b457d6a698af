"""`LabelCounts`: how often each label is positive and negative in a training set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .label_space import check_label_names, label_order


class LabelCounts:
    """The known positives and negatives of each label over a training set.

    Args:
        positives (int, `(num_labels,)`): how often each label is 1. A sequence, an array or a tensor.
        negatives (int, `(num_labels,)`): how often each label is 0. Unknown labels are in neither.
        label_names: the names of the labels in the order of their ids.

    Attributes:
        positives (int64, `(num_labels,)`): how often each label is 1.
        negatives (int64, `(num_labels,)`): how often each label is 0.
        label_names (list of str, or None): the names of the labels.

    Raises:
        ValueError: if the lengths differ, a count is negative or not a whole number, or a name occurs twice.
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
            num_rows: the number of rows of the data set, if every label is known in every row.

        Raises:
            ValueError: if plain counts are given without `num_rows`, or exceed it.
        """
        pairs = []
        for name, count in counts.items():
            if np.ndim(count) == 1:
                if len(count) != 2:
                    raise ValueError(f"the count of label {name!r} is {count!r}; give (positives, negatives)")
                pairs.append(tuple(count))
            elif num_rows is None:
                raise ValueError(
                    f"the count of label {name!r} is {count!r}, without its negatives; give "
                    "(positives, negatives), or LabelCounts.from_mapping(counts, num_rows=...)"
                )
            else:
                pairs.append((count, num_rows - count))
        positives, negatives = zip(*pairs, strict=True) if pairs else ((), ())
        return cls(positives, negatives, list(counts))

    @property
    def num_labels(self) -> int:
        return len(self.positives)

    def reordered(self, label_names: Sequence[str], source: str = "label_names") -> "LabelCounts":
        """The same counts, with the labels in a different order.

        Args:
            label_names: the same names in the wanted order.
            source: where they come from, for the message.

        Raises:
            ValueError: if the counts have no names, or different ones.
        """
        if self.label_names is None:
            raise ValueError(f"the counts have no label names, so they cannot be put in the order of {source}")
        order = label_order(list(label_names), source, self.label_names, "label_counts")
        return self if order is None else LabelCounts(self.positives[order], self.negatives[order], label_names)

    def groups(self, head: float = 0.1, tail: float = 0.5) -> dict[str, Tensor]:
        """Groups of labels by their number of positives: head, medium and tail.

        The head is the share `head` of the labels with the most positives (at least one label); the tail is the share
        `tail` with the fewest; medium is the rest. Labels with the same number of positives are in the order of their
        ids.

        Returns:
            three bool tensors `(num_labels,)`, under `head`, `medium` and `tail`; each label is in one of them.

        Raises:
            ValueError: if a share is not in [0, 1], or their sum exceeds 1.
        """
        if not (0 <= head <= 1 and 0 <= tail <= 1 and head + tail <= 1):
            raise ValueError(f"head={head} and tail={tail} must be shares of the labels, with a sum of at most 1")
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
        raise ValueError(f"{name} holds a count that is not a whole number (or NaN); give each label's number of rows")
    if (values < 0).any():
        raise ValueError(f"{name} holds {values.min().item()}; a count cannot be negative")
    return values.long()
