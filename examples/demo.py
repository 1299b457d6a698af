"""Shows the effect of Partial Label Masking on real texts, with three models, a table and two pictures.

    python examples/demo.py

Trains `train_text.py` three times, with the same seed and the same code, on 10,000 descriptions of Debian packages
with 365 labels: plain BCE, BCE with the default preset's masks, and the default preset. Writes `outputs/demo/`.
"""

import json
import time
from pathlib import Path

import numpy as np
import torch
import train_text
import transformers
from rich.console import Console
from rich.table import Table
from scipy.special import expit

from hf_plm import PLMTrainer
from hf_plm.plots import plot_label_scores, plot_ratios
from hf_plm.scores import label_scores

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


def train(name: str, flags: list[str]) -> tuple[PLMTrainer, dict]:
    """Train one model. Returns its trainer, and its scores on the validation data, overall and for each label."""
    start = time.monotonic()
    output_dir = OUTPUT / name.lower().replace(" ", "-")
    trainer = train_text.main(["--output_dir", str(output_dir), *COMMON, *flags])
    prediction = trainer.predict(trainer.eval_dataset)
    result = {key: prediction.metrics[f"test_{key}"] for key in SCORES}
    result["seconds"] = time.monotonic() - start
    result["labels"] = label_scores(expit(prediction.predictions), prediction.label_ids)
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
        f"Seed {SEED}, {seconds / 60:.1f} minutes in total. Such short runs favour PLM: with more epochs, the gap to "
        "plain BCE gets smaller."
    )


def draw(results: dict[str, dict], trainer: PLMTrainer) -> list[Path]:
    """Draw recall and precision of every label in all runs, and the ideal ratios of the default preset over time."""
    label_figure = plot_label_scores(
        {name: result["labels"] for name, result in results.items()},
        trainer.label_counts,
        "debtags, validation data, threshold 0.5",
    )
    paths = []
    for name, figure in {"label_scores": label_figure, "ideal_ratios": plot_ratios(trainer.plm_state)}.items():
        paths.append(OUTPUT / f"{name}.png")
        figure.savefig(paths[-1], dpi=130)
    return paths


def main() -> None:
    start = time.monotonic()
    trainers, results = {}, {}
    for number, (name, flags) in enumerate(RUNS.items(), 1):
        print(f"\n{number} of {len(RUNS)}: {name} ({' '.join(flags)})")
        trainers[name], results[name] = train(name, flags)
    pictures = draw(results, trainers["PLM default"])
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    scores = {name: {key: value for key, value in r.items() if np.isscalar(value)} for name, r in results.items()}
    (OUTPUT / "results.json").write_text(json.dumps({"seed": SEED, "versions": versions, "runs": scores}, indent=2))
    print_table(results, time.monotonic() - start)
    print("Written:", *pictures, OUTPUT / "results.json")


if __name__ == "__main__":
    main()
