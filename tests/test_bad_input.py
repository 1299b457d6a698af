"""Wrong inputs, each with a helpful error message."""

import warnings
from types import SimpleNamespace

import pytest
import scenarios
import torch
from datasets import Dataset

from hf_plm import LabelCounts, PLMLoss, PLMState, PLMTrainer, PLMTrainingArguments

COUNTS = LabelCounts([5, 3], [5, 7])
LOGITS = torch.zeros(4, 2)
LABELS = torch.tensor([[1.0, 0], [0, 1], [1, 1], [0, 0]])


def rows(labels):
    return Dataset.from_dict({"input_ids": [[7, 8, 9]] * len(labels), "labels": labels})


def train(env, data, num_labels=3, eval_data=None, **kwargs):
    model = scenarios.make_bert(num_labels=num_labels)
    trainer = PLMTrainer(model, env.args(), train_dataset=data, eval_dataset=eval_data, **kwargs)
    trainer.train()
    if eval_data is not None:
        trainer.evaluate()


def resume(env, change, **kwargs):
    """Resume with other arguments from a checkpoint that was changed."""
    PLMTrainer(scenarios.make_bert(), env.args(save_strategy="epoch"), train_dataset=scenarios.make_rows(16)).train()
    (checkpoint,) = env.folder.glob("run/checkpoint-*")
    num_labels = change(checkpoint / "plm_state.safetensors") or 5
    data = Dataset.from_list([{**row, "labels": row["labels"][:num_labels]} for row in scenarios.make_rows(16)])
    trainer = PLMTrainer(scenarios.make_bert(num_labels), env.args(**kwargs), train_dataset=data)
    trainer.train(resume_from_checkpoint=True)


def test_making_a_trainer_fails_if_the_hub_cannot_be_reached(make_bert, make_args):
    data = scenarios.make_rows(16)  # conftest.py takes the network away
    for given, repository in (({}, "run"), ({"hub_model_id": "me/tagger"}, "me/tagger")):
        with pytest.raises(RuntimeError, match=f"push_to_hub is True, and the repository '{repository}'") as error:
            PLMTrainer(make_bert(), make_args(push_to_hub=True, **given), train_dataset=data)
        assert "offline mode is enabled" in str(error.value)
        assert "Check the network, and the token" in str(error.value)
        assert "set push_to_hub=False, and call trainer.push_to_hub() after training" in str(error.value)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-10])


def arguments(**kwargs):
    return lambda env: PLMTrainingArguments(str(env.folder), **kwargs)


def objective(function):
    return lambda env: PLMLoss(COUNTS, objective=function)(LOGITS, LABELS)


def epoch(logits=LOGITS, **kwargs):
    """An epoch of one batch."""

    def run(env):
        plm_loss = PLMLoss(COUNTS, **kwargs)
        plm_loss(logits, LABELS)
        plm_loss.end_epoch()

    return run


GOOD = [[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]]
CASES = {
    # labels
    "an empty set": (lambda env: train(env, rows(GOOD).select([])), "the data set is empty"),
    "no positive anywhere": (lambda env: train(env, rows([[0, 0, 0]] * 4)), "not one positive label in 4 rows"),
    "a class id too high": (
        lambda env: train(env, rows([[0], [3], [1], [2]])),
        r"row 1: the class id 3 is not in \[0, 3",
    ),
    "a negative class id": (lambda env: train(env, rows([[0], [1, -1], [2]])), "row 1: the class id -1 is not in"),
    "a class twice": (lambda env: train(env, rows([[0], [2, 1, 2]])), "row 1: the class 2 is listed twice"),
    "a value of one half": (
        lambda env: train(env, rows([[0.5, 0, 1]] * 4)),
        "row 0: the value 0.5 is neither 1, 0 nor",
    ),
    "too few values": (lambda env: train(env, rows([[1.0, 0.0]] * 4)), "row 0: 2 values where there are 3 labels"),
    "two readings": (lambda env: train(env, rows([[0, 1], [1, 0]] * 2), 2), "can be read in 2 ways"),
    "labels that are null": (lambda env: train(env, rows([*GOOD, None])), "row 4: the labels are null"),
    "labels that are text": (lambda env: train(env, rows(["a", "b"])), "labels of the type string"),
    "one number per row": (lambda env: train(env, rows([0.5, 1.5])), "labels of the type double"),
    "more names than labels": (
        lambda env: train(env, rows([["a"], ["b"], ["c", "d"]])),
        "the rows hold 4 distinct label names and num_labels is 3",
    ),
    "labels of another task": (
        lambda env: train(env, rows(GOOD), 5),
        "row 0: 3 values where there are 5 labels",
    ),
    "evaluation labels of another form": (
        lambda env: train(env, rows(GOOD), eval_data=rows([[0], [2], [1]])),
        "eval_dataset does not have the labels of the training data: .* row 0: 1 values where there are 3 labels",
    ),
    "a missing column": (lambda env: train(env, rows(GOOD).remove_columns("labels")), "there is no column 'labels'"),
    "a stream that nobody counted": (
        lambda env: PLMTrainer(
            scenarios.make_bert(), env.args(max_steps=4), train_dataset=rows(GOOD).to_iterable_dataset()
        ),
        "train_dataset has no length, so its labels .* Set plm_update_steps",
    ),
    "a stream to draw by class from": (
        lambda env: PLMTrainer(
            scenarios.make_bert(),
            env.args(max_steps=4, plm_class_aware=True),
            train_dataset=rows(GOOD).to_iterable_dataset(),
        ),
        "plm_class_aware is True and train_dataset is a IterableDataset; class-aware sampling needs",
    ),
    "counts of other labels": (
        lambda env: train(env, rows(GOOD), label_counts=COUNTS),
        "num_labels=3, but there are counts of 2 labels",
    ),
    "negative counts": (lambda env: LabelCounts([-1, 2], [3, 4]), "positives holds -1"),
    # logits
    "logits of the wrong width": (
        lambda env: PLMLoss(COUNTS)(torch.zeros(4, 3), LABELS),
        r"logits have shape \(4, 3\)",
    ),
    "labels of the wrong width": (lambda env: PLMLoss(COUNTS)(LOGITS, LABELS[:, :1]), r"labels have shape \(4, 1\)"),
    "logits that are NaN": (epoch(LOGITS + torch.nan), "8 known labels had a logit or a loss that was NaN"),
    "logits that are infinite": (
        epoch(LOGITS - torch.inf),
        "8 known labels had a logit or a loss that was NaN or inf",
    ),
    # arguments
    "an unknown preset": (arguments(plm_preset="best"), "plm_preset is 'best'; use one of"),
    "an unknown start": (arguments(plm_initial_ratio="high"), "plm_initial_ratio is 'high'; it must be"),
    "a start of 0": (arguments(plm_initial_ratio=0), "plm_initial_ratio is 0.0; it must be a positive number"),
    "a temper above 1": (arguments(plm_temper=1.1), r"plm_temper is 1.1; it must be a number in \[0, 1\]"),
    "an unknown rule": (arguments(plm_rule="up"), "plm_rule is 'up'; it must be one of"),
    "a negative rate": (arguments(plm_change_rate=-1), "plm_change_rate is -1; it must be a number of 0 or more"),
    "odd bins for marginal": (arguments(plm_num_bins=9), "plm_num_bins is 9; it must be even"),
    "a bound below 1": (arguments(plm_max_shift=0.1), "plm_max_shift is 0.1; it must be a number of 1 or more"),
    "bins that are none": (arguments(plm_num_bins=1), "plm_num_bins is 1; it must be a whole number of 2 or more"),
    "a focus below 0": (
        arguments(plm_objective="focal", plm_objective_kwargs={"gamma": -1}),
        "which the objective 'focal' does not take: gamma is -1",
    ),
    "updates every 0 steps": (arguments(plm_update_steps=0), "plm_update_steps is 0; it must be 1 or more"),
    "an unknown objective": (arguments(plm_objective="hinge"), "plm_objective is 'hinge'; it must be one of"),
    "arguments of another objective": (
        arguments(plm_preset="paper", plm_objective_kwargs={"gamma": 2}),
        "plm_objective_kwargs is {'gamma': 2}, which the objective 'bce' does not take",
    ),
    # objectives
    "an objective that is reduced": (objective(lambda z, y: (z - y).mean()), r"the objective returned the shape \(\)"),
    "an objective of another shape": (objective(lambda z, y: z[:, :1]), r"the objective returned the shape \(4, 1\)"),
    "an objective that is NaN": (
        epoch(objective=lambda z, y: z + torch.nan),
        "8 known labels had a logit or a loss that was NaN",
    ),
    # checkpoints
    "no state": (
        lambda env: resume(env, lambda path: path.unlink()),
        "there is no PLM state at .* set plm_restart=True",
    ),
    "a damaged state": (lambda env: resume(env, cut_short), "is damaged or not a safetensors file"),
    "a state of other labels": (
        lambda env: resume(env, lambda path: 4),
        "there are 5 labels there and 4 here. Use the earlier .*; or start with new ideal ratios .plm_restart=True",
    ),
    "a state of other bins": (
        lambda env: resume(env, lambda path: 5, plm_num_bins=10),
        "does not fit this run \\(here\\): num_bins is 20 there and 10 here. Use the earlier settings",
    ),
    "a missing file": (lambda env: PLMState.load(env.folder / "none"), "there is no PLM state at"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_named(case, make_args, tmp_path):
    action, message = CASES[case]
    warnings.simplefilter("error", UserWarning)  # a problem that does not stop training is a warning
    with pytest.raises((ValueError, FileNotFoundError, UserWarning), match=message):
        action(SimpleNamespace(args=make_args, folder=tmp_path))


@pytest.mark.parametrize(
    ("labels", "num_labels"),
    [([[1.0]] * 3 + [[0.0]], 1), ([[1, 0, 1], [1, 1, 0], [1, 0, 0]], 3), ([[1, 1, 1]] * 4, 3)],
    ids=["one class only", "a class that is always positive", "every class always positive"],
)
def test_unusual_but_valid_input_trains(labels, num_labels, make_args):
    model = scenarios.make_bert(num_labels=num_labels)
    trainer = PLMTrainer(model, make_args(num_train_epochs=2), train_dataset=rows(labels))
    assert trainer.train().training_loss > 0
    assert torch.isfinite(trainer.plm_state.history).all()
