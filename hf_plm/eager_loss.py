"""The loss of a batch without the compiler: in few passes over memory if possible (`few_passes.py`)."""

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from .by_hand import ObjectiveWithDerivative, with_derivative
from .few_passes import (
    PART_SIZE,
    FewPassesLoss,
    Mask,
    are_all_known,
    histogram_indices,
    is_supported,
    loss_in_few_passes,
)
from .functional import fold, masked_total, sample_mask, scramble, uniform_draws
from .label_checks import LabelChecks, can_read
from .label_counts import LabelCounts
from .label_tensors import known_labels, wrong_labels
from .objectives import Objective, needs_counts
from .presets import PLMSettings
from .ranks import process_rank
from .state import PLMState

SIGN_BIT = np.int32(-(2**31))
"""Flipping this bit gives the numbers that `numpy.random.Generator.integers` gives for int32."""


class EagerLoss(nn.Module):
    """The part of `PLMLoss` that needs no compiler.

    Args:
        settings: the `PLMSettings` in force.
        label_counts: the counts of the labels.
        seed: of random masks.
        sparse: whether labels come as class ids.
    """

    def __init__(self, settings: PLMSettings, label_counts: LabelCounts, seed: int, sparse: bool):
        super().__init__()
        self.settings = settings
        self.objective: Objective = settings.bound_objective()
        self._needs_counts = needs_counts(self.objective)
        self.state = PLMState(label_counts, settings)
        self.seed = seed
        self.sparse = sparse
        self._label_seeds = fold(scramble(torch.arange(self.state.num_labels, dtype=torch.int32)))
        self._label_checks = LabelChecks(self.state.num_labels, self.state.label_names, sparse)

    def _eager_loss(self, logits: Tensor, labels: Tensor, num_known: Tensor | int | None) -> Tensor:
        """The loss of a batch. In training it also adds the batch to the measurements. Arguments: see `forward`."""
        objective = self._objective()
        hand_written = with_derivative(objective)
        needs_gradient = logits.requires_grad and torch.is_grad_enabled()
        if hand_written is not None and can_read(logits) and not (self.training or needs_gradient):
            loss = self._evaluation_loss_in_few_passes(logits, labels, num_known, hand_written)
            if loss is not None:
                return loss
        logits, labels, all_known = self._prepare(logits, labels)
        if hand_written is not None and self.training and is_supported(logits):
            return self._training_loss_in_few_passes(logits, labels, all_known, num_known, hand_written)
        return self._loss_of_any_objective(logits, labels, num_known, objective)

    def _loss_of_any_objective(
        self,
        logits: Tensor,
        labels: Tensor,
        num_known: Tensor | int | None,
        objective: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        if self.training and self.settings.mask == "random":
            draws = uniform_draws(*self._seeds(logits))
            kept = sample_mask(labels, *self.state.keep_probabilities(), draws)
        else:
            kept = known_labels(labels)
        weights = self.state.weights() if self.training else None
        if num_known is None:
            num_known = known_labels(labels).sum().clamp(min=1)
        total, losses = masked_total(logits, labels, kept, weights, objective)
        if self.training:
            self.state.observe(logits, labels, losses)
        return total / num_known

    def _prepare(self, logits: Tensor, labels: Tensor, first_row: int = 0) -> tuple[Tensor, Tensor, bool]:
        """The logits plus the offset, the labels, and whether all labels were seen to be 1 or 0.

        Logits and labels are then float32 or float64. Raises a ValueError for wrong labels.

        Args:
            first_row: the number of the first of these rows in the batch, for the message.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        given, labels = labels, labels.to(logits.dtype)
        all_known = can_read(given) and are_all_known(given if given.dtype == torch.float64 else labels)
        if not all_known:
            self._label_checks.check(wrong_labels(given), given, first_row)
        offset = self.state.offset()
        return logits if offset is None else logits + offset, labels, all_known

    def _training_loss_in_few_passes(
        self,
        logits: Tensor,
        labels: Tensor,
        all_known: bool,
        num_known: Tensor | int | None,
        objective: ObjectiveWithDerivative,
    ) -> Tensor:
        """As `_eager_loss` in training."""
        state = self.state
        is_random = self.settings.mask == "random" and not state.keeps_all()
        mask = Mask(state.weights(), state.keep_probabilities(), self._seeds(logits) if is_random else None)
        result = loss_in_few_passes(logits.detach(), labels, all_known, mask, objective)
        indices = histogram_indices(result.probabilities, result.positive, state.num_bins)
        state.observe_indices(indices, result.known)
        num_known = max(result.num_known(), 1) if num_known is None else num_known
        arguments = (logits, result, num_known, self._objective())
        loss: Tensor = FewPassesLoss.apply(*arguments)  # type: ignore[no-untyped-call]  # torch gives it no types
        return loss

    def _evaluation_loss_in_few_passes(
        self, logits: Tensor, labels: Tensor, num_known: Tensor | int | None, objective: ObjectiveWithDerivative
    ) -> Tensor | None:
        """As `_eager_loss` in evaluation, over some rows at a time; None if the logits are not supported."""
        rows_at_once = max(PART_SIZE // self.state.num_labels, 1)
        row_totals, num_counted = [], 0
        for first_row in range(0, max(len(logits), 1), rows_at_once):
            rows = slice(first_row, first_row + rows_at_once)
            part_logits, part_labels, all_known = self._prepare(logits[rows], labels[rows], first_row)
            if not is_supported(part_logits):
                return None
            result = loss_in_few_passes(part_logits, part_labels, all_known, None, objective)
            row_totals.append(result.row_totals)
            num_counted += result.num_known()
        return torch.cat(row_totals).sum() / (max(num_counted, 1) if num_known is None else num_known)

    def _objective(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The objective, bound to the label counts if it requires them."""
        if not self._needs_counts:
            return self.objective
        positives, negatives = self.state.positives.float(), self.state.negatives.float()
        return functools.partial(self.objective, positives=positives, negatives=negatives)

    def _seeds(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The seeds of the rows and of the labels of a batch, see `uniform_draws`."""
        generator = np.random.PCG64((self.seed, self.state.num_batches, process_rank()))
        rows = generator.random_raw(-(-len(logits) // 2)).view(np.int32)[: len(logits)] ^ SIGN_BIT
        if self._label_seeds.device != logits.device:
            self._label_seeds = self._label_seeds.to(logits.device)
        return torch.from_numpy(fold(rows)).to(logits.device, non_blocking=True), self._label_seeds
