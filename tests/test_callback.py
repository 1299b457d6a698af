"""The ideal ratios change when they should, the log has them, and checkpoints restore them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForSequenceClassification, Trainer

from hf_plm import LabelCounts, PLMState, PLMTrainer, callback


def logs_with(trainer, key):
    return [log for log in trainer.state.log_history if key in log]


def test_ratios_are_updated_at_the_end_of_every_epoch(make_bert, text_data, make_args):
    trainer = PLMTrainer(make_bert(), make_args(num_train_epochs=3), train_dataset=text_data)
    trainer.train()
    history = trainer.plm_state.history
    assert history.shape == (4, 5)
    assert not torch.equal(history[0], history[1])
    assert torch.equal(history[-1], trainer.plm_state.ideal_ratio)
    assert [log["epoch"] for log in logs_with(trainer, "plm/tail_shift")] == [1, 2, 3]


def test_ratios_can_be_updated_every_few_steps_instead(make_bert, text_data, make_args):
    args = make_args(num_train_epochs=3, plm_update_steps=5, logging_steps=1)
    trainer = PLMTrainer(make_bert(), args, train_dataset=text_data)
    trainer.train()
    assert trainer.plm_state.num_updates == 2
    assert [log["step"] for log in logs_with(trainer, "plm/tail_shift")] == [5, 10]


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ({"logging_steps": 1}, [2, 4, 6, 8, 10, 12]),
        ({"logging_steps": 5}, [5, 10, 12]),  # 12 is the last step
        ({"logging_steps": 100}, [12]),
        ({"logging_strategy": "epoch"}, [4, 8, 12]),
        ({"logging_steps": 100, "save_strategy": "steps", "save_steps": 5}, [5, 10, 12]),  # checkpoints hold a log
        ({"logging_strategy": "no"}, []),
        ({"logging_steps": 5, "max_steps": 11}, [5, 10]),  # nothing was updated since
        ({"logging_steps": 5, "plm_update_steps": 11}, [12]),
    ],
)
def test_updates_by_steps_are_logged_as_often_as_the_loss(arguments, steps, make_bert, text_data, make_args):
    args = make_args(**{"num_train_epochs": 3, "plm_update_steps": 2, "plm_rule": "kl", **arguments})
    trainer = PLMTrainer(make_bert(), args, train_dataset=text_data)
    summaries, summarize = [], callback.summarize
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callback, "summarize", lambda state: summaries.append(summarize(state)) or dict(summaries[-1]))
        trainer.train()
    logs = logs_with(trainer, "plm/tail_shift")
    assert [log["step"] for log in logs] == steps
    if "logging_strategy" not in arguments:
        latest = [step // args.plm_update_steps for step in steps]  # each log and its update
        assert [log["plm/tail_shift"] for log in logs] == [summaries[each - 1]["plm/tail_shift"] for each in latest]
        assert [log["step"] for log in logs_with(trainer, "loss")] == [
            step for step in range(1, trainer.state.global_step + 1) if step % args.logging_steps == 0
        ]


def test_a_resumed_run_logs_the_same_updates_by_steps_as_an_uninterrupted_one(make_bert, text_data, make_args):
    arguments = {"num_train_epochs": 3, "plm_update_steps": 2, "logging_steps": 5, "save_strategy": "steps"}
    whole = PLMTrainer(make_bert(), make_args(**arguments, save_steps=3), train_dataset=text_data)
    whole.train()
    resumed = PLMTrainer(make_bert(), make_args(**arguments, save_steps=3), train_dataset=text_data)
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-3")  # an update after the last log
    steps = [
        [(log["step"], log["plm/tail_shift"]) for log in logs_with(t, "plm/tail_shift")] for t in (whole, resumed)
    ]
    assert [step for step, _ in steps[0]] == [3, 5, 6, 9, 10, 12]
    assert steps[0] == steps[1]


def test_the_log_has_a_summary_and_the_loss_of_the_epoch(make_bert, text_data, make_args):
    args = make_args(num_train_epochs=2, logging_strategy="epoch")
    trainer = PLMTrainer(make_bert(), args, train_dataset=text_data)
    trainer.train()
    assert [log["epoch"] for log in logs_with(trainer, "loss")] == [1, 2]
    summary = {key for key in logs_with(trainer, "plm/tail_shift")[0] if key.startswith("plm/")}
    values = ("ideal_ratio", "shift", "keep_positive", "keep_negative", "predicted_rate")
    assert summary == {
        "plm/labels_never_predicted",
        *(f"plm/{group}_{value}" for group in ("head", "medium", "tail") for value in values),
    }


def test_without_a_logging_strategy_nothing_is_logged(make_bert, text_data, make_args):
    trainer = PLMTrainer(make_bert(), make_args(logging_strategy="no"), train_dataset=text_data)
    trainer.train()
    assert not logs_with(trainer, "plm/tail_shift")
    assert len(trainer.plm_state.history) == 2


def test_the_summary_agrees_with_the_state(make_bert, text_data, make_args):
    trainer = PLMTrainer(make_bert(), make_args(), train_dataset=text_data)
    trainer.train()
    (log,) = logs_with(trainer, "plm/tail_shift")
    state = trainer.plm_state
    tail = trainer.label_counts.groups()["tail"]
    assert log["plm/tail_ideal_ratio"] == pytest.approx(state.ideal_ratio[tail].median().item())
    assert log["plm/tail_keep_negative"] == pytest.approx(state.keep_probabilities()[1][tail].mean().item())
    predicted = state.histograms[:, :, 10:].sum((0, 2))
    assert log["plm/labels_never_predicted"] == (predicted == 0).sum().item()
    rate = predicted[tail].sum() / state.histograms[0][tail].sum()
    assert log["plm/tail_predicted_rate"] == pytest.approx(rate.item())


def test_a_partial_last_epoch_is_used_too(make_bert, text_data, make_args):
    trainer = PLMTrainer(make_bert(), make_args(max_steps=6), train_dataset=text_data)
    trainer.train()
    assert trainer.plm_state.history.shape == (3, 5)
    assert trainer.plm_state.histograms.sum() == 2 * 16 * 5


def test_training_twice_starts_from_the_start(make_bert, text_data, make_args):
    trainer = PLMTrainer(make_bert(), make_args(num_train_epochs=2), train_dataset=text_data)
    trainer.train()
    trainer.train()
    assert trainer.plm_state.history.shape == (3, 5)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize(("strategy", "steps", "checkpoint"), [("epoch", 4, 1), ("steps", 3, 3), ("steps", 4, 4)])
def test_a_resumed_run_ends_bit_identical(accumulation, strategy, steps, checkpoint, make_bert, text_data, make_args):
    """At the end of an epoch, in the middle, and at a steps-checkpoint on the last step of an epoch."""
    per_epoch = 4 // accumulation
    checkpoint = per_epoch if strategy == "epoch" or checkpoint == 4 else checkpoint
    arguments = {
        "num_train_epochs": 3,
        "save_strategy": strategy,
        "save_steps": min(steps, checkpoint),
        "gradient_accumulation_steps": accumulation,
        "logging_steps": 1,
        "plm_mask": "random",
    }
    whole = PLMTrainer(make_bert(dropout=0.1), make_args(**arguments), train_dataset=text_data)
    whole.train()
    resumed = PLMTrainer(make_bert(dropout=0.1), make_args(**arguments), train_dataset=text_data)
    resumed.train(resume_from_checkpoint=Path(whole.args.output_dir) / f"checkpoint-{checkpoint}")
    for name, parameter in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], parameter), name
    assert whole.plm_state.history.shape == (4, 5)
    assert torch.equal(resumed.plm_state.history, whole.plm_state.history)
    assert torch.equal(resumed.plm_state.histograms, whole.plm_state.histograms)
    losses = [[(log["step"], log["loss"]) for log in logs_with(t, "loss")] for t in (whole, resumed)]
    assert losses[0] == losses[1]
    ratios = [[log["plm/tail_ideal_ratio"] for log in logs_with(t, "plm/tail_shift")] for t in (whole, resumed)]
    assert ratios[0] == ratios[1]


def test_resume_from_the_last_checkpoint(make_bert, text_data, make_args):
    arguments = {"num_train_epochs": 2, "save_strategy": "epoch"}
    whole = PLMTrainer(make_bert(), make_args(**arguments), train_dataset=text_data)
    whole.train()
    resumed = PLMTrainer(make_bert(), make_args(**{**arguments, "num_train_epochs": 3}), train_dataset=text_data)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(resumed.plm_state.history[:3], whole.plm_state.history)
    assert len(resumed.plm_state.history) == 4


def test_a_checkpoint_is_a_plain_model_plus_the_state(make_bert, text_data, make_args):
    trainer = PLMTrainer(make_bert(), make_args(save_strategy="epoch"), train_dataset=text_data)
    trainer.train()
    checkpoint = f"{trainer.args.output_dir}/checkpoint-4"
    assert torch.equal(PLMState.load(f"{checkpoint}/plm_state.safetensors").history, trainer.plm_state.history)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    assert model.config.problem_type == "multi_label_classification"
    with safe_open(f"{checkpoint}/model.safetensors", "pt") as file:
        assert set(file.keys()) == set(make_bert().state_dict())
    with open(f"{checkpoint}/trainer_state.json") as file:
        assert "PLM" not in json.dumps(json.load(file)["stateful_callbacks"])


def test_a_stock_trainer_resumes_a_checkpoint_with_a_state(make_bert, text_data, make_args):
    arguments = {"num_train_epochs": 2, "save_strategy": "epoch"}
    trainer = PLMTrainer(make_bert(), make_args(**arguments), train_dataset=text_data)
    trainer.train()
    stock = Trainer(trainer.model, make_args(**arguments), trainer.data_collator, train_dataset=text_data)
    assert stock.train(resume_from_checkpoint=f"{trainer.args.output_dir}/checkpoint-4").global_step == 8


def test_resuming_a_checkpoint_without_a_state_is_an_error(make_bert, text_data, make_args):
    trainer = PLMTrainer(make_bert(), make_args(num_train_epochs=2, save_strategy="epoch"), train_dataset=text_data)
    Trainer(trainer.model, trainer.args, trainer.data_collator, train_dataset=text_data).train()
    with pytest.raises(FileNotFoundError, match="there is no PLM state at .*checkpoint-8.*set plm_restart=True"):
        trainer.train(resume_from_checkpoint=f"{trainer.args.output_dir}/checkpoint-8")
    trainer.args.plm_restart = True
    trainer.train(resume_from_checkpoint=f"{trainer.args.output_dir}/checkpoint-4")
    assert len(trainer.plm_state.history) == 2  # only of the second epoch


def test_wrong_labels_after_the_last_update_end_training_on_an_asynchronous_device(
    make_bert, text_data, make_args, monkeypatch
):
    monkeypatch.setattr("hf_plm.label_checks.can_read", lambda labels: False)
    batches = iter(range(100))

    def collate(rows):
        labels = torch.full((len(rows), 5), 0.95 if next(batches) >= 3 else 1.0)
        return {"input_ids": torch.tensor([row["input_ids"] for row in rows]), "labels": labels}

    rows = text_data.remove_columns("labels")
    args = make_args(plm_update_steps=3, remove_unused_columns=False)
    trainer = PLMTrainer(make_bert(), args, collate, train_dataset=rows, label_counts=LabelCounts([9] * 5, [9] * 5))
    with pytest.raises(ValueError, match=r"the label is 0\.95"):
        trainer.train()
