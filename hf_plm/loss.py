"""Partial Label Masking as a loss for any PyTorch loop; `PLMTrainer` uses the same."""

import functools
import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

from .counting import count_labels
from .functional import fold, masked_total, sample_mask, scramble, uniform_draws
from .few_passes import PART_SIZE, ByHand, LossByHand, Mask, are_all_known, by_hand, counters_of, few_passes, takes
from .fused import LossWithGradient, compiled_total
from .label_checks import LabelChecks, can_look
from .label_counts import LabelCounts
from .label_tensors import known_labels, multi_hot_labels, wrong_class_ids, wrong_labels
from .objectives import Objective, needs_counts
from .packed_histograms import MAX_BINS
from .presets import PLMSettings
from .ranks import process_rank
from .state import PLMState

logger = logging.getLogger(__name__)

MANY_LABELS = 5_000
"""From this many labels on, the loss takes a good part of a step, and is compiled by default."""


FIRST_BIT = np.int32(-(2**31))
"""Makes of unsigned random numbers what `numpy.random.Generator.integers` makes of them for int32."""


class ObjectiveHasParameters(Exception):
    """The objective depends on tensors that require a gradient; the compiled loss has only that of the logits."""


class PLMLoss(nn.Module):
    """An element-wise objective of which labels are masked, or weighted as masks would on average, so that each class
    has its ideal ratio.

    In training mode it does so and measures; after `.eval()` it does neither and is the mean of the objective. It has
    neither parameters nor buffers; its `state_dict` is that of its `PLMState`.

        plm_loss = PLMLoss(count_labels(train_set))
        for epoch in range(num_epochs):
            for inputs, labels in loader:
                loss = plm_loss(model(inputs), labels)
                ...
            plm_loss.end_epoch()

    Args:
        label_counts: `LabelCounts`, or a mapping as for `LabelCounts.from_mapping`.
        preset: `default`, `paper` or `off`.
        objective: the name of one in `OBJECTIVES` (`objectives.py`), or a callable `(logits, labels)` or `(logits,
            labels, positives, negatives)` that gives the loss of every entry, `(batch, num_labels)`; None for the
            preset's. `positives` and `negatives` are the label counts, float `(num_labels,)`, given by these names
            to a callable that requires them.
        initial_ratio, temper, rule, change_rate, num_bins, max_shift, mask, class_weight, prior, objective_kwargs: see
            `PLMSettings`; None for the preset's.
        update_steps: how often you call `end_epoch`, see `PLMSettings`; it is kept in the state, and changes nothing
            here.
        seed: of random masks. A mask is a function of the seed, the number of the batch and the rank.
        fused: whether to compile what is computed of a training batch (`fused.py`), which takes some seconds at the
            first batch; None for yes from `MANY_LABELS` labels on.
        sparse: whether labels come as class ids, see `forward`.

    Attributes:
        state: the live `PLMState`; it may be replaced by a loaded one of the same labels, data and settings.
        settings: the `PLMSettings` in force.

    Raises:
        ValueError: for a setting out of range; when a state that does not fit replaces this one, by assignment or by
            `load_state_dict`, see `PLMState.differences`.
    """

    def __init__(
        self,
        label_counts: LabelCounts | Mapping[str, Any],
        preset: str = "default",
        objective: str | Objective | None = None,
        *,
        initial_ratio: str | float | None = None,
        temper: float | None = None,
        rule: str | None = None,
        change_rate: float | None = None,
        num_bins: int | None = None,
        max_shift: float | None = None,
        mask: str | None = None,
        class_weight: float | None = None,
        prior: str | None = None,
        objective_kwargs: Mapping[str, Any] | None = None,
        update_steps: int | None = None,
        seed: int = 0,
        fused: bool | None = None,
        sparse: bool = False,
    ):
        super().__init__()
        self.settings = PLMSettings.from_preset(
            preset,
            initial_ratio=initial_ratio,
            temper=temper,
            rule=rule,
            change_rate=change_rate,
            num_bins=num_bins,
            max_shift=max_shift,
            mask=mask,
            class_weight=class_weight,
            prior=prior,
            objective=objective,
            objective_kwargs=objective_kwargs,
            update_steps=update_steps,
        )
        self.objective: Objective = self.settings.bound_objective()
        self._needs_counts = needs_counts(self.objective)
        self.seed = seed
        self.state = PLMState(count_labels(label_counts), self.settings)
        self.fused = self.state.num_labels >= MANY_LABELS if fused is None else fused
        self._must_be_fused = fused
        self._is_compiled = False
        self.sparse = sparse
        if self.fused and self.settings.num_bins > MAX_BINS:
            raise ValueError(
                f"num_bins is {self.settings.num_bins}; with many labels, or fused=True, it must be {MAX_BINS} or less"
            )
        self._label_seeds = fold(scramble(torch.arange(self.state.num_labels, dtype=torch.int32)))
        self._label_checks = LabelChecks(self.state.num_labels, self.state.label_names, sparse)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "state" and "state" in self._modules:
            self.state.refuse(value)
        super().__setattr__(name, value)

    def forward(self, logits: Tensor, labels: Tensor, num_known: Tensor | int | None = None) -> Tensor:
        """The loss of a batch: the weighted sum over the kept labels, divided by the number of known labels.

        Args:
            logits (float, `(batch, num_labels)`): raw scores, in any floating dtype.
            labels (`(batch, num_labels)`): 1, 0, or unknown (NaN or -100), in any dtype. If `sparse`, the ids of each
                row's positives, see `multi_hot_labels`.
            num_known: how many known labels to divide by, for a batch that is part of a larger one (accumulation,
                several ranks); None for those of this batch.

        Returns:
            a scalar, in float32 (float64 for float64 logits); 0 if every label is masked or unknown.

        Raises:
            ValueError: if a shape is wrong, a label is neither 1, 0 nor unknown, or the objective's output is not of
                the shape of `logits`. On a GPU, wrong labels are raised by `raise_for_wrong_labels`, because nothing
                here waits for it.
        """
        if self.sparse:
            class_ids, labels = labels, multi_hot_labels(labels, self.state.num_labels)
            self._label_checks.check(wrong_class_ids(class_ids, self.state.num_labels), class_ids)
        self._check_shapes(logits, labels)
        if self.state.ideal_ratio.device != logits.device:
            self.state.to(logits.device)
        if not (self.training and self.fused and len(logits)):
            return self._eager_loss(logits, labels, num_known)
        try:
            return self._fused_loss(logits, labels, num_known)
        except (TorchDynamoException, FailOnRecompileLimitHit, ObjectiveHasParameters) as error:
            loss = self._eager_loss(logits, labels, num_known)  # an objective that is wrong says so itself
            if self._must_be_fused:
                raise
            self.fused = False
            logger.warning(
                "The loss could not be compiled and takes several times as long as it could: "
                f"{type(error).__name__}: {error}\n"
                "It takes a C++ compiler (on a GPU: Triton) and an objective that torch.compile can compile whole; "
                "fused=False (plm_fused) silences this"
            )
            return loss

    def _eager_loss(self, logits: Tensor, labels: Tensor, num_known: Tensor | int | None) -> Tensor:
        objective = self._objective()
        hand_written = by_hand(objective)
        needs_gradient = logits.requires_grad and torch.is_grad_enabled()
        if hand_written is not None and can_look(logits) and not (self.training or needs_gradient):
            loss = self._loss_of_parts(logits, labels, num_known, hand_written)
            if loss is not None:
                return loss
        logits, labels, all_known = self._prepare(logits, labels)
        if hand_written is not None and self.training and takes(logits):
            return self._loss_by_hand(logits, labels, all_known, num_known, hand_written)
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
        """Logits plus the offset and labels, both in float32 or more, and whether it is seen that all are known.

        Raises a ValueError for wrong labels; `first_row` is the number of the first of these rows.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        given, labels = labels, labels.to(logits.dtype)
        all_known = can_look(given) and are_all_known(given if given.dtype == torch.float64 else labels)
        if not all_known:
            self._label_checks.check(wrong_labels(given), given, first_row)
        offset = self.state.offset()
        return logits if offset is None else logits + offset, labels, all_known

    def _loss_by_hand(
        self, logits: Tensor, labels: Tensor, all_known: bool, num_known: Tensor | int | None, objective: ByHand
    ) -> Tensor:
        """As `_eager_loss` in training, in few passes."""
        state = self.state
        is_random = self.settings.mask == "random" and not state.keeps_all()
        mask = Mask(state.weights(), state.keep_probabilities(), self._seeds(logits) if is_random else None)
        found = few_passes(logits.detach(), labels, all_known, mask, objective)
        state.observe_counted(counters_of(found.probabilities, found.positive, state.num_bins), found.known)
        num_known = max(found.num_known(), 1) if num_known is None else num_known
        return LossByHand.apply(logits, found, num_known, self._objective())

    def _loss_of_parts(
        self, logits: Tensor, labels: Tensor, num_known: Tensor | int | None, objective: ByHand
    ) -> Tensor | None:
        """As `_eager_loss` in evaluation, in few passes over some rows at a time; None where that cannot be."""
        row_totals, known, step = [], 0, max(PART_SIZE // self.state.num_labels, 1)
        for row in range(0, len(logits), step):
            part, truth, all_known = self._prepare(logits[row : row + step], labels[row : row + step], row)
            if not takes(part):
                return None
            found = few_passes(part, truth, all_known, None, objective)
            row_totals.append(found.row_totals)
            known += found.num_known()
        return torch.cat(row_totals).sum() / (max(known, 1) if num_known is None else num_known)

    def _fused_loss(self, logits: Tensor, labels: Tensor, num_known: Tensor | int | None) -> Tensor:
        if not self._is_compiled:
            logger.warning(f"The loss of {self.state.num_labels} labels is compiled now, which takes some seconds")
            self._is_compiled = True
        values, targets = logits.detach(), labels
        if targets.dtype in (torch.bool, torch.uint8):  # hold no -100
            targets = targets.view(torch.int8) if targets.dtype == torch.bool else targets.to(torch.int16)
        if len(logits) == 1:  # a case of its own to the compiler: add a row of unknown labels
            values = torch.cat([values, values])
            targets = torch.cat([targets, torch.full_like(targets, -100)])
        fused = compiled_total(
            values,
            targets,
            *self.state.keep_probabilities(),
            self.state.weights(),
            self.state.offset(),
            self._seeds(values) if self.settings.mask == "random" else None,
            self._objective(),
            self.state.num_bins,
        )
        if fused.total.requires_grad:
            raise ObjectiveHasParameters("the objective has parameters, of which this loss has no gradient")
        self._label_checks.check_rows(fused.wrong[: len(logits)], labels)
        self.state.observe_binned(fused.bins, fused.nonfinite)
        if num_known is None:
            num_known = fused.known.clamp(min=1)
        return LossWithGradient.apply(logits, fused.total, fused.gradient[: len(logits)], num_known)

    def _objective(self) -> Callable[[Tensor, Tensor], Tensor]:
        if not self._needs_counts:
            return self.objective
        positives, negatives = self.state.positives.float(), self.state.negatives.float()
        return functools.partial(self.objective, positives=positives, negatives=negatives)

    def _seeds(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The seeds of the rows and of the labels of a batch, see `uniform_draws`."""
        bits = np.random.PCG64((self.seed, self.state.num_batches, process_rank()))
        rows = torch.from_numpy(bits.random_raw(-(-len(logits) // 2)).view(np.int32)[: len(logits)] ^ FIRST_BIT)
        if self._label_seeds.device != logits.device:
            self._label_seeds = self._label_seeds.to(logits.device)
        return fold(rows.to(logits.device, non_blocking=True)), self._label_seeds

    def forget_start(self) -> None:
        """Before the first update of the rule `marginal`, forget what was measured of the model as it started.

        Call it in the middle of the first epoch, as `PLMTrainer` does: an untrained model predicts rare labels by
        accident, and the rule would lower their ideal ratios.
        """
        if self.settings.rule == "marginal" and self.state.num_updates == 0 and not self.state.is_estimating:
            self.state.histograms.zero_()

    def end_epoch(self) -> None:
        """Adapt the ideal ratios to what was measured since the last call. On several ranks, all must call it.

        Warns if logits or losses were NaN or infinite.

        Raises:
            ValueError: see `raise_for_wrong_labels`; the ideal ratios are then as they were.
        """
        self.raise_for_wrong_labels()
        self.state.update(self.settings)
        nonfinite = self.state.nonfinite.item()
        if nonfinite:
            warnings.warn(
                f"{nonfinite} known labels had a logit or a loss that was NaN or infinite since the last update. The "
                "ideal ratios are unharmed, the model may not be: look at the inputs and the objective, lower the "
                "learning rate, or clip the gradients",
                stacklevel=2,
            )

    def raise_for_wrong_labels(self) -> None:
        """Wait for the device, and raise a ValueError if a label since the last call was neither 1, 0 nor unknown.

        `end_epoch` calls it. On a CPU `forward` has raised already.
        """
        self._label_checks.raise_found()

    def _check_shapes(self, logits: Tensor, labels: Tensor) -> None:
        num_labels = self.state.num_labels
        if logits.dim() != 2 or logits.shape[1] != num_labels:
            raise ValueError(
                f"logits have shape {tuple(logits.shape)}; (batch, {num_labels}) is needed for {num_labels} labels. "
                "Make the model with num_labels equal to the number of labels counted"
            )
        if labels.shape != logits.shape:
            raise ValueError(
                f"labels have shape {tuple(labels.shape)} and logits {tuple(logits.shape)}; give one value per label "
                "(MultiLabelCollator makes them from lists of class ids or names)"
            )
