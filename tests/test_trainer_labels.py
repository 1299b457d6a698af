"""`PLMTrainer` finds the counts, names and form of its labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, IterableDataset, List
from scenarios import multi_hot
from transformers import TrainingArguments
from transformers.utils import logging

from hf_plm import LabelCounts, MultiLabelCollator, PLMTrainer, count_labels, multilabel_compute_metrics
from hf_plm.presets import PRESETS, PRIORS


def test_class_ids_on_the_device_train_and_evaluate_as_multi_hot_labels_do(make_bert, make_args, text_data):
    results = []
    for sparse in (False, True):
        trainer = PLMTrainer(
            make_bert(),
            make_args(num_train_epochs=2),
            MultiLabelCollator(5, sparse=sparse),
            train_dataset=text_data,
            eval_dataset=text_data,
            compute_metrics=multilabel_compute_metrics(count_labels(text_data)),
        )
        train_loss = trainer.train().training_loss
        prediction = trainer.predict(text_data)
        scores = {
            name: value
            for name, value in prediction.metrics.items()
            if "per_second" not in name and "runtime" not in name
        }
        assert np.array_equal(prediction.label_ids, multi_hot(text_data))
        results.append((train_loss, scores, trainer.plm_state.history.tolist(), trainer.plm_state.histograms.tolist()))
    assert results[0] == results[1]
    assert next(iter(trainer.get_train_dataloader()))["labels"].dtype == torch.int64


def test_many_labels_are_sparse_and_the_loss_compiled(make_bert, make_args, text_data, monkeypatch):
    monkeypatch.setattr("hf_plm.label_setup.MANY_LABELS", 5)
    monkeypatch.setattr("hf_plm.loss.MANY_LABELS", 5)
    trainer = PLMTrainer(make_bert(), make_args(plm_rule="kl"), train_dataset=text_data)
    assert trainer.data_collator.sparse
    assert trainer.plm_loss.sparse
    assert trainer.plm_loss.fused
    assert not PLMTrainer(make_bert(), make_args(plm_fused=False), train_dataset=text_data).plm_loss.fused
    trainer.train()
    assert trainer.plm_state.histograms[0].sum(-1).tolist() == multi_hot(text_data).sum(0).tolist()
    vectors = text_data.remove_columns("labels").add_column("labels", multi_hot(text_data).tolist())
    assert not PLMTrainer(make_bert(), make_args(), train_dataset=vectors).plm_loss.sparse


def test_given_counts_are_used_and_a_warning_says_how_the_data_differ(make_bert, text_data, make_args, messages):
    trainer = PLMTrainer(
        make_bert(), make_args(), train_dataset=text_data, label_counts=LabelCounts([9, 8, 7, 6, 5], [55] * 5)
    )
    trainer.train()
    assert trainer.plm_state.positives.tolist() == [9, 8, 7, 6, 5]
    assert (
        "label_counts differs from the training data in 5 labels (label 'LABEL_0': 9 positives and 55" in messages.text
    )
    assert "The given counts are used" in messages.text


def test_a_mapping_of_counts_follows_the_models_label_names(make_bert, text_data, make_args):
    names = {index: name for index, name in enumerate("abcde")}
    model = make_bert(id2label=names, label2id={name: index for index, name in names.items()})
    counts = {name: (10 + index, 50) for index, name in reversed(names.items())}
    trainer = PLMTrainer(model, make_args(), train_dataset=text_data, label_counts=counts)
    assert trainer.plm_state.positives.tolist() == [10, 11, 12, 13, 14]


def test_label_names_of_the_data_go_to_the_model(make_bert, text_data, make_args):
    data = text_data.cast_column("labels", List(ClassLabel(names=list("abcde"))))
    trainer = PLMTrainer(make_bert(), make_args(), train_dataset=data)
    assert trainer.model.config.id2label == dict(enumerate("abcde"))
    names = [["abcde"[index] for index in ids] for ids in text_data["labels"]]
    by_name = PLMTrainer(
        make_bert(), make_args(), train_dataset=text_data.remove_columns("labels").add_column("labels", names)
    )
    assert by_name.model.config.label2id == {name: index for index, name in enumerate("abcde")}
    losses = [t.train().training_loss for t in (trainer, by_name)]
    assert losses[0] == losses[1]


def test_single_label_models_train_on_masked_one_hot_labels(make_bert, text_data, make_args):
    classes = [row[0] % 3 for row in text_data["input_ids"]]
    data = text_data.remove_columns("labels").add_column("labels", classes)
    trainer = PLMTrainer(make_bert(num_labels=3), make_args(num_train_epochs=8), train_dataset=data, eval_dataset=data)
    assert trainer.model.config.problem_type == "single_label_classification"
    assert trainer.label_counts.positives.tolist() == [classes.count(index) for index in range(3)]
    trainer.train()
    assert trainer.plm_state.histograms.sum() == 64 * 3
    prediction = trainer.predict(data)
    assert prediction.label_ids.tolist() == classes
    one_hot = torch.eye(3)[torch.tensor(classes)]
    logits = torch.from_numpy(prediction.predictions) + trainer.plm_state.offset()
    expected = trainer.plm_loss.objective(logits, one_hot).mean().item()
    assert prediction.metrics["test_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "prior"),
    [
        ({}, "balanced"),
        ({"plm_preset": "paper"}, "ideal"),
        ({"plm_preset": "off"}, "ideal"),
        *(({"plm_prior": prior}, prior) for prior in PRIORS),
    ],
)
def test_only_preset_default_makes_balanced_decisions_for_one_class_per_row(
    arguments, prior, make_bert, text_data, make_args
):
    classes = [row[0] % 3 for row in text_data["input_ids"]]
    data = text_data.remove_columns("labels").add_column("labels", classes)
    trainer = PLMTrainer(make_bert(num_labels=3), make_args(**arguments), train_dataset=data)
    assert trainer.plm_loss.settings.prior == prior
    if arguments.get("plm_prior") != "balanced":
        many = PLMTrainer(make_bert(), make_args(**arguments), train_dataset=text_data)
        assert many.plm_loss.settings.prior == arguments.get("plm_prior", "ideal")


def test_balanced_decisions_are_only_for_one_class_per_row(make_bert, text_data, make_args):
    with pytest.raises(ValueError, match="plm_prior is 'balanced', which is for one class per row: use 'ideal'"):
        PLMTrainer(make_bert(), make_args(plm_prior="balanced"), train_dataset=text_data)


def test_plain_arguments_mean_the_preset_default_for_one_class_per_row_too(make_bert, text_data, tmp_path):
    data = text_data.remove_columns("labels").add_column("labels", [row[0] % 3 for row in text_data["input_ids"]])
    args = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    settings = PLMTrainer(make_bert(num_labels=3), args, train_dataset=data).plm_loss.settings
    assert settings == replace(PRESETS["default"], prior="balanced")


def test_unknown_labels_reach_neither_loss_nor_counts_nor_histograms(make_bert, text_data, make_args):
    labels = multi_hot(text_data)
    labels[:, 2] = np.nan
    labels[5:, 0] = -100
    data = text_data.remove_columns("labels").add_column("labels", labels.tolist())
    trainer = PLMTrainer(make_bert(), make_args(plm_rule="kl"), train_dataset=data, eval_dataset=data)
    trainer.train()
    known = [5, 64, 0, 64, 64]
    assert (trainer.label_counts.positives + trainer.label_counts.negatives).tolist() == known
    assert trainer.plm_state.histograms.sum((0, 2)).tolist() == known
    assert np.isfinite(trainer.evaluate()["eval_loss"])


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda data: data.remove_columns("labels"), {}, "there is no column 'labels' to count labels in"),
        (lambda data: data.select([]), {}, "the data set is empty"),
        (lambda data: data, {"num_labels": 3}, r"the class id \d is not in \[0, 3\)"),
        (lambda data: data, {"label_counts": LabelCounts([1], [2])}, "num_labels=5, but there are counts of 1 labels"),
        (lambda data: data, {"problem_type": "regression"}, "problem_type is 'regression'"),
        (lambda data: data, {"problem_type": "single_label_classification"}, "the labels have the form 'ids'"),
        (lambda data: data, {"compute_loss_func": len}, "compute_loss_func is set; PLMTrainer masks"),
    ],
)
def test_errors_name_settings_that_do_not_fit_together(change, arguments, message, make_bert, text_data, make_args):
    model = make_bert(**{key: arguments.pop(key) for key in ("num_labels", "problem_type") if key in arguments})
    with pytest.raises(ValueError, match=message):
        PLMTrainer(model, make_args(max_steps=1), train_dataset=change(text_data), **arguments)


@pytest.fixture
def endless(text_data):
    """An endless stream, which cannot be counted beforehand."""

    def rows():
        while True:
            yield from text_data

    return IterableDataset.from_generator(rows)


def test_a_streams_counts_are_estimated_during_training(endless, text_data, make_bert, make_args, caplog):
    args = make_args(max_steps=12, plm_update_steps=4, plm_rule="fixed")  # 4 steps hold every row once
    logging.get_logger("transformers").addHandler(caplog.handler)
    trainer = PLMTrainer(make_bert(), args, train_dataset=endless)
    said = "during training, every 4 steps (plm_update_steps); no label is masked before the first count"
    assert said in caplog.text
    trainer.train()
    state, positives = trainer.plm_state, torch.as_tensor(multi_hot(text_data).sum(0))
    assert torch.equal(state.positives, 3 * positives)
    assert torch.equal(state.negatives, 3 * (64 - positives))
    torch.testing.assert_close(
        state.history[1:], (positives / (64 - positives)).pow(PRESETS["default"].temper).expand(3, -1)
    )


def test_a_stream_is_not_read_if_counts_are_given(endless, text_data, make_bert, make_args):
    args = make_args(max_steps=4, plm_update_steps=2)
    trainer = PLMTrainer(make_bert(), args, train_dataset=endless, label_counts=count_labels(text_data))
    trainer.train()
    assert trainer.plm_state.positives.tolist() == multi_hot(text_data).sum(0).tolist()
    assert len(trainer.plm_state.history) == 3


def test_a_mapping_gives_positives_and_the_number_of_rows_gives_negatives(make_bert, text_data, make_args):
    positives = {name: 10 + index for index, name in enumerate("abcde")}
    trainer = PLMTrainer(make_bert(), make_args(), train_dataset=text_data, label_counts=positives)
    assert trainer.plm_state.negatives.tolist() == [54, 53, 52, 51, 50]
    assert trainer.model.config.id2label[4] == "e"


def test_a_new_model_made_by_model_init_is_set_up_too(text_data, make_bert, make_args):
    data = text_data.cast_column("labels", List(ClassLabel(names=list("abcde"))))
    trainer = PLMTrainer(model_init=lambda: make_bert(), args=make_args(), train_dataset=data)
    first = trainer.model
    trainer.train()
    assert trainer.model is not first
    assert trainer.model.config.problem_type == "multi_label_classification"
    assert trainer.model.config.id2label == dict(enumerate("abcde"))


def test_names_in_the_rows_follow_the_models_names_when_counts_are_given(make_bert, text_data, make_args):
    names = dict(enumerate("edcba"))
    model = make_bert(id2label=names, label2id={name: index for index, name in names.items()})
    rows = [[names[index] for index in ids] for ids in text_data["labels"]]
    data = text_data.remove_columns("labels").add_column("labels", rows)
    args = make_args(plm_rule="kl")
    trainer = PLMTrainer(model, args, train_dataset=data, label_counts=LabelCounts([9] * 5, [55] * 5))
    trainer.train()
    assert trainer.plm_state.histograms[0].sum(-1).tolist() == multi_hot(text_data).sum(0).tolist()


def test_one_class_per_row_is_refused_by_a_multi_label_model(make_bert, make_args):
    data = Dataset.from_dict({"input_ids": [[1, 2]] * 4, "labels": [0, 1, 2, 0]})
    with pytest.raises(ValueError, match="is 'multi_label_classification' and the labels have the form 'class_id'"):
        PLMTrainer(make_bert(problem_type="multi_label_classification"), make_args(), train_dataset=data)


def test_a_collator_with_a_declared_form_is_not_changed(make_bert, make_args):
    data = Dataset.from_dict({"input_ids": [[1, 2]] * 4, "labels": [[0, 1], [1, 0], [0, 1], [1, 0]]})
    with pytest.raises(ValueError, match="can be read in 2 ways"):
        PLMTrainer(make_bert(num_labels=2), make_args(), train_dataset=data)
    collator = MultiLabelCollator(2, label_format="multi_hot")
    trainer = PLMTrainer(make_bert(num_labels=2), make_args(), collator, train_dataset=data)
    assert trainer.data_collator is collator
    assert trainer.label_counts.positives.tolist() == [2, 2]


@pytest.mark.parametrize("changes", [{}, {"seed": 7}])
def test_a_training_set_that_is_replaced_is_counted_and_trained_on(changes, make_bert, text_data, make_args):
    trainer = PLMTrainer(make_bert(), make_args(), train_dataset=text_data)
    trainer.train_dataset = text_data.select(range(32))
    for name, value in changes.items():
        setattr(trainer.args, name, value)
    trainer.train()
    assert trainer.state.global_step == 2
    assert trainer.plm_state.positives.tolist() == multi_hot(text_data.select(range(32))).sum(0).tolist()


def test_a_training_set_that_comes_later_is_counted(make_bert, text_data, make_args):
    trainer = PLMTrainer(make_bert(), make_args(), eval_dataset=text_data)
    trainer.train_dataset = text_data
    trainer.train()
    assert not trainer.plm_state.is_estimating
    assert trainer.plm_state.positives.tolist() == multi_hot(text_data).sum(0).tolist()


def test_a_training_set_that_is_replaced_must_have_the_labels(make_bert, text_data, make_args):
    trainer = PLMTrainer(make_bert(), make_args(), train_dataset=text_data)
    trainer.train_dataset = Dataset.from_dict({"input_ids": [[5, 6]] * 32, "labels": [[0], [7]] * 16})
    with pytest.raises(ValueError, match="the class id 7 is not in"):
        trainer.train()
