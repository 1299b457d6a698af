"""Scores of labels ranked by their logits (extreme multi-label classification), with one batch in memory."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import EvalPrediction
from transformers.utils import logging

from .counting import count_labels
from .label_counts import LabelCounts
from .label_tensors import known_labels, wrong_labels
from .metrics import BatchwiseMetrics
from .scores import batches_of

logger = logging.get_logger(__name__)


def propensities(label_counts: LabelCounts | Mapping[str, Any], a: float = 0.55, b: float = 1.5) -> Tensor:
    """The probability that a label that applies was annotated; it is higher for frequent labels.

    `1 / (1 + C * (positives + b) ** -a)` with `C = (log(rows) - 1) * (b + 1) ** a`: Eq. 2 of Jain, Prabhu and Varma,
    "Extreme Multi-label Loss Functions for Recommendation, Tagging, Ranking & Other Missing Label Applications",
    KDD 2016.

    Args:
        label_counts: the counts of the training set; `rows` is the largest sum of positives and negatives of a label.
        a, b: above 0. The paper fits them to the data: 0.5 and 0.4 for Wikipedia, 0.6 and 2.6 for Amazon.

    Returns:
        float64, `(num_labels,)`, in (0, 1].

    Raises:
        ValueError: if `label_counts` has fewer than 3 rows (then `C` is negative), or `a` or `b` is not above 0.
    """
    counts = count_labels(label_counts)
    rows = max((counts.positives + counts.negatives).tolist(), default=0)
    if rows <= math.e:
        raise ValueError(f"label_counts has {rows} rows; propensities need 3 or more: count the whole training set")
    if not (a > 0 and b > 0):
        raise ValueError(f"a={a} and b={b} must both be above 0")
    c = (math.log(rows) - 1) * (b + 1) ** a
    weights: Tensor = 1 / (1 + c * (counts.positives.double() + b) ** -a)
    return weights


class RankingComputeMetrics(BatchwiseMetrics):
    """A `compute_metrics` for `Trainer` that scores the `k` labels with the highest logits of each row.

    With `batch_eval_metrics=True` in the training arguments it is called for each batch and stores only sums. Without
    it, `Trainer` collects the logits of all rows before the call.

        Trainer(..., compute_metrics=RankingComputeMetrics(label_counts))

    Rows without a known positive are left out, and unknown labels are not ranked. Logits that are NaN rank last, like
    minus infinity; labels with equal logits are in the order of `torch.topk`.

    A call takes logits (float, `(rows, num_labels)`) and labels (`(rows, num_labels)`: 1, 0, or unknown: NaN or -100),
    as arrays or tensors, or as tuples that begin with one. It returns {} unless `compute_result` is True. Then it
    returns these scores, in [0, 1], for each `k` of `top`, over all calls since the last result:

    - `precision_at_<k>`: positives among the first k, divided by k; mean over rows.
    - `recall_at_<k>`: positives among the first k, divided by the positives of the row; mean over rows.
    - `ndcg_at_<k>`: the sum of `1 / log2(rank + 1)` of the positives among the first k, divided by the highest
      possible sum; mean over rows.
    - `psp_at_<k>`: propensity-scored precision: the sum of the inverse propensities (see `propensities`) of the
      positives among the first k of all rows, divided by the highest possible sum.

    If no row has a positive, all scores are NaN, and a warning is logged. After an interrupted evaluation, `reset`
    drops the sums. A `PLMTrainer` starts each evaluation with new sums; if `label_counts` has names, it puts the
    propensities in the order of its model's labels.

    Args:
        label_counts: the counts of the training set, for the propensities.
        top: the values of `k`, each from 1 to `num_labels`.
        a, b: see `propensities`.

    Raises:
        ValueError: at construction, if `top` is empty or out of range, and the errors of `propensities`. In a call, if
            shapes differ, a label is neither 1, 0 nor unknown, or `label_counts` has a name that the model does not
            have; the sums are then dropped.
    """

    def __init__(
        self,
        label_counts: LabelCounts | Mapping[str, Any],
        top: Sequence[int] = (1, 3, 5),
        a: float = 0.55,
        b: float = 1.5,
    ):
        super().__init__(count_labels(label_counts))
        # float64 adds up float32 values without rounding, so psp is never above 1
        self.inverse_propensities = (1 / propensities(self.label_counts, a, b)).float()
        num_labels = self.label_counts.num_labels
        ranks = range(1, num_labels + 1)
        if not isinstance(top, Sequence) or not top or not all(isinstance(k, int) and k in ranks for k in top):
            raise ValueError(f"top is {top}; give a sequence of ranks from 1 to {num_labels}, the number of labels")
        self.top = tuple(top)
        positives, negatives = self.label_counts.positives, self.label_counts.negatives
        with_unseen = LabelCounts([*positives, 0], [*negatives, (positives + negatives).max()])
        self._inverse_of_unseen = (1 / propensities(with_unseen, a, b)).float()[-1:]

    def __call__(self, prediction: EvalPrediction, compute_result: bool = True) -> dict[str, float]:
        sums = self._take()  # the sums are dropped even if this call fails
        if sums is None:
            sums = torch.zeros(6, max(self.top), dtype=torch.float64)
        for logits, labels in batches_of(prediction[0], prediction[1]):
            sums += self._sums_of(_first_tensor(logits), _first_tensor(labels))
        if not compute_result:
            self._keep(sums)
            return {}
        precision, recall, ndcg, psp, best_psp, rows = sums[:, [k - 1 for k in self.top]]
        if not rows.any():
            logger.warning("No row has a positive label in the references: all ranking scores are NaN")
        scores = {"precision": precision / rows, "recall": recall / rows, "ndcg": ndcg / rows, "psp": psp / best_psp}
        return {f"{name}_at_{k}": values[i].item() for name, values in scores.items() for i, k in enumerate(self.top)}

    def _inverse_propensities(self) -> Tensor:
        """Float32, in the order of the evaluated model's labels; a label without counts has no positives."""
        record = self._record()
        if record is None:
            return self.inverse_propensities
        places = torch.from_numpy(self.places_of(record.label_counts))
        return torch.cat([self.inverse_propensities, self._inverse_of_unseen])[places]

    def _sums_of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sums over rows at each rank: precision, recall, nDCG, PSP, best PSP, and rows. Float64 `(6, max(top))`."""
        inverse_propensities = self._inverse_propensities()
        num_labels = len(inverse_propensities)
        if logits.shape != labels.shape or logits.shape[1:] != (num_labels,):
            raise ValueError(
                f"logits have shape {tuple(logits.shape)}, labels have shape {tuple(labels.shape)}; both must be "
                f"(rows, {num_labels}), as label_counts has {num_labels} labels"
            )
        labels = labels.to(logits.device)
        positive, known = labels == 1, known_labels(labels)
        if (wrong := wrong_labels(labels)).any():
            row, label = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"labels hold a value that is neither 1, 0 nor unknown (NaN or -100): {labels[row, label].item()} in "
                f"row {row} of the batch, label {label}"
            )
        k = max(self.top)
        first = _rank(logits, known, k)
        hits = positive.gather(1, first).cpu()
        inverse = inverse_propensities.to(logits.device)
        best_inverse = torch.where(positive, inverse, 0.0).topk(k).values.cpu()
        num_positives = positive.sum(1, keepdim=True, dtype=torch.int32).cpu()  # int64 needs twice the memory

        scored = num_positives[:, 0] > 0
        hits, num_positives = hits[scored].double(), num_positives[scored]
        ranks = torch.arange(1, k + 1)
        gains = 1 / torch.log2(ranks.double() + 1)
        found = hits.cumsum(1)
        at_each_rank = [  # shape of each: (scored rows, k)
            found / ranks,
            found / num_positives,
            (hits * gains).cumsum(1) / ((ranks <= num_positives) * gains).cumsum(1),
            (hits * inverse_propensities[first.cpu()[scored]]).cumsum(1),
            best_inverse[scored].double().cumsum(1),
            torch.ones_like(hits),
        ]
        return torch.stack([values.sum(0) for values in at_each_rank])


def _rank(logits: Tensor, known: Tensor, k: int) -> Tensor:
    """The first `k` labels of each row, int64 `(rows, k)`: known ones by decreasing logits, then unknown ones."""
    lowest = torch.finfo(logits.dtype).min
    ranking = logits.nan_to_num(nan=lowest, posinf=math.inf, neginf=lowest).masked_fill_(~known, -math.inf)
    return ranking.topk(k).indices


def _first_tensor(values: Any) -> Tensor:
    """A tensor from a tensor, an array, or a tuple that begins with one; it shares the memory of an array."""
    return torch.as_tensor(values[0] if isinstance(values, tuple) else values)
