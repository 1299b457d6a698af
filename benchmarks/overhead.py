"""What Partial Label Masking costs in a step of training, beside the stock `Trainer` with BCE.

    python benchmarks/overhead.py    # seed 0, four minutes on two cores; writes outputs/benchmarks/overhead.*

For a BERT-like and a ViT-like model and 20, 365 and 5,000 labels, the stock `Trainer` and `PLMTrainer` with the
presets `default` and `paper` make one step each in turn, on the same batches. Ratios are taken step by step, and their
median is shown with the quartiles. Memory is the peak of a process of its own.
"""

import itertools
import json
import multiprocessing
import resource
import statistics
import time
from multiprocessing.connection import Connection
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
    ViTConfig,
    ViTForImageClassification,
    set_seed,
)

from hf_plm import MultiLabelCollator, PLMTrainer, PLMTrainingArguments
from hf_plm.callback import summarize

OUTPUT = Path("outputs/benchmarks")
SEED = 0
STEPS = 42
WARM_UP = 6
BATCHES = 6
BATCH_SIZE = 16
METHODS = ("stock", "default", "paper")
LABELS = (20, 365, 5000)
SIZE = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}


def make_model(kind: str, num_labels: int) -> PreTrainedModel:
    task = {"num_labels": num_labels, "problem_type": "multi_label_classification"}
    if kind == "BERT":
        return BertForSequenceClassification(BertConfig(vocab_size=1000, **SIZE, **task))
    return ViTForImageClassification(ViTConfig(image_size=64, patch_size=8, **SIZE, **task))


def make_rows(kind: str, num_labels: int) -> Dataset:
    rows = BATCH_SIZE * BATCHES
    columns = {"labels": [sorted({row % num_labels, row * 7 % num_labels}) for row in range(rows)]}
    if kind == "BERT":
        columns["input_ids"] = torch.randint(0, 1000, (rows, 64)).tolist()
    else:
        columns["pixel_values"] = torch.rand(rows, 3, 64, 64).numpy()
    return Dataset.from_dict(columns).with_format(
        "numpy", columns=[name for name in columns if name != "labels"], output_all_columns=True
    )


def make_trainer(kind: str, num_labels: int, method: str, folder: str) -> Trainer:
    set_seed(SEED)
    args = PLMTrainingArguments(
        folder,
        plm_preset="default" if method == "stock" else method,
        per_device_train_batch_size=BATCH_SIZE,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        dataloader_pin_memory=False,
    )
    collator = MultiLabelCollator(num_labels, label_format="ids")
    trainer_class = Trainer if method == "stock" else PLMTrainer
    trainer = trainer_class(make_model(kind, num_labels), args, collator, make_rows(kind, num_labels))
    trainer.current_gradient_accumulation_steps = 1
    trainer.create_optimizer()
    return trainer


def step(trainer: Trainer, batch: dict) -> float:
    """One step of training as `Trainer` makes it; its seconds."""
    start = time.perf_counter()
    (batch,), num_items = trainer.get_batch_samples(iter([batch]), 1, trainer.args.device)
    trainer.training_step(trainer.model, batch, num_items)
    trainer.optimizer.step()
    trainer.model.zero_grad()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_memory(kind: str, num_labels: int, method: str) -> float:
    """MB, of a process of its own (on a GPU: of the device) that makes three steps."""
    # On a CPU a fork is enough, and saves the import; CUDA wants a process from scratch.
    context = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_peak_memory, args=(sender, kind, num_labels, method))
    process.start()
    peak = receiver.recv()
    process.join()
    return peak


def _send_peak_memory(pipe: Connection, kind: str, num_labels: int, method: str) -> None:
    with TemporaryDirectory() as folder:
        trainer = make_trainer(kind, num_labels, method, folder)
        for batch in itertools.islice(trainer.get_train_dataloader(), 3):
            step(trainer, batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pipe.send(torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else peak)


def measure(kind: str, num_labels: int) -> list[dict]:
    """All methods in turn, step by step on the same batches."""
    with TemporaryDirectory() as folder:
        trainers = {method: make_trainer(kind, num_labels, method, folder) for method in METHODS}
        batches = list(trainers["stock"].get_train_dataloader())
        seconds: dict[str, list[float]] = {method: [] for method in METHODS}
        for index in range(STEPS):
            order = METHODS[index % 3 :] + METHODS[: index % 3]
            for method in order:
                seconds[method].append(step(trainers[method], dict(batches[index % len(batches)])))
        results = []
        for method in METHODS:
            ratios = [
                one / stock for one, stock in zip(seconds[method][WARM_UP:], seconds["stock"][WARM_UP:], strict=True)
            ]
            low, _, high = statistics.quantiles(ratios, n=4)
            result = {"model": kind, "num_labels": num_labels, "method": method, "ratio": statistics.median(ratios)}
            result |= {"ratio_low": low, "ratio_high": high, "seconds": statistics.median(seconds[method][WARM_UP:])}
            if method != "stock":
                start = time.perf_counter()
                trainers[method].plm_loss.end_epoch()
                summarize(trainers[method].plm_state)
                result["update_seconds"] = time.perf_counter() - start
            results.append(result)
        return results


def main() -> None:
    matplotlib.use("agg")
    cases = [(kind, num_labels) for kind in ("BERT", "ViT") for num_labels in LABELS]
    runs = [(*case, method) for case in cases for method in METHODS]
    peaks = [peak_memory(*one) for one in track(runs, "Memory")]  # first: a fork wants a process without threads
    results = [result for case in track(cases, "Seconds") for result in measure(*case)]
    for result, peak in zip(results, peaks, strict=True):
        result["peak_mb"] = peak

    table = Table(title=f"A step of training, batch {BATCH_SIZE}, median of {STEPS - WARM_UP} steps, seed {SEED}")
    for column in ("model", "labels", "method", "ms", "ratio (quartiles)", "peak MB", "update ms"):
        table.add_column(column, justify="left" if column in ("model", "method") else "right")
    for r in results:
        update = f"{1000 * r['update_seconds']:.1f}" if "update_seconds" in r else ""
        ratio = f"{r['ratio']:.3f} ({r['ratio_low']:.3f} to {r['ratio_high']:.3f})"
        cells = [r["model"], f"{r['num_labels']:,}", r["method"], f"{1000 * r['seconds']:.1f}", ratio]
        table.add_row(*cells, f"{r['peak_mb']:.0f}", update, end_section=r["method"] == METHODS[-1])
    Console(width=110).print(table)

    OUTPUT.mkdir(parents=True, exist_ok=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    report = {"seed": SEED, "steps": STEPS - WARM_UP, "device": device, "results": results}
    (OUTPUT / "overhead.json").write_text(json.dumps(report, indent=2))
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for axis, kind in zip(axes, ("BERT", "ViT"), strict=True):
        for method in METHODS[1:]:
            chosen = [r for r in results if r["model"] == kind and r["method"] == method]
            below = [r["ratio"] - r["ratio_low"] for r in chosen]
            above = [r["ratio_high"] - r["ratio"] for r in chosen]
            axis.errorbar(LABELS, [r["ratio"] for r in chosen], [below, above], marker="o", capsize=3, label=method)
        axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axis.set_xscale("log")
        axis.set_xlabel("labels")
        axis.set_title(f"{kind}-like")
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("step time / stock Trainer with BCE")
    figure.legend(*axes[0].get_legend_handles_labels(), title="preset", loc="outside right upper")
    figure.savefig(OUTPUT / "overhead.png", dpi=130)
    print("Written:", OUTPUT / "overhead.json", OUTPUT / "overhead.png")


if __name__ == "__main__":
    main()
