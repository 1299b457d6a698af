"""Compares two methods by their paired differences over seeds, with a confidence interval."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import stdtrit

CONFIDENCE = 0.95


class Difference(NamedTuple):
    """The mean of paired differences and half the width of its 95 % confidence interval, in the unit of the scores."""

    mean: float
    margin: float

    @property
    def outcome(self) -> str:
        """`win`, `loss`, or `tie` if the interval contains 0."""
        return "tie" if abs(self.mean) <= self.margin else "win" if self.mean > 0 else "loss"


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """The difference of two methods with the same seeds, by Student's t; it covers variation of seeds, not of data.

    Args:
        ours, theirs: a score for each seed, in the same order of seeds.

    Raises:
        ValueError: if there are fewer than two seeds, or the numbers of scores differ.
    """
    differences = [one - other for one, other in zip(ours, theirs, strict=True)]
    if len(differences) < 2:
        raise ValueError(f"{len(differences)} seed: a confidence interval needs two or more")
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    quantile = float(stdtrit(len(differences) - 1, (1 + CONFIDENCE) / 2))  # Student's t
    return Difference(statistics.mean(differences), quantile * error)
