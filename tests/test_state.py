"""The state of the method on disk, and what it says of its labels."""

import os

import pytest
import reference
import torch
from safetensors.torch import save_file

from hf_plm import LabelCounts, PLMLoss, PLMState
from hf_plm.presets import PLMSettings

COUNTS = LabelCounts([500, 100, 10], [500, 900, 990])
TENSORS = ("positives", "negatives", "ratio", "ideal_ratio", "histograms", "history")


@pytest.fixture
def trained():
    """A loss whose state has two updates and an unfinished epoch."""
    plm_loss = PLMLoss(COUNTS)
    generator = torch.Generator().manual_seed(0)
    for epoch in range(3):
        for _ in range(2):
            logits = torch.randn(32, 3, generator=generator)
            plm_loss(logits, (logits > 0.3).float())
        if epoch < 2:
            plm_loss.end_epoch()
    return plm_loss


def test_ratio_is_positives_per_negative():
    state = PLMLoss(COUNTS, "off").state
    torch.testing.assert_close(state.ratio, torch.tensor([1.0, 100 / 900, 10 / 990]))
    assert torch.equal(state.ideal_ratio, state.ratio)


def test_presets_start_where_the_specification_says():
    ratio = PLMLoss(COUNTS).state.ratio
    torch.testing.assert_close(PLMLoss(COUNTS).state.ideal_ratio, ratio**0.6)
    torch.testing.assert_close(PLMLoss(COUNTS, "paper").state.ideal_ratio, ratio.mean().expand(3))


def test_shapes_and_dtypes(trained):
    state = trained.state
    dtypes = {"positives": torch.int64, "negatives": torch.int64, "ratio": torch.float32, "ideal_ratio": torch.float32}
    for name, dtype in dtypes.items():
        assert getattr(state, name).shape == (3,)
        assert getattr(state, name).dtype == dtype
    assert state.histograms.shape == (2, 3, 20)
    assert state.history.shape == (3, 3)
    assert torch.equal(state.history[-1], state.ideal_ratio)
    assert [keep.shape for keep in state.keep_probabilities()] == [(3,), (3,)]


def test_histograms_count_masked_labels_too_and_begin_anew_after_an_update():
    plm_loss = PLMLoss(LabelCounts([1], [999]), "paper", initial_ratio=0.1)  # one negative in a hundred is kept
    plm_loss(torch.zeros(50, 1), torch.zeros(50, 1))
    assert plm_loss.state.histograms.sum() == 50
    plm_loss.end_epoch()
    assert plm_loss.state.histograms.sum() == 50  # still readable
    plm_loss(torch.zeros(8, 1), torch.ones(8, 1))
    assert plm_loss.state.histograms.sum((1, 2)).tolist() == [8, 0]


def test_a_saved_state_comes_back_to_the_last_bit_and_goes_on_alike(trained, tmp_path):
    trained.state.save(tmp_path / "state.safetensors")
    other = PLMLoss(COUNTS)
    other.state = PLMState.load(tmp_path / "state.safetensors", num_labels=3)
    for name in TENSORS:
        assert torch.equal(getattr(other.state, name), getattr(trained.state, name)), name
    logits = torch.randn(32, 3, generator=torch.Generator().manual_seed(9))
    losses = [loss_fn(logits, (logits > 0).float()) for loss_fn in (trained, other)]
    assert torch.equal(*losses)
    trained.end_epoch()
    other.end_epoch()
    for name in TENSORS:
        assert torch.equal(getattr(other.state, name), getattr(trained.state, name)), name


def test_a_state_without_an_update_comes_back(tmp_path):
    PLMLoss(COUNTS).state.save(tmp_path / "state.safetensors")
    assert PLMState.load(tmp_path / "state.safetensors").history.shape == (1, 3)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no PLM state at .*nothing"):
        PLMState.load(tmp_path / "nothing")


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(trained, tmp_path, size):
    path = tmp_path / "state.safetensors"
    trained.state.save(path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="is damaged or no safetensors file"):
        PLMState.load(path)


def test_a_foreign_file_is_refused(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="holds no PLM state"):
        PLMState.load(tmp_path / "model.safetensors")
    (tmp_path / "text").write_text("hello" * 100)
    with pytest.raises(ValueError, match="is damaged or no safetensors file"):
        PLMState.load(tmp_path / "text")


def test_a_file_of_another_size_is_refused(trained, tmp_path):
    trained.state.save(tmp_path / "state.safetensors")
    with pytest.raises(ValueError, match="holds the state of 3 labels; there are 4 here"):
        PLMState.load(tmp_path / "state.safetensors", num_labels=4)
    trained.state.ideal_ratio = torch.ones(2)
    trained.state.save(tmp_path / "state.safetensors")
    with pytest.raises(
        ValueError, match=r"ideal_ratio is torch.float32 of shape \(2,\) instead of torch.float32 of \(3,\)"
    ):
        PLMState.load(tmp_path / "state.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("negatives"), "lacks negatives"),
        (lambda tensors: tensors.update(bin_counts=torch.zeros(2, 20, 3)), "bin_counts is torch.float32 of shape"),
        (lambda tensors: tensors.update(positives=torch.tensor(3)), r"positives is torch.int64 of shape \(\)"),
    ],
)
def test_a_file_with_other_contents_is_refused(change, message, trained, tmp_path, monkeypatch):
    def save_changed(tensors, path, metadata):
        change(tensors)
        save_file(tensors, path, metadata)

    monkeypatch.setattr("hf_plm.state_file.save_file", save_changed)
    trained.state.save(tmp_path / "state.safetensors")
    with pytest.raises(ValueError, match=message):
        PLMState.load(tmp_path / "state.safetensors")


def test_a_failed_save_leaves_the_old_file_and_nothing_else(trained, tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    trained.state.save(path)
    before = path.read_bytes()

    def fail(tensors, filename, metadata):
        with open(filename, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("hf_plm.state_file.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        trained.state.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["state.safetensors"]


@pytest.mark.parametrize("start", ["tempered", "mean", "dataset", 0.2])
@pytest.mark.parametrize("rule", ["marginal", "kl", "fixed"])
def test_counts_estimated_on_the_way_equal_the_reference(start, rule):
    settings = {"initial_ratio": start, "rule": rule, "change_rate": 0.3, "num_bins": 10}
    plm_loss = PLMLoss(LabelCounts([0] * 6, [0] * 6), **settings, objective="bce")
    generator = torch.Generator().manual_seed(0)
    frequency = torch.tensor([0.6, 0.3, 0.2, 0.1, 0.0, 0.0])
    positives, negatives, ideal = [0] * 6, [0] * 6, [1.0] * 6
    for update in range(6):
        seen = torch.zeros(2, 6, 10, dtype=torch.long)
        for _ in range(2):
            labels = (torch.rand(8, 6, generator=generator) < frequency).float()
            labels[0, 4] = float(update >= 3)  # comes late; the last label never comes
            logits = torch.randn(8, 6, generator=generator)
            plm_loss(logits, labels)
            seen += torch.tensor(reference.probability_histograms(logits.tolist(), labels.tolist(), 10))
        plm_loss.end_epoch()
        positives, negatives, ideal = reference.update_estimated(
            ideal, positives, negatives, seen.tolist(), start, rule, 0.3
        )
        assert plm_loss.state.positives.tolist() == positives
        assert plm_loss.state.negatives.tolist() == negatives
        torch.testing.assert_close(plm_loss.state.ideal_ratio, torch.tensor(ideal), rtol=1e-4, atol=0)
    assert plm_loss.state.has_ratio.tolist() == [True] * 5 + [False]
    if start != "dataset" or rule != "fixed":
        assert not torch.allclose(plm_loss.state.ideal_ratio, plm_loss.state.ratio)


def test_a_state_that_estimates_its_counts_goes_on_doing_so_when_loaded(tmp_path):
    plm_loss = PLMLoss(LabelCounts([0] * 3, [0] * 3))
    labels = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 1]])
    plm_loss(torch.zeros(3, 3), labels)
    plm_loss.end_epoch()
    plm_loss.state.save(tmp_path / "state.safetensors")
    plm_loss.state = PLMState.load(tmp_path / "state.safetensors")
    plm_loss(torch.zeros(3, 3), labels)
    plm_loss.end_epoch()
    assert plm_loss.state.positives.tolist() == [4, 2, 2]


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
