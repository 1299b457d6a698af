"""Reads the results of a study and finds the best trial of a row."""

import itertools
from collections.abc import Sequence
from typing import Any

from sources import Source
from studies import QUICK, SEEDS, Settings, Study, seeds_of
from training import Run

Results = dict[str, list[dict[str, Any]]]
"""For each row of a study, the results of its best trial, seed by seed."""


def select_rows(study: Study, source: Source) -> dict[str, Sequence[Settings]]:
    """The rows with their trials; with `--quick`, a few rows of the study `methods`, each with one trial."""
    if source.quick and set(QUICK) <= set(study.rows):
        return {name: study.rows[name][:1] for name in QUICK}
    return dict(study.rows)


def dev_score(result: dict[str, Any]) -> float:
    """The score by which trials are chosen: the mean of micro-F1, macro-F1 and mAP, or the accuracy."""
    scores = result["scores"]["dev"]
    return (
        scores["accuracy"] if "accuracy" in scores else (scores["micro_f1"] + scores["macro_f1"] + scores["map"]) / 3
    )


def best_trial(task: str, trials: Sequence[Settings], source: Source) -> Settings | None:
    """The settings with the best score on `dev`; None if a trial is missing."""
    results = [Run(task, settings, seeds_of(task)[0]).result(source) for settings in trials]
    scores = [dev_score(result) for result in results if result is not None]
    return trials[scores.index(max(scores))] if len(scores) == len(trials) else None


def read_results(study: Study, task: str, source: Source) -> Results:
    """The rows that have all trials and the runs with the first three seeds.

    All rows have the same seeds: those that every row was run with.
    """
    results: Results = {}
    for name, trials in select_rows(study, source).items():
        settings = best_trial(task, trials, source)
        if settings is not None:
            runs = [Run(task, settings, seed).result(source) for seed in seeds_of(task)]
            made = [run for run in itertools.takewhile(lambda run: run is not None, runs) if run is not None]
            if len(made) >= len(SEEDS):
                results[name] = made
    fewest = min(map(len, results.values()), default=0)
    return {name: runs[:fewest] for name, runs in results.items()}


def values_of(results: Sequence[dict[str, Any]], score: str) -> list[float]:
    """Percent on `validation`, seed by seed."""
    return [100 * result["scores"]["validation"][score] for result in results]
