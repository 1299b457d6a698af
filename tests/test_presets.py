"""Settings are checked and have one form on disk; a warning names those without effect."""

import functools
import json
import warnings

import pytest
import torch
from torch import nn

from hf_plm.objectives import focal
from hf_plm.presets import PRESETS, PLMSettings


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("paper", {"temper": 0.5}, "temper is 0.5 and has no effect: initial_ratio is 'mean'"),
        ("off", {"temper": 0.5}, "temper is 0.5 and has no effect: initial_ratio is 'dataset'"),
        ("default", {"temper": 0.5, "initial_ratio": 0.1}, "temper is 0.5 and has no effect: initial_ratio is 0.1"),
        ("off", {"change_rate": 0.5}, "change_rate is 0.5 and has no effect: rule is 'fixed'"),
        ("default", {"rule": "fixed", "change_rate": 0.5}, "change_rate is 0.5 and has no effect"),
        ("off", {"rule": "kl"}, "rule is 'kl' and has no effect: change_rate is 0"),
        ("default", {"max_shift": 1, "change_rate": 0.1}, "change_rate is 0.1 and has no effect: max_shift is 1"),
        (
            "default",
            {"temper": 1, "change_rate": 0, "max_shift": 3},
            "max_shift is 3 and has no effect: temper is 1 and change_rate is 0",
        ),
        ("off", {"mask": "expected"}, "mask is 'expected' and has no effect: initial_ratio is 'dataset' and rule is"),
        ("off", {"class_weight": 1}, "class_weight is 1 and has no effect: initial_ratio is 'dataset' and rule is"),
        ("off", {"prior": "data"}, "prior is 'data' and has no effect: .*so the ideal ratios are those of the data"),
        ("default", {"max_shift": 1, "mask": "random"}, "mask is 'random' and has no effect: max_shift is 1, so no"),
        (
            "default",
            {"temper": 1, "change_rate": 0, "class_weight": 1},
            "class_weight is 1 and has no effect: temper is 1 and change_rate is 0, so no label is masked",
        ),
        ("off", {"max_shift": 3}, "max_shift is 3 and has no effect: initial_ratio is 'dataset' and rule is 'fixed'"),
    ],
)
def test_a_setting_without_effect_gives_a_warning(preset, changes, message):
    with pytest.warns(UserWarning, match=message) as said:
        PLMSettings.from_preset(preset, **changes)
    assert len(said) == 1


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        *((preset, {}) for preset in PRESETS),
        ("default", {"temper": 0.5, "change_rate": 0.1, "max_shift": 3, "update_steps": 5}),
        ("off", {"rule": "kl", "change_rate": 0.1, "max_shift": 3}),
        ("off", {"initial_ratio": "tempered", "temper": 0.1, "max_shift": 3}),
        ("paper", {"temper": None, "change_rate": 0.5}),
        ("paper", {"mask": "expected", "class_weight": 1, "prior": "data"}),
        ("off", {"prior": "balanced"}),  # adds log(R / T)
        ("off", {"rule": "kl", "change_rate": 0.1, "mask": "expected", "class_weight": 1, "prior": "data"}),
        ("default", {"max_shift": 1, "prior": "balanced"}),
    ],
)
def test_a_setting_with_an_effect_gives_no_warning(preset, changes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PLMSettings.from_preset(preset, **changes)


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_come_back_from_json(preset):
    settings = PLMSettings.from_preset(preset, update_steps=3)
    found = json.loads(json.dumps(settings.to_dict()))
    assert PLMSettings(**found) == settings
    assert found == settings.to_dict()


class Weighted(nn.Module):
    def forward(self, logits, labels):
        return logits


@pytest.mark.parametrize(
    ("objective", "name"),
    [
        ("bce", "bce"),
        (focal, "focal"),
        (functools.partial(focal, gamma=3.0), "focal(gamma=3.0)"),
        (functools.partial(focal, gamma=torch.tensor([1, 2])), "focal(gamma=[1, 2])"),
        (Weighted(), "Weighted"),
        (lambda logits, labels: logits, "<lambda>"),
    ],
)
def test_an_objective_has_the_same_name_in_every_process(objective, name):
    assert PLMSettings.from_preset("default", objective=objective).to_dict()["objective"] == name


def test_arguments_of_an_objective_are_plain_values():
    settings = PLMSettings.from_preset("default", objective_kwargs={"margin": torch.tensor(0.25)})
    assert settings.to_dict()["objective_kwargs"] == {"margin": 0.25}


def test_an_objective_that_is_changed_has_its_own_arguments():
    assert PLMSettings.from_preset("default", objective="focal").objective_kwargs == {}
    bound = PLMSettings.from_preset("default", objective="focal", objective_kwargs={"gamma": 0.0}).bound_objective()
    logits, labels = torch.randn(4, 3), torch.eye(4, 3)
    assert torch.equal(bound(logits, labels), focal(logits, labels, gamma=0.0))
