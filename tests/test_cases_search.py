"""A hyperparameter search applies what it tries, and maximises a useful score."""

import dataclasses
import json

import numpy as np
import pytest
from scenarios import make_args, make_bert, make_rows
from test_cases_state import SETTINGS
from transformers import TrainerCallback, TrainingArguments

from hf_plm import PLMLoss, PLMTrainer, PLMTrainingArguments, multilabel_compute_metrics


@pytest.fixture(autouse=True)
def without_collecting(monkeypatch):
    """Skips garbage collection, which takes longer than a trial and happens several times in each."""
    monkeypatch.setattr("gc.collect", lambda *args: 0)


class Watch(TrainerCallback):
    """Keeps the settings that each trial was trained with."""

    def __init__(self):
        self.trials = []

    def on_train_end(self, args, state, control, **kwargs):
        plm_loss = self.trainer.plm_loss
        trial = {**dataclasses.asdict(plm_loss.settings), "fused": plm_loss.fused}
        trial |= {"labels": [row["labels"] for row in self.trainer.train_dataset]}
        self.trials.append({**trial, "updates": len(plm_loss.state.history) - 1})


TRIED = SETTINGS | {"plm_initial_ratio": "mean", "plm_class_aware": True, "plm_fused": True}
ONLY_WHEN_RESUMED = {"plm_restart", "plm_keep_ratios"}


def test_a_search_is_tried_over_every_field():
    inherited = {field.name for field in dataclasses.fields(TrainingArguments)}
    own = {field.name for field in dataclasses.fields(PLMTrainingArguments)} - inherited
    assert own == {*TRIED, *ONLY_WHEN_RESUMED}


@pytest.mark.parametrize("name", TRIED)
@pytest.mark.filterwarnings("ignore:.*effect")
def test_what_a_search_sets_is_in_force_in_its_trial(name, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_plm.loss.PLMLoss._fused_loss", PLMLoss._eager_loss)  # quicker
    data, watch, spaces = make_rows(64), Watch(), iter([{}, {name: TRIED[name]}])
    trainer = PLMTrainer(
        model_init=lambda trial: make_bert(),
        args=make_args(tmp_path, max_steps=4, per_device_train_batch_size=16),
        train_dataset=data,
        eval_dataset=data,
        callbacks=[watch],
    )
    watch.trainer = trainer
    trainer.hyperparameter_search(
        hp_space=lambda trial: next(spaces), n_trials=2, backend="optuna", direction="minimize"
    )
    before, after = watch.trials
    if name == "plm_preset":
        assert (before["rule"], after["rule"]) == ("marginal", "fixed")
    elif name == "plm_class_aware":
        assert before["labels"] == list(data["labels"]) != after["labels"]
    elif name == "plm_update_steps":
        assert (before["updates"], after["updates"]) == (1, 2)
    else:
        key = name.removeprefix("plm_")
        assert after[key] == TRIED[name] != before[key]


def test_an_error_names_a_wrong_value_of_a_search(tmp_path):
    data = make_rows(16)
    args = make_args(tmp_path)
    trainer = PLMTrainer(model_init=lambda: make_bert(), args=args, train_dataset=data, eval_dataset=data)
    with pytest.raises(ValueError, match="plm_temper is 2"):
        trainer.hyperparameter_search(
            hp_space=lambda trial: {"plm_temper": 2.0}, n_trials=1, backend="optuna", direction="minimize"
        )
    assert np.isfinite(trainer.evaluate()["eval_loss"])


@pytest.fixture
def search(tmp_path):
    """A function that runs a search with one trial, and returns its best run and the scores of its evaluation."""

    def run(metrics=True, **kwargs):
        data = make_rows(32)
        trainer = PLMTrainer(
            model_init=lambda trial: make_bert(),
            args=make_args(tmp_path, max_steps=1, eval_strategy="steps", eval_steps=1),
            train_dataset=data,
            eval_dataset=data,
            compute_metrics=multilabel_compute_metrics(data) if metrics else None,
        )
        best = trainer.hyperparameter_search(hp_space=lambda trial: {}, n_trials=1, backend="optuna", **kwargs)
        return best.objective, [log for log in trainer.state.log_history if "eval_loss" in log][-1]

    return run


def test_a_search_that_maximizes_looks_for_macro_f1(search):
    objective, scores = search(direction="maximize")
    assert objective == scores["eval_macro_f1"] != scores["eval_micro_f1"]


def test_a_search_looks_for_macro_f1_by_default(search):
    objective, scores = search()
    assert objective == scores["eval_macro_f1"]


def test_a_search_uses_the_objective_that_it_is_given(search):
    objective, scores = search(direction="maximize", compute_objective=lambda metrics: metrics["eval_tail_recall"])
    assert objective == scores["eval_tail_recall"]


def test_a_search_without_metrics_looks_for_the_lowest_loss(search):
    objective, scores = search(metrics=False, direction="minimize")
    assert objective == scores["eval_loss"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temper", [0, 0.6, 0.3]),
        ("max_shift", [2, 2.5]),
        ("initial_ratio", [0.5, "mean"]),
        ("update_steps", [1, None]),
        ("objective_kwargs", [{"gamma_negative": 2}, '{"gamma_negative": 3}']),
    ],
)
def test_a_value_of_a_trial_is_not_cast_to_the_type_of_the_one_before(name, values, tmp_path):
    data, watch, spaces = make_rows(16), Watch(), iter([{f"plm_{name}": value} for value in values])
    trainer = PLMTrainer(
        model_init=lambda: make_bert(),
        args=make_args(tmp_path, max_steps=1),
        train_dataset=data,
        eval_dataset=data,
        callbacks=[watch],
    )
    watch.trainer = trainer
    trainer.hyperparameter_search(
        hp_space=lambda trial: next(spaces), n_trials=len(values), backend="optuna", direction="minimize"
    )
    read = [json.loads(value) if name == "objective_kwargs" and isinstance(value, str) else value for value in values]
    assert [trial[name] for trial in watch.trials] == read
