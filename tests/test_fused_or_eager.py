"""When the loss is compiled, when it is not (with a warning), and which states it refuses."""

import logging

import pytest
import torch
from test_fused import COUNTS, NUM_LABELS, batch, loss_and_gradient
from torch import nn
from torch._dynamo.exc import TorchDynamoException, Unsupported

import hf_plm.loss
from hf_plm import LabelCounts, PLMLoss
from hf_plm.loss import ObjectiveHasParameters
from hf_plm.objectives import OBJECTIVES


def test_it_is_used_for_many_labels_and_a_message_explains_the_slow_first_step(caplog):
    few, many = torch.ones(hf_plm.loss.MANY_LABELS - 1), torch.ones(hf_plm.loss.MANY_LABELS)
    assert not PLMLoss(LabelCounts(few, few)).fused
    assert not PLMLoss(LabelCounts(many, many), fused=False).fused
    assert PLMLoss(LabelCounts(many, many)).fused
    plm_loss = PLMLoss(COUNTS, fused=True)
    with caplog.at_level(logging.WARNING, "hf_plm"):
        plm_loss(*batch(16))
        plm_loss(*batch(16))
    assert caplog.messages == ["The loss of 37 labels is compiled now, which takes some seconds"]


def test_without_a_compiler_the_loss_is_eager_with_a_warning(monkeypatch, caplog):
    def fail(*args):
        raise TorchDynamoException("no compiler")

    monkeypatch.setattr("hf_plm.loss.compiled_total", fail)
    many = torch.full((hf_plm.loss.MANY_LABELS,), 7)
    plm_loss = PLMLoss(LabelCounts(many, 3 * many))
    logits, labels = torch.randn(4, len(many)), torch.zeros(4, len(many))
    expected = PLMLoss(LabelCounts(many, 3 * many), fused=False)(logits, labels)
    assert plm_loss(logits, labels) == expected
    assert "could not be compiled" in caplog.text
    assert not plm_loss.fused
    with pytest.raises(TorchDynamoException):
        PLMLoss(LabelCounts(many, 3 * many), fused=True)(logits, labels)


class Temperature(nn.Module):
    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, logits, labels):
        return OBJECTIVES["bce"](logits / self.temperature, labels)


def branching(logits, labels):
    return OBJECTIVES["bce"](logits, labels) * (2 if logits.abs().max() > 3 else 1)


@pytest.mark.parametrize(
    ("objective", "error", "reason"),
    [
        (Temperature(), ObjectiveHasParameters, "the objective has parameters"),
        (branching, Unsupported, "Data-dependent branching"),
    ],
)
def test_an_objective_that_cannot_be_compiled_is_eager_with_a_warning(objective, error, reason, monkeypatch, caplog):
    monkeypatch.setattr("hf_plm.loss.MANY_LABELS", NUM_LABELS)
    found, expected = PLMLoss(COUNTS, objective=objective), PLMLoss(COUNTS, objective=objective, fused=False)
    gradients = []
    for plm_loss in (found, expected):
        plm_loss.zero_grad()
        gradients.append(loss_and_gradient(plm_loss, *batch(16)))
        gradients[-1] += tuple(parameter.grad for parameter in plm_loss.parameters())
    torch.testing.assert_close(*gradients)
    start = "could not be compiled, so it takes several times as long"
    assert f"{start}: {error.__name__}: {reason}" in caplog.text
    assert found.state.num_batches == 1
    assert torch.equal(found.state.histograms, expected.state.histograms)
    assert not found.fused
    with pytest.raises(error, match=reason):
        PLMLoss(COUNTS, objective=objective, fused=True)(*batch(16))


def test_objectives_beyond_the_limit_of_compilations_are_eager_with_a_warning(monkeypatch, caplog):
    monkeypatch.setattr("hf_plm.loss.MANY_LABELS", NUM_LABELS)
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=1):
        losses = [PLMLoss(COUNTS, objective_kwargs={"gamma_negative": gamma}) for gamma in (1.0, 2.0)]
        for plm_loss in losses:
            plm_loss(*batch(16))
    assert [plm_loss.fused for plm_loss in losses] == [True, False]
    assert "could not be compiled, so it takes several times as long: FailOnRecompileLimitHit" in caplog.text


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (PLMLoss(LabelCounts([1, 2], [3, 4])), "there are 2 labels there and 37 here"),
        (PLMLoss(COUNTS, num_bins=200), "num_bins is 200 there and 20 here"),
    ],
    ids=["labels", "bins"],
)
def test_a_state_of_other_labels_or_bins_is_an_error(other, difference):
    plm_loss = PLMLoss(COUNTS)
    before = plm_loss.state
    with pytest.raises(ValueError, match=f"the state does not fit: {difference}"):
        plm_loss.state = other.state
    assert plm_loss.state is before


def test_more_bins_than_fit_into_a_byte_are_an_error():
    with pytest.raises(ValueError, match="num_bins is 200; .* must be 127 or less"):
        PLMLoss(COUNTS, fused=True, num_bins=200)
