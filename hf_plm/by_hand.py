"""The objectives `bce` and `asymmetric` with their derivatives, written by hand: autograd takes twice as long or more.

The equations are those of `objectives.py`, of which the tests hold them the equal. Each is there twice: for
`few_passes.py`, where logits are not far out and truth is written as the numbers 1 and 0, and for the compiled loss
(`fused.py`), where logits may be any and truth is bool.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import objectives
from .functional import LOG2_E

LARGEST_LOGIT = 80.0
"""Up to it `exp(logit)` is far from the largest and the smallest numbers of float32."""

DEFAULTS = objectives.default_arguments(objectives.asymmetric)


Derived = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""`(logits, odds, probabilities, positive) -> losses, derivative`: an objective and its derivative by the logits, all
float `(batch, num_labels)`. The odds are those against the label, `exp(-logits)`; they may be overwritten."""


class ByHand(NamedTuple):
    """An objective with its derivative.

    Attributes:
        near: for logits within `LARGEST_LOGIT`; `positive` is 1 or 0.
        fused: for any logits; `positive` is bool.
    """

    near: Derived
    fused: Derived


def by_hand(objective: Callable[..., Tensor]) -> ByHand | None:
    """The objective with its derivative; None for one whose derivative is not written here."""
    function, arguments = getattr(objective, "func", objective), getattr(objective, "keywords", {})
    if getattr(objective, "args", ()):
        return None
    if function is objectives.binary_cross_entropy and not arguments:
        return ByHand(binary_cross_entropy, fused_binary_cross_entropy)
    arguments = DEFAULTS | arguments
    if function is objectives.asymmetric and all(map(_is_number, arguments.values())) and arguments["margin"] < 1:
        return ByHand(functools.partial(asymmetric, **arguments), functools.partial(fused_asymmetric, **arguments))
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and value >= 0  # of others `objectives.asymmetric` says what is wrong


def odds_and_probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The odds against each label, `exp(-logits)`, and its probability, to the last bit `functional.probabilities`."""
    odds = (logits * -LOG2_E).exp2_()
    return odds, (1 + odds).reciprocal_()


def choose(positive: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """`first` for positives, `second` for negatives. `positive` is bool, or the numbers 1 and 0: that is faster."""
    return (
        torch.where(positive, first, second) if positive.dtype == torch.bool else torch.lerp(second, first, positive)
    )


def binary_cross_entropy(
    logits: Tensor, odds: Tensor, probabilities: Tensor, positive: Tensor
) -> tuple[Tensor, Tensor]:
    """`ByHand.near`, to the last bit what PyTorch computes."""
    losses = F.binary_cross_entropy_with_logits(logits, positive, reduction="none")
    return losses, torch.sigmoid(logits).sub_(positive)


def fused_binary_cross_entropy(
    logits: Tensor, odds: Tensor, probabilities: Tensor, positive: Tensor
) -> tuple[Tensor, Tensor]:
    """`ByHand.fused`: `max(-t, 0) + log(1 + exp(-|t|))`, where t is the logit of the truth."""
    small = torch.exp2(logits.abs() * -LOG2_E)
    rounded = 1 + small
    logarithms = torch.log(rounded) + (small - (rounded - 1)) / rounded  # log1p, which the compiler makes slower
    losses = F.relu(torch.where(positive, -logits, logits)) + logarithms
    return losses, torch.where(positive, probabilities - 1, probabilities)


def asymmetric(
    logits: Tensor,
    odds: Tensor,
    probabilities: Tensor,
    positive: Tensor,
    gamma_negative: float,
    gamma_positive: float,
    margin: float,
) -> tuple[Tensor, Tensor]:
    """`ByHand.near`.

    For positives `w * -log p` and `-w * (1 - p)`, where `w = (1 - p) ** gamma`; for negatives `w * -log u` and
    `w * p * (1 - p) / u`, where `u = min(1 - p + margin, 1)` and `w = max(p - margin, 0) ** gamma`.
    """
    complements = odds.mul_(probabilities)  # exact where 1 - p is not
    shifted = (probabilities - margin).clamp_(min=0)
    weights = choose(positive, _power(complements, gamma_positive), _power(shifted, gamma_negative))
    inverse = choose(positive, probabilities, (complements + margin).clamp_(max=1)).reciprocal_()
    losses = torch.log(inverse).mul_(weights)
    slopes = weights.mul_(probabilities).mul_(complements).mul_(inverse)
    return losses, choose(positive, -slopes, slopes)


def fused_asymmetric(
    logits: Tensor, odds: Tensor, probabilities: Tensor, positive: Tensor, **arguments: float
) -> tuple[Tensor, Tensor]:
    """`ByHand.fused`: that of the nearest logit within `LARGEST_LOGIT`; from there a loss rises as the logit does."""
    smallest, largest = math.exp(-LARGEST_LOGIT), math.exp(LARGEST_LOGIT)
    odds, probabilities = odds.clamp(smallest, largest), probabilities.clamp(min=smallest)
    losses, derivative = asymmetric(logits, odds, probabilities, positive, **arguments)
    rest = F.relu(torch.where(positive, -logits, logits) - LARGEST_LOGIT)
    return losses + (rest if arguments["margin"] == 0 else torch.where(positive, rest, 0)), derivative


def _power(values: Tensor, exponent: float) -> Tensor:
    """`values ** exponent` of values of 0 or more, and 0 where they are 0, whatever the exponent."""
    if exponent == 0:
        return values.sign()
    return values if exponent == 1 else values**exponent
