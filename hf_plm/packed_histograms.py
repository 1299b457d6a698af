"""Counters of 8 bits for the histograms of the compiled loss: for many labels, where the histograms are large.

The compiled loss gives one byte for each entry of a batch. Counting these in 8 bits moves only a quarter of the memory
of the histograms. The counters are added to the histograms before one can overflow.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MAX_ROWS = 255
"""The largest number of rows that a counter of 8 bits can count."""

NOT_COUNTED = 255
"""The bin of entries that are not counted: unknown labels, and logits that are NaN or infinite."""

MAX_BINS = 127
"""The largest number of bins: twice as many, and `NOT_COUNTED`, fit into a byte."""

# Without these options the compiler writes the mask to memory, because it is slow to compute and used twice.
OPTIONS: dict[str, Any] = {"realize_opcount_threshold": 100_000, "realize_reads_threshold": 100_000}


def packed_histograms(bins: Tensor, num_bins: int) -> Tensor:
    """`probability_histograms` of at most `MAX_ROWS` rows, from the bins of `fused_total`.

    Four bins share a number, 8 bits each: bin b (for negatives, `num_bins + b`) is in number `b // 4`, from bit
    `8 * (b % 4)` on.

    Returns:
        int32, `(ceil(2 * num_bins / 4), num_labels)`.
    """
    bins = bins.int()
    one, number = 1 << ((bins & 3) << 3), bins >> 2
    # `((number ^ here) - 1) >> 31` is -1 (all bits are 1) where `number == here`, else 0. This is faster.
    parts = [(one & (((number ^ here) - 1) >> 31)).sum(0, dtype=torch.int32) for here in range(-(-num_bins // 2))]
    return torch.stack(parts)


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors, compiled. Call it as late as possible: importing the compiler takes a second."""
    return torch.compile(function, fullgraph=True, dynamic=True, options=OPTIONS)


class PackedHistograms:
    """Counters of at most `MAX_ROWS` rows, which are added to histograms before they overflow."""

    def __init__(self) -> None:
        self._counters: Tensor | None = None
        self._rows = 0

    def add(self, bins: Tensor, histograms: Tensor) -> None:
        """Count a batch. If the counters would overflow, first add them to the histograms.

        Args:
            bins (uint8, `(batch, num_labels)`): see `FusedTotal`.
            histograms (int32, `(2, num_bins, num_labels)`, contiguous): the same for every call until `flush`.
        """
        for part in bins.chunk(-(-len(bins) // MAX_ROWS)):
            if self._rows + len(part) > MAX_ROWS:
                self.flush(histograms)
            counters = compiled(packed_histograms)(part, histograms.shape[1])
            self._counters = counters if self._counters is None else self._counters.add_(counters)
            self._rows += len(part)

    def flush(self, histograms: Tensor) -> None:
        """Add the counts since the last call to the histograms, in place."""
        if self._counters is not None:
            rows = histograms.view(-1, histograms.shape[-1])  # (2 * num_bins, num_labels)
            for lane in range(4):
                bins = rows[lane::4]
                bins += self._counters[: len(bins)] & 0xFF
                self._counters >>= 8
        self._counters, self._rows = None, 0
