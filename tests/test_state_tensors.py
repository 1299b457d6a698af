"""The state is moved, saved and loaded, on its own and as part of other modules."""

import copy
import os
import pickle

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn

from hf_plm import LabelCounts, PLMLoss, PLMState
from hf_plm.state_tensors import TENSORS as DECLARED

COUNTS = LabelCounts([500, 100, 10], [500, 900, 990])
TENSORS = ("positives", "negatives", "ratio", "ideal_ratio", "shift_in_force", "histograms", "history", "shifts")


def test_a_loaded_state_is_bit_identical_and_continues_in_the_same_way(trained, tmp_path):
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


def test_a_state_without_an_update_can_be_loaded(tmp_path):
    PLMLoss(COUNTS).state.save(tmp_path / "state.safetensors")
    assert PLMState.load(tmp_path / "state.safetensors").history.shape == (1, 3)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no PLM state at .*nothing"):
        PLMState.load(tmp_path / "nothing")


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(trained, tmp_path, size):
    path = tmp_path / "state.safetensors"
    trained.state.save(path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="is damaged or not a safetensors file"):
        PLMState.load(path)


def test_a_foreign_file_is_refused(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="without a PLM state"):
        PLMState.load(tmp_path / "model.safetensors")
    (tmp_path / "text").write_text("hello" * 100)
    with pytest.raises(ValueError, match="is damaged or not a safetensors file"):
        PLMState.load(tmp_path / "text")


def test_a_file_of_a_different_size_is_refused(trained, tmp_path):
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
        (lambda tensors: tensors.update(histograms=torch.zeros(2, 3, 20)), "histograms is torch.float32 of shape"),
        (lambda tensors: tensors.update(positives=torch.tensor(3.0)), r"positives is torch.float32 of shape \(\)"),
        (lambda tensors: tensors.update(positives=torch.tensor(3)), r"positives is torch.int64 of shape \(\) instead"),
        (lambda tensors: tensors.update(shifts=torch.zeros(2, 3)), r"shifts is .* \(2, 3\) instead of .* of \(3, 3\)"),
        (lambda tensors: tensors.update(facts=tensors["facts"][:-9]), "its facts are damaged"),
        (
            lambda tensors: tensors.update(facts=torch.tensor(list(b"{}"), dtype=torch.uint8)),
            "its facts lack label_na",
        ),
        (lambda tensors: tensors.update(facts=torch.tensor(list(b"3"), dtype=torch.uint8)), "its facts are damaged"),
    ],
)
def test_a_file_with_other_contents_is_refused(change, message, trained, tmp_path, monkeypatch):
    def save_changed(tensors, path, metadata):
        change(tensors)
        save_file(tensors, path, metadata)

    monkeypatch.setattr("hf_plm.state_tensors.save_file", save_changed)
    trained.state.save(tmp_path / "state.safetensors")
    with pytest.raises(ValueError, match=message):
        PLMState.load(tmp_path / "state.safetensors")


def test_a_file_of_an_earlier_version_is_refused_and_the_error_says_what_to_do(tmp_path):
    names = ("positives", "negatives", "ideal_ratio")
    save_file({name: torch.ones(3) for name in names}, tmp_path / "old", {"format": "hf_plm.state"})
    with pytest.raises(ValueError, match="old was written by an earlier version .* plm_restart=True .*a new PLMLoss"):
        PLMState.load(tmp_path / "old")


def test_names_for_only_some_of_the_labels_are_refused(trained, tmp_path):
    trained.state.label_names = ["a", "b"]
    trained.state.save(tmp_path / "state")
    with pytest.raises(ValueError, match="has 2 label names and counts of 3 labels"):
        PLMState.load(tmp_path / "state")


def test_a_failed_save_leaves_the_old_file_and_nothing_else(trained, tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    trained.state.save(path)
    before = path.read_bytes()

    def fail(tensors, filename, metadata):
        with open(filename, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("hf_plm.state_tensors.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        trained.state.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["state.safetensors"]


def test_a_loaded_state_continues_to_estimate_its_counts(tmp_path):
    plm_loss = PLMLoss(LabelCounts([0] * 3, [0] * 3))
    labels = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 1]])
    plm_loss(torch.zeros(3, 3), labels)
    plm_loss.end_epoch()
    plm_loss.state.save(tmp_path / "state.safetensors")
    plm_loss.state = PLMState.load(tmp_path / "state.safetensors")
    plm_loss(torch.zeros(3, 3), labels)
    plm_loss.end_epoch()
    assert plm_loss.state.positives.tolist() == [4, 2, 2]


def test_names_and_settings_are_saved_and_loaded(tmp_path):
    def squared(logits, labels):
        return (torch.sigmoid(logits) - labels) ** 2

    names = ["cat", "käse\n", ""]
    counts = LabelCounts([1, 2, 3], [4, 5, 6], names)
    plm_loss = PLMLoss(counts, objective=squared, update_steps=7, initial_ratio=0.25)
    plm_loss.state.save(tmp_path / "state")
    loaded = PLMState.load(tmp_path / "state")
    assert loaded.label_names == names
    assert loaded.settings == plm_loss.settings.to_dict() == plm_loss.state.settings
    assert (loaded.settings["update_steps"], loaded.settings["initial_ratio"]) == (7, 0.25)
    assert loaded.settings["objective"] == "test_names_and_settings_are_saved_and_loaded.<locals>.squared"
    assert not plm_loss.state.differences(loaded)


def go_on(plm_loss):
    """The whole state after a batch and an update."""
    logits = torch.randn(32, 3, generator=torch.Generator().manual_seed(9)).requires_grad_()
    loss = plm_loss(logits, (logits > 0).float())
    loss.backward()
    plm_loss.end_epoch()
    return [loss.detach(), logits.grad, *(getattr(plm_loss.state, name) for name in TENSORS)]


class Lightning(nn.Module):
    """A model with its loss as a submodule, as in a `LightningModule`."""

    def __init__(self):
        super().__init__()
        self.model = nn.Linear(4, 3)
        self.criterion = PLMLoss(COUNTS)


def through_torch_save(plm_loss, folder):
    torch.save(plm_loss.state_dict(), folder / "loss.pt")
    fresh = PLMLoss(COUNTS)
    fresh.load_state_dict(torch.load(folder / "loss.pt", weights_only=True))
    return fresh


def through_safetensors(plm_loss, folder):
    save_file(plm_loss.state_dict(), folder / "loss.safetensors")
    fresh = PLMLoss(COUNTS)
    fresh.load_state_dict(load_file(folder / "loss.safetensors"))
    return fresh


def through_a_larger_module(plm_loss, folder):
    whole, other = Lightning(), Lightning()
    whole.criterion = plm_loss
    torch.save({"state_dict": whole.state_dict()}, folder / "whole.ckpt")
    other.load_state_dict(torch.load(folder / "whole.ckpt", weights_only=True)["state_dict"])
    return other.criterion


def through_accelerate(plm_loss, folder):
    accelerator, fresh = Accelerator(cpu=True), PLMLoss(COUNTS)
    accelerator.register_for_checkpointing(plm_loss)
    accelerator.save_state(folder / "accelerate")
    accelerator._custom_objects[:] = [fresh]
    accelerator.load_state(folder / "accelerate")
    return fresh


@pytest.mark.parametrize(
    "through",
    [
        through_torch_save,
        through_safetensors,
        through_a_larger_module,
        through_accelerate,
        lambda plm_loss, folder: copy.deepcopy(plm_loss),
        lambda plm_loss, folder: pickle.loads(pickle.dumps(plm_loss)),
    ],
    ids=["torch.save", "safetensors", "a larger module", "accelerate", "deepcopy", "pickle"],
)
@pytest.mark.parametrize("fused", [False, True])
def test_the_state_is_saved_and_loaded_with_its_loss(through, fused, trained, tmp_path):
    trained.fused = fused
    trained(torch.zeros(4, 3), torch.zeros(4, 3))
    other = through(trained, tmp_path)
    assert other.state is not trained.state
    assert other.state.num_batches == 7
    for found, expected in zip(go_on(other), go_on(trained), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6 if fused else 0, atol=0)


def test_the_state_dict_holds_copies_of_the_tensors(trained):
    saved = trained.state_dict()
    assert set(saved) == {f"state.{name}" for name in DECLARED}
    copies = {name: tensor.clone() for name, tensor in saved.items()}
    other = PLMLoss(COUNTS)
    other.load_state_dict(saved)
    go_on(trained)
    go_on(other)
    assert all(torch.equal(saved[name], copies[name]) for name in saved)


def test_a_state_dict_without_the_state_is_an_error(trained):
    with pytest.raises(RuntimeError, match='Missing key.*"state.positives"'):
        trained.load_state_dict({})
    surplus = {**trained.state_dict(), "state.mystery": torch.zeros(1)}
    with pytest.raises(RuntimeError, match='Unexpected key.*"state.mystery"'):
        trained.load_state_dict(surplus)
    damaged = {**trained.state_dict(), "state.history": torch.zeros(3, 3).half()}
    with pytest.raises(ValueError, match="the state_dict: history is torch.float16"):
        trained.load_state_dict(damaged)


def test_the_state_is_neither_a_parameter_nor_a_buffer():
    whole = Lightning()
    assert not list(whole.criterion.parameters())
    assert not list(whole.named_buffers())
    assert [name for name, _ in whole.named_parameters()] == ["model.weight", "model.bias"]
    assert any(name.startswith("criterion.state.") for name in whole.state_dict())


@pytest.mark.parametrize("change", [nn.Module.half, nn.Module.double, lambda module: module.to(torch.bfloat16)])
def test_its_dtypes_do_not_change(change, trained):
    whole = Lightning()
    whole.criterion = trained
    before = trained.state_dict()
    change(whole)
    assert whole.model.weight.dtype != torch.float32
    after = trained.state_dict()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype == DECLARED[name.removeprefix("state.")][0]
        assert torch.equal(after[name], tensor)


def test_all_tensors_move_together(trained):
    trained.to("meta")
    for name in DECLARED:
        assert name == "facts" or getattr(trained.state, name).device.type == "meta", name
    assert {keep.device.type for keep in trained.state.keep_probabilities()} == {"meta"}
    assert trained.state.shift().device.type == "meta"


@pytest.mark.parametrize("rank", [0, 1])
def test_running_measurements_that_every_rank_loads_count_once(rank, trained, monkeypatch):
    monkeypatch.setattr("hf_plm.state.process_rank", lambda: rank)
    other = PLMLoss(COUNTS)
    other.load_state_dict(trained.state_dict())
    assert other.state.is_measuring
    assert other.state.histograms.sum() == (0 if rank else trained.state.histograms.sum()) != 1
