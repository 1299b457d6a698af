"""Every objective equals its slow reference, and is finite where probabilities round to 0 or 1."""

import functools

import pytest
import reference
import torch
from torch import nn

from hf_plm import LabelCounts, PLMLoss, PLMTrainingArguments
from hf_plm.objectives import OBJECTIVES, asymmetric, focal, needs_counts

COUNTS = (torch.tensor([50.0, 500, 3, 0, 1000]), torch.tensor([950.0, 500, 997, 1000, 0]))
"""Positives and negatives; the last two labels have none of one kind."""

COUNTED = {
    "weighted_bce": [{"max_weight": 50.0}, {"max_weight": 10.0}],
    "class_balanced": [{"beta": 0.999}, {"beta": 0.0}],
    "distribution_balanced": [
        {"alpha": 0.1, "beta": 10.0, "mu": 0.2, "negative_scale": 2.0, "kappa": 0.05},
        {"alpha": 0.0, "beta": 5.0, "mu": 0.5, "negative_scale": 5.0, "kappa": 0.2},
    ],
    "logit_adjusted": [{"tau": 0.4}, {"tau": 1.0}],
}
LOGITS = torch.linspace(-8, 8, 33, dtype=torch.float64)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_focal_equals_the_slow_reference(gamma, label):
    losses = focal(LOGITS, torch.full_like(LOGITS, label), gamma=gamma)
    expected = [reference.focal(logit, label, gamma) for logit in LOGITS.tolist()]
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("gammas", [(1.0, 0.0), (4.0, 1.0), (0.0, 0.0)])
@pytest.mark.parametrize("margin", [0.0, 0.05])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_asymmetric_equals_the_slow_reference(gammas, margin, label):
    losses = asymmetric(LOGITS, torch.full_like(LOGITS, label), *gammas, margin)
    expected = [reference.asymmetric(logit, label, *gammas, margin) for logit in LOGITS.tolist()]
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("gammas", [(1.0, 0.0), (4.0, 1.0), (0.0, 0.0)])
@pytest.mark.parametrize("margin", [0.0, 0.05])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_asymmetric_is_exact_in_float32_for_extreme_logits(gammas, margin, label):
    results = []
    for dtype in (torch.float32, torch.float64):
        logits = torch.linspace(-100, 100, 801).to(dtype).requires_grad_()
        losses = asymmetric(logits, torch.full_like(logits, label), *gammas, margin)
        losses.sum().backward()
        results.append((losses.detach().double(), logits.grad.double()))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)


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
    counts = [torch.ones(1), torch.ones(1)] if needs_counts(OBJECTIVES[name]) else []
    loss = OBJECTIVES[name](logits[None], torch.tensor([[label]]), *counts)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_logit_that_is_nan_is_not_hidden(name, label):
    logits = torch.tensor([[torch.nan]], requires_grad=True)
    counts = [torch.ones(1), torch.ones(1)] if needs_counts(OBJECTIVES[name]) else []
    loss = OBJECTIVES[name](logits, torch.tensor([[label]]), *counts)
    loss.sum().backward()
    assert torch.isnan(loss).all()
    assert torch.isnan(logits.grad).all()


def random_batch():
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(40, 5, generator=generator) < torch.tensor([0.3, 0.5, 0.1, 0.1, 0.4])).double()
    labels[0] = 0  # a row without a positive
    return torch.randn(40, 5, generator=generator, dtype=torch.float64) * 3, labels


@pytest.mark.parametrize(("name", "arguments"), [(name, each) for name, both in COUNTED.items() for each in both])
def test_objectives_that_use_the_counts_equal_the_slow_reference(name, arguments):
    logits, labels = random_batch()
    logits.requires_grad_()
    losses = OBJECTIVES[name](logits, labels, *COUNTS, **arguments)
    counts = [values.tolist() for values in COUNTS]
    expected = [
        getattr(reference, name)(row, truth, *counts, **arguments)
        for row, truth in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-7)
    losses.sum().backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("weighted_bce", {"max_weight": 1.0}), ("class_balanced", {"beta": 0.0}), ("logit_adjusted", {"tau": 0.0})],
)
def test_neutral_settings_are_binary_cross_entropy(name, arguments):
    logits, labels = random_batch()
    losses = OBJECTIVES[name](logits, labels, *COUNTS, **arguments)
    torch.testing.assert_close(losses, OBJECTIVES["bce"](logits, labels))


@pytest.mark.parametrize("beta", [0.9999, 1 - 1e-7, 1 - 1e-12])
def test_class_balanced_is_exact_for_a_beta_of_nearly_one(beta):
    logits, labels = torch.zeros(1, 5), torch.zeros(1, 5)
    losses = OBJECTIVES["class_balanced"](logits, labels, *COUNTS, beta=beta)
    counts = [values.tolist() for values in COUNTS]
    expected = reference.class_balanced(logits[0].tolist(), labels[0].tolist(), *counts, beta)
    torch.testing.assert_close(losses[0], torch.tensor(expected), rtol=1e-3, atol=0)  # the reference rounds, too


def test_the_weights_of_class_balanced_have_mean_one():
    weights = OBJECTIVES["class_balanced"](torch.zeros(1, 4), torch.zeros(1, 4), COUNTS[0][:4], COUNTS[1][:4])
    weights = weights / OBJECTIVES["bce"](torch.zeros(1, 4), torch.zeros(1, 4))
    assert weights[0, :3].mean().item() == pytest.approx(1)
    assert weights[0, 2] > weights[0, 0] > weights[0, 1]
    assert weights[0, 3] == 1


@pytest.mark.parametrize("name", COUNTED)
def test_the_loss_gives_the_counts_and_the_whole_row_to_an_objective(name, monkeypatch):
    logits, labels = random_batch()
    labels[1, 2] = torch.nan
    plm_loss = PLMLoss(LabelCounts(*COUNTS), objective=name, rule="fixed", initial_ratio="dataset")
    known = ~torch.isnan(labels)
    losses = OBJECTIVES[name](logits, labels.nan_to_num(0), *COUNTS)
    expected = losses[known].sum() / known.sum()
    torch.testing.assert_close(plm_loss(logits, labels), expected)  # nothing is masked at R
    torch.testing.assert_close(plm_loss.eval()(logits, labels), expected)

    kept = (torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)) < 0.7) & known
    monkeypatch.setattr("hf_plm.eager_loss.sample_mask", lambda *_: kept)
    logits.requires_grad_()
    PLMLoss(LabelCounts(*COUNTS), objective=name, mask="random", class_weight=0.0)(logits, labels).backward()
    losses = OBJECTIVES[name](logits, labels.nan_to_num(0), *COUNTS)
    (unmasked,) = torch.autograd.grad(losses[known].sum(), [logits])
    assert (logits.grad[~kept] == 0).all()
    torch.testing.assert_close(logits.grad[kept] * known.sum(), unmasked[kept])  # independent of what else is masked


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("weighted_bce", {"max_weight": 0.5}),
        ("class_balanced", {"beta": 1.0}),
        ("distribution_balanced", {"alpha": -1.0}),
        ("distribution_balanced", {"beta": 0.0}),
        ("distribution_balanced", {"negative_scale": 0.0}),
        ("distribution_balanced", {"kappa": -0.1}),
        ("logit_adjusted", {"tau": -0.1}),
    ],
)
def test_errors_name_settings_out_of_range(name, arguments):
    ((argument, value),) = arguments.items()
    message = f"the objective '{name}' does not take: {argument} is {value}; it must be"
    with pytest.raises(ValueError, match=message):
        PLMLoss(LabelCounts(*COUNTS), objective=name, objective_kwargs=arguments)
    with pytest.raises(ValueError, match=message):
        PLMTrainingArguments("x", plm_objective=name, plm_objective_kwargs=arguments)


@pytest.mark.parametrize(("name", "arguments"), [(name, each) for name, both in COUNTED.items() for each in both])
def test_the_training_arguments_can_name_an_objective_that_uses_the_counts(name, arguments):
    settings = PLMTrainingArguments("x", plm_objective=name, plm_objective_kwargs=arguments).plm_settings()
    plm_loss = PLMLoss(LabelCounts(*COUNTS), **settings).eval()
    logits, labels = random_batch()
    expected = OBJECTIVES[name](logits, labels, *COUNTS, **arguments).mean()
    torch.testing.assert_close(plm_loss(logits, labels), expected)


def test_a_custom_objective_may_take_the_counts():
    seen = []

    def objective(logits, labels, positives, negatives):
        seen.append((positives, negatives))
        return logits * 0

    PLMLoss(LabelCounts(*COUNTS), objective=objective)(*random_batch())
    assert all(torch.equal(one, other) for one, other in zip(seen[0], COUNTS, strict=True))


class Module(nn.Module):
    def forward(self, logits, labels, positives, negatives):
        return OBJECTIVES["weighted_bce"](logits, labels, positives, negatives)


@pytest.mark.parametrize(
    ("objective", "needs"),
    [
        (Module(), True),
        (functools.partial(OBJECTIVES["weighted_bce"], max_weight=5.0), True),
        (functools.partial(OBJECTIVES["weighted_bce"], positives=COUNTS[0], negatives=COUNTS[1]), False),
        (nn.BCEWithLogitsLoss(reduction="none"), False),
        (torch.hypot, False),
    ],
    ids=["a module", "a partial", "counts that are bound", "a module without", "built in"],
)
def test_any_callable_may_be_an_objective(objective, needs):
    assert needs_counts(objective) == needs
    assert torch.isfinite(PLMLoss(LabelCounts(*COUNTS), objective=objective)(*random_batch()))
