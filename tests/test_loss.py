"""`PLMLoss`: masks, gradients, the normaliser, and plain BCE with preset `off`."""

import math

import pytest
import reference
import torch
from torch import nn

from hf_plm import LabelCounts, PLMLoss
from hf_plm.functional import sample_mask, uniform_draws
from hf_plm.objectives import OBJECTIVES
from hf_plm.state_tensors import TENSORS

COUNTS = LabelCounts([500, 100, 10], [500, 900, 990])


def batch(rows=64, num_labels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, num_labels, generator=generator)
    return logits.requires_grad_(), (torch.rand(rows, num_labels, generator=generator) < 0.4).float()


@pytest.mark.parametrize("training", [True, False])
def test_preset_off_is_bce_with_logits_loss_in_value_and_gradient(training):
    plm_loss = PLMLoss(COUNTS, "off").train(training)
    for seed in range(5):
        logits, labels = batch(seed=seed)
        twin = logits.detach().clone().requires_grad_()
        loss, expected = plm_loss(logits, labels), nn.BCEWithLogitsLoss()(twin, labels)
        loss.backward()
        expected.backward()
        torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
        torch.testing.assert_close(logits.grad, twin.grad, rtol=1e-6, atol=0)


def test_ideal_ratio_equal_to_the_ratio_keeps_every_label():
    plm_loss = PLMLoss(COUNTS, initial_ratio="dataset", objective="bce")
    logits, labels = batch()
    assert torch.allclose(plm_loss(logits, labels), nn.BCEWithLogitsLoss()(logits, labels), rtol=1e-6, atol=0)


def test_masked_entries_have_exactly_zero_gradient_and_the_loss_equals_the_slow_reference():
    plm_loss = PLMLoss(COUNTS, "paper")
    logits, labels = batch()
    labels[0, 0] = torch.nan
    draws = uniform_draws(*plm_loss._seeds(logits))
    mask = sample_mask(labels, *plm_loss.state.keep_probabilities(), draws)
    assert 0 < mask.sum() < 191
    loss = plm_loss(logits, labels)
    loss.backward()
    assert torch.equal(logits.grad != 0, mask)
    expected = reference.masked_loss(logits.tolist(), labels.tolist(), mask.tolist())
    assert math.isclose(loss.item(), expected, rel_tol=1e-5)


@pytest.mark.parametrize("preset", ["default", "paper", "off"])
def test_an_unknown_label_has_no_gradient_even_if_the_objective_gives_nan(preset):
    def naive(logits, labels):  # log(0) and its infinite derivative for sure predictions
        p = torch.sigmoid(logits)
        return -(labels * torch.log(p) + (1 - labels) * torch.log(1 - p))

    logits = torch.tensor([[200.0, torch.nan, 1.0], [0.0, 1.0, torch.inf]], requires_grad=True)
    labels = torch.tensor([[torch.nan, -100.0, 1.0], [1.0, 1.0, torch.nan]])
    PLMLoss(COUNTS, preset, objective=naive).eval()(logits, labels).backward()
    assert logits.grad[0, :2].tolist() == [0, 0]
    assert logits.grad[1, 2] == 0
    assert torch.isfinite(logits.grad).all()


def test_the_effective_ratio_of_a_whole_epoch_is_the_ideal_one():
    rows = 20_000
    positives = torch.tensor([10_000, 2_000, 200])
    labels = (torch.arange(rows)[:, None] < positives).float()
    plm_loss = PLMLoss(LabelCounts(positives, rows - positives), temper=0.5, objective="bce", mask="random")
    kept = []
    for rows_of_batch in torch.randperm(rows, generator=torch.Generator().manual_seed(0)).split(100):
        logits = torch.zeros(100, 3, requires_grad=True)
        plm_loss(logits, labels[rows_of_batch]).backward()
        kept.append(logits.grad.sign())  # negative where a positive was kept
    kept_positives = sum((signs < 0).sum(0) for signs in kept)
    kept_negatives = sum((signs > 0).sum(0) for signs in kept)
    keep = plm_loss.state.keep_probabilities()
    variance = (1 - keep[0]) / kept_positives + (1 - keep[1]) / kept_negatives
    ideal = plm_loss.state.ideal_ratio
    assert ((kept_positives / kept_negatives - ideal).abs() <= 3 * ideal * variance.sqrt() + 1e-6).all()
    assert (keep[1][1:] < 1).all()


@pytest.mark.parametrize("preset", ["default", "paper", "off"])
def test_micro_batches_add_up_to_the_whole_batch_for_the_same_masks(preset, monkeypatch):
    seeds = torch.arange(64, dtype=torch.int32) * 12345
    monkeypatch.setattr(
        PLMLoss, "_seeds", lambda self, logits: (seeds[row : row + len(logits)], torch.arange(3, dtype=torch.int32))
    )
    logits, labels = batch()
    row = 0
    settings = {} if preset == "off" else {"mask": "random"}
    whole = PLMLoss(COUNTS, preset, **settings)(logits, labels)
    plm_loss, parts = PLMLoss(COUNTS, preset, **settings), 0
    for size in (10, 30, 24):
        parts = parts + plm_loss(logits[row : row + size], labels[row : row + size], num_known=labels.numel())
        row += size
    torch.testing.assert_close(parts, whole, rtol=1e-6, atol=0)
    (grad_whole,) = torch.autograd.grad(whole, logits)
    (grad_parts,) = torch.autograd.grad(parts, logits)
    torch.testing.assert_close(grad_parts, grad_whole, rtol=1e-6, atol=0)
    assert (grad_whole == 0).any() == (preset != "off")


@pytest.mark.parametrize("fused", [False, True])
def test_labels_may_be_class_ids(fused):
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    class_ids = torch.tensor([[0, 2], [-1, -1], [-100, -100], [1, -100]])
    labels = torch.tensor([[1, 0, 1], [torch.nan] * 3, [0, 0, 0], [0, 1, 0]])
    results = []
    for sparse in (False, True):
        plm_loss = PLMLoss(LabelCounts([30, 5, 1], [70, 95, 99]), fused=fused, sparse=sparse)
        values = logits.clone().requires_grad_()
        loss = plm_loss(values, class_ids if sparse else labels)
        loss.backward()
        results.append(
            (
                loss,
                values.grad,
                plm_loss.state.histograms,
                plm_loss.eval()(logits, labels=class_ids if sparse else labels),
            )
        )
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))
    assert results[0][2].sum() == 9  # one row is unknown


@pytest.mark.parametrize("labels", [torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)], ids=["multi-hot", "1-d"])
def test_an_error_says_what_class_ids_must_be(labels):
    with pytest.raises(ValueError, match="with sparse=True, give the class ids of each row, int64"):
        PLMLoss(LabelCounts([30, 5, 1], [70, 95, 99]), sparse=True)(torch.zeros(4, 3), labels)


def test_masks_repeat_by_seed_and_differ_by_batch():
    logits, labels = batch()
    first, second = (PLMLoss(COUNTS, seed=1, mask="random") for _ in range(2))
    losses = [[loss_fn(logits, labels).item() for _ in range(3)] for loss_fn in (first, second)]
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 3
    assert PLMLoss(COUNTS, seed=2, mask="random")(logits, labels).item() != losses[0][0]


def test_masks_do_not_depend_on_the_default_generator_nor_change_it():
    logits, labels = batch()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first = PLMLoss(COUNTS, mask="random")(logits, labels)
    assert torch.equal(torch.rand(1), expected)
    assert PLMLoss(COUNTS, mask="random")(logits, labels) == first


def test_it_has_neither_parameters_nor_buffers():
    plm_loss = PLMLoss(COUNTS)
    assert not list(plm_loss.parameters())
    assert not list(plm_loss.buffers())
    assert set(plm_loss.state_dict()) == {f"state.{name}" for name in TENSORS}


def test_a_users_objective_replaces_the_named_one():
    def squared(logits, labels):
        return (torch.sigmoid(logits) - labels) ** 2

    logits, labels = batch()
    loss = PLMLoss(COUNTS, objective=squared).eval()(logits, labels)
    torch.testing.assert_close(loss, squared(logits, labels).mean())


@pytest.mark.parametrize("objective", ["bce", "focal", "asymmetric"])
def test_named_objectives_take_their_arguments(objective):
    arguments = {"focal": {"gamma": 3.0}, "asymmetric": {"gamma_negative": 4.0, "gamma_positive": 1.0}}
    plain = PLMLoss(COUNTS, objective=objective).eval()
    changed = PLMLoss(COUNTS, objective=objective, objective_kwargs=arguments.get(objective)).eval()
    logits, labels = batch()
    assert (plain(logits, labels) == changed(logits, labels)) == (objective == "bce")


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (lambda logits, labels: logits.mean(), r"objective returned the shape \(\).*reduction='none'"),
        (lambda logits, labels: logits.mean(1), r"objective returned the shape \(64,\).*\(64, 3\)"),
    ],
)
def test_an_objective_that_is_already_reduced_is_refused(objective, message):
    with pytest.raises(ValueError, match=message):
        PLMLoss(COUNTS, objective=objective)(*batch())


def test_an_objective_that_gives_nan_causes_a_warning():
    plm_loss = PLMLoss(COUNTS, objective=lambda logits, labels: logits / 0 * 0)
    assert plm_loss(*batch()).isnan()
    with pytest.warns(UserWarning, match="^192 known labels had a logit or a loss that was NaN or infinite"):
        plm_loss.end_epoch()
    assert torch.isfinite(plm_loss.state.ideal_ratio).all()


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(4, 2), torch.zeros(4, 2), r"logits have shape \(4, 2\); with 3 labels it must be \(batch, 3\)"),
        (torch.zeros(4), torch.zeros(4), r"logits have shape \(4,\)"),
        (torch.zeros(4, 3), torch.zeros(4), r"labels have shape \(4,\) and logits \(4, 3\)"),
    ],
)
def test_errors_name_wrong_shapes(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        PLMLoss(COUNTS)(logits, labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "best"}, "preset is 'best'; use one of"),
        ({"initial_ratio": "median"}, "initial_ratio is 'median'; it must be"),
        ({"initial_ratio": 0}, "initial_ratio is 0.0; it must be a positive number"),
        ({"temper": 1.5}, r"temper is 1.5; it must be a number in \[0, 1\]"),
        ({"rule": "rise"}, "rule is 'rise'"),
        ({"change_rate": -1}, "change_rate is -1; it must be a number of 0 or more"),
        ({"num_bins": 1}, "num_bins is 1; it must be a whole number of 2 or more"),
        ({"num_bins": 7}, "num_bins is 7; it must be even for the rule 'marginal'"),
        ({"max_shift": 0.5}, "max_shift is 0.5; it must be a number of 1 or more"),
        ({"objective": "hinge"}, "objective is 'hinge'; it must be one of"),
        ({"objective_kwargs": {"gamma": 2}}, "objective_kwargs is {'gamma': 2}, which the objective 'asymmetric'"),
        ({"objective": torch.add, "objective_kwargs": {"alpha": 2}}, "the objective is a callable"),
        ({"update_steps": 0}, "update_steps is 0; it must be 1 or more, or None"),
        ({"update_steps": 2.5}, "update_steps is 2.5; it must be 1 or more, or None"),
    ],
)
def test_wrong_arguments_are_an_error_at_construction(arguments, message):
    with pytest.raises(ValueError, match=message):
        PLMLoss(COUNTS, **arguments)


@pytest.mark.parametrize("objective", ["weighted_bce", "class_balanced", "distribution_balanced", "logit_adjusted"])
def test_objectives_are_given_float_counts(objective):
    def counting(logits, labels, positives, negatives):
        given.append((positives, negatives))
        return OBJECTIVES[objective](logits, labels, positives, negatives)

    given = []
    loss = PLMLoss(COUNTS, objective=counting).eval()(*batch())
    assert [counts.tolist() for counts in given[0]] == [COUNTS.positives.tolist(), COUNTS.negatives.tolist()]
    assert given[0][0].dtype == given[0][1].dtype == torch.float32
    assert loss == PLMLoss(COUNTS, objective=objective).eval()(*batch())


def test_a_plain_pytorch_loop_learns_and_adapts():
    torch.manual_seed(0)
    inputs = torch.randn(256, 4)
    labels = (inputs[:, :3] > torch.tensor([0.0, 1.0, 1.6])).float()
    model = nn.Linear(4, 3)
    plm_loss = PLMLoss(LabelCounts(labels.sum(0), (1 - labels).sum(0)))
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    before = plm_loss.eval()(model(inputs), labels).item()
    plm_loss.train()
    for _ in range(5):
        for rows in torch.arange(256).split(32):
            optimizer.zero_grad()
            plm_loss(model(inputs[rows]), labels[rows]).backward()
            optimizer.step()
        plm_loss.end_epoch()
    assert plm_loss.eval()(model(inputs), labels).item() < before / 2
    assert plm_loss.state.history.shape == (6, 3)
    assert not torch.equal(plm_loss.state.history[0], plm_loss.state.history[-1])
