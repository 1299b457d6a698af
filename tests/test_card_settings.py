"""The model card explains how labels were masked and weighted, and which class frequencies the scores assume."""

import re
from pathlib import Path

import pytest

from hf_plm import PLMTrainer, calibrate
from hf_plm.presets import PRESETS


@pytest.fixture
def card_of(make_bert, text_data, make_args):
    """A function that trains and returns the text of the card on one line."""

    def make(single_label=False, calibrated=False, **kwargs):
        data = text_data
        if single_label:
            data = data.remove_columns("labels").add_column("labels", [row[0] % 5 for row in data["input_ids"]])
        trainer = PLMTrainer(make_bert(), make_args(**kwargs), train_dataset=data)
        trainer.train()
        if calibrated:
            calibrate(trainer.model, trainer.plm_state)
        trainer.create_model_card()
        return " ".join((Path(trainer.args.output_dir) / "README.md").read_text().split())

    return make


@pytest.mark.parametrize(
    ("settings", "introduction", "rows", "scores"),
    [
        (
            {"plm_mask": "random", "plm_class_weight": 0.7, "plm_prior": "ideal"},
            "labels are masked at random in the loss, so that",
            ["masks | random", "class weight | (kept share of the class's labels) ^ -0.7"],
            "Masked training raises the scores of rare labels",
        ),
        (
            {"plm_mask": "expected", "plm_class_weight": 0.0, "plm_prior": "data"},
            "weighted with the probability that a mask would keep it, so that",
            ["masks | expected (keep probabilities as weights)", "decisions assume | the ratios of the training data"],
            "Scores and decisions assume the frequencies of the training data.",
        ),
        (
            {"plm_preset": "paper"},
            "at random",
            ["masks | random", "decisions assume | the ideal ratios"],
            "Masked training raises the scores of rare labels",
        ),
        ({"plm_preset": "off"}, "plain training: no label was masked", [], "## Use"),
        (
            {"plm_preset": "off", "plm_prior": "balanced", "single_label": True},
            "plain training: no label was masked",
            ["decisions assume | all classes equally frequent"],
            "Decisions (the class with the largest score) assume that all classes are equally frequent.",
        ),
        (
            {"single_label": True},
            "A single-label classifier",
            ["decisions assume | all classes equally frequent"],
            "Decisions (the class with the largest score) assume that all classes are equally frequent.",
        ),
    ],
)
def test_the_card_explains_masks_class_weight_and_prior(settings, introduction, rows, scores, card_of):
    card = card_of(**settings)
    assert introduction in card
    assert scores in card
    found = re.findall(r"\| ((?:masks|class weight|decisions assume) \| .*?) \|", card)
    assert set(rows) <= set(found)
    if settings.get("plm_preset") is not None or settings.get("plm_class_weight") == 0:
        assert not any("class weight" in row for row in found)
    if settings.get("plm_preset") == "off":
        assert found == rows


def test_the_card_explains_the_preset_default(card_of):
    card, preset = card_of(), PRESETS["default"]
    assert ("masks | random" in card) == (preset.mask == "random")
    assert (f"^ -{preset.class_weight:g} |" in card) == (preset.class_weight > 0)


@pytest.mark.parametrize(
    ("single_label", "sentence"),
    [
        (False, "The scores are calibrated: they are probabilities for the frequencies of the training data."),
        (True, "the sigmoid of a logit is the probability of the class for the frequencies of the training data."),
    ],
)
def test_the_card_explains_calibrated_scores(single_label, sentence, card_of):
    card = card_of(single_label=single_label, calibrated=True)
    assert sentence in card
    assert "Scores and decisions assume" not in card
