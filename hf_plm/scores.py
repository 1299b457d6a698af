"""Multi-label scores of arrays: for each label, overall, and for head, medium and tail labels."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from transformers.utils import logging

from .label_space import generic_names, shown_list

logger = logging.get_logger(__name__)

Groups = Mapping[str, Tensor | np.ndarray]


@dataclass(frozen=True)
class LabelScores:
    """The scores of each label, as arrays `(num_labels,)`.

    Attributes:
        precision, recall, f1, average_precision (float64): in [0, 1]; NaN for a label that has no positive in the
            references, or whose score is NaN in a row where the label is known. The precision of a label that is
            never predicted is 0.
        positives (int64): the number of rows in which each label is positive.
        predicted (int64): the number of rows in which each label is known and predicted.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    average_precision: np.ndarray
    positives: np.ndarray
    predicted: np.ndarray


def label_scores(scores: ArrayLike, references: ArrayLike, threshold: ArrayLike = 0.5) -> LabelScores:
    """Scores of each label, computed by scikit-learn. Arguments and errors are those of `multilabel_scores`."""
    return score_labels(decide(scores, references, threshold))


def multilabel_scores(
    scores: ArrayLike, references: ArrayLike, groups: Groups, threshold: ArrayLike = 0.5
) -> dict[str, float]:
    """Scores of predictions against multi-hot labels, computed by scikit-learn.

    Micro scores and exact match use every known label. Macro scores, mAP, groups and `labels_never_predicted` leave
    out labels that have no positive in `references`. Macro scores and group scores are means over labels; the
    precision of a label that is never predicted counts as 0. Unknown entries are ignored.

    Results that cannot be computed are NaN: those of a group in which no label has a positive; without any positive,
    all but `exact_match`; and if a score is NaN where its label is known, micro scores, exact match, and all means
    that include this label. In the last two cases a warning is logged.

    Args:
        scores (float, `(rows, num_labels)`): probabilities or logits; they may be infinite.
        references (`(rows, num_labels)`): 1, 0, or unknown (NaN or -100).
        groups: name -> bool mask `(num_labels,)`, as from `LabelCounts.groups`.
        threshold: a label is predicted if its score is at least this; on the scale of the scores; one number, or one
            for each label.

    Returns:
        `map` (mean average precision), `micro_f1`, `macro_f1`, `exact_match` (the share of the rows with a known label
        that have no error), `micro_precision`, `micro_recall`, `macro_precision`, `macro_recall`, all in [0, 1];
        `labels_never_predicted` (how many); and for each group `<name>_precision`, `<name>_recall`, `<name>_f1`,
        `<name>_map`.

    Raises:
        ValueError: if shapes differ, or a reference is neither 1, 0 nor unknown.
    """
    decided = decide(scores, references, threshold)
    return summarize(score_labels(decided), decided, groups)


def detail_scores(groups: Iterable[str]) -> set[str]:
    """The names of the results of `multilabel_scores` that a short log leaves out.

    The rest are the most useful few: `map` measures the ranking; `micro_f1` weights all entries equally, `macro_f1`
    all labels; the F1 of each group shows which labels are weak, and `labels_never_predicted` why.
    """
    overall = {"exact_match", "micro_precision", "micro_recall", "macro_precision", "macro_recall"}
    return overall | {f"{group}_{score}" for group in groups for score in ("precision", "recall", "map")}


@dataclass(frozen=True)
class Decided:
    """Scores, which labels are known, and which of these are positive and predicted, all `(rows, num_labels)`.

    Attributes:
        has_nan (bool, `(num_labels,)`): whether a label has a score that is NaN where the label is known.
    """

    scores: np.ndarray
    positive: np.ndarray
    known: np.ndarray
    predicted: np.ndarray
    has_nan: np.ndarray


def decide(
    scores: ArrayLike, references: ArrayLike, threshold: ArrayLike, label_names: Sequence[str] | None = None
) -> Decided:
    """Compare scores with thresholds. Raises and warns as `multilabel_scores`, with names for the labels."""
    scores, references = np.asarray(scores), np.asarray(references)
    scores = scores if scores.dtype.kind == "f" else scores.astype(np.float64)
    if scores.shape != references.shape or scores.ndim != 2:
        raise ValueError(
            f"scores have shape {scores.shape}, references {references.shape}; both must be (rows, labels)"
        )
    positive, known = read_references(references, "references", label_names)
    limits = one_for_each(threshold, scores.shape[1])
    has_nan = (np.isnan(scores) & known).any(0)
    if has_nan.any():
        names = label_names if label_names is not None else generic_names(len(has_nan))
        broken = [name for name, is_broken in zip(names, has_nan, strict=True) if is_broken]
        logger.warning(
            f"The model's output is NaN for {len(broken)} of {len(names)} labels: {shown_list(broken)}. Their scores "
            "are NaN, and so are micro scores, exact match and all means that include them"
        )
    if not positive.any():
        logger.warning("No label has a positive in the references: scores that need one are NaN")
    return Decided(scores, positive, known, (scores >= limits) & known, has_nan)


def score_labels(decided: Decided) -> LabelScores:
    """Compute what `label_scores` returns."""
    scored = decided.positive.any(0) & ~decided.has_nan
    each = _precision_recall_f1(decided.positive, decided.predicted, average=None)
    precision, recall, f1 = (np.where(scored, values[:-1], np.nan) for values in each)
    from sklearn.metrics import average_precision_score  # takes a second to import

    average_precision = np.full(scored.shape, np.nan)
    for label in np.flatnonzero(scored):
        rows = decided.known[:, label]
        average_precision[label] = average_precision_score(
            decided.positive[rows, label], _finite(decided.scores[rows, label])
        )
    return LabelScores(precision, recall, f1, average_precision, decided.positive.sum(0), decided.predicted.sum(0))


def summarize(each: LabelScores, decided: Decided, groups: Groups) -> dict[str, float]:
    """Compute what `multilabel_scores` returns, from the scores of each label."""
    kept = each.positives > 0
    has_nan, nothing_kept = decided.has_nan, not kept.any()
    micro = np.array(_precision_recall_f1(decided.positive, decided.predicted, average="micro"))
    if has_nan.any() or (nothing_kept and not decided.predicted.any()):
        micro[:] = np.nan
    elif nothing_kept:
        micro[1] = np.nan  # recall needs a positive
    micro_precision, micro_recall, micro_f1 = micro
    exact = (decided.predicted == decided.positive).all(1)[decided.known.any(1)]
    results: dict[str, Any] = {
        "map": _mean(each.average_precision[kept]),
        "micro_f1": micro_f1,
        "macro_f1": _mean(each.f1[kept]),
        "exact_match": np.nan if has_nan.any() else _mean(exact),
        "micro_precision": micro_precision,
        "micro_recall": micro_recall,
        "macro_precision": _mean(each.precision[kept]),
        "macro_recall": _mean(each.recall[kept]),
        "labels_never_predicted": np.nan if has_nan[kept].any() or nothing_kept else (each.predicted[kept] == 0).sum(),
    }
    per_label = {"precision": each.precision, "recall": each.recall, "f1": each.f1, "map": each.average_precision}
    for name, mask in groups.items():
        members = np.asarray(mask, bool)
        if members.shape != kept.shape:
            raise ValueError(f"the group '{name}' has shape {members.shape}; there are {len(kept)} labels")
        results |= {f"{name}_{key}": _mean(values[members & kept]) for key, values in per_label.items()}
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in results.items()}


def read_references(
    references: np.ndarray, argument: str, label_names: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Two bool arrays of the shape of `references`: where labels are positive, and where they are known.

    Args:
        argument: the name of the references in messages.

    Raises:
        ValueError: if a label is neither 1, 0 nor unknown (NaN or -100).
    """
    values = references.astype(np.float64) if references.dtype == object else references
    positive = values == 1
    known = positive | (values == 0)
    wrong = ~(known | (values != values) | (values == -100))
    if wrong.any():
        row, label = np.argwhere(wrong)[0]
        name = label_names[label] if label_names is not None else f"LABEL_{label}"
        raise ValueError(
            f"{argument} hold a value that is neither 1, 0 nor unknown (NaN or -100): {values[row, label]} in row "
            f"{row} for {shown_list([name])}"
        )
    return positive, known


def labels_digest(references: ArrayLike) -> str:
    """The SHA-256 of multi-hot labels, as hexadecimal text; dtype and order of the rows make no difference.

    Raises as `read_references`.
    """
    positive, known = read_references(np.asarray(references), "labels")
    marks = np.where(known, positive, 2).astype(np.uint8)
    rows = sorted(row.tobytes() for row in marks)
    return hashlib.sha256(f"{marks.shape}".encode() + b"".join(rows)).hexdigest()


def first_array(values: Any) -> np.ndarray:
    """An array from an array, a tensor, or the first element of a tuple (from a model that returns more than logits).

    No value changes; bfloat16, which NumPy lacks, becomes float32.
    """
    first = values[0] if isinstance(values, tuple) else values
    if isinstance(first, Tensor):
        first = first.detach().cpu()
        first = (first.float() if first.dtype == torch.bfloat16 else first).numpy()
    return np.asarray(first)


def batches_of(logits: Any, labels: Any) -> list[tuple[Any, Any]]:
    """Pairs of logits and labels `(rows, num_labels)`: one pair, or one per batch if both are lists.

    They are lists with `eval_do_concat_batches=False`.
    """
    if isinstance(labels, list) and all(np.ndim(batch) == 2 for batch in labels):
        return list(zip(logits, labels, strict=True))
    return [(logits, labels)]


def one_for_each(threshold: ArrayLike, num_labels: int) -> np.ndarray:
    """A threshold for each label, float64; rounding one could move it to the other side of a score."""
    limits = np.asarray(threshold, np.float64)
    if limits.shape not in ((), (num_labels,)):
        raise ValueError(
            f"threshold has shape {limits.shape}; give one number, or one for each of {num_labels} labels"
        )
    return np.broadcast_to(limits, (num_labels,))


def _finite(scores: np.ndarray) -> np.ndarray:
    """Finite scores with the same ranking, float64, because scikit-learn refuses infinite ones."""
    scores = scores.astype(np.float64)
    return scores if np.isfinite(scores).all() else np.unique(scores, return_inverse=True)[1]


def _precision_recall_f1(positive: np.ndarray, predicted: np.ndarray, average: str | None) -> tuple[np.ndarray, ...]:
    """Call scikit-learn with an empty row and column added: it needs rows, and would read one label as two classes."""
    from sklearn.metrics import precision_recall_fscore_support  # takes a second to import

    truth, guess = (np.pad(values, (0, 1)) for values in (positive, predicted))
    precision, recall, f1, _ = precision_recall_fscore_support(truth, guess, average=average, zero_division=0)
    return precision, recall, f1


def _mean(values: np.ndarray) -> float:
    return values.mean() if len(values) else np.nan
