"""The scores are scikit-learn's, whichever way they are asked for, and unknown labels count nowhere."""

import socket

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score
from transformers import EvalPrediction

from hf_plm import LabelCounts, MultiLabelMetrics, multilabel_compute_metrics

KEYS = {
    *("map", "micro_f1", "macro_f1", "exact_match", "labels_never_predicted"),
    *("micro_precision", "micro_recall", "macro_precision", "macro_recall"),
    *(f"{group}_{score}" for group in ("head", "medium", "tail") for score in ("precision", "recall", "f1", "map")),
}
COUNTS = LabelCounts(range(20, 0, -1), range(80, 100))


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(200, 20)).astype(np.float32)
    references = (generator.random((200, 20)) < 0.2).astype(np.float32)
    references[:, 7] = 0  # a label without a positive
    return logits, references


def expected_scores(logits, references, threshold=0.5):
    kept = [label for label in range(20) if label != 7]
    scores = 1 / (1 + np.exp(-logits.astype(np.float64)))[:, kept]
    truth, predicted = references[:, kept], scores >= threshold
    per_label = {
        "precision": precision_score(truth, predicted, average=None, zero_division=0),
        "recall": recall_score(truth, predicted, average=None, zero_division=0),
        "f1": f1_score(truth, predicted, average=None, zero_division=0),
        "map": average_precision_score(truth, scores, average=None),
    }
    groups = {"head": [0, 1], "medium": range(2, 9), "tail": range(9, 19)}  # of the 19 labels left
    return {
        "map": average_precision_score(truth, scores, average="macro"),
        "micro_f1": f1_score(truth, predicted, average="micro"),
        "macro_f1": f1_score(truth, predicted, average="macro", zero_division=0),
        "exact_match": (predicted == truth).all(1).mean(),
        "micro_precision": precision_score(truth, predicted, average="micro"),
        "micro_recall": recall_score(truth, predicted, average="micro"),
        "macro_precision": per_label["precision"].mean(),
        "macro_recall": per_label["recall"].mean(),
        "labels_never_predicted": (predicted.sum(0) == 0).sum(),
        **{
            f"{group}_{name}": values[list(members)].mean()
            for group, members in groups.items()
            for name, values in per_label.items()
        },
    }


@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_scores_equal_scikit_learns(data, threshold):
    compute_metrics = multilabel_compute_metrics(COUNTS, threshold=threshold)
    scores = compute_metrics(EvalPrediction(*data))
    assert set(scores) == KEYS
    assert scores == pytest.approx(expected_scores(*data, threshold))
    assert all(isinstance(value, int | float) for value in scores.values())


def test_the_metric_gives_the_same_without_a_network(data, monkeypatch):
    def no_network(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    logits, references = data
    metric = MultiLabelMetrics(COUNTS)
    scores = 1 / (1 + np.exp(-logits))
    for part in (slice(0, 150), slice(150, 200)):
        metric.add_batch(scores=scores[part], references=references[part])
    assert metric.compute() == pytest.approx(expected_scores(*data))
    assert metric.compute(scores=scores, references=references) == pytest.approx(expected_scores(*data))


@pytest.mark.parametrize("unknown", [np.nan, -100])
def test_unknown_labels_count_nowhere(data, unknown):
    logits, references = data
    references[150:, 3] = unknown
    scores = multilabel_compute_metrics(COUNTS, groups={"third": np.arange(20) == 3})(EvalPrediction(*data))
    probabilities, truth = 1 / (1 + np.exp(-logits[:150, 3])), references[:150, 3]
    assert scores["third_precision"] == pytest.approx(precision_score(truth, probabilities >= 0.5))
    assert scores["third_recall"] == pytest.approx(recall_score(truth, probabilities >= 0.5))
    assert scores["third_map"] == pytest.approx(average_precision_score(truth, probabilities))
    logits[150:, 3] = -logits[150:, 3]  # whatever is predicted there
    assert multilabel_compute_metrics(COUNTS, groups={"third": np.arange(20) == 3})(EvalPrediction(*data)) == scores


def test_exact_match_asks_for_the_known_labels_only():
    references = np.array([[1, 0], [1, np.nan], [0, 1], [np.nan, np.nan]], np.float32)
    logits = np.array([[2, -2], [2, 2], [2, 2], [2, 2]], np.float32)
    compute_metrics = multilabel_compute_metrics(LabelCounts([2, 1], [1, 1]))
    assert compute_metrics(EvalPrediction(logits, references))["exact_match"] == pytest.approx(2 / 3)


def test_labels_never_predicted_are_counted():
    references = np.eye(4, dtype=np.float32)
    logits = np.full((4, 4), -3, np.float32)
    logits[0, 0] = 3
    compute_metrics = multilabel_compute_metrics(LabelCounts([1] * 4, [3] * 4))
    assert compute_metrics(EvalPrediction(logits, references))["labels_never_predicted"] == 3


def test_logits_may_come_first_in_a_tuple(data):
    logits, references = data
    compute_metrics = multilabel_compute_metrics(COUNTS)
    assert compute_metrics(EvalPrediction((logits, logits[:, :1]), references)) == compute_metrics(
        EvalPrediction(logits, references)
    )


@pytest.mark.parametrize("others", [0, 1])
def test_a_single_label_to_score_is_no_binary_task_and_an_empty_group_is_nan(others):
    logits = np.array([[2], [-2], [2], [-1]], np.float32)
    references = np.array([[1], [0], [0], [1]], np.float32)
    pad = ((0, 0), (0, others))  # labels without a positive
    scores = multilabel_compute_metrics(LabelCounts([3] + [1] * others, [3] * (1 + others)))(
        EvalPrediction(np.pad(logits, pad), np.pad(references, pad))
    )
    assert scores["head_precision"] == scores["micro_precision"] == scores["macro_recall"] == 0.5
    assert scores["micro_f1"] == 0.5
    assert np.isnan(scores["medium_f1"])


@pytest.mark.parametrize(
    ("scores", "references", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 3)), r"scores have shape \(3, 2\), references \(3, 3\)"),
        (np.zeros((3, 2)), np.zeros((3, 2)), "no label has a positive in the references"),
        (np.zeros((3, 2)), np.full((3, 2), 0.5), "references hold a value that is neither"),
    ],
)
def test_bad_input_is_named(scores, references, message):
    with pytest.raises(ValueError, match=message):
        MultiLabelMetrics(LabelCounts([1, 1], [2, 2])).compute(scores=scores, references=references)


def test_scores_of_each_label_equal_scikit_learns_and_are_kept(data):
    logits, references = data
    compute_metrics = multilabel_compute_metrics(COUNTS)
    assert compute_metrics.label_scores is None
    scores = compute_metrics(EvalPrediction(*data))
    each = compute_metrics.label_scores
    predicted = logits >= 0
    for label in range(20):
        truth, guess = references[:, label], predicted[:, label]
        if label == 7:
            assert np.isnan([each.precision[7], each.recall[7], each.f1[7], each.average_precision[7]]).all()
        else:
            assert each.precision[label] == pytest.approx(precision_score(truth, guess, zero_division=0))
            assert each.recall[label] == pytest.approx(recall_score(truth, guess))
            assert each.f1[label] == pytest.approx(f1_score(truth, guess))
            assert each.average_precision[label] == pytest.approx(average_precision_score(truth, logits[:, label]))
        assert each.positives[label] == truth.sum()
        assert each.predicted[label] == guess.sum()
    assert scores["macro_f1"] == pytest.approx(np.nanmean(each.f1))


def test_every_label_may_have_a_threshold_of_its_own(data):
    logits, references = data
    thresholds = np.linspace(0.2, 0.8, 20)
    moved = logits - np.log(thresholds / (1 - thresholds)).astype(np.float32)  # so that each is cut at 0.5
    with_thresholds = multilabel_compute_metrics(COUNTS, thresholds)(EvalPrediction(logits, references))
    at_half = multilabel_compute_metrics(COUNTS)(EvalPrediction(moved, references))
    assert with_thresholds == pytest.approx(at_half)
    assert with_thresholds != pytest.approx(multilabel_compute_metrics(COUNTS)(EvalPrediction(logits, references)))
