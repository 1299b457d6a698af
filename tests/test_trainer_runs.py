"""The seed decides what a run draws, and its log has the ratios."""

import pytest
import torch
from scenarios import make_rows

import hf_plm.few_passes
from hf_plm import PLMTrainer


@pytest.fixture
def masks_of(make_bert, make_args, monkeypatch):
    """A function that trains and returns the mask of every batch."""
    original = hf_plm.few_passes.sample_mask

    def run(**kwargs):
        drawn = []
        monkeypatch.setattr("hf_plm.few_passes.sample_mask", lambda *args: drawn.append(original(*args)) or drawn[-1])
        args = make_args(learning_rate=0.0, train_sampling_strategy="sequential", plm_mask="random", **kwargs)
        trainer = PLMTrainer(make_bert(), args, train_dataset=make_rows(64))
        trainer.train()
        return torch.stack(drawn)

    return run


def test_the_masks_of_a_run_follow_the_seed_of_its_arguments(masks_of):
    first, again, other = masks_of(seed=1), masks_of(seed=1), masks_of(seed=2)
    assert first.shape == (4, 16, 5)
    assert not first.all()
    assert torch.equal(first, again)
    assert all(not torch.equal(one, another) for one, another in zip(first, other, strict=True))


def test_the_seed_of_the_masks_is_that_of_the_arguments_when_training_begins(make_bert, make_args):
    args = make_args(seed=7)
    trainer = PLMTrainer(make_bert(), args, train_dataset=make_rows(16))
    assert trainer.plm_loss.seed == 7
    args.seed = 8
    trainer.train()
    assert trainer.plm_loss.seed == 8


@pytest.fixture
def rows_of(make_bert, make_args):
    """A function that returns the rows of two epochs of class-aware sampling."""

    def run(**kwargs):
        data = make_rows(64).map(lambda row, index: {"index": index}, with_indices=True)
        args = make_args(plm_class_aware=True, **kwargs)
        dataset = PLMTrainer(make_bert(), args, train_dataset=data).train_dataset
        epochs = []
        for epoch in range(2):
            dataset.set_epoch(epoch)
            epochs.append([dataset[row]["index"] for row in range(len(dataset))])
        return epochs

    return run


def test_the_rows_of_class_aware_sampling_follow_the_seed_of_the_arguments(rows_of):
    first, again, other = rows_of(seed=1), rows_of(seed=1), rows_of(seed=2)
    assert first == again
    assert first[0] != other[0] and first[1] != other[1]
    assert first[0] != first[1]
    assert rows_of(seed=1, data_seed=5) == first  # data_seed decides only the order of the rows


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_the_logged_shift_is_the_ideal_ratio_over_that_of_the_data(preset, make_bert, make_args):
    """The log has the lower median over a group's labels; an inverted or earlier shift would differ."""
    args = make_args(num_train_epochs=3, plm_preset=preset, learning_rate=1e-2)
    trainer = PLMTrainer(make_bert(), args, train_dataset=make_rows(64))
    trainer.train()
    counts, state = trainer.label_counts, trainer.plm_state
    logs = [log for log in trainer.state.log_history if "plm/head_shift" in log]
    assert len(logs) == 3
    for log, ideal_ratio in zip(logs, state.history[1:], strict=True):
        for group, mask in counts.groups().items():
            shifts = []
            for label in mask.nonzero().flatten().tolist():
                positives, negatives = counts.positives[label].item(), counts.negatives[label].item()
                shifts.append(ideal_ratio[label].item() / (positives / negatives))
            median = sorted(shifts)[(len(shifts) - 1) // 2]
            assert log[f"plm/{group}_shift"] == pytest.approx(median, rel=1e-5)
            assert abs(log[f"plm/{group}_shift"] - 1 / median) > 1e-3  # else an inverted shift would pass
