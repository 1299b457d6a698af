"""Measures the cost of Partial Label Masking in a training step, compared with the stock `Trainer` with BCE.

    python benchmarks/overhead.py    # seed 0, four minutes on two cores; writes outputs/benchmarks/overhead.*

For a BERT-like and a ViT-like model and 20, 365 and 5,000 labels, the stock `Trainer` and `PLMTrainer` with the
presets `default` and `paper` make one step each in turn, on the same batches. Ratios are taken step by step, and their
median is shown with the quartiles. Memory is the peak of a separate process; on a GPU, that of model and optimizer.
"""

import gc
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
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
from torch import Tensor
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
KINDS = ("BERT", "ViT")
METHODS = ("stock", "default", "paper")
LABELS = (20, 365, 5000)


@dataclass(frozen=True)
class Size:
    """How large the models are, and their batches.

    Attributes:
        hidden, layers, heads: of both models; the intermediate layers are four times as wide as `hidden`.
        rows: number of rows of a batch.
        vocabulary, tokens: size of BERT's vocabulary, and length of its texts.
        pixels, patch: side length of ViT's pictures and patches.
    """

    hidden: int
    layers: int
    heads: int
    rows: int
    vocabulary: int
    tokens: int
    pixels: int
    patch: int


SIZES = {
    "tiny": Size(16, 1, 2, 4, vocabulary=100, tokens=8, pixels=16, patch=8),
    "small": Size(256, 4, 4, 16, vocabulary=1000, tokens=64, pixels=64, patch=8),
    "base": Size(768, 12, 12, 32, vocabulary=30522, tokens=128, pixels=224, patch=16),
}


def make_model(kind: str, num_labels: int, size: Size) -> PreTrainedModel:
    task = {"num_labels": num_labels, "problem_type": "multi_label_classification"}
    shape = {"hidden_size": size.hidden, "num_hidden_layers": size.layers, "num_attention_heads": size.heads}
    shape["intermediate_size"] = 4 * size.hidden
    if kind == "BERT":
        return BertForSequenceClassification(BertConfig(vocab_size=size.vocabulary, **shape, **task))
    return ViTForImageClassification(ViTConfig(image_size=size.pixels, patch_size=size.patch, **shape, **task))


def make_batches(kind: str, num_labels: int, size: Size, device: str) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(SEED)
    collator = MultiLabelCollator(num_labels, label_format="ids")
    batches = []
    for first in range(0, BATCHES * size.rows, size.rows):
        if kind == "BERT":
            inputs = {"input_ids": torch.randint(size.vocabulary, (size.rows, size.tokens), generator=generator)}
        else:
            inputs = {"pixel_values": torch.rand(size.rows, 3, size.pixels, size.pixels, generator=generator)}
        rows = range(first, first + size.rows)
        labels = collator([{"row": row, "labels": labels_of(row, num_labels)} for row in rows])["labels"]
        batches.append({name: tensor.to(device) for name, tensor in {**inputs, "labels": labels}.items()})
    return batches


def labels_of(row: int, num_labels: int) -> list[int]:
    return sorted({row % num_labels, row * 7 % num_labels})


def make_trainer(kind: str, num_labels: int, method: str, folder: str, size: Size, device: str) -> Trainer:
    """A trainer that makes single steps; on a GPU in bfloat16."""
    set_seed(SEED)
    args = PLMTrainingArguments(
        folder,
        plm_preset="default" if method == "stock" else method,
        per_device_train_batch_size=size.rows,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        dataloader_pin_memory=False,
        use_cpu=device == "cpu",
        bf16=device == "cuda",
    )
    rows = Dataset.from_dict({"labels": [labels_of(row, num_labels) for row in range(BATCHES * size.rows)]})
    with torch.device(device):
        model = make_model(kind, num_labels, size)
    trainer_class = Trainer if method == "stock" else PLMTrainer
    collator = MultiLabelCollator(num_labels, label_format="ids")
    trainer = trainer_class(model, args, collator, rows)
    trainer.model = trainer.accelerator.prepare_model(trainer.model)  # now its forward pass is in bfloat16
    trainer.current_gradient_accumulation_steps = 1
    trainer.create_optimizer()
    return trainer


def step(trainer: Trainer, batch: dict[str, Tensor]) -> float:
    """Make one training step as `Trainer` does; returns its seconds."""
    batch = dict(batch)
    start = time.perf_counter()
    (batch,), num_items = trainer.get_batch_samples(iter([batch]), 1, trainer.args.device)
    trainer.training_step(trainer.model, batch, num_items)
    trainer.optimizer.step()
    trainer.model.zero_grad()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_memory(kind: str, num_labels: int, method: str, size: Size) -> float:
    """The peak memory, in MB, of a separate process that makes three steps on the CPU."""
    context = multiprocessing.get_context("fork")  # saves the import
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_peak_memory, args=(sender, kind, num_labels, method, size))
    process.start()
    peak = receiver.recv()
    process.join()
    return peak


def _send_peak_memory(pipe: Connection, kind: str, num_labels: int, method: str, size: Size) -> None:
    with TemporaryDirectory() as folder:
        warm_up(
            make_trainer(kind, num_labels, method, folder, size, "cpu"), make_batches(kind, num_labels, size, "cpu")
        )
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def warm_up(trainer: Trainer, batches: Sequence[dict[str, Tensor]]) -> None:
    """Make three steps: afterwards memory is at its peak and all compilation is done."""
    for batch in batches[:3]:
        step(trainer, batch)


def make_trainers(kind: str, num_labels: int, folder: str, size: Size, device: str) -> tuple[dict, list, dict]:
    """A trainer for each method, the batches for all, and on a GPU the peak memory of each trainer in MB."""
    gc.collect()  # earlier trainers have reference cycles
    batches = make_batches(kind, num_labels, size, device)
    trainers, peaks = {}, {}
    for method in METHODS:
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        trainers[method] = make_trainer(kind, num_labels, method, folder, size, device)
        warm_up(trainers[method], batches)
        if device == "cuda":
            peaks[method] = (torch.cuda.max_memory_allocated() - before) / 2**20
    return trainers, batches, peaks


def measure(kind: str, num_labels: int, size: Size, device: str, steps: int = STEPS) -> list[dict]:
    """All methods in turn, step by step on the same batches."""
    with TemporaryDirectory() as folder:
        trainers, batches, peaks = make_trainers(kind, num_labels, folder, size, device)
        seconds: dict[str, list[float]] = {method: [] for method in METHODS}
        for index in range(steps):
            order = METHODS[index % 3 :] + METHODS[: index % 3]
            for method in order:
                seconds[method].append(step(trainers[method], batches[index % len(batches)]))
        results = []
        for method in METHODS:
            ratios = [
                one / stock for one, stock in zip(seconds[method][WARM_UP:], seconds["stock"][WARM_UP:], strict=True)
            ]
            low, _, high = statistics.quantiles(ratios, n=4)
            result = {"model": kind, "num_labels": num_labels, "method": method, "ratio": statistics.median(ratios)}
            result |= {"ratio_low": low, "ratio_high": high, "seconds": statistics.median(seconds[method][WARM_UP:])}
            result |= {"peak_mb": peaks[method]} if method in peaks else {}
            if method != "stock":
                start = time.perf_counter()
                trainers[method].plm_loss.end_epoch()
                summarize(trainers[method].plm_state)
                result["update_seconds"] = time.perf_counter() - start
            results.append(result)
        return results


def main() -> None:
    matplotlib.use("agg")
    size, device = SIZES["small"], "cuda" if torch.cuda.is_available() else "cpu"
    cases = [(kind, num_labels) for kind in KINDS for num_labels in LABELS]
    runs = [(*case, method) for case in cases for method in METHODS] if device == "cpu" else []
    peaks = [peak_memory(*one, size) for one in track(runs, "Memory")]  # first: fork needs a process without threads
    results = [result for case in track(cases, "Seconds") for result in measure(*case, size, device)]
    for result, peak in zip(results, peaks, strict=False):
        result["peak_mb"] = peak

    table = Table(title=f"A step of training, batch {size.rows}, median of {STEPS - WARM_UP} steps, seed {SEED}")
    for column in ("model", "labels", "method", "ms", "ratio (quartiles)", "peak MB", "update ms"):
        table.add_column(column, justify="left" if column in ("model", "method") else "right")
    for r in results:
        update = f"{1000 * r['update_seconds']:.1f}" if "update_seconds" in r else ""
        ratio = f"{r['ratio']:.3f} ({r['ratio_low']:.3f} to {r['ratio_high']:.3f})"
        cells = [r["model"], f"{r['num_labels']:,}", r["method"], f"{1000 * r['seconds']:.1f}", ratio]
        table.add_row(*cells, f"{r['peak_mb']:.0f}", update, end_section=r["method"] == METHODS[-1])
    Console(width=110).print(table)

    OUTPUT.mkdir(parents=True, exist_ok=True)
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    report = {"seed": SEED, "steps": STEPS - WARM_UP, "device": name, "results": results}
    (OUTPUT / "overhead.json").write_text(json.dumps(report, indent=2))
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for axis, kind in zip(axes, KINDS, strict=True):
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
