"""Is the rule `marginal` stable? Micro-F1 from epoch to epoch, with settings that could make the rule oscillate.

    python benchmarks/rule.py    # seeds 0 to 2, 25 minutes on two cores; writes outputs/benchmarks/rule.*

Each case trains the preset `default` with its rule, with the same rule without its safeguards (full steps from first
to last, however little the model has learnt; nearly no pseudo-count; no bound), and with fixed ideal ratios. After
each epoch, micro-F1 on `dev` is measured. The table has micro-F1 and macro-F1 after the last epoch, the mean change of
micro-F1 from one epoch to the next in the second half of the training, the largest fall, and the share of labels whose
ideal ratio is at the rule's bound or beyond it.
"""

import itertools
import json
import math
import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two runs in parallel are faster than one on two cores

import matplotlib
import torch
from matplotlib import pyplot as plt
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.metrics import f1_score
from sources import Source
from studies import SEEDS
from training import be_quiet, load_task, quiet_arguments
from transformers import EvalPrediction, PrinterCallback, set_seed

from hf_plm import PLMTrainer, PLMTrainingArguments, rules

OUTPUT = Path("outputs/benchmarks")
RULES = ("calmed", "not calmed", "fixed")
AVERAGES = ("micro", "macro")


@dataclass(frozen=True)
class Case:
    """The changes of a training to the settings of its task."""

    task: str
    what: str
    rate: float = 1
    epochs: int | None = None
    batch_size: int | None = None
    update_steps: int | None = None


SMALL, FEATURES, LARGE = "keywords", "features-debtags-1500", "features-debtags"
CASES = (
    *(
        case
        for task in (SMALL, FEATURES)
        for case in (
            Case(task, "as it is"),
            Case(task, "learning rate x 0.1", rate=0.1),
            Case(task, "learning rate x 10", rate=10),
            Case(task, "2 epochs", epochs=2),
            Case(task, "50 epochs", epochs=50),
            Case(task, "10 steps an epoch", batch_size=120 if task == SMALL else 150),
            Case(task, "an update every 5 steps", update_steps=5),
        )
    ),
    Case(LARGE, "2,000 steps an epoch", rate=0.25, epochs=4, batch_size=8),
)


@contextmanager
def without_calming() -> Iterator[None]:
    """The rule `marginal` with full steps, without `separation`, `DRIFT_BOUND`, and nearly without a pseudo-count."""
    update = rules.update_ideal_ratio

    def unshrunk(*arguments: Any) -> Any:
        *others, _ = arguments  # the last argument is num_updates
        return update(*others, 0)

    with (
        mock.patch.object(rules, "update_ideal_ratio", unshrunk),
        mock.patch.object(rules, "separation", lambda histograms: torch.ones(histograms.shape[1])),
        mock.patch.object(rules, "PSEUDO_COUNT", 0.5),  # 0 would cause a division by 0
        mock.patch.object(rules, "DRIFT_BOUND", math.inf),
    ):
        yield


def scores(prediction: EvalPrediction) -> dict[str, float]:
    predicted = prediction.predictions >= 0
    labels = prediction.label_ids == 1
    return {average: float(f1_score(labels, predicted, average=average, zero_division=0)) for average in AVERAGES}


def train(case: Case, rule: str, seed: int) -> dict[str, Any]:
    """Micro- and macro-F1 after each epoch, and the share of labels at the bound after the last epoch."""
    task = load_task(case.task, Source())
    with TemporaryDirectory() as folder:
        if case.batch_size is not None:
            task = replace(task, batch_size=case.batch_size)
        args = PLMTrainingArguments(
            folder,
            num_train_epochs=case.epochs or task.epochs,
            learning_rate=task.learning_rate * case.rate,
            eval_strategy="epoch",
            plm_rule="fixed" if rule == "fixed" else "marginal",
            plm_update_steps=case.update_steps,
            **quiet_arguments(task, seed),
        )
        set_seed(seed)
        trainer = PLMTrainer(
            task.make_model(),
            args,
            train_dataset=task.train,
            eval_dataset=task.dev,
            label_counts=task.counts,
            compute_metrics=scores,
        )
        trainer.remove_callback(PrinterCallback)
        start = trainer.plm_state.ideal_ratio.clone()
        with without_calming() if rule == "not calmed" else nullcontext():
            trainer.train()
        drift = (trainer.plm_state.ideal_ratio / start).log().abs()
        at_bound = (drift >= math.log(rules.DRIFT_BOUND) - 1e-3).double().mean().item()
        evaluations = [entry for entry in trainer.state.log_history if "eval_micro" in entry]
    curves = {average: [100 * entry[f"eval_{average}"] for entry in evaluations] for average in AVERAGES}
    return {"case": asdict(case), "rule": rule, "seed": seed, "at_bound": 100 * at_bound, **curves}


def changes(curve: list[float]) -> list[float]:
    """The changes of micro-F1 from each epoch to the next."""
    return [after - before for before, after in itertools.pairwise(curve)]


def mean_change(result: dict[str, Any]) -> float:
    """The mean size of the changes of micro-F1 in the second half of the training."""
    found = changes(result["micro"])
    return statistics.mean(abs(change) for change in found[len(found) // 2 :])


def largest_fall(result: dict[str, Any]) -> float:
    return max([0.0, *(-change for change in changes(result["micro"]))])


COLUMNS: dict[str, Callable[[dict[str, Any]], float]] = {
    "micro-F1": lambda result: result["micro"][-1],
    "macro-F1": lambda result: result["macro"][-1],
    "mean change": mean_change,
    "largest fall": largest_fall,
    "labels at the bound, %": lambda result: result["at_bound"],
}


def print_table(results: dict[tuple[Case, str], list[dict[str, Any]]]) -> None:
    table = Table(title=f"Preset default, mean of {len(SEEDS)} seeds, on dev; micro-F1 from epoch to epoch in points")
    for name in ("task", "case", "rule", *COLUMNS):
        table.add_column(name, justify="left" if name in ("task", "case", "rule") else "right")
    for (case, rule), runs in results.items():
        cells = [f"{statistics.mean(map(column, runs)):.1f}" for column in COLUMNS.values()]
        table.add_row(case.task, case.what, rule, *cells, end_section=rule == RULES[-1])
    Console(width=130).print(table)


def draw(results: dict[tuple[Case, str], list[dict[str, Any]]], path: Path) -> None:
    """Micro-F1 against epochs, one panel for each case, one line for each rule and seed."""
    matplotlib.use("agg")
    cases = list(dict.fromkeys(case for case, _ in results))
    figure, axes = plt.subplots(math.ceil(len(cases) / 4), 4, figsize=(12, 2.4 * math.ceil(len(cases) / 4)))
    for axis, case in zip(axes.flat, cases, strict=False):
        for rule, colour in zip(RULES, ("#d94801", "#8c6bb1", "#4c4c4c"), strict=True):
            for run in results[case, rule]:
                label = rule if run["seed"] == SEEDS[0] else None
                axis.plot(range(1, len(run["micro"]) + 1), run["micro"], color=colour, linewidth=1, label=label)
        axis.set_title(f"{case.task}\n{case.what}", fontsize=9)
        axis.grid(alpha=0.25)
    for axis in axes.flat[len(cases) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("micro-F1 on dev")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="lower right", title="rule")
    figure.supxlabel("epoch")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    runs = list(itertools.product(CASES, RULES, SEEDS))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=be_quiet) as pool:
        futures = [pool.submit(train, *run) for run in runs]
        found = [future.result() for future in track(futures, description=f"{len(runs)} runs")]
    results: dict[tuple[Case, str], list[dict[str, Any]]] = {}
    for (case, rule, _), result in zip(runs, found, strict=True):
        results.setdefault((case, rule), []).append(result)
    print_table(results)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "rule.json").write_text(json.dumps({"seeds": SEEDS, "runs": found}, indent=1))
    draw(results, OUTPUT / "rule.png")
    print("Written:", OUTPUT / "rule.json", OUTPUT / "rule.png")


if __name__ == "__main__":
    main()
