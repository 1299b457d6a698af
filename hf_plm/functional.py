"""The equations of Partial Label Masking as pure tensor functions.

Source: K. Duarte, Y. S. Rawat, M. Shah, "PLM: Partial Label Masking for Imbalanced Multi-label Classification",
CVPR Workshops 2021 (arXiv 2105.10782). Names are the paper's: `ratio` is R, `ideal_ratio` is R with a hat, here I.
This file needs only torch. No function reads a value back to the host.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from .label_tensors import known_labels

LOG2_E = math.log2(math.e)

BALANCED_EXPONENT = -0.25
"""With the prior `balanced`, logits assume the ratio `(4 p (1 - p))` to this power; p is the share of positives.

For one class per row and all classes equally frequent, the best decision is the largest `P(c | x) / p[c]`. Argmax
compares log-odds. Where all classes fit x equally well, it is right to subtract `log R` from them, the exponent 0.
Where only two classes fit, it is right to subtract `2 log p`, the exponent -1. -0.25 was best on development data.
With two classes in all, every exponent gives the best decision.
"""

Bits = TypeVar("Bits", bound=Any)


def has_ratio(positives: Tensor, negatives: Tensor) -> Tensor:
    """True for classes with both positives and negatives. The others keep every label. Bool, `(num_labels,)`."""
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
        temper: the exponent, from 0 (every class balanced) to 1 (the ratios of the data).
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
    """I limited to `[R / max_shift, R * max_shift]`, so that no rule can move it too far."""
    return torch.clamp(ideal_ratio, ratio / max_shift, ratio * max_shift)


def keep_probabilities(ratio: Tensor, ideal_ratio: Tensor) -> tuple[Tensor, Tensor]:
    """The probabilities that a positive and that a negative of each class enter the loss.

    `min(1, I / R)` for positives and `min(1, R / I)` for negatives, so that
    `E[kept positives] / E[kept negatives] = I`.

    Returns:
        two float tensors `(num_labels,)` in `(0, 1]`; at least one of the two is 1 for every class.
    """
    return (ideal_ratio / ratio).clamp(max=1), (ratio / ideal_ratio).clamp(max=1)


def class_weights(positives: Tensor, negatives: Tensor, keep: tuple[Tensor, Tensor], exponent: float) -> Tensor:
    """`s ** -exponent`, where s is the share of a class's labels that is kept.

    The further the ideal ratio of a class is from its ratio, the more of its labels are masked, and the smaller is its
    part in the gradient of the layers that all classes share. The weight restores this part. It does not change the
    effective ratio.

    Args:
        positives, negatives (int, `(num_labels,)`): the label counts.
        keep: `keep_probabilities`.
        exponent: 0 restores nothing, 1 everything.

    Returns:
        float32, `(num_labels,)`, 1 or more; 1 for a class without labels.
    """
    total = positives + negatives
    kept = positives * keep[0] + negatives * keep[1]
    return torch.where(total > 0, kept / total.clamp(min=1), 1.0) ** -exponent


def assumed_ratio(ratio: Tensor, ideal_ratio: Tensor, prior: str) -> Tensor:
    """T: the ratio of each class that the model's logits assume, float32 `(num_labels,)`.

    Args:
        prior: `"ideal"` (I), `"balanced"` (for one class per row, with all classes equally frequent; see
            `BALANCED_EXPONENT`) or `"data"` (R).
    """
    balanced = (4 * ratio / (1 + ratio) ** 2) ** BALANCED_EXPONENT  # 4 p (1 - p), also exact for p near 1
    return {"ideal": ideal_ratio, "balanced": balanced, "data": ratio}[prior]


def log_odds_shift(ratio: Tensor, other_ratio: Tensor) -> Tensor:
    """`log(other / R)`: by how much training at a different ratio than R raises the log-odds of a class.

    If a model trains at the ratio I and its logits should assume T, the loss adds `log(I / T)` to the logits. With
    I = R and T = 1 it would be the logit adjustment of Menon et al., ICLR 2021, class by class.

    Returns:
        float32, `(num_labels,)`; exactly 0 where both ratios are equal, as for classes that have no ratio.
    """
    return torch.log(other_ratio / ratio)


def scramble(values: Tensor) -> Tensor:
    """Map each number to one that looks random, and no two to the same: the integer hash `lowbias32`. int32 to int32.

    Source: C. Wellons, "Prospecting for Hash Functions", 2018.
    """
    return scramble_folded(fold(values))


def fold(values: Bits) -> Bits:
    """The first step of `scramble`, for int32 tensors and arrays. It is linear: `fold(a ^ b) = fold(a) ^ fold(b)`."""
    folded: Bits = values ^ ((values >> 16) & 0xFFFF)
    return folded


def scramble_folded(folded: Tensor) -> Tensor:
    """The remaining steps of `scramble`. They overwrite `folded`."""
    values = folded.mul_(0x7FEB352D)
    values = values.bitwise_xor_((values >> 15).bitwise_and_(0x1FFFF)).mul_(0x846CA68B - 2**32)
    return values.bitwise_xor_((values >> 16).bitwise_and_(0xFFFF))


def uniform_draws(row_seeds: Tensor, label_seeds: Tensor) -> Tensor:
    """A random number for every entry, from the seeds of its row and its label; the same on every device.

    It is `scramble(row ^ label)`. The first step of `scramble` is already done on the seeds, which are fewer than the
    entries.

    Args:
        row_seeds (int32, `(batch,)`), label_seeds (int32, `(num_labels,)`): `fold` of different random bits.

    Returns:
        float32, `(batch, num_labels)`: multiples of `2 ** -24` in [0, 1).
    """
    bits = scramble_folded(row_seeds[:, None] ^ label_seeds)
    return bits.bitwise_right_shift_(8).bitwise_and_(0xFFFFFF).float().mul_(2**-24)


def sample_mask(labels: Tensor, keep_positive: Tensor, keep_negative: Tensor, draws: Tensor) -> Tensor:
    """g: which labels of a batch enter the loss.

    Args:
        labels (float, `(batch, num_labels)`): 1, 0, or unknown (NaN or -100): unknown labels are never kept.
        keep_positive, keep_negative (float, `(num_labels,)`): see `keep_probabilities`.
        draws (float, `(batch, num_labels)`): uniform in [0, 1), see `uniform_draws`.

    Returns:
        bool, `(batch, num_labels)`.
    """
    return (draws < torch.where(labels == 1, keep_positive, keep_negative)) & known_labels(labels)


def masked_total(
    logits: Tensor,
    labels: Tensor,
    kept: Tensor,
    weights: tuple[Tensor, Tensor] | None,
    objective: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """The weighted sum of an element-wise objective over the labels that are kept, and the objective of every entry.

    Masked entries are set to 0 both before and after the objective, so that they have no gradient (0 * inf is NaN).

    Args:
        logits (float, `(batch, num_labels)`), labels (float, the same shape), kept (bool, the same shape).
        weights: of positives and of negatives, float `(num_labels,)` each; None if all are 1.
        objective: `(logits, labels) -> (batch, num_labels)`.

    Returns:
        a scalar, and float `(batch, num_labels)`.

    Raises:
        ValueError: if the objective's output does not have the shape of `logits`.
    """
    losses = objective(logits.masked_fill(~kept, 0), labels.masked_fill(~known_labels(labels), 0))
    check_losses(losses, logits)
    return kept_total(losses, labels, kept, weights), losses


def kept_total(losses: Tensor, labels: Tensor, kept: Tensor, weights: tuple[Tensor, Tensor] | None) -> Tensor:
    """The sum of the losses of the entries that are kept, each times its weight; see `masked_total`. A scalar."""
    return weighted(losses, labels, weights).masked_fill(~kept, 0).sum(-1).sum()


def weighted(values: Tensor, labels: Tensor, weights: tuple[Tensor, Tensor] | None) -> Tensor:
    """Each value times the weight of its label, that of the positives or that of the negatives."""
    return values if weights is None else values * torch.where(labels == 1, *weights)


def check_losses(losses: Tensor, logits: Tensor) -> None:
    """Raise a ValueError unless an objective's output has the shape of the logits."""
    if losses.shape != logits.shape:
        raise ValueError(
            f"the objective returned the shape {tuple(losses.shape)} for logits of {tuple(logits.shape)}; it must "
            "return the loss of every entry (in PyTorch: reduction='none')"
        )


def count_nonfinite(logits: Tensor, labels: Tensor, losses: Tensor) -> Tensor:
    """How many known labels have a logit or a loss that is NaN or infinite. int64, `()`.

    Args:
        logits, labels, losses (float, `(batch, num_labels)`).
    """
    return (known_labels(labels) & ~(is_finite(logits) & is_finite(losses))).sum(-1).sum()


def is_finite(values: Tensor) -> Tensor:
    """`torch.isfinite`, written so that the compiler vectorizes it. Bool, the shape of `values`."""
    return values.abs() < torch.inf


def probabilities(logits: Tensor) -> Tensor:
    """`1 / (1 + exp(-logits))`, float32 in the shape of `logits`.

    (It uses a power of 2, because the CPU compiler writes the result of an `exp` to memory if it is used twice.)
    """
    return 1 / (1 + torch.exp2(logits.float() * -LOG2_E))


def probability_bins(probabilities: Tensor, num_bins: int) -> Tensor:
    """The bin of each probability, of `num_bins` equal bins over `[0, 1]`; 1 is in the last. int32, the same shape."""
    return (probabilities * num_bins).int().clamp(max=num_bins - 1)


def probability_histograms(logits: Tensor, labels: Tensor, num_bins: int) -> Tensor:
    """Histograms of the predicted probabilities over the positives and over the negatives of each class.

    `num_bins` equal bins over `[0, 1]`; a probability of 1 is in the last. Unknown labels and logits that are
    NaN or infinite are not counted.

    Args:
        logits (float, `(batch, num_labels)`), labels (float, `(batch, num_labels)`).

    Returns:
        int32, `(2, num_labels, num_bins)`: `[0]` of the positives, `[1]` of the negatives.
    """
    num_labels = logits.shape[-1]
    counted = known_labels(labels) & is_finite(logits)
    bins = probability_bins(probabilities(logits.detach().masked_fill(~counted, 0)), num_bins).long()
    rows = torch.arange(num_labels, device=logits.device) + num_labels * (labels != 1)  # row of (2 * num_labels)
    histograms = torch.zeros(2 * num_labels * num_bins, dtype=torch.int32, device=logits.device)
    histograms.scatter_add_(0, (rows * num_bins + bins).flatten(), counted.flatten().int())
    return histograms.view(2, num_labels, num_bins)
