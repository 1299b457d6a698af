"""The arguments can be read from a command line, and every field has a help text."""

import dataclasses
import json
import pickle

import pytest
from transformers import HfArgumentParser, TrainingArguments

from hf_plm import PLMTrainingArguments

OWN_FIELDS = [
    field
    for field in dataclasses.fields(PLMTrainingArguments)
    if field.name not in {inherited.name for inherited in dataclasses.fields(TrainingArguments)}
]


def parse(*argv):
    (args,) = HfArgumentParser(PLMTrainingArguments).parse_args_into_dataclasses(["--output_dir", "x", *argv])
    return args


def test_a_command_line_sets_every_field():
    args = parse(
        *("--plm_preset", "paper", "--plm_initial_ratio", "0.25", "--plm_temper", "0.7", "--plm_rule", "marginal"),
        *("--plm_change_rate", "0.2", "--plm_num_bins", "30", "--plm_max_shift", "50", "--plm_update_steps", "100"),
        *("--plm_mask", "expected", "--plm_class_weight", "0.7", "--plm_prior", "balanced"),
        *("--plm_objective", "asymmetric", "--plm_objective_kwargs", '{"gamma_negative": 2, "margin": 0.1}'),
        *("--learning_rate", "0.001", "--plm_class_aware", "true"),
    )
    assert args.plm_settings() == {
        "preset": "paper",
        "initial_ratio": 0.25,
        "temper": 0.7,
        "rule": "marginal",
        "change_rate": 0.2,
        "num_bins": 30,
        "max_shift": 50.0,
        "mask": "expected",
        "class_weight": 0.7,
        "prior": "balanced",
        "objective": "asymmetric",
        "objective_kwargs": {"gamma_negative": 2, "margin": 0.1},
        "update_steps": 100,
    }
    assert args.plm_update_steps == 100
    assert args.plm_class_aware is True
    assert args.learning_rate == 0.001


def test_without_arguments_every_field_is_the_default_presets():
    args = parse()
    assert args.plm_preset == "default"
    assert {field.name for field in OWN_FIELDS if getattr(args, field.name) is not None} == {
        "plm_preset",
        "plm_class_aware",
        "plm_restart",
        "plm_keep_ratios",
    }
    assert args.plm_keep_ratios is False
    assert args.plm_restart is False
    assert args.plm_class_aware is False


def test_every_field_has_a_help_and_a_docstring_entry():
    assert len(OWN_FIELDS) == 17
    for field in OWN_FIELDS:
        assert len(field.metadata["help"]) > 20, field.name
        assert f"{field.name} (`" in PLMTrainingArguments.__doc__, field.name


def test_the_help_can_be_printed(capsys):
    with pytest.raises(SystemExit) as exit_info:
        HfArgumentParser(PLMTrainingArguments).parse_args(["--help"])
    assert exit_info.value.code == 0
    assert "--plm_objective_kwargs" in capsys.readouterr().out


def test_arguments_survive_json():
    kwargs = {"gamma": 1.5}
    args = PLMTrainingArguments("x", plm_objective="focal", plm_objective_kwargs=kwargs, plm_initial_ratio=0.5)
    stored = json.loads(args.to_json_string())
    own = {field.name: stored[field.name] for field in OWN_FIELDS}
    assert PLMTrainingArguments("x", **own).plm_settings() == args.plm_settings()
    assert args.plm_settings()["objective_kwargs"] == kwargs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"plm_preset": "best"}, "plm_preset is 'best'"),
        ({"plm_initial_ratio": "median"}, "plm_initial_ratio is 'median'"),
        ({"plm_initial_ratio": -1}, "plm_initial_ratio is -1.0"),
        ({"plm_temper": -0.1}, "plm_temper is -0.1"),
        ({"plm_rule": "rise"}, "plm_rule is 'rise'"),
        ({"plm_change_rate": -0.5}, "plm_change_rate is -0.5"),
        ({"plm_num_bins": 7}, "plm_num_bins is 7; it must be even for the rule 'marginal'"),
        ({"plm_max_shift": 0}, "plm_max_shift is 0"),
        ({"plm_update_steps": 0}, "plm_update_steps is 0; it must be 1 or more"),
        ({"plm_objective": "hinge"}, "plm_objective is 'hinge'"),
        ({"plm_objective_kwargs": "{gamma"}, "plm_objective_kwargs is '{gamma', no JSON"),
        ({"plm_objective_kwargs": "[1]"}, r"plm_objective_kwargs is \[1\]; it must be a dictionary"),
        ({"plm_objective": "focal", "plm_objective_kwargs": {"gamma": -1}}, "gamma is -1; it must be 0 or more"),
        ({"plm_objective_kwargs": {"gamma_positive": -1}}, "gamma_positive is -1; it must be 0 or more"),
        ({"plm_objective_kwargs": {"margin": 1}}, r"margin is 1; it must be in \[0, 1\)"),
        ({"plm_objective_kwargs": {"margin": "x"}}, "plm_objective_kwargs is {'margin': 'x'}"),
        ({"plm_temper": "half"}, "plm_temper is 'half'; it must be a number"),
        ({"plm_objective_kwargs": {"gamma": 1}}, "plm_objective_kwargs is {'gamma': 1}, which the objective 'asymm"),
        ({"plm_preset": "off", "plm_objective_kwargs": {"gamma": 1}}, "which the objective 'bce' does not take"),
    ],
)
def test_wrong_values_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        PLMTrainingArguments("x", **arguments)


def test_the_token_is_not_pickled(tmp_path):
    args = PLMTrainingArguments(str(tmp_path), use_cpu=True, hub_token="secret", seed=7)
    loaded = pickle.loads(pickle.dumps(args))
    assert (loaded.hub_token, loaded.seed, args.hub_token) == (None, 7, "secret")
