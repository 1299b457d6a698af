"""Multi-label scores, overall and for head, medium and tail labels; without any network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import datasets
import evaluate
import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit
from sklearn.metrics import average_precision_score, precision_recall_fscore_support
from torch import Tensor
from transformers import EvalPrediction

from .label_counts import LabelCounts, count_labels

Groups = Mapping[str, Tensor | np.ndarray]


@dataclass(frozen=True)
class LabelScores:
    """Scores label by label, each `(num_labels,)`; NaN for a label that has no positive in the references.

    Attributes:
        precision, recall, f1, average_precision (float64): in [0, 1]. The precision of a label that is never predicted
            is 0.
        positives (int64): in how many rows each label is positive.
        predicted (int64): in how many rows in which it is known each label is predicted.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    average_precision: np.ndarray
    positives: np.ndarray
    predicted: np.ndarray


def label_scores(scores: ArrayLike, references: ArrayLike, threshold: ArrayLike = 0.5) -> LabelScores:
    """Scores of each label, computed by scikit-learn. Arguments and errors are those of `multilabel_scores`."""
    scores, positive, known, predicted = _checked(scores, references, threshold)
    scored = positive.any(0)
    per_label = _precision_recall_f1(positive, predicted, average=None)
    precision, recall, f1 = (np.where(scored, values[:-1], np.nan) for values in per_label)
    average_precision = np.full(scored.shape, np.nan)
    for label in np.flatnonzero(scored):
        rows = known[:, label]
        average_precision[label] = average_precision_score(positive[rows, label], scores[rows, label])
    return LabelScores(precision, recall, f1, average_precision, positive.sum(0), predicted.sum(0))


def multilabel_scores(
    scores: ArrayLike, references: ArrayLike, groups: Groups, threshold: ArrayLike = 0.5
) -> dict[str, float]:
    """Scores of predicted probabilities against multi-hot labels, computed by scikit-learn.

    Labels that have no positive in `references` are left out of every score, and unknown entries count nowhere. A
    macro score and a group's score is the mean over labels, with 0 for the precision of a label that is never
    predicted; a group without a label left is NaN.

    Args:
        scores (float, `(rows, num_labels)`): probabilities in [0, 1].
        references (`(rows, num_labels)`): 1, 0, or unknown (NaN or -100).
        groups: name -> bool mask `(num_labels,)`, as from `LabelCounts.groups`.
        threshold: a label is predicted where its probability is at least this; a number, or one for each label.

    Returns:
        `map` (mean average precision), `micro_f1`, `macro_f1`, `exact_match` (the share of the rows with a known label
        that have no error), `micro_precision`, `micro_recall`, `macro_precision`, `macro_recall`, all in [0, 1];
        `labels_never_predicted` (how many); and for each group `<name>_precision`, `<name>_recall`, `<name>_f1`,
        `<name>_map`.

    Raises:
        ValueError: if the shapes differ, a reference is none of 1, 0 and unknown, or no label has a positive.
    """
    return _summarize(label_scores(scores, references, threshold), scores, references, groups, threshold)


def _summarize(
    each: LabelScores, scores: ArrayLike, references: ArrayLike, groups: Groups, threshold: ArrayLike
) -> dict[str, float]:
    """What `multilabel_scores` returns, from the scores of each label."""
    _, positive, known, predicted = _checked(scores, references, threshold)
    scored = each.positives > 0
    positive, known, predicted = positive[:, scored], known[:, scored], predicted[:, scored]
    micro_precision, micro_recall, micro_f1 = _precision_recall_f1(positive, predicted, average="micro")
    results = {
        "map": each.average_precision[scored].mean(),
        "micro_f1": micro_f1,
        "macro_f1": each.f1[scored].mean(),
        "exact_match": (predicted == positive).all(1)[known.any(1)].mean(),
        "micro_precision": micro_precision,
        "micro_recall": micro_recall,
        "macro_precision": each.precision[scored].mean(),
        "macro_recall": each.recall[scored].mean(),
        "labels_never_predicted": (each.predicted[scored] == 0).sum(),
    }
    per_label = {"precision": each.precision, "recall": each.recall, "f1": each.f1, "map": each.average_precision}
    for name, mask in groups.items():
        members = np.asarray(mask) & scored
        results |= {f"{name}_{key}": _mean(values[members]) for key, values in per_label.items()}
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in results.items()}


def _checked(scores: ArrayLike, references: ArrayLike, threshold: ArrayLike) -> tuple[np.ndarray, ...]:
    """The scores, and where labels are positive, known and predicted; all `(rows, num_labels)`."""
    scores, references = np.asarray(scores), np.asarray(references, np.float32)
    if scores.shape != references.shape or scores.ndim != 2:
        raise ValueError(
            f"scores have shape {scores.shape}, references {references.shape}; both must be (rows, labels)"
        )
    positive = references == 1
    known = positive | (references == 0)
    if not (known | np.isnan(references) | (references == -100)).all():
        raise ValueError("references hold a value that is neither 1, 0 nor unknown (NaN or -100)")
    if not positive.any():
        raise ValueError("no label has a positive in the references; there is nothing to score")
    return scores, positive, known, (scores >= np.asarray(threshold)) & known


def _precision_recall_f1(positive: np.ndarray, predicted: np.ndarray, average: str | None) -> tuple[np.ndarray, ...]:
    """scikit-learn's, with an empty column more: it takes a single label for a binary task, with two classes."""
    truth, guess = (np.pad(values, ((0, 0), (0, 1))) for values in (positive, predicted))
    return precision_recall_fscore_support(truth, guess, average=average, zero_division=0)[:3]


def _mean(values: np.ndarray) -> float:
    return values.mean() if len(values) else np.nan


class MultiLabelMetrics(evaluate.Metric):
    """`multilabel_scores` as a metric of the `evaluate` library, made without fetching anything.

        metrics = MultiLabelMetrics(label_counts)
        metrics.compute(scores=probabilities, references=labels)

    Args:
        label_counts: of the training set; they cut the labels into groups, by `LabelCounts.groups`: head, the tenth of
            the labels that is most frequent; tail, the half that is least; medium, the rest.
        threshold: a label is predicted where its score is at least this.
        groups: another cut, name -> bool mask `(num_labels,)`, for example `label_counts.groups(head=0.2)`.
        **kwargs: of `evaluate.Metric`.
    """

    def __init__(
        self,
        label_counts: LabelCounts | Mapping[str, Any],
        threshold: ArrayLike = 0.5,
        groups: Groups | None = None,
        **kwargs: Any,
    ):
        self.groups = groups if groups is not None else count_labels(label_counts).groups()
        self.threshold = threshold
        super().__init__(**kwargs)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Multi-label scores, overall and for head, medium and tail labels.",
            citation="",
            inputs_description=multilabel_scores.__doc__,
            features=datasets.Features(
                {
                    "scores": datasets.Sequence(datasets.Value("float32")),
                    "references": datasets.Sequence(datasets.Value("float32")),
                }
            ),
        )

    def _compute(self, scores: Any, references: Any) -> dict[str, float]:
        return multilabel_scores(scores, references, self.groups, self.threshold)


class MultiLabelComputeMetrics:
    """A `compute_metrics` for `Trainer`: `multilabel_scores` of the sigmoid of the model's logits.

    With `batch_eval_metrics` it collects the batches until the last.

    Attributes:
        threshold: a label is predicted where its probability is at least this; a number, or one for each label.
        groups: name -> bool mask `(num_labels,)`.
        label_scores: the scores of each label in the last evaluation; None before.
    """

    def __init__(self, threshold: ArrayLike, groups: Groups):
        self.threshold = threshold
        self.groups = groups
        self.label_scores: LabelScores | None = None
        self._batches: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, prediction: EvalPrediction, compute_result: bool = True) -> dict[str, float]:
        self._batches.append((first_array(prediction[0]), first_array(prediction[1])))
        if not compute_result:
            return {}
        logits, labels = (np.concatenate(arrays) for arrays in zip(*self._batches, strict=True))
        self._batches.clear()
        scores = expit(logits.astype(np.float64))
        self.label_scores = label_scores(scores, labels, self.threshold)
        return _summarize(self.label_scores, scores, labels, self.groups, self.threshold)


def multilabel_compute_metrics(
    label_counts: LabelCounts | Mapping[str, Any], threshold: ArrayLike = 0.5, groups: Groups | None = None
) -> MultiLabelComputeMetrics:
    """The `compute_metrics` of a multi-label `Trainer`.

    Args:
        label_counts, threshold, groups: see `MultiLabelMetrics`.
    """
    return MultiLabelComputeMetrics(threshold, groups if groups is not None else count_labels(label_counts).groups())


def first_array(values: Any) -> np.ndarray:
    """An array of an array, a tensor, or a tuple that begins with one, as of a model that returns more than logits."""
    first = values[0] if isinstance(values, tuple) else values
    return first.float().cpu().numpy() if isinstance(first, Tensor) else first
