"""Makes a table of all labels with their frequencies and scores."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from .label_counts import LabelCounts
from .label_space import generic_names
from .scores import Groups, LabelScores

PRINTED = ("display.max_columns", None, "display.expand_frame_repr", False, "display.precision", 4)
"""The pandas options for printing tables: all columns are shown, also in a narrow terminal."""


class LabelTable(pd.DataFrame):  # type: ignore[misc]  # pandas has no types
    """A data frame that prints all of its columns with four decimals, also after a selection of rows or columns."""

    @property
    def _constructor(self) -> type["LabelTable"]:  # the way for subclasses in pandas
        return LabelTable

    def __repr__(self) -> str:
        with pd.option_context(*PRINTED):
            text: str = super().__repr__()
        return text

    def _repr_html_(self) -> str | None:
        with pd.option_context(*PRINTED):
            html: str | None = super()._repr_html_()
        return html


def label_table(
    counts: LabelCounts, scores: LabelScores, groups: Groups | None = None, thresholds: Sequence[float] | None = None
) -> LabelTable:
    """A table with one row for each label, from the most frequent in training to the rarest.

    Args:
        counts: the counts of the training data, in the order of the model's outputs; all 0 if they are not known.
        scores: the scores of an evaluation.
        groups: name -> bool mask `(num_labels,)`; None for head, medium and tail, see `LabelCounts.groups`.
        thresholds: `(num_labels,)`, logits; None for 0.

    Returns:
        a data frame. Its index, named `label`, has the label names. Its columns are `group`; `train_pos` and
        `eval_pos`, the label's positives in the training and in the evaluation data (`train_pos` is NaN if the
        training data are not known); `precision`, `recall`, `f1` and `ap` (average precision), in [0, 1], NaN for a
        label without positives in the evaluation data; and `threshold`, the lowest logit at which the label is
        predicted.
    """
    is_counted = bool(counts.positives.any())
    if groups is None:
        groups = counts.groups() if is_counted else {}
    masks = {name: np.asarray(mask, bool) for name, mask in groups.items()}
    table = LabelTable(
        {
            "group": [
                ", ".join(name for name, mask in masks.items() if mask[label]) for label in range(counts.num_labels)
            ],
            "train_pos": counts.positives.numpy() if is_counted else np.nan,
            "eval_pos": scores.positives,
            "precision": scores.precision,
            "recall": scores.recall,
            "f1": scores.f1,
            "ap": scores.average_precision,
            "threshold": np.zeros(counts.num_labels) if thresholds is None else np.array(thresholds, np.float64),
        },
        index=pd.Index(counts.label_names or generic_names(counts.num_labels), name="label"),
    )
    order = torch.sort(counts.positives, descending=True, stable=True).indices.numpy()
    ordered: LabelTable = table.iloc[order]
    return ordered
