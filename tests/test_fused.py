"""The compiled loss has the same loss, gradient, masks and histograms as the eager one, for every batch."""

import pytest
import torch

from hf_plm import LabelCounts, PLMLoss
from hf_plm.label_tensors import known_labels
from hf_plm.objectives import OBJECTIVES

NUM_LABELS = 37
POSITIVES = torch.arange(1, NUM_LABELS + 1) * 10
COUNTS = LabelCounts(POSITIVES, 1000 - POSITIVES)


def batch(rows, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, NUM_LABELS, generator=generator) * 3 - 2
    labels = (torch.rand(rows, NUM_LABELS, generator=generator) < 0.2).float()
    labels[torch.rand(rows, NUM_LABELS, generator=generator) < 0.05] = torch.nan
    labels[torch.rand(rows, NUM_LABELS, generator=generator) < 0.05] = -100
    return logits.to(dtype), labels


def both(**settings):
    """A compiled and an eager loss, with random masks unless the settings say otherwise."""
    settings = {"mask": "random"} | settings
    return PLMLoss(COUNTS, fused=True, **settings), PLMLoss(COUNTS, fused=False, **settings)


def loss_and_gradient(plm_loss, logits, labels, num_known=None):
    logits = logits.clone().requires_grad_()
    loss = plm_loss(logits, labels, num_known)
    (loss * 3).backward()
    return loss, logits.grad


FAST = ("bce", "asymmetric", "weighted_bce")


@pytest.mark.parametrize(
    "objective", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in OBJECTIVES]
)
def test_it_equals_the_eager_loss(objective):
    fused, eager = both(objective=objective)
    for seed, rows in enumerate((16, 300, 7)):
        logits, labels = batch(rows, seed=seed)
        loss, gradient = loss_and_gradient(fused, logits, labels)
        expected_loss, expected_gradient = loss_and_gradient(eager, logits, labels)
        torch.testing.assert_close(loss, expected_loss, rtol=1e-6, atol=0)
        scale = expected_gradient.abs().max().item()
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-6 * scale)
        assert torch.equal(gradient != 0, expected_gradient != 0)  # the same mask
        assert 0 < (gradient == 0).sum() < gradient.numel()
    assert torch.equal(fused.state.histograms, eager.state.histograms)
    fused.end_epoch()
    eager.end_epoch()
    assert torch.equal(fused.state.history, eager.state.history)
    assert not torch.equal(fused.state.history[0], fused.state.history[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_it_equals_the_eager_loss_in_every_precision(dtype):
    fused, eager = both()
    logits, labels = batch(32, dtype)
    loss, gradient = loss_and_gradient(fused, logits, labels)
    expected_loss, expected_gradient = loss_and_gradient(eager, logits, labels)
    assert loss.dtype == expected_loss.dtype
    assert gradient.dtype == dtype
    torch.testing.assert_close(loss, expected_loss, rtol=1e-6, atol=0)
    # The gradient of bfloat16 is rounded once more, when it is divided by the number of known labels.
    smallest = 2**-24 if dtype == torch.float16 else 0
    rtol = max(1e-6, torch.finfo(dtype).eps)
    torch.testing.assert_close(gradient, expected_gradient, rtol=rtol, atol=smallest)


def test_the_gradient_of_float16_is_scaled_before_it_is_rounded():
    def small(logits, labels):
        return logits * 1e-6  # float16 can represent 1.01e-6

    logits, labels = batch(16, torch.float16)
    gradients = []
    for plm_loss in both(objective=small):
        values = logits.clone().requires_grad_()
        (plm_loss(values, labels) * 65536).backward()
        gradients.append(values.grad)
    assert gradients[0].any()
    torch.testing.assert_close(*gradients, rtol=2**-10, atol=0)


def test_logits_that_are_not_finite_are_treated_as_in_the_eager_loss():
    fused, eager = both(objective="bce")  # the first is masked
    logits, labels = batch(16)
    logits[0, 0], labels[0, 0] = -torch.inf, 0
    logits[1, 1], labels[1, 1] = torch.nan, torch.nan  # unknown
    logits[2, 2], labels[2, 2] = torch.inf, -100
    loss, gradient = loss_and_gradient(fused, logits, labels)
    expected_loss, expected_gradient = loss_and_gradient(eager, logits, labels)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-9)
    assert fused.state.nonfinite == eager.state.nonfinite == 1
    assert torch.equal(fused.state.histograms, eager.state.histograms)


def test_a_kept_label_with_a_logit_of_minus_infinity_has_no_gradient():
    # The derivative of BCE by the compiler is NaN here.
    gradients = []
    for plm_loss in both(objective="bce", initial_ratio="dataset"):  # nothing is masked
        logits, labels = torch.zeros(4, NUM_LABELS), torch.zeros(4, NUM_LABELS)
        logits[:, :5], logits[:, 5:10] = -torch.inf, torch.inf
        labels[:, 5:10] = 1
        gradients.append(loss_and_gradient(plm_loss, logits, labels)[1])
        assert (gradients[-1][:, :10] == 0).all()
        assert (gradients[-1][:, 10:] > 0).all()
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=0)


def test_the_seed_makes_the_masks():
    logits, labels = batch(64)
    masks = {}
    for seed in (0, 1):
        for plm_loss in both(seed=seed, objective="bce"):
            masks[seed, plm_loss.fused] = loss_and_gradient(plm_loss, logits, labels)[1] != 0
    assert torch.equal(masks[0, True], masks[0, False])
    assert torch.equal(masks[1, True], masks[1, False])
    drawn = known_labels(labels) & (masks[0, False] | masks[1, False])
    assert (masks[0, True] != masks[1, True])[drawn].float().mean() > 0.05


def test_num_known_divides_loss_and_gradient():
    logits, labels = batch(16)
    results = [loss_and_gradient(plm_loss, logits, labels, num_known=torch.tensor(50)) for plm_loss in both()]
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-9)


def test_labels_may_be_integers():
    logits, labels = batch(16)
    labels = labels.nan_to_num(-100)
    expected = loss_and_gradient(PLMLoss(COUNTS, fused=False), logits, labels)
    for dtype in (torch.int8, torch.int64):
        found = loss_and_gradient(PLMLoss(COUNTS, fused=True), logits, labels.to(dtype))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rows", [16, 1])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8], ids=str)
def test_labels_may_be_of_a_dtype_without_unknown(dtype, rows):
    logits, labels = batch(rows)
    labels = labels == 1
    fused, eager = both()
    expected = loss_and_gradient(eager, logits, labels)
    torch.testing.assert_close(loss_and_gradient(fused, logits, labels.to(dtype)), expected, rtol=1e-6, atol=1e-9)
    assert torch.equal(fused.state.histograms, eager.state.histograms)


def test_an_empty_batch_is_a_loss_of_zero_and_counts_as_a_batch():
    fused, eager = both()
    for plm_loss in (fused, eager):
        assert plm_loss(*batch(0)) == 0
    torch.testing.assert_close(fused(*batch(16)), eager(*batch(16)), rtol=1e-6, atol=0)
    assert fused.state.num_batches == eager.state.num_batches == 2


def test_a_smaller_batch_is_not_compiled_again():
    fused, eager = both()
    loss_and_gradient(fused, *batch(64))
    loss_and_gradient(eager, *batch(64))
    with torch.compiler.set_stance("fail_on_recompile"):
        for rows in (63, 17, 2, 1):
            found = loss_and_gradient(fused, *batch(rows))
            torch.testing.assert_close(found, loss_and_gradient(eager, *batch(rows)), rtol=1e-6, atol=1e-9)
    assert torch.equal(fused.state.histograms, eager.state.histograms)


def test_a_second_backward_is_an_error():
    logits, labels = batch(16)
    loss = PLMLoss(COUNTS, fused=True)(logits.requires_grad_(), labels)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="compute the loss again"):
        loss.backward()


def test_a_second_derivative_is_an_error():
    logits, labels = batch(16)
    loss = PLMLoss(COUNTS, fused=True)(logits.requires_grad_(), labels)
    with pytest.raises(RuntimeError, match="has no second derivative; use fused=False"):
        torch.autograd.grad(loss, logits, create_graph=True)
