"""The loss is the same on every device: each test runs on the CPU, and on the GPU if there is one.

The expected values come from `tests/reference.py` and from the eager loss on the CPU.
"""

import math

import pytest
import reference
import torch
from devices import (
    COUNTS,
    NUM_BINS,
    NUM_LABELS,
    loss_and_gradient,
    make_batch,
    make_network,
    never_waiting,
    where_waiting_shows,
)

from hf_plm import PLMLoss, PLMState
from hf_plm.functional import fold, sample_mask, uniform_draws

PRESETS = {
    "paper": reference.bce,
    "default": lambda logit, label: reference.asymmetric(logit, label, 1.0, 0.0, 0.05),
}
ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 2**-7, torch.float16: 2**-10}
"""The allowed relative difference of gradients; counts and keep probabilities are float32."""
DTYPES = list(ROUNDING)
WAYS = ["eager", "compiled"]
EVERY_WAY = [
    pytest.param(way, preset, dtype, marks=[pytest.mark.slow] * (way != "eager"), id=f"{way}-{preset}-{dtype}")
    for way in WAYS
    for preset in PRESETS
    for dtype in DTYPES
    if way == "eager" or preset == "paper" or dtype == torch.float32  # each compilation takes seconds
]
COMPILED_IS_SLOW = ["eager", pytest.param("compiled", marks=pytest.mark.slow)]


def make_loss(way, preset="default", **kwargs):
    return PLMLoss(COUNTS, preset, num_bins=NUM_BINS, fused=way == "compiled", **kwargs)


def slow_loss(plm_loss, objective, logits, labels):
    """The loss of a batch in plain Python; the random numbers of the mask are drawn on the CPU."""
    positives, negatives = COUNTS.positives.tolist(), COUNTS.negatives.tolist()
    ideal = plm_loss.state.ideal_ratio.tolist()
    keep = reference.keep_probabilities(reference.label_ratio(positives, negatives), ideal)
    settings = plm_loss.settings
    weights = reference.class_weights(positives, negatives, *keep, settings.class_weight)
    kept = ~labels.isnan() & (labels != -100)
    if settings.mask == "random":
        draws = uniform_draws(*PLMLoss(COUNTS)._seeds(logits))
        kept = sample_mask(labels, *(torch.tensor(each) for each in keep), draws)
        keep = ([1.0] * NUM_LABELS,) * 2
    total, known = 0.0, 0
    for row_logits, row_labels, row_kept in zip(logits.tolist(), labels.tolist(), kept.tolist(), strict=True):
        for c, (logit, label) in enumerate(zip(row_logits, row_labels, strict=True)):
            known += reference.is_known(label)
            if row_kept[c]:
                total += weights[c] * keep[0 if label == 1 else 1][c] * objective(logit, label)
    return total / known


@pytest.mark.parametrize("way", COMPILED_IS_SLOW)
def test_random_numbers_are_the_same_bits(way, device):
    generator = torch.Generator().manual_seed(0)
    rows, labels = (torch.randint(-(2**31), 2**31, (n,), generator=generator, dtype=torch.int32) for n in (5, 40))
    rows[0], labels[0] = -(2**31), 2**31 - 1
    expected = [[(reference.scramble(r ^ c) >> 8) % 2**24 / 2**24 for c in labels.tolist()] for r in rows.tolist()]
    draw = torch.compile(uniform_draws, dynamic=True) if way == "compiled" else uniform_draws
    assert draw(fold(rows.to(device)), fold(labels.to(device))).tolist() == expected


@pytest.mark.parametrize(("way", "preset", "dtype"), EVERY_WAY)
def test_loss_gradient_and_counts_equal_the_slow_reference(way, preset, dtype, device):
    plm_loss = make_loss(way, preset)
    logits, labels = make_batch(48, dtype)
    loss, gradient = loss_and_gradient(plm_loss, logits, labels, device)
    assert loss.dtype == torch.promote_types(dtype, torch.float32)
    assert gradient.dtype == dtype
    assert math.isclose(loss.item(), slow_loss(plm_loss, PRESETS[preset], logits, labels), rel_tol=1e-5)

    _, expected = loss_and_gradient(make_loss("eager", preset), logits.double(), labels)
    smallest = 2**-24 if dtype == torch.float16 else 1e-12
    torch.testing.assert_close(gradient.double(), expected, rtol=ROUNDING[dtype], atol=smallest)
    if preset == "paper":
        assert 0 < (expected == 0).sum() < expected.numel()
        assert not gradient[expected == 0].any()  # the same mask
    histograms = reference.probability_histograms(logits.double().tolist(), labels.tolist(), NUM_BINS)
    assert plm_loss.state.histograms.tolist() == histograms
    assert plm_loss.state.nonfinite == 0


@pytest.mark.parametrize("way", COMPILED_IS_SLOW)
def test_a_logit_of_zero_is_predicted_and_extreme_ones_are_counted(way, device):
    plm_loss = make_loss(way)
    logits = torch.zeros(6, NUM_LABELS)
    logits[1], logits[2], logits[3], logits[4], logits[5] = 1e4, -1e4, torch.nan, torch.inf, -torch.inf
    labels = torch.ones(6, NUM_LABELS)
    labels[3:] = torch.nan
    loss, gradient = loss_and_gradient(plm_loss, logits, labels, device)
    assert loss.isfinite() and gradient.isfinite().all()
    counts = plm_loss.state.histograms[0].sum(0).tolist()
    assert counts == [NUM_LABELS if place in (0, NUM_BINS // 2, NUM_BINS - 1) else 0 for place in range(NUM_BINS)]
    labels[3, 0] = 1
    loss_and_gradient(plm_loss, logits, labels, device)
    assert plm_loss.state.nonfinite == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("way", COMPILED_IS_SLOW)
def test_under_autocast_the_loss_is_that_of_its_logits(way, dtype, device):
    network, inputs = make_network().to(device), torch.randn(32, 8, generator=torch.Generator().manual_seed(1))
    plm_loss, labels = make_loss(way, mask="random"), make_batch(32)[1].to(device)
    with torch.autocast(device, dtype):
        logits = network(inputs.to(device))
        loss = plm_loss(logits, labels)
    loss.backward()
    assert logits.dtype == dtype and loss.dtype == torch.float32
    expected, gradient = loss_and_gradient(make_loss("eager", mask="random"), logits.detach().cpu(), labels.cpu())
    torch.testing.assert_close(loss.detach().cpu(), expected, rtol=1e-5, atol=0)
    rounding = {"rtol": 4 * ROUNDING[dtype], "atol": 4 * ROUNDING[dtype] * gradient.float().sum(0).abs().max().item()}
    torch.testing.assert_close(network.bias.grad.cpu(), gradient.float().sum(0), **rounding)


@pytest.mark.parametrize("way", COMPILED_IS_SLOW)
def test_a_scaled_float16_gradient_trains(way, device):
    network, inputs = make_network().to(device), torch.randn(32, 8).to(device)
    plm_loss, labels = make_loss(way), make_batch(32)[1].to(device)
    before = network.weight.detach().clone()
    optimizer, scaler = torch.optim.SGD(network.parameters(), 0.1), torch.amp.GradScaler(device)
    for _ in range(3):
        with torch.autocast(device, torch.float16):
            loss = plm_loss(network(inputs), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    assert network.weight.isfinite().all()
    assert not torch.equal(network.weight, before)


@pytest.mark.parametrize("way", COMPILED_IS_SLOW)
def test_a_wrong_label_is_refused_by_the_end_of_the_epoch(way, device, monkeypatch):
    for module in ("eager_loss", "label_checks"):  # treat the CPU as a GPU
        monkeypatch.setattr(f"hf_plm.{module}.can_read", lambda labels: False)
    plm_loss = make_loss(way)
    logits, labels = make_batch(16)
    loss_and_gradient(plm_loss, logits, labels, device)
    plm_loss.raise_for_wrong_labels()
    labels[5, 3:] = 2.5
    loss_and_gradient(plm_loss, logits, labels, device)
    with pytest.raises(ValueError, match="row 5 of the batch, label 3: the label is 2.5"):
        plm_loss.end_epoch()


@pytest.mark.parametrize("way", COMPILED_IS_SLOW)
def test_class_ids_are_the_labels_that_they_name(way, device, monkeypatch):
    monkeypatch.setattr("hf_plm.label_checks.can_read", lambda labels: False)
    logits, _ = make_batch(4)
    class_ids = torch.tensor([[0, 2, 36], [-1, -1, -1], [-100, -100, -100], [1, 1, -100]])
    labels = torch.zeros(4, NUM_LABELS)
    labels[0, [0, 2, 36]], labels[1], labels[3, 1] = 1, torch.nan, 1
    expected = loss_and_gradient(make_loss("eager"), logits, labels)
    plm_loss = make_loss(way, sparse=True)
    torch.testing.assert_close(loss_and_gradient(plm_loss, logits, class_ids, device), expected, rtol=1e-5, atol=1e-9)
    assert plm_loss.state.histograms[0].sum(-1).nonzero().flatten().tolist() == [0, 1, 2, 36]
    plm_loss.raise_for_wrong_labels()
    loss_and_gradient(plm_loss, logits, class_ids + 36, device)
    with pytest.raises(ValueError, match=r"the class id 38 is not in \[0, 37\)"):
        plm_loss.raise_for_wrong_labels()


@pytest.mark.parametrize("rule", ["marginal", "kl"])
def test_the_ideal_ratios_move_as_in_the_slow_reference(rule, device):
    plm_loss = make_loss("eager", rule=rule, change_rate=0.3)
    before = plm_loss.state.ideal_ratio.tolist()
    logits, labels = make_batch(300)
    loss_and_gradient(plm_loss, logits, labels, device)
    plm_loss.end_epoch()
    histograms = reference.probability_histograms(logits.tolist(), labels.tolist(), NUM_BINS)
    ratio = reference.label_ratio(COUNTS.positives.tolist(), COUNTS.negatives.tolist())
    expected = reference.update_ideal_ratio(before, before, ratio, [True] * NUM_LABELS, histograms, rule, 0.3, 100, 0)
    torch.testing.assert_close(plm_loss.state.ideal_ratio.cpu(), torch.tensor(expected), rtol=1e-4, atol=0)
    assert not torch.allclose(torch.tensor(expected), torch.tensor(before), rtol=1e-2)


@pytest.mark.parametrize("way", COMPILED_IS_SLOW)
def test_a_state_continues_on_any_device(way, device, tmp_path):
    whole, part, other = (make_loss(way) for _ in range(3))
    for seed in (0, 1):
        for plm_loss in (whole, part):
            loss_and_gradient(plm_loss, *make_batch(16, seed=seed), device)
        if seed == 0:
            whole.end_epoch()
            part.end_epoch()
    part.state.save(tmp_path / "state.safetensors")
    loaded = PLMState.load(tmp_path / "state.safetensors")
    assert loaded.ideal_ratio.device.type == "cpu"
    part.state = loaded  # replaces one on the device
    other.to(device).load_state_dict(whole.state_dict())
    assert other.state.ideal_ratio.device.type == device
    assert other.cpu().state.histograms.device.type == "cpu"
    results = []
    for plm_loss in (whole, part, other):
        loss, gradient = loss_and_gradient(plm_loss, *make_batch(16, seed=2), device)
        plm_loss.end_epoch()
        results.append((loss, gradient, plm_loss.state.history.cpu(), plm_loss.state.histograms.cpu()))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=0, atol=0)


def test_it_works_with_deterministic_algorithms(device):
    torch.use_deterministic_algorithms(True)
    try:
        results = [loss_and_gradient(make_loss("eager", mask="random"), *make_batch(64), device) for _ in range(2)]
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("preset", [*PRESETS, "off", "sparse"])
@pytest.mark.parametrize("way", WAYS)
def test_no_step_of_the_loss_waits_for_the_device(way, preset, device, monkeypatch):
    where, sparse = where_waiting_shows(device, monkeypatch), preset == "sparse"
    preset = "default" if sparse else preset
    plm_loss = make_loss(way, preset, sparse=sparse)
    logits, labels = make_batch(100)
    labels = torch.tensor([[0, 2, -100]] * 100) if sparse else labels
    logits, labels = logits.to(where).requires_grad_(), labels.to(where)
    for _ in range(3):  # moves the state and compiles
        plm_loss(logits, labels).backward()
    with never_waiting(device):
        for _ in range(4):  # counters of 8 bits are emptied between
            plm_loss(logits, labels).backward()
        with pytest.raises((RuntimeError, NotImplementedError)):
            logits.sum().item()
