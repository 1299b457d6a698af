"""The state's counts, ratios, shifts and histograms."""

import pytest
import reference
import torch

from hf_plm import LabelCounts, PLMLoss, PLMState
from hf_plm.presets import PRESETS, PLMSettings

COUNTS = LabelCounts([500, 100, 10], [500, 900, 990])


def test_ratio_is_positives_per_negative():
    state = PLMLoss(COUNTS, "off").state
    torch.testing.assert_close(state.ratio, torch.tensor([1.0, 100 / 900, 10 / 990]))
    assert torch.equal(state.ideal_ratio, state.ratio)


def test_presets_start_where_the_specification_says():
    ratio = PLMLoss(COUNTS).state.ratio
    torch.testing.assert_close(PLMLoss(COUNTS).state.ideal_ratio, ratio ** PRESETS["default"].temper)
    torch.testing.assert_close(PLMLoss(COUNTS, "paper").state.ideal_ratio, ratio.mean().expand(3))


def test_shapes_and_dtypes(trained):
    state = trained.state
    for name in ("positives", "negatives", "ratio", "ideal_ratio", "shift_in_force"):
        assert getattr(state, name).shape == (3,)
        assert getattr(state, name).dtype == (torch.int64 if name in ("positives", "negatives") else torch.float32)
    assert state.histograms.shape == (2, 3, 20)
    assert state.history.shape == state.shifts.shape == (3, 3)
    assert torch.equal(state.history[-1], state.ideal_ratio)
    assert [keep.shape for keep in state.keep_probabilities()] == [(3,), (3,)]


def test_histograms_count_masked_labels_too_and_are_reset_after_an_update():
    plm_loss = PLMLoss(LabelCounts([1], [999]), "paper", initial_ratio=0.1)  # one negative in a hundred is kept
    plm_loss(torch.zeros(50, 1), torch.zeros(50, 1))
    assert plm_loss.state.histograms.sum() == 50
    plm_loss.end_epoch()
    assert plm_loss.state.histograms.sum() == 50  # still readable
    plm_loss(torch.zeros(8, 1), torch.ones(8, 1))
    assert plm_loss.state.histograms.sum((1, 2)).tolist() == [8, 0]


@pytest.mark.parametrize("start", ["tempered", "mean", "dataset", 0.2])
@pytest.mark.parametrize("rule", ["marginal", "kl", "fixed"])
def test_counts_estimated_during_training_equal_the_reference(start, rule):
    settings = {"initial_ratio": start, "rule": rule, "num_bins": 10} | (
        {"change_rate": 0.3} if rule != "fixed" else {}
    )
    plm_loss = PLMLoss(LabelCounts([0] * 6, [0] * 6), **settings, objective="bce")
    generator = torch.Generator().manual_seed(0)
    frequency = torch.tensor([0.6, 0.3, 0.2, 0.1, 0.0, 0.0])
    positives, negatives, ideal = [0] * 6, [0] * 6, [1.0] * 6
    for update in range(6):
        seen = torch.zeros(2, 6, 10, dtype=torch.long)
        for _ in range(2):
            labels = (torch.rand(8, 6, generator=generator) < frequency).float()
            labels[0, 4] = float(update >= 3)  # the first positive is late; the last label has none
            logits = torch.randn(8, 6, generator=generator)
            plm_loss(logits, labels)
            seen += torch.tensor(reference.probability_histograms(logits.tolist(), labels.tolist(), 10))
        plm_loss.end_epoch()
        positives, negatives, ideal = reference.update_estimated(
            ideal, positives, negatives, seen.tolist(), start, rule, 0.3, update, PRESETS["default"].temper
        )
        assert plm_loss.state.positives.tolist() == positives
        assert plm_loss.state.negatives.tolist() == negatives
        torch.testing.assert_close(plm_loss.state.ideal_ratio, torch.tensor(ideal), rtol=1e-4, atol=0)
    assert plm_loss.state.has_ratio.tolist() == [True] * 5 + [False]
    if start != "dataset" or rule != "fixed":
        assert not torch.allclose(plm_loss.state.ideal_ratio, plm_loss.state.ratio)


def test_a_long_history_is_thinned_and_keeps_its_ends(monkeypatch, tmp_path):
    monkeypatch.setattr("hf_plm.state.MAX_HISTORY", 30)
    settings = PLMSettings.from_preset("default")
    state = PLMState(COUNTS, settings)
    ideal_ratios = [state.ideal_ratio]
    for _ in range(200):
        state.observe(torch.randn(8, 3), torch.eye(3).repeat(3, 1)[:8], torch.zeros(8, 3))
        state.update(settings)
        ideal_ratios.append(state.ideal_ratio)
        assert state.history.numel() <= 30
        assert torch.equal(state.history, torch.stack([ideal_ratios[update] for update in state.history_updates]))
    assert state.history_updates[0] == 0
    assert state.history_updates[-2:].tolist() == [199, 200]
    assert len(state.history) > 4
    state.save(tmp_path / "state.safetensors")
    assert torch.equal(PLMState.load(tmp_path / "state.safetensors").history_updates, state.history_updates)


def test_nothing_is_shifted_in_a_streams_first_window():
    plm_loss = PLMLoss(LabelCounts([0], [0]), objective="bce")
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(20_000, 1, generator=generator) < 0.03).float()
    for rows in labels.split(1000):
        logits = torch.randn(len(rows), 1, generator=generator).requires_grad_()
        plm_loss(logits, rows).backward()
        assert (logits.grad != 0).all()  # every label is kept
    plm_loss.end_epoch()
    state = plm_loss.state
    assert state.shift_in_force.tolist() == [0]
    assert state.shifts[0].tolist() == [0]
    assert torch.equal(state.shifts[1], torch.log(state.ideal_ratio / state.ratio))
    assert state.shifts[1] > 1
    plm_loss(torch.zeros(1, 1), torch.zeros(1, 1))
    assert torch.equal(state.shift_in_force, state.shifts[1])


def test_a_label_that_a_stream_shows_in_the_last_window_was_not_shifted_in_it():
    plm_loss = PLMLoss(LabelCounts([0, 0], [0, 0]))
    often = (torch.arange(100) % 20 == 0).float()
    for label in (torch.zeros(100), often):
        plm_loss(torch.randn(100, 2, generator=torch.Generator().manual_seed(0)), torch.stack([often, label], 1))
        plm_loss.end_epoch()
    state = plm_loss.state
    assert state.shift_in_force[1] == state.shifts[1, 1] == 0
    assert state.shift_in_force[0] == state.shifts[1, 0] != 0
    assert (state.shifts[2] != 0).all()


def test_the_current_shift_is_that_of_the_last_batch(trained):
    state = trained.state
    ratio = torch.tensor([1.0, 100 / 900, 10 / 990])
    torch.testing.assert_close(state.shifts, torch.log(state.history / ratio))
    assert torch.equal(state.shift_in_force, state.shifts[2])
    trained.end_epoch()
    assert torch.equal(state.shift_in_force, state.shifts[2])
    assert not torch.equal(state.shifts[2], state.shifts[3])
    fresh = PLMLoss(COUNTS).state
    assert torch.equal(fresh.shift_in_force, fresh.shifts[0])
    assert fresh.shifts[0, 2] > 1


def test_the_counts_do_not_lose_the_last_row_of_many():
    plm_loss = PLMLoss(LabelCounts([2**24], [2**24 + 1]))
    assert plm_loss.state.negatives.tolist() == [2**24 + 1]
    stream = PLMLoss(LabelCounts([0], [0]))
    stream.state.positives, stream.state.negatives = torch.tensor([2**24]), torch.tensor([2**24])
    stream(torch.zeros(1, 1), torch.ones(1, 1))
    stream.end_epoch()
    assert stream.state.positives.tolist() == [2**24 + 1]


def test_the_users_counts_are_not_changed():
    counts = LabelCounts([0, 0], [0, 0])
    plm_loss = PLMLoss(counts)
    plm_loss(torch.zeros(3, 2), torch.ones(3, 2))
    plm_loss.end_epoch()
    assert counts.positives.tolist() == [0, 0]
