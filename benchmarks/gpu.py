"""Runs all tests and measurements that need a CUDA device, within ten minutes and without a network.

    python benchmarks/gpu.py                        # `make gpu`; writes outputs/gpu/gpu.json and outputs/gpu/gpu.md
    python benchmarks/gpu.py --part loss step       # only some parts
    python benchmarks/gpu.py --device cpu --tiny    # tiny sizes on a CPU: only checks that the parts run

Each part (`gpu_parts.py`) runs in its own process, with a time limit, on the first visible device. If a part fails or
runs out of time, the page shows its error and its results so far, and the other parts still run. The exit status is 1
if a part failed, or if there is no CUDA device.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_page import make_page

try:
    import torch
except ModuleNotFoundError:
    sys.exit("PyTorch is missing: `make install` brings it; or name a Python that has it, make gpu GPU_PYTHON=...")

ROOT = Path(__file__).parent.parent
OUTPUT = Path("outputs/gpu")
LIMIT = 590
"""The time limit of all parts together, in seconds."""


@dataclass(frozen=True)
class Part:
    """One of `gpu_parts.PARTS`.

    Attributes:
        title: what it tests or measures.
        seconds: its time limit; it also gets the time that earlier parts did not use.
    """

    title: str
    seconds: int


PARTS = {
    "tests": Part("The tests of the device", 180),
    "waits": Part("Where a training waits for the device", 35),
    "loss": Part("What the loss costs", 130),
    "memory": Part("Peak memory of the loss", 45),
    "step": Part("What a step of training costs, and its peak memory", 100),
    "quality": Part("MiniLM fine-tuned on debtags", 95),
}


def run_part(command: Sequence[str], limit: float, path: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run a part, and end it with all its processes after its time limit.

    Args:
        command: writes a JSON object to `path`, with `results` and, if the part is skipped, the reason in `left_out`.

    Returns:
        `outcome` (passed, failed or left out), `error` (None if it passed), `limit`, `seconds`, and what the command
        wrote. The command's own output is saved next to `path`.
    """
    path.unlink(missing_ok=True)
    log = path.with_suffix(".log")
    start = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, cwd=ROOT, env=environment, start_new_session=True
        )
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end_group(process.pid)
            process.wait()
    found = json.loads(path.read_text()) if path.exists() else {"results": []}
    error = found.pop("left_out", None)
    outcome = "passed" if error is None else "left out"
    if status is None:
        outcome, error = "failed", f"it ran out of its {limit:.0f} s"
    elif status != 0:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        outcome, error = "failed", "\n".join(lines[-12:]) or f"it ended with the status {status}"
    seconds = round(time.monotonic() - start, 1)
    return {"outcome": outcome, "error": error, "limit": round(limit), "seconds": seconds, **found}


def end_group(group: int) -> None:
    """End all processes that a part started and that still run."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def environment_of(device: str) -> dict[str, str]:
    """The environment variables of the parts: this checkout, no network, and one device."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] if device == "cuda" else ""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "CUDA_VISIBLE_DEVICES": visible,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def make_report(parts: Sequence[str], device: str, tiny: bool, folder: Path) -> dict[str, Any]:
    """Run the parts in turn, and write the JSON and the page after each."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    report: dict[str, Any] = {"command": "python benchmarks/gpu.py", "device": device, "tiny": tiny, "parts": {}}
    for place, name in enumerate(parts):
        limit = LIMIT - (time.monotonic() - start) - sum(PARTS[later].seconds for later in parts[place + 1 :])
        path = folder / f"{name}.json"
        command = [sys.executable, str(ROOT / "benchmarks" / "gpu_parts.py"), name, "--device", device]
        command += ["--output", str(path), *(["--tiny"] if tiny else [])]
        print(f"{PARTS[name].title}: {limit:.0f} s at most ...", end=" ", flush=True)
        part = run_part(command, limit, path, environment_of(device))
        print(f"{part['outcome']}, {part['seconds']:.0f} s", flush=True)
        report["parts"][name] = {"title": PARTS[name].title, **part}
        report["seconds"] = round(time.monotonic() - start, 1)
        (folder / "gpu.json").write_text(json.dumps(report, indent=1))
        (folder / "gpu.md").write_text(make_page(report))
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS), help="default: all")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes and few steps, to check that the parts run")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"a folder; default: {OUTPUT}")
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"PyTorch {torch.__version__} finds no CUDA device here: run this on a machine that has one.")
    report = make_report(args.part, args.device, args.tiny, args.output)
    print(f"Written: {args.output / 'gpu.json'} {args.output / 'gpu.md'}")
    failed = [name for name, part in report["parts"].items() if part["outcome"] == "failed"]
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
