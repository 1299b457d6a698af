"""The metrics of an evaluation, for `Trainer` and for the `evaluate` library; no network needed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import datasets
import evaluate
import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import logit
from transformers import EvalPrediction

from .counting import count_labels
from .label_counts import LabelCounts
from .label_space import shown_list
from .scores import (
    Groups,
    LabelScores,
    batches_of,
    decide,
    first_array,
    labels_digest,
    multilabel_scores,
    one_for_each,
    score_labels,
    summarize,
)


@dataclass(eq=False)
class EvaluationRecord:
    """Facts about the evaluated model for the metrics, and the results that they report back.

    Attributes:
        label_counts: the counts of the model's training data, in the order and with the names of its outputs.
        thresholds (float64, `(num_labels,)`): the model's own thresholds, logits; None if it has none.
        label_scores: the scores of each label; None until a `PredictionScorer` has scored.
        groups: the groups of the scored labels, in the order of the model; None until then.
        labels_digest: `labels_digest` of the scored references; None until then.
        metrics_thresholds: the thresholds of the metrics, logits, if they were used because the model has none; None
            if the model's own thresholds or 0 were used.
        collected: the values that each metric has collected in this evaluation.
    """

    label_counts: LabelCounts
    thresholds: np.ndarray | None = None
    label_scores: LabelScores | None = None
    groups: Groups | None = None
    labels_digest: str | None = None
    metrics_thresholds: np.ndarray | None = None
    collected: dict["BatchwiseMetrics", Any] = field(default_factory=dict, repr=False)

    @property
    def was_scored(self) -> bool:
        """Whether a `PredictionScorer` was called, directly or inside another function."""
        return self.label_scores is not None


_RECORD: ContextVar[EvaluationRecord | None] = ContextVar("evaluation_record", default=None)


@contextmanager
def evaluating(label_counts: LabelCounts, thresholds: ArrayLike | None) -> Iterator[EvaluationRecord]:
    """A context in which each call of a `PredictionScorer` or `RankingComputeMetrics` scores this model.

    Args:
        label_counts: the counts of the model's training data, in the order of its outputs.
        thresholds (float, `(num_labels,)`): the model's thresholds, logits. None if it has none; the metrics then use
            their own.

    Raises:
        ValueError: if the numbers of thresholds and labels differ.
    """
    limits = None if thresholds is None else np.asarray(thresholds, np.float64)
    if limits is not None and limits.shape != (label_counts.num_labels,):
        raise ValueError(f"thresholds have shape {limits.shape}; there are {label_counts.num_labels} labels")
    record = EvaluationRecord(label_counts, limits)
    token = _RECORD.set(record)
    try:
        yield record
    finally:
        _RECORD.reset(token)


class BatchwiseMetrics:
    """Metrics that collect values batch by batch, and start again with each evaluation.

    The values of an interrupted evaluation are dropped when its `evaluating` context ends; with a plain `Trainer`,
    call `reset`.

    Args:
        label_counts: the counts of the training data from which the metrics are made.
    """

    def __init__(self, label_counts: LabelCounts):
        self.label_counts = label_counts
        self._collected: Any = None

    def reset(self) -> None:
        """Drop the values collected since the last result."""
        self._collected = None
        self._take()

    def check_fits(self, label_counts: LabelCounts) -> None:
        """Raise a ValueError unless a model with these counts can be scored; see `places_of`."""
        self.places_of(label_counts)

    def places_of(self, label_counts: LabelCounts) -> np.ndarray:
        """For each label of a model, its index in the metrics' own counts, int64 `(num_labels,)`; -1 if it is missing.

        If one of the two has no names, both are assumed to have the same order.

        Raises:
            ValueError: if the counts have a name that the model does not have, or, without names, if the numbers of
                labels differ.
        """
        own, names = self.label_counts.label_names, label_counts.label_names
        if own is None or names is None:
            if self.label_counts.num_labels != label_counts.num_labels:
                raise ValueError(
                    f"the metrics were made from counts of {self.label_counts.num_labels} labels, and the model has "
                    f"{label_counts.num_labels}; make them from the counts of the model's training data"
                )
            return np.arange(label_counts.num_labels)
        known = set(names)
        if lacking := [name for name in own if name not in known]:
            raise ValueError(
                f"the metrics were made from counts of the labels {shown_list(own)}, and the model has "
                f"{shown_list(names)}, without {shown_list(lacking)}; make them from the counts of its training data"
            )
        place = {name: index for index, name in enumerate(own)}
        return np.array([place.get(name, -1) for name in names], np.int64)

    def _take(self) -> Any:
        """Return the values collected in this evaluation and forget them; None if there are none."""
        record = self._record()
        if record is not None:
            return record.collected.pop(self, None)
        collected, self._collected = self._collected, None
        return collected

    def _keep(self, collected: Any) -> None:
        record = self._record()
        if record is not None:
            record.collected[self] = collected
        else:
            self._collected = collected

    @staticmethod
    def _record() -> EvaluationRecord | None:
        return _RECORD.get()


class MultiLabelMetrics(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """`multilabel_scores` as a metric of the `evaluate` library; it downloads nothing.

        metrics = MultiLabelMetrics(label_counts)
        metrics.compute(scores=probabilities, references=labels)

    Args:
        label_counts: the counts of the training set. They define the groups of labels (`LabelCounts.groups`): head,
            the most frequent tenth of the labels; tail, the least frequent half; medium, the rest.
        threshold: a label is predicted if its score is at least this; on the scale of the scores.
        groups: different groups, name -> bool mask `(num_labels,)`, for example `label_counts.groups(head=0.2)`.
        **kwargs: arguments of `evaluate.Metric`.
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
        rows = datasets.Sequence(datasets.Value("float64"))  # float32 may round a score below its threshold
        return evaluate.MetricInfo(
            description="Multi-label scores, overall and for head, medium and tail labels.",
            citation="",
            inputs_description=multilabel_scores.__doc__,
            features=datasets.Features({"scores": rows, "references": rows}),
        )

    def _compute(self, scores: Any, references: Any) -> dict[str, float]:
        return multilabel_scores(scores, references, self.groups, self.threshold)


class PredictionScorer(BatchwiseMetrics):
    """A `compute_metrics` for `Trainer` that returns `multilabel_scores` of logits; see `multilabel_compute_metrics`.

    With `batch_eval_metrics` it collects all batches and scores them after the last. It also takes lists of batches
    (`eval_do_concat_batches=False`).

    Attributes:
        label_scores: the scores of each label in the last evaluation; None before the first.
    """

    def __init__(
        self,
        label_counts: LabelCounts | Mapping[str, Any],
        threshold: ArrayLike = 0.5,
        groups: Groups | None = None,
        extra: Callable[[EvalPrediction], Mapping[str, float]] | None = None,
    ):
        super().__init__(count_labels(label_counts))
        self.thresholds = _logits_of(threshold, self.label_counts.num_labels)
        self.groups = groups
        for name, mask in (groups or {}).items():
            if tuple(mask.shape) != (self.label_counts.num_labels,):
                raise ValueError(
                    f"the group '{name}' has shape {tuple(mask.shape)}; label_counts has "
                    f"{self.label_counts.num_labels} labels"
                )
        self.extra = extra
        self.label_scores: LabelScores | None = None

    def __call__(self, prediction: EvalPrediction, compute_result: bool = True) -> dict[str, float]:
        new = [tuple(map(first_array, batch)) for batch in batches_of(prediction[0], prediction[1])]
        batches = [*(self._take() or []), *new]
        if not compute_result:
            self._keep(batches)
            return {}
        logits, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        record = self._record()
        counts = record.label_counts if record is not None else self.label_counts
        if logits.shape[1:] != (counts.num_labels,):
            raise ValueError(f"logits have shape {logits.shape}; label_counts has {counts.num_labels} labels")
        places = self.places_of(counts)
        thresholds = np.append(self.thresholds, 0.0)[places]
        if record is not None and record.thresholds is not None:
            thresholds = record.thresholds
        elif record is not None and thresholds.any():
            record.metrics_thresholds = thresholds
        decided = decide(logits, labels, thresholds, counts.label_names)
        self.label_scores, groups = score_labels(decided), self._groups_at(places)
        if record is not None:
            record.label_scores, record.groups = self.label_scores, groups
            record.labels_digest = labels_digest(labels)
        scores = summarize(self.label_scores, decided, groups)
        if self.extra is not None:
            more = self.extra(EvalPrediction(logits, labels))
            if shared := sorted(scores.keys() & more.keys()):
                raise ValueError(
                    f"extra returns {', '.join(shared)}, but these names are already used; use different names"
                )
            scores |= more
        return scores

    def _groups_at(self, places: np.ndarray) -> Groups:
        """The groups in a model's order. A label without counts has no positives, and is in none of `groups`."""
        if self.groups is not None:
            return {name: np.append(np.asarray(mask, bool), False)[places] for name, mask in self.groups.items()}
        positives = self.label_counts.positives
        there = torch.cat([positives, positives.new_zeros(1)])[torch.from_numpy(places)]
        return LabelCounts(there, torch.zeros_like(there)).groups()


def multilabel_compute_metrics(
    label_counts: LabelCounts | Mapping[str, Any],
    threshold: ArrayLike = 0.5,
    groups: Groups | None = None,
    extra: Callable[[EvalPrediction], Mapping[str, float]] | None = None,
) -> PredictionScorer:
    """A `compute_metrics` for a multi-label `Trainer`: it returns `multilabel_scores` of the model's logits.

    A `PLMTrainer` scores its model with that model's thresholds and, if the counts have names, in the order of that
    model's labels. So several trainers may share one object, and a function may wrap it.

    Args:
        label_counts: the counts of the training set. They define the groups of labels, see `MultiLabelMetrics`.
        threshold: a label is predicted if its probability is at least this, unless the model has its own thresholds;
            a number in [0, 1], or one for each label of `label_counts`.
        groups: different groups, name -> bool mask over the labels of `label_counts`.
        extra: a function that returns your own scores, with names that `multilabel_scores` does not use. It takes
            the logits (float, `(rows, num_labels)`) and labels of all rows as an `EvalPrediction`.

    Raises:
        ValueError: if a threshold is not a probability. In a call: as `multilabel_scores`; if the numbers of labels
            differ; if the counts have a name that the model does not have; if `extra` returns a name of
            `multilabel_scores`.
    """
    return PredictionScorer(label_counts, threshold, groups, extra)


def _logits_of(threshold: ArrayLike, num_labels: int) -> np.ndarray:
    """The logits of probabilities, float64 `(num_labels,)`."""
    probabilities = one_for_each(threshold, num_labels)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError(f"threshold is {threshold!r}; give probabilities, in [0, 1]")
    logits: np.ndarray = logit(probabilities)
    return logits
