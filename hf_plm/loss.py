"""Partial Label Masking as a loss for any PyTorch loop; `PLMTrainer` uses the same."""

import functools
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .functional import known_labels, sample_mask
from .label_counts import LabelCounts, count_labels
from .objectives import OBJECTIVES, Objective, needs_counts
from .presets import PLMSettings
from .state import PLMState, process_rank


class PLMLoss(nn.Module):
    """An element-wise objective of which labels are masked at random, so that each class has its ideal ratio.

    In training mode it masks and measures; after `.eval()` it does neither and is the mean of the objective. It has
    neither parameters nor buffers.

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
        initial_ratio, temper, rule, change_rate, num_bins, max_shift, objective_kwargs: see `PLMSettings`; None for
            the preset's.
        seed: of the masks. A mask is a function of the seed, the number of the batch and the rank.

    Attributes:
        state: the live `PLMState`; it may be replaced by a loaded one.
        settings: the `PLMSettings` in force.

    Raises:
        ValueError: for a setting out of range.
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
        objective_kwargs: Mapping[str, Any] | None = None,
        seed: int = 0,
    ):
        super().__init__()
        if callable(objective) and objective_kwargs:
            raise ValueError(
                f"objective_kwargs is {objective_kwargs!r}, but the objective is a callable; bind its arguments with "
                "functools.partial"
            )
        self.settings = PLMSettings.from_preset(
            preset,
            initial_ratio=initial_ratio,
            temper=temper,
            rule=rule,
            change_rate=change_rate,
            num_bins=num_bins,
            max_shift=max_shift,
            objective=None if callable(objective) else objective,
            objective_kwargs=objective_kwargs,
        )
        self.objective: Objective = (
            objective
            if callable(objective)
            else functools.partial(OBJECTIVES[self.settings.objective], **self.settings.objective_kwargs)
        )
        self._needs_counts = needs_counts(self.objective)
        self.seed = seed
        self.state = PLMState(count_labels(label_counts), self.settings)

    def forward(self, logits: Tensor, labels: Tensor, num_known: Tensor | int | None = None) -> Tensor:
        """The loss of a batch: the sum over the kept labels, divided by the number of known labels.

        Args:
            logits (float, `(batch, num_labels)`): raw scores, in any floating dtype.
            labels (`(batch, num_labels)`): 1, 0, or unknown (NaN or -100).
            num_known: how many known labels to divide by, for a batch that is part of a larger one (accumulation,
                several ranks); None for those of this batch.

        Returns:
            a scalar, in float32 (float64 for float64 logits); 0 if every label is masked or unknown.

        Raises:
            ValueError: if a shape is wrong, or the objective's output is not of the shape of `logits`.
        """
        self._check_shapes(logits, labels)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        labels = labels.to(logits.dtype)
        known = kept = known_labels(labels)
        self.state.to(logits.device)
        if self.training:
            kept = sample_mask(labels, *self.state.keep_probabilities(), self._generator(logits.device))
        counts = {"positives": self.state.positives, "negatives": self.state.negatives}
        # What is masked is taken out before and after, so that no gradient can come of it (0 * inf is NaN).
        losses = self.objective(
            logits.masked_fill(~kept, 0), labels.masked_fill(~known, 0), **(counts if self._needs_counts else {})
        )
        if losses.shape != logits.shape:
            raise ValueError(
                f"the objective returned the shape {tuple(losses.shape)} for logits of {tuple(logits.shape)}; it must "
                "return the loss of every entry (in PyTorch: reduction='none')"
            )
        if self.training:
            self.state.observe(logits, labels, losses)
        if num_known is None:
            num_known = known.sum().clamp(min=1)
        return losses.masked_fill(~kept, 0).sum() / num_known

    def end_epoch(self) -> None:
        """Adapt the ideal ratios to what was measured since the last call. On several ranks, all must call it.

        Warns if logits or losses were NaN or infinite.
        """
        self.state.update(self.settings)
        nonfinite = self.state.nonfinite.item()
        if nonfinite:
            warnings.warn(
                f"{nonfinite} known labels had a logit or a loss that was NaN or infinite since the last update. The "
                "ideal ratios are unharmed, the model may not be: look at the inputs and the objective, lower the "
                "learning rate, or clip the gradients",
                stacklevel=2,
            )

    def _generator(self, device: torch.device) -> torch.Generator:
        seed = np.random.SeedSequence((self.seed, self.state.num_batches, process_rank())).generate_state(1, np.uint64)
        return torch.Generator(device).manual_seed(int(seed[0]))

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
