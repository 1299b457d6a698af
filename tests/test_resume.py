"""A run that was killed and resumed gives exactly the result of an uninterrupted run.

For two ranks see `test_distributed.py`.
"""

import pytest
import scenarios


@pytest.mark.parametrize("case", scenarios.CHECKPOINTS)
def test_a_killed_run_resumes_to_the_last_bit(case, killed_runs, tmp_path):
    folder = scenarios.killed_folder(killed_runs, case, 1)
    (checkpoint,) = folder.glob("checkpoint-*")
    resume = str(checkpoint) if case == "with accumulation" else True
    resumed = scenarios.run_resumable(folder, case, resume=resume)
    whole = scenarios.run_resumable(tmp_path, case)
    scenarios.assert_identical(resumed, whole)
    assert whole["history"].shape == (4, 5)
    assert len({log["loss"] for log in whole["logs"] if "loss" in log}) > 5
