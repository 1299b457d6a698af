"""The state of several ranks in the files of a checkpoint; `test_distributed.py` runs two real ranks."""

import os

import pytest
import torch

from hf_plm import LabelCounts, PLMLoss, PLMState
from hf_plm.checkpoints import load_checkpoint, save_checkpoint
from hf_plm.presets import PLMSettings


def test_a_checkpoint_of_one_process_is_one_file(trained, tmp_path):
    save_checkpoint(trained.state, tmp_path / "new" / "folder")
    assert os.listdir(tmp_path / "new" / "folder") == ["plm_state.safetensors"]
    loaded = load_checkpoint(tmp_path / "new" / "folder", 3)
    assert torch.equal(loaded.histograms, trained.state.histograms)
    with pytest.raises(ValueError, match="there are 4 here"):
        load_checkpoint(tmp_path / "new" / "folder", 4)


@pytest.fixture
def on_ranks(monkeypatch):
    """A function that makes this process look like one of several."""

    def become(rank, num_ranks):
        for module in ("checkpoints", "state", "eager_loss"):
            monkeypatch.setattr(f"hf_plm.{module}.process_rank", lambda: rank)
        for module in ("checkpoints", "state_tensors"):
            monkeypatch.setattr(f"hf_plm.{module}.num_processes", lambda: num_ranks)

    return become


def saved_by(num_ranks, folder, on_ranks, ranks=None, batches=1):
    """Rank r saw r + 1 rows in each batch; one of them has a NaN logit."""
    for rank in range(num_ranks) if ranks is None else ranks:
        on_ranks(rank, num_ranks)
        plm_loss = PLMLoss(LabelCounts([1], [3]))
        for _ in range(batches):
            plm_loss(torch.tensor([[torch.nan], *[[0.0]] * (rank + 1)]), torch.zeros(rank + 2, 1))
        save_checkpoint(plm_loss.state, folder)


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 5])
def test_any_number_of_ranks_continues_with_the_measurements_of_three(num_ranks, tmp_path, on_ranks):
    saved_by(3, tmp_path, on_ranks)
    assert sorted(os.listdir(tmp_path)) == [
        "plm_state.safetensors",
        "plm_state_rank1.safetensors",
        "plm_state_rank2.safetensors",
    ]
    seen, nonfinite = [], 0
    for rank in range(num_ranks):
        on_ranks(rank, num_ranks)
        state = load_checkpoint(tmp_path)
        assert state.is_measuring
        assert state.num_batches == 1
        seen.append(state.histograms.sum().item())
        nonfinite += state.nonfinite.item()
    assert seen == {1: [6], 2: [1 + 3, 2], 3: [1, 2, 3], 5: [1, 2, 3, 0, 0]}[num_ranks]
    assert nonfinite == 3


def test_an_error_names_a_rank_whose_measurements_are_missing_or_from_another_batch(tmp_path, on_ranks):
    saved_by(2, tmp_path, on_ranks, ranks=[0])
    for rank in (0, 1):
        on_ranks(rank, 2)
        with pytest.raises(ValueError, match="plm_state_rank1.safetensors is missing: .* 2 ranks .* plm_restart=True"):
            load_checkpoint(tmp_path)
    saved_by(2, tmp_path, on_ranks, ranks=[1], batches=2)
    for rank in (0, 1):
        on_ranks(rank, 2)
        with pytest.raises(ValueError, match="plm_state_rank1.safetensors is of batch 2 and .* of batch 1"):
            load_checkpoint(tmp_path)


def test_a_rank_removes_the_measurements_that_an_update_has_used(tmp_path, on_ranks):
    saved_by(2, tmp_path, on_ranks)
    state = PLMState(LabelCounts([1], [3]), PLMSettings.from_preset("default"))
    for rank in (1, 0):
        on_ranks(rank, 2)
        save_checkpoint(state, tmp_path)
    assert os.listdir(tmp_path) == ["plm_state.safetensors"]
    assert not load_checkpoint(tmp_path).is_measuring
