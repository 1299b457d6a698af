"""How well a trained model's probabilities fit the frequencies of real data, before and after `calibrate`.

    python benchmarks/calibration.py    # seeds 0 to 2, ten minutes; writes outputs/benchmarks/calibration.*

Trains the small ModernBERT on debtags without masks, with masks on BCE, and with the default preset. The table has the
expected calibration error on the validation data before and after `calibrate`, over all labels and for each group.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.special import expit
from sources import Source, Task
from studies import masks, off
from training import Run, be_quiet, calibration_error, load_task, train

from hf_plm import PLMTrainer, calibrate

OUTPUT = Path("outputs/benchmarks")
TASK = "debtags"
SEEDS = (0, 1, 2)
METHODS = {"preset off": off(), "masks on BCE": masks(plm_objective="bce"), "preset default": masks()}
MOMENTS = ("before", "after")


def errors(trainer: PLMTrainer, task: Task) -> dict[str, float]:
    """The calibration errors on `validation`, over all labels and for each group, in percent."""
    output = trainer.predict(task.validation)
    probabilities, labels = expit(output.predictions.astype(np.float64)), output.label_ids
    groups = {"all": np.full(task.counts.num_labels, True)}
    groups |= {name: mask.numpy() for name, mask in task.counts.groups().items()}
    return {
        name: 100 * calibration_error(probabilities[:, mask], labels[:, mask])
        for name, mask in groups.items()
        if mask.any()
    }


def measure(method: str, seed: int) -> dict:
    """Train with one method, and compute the errors before and after `calibrate`."""
    task = load_task(TASK, Source())
    with TemporaryDirectory() as folder:
        trainer = train(task, Run(TASK, METHODS[method], seed), folder)
        before = errors(trainer, task)
        calibrate(trainer.model, trainer.plm_state)
        return {"method": method, "seed": seed, "before": before, "after": errors(trainer, task)}


def mean_and_deviation(results: list[dict], method: str, moment: str, group: str) -> tuple[float, float]:
    values = [result[moment][group] for result in results if result["method"] == method]
    return float(np.mean(values)), float(np.std(values, ddof=1))


def make_table(results: list[dict]) -> Table:
    table = Table(title=f"Calibration error on {TASK}, percent, mean ± deviation over seeds {SEEDS}")
    groups = list(results[0]["before"])
    for column in ("", "calibrate", *groups):
        table.add_column(column, justify="right" if column in groups else "left")
    for method in METHODS:
        for moment in MOMENTS:
            cells = [mean_and_deviation(results, method, moment, group) for group in groups]
            table.add_row(
                method,
                moment,
                *(f"{mean:.2f} ± {deviation:.2f}" for mean, deviation in cells),
                end_section=moment == "after",
            )
    return table


def draw(results: list[dict], path: Path) -> None:
    groups = list(results[0]["before"])
    figure, axes = plt.subplots(1, len(METHODS), figsize=(9, 4), sharey=True, layout="constrained")
    for axis, method in zip(axes, METHODS, strict=True):
        for offset, moment in enumerate(MOMENTS):
            means, deviations = zip(
                *(mean_and_deviation(results, method, moment, group) for group in groups), strict=True
            )
            axis.bar(np.arange(len(groups)) + 0.4 * offset, means, 0.4, yerr=deviations, label=moment)
        axis.set_xticks(np.arange(len(groups)) + 0.2, groups)
        axis.set_title(method)
    axes[0].set_ylabel("expected calibration error, percent")
    axes[0].legend(title="calibrate")
    figure.savefig(path, dpi=130)


def main() -> None:
    matplotlib.use("agg")
    be_quiet()
    runs = [(method, seed) for method in METHODS for seed in SEEDS]
    results = [measure(*run) for run in track(runs, "Training")]
    Console(width=110).print(make_table(results))
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "calibration.json").write_text(json.dumps({"task": TASK, "results": results}, indent=2))
    draw(results, OUTPUT / "calibration.png")
    print("Written:", OUTPUT / "calibration.json", OUTPUT / "calibration.png")


if __name__ == "__main__":
    main()
