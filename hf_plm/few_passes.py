"""The eager loss of a batch in few passes: on a CPU, in float32, for the objectives `bce` and `asymmetric`.

The equations are those of `functional.py` and `objectives.py`, and so are the results, but for rounding. It is faster
because

- truth is written as the numbers 1 and 0, with which a CPU computes several times as fast as with bool;
- objective and histograms share the probabilities, and the derivative is written by hand;
- nothing is done for unknown labels where there are none, nor for logits that are NaN, infinite or far out: `PLMLoss`
  goes the plain way where `takes` says no.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import objectives
from .functional import uniform_draws

LARGEST_LOGIT = 80.0
"""Up to it `exp(logit)` is far from the largest and the smallest numbers of float32."""

PART_SIZE = 2**18
"""Of how many entries the loss is evaluated at once: what is computed of them stays in the cache of a core."""

ByHand = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""An objective and its derivative by the logits: `(logits, odds, probabilities, positive) -> losses, derivative`, all
float32 `(batch, num_labels)`. `odds` are those against the label, `exp(-logits)`, and may be overwritten."""

DEFAULTS = objectives.default_arguments(objectives.asymmetric)


class Mask(NamedTuple):
    """How the entries of a training batch are masked and weighted.

    Attributes:
        weights: of positives and of negatives, float32 `(num_labels,)` each; None for 1.
        keep: see `functional.keep_probabilities`.
        seeds: of a random mask, see `functional.uniform_draws`; None keeps every known label.
    """

    weights: tuple[Tensor, Tensor] | None
    keep: tuple[Tensor, Tensor]
    seeds: tuple[Tensor, Tensor] | None


class FewPasses(NamedTuple):
    """What `few_passes` computes; all but `row_totals` `(batch, num_labels)`.

    Attributes:
        row_totals (float32, `(batch,)`): the sum of the objective of each entry of a row times its factor.
        derivative (float32): of each entry's objective by its logit, times its factor.
        probabilities (float32): to the last bit those of `functional.probability_bins`.
        positive (float32): 1 for positives, else 0.
        known (float32): 1 for known labels, else 0; None if all are known.
        factors (float32): the weight of an entry, or 0 where it is masked or unknown; None if all are 1.
    """

    row_totals: Tensor
    derivative: Tensor
    probabilities: Tensor
    positive: Tensor
    known: Tensor | None
    factors: Tensor | None

    def num_known(self) -> int:
        """How many labels are known. Reads it."""
        return self.positive.numel() if self.known is None else int(self.known.sum(-1, dtype=torch.float64).sum())


def by_hand(objective: Callable[..., Tensor]) -> ByHand | None:
    """The objective with its derivative; None for one whose derivative is not written here."""
    function, arguments = getattr(objective, "func", objective), getattr(objective, "keywords", {})
    if function is objectives.binary_cross_entropy:
        return binary_cross_entropy
    if function is objectives.asymmetric:
        return functools.partial(asymmetric, **DEFAULTS | arguments)
    return None


def takes(logits: Tensor) -> bool:
    """Whether logits can be computed with here. Reads values on a CPU alone."""
    if logits.device.type != "cpu" or logits.dtype != torch.float32 or not logits.numel():
        return False
    lowest, highest = logits.aminmax()
    return -LARGEST_LOGIT < lowest.item() and highest.item() < LARGEST_LOGIT  # false for NaN


def are_all_known(labels: Tensor) -> bool:
    """Whether all labels (float, any shape, on a CPU) are 1 or 0."""
    if not labels.numel():
        return True
    lowest, highest = torch.addcmul(labels, labels, labels, value=-1).aminmax()  # x - x * x is 0 for 1 and 0 alone
    return lowest.item() == highest.item() == 0


def few_passes(logits: Tensor, labels: Tensor, all_known: bool, mask: Mask | None, objective: ByHand) -> FewPasses:
    """The objective of a batch, summed, and its derivative.

    Args:
        logits (float32, `(batch, num_labels)`): see `takes`.
        labels (float32, the same shape): 1, 0, or unknown (NaN or -100).
        all_known: see `are_all_known`.
        mask: None in evaluation.
    """
    with torch.inference_mode():
        positive, known = (labels, None) if all_known else _truth(labels)
        factors = known if mask is None else _factors(positive, known, mask)
        odds = (logits * -math.log2(math.e)).exp2_()
        probabilities = (1 + odds).reciprocal_()
        losses, derivative = objective(logits, odds, probabilities, positive)
        if factors is not None:
            losses.mul_(factors)
            derivative.mul_(factors)
        return FewPasses(losses.sum(-1), derivative, probabilities, positive, known, factors)


def _truth(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which labels are positive, and which are known, as 1 and 0."""
    known = _compare(torch.eq, labels, labels).mul_(_compare(torch.ne, labels, -100))  # NaN is not equal to itself
    return _compare(torch.eq, labels, 1), known


def _compare(comparison: Callable[..., Tensor], values: Tensor, other: Tensor | float) -> Tensor:
    return comparison(values, other, out=torch.empty_like(values))


def _factors(positive: Tensor, known: Tensor | None, mask: Mask) -> Tensor | None:
    """See `FewPasses.factors`."""
    factors = [] if known is None else [known]
    if mask.seeds is not None:
        factors.append(sample_mask(positive, *mask.keep, uniform_draws(*mask.seeds)))
    if mask.weights is not None:
        factors.append(_choose(mask.weights, positive))
    return functools.reduce(torch.mul, factors) if factors else None


def sample_mask(positive: Tensor, keep_positive: Tensor, keep_negative: Tensor, draws: Tensor) -> Tensor:
    """`functional.sample_mask` of labels that are all known, as the numbers 1 and 0. It overwrites `draws`."""
    return draws.lt_(_choose((keep_positive, keep_negative), positive))


def _choose(values: tuple[Tensor, Tensor], positive: Tensor) -> Tensor:
    """The first value of the label for positives, the second for negatives."""
    return torch.lerp(values[1], values[0], positive)


def counters_of(probabilities: Tensor, positive: Tensor, num_bins: int) -> Tensor:
    """Which number of the histograms, int32 `(2, num_bins, num_labels)`, counts each probability. int64, flat."""
    num_labels = positive.shape[-1]
    rows = (probabilities * num_bins).int().clamp_(max=num_bins - 1).sub_(positive.int(), alpha=num_bins)
    first_negative = num_bins * num_labels
    columns = torch.arange(first_negative, first_negative + num_labels, dtype=torch.int32)
    return torch.add(columns, rows, alpha=num_labels).long().view(-1)


def binary_cross_entropy(
    logits: Tensor, odds: Tensor, probabilities: Tensor, positive: Tensor
) -> tuple[Tensor, Tensor]:
    """`objectives.binary_cross_entropy` and its derivative, to the last bit those of PyTorch."""
    losses = F.binary_cross_entropy_with_logits(logits, positive, reduction="none")
    return losses, torch.sigmoid(logits).sub_(positive)


def asymmetric(
    logits: Tensor,
    odds: Tensor,
    probabilities: Tensor,
    positive: Tensor,
    gamma_negative: float,
    gamma_positive: float,
    margin: float,
) -> tuple[Tensor, Tensor]:
    """`objectives.asymmetric` and its derivative.

    For positives `w * -log p` and `-w * (1 - p)`, where `w = (1 - p) ** gamma`; for negatives `w * -log u` and
    `w * p * (1 - p) / u`, where `u = min(1 - p + margin, 1)` and `w = max(p - margin, 0) ** gamma`.
    """
    complements = odds.mul_(probabilities)  # exact where 1 - p is not
    shifted = (probabilities - margin).clamp_(min=0)
    weights = torch.lerp(_power(shifted, gamma_negative), _power(complements, gamma_positive), positive)
    inverse = torch.lerp((complements + margin).clamp_(max=1), probabilities, positive).reciprocal_()
    sign = torch.rsub(positive, 1, alpha=2)  # 1 - 2 * positive
    losses = torch.log(inverse).mul_(weights)
    return losses, weights.mul_(probabilities).mul_(complements).mul_(inverse).mul_(sign)


def _power(values: Tensor, exponent: float) -> Tensor:
    """`values ** exponent` of values of 0 or more, and 0 where they are 0, whatever the exponent."""
    if exponent == 0:
        return values.sign()
    return values if exponent == 1 else values**exponent


class LossByHand(torch.autograd.Function):
    """A loss whose gradient is known, `derivative / num_known`; for a second one the objective is computed again."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        found: FewPasses,
        num_known: Tensor | int,
        objective: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        ctx.save_for_backward(logits)
        ctx.found, ctx.num_known, ctx.objective = found, num_known, objective
        return found.row_totals.sum() / num_known

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        scale = grad_outputs[0] / ctx.num_known
        if not torch.is_grad_enabled():
            return ctx.found.derivative * scale, None, None, None
        (logits,) = ctx.saved_tensors
        losses = ctx.objective(logits, ctx.found.positive.clone())
        factors = torch.ones_like(losses) if ctx.found.factors is None else ctx.found.factors.clone()
        (gradient,) = torch.autograd.grad(losses, logits, factors * scale, create_graph=True)
        return gradient, None, None, None
