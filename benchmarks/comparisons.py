"""Compares methods over seeds and tasks, also with steps after training (thresholds, corrected probabilities)."""

import statistics
from collections.abc import Mapping

from results import Results, values_of
from scipy.stats import rankdata

from hf_plm.comparing import TUNED
from hf_plm.paired_differences import paired_difference

DEFAULT = "PLM default"
SCORES = {"micro_f1": "micro-F1", "macro_f1": "macro-F1", "map": "mAP"}

TUNED_ROWS = ("BCE", "BCE with pos_weight", "asymmetric", DEFAULT)
"""Each of these rows has a second one, its name plus `TUNED`: with a threshold for each label, tuned on `dev`."""
CORRECTED = "BCE, corrected at prediction"
"""The row of BCE with one class per row, and each probability divided by the class's frequency in training."""


def is_tuned(name: str) -> bool:
    """Whether a row has tuned thresholds."""
    return name.endswith(TUNED)


def with_post_hoc(results: Results) -> Results:
    """The rows, and after them some of the same runs with a further step after training.

    With several labels per row these are `TUNED_ROWS` with tuned thresholds (tuned for macro-F1 and for micro-F1
    separately; mAP has no threshold), with one label per row `CORRECTED`.
    """
    if is_single_label(results):
        derived = {CORRECTED: ("BCE", corrected_scores)}
    else:
        derived = {name + TUNED: (name, tuned_scores) for name in TUNED_ROWS}
    added = {}
    for name, (origin, derive) in derived.items():
        parts = [{part: derive(each) for part, each in run["scores"].items()} for run in results.get(origin, ())]
        if parts and all(scores for each in parts for scores in each.values()):
            added[name] = [{**run, "scores": each} for run, each in zip(results[origin], parts, strict=True)]
    return {**results, **added}


def corrected_scores(scores: dict[str, float]) -> dict[str, float]:
    """The corrected scores of one part; empty if an earlier version made the result without them."""
    error = scores.get("corrected_error")
    return {} if error is None else {"error": error, "accuracy": 1 - error}


def tuned_scores(scores: dict[str, float]) -> dict[str, float]:
    return {"micro_f1": scores["tuned_micro_f1"], "macro_f1": scores["tuned_macro_f1"], "map": scores["map"]}


def is_single_label(results: Results) -> bool:
    return "error" in next(iter(results.values()))[0]["scores"]["validation"]


def scores_of(results: Results) -> tuple[str, ...]:
    """The scores used to compare methods on a task; only `accuracy` if each row has one label."""
    return ("accuracy",) if is_single_label(results) else tuple(SCORES)


def outcomes(results: Mapping[str, Results], rival: str, score: str) -> list[tuple[str, str]]:
    """The default against a rival: `(task, outcome)` for each task on which both were run."""
    return [
        (task, paired_difference(values_of(rows[DEFAULT], score), values_of(rows[rival], score)).outcome)
        for task, rows in results.items()
        if rival in rows and DEFAULT in rows and score in scores_of(rows)
    ]


def mean_ranks(results: Mapping[str, Results]) -> dict[str, float]:
    """The mean rank of each trained method over tasks and scores (means over the seeds); 1 is best."""
    ranks: dict[str, list[float]] = {}
    for each in results.values():
        rows = {name: runs for name, runs in each.items() if not is_tuned(name) and name != CORRECTED}
        for score in scores_of(rows):
            means = [-statistics.mean(values_of(runs, score)) for runs in rows.values()]
            for name, rank in zip(rows, rankdata(means), strict=True):
                ranks.setdefault(name, []).append(float(rank))
    return {name: statistics.mean(values) for name, values in ranks.items()}
