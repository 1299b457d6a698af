"""Weights, the offset of the logits, and the remaining shift follow from counts and ideal ratios."""

import pytest
import reference
import torch

from hf_plm import LabelCounts, PLMLoss
from hf_plm.presets import MASKS, PRESETS, PRIORS

COUNTS = LabelCounts([500, 100, 10, 0], [500, 900, 990, 1000])
RATIO = torch.tensor([1.0, 100 / 900, 10 / 990, 1.0])
BALANCED = torch.tensor([1.0, 0.36, 0.0396, 1.0]) ** -0.25  # 4 * share * (1 - share) of positives


def adapt(plm_loss, epochs=2):
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        logits = torch.randn(64, 4, generator=generator)
        plm_loss(logits, (logits > 0.8).float())
        plm_loss.end_epoch()
    return plm_loss.state


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("class_weight", [0.0, 0.6])
def test_the_weights_are_those_of_the_class_times_the_expected_mask(mask, class_weight):
    state = adapt(PLMLoss(COUNTS, mask=mask, class_weight=class_weight))
    if mask == "random" and class_weight == 0:
        assert state.weights() is None
        return
    keep = [each.tolist() for each in state.keep_probabilities()]
    weights = reference.class_weights(COUNTS.positives.tolist(), COUNTS.negatives.tolist(), *keep, class_weight)
    for found, kept in zip(state.weights(), keep, strict=True):
        expected = [w * (k if mask == "expected" else 1) for w, k in zip(weights, kept, strict=True)]
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=0)
    assert state.weights()[0][3] == state.weights()[1][3] == 1  # it has no positives


@pytest.mark.parametrize("prior", PRIORS)
def test_the_shift_is_that_of_the_ratio_assumed_by_the_logits(prior):
    state = adapt(PLMLoss(COUNTS, prior=prior))
    assumed = {"ideal": state.history, "balanced": BALANCED.expand(3, 4), "data": RATIO.expand(3, 4)}[prior]
    shifts = torch.log(assumed / RATIO)
    torch.testing.assert_close(state.shift(), shifts[2])
    torch.testing.assert_close(state.shift_in_force, shifts[1])  # at the last batch
    torch.testing.assert_close(state.shifts, torch.log(state.history / RATIO))  # what the masks cause
    assert torch.equal(state.mask_shift(), state.shifts[2])
    offset = torch.zeros(4) if state.offset() is None else state.offset()
    torch.testing.assert_close(offset + state.shift(), torch.log(state.ideal_ratio / RATIO))
    assert (state.shifts[:, 3] == 0).all()
    assert offset[3] == 0
    assert (state.offset() is None) == (prior == "ideal")


def test_shares_weights_and_offset_follow_the_ideal_ratios():
    state = PLMLoss(COUNTS, mask="expected", class_weight=1.0, prior="balanced").state
    before = [*state.keep_probabilities(), *state.weights(), state.offset()]
    state.ideal_ratio = state.ideal_ratio * torch.tensor([0.5, 2.0, 3.0, 1.0])
    after = [*state.keep_probabilities(), *state.weights(), state.offset()]
    assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert state.weights()[0] is state.weights()[0]  # computed only once


def test_a_stream_is_neither_weighted_nor_shifted_in_its_first_window():
    plm_loss = PLMLoss(LabelCounts([0] * 4, [0] * 4), mask="expected", class_weight=1.0, prior="balanced")
    state = plm_loss.state
    assert all((each == 1).all() for each in state.weights())
    assert (state.offset() == 0).all()
    adapt(plm_loss, epochs=1)
    assert all((each != 1).any() for each in state.weights())
    assumed = torch.tensor(reference.balanced_ratio(state.ratio.tolist()))
    torch.testing.assert_close(state.offset(), torch.log(state.ideal_ratio / assumed))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_saved_state_gives_the_same_values(preset, tmp_path):
    state = adapt(PLMLoss(COUNTS, preset, prior="balanced"))
    state.save(tmp_path / "state.safetensors")
    found = type(state).load(tmp_path / "state.safetensors")
    assert torch.equal(found.offset(), state.offset())
    assert torch.equal(found.shift(), state.shift())
    for one, other in zip(found.weights() or (), state.weights() or (), strict=True):
        assert torch.equal(one, other)
