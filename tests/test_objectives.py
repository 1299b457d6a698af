"""Every objective equals its slow twin, and stays finite where probabilities round to 0 or 1."""

import pytest
import reference
import torch

from hf_plm.objectives import OBJECTIVES, asymmetric, focal

LOGITS = torch.linspace(-8, 8, 33, dtype=torch.float64)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_focal_equals_the_slow_twin(gamma, label):
    losses = focal(LOGITS, torch.full_like(LOGITS, label), gamma=gamma)
    expected = [reference.focal(logit, label, gamma) for logit in LOGITS.tolist()]
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("gammas", [(1.0, 0.0), (4.0, 1.0), (0.0, 0.0)])
@pytest.mark.parametrize("margin", [0.0, 0.05])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_asymmetric_equals_the_slow_twin(gammas, margin, label):
    losses = asymmetric(LOGITS, torch.full_like(LOGITS, label), *gammas, margin)
    expected = [reference.asymmetric(logit, label, *gammas, margin) for logit in LOGITS.tolist()]
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64))


def test_asymmetric_without_focus_and_margin_is_binary_cross_entropy():
    labels = (LOGITS > 1).double()
    torch.testing.assert_close(asymmetric(LOGITS, labels, 0.0, 0.0, 0.0), OBJECTIVES["bce"](LOGITS, labels))


def test_the_focusing_weights_of_asymmetric_carry_no_gradient():
    logits = torch.tensor([1.0], requires_grad=True)
    asymmetric(logits, torch.zeros(1), 2.0, 0.0, 0.0).sum().backward()
    p = torch.sigmoid(torch.tensor(1.0))
    torch.testing.assert_close(logits.grad, (p**2 * p)[None])  # weight p ** 2, times the gradient of -log(1 - p)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("logit", [-1e4, 0.0, 1e4])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_losses_and_gradients_are_finite_at_extreme_logits(name, logit, label):
    logits = torch.tensor([logit], requires_grad=True)
    loss = OBJECTIVES[name](logits, torch.tensor([label]))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()
