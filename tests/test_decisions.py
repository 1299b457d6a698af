"""Thresholds belong to a model and are removed with its head. Prediction and evaluation decide in the same way."""

import json

import numpy as np
import pytest
import scenarios
import torch
from text_models import (
    NAMES,
    THRESHOLDS,
    TOKENS,
    named_bert,
    scores_of,
    state_of,
    write_thresholds,
)
from torch import nn
from transformers import (
    BertForSequenceClassification,
    EvalPrediction,
)

from hf_plm import (
    LabelCounts,
    PLMTrainer,
    calibrate,
    multilabel_compute_metrics,
    predict,
    tune_thresholds,
)
from hf_plm.decisions import (
    Decisions,
    end_decisions,
    read_decisions,
    thresholds_of,
    write_decisions,
)
from hf_plm.metrics import evaluating


def test_the_entry_is_plain_json_and_comes_back(tmp_path):
    model = named_bert()
    write_thresholds(model, THRESHOLDS, tuned_on="those")
    assert json.loads(json.dumps(model.config.plm)) == model.config.plm
    model.save_pretrained(tmp_path)
    again = BertForSequenceClassification.from_pretrained(tmp_path)
    assert read_decisions(again.config) == read_decisions(model.config)
    np.testing.assert_array_equal(thresholds_of(again.config), THRESHOLDS)


def test_a_different_head_removes_the_thresholds(tmp_path, caplog):
    model = scenarios.make_bert()
    write_thresholds(model)
    calibrate(model, state_of())
    model.save_pretrained(tmp_path)
    again = BertForSequenceClassification.from_pretrained(tmp_path, num_labels=3, ignore_mismatched_sizes=True)
    assert thresholds_of(again.config) is None
    assert "are removed: they are for 5 labels, but the model has 3" in caplog.text
    assert not hasattr(again.config, "plm")
    calibrate(again, state_of(3))
    assert read_decisions(again.config).scores == "probabilities"


@pytest.mark.parametrize("names", [["green", "red", *NAMES[2:]], ["new", *NAMES[1:]], None])
def test_other_names_or_another_order_remove_the_thresholds(names, caplog):
    model = named_bert()
    write_thresholds(model)
    model.config.id2label = dict(enumerate(names or [f"LABEL_{index}" for index in range(5)]))
    model.config.label2id = {name: index for index, name in model.config.id2label.items()}
    assert read_decisions(model.config).thresholds is None
    assert "are removed: they are for other label names than" in caplog.text
    assert len(caplog.messages) == 1
    assert thresholds_of(model.config) is None
    assert len(caplog.messages) == 1


def test_thresholds_for_generic_names_fit_the_names_that_are_set_later():
    model = scenarios.make_bert()
    write_thresholds(model)
    model.config.id2label = dict(enumerate(NAMES))
    model.config.label2id = {name: index for index, name in enumerate(NAMES)}
    np.testing.assert_array_equal(thresholds_of(model.config), THRESHOLDS)


def test_keys_that_json_turned_into_text_are_the_same_names():
    model = named_bert()
    write_thresholds(model, [-9.0, 9, 9, 9, -9])
    model.config.id2label = json.loads(json.dumps(model.config.id2label))
    assert predict(model, {"input_ids": TOKENS[:2]}) == [["red", "square"]] * 2


def test_training_removes_the_thresholds(make_args, caplog):
    trainer = PLMTrainer(scenarios.make_bert(), make_args(), train_dataset=scenarios.make_rows(64))
    write_thresholds(trainer.model)
    trainer.train()
    assert read_decisions(trainer.model.config).thresholds is None
    assert "are removed: " in caplog.text
    caplog.clear()
    end_decisions(trainer.model.config, "again")
    end_decisions(None, "again")
    assert not caplog.messages


@pytest.mark.parametrize("name", ["plm_thresholds", "plm_calibrated"])
def test_an_entry_in_the_earlier_format_is_refused_and_can_be_removed(name, caplog):
    model = scenarios.make_bert()
    setattr(model.config, name, [0.5] * 5 if name == "plm_thresholds" else True)
    for read in (read_decisions, thresholds_of):
        with pytest.raises(ValueError, match=rf"config\.{name} was written by an earlier version.*del model\.config"):
            read(model.config)
    end_decisions(model.config, "the model is trained further")
    assert f"config.{name}) are removed: the model is trained further" in caplog.text
    assert read_decisions(model.config).thresholds is None


@pytest.mark.parametrize(
    "entry",
    [
        [1, 2],
        {"thresholds": [0.1, 0.2], "num_labels": 5},
        {"thresholds": [0.1, 0.2, 0.3, 0.4, float("nan")]},
        {"thresholds": ["a"] * 5},
        {"scores": "calibrated"},
        {"limits": [0] * 5},
    ],
)
def test_a_damaged_entry_is_an_error(entry):
    model = scenarios.make_bert()
    model.config.plm = entry
    with pytest.raises(ValueError, match=r"model\.config\.plm is damaged .*restore it from a copy"):
        read_decisions(model.config)


def test_predict_gives_the_names_above_the_thresholds():
    model, inputs = named_bert(), {"input_ids": TOKENS}
    names = predict(model, inputs)
    logits = scores_of(model)
    assert names == [[NAMES[c] for c in range(5) if row[c] >= 0] for row in logits]
    write_thresholds(model, [-1e3, 1e3, 0, 0, 0])
    assert all("red" in row and "green" not in row for row in predict(model, inputs))
    model.config.problem_type = "single_label_classification"
    assert predict(model, inputs) == [["red"]] * len(logits)
    end_decisions(model.config, "a test")
    assert predict(model, inputs) == [[NAMES[row.argmax()]] for row in logits]


class Fixed(nn.Module):
    """A model that gives fixed logits."""

    def __init__(self, logits, config):
        super().__init__()
        self.logits, self.config = logits, config

    def forward(self, input_ids):
        return (self.logits,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("values", [(70, 68, 45, 44), (22, 21, 18, 17.5), (-70, -71, -80, -81), "neighbours"])
def test_predict_and_metrics_decide_the_same_for_every_logit(values, dtype):
    if values == "neighbours":
        low = torch.tensor(3.0, dtype=dtype)
        high = torch.nextafter(low, torch.tensor(9.0, dtype=dtype))
        logits = torch.stack([high, high, low, low])[:, None]
    else:
        logits = torch.tensor(values, dtype=dtype)[:, None]
    labels = np.array([[1], [1], [0], [0]])
    config = scenarios.make_bert(1).config
    model = Fixed(logits, config)
    thresholds = tune_thresholds(logits.double(), labels)
    write_decisions(config, Decisions(1, thresholds=tuple(thresholds)))
    assert predict(model, {"input_ids": torch.zeros(4, 1)}) == [["LABEL_0"], ["LABEL_0"], [], []]
    with evaluating(LabelCounts([2], [2]), thresholds_of(config)):
        scores = multilabel_compute_metrics(LabelCounts([2], [2]))(EvalPrediction(logits, labels))
    assert scores["micro_f1"] == scores["exact_match"] == 1


def test_infinite_logits_are_above_or_below_every_threshold():
    model = Fixed(torch.tensor([[torch.inf, -torch.inf]]), scenarios.make_bert(2).config)
    assert predict(model, {"input_ids": torch.zeros(1, 1)}) == [["LABEL_0"]]
    write_thresholds(model, [1e300, -1e300])
    assert predict(model, {"input_ids": torch.zeros(1, 1)}) == [["LABEL_0"]]
