"""Real pushes by the real client, to a Hub on this machine: see `hub_scenarios.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MODEL = {"README.md", "config.json", "model.safetensors", "plm_state.safetensors", "tokenizer.json"}
PLOTS = {"plots/calibration.png", "plots/ideal_ratios.png"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    command = [sys.executable, str(Path(__file__).parent / "hub_scenarios.py"), str(folder)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-4000:]
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("strategy", ["every_save", "checkpoint"])
def test_what_was_pushed_comes_back_byte_by_byte_and_works(results, strategy):
    result = results[strategy]
    assert result["during"][0] == "Training in progress, epoch 1"
    assert result["commits"] == [*result["during"], "End of training"]
    assert set(result["files"]) >= MODEL | PLOTS
    assert result["equal"] and result["same weights"]
    assert result["code gives"] == 5
    assert result["with token"] == []
    assert result["labels"] == ["a", "b", "c", "d", "e"]
    assert {"micro_f1", "macro_f1", "map", "tail_recall"} <= set(result["results"])


def test_a_push_during_training_has_the_current_card(results):
    card = results["every_save"]["card during"]
    assert "| steps | 8 |" in card and "## Labels" in card
    assert "## Scores" not in card  # there is no evaluation yet


def test_training_continues_from_a_downloaded_checkpoint(results):
    assert "last-checkpoint/plm_state.safetensors" in results["checkpoint"]["files"]
    assert results["checkpoint"]["resumed"] is True


@pytest.mark.parametrize(
    ("case", "cause"),
    [("no token", "401"), ("server error at the end", "500"), ("no network", "Connection refused")],
)
def test_an_error_says_why_an_upload_failed_and_where_the_model_is(results, case, cause):
    message = results[case]["message"]
    assert "the model could not be uploaded" in message and cause in message
    assert "Nothing is lost: it is in '" in message and "push_to_hub() again" in message
    assert {"model.safetensors", "plm_state.safetensors"} <= set(results[case]["saved"])


def test_an_upload_that_fails_during_training_gives_a_warning_and_does_not_stop_it(results):
    result = results["server error during training"]
    assert "An upload during training failed" in result["message"] and "500" in result["message"]
    assert {f"checkpoint-{step}/plm_state.safetensors" for step in (4, 8)} <= set(result["saved"])
    assert {f"checkpoint-{step}/model.safetensors" for step in (4, 8)} <= set(result["saved"])
