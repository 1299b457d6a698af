"""The loss of a training batch, compiled: for many labels, where the loss takes most of the time of a step.

The equations are those of `functional.py`, but one pass over logits and labels computes the mask, the objective, the
gradient and the bins. Of the tensors as large as the batch, only the gradient is kept and, for a short time, one byte
for each entry. The random numbers are a hash, so that the mask equals that of the eager loss.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import functional
from .by_hand import odds_and_probabilities, with_derivative
from .label_tensors import first_in_rows, known_labels, wrong_labels
from .packed_histograms import NOT_COUNTED, compiled


class FusedTotal(NamedTuple):
    """The result of `fused_total`.

    Attributes:
        total (float32, `()`; float64 for float64 logits): the sum of the objective over the labels that are kept.
        gradient: of the total with respect to the logits, in their shape and dtype; float32 for float16 logits,
            because it will be scaled.
        bins (uint8, `(batch, num_labels)`): the bin of each probability, plus the number of bins for negatives.
            `NOT_COUNTED` for unknown labels and logits that are NaN or infinite.
        known (int64, `()`): how many labels are known.
        nonfinite (int64, `()`): see `count_nonfinite`.
        wrong (int32, `(batch,)`): the index of each row's first wrong label, see `wrong_labels` and `first_in_rows`.
    """

    total: Tensor
    gradient: Tensor
    bins: Tensor
    known: Tensor
    nonfinite: Tensor
    wrong: Tensor


def fused_total(
    logits: Tensor,
    labels: Tensor,
    keep_positive: Tensor,
    keep_negative: Tensor,
    weights: tuple[Tensor, Tensor] | None,
    offset: Tensor | None,
    seeds: tuple[Tensor, Tensor] | None,
    objective: Callable[[Tensor, Tensor], Tensor],
    num_bins: int,
) -> FusedTotal:
    """Draw the mask of a batch, and compute its total, the gradient, and the measurements.

    Args:
        logits (any floating dtype, `(batch, num_labels)`).
        labels (`(batch, num_labels)`): 1, 0, or unknown (NaN or -100), in any dtype; the caller refuses other values.
        keep_positive, keep_negative (float, `(num_labels,)`): see `keep_probabilities`.
        weights: see `masked_total`.
        offset (float, `(num_labels,)`): added to the logits; None for 0.
        seeds: of the rows and of the labels, see `uniform_draws`; None keeps every known label.
        objective: `(logits, labels) -> (batch, num_labels)`.
        num_bins: of the histograms, at most `MAX_BINS`.
    """
    values = logits.to(torch.promote_types(logits.dtype, torch.float32))
    values = values if offset is None else values + offset
    given, labels = labels, labels.to(values.dtype)
    wrong = first_in_rows(wrong_labels(given if given.dtype == torch.float64 else labels))  # the cast may round
    known = kept = known_labels(labels)
    if seeds is not None:
        draws = functional.uniform_draws(*seeds)
        kept = functional.sample_mask(labels, keep_positive, keep_negative, draws)
    odds, probabilities = odds_and_probabilities(values)
    finite = functional.is_finite(values)
    if (hand_written := with_derivative(objective)) is not None:
        losses, gradient = hand_written.fused(values, odds, probabilities, labels == 1)
        gradient = functional.weighted(gradient, labels, weights)
        value = functional.kept_total(losses, labels, kept, weights)
        nonfinite = known & ~finite  # the loss of a finite logit is finite
    else:
        value, gradient, losses = _by_autograd(values, labels, known, kept, weights, objective)
        nonfinite = known & ~(finite & functional.is_finite(losses))
    gradient = gradient.to(torch.promote_types(logits.dtype, torch.bfloat16))
    gradient = gradient.masked_fill(~kept, 0)  # may be NaN where an entry is masked

    probabilities = probabilities if values.dtype == torch.float32 else functional.probabilities(values)
    bins = functional.probability_bins(probabilities, num_bins) + torch.where(labels == 1, 0.0, float(num_bins)).int()
    bins = torch.where(known & finite, bins, NOT_COUNTED).to(torch.uint8)
    return FusedTotal(value, gradient, bins, _count(known), _count(nonfinite), wrong)


def _by_autograd(
    values: Tensor,
    labels: Tensor,
    known: Tensor,
    kept: Tensor,
    weights: tuple[Tensor, Tensor] | None,
    objective: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """The total, its gradient with respect to the logits, and the loss of every entry."""
    targets = labels.masked_fill(~known, 0)

    def total(values: Tensor) -> tuple[Tensor, Tensor]:
        losses = objective(values, targets)
        functional.check_losses(losses, values)
        return functional.kept_total(losses, labels, kept, weights), losses

    lowest = torch.finfo(values.dtype).min  # at minus infinity the compiler's derivatives are NaN, not 0
    gradient, (value, losses) = torch.func.grad_and_value(total, has_aux=True)(values.clamp(min=lowest))
    return value, gradient, losses


def _count(entries: Tensor) -> Tensor:
    """How many are true, int64 `()`. Rows are summed in int32 first, which is faster."""
    return entries.sum(-1, dtype=torch.int32).sum()


def compiled_total(*args: Any) -> FusedTotal:
    """`fused_total`, compiled at the first call."""
    total: FusedTotal = compiled(fused_total)(*args)
    return total


class ObjectiveHasParameters(Exception):
    """The objective depends on tensors that require a gradient; the compiled loss has a gradient only for logits."""


def compilation_errors() -> tuple[type[Exception], ...]:
    """The errors raised if an objective cannot be compiled, or too many were compiled before."""
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException  # they have no public names

    return ObjectiveHasParameters, TorchDynamoException, FailOnRecompileLimitHit


class LossWithGradient(torch.autograd.Function):
    """The loss `total / num_known`, whose gradient `gradient / num_known` is already known."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, total: Tensor, gradient: Tensor, num_known: Tensor | int) -> Tensor:
        ctx.gradient, ctx.num_known = gradient, num_known
        return total / num_known

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("create_graph=True: the compiled loss has no second derivative; use fused=False")
        if ctx.gradient is None:
            raise RuntimeError("backward() a second time through the compiled loss; compute the loss again")
        gradient, ctx.gradient = ctx.gradient, None
        return gradient.mul_(grad_outputs[0] / ctx.num_known), None, None, None
