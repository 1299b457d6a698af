"""The objectives `bce` and `asymmetric` with derivatives written by hand: autograd takes at least twice as long.

The equations are those of `objectives.py`; the tests check that the results are equal. Each has two versions. In
`few_passes.py`, logits are within `LARGEST_LOGIT` and labels are the numbers 1 and 0. In the compiled loss
(`fused.py`), logits may have any value and labels are bool.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import objectives
from .functional import LOG2_E

LARGEST_LOGIT = 80.0
"""Up to this logit, `exp(logit)` is far from the largest and the smallest numbers of float32."""

ASYMMETRIC_DEFAULTS = objectives.default_arguments(objectives.asymmetric)


LossesAndDerivative = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""`(logits, odds, probabilities, positive) -> losses, derivative`: an objective and its derivative with respect to the
logits, all float `(batch, num_labels)`. The odds are `exp(-logits)`, against the label; they may be overwritten."""


class ObjectiveWithDerivative(NamedTuple):
    """An objective with its derivative.

    Attributes:
        eager: for logits within `LARGEST_LOGIT`; `positive` is 1 or 0.
        fused: for any logits; `positive` is bool.
    """

    eager: LossesAndDerivative
    fused: LossesAndDerivative


def with_derivative(objective: Callable[..., Tensor]) -> ObjectiveWithDerivative | None:
    """The objective with its derivative; None if its derivative is not written here."""
    function, arguments = getattr(objective, "func", objective), getattr(objective, "keywords", {})
    if getattr(objective, "args", ()):
        return None
    if function is objectives.binary_cross_entropy and not arguments:
        return ObjectiveWithDerivative(binary_cross_entropy, fused_binary_cross_entropy)
    arguments = ASYMMETRIC_DEFAULTS | arguments
    if function is not objectives.asymmetric or not _are_valid(arguments):
        return None
    return ObjectiveWithDerivative(
        functools.partial(asymmetric, **arguments), functools.partial(fused_asymmetric, **arguments)
    )


def _are_valid(arguments: dict[str, Any]) -> bool:
    """Whether `asymmetric` can compute with these arguments; for others, `objectives.asymmetric` raises the error."""
    for value in arguments.values():  # not all(...), which torch.compile of torch 2.9 refuses
        if not isinstance(value, (int, float)) or value < 0:
            return False
    return bool(arguments["margin"] < 1)


def odds_and_probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The odds against each label, `exp(-logits)`, and its probability, bitwise as in `functional.probabilities`."""
    odds = (logits * -LOG2_E).exp2_()
    return odds, (1 + odds).reciprocal_()


def choose(positive: Tensor, if_positive: Tensor, if_negative: Tensor) -> Tensor:
    """`if_positive` for positives, `if_negative` for the rest. `positive` is bool or, which is faster, 1 and 0."""
    if positive.dtype == torch.bool:
        return torch.where(positive, if_positive, if_negative)
    return torch.lerp(if_negative, if_positive, positive)


def binary_cross_entropy(
    logits: Tensor, odds: Tensor, probabilities: Tensor, positive: Tensor
) -> tuple[Tensor, Tensor]:
    """`ObjectiveWithDerivative.eager`, bitwise equal to what PyTorch computes."""
    losses = F.binary_cross_entropy_with_logits(logits, positive, reduction="none")
    return losses, torch.sigmoid(logits).sub_(positive)


def fused_binary_cross_entropy(
    logits: Tensor, odds: Tensor, probabilities: Tensor, positive: Tensor
) -> tuple[Tensor, Tensor]:
    """`ObjectiveWithDerivative.fused`: `max(-t, 0) + log(1 + exp(-|t|))`, where t is the logit of the true label."""
    small = torch.exp2(logits.abs() * -LOG2_E)
    rounded = 1 + small
    logarithms = torch.log(rounded) + (small - (rounded - 1)) / rounded  # log1p, which is slower when compiled
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
    """`ObjectiveWithDerivative.eager`.

    For positives `w * -log p` and `-w * (1 - p)`, where `w = (1 - p) ** gamma`; for negatives `w * -log u` and
    `w * p * (1 - p) / u`, where `u = min(1 - p + margin, 1)` and `w = max(p - margin, 0) ** gamma`.
    """
    complements = odds.mul_(probabilities)  # more exact than 1 - p
    shifted = (probabilities - margin).clamp_(min=0)
    weights = choose(positive, _power(complements, gamma_positive), _power(shifted, gamma_negative))
    inverse = choose(positive, probabilities, (complements + margin).clamp_(max=1)).reciprocal_()
    losses = torch.log(inverse).mul_(weights)
    slopes = weights.mul_(probabilities).mul_(complements).mul_(inverse)
    return losses, choose(positive, -slopes, slopes)


def fused_asymmetric(
    logits: Tensor, odds: Tensor, probabilities: Tensor, positive: Tensor, **arguments: float
) -> tuple[Tensor, Tensor]:
    """`ObjectiveWithDerivative.fused`, at the nearest logit within `LARGEST_LOGIT`, plus the linear rise beyond it."""
    smallest, largest = math.exp(-LARGEST_LOGIT), math.exp(LARGEST_LOGIT)
    odds, probabilities = odds.clamp(smallest, largest), probabilities.clamp(min=smallest)
    losses, derivative = asymmetric(logits, odds, probabilities, positive, **arguments)
    excess = F.relu(torch.where(positive, -logits, logits) - LARGEST_LOGIT)
    return losses + (excess if arguments["margin"] == 0 else torch.where(positive, excess, 0)), derivative


def _power(values: Tensor, exponent: float) -> Tensor:
    """`values ** exponent` for values of 0 or more; 0 where a value is 0, even if the exponent is 0."""
    if exponent == 0:
        return values.sign()
    return values if exponent == 1 else values**exponent
