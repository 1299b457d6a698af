"""Chooses thresholds on held-out data, to turn logits into decisions."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from .display import quoted
from .label_space import generic_names, shown_list
from .scores import read_references

OBJECTIVES = ("macro_f1", "micro_f1", "precision", "recall")
DEFAULT_SHRINKAGE = {"macro_f1": 10.0, "micro_f1": 10.0, "precision": 0.0, "recall": 0.0}


def tune_thresholds(
    logits: ArrayLike,
    labels: ArrayLike,
    objective: str = "macro_f1",
    target: float | None = None,
    per_label: bool = True,
    shrinkage: float | None = None,
    label_names: Sequence[str] | None = None,
) -> np.ndarray:
    """Choose the thresholds with the best score on held-out data.

    Use data on which the model was not trained and on which you do not report results. Every label that can reach the
    target precision or recall on these data reaches it; a warning names the others.

    Args:
        logits (float, `(rows, num_labels)`): raw scores.
        labels (`(rows, num_labels)`): 1, 0, or unknown (NaN or -100).
        objective: the score to optimise. `macro_f1` or `micro_f1`: the highest value. `precision`: the highest recall
            with a precision of at least `target`, or if no threshold reaches it, the highest precision. `recall`: the
            highest threshold with a recall of at least `target`.
        target: the target precision or recall, in (0, 1]; None for the F1 objectives.
        per_label: True for a threshold for each label; False for one common threshold, which reaches the target over
            all labels together.
        shrinkage: how strongly a label's threshold is pulled towards the common one: half way for a label with this
            number of positives, further for fewer positives; 0 for no pull. None for 10 with F1, and for 0 with
            precision and recall, because labels would miss their target. A label without positives gets the common
            threshold.
        label_names: the names for messages, in the order of the labels.

    Returns:
        float64 `(num_labels,)`, logits: a label is predicted if its logit is at least its threshold.

    Raises:
        ValueError: if the objective is unknown; if the target is missing, not needed or out of range; if shapes
            differ; if logits are NaN or infinite; if labels are neither 1, 0 nor unknown; or if there is no positive.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    _check(logits, labels, label_names)
    _check_objective(objective, target, shrinkage)
    positive, known = read_references(labels, "labels", label_names)
    if not positive.any():
        raise ValueError("no label has a positive, so thresholds cannot be chosen; give data with positives")
    curves = [_Curve(logits[rows, label], positive[rows, label]) for label, rows in enumerate(known.T)]
    pooled = _Curve(logits[known], positive[known])
    shrinkage = DEFAULT_SHRINKAGE[objective] if shrinkage is None else shrinkage
    thresholds, common = _choose(curves, pooled, objective, target, per_label, shrinkage)
    if target is not None:
        names = label_names if label_names is not None else generic_names(len(curves))
        each = list(zip(names, curves, thresholds, strict=True))
        _warn_of_missed(each if per_label else [("all labels together", pooled, common)], objective, target)
    return thresholds


def _choose(
    curves: "list[_Curve]", pooled: "_Curve", objective: str, target: float | None, per_label: bool, shrinkage: float
) -> tuple[np.ndarray, float]:
    """The threshold of each label, and the common threshold."""
    best_micro_f1 = _best_micro_f1(curves) if objective == "micro_f1" else 0.0

    def best(curve: _Curve, f1: np.ndarray) -> float:
        if target is not None:
            return curve.threshold(curve.reach(objective, target))
        return curve.threshold(int(f1.argmax()))

    common = _best_common_macro_f1(curves) if objective == "macro_f1" else best(pooled, pooled.f1())
    thresholds = np.full(len(curves), common)
    for label, curve in enumerate(curves):
        if per_label and curve.num_positives:
            own = best(curve, curve.gain(best_micro_f1) if objective == "micro_f1" else curve.f1())
            drawn = 1 - curve.num_positives / (curve.num_positives + shrinkage)
            thresholds[label] = own + drawn * (common - own)
    return thresholds, common


class _Curve:
    """The predictions for decreasing thresholds: index i accepts the rows with the i highest distinct logits.

    Attributes:
        values (float64, `(num_values,)`): the distinct logits, in decreasing order.
        hits, predicted (int64, `(num_values + 1,)`): true positives and predictions at each index.
        num_positives: the number of positives.
    """

    def __init__(self, logits: np.ndarray, positive: np.ndarray):
        order = np.argsort(-logits, kind="stable")
        last = np.flatnonzero(np.append(logits[order][1:] != logits[order][:-1], [True] * (len(order) > 0)))
        self.values = logits[order][last]
        self.hits = np.concatenate([[0], np.cumsum(positive[order])[last]])
        self.predicted = np.concatenate([[0], last + 1])
        self.num_positives = int(positive.sum())

    def f1(self) -> np.ndarray:
        f1: np.ndarray = 2 * self.hits / np.maximum(self.predicted + self.num_positives, 1)
        return f1

    def gain(self, f1: float) -> np.ndarray:
        """`2 * hits - f1 * (predicted + positives)`; its sum over labels is at most 0 if `f1` is the best micro-F1."""
        return 2 * self.hits - f1 * (self.predicted + self.num_positives)

    def reach(self, objective: str, target: float) -> int:
        """The index that reaches the target precision or recall."""
        values = self.scores(objective)
        reached = np.flatnonzero(values >= target)
        if objective == "recall":
            return int(reached[0])
        return int(reached[-1] if len(reached) else values.argmax())

    def scores(self, objective: str) -> np.ndarray:
        """Precision or recall at each index, float64; 0 if there are no predictions or no positives."""
        of = self.predicted if objective == "precision" else np.full(len(self.hits), self.num_positives)
        scores: np.ndarray = self.hits / np.maximum(of, 1)
        return scores

    def threshold(self, index: int) -> float:
        """The threshold that accepts the same rows as an index."""
        return _between(self.values, index)


def _between(values: np.ndarray, index: int) -> float:
    """A threshold that accepts exactly the first `index` of decreasing values, however close the values are."""
    if index == 0:
        return float(max(values[0] + 1, np.nextafter(values[0], np.inf)))
    if index == len(values):
        return float(values[-1] - 1)
    above, below = values[index - 1], values[index]
    middle = above / 2 + below / 2
    return float(middle if below < middle <= above else above)


def _best_micro_f1(curves: list[_Curve]) -> float:
    """The highest micro-F1 with a threshold for each label, by Dinkelbach's method for ratios."""
    f1, higher = -1.0, 0.0
    while higher > f1:
        f1 = higher
        indices = [curve.gain(f1).argmax() for curve in curves]
        hits = sum(curve.hits[index] for curve, index in zip(curves, indices, strict=True))
        total = sum(curve.predicted[index] + curve.num_positives for curve, index in zip(curves, indices, strict=True))
        higher = 2 * hits / total
    return f1


def _best_common_macro_f1(curves: list[_Curve]) -> float:
    """The common threshold with the highest macro-F1, as a logit."""
    values = np.concatenate([curve.values for curve in curves])
    changes = np.concatenate([np.diff(curve.f1()) for curve in curves])
    order = np.argsort(-values, kind="stable")
    last = np.flatnonzero(np.append(values[order][1:] != values[order][:-1], True))
    totals = np.concatenate([[0], np.cumsum(changes[order])[last]])
    return _between(values[order][last], int(totals.argmax()))


def _warn_of_missed(each: Sequence[tuple[str, _Curve, float]], objective: str, target: float) -> None:
    """Warn of labels whose threshold does not reach the target precision or recall."""
    missed = []
    for name, curve, threshold in each:
        score = curve.scores(objective)[(curve.values >= threshold).sum()]
        if score < target:
            missed.append(f"{quoted(name)} ({f'{score:.3f}' if curve.num_positives else 'no positive'})")
    if missed:
        warnings.warn(
            f"{len(missed)} of {len(each)} thresholds do not reach a {objective} of {target} on these data: "
            f"{', '.join(missed)}",
            stacklevel=3,
        )


def _check(logits: np.ndarray, labels: np.ndarray, label_names: Sequence[str] | None) -> None:
    if logits.shape != labels.shape or logits.ndim != 2:
        raise ValueError(
            f"logits have shape {logits.shape}, labels have shape {labels.shape}; both must be (rows, num_labels)"
        )
    num_labels = logits.shape[1]
    if label_names is not None and len(label_names) != num_labels:
        raise ValueError(f"label_names has {len(label_names)} names; the logits have {num_labels} labels")
    finite = np.isfinite(logits)
    if not finite.all():
        row, label = np.argwhere(~finite)[0]
        names = label_names if label_names is not None else generic_names(num_labels)
        raise ValueError(
            f"logits hold a value that is NaN or infinite: {logits[row, label]} in row {row} for "
            f"{shown_list([names[label]])}; was the model trained in float16, or did its loss diverge?"
        )


def _check_objective(objective: str, target: float | None, shrinkage: float | None) -> None:
    if objective not in OBJECTIVES:
        raise ValueError(f"objective is {objective!r}; it must be one of {OBJECTIVES}")
    if objective in ("precision", "recall") and not (target is not None and 0 < target <= 1):
        raise ValueError(f"target is {target}; for the objective '{objective}' it must be a number in (0, 1]")
    if objective not in ("precision", "recall") and target is not None:
        raise ValueError(f"target is {target}; leave it out for the objective '{objective}'")
    if shrinkage is not None and not shrinkage >= 0:
        raise ValueError(f"shrinkage is {shrinkage}; it must be 0 or more")
