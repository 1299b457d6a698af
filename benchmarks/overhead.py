"""What Partial Label Masking costs in a step of training, beside the stock `Trainer` with BCE.

    python benchmarks/overhead.py        # seed 0, six minutes on two cores; writes outputs/benchmarks/overhead.json, .png

For a BERT-like and a ViT-like model and 20, 365 and 5,000 labels, the stock `Trainer` and `PLMTrainer` with the presets
`default` and `paper` train in turn, each in a process of its own, on the same rows with the same collator. Seconds are
the median over the steps; ratios are taken round by round, and their median is shown with the smallest and the largest.
"""

import json
import multiprocessing
import resource
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib
import torch
from datasets import Dataset
from matplotlib import pyplot as plt
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    ViTConfig,
    ViTForImageClassification,
    set_seed,
)

from hf_plm import MultiLabelCollator, PLMTrainer, PLMTrainingArguments
from hf_plm.callback import summarize

OUTPUT = Path("outputs/benchmarks")
SEED = 0
ROUNDS = 3
STEPS = 12
WARM_UP = 3
BATCH_SIZE = 16
METHODS = ("stock", "default", "paper")
LABELS = (20, 365, 5000)
SIZE = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}


class Clock(TrainerCallback):
    """The time between the ends of steps."""

    def __init__(self):
        self.ends = []

    def on_step_end(self, args, state, control, **kwargs):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def make_model(kind: str, num_labels: int) -> PreTrainedModel:
    task = {"num_labels": num_labels, "problem_type": "multi_label_classification"}
    if kind == "BERT":
        return BertForSequenceClassification(BertConfig(vocab_size=1000, **SIZE, **task))
    return ViTForImageClassification(ViTConfig(image_size=64, patch_size=8, **SIZE, **task))


def make_rows(kind: str, num_labels: int) -> Dataset:
    rows = BATCH_SIZE * STEPS
    columns = {"labels": [sorted({row % num_labels, row * 7 % num_labels}) for row in range(rows)]}
    if kind == "BERT":
        columns["input_ids"] = torch.randint(0, 1000, (rows, 64)).tolist()
    else:
        columns["pixel_values"] = torch.rand(rows, 3, 64, 64).numpy()
    return Dataset.from_dict(columns).with_format(
        "numpy", columns=[name for name in columns if name != "labels"], output_all_columns=True
    )


def measure(pipe, kind: str, num_labels: int, method: str) -> None:
    """One run; sends seconds per step, peak memory in MB, and seconds for an update of the ideal ratios."""
    set_seed(SEED)
    clock = Clock()
    with TemporaryDirectory() as folder:
        args = PLMTrainingArguments(
            folder,
            plm_preset="default" if method == "stock" else method,
            per_device_train_batch_size=BATCH_SIZE,
            num_train_epochs=1,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        collator = MultiLabelCollator(num_labels, label_format="ids")
        trainer_class = Trainer if method == "stock" else PLMTrainer
        trainer = trainer_class(
            make_model(kind, num_labels), args, collator, make_rows(kind, num_labels), callbacks=[clock]
        )
        trainer.train()
    steps = [end - start for start, end in zip(clock.ends[WARM_UP - 1 :], clock.ends[WARM_UP:], strict=False)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**20
    update = None
    if method != "stock":
        start = time.perf_counter()
        trainer.plm_loss.end_epoch()
        summarize(trainer.plm_state)
        update = time.perf_counter() - start
    pipe.send({"seconds": statistics.median(steps), "peak_mb": peak, "update_seconds": update})


def run(kind: str, num_labels: int, method: str) -> dict:
    # On a CPU a fork is enough, and saves the import; CUDA wants a process from scratch.
    context = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(sender, kind, num_labels, method))
    process.start()
    result = receiver.recv()
    process.join()
    return result


def summarize_rounds(rounds: list[dict[str, dict]], method: str) -> dict:
    ratios = [results[method]["seconds"] / results["stock"]["seconds"] for results in rounds]
    return {
        "method": method,
        "seconds": statistics.median(results[method]["seconds"] for results in rounds),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "peak_mb": statistics.median(results[method]["peak_mb"] for results in rounds),
        "update_seconds": rounds[0][method]["update_seconds"],
    }


def main() -> None:
    matplotlib.use("agg")
    cases = [(kind, num_labels) for kind in ("BERT", "ViT") for num_labels in LABELS]
    rounds: dict[tuple, list] = {case: [] for case in cases}
    for case in track(cases * ROUNDS, "Training in turn"):
        rounds[case].append({method: run(*case, method) for method in METHODS})
    results = [
        {"model": kind, "num_labels": num_labels, **summarize_rounds(rounds[kind, num_labels], method)}
        for kind, num_labels in cases
        for method in METHODS
    ]

    table = Table(title=f"A step of training, batch {BATCH_SIZE}, {ROUNDS} rounds, seed {SEED}")
    for column in ("model", "labels", "method", "ms", "ratio (min to max)", "peak MB", "update ms"):
        table.add_column(column, justify="left" if column in ("model", "method") else "right")
    for r in results:
        update = f"{1000 * r['update_seconds']:.1f}" if r["update_seconds"] is not None else ""
        ratio = f"{r['ratio']:.3f} ({r['ratio_min']:.3f} to {r['ratio_max']:.3f})"
        cells = [r["model"], f"{r['num_labels']:,}", r["method"], f"{1000 * r['seconds']:.1f}", ratio]
        table.add_row(*cells, f"{r['peak_mb']:.0f}", update, end_section=r["method"] == METHODS[-1])
    Console(width=110).print(table)

    OUTPUT.mkdir(parents=True, exist_ok=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    report = {"seed": SEED, "rounds": ROUNDS, "device": device, "results": results}
    (OUTPUT / "overhead.json").write_text(json.dumps(report, indent=2))
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for axis, kind in zip(axes, ("BERT", "ViT"), strict=True):
        for method in METHODS[1:]:
            chosen = [r for r in results if r["model"] == kind and r["method"] == method]
            below = [r["ratio"] - r["ratio_min"] for r in chosen]
            above = [r["ratio_max"] - r["ratio"] for r in chosen]
            axis.errorbar(LABELS, [r["ratio"] for r in chosen], [below, above], marker="o", capsize=3, label=method)
        axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axis.set_xscale("log")
        axis.set_xlabel("labels")
        axis.set_title(f"{kind}-like")
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("step time / stock Trainer with BCE")
    axes[0].legend(title="preset")
    figure.savefig(OUTPUT / "overhead.png", dpi=130)
    print("Written:", OUTPUT / "overhead.json", OUTPUT / "overhead.png")


if __name__ == "__main__":
    main()
