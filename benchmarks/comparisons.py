"""Is one method better than another? Paired differences over the seeds, with a confidence interval."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from results import Results, values_of
from scipy.stats import rankdata, t

DEFAULT = "PLM default"
SCORES = {"micro_f1": "micro-F1", "macro_f1": "macro-F1", "map": "mAP"}
CONFIDENCE = 0.95


class Difference(NamedTuple):
    """The mean of paired differences, in percent, and the half width of its 95 % confidence interval."""

    mean: float
    margin: float

    @property
    def outcome(self) -> str:
        """`win`, `loss`, or `tie` if the interval holds 0."""
        return "tie" if abs(self.mean) <= self.margin else "win" if self.mean > 0 else "loss"


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Of two methods with the same seeds, by Student's t. It knows the spread over seeds, not that of the data."""
    differences = [one - other for one, other in zip(ours, theirs, strict=True)]
    if len(differences) < 2:
        raise ValueError(f"{len(differences)} seed: a confidence interval takes two or more")
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return Difference(statistics.mean(differences), float(t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * error)


def is_single_label(results: Results) -> bool:
    return "error" in next(iter(results.values()))[0]["scores"]["validation"]


def scores_of(results: Results) -> tuple[str, ...]:
    """What a task is compared by; `accuracy` where each row has one label."""
    return ("accuracy",) if is_single_label(results) else tuple(SCORES)


def outcomes(results: Mapping[str, Results], rival: str, score: str) -> list[tuple[str, str]]:
    """How the default does against a rival: `(task, outcome)` for each task that both have been run on."""
    return [
        (task, paired_difference(values_of(rows[DEFAULT], score), values_of(rows[rival], score)).outcome)
        for task, rows in results.items()
        if rival in rows and DEFAULT in rows and score in scores_of(rows)
    ]


def mean_ranks(results: Mapping[str, Results]) -> dict[str, float]:
    """Of each method, its mean rank over tasks and scores, 1 is best; of the mean over the seeds on `validation`."""
    ranks: dict[str, list[float]] = {}
    for rows in results.values():
        for score in scores_of(rows):
            means = [-statistics.mean(values_of(runs, score)) for runs in rows.values()]
            for name, rank in zip(rows, rankdata(means), strict=True):
                ranks.setdefault(name, []).append(float(rank))
    return {name: statistics.mean(values) for name, values in ranks.items()}
