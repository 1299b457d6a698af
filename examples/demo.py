"""What Partial Label Masking does, seen on real text: three models, one table, two pictures.

    python examples/demo.py

Trains `train_text.py` three times, with the same seed and the same code, on 10,000 descriptions of Debian packages
with 365 labels: plain BCE, BCE with the default preset's masks, and the default preset. Writes `outputs/demo/`.
"""

import json
import time
from pathlib import Path

import matplotlib
import numpy as np
import torch
import train_text
import transformers
from matplotlib import pyplot as plt
from rich.console import Console
from rich.table import Table
from sklearn.metrics import precision_score, recall_score

from hf_plm import PLMTrainer

OUTPUT = Path("outputs/demo")
SEED = 42
RUNS = {
    "plain BCE": ["--plm_preset", "off"],
    "PLM on BCE": ["--plm_preset", "default", "--plm_objective", "bce"],
    "PLM default": ["--plm_preset", "default"],
}
COMMON = [
    *("--seed", str(SEED), "--max_train_samples", "10000", "--num_train_epochs", "4"),
    *("--eval_strategy", "no", "--save_strategy", "no", "--logging_strategy", "no"),
    *("--dataloader_pin_memory", "false"),
]
GROUPS = ("head", "medium", "tail")
SCORES = {
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "map": "mAP",
    "exact_match": "exact match",
    **{f"{group}_{score}": f"{group} {score}" for group in GROUPS for score in ("precision", "recall")},
    "labels_never_predicted": "labels never predicted",
}
COLOURS = ["#7f7f7f", "#ff7f0e", "#1f77b4"]


def train(name: str, flags: list[str]) -> tuple[PLMTrainer, dict]:
    """One run: its trainer, and its scores on the validation data with the predictions."""
    start = time.monotonic()
    output_dir = OUTPUT / name.lower().replace(" ", "-")
    trainer = train_text.main(["--output_dir", str(output_dir), *COMMON, *flags])
    prediction = trainer.predict(trainer.eval_dataset)
    result = {key: prediction.metrics[f"test_{key}"] for key in SCORES}
    result["seconds"] = time.monotonic() - start
    result["predicted"] = prediction.predictions >= 0
    result["labels"] = prediction.label_ids == 1
    return trainer, result


def print_table(results: dict[str, dict], seconds: float) -> None:
    table = Table(title="Validation, threshold 0.5, in percent (* best)")
    table.add_column("")
    for name in results:
        table.add_column(name, justify="right")
    for key, title in SCORES.items():
        counts = key == "labels_never_predicted"
        values = [result[key] for result in results.values()]
        best = min(values) if counts else max(values)
        shown = [f"{value:.0f}" if counts else f"{100 * value:.1f}" for value in values]
        cells = [
            f"[bold green]{text} *[/]" if v == best else f"{text}  " for text, v in zip(shown, values, strict=True)
        ]
        table.add_row(title, *cells, end_section=key in ("exact_match", "tail_recall"))
    table.add_row("seconds", *(f"{result['seconds']:.0f}  " for result in results.values()))
    console = Console()
    console.print(table)
    console.print(
        f"Seed {SEED}, {seconds / 60:.1f} minutes in all. Short runs like these flatter PLM: plain BCE catches "
        "up in part with more epochs."
    )


def plot_label_scores(results: dict[str, dict], groups: dict[str, torch.Tensor], positives: torch.Tensor) -> Path:
    """Recall and precision label by label, from the most frequent label to the rarest."""
    order = torch.argsort(positives, descending=True, stable=True).numpy()
    order = order[next(iter(results.values()))["labels"].any(0)[order]]  # labels with a positive to score
    rank = np.arange(len(order))
    figure, axes = plt.subplots(2, 1, figsize=(11, 7.5), sharex=True, layout="constrained")
    for axis, (title, score) in zip(axes, {"recall": recall_score, "precision": precision_score}.items(), strict=True):
        for colour, (name, result) in zip(COLOURS, results.items(), strict=True):
            values = score(result["labels"][:, order], result["predicted"][:, order], average=None, zero_division=0)
            axis.scatter(rank, values, s=9, color=colour, alpha=0.35, linewidths=0)
            axis.plot(rank, rolling_mean(values, 25), color=colour, linewidth=2.5, label=name)
        axis.set_ylabel(title)
        axis.set_ylim(-0.02, 1.02)
        axis.grid(alpha=0.25)
    for group in GROUPS:
        members = rank[groups[group].numpy()[order]]
        axes[0].text(members.mean(), 1.05, group, ha="center", fontweight="bold")
        for axis in axes:
            axis.axvline(members.max() + 0.5, color="black", linewidth=0.8, linestyle=":")
    axes[0].legend(loc="upper right", framealpha=0.95)
    axes[1].set_xlabel("label, from the most frequent to the rarest (dots: one label; lines: mean of 25 neighbours)")
    axes[1].set_xlim(-3, len(order) + 2)
    figure.suptitle("PLM predicts the labels that plain BCE never does (debtags, validation)")
    return save(figure, "label_scores.png")


def rolling_mean(values: np.ndarray, window: int) -> np.ndarray:
    ones = np.ones(window)
    return np.convolve(values, ones, "same") / np.convolve(np.ones_like(values), ones, "same")


def plot_ideal_ratios(trainers: dict[str, PLMTrainer]) -> Path:
    """How far each label's ideal ratio lies from its own ratio, epoch by epoch."""
    figure, axes = plt.subplots(1, len(trainers), figsize=(11, 5), sharey=True, layout="constrained", squeeze=False)
    for axis, (name, trainer) in zip(axes[0], trainers.items(), strict=True):
        state = trainer.plm_state
        start = state.ratio**trainer.plm_loss.settings.temper
        shifts = (torch.cat([start[None], state.history]) / state.ratio).numpy()
        for colour, (group, mask) in zip(
            ("#d62728", "#9467bd", "#17becf"), trainer.label_counts.groups().items(), strict=True
        ):
            axis.plot(shifts[:, mask.numpy()], color=colour, linewidth=0.5, alpha=0.25)
            axis.plot(np.median(shifts[:, mask.numpy()], 1), color=colour, linewidth=3, marker="o", label=group)
        axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axis.set_yscale("log")
        axis.set_title(name)
        axis.set_xlabel("updates of the ideal ratio (epochs)")
        axis.set_xticks(range(len(shifts)))
        axis.grid(alpha=0.25)
    axes[0, 0].set_ylabel("ideal ratio / ratio of the data")
    axes[0, 0].legend(title="median of", loc="upper left")
    figure.suptitle("How the ideal ratios moved: above 1 negatives are masked, below 1 positives")
    return save(figure, "ideal_ratios.png")


def save(figure: plt.Figure, name: str) -> Path:
    figure.savefig(OUTPUT / name, dpi=130)
    plt.close(figure)
    return OUTPUT / name


def main() -> None:
    matplotlib.use("agg")
    start = time.monotonic()
    trainers, results = {}, {}
    for number, (name, flags) in enumerate(RUNS.items(), 1):
        print(f"\n{number} of {len(RUNS)}: {name} ({' '.join(flags)})")
        trainers[name], results[name] = train(name, flags)
    counts = trainers["PLM default"].label_counts
    pictures = [
        plot_label_scores(results, counts.groups(), counts.positives),
        plot_ideal_ratios({name: trainer for name, trainer in trainers.items() if name != "plain BCE"}),
    ]
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    scores = {name: {key: value for key, value in r.items() if np.isscalar(value)} for name, r in results.items()}
    (OUTPUT / "results.json").write_text(json.dumps({"seed": SEED, "versions": versions, "runs": scores}, indent=2))
    print_table(results, time.monotonic() - start)
    print("Written:", *pictures, OUTPUT / "results.json")


if __name__ == "__main__":
    main()
