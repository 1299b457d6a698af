"""Thresholds are those of a search through all of them, and are drawn towards the common one where data are few."""

import itertools

import numpy as np
import pytest
import scenarios
import torch
from scipy.special import expit, logit
from sklearn.metrics import precision_score, recall_score
from transformers import BertForSequenceClassification

from hf_plm import PLMTrainer, count_labels, multilabel_compute_metrics, predict, tune_thresholds
from hf_plm.metrics import multilabel_scores


@pytest.fixture
def data():
    """A small problem, with ties and unknown labels: all thresholds can be tried."""
    generator = np.random.default_rng(0)
    labels = (generator.random((14, 3)) < [0.5, 0.3, 0.2]).astype(float)
    labels[0] = 1
    logits = np.round(generator.normal(size=(14, 3)) + 1.5 * labels - [0, 1, 2], 1)
    labels[3, 0] = np.nan
    labels[5, 1] = -100
    return logits, labels


def predictions(logits, labels, thresholds):
    """Truth and predictions where labels are known, as lists over the labels."""
    known = (labels == 1) | (labels == 0)
    predicted = expit(logits) >= thresholds
    return [(labels[rows, c] == 1, predicted[rows, c]) for c, rows in enumerate(known.T)]


def score(data, thresholds, objective):
    pairs = predictions(*data, np.broadcast_to(thresholds, 3))
    if objective == "micro_f1":
        pairs = [tuple(np.concatenate(parts) for parts in zip(*pairs, strict=True))]
    return np.mean([2 * (truth & predicted).sum() / (truth.sum() + predicted.sum()) for truth, predicted in pairs])


def candidates(logits):
    values = np.unique(logits)
    return expit(np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1] + 1]]))


@pytest.mark.parametrize("objective", ["macro_f1", "micro_f1"])
def test_no_thresholds_are_better_for_f1(objective, data):
    best = max(score(data, tried, objective) for tried in itertools.product(*map(candidates, data[0].T)))
    found = tune_thresholds(*data, objective, shrinkage=0)
    assert score(data, found, objective) == pytest.approx(best)
    common = tune_thresholds(*data, objective, per_label=False)
    assert len(set(common)) == 1
    best_common = max(score(data, tried, objective) for tried in candidates(data[0]))
    assert score(data, common, objective) == pytest.approx(best_common)
    assert best_common < best


@pytest.mark.parametrize("target", [0.5, 0.8, 1.0])
def test_a_wanted_precision_is_reached_with_the_highest_recall(target, data):
    found = tune_thresholds(*data, "precision", target, shrinkage=0)
    for label, (truth, predicted) in enumerate(predictions(*data, found)):
        precision, recall = precision_score(truth, predicted), recall_score(truth, predicted)
        others = [predictions(*data, np.full(3, tried))[label] for tried in candidates(data[0][:, label])]
        reached = [recall_score(*pair) for pair in others if precision_score(*pair, zero_division=0) >= target]
        if reached:
            assert precision >= target
            assert recall == max(reached)
        else:
            assert precision == max(precision_score(*pair, zero_division=0) for pair in others)


@pytest.mark.parametrize("target", [0.5, 0.8, 1.0])
def test_a_wanted_recall_is_reached_at_the_highest_threshold(target, data):
    found = tune_thresholds(*data, "recall", target, shrinkage=0)
    for label, (truth, predicted) in enumerate(predictions(*data, found)):
        assert recall_score(truth, predicted) >= target
        others = [predictions(*data, np.full(3, tried))[label] for tried in candidates(data[0][:, label])]
        assert all(recall_score(*pair) < target for pair in others if pair[1].sum() < predicted.sum())


def test_few_positives_draw_a_threshold_towards_the_common_one(data):
    own, common = tune_thresholds(*data, shrinkage=0), tune_thresholds(*data, per_label=False)
    drawn = tune_thresholds(*data, shrinkage=10)
    positives = (data[1] == 1).sum(0)
    share = positives / (positives + 10)
    np.testing.assert_allclose(logit(drawn), share * logit(own) + (1 - share) * logit(common))
    assert (np.abs(own - common) > 1e-3).any()


def test_a_label_without_positives_has_the_common_threshold(data):
    logits, labels = data
    labels[:, 2] = np.where(labels[:, 2] == 1, 0, labels[:, 2])
    found = tune_thresholds(logits, labels, shrinkage=0)
    assert found[2] == tune_thresholds(logits, labels, per_label=False)[0]
    labels[:, 2] = np.nan
    assert np.isfinite(tune_thresholds(logits, labels)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objective": "f2"}, "objective is 'f2'; it must be one of"),
        ({"objective": "precision"}, r"target is None; for the objective 'precision' it must be a number in \(0, 1\]"),
        ({"objective": "recall", "target": 1.5}, "target is 1.5; for the objective 'recall'"),
        ({"target": 0.5}, "target is 0.5; the objective 'macro_f1' has none"),
        ({"shrinkage": -1}, "shrinkage is -1; it must be 0 or more"),
        ({"labels": np.zeros((14, 3))}, "no label has a positive; thresholds cannot be chosen"),
        ({"labels": np.ones((14, 2))}, r"logits have shape \(14, 3\), labels \(14, 2\)"),
        ({"logits": np.full((14, 3), np.inf)}, "logits hold a value that is NaN or infinite"),
    ],
)
def test_what_cannot_be_tuned_is_named(arguments, message, data):
    with pytest.raises(ValueError, match=message):
        tune_thresholds(**{"logits": data[0], "labels": data[1], **arguments})


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
    expected = multilabel_scores(expit(output.predictions), output.label_ids, {}, thresholds)["macro_f1"]
    assert after["eval_macro_f1"] == pytest.approx(expected)
    assert output.metrics["test_macro_f1"] == pytest.approx(expected)

    trained.save_model(str(tmp_path / "model"))
    again = BertForSequenceClassification.from_pretrained(tmp_path / "model")
    data = trained.eval_dataset
    compute_metrics = multilabel_compute_metrics(count_labels(data))
    other = PLMTrainer(again, make_args(), eval_dataset=data, compute_metrics=compute_metrics)
    assert other.evaluate()["eval_macro_f1"] == pytest.approx(expected)


def test_a_trainer_without_data_to_choose_on_says_so(trained):
    trained.eval_dataset = {"one": trained.eval_dataset}
    with pytest.raises(ValueError, match="eval_dataset is a dictionary of several sets; pass dataset="):
        trained.tune_thresholds()
    trained.eval_dataset = None
    with pytest.raises(ValueError, match="eval_dataset is None; pass dataset="):
        trained.tune_thresholds()


def test_predict_gives_the_names_above_the_thresholds(trained):
    model, inputs = trained.model, {"input_ids": torch.tensor(trained.eval_dataset["input_ids"][:8])}
    model.train()
    names = predict(model, inputs)
    probabilities = torch.sigmoid(model(**inputs).logits)
    assert not model.training
    assert names == [[model.config.id2label[c] for c in range(5) if row[c] >= 0.5] for row in probabilities]
    model.config.plm_thresholds = [0.0, 1.0, 0.5, 0.5, 0.5]
    assert all("red" in row and "green" not in row for row in predict(model, inputs))
    model.config.problem_type = "single_label_classification"
    assert predict(model, inputs) == [[model.config.id2label[row.argmax().item()]] for row in probabilities]
