"""Scores and counts have the values that their names promise."""

import re

import numpy as np
import pytest
from datasets import Dataset
from sklearn.metrics import f1_score, precision_score, recall_score
from transformers import EvalPrediction

from hf_plm import LabelCounts, MultiLabelMetrics, inspect_labels, multilabel_compute_metrics


def scores_of(logits, labels):
    """The scores of `multilabel_compute_metrics`, which must equal those of `MultiLabelMetrics`."""
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    counts = LabelCounts([5] * labels.shape[1], [5] * labels.shape[1])
    scores = multilabel_compute_metrics(counts)(EvalPrediction(logits, labels))
    probabilities = 1 / (1 + np.exp(-logits))
    other = MultiLabelMetrics(counts).compute(scores=probabilities, references=labels)
    assert scores == pytest.approx(other, nan_ok=True)
    return scores


def test_a_label_that_is_never_true_and_always_predicted_lowers_scores():
    scores = scores_of([[3, 3], [3, 3]], [[1, 0], [1, 0]])
    assert scores["micro_f1"] == pytest.approx(2 / 3)
    assert scores["micro_precision"] == 0.5 and scores["micro_recall"] == 1
    assert scores["exact_match"] == 0
    assert scores["macro_f1"] == scores["macro_precision"] == scores["map"] == 1  # of labels that have positives
    assert scores["labels_never_predicted"] == 0


def test_a_label_that_is_never_true_and_never_predicted_lowers_no_score():
    scores = scores_of([[3, -3], [3, -3]], [[1, 0], [1, 0]])
    assert scores["micro_f1"] == scores["exact_match"] == 1
    assert scores["labels_never_predicted"] == 0


def test_unknown_entries_of_a_label_that_is_never_true_lower_no_score():
    scores = scores_of([[3, 3], [3, 3], [3, 3]], [[1, np.nan], [1, 0], [1, -100]])
    assert scores["micro_f1"] == pytest.approx(2 * 3 / (4 + 3))
    assert scores["exact_match"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_micro_scores_and_exact_match_are_scikit_learns(seed):
    generator = np.random.default_rng(seed)
    labels = generator.random((40, 6)) < [0.5, 0.3, 0.1, 0.05, 0, 0]
    logits = generator.normal(size=(40, 6))
    scores, predicted = scores_of(logits, labels), logits >= 0
    assert scores["micro_f1"] == pytest.approx(f1_score(labels, predicted, average="micro"))
    assert scores["micro_precision"] == pytest.approx(precision_score(labels, predicted, average="micro"))
    assert scores["micro_recall"] == pytest.approx(recall_score(labels, predicted, average="micro"))
    assert scores["exact_match"] == pytest.approx((labels == predicted).all(1).mean())
    has_positive = labels.any(0)
    each = f1_score(labels, predicted, average=None, zero_division=0)
    assert scores["macro_f1"] == pytest.approx(each[has_positive].mean())


@pytest.mark.parametrize("positives", [[1000, 10, 10, 1], [300, 200, 3, 2, 1]])
def test_how_much_more_often_the_most_frequent_label_occurs_is_a_ratio_of_means(positives):
    rows = [[label] for label, count in enumerate(positives) for _ in range(count)]
    report = inspect_labels(Dataset.from_dict({"labels": rows}), num_labels=len(positives), label_format="ids")
    (text,) = [text for text in report.warnings() if "imbalanced" in text and "times" in text]
    expected = max(positives) / np.mean(positives)
    said = re.search(r"([\d,.]+) times as often as an average label", text)
    assert float(said[1].replace(",", "")) == pytest.approx(expected, abs=0.06)
    others = re.findall(r"([\d,.]+) times", text.replace(said[0], ""))
    assert [float(other.replace(",", "")) for other in others] in ([], [pytest.approx(report.mean_ir, abs=0.06)])
    assert abs(report.mean_ir - expected) > 1  # else the test would prove nothing
