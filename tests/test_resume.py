"""A run that was killed and resumed ends as one that was never interrupted, to the last bit."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import scenarios

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def killed_runs(tmp_path_factory):
    """The folders of runs that were killed, side by side."""
    folders = {case: tmp_path_factory.mktemp("killed") for case in scenarios.CHECKPOINTS}
    processes = [
        subprocess.Popen([sys.executable, str(TESTS / "killed.py"), case, str(folder)], stderr=subprocess.DEVNULL)
        for case, folder in folders.items()
    ]
    assert [process.wait() for process in processes] == [-signal.SIGKILL] * len(processes)
    return folders


@pytest.mark.parametrize("case", scenarios.CHECKPOINTS)
def test_a_killed_run_resumes_to_the_last_bit(case, killed_runs, tmp_path):
    (checkpoint,) = killed_runs[case].glob("checkpoint-*")
    by_path = case == "with accumulation"
    resumed = scenarios.run_resumable(killed_runs[case], case, resume=str(checkpoint) if by_path else True)
    whole = scenarios.run_resumable(tmp_path, case)
    scenarios.assert_identical(resumed, whole)
    assert whole["history"].shape == (3, 5)
    assert len({log["loss"] for log in whole["logs"] if "loss" in log}) > 5
