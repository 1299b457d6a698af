"""The rules by which the ideal ratios adapt to the histograms of the model's predictions.

All functions work on tensors, as in `functional.py`, and read nothing back to the host.
"""

import math

import torch
from torch import Tensor

from .functional import bound_ideal_ratio

EPSILON = 1e-7
"""Floor for the empty bins of the true distribution in `label_divergences`."""

DRIFT_BOUND = 5.0
"""The `marginal` rule moves an ideal ratio by at most this factor, up or down, from where it started."""

PSEUDO_COUNT = 5.0
"""The `marginal` rule adds this to the numbers of positives and of predictions of a class."""


def label_divergences(histograms: Tensor) -> tuple[Tensor, Tensor]:
    """`KL(predicted || truth)` over the positives and over the negatives of each class.

    The truth has all its mass in the last bin for positives, and in the first for negatives; its empty bins are set to
    `EPSILON`. Up to a constant factor the result is the probability mass outside the right bin.

    Args:
        histograms (int, `(2, num_labels, num_bins)`).

    Returns:
        two float32 tensors `(num_labels,)`; 0 where the histogram is empty.
    """
    counts = histograms.float()
    predicted = counts / counts.sum(-1, keepdim=True).clamp(min=1)
    truth = torch.full_like(predicted, EPSILON)
    truth[0, :, -1] = 1
    truth[1, :, 0] = 1
    divergences = (torch.xlogy(predicted, predicted) - torch.xlogy(predicted, truth)).sum(-1)
    return divergences[0], divergences[1]


def standardize(values: Tensor, valid: Tensor) -> Tensor:
    """z-scores over the valid classes, with the population standard deviation; 0 if all values are equal.

    Args:
        values (float, `(num_labels,)`), valid (bool, `(num_labels,)`): the classes that count; others get 0.
    """
    count = valid.sum().clamp(min=1)
    centred = torch.where(valid, values - (values * valid).sum() / count, 0.0)
    deviation = (centred.square().sum() / count).sqrt()
    has_spread = deviation > 1e-6 * (values * valid).abs().amax()  # a smaller one is rounding error
    return torch.where(has_spread, centred / torch.where(has_spread, deviation, 1.0), 0.0)


def kl_factor(histograms: Tensor, valid: Tensor, change_rate: float) -> Tensor:
    """The paper's rule: `exp(change_rate * (zscore(D_pos) - zscore(D_neg)))`, float32 `(num_labels,)`.

    If positives are predicted worse than negatives, the class is under-predicted, and its ideal ratio rises.
    """
    positive_divergence, negative_divergence = label_divergences(histograms)
    return torch.exp(change_rate * (standardize(positive_divergence, valid) - standardize(negative_divergence, valid)))


def predicted_positives(histograms: Tensor) -> Tensor:
    """How often each class was predicted (`p >= 0.5`), int32 `(num_labels,)`.

    With an odd number of bins 0.5 is not an edge, and the whole middle bin counts as predicted.
    """
    return histograms[..., histograms.shape[-1] // 2 :].sum((0, -1), dtype=torch.int32)


def separation(histograms: Tensor) -> Tensor:
    """How well the model tells the positives of each class from its negatives: `2 AUC - 1`, at least 0.

    AUC is the area under the ROC curve: the share of pairs of a positive and a negative in which the positive is in
    the higher bin. A pair in the same bin counts half.

    Returns:
        float32, `(num_labels,)`: 0 if the model has not learnt the class, 1 if it makes no mistakes; 0 where a
        histogram is empty.
    """
    positives, negatives = histograms.float()
    bins = torch.arange(histograms.shape[-1], device=histograms.device)
    order = (bins[:, None] - bins).sign().float()  # 1: the positive is in the higher bin; -1: the negative is
    num_pairs = positives.sum(-1) * negatives.sum(-1)
    difference: Tensor = ((positives @ order) * negatives).sum(-1) / num_pairs.clamp(min=1)
    return difference.clamp(0, 1)


def marginal_factor(histograms: Tensor, change_rate: float) -> Tensor:
    """The `marginal` rule: `(positives / predicted positives) ** (change_rate * separation)`, float32 `(num_labels,)`.

    It minimises the KL divergence between the predicted and the true marginal distribution of each label. Its fixed
    point is a class that is predicted (`p >= 0.5`) as often as it occurs. `PSEUDO_COUNT` is added to both numbers, so
    that few positives change little. A class that the model has not learnt yet (`separation`) is predicted by
    accident, and its ideal ratio does not change. `num_bins` must be even, so that 0.5 is an edge.
    """
    if histograms.shape[-1] % 2:
        raise ValueError(f"histograms have {histograms.shape[-1]} bins; the rule 'marginal' needs an even number")
    positives = histograms[0].sum(-1, dtype=torch.int32)
    error = (positives + PSEUDO_COUNT) / (predicted_positives(histograms) + PSEUDO_COUNT)
    return error ** (change_rate * separation(histograms))


def update_ideal_ratio(
    ideal_ratio: Tensor,
    initial: Tensor,
    ratio: Tensor,
    valid: Tensor,
    histograms: Tensor,
    rule: str,
    change_rate: float,
    max_shift: float,
    num_updates: int,
) -> Tensor:
    """The ideal ratios I after an update.

    The rule `marginal` accumulates errors faster than the model can react to them. To prevent oscillation and drift,
    its steps shrink with the square root of the number of updates, and `DRIFT_BOUND` limits the total change. A class
    keeps its ideal ratio, and is left out of the z-scores, if the data have no positive or no negative of it
    (`valid`), or if the histograms have none.

    Args:
        ideal_ratio, initial, ratio (float, `(num_labels,)`): I, I at the start, and R.
        valid (bool, `(num_labels,)`): see `has_ratio`.
        histograms (int, `(2, num_labels, num_bins)`): the measurements since the last update.
        rule: `"marginal"`, `"kl"` or `"fixed"`.
        change_rate: the paper's lambda; 0 does not change the ideal ratios.
        max_shift: see `bound_ideal_ratio`.
        num_updates: the number of updates before this one.

    Returns:
        float32, `(num_labels,)`.
    """
    seen = histograms.sum(-1, dtype=torch.int32) > 0  # (2, num_labels)
    valid = valid & seen[0] & seen[1]
    if rule == "kl":
        updated = ideal_ratio * kl_factor(histograms, valid, change_rate)
    elif rule == "marginal":
        updated = ideal_ratio * marginal_factor(histograms, change_rate / math.sqrt(num_updates + 1))
        updated = torch.clamp(updated, initial / DRIFT_BOUND, initial * DRIFT_BOUND)
    else:
        return ideal_ratio.clone()
    return torch.where(valid, bound_ideal_ratio(updated, ratio, max_shift), ideal_ratio)
