"""How fast labels are counted and scored, compared in the same run with a plain alternative.

    python benchmarks/data_speed.py            # seed 0; writes outputs/benchmarks/data_speed.json and .png

Counting: `count_labels` on a `datasets.Dataset` with 4 of 365 class ids per row, compared with a loop over its rows
and a `collections.Counter`; on a million such rows in a shuffled order; and with a million labels, for which the
update and the file of the state are measured too. Scoring: `multilabel_compute_metrics` on 10,000 rows of 500 labels,
compared with `MultiLabelMetrics`, which passes them through the Arrow buffer of the `evaluate` library.
"""

import json
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from matplotlib import pyplot as plt
from rich.console import Console
from rich.table import Table
from transformers import EvalPrediction

from hf_plm import LabelCounts, MultiLabelMetrics, PLMLoss, count_labels, multilabel_compute_metrics

OUTPUT = Path("outputs/benchmarks")
SEED = 0
REPEATS = 3
MILLION = 1_000_000


def make_dataset(rows: int, generator: np.random.Generator, num_labels: int = 365) -> Dataset:
    ids = generator.integers(0, num_labels - 25, rows)[:, None] + np.array([7, 0, 19, 3])
    offsets = np.arange(0, ids.size + 1, 4, dtype=np.int32)
    return Dataset(pa.table({"labels": pa.ListArray.from_arrays(offsets, ids.ravel())}))


def count_in_a_loop(dataset: Dataset) -> Counter:
    counter: Counter = Counter()
    for row in dataset:
        counter.update(row["labels"])
    return counter


def seconds(function: Callable, *args: object, **kwargs: object) -> float:
    """The median of `REPEATS` runs."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function(*args, **kwargs)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def measure_a_million_labels(generator: np.random.Generator) -> list[dict]:
    """Measure counting ten million rows, and the update and the file of the state."""
    dataset = make_dataset(10_000_000, generator, MILLION)
    results = [{"what": "count 10,000,000 rows, a million labels", "hf_plm": seconds(count_labels, dataset, MILLION)}]
    counts = count_labels(dataset, MILLION)
    logits = torch.from_numpy(generator.normal(-3, 2, (4, MILLION)).astype(np.float32)).requires_grad_()
    labels = torch.from_numpy((generator.random((4, MILLION)) < 1e-5).astype(np.float32))
    for preset in ("default", "paper"):
        plm_loss = PLMLoss(counts, preset=preset)
        plm_loss(logits, labels).backward()
        results.append({"what": f"update a million labels, {preset}", "hf_plm": seconds(plm_loss.end_epoch)})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "plm_state.safetensors"
            saving = seconds(plm_loss.state.save, path)
            size = f"{path.stat().st_size / 1e6:.0f} MB"
        results.append({"what": f"save a million labels, {preset}: {size}", "hf_plm": saving})
    return results


def main() -> None:
    matplotlib.use("agg")
    generator = np.random.default_rng(SEED)
    results = []
    for rows in (100_000, 1_000_000, 10_000_000):
        dataset = make_dataset(rows, generator)
        loop = seconds(count_in_a_loop, dataset) if rows <= 100_000 else None
        fast = seconds(count_labels, dataset, 365)
        results.append({"what": f"count {rows:,} rows", "rows": rows, "hf_plm": fast, "alternative": loop})
        if rows == 1_000_000:
            shuffled = seconds(count_labels, dataset.shuffle(SEED), 365)
            results.append({"what": f"count {rows:,} rows, shuffled", "hf_plm": shuffled})

    positives = 5000 // np.arange(1, 501) + 2
    references = (generator.random((10_000, 500)) < positives / 10_000).astype(np.float32)
    logits = generator.normal(-3, 2, (10_000, 500)).astype(np.float32)
    counts = LabelCounts(positives, 10_000 - positives)
    fast = seconds(multilabel_compute_metrics(counts), EvalPrediction(logits, references))
    scores = 1 / (1 + np.exp(-logits))
    arrow = seconds(MultiLabelMetrics(counts).compute, scores=scores, references=references)
    results.append({"what": "score 10,000 x 500", "hf_plm": fast, "alternative": arrow})
    results += measure_a_million_labels(generator)

    table = Table(title=f"Seconds, median of {REPEATS} runs, seed {SEED}")
    for column in ("", "hf_plm", "alternative", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for r in results:
        slower = r.get("alternative")
        other = [f"{slower:.2f}", f"{r['hf_plm'] / slower:.3f}"] if slower else ["", ""]
        table.add_row(r["what"], f"{r['hf_plm']:.3f}", *other)
    Console().print(table)

    OUTPUT.mkdir(parents=True, exist_ok=True)
    report = {
        "seed": SEED,
        "repeats": REPEATS,
        "machine": platform.processor() or platform.machine(),
        "seconds": results,
    }
    (OUTPUT / "data_speed.json").write_text(json.dumps(report, indent=2))
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    counted = [r for r in results if "rows" in r]
    axis.loglog([r["rows"] for r in counted], [r["hf_plm"] for r in counted], marker="o", label="count_labels")
    axis.loglog(counted[0]["rows"], counted[0]["alternative"], "x", color="black", label="loop over the rows")
    axis.set_xlabel("rows of 4 labels")
    axis.set_ylabel("seconds")
    axis.grid(alpha=0.25)
    axis.legend()
    figure.savefig(OUTPUT / "data_speed.png", dpi=130)
    print("Written:", OUTPUT / "data_speed.json", OUTPUT / "data_speed.png")


if __name__ == "__main__":
    main()
