"""What Partial Label Masking knows about each label, measured and adapted while a model trains."""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from . import functional
from .label_counts import LabelCounts
from .packed_histograms import PackedHistograms
from .presets import PLMSettings
from .ranks import sum_over_ranks
from .state_file import FACTS, TENSORS, check_tensors, read_file, write_file

FACT_NAMES = ("label_names", "settings", "num_batches", "is_measuring", "is_estimating")

MAX_HISTORY = 5_000_000
"""So many numbers of `history` are kept: 20 MB, beside 176 MB for all else of a million labels."""


class PLMState(nn.Module):
    """Counts, measurements and ideal ratios of the labels. It holds no reference to a model.

    It moves and is saved as every module; its tensors are no buffers, because
    `DistributedDataParallel` would copy those of the first rank over the measurements of the others. They keep their
    dtypes in a model of half precision.

    Args:
        label_counts: positives and negatives of each label over the training set. If all are 0 they are estimated on
            the way, from what is seen: every label is kept until the first update.
        settings: where the ideal ratios start, and how many bins the histograms have.

    Attributes:
        positives, negatives (int64, `(num_labels,)`): the counts.
        label_names (list or None): those of the counts.
        settings (dict): the settings in force, as JSON has them.
        is_estimating (bool): whether each update adds what was seen since the last to the counts.
        ideal_ratio (float32, `(num_labels,)`): I, in positives per negative.
        histograms (int32, `(2, num_labels, num_bins)`): how often each predicted probability was seen, `[0]` over the
            positives, `[1]` over the negatives, since the last update. After an update they stay readable until the
            next batch. While an epoch runs on several ranks, each holds what it has seen itself.
        nonfinite (int64, `()`): number of known labels whose logit or loss was NaN or infinite since the last update.
            Such logits are in no histogram.
        is_measuring (bool): whether `histograms` hold measurements that no update has used yet.
        num_batches (int): how many training batches were seen, by each rank; it is part of the seed of every mask.
        shift_in_force (float32, `(num_labels,)`): log(I / R) when the last training batch was seen, before the first
            that of the start; 0 for a label that was not masked.
        history (float32, `(num_updates + 1, num_labels)`): the ideal ratios at the start and after each update. When
            it would hold more than `MAX_HISTORY` numbers, every second row goes, but for the last two.
        shifts (float32, the shape of `history`): log(I / R) at the same moments, from each in force until the next.
        history_updates (int64, `(len(history),)`): after how many updates each row of `history` was taken.
    """

    def __init__(self, label_counts: LabelCounts, settings: PLMSettings):
        super().__init__()
        self.label_names = label_counts.label_names
        self.settings = settings.to_dict()
        self.positives = label_counts.positives.clone()
        self.negatives = label_counts.negatives.clone()
        self.is_estimating = not (self.positives + self.negatives).any().item()
        self.ideal_ratio = self._initial_ideal_ratio(settings)
        self.bin_counts = torch.zeros(2, settings.num_bins, self.num_labels, dtype=torch.int32)
        self.nonfinite = torch.zeros((), dtype=torch.long)
        self.shift_in_force = self.shift
        self.history = self.ideal_ratio[None].clone()
        self.shifts = self.shift[None]
        self.history_updates = torch.zeros(1, dtype=torch.long)
        self.is_measuring = False
        self.num_batches = 0
        self._packed = PackedHistograms()

    @property
    def num_labels(self) -> int:
        return len(self.positives)

    @property
    def num_bins(self) -> int:
        return self.bin_counts.shape[1]

    @property
    def ratio(self) -> Tensor:
        """R, positives per negative, float32 `(num_labels,)`; 1 for a class that lacks either."""
        return functional.label_ratio(self.positives, self.negatives)

    @property
    def has_ratio(self) -> Tensor:
        """Which classes have both positives and negatives, bool `(num_labels,)`. The others keep every label."""
        return functional.has_ratio(self.positives, self.negatives)

    @property
    def shift(self) -> Tensor:
        """log(I / R) now, float32 `(num_labels,)`; 0 for a class without a ratio, which is not masked."""
        return torch.where(self.has_ratio, torch.log(self.ideal_ratio / self.ratio), 0.0)

    @property
    def ideal_ratio(self) -> Tensor:
        return self._ideal_ratio

    @ideal_ratio.setter
    def ideal_ratio(self, ideal_ratio: Tensor) -> None:
        self._ideal_ratio = ideal_ratio
        self._keep_probabilities: tuple[Tensor, Tensor] | None = None

    def keep_probabilities(self) -> tuple[Tensor, Tensor]:
        """With which probability positives and negatives enter the loss: two float32 tensors `(num_labels,)`.

        They are computed anew when `ideal_ratio` is set.
        """
        if self._keep_probabilities is None:
            self._keep_probabilities = functional.keep_probabilities(self.ratio, self.ideal_ratio)
        return self._keep_probabilities

    @property
    def bin_counts(self) -> Tensor:
        """`histograms` with the labels last, so that what is counted in one bin lies together."""
        self._packed.empty_into(self._bin_counts)
        return self._bin_counts

    @bin_counts.setter
    def bin_counts(self, bin_counts: Tensor) -> None:
        self._bin_counts = bin_counts.contiguous()
        self._packed = PackedHistograms()

    @property
    def histograms(self) -> Tensor:
        return self.bin_counts.transpose(1, 2)

    @histograms.setter
    def histograms(self, histograms: Tensor) -> None:
        self.bin_counts = histograms.transpose(1, 2)

    def observe(self, logits: Tensor, labels: Tensor, losses: Tensor) -> None:
        """Add a batch to the histograms. All arguments float `(batch, num_labels)`; unknown labels do not count."""
        self._begin_batch()
        self.histograms += functional.probability_histograms(logits, labels, self.num_bins)
        self.nonfinite += functional.count_nonfinite(logits, labels, losses)

    def observe_binned(self, bins: Tensor, nonfinite: Tensor) -> None:
        """As `observe`, for bins and a count that `fused_total` computed."""
        self._begin_batch()
        self.nonfinite += nonfinite
        self._packed.add(bins, self._bin_counts)

    def update(self, settings: PLMSettings) -> None:
        """Adapt the ideal ratios to the measurements of all ranks. Every rank must call it; all end up equal.

        Without a batch since the last update the ideal ratios stay. Where the counts are estimated, a class that had
        no ratio yet gets its initial ideal ratio now; the others keep their distance from theirs, and adapt.
        """
        if not self.is_measuring:
            self._forget()
        sum_over_ranks(self.bin_counts, self.nonfinite)
        had_ratio = self.has_ratio
        if self.is_estimating:
            self._count_seen(settings)
        self.ideal_ratio = functional.update_ideal_ratio(
            self.ideal_ratio,
            self.ratio,
            had_ratio,
            self.histograms,
            settings.rule,
            settings.change_rate,
            settings.max_shift,
        )
        self._remember()
        self.is_measuring = False

    def _initial_ideal_ratio(self, settings: PLMSettings) -> Tensor:
        return functional.initial_ideal_ratio(
            self.ratio, self.has_ratio, settings.initial_ratio, settings.temper, settings.max_shift
        )

    def _count_seen(self, settings: PLMSettings) -> None:
        shift = self.ideal_ratio / self._initial_ideal_ratio(settings)
        self.positives += self.histograms[0].sum(-1)
        self.negatives += self.histograms[1].sum(-1)
        ideal_ratio = self._initial_ideal_ratio(settings) * shift
        self.ideal_ratio = functional.bound_ideal_ratio(ideal_ratio, self.ratio, settings.max_shift)

    def _remember(self) -> None:
        self.history = torch.cat([self.history, self.ideal_ratio[None]])
        self.shifts = torch.cat([self.shifts, self.shift[None]])
        self.history_updates = torch.cat([self.history_updates, self.history_updates[-1:] + 1])
        if len(self.history) > 4 and self.history.numel() > MAX_HISTORY:
            rows = torch.arange(len(self.history), device=self.history.device)
            rows = rows[(rows % 2 == 0) | (rows >= len(rows) - 2)]
            for name in ("history", "shifts", "history_updates"):
                setattr(self, name, getattr(self, name)[rows])

    def _begin_batch(self) -> None:
        if not self.is_measuring:
            self._forget()
            self.is_measuring = True
            self.shift_in_force = self.shift
        self.num_batches += 1

    def _forget(self) -> None:
        self.bin_counts.zero_()
        self.nonfinite.zero_()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PLMState":
        """Move all tensors as `fn` moves one; dtypes stay, also where `fn` casts a model to half precision."""
        for name in TENSORS:
            tensor = getattr(self, name)
            setattr(self, name, tensor.to(fn(tensor.new_empty(0)).device))
        return super()._apply(fn, recurse)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name in TENSORS:
            destination[prefix + name] = getattr(self, name)
        facts = {name: getattr(self, name) for name in FACT_NAMES}
        destination[prefix + FACTS] = torch.tensor(list(json.dumps(facts).encode()), dtype=torch.uint8)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        missing = [prefix + name for name in (*TENSORS, FACTS) if prefix + name not in state_dict]
        missing_keys.extend(missing)
        if not missing:
            self._take({name: state_dict[prefix + name] for name in (*TENSORS, FACTS)}, "the state dictionary")

    def _take(self, tensors: Mapping[str, Tensor], source: str | os.PathLike) -> None:
        """Become the state that was saved as these tensors. Raises a ValueError if they contradict each other."""
        check_tensors(tensors, source)
        device = self.ideal_ratio.device if hasattr(self, "_ideal_ratio") else torch.device("cpu")
        for name in TENSORS:
            setattr(self, name, tensors[name].detach().clone().to(device))
        for name, value in json.loads(bytes(tensors[FACTS].tolist())).items():
            setattr(self, name, value)

    def save(self, path: str | os.PathLike, metadata: Mapping[str, str] | None = None) -> None:
        """Write the state to a safetensors file: whole, or not at all.

        Args:
            metadata: what else the header of the file says.
        """
        write_file(
            path, {name: tensor.cpu().contiguous() for name, tensor in self.state_dict().items()}, metadata or {}
        )

    @classmethod
    def load(cls, path: str | os.PathLike, num_labels: int | None = None) -> "PLMState":
        """Read a state, onto the CPU.

        Args:
            num_labels: how many labels it must have; None accepts any number.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is truncated or no safetensors file, was not written by `save` of this version,
                contradicts itself, or holds another number of labels.
        """
        return cls.from_tensors(read_file(path)[0], path, num_labels)

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], source: str | os.PathLike, num_labels: int | None = None
    ) -> "PLMState":
        """The state of which `state_dict` gave these tensors. Raises as `load`; `source` is for messages."""
        state = cls.__new__(cls)
        nn.Module.__init__(state)
        state._take(tensors, source)
        if num_labels is not None and state.num_labels != num_labels:
            raise ValueError(f"{source} holds the state of {state.num_labels} labels; there are {num_labels} here")
        return state
