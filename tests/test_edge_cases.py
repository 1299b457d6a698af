"""The edge cases of the specification."""

import warnings

import pytest
import torch

from hf_plm import LabelCounts, PLMLoss
from hf_plm.rules import DRIFT_BOUND

PRESETS = ["default", "paper", "off"]
COUNTS = LabelCounts([0, 100, 10, 30], [100, 0, 90, 70])  # no positives, no negatives, two ordinary classes


def run_epoch(plm_loss, seed=0, rows=32, scale=2.0, signal=0.0):
    """An epoch of one random batch; `signal` is added to the logits of the positives."""
    generator = torch.Generator().manual_seed(seed)
    num_labels = plm_loss.state.num_labels
    logits = torch.randn(rows, num_labels, generator=generator) * scale
    labels = (torch.rand(rows, num_labels, generator=generator) < 0.4).float()
    logits += signal * labels
    loss = plm_loss(logits.requires_grad_(), labels)
    loss.backward()
    plm_loss.end_epoch()
    return loss, logits.grad


def assert_finite(state):
    for tensor in (state.ratio, state.ideal_ratio, state.history, *state.keep_probabilities()):
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_class_without_positives_or_without_negatives_keeps_everything_and_its_ideal_ratio(preset):
    plm_loss = PLMLoss(COUNTS, preset, initial_ratio=5.0)
    before = plm_loss.state.ideal_ratio.clone()
    run_epoch(plm_loss)
    keep_positive, keep_negative = plm_loss.state.keep_probabilities()
    assert keep_positive[:2].tolist() == keep_negative[:2].tolist() == [1, 1]
    assert torch.equal(plm_loss.state.ideal_ratio[:2], before[:2])
    assert_finite(plm_loss.state)


def test_class_without_positives_is_left_out_of_the_z_scores():
    # The rule `kl` moves the ordinary classes in the same way with and without the empty classes.
    with_empty = PLMLoss(COUNTS, "paper", initial_ratio="dataset")
    alone = PLMLoss(LabelCounts([10, 30], [90, 70]), "paper", initial_ratio="dataset")
    logits = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    labels = (torch.arange(64)[:, None] % 3 == 0).float().expand(64, 4)
    with_empty(logits, labels)
    alone(logits[:, 2:], labels[:, 2:])
    with_empty.end_epoch()
    alone.end_epoch()
    assert not torch.equal(alone.state.ideal_ratio, alone.state.ratio)
    torch.testing.assert_close(with_empty.state.ideal_ratio[2:], alone.state.ideal_ratio)


@pytest.mark.parametrize("preset", PRESETS)
def test_class_not_seen_in_an_epoch_keeps_its_ideal_ratio(preset):
    plm_loss = PLMLoss(LabelCounts([10, 20, 30], [90, 80, 70]), preset)
    before = plm_loss.state.ideal_ratio.clone()
    logits = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    labels = (logits > 0.5).float()
    labels[:, 1] = torch.nan
    plm_loss(logits, labels)
    plm_loss.end_epoch()
    assert plm_loss.state.ideal_ratio[1] == before[1]
    assert preset == "off" or not torch.equal(plm_loss.state.ideal_ratio, before)
    assert_finite(plm_loss.state)


@pytest.mark.parametrize("preset", PRESETS)
def test_epoch_without_a_batch_keeps_the_ideal_ratios(preset):
    plm_loss = PLMLoss(COUNTS, preset)
    before = plm_loss.state.ideal_ratio.clone()
    plm_loss.end_epoch()
    assert torch.equal(plm_loss.state.ideal_ratio, before)
    assert_finite(plm_loss.state)


@pytest.mark.parametrize("rule", ["kl", "marginal"])
def test_epoch_without_a_batch_does_not_use_the_epoch_before_it_again(rule):
    plm_loss = PLMLoss(COUNTS, rule=rule)
    run_epoch(plm_loss)
    after_one = plm_loss.state.ideal_ratio.clone()
    assert not torch.equal(after_one, PLMLoss(COUNTS, rule=rule).state.ideal_ratio)
    plm_loss.end_epoch()
    assert torch.equal(plm_loss.state.ideal_ratio, after_one)
    assert len(plm_loss.state.history) == 3


def test_one_class_has_no_spread_and_no_update_by_kl():
    plm_loss = PLMLoss(LabelCounts([10], [90]), "paper", change_rate=1.0)
    before = plm_loss.state.ideal_ratio.clone()
    run_epoch(plm_loss)
    assert torch.equal(plm_loss.state.ideal_ratio, before)


def test_equal_divergences_have_no_spread_and_no_update_by_kl():
    plm_loss = PLMLoss(LabelCounts([10] * 100, [90] * 100), "paper", change_rate=1.0)
    before = plm_loss.state.ideal_ratio.clone()
    column = torch.randn(32, 1, generator=torch.Generator().manual_seed(0))
    plm_loss(column.expand(32, 100), (column > 0.3).float().expand(32, 100))
    plm_loss.end_epoch()
    assert torch.equal(plm_loss.state.ideal_ratio, before)


@pytest.mark.parametrize("start", [1e-6, 1e6])
def test_ideal_ratio_is_bounded_at_the_start(start):
    state = PLMLoss(LabelCounts([10, 50], [90, 50]), initial_ratio=start).state
    shift = state.ideal_ratio / state.ratio
    torch.testing.assert_close(shift, torch.full((2,), 100.0 if start > 1 else 0.01))


@pytest.mark.parametrize("logit", [-3.0, 3.0])
def test_the_rule_marginal_ignores_a_model_that_has_learnt_nothing(logit):
    plm_loss = PLMLoss(LabelCounts([10, 50, 20], [990, 950, 980]), rule="marginal", change_rate=3.0)
    start = plm_loss.state.ideal_ratio.clone()
    labels = (torch.rand(32, 3, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    plm_loss(torch.full((32, 3), logit), labels)  # the same for all rows: every label is never or always predicted
    plm_loss.end_epoch()
    assert torch.equal(plm_loss.state.ideal_ratio, start)


def test_the_rule_marginal_stays_near_its_start():
    plm_loss = PLMLoss(LabelCounts([10, 50, 20], [990, 950, 980]), rule="marginal", change_rate=3.0, max_shift=1e6)
    start, bound = plm_loss.state.ideal_ratio, torch.tensor(DRIFT_BOUND)
    for _ in range(12):
        run_epoch(plm_loss, signal=4.0)
        drift = plm_loss.state.ideal_ratio / start
        assert (drift <= bound * 1.001).all()
        assert (drift >= 0.999 / bound).all()
    assert (torch.isclose(drift, bound) | torch.isclose(drift, 1 / bound)).any()


@pytest.mark.parametrize("rule", ["kl", "marginal"])
def test_ideal_ratio_is_bounded_after_every_update(rule):
    plm_loss = PLMLoss(LabelCounts([10, 50, 20], [90, 50, 80]), rule=rule, change_rate=3.0, max_shift=4.0)
    for _ in range(12):  # the network predicts the same each time, so the ratios move in every epoch
        run_epoch(plm_loss, signal=4.0)
        shift = plm_loss.state.ideal_ratio / plm_loss.state.ratio
        assert (shift >= 0.999 / 4).all()
        assert (shift <= 4.001).all()
    at_the_bound = torch.isclose(shift, torch.tensor(4.0)) | torch.isclose(shift, torch.tensor(1 / 4))
    assert at_the_bound.any()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_logits_give_finite_gradients_in_their_own_dtype(preset, dtype):
    plm_loss = PLMLoss(LabelCounts([10, 50], [90, 50]), preset)
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4], [0.5, -0.5]], dtype=dtype, requires_grad=True)
    loss = plm_loss(logits, torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]))
    loss.backward()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.isfinite(loss)
    assert logits.grad.dtype == dtype
    assert torch.isfinite(logits.grad).all()
    assert plm_loss.state.histograms.sum() == 6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_logits_are_binned_and_masked_in_float32(dtype):
    logits = torch.randn(64, 2, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = (logits > 0).float()
    states, grads = [], []
    for values in (logits, logits.float()):
        plm_loss = PLMLoss(LabelCounts([10, 50], [90, 50]), "paper")
        values = values.clone().requires_grad_()
        plm_loss(values, labels).backward()
        states.append(plm_loss.state.histograms)
        grads.append(values.grad)
    assert torch.equal(*states)
    assert torch.equal(grads[0] == 0, grads[1] == 0)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_nan_or_infinite_logits_are_never_counted(preset, value):
    plm_loss = PLMLoss(LabelCounts([10, 50], [90, 50]), preset)
    logits = torch.tensor([[value, 0.3], [0.1, value], [0.2, 0.4]])
    plm_loss(logits, torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]))
    assert plm_loss.state.histograms.sum() == 4
    with pytest.warns(UserWarning, match="^2 known labels had a logit or a loss that was NaN or infinite"):
        plm_loss.end_epoch()
    assert_finite(plm_loss.state)
    logits = torch.zeros(3, 2)
    plm_loss(logits, torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plm_loss.end_epoch()  # and warns once


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("unknown", [torch.nan, -100.0])
def test_unknown_labels_have_no_loss_no_gradient_and_no_count(preset, unknown):
    plm_loss = PLMLoss(LabelCounts([10, 50], [90, 50]), preset).eval()
    logits = torch.tensor([[1.0, 2.0], [0.5, -1.0]], requires_grad=True)
    loss = plm_loss(logits, torch.tensor([[1.0, unknown], [unknown, 0.0]]))
    loss.backward()
    assert logits.grad[0, 1] == logits.grad[1, 0] == 0
    assert (logits.grad[[0, 1], [0, 1]] != 0).all() or preset == "default"  # the margin can drop a sure negative
    expected = plm_loss.objective(logits, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))[[0, 1], [0, 1]].mean()
    torch.testing.assert_close(loss, expected)
    plm_loss.train()(logits, torch.full((2, 2), unknown))
    assert plm_loss.state.histograms.sum() == 0


@pytest.mark.parametrize("preset", PRESETS)
def test_evaluation_neither_masks_nor_measures(preset):
    plm_loss = PLMLoss(LabelCounts([10, 50], [90, 50]), preset).eval()
    logits = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    labels = (logits > 0.2).float()
    loss = plm_loss(logits, labels)
    torch.testing.assert_close(loss, plm_loss.objective(logits, labels).mean())
    assert plm_loss.state.histograms.sum() == 0
    assert plm_loss.state.num_batches == 0


@pytest.mark.parametrize("rule", ["kl", "marginal"])
def test_lambda_zero_keeps_the_initial_ideal_ratio_for_the_whole_run(rule):
    plm_loss = PLMLoss(LabelCounts([10, 50, 20], [90, 50, 80]), rule=rule, change_rate=0.0)
    before = plm_loss.state.ideal_ratio.clone()
    for epoch in range(5):
        run_epoch(plm_loss, seed=epoch)
    assert torch.equal(plm_loss.state.history, before.expand(6, 3))


def test_all_masked_batch_has_loss_zero():
    plm_loss = PLMLoss(
        LabelCounts([1], [10**6]), initial_ratio=0.1, max_shift=1e6, mask="random"
    )  # one in 10^5 negatives is kept
    logits = torch.ones(8, 1, requires_grad=True)
    loss = plm_loss(logits, torch.zeros(8, 1))
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros(8, 1))


def test_batch_of_unknown_labels_has_loss_zero():
    plm_loss = PLMLoss(LabelCounts([10], [90]))
    assert plm_loss(torch.ones(8, 1), torch.full((8, 1), torch.nan)) == 0
