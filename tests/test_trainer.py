"""`PLMTrainer` uses the loss of `PLMLoss`, and otherwise behaves like `Trainer`."""

import copy

import numpy as np
import pytest
import scenarios
import torch
from scenarios import multi_hot
from torch import nn
from transformers import Trainer, TrainingArguments

from hf_plm import MultiLabelCollator, PLMTrainer, count_labels, multilabel_compute_metrics


class TupleModel(nn.Module):
    """No configuration, no labels in `forward`; the output is a tuple with logits first, a dict, or only logits."""

    def __init__(self, kind, num_labels=5):
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.embedding = nn.EmbeddingBag(50, 8)
        self.linear = nn.Linear(8, num_labels)

    def forward(self, input_ids):
        hidden = self.embedding(input_ids)
        logits = self.linear(hidden)
        outputs = {"tuple": (logits, hidden), "dict": {"logits": logits, "hidden": hidden}, "tensor": logits}
        return outputs.get(self.kind, {"hidden": hidden})


def test_one_call_trains_with_a_plain_training_arguments(make_bert, text_data, tmp_path):
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True)
    trainer = PLMTrainer(make_bert(), args, train_dataset=text_data)
    output = trainer.train()
    assert output.global_step == 24
    assert np.isfinite(output.training_loss)
    assert trainer.plm_loss.settings.objective == "asymmetric"
    assert trainer.plm_state.history.shape == (4, 5)
    assert trainer.label_counts.positives.tolist() == multi_hot(text_data).sum(0).tolist()
    assert trainer.model.config.problem_type == "multi_label_classification"


@pytest.mark.parametrize(("model", "data"), [("make_bert", "text_data"), ("make_vit", "image_data")])
def test_every_trainable_parameter_changes(model, data, make_args, request):
    model, data = request.getfixturevalue(model)(), request.getfixturevalue(data)
    before = copy.deepcopy(model.state_dict())
    PLMTrainer(model, make_args(), train_dataset=data).train()
    for name, parameter in model.named_parameters():
        changed = not torch.equal(parameter, before[name])
        # In attention, the bias of the keys shifts all scores equally: its gradient is zero except for rounding.
        assert changed or name.endswith(("key.bias", "k_proj.bias")), name


def test_preset_off_is_the_stock_trainer_with_bce(make_bert, text_data, make_args):
    arguments = {"plm_preset": "off", "max_grad_norm": 0.0, "logging_steps": 1}
    gradients = scenarios.Gradients()
    trainer = PLMTrainer(make_bert(), make_args(**arguments), train_dataset=text_data, callbacks=[gradients])
    trainer.train()

    stock_model = make_bert(problem_type="multi_label_classification")
    stock_model.accepts_loss_kwargs = False
    stock_gradients = scenarios.Gradients()
    args = make_args(logging_steps=1, max_grad_norm=0.0)
    collator = MultiLabelCollator(5, label_format="ids")
    stock = Trainer(stock_model, args, collator, train_dataset=text_data, callbacks=[stock_gradients])
    stock.train()

    losses = [[log["loss"] for log in t.state.log_history if "loss" in log] for t in (trainer, stock)]
    assert len(losses[0]) == 4
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for step, stock_step in zip(gradients.steps, stock_gradients.steps, strict=True):
        for name, gradient in step.items():
            # relative to the largest entry, because matrix products round on this scale
            scale = stock_step[name].abs().max().item()
            assert (gradient - stock_step[name]).abs().max().item() <= 1e-6 * max(scale, 1e-2), name


@pytest.mark.parametrize("accumulation", [1, 4])
def test_the_stock_trainer_multiplies_multi_label_losses_by_the_accumulation_steps(
    accumulation, make_bert, text_data, make_args
):
    """The caveat on baselines in docs/from-trainer.md. If this fails, transformers is fixed: remove the caveat."""
    args = make_args(gradient_accumulation_steps=accumulation, per_device_train_batch_size=16 // accumulation)
    collator = MultiLabelCollator(5, label_format="ids")
    data = text_data.select(range(16))
    stock = Trainer(make_bert(problem_type="multi_label_classification"), args, collator, train_dataset=data)
    right = PLMTrainer(make_bert(), make_args(plm_preset="off"), train_dataset=data)
    assert stock.train().training_loss == pytest.approx(accumulation * right.train().training_loss, rel=1e-5)


@pytest.mark.parametrize("preset", ["default", "paper", "off"])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_loss_does_not_depend_on_how_the_batch_is_split(
    preset, accumulation, make_bert, text_data, make_args, monkeypatch
):
    """One step on 48 rows, at once and in three parts, with a mask that depends only on the row."""

    def mask(labels, keep_positive, keep_negative, generator):
        known = ~torch.isnan(labels)
        return (torch.where(labels == 1, keep_positive, keep_negative) > 0.6) & known

    monkeypatch.setattr("hf_plm.few_passes.sample_mask", mask)
    labels = multi_hot(text_data)
    labels[::7, 1] = np.nan  # the parts have different numbers of known labels
    data = text_data.remove_columns("labels").add_column("labels", labels.tolist()).select(range(48))
    gradients = scenarios.Gradients()
    args = make_args(
        plm_preset=preset,
        plm_mask=None if preset == "off" else "random",
        per_device_train_batch_size=48 // accumulation,
        gradient_accumulation_steps=accumulation,
        logging_steps=1,
        max_grad_norm=0.0,
    )
    trainer = PLMTrainer(make_bert(), args, train_dataset=data, callbacks=[gradients])
    trainer.train()
    assert len(gradients.steps) == 1

    model = make_bert().train()
    batch = MultiLabelCollator(5)(list(data))
    labels = batch.pop("labels")
    whole = trainer.plm_loss
    trainer.begin_training()
    loss = trainer.plm_loss(model(**batch).logits, labels)
    loss.backward()
    assert whole.state.num_batches == accumulation
    assert trainer.state.log_history[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        scale = parameter.grad.abs().max().clamp(min=1e-2)
        assert ((gradients.steps[0][name] - parameter.grad).abs().max() <= 2e-6 * scale).item(), name


def test_the_model_does_not_see_the_labels(make_bert, text_data, make_args):
    model = make_bert()
    seen = []
    model.register_forward_pre_hook(lambda module, args, kwargs: seen.append(set(kwargs)), with_kwargs=True)
    trainer = PLMTrainer(model, make_args(), train_dataset=text_data, eval_dataset=text_data)
    trainer.train()
    trainer.evaluate()
    assert seen
    assert all("labels" not in names and "input_ids" in names for names in seen)


def test_it_masks_and_measures_only_while_training(make_bert, text_data, make_args):
    trainer = PLMTrainer(make_bert(), make_args(plm_rule="kl"), train_dataset=text_data, eval_dataset=text_data)
    trainer.train()
    assert trainer.plm_state.histograms.sum() == 64 * 5
    before = trainer.plm_state.histograms.clone()
    metrics = trainer.evaluate()
    prediction = trainer.predict(text_data)
    assert torch.equal(trainer.plm_state.histograms, before)
    logits, labels = torch.from_numpy(prediction.predictions), torch.from_numpy(prediction.label_ids)
    expected = trainer.plm_loss.objective(logits, labels).mean().item()
    assert metrics["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert prediction.metrics["test_loss"] == pytest.approx(expected, rel=1e-5)


def test_a_users_metric_with_a_name_that_ends_in_loss_is_not_changed(make_bert, text_data, make_args):
    trainer = PLMTrainer(
        make_bert(), make_args(), eval_dataset=text_data, compute_metrics=lambda prediction: {"hamming_loss": 0.25}
    )
    metrics = trainer.evaluate()
    assert metrics["eval_hamming_loss"] == 0.25
    assert metrics["eval_loss"] != 0.25


def test_batches_without_labels_are_an_error(make_bert, text_data, make_args):
    counts = count_labels(text_data, num_labels=5)
    trainer = PLMTrainer(
        make_bert(), make_args(), train_dataset=text_data.remove_columns("labels"), label_counts=counts
    )
    with pytest.raises(ValueError, match="the batch has no 'labels', only .*input_ids"):
        trainer.train()


def test_outputs_are_the_same_as_those_of_trainer(make_bert, text_data, make_args):
    trainer = PLMTrainer(
        make_bert(),
        make_args(eval_strategy="epoch"),
        train_dataset=text_data,
        eval_dataset=text_data,
        compute_metrics=multilabel_compute_metrics(count_labels(text_data)),
    )
    trainer.train()
    prediction = trainer.predict(text_data)
    assert prediction.predictions.shape == prediction.label_ids.shape == (64, 5)
    assert np.array_equal(prediction.label_ids, multi_hot(text_data))
    assert {"eval_loss", "eval_macro_f1", "eval_tail_recall"} <= set(trainer.evaluate())
    assert trainer.predict(text_data.remove_columns("labels")).predictions.shape == (64, 5)


@pytest.mark.parametrize("kind", ["tuple", "dict", "tensor"])
def test_every_kind_of_model_output_with_logits_works(kind, text_data, make_args):
    data = text_data.remove_columns("attention_mask")
    trainer = PLMTrainer(TupleModel(kind), make_args(), train_dataset=data, eval_dataset=data)
    trainer.train()
    prediction = trainer.predict(data)
    logits = prediction.predictions[0] if kind != "tensor" else prediction.predictions
    assert logits.shape == (64, 5)
    assert np.isfinite(trainer.evaluate()["eval_loss"])


def test_an_output_without_logits_is_an_error(text_data, make_args):
    data = text_data.remove_columns("attention_mask")
    with pytest.raises(ValueError, match=r"the model's output \(\['hidden'\]\) has no logits"):
        PLMTrainer(TupleModel("other"), make_args(), train_dataset=data).train()


def test_a_users_objective_overrides_the_named_one(make_bert, text_data, make_args):
    def constant(logits, labels):
        return logits * 0 + 7

    trainer = PLMTrainer(
        make_bert(),
        make_args(plm_objective="focal"),
        train_dataset=text_data,
        eval_dataset=text_data,
        objective=constant,
    )
    assert trainer.evaluate()["eval_loss"] == pytest.approx(7)
    trainer.train()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(7)


def test_a_trainer_without_training_data_evaluates(make_bert, text_data, make_args):
    trainer = PLMTrainer(make_bert(), make_args(), eval_dataset=text_data)
    assert np.isfinite(trainer.evaluate()["eval_loss"])


def test_label_smoothing_is_refused(make_bert, text_data, make_args):
    with pytest.raises(ValueError, match=r"label_smoothing_factor is 0.1"):
        PLMTrainer(make_bert(), make_args(label_smoothing_factor=0.1), train_dataset=text_data)
