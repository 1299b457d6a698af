"""A trainer's table of labels: frequency, scores and threshold of each."""

import numpy as np
import pandas as pd
import pytest
import scenarios
import torch
from datasets import Dataset
from text_models import NAMES, named_bert

from hf_plm import LabelCounts, PLMTrainer, count_labels, multilabel_compute_metrics
from hf_plm.label_report import label_table
from hf_plm.scores import label_scores

COLUMNS = ["group", "train_pos", "eval_pos", "precision", "recall", "f1", "ap", "threshold"]


@pytest.fixture
def data():
    """64 rows for training and 32 for evaluation, where label 4 (`square`) has no positive."""
    train, other = scenarios.make_rows(64), scenarios.make_rows(96).select(range(64, 96))
    labels = np.array(other["labels"])
    labels[:, 4] = 0
    return train, Dataset.from_dict({"input_ids": other["input_ids"], "labels": labels.tolist()})


@pytest.fixture
def make_trainer(data, make_args):
    def make(metrics=multilabel_compute_metrics, model=None, **kwargs):
        train, evaluation = data
        trainer = PLMTrainer(
            model or named_bert(),
            make_args(**kwargs),
            train_dataset=train,
            eval_dataset=evaluation,
            compute_metrics=metrics and metrics(count_labels(train)),
        )
        trainer.train()
        return trainer

    return make


def assert_is_of(report, trainer, rows, thresholds):
    """The table has the scores that scikit-learn computes from the trainer's logits."""
    output = trainer.predict(rows)
    scores = label_scores(output.predictions, output.label_ids, thresholds)
    assert list(report.columns) == COLUMNS and report.index.name == "label"
    by_id = report.loc[NAMES]
    for column, expected in {
        "train_pos": trainer.label_counts.positives.numpy(),
        "eval_pos": scores.positives,
        "precision": scores.precision,
        "recall": scores.recall,
        "f1": scores.f1,
        "ap": scores.average_precision,
        "threshold": np.broadcast_to(thresholds, 5),
    }.items():
        np.testing.assert_allclose(by_id[column], expected, rtol=1e-12, err_msg=column)


def test_the_last_evaluation_is_reported_with_its_thresholds(make_trainer, data):
    trainer = make_trainer()
    trainer.evaluate()
    assert_is_of(trainer.label_report(), trainer, data[1], 0)
    thresholds = trainer.tune_thresholds(data[1], shrinkage=0)
    assert (trainer.label_report().threshold == 0).all()  # the threshold of the evaluation
    trainer.evaluate()
    assert_is_of(trainer.label_report(), trainer, data[1], thresholds)


@pytest.mark.parametrize("metrics", [multilabel_compute_metrics, None])
def test_a_data_set_is_reported_with_metrics_and_without(metrics, make_trainer, data):
    trainer = make_trainer(metrics)
    assert_is_of(trainer.label_report(data[0]), trainer, data[0], 0)
    thresholds = trainer.tune_thresholds(data[1], shrinkage=0)
    assert_is_of(trainer.label_report(data[0]), trainer, data[0], thresholds)


def test_reporting_a_data_set_does_not_replace_the_last_evaluation(make_trainer, data):
    trainer = make_trainer()
    trainer.evaluate()
    before = trainer.label_report()
    trainer.label_report(data[0])
    pd.testing.assert_frame_equal(trainer.label_report(), before)


def test_the_thresholds_of_the_metrics_are_shown_if_the_model_has_none(make_trainer, data):
    trainer = make_trainer(lambda counts: multilabel_compute_metrics(counts, threshold=0.3))
    assert_is_of(trainer.label_report(data[1]), trainer, data[1], np.log(0.3 / 0.7))


def test_labels_go_from_frequent_to_rare_in_their_groups(make_trainer):
    trainer = make_trainer()
    trainer.evaluate()
    report = trainer.label_report()
    assert report.train_pos.is_monotonic_decreasing and report.train_pos.nunique() > 1
    assert list(report.group) == ["head", "medium", "medium", "tail", "tail"]


def test_the_groups_are_those_of_the_metrics(make_trainer):
    groups = {"colours": torch.tensor([1, 1, 1, 0, 0]), "first": torch.tensor([1, 0, 0, 0, 0])}
    trainer = make_trainer(lambda counts: multilabel_compute_metrics(counts, groups=groups))
    trainer.evaluate()
    assert list(trainer.label_report().loc[NAMES, "group"]) == ["colours, first", "colours", "colours", "", ""]


def test_a_label_without_positives_has_no_scores(make_trainer):
    trainer = make_trainer()
    trainer.evaluate()
    row = trainer.label_report().loc["square"]
    assert row.eval_pos == 0 and row.train_pos > 0
    assert row[["precision", "recall", "f1", "ap"]].isna().all()


def test_without_training_data_their_positives_are_unknown():
    scores = label_scores(np.zeros((2, 3)), np.eye(3)[:2])
    report = label_table(LabelCounts([0, 0, 0], [0, 0, 0]), scores)
    assert report.train_pos.isna().all() and list(report.group) == ["", "", ""]
    assert list(report.index) == ["LABEL_0", "LABEL_1", "LABEL_2"]


def test_errors_say_what_is_missing_for_a_report(make_trainer, data, make_args):
    trainer = make_trainer()
    with pytest.raises(ValueError, match=r"not been evaluated since .*; call trainer.evaluate\(\) first"):
        trainer.label_report()
    trainer.evaluate()
    trainer.train()
    with pytest.raises(ValueError, match=r"or label_report\(dataset\)"):
        trainer.label_report()
    plain = make_trainer(None)
    plain.evaluate()
    with pytest.raises(ValueError, match=r"no scores for each label; .*multilabel_compute_metrics\(train_set\), or"):
        plain.label_report()
    with pytest.raises(ValueError, match="scores of labels need logits and labels .* data with labels"):
        plain.label_report(data[1].remove_columns("labels"))
    classes = Dataset.from_dict({"input_ids": data[0]["input_ids"], "labels": [row % 5 for row in range(64)]})
    single = PLMTrainer(scenarios.make_bert(), make_args(), train_dataset=classes)
    with pytest.raises(ValueError, match="one class per row; use sklearn.metrics.classification_report"):
        single.label_report()


def test_every_column_is_printed_with_four_decimals(make_trainer):
    """The table prints well with long names, and for a selection of rows. Its values are not rounded."""
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 2, (97, 90)), rng.normal(size=(97, 90))
    names = [f"a long name of a label, number {index}" for index in range(90)]
    table = label_table(LabelCounts(range(1, 91), [1000] * 90, names), label_scores(logits, labels, 0))
    for each in (table, table[table.group == "head"].sort_values("recall")):
        for printed in (str(each), each._repr_html_()):
            assert all(column in printed for column in COLUMNS)
            recall = each.recall.iloc[0]
            assert f"{recall:.4f}" in printed and f"{recall:.6f}" not in printed
        lines = str(each).splitlines()
        assert lines[0].split() == COLUMNS and "\\" not in lines[0]
    assert table.recall.iloc[0] == label_scores(logits, labels, 0).recall[89]
