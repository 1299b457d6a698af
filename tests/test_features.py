"""Other features of `Trainer` work in `PLMTrainer`."""

import numpy as np
import pytest
import scenarios
import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import TrainerCallback

from hf_plm import PLMState, PLMTrainer, count_labels, multilabel_compute_metrics
from hf_plm.presets import PRESETS

ROWS = 64


@pytest.fixture
def data():
    return scenarios.make_rows(ROWS)


def assert_trained(trainer, updates=1, rows=ROWS):
    """Check that the state counted every row of the last epoch once, and that its ratios moved and are finite."""
    state = trainer.plm_state
    assert state.history.shape == (updates + 1, 5)
    assert state.histograms.sum() == rows * 5
    assert state.nonfinite == 0
    assert torch.isfinite(state.ideal_ratio).all()
    assert torch.equal(state.history[0], state.ratio ** PRESETS["default"].temper)
    assert not torch.equal(state.history[1], state.history[0])
    assert all(np.isfinite(log["loss"]) for log in trainer.state.log_history if "loss" in log)


@pytest.mark.parametrize(
    "arguments",
    [
        {"bf16": True},
        {"fp16": True},
        {"gradient_checkpointing": True},
        {"torch_compile": True, "torch_compile_backend": "aot_eager"},
        {"dataloader_num_workers": 2},
        {"optim": "adafactor"},
        {"neftune_noise_alpha": 5.0},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_it_trains_with(arguments, data, make_bert, make_args):
    trainer = PLMTrainer(make_bert(), make_args(logging_steps=1, **arguments), train_dataset=data, eval_dataset=data)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert_trained(trainer)
    assert trainer.evaluate()["eval_loss"] < before


def test_a_lora_model_trains_only_its_adapters_and_its_head(data, make_bert, make_args, tmp_path):
    model = get_peft_model(make_bert(), LoraConfig(task_type=TaskType.SEQ_CLS, r=2, target_modules=["query", "value"]))
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    trainer = PLMTrainer(model, make_args(num_train_epochs=2), train_dataset=data)
    trainer.train()
    assert_trained(trainer, updates=2)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (not parameter.requires_grad), name
    assert model.config.problem_type == "multi_label_classification"
    trainer.save_model(str(tmp_path / "adapter"))
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    assert (tmp_path / "adapter" / "plm_state.safetensors").is_file()


def test_training_restarts_with_the_smaller_batch_of_auto_find_batch_size(data, make_bert, make_args):
    model = make_bert()
    sizes = []

    def fail_on_large_batches(module, args, kwargs):
        sizes.append(len(kwargs["input_ids"]))
        if len(sizes) == 3:  # two batches were measured before this
            raise RuntimeError("CUDA out of memory.")

    model.register_forward_pre_hook(fail_on_large_batches, with_kwargs=True)
    trainer = PLMTrainer(model, make_args(auto_find_batch_size=True, plm_rule="kl"), train_dataset=data)
    trainer.train()
    assert sizes[0] == 16
    assert sizes[3] < 16
    assert_trained(trainer)


def test_the_best_model_comes_back_at_the_end(data, make_bert, make_args):
    args = make_args(
        num_train_epochs=3,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="macro_f1",
    )
    compute_metrics = multilabel_compute_metrics(count_labels(data))
    trainer = PLMTrainer(make_bert(), args, train_dataset=data, eval_dataset=data, compute_metrics=compute_metrics)
    trainer.train()
    assert trainer.evaluate()["eval_macro_f1"] == pytest.approx(trainer.state.best_metric)
    best = PLMState.load(f"{trainer.state.best_model_checkpoint}/plm_state.safetensors")
    assert torch.equal(trainer.plm_state.history, best.history)


def test_every_trial_of_a_search_begins_with_a_fresh_state(data, make_bert, make_args):
    starts, rates = [], []

    class Watch(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            starts.append(trainer.plm_state.ideal_ratio.clone())
            rates.append(trainer.plm_loss.settings.change_rate)

    trainer = PLMTrainer(
        model_init=lambda: make_bert(), args=make_args(eval_strategy="epoch"), train_dataset=data, eval_dataset=data
    )
    trainer.add_callback(Watch())
    trainer.hyperparameter_search(
        hp_space=lambda trial: {"plm_change_rate": trial.suggest_float("plm_change_rate", 0.1, 0.9)},
        n_trials=2,
        backend="optuna",
        direction="minimize",
    )
    assert len(starts) == 2
    assert torch.equal(starts[0], starts[1])
    assert len(set(rates)) == 2
    assert len(trainer.plm_state.history) == 2


def test_the_last_rows_may_be_dropped(data, make_bert, make_args):
    args = make_args(dataloader_drop_last=True, plm_rule="kl")
    trainer = PLMTrainer(make_bert(), args, train_dataset=data.select(range(60)))
    trainer.train()
    assert_trained(trainer, rows=48)


def test_each_of_several_evaluation_sets_has_its_own_loss(data, make_bert, make_args):
    sets = {"first": data.select(range(20)), "second": data.select(range(20, 64))}
    trainer = PLMTrainer(make_bert(), make_args(eval_strategy="epoch"), train_dataset=data, eval_dataset=sets)
    trainer.train()
    metrics = trainer.evaluate()
    for name, rows in sets.items():
        assert metrics[f"eval_{name}_loss"] == pytest.approx(trainer.evaluate(rows)["eval_loss"])


def test_metrics_batch_by_batch_are_the_same(data, make_bert, make_args):
    scores = []
    for by_batch in (False, True):
        args = make_args(batch_eval_metrics=by_batch, per_device_eval_batch_size=10)
        compute_metrics = multilabel_compute_metrics(count_labels(data))
        trainer = PLMTrainer(make_bert(), args, train_dataset=data, eval_dataset=data, compute_metrics=compute_metrics)
        metrics = [trainer.evaluate() for _ in range(2)][1]
        timings = ("runtime", "per_second", "preparation_time")
        scores.append({name: value for name, value in metrics.items() if not name.endswith(timings)})
    assert scores[0] == pytest.approx(scores[1])
    assert "eval_macro_f1" in scores[0]


def test_the_label_column_may_have_a_different_name(data, make_bert, make_args):
    renamed = data.rename_column("labels", "tags")
    args = make_args(label_names=["tags"])
    trainer = PLMTrainer(make_bert(), args, train_dataset=renamed, eval_dataset=renamed)
    trainer.train()
    assert_trained(trainer)
    assert trainer.predict(renamed).label_ids.shape == (64, 5)


def test_saving_only_the_model_saves_the_whole_state(data, make_bert, make_args):
    trainer = PLMTrainer(make_bert(), make_args(save_strategy="epoch", save_only_model=True), train_dataset=data)
    trainer.train()
    state = PLMState.load(f"{trainer.args.output_dir}/checkpoint-4/plm_state.safetensors")
    assert torch.equal(state.history, trainer.plm_state.history)


@pytest.mark.filterwarnings("default")
def test_a_batch_with_nan_leaves_the_state_finite_and_gives_a_warning(data, make_bert, make_args):
    model = make_bert()
    calls = []

    def spoil_the_second(module, args, output):
        calls.append(1)
        if len(calls) == 2:
            output.logits = output.logits + torch.nan
        return output

    model.register_forward_hook(spoil_the_second)
    trainer = PLMTrainer(model, make_args(plm_rule="kl"), train_dataset=data)
    # From the second of four steps on, the weights and all logits are NaN.
    with pytest.warns(UserWarning, match="^240 known labels had a logit or a loss that was NaN or infinite"):
        trainer.train()
    assert trainer.plm_state.histograms.sum() == 16 * 5
    assert torch.isfinite(trainer.plm_state.ideal_ratio).all()
