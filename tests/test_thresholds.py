"""Thresholds equal those of an exhaustive search, and with few positives are closer to the common threshold."""

import itertools
import warnings

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from hf_plm import tune_thresholds
from hf_plm.scores import multilabel_scores


@pytest.fixture
def data():
    """A small problem with ties and unknown labels, small enough to try all thresholds."""
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
    predicted = logits >= thresholds
    return [(labels[rows, c] == 1, predicted[rows, c]) for c, rows in enumerate(known.T)]


def score(data, thresholds, objective):
    pairs = predictions(*data, np.broadcast_to(thresholds, 3))
    if objective == "micro_f1":
        pairs = [tuple(np.concatenate(parts) for parts in zip(*pairs, strict=True))]
    return np.mean([2 * (truth & predicted).sum() / (truth.sum() + predicted.sum()) for truth, predicted in pairs])


def candidates(logits):
    values = np.unique(logits)
    return np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1] + 1]])


@pytest.mark.parametrize("objective", ["macro_f1", "micro_f1"])
def test_no_other_thresholds_have_a_better_f1(objective, data):
    best = max(score(data, tried, objective) for tried in itertools.product(*map(candidates, data[0].T)))
    found = tune_thresholds(*data, objective, shrinkage=0)
    assert score(data, found, objective) == pytest.approx(best)
    common = tune_thresholds(*data, objective, per_label=False)
    assert len(set(common)) == 1
    best_common = max(score(data, tried, objective) for tried in candidates(data[0]))
    assert score(data, common, objective) == pytest.approx(best_common)
    assert best_common < best


@pytest.mark.parametrize("target", [0.5, 0.8, 1.0])
def test_a_requested_precision_is_reached_with_the_highest_recall(target, data):
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
def test_a_requested_recall_is_reached_at_the_highest_threshold(target, data):
    found = tune_thresholds(*data, "recall", target, shrinkage=0)
    for label, (truth, predicted) in enumerate(predictions(*data, found)):
        assert recall_score(truth, predicted) >= target
        others = [predictions(*data, np.full(3, tried))[label] for tried in candidates(data[0][:, label])]
        assert all(recall_score(*pair) < target for pair in others if pair[1].sum() < predicted.sum())


def test_few_positives_pull_a_threshold_towards_the_common_one(data):
    own, common = tune_thresholds(*data, shrinkage=0), tune_thresholds(*data, per_label=False)
    drawn = tune_thresholds(*data, shrinkage=10)
    positives = (data[1] == 1).sum(0)
    share = positives / (positives + 10)
    np.testing.assert_allclose(drawn, share * own + (1 - share) * common)
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
        ({"target": 0.5}, "target is 0.5; leave it out for the objective 'macro_f1'"),
        ({"shrinkage": -1}, "shrinkage is -1; it must be 0 or more"),
        ({"labels": np.zeros((14, 3))}, "no label has a positive, so thresholds cannot be chosen"),
        ({"labels": np.ones((14, 2))}, r"logits have shape \(14, 3\), labels have shape \(14, 2\)"),
        ({"logits": np.full((14, 3), np.inf)}, "logits hold a value that is NaN or infinite: inf in row 0"),
        ({"labels": np.full((14, 3), 0.5)}, r"labels hold a value that is neither 1, 0 nor unknown .*0.5 in row 0"),
        ({"labels": np.eye(14, 3) * 2, "label_names": ["a", "b", "c"]}, r"2.0 in row 0 for .*'a'"),
        ({"label_names": ["a", "b"]}, "label_names has 2 names; the logits have 3 labels"),
    ],
)
def test_errors_say_why_thresholds_cannot_be_tuned(arguments, message, data):
    with pytest.raises(ValueError, match=message):
        tune_thresholds(**{"logits": data[0], "labels": data[1], **arguments})


@pytest.mark.parametrize("per_label", [True, False])
@pytest.mark.parametrize(
    ("objective", "target"), [("macro_f1", None), ("micro_f1", None), ("precision", 1), ("recall", 1)]
)
@pytest.mark.parametrize(
    "logits",
    [
        (70, 68, 45, 44),
        (22, 21, 18, 17.5),
        (-700, -701, -702, -703),
        (4e4, 3e4, -3e4, -4e4),
        (1e300, 1e299, -1e300, -1.5e308),
        (1e17, 1e17, 1e17 - 16, 1e17 - 16),
        (5e-324, 5e-324, 0.0, -5e-324),
        (*np.nextafter(np.float32([20, 20]), np.float32(21)), np.float32(20), np.float32(20)),
        (*np.nextafter([-3.0, -3.0], 0), -3.0, -3.0),
    ],
)
def test_saturated_and_neighbouring_logits_are_distinguished(logits, objective, target, per_label):
    logits, labels = np.array(logits, np.float64)[:, None], np.array([[1], [1], [0], [0]])
    found = tune_thresholds(logits, labels, objective, target, per_label)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    assert (logits >= found).tolist() == (labels == 1).tolist()


def test_any_number_of_neighbouring_logits_are_distinguished():
    for low in (0.1, -0.3, 7.7, 123.4):
        high = np.nextafter(low, np.inf)
        for positives in range(1, 40):
            logits = np.array([high] * positives + [low] * 3)[:, None]
            labels = (logits == high).astype(int)
            assert ((logits >= tune_thresholds(logits, labels)) == labels).all()


@pytest.mark.parametrize("logits", [(1e17, 1e17, 1e17, 1e17), (-1e17,) * 4, (3e38,) * 4])
def test_thresholds_above_and_below_huge_logits_accept_none_or_all(logits):
    logits = np.array(logits)[:, None]
    assert (logits >= tune_thresholds(logits, np.array([[1], [0], [0], [0]]), "recall", 1.0)).all()
    other = np.concatenate([logits, logits - 1e30], 1)
    labels = np.array([[1, 0], [1, 0], [1, 0], [1, 1]])
    found = tune_thresholds(other, labels, shrinkage=0)
    assert (other >= found).all()


@pytest.fixture
def rare():
    """Five labels of 285 to 9 positives in 1,000 rows, with heavy ties."""
    generator = np.random.default_rng(4)
    labels = np.zeros((1000, 5))
    for label, positives in enumerate([285, 120, 60, 20, 9]):
        labels[generator.permutation(1000)[:positives], label] = 1
    logits = np.round(2 * (generator.normal(size=labels.shape) + 1.5 * labels - np.arange(5))) / 2
    assert len(np.unique(logits)) < 30
    return logits, labels


@pytest.mark.parametrize("objective", ["precision", "recall"])
@pytest.mark.parametrize("target", [0.3, 0.5, 0.7, 0.9, 0.95, 1.0])
def test_a_requested_score_is_reached_where_possible_and_a_warning_names_the_other_labels(objective, target, rare):
    logits, labels = rare
    names = ["red", "green", "blue", "round", "square"]
    score = {"precision": precision_score, "recall": recall_score}[objective]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = tune_thresholds(logits, labels, objective, target, label_names=names)
    text = "".join(str(each.message) for each in caught)
    for label, name in enumerate(names):
        every = candidates(logits[:, label])
        best = max(score(labels[:, label], logits[:, label] >= tried, zero_division=0) for tried in every)
        reached = score(labels[:, label], logits[:, label] >= found[label], zero_division=0)
        assert reached >= target or reached == best
        assert (f"'{name}'" in text) == (best < target)
    assert len(caught) == (text != "")
    assert objective == "precision" or not caught  # every recall can be reached


def test_a_requested_recall_is_reached_as_scikit_learn_counts_it():
    logits, labels = np.arange(100, 0, -1.0)[:, None], np.ones((100, 1))
    for target in np.arange(1, 101) / 100:  # 0.07 * 100 is more than 7
        assert (logits >= tune_thresholds(logits, labels, "recall", target)).sum() == round(100 * target)


def test_requested_shrinkage_can_miss_the_target_and_a_warning_names_the_labels(rare):
    with pytest.warns(UserWarning, match=r"do not reach a recall of 0.9 on these data: .*'LABEL_4' \(0\.\d+\)"):
        tune_thresholds(*rare, "recall", 0.9, shrinkage=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(
            tune_thresholds(*rare, "recall", 0.9), tune_thresholds(*rare, "recall", 0.9, shrinkage=0)
        )
    assert (tune_thresholds(*rare) == tune_thresholds(*rare, shrinkage=10)).all()
    assert (tune_thresholds(*rare) != tune_thresholds(*rare, shrinkage=0)).any()


def test_a_warning_names_labels_without_positives_which_reach_no_score(rare):
    logits, labels = rare
    labels[:, 3] = 0
    labels[:, 4] = np.nan
    with pytest.warns(UserWarning, match=r"2 of 5 .*'LABEL_3' \(no positive\), 'LABEL_4' \(no positive\)"):
        found = tune_thresholds(logits, labels, "recall", 0.9)
    assert found[3] == found[4] == tune_thresholds(logits, labels, "recall", 0.9, per_label=False)[0]
    assert np.isfinite(tune_thresholds(logits, labels)).all()


def test_one_threshold_for_all_labels_reaches_the_micro_score(rare):
    logits, labels = rare
    found = tune_thresholds(logits, labels, "recall", 0.9, per_label=False)
    assert recall_score(labels, logits >= found, average="micro") >= 0.9
    with pytest.warns(UserWarning, match=r"1 of 1 thresholds do not reach a precision of 1.0 .*'all labels together'"):
        tune_thresholds(np.zeros((2, 2)), np.eye(2), "precision", 1.0, per_label=False)


def test_a_label_without_negatives_is_predicted_everywhere():
    logits, labels = np.array([[3.0], [-2], [1]]), np.ones((3, 1))
    for objective, target in (("macro_f1", None), ("micro_f1", None), ("precision", 0.9), ("recall", 1)):
        assert (logits >= tune_thresholds(logits, labels, objective, target)).all()


def test_metrics_decide_exactly_at_the_chosen_thresholds(rare):
    logits, labels = (values.astype(np.float32) for values in rare)
    found = tune_thresholds(logits, labels, shrinkage=0)
    scores = multilabel_scores(logits, labels, {}, found)
    assert scores["macro_f1"] == pytest.approx(
        np.mean([f1_score(labels[:, c], logits[:, c] >= found[c]) for c in range(5)])
    )
