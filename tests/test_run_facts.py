"""The facts describe the model as it is: its last evaluation, and the settings that it was trained with."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scenarios
from torch import nn
from transformers import TrainerState

from hf_plm import LabelCounts, PLMLoss
from hf_plm.decisions import Decisions
from hf_plm.label_space import LabelSpace
from hf_plm.run_facts import Evaluation, gather_facts, scores_alone, step_of_model

COUNTS = LabelCounts([8, 2], [2, 8])


@pytest.fixture
def gather(tmp_path):
    def make(evaluations=(), steps=4, args=None, preset="default", state=None, **settings):
        return gather_facts(
            SimpleNamespace(),
            args or scenarios.make_args(tmp_path),
            state or TrainerState(global_step=steps),
            PLMLoss(COUNTS, preset, **settings),
            LabelSpace(2, ("a", "b")),
            evaluations,
        )

    return make


def evaluated(step, **kwargs):
    return Evaluation("validation, 10 rows", step, {"macro_f1": 0.1 * step}, **kwargs)


def test_the_last_evaluation_of_the_current_model_counts(gather):
    first, last = evaluated(4, labels_digest="first"), evaluated(4, labels_digest="last")
    assert gather([evaluated(2), first, last]).evaluation is last
    assert gather([evaluated(2), first, last], steps=6).evaluation is None  # it was trained further since then
    assert gather().evaluation is None


def test_with_the_best_model_loaded_its_evaluation_counts(gather, tmp_path):
    args = scenarios.make_args(
        tmp_path, eval_strategy="steps", save_strategy="steps", eval_steps=2, save_steps=2, load_best_model_at_end=True
    )
    state = TrainerState(global_step=4, best_global_step=2, best_model_checkpoint="checkpoint-2")
    assert step_of_model(args, state) == 4  # training is not finished
    state.log_history.append({"train_runtime": 1.0})
    assert step_of_model(args, state) == 2
    assert gather([evaluated(2), evaluated(4)], args=args, state=state).evaluation.step == 2
    args.load_best_model_at_end = False
    assert step_of_model(args, state) == 4


def test_scores_are_numbers_without_prefix_timings_and_epoch():
    metrics = {
        "eval_loss": np.float32(0.5),
        "eval_labels_never_predicted": 2,
        "eval_runtime": 1.0,
        "eval_steps_per_second": 3.0,
        "eval_note": "text",
        "eval_curve": [1, 2],
        "epoch": 1.0,
    }
    assert scores_alone(metrics, "eval") == {"loss": 0.5, "labels_never_predicted": 2}


def test_the_batch_size_is_that_of_an_optimizer_step_over_all_ranks(gather, tmp_path, monkeypatch):
    args = scenarios.make_args(tmp_path, per_device_train_batch_size=3, gradient_accumulation_steps=5)
    assert gather(args=args).batch_size == 15
    monkeypatch.setattr(type(args), "world_size", 4)
    assert gather(args=args).batch_size == 60


@pytest.mark.parametrize(
    ("settings", "masks_nothing"),
    [
        ({"preset": "off"}, True),
        ({}, False),
        ({"preset": "paper"}, False),
        ({"max_shift": 1.0}, True),
        ({"temper": 1.0, "rule": "fixed"}, True),
        ({"temper": 1.0}, False),
        ({"initial_ratio": "dataset", "change_rate": 0.0}, True),
        ({"initial_ratio": "dataset"}, False),
    ],
)
def test_settings_that_mask_nothing_are_recognised(gather, settings, masks_nothing):
    assert gather(**settings).masks_nothing is masks_nothing


def with_decisions(facts, evaluation, decisions):
    return replace(facts, evaluation=evaluation, decisions=decisions)


@pytest.mark.parametrize(
    ("then", "now", "otherwise"),
    [
        (Decisions(2), Decisions(2), False),
        (Decisions(2), Decisions(2, thresholds=(1.0, 2.0), tuned_on="v"), True),
        (Decisions(2, thresholds=(1.0, 2.0), tuned_on="v"), Decisions(2, thresholds=(0.0, 2.0), tuned_on="v"), True),
        (  # calibrated in between
            Decisions(2, thresholds=(1.0, 2.0), tuned_on="v"),
            Decisions(2, thresholds=(0.0, 1.0), tuned_on="v", scores="probabilities"),
            False,
        ),
        (  # folded in between
            Decisions(2, thresholds=(1.0, 2.0), tuned_on="v"),
            Decisions(2, tuned_on="v", scores="decisions"),
            False,
        ),
        (None, Decisions(2, thresholds=(1.0, 2.0), tuned_on="v"), False),  # unknown
    ],
)
def test_other_thresholds_in_the_evaluation_are_noticed(gather, then, now, otherwise):
    facts = with_decisions(gather(), evaluated(4, decisions=then), now)
    assert facts.was_decided_otherwise is otherwise


def test_thresholds_tuned_on_the_evaluation_are_noticed(gather):
    tuned = Decisions(2, thresholds=(1.0, 2.0), tuned_on="validation")
    for digest, found in (("validation", True), ("test", False), (None, False)):
        assert with_decisions(gather(), evaluated(4, labels_digest=digest), tuned).was_tuned_on_evaluation is found
    assert not with_decisions(gather(), evaluated(4), Decisions(2)).was_tuned_on_evaluation
    assert not with_decisions(gather(), None, tuned).was_tuned_on_evaluation


def test_the_counts_have_the_names_of_the_labels(gather):
    counts = gather().label_counts
    assert (counts.label_names, counts.positives.tolist()) == (["a", "b"], [8, 2])


def test_the_facts_name_the_objective(tmp_path):
    class OwnLoss(nn.Module):
        def forward(self, logits, labels):
            return (logits - labels) ** 2

    loss = PLMLoss(COUNTS, objective=OwnLoss())
    arguments = (SimpleNamespace(), scenarios.make_args(tmp_path), TrainerState(), loss, LabelSpace(2))
    assert gather_facts(*arguments).objective == "OwnLoss"
    named = PLMLoss(COUNTS, objective="asymmetric", objective_kwargs={"gamma_negative": 3, "gamma_positive": 0})
    objective = gather_facts(*arguments[:3], named, LabelSpace(2)).objective
    assert objective == "asymmetric (gamma_negative 3, gamma_positive 0, margin 0.05)"
