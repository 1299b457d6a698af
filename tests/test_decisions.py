"""Masked training shifts probabilities; calibration shifts them back."""

import numpy as np
import pytest
import scenarios
import torch
from torch import nn
from transformers import BertForSequenceClassification

from hf_plm import LabelCounts, PLMLoss, PLMTrainer, calibrate
from hf_plm.calibration import log_odds_shift


@pytest.fixture
def trained():
    """A logistic regression on data of which the probabilities are known, trained with a tenth of the negatives."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(20_000, 2, generator=generator)
    truth = torch.sigmoid(inputs @ torch.tensor([[1.0, 0.0], [0.5, -1.0]]) + torch.tensor([-3.0, 2.0]))
    labels = (torch.rand(truth.shape, generator=generator) < truth).float()
    counts = LabelCounts(labels.sum(0), (1 - labels).sum(0))
    plm_loss = PLMLoss(counts, objective="bce", rule="fixed", temper=0.2)
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


def test_the_shift_is_that_of_the_last_epoch_that_was_trained():
    plm_loss = PLMLoss(LabelCounts([10, 300], [990, 700]), change_rate=1.0)
    state = plm_loss.state
    start = torch.log(state.ideal_ratio / state.ratio)
    torch.testing.assert_close(log_odds_shift(state), start)
    plm_loss(torch.ones(4, 2), torch.tensor([[1.0, 0], [0, 1], [0, 0], [0, 0]]))
    plm_loss.end_epoch()
    torch.testing.assert_close(log_odds_shift(state), start)
    plm_loss(torch.ones(4, 2), torch.zeros(4, 2))
    torch.testing.assert_close(log_odds_shift(state), torch.log(state.ideal_ratio / state.ratio))
    assert not torch.allclose(log_odds_shift(state), start)


def test_a_trained_transformer_is_calibrated_once_and_says_so(make_args, tmp_path):
    trainer = PLMTrainer(scenarios.make_bert(), make_args(), train_dataset=scenarios.make_rows(64))
    trainer.train()
    before = trainer.model.classifier.bias.detach().clone()
    calibrate(trainer.model, trainer.plm_state)
    expected = before - log_odds_shift(trainer.plm_state)
    torch.testing.assert_close(trainer.model.classifier.bias, expected)
    trainer.save_model(str(tmp_path))
    again = BertForSequenceClassification.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.classifier.bias.detach(), expected)
    with pytest.raises(ValueError, match="plm_calibrated is True: the shift is in the classifier's bias already"):
        calibrate(again, trainer.plm_state)


@pytest.mark.parametrize(
    ("layer", "found"), [(nn.Linear(4, 2, bias=False), "without a bias"), (nn.Linear(4, 3), "missing")]
)
def test_a_model_without_a_bias_to_change_is_refused(layer, found):
    state = PLMLoss(LabelCounts([1, 2], [3, 4])).state
    with pytest.raises(ValueError, match=f"a linear layer with 2 outputs, is {found}; subtract log_odds_shift"):
        calibrate(nn.Sequential(layer), state)
