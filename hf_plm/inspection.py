"""Inspects the labels of a data set before training: how imbalanced they are, and what the presets would do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .counting import positive_entries, read_labels
from .display import printable
from .label_counts import LabelCounts
from .label_space import generic_names
from .presets import PRESETS
from .state import PLMState

FEW_POSITIVES = 10
"""A warning names each label with fewer positives than this."""


@dataclass(frozen=True)
class LabelReport:
    """The results of `inspect_labels`. The measures are those of Charte et al., "Addressing Imbalance in Multilabel
    Classification: Measures and Random Resampling Algorithms", Neurocomputing 2015, and "Dealing with Difficult
    Minority Labels in Imbalanced Multilabel Data Sets" (SCUMBLE), Neurocomputing 2019.

    Attributes:
        num_rows: the number of rows.
        counts: positives and negatives of each label.
        form: the form of the labels: `multi_hot`, `ids`, `names` or `class_id`.
        rows_without_label: the number of rows that have no positive.
        cardinality: the mean number of positives per row.
        imbalance_ratios (float64, `(num_labels,)`): IRLbl, the positives of the most frequent label divided by the
            positives of each label; infinite for a label without positives.
        mean_ir: the mean of the finite `imbalance_ratios`.
        cvir: the standard deviation of the finite `imbalance_ratios`, divided by their mean.
        scumble: how much frequent and rare labels share rows, from 0 to 1; the mean over the rows with a label.
    """

    num_rows: int
    counts: LabelCounts
    form: str
    rows_without_label: int
    cardinality: float
    imbalance_ratios: Tensor
    mean_ir: float
    cvir: float
    scumble: float

    @property
    def density(self) -> float:
        """The share of all labels that are positive."""
        return self.cardinality / self.counts.num_labels

    @property
    def unknown(self) -> Tensor:
        """The number of rows in which each label is unknown, int64 `(num_labels,)`."""
        return self.num_rows - self.counts.positives - self.counts.negatives

    @property
    def max_to_mean(self) -> float:
        """The positives of the most frequent label, divided by the mean over the labels that have positives."""
        positives = self.counts.positives[self.counts.positives > 0].double()
        return (positives.max() / positives.mean()).item()

    def names(self, mask: Tensor) -> list[str]:
        """The names of the labels in a bool mask `(num_labels,)`; names such as `LABEL_3` if they have none."""
        names = self.counts.label_names or generic_names(self.counts.num_labels)
        return [names[index] for index in mask.nonzero().flatten().tolist()]

    def keep_probabilities(self, preset: str) -> tuple[Tensor, Tensor]:
        """The probabilities with which a preset keeps the positives and negatives of each label in the first epoch.

        With the mask `expected` they are weights. Two float32 tensors `(num_labels,)`.
        """
        return PLMState(self.counts, PRESETS[preset]).keep_probabilities()

    def masked_labels(self, preset: str) -> float:
        """The mean number of labels that a preset masks in the first epoch, or the weight that it removes."""
        keep_positive, keep_negative = (keep.double() for keep in self.keep_probabilities(preset))
        masked = self.counts.positives * (1 - keep_positive) + self.counts.negatives * (1 - keep_negative)
        return masked.sum().item()

    def warnings(self) -> list[str]:
        """Sentences about what to check before training."""
        positives, negatives = self.counts.positives, self.counts.negatives
        few = (positives > 0) & (positives < FEW_POSITIVES)
        rare = (positives > 0) & (positives < 0.01 * self.num_rows)
        unknown = self.unknown.sum().item() / (self.num_rows * self.counts.num_labels)
        found = [
            (
                (positives == 0).any(),
                f"{_some(self.names(positives == 0))} never positive: a model cannot learn such labels. Drop "
                "them, or collect rows for them.",
            ),
            (
                (negatives == 0).any() and self.counts.num_labels > 1,
                f"{_some(self.names(negatives == 0))} never negative: a model learns to always predict such labels.",
            ),
            (
                few.any(),
                f"{_some(self.names(few))} positive in fewer than {FEW_POSITIVES} rows: the scores of such labels "
                "are mostly noise.",
            ),
            (
                rare.any() and self.form != "class_id",
                f"{int(rare.sum())} of {self.counts.num_labels} labels are positive in less than 1 % of the rows: "
                "a model that is trained with plain BCE may never predict them.",
            ),
            (
                self.mean_ir > 1.5 and self.cvir > 0.2,
                f"The labels are imbalanced: the most frequent label occurs {self.max_to_mean:.1f} times as often as "
                f"an average label. Its count is on average {self.mean_ir:.1f} times the count of a label (MeanIR "
                "above 1.5, CVIR above 0.2).",
            ),
            (unknown > 0, f"{unknown:.1%} of the labels are unknown: loss, counts and scores leave them out."),
            (
                self.rows_without_label > 0.5 * self.num_rows,
                f"{self.rows_without_label} of {self.num_rows} rows have no label. Is this intended?",
            ),
            (
                self.form != "class_id" and self.cardinality == 1 and self.rows_without_label == 0,
                "Every row has exactly one label: if this is always so, give class ids, and train a "
                "single_label_classification model.",
            ),
        ]
        return [text for condition, text in found if condition]

    def to_dict(self) -> dict[str, Any]:
        """All results, for JSON."""
        groups = {name: self.names(mask) for name, mask in self.counts.groups().items()}
        presets = {
            preset: {
                "keep_positive": self.keep_probabilities(preset)[0].tolist(),
                "keep_negative": self.keep_probabilities(preset)[1].tolist(),
                "masked_labels_in_first_epoch": self.masked_labels(preset),
            }
            for preset in PRESETS
        }
        return {
            "rows": self.num_rows,
            "labels": self.counts.num_labels,
            "form": self.form,
            "rows_without_label": self.rows_without_label,
            "cardinality": self.cardinality,
            "density": self.density,
            "max_to_mean": self.max_to_mean,
            "mean_ir": self.mean_ir,
            "cvir": self.cvir,
            "scumble": self.scumble,
            "names": self.names(torch.ones(self.counts.num_labels, dtype=torch.bool)),
            "positives": self.counts.positives.tolist(),
            "negatives": self.counts.negatives.tolist(),
            "unknown": self.unknown.tolist(),
            "imbalance_ratios": [ratio if np.isfinite(ratio) else None for ratio in self.imbalance_ratios.tolist()],
            "groups": groups,
            "presets": presets,
            "warnings": self.warnings(),
        }


def inspect_labels(
    dataset: Any,
    num_labels: int | None = None,
    column: str = "labels",
    label_format: str = "auto",
    label_names: Sequence[str] | None = None,
) -> LabelReport:
    """Measure the imbalance of a data set's labels. Arguments and errors are those of `count_labels`."""
    counts, form = read_labels(dataset, num_labels, column, label_format, label_names)
    rows, labels = positive_entries(dataset, counts, column, form)
    num_rows = len(dataset)
    positives = counts.positives.double()
    ratios = positives.max() / positives
    finite = ratios[torch.isfinite(ratios)]
    return LabelReport(
        num_rows=num_rows,
        counts=counts,
        form=form,
        rows_without_label=num_rows - len(np.unique(rows)),
        cardinality=len(rows) / num_rows,
        imbalance_ratios=ratios,
        mean_ir=finite.mean().item(),
        cvir=(finite.std() / finite.mean()).item() if len(finite) > 1 else 0.0,
        scumble=_scumble(rows, ratios.numpy()[labels]),
    )


def _scumble(rows: np.ndarray, ratios: np.ndarray) -> float:
    """The mean over the rows of `1 - geometric mean / arithmetic mean` of their labels' imbalance ratios."""
    sizes = np.bincount(rows)
    has_label = sizes > 0
    arithmetic = np.bincount(rows, ratios)[has_label] / sizes[has_label]
    geometric = np.exp(np.bincount(rows, np.log(ratios))[has_label] / sizes[has_label])
    return float(np.mean(1 - geometric / arithmetic))


def _some(names: list[str], shown: int = 5) -> str:
    """`a is`, `a, b are`, or `a, b, c, d, e and 12 more are`, each on one line."""
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{', '.join(map(printable, names[:shown]))}{rest} {'is' if len(names) == 1 else 'are'}"
