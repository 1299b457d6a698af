"""Partial Label Masking as a loss for any PyTorch loop; `PLMTrainer` uses it too."""

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .counting import count_labels
from .eager_loss import EagerLoss
from .fused import LossWithGradient, ObjectiveHasParameters, compilation_errors, compiled_total
from .label_counts import LabelCounts
from .label_tensors import multi_hot_labels, wrong_class_ids
from .objectives import Objective
from .packed_histograms import MAX_BINS
from .presets import PLMSettings

logger = logging.getLogger(__name__)

MANY_LABELS = 5_000
"""From this number of labels on, the loss takes a large part of a step and is compiled by default."""


class PLMLoss(EagerLoss):
    """An element-wise objective whose labels are masked at random, or weighted as masks would on average, so that each
    class has its ideal ratio.

    In training mode it masks or weights the labels and measures the predictions; after `.eval()` it does neither and
    is the mean of the objective. It has no parameters and no buffers; its `state_dict` is that of its `PLMState`.

        plm_loss = PLMLoss(count_labels(train_set))
        for epoch in range(num_epochs):
            for inputs, labels in loader:
                loss = plm_loss(model(inputs), labels)
                ...
            plm_loss.end_epoch()

    Args:
        label_counts: `LabelCounts`, or a mapping as for `LabelCounts.from_mapping`.
        preset: `default`, `paper` or `off`.
        objective: a name in `OBJECTIVES` (`objectives.py`), or a callable `(logits, labels)` that returns the loss of
            every entry, `(batch, num_labels)`; None for the preset's. A callable that also requires `positives` and
            `negatives` gets the label counts, float `(num_labels,)`, as keyword arguments.
        initial_ratio, temper, rule, change_rate, num_bins, max_shift, mask, class_weight, prior, objective_kwargs: see
            `PLMSettings`; None for the preset's.
        update_steps: how often you call `end_epoch`, see `PLMSettings`; it is only saved in the state.
        seed: of random masks. A mask depends on the seed, the number of the batch and the rank.
        fused: whether to compile the loss of training batches (`fused.py`), which takes some seconds at the first
            batch; None to compile it from `MANY_LABELS` labels on.
        sparse: whether labels come as class ids, see `forward`.

    Attributes:
        state: the current `PLMState`; you may replace it by a loaded one with the same labels, data and settings.
        settings: the `PLMSettings` in force.

    Raises:
        ValueError: if a setting is out of range, or a state that does not fit is assigned or loaded by
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
        settings = PLMSettings.from_preset(
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
        super().__init__(settings, count_labels(label_counts), seed, sparse)
        self.fused = self.state.num_labels >= MANY_LABELS if fused is None else fused
        self._must_be_fused = fused
        self._is_compiled = False
        if self.fused and self.settings.num_bins > MAX_BINS:
            raise ValueError(
                f"num_bins is {self.settings.num_bins}; with many labels, or fused=True, it must be {MAX_BINS} or less"
            )

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
            num_known: the number of known labels to divide by, if this batch is part of a larger one (accumulation,
                several ranks); None for the number in this batch.

        Returns:
            a scalar, in float32 (float64 for float64 logits); 0 if every label is masked or unknown.

        Raises:
            ValueError: if a shape is wrong, a label is neither 1, 0 nor unknown, or the objective's output does not
                have the shape of `logits`. On a GPU, `raise_for_wrong_labels` raises for wrong labels, because
                `forward` does not wait for the device.
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
        except compilation_errors() as error:
            loss = self._eager_loss(logits, labels, num_known)  # raises the error of a wrong objective
            if self._must_be_fused:
                raise
            self.fused = False
            logger.warning(
                "The loss could not be compiled, so it takes several times as long: "
                f"{type(error).__name__}: {error}\n"
                "Compiling needs a C++ compiler (on a GPU: Triton) and an objective that torch.compile can compile as "
                "a whole. To hide this warning, set fused=False (plm_fused=False)"
            )
            return loss

    def _fused_loss(self, logits: Tensor, labels: Tensor, num_known: Tensor | int | None) -> Tensor:
        if not self._is_compiled:
            logger.warning(f"The loss of {self.state.num_labels} labels is compiled now, which takes some seconds")
            self._is_compiled = True
        values, targets = logits.detach(), labels
        if targets.dtype in (torch.bool, torch.uint8):  # cannot hold -100
            targets = targets.view(torch.int8) if targets.dtype == torch.bool else targets.to(torch.int16)
        if len(logits) == 1:  # the compiler treats one row as a special case: add a row of unknown labels
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
            raise ObjectiveHasParameters("the objective has parameters; the compiled loss gives them no gradient")
        self._label_checks.check_rows(fused.wrong[: len(logits)], labels)
        self.state.observe_bins(fused.bins, fused.nonfinite)
        if num_known is None:
            num_known = fused.known.clamp(min=1)
        arguments = (logits, fused.total, fused.gradient[: len(logits)], num_known)
        loss: Tensor = LossWithGradient.apply(*arguments)  # type: ignore[no-untyped-call]  # torch gives it no types
        return loss

    def end_epoch(self) -> None:
        """Adapt the ideal ratios to the measurements since the last call. With several ranks, every rank must call it.

        Warns if logits or losses were NaN or infinite.

        Raises:
            ValueError: see `raise_for_wrong_labels`; the ideal ratios then do not change.
        """
        self.raise_for_wrong_labels()
        self.state.update(self.settings)
        nonfinite = self.state.nonfinite.item()
        if nonfinite:
            warnings.warn(
                f"{nonfinite} known labels had a logit or a loss that was NaN or infinite since the last update. The "
                "ideal ratios are not affected, but the model may be: check the inputs and the objective, lower the "
                "learning rate, or clip the gradients",
                stacklevel=2,
            )

    def raise_for_wrong_labels(self) -> None:
        """Wait for the device, and raise a ValueError if a label since the last call was neither 1, 0 nor unknown.

        `end_epoch` calls it. On a CPU, `forward` raises at once.
        """
        self._label_checks.raise_found()

    def _check_shapes(self, logits: Tensor, labels: Tensor) -> None:
        num_labels = self.state.num_labels
        if logits.dim() != 2 or logits.shape[1] != num_labels:
            raise ValueError(
                f"logits have shape {tuple(logits.shape)}; with {num_labels} labels it must be (batch, {num_labels}). "
                f"Make the model with num_labels={num_labels}"
            )
        if labels.shape != logits.shape:
            raise ValueError(
                f"labels have shape {tuple(labels.shape)} and logits {tuple(logits.shape)}; give one value per label "
                "(MultiLabelCollator makes them from lists of class ids or names)"
            )
