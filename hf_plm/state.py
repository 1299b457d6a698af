"""What Partial Label Masking knows about each label, measured and adapted while a model trains."""

import os
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from . import functional, fused
from .label_counts import LabelCounts
from .presets import PLMSettings

FILE_FORMAT = "hf_plm.state"
TENSORS = ("positives", "negatives", "ideal_ratio", "histograms", "nonfinite", "history", "history_updates")

MAX_HISTORY = 5_000_000
"""So many numbers of `history` are kept: 20 MB, beside 176 MB for all else of a million labels."""


class PLMState:
    """Counts, measurements and ideal ratios of the labels. It holds no reference to a model.

    Args:
        label_counts: positives and negatives of each label over the training set. If all are 0 they are estimated on
            the way, from what is seen: every label is kept until the first update.
        settings: where the ideal ratios start, and how many bins the histograms have.

    Attributes:
        positives, negatives (float32, `(num_labels,)`): the counts.
        is_estimating (bool): whether each update adds what was seen since the last to the counts.
        ideal_ratio (float32, `(num_labels,)`): I, in positives per negative.
        histograms (int32, `(2, num_labels, num_bins)`): how often each predicted probability was seen, `[0]` over the
            positives, `[1]` over the negatives, since the last update. After an update they stay readable until the
            next batch. While an epoch runs on several ranks, each holds what it has seen itself.
        nonfinite (int64, `()`): of how many known labels the logit or the loss was NaN or infinite since the last
            update. Such logits are in no histogram.
        is_measuring (bool): whether `histograms` hold measurements that no update has used yet.
        num_batches (int): how many training batches were seen, by each rank; it makes every batch's mask another.
        history (float32, `(num_updates + 1, num_labels)`): the ideal ratios at the start and after each update. When
            it would hold more than `MAX_HISTORY` numbers, every second row goes, but for the last two.
        history_updates (int64, `(len(history),)`): after how many updates each row of `history` was taken.
    """

    def __init__(self, label_counts: LabelCounts, settings: PLMSettings):
        self.positives = label_counts.positives.float()
        self.negatives = label_counts.negatives.float()
        self.is_estimating = not (self.positives + self.negatives).any().item()
        self.ideal_ratio = self._initial_ideal_ratio(settings)
        self.histograms = torch.zeros(2, self.num_labels, settings.num_bins, dtype=torch.int32)
        self.nonfinite = torch.zeros((), dtype=torch.long)
        self.history = self.ideal_ratio[None].clone()
        self.history_updates = torch.zeros(1, dtype=torch.long)
        self.is_measuring = False
        self.num_batches = 0

    @property
    def num_labels(self) -> int:
        return len(self.positives)

    @property
    def num_bins(self) -> int:
        return self._histograms.shape[1]

    @property
    def ratio(self) -> Tensor:
        """R, positives per negative, float32 `(num_labels,)`; 1 for a class that lacks either."""
        return functional.label_ratio(self.positives, self.negatives)

    @property
    def has_ratio(self) -> Tensor:
        """Which classes have both positives and negatives, bool `(num_labels,)`. The others keep every label."""
        return functional.has_ratio(self.positives, self.negatives)

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
    def histograms(self) -> Tensor:
        self._unpack()
        return self._histograms.transpose(1, 2)

    @histograms.setter
    def histograms(self, histograms: Tensor) -> None:
        # The labels last, so that what is added for one bin lies together.
        self._histograms = histograms.transpose(1, 2).contiguous()
        self._packed: Tensor | None = None
        self._packed_rows = 0

    def to(self, device: torch.device) -> "PLMState":
        """Move all tensors to a device, in place."""
        if self.ideal_ratio.device != device:
            for name in TENSORS:
                setattr(self, name, getattr(self, name).to(device))
        return self

    def observe(self, logits: Tensor, labels: Tensor, losses: Tensor) -> None:
        """Add a batch to the histograms. All arguments float `(batch, num_labels)`; unknown labels do not count."""
        self._begin_batch()
        self.histograms += functional.probability_histograms(logits, labels, self.num_bins)
        self.nonfinite += functional.count_nonfinite(logits, labels, losses)

    def observe_bins(self, bins: Tensor, nonfinite: Tensor) -> None:
        """As `observe`, of what `fused_total` has measured."""
        self._begin_batch()
        self.nonfinite += nonfinite
        for part in bins.chunk(-(-len(bins) // fused.MAX_ROWS)):
            if self._packed_rows + len(part) > fused.MAX_ROWS:
                self._unpack()
            packed = fused.compiled_histograms(part, self.num_bins)
            self._packed = packed if self._packed is None else self._packed.add_(packed)
            self._packed_rows += len(part)

    def update(self, settings: PLMSettings) -> None:
        """Adapt the ideal ratios to the measurements of all ranks. Every rank must call it; all end up equal.

        Without a batch since the last update the ideal ratios stay. Where the counts are estimated, a class that had
        no ratio yet gets its initial ideal ratio now; the others keep their distance from theirs, and adapt.
        """
        if not self.is_measuring:
            self._forget()
        self._sum_over_ranks()
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

    def merge_ranks(self) -> None:
        """Collect the running measurements on rank 0, whose state is then whole. Every rank must call it."""
        if self.is_measuring:
            self._sum_over_ranks()
            self.keep_on_rank_zero()

    def keep_on_rank_zero(self) -> None:
        """Forget the running measurements on all ranks but the first, so that their sum counts them once."""
        if self.is_measuring and process_rank() > 0:
            self._forget()

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
        self.history_updates = torch.cat([self.history_updates, self.history_updates[-1:] + 1])
        if len(self.history) > 4 and self.history.numel() > MAX_HISTORY:
            rows = torch.arange(len(self.history), device=self.history.device)
            rows = rows[(rows % 2 == 0) | (rows >= len(rows) - 2)]
            self.history, self.history_updates = self.history[rows], self.history_updates[rows]

    def _begin_batch(self) -> None:
        if not self.is_measuring:
            self._forget()
            self.is_measuring = True
        self.num_batches += 1

    def _unpack(self) -> None:
        """Add what `observe_bins` has collected to the histograms."""
        if self._packed is not None:
            histograms = self._histograms.view(2 * self.num_bins, -1)
            for lane in range(4):
                bins = histograms[lane::4]
                bins += self._packed[: len(bins)] & 0xFF
                self._packed >>= 8
        self._packed = None
        self._packed_rows = 0

    def _forget(self) -> None:
        self.histograms.zero_()
        self.nonfinite.zero_()

    def _sum_over_ranks(self) -> None:
        self._unpack()
        if _is_distributed():
            dist.all_reduce(self._histograms)
            dist.all_reduce(self.nonfinite)

    def save(self, path: str | os.PathLike) -> None:
        """Write the state to a safetensors file: whole, or not at all."""
        path = Path(path)
        tensors = {name: getattr(self, name).cpu().contiguous() for name in TENSORS}
        metadata = {
            "format": FILE_FORMAT,
            "is_estimating": str(self.is_estimating),
            "is_measuring": str(self.is_measuring),
            "num_batches": str(self.num_batches),
        }
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as directory:
            temporary = Path(directory) / path.name
            save_file(tensors, temporary, metadata)
            os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | os.PathLike, num_labels: int | None = None) -> "PLMState":
        """Read a state, onto the CPU.

        Args:
            num_labels: how many labels it must have; None accepts any number.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is truncated or no safetensors file, was not written by `save`, contradicts
                itself, or holds another number of labels.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"there is no PLM state at {os.fspath(path)}; to resume a checkpoint without one, set plm_restart=True"
            )
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged or no safetensors file ({error}); restore it from a copy") from None
        if metadata.get("format") != FILE_FORMAT:
            raise ValueError(f"{path} is a safetensors file, but holds no PLM state; was it written by PLMState.save?")
        state = cls.__new__(cls)
        _check_tensors(tensors, path)
        for name in TENSORS:
            setattr(state, name, tensors[name])
        state.is_estimating = metadata["is_estimating"] == "True"
        state.is_measuring = metadata["is_measuring"] == "True"
        state.num_batches = int(metadata["num_batches"])
        if num_labels is not None and state.num_labels != num_labels:
            raise ValueError(f"{path} holds the state of {state.num_labels} labels; there are {num_labels} here")
        return state


def _check_tensors(tensors: dict[str, Tensor], path: str | os.PathLike) -> None:
    """Raise a ValueError unless the file holds each tensor in its type, and all for the same labels."""
    missing = [name for name in TENSORS if name not in tensors]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; restore it from a copy")
    num_labels = tensors["positives"].numel()
    shapes = {"histograms": (2, num_labels, -1), "nonfinite": (), "history": (-1, num_labels)}  # -1: any size
    shapes["history_updates"] = tuple(tensors["history"].shape[:1])
    dtypes = {"histograms": torch.int32, "nonfinite": torch.int64, "history_updates": torch.int64}
    for name in TENSORS:
        shape, expected = tuple(tensors[name].shape), shapes.get(name, (num_labels,))
        dtype = dtypes.get(name, torch.float32)
        fits = len(shape) == len(expected) and all(e in (-1, s) for s, e in zip(shape, expected, strict=True))
        if not fits or tensors[name].dtype != dtype:
            raise ValueError(
                f"{path}: {name} is {tensors[name].dtype} of shape {shape} instead of {dtype} of {expected}; the file "
                "was not written by this version of PLMState.save"
            )


def process_rank() -> int:
    """The rank of this process among those that train together; 0 if it trains alone."""
    return dist.get_rank() if _is_distributed() else 0


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
