"""The losses of other papers in the benchmarks: each equals its slow reference and trains."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import scenarios
import torch
from reference import is_known, sigmoid

from hf_plm import count_labels

ROOT = Path(__file__).parent.parent
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "examples")]

import rivals  # noqa: E402
import studies  # noqa: E402
import tasks  # noqa: E402
import training  # noqa: E402

POSITIVES, NEGATIVES = torch.tensor([50.0, 500, 3, 0]), torch.tensor([950.0, 500, 997, 1000])
LABELS = torch.tensor(
    [
        [1, 0, 1, 0],
        [0, 1, 0, math.nan],
        [0, 0, 0, 0],
        [1, 1, 1, -100],
        [-100, math.nan, -100, math.nan],
        [0, 1, math.nan, 0],
    ]
).double()
LOGITS = torch.randn(LABELS.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3


def slow_ldam(logit, label, n, max_margin, scale):
    smallest = min(each for each in POSITIVES.tolist() if each > 0)
    if label == 1:
        return -math.log(sigmoid(scale * (logit - max_margin * (smallest / n) ** (1 / 4))))
    return -math.log(1 - sigmoid(scale * logit))


def slow_robust_asymmetric(logit, label, gamma_negative, gamma_positive, margin, hill):
    p = sigmoid(logit)
    if label == 1:
        return (1 - p) ** gamma_positive * (-math.log(p) - (1 - p) + 1.25 * (1 - p) ** 2)
    shifted = max(p - margin, 0)
    return -(p**2) * (hill - p) * (hill - (1 - shifted)) * shifted**gamma_negative * math.log(1 - shifted)


def sides(logits, labels):
    """The logits of the positives, and those of the negatives."""
    pairs = [(z, y) for z, y in zip(logits, labels, strict=True) if is_known(y)]
    return [z for z, y in pairs if y == 1], [z for z, y in pairs if y == 0]


def slow_zlpr(logits, labels):
    losses = []
    for row in zip(logits, labels, strict=True):
        positive, negative = sides(*row)
        losses.append(
            math.log(1 + sum(math.exp(-z) for z in positive)) + math.log(1 + sum(math.exp(z) for z in negative))
        )
    return sum(losses) / len(losses)


def slow_two_way(logits, labels, temperature):
    total = 0.0
    for rows in (
        zip(logits, labels, strict=True),
        zip(zip(*logits, strict=True), zip(*labels, strict=True), strict=True),
    ):
        losses = []
        for row in rows:
            positive, negative = sides(*row)
            if positive and negative:
                highest = sum(math.exp(z) for z in negative)
                lowest = sum(math.exp(-z / temperature) for z in positive)
                losses.append(math.log(1 + highest * lowest**temperature))
        total += sum(losses) / len(losses)
    return total


@pytest.mark.parametrize("arguments", [{"max_margin": 0.5, "scale": 1.0}, {"max_margin": 1.0, "scale": 3.0}])
def test_ldam_equals_the_slow_reference(arguments):
    labels = (LABELS == 1).double()
    losses = rivals.ldam(LOGITS, labels, POSITIVES, NEGATIVES, **arguments)
    expected = [
        [slow_ldam(z, y, n, **arguments) for z, y, n in zip(*row, POSITIVES.tolist(), strict=True)]
        for row in zip(LOGITS.tolist(), labels.tolist(), strict=True)
    ]
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("gammas", [(4.0, 0.0), (1.0, 1.0), (0.0, 0.0)])
@pytest.mark.parametrize("margin", [0.0, 0.05])
@pytest.mark.parametrize("hill", [1.5, 1.0])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_robust_asymmetric_equals_the_slow_reference(gammas, margin, hill, label):
    logits = torch.linspace(-8, 8, 32, dtype=torch.float64).view(8, 4)
    losses = rivals.robust_asymmetric(
        logits, torch.full_like(logits, label), POSITIVES, NEGATIVES, *gammas, margin, hill
    )
    expected = [slow_robust_asymmetric(z, label, *gammas, margin, hill) for z in logits.flatten().tolist()]
    torch.testing.assert_close(losses.flatten(), torch.tensor(expected, dtype=torch.float64))


def test_zlpr_equals_the_slow_reference():
    assert rivals.zlpr(LOGITS, LABELS).item() == pytest.approx(slow_zlpr(LOGITS.tolist(), LABELS.tolist()))


@pytest.mark.parametrize("temperature", [4.0, 1.0])
def test_two_way_equals_the_slow_reference(temperature):
    expected = slow_two_way(LOGITS.tolist(), LABELS.tolist(), temperature)
    assert rivals.two_way(LOGITS, LABELS, temperature).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", rivals.RIVALS)
@pytest.mark.parametrize("far", [1.0, 1e3])
def test_losses_and_gradients_are_finite_and_unknown_labels_have_none(name, far):
    for labels in (LABELS.float(), torch.zeros(2, 4), torch.ones(2, 4), torch.full((2, 4), torch.nan)):
        logits = (LOGITS[: len(labels)].float() * far).requires_grad_()
        if name in rivals.ELEMENT_WISE:
            labels = labels.masked_fill(~rivals.known_labels(labels), 0)
            loss = rivals.RIVALS[name](logits, labels, POSITIVES, NEGATIVES).sum()
        else:
            loss = rivals.RIVALS[name](logits, labels)
        loss.backward()
        assert loss.isfinite() and logits.grad.isfinite().all()
        assert (logits.grad[~rivals.known_labels(labels)] == 0).all()


def tiny_task():
    data = scenarios.make_rows(96)
    labels = [np.flatnonzero(row).tolist() for row in np.asarray(data["labels"])]
    rows = tasks.rows_of({"input_ids": torch.tensor(data["input_ids"][:])}, labels)
    parts = [rows.select(range(first, last)) for first, last in ((0, 64), (64, 80), (80, 96))]
    return tasks.Task(*parts, count_labels(parts[0], 5), scenarios.make_bert, 1, 16, 1e-2)


def test_a_run_trains_with_each_and_is_named_after_all_its_arguments(tmp_path):
    task, predictions = tiny_task(), {}
    original = training.PLMTrainer.compute_loss
    for name in [None, *rivals.RIVALS]:
        settings = studies.off() if name is None else studies.off(rival=name)
        trainer = training.train(task, training.Run("tiny", settings, 0), str(tmp_path))
        predictions[name] = trainer.predict(task.validation).predictions
        assert np.isfinite(predictions[name]).all()
    assert len({values.tobytes() for values in predictions.values()}) == 5
    assert training.PLMTrainer.compute_loss is original

    changed = studies.off(rival="two_way", rival_kwargs={"temperature": 1.0})
    values = training.train(task, training.Run("tiny", changed, 0), str(tmp_path)).predict(task.validation).predictions
    assert not np.array_equal(values, predictions["two_way"])
    named = [
        training.Run("tiny", studies.off(rival="two_way", **more), 0).resolved()
        for more in ({}, {"rival_kwargs": {"temperature": 4}})
    ]
    assert named[0] == named[1] != training.Run("tiny", changed, 0).resolved()
    assert not {"rival", "rival_kwargs"} & set(training.Run("tiny", studies.off(), 0).resolved())


@pytest.mark.parametrize(
    "settings", [studies.masks(rival="zlpr"), studies.off(rival="ldam", plm_objective="focal")], ids=["masks", "two"]
)
def test_a_rival_with_settings_that_it_replaces_is_refused(settings, tmp_path):
    with pytest.raises(ValueError, match="rival"):
        training.train(tiny_task(), training.Run("tiny", settings, 0), str(tmp_path))
