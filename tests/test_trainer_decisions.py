"""A trainer keeps the thresholds of its model and uses them for scores, even if its metrics are wrapped."""

import functools

import numpy as np
import pytest
import scenarios
import torch
from torch.utils.data import Dataset
from transformers import BertForSequenceClassification, EvalPrediction, Trainer

from hf_plm import LabelCounts, PLMTrainer, count_labels, multilabel_compute_metrics
from hf_plm.decisions import thresholds_of
from hf_plm.scores import labels_digest, multilabel_scores


@pytest.fixture
def trained(make_bert, make_args):
    data = scenarios.make_rows(64)
    names = dict(enumerate(["red", "green", "blue", "round", "square"]))
    model = make_bert(id2label=names, label2id={name: index for index, name in names.items()})
    compute_metrics = multilabel_compute_metrics(count_labels(data))
    trainer = PLMTrainer(
        model,
        make_args(num_train_epochs=3),
        train_dataset=data,
        eval_dataset=data,
        compute_metrics=compute_metrics,
    )
    trainer.train()
    return trainer


def test_a_trainer_keeps_its_thresholds_and_scores_with_them(trained, make_args, tmp_path):
    before = trained.evaluate()["eval_macro_f1"]
    thresholds = trained.tune_thresholds(shrinkage=0)
    after = trained.evaluate()
    assert after["eval_macro_f1"] > before
    output = trained.predict(trained.eval_dataset)
    expected = multilabel_scores(output.predictions, output.label_ids, {}, thresholds)["macro_f1"]
    assert after["eval_macro_f1"] == pytest.approx(expected)
    assert output.metrics["test_macro_f1"] == pytest.approx(expected)

    trained.save_model(str(tmp_path / "model"))
    again = BertForSequenceClassification.from_pretrained(tmp_path / "model")
    data = trained.eval_dataset
    compute_metrics = multilabel_compute_metrics(count_labels(data))
    other = PLMTrainer(again, make_args(), eval_dataset=data, compute_metrics=compute_metrics)
    assert other.evaluate()["eval_macro_f1"] == pytest.approx(expected)


def test_tuning_thresholds_without_data_is_an_error(trained):
    trained.eval_dataset = {"one": trained.eval_dataset}
    with pytest.raises(ValueError, match="eval_dataset is a dictionary of several sets; pass dataset="):
        trained.tune_thresholds()
    trained.eval_dataset = None
    with pytest.raises(ValueError, match="eval_dataset is None; pass dataset="):
        trained.tune_thresholds()


def test_thresholds_are_those_of_the_trainer_that_chose_them(trained, make_bert, make_args):
    shared = trained.compute_metrics
    other = PLMTrainer(make_bert(), make_args(), eval_dataset=trained.eval_dataset, compute_metrics=shared)
    before = other.evaluate()
    thresholds = trained.tune_thresholds(shrinkage=0)
    assert other.evaluate()["eval_macro_f1"] == before["eval_macro_f1"]
    assert thresholds_of(other.model.config) is None
    np.testing.assert_array_equal(thresholds_of(trained.model.config), thresholds)
    assert trained.model.config.plm["tuned_on"] == labels_digest(trained.eval_dataset["labels"])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda metrics: lambda p: {**metrics(p), "x": 1.0},
        lambda metrics: functools.partial(metrics, compute_result=True),
    ],
    ids=["lambda", "partial"],
)
def test_wrapped_metrics_score_with_the_thresholds_of_the_model(trained, wrap):
    trained.compute_metrics = wrap(trained.compute_metrics)
    trained.tune_thresholds(shrinkage=0)
    output = trained.predict(trained.eval_dataset)
    expected = multilabel_scores(output.predictions, output.label_ids, {}, thresholds_of(trained.model.config))
    assert output.metrics["test_macro_f1"] == pytest.approx(expected["macro_f1"])
    at_half = multilabel_compute_metrics(LabelCounts([1] * 5, [1] * 5))
    assert at_half(EvalPrediction(output.predictions, output.label_ids))["macro_f1"] < expected["macro_f1"]


class Interrupted(Dataset):
    """The fortieth row raises an error, once."""

    def __init__(self, rows):
        self.rows, self.is_broken = rows, True

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        if index == 40 and self.is_broken:
            self.is_broken = False
            raise KeyboardInterrupt
        row = self.rows[index]
        return {"input_ids": torch.tensor(row["input_ids"]), "labels": torch.tensor(row["labels"])}


@pytest.mark.parametrize("cls", [Trainer, PLMTrainer])
def test_nothing_remains_of_an_interrupted_evaluation(cls, make_bert, make_args):
    rows = scenarios.make_rows(64)
    metrics = multilabel_compute_metrics(count_labels(rows))
    arguments = {"batch_eval_metrics": True, "per_device_eval_batch_size": 8}
    model = make_bert(problem_type="multi_label_classification")
    expected = cls(model, make_args(**arguments), eval_dataset=rows, compute_metrics=metrics).evaluate()
    trainer = cls(model, make_args(**arguments), eval_dataset=Interrupted(rows), compute_metrics=metrics)
    with pytest.raises(KeyboardInterrupt):
        trainer.evaluate()
    if cls is Trainer:
        metrics.reset()
    found = trainer.evaluate()
    assert {name for name in expected if "f1" in name} <= found.keys()
    assert all(found[name] == expected[name] for name in expected if "f1" in name or "map" in name)
