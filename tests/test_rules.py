"""The rules equal the slow reference, and numbers computed by hand."""

import math

import pytest
import reference
import torch
from sklearn.metrics import roc_auc_score
from test_functional import close, random_case

from hf_plm import functional, rules
from hf_plm.presets import RULES


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rule", RULES)
def test_many_updates_equal_the_slow_reference(seed, rule):
    positives, negatives, _, _ = random_case(seed)
    ratio = functional.label_ratio(positives, negatives)
    valid = functional.has_ratio(positives, negatives)
    ideal = functional.initial_ideal_ratio(ratio, valid, "tempered", 0.5, 10.0)
    initial, expected = ideal, ideal.tolist()
    for step in range(10):
        _, _, logits, labels = random_case(100 * seed + step, rows=15)
        logits += seed * (labels == 1)  # with seed 0 the model has learnt nothing
        histograms = functional.probability_histograms(logits, labels, 10)
        ideal = rules.update_ideal_ratio(ideal, initial, ratio, valid, histograms, rule, 0.8, 10.0, step)
        expected = reference.update_ideal_ratio(
            expected,
            initial.tolist(),
            reference.label_ratio(positives.tolist(), negatives.tolist()),
            reference.has_ratio(positives.tolist(), negatives.tolist()),
            histograms.tolist(),
            rule,
            0.8,
            10.0,
            step,
        )
        close(ideal, expected, 1e-4)


def test_rule_kl_by_hand():
    # Two classes, two bins. Positives of class 0 are all wrong, of class 1 all right; the same for the negatives.
    # D_pos = (-log eps, 0): z-scores (1, -1). D_neg = (0, -log eps): z-scores (-1, 1). exp(0.1 * 2) and its inverse.
    histograms = torch.tensor([[[4, 0], [0, 4]], [[6, 0], [0, 6]]])
    ratio = torch.tensor([0.5, 0.5])
    everywhere = torch.tensor([True, True])
    updated = rules.update_ideal_ratio(ratio, ratio, ratio, everywhere, histograms, "kl", 0.1, 100.0, 7)
    close(updated, [0.5 * math.exp(0.2), 0.5 * math.exp(-0.2)])


def test_divergence_by_hand():
    # Half of the positives in the right bin, half outside: 0.5 log 0.5 + 0.5 log(0.5 / 1e-7).
    histograms = torch.tensor([[[5, 5]], [[5, 5]]])
    expected = 0.5 * math.log(0.5) + 0.5 * math.log(0.5 / 1e-7)
    positive, negative = rules.label_divergences(histograms)
    close(positive, [expected])
    close(negative, [expected])


def test_separation_by_hand():
    # Classes: all right, all wrong, by chance, in one bin, no positive, no negative. Last: of four pairs, three are in
    # order and one is in the same bin: AUC is 3.5 / 4.
    positives = torch.tensor([[0, 0, 3], [3, 0, 0], [1, 0, 1], [0, 3, 0], [0, 0, 0], [1, 0, 1], [0, 1, 1]])
    negatives = torch.tensor([[2, 2, 0], [0, 0, 4], [2, 0, 2], [0, 5, 0], [1, 0, 1], [0, 0, 0], [1, 1, 0]])
    separation = rules.separation(torch.stack([positives, negatives]))
    close(separation, [1, 0, 0, 0, 0, 0, 0.75])


def test_separation_is_that_of_the_area_under_the_roc_curve():
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(500, 4, generator=generator) < torch.tensor([0.5, 0.2, 0.1, 0.02])).float()
    logits = torch.randn(500, 4, generator=generator) + labels * torch.tensor([0.0, 1.0, 2.0, 4.0])
    bins = (torch.sigmoid(logits) * 20).long()  # the histograms know the bin only
    areas = [roc_auc_score(labels[:, c], bins[:, c]) for c in range(4)]
    separation = rules.separation(functional.probability_histograms(logits, labels, 20))
    close(separation, [max(0, 2 * area - 1) for area in areas])


def test_rule_marginal_by_hand(monkeypatch):
    monkeypatch.setattr(rules, "PSEUDO_COUNT", 5.0)
    monkeypatch.setattr(rules, "DRIFT_BOUND", 5.0)
    # 5 is added to both. All positives are in higher bins than the negatives. Class 0: 10 positives, 55 predicted:
    # (15 / 60) ** 0.5. Class 1: 15 positives, none predicted: (20 / 5) ** 0.5. Class 2: 200, none: sqrt(41), held at
    # 5. Class 3: 1, 211 predicted: sqrt(1/36), held at 1/5.
    positives = torch.tensor([[0, 0, 0, 10], [0, 15, 0, 0], [0, 200, 0, 0], [0, 0, 0, 1]])
    negatives = torch.tensor([[20, 0, 45, 0], [50, 0, 0, 0], [50, 0, 0, 0], [1, 0, 210, 0]])
    histograms = torch.stack([positives, negatives])
    ratio = torch.ones(4)
    everywhere = torch.ones(4, dtype=torch.bool)
    updated = rules.update_ideal_ratio(ratio, ratio, ratio, everywhere, histograms, "marginal", 0.5, 100.0, 0)
    close(updated, [0.5, 2.0, 5.0, 0.2])
    # The fourth update goes half as far.
    updated = rules.update_ideal_ratio(ratio, ratio, ratio, everywhere, histograms, "marginal", 0.5, 100.0, 3)
    close(updated, [0.5**0.5, 2.0**0.5, 41**0.25, 36**-0.25])


def test_rule_marginal_changes_a_class_as_far_as_it_is_learnt():
    # Both classes: 10 positives, all 30 rows predicted: (15 / 35) ** rate. For class 0 the model cannot tell positives
    # from negatives. For class 1 half of the positives are above all negatives, half among them: the AUC is 0.75.
    positives = torch.tensor([[0, 0, 10, 0], [0, 0, 5, 5]])
    negatives = torch.tensor([[0, 0, 20, 0], [0, 0, 20, 0]])
    start = torch.ones(2)
    everywhere = torch.ones(2, dtype=torch.bool)
    histograms = torch.stack([positives, negatives])
    updated = rules.update_ideal_ratio(start, start, start, everywhere, histograms, "marginal", 0.5, 100.0, 0)
    close(updated, [1.0, (15 / 35) ** 0.25])
