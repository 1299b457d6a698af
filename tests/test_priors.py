"""Scores and decisions assume class frequencies; calibrating shifts scores to those of the data."""

import numpy as np
import pytest
import reference
import scenarios
import torch
from torch import nn

from hf_plm import LabelCounts, PLMLoss, PLMTrainer, calibrate, predict
from hf_plm.decisions import log_odds_shift, thresholds_of
from hf_plm.functional import assumed_ratio
from hf_plm.presets import MASKS, PRIORS

GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.randn(20_000, 2, generator=GENERATOR)
TRUTH = torch.sigmoid(INPUTS @ torch.tensor([[1.0, 0.0], [0.5, -1.0]]) + torch.tensor([-3.0, 2.0]))
LABELS = (torch.rand(TRUTH.shape, generator=GENERATOR) < TRUTH).float()
SCORES = INPUTS @ torch.tensor([[1.0, 0.0, -1.0], [0.0, -1.0, 1.0]]) + torch.tensor([3.0, 1.0, 0.0])
CLASSES = torch.multinomial(torch.softmax(SCORES, 1), 1, generator=GENERATOR)[:, 0]  # the last class is rare


def fit(labels, **settings):
    """A logistic regression at its optimum, and its loss."""
    torch.manual_seed(0)
    plm_loss = PLMLoss(LabelCounts(labels.sum(0), (1 - labels).sum(0)), objective="bce", rule="fixed", **settings)
    model = nn.Sequential(nn.Linear(2, labels.shape[1]))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=300, tolerance_grad=1e-9, tolerance_change=1e-12)

    def closure():
        optimizer.zero_grad()
        plm_loss.state.num_batches = 0  # the same mask for every evaluation of a batch
        loss = plm_loss(model(INPUTS), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    return model, plm_loss


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("prior", PRIORS)
def test_calibrated_scores_are_the_probabilities_of_the_data_for_every_prior(prior, mask):
    model, plm_loss = fit(LABELS, temper=0.2, prior=prior, mask=mask)
    before = (torch.sigmoid(model(INPUTS)) - TRUTH).abs().mean(0)
    calibrate(model, plm_loss.state)
    after = (torch.sigmoid(model(INPUTS)) - TRUTH).abs().mean(0)
    assert after.max() < 0.01
    assert (before.max() < 0.01) if prior == "data" else (before.min() > 0.1)


@pytest.mark.parametrize("prior", PRIORS)
def test_the_model_learns_the_same_but_for_the_offset(prior):
    model, plm_loss = fit(LABELS, temper=0.3, prior=prior, mask="expected")
    ideal, _ = fit(LABELS, temper=0.3, prior="ideal", mask="expected")
    offset = plm_loss.state.offset() if prior != "ideal" else 0
    torch.testing.assert_close(model(INPUTS) + offset, ideal(INPUTS), rtol=0, atol=5e-3)
    assert prior == "ideal" or (offset.abs() > 0.2).all()


def test_balanced_decisions_find_rare_classes_and_calibrated_scores_match_the_class_frequencies():
    labels = nn.functional.one_hot(CLASSES, 3).float()
    frequency = labels.mean(0)
    model, plm_loss = fit(labels, prior="balanced", mask="expected")
    other, _ = fit(labels, prior="data", mask="expected")
    recall, of_other = (
        torch.stack([(each(INPUTS).argmax(1) == c)[CLASSES == c].float().mean() for c in range(3)])
        for each in (model, other)
    )
    assert recall.min() > 0.5 > of_other.min()
    assert recall.mean() > of_other.mean() + 0.1
    ratio = plm_loss.state.ratio
    assumed = torch.tensor(reference.balanced_ratio(ratio.tolist()))
    torch.testing.assert_close(log_odds_shift(plm_loss.state), torch.log(assumed / ratio))
    calibrate(model, plm_loss.state)
    probabilities = torch.sigmoid(model(INPUTS).detach())  # not the softmax of the logits
    torch.testing.assert_close(probabilities.mean(0), frequency, rtol=0.05, atol=0.002)
    torch.testing.assert_close(probabilities.sum(1).mean(), torch.ones(()), rtol=0.02, atol=0)


def test_calibrating_a_single_label_model_keeps_its_balanced_decisions(make_args):
    tokens = torch.randint(5, 50, (192, 8), generator=torch.Generator().manual_seed(1))
    classes = ((tokens[:, 0] > 25).int() + (tokens[:, 0] > 44).int()).tolist()
    data = scenarios.rows_with(classes).remove_columns("input_ids").add_column("input_ids", tokens.tolist())
    args = make_args(num_train_epochs=12, plm_objective="bce", plm_rule="fixed")
    trainer = PLMTrainer(scenarios.make_bert(3), args, train_dataset=data)
    trainer.train()
    assert trainer.plm_loss.settings.prior == "balanced"
    inputs = {"input_ids": tokens}
    decided = predict(trainer.model, inputs)
    ratio = trainer.plm_state.ratio
    shift = torch.log(torch.tensor(reference.balanced_ratio(ratio.tolist())) / ratio)
    before = trainer.model.classifier.bias.detach().clone()
    calibrate(trainer.model, trainer.plm_state)
    torch.testing.assert_close(trainer.model.classifier.bias.detach(), before - shift)
    np.testing.assert_allclose(thresholds_of(trainer.model.config), -shift, rtol=1e-4, atol=1e-6)
    assert predict(trainer.model, inputs) == decided
    with torch.no_grad():
        share = torch.sigmoid(trainer.model(**inputs).logits).mean(0)
    torch.testing.assert_close(share, torch.tensor([classes.count(c) / 192 for c in range(3)]), rtol=0.25, atol=0.02)


def balanced_errors(num_classes, spread):
    """Mean errors with exact probabilities, over balanced classes: the best decision, T = 1, and `balanced`.

    The classes are Gaussian with distances of about `4 * spread`; the first is 100 times as frequent as the last.
    """
    generator = torch.Generator().manual_seed(0)
    frequency = 100 ** -torch.linspace(0, 1, num_classes, dtype=torch.float64)
    frequency = frequency / frequency.sum()
    means = torch.randn(num_classes, 8, generator=generator, dtype=torch.float64) * spread
    classes = torch.arange(num_classes).repeat_interleave(2000)
    points = means[classes] + torch.randn(len(classes), 8, generator=generator, dtype=torch.float64)
    probabilities = torch.softmax(torch.log(frequency) - torch.cdist(points, means) ** 2 / 2, 1)
    log_odds = torch.logit(probabilities, eps=1e-15)
    ratio = frequency / (1 - frequency)
    found = log_odds + torch.log(assumed_ratio(ratio, ratio, "balanced") / ratio)
    return [
        (scores.argmax(1) != classes).double().mean().item()
        for scores in (probabilities / frequency, log_odds - torch.log(ratio), found)
    ]


@pytest.mark.parametrize(("num_classes", "spread"), [(3, 0.7), (10, 0.5), (10, 0.7), (10, 1.0), (50, 1.0)])
def test_the_balanced_decision_is_nearer_to_the_best_one_than_with_ratio_1(num_classes, spread):
    best, with_ratio_1, found = balanced_errors(num_classes, spread)
    assert best <= found < with_ratio_1
    assert found - best < (with_ratio_1 - best) * 0.75


def test_the_balanced_decision_between_classes_that_are_hard_to_tell_apart_is_little_worse_than_the_best_one():
    best, with_ratio_1, found = balanced_errors(10, 0.3)
    assert best > 0.69
    assert best < with_ratio_1 < found < best + 0.02


def test_the_balanced_decision_between_two_classes_is_the_best_one():
    best, with_ratio_1, found = balanced_errors(2, 0.5)
    assert 0.1 < best == with_ratio_1 == found
