"""The equations of Partial Label Masking as pure tensor functions.

Source: K. Duarte, Y. S. Rawat, M. Shah, "PLM: Partial Label Masking for Imbalanced Multi-label Classification",
CVPR Workshops 2021 (arXiv 2105.10782). Names are the paper's: `ratio` is R, `ideal_ratio` is R with a hat, here I.
This file needs torch alone. Nothing in it reads a value back to the host.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .label_tensors import known_labels

EPSILON = 1e-7
"""Floor for the empty bins of the true distribution in `label_divergences`."""

FACTOR_BOUND = 5.0
"""The `marginal` rule changes an ideal ratio by at most this factor, up or down, in one update."""


def has_ratio(positives: Tensor, negatives: Tensor) -> Tensor:
    """Which classes have both positives and negatives. The others keep every label. Bool, `(num_labels,)`."""
    return (positives > 0) & (negatives > 0)


def label_ratio(positives: Tensor, negatives: Tensor) -> Tensor:
    """R: positives per negative of each class, float32 `(num_labels,)`; 1 for a class that lacks either."""
    ratio = positives.float() / negatives.float().clamp(min=1)
    return torch.where(has_ratio(positives, negatives), ratio, 1.0)


def initial_ideal_ratio(ratio: Tensor, valid: Tensor, start: str | float, temper: float, max_shift: float) -> Tensor:
    """I before the first update, float32 `(num_labels,)`.

    Args:
        ratio (float, `(num_labels,)`): R.
        valid (bool, `(num_labels,)`): `has_ratio`; the ideal ratio of the other classes is their `ratio`.
        start: `"tempered"` (`R ** temper`), `"mean"` (the mean R of the valid classes, the paper's start),
            `"dataset"` (R itself: nothing is masked), or one positive number for all classes.
        temper: the exponent, from 0 (every class balanced) to 1 (the data as they are).
        max_shift: see `bound_ideal_ratio`.
    """
    if start == "tempered":
        ideal_ratio = ratio**temper
    elif start == "mean":
        ideal_ratio = (ratio * valid).sum() / valid.sum().clamp(min=1)
    elif start == "dataset":
        ideal_ratio = ratio
    else:
        ideal_ratio = torch.as_tensor(float(start), device=ratio.device)
    return bound_ideal_ratio(torch.where(valid, ideal_ratio, ratio), ratio, max_shift)


def bound_ideal_ratio(ideal_ratio: Tensor, ratio: Tensor, max_shift: float) -> Tensor:
    """I held within `[R / max_shift, R * max_shift]`: neither rule may run away."""
    return torch.clamp(ideal_ratio, ratio / max_shift, ratio * max_shift)


def keep_probabilities(ratio: Tensor, ideal_ratio: Tensor) -> tuple[Tensor, Tensor]:
    """With which probability a positive and a negative of each class enter the loss.

    `min(1, I / R)` for positives and `min(1, R / I)` for negatives, so that
    `E[kept positives] / E[kept negatives] = I`.

    Returns:
        two float tensors `(num_labels,)` in `(0, 1]`; at least one of the two is 1 for every class.
    """
    return (ideal_ratio / ratio).clamp(max=1), (ratio / ideal_ratio).clamp(max=1)


def log_odds_shift(ratio: Tensor, ideal_ratio: Tensor) -> Tensor:
    """`log(I / R)`: by how much training at the ratio I instead of R raises the log-odds of a class.

    Returns:
        float32, `(num_labels,)`; exactly 0 where I is R, as it is for the classes that have no ratio.
    """
    return torch.log(ideal_ratio / ratio)


def scramble(values: Tensor) -> Tensor:
    """Each number mapped to another that looks random, one to one: the integer hash `lowbias32`. int32 to int32.

    Source: C. Wellons, "Prospecting for Hash Functions", 2018.
    """
    values = (values ^ ((values >> 16) & 0xFFFF)) * 0x7FEB352D
    values = (values ^ ((values >> 15) & 0x1FFFF)) * (0x846CA68B - 2**32)
    return values ^ ((values >> 16) & 0xFFFF)


def uniform_draws(row_seeds: Tensor, label_seeds: Tensor) -> Tensor:
    """A random number for every entry: a function of the seeds of its row and of its label alone, on every device.

    Args:
        row_seeds (int32, `(batch,)`), label_seeds (int32, `(num_labels,)`): random bits, none twice.

    Returns:
        float32, `(batch, num_labels)`: multiples of `2 ** -24` in [0, 1).
    """
    return ((scramble(row_seeds[:, None] ^ label_seeds) >> 8) & 0xFFFFFF).float() * 2**-24


def sample_mask(labels: Tensor, keep_positive: Tensor, keep_negative: Tensor, draws: Tensor) -> Tensor:
    """g: which labels of a batch enter the loss, drawn anew for every batch.

    Args:
        labels (float, `(batch, num_labels)`): 1, 0, or unknown (NaN or -100): unknown labels are never kept.
        keep_positive, keep_negative (float, `(num_labels,)`): see `keep_probabilities`.
        draws (float, `(batch, num_labels)`): uniform in [0, 1), see `uniform_draws`.

    Returns:
        bool, `(batch, num_labels)`.
    """
    return (draws < torch.where(labels == 1, keep_positive, keep_negative)) & known_labels(labels)


def masked_total(
    logits: Tensor, labels: Tensor, kept: Tensor, objective: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The sum of an element-wise objective over the labels that are kept, and the objective of every entry.

    What is masked is taken out before and after, so that no gradient can come of it (0 * inf is NaN).

    Args:
        logits (float, `(batch, num_labels)`), labels (float, the same shape), kept (bool, the same shape).
        objective: `(logits, labels) -> (batch, num_labels)`.

    Returns:
        a scalar, and float `(batch, num_labels)`.

    Raises:
        ValueError: if the objective's output is not of the shape of `logits`.
    """
    losses = objective(logits.masked_fill(~kept, 0), labels.masked_fill(~known_labels(labels), 0))
    check_losses(losses, logits)
    return losses.masked_fill(~kept, 0).sum(-1).sum(), losses


def check_losses(losses: Tensor, logits: Tensor) -> None:
    """Raise a ValueError unless an objective's output has the shape of the logits."""
    if losses.shape != logits.shape:
        raise ValueError(
            f"the objective returned the shape {tuple(losses.shape)} for logits of {tuple(logits.shape)}; it must "
            "return the loss of every entry (in PyTorch: reduction='none')"
        )


def count_nonfinite(logits: Tensor, labels: Tensor, losses: Tensor) -> Tensor:
    """Of how many known labels the logit or the loss is NaN or infinite. int64, `()`.

    Args:
        logits, labels, losses (float, `(batch, num_labels)`).
    """
    return (known_labels(labels) & ~(is_finite(logits) & is_finite(losses))).sum(-1).sum()


def is_finite(values: Tensor) -> Tensor:
    """`torch.isfinite`, in terms that the compiler vectorizes. Bool, the shape of `values`."""
    return values.abs() < torch.inf


def probability_bins(logits: Tensor, num_bins: int) -> Tensor:
    """In which of `num_bins` equal bins over `[0, 1]` the probability of each finite logit lies; 1 in the last.

    (The sigmoid is written with a power of 2, because the compiler for the CPU writes every `exp` to memory whose
    result it needs twice.)

    Returns:
        int32, the shape of `logits`.
    """
    probabilities = 1 / (1 + torch.exp2(logits.float() * -math.log2(math.e)))
    return (probabilities * num_bins).int().clamp(max=num_bins - 1)


def probability_histograms(logits: Tensor, labels: Tensor, num_bins: int) -> Tensor:
    """Histograms of the predicted probabilities over the positives and over the negatives of each class.

    `num_bins` equal bins over `[0, 1]`; a probability of 1 falls into the last. Unknown labels and logits that are
    NaN or infinite are not counted.

    Args:
        logits (float, `(batch, num_labels)`), labels (float, `(batch, num_labels)`).

    Returns:
        int32, `(2, num_labels, num_bins)`: `[0]` of the positives, `[1]` of the negatives.
    """
    num_labels = logits.shape[-1]
    counted = known_labels(labels) & is_finite(logits)
    bins = probability_bins(logits.detach().masked_fill(~counted, 0), num_bins).long()
    rows = torch.arange(num_labels, device=logits.device) + num_labels * (labels != 1)  # row of (2 * num_labels)
    histograms = torch.zeros(2 * num_labels * num_bins, dtype=torch.int32, device=logits.device)
    histograms.scatter_add_(0, (rows * num_bins + bins).flatten(), counted.flatten().int())
    return histograms.view(2, num_labels, num_bins)


def label_divergences(histograms: Tensor) -> tuple[Tensor, Tensor]:
    """`KL(predicted || truth)` over the positives and over the negatives of each class.

    The truth has all its mass in the last bin for positives, in the first for negatives; its empty bins are floored
    at `EPSILON`. Up to a constant factor this is the probability mass outside the right bin.

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
    """z-scores over the valid classes, with the population standard deviation; 0 where there is no spread.

    Args:
        values (float, `(num_labels,)`), valid (bool, `(num_labels,)`): the classes that take part; 0 for the others.
    """
    count = valid.sum().clamp(min=1)
    centred = torch.where(valid, values - (values * valid).sum() / count, 0.0)
    deviation = (centred.square().sum() / count).sqrt()
    has_spread = deviation > 1e-6 * (values * valid).abs().amax()  # less is rounding
    return torch.where(has_spread, centred / torch.where(has_spread, deviation, 1.0), 0.0)


def kl_factor(histograms: Tensor, valid: Tensor, change_rate: float) -> Tensor:
    """The paper's rule: `exp(change_rate * (zscore(D_pos) - zscore(D_neg)))`, float32 `(num_labels,)`.

    Positives predicted worse than negatives: the class is under-predicted and its ideal ratio rises.
    """
    positive_divergence, negative_divergence = label_divergences(histograms)
    return torch.exp(change_rate * (standardize(positive_divergence, valid) - standardize(negative_divergence, valid)))


def predicted_positives(histograms: Tensor) -> Tensor:
    """How often each class was predicted (`p >= 0.5`), int32 `(num_labels,)`.

    With an odd number of bins 0.5 is no edge: what lies in the middle bin counts as predicted.
    """
    return histograms[..., histograms.shape[-1] // 2 :].sum((0, -1), dtype=torch.int32)


def marginal_factor(histograms: Tensor, change_rate: float) -> Tensor:
    """The rule with a fixed point: `(positives / predicted positives) ** change_rate`, float32 `(num_labels,)`.

    It minimises the KL divergence between the predicted and the true marginal distribution of each label, and stops
    when a class is predicted (`p >= 0.5`) as often as it occurs. `num_bins` must be even, so that 0.5 is an edge.
    The factor lies within `[1 / FACTOR_BOUND, FACTOR_BOUND]`.
    """
    if histograms.shape[-1] % 2:
        raise ValueError(f"histograms have {histograms.shape[-1]} bins; the rule 'marginal' needs an even number")
    positives = histograms[0].sum(-1, dtype=torch.int32)
    factor = (positives / predicted_positives(histograms).clamp(min=0.5)) ** change_rate
    return factor.clamp(1 / FACTOR_BOUND, FACTOR_BOUND)


def update_ideal_ratio(
    ideal_ratio: Tensor,
    ratio: Tensor,
    valid: Tensor,
    histograms: Tensor,
    rule: str,
    change_rate: float,
    max_shift: float,
) -> Tensor:
    """I after an epoch.

    A class keeps its ideal ratio, and takes no part in the z-scores, if the data hold no positive or no negative
    of it (`valid`), or if the epoch showed none of the one or the other.

    Args:
        ideal_ratio, ratio (float, `(num_labels,)`), valid (bool, `(num_labels,)`): see `has_ratio`.
        histograms (int, `(2, num_labels, num_bins)`): what the epoch measured.
        rule: `"marginal"`, `"kl"` or `"fixed"`.
        change_rate: lambda of the paper; 0 leaves the ideal ratios as they are.
        max_shift: see `bound_ideal_ratio`.

    Returns:
        float32, `(num_labels,)`.
    """
    seen = histograms.sum(-1, dtype=torch.int32) > 0  # (2, num_labels)
    valid = valid & seen[0] & seen[1]
    if rule == "kl":
        factor = kl_factor(histograms, valid, change_rate)
    elif rule == "marginal":
        factor = marginal_factor(histograms, change_rate)
    else:
        return ideal_ratio.clone()
    return torch.where(valid, bound_ideal_ratio(ideal_ratio * factor, ratio, max_shift), ideal_ratio)
