"""Objectives and derivatives written by hand against the plain objectives and autograd."""

import functools

import pytest
import torch

from hf_plm.by_hand import LARGEST_LOGIT, choose, odds_and_probabilities, with_derivative
from hf_plm.functional import probabilities
from hf_plm.objectives import OBJECTIVES

CASES = [("bce", {})] + [
    ("asymmetric", {"gamma_negative": negative, "gamma_positive": positive, "margin": margin})
    for negative, positive in ((1.0, 0.0), (4.0, 1.0), (0.0, 0.0), (0.5, 2.0))
    for margin in (0.0, 0.05, 0.3)
]
LOGITS = torch.linspace(-100, 100, 2001, dtype=torch.float64)


def expected_of(name, arguments, logits, label):
    logits = logits.clone().requires_grad_()
    losses = OBJECTIVES[name](logits, torch.full_like(logits, label), **arguments)
    (derivative,) = torch.autograd.grad(losses.sum(), logits)
    return losses.detach(), derivative


def found_of(kind, name, arguments, logits, label):
    positive = torch.full_like(logits, label, dtype=torch.bool if kind == "fused" else logits.dtype)
    derived = getattr(with_derivative(functools.partial(OBJECTIVES[name], **arguments)), kind)
    return derived(logits, *odds_and_probabilities(logits), positive)


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
@pytest.mark.parametrize("kind", ["eager", "fused"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_loss_and_derivative_equal_those_of_autograd(dtype, kind, name, arguments, label):
    logits = LOGITS if kind == "fused" else LOGITS[LOGITS.abs() < LARGEST_LOGIT]
    edge = arguments.get("margin", 0)
    if edge and not label:  # at the point where the loss is clamped, rounding decides
        logits = logits[(logits.sigmoid() - edge).abs() > 1e-3]
    expected = expected_of(name, arguments, logits, label)
    found = found_of(kind, name, arguments, logits.to(dtype), label)
    assert found[0].dtype == found[1].dtype == dtype
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_eager_bce_is_bit_identical_to_that_of_pytorch(label):
    logits = LOGITS[LOGITS.abs() < LARGEST_LOGIT].float()
    found = found_of("eager", "bce", {}, logits, label)
    assert all(torch.equal(*both) for both in zip(found, expected_of("bce", {}, logits, label), strict=True))


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=str)
def test_infinite_logits_have_the_smallest_or_the_largest_loss(name, arguments):
    logits = torch.tensor([-torch.inf, torch.inf, torch.nan])
    for label, right in ((0.0, 0), (1.0, 1)):
        losses, derivative = found_of("fused", name, arguments, logits, label)
        assert losses[right].abs() < 1e-30
        assert derivative[right].abs() < 1e-30
        assert losses[1 - right].isinf() or (name == "asymmetric" and not label and arguments["margin"])
        assert losses[2].isnan()
        assert derivative[2].isnan()


def test_probabilities_are_those_of_the_histograms():
    logits = torch.randn(100_000, generator=torch.Generator().manual_seed(0)) * 20
    assert torch.equal(odds_and_probabilities(logits)[1], probabilities(logits))


def test_choosing_by_numbers_equals_choosing_by_booleans():
    positive = torch.rand(50, 7, generator=torch.Generator().manual_seed(0)) < 0.5
    first, second = torch.linspace(-3, 4, 7), torch.linspace(1e-30, 1e30, 7)
    assert torch.equal(choose(positive, first, second), choose(positive.float(), first, second))


def test_only_bce_and_asymmetric_have_derivatives_written_by_hand():
    found = {name for name in OBJECTIVES if with_derivative(functools.partial(OBJECTIVES[name])) is not None}
    assert found == {"bce", "asymmetric"}
    assert with_derivative(lambda logits, labels: logits) is None
    for wrong in (
        {"gamma_negative": -1.0},
        {"margin": 1},
        {"margin": torch.tensor(0.1)},
        {"gamma_positive": torch.ones(3)},
    ):
        assert with_derivative(functools.partial(OBJECTIVES["asymmetric"], **wrong)) is None
    assert with_derivative(OBJECTIVES["bce"]) == with_derivative(functools.partial(OBJECTIVES["bce"]))
