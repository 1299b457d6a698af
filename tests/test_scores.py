"""All ways to compute scores agree with scikit-learn, and unknown labels count in none."""

import math
import socket
import time

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, precision_score, recall_score
from transformers import EvalPrediction

from hf_plm import LabelCounts, MultiLabelMetrics, multilabel_compute_metrics
from hf_plm.metrics import evaluating
from hf_plm.scores import multilabel_scores

KEYS = {
    *("map", "micro_f1", "macro_f1", "exact_match", "labels_never_predicted"),
    *("micro_precision", "micro_recall", "macro_precision", "macro_recall"),
    *(f"{group}_{score}" for group in ("head", "medium", "tail") for score in ("precision", "recall", "f1", "map")),
}
COUNTS = LabelCounts(range(20, 0, -1), range(80, 100))


def random_data():
    """Logits and references of 200 rows and 20 labels; one label has no positive."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(200, 20)).astype(np.float32)
    references = (generator.random((200, 20)) < 0.2).astype(np.float32)
    references[:, 7] = 0  # a label without a positive
    return logits, references


@pytest.fixture
def data():
    return random_data()


def expected_scores(logits, references, threshold=0.5):
    kept = [label for label in range(20) if label != 7]
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    every_truth, every_prediction = references, probabilities >= threshold
    scores, truth, predicted = probabilities[:, kept], references[:, kept], every_prediction[:, kept]
    per_label = {
        "precision": precision_score(truth, predicted, average=None, zero_division=0),
        "recall": recall_score(truth, predicted, average=None, zero_division=0),
        "f1": f1_score(truth, predicted, average=None, zero_division=0),
        "map": average_precision_score(truth, scores, average=None),
    }
    groups = {"head": [0, 1], "medium": range(2, 9), "tail": range(9, 19)}  # of the remaining 19 labels
    return {
        "map": average_precision_score(truth, scores, average="macro"),
        "micro_f1": f1_score(every_truth, every_prediction, average="micro"),
        "macro_f1": f1_score(truth, predicted, average="macro", zero_division=0),
        "exact_match": accuracy_score(every_truth, every_prediction),
        "micro_precision": precision_score(every_truth, every_prediction, average="micro"),
        "micro_recall": recall_score(every_truth, every_prediction, average="micro"),
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
def test_unknown_labels_count_in_no_score(data, unknown):
    logits, references = data
    references[150:, 3] = unknown
    scores = multilabel_compute_metrics(COUNTS, groups={"third": np.arange(20) == 3})(EvalPrediction(*data))
    probabilities, truth = 1 / (1 + np.exp(-logits[:150, 3])), references[:150, 3]
    assert scores["third_precision"] == pytest.approx(precision_score(truth, probabilities >= 0.5))
    assert scores["third_recall"] == pytest.approx(recall_score(truth, probabilities >= 0.5))
    assert scores["third_map"] == pytest.approx(average_precision_score(truth, probabilities))
    logits[150:, 3] = -logits[150:, 3]  # predictions for them must not matter
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
def test_one_scored_label_is_not_read_as_a_binary_task_and_an_empty_group_is_nan(others):
    logits = np.array([[2], [-2], [2], [-1]], np.float32)
    references = np.array([[1], [0], [0], [1]], np.float32)
    pad = ((0, 0), (0, others))  # labels without a positive
    scores = multilabel_compute_metrics(LabelCounts([3] + [1] * others, [3] * (1 + others)))(
        EvalPrediction(np.pad(logits, pad, constant_values=-3), np.pad(references, pad))
    )
    assert scores["head_precision"] == scores["micro_precision"] == scores["macro_recall"] == 0.5
    assert scores["micro_f1"] == 0.5
    assert np.isnan(scores["medium_f1"])


@pytest.mark.parametrize(
    ("scores", "references", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 3)), r"scores have shape \(3, 2\), references \(3, 3\)"),
        (
            np.zeros((3, 2)),
            np.full((3, 2), 0.5),
            r"neither 1, 0 nor unknown \(NaN or -100\): 0.5 in row 0 for .*LABEL_0",
        ),
        (
            np.zeros((3, 2)),
            [[0, 1], [1, 1], [1, -1]],
            r"references hold a value that is neither.*-1.0 in row 2.*LABEL_1",
        ),
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


def test_every_label_may_have_its_own_threshold(data):
    logits, references = data
    thresholds = np.linspace(0.2, 0.8, 20)
    moved = logits - np.log(thresholds / (1 - thresholds)).astype(np.float32)  # so that each threshold becomes 0.5
    with_thresholds = multilabel_compute_metrics(COUNTS, thresholds)(EvalPrediction(logits, references))
    at_half = multilabel_compute_metrics(COUNTS)(EvalPrediction(moved, references))
    assert with_thresholds == pytest.approx(at_half)
    assert with_thresholds != pytest.approx(multilabel_compute_metrics(COUNTS)(EvalPrediction(logits, references)))


def test_micro_scores_and_exact_match_count_labels_without_a_positive():
    references, logits = np.array([[1, 0], [1, 0]]), np.full((2, 2), 3.0)
    scores = multilabel_compute_metrics(LabelCounts([2, 1], [1, 2]))(EvalPrediction(logits, references))
    assert scores["micro_f1"] == pytest.approx(2 / 3)
    assert scores["micro_precision"] == 0.5
    assert scores["micro_recall"] == 1
    assert scores["exact_match"] == 0
    assert scores["macro_f1"] == scores["map"] == 1
    assert scores["labels_never_predicted"] == 0


@pytest.mark.parametrize(
    ("references", "exact"), [(np.zeros((3, 2)), 1 / 3), ([[0, np.nan], [np.nan, np.nan], [0, 0]], 1 / 2)]
)
def test_scores_that_need_a_positive_are_nan_without_one_and_give_one_warning(references, exact, caplog):
    compute_metrics = multilabel_compute_metrics(LabelCounts([2, 1], [1, 2]))
    logits = np.array([[-1.0, -1], [9, 9], [-1, 1]])
    scores = compute_metrics(EvalPrediction(logits, np.array(references)))
    assert set(scores) == KEYS
    defined = {name: value for name, value in scores.items() if not math.isnan(value)}
    assert defined == {
        "exact_match": pytest.approx(exact),
        "micro_f1": 0,
        "micro_precision": 0,
    }  # every prediction is wrong
    assert caplog.messages == ["No label has a positive in the references: scores that need one are NaN"]


def test_without_positives_and_predictions_micro_f1_is_nan_too():
    scores = multilabel_scores(np.zeros((2, 2)), np.zeros((2, 2)), {})
    assert math.isnan(scores["micro_f1"]) and math.isnan(scores["micro_precision"])
    assert scores["exact_match"] == 1


def test_without_a_known_label_or_a_row_everything_is_nan():
    for references in (np.full((3, 2), -100), np.zeros((0, 2))):
        scores = multilabel_scores(np.ones(references.shape), references, {})
        assert all(math.isnan(value) for value in scores.values())


def test_a_logit_that_is_nan_makes_the_scores_of_its_label_nan(data, caplog):
    logits, references = data
    expected = multilabel_compute_metrics(COUNTS)(EvalPrediction(*data))
    logits[3, 1] = np.nan
    references[5, 4] = -100
    logits[5, 4] = np.nan  # an unknown label: NaN does not matter
    compute_metrics = multilabel_compute_metrics(COUNTS)
    scores = compute_metrics(EvalPrediction(logits, references))
    broken = {name for name, value in scores.items() if math.isnan(value)}
    assert broken == {name for name in KEYS if not name.startswith(("medium", "tail"))}
    assert np.flatnonzero(np.isnan(compute_metrics.label_scores.f1)).tolist() == [1, 7]
    assert scores["tail_f1"] == expected["tail_f1"]
    assert len(caplog.messages) == 1
    assert "The model's output is NaN for 1 of 20 labels: ['LABEL_1']" in caplog.text


def test_nan_in_a_label_without_positives_affects_only_micro_scores(data):
    logits, references = data
    logits[:, 7] = np.nan
    scores = multilabel_compute_metrics(COUNTS)(EvalPrediction(logits, references))
    broken = {name for name, value in scores.items() if math.isnan(value)}
    assert broken == {"micro_f1", "micro_precision", "micro_recall", "exact_match"}


def test_infinite_logits_are_ranked_and_decided():
    logits = np.array([[np.inf], [-np.inf], [3.4e38], [-3.4e38]], np.float32)
    references = np.array([[1], [0], [0], [1]])
    scores = multilabel_compute_metrics(LabelCounts([2], [2]))(EvalPrediction(logits, references))
    assert scores["map"] == pytest.approx(average_precision_score([1, 0, 0, 1], [4, 1, 3, 2]))
    assert scores["micro_precision"] == scores["micro_recall"] == 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_neighbouring_logits_are_distinguished_in_every_dtype(dtype):
    low = torch.tensor(20.0, dtype=dtype)
    high = torch.nextafter(low, torch.tensor(torch.inf, dtype=dtype))
    logits, references = torch.stack([high, low])[:, None], torch.tensor([[1], [0]])
    metrics = multilabel_compute_metrics(LabelCounts([1], [1]))
    with evaluating(LabelCounts([1], [1]), [high.double().item()]):
        scores = metrics(EvalPrediction(logits, references))
    assert scores["micro_f1"] == scores["map"] == 1


@pytest.mark.parametrize("threshold", [-0.1, 1.5, [0.5, 0.5, 2] + [0.5] * 17, [0.5] * 3, np.nan])
def test_a_threshold_that_is_not_a_probability_is_an_error(threshold):
    with pytest.raises(ValueError, match="threshold (is|has shape)"):
        multilabel_compute_metrics(COUNTS, threshold)


def test_the_metric_accepts_a_score_equal_to_its_threshold():
    metric = MultiLabelMetrics(LabelCounts([1], [1]), threshold=0.9)
    assert metric.compute(scores=[[0.9], [0.8]], references=[[1], [0]])["micro_f1"] == 1


def test_many_rows_and_labels_are_scored_in_seconds(data):
    generator = np.random.default_rng(0)
    labels = generator.random((10_000, 500)) < 0.02
    logits = generator.normal(size=labels.shape).astype(np.float32) + labels
    counts = LabelCounts(labels.sum(0), (~labels).sum(0))
    start = time.perf_counter()
    scores = multilabel_compute_metrics(counts)(EvalPrediction(logits, labels.astype(np.float32)))
    assert time.perf_counter() - start < 30  # 2 seconds without other load
    assert 0 < scores["map"] < 1
