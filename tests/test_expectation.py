"""Expected masks, class weights and priors agree with the reference, with random masks, and with the compiled loss."""

import itertools

import numpy as np
import pytest
import reference
import torch
from torch import nn

from hf_plm import LabelCounts, PLMLoss
from hf_plm.functional import sample_mask, uniform_draws
from hf_plm.label_tensors import known_labels
from hf_plm.objectives import OBJECTIVES
from hf_plm.presets import MASKS, PRIORS

COUNTS = LabelCounts([500, 100, 10, 0], [500, 900, 990, 1000])
COMBINATIONS = list(itertools.product(MASKS, (0.0, 0.7), PRIORS))


def batch(rows=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, 4, generator=generator)
    labels = (torch.rand(rows, 4, generator=generator) < 0.4).float()
    labels[torch.rand(rows, 4, generator=generator) < 0.1] = torch.nan
    return logits.requires_grad_(), labels


def loss_and_gradient(plm_loss, logits, labels, num_known=None):
    logits = logits.detach().clone().requires_grad_()
    loss = plm_loss(logits, labels, num_known)
    loss.backward()
    return loss.detach(), logits.grad


@pytest.mark.parametrize(("mask", "class_weight", "prior"), COMBINATIONS)
def test_the_loss_equals_the_slow_reference(mask, class_weight, prior):
    plm_loss = PLMLoss(COUNTS, temper=0.5, objective="bce", mask=mask, class_weight=class_weight, prior=prior)
    logits, labels = batch()
    counts = COUNTS.positives.tolist(), COUNTS.negatives.tolist()
    ratio, ideal = reference.label_ratio(*counts), reference.initial_ideal_ratio(*counts, "tempered", 0.5, 100)
    keep = reference.keep_probabilities(ratio, ideal)
    weights = [reference.class_weights(*counts, *keep, class_weight)] * 2
    kept = known_labels(labels)
    if mask == "expected":
        weights = [[w * k for w, k in zip(weights[0], each, strict=True)] for each in keep]
    else:
        kept = sample_mask(labels, *torch.tensor(keep), uniform_draws(*plm_loss._seeds(logits)))
        assert kept.sum() < known_labels(labels).sum()
    assumed = reference.assumed_ratio(ratio, ideal, prior)
    offset = [np.log(i / t) for i, t in zip(ideal, assumed, strict=True)]
    expected = reference.weighted_loss(logits.tolist(), labels.tolist(), kept.tolist(), *weights, offset)
    assert plm_loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("class_weight", [0.0, 1.0])
def test_it_is_the_mean_of_many_random_masks_in_loss_and_gradient(class_weight):
    logits, labels = batch(8)
    settings = {"temper": 0.5, "class_weight": class_weight, "objective": "bce"}
    expected = loss_and_gradient(PLMLoss(COUNTS, mask="expected", **settings), logits, labels)
    random = PLMLoss(COUNTS, mask="random", **settings)
    drawn = [loss_and_gradient(random, logits, labels) for _ in range(1500)]
    for number, (found, samples) in enumerate(zip(expected, map(torch.stack, zip(*drawn, strict=True)), strict=True)):
        standard_error = samples.std(0) / len(drawn) ** 0.5
        assert ((samples.mean(0) - found).abs() <= 3 * standard_error + 1e-6 * found.abs()).all(), number
        assert (standard_error > 0).any()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("class_weight", [0.0, 0.5, 1.0])
def test_the_effective_ratio_is_exactly_the_ideal_one_for_every_class_weight(class_weight, fused):
    rows = 1000
    labels = (torch.arange(rows)[:, None] < COUNTS.positives).float()  # with the class frequencies of the counts
    plm_loss = PLMLoss(
        COUNTS, temper=0.5, objective="bce", mask="expected", class_weight=class_weight, prior="ideal", fused=fused
    )
    _, gradient = loss_and_gradient(plm_loss, torch.zeros(rows, 4), labels, num_known=1)
    weights = 2 * gradient.abs()  # the gradient of BCE is 1/2 at 0
    effective = (weights * labels).sum(0) / (weights * (1 - labels)).sum(0)
    state = plm_loss.state
    torch.testing.assert_close(effective[:3], state.ideal_ratio[:3], rtol=1e-5, atol=0)
    assert (state.ideal_ratio[1:3] / state.ratio[1:3] > 2).all()
    assert (weights[:, 3] == 1).all()  # a class without a positive has the weight 1
    if class_weight == 1:  # every class has its full share
        torch.testing.assert_close(weights.sum(0), torch.full((4,), float(rows)), rtol=1e-5, atol=0)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("prior", ["ideal", "balanced"])
def test_micro_batches_add_up_to_the_whole_batch(prior, fused):
    settings = {"mask": "expected", "class_weight": 0.7, "prior": prior, "fused": fused}
    logits, labels = batch()
    known = known_labels(labels).sum()
    whole, gradient = loss_and_gradient(PLMLoss(COUNTS, **settings), logits, labels)
    plm_loss = PLMLoss(COUNTS, **settings)
    parts = [
        loss_and_gradient(plm_loss, *rows, num_known=known)
        for rows in zip(logits.split([10, 3, 27]), labels.split([10, 3, 27]), strict=True)
    ]
    torch.testing.assert_close(sum(loss for loss, _ in parts), whole, rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.cat([part for _, part in parts]), gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("fused", [False, True])
def test_it_draws_no_random_numbers(fused, monkeypatch):
    logits, labels = batch()
    found = [PLMLoss(COUNTS, mask="expected", seed=seed, fused=fused)(logits, labels) for seed in (0, 1)]
    assert torch.equal(*found)
    monkeypatch.setattr("hf_plm.eager_loss.np.random.PCG64", None)
    assert torch.equal(PLMLoss(COUNTS, mask="expected", fused=fused)(logits, labels), found[0])
    with pytest.raises(TypeError):
        PLMLoss(COUNTS, mask="random", fused=fused)(logits, labels)


@pytest.mark.parametrize(("mask", "class_weight", "prior"), COMBINATIONS)
def test_the_compiled_loss_equals_the_eager_one(mask, class_weight, prior):
    losses = [PLMLoss(COUNTS, mask=mask, class_weight=class_weight, prior=prior, fused=each) for each in (True, False)]
    for epoch in range(2):
        logits, labels = batch(seed=epoch)
        for num_known in (None, torch.tensor(1000)):
            (found, gradient), expected = (loss_and_gradient(each, logits, labels, num_known) for each in losses)
            torch.testing.assert_close(found, expected[0], rtol=1e-6, atol=0)
            torch.testing.assert_close(gradient, expected[1], rtol=1e-6, atol=1e-6 * expected[1].abs().max().item())
            assert torch.equal(gradient != 0, expected[1] != 0)
        assert torch.equal(losses[0].state.histograms, losses[1].state.histograms)
        for plm_loss in losses:
            plm_loss.end_epoch()
    assert torch.equal(losses[0].state.history, losses[1].state.history)
    assert not torch.equal(
        losses[0].state.history[1], losses[0].state.history[2]
    )  # the second epoch had other weights


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("prior", PRIORS)
def test_objective_and_histograms_get_the_models_logits_plus_the_offset(prior, training):
    def recording(logits, labels):
        seen.append(logits.detach().clone())
        return OBJECTIVES["bce"](logits, labels)

    seen = []
    plm_loss = PLMLoss(COUNTS, temper=0.5, prior=prior, mask="expected", objective=recording).train(training)
    logits, labels = batch()
    plm_loss(logits, labels)
    state = plm_loss.state
    offset = {
        "ideal": torch.zeros(4),
        "balanced": torch.log(state.ideal_ratio / torch.tensor(reference.balanced_ratio(state.ratio.tolist()))),
        "data": torch.log(state.ideal_ratio / state.ratio),
    }[prior]
    known = known_labels(labels)
    assert (offset[1:3].abs() > 1).all() or prior == "ideal"
    torch.testing.assert_close(seen[0][known], (logits + offset)[known])
    expected = reference.probability_histograms(seen[0].tolist(), labels.tolist(), state.num_bins)
    assert state.histograms.tolist() == (expected if training else torch.zeros_like(state.histograms).tolist())


def test_evaluation_neither_weights_nor_masks():
    logits, labels = batch()
    known = known_labels(labels)
    for mask, class_weight in itertools.product(MASKS, (0.0, 1.0)):
        plm_loss = PLMLoss(COUNTS, objective="bce", mask=mask, class_weight=class_weight, prior="ideal").eval()
        expected = nn.BCEWithLogitsLoss()(logits[known], labels[known])
        torch.testing.assert_close(plm_loss(logits, labels), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("preset", ["paper", "off"])
def test_presets_paper_and_off_are_bit_identical_to_the_plain_computation(preset):
    plm_loss = PLMLoss(COUNTS, preset, seed=3)
    for seed in range(6):
        logits, labels = batch(seed=seed)
        draws = uniform_draws(*plm_loss._seeds(logits))
        kept = sample_mask(labels, *plm_loss.state.keep_probabilities(), draws)
        twin = logits.detach().clone().requires_grad_()
        losses = OBJECTIVES["bce"](twin.masked_fill(~kept, 0), labels.nan_to_num(0)).masked_fill(~kept, 0)
        expected = losses.sum(-1).sum() / known_labels(labels).sum()
        expected.backward()
        loss, gradient = loss_and_gradient(plm_loss, logits, labels)
        assert torch.equal(loss, expected)
        assert torch.equal(gradient, twin.grad)
        assert (kept.sum() < known_labels(labels).sum()) == (preset == "paper")
        if seed % 2:
            plm_loss.end_epoch()
    assert plm_loss.state.weights() is None
    assert plm_loss.state.offset() is None
