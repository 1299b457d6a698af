"""Masked training shifts scores. Calibrating undoes this, folding moves thresholds to 0.5; no decision changes."""

import json

import numpy as np
import pytest
import scenarios
import torch
from scipy.special import expit
from text_models import (
    NAMES,
    TEXT_MODELS,
    THRESHOLDS,
    TOKENS,
    assert_unchanged,
    named_bert,
    quantiles_of,
    scores_of,
    state_of,
    weights_of,
    write_thresholds,
)
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    pipeline,
)

from hf_plm import (
    LabelCounts,
    PLMLoss,
    PLMTrainer,
    calibrate,
    fold_thresholds,
    predict,
)
from hf_plm.decisions import (
    log_odds_shift,
    read_decisions,
    thresholds_of,
)
from hf_plm.presets import MASKS


@pytest.fixture(params=MASKS)
def trained(request):
    """A logistic regression on data with known probabilities, trained with a tenth of the negatives."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(20_000, 2, generator=generator)
    truth = torch.sigmoid(inputs @ torch.tensor([[1.0, 0.0], [0.5, -1.0]]) + torch.tensor([-3.0, 2.0]))
    labels = (torch.rand(truth.shape, generator=generator) < truth).float()
    counts = LabelCounts(labels.sum(0), (1 - labels).sum(0))
    plm_loss = PLMLoss(counts, objective="bce", rule="fixed", temper=0.2, mask=request.param)
    model = nn.Sequential(nn.Linear(2, 2))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200)
    mask = plm_loss.state.num_batches

    def closure():
        optimizer.zero_grad()
        plm_loss.state.num_batches = mask  # the same mask for every evaluation of a batch
        loss = plm_loss(model(inputs), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    plm_loss.end_epoch()
    return model, plm_loss.state, inputs, truth


def test_a_calibrated_model_gives_the_probabilities_of_the_data(trained):
    model, state, inputs, truth = trained
    before = (torch.sigmoid(model(inputs)) - truth).abs().mean(0)
    calibrate(model, state)
    after = (torch.sigmoid(model(inputs)) - truth).abs().mean(0)
    assert before.min() > 0.1
    assert after.max() < 0.01


def test_the_shift_is_that_of_the_last_trained_epoch():
    plm_loss = PLMLoss(LabelCounts([10, 300], [990, 700]), change_rate=1.0)
    state = plm_loss.state
    start = torch.log(state.ideal_ratio / state.ratio)
    torch.testing.assert_close(log_odds_shift(state), start)
    labels = torch.tensor([[1.0, 0], [0, 1], [0, 0], [0, 0]])
    plm_loss(1 + labels, labels)
    plm_loss.end_epoch()
    torch.testing.assert_close(log_odds_shift(state), start)
    plm_loss(torch.ones(4, 2), torch.zeros(4, 2))
    torch.testing.assert_close(log_odds_shift(state), torch.log(state.ideal_ratio / state.ratio))
    assert not torch.allclose(log_odds_shift(state), start)


def test_a_trained_transformer_can_be_calibrated_only_once(make_args, tmp_path):
    trainer = PLMTrainer(scenarios.make_bert(), make_args(), train_dataset=scenarios.make_rows(64))
    trainer.train()
    before = trainer.model.classifier.bias.detach().clone()
    calibrate(trainer.model, trainer.plm_state)
    expected = before - log_odds_shift(trainer.plm_state)
    torch.testing.assert_close(trainer.model.classifier.bias, expected)
    trainer.save_model(str(tmp_path))
    again = BertForSequenceClassification.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.classifier.bias.detach(), trainer.model.classifier.bias.detach())
    assert read_decisions(again.config).scores == "probabilities"
    assert json.loads((tmp_path / "config.json").read_text())["plm"] == trainer.model.config.plm
    with pytest.raises(ValueError, match="was calibrated before .*: the shift is already removed from its bias"):
        calibrate(again, trainer.plm_state)
    assert_unchanged(again, weights_of(trainer.model))


@pytest.mark.parametrize("make", TEXT_MODELS.values(), ids=TEXT_MODELS)
@pytest.mark.parametrize("tuned", [True, False])
def test_calibrating_changes_no_decision(make, tuned):
    torch.manual_seed(0)
    model = make(5)
    thresholds = quantiles_of(model) if tuned else np.zeros(5)
    if tuned:
        write_thresholds(model, thresholds, tuned_on="those")
    before, decided = scores_of(model), predict(model, {"input_ids": TOKENS})
    calibrate(model, state_of())
    shift = log_odds_shift(state_of()).numpy()
    np.testing.assert_allclose(scores_of(model), before - shift, atol=1e-5)
    decisions = read_decisions(model.config)
    np.testing.assert_allclose(decisions.thresholds, thresholds - shift, atol=1e-5)
    assert (decisions.scores, decisions.tuned_on) == ("probabilities", "those" if tuned else None)
    assert predict(model, {"input_ids": TOKENS}) == decided
    assert not tuned or len({tuple(row) for row in decided}) > 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_thresholds_move_exactly_as_far_as_a_rounded_bias(dtype):
    model = scenarios.make_bert().to(dtype)
    bias = model.classifier.bias.detach().clone().double().numpy()
    write_thresholds(model)
    calibrate(model, state_of())
    moved = bias - model.classifier.bias.detach().double().numpy()
    np.testing.assert_array_equal(thresholds_of(model.config), np.array(THRESHOLDS) - moved)
    np.testing.assert_allclose(moved, log_odds_shift(state_of()).numpy(), rtol=0.01)
    fold_thresholds(model)
    assert model.dtype == dtype


def test_a_state_in_a_different_order_is_reordered_and_one_of_other_labels_is_refused():
    model, order = named_bert(), [4, 2, 0, 1, 3]
    counts = LabelCounts([2, 8, 32, 128, 512], [3000] * 5)
    state = PLMLoss(LabelCounts(counts.positives[order], counts.negatives[order]), temper=0.5).state
    state.label_names = [NAMES[index] for index in order]
    expected = PLMLoss(counts, temper=0.5).state
    before = model.classifier.bias.detach().clone()
    calibrate(model, state)
    torch.testing.assert_close(before - model.classifier.bias, log_odds_shift(expected))
    state.label_names = [*NAMES[:4], "other"]
    other = named_bert()
    with pytest.raises(ValueError, match=r"\['other'\] missing from the model, and \['square'\] missing from p"):
        calibrate(other, state)
    with pytest.raises(ValueError, match="plm_state has 3 labels, and the model has 5"):
        calibrate(other, state_of(3))
    assert_unchanged(other, weights_of(named_bert()))


@pytest.mark.parametrize("make", TEXT_MODELS.values(), ids=TEXT_MODELS)
@pytest.mark.parametrize("calibrated", [True, False])
def test_a_folded_model_decides_at_a_half_as_predict_did_before(make, calibrated):
    torch.manual_seed(0)
    model = make(5)
    write_thresholds(model, quantiles_of(model), tuned_on="those")
    if calibrated:
        calibrate(model, state_of())
    decided = predict(model, {"input_ids": TOKENS})
    fold_thresholds(model)
    at_half = [[f"LABEL_{label}" for label in np.flatnonzero(expit(row) >= 0.5)] for row in scores_of(model)]
    assert at_half == decided == predict(model, {"input_ids": TOKENS})
    assert len({len(row) for row in decided}) > 2
    decisions = read_decisions(model.config)
    assert (decisions.thresholds, decisions.scores, decisions.tuned_on) == (None, "decisions", "those")
    before = weights_of(model)
    with pytest.raises(ValueError, match="the thresholds are already in the classifier's bias"):
        fold_thresholds(model)
    with pytest.raises(ValueError, match="folded into the bias .*; calibrate first, then call fold_thresholds"):
        calibrate(model, state_of())
    assert_unchanged(model, before)


def test_a_pipeline_of_a_folded_model_gives_the_results_of_predict(tmp_path):
    model, tokenizer = named_bert(problem_type="multi_label_classification"), scenarios.make_tokenizer()
    texts = [" ".join(np.random.default_rng(seed).choice(scenarios.WORDS[2:], 6)) for seed in range(12)]
    inputs = {"input_ids": tokenizer(texts, return_tensors="pt")["input_ids"]}
    write_thresholds(model, np.median(scores_of(model, inputs), axis=0) + 1e-4)
    decided = predict(model, inputs)
    model.save_pretrained(tmp_path)
    fold_thresholds(model)
    model.save_pretrained(tmp_path / "folded")
    tokenizer.save_pretrained(tmp_path / "folded")
    rows = pipeline("text-classification", str(tmp_path / "folded"), top_k=None)(texts)
    found = [sorted((one["label"] for one in row if one["score"] >= 0.5), key=NAMES.index) for row in rows]
    assert found == decided
    assert len({tuple(row) for row in decided}) > 2
    assert predict(AutoModelForSequenceClassification.from_pretrained(tmp_path), inputs) == decided


def test_an_image_model_is_calibrated_and_folded(make_vit):
    model, pixels = make_vit(), {"pixel_values": torch.randn(16, 3, 8, 8)}
    write_thresholds(model, np.median(scores_of(model, pixels), axis=0) + 1e-4)
    decided = predict(model, pixels)
    calibrate(model, state_of())
    fold_thresholds(model)
    assert [[f"LABEL_{label}" for label in np.flatnonzero(row >= 0)] for row in scores_of(model, pixels)] == decided
    assert len({tuple(row) for row in decided}) > 2


def test_a_single_label_model_makes_the_same_decisions_after_both():
    model = named_bert(problem_type="single_label_classification")
    write_thresholds(model)
    decided = predict(model, {"input_ids": TOKENS})
    margins = scores_of(model) - THRESHOLDS
    assert decided == [[NAMES[index]] for index in margins.argmax(1)]
    calibrate(model, state_of())
    assert predict(model, {"input_ids": TOKENS}) == decided
    fold_thresholds(model)
    assert [[NAMES[index]] for index in scores_of(model).argmax(1)] == decided


def test_tuning_again_after_folding_can_be_folded_again():
    model = scenarios.make_bert()
    write_thresholds(model)
    fold_thresholds(model)
    write_thresholds(model, [0.1] * 5)
    expected = model.classifier.bias.detach() - 0.1
    fold_thresholds(model)
    torch.testing.assert_close(model.classifier.bias.detach(), expected)


@pytest.mark.parametrize("model", [scenarios.make_bert(), nn.Linear(4, 5)], ids=["transformer", "plain"])
def test_without_thresholds_there_is_nothing_to_fold(model):
    with pytest.raises(ValueError, match=r"no thresholds to fold; choose them with trainer\.tune_thresholds"):
        fold_thresholds(model)
