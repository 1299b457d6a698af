"""Counters of 8 bits have the same counts as histograms, and are emptied before they overflow."""

import pytest
import torch

from hf_plm import LabelCounts, PLMLoss, PLMState
from hf_plm.functional import probabilities, probability_bins, probability_histograms
from hf_plm.label_tensors import known_labels
from hf_plm.packed_histograms import NOT_COUNTED, PackedHistograms

NUM_LABELS = 11


def batch(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, NUM_LABELS, generator=generator) * 3
    labels = (torch.rand(rows, NUM_LABELS, generator=generator) < 0.3).float()
    labels[torch.rand(rows, NUM_LABELS, generator=generator) < 0.1] = torch.nan
    return logits, labels


@pytest.mark.parametrize("num_bins", [2, 7, 20, pytest.param(127, marks=pytest.mark.slow)])
def test_they_have_the_same_counts_as_histograms(num_bins):
    packed, histograms = PackedHistograms(), torch.zeros(2, num_bins, NUM_LABELS, dtype=torch.int32)
    expected = torch.zeros(2, NUM_LABELS, num_bins, dtype=torch.int32)
    for seed, rows in enumerate((3, 300, 254, 1, 1, 600)):
        logits, labels = batch(rows, seed)
        bins = probability_bins(probabilities(logits), num_bins) + (labels != 1) * num_bins
        packed.add(torch.where(known_labels(labels), bins, NOT_COUNTED).to(torch.uint8), histograms)
        expected += probability_histograms(logits, labels, num_bins)
    assert not torch.equal(histograms.transpose(1, 2), expected)
    for _ in range(2):  # the second time there is nothing to add
        packed.flush(histograms)
        assert torch.equal(histograms.transpose(1, 2), expected)


def test_many_rows_overflow_no_counter():
    # All probabilities of label 0 are in one bin: its 8-bit counter must be emptied before it overflows.
    fused = PLMLoss(LabelCounts([10] * NUM_LABELS, [90] * NUM_LABELS), fused=True, num_bins=6)
    for rows in (200, 56, 600, 1, 255):
        fused(torch.full((rows, NUM_LABELS), -5.0), torch.zeros(rows, NUM_LABELS))
    assert fused.state.histograms[1, :, 0].tolist() == [1112] * NUM_LABELS
    assert fused.state.histograms.sum() == 1112 * NUM_LABELS


def test_the_state_is_saved_whole_in_the_middle_of_an_epoch(tmp_path):
    counts = LabelCounts([10] * NUM_LABELS, [90] * NUM_LABELS)
    fused, eager = PLMLoss(counts, fused=True), PLMLoss(counts, fused=False)
    for plm_loss in (fused, eager):
        plm_loss(*batch(16))
        plm_loss.state.save(tmp_path / "state.safetensors")
        plm_loss.state = PLMState.load(tmp_path / "state.safetensors")
        plm_loss(*batch(16))
    assert torch.equal(fused.state.histograms, eager.state.histograms)
    assert fused.state.histograms.sum() == 2 * known_labels(batch(16)[1]).sum()
