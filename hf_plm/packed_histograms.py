"""Counters of 8 bits for the bins of probabilities: four to a number, for many labels."""

from typing import Any

import torch
from torch import Tensor

MAX_ROWS = 255
"""So many rows a counter of 8 bits can count."""

# Otherwise the compiler writes the mask to memory, because it is long to compute and used twice.
OPTIONS: dict[str, Any] = {"realize_opcount_threshold": 100_000, "realize_reads_threshold": 100_000}


class PackedHistograms:
    """What was counted and is not yet in the histograms."""

    def __init__(self) -> None:
        self.counters: Tensor | None = None
        self.num_rows = 0

    def add(self, bins: Tensor, bin_counts: Tensor) -> None:
        """Count the bins of a batch, and empty the counters into `bin_counts` before they are full.

        Args:
            bins (uint8, `(batch, num_labels)`): see `FusedTotal`.
            bin_counts (int32, `(2, num_bins, num_labels)`): see `PLMState`.
        """
        for part in bins.chunk(-(-len(bins) // MAX_ROWS)):
            if self.num_rows + len(part) > MAX_ROWS:
                self.empty_into(bin_counts)
            counters = compiled_histograms(part, bin_counts.shape[1])
            self.counters = counters if self.counters is None else self.counters.add_(counters)
            self.num_rows += len(part)

    def empty_into(self, bin_counts: Tensor) -> None:
        """Add what was counted to `bin_counts`, in place, and begin anew."""
        if self.counters is not None:
            rows = bin_counts.view(-1, bin_counts.shape[-1])
            for lane in range(4):
                counts = rows[lane::4]
                counts += self.counters[: len(counts)] & 0xFF
                self.counters >>= 8
        self.counters, self.num_rows = None, 0


def packed_histograms(bins: Tensor, num_bins: int) -> Tensor:
    """`probability_histograms` of at most `MAX_ROWS` rows, from the bins of `fused_total`.

    Four bins share a number, 8 bits each: bin b (of a negative, `num_bins + b`) is in number `b // 4`, from bit
    `8 * (b % 4)` on.

    Returns:
        int32, `(ceil(2 * num_bins / 4), num_labels)`.
    """
    bins = bins.int()
    one, number = 1 << ((bins & 3) << 3), bins >> 2
    # `((number ^ here) - 1) >> 31` is -1, that is all bits, where `number == here`, and 0 elsewhere: it is faster.
    parts = [(one & (((number ^ here) - 1) >> 31)).sum(0, dtype=torch.int32) for here in range(-(-num_bins // 2))]
    return torch.stack(parts)


compiled_histograms = torch.compile(packed_histograms, fullgraph=True, dynamic=True, options=OPTIONS)
