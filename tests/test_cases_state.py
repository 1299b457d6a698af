"""A state holds the labels, settings and data that it belongs to, and the shift that applied."""

import functools

import pytest
import torch
from matplotlib import pyplot as plt
from scenarios import make_args, make_bert, make_rows, named
from torch import nn

from hf_plm import LabelCounts, PLMLoss, PLMState, PLMTrainer, calibrate
from hf_plm.plots import plot_ratios
from hf_plm.presets import MASKS, PRESETS

NAMES = tuple("abcde")
TRAINING = {
    "plm_change_rate": 0.3,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 16,
    "learning_rate": 1e-2,
    "train_sampling_strategy": "random",
}
SETTINGS = {
    "plm_preset": "off",
    "plm_initial_ratio": 0.5,
    "plm_temper": 0.2,
    "plm_rule": "fixed",
    "plm_change_rate": 0.9,
    "plm_num_bins": 10,
    "plm_max_shift": 7.0,
    "plm_mask": next(mask for mask in MASKS if mask != PRESETS["default"].mask),
    "plm_class_weight": 0.33,
    "plm_prior": "data",
    "plm_update_steps": 2,
    "plm_objective": "focal",
    "plm_objective_kwargs": {"gamma_negative": 3},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A function that returns a checkpoint from the middle of the second of three epochs on 64 rows, and its state."""

    @functools.cache
    def make(names, **kwargs):
        args = make_args(tmp_path_factory.mktemp("run"), **TRAINING, save_strategy="steps", save_steps=6)
        data = make_rows(64)
        PLMTrainer(make_bert(**(named(names) if names else {})), args, train_dataset=data, **kwargs).train()
        path = f"{args.output_dir}/checkpoint-6"
        return path, PLMState.load(f"{path}/plm_state.safetensors")

    return make


@pytest.fixture
def resume(checkpoint, tmp_path):
    """A function that resumes that run with changes."""

    def run(names=NAMES, rows=64, earlier=NAMES, **changes):
        args = make_args(tmp_path, **{**TRAINING, **changes})
        model = make_bert(**(named(names) if names else {}))
        trainer = PLMTrainer(model, args, train_dataset=make_rows(rows))
        trainer.train(resume_from_checkpoint=checkpoint(earlier)[0])
        return trainer

    return run


@pytest.mark.parametrize("names", ["edcba", "abced", "abcdx"])
def test_a_state_with_other_names_or_order_is_refused_and_the_error_shows_both(names, resume):
    with pytest.raises(ValueError, match="plm_restart") as error:
        resume(names)
    shown = str(error.value)
    assert all(name in shown for name in {*names, *NAMES})
    assert "plm_keep_ratios" not in shown  # the ratios belong to other labels
    assert ("order" in shown) is (set(names) == set(NAMES))


def test_a_state_with_the_same_names_or_without_names_is_resumed(resume):
    assert resume().plm_state.label_names == list(NAMES)
    assert len(resume(names=(), earlier=()).plm_state.history) == 4


@pytest.mark.parametrize("name", SETTINGS)
def test_a_state_with_other_settings_is_refused_and_the_error_shows_both_values(name, resume):
    with pytest.raises(ValueError, match="plm_restart|plm_keep_ratios") as error:
        resume(**{name: SETTINGS[name]})
    field = {"plm_preset": "rule"}.get(name, name.removeprefix("plm_"))
    assert field in str(error.value)
    if name != "plm_preset":
        value = SETTINGS[name]
        assert str(next(iter(value.values())) if isinstance(value, dict) else value) in str(error.value)


@pytest.mark.parametrize("rows", [32, 96])
def test_a_state_of_other_training_data_is_refused(rows, resume):
    with pytest.raises(ValueError, match="plm_restart.*plm_keep_ratios"):
        resume(rows=rows)


def test_a_state_of_a_different_custom_objective_is_refused(checkpoint, tmp_path):
    def own(logits, labels):
        return (logits - labels) ** 2

    path, _ = checkpoint((), objective=own)
    trainer = PLMTrainer(make_bert(), make_args(tmp_path, **TRAINING), train_dataset=make_rows(64))
    with pytest.raises(ValueError, match="own"):
        trainer.train(resume_from_checkpoint=path)


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 1e-3},
        {"per_device_train_batch_size": 8},
        {"gradient_accumulation_steps": 2},
        {"plm_fused": False},
        {"num_train_epochs": 4},
        {"seed": 7},
        {"plm_change_rate": 0.3, "plm_temper": PRESETS["default"].temper},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_settings_outside_the_method_may_change(changes, resume, checkpoint):
    state = resume(**changes).plm_state
    assert torch.equal(state.history[:2], checkpoint(NAMES)[1].history)


@pytest.mark.parametrize("changes", [{"plm_change_rate": 0.9}, {"plm_num_bins": 10}, {"plm_preset": "off"}])
def test_a_restart_begins_from_the_start_with_the_new_settings(changes, resume):
    trainer = resume(plm_restart=True, **changes)
    state = trainer.plm_state
    start = PLMLoss(trainer.label_counts, **trainer.args.plm_settings()).state.ideal_ratio
    assert torch.equal(state.history[0], start)
    assert len(state.history) == 3  # after the second and the third epoch


@pytest.mark.parametrize("changes", [{"plm_change_rate": 0.0}, {"plm_num_bins": 10, "plm_rule": "kl"}, {"rows": 96}])
def test_kept_ratios_continue_with_new_settings_and_counts(changes, resume, checkpoint):
    trainer = resume(plm_keep_ratios=True, **changes)
    state = trainer.plm_state
    earlier = checkpoint(NAMES)[1].history[1]
    torch.testing.assert_close(state.history[1], earlier)
    assert state.positives.tolist() == trainer.label_counts.positives.tolist()
    for name, value in changes.items():
        if name != "rows":
            assert getattr(trainer.plm_loss.settings, name.removeprefix("plm_")) == value
    if "plm_change_rate" in changes:
        torch.testing.assert_close(state.ideal_ratio, earlier)


def rare_batches(rows=20_000, share=0.03):
    labels = (torch.rand(rows, 1, generator=torch.Generator().manual_seed(0)) < share).float()
    return labels.split(1_000)


def assert_nothing_was_masked(state):
    assert torch.equal(state.shift_in_force, torch.zeros(state.num_labels))
    assert torch.equal(state.shifts[0], torch.zeros(state.num_labels))


def test_a_streams_first_window_has_no_shift():
    plm_loss = PLMLoss(LabelCounts([0], [0]), objective="bce")
    for labels in rare_batches():
        plm_loss(torch.zeros(len(labels), 1), labels)
    assert_nothing_was_masked(plm_loss.state)
    plm_loss.end_epoch()
    assert_nothing_was_masked(plm_loss.state)  # no batch was trained with the current ratios
    assert plm_loss.state.shifts[1] > 1
    figure = plot_ratios(plm_loss.state)
    heights = [line.get_ydata() for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 2]
    assert {float(each[0]) for each in heights} == {1.0}
    plt.close("all")

    model = nn.Sequential(nn.Linear(2, 1))
    before = model[0].bias.item()
    calibrate(model, plm_loss.state, {"input": torch.randn(4, 2)})
    assert model[0].bias.item() == before


def test_a_label_first_seen_in_the_last_window_has_no_shift():
    plm_loss = PLMLoss(LabelCounts([0, 0], [0, 0]), objective="bce", rule="fixed")
    for window in range(2):
        for rare in rare_batches():
            labels = torch.cat([rare, rare.flip(0) if window else torch.zeros_like(rare)], 1)
            plm_loss(torch.zeros(len(labels), 2), labels)
        plm_loss.end_epoch()
    shift = plm_loss.state.shift_in_force
    assert shift[0] > 1 and shift[1] == 0
    assert (plm_loss.state.shifts[:2, 1] == 0).all() and plm_loss.state.shifts[2, 1] > 1


def test_the_shift_is_that_of_the_batches_not_of_the_later_update():
    plm_loss = PLMLoss(LabelCounts([10, 300], [990, 700]), change_rate=1.0)
    start = torch.log(plm_loss.state.ideal_ratio / plm_loss.state.ratio)
    plm_loss(torch.ones(4, 2), torch.tensor([[1.0, 0], [0, 1], [0, 0], [0, 0]]))
    for _ in range(3):  # updates without a batch change nothing
        plm_loss.end_epoch()
        torch.testing.assert_close(plm_loss.state.shift_in_force, start)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("half", [False, True], ids=["", "half"])
def test_a_state_dict_carries_the_ratios(nested, half, tmp_path):
    def make():
        plm_loss = PLMLoss(LabelCounts([10, 300], [990, 700], ["a", "b"]), change_rate=1.0)
        return nn.ModuleDict({"loss": plm_loss, "model": nn.Linear(2, 2)}) if nested else plm_loss

    module, other = make(), make()
    plm_loss, loaded = (each["loss"] if nested else each for each in (module, other))
    plm_loss(torch.ones(4, 2), torch.tensor([[1.0, 0], [0, 1], [0, 0], [0, 0]]))
    plm_loss.end_epoch()
    plm_loss(torch.ones(4, 2), torch.zeros(4, 2))
    module = module.half() if half else module
    torch.save(module.state_dict(), tmp_path / "state.pt")
    missing = other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert not missing.missing_keys and not missing.unexpected_keys
    for name in ("history", "histograms", "ideal_ratio", "positives", "shifts"):
        assert torch.equal(getattr(loaded.state, name), getattr(plm_loss.state, name)), name
    assert loaded.state.ideal_ratio.dtype == torch.float32 and loaded.state.positives.dtype == torch.int64
    assert (loaded.state.num_batches, loaded.state.is_measuring) == (2, True)


@pytest.mark.parametrize(
    ("counts", "settings", "shown"),
    [
        (LabelCounts([10, 300], [990, 700], ["b", "a"]), {}, "order"),
        (LabelCounts([10, 300, 1], [990, 700, 999], ["a", "b", "c"]), {}, "3"),
        (LabelCounts([11, 300], [989, 700], ["a", "b"]), {}, "11|positives|counts"),
        (LabelCounts([10, 300], [990, 700], ["a", "b"]), {"change_rate": 0.1}, "change_rate"),
    ],
)
def test_a_state_dict_of_a_different_loss_is_refused(counts, settings, shown):
    plm_loss = PLMLoss(LabelCounts([10, 300], [990, 700], ["a", "b"]))
    other = PLMLoss(counts, **settings)
    with pytest.raises(ValueError, match=shown):
        other.load_state_dict(plm_loss.state_dict())
    with pytest.raises(ValueError, match=shown):
        other.state = plm_loss.state


def test_a_state_with_a_different_number_of_labels_is_refused_and_the_error_says_what_to_do(checkpoint, tmp_path):
    data = make_rows(32).map(lambda row: {"labels": row["labels"][:3]})
    trainer = PLMTrainer(make_bert(3), make_args(tmp_path, **TRAINING), train_dataset=data)
    with pytest.raises(ValueError, match="5 labels there and 3 here.*plm_restart"):
        trainer.train(resume_from_checkpoint=checkpoint(())[0])


def test_a_run_resumed_after_its_last_step_ends_as_before(tmp_path):
    runs = []
    for resumed in (False, True):
        args = make_args(tmp_path, **TRAINING, save_strategy="steps", save_steps=12)
        runs.append(PLMTrainer(make_bert(), args, train_dataset=make_rows(64)))
        runs[-1].train(resume_from_checkpoint=f"{tmp_path}/checkpoint-12" if resumed else None)
    whole, resumed = (trainer.plm_state for trainer in runs)
    assert torch.equal(resumed.history, whole.history) and len(whole.history) == 4
    assert not resumed.is_measuring
