"""The loss of a batch in few passes over memory: on a CPU, in float32, for the objectives `bce` and `asymmetric`.

The equations are those of `functional.py` and `objectives.py`, and the results are equal except for rounding. It is
faster because

- positives and masks are the numbers 1 and 0: a CPU computes several times as fast with them as with bool;
- the objective and the histograms share the probabilities, and the derivative is written by hand;
- it spends no time on unknown labels if all labels are known, and none on logits that are NaN, infinite or very large:
  for such logits (see `is_supported`), `EagerLoss` calls `functional.masked_total` instead.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .by_hand import LARGEST_LOGIT, ObjectiveWithDerivative, choose, odds_and_probabilities
from .functional import uniform_draws

PART_SIZE = 2**18
"""The number of entries that are evaluated at once, so that the intermediate tensors stay in the cache of a core."""


class Mask(NamedTuple):
    """How the entries of a training batch are masked and weighted.

    Attributes:
        weights: of positives and of negatives, float32 `(num_labels,)` each; None if all are 1.
        keep: see `functional.keep_probabilities`.
        seeds: of a random mask, see `functional.uniform_draws`; None keeps every known label.
    """

    weights: tuple[Tensor, Tensor] | None
    keep: tuple[Tensor, Tensor]
    seeds: tuple[Tensor, Tensor] | None


class FewPassesResult(NamedTuple):
    """The result of `loss_in_few_passes`; all tensors but `row_totals` are `(batch, num_labels)`.

    Attributes:
        row_totals (float32, `(batch,)`): for each row, the sum of the losses of its entries, each times its factor.
        derivative (float32): of the loss of each entry with respect to its logit, times its factor.
        probabilities (float32): bitwise equal to `functional.probabilities`.
        positive (float32): 1 for positives, else 0.
        known (float32): 1 for known labels, else 0; None if all are known.
        factors (float32): the weight of an entry, or 0 if it is masked or unknown; None if all are 1.
    """

    row_totals: Tensor
    derivative: Tensor
    probabilities: Tensor
    positive: Tensor
    known: Tensor | None
    factors: Tensor | None

    def num_known(self) -> int:
        """How many labels are known."""
        return self.positive.numel() if self.known is None else int(self.known.sum(-1, dtype=torch.float64).sum())


def is_supported(logits: Tensor) -> bool:
    """Whether `loss_in_few_passes` can use these logits. It reads values only on a CPU."""
    if logits.device.type != "cpu" or logits.dtype != torch.float32 or not logits.numel():
        return False
    lowest, highest = logits.aminmax()
    return -LARGEST_LOGIT < lowest.item() and highest.item() < LARGEST_LOGIT  # False for NaN


def are_all_known(labels: Tensor) -> bool:
    """Whether all labels (float, any shape, on a CPU) are 1 or 0."""
    if not labels.numel():
        return True
    lowest, highest = torch.addcmul(labels, labels, labels, value=-1).aminmax()  # x - x * x is 0 only for 1 and 0
    return lowest.item() == highest.item() == 0


def loss_in_few_passes(
    logits: Tensor, labels: Tensor, all_known: bool, mask: Mask | None, objective: ObjectiveWithDerivative
) -> FewPassesResult:
    """The losses of a batch, summed for each row, and their derivative.

    Args:
        logits (float32, `(batch, num_labels)`): see `is_supported`.
        labels (float32, the same shape): 1, 0, or unknown (NaN or -100).
        all_known: see `are_all_known`.
        mask: None in evaluation.
    """
    with torch.inference_mode():
        positive, known = (labels, None) if all_known else _positive_and_known(labels)
        factors = known if mask is None else _factors(positive, known, mask)
        odds, probabilities = odds_and_probabilities(logits)
        losses, derivative = objective.eager(logits, odds, probabilities, positive)
        if factors is not None:
            losses.mul_(factors)
            derivative.mul_(factors)
        return FewPassesResult(losses.sum(-1), derivative, probabilities, positive, known, factors)


def _positive_and_known(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which labels are positive, and which are known, as 1 and 0."""
    known = _compare(torch.eq, labels, labels).mul_(_compare(torch.ne, labels, -100))  # NaN is not equal to itself
    return _compare(torch.eq, labels, 1), known


def _compare(comparison: Callable[..., Tensor], values: Tensor, other: Tensor | float) -> Tensor:
    """The result of a comparison as 1 and 0, in the dtype of the values."""
    return comparison(values, other, out=torch.empty_like(values))


def _factors(positive: Tensor, known: Tensor | None, mask: Mask) -> Tensor | None:
    """See `FewPassesResult.factors`."""
    factors = [] if known is None else [known]
    if mask.seeds is not None:
        factors.append(sample_mask(positive, *mask.keep, uniform_draws(*mask.seeds)))
    if mask.weights is not None:
        factors.append(choose(positive, *mask.weights))
    return functools.reduce(torch.mul, factors) if factors else None


def sample_mask(positive: Tensor, keep_positive: Tensor, keep_negative: Tensor, draws: Tensor) -> Tensor:
    """`functional.sample_mask` for known labels, as the numbers 1 and 0. It overwrites `draws`."""
    return draws.lt_(choose(positive, keep_positive, keep_negative))


def histogram_indices(probabilities: Tensor, positive: Tensor, num_bins: int) -> Tensor:
    """The index of each entry's bin in flat histograms of the shape `(2, num_bins, num_labels)`. int64, flat."""
    # The index is (bin + num_bins * (1 - positive)) * num_labels + label.
    num_labels = positive.shape[-1]
    bins = (probabilities * num_bins).int().clamp_(max=num_bins - 1).sub_(positive.int(), alpha=num_bins)
    first_negative = num_bins * num_labels
    labels = torch.arange(first_negative, first_negative + num_labels, dtype=torch.int32)
    return torch.add(labels, bins, alpha=num_labels).long().view(-1)


class FewPassesLoss(torch.autograd.Function):
    """A loss whose gradient is already known: `derivative / num_known`.

    For a second derivative, it computes the objective again with autograd.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        result: FewPassesResult,
        num_known: Tensor | int,
        objective: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        ctx.save_for_backward(logits)
        ctx.result, ctx.num_known, ctx.objective = result, num_known, objective
        return result.row_totals.sum() / num_known

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        scale = grad_outputs[0] / ctx.num_known
        if not torch.is_grad_enabled():
            return ctx.result.derivative * scale, None, None, None
        (logits,) = ctx.saved_tensors
        losses = ctx.objective(logits, ctx.result.positive.clone())
        factors = torch.ones_like(losses) if ctx.result.factors is None else ctx.result.factors.clone()
        (gradient,) = torch.autograd.grad(losses, logits, factors * scale, create_graph=True)
        return gradient, None, None, None
