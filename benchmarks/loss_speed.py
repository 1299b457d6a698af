"""Measures the cost of the loss, forward and backward, compared with binary cross-entropy, for 20 to 1,000,000 labels.

    python benchmarks/loss_speed.py    # seed 0, four minutes on two cores; writes outputs/benchmarks/loss_speed.*

Every method makes one step in turn on the same logits and labels. Ratios to eager BCE, which is
`F.binary_cross_entropy_with_logits`, are taken step by step, and their median is shown with the quartiles. Compiled
means by `torch.compile`, for any shape. The floor only reads logits and labels and writes the gradient once:
`torch.add(logits, labels, out=gradient)`. Memory is the peak in addition to logits and labels. The last table has the
time from lists of class ids to the loss, with dense and with sparse labels. Evaluation has the time of a linear
classifier's forward pass and of the loss after it. All is measured on one core and on two, or on the GPU if there is
one, each in its own process.
"""

import argparse
import gc
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib
import torch
from loss_steps import (
    BASELINE,
    EAGER,
    EVALUATION_SHAPE,
    FLOOR,
    METHODS,
    SEED,
    make_batch,
    make_evaluation_steps,
    make_label_steps,
    make_step,
)
from matplotlib import pyplot as plt
from rich.console import Console
from rich.table import Table

OUTPUT = Path("outputs/benchmarks")
SHAPES = (
    (256, 20),
    (256, 100),
    (32, 365),
    (256, 365),
    (64, 2_000),
    (64, 10_000),
    (16, 100_000),
    (16, 200_000),
    (4, 1_000_000),
)
MEMORY_SHAPE = (16, 200_000)
SPARSE_SHAPES = ((16, 100_000), (16, 1_000_000))

# Settings for glibc's allocator in a new process: keep freed memory, so that no method pays for memory that a previous
# one returned; or return all memory at once, so that the peak is that of the method.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**36)}
GIVE_BACK_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**16), "MALLOC_TRIM_THRESHOLD_": str(2**16)}


def seconds_of(step: Callable[[], Any]) -> float:
    # On one core, CPU time is used, so that other programs on the machine matter little.
    clock = time.perf_counter if torch.cuda.is_available() or torch.get_num_threads() > 1 else time.thread_time
    start = clock()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def measure_seconds(
    rows: int, num_labels: int, dtype: torch.dtype, device: str, methods: Sequence[str] = METHODS
) -> list[dict]:
    """All methods in turn, step by step; `FLOOR` and `BASELINE` must be among them."""
    logits, labels = make_batch(rows, num_labels, dtype, device)
    steps = {method: make_step(method, logits, labels) for method in methods}
    rounds = min(100, max(15, 20_000_000 // logits.numel()))
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    for index in range(3 + rounds):
        for place in range(len(methods)):
            method = methods[(index + place) % len(methods)]
            seconds[method].append(seconds_of(steps[method]))
    results = []
    for method in methods:
        pairs = zip(seconds[method][3:], seconds[BASELINE][3:], strict=True)
        low, ratio, high = statistics.quantiles([one / baseline for one, baseline in pairs], n=4)
        median, floor = (statistics.median(seconds[name][3:]) for name in (method, FLOOR))
        result = {"method": method, "rows": rows, "num_labels": num_labels, "dtype": str(dtype).removeprefix("torch.")}
        result |= {"seconds": median, "ratio": ratio, "ratio_low": low, "ratio_high": high}
        results.append({**result, "over_floor": median / floor, "ns_per_entry": 1e9 * median / logits.numel()})
    return results


def peak_bytes(step: Callable[[], Any]) -> int:
    """The peak of the memory that a step adds, after warm-up steps.

    On a CPU, the process must have started with `GIVE_BACK_MEMORY`.
    """
    for _ in range(3):
        step()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: resets VmHWM, the peak of VmRSS
        before = _status("VmRSS")
    for _ in range(20):  # some steps of the compiled loss empty its counters
        step()
    return (torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _status("VmHWM")) - before


def _status(field: str) -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1024


def measure_memory(
    device: str,
    methods: Sequence[str] = METHODS,
    shape: tuple[int, int] = MEMORY_SHAPE,
    sparse_shapes: Sequence[tuple[int, int]] = SPARSE_SHAPES,
) -> dict[str, Any]:
    """Peak memory of the methods in bytes per entry of a shape, and peak memory with dense and sparse labels."""
    torch.set_num_threads(1)
    logits, labels = make_batch(*shape, torch.float32, device)
    peaks = {}
    for method in methods:
        step = make_step(method, logits, labels)

        def from_nothing(step: Callable[[], Any] = step) -> None:
            step()
            logits.grad = None

        peaks[method] = peak_bytes(from_nothing) / logits.numel()
    labels = [peak_bytes(step) for shape in sparse_shapes for step, *_ in make_label_steps(*shape, device)]
    return {"bytes_per_entry": peaks, "labels": labels}


def measure_labels(rows: int, num_labels: int, device: str) -> list[dict]:
    """The seconds of the steps of `make_label_steps`."""
    results = []
    for sparse, (step, only_loss, size) in zip((False, True), make_label_steps(rows, num_labels, device), strict=True):
        step()
        seconds = statistics.median(seconds_of(step) for _ in range(9))
        loss_seconds = statistics.median(seconds_of(only_loss) for _ in range(9))
        result = {"rows": rows, "num_labels": num_labels, "sparse": sparse, "label_bytes": size}
        results.append({**result, "seconds": seconds, "loss_seconds": loss_seconds})
    return results


def measure_evaluation(device: str) -> dict[str, float]:
    """The median seconds of the steps of `make_evaluation_steps`, in turn."""
    steps = make_evaluation_steps(device)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(11):
        for name, step in steps.items():
            seconds[name].append(seconds_of(step))
    return {name: statistics.median(values[2:]) for name, values in seconds.items()}


def measure_speed(threads: int, device: str, shapes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """The seconds of all steps on `threads` cores."""
    torch.set_num_threads(threads)
    dtypes = (torch.float32, torch.bfloat16) if device == "cuda" else (torch.float32,)
    seconds = [result for shape in shapes for dtype in dtypes for result in measure_seconds(*shape, dtype, device)]
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {threads} thread{'s' * (threads > 1)}"
    labels = [result for shape in SPARSE_SHAPES for result in measure_labels(*shape, device)]
    return {"device": where, "seconds": seconds, "labels": labels, "evaluation": measure_evaluation(device)}


def in_its_own_process(function: Callable, *args: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def show(report: dict[str, Any], console: Console) -> None:
    table = Table(title=f"Loss and gradient, median, seed {SEED}; {report['device']}")
    for column in ("rows x labels", "method", "ns per entry", "over eager BCE (quartiles)", "over the floor"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for r in report["seconds"]:
        kind = f" {r['dtype']}" if r["dtype"] != "float32" else ""
        ratio = f"{r['ratio']:.2f} ({r['ratio_low']:.2f} to {r['ratio_high']:.2f})"
        cells = [f"{r['rows']} x {r['num_labels']:,}{kind}", r["method"], f"{r['ns_per_entry']:.2f}", ratio]
        table.add_row(*cells, f"{r['over_floor']:.1f}", end_section=r["method"] == METHODS[-1])
    console.print(table)
    table = Table(title=f"From class ids to loss and gradient, PLM default, compiled; {report['device']}")
    for column in ("rows x labels", "labels", "ms", "of it the loss", "labels of a batch, MB"):
        table.add_column(column, justify="left" if column == "labels" else "right")
    for r in report["labels"]:
        cells = [f"{r['rows']} x {r['num_labels']:,}", "sparse" if r["sparse"] else "dense"]
        cells += [f"{1000 * r['seconds']:.1f}", f"{1000 * r['loss_seconds']:.1f}"]
        table.add_row(*cells, f"{r['label_bytes'] / 1e6:.3f}", end_section=r["sparse"])
    console.print(table)
    shown = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in report["evaluation"].items())
    console.print(f"Evaluation of {EVALUATION_SHAPE[0]} x {EVALUATION_SHAPE[1]:,}: {shown}")


def show_memory(memory: dict[str, Any], console: Console) -> None:
    table = Table(title=f"Peak memory besides logits and labels, {MEMORY_SHAPE[0]} x {MEMORY_SHAPE[1]:,}, float32")
    table.add_column("method")
    table.add_column("bytes per entry", justify="right")
    for method, value in memory["bytes_per_entry"].items():
        table.add_row(method, f"{value:.2f}")
    console.print(table)
    cases = [(f"{rows} x {labels:,}", form) for rows, labels in SPARSE_SHAPES for form in ("dense", "sparse")]
    for (shape, form), value in zip(cases, memory["labels"], strict=True):
        console.print(f"From class ids to loss and gradient, {shape}, {form} labels: {value / 1e6:.0f} MB at the peak")


def draw(reports: list[dict[str, Any]], path: Path) -> None:
    """Cost against labels, in multiples of eager BCE."""
    panels = [(report, dtype) for report in reports for dtype in sorted({r["dtype"] for r in report["seconds"]})]
    figure, axes = plt.subplots(1, len(panels), figsize=(5.5 * len(panels), 4.5), sharey=True, layout="constrained")
    colours = dict(
        zip(EAGER, ("#4c4c4c", "#8c6bb1", "#4292c6", "#fdae6b", "#d94801", "#7f2704", "#74c476"), strict=True)
    )
    for axis, (report, dtype) in zip(axes if len(panels) > 1 else [axes], panels, strict=True):
        for method in METHODS:
            name, _, how = method.partition(", ")
            chosen = [r for r in report["seconds"] if (r["method"], r["dtype"]) == (method, dtype)]
            chosen = [r for r in chosen if (r["rows"], r["num_labels"]) != (32, 365)]  # one point for each number
            style = {"color": colours.get(name, "black"), "linestyle": ":" if name == FLOOR else "-" if how else "--"}
            axis.plot([r["num_labels"] for r in chosen], [r["ratio"] for r in chosen], label=method, **style)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("labels")
        axis.set_title(f"{report['device']}, {dtype}")
        axis.grid(alpha=0.25)
    figure.axes[0].set_ylabel("loss and gradient / eager BCE")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of CPU threads")
    parser.add_argument("--labels", type=int, nargs="+", help="only shapes with these numbers of labels")
    args = parser.parse_args()
    matplotlib.use("agg")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shapes = tuple(shape for shape in SHAPES if args.labels is None or shape[1] in args.labels)
    console, reports = Console(width=110), []
    os.environ |= KEEP_MEMORY
    for threads in args.threads if device == "cpu" else [1]:
        reports.append(in_its_own_process(measure_speed, threads, device, shapes))
        show(reports[-1], console)
    os.environ |= GIVE_BACK_MEMORY
    memory = in_its_own_process(measure_memory, device)
    show_memory(memory, console)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    report = {"command": "python benchmarks/loss_speed.py", "seed": SEED, "torch": torch.__version__}
    (OUTPUT / "loss_speed.json").write_text(json.dumps({**report, "speed": reports, "memory": memory}, indent=1))
    draw(reports, OUTPUT / "loss_speed.png")
    console.print(f"Written: {OUTPUT / 'loss_speed.json'} {OUTPUT / 'loss_speed.png'}")


if __name__ == "__main__":
    main()
