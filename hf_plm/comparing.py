"""Compares training methods on the same data: trains each with the same seeds, and scores them on held-out rows."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback, set_seed

from .comparison_runs import ComparisonRuns
from .paired_differences import Difference, paired_difference
from .scores import multilabel_scores
from .thresholds import tune_thresholds
from .trainer import PLMTrainer
from .training_args import PLMTrainingArguments

METHODS: dict[str, dict[str, Any]] = {
    "bce": {"plm_preset": "off"},
    "pos_weight": {
        "plm_preset": "off",
        "plm_objective": "weighted_bce",
        "plm_objective_kwargs": {"max_weight": 10.0},
    },
    "asymmetric": {
        "plm_preset": "off",
        "plm_objective": "asymmetric",
        "plm_objective_kwargs": {"gamma_negative": 2.0},
    },
    "default": {"plm_preset": "default"},
}
"""Name of a method -> its `PLMTrainingArguments`."""

SCORES = {"macro_f1": "macro-F1", "micro_f1": "micro-F1", "map": "mAP", "tail_f1": "F1 of tail labels"}
"""The scores in the table."""

COMPARED = ("macro_f1", "micro_f1", "map")
"""The scores for which the best row is named."""

TUNED = ", tuned thresholds"
"""The end of the name of a row with tuned thresholds."""

SHOWN_TIES = 3
"""A sentence names at most this many rows that may be as good as the best."""


@dataclass(frozen=True)
class Comparison:
    """The result of `compare_methods`.

    Attributes:
        seeds: the seeds of the runs.
        scores: row -> score -> a value in percent for each seed, on the test rows. There are two rows for each
            method: with the threshold 0.5, and with a threshold for each label that is chosen on the validation rows
            (the best ones for macro-F1, also used for the F1 of tail labels; for micro-F1 the best ones for it).
        num_rows: part -> its number of rows.
        seconds: the total time of all new trainings.
    """

    seeds: list[int]
    scores: dict[str, dict[str, list[float]]]
    num_rows: dict[str, int]
    seconds: float

    def rows(self, score: str) -> list[str]:
        """The rows to compare by a score; for mAP, on which thresholds have no effect, those without tuned ones."""
        return [row for row in self.scores if score != "map" or not row.endswith(TUNED)]

    def best(self, score: str) -> str:
        """The row with the highest mean of a score."""
        return max(self.rows(score), key=lambda row: statistics.mean(self.scores[row][score]))

    def difference(self, row: str, other: str, score: str) -> Difference:
        """`row` minus `other`, paired by seed, in percentage points, with its 95 % interval by Student's t."""
        return paired_difference(self.scores[row][score], self.scores[other][score])

    def table(self) -> pd.DataFrame:
        """Mean ± standard deviation over the seeds, in percent, and the difference to the best macro-F1."""
        best = self.best("macro_f1")
        lines = {}
        for row, scores in self.scores.items():
            cells = [f"{statistics.mean(scores[each]):.1f} ± {statistics.stdev(scores[each]):.1f}" for each in SCORES]
            found = self.difference(row, best, "macro_f1")
            lines[row] = [*cells, "best" if row == best else f"{found.mean:.1f} ± {found.margin:.1f}"]
        return pd.DataFrame.from_dict(lines, orient="index", columns=[*SCORES.values(), "macro-F1 minus the best"])

    def conclusion(self, score: str = "macro_f1") -> str:
        """A sentence: which row is best by a score in `COMPARED`, and whether its lead is more than chance."""
        best = self.best(score)
        mean = statistics.mean(self.scores[best][score])
        text = f"By {SCORES[score]}, '{best}' suits these data best ({mean:.1f})"
        leads = {row: self.difference(best, row, score) for row in self.rows(score) if row != best}
        if not leads:
            return f"{text}; there is nothing to compare it with."
        nearest = sorted(leads, key=lambda row: leads[row].mean)
        ties = [row for row in nearest if leads[row].outcome != "win"]
        shown = [f"'{row}' (by {leads[row].mean:.1f} ± {leads[row].margin:.1f})" for row in (ties or nearest)]
        if not ties:
            return f"{text}, and its lead over the next, {shown[0]}, is more than chance."
        more = f" and {len(shown) - SHOWN_TIES} more" if len(shown) > SHOWN_TIES else ""
        return f"{text}, but its lead over {', '.join(shown[:SHOWN_TIES])}{more} may be chance."

    def to_dict(self) -> dict[str, Any]:
        """All results, for JSON, with the lead of the best row over each other row. NaN becomes None."""
        scores = {
            row: {score: [None if math.isnan(value) else value for value in values] for score, values in each.items()}
            for row, each in self.scores.items()
        }
        leads = {}
        for score in COMPARED:
            best = self.best(score)
            found = {row: self.difference(best, row, score)._asdict() for row in self.rows(score) if row != best}
            leads[score] = {"best": best, "lead": found, "conclusion": self.conclusion(score)}
        return {**asdict(self), "scores": scores, "comparison": leads}


def compare_methods(
    make_model: Callable[[], PreTrainedModel],
    args: PLMTrainingArguments,
    data: Mapping[str, Any],
    processing_class: Any = None,
    methods: Sequence[str] = tuple(METHODS),
    num_seeds: int = 3,
    runs: ComparisonRuns | None = None,
) -> Comparison:
    """Train each method with the same seeds on `train`, tune thresholds on `validation`, and score on `test`.

        comparison = compare_methods(make_model, args, {"train": ..., "validation": ..., "test": ...}, tokenizer)
        print(comparison.table(), comparison.conclusion())

    For each seed, all methods begin with the same weights and see the rows in the same order. Models are not saved.

    Args:
        make_model: creates the untrained model.
        args: the arguments of each training; the seeds are `args.seed` and the next integers.
        data: the parts `train`, `validation` and `test`, as for `PLMTrainer`.
        processing_class: as for `PLMTrainer`.
        methods: names in `METHODS`.
        num_seeds: the number of seeds, 2 or more.
        runs: stores the scores of each training; stored trainings are not repeated.

    Raises:
        ValueError: for an unknown method, fewer than two seeds, arguments that the methods set, or scores in
            `runs` from different settings.
    """
    _check(args, methods, num_seeds)
    start = time.monotonic()
    seeds = list(range(args.seed, args.seed + num_seeds))
    scores: dict[str, dict[str, list[float]]] = {
        method + kind: {score: [] for score in SCORES} for method in methods for kind in ("", TUNED)
    }
    done = {(method, seed): runs and runs.read(method, seed) for seed in seeds for method in methods}
    with tqdm(total=len(done), initial=sum(map(bool, done.values())), unit="training") as bar:
        for (method, seed), found in done.items():
            if not found:
                bar.set_description(f"{method}, seed {seed}")
                found = _score(_train(make_model, _args_of(args, method, seed), data, processing_class, bar), data)
                if runs is not None:
                    runs.write(method, seed, found)
            for kind, values in found.items():
                for score in SCORES:
                    scores[method + kind][score].append(100 * values[score])
    return Comparison(seeds, scores, {part: len(rows) for part, rows in data.items()}, time.monotonic() - start)


class _Run(PLMTrainer):
    """A trainer that draws no pictures of single runs."""

    def report_plots(self) -> None:
        pass


class _StepsInBar(TrainerCallback):
    """Updates a progress bar with every step; one training is one unit of the bar."""

    def __init__(self, bar: Any):
        self.bar = bar
        self.first = bar.n

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.n = round(self.first + state.global_step / state.max_steps, 2)
        self.bar.refresh()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.n = round(self.first) + 1
        self.bar.refresh()


def _check(args: PLMTrainingArguments, methods: Sequence[str], num_seeds: int) -> None:
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        raise ValueError(f"methods is {list(methods)}; choose some of {list(METHODS)}")
    if num_seeds < 2:
        raise ValueError(f"num_seeds is {num_seeds}; it must be 2 or more, to tell differences from chance")
    set_by_methods = [
        each.name for each in fields(args) if each.name.startswith("plm_") and getattr(args, each.name) != each.default
    ]
    if set_by_methods:
        raise ValueError(f"{', '.join(set_by_methods)}: the compared methods set this; leave it out")


def _args_of(args: PLMTrainingArguments, method: str, seed: int) -> PLMTrainingArguments:
    quiet: dict[str, Any] = {
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_strategy": "no",
        "load_best_model_at_end": False,
        "push_to_hub": False,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return replace(args, seed=seed, **quiet, **METHODS[method])


def _train(
    make_model: Callable[[], PreTrainedModel],
    args: PLMTrainingArguments,
    data: Mapping[str, Any],
    processing_class: Any,
    bar: Any,
) -> PLMTrainer:
    set_seed(args.seed)
    trainer = _Run(
        make_model(),
        args,
        train_dataset=data["train"],
        processing_class=processing_class,
        callbacks=[_StepsInBar(bar)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer


def _score(trainer: PLMTrainer, data: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The scores on `test`, with the threshold 0.5 and with those tuned on `validation`."""
    validation, test = (trainer.predict(data[part]) for part in ("validation", "test"))
    groups = trainer.label_counts.groups()
    logits, labels = np.asarray(test.predictions, np.float64), np.asarray(test.label_ids)

    def scored(thresholds: Any) -> dict[str, float]:
        return multilabel_scores(expit(logits - thresholds), labels, groups)

    tuned = {
        goal: scored(tune_thresholds(validation.predictions, np.asarray(validation.label_ids), goal))
        for goal in ("macro_f1", "micro_f1")
    }
    at_half = scored(0.0)
    tuned_scores = {**tuned["macro_f1"], "micro_f1": tuned["micro_f1"]["micro_f1"], "map": at_half["map"]}
    return {
        kind: {score: float(each[score]) for score in SCORES} for kind, each in (("", at_half), (TUNED, tuned_scores))
    }
