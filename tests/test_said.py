"""Errors and warnings about decisions, class ids, metrics and trackers."""

import pytest
import scenarios
import torch
from datasets import ClassLabel, Dataset, List
from scenarios import named
from transformers.integrations import TensorBoardCallback

from hf_plm import PLMTrainer, calibrate, count_labels, multilabel_compute_metrics, predict
from hf_plm.decisions import read_decisions
from hf_plm.label_space import write_id2label

Z = ["zebra", "yak", "ant"]


def test_renaming_labels_keeps_the_record_of_the_bias(make_bert, make_args):
    data = scenarios.make_rows(16)
    trainer = PLMTrainer(make_bert(5, **named("abcde")), make_args(), train_dataset=data)
    trainer.train()
    calibrate(trainer.model, trainer.plm_state)
    write_id2label(trainer.model.config, list("vwxyz"), 5)
    assert read_decisions(trainer.model.config).thresholds is None
    assert read_decisions(trainer.model.config).scores == "probabilities"
    trainer.plm_state.label_names = None
    with pytest.raises(ValueError, match="calibrated before"):
        calibrate(trainer.model, trainer.plm_state)


def test_replaced_training_rows_are_counted(make_bert, make_args):
    trainer = PLMTrainer(make_bert(), make_args(), train_dataset=scenarios.make_rows(16))
    trainer.train_dataset = scenarios.make_rows(48)
    trainer.train()
    assert torch.equal(trainer.plm_state.positives, count_labels(scenarios.make_rows(48)).positives)


@pytest.mark.parametrize("problem_type", ["single_label_classification", "multi_label_classification"])
def test_predicting_from_nan_logits_is_an_error(problem_type, make_bert):
    model = make_bert(problem_type=problem_type)
    with torch.no_grad():
        model.classifier.bias[1] = torch.nan
    with pytest.raises(ValueError, match="row 0 of the inputs has logits that are NaN, so nothing can be predicted"):
        predict(model, {"input_ids": torch.tensor([[5, 6]])})


def test_tuning_on_the_evaluation_rows_is_noticed_in_any_order_and_with_custom_metrics(make_bert, make_args):
    data = scenarios.make_rows(32)
    trainer = PLMTrainer(
        make_bert(),
        make_args(),
        train_dataset=data,
        eval_dataset=data,
        compute_metrics=lambda prediction: {"own": 1.0},
    )
    trainer.evaluate()
    trainer.tune_thresholds(data.shuffle(seed=1))
    assert trainer.run_facts().was_tuned_on_evaluation


def test_class_ids_that_are_null_or_vectors_are_refused():
    data = Dataset.from_dict({"labels": [[0, None], [1, None]]}).cast_column("labels", List(ClassLabel(names=Z[:2])))
    with pytest.raises(ValueError, match="cannot be read as label_format='ids'"):
        count_labels(data)
    vectors = Dataset.from_dict({"labels": [[0, 1, 1], [1, 0, 0]]}).cast_column("labels", List(ClassLabel(names=Z)))
    with pytest.raises(ValueError, match="holds class ids .ClassLabel., and label_format is 'multi_hot'"):
        count_labels(vectors, label_format="multi_hot", label_names=sorted(Z))


def test_a_threshold_that_only_the_metrics_have_gives_a_warning(make_bert, make_args, messages):
    data = scenarios.make_rows(16)
    metrics = multilabel_compute_metrics(data, threshold=0.2)
    PLMTrainer(make_bert(), make_args(), train_dataset=data, compute_metrics=metrics)
    assert "predict and pipelines decide at 0.5 until tune_thresholds" in messages.text


@pytest.mark.parametrize("arguments", [{"prediction_loss_only": True}, {"eval_do_concat_batches": False}])
def test_an_error_explains_predictions_without_usable_logits(arguments, make_bert, make_args):
    data = scenarios.make_rows(30)  # the last batch is smaller
    trainer = PLMTrainer(make_bert(), make_args(per_device_eval_batch_size=8, **arguments), train_dataset=data)
    assert trainer.evaluate(data)["eval_loss"] > 0
    with pytest.raises(ValueError, match="prediction_loss_only=False and eval_do_concat_batches=True"):
        trainer.tune_thresholds(data)


@pytest.mark.parametrize("event", ["on_log", "on_train_end"])
def test_a_tracker_that_fails_while_logging_or_closing_ends_no_training(event, make_bert, make_args, messages):
    def fail(*args, **kwargs):
        raise OSError("no space left")

    tracker = TensorBoardCallback()
    setattr(tracker, event, fail)
    data = scenarios.make_rows(32)
    args = make_args(save_strategy="epoch", logging_steps=1)
    trainer = PLMTrainer(make_bert(), args, train_dataset=data, callbacks=[tracker])
    assert trainer.train().global_step == 2
    assert "TensorBoardCallback failed (no space left) and lost its data; training continues" in messages.text


def test_multi_label_metrics_for_a_single_label_model_are_refused_at_once(make_bert, make_args):
    data = Dataset.from_dict({"input_ids": [[5, 6]] * 4, "labels": [0, 1, 2, 0]})
    with pytest.raises(ValueError, match="compute_metrics is for multi-label models, and this one predicts one class"):
        PLMTrainer(make_bert(3), make_args(), train_dataset=data, compute_metrics=multilabel_compute_metrics(data))
