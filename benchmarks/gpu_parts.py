"""The parts of `gpu.py`, each a process: `python benchmarks/gpu_parts.py NAME --output FILE`, see `gpu.py --help`.

A part is a function `(device, tiny, keep)`. It gives each result to `keep`, which saves it at once, so that nothing is
lost if the part runs out of time. `tiny` is for a CPU: the same code, in seconds.
"""

import argparse
import json
import multiprocessing
import os
import platform
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
Keep = Callable[[dict[str, Any]], None]


class LeftOut(Exception):
    """Raised if a part cannot run here and is skipped; this is not a failure."""


class KeepOutcomes:
    """A pytest plugin that saves the outcome of each test."""

    def __init__(self, keep: Keep):
        self.keep = keep
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        name = report.nodeid.split("/")[-1]
        result = {"test": name, "outcome": report.outcome, "seconds": round(report.duration, 2)}
        if report.failed:
            self.failed.append(name)
            result["error"] = report.longreprtext[-3000:]
        self.keep(result)


def run_tests(device: str, tiny: bool, keep: Keep) -> None:
    """Run `tests/test_device*.py` on this device."""
    import pytest

    outcomes = KeepOutcomes(keep)
    files = [str(path) for path in sorted((ROOT / "tests").glob("test_device*.py"))]
    chosen = f"{device} and eager and bits" if tiny else device
    status = pytest.main(["-q", "-p", "no:cacheprovider", "-k", chosen, *files], plugins=[outcomes])
    if status != 0:
        raise RuntimeError(f"pytest ended with the status {int(status)}; failed: {', '.join(outcomes.failed) or None}")


def find_waits(device: str, tiny: bool, keep: Keep) -> None:
    """Find where `Trainer` and `PLMTrainer` wait for the device in one epoch: PyTorch warns of each wait."""
    from datasets import Dataset
    from overhead import SIZES, labels_of, make_model
    from transformers import Trainer

    from hf_plm import MultiLabelCollator, PLMTrainer, PLMTrainingArguments

    size, num_labels, steps = SIZES["tiny" if tiny else "small"], 365, 4 if tiny else 20
    tokens = torch.randint(size.vocabulary, (steps * size.rows, size.tokens)).tolist()
    rows = Dataset.from_dict(
        {"input_ids": tokens, "labels": [labels_of(row, num_labels) for row in range(len(tokens))]}
    )
    for name, trainer_class in (("stock", Trainer), ("default", PLMTrainer)):
        with TemporaryDirectory() as folder:
            args = PLMTrainingArguments(
                folder,
                num_train_epochs=1,
                per_device_train_batch_size=size.rows,
                logging_steps=steps // 2,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=device == "cpu",
                bf16=device == "cuda",
                dataloader_pin_memory=device == "cuda",
            )
            collator = MultiLabelCollator(num_labels, label_format="ids")
            trainer = trainer_class(make_model("BERT", num_labels, size), args, collator, rows)
            keep({"trainer": name, "steps": steps, "places": waits_of(trainer.train, device)})


def waits_of(function: Callable[[], Any], device: str) -> dict[str, int]:
    """How often a function waits for the device at each line of code, `file:line`; empty on a CPU."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        try:
            function()
        finally:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    found = [each for each in caught if "synchronizing" in str(each.message)]
    places = [f"{'/'.join(Path(each.filename).parts[-2:])}:{each.lineno}" for each in found]
    return dict(Counter(places).most_common())


def measure_loss(device: str, tiny: bool, keep: Keep) -> None:
    """Time of loss and gradient, compared with eager BCE and with the memory bandwidth, float32 and bfloat16."""
    from gpu_loss import METHODS, SHAPES, TINY_METHODS, TINY_SHAPES, measure_bandwidth, measure_shape

    bandwidth = measure_bandwidth(device, 2**20 if tiny else 2**30)
    for shape in TINY_SHAPES if tiny else SHAPES:
        for dtype in (torch.float32, torch.bfloat16):
            for result in measure_shape(*shape, dtype, device, bandwidth, TINY_METHODS if tiny else METHODS):
                keep(result)


def measure_peaks(device: str, tiny: bool, keep: Keep) -> None:
    """Peak memory of the loss in addition to logits and labels."""
    from gpu_loss import METHODS, TINY_METHODS
    from loss_speed import MEMORY_SHAPE, SPARSE_SHAPES, measure_memory

    methods, shape, sparse = (TINY_METHODS, (8, 50), ()) if tiny else (METHODS, MEMORY_SHAPE, SPARSE_SHAPES)
    keep({"shape": shape, "sparse_shapes": sparse, **measure_memory(device, methods, shape, sparse)})


def measure_steps(device: str, tiny: bool, keep: Keep) -> None:
    """A step of `PLMTrainer` compared with one of `Trainer`; on a GPU in bfloat16, with models of base size."""
    from overhead import KINDS, LABELS, SIZES, STEPS, WARM_UP, measure

    size = SIZES["tiny" if tiny else "base"]
    for num_labels in LABELS[:1] if tiny else LABELS:
        for kind in KINDS:
            for result in measure(kind, num_labels, size, device, WARM_UP + 4 if tiny else STEPS):
                keep(result)


def compare_methods(device: str, tiny: bool, keep: Keep) -> None:
    """Fine-tune MiniLM with BCE, `pos_weight`, asymmetric and the default, three seeds; four runs at a time."""
    from features import minilm_folder
    from studies import MAIN_METHODS, SEEDS
    from training import Run

    if not tiny:
        try:
            minilm_folder()
        except ImportError as error:
            raise LeftOut(str(error)) from None
    task, changed, seeds = ("keywords", {"epochs": 1}, SEEDS[:1]) if tiny else ("minilm-debtags", {}, SEEDS)
    runs = [
        (name, Run(task, {**settings, **changed}, seed)) for seed in seeds for name, settings in MAIN_METHODS.items()
    ]
    workers = 1 if tiny else min(4, os.cpu_count() or 1)
    context = multiprocessing.get_context("spawn")
    with TemporaryDirectory() as folder, ProcessPoolExecutor(workers, context, prepare_runs, (folder,)) as pool:
        futures = {pool.submit(finished, run, tiny): name for name, run in runs}
        for future in as_completed(futures):
            keep({"method": futures[future], "task": task, **future.result()})


def prepare_runs(folder: str) -> None:
    """Save the results of this process's runs in their own folder."""
    import training

    training.be_quiet()
    training.RESULTS = Path(folder)


def finished(run: Any, tiny: bool) -> dict[str, Any]:
    """Make a run; returns its seed, its seconds and its scores."""
    from sources import Source
    from training import make_run

    source = Source(quick=tiny)
    make_run(run, source)
    result = run.result(source)
    return {"seed": run.seed, "seconds": result["seconds"], "scores": result["scores"]["validation"]}


PARTS: dict[str, Callable[[str, bool, Keep], None]] = {
    "tests": run_tests,
    "waits": find_waits,
    "loss": measure_loss,
    "memory": measure_peaks,
    "step": measure_steps,
    "quality": compare_methods,
}


def describe_machine(device: str) -> dict[str, Any]:
    """The device and the versions."""
    versions = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    for name in ("triton", "transformers", "accelerate"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    if device == "cpu":
        return {"name": f"CPU, {platform.machine()}", "versions": versions}
    properties = torch.cuda.get_device_properties(0)
    capability = f"{properties.major}.{properties.minor}"
    return {
        "name": properties.name,
        "capability": capability,
        "memory_gb": round(properties.total_memory / 2**30, 1),
        "versions": versions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    found: dict[str, Any] = {"machine": describe_machine(args.device), "results": []}

    def write() -> None:
        temporary = args.output.with_suffix(".tmp")
        temporary.write_text(json.dumps(found, indent=1))
        os.replace(temporary, args.output)

    def keep(result: dict[str, Any]) -> None:
        found["results"].append(result)
        write()

    try:
        PARTS[args.part](args.device, args.tiny, keep)
    except LeftOut as reason:
        found["left_out"] = str(reason)
    write()


if __name__ == "__main__":
    sys.exit(main())
