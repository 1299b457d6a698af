"""When training ends, its pictures lie in the output folder and went to the trackers."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import scenarios
import transformers
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers.integrations import TrackioCallback, WandbCallback

from hf_plm import PLMTrainer, count_labels, multilabel_compute_metrics


@pytest.fixture
def train(make_bert, make_args):
    def run(callbacks=(), **kwargs):
        data = scenarios.make_rows(64)
        args = make_args(**{"save_strategy": "epoch", "eval_strategy": "epoch", "num_train_epochs": 2, **kwargs})
        compute_metrics = multilabel_compute_metrics(count_labels(data))
        trainer = PLMTrainer(
            make_bert(),
            args,
            train_dataset=data,
            eval_dataset=data,
            compute_metrics=compute_metrics,
            callbacks=list(callbacks),
        )
        trainer.train()
        return Path(args.output_dir)

    return run


def test_the_pictures_lie_in_the_output_folder(train):
    plots = {path.name: path.stat().st_size for path in (train() / "plots").iterdir()}
    assert set(plots) == {"ideal_ratios.png", "calibration.png", "label_scores.png"}
    assert min(plots.values()) > 10_000


def test_without_an_evaluation_there_are_no_scores_to_draw(train):
    plots = {path.name for path in (train(eval_strategy="no") / "plots").iterdir()}
    assert plots == {"ideal_ratios.png", "calibration.png"}


def test_a_run_that_saves_nothing_draws_nothing(train):
    assert not (train(save_strategy="no") / "plots").exists()


def test_tensorboard_shows_the_pictures(train, tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    train(report_to="tensorboard")
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert set(events.Tags()["images"]) == {"plm/ideal_ratios", "plm/calibration", "plm/label_scores"}
    assert events.Images("plm/ideal_ratios")[0].step == 8


@pytest.mark.parametrize(("module", "callback"), [("wandb", WandbCallback), ("trackio", TrackioCallback)])
def test_other_trackers_get_the_pictures_before_they_close(module, callback, train, monkeypatch):
    """The trackers themselves are stand-ins here: what is sent, and when."""
    sent = []

    class Tracker(callback):
        def __init__(self):
            pass

        def setup(self, *args, **kwargs):
            pass

        def on_train_begin(self, *args, **kwargs):
            pass

        def on_log(self, *args, **kwargs):
            pass

        def on_save(self, *args, **kwargs):
            pass

        def on_train_end(self, *args, **kwargs):
            sent.append("closed")

    fake = SimpleNamespace(log=sent.append, Image=lambda path: Path(path).name)
    monkeypatch.setitem(sys.modules, module, fake)
    train([Tracker()])
    assert sent == [
        {"plm/ideal_ratios": "ideal_ratios.png"},
        {"plm/calibration": "calibration.png"},
        {"plm/label_scores": "label_scores.png"},
        "closed",
    ]


def test_the_callbacks_that_pictures_are_sent_through_are_where_they_were():
    for name in ("TensorBoardCallback", "TrackioCallback", "WandbCallback"):
        assert hasattr(transformers.integrations, name)
