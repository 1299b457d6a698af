"""From probabilities to decisions: thresholds chosen on held-out data."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import expit
from torch import Tensor
from transformers import PreTrainedModel

OBJECTIVES = ("macro_f1", "micro_f1", "precision", "recall")


def tune_thresholds(
    logits: ArrayLike,
    labels: ArrayLike,
    objective: str = "macro_f1",
    target: float | None = None,
    per_label: bool = True,
    shrinkage: float = 10.0,
) -> np.ndarray:
    """Thresholds for which predictions on held-out data score best.

    Choose them on data that the model was not trained on and that you do not report on.

    Args:
        logits (float, `(rows, num_labels)`): raw scores.
        labels (`(rows, num_labels)`): 1, 0, or unknown (NaN or -100).
        objective: `macro_f1` or `micro_f1`: the highest; `precision`: the highest recall among the thresholds with a
            precision of at least `target`, else the highest precision; `recall`: the highest threshold with a recall
            of at least `target`.
        target: the wanted precision or recall, in (0, 1]; None for the others.
        per_label: a threshold for each label; False for one for all.
        shrinkage: draws a label's threshold (as a logit) towards the one for all: with so many positives it goes half
            way, with fewer further; 0 not at all. A label without positives has the one for all.

    Returns:
        float64, `(num_labels,)`: a label is predicted where its probability is at least its threshold.

    Raises:
        ValueError: for an unknown objective, a target that is missing, superfluous or out of range, shapes that
            differ, or labels without a positive.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    _check(logits, labels, objective, target, shrinkage)
    known = (labels == 1) | (labels == 0)
    curves = [_Curve(logits[rows, label], labels[rows, label] == 1) for label, rows in enumerate(known.T)]
    pooled = _Curve(logits[known], labels[known] == 1)
    best_micro_f1 = _best_micro_f1(curves) if objective == "micro_f1" else 0.0

    def best(curve: _Curve, f1: np.ndarray) -> float:
        if objective in ("precision", "recall"):
            return curve.threshold(curve.reach(objective, target or 0))
        return curve.threshold(int(f1.argmax()))

    common = _best_common_macro_f1(curves) if objective == "macro_f1" else best(pooled, pooled.f1())
    thresholds = np.full(len(curves), common)
    for label, curve in enumerate(curves):
        if per_label and curve.num_positives:
            share = curve.num_positives / (curve.num_positives + shrinkage)
            own = best(curve, curve.gain(best_micro_f1) if objective == "micro_f1" else curve.f1())
            thresholds[label] = share * own + (1 - share) * common
    return expit(thresholds)


def predict(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> list[list[str]]:
    """The names of the labels that a trained model predicts for each row.

    A label is predicted where its probability is at least its threshold in `model.config.plm_thresholds`, 0.5 without
    any; a single-label model predicts its most probable class. The model is put into evaluation mode.

    Args:
        inputs: of the model, as tokenizers and image processors give them with `return_tensors="pt"`.
    """
    model.eval()
    with torch.inference_mode():
        logits = model(**inputs).logits.float()
    config: Any = model.config
    if config.problem_type == "single_label_classification":
        return [[config.id2label[index]] for index in logits.argmax(-1).tolist()]
    thresholds = getattr(config, "plm_thresholds", None) or [0.5] * config.num_labels
    predicted = torch.sigmoid(logits) >= torch.tensor(thresholds, device=logits.device)
    return [[config.id2label[index] for index in row.nonzero().flatten().tolist()] for row in predicted]


class _Curve:
    """Some predictions, accepted one value after the other from the highest logit on; at index i, the i highest.

    Attributes:
        values (float64, `(num_values,)`): the distinct logits, falling.
        hits, predicted (int64, `(num_values + 1,)`): true positives and predictions at each index.
        num_positives: positives in all.
    """

    def __init__(self, logits: np.ndarray, positive: np.ndarray):
        order = np.argsort(-logits, kind="stable")
        last = np.flatnonzero(np.append(logits[order][1:] != logits[order][:-1], [True] * (len(order) > 0)))
        self.values = logits[order][last]
        self.hits = np.concatenate([[0], np.cumsum(positive[order])[last]])
        self.predicted = np.concatenate([[0], last + 1])
        self.num_positives = int(positive.sum())

    def f1(self) -> np.ndarray:
        return 2 * self.hits / np.maximum(self.predicted + self.num_positives, 1)

    def gain(self, f1: float) -> np.ndarray:
        """`2 * hits - f1 * (predicted + positives)`: its sum over the labels is 0 at most, at the best micro-F1."""
        return 2 * self.hits - f1 * (self.predicted + self.num_positives)

    def reach(self, objective: str, target: float) -> int:
        """The index with the wanted precision or recall."""
        if objective == "recall":
            return int((self.hits >= target * self.num_positives).argmax())
        precision = self.hits / np.maximum(self.predicted, 1)
        reached = np.flatnonzero(precision >= target)
        return int(reached[-1] if len(reached) else precision.argmax())

    def threshold(self, index: int) -> float:
        """A logit that lies between the values at and behind an index."""
        return _between(self.values, index)


def _between(values: np.ndarray, index: int) -> float:
    if index == 0:
        return values[0] + 1
    return (values[index - 1] + values[index]) / 2 if index < len(values) else values[-1] - 1


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
    """The threshold for all labels with the highest macro-F1, as a logit."""
    values = np.concatenate([curve.values for curve in curves])
    changes = np.concatenate([np.diff(curve.f1()) for curve in curves])
    order = np.argsort(-values, kind="stable")
    last = np.flatnonzero(np.append(values[order][1:] != values[order][:-1], True))
    totals = np.concatenate([[0], np.cumsum(changes[order])[last]])
    return _between(values[order][last], int(totals.argmax()))


def _check(logits: np.ndarray, labels: np.ndarray, objective: str, target: float | None, shrinkage: float) -> None:
    if logits.shape != labels.shape or logits.ndim != 2:
        raise ValueError(f"logits have shape {logits.shape}, labels {labels.shape}; both must be (rows, num_labels)")
    if not np.isfinite(logits).all():
        raise ValueError("logits hold a value that is NaN or infinite")
    if not (labels == 1).any():
        raise ValueError("no label has a positive; thresholds cannot be chosen")
    if objective not in OBJECTIVES:
        raise ValueError(f"objective is {objective!r}; it must be one of {OBJECTIVES}")
    if objective in ("precision", "recall") and not (target is not None and 0 < target <= 1):
        raise ValueError(f"target is {target}; for the objective '{objective}' it must be a number in (0, 1]")
    if objective not in ("precision", "recall") and target is not None:
        raise ValueError(f"target is {target}; the objective '{objective}' has none")
    if not shrinkage >= 0:
        raise ValueError(f"shrinkage is {shrinkage}; it must be 0 or more")
