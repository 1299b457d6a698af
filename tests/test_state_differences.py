"""Before a run continues, its state is compared with the saved one: names, settings and counts."""

from dataclasses import replace

import pytest
import torch

from hf_plm import LabelCounts, PLMLoss, PLMState
from hf_plm.presets import MASKS, PRESETS, PLMSettings

A, B, C = (100, 1), (10, 2), (5, 3)


def state_of(names, *counts, **settings):
    counts = LabelCounts(*zip(*counts, strict=True), names)
    return PLMState(counts, PLMSettings.from_preset("default", **settings))


@pytest.mark.parametrize(
    ("earlier", "expected"),
    [
        (state_of(["a", "b"], A, B), []),
        (state_of(None, A, B), []),
        (
            state_of(["b", "a"], B, A),
            [
                "the labels are the same in a different order: ['b', 'a'] there and ['a', 'b'] here (label 0 is 'b' "
                "there and 'a' here)"
            ],
        ),
        (
            state_of(["a", "c"], A, B),
            ["the label names are ['a', 'c'] there and ['a', 'b'] here: only there is ['c'], only here is ['b']"],
        ),
        (
            state_of(["a", "b", "c"], A, B, C),
            [
                "there are 3 labels there and 2 here",
                "the label names are ['a', 'b', 'c'] there and ['a', 'b'] here: only there is ['c']",
            ],
        ),
        (
            state_of(["a", "b"], A, C, change_rate=0.1, update_steps=3),
            [
                f"change_rate is 0.1 there and {PRESETS['default'].change_rate} here",
                "update_steps is 3 there and None here",
                "the training data differ: the counts of 1 of 2 labels are different, first those of label 'b': 5 "
                "positives and 3 negatives there, 10 positives and 2 negatives here",
            ],
        ),
        (
            state_of(["a", "b"], (0, 0), (0, 0)),
            ["the counts of the labels are estimated during training there and given here"],
        ),
    ],
)
def test_a_difference_is_described_with_both_values(earlier, expected):
    assert state_of(["a", "b"], A, B).differences(earlier) == expected


def test_every_setting_that_differs_is_reported():
    changes = {
        "initial_ratio": 0.5,
        "temper": 0.1,
        "rule": "kl",
        "change_rate": 0.1,
        "num_bins": 40,
        "max_shift": 2.0,
        "mask": next(mask for mask in MASKS if mask != PRESETS["default"].mask),
        "class_weight": 0.3,
        "prior": "data",
        "objective": "focal",
        "objective_kwargs": {"margin": 0.1},
        "update_steps": 4,
    }
    assert set(changes) == set(PLMSettings.__dataclass_fields__)
    here = state_of(None, A)
    for name, value in changes.items():
        settings = replace(PLMSettings.from_preset("default"), **{name: value})
        (sentence,) = here.differences(PLMState(LabelCounts([A[0]], [A[1]]), settings))
        assert sentence.startswith(f"{name} is {value!r} there and ")


def test_counts_that_both_estimate_are_not_compared():
    one, other = state_of(None, (0, 0)), state_of(None, (0, 0))
    other.positives = torch.tensor([7])
    assert not one.differences(other)


def test_a_state_that_does_not_fit_changes_nothing(tmp_path):
    plm_loss = PLMLoss(LabelCounts([1, 2], [3, 4], ["a", "b"]))
    other = PLMLoss(LabelCounts([2, 1], [4, 3], ["b", "a"]), max_shift=10)
    for replace_state in (
        lambda: setattr(plm_loss, "state", other.state),
        lambda: plm_loss.load_state_dict(other.state_dict()),
    ):
        before = plm_loss.state_dict()
        with pytest.raises(ValueError, match="in a different order.*max_shift is 10 there and 100.0 here") as error:
            replace_state()
        assert "adopt_ratios" not in str(error.value)  # it refuses other labels
        assert all(torch.equal(before[name], value) for name, value in plm_loss.state_dict().items())


def test_old_ratios_continue_with_new_settings_and_counts(trained):
    counts = LabelCounts([500, 100, 10], [500, 900, 20])
    other = PLMLoss(counts, max_shift=1.1)
    with pytest.raises(ValueError, match=r"max_shift is 100.0 there and 1.1 here.*adopt_ratios\("):
        other.state = trained.state
    other.state.adopt_ratios(trained.state)
    state, ratio = other.state, torch.tensor([1.0, 100 / 900, 0.5])
    expected = torch.minimum(torch.maximum(trained.state.ideal_ratio, ratio / 1.1), ratio * 1.1)
    torch.testing.assert_close(state.ideal_ratio, expected)
    assert not torch.equal(state.ideal_ratio, trained.state.ideal_ratio)
    assert torch.equal(state.history[:-1], trained.state.history[:-1])
    assert torch.equal(state.shifts[:-1], trained.state.shifts[:-1])
    assert torch.equal(state.history[-1], state.ideal_ratio)
    torch.testing.assert_close(state.shifts[-1], torch.log(expected / ratio))
    assert torch.equal(state.shift_in_force, trained.state.shift_in_force)
    assert state.num_batches == 6
    assert torch.equal(state.histograms, trained.state.histograms)
    assert state.settings["max_shift"] == 1.1
    assert torch.equal(state.positives, counts.positives)
    before = trained.state.history.clone()
    other(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.eye(3).repeat(3, 1)[:8])
    other.end_epoch()
    assert torch.equal(trained.state.history, before)  # nothing is shared


def test_ratios_that_are_kept_need_the_same_labels_and_a_ratio(trained):
    with pytest.raises(ValueError, match="belong to other labels: there are 3 labels there and 1 here"):
        PLMLoss(LabelCounts([1], [2])).state.adopt_ratios(trained.state)
    state = PLMLoss(LabelCounts([0, 100, 10], [1000, 900, 990])).state
    state.adopt_ratios(trained.state)
    assert state.ideal_ratio[0] == state.ratio[0] == 1  # nothing is masked for it
    assert torch.equal(state.ideal_ratio[1:], trained.state.ideal_ratio[1:])
    stream = PLMLoss(LabelCounts([0] * 3, [0] * 3))
    stream(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), (torch.rand(50, 3) < 0.3).float())
    stream.end_epoch()
    other = PLMLoss(LabelCounts([0] * 3, [0] * 3), change_rate=0.1)
    other.state.adopt_ratios(stream.state)
    assert torch.equal(other.state.ideal_ratio, stream.state.ideal_ratio)
    assert torch.equal(other.state.positives, stream.state.positives)


def test_ratios_are_not_kept_without_counts_that_bound_them():
    known = PLMLoss(LabelCounts([10, 300], [990, 700])).state
    estimated = PLMLoss(LabelCounts([0, 0], [0, 0])).state
    with pytest.raises(ValueError, match="label_counts=.*plm_restart=True"):
        estimated.adopt_ratios(known)
    known.adopt_ratios(estimated)
