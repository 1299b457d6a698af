"""The eager loss in few passes has the same loss, gradient, masks and histograms as the plain one."""

import numpy as np
import pytest
import torch
from test_fused import COUNTS, NUM_LABELS, batch, loss_and_gradient

from hf_plm import PLMLoss
from hf_plm.by_hand import LARGEST_LOGIT
from hf_plm.few_passes import are_all_known
from hf_plm.functional import fold
from hf_plm.presets import MASKS

SETTINGS = [
    {"preset": "default"},
    {"preset": "default", "mask": "random"},
    {"preset": "default", "mask": "random", "class_weight": 0.0},
    {"preset": "default", "prior": "balanced"},
    {"preset": "paper"},
    {"preset": "off"},
    {"objective": "bce"},
    {"objective_kwargs": {"gamma_negative": 4.0, "gamma_positive": 1.0}},
    {"objective_kwargs": {"gamma_negative": 0.0, "gamma_positive": 0.0}},
    {"objective_kwargs": {"gamma_negative": 0.5, "margin": 0.0}},
]


def known_batch(rows=64, seed=0):
    logits, labels = batch(rows, seed=seed)
    return logits, (labels == 1).float()


@pytest.fixture
def plain(monkeypatch):
    """A function that makes losses with one pass for each equation."""

    def make(**settings):
        plm_loss = PLMLoss(COUNTS, fused=False, **settings)
        eager_loss = plm_loss._eager_loss

        def without(*args):
            with monkeypatch.context() as context:
                context.setattr("hf_plm.eager_loss.with_derivative", lambda objective: None)
                return eager_loss(*args)

        plm_loss._eager_loss = without
        return plm_loss

    return make


@pytest.mark.parametrize("make_batch", [batch, known_batch], ids=["unknown labels", "all known"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_it_equals_the_plain_loss(settings, make_batch, plain):
    found, expected = PLMLoss(COUNTS, fused=False, seed=3, **settings), plain(seed=3, **settings)
    for epoch in range(2):
        for rows in (300, 7, 64):
            logits, labels = make_batch(rows, seed=rows)
            for num_known in (None, torch.tensor(50)):
                loss, gradient = loss_and_gradient(found, logits, labels, num_known)
                plain_loss, plain_gradient = loss_and_gradient(expected, logits, labels, num_known)
                torch.testing.assert_close(loss, plain_loss, rtol=1e-6, atol=0)
                scale = plain_gradient.abs().max().item()
                torch.testing.assert_close(gradient, plain_gradient, rtol=1e-6, atol=1e-6 * scale)
                if settings.get("preset") in ("paper", "off"):
                    assert torch.equal(gradient, plain_gradient)
                assert torch.equal(gradient != 0, plain_gradient != 0)
        assert torch.equal(found.state.histograms, expected.state.histograms)
        assert found.state.histograms.any()
        assert found.state.num_batches == expected.state.num_batches == 6 * (epoch + 1)
        found.end_epoch()
        expected.end_epoch()
    assert torch.equal(found.state.history, expected.state.history)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("mask", MASKS)
def test_it_equals_the_plain_loss_in_every_precision(dtype, mask, plain):
    logits, labels = batch(32, dtype)
    results = [
        loss_and_gradient(plm_loss, logits, labels) for plm_loss in (plain(mask=mask), PLMLoss(COUNTS, mask=mask))
    ]
    assert results[0][1].dtype == dtype
    rtol = max(1e-6, 2 * torch.finfo(dtype).eps)
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-6, atol=0)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=rtol, atol=2**-24)


@pytest.mark.parametrize("objective", ["bce", "asymmetric"])
@pytest.mark.parametrize("mask", MASKS)
def test_it_has_a_second_derivative(objective, mask, plain):
    gradients = []
    for make in (plain, lambda **settings: PLMLoss(COUNTS, **settings)):
        logits, labels = batch(16)
        logits.requires_grad_()
        loss = make(objective=objective, mask=mask)(logits, labels)
        (gradient,) = torch.autograd.grad(loss, logits, create_graph=True)
        (100 * gradient.square().sum()).backward()
        gradients.append((gradient.detach(), logits.grad))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)
    assert gradients[0][1].any()


def test_it_has_its_gradient_twice_if_the_graph_is_kept():
    logits, labels = batch(16)
    loss = PLMLoss(COUNTS)(logits.requires_grad_(), labels)
    first, second = (torch.autograd.grad(loss, logits, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan, 1e4, -1e4, 2 * LARGEST_LOGIT])
def test_extreme_logits_use_the_plain_loss(value, plain):
    results = []
    for plm_loss in (PLMLoss(COUNTS), plain()):
        logits, labels = known_batch()
        logits[0, 0] = value
        results.append((*loss_and_gradient(plm_loss, logits, labels), plm_loss.state.nonfinite))
        results[-1] += (plm_loss.eval()(logits, labels),)
    torch.testing.assert_close(*results, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("objective", ["bce", "asymmetric"])
@pytest.mark.parametrize("rows", [1, 50])
def test_evaluation_in_parts_equals_evaluation_of_the_whole(objective, rows, monkeypatch, plain):
    monkeypatch.setattr("hf_plm.eager_loss.PART_SIZE", 7 * NUM_LABELS + 1)
    logits, labels = batch(rows)
    expected = plain(objective=objective, prior="balanced").eval()
    found = PLMLoss(COUNTS, objective=objective, prior="balanced").eval()
    for num_known in (None, 50):
        torch.testing.assert_close(found(logits, labels, num_known), expected(logits, labels, num_known))
    labels[-1, 3] = 0.5
    with pytest.raises(ValueError, match=f"row {rows - 1} of the batch, label 3: the label is 0.5"):
        found(logits, labels)


@pytest.mark.parametrize("training", [False, True])
def test_an_empty_batch_has_the_loss_0(training):
    assert PLMLoss(COUNTS).train(training)(*batch(0)) == 0


def test_evaluation_has_a_gradient_if_logits_require_one():
    gradients = []
    for training in (False, True):
        loss = PLMLoss(COUNTS, "off").train(training)
        gradients.append(loss_and_gradient(loss, *batch(16))[1])
    torch.testing.assert_close(*gradients)


def test_no_random_number_is_drawn_where_nothing_is_masked(monkeypatch):
    monkeypatch.setattr("hf_plm.few_passes.uniform_draws", None)
    assert PLMLoss(COUNTS, "off")(*known_batch()) > 0
    with pytest.raises(TypeError):
        PLMLoss(COUNTS, "paper")(*known_batch())


@pytest.mark.parametrize("seed", [0, 7, 2**40 + 3])
def test_the_seeds_of_rows_come_from_numpys_generator(seed):
    plm_loss = PLMLoss(COUNTS, seed=seed)
    for rows in (1, 2, 33):
        rng = np.random.default_rng((seed, plm_loss.state.num_batches, 0))
        expected = fold(torch.from_numpy(rng.integers(-(2**31), 2**31, rows, np.int32)))
        assert torch.equal(plm_loss._seeds(torch.zeros(rows, NUM_LABELS))[0], expected)
        plm_loss(*batch(rows))


@pytest.mark.parametrize("value", [0.5, -1, 2, 1e-40, 1 - 2**-24, 1 + 2**-23, torch.inf, -torch.inf, torch.nan, -100])
def test_all_labels_are_known_only_if_each_is_1_or_0(value):
    labels = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert are_all_known(labels)
    labels[1, 0] = value
    assert not are_all_known(labels)
    assert are_all_known(torch.zeros(0, 3))
