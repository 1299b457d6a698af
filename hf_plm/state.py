"""The state of Partial Label Masking: what is measured and adapted for each label during training."""

import os
from typing import Any

import torch
from torch import Tensor

from . import functional, rules
from .label_counts import LabelCounts
from .label_ratios import LabelRatios
from .packed_histograms import PackedHistograms
from .presets import PLMSettings
from .ranks import process_rank, sum_over_ranks
from .state_differences import count_differences, name_differences, number_differences, setting_differences
from .state_tensors import TENSORS, read_tensors

MAX_HISTORY = 5_000_000
"""The most entries of `history` and of `shifts`, 40 MB together; other tensors of 10^6 labels take 188 MB."""


class PLMState(LabelRatios):
    """Counts, measurements and ideal ratios of the labels, and the values derived from them (`LabelRatios`).

    It holds no reference to a model. It is a module so that it is moved, saved and loaded with the `PLMLoss` that
    contains it. It has neither parameters nor buffers: each rank has its own measurements, and
    `DistributedDataParallel` would overwrite buffers.

    Args:
        label_counts: positives and negatives of each label in the training set. If all are 0, they are estimated
            during training from the labels seen; every label is kept until the first update.
        settings: the settings of the method; they set the first ideal ratios and the number of bins.

    Attributes:
        positives (int64, `(num_labels,)`): how often each label is 1.
        negatives (int64, `(num_labels,)`): how often each label is 0.
        label_names (list of str, or None): the names in the `LabelCounts`.
        settings (dict): `PLMSettings.to_dict()`.
        is_estimating (bool): whether each update adds the labels seen since the last update to the counts.
        ideal_ratio (float32, `(num_labels,)`): I, in positives per negative.
        shift_in_force (float32, `(num_labels,)`): `shift()` at the last training batch, or at the start.
        histograms (int32, `(2, num_labels, num_bins)`): how often each predicted probability was seen since the last
            update, `[0]` for positives, `[1]` for negatives. After an update they stay readable until the next batch.
            With several ranks, each rank holds only its own measurements until the update.
        nonfinite (int64, `()`): number of known labels whose logit or loss was NaN or infinite since the last update.
            Such logits are in no histogram.
        is_measuring (bool): whether `histograms` hold measurements that no update has used yet.
        num_batches (int): number of training batches that each rank has seen; it is part of the mask's seed, so every
            batch gets a different mask.
        num_ranks (int): number of ranks when a loaded state was saved; 1 for a new state.
        history (float32, `(num_updates + 1, num_labels)`): the ideal ratios at the start and after each update. If it
            would exceed `MAX_HISTORY` numbers, every second row is dropped, except for the last two rows.
        shifts (float32, the shape of `history`): `mask_shift()` at the same times.
        history_updates (int64, `(len(history),)`): the number of updates before each row of `history`.
    """

    def __init__(self, label_counts: LabelCounts, settings: PLMSettings):
        super().__init__()
        self.positives = label_counts.positives.clone()
        self.negatives = label_counts.negatives.clone()
        self.label_names = label_counts.label_names
        self.settings = settings.to_dict()
        self.is_estimating = not (self.positives + self.negatives).any().item()
        self.ideal_ratio = self._initial_ideal_ratio(settings)
        self.histograms = torch.zeros(2, self.num_labels, settings.num_bins, dtype=torch.int32)
        self.nonfinite = torch.zeros((), dtype=torch.long)
        self.history = self.ideal_ratio[None].clone()
        self.shift_in_force = self.shift()
        self.shifts = self.mask_shift()[None]
        self.history_updates = torch.zeros(1, dtype=torch.long)
        self.is_measuring = False
        self.num_batches = 0
        self.num_ranks = 1

    @property
    def num_updates(self) -> int:
        """The number of updates of the ideal ratios so far."""
        return int(self.history_updates[-1])

    @property
    def num_bins(self) -> int:
        return self._histograms.shape[1]

    def groups(self) -> dict[str, Tensor]:
        """The groups head, medium and tail by the counts, on the CPU; see `LabelCounts.groups`."""
        return LabelCounts(self.positives, self.negatives).groups()

    @property
    def histograms(self) -> Tensor:
        self._packed.flush(self._histograms)
        return self._histograms.transpose(1, 2)

    @histograms.setter
    def histograms(self, histograms: Tensor) -> None:
        # With the labels last, the numbers that are added for one bin are next to each other.
        self._histograms = histograms.transpose(1, 2).contiguous()
        self._packed = PackedHistograms()

    def observe(self, logits: Tensor, labels: Tensor, losses: Tensor) -> None:
        """Add a batch to the histograms, without unknown labels. All arguments are float `(batch, num_labels)`."""
        self._begin_batch()
        self.histograms += functional.probability_histograms(logits, labels, self.num_bins)
        self.nonfinite += functional.count_nonfinite(logits, labels, losses)

    def observe_indices(self, indices: Tensor, known: Tensor | None) -> None:
        """As `observe`, with the index of each entry's bin in the histograms.

        Args:
            indices (int64, `(entries,)`): see `few_passes.histogram_indices`.
            known (float, `entries` numbers): 1 to count an entry, 0 to leave it out; None counts all.
        """
        self._begin_batch()
        counts = torch.ones_like(indices, dtype=torch.int32) if known is None else known.int().view(-1)
        self._histograms.view(-1).scatter_add_(0, indices, counts)

    def observe_bins(self, bins: Tensor, nonfinite: Tensor) -> None:
        """As `observe`, with the measurements of `fused_total`."""
        self._begin_batch()
        self.nonfinite += nonfinite
        self._packed.add(bins, self._histograms)

    def update(self, settings: PLMSettings) -> None:
        """Adapt the ideal ratios to the measurements of all ranks. Every rank must call it; all get the same result.

        Without a batch since the last update the ideal ratios do not change. If the counts are estimated, a class that
        had no ratio yet gets its initial ideal ratio. The other ideal ratios keep their factor to the initial ones,
        which change with the counts, and then adapt.
        """
        if not self.is_measuring:
            self.forget_measurements()
        self._packed.flush(self._histograms)
        sum_over_ranks(self._histograms, self.nonfinite)
        had_ratio = self.has_ratio
        if self.is_estimating:
            self._count_seen(settings)
        self.ideal_ratio = rules.update_ideal_ratio(
            self.ideal_ratio,
            self._initial_ideal_ratio(settings),
            self.ratio,
            had_ratio,
            self.histograms,
            settings.rule,
            settings.change_rate,
            settings.max_shift,
            self.num_updates,
        )
        self._remember()
        self.is_measuring = False

    def differences(self, earlier: "PLMState") -> list[str]:
        """The differences of an earlier state ("there") from this one ("here") in labels, settings and training data.

        Returns:
            sentences for a message; empty if training can continue from the earlier state. Counts are not compared if
            both states estimate them, and names are not compared if one state has none.
        """
        labels = self._label_differences(earlier)
        settings = setting_differences(self.settings, earlier.settings)
        if self.is_estimating != earlier.is_estimating:
            estimated, given = ("there", "here") if earlier.is_estimating else ("here", "there")
            counts = [f"the counts of the labels are estimated during training {estimated} and given {given}"]
        elif self.is_estimating or labels:
            counts = []
        else:
            here, there = (torch.stack([state.positives, state.negatives]).cpu() for state in (self, earlier))
            counts = count_differences(here, there, self.label_names or earlier.label_names)
        return [*labels, *settings, *counts]

    def adopt_ratios(self, earlier: "PLMState") -> None:
        """Continue with the ideal ratios of an earlier state, under the settings and counts of this one.

        This state takes over the ideal ratios, within the bounds of its own R and `max_shift`, the history, the shifts
        and the number of batches; the counts, if both states estimate them; and the current measurements, if both
        have the same number of bins. A label without a ratio in the earlier state keeps its ideal ratio of this state.

        Raises:
            ValueError: if the labels or their order differ, or if the counts are known only in the earlier state.
        """
        if found := self._label_differences(earlier):
            raise ValueError(f"the ideal ratios belong to other labels: {'; '.join(found)}")
        if self.is_estimating and not earlier.is_estimating:
            raise ValueError(
                "the ideal ratios cannot be kept: the counts of the labels, which bound them, are estimated during "
                "training here; pass label_counts=..., or start again (plm_restart=True)"
            )
        taken = {name: getattr(earlier, name).to(self.ideal_ratio.device, copy=True) for name in TENSORS}
        if self.is_estimating and earlier.is_estimating:
            self.positives, self.negatives = taken["positives"], taken["negatives"]
        bounded = functional.bound_ideal_ratio(taken["ideal_ratio"], self.ratio, self.settings["max_shift"])
        had_ratio = functional.has_ratio(taken["positives"], taken["negatives"])
        self.ideal_ratio = torch.where(had_ratio & self.has_ratio, bounded, self.ideal_ratio)
        for name in ("history", "shifts", "history_updates", "shift_in_force"):
            setattr(self, name, taken[name])
        self.history[-1], self.shifts[-1] = self.ideal_ratio, self.mask_shift()
        self.num_batches = earlier.num_batches
        if self.num_bins == earlier.num_bins:
            self.histograms, self.nonfinite = taken["histograms"], taken["nonfinite"]
            self.is_measuring = earlier.is_measuring

    def can_adopt(self, earlier: "PLMState") -> bool:
        """Whether `adopt_ratios` accepts an earlier state."""
        return not self._label_differences(earlier) and (earlier.is_estimating or not self.is_estimating)

    def refuse(self, loaded: "PLMState") -> None:
        """Raise a ValueError with the `differences` if a loaded state does not fit."""
        if found := self.differences(loaded):
            keep = "; or keep only its ideal ratios (plm_keep_ratios=True, or plm_loss.state.adopt_ratios(loaded))"
            raise ValueError(
                f"the state does not fit: {'; '.join(found)}. Give the loss the labels, data and settings of the "
                f"state; or start again without it (plm_restart=True){keep if self.can_adopt(loaded) else ''}"
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str], num_labels: int | None = None) -> "PLMState":
        """Read a state from a file, onto the CPU.

        Args:
            num_labels: the number of labels that it must have; None accepts any number.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is truncated, is not a safetensors file, was not written by `save` or was written
                by an earlier version, contradicts itself, or has a different number of labels.
        """
        state = cls.from_tensors(read_tensors(path), os.fspath(path))
        if num_labels is not None and state.num_labels != num_labels:
            raise ValueError(f"{path} holds the state of {state.num_labels} labels; there are {num_labels} here")
        return state

    def forget_measurements(self) -> None:
        """Forget the batches since the last update."""
        self.histograms.zero_()
        self.nonfinite.zero_()

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        if self.is_measuring and process_rank() > 0:
            self.forget_measurements()  # all ranks load the same values, but their sum must count them once

    def _label_differences(self, earlier: "PLMState") -> list[str]:
        return [
            *number_differences(self.num_labels, earlier.num_labels),
            *name_differences(self.label_names, earlier.label_names),
        ]

    def _initial_ideal_ratio(self, settings: PLMSettings) -> Tensor:
        return functional.initial_ideal_ratio(
            self.ratio, self.has_ratio, settings.initial_ratio, settings.temper, settings.max_shift
        )

    def _count_seen(self, settings: PLMSettings) -> None:
        shift = self.ideal_ratio / self._initial_ideal_ratio(settings)
        self.positives = self.positives + self.histograms[0].sum(-1)
        self.negatives = self.negatives + self.histograms[1].sum(-1)
        ideal_ratio = self._initial_ideal_ratio(settings) * shift
        self.ideal_ratio = functional.bound_ideal_ratio(ideal_ratio, self.ratio, settings.max_shift)

    def _remember(self) -> None:
        self.history = torch.cat([self.history, self.ideal_ratio[None]])
        self.shifts = torch.cat([self.shifts, self.mask_shift()[None]])
        self.history_updates = torch.cat([self.history_updates, self.history_updates[-1:] + 1])
        if len(self.history) > 4 and self.history.numel() > MAX_HISTORY:
            rows = torch.arange(len(self.history), device=self.history.device)
            rows = rows[(rows % 2 == 0) | (rows >= len(rows) - 2)]
            for name in ("history", "shifts", "history_updates"):
                setattr(self, name, getattr(self, name)[rows])

    def _begin_batch(self) -> None:
        if not self.is_measuring:
            self.forget_measurements()
            self.is_measuring = True
        self.num_batches += 1
        if self.shift_in_force is not self.shift():  # setting a module's attribute is slow
            self.shift_in_force = self.shift()
