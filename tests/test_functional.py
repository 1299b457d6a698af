"""The tensor functions equal the slow reference, and numbers computed by hand."""

import ast
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
import torch

from hf_plm import functional, label_tensors
from hf_plm.presets import PRIORS


def random_case(seed, rows=40, num_labels=7):
    """Counts, logits and labels with unknown entries, a class without positives and one without negatives."""
    generator = torch.Generator().manual_seed(seed)
    positives = torch.randint(1, 50, (num_labels,), generator=generator).float()
    negatives = torch.randint(1, 500, (num_labels,), generator=generator).float()
    positives[0] = 0
    negatives[1] = 0
    logits = torch.randn(rows, num_labels, generator=generator) * 3
    labels = (torch.rand(rows, num_labels, generator=generator) < 0.3).float()
    labels[torch.rand(rows, num_labels, generator=generator) < 0.1] = torch.nan
    labels[torch.rand(rows, num_labels, generator=generator) < 0.1] = -100
    return positives, negatives, logits, labels


def close(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=actual.dtype), rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("start", ["tempered", "mean", "dataset", 0.2])
def test_ratios_and_keep_probabilities_equal_the_slow_reference(seed, start):
    positives, negatives, _, _ = random_case(seed)
    ratio = functional.label_ratio(positives, negatives)
    close(ratio, reference.label_ratio(positives.tolist(), negatives.tolist()))
    valid = functional.has_ratio(positives, negatives)
    ideal = functional.initial_ideal_ratio(ratio, valid, start, 0.6, 4.0)
    close(ideal, reference.initial_ideal_ratio(positives.tolist(), negatives.tolist(), start, 0.6, 4.0))
    keep = functional.keep_probabilities(ratio, ideal)
    expected = reference.keep_probabilities(ratio.tolist(), ideal.tolist())
    close(keep[0], expected[0])
    close(keep[1], expected[1])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_bins", [2, 7, 20])
def test_histograms_equal_the_slow_reference(seed, num_bins):
    _, _, logits, labels = random_case(seed)
    histograms = functional.probability_histograms(logits.double(), labels, num_bins)
    assert histograms.dtype == torch.int32
    assert histograms.tolist() == reference.probability_histograms(logits.tolist(), labels.tolist(), num_bins)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_class_weights_equal_the_slow_reference(seed, exponent):
    positives, negatives, _, _ = random_case(seed)
    positives[3] = negatives[3] = 0
    ratio = functional.label_ratio(positives, negatives)
    ideal = functional.initial_ideal_ratio(ratio, functional.has_ratio(positives, negatives), "tempered", 0.5, 10.0)
    keep = functional.keep_probabilities(ratio, ideal)
    weights = functional.class_weights(positives, negatives, keep, exponent)
    expected = reference.class_weights(positives.tolist(), negatives.tolist(), *(k.tolist() for k in keep), exponent)
    close(weights, expected)
    assert weights[3] == weights[0] == weights[1] == 1  # nothing is masked for them


@pytest.mark.parametrize("prior", PRIORS)
def test_offset_and_remaining_shift_add_up_to_the_effect_of_the_masks(prior):
    positives, negatives, _, _ = random_case(0)
    ratio = functional.label_ratio(positives, negatives)
    ideal = functional.initial_ideal_ratio(ratio, functional.has_ratio(positives, negatives), "tempered", 0.5, 10.0)
    assumed = functional.assumed_ratio(ratio, ideal, prior)
    close(assumed, reference.assumed_ratio(ratio.tolist(), ideal.tolist(), prior))
    offset, shift = functional.log_odds_shift(assumed, ideal), functional.log_odds_shift(ratio, assumed)
    close(offset + shift, reference.log_odds_shift(positives.tolist(), negatives.tolist(), ideal.tolist()))


@pytest.mark.parametrize("ideal", [0.05, 0.25, 1.0], ids=["R above I", "R equal to I", "R below I"])
def test_the_effective_ratio_is_the_ideal_one(ideal):
    rows, ratio = 200_000, 0.25
    generator = torch.Generator().manual_seed(0)
    labels = (torch.arange(rows) < rows * ratio / (1 + ratio)).float()[:, None]
    keep = functional.keep_probabilities(torch.tensor([ratio]), torch.tensor([ideal]))
    mask = functional.sample_mask(labels, *keep, torch.rand(rows, 1, generator=generator))
    kept_positives = (mask & (labels == 1)).sum().item()
    kept_negatives = (mask & (labels == 0)).sum().item()
    # The standard error of the quotient, from the binomial standard errors of the kept counts.
    variance = sum(
        (1 - probability.item()) / kept
        for probability, kept in zip(keep, (kept_positives, kept_negatives), strict=True)
    )
    effective = kept_positives / kept_negatives
    assert abs(effective - ideal) <= 3 * ideal * math.sqrt(variance) + 1e-9
    if ideal == ratio:
        assert mask.all()
    else:
        assert not mask.all()


def random_seeds(count, seed):
    return torch.from_numpy(np.random.default_rng(seed).integers(-(2**31), 2**31, count, np.int32))


def test_the_hash_equals_the_slow_reference():
    values = random_seeds(2000, 0)
    assert functional.scramble(values).tolist() == [reference.scramble(value) for value in values.tolist()]
    assert len(functional.scramble(torch.arange(100_000, dtype=torch.int32)).unique()) == 100_000


def test_draws_are_a_function_of_the_seeds_of_row_and_label():
    rows, labels = random_seeds(50, 0), random_seeds(20, 1)
    draws = functional.uniform_draws(rows, labels)
    assert draws.dtype == torch.float32
    assert torch.equal(functional.uniform_draws(rows[10:11], labels), draws[10:11])
    assert torch.equal(functional.uniform_draws(rows, labels[5:6]), draws[:, 5:6])
    assert not torch.equal(functional.uniform_draws(random_seeds(50, 2), labels), draws)


def test_draws_are_uniform_and_independent():
    # Labels in a row have the seeds 0, 1, 2, ... scrambled, as in PLMLoss.
    labels = functional.fold(functional.scramble(torch.arange(300, dtype=torch.int32)))
    draws = functional.uniform_draws(random_seeds(2000, 0), labels)
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = torch.histc(draws, 100, 0, 1)
    expected = draws.numel() / 100
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert 49 < chi_square < 170  # 99 degrees of freedom: outside once in 100,000 cases
    for means, size in ((draws.mean(0), 2000), (draws.mean(1), 300)):
        assert (means - 0.5).abs().max() < 5 * math.sqrt(1 / 12 / size)
    deviations = draws - 0.5
    for left, right in ((draws[:, 1:], draws[:, :-1]), (draws[1:], draws[:-1]), (draws[:, 150:], draws[:, :150])):
        correlation = 12 * ((left - 0.5) * (right - 0.5)).mean()
        assert abs(correlation) < 5 / math.sqrt(left.numel())
    assert abs(12 * (deviations**2).mean() - 1) < 0.01


@pytest.mark.parametrize("seed", range(5))
def test_the_shift_equals_the_slow_reference_and_is_0_where_nothing_is_masked(seed):
    positives, negatives, _, _ = random_case(seed)
    ratio, valid = functional.label_ratio(positives, negatives), functional.has_ratio(positives, negatives)
    ideal = functional.initial_ideal_ratio(ratio, valid, "tempered", 0.6, 100.0)
    shift = functional.log_odds_shift(ratio, ideal)
    close(shift, reference.log_odds_shift(positives.tolist(), negatives.tolist(), ideal.tolist()))
    assert shift[:2].tolist() == [0, 0]
    assert (shift[2:] != 0).all()
    assert not functional.log_odds_shift(ratio, ratio).any()


def test_one_hot_labels_mark_an_unknown_class_as_unknown():
    labels = label_tensors.one_hot_labels(torch.tensor([2, -100, 0]), 3)
    assert labels.dtype == torch.float32
    assert labels[0].tolist() == [0, 0, 1]
    assert labels[1].isnan().all()
    assert labels[2].tolist() == [1, 0, 0]


def test_a_class_id_out_of_range_makes_a_row_of_wrong_labels():
    labels = label_tensors.one_hot_labels(torch.tensor([3, 1, -1]), 3)
    assert label_tensors.wrong_labels(labels).all(1).tolist() == [True, False, True]
    assert labels[0, 0] == 3


def test_multi_hot_labels_of_class_ids():
    class_ids = torch.tensor([[2, 0, -100], [-100, -100, -100], [-1, -1, -1], [0, 1, 2]])
    labels = label_tensors.multi_hot_labels(class_ids, 4)
    assert labels.dtype == torch.int8
    assert labels.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [-100] * 4, [1, 1, 1, 0]]
    ids = torch.full((1, 300), 2)  # an id may occur twice
    assert label_tensors.multi_hot_labels(ids, 4).tolist() == [[0, 0, 1, 0]]


def test_invalid_class_ids_are_found_and_never_used_as_indices():
    class_ids = torch.tensor([[4, 0], [-1, -1], [-100, -100], [-1, 2], [1, -7], [10**12, 3]])
    assert label_tensors.wrong_class_ids(class_ids, 4).tolist() == [
        [True, False],
        [False, False],
        [False, False],
        [True, False],
        [False, True],
        [True, False],
    ]
    assert label_tensors.multi_hot_labels(class_ids, 4)[[0, 5]].tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8]
)
def test_labels_other_than_0_1_and_unknown_are_wrong_in_every_dtype(dtype):
    right, wrong = [0, 1], [2, 100]
    if dtype.is_signed:
        right, wrong = [*right, -100], [*wrong, -1, -101]
    else:
        wrong = [*wrong, 156, 255]  # 156 has the bits of -100
    if dtype.is_floating_point:
        right, wrong = [*right, torch.nan, -0.0], [*wrong, 0.95, 0.05, torch.inf, -torch.inf]
    assert not label_tensors.wrong_labels(torch.tensor(right, dtype=dtype)).any()
    assert label_tensors.wrong_labels(torch.tensor(wrong, dtype=dtype)).all()
    assert not label_tensors.wrong_labels(torch.tensor([True, False])).any()


def test_the_first_of_each_row():
    found = torch.tensor([[False, True, True], [False, False, False], [True, False, True]])
    assert label_tensors.first_in_rows(found).tolist() == [1, 3, 0]


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("label_tensors", set()),
        ("functional", {"label_tensors"}),
        ("objectives", {"functional"}),
        ("by_hand", {"functional", ""}),
        ("packed_histograms", set()),
    ],
)
def test_the_equations_need_only_torch(name, others):
    source = Path(functional.__file__).with_name(f"{name}.py").read_text()
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"torch"} | others


def test_the_balanced_ratio_is_finite_for_a_class_that_nearly_every_row_has():
    ratio = torch.tensor([1e9, 1.0])
    close(functional.assumed_ratio(ratio, ratio, "balanced"), reference.assumed_ratio([1e9, 1.0], [0, 0], "balanced"))
