"""`PLMTrainer` on every device: each test runs on the CPU, and on the GPU if there is one."""

import numpy as np
import pytest
import scenarios
import torch
from devices import NeverWaits, never_waiting, where_waiting_shows

from hf_plm import (
    LabelCounts,
    MultiLabelCollator,
    PLMState,
    PLMTrainer,
    RankingComputeMetrics,
    calibrate,
    fold_thresholds,
    multilabel_compute_metrics,
    predict,
)

COUNTS = LabelCounts([30, 24, 18, 10, 4], [34, 40, 46, 54, 60])
PRECISIONS = [{}, {"bf16": True}, {"fp16": True}]


def make_trainer(folder, device, compute_metrics=None, callbacks=None, sparse=False, **kwargs):
    """A tiny BERT on 64 rows, without dropout or shuffling."""
    settings = {"per_device_train_batch_size": 16, "learning_rate": 1e-2, "logging_steps": 1}
    rows = scenarios.make_rows(64)
    rows = scenarios.with_class_ids(rows) if sparse else rows
    return PLMTrainer(
        scenarios.make_bert(),
        scenarios.make_args(folder, **{**settings, "use_cpu": device == "cpu", **kwargs}),
        MultiLabelCollator(5, sparse=sparse),
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=compute_metrics,
        callbacks=callbacks,
    )


def losses_of(trainer):
    return [log["loss"] for log in trainer.state.log_history if "loss" in log]


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("precision", PRECISIONS, ids=["float32", "bf16", "fp16"])
def test_training_is_the_same_as_on_a_cpu(precision, preset, device, tmp_path):
    if device == "cpu" and "fp16" in precision:
        pytest.skip("Trainer refuses fp16 on a CPU")
    trainers = [make_trainer(tmp_path, "cpu", plm_preset=preset, num_train_epochs=2)]
    trainers += [make_trainer(tmp_path, device, plm_preset=preset, num_train_epochs=2, **precision)]
    for trainer in trainers:
        trainer.train()
    expected, found = trainers
    assert found.plm_state.ideal_ratio.device.type == found.args.device.type == device
    assert len(losses_of(found)) == 8
    rounding = 0.02 if precision else 1e-4
    np.testing.assert_allclose(losses_of(found)[0], losses_of(expected)[0], rtol=rounding)
    if "fp16" in precision:  # skips steps until the loss scale fits
        assert np.isfinite(losses_of(found)).all()
    else:
        np.testing.assert_allclose(losses_of(found), losses_of(expected), rtol=0.05 if precision else 0.01)
    assert found.plm_state.histograms.sum() == expected.plm_state.histograms.sum() == 64 * 5
    if not precision:
        torch.testing.assert_close(found.plm_state.history.cpu(), expected.plm_state.history, rtol=0.05, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS, ids=["float32", "bf16", "fp16"])
def test_the_compiled_loss_trains_as_the_eager_one(precision, device, tmp_path):
    if device == "cpu" and "fp16" in precision:
        pytest.skip("Trainer refuses fp16 on a CPU")
    settings = {"plm_mask": "random", **precision}
    trainers = [make_trainer(tmp_path, device, plm_fused=fused, **settings) for fused in (True, False)]
    for trainer in trainers:
        trainer.train()
    np.testing.assert_allclose(*map(losses_of, trainers), rtol=0.02 if precision else 1e-3)
    assert trainers[0].plm_loss.fused


def test_thresholds_evaluation_and_prediction_work_on_the_device(device, tmp_path):
    trainer = make_trainer(tmp_path, device, multilabel_compute_metrics(COUNTS))
    trainer.train()
    assert np.isfinite(trainer.evaluate()["eval_loss"])
    assert np.isfinite(trainer.tune_thresholds()).all()
    trainer.save_model(str(tmp_path))
    state = PLMState.load(tmp_path / "plm_state.safetensors")
    assert torch.equal(state.ideal_ratio, trainer.plm_state.ideal_ratio.cpu())
    inputs = trainer.eval_dataset.remove_columns("labels")
    decided = predict(trainer.model, inputs)
    assert len({len(names) for names in decided}) > 1
    calibrate(trainer.model, trainer.plm_state)
    fold_thresholds(trainer.model)
    assert predict(trainer.model, inputs) == decided
    assert next(trainer.model.parameters()).device.type == device


def test_scores_are_computed_batch_by_batch_on_the_device(device, tmp_path):
    scores = []
    for where in ("cpu", device):
        metrics = RankingComputeMetrics(COUNTS, top=(1, 3))
        sizes = {"batch_eval_metrics": True, "per_device_eval_batch_size": 16}
        scores.append(make_trainer(tmp_path, where, metrics, sparse=True, **sizes).evaluate())
    for name in ("eval_loss", "eval_precision_at_1", "eval_psp_at_3"):
        assert scores[1][name] == pytest.approx(scores[0][name], rel=1e-4), name


@pytest.mark.slow
def test_a_run_that_resumes_within_an_epoch_ends_as_the_whole_one(device, tmp_path):
    kwargs = {"use_cpu": device == "cpu"}
    case = "in the middle of an epoch"
    whole = scenarios.run_resumable(tmp_path / "whole", case, **kwargs)
    checkpoint = str(tmp_path / "whole" / "checkpoint-12")
    resumed = scenarios.run_resumable(tmp_path / "resumed", case, resume=checkpoint, **kwargs)
    if device == "cpu":
        scenarios.assert_identical(resumed, whole)
    losses = [[log["loss"] for log in each["logs"] if "loss" in log] for each in (resumed, whole)]
    np.testing.assert_allclose(*losses, rtol=0.01)  # a GPU may sum in any order
    torch.testing.assert_close(resumed["history"], whole["history"], rtol=0.05, atol=0)
    assert resumed["histograms"].sum() == whole["histograms"].sum()


@pytest.mark.parametrize("preset", ["default", "paper", "off"])
@pytest.mark.parametrize("way", ["eager", "compiled"])
def test_loss_and_count_of_known_labels_wait_for_no_device(way, preset, device, tmp_path, monkeypatch):
    where = where_waiting_shows(device, monkeypatch)
    trainer = make_trainer(tmp_path, device, plm_preset=preset, plm_fused=way == "compiled")
    rows = scenarios.make_rows(16)
    batch = {name: torch.tensor(rows[name], device=where) for name in ("input_ids", "labels")}
    model = scenarios.make_bert().to(where)
    for check in (False, False, True):
        with never_waiting(device if check else "cpu"):
            (inputs,), num_known = trainer.get_batch_samples(iter([batch]), 1, torch.device(where))
            trainer.compute_loss(model, inputs, num_items_in_batch=num_known).backward()
    assert trainer.plm_state.num_batches == 3
    assert trainer.plm_state.histograms.device.type == where


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", PRECISIONS[:2], ids=["float32", "bf16"])
@pytest.mark.parametrize("way", ["eager", "compiled"])
def test_no_step_of_training_waits_for_cuda(way, precision, tmp_path):
    """Forward, backward, clipping, optimizer and schedule of a real run.

    Not tested: with `logging_nan_inf_filter`, `Trainer` waits in every step for the value of the loss; with fp16, it
    waits to check the gradients.
    """
    never_waits = NeverWaits()
    trainer = make_trainer(
        tmp_path,
        "cuda",
        callbacks=[never_waits],
        num_train_epochs=2,
        plm_fused=way == "compiled",
        plm_mask="random",
        logging_nan_inf_filter=False,
        **precision,
    )
    try:
        trainer.train()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert never_waits.steps == 6
