"""The arguments can be read from a command line, and every field has a help text."""

import dataclasses
import functools
import json
import pickle

import numpy as np
import pytest
import torch.nn.functional as F
from transformers import HfArgumentParser, TrainingArguments

from hf_plm import PLMTrainer, PLMTrainingArguments
from hf_plm.presets import PLMSettings

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
        ({"plm_objective_kwargs": "{gamma"}, "plm_objective_kwargs is '{gamma', which is not JSON"),
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
def test_errors_name_wrong_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        PLMTrainingArguments("x", **arguments)


def test_one_warning_names_settings_without_effect_as_they_were_written(make_bert, text_data, make_args):
    with pytest.warns(UserWarning, match="has no effect") as said:
        args = make_args(plm_preset="paper", plm_temper=0.5, plm_max_shift=1, plm_class_weight=0.5, max_steps=1)
        trainer = PLMTrainer(make_bert(), args, train_dataset=text_data)
        trainer.train()
        trainer.train()
    messages = [str(each.message) for each in said if "has no effect" in str(each.message)]
    assert messages == [
        "plm_temper is 0.5 and has no effect: plm_max_shift is 1, so the ideal ratios stay those of the data",
        "plm_class_weight is 0.5 and has no effect: plm_max_shift is 1, so no label is masked",
    ]


def test_a_setting_of_a_search_without_effect_gives_a_warning_too(make_bert, text_data, make_args):
    args = make_args(plm_preset="paper", max_steps=1)
    trainer = PLMTrainer(make_bert(), args, train_dataset=text_data)
    args.plm_temper = 0.5  # as a search does
    with pytest.warns(UserWarning, match="^plm_temper is 0.5 and has no effect: plm_initial_ratio is 'mean'") as said:
        trainer.train()
    assert len([each for each in said if "has no effect" in str(each.message)]) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [({"plm_rule": "fixed"}, "plm_rule is 'fixed'"), ({"plm_change_rate": 0}, "plm_change_rate is 0")],
)
def test_update_steps_without_effect_give_one_warning(arguments, reason, make_bert, text_data, make_args, messages):
    args = make_args(plm_update_steps=2, plm_objective="bce", max_steps=1, **arguments)
    objective = F.binary_cross_entropy_with_logits
    own = functools.partial(objective, reduction="none")
    trainer = PLMTrainer(make_bert(), args, train_dataset=text_data, objective=own)
    trainer.train()
    said = list({id(record): record.getMessage() for record in messages.records}.values())  # two handlers have each
    assert said.count(f"plm_update_steps has no effect: {reason}, and the counts are known") == 1
    assert said.count("plm_objective='bce' is not used: objective is given") == 1


def test_numpy_numbers_are_accepted(make_bert, text_data, make_args):
    values = {
        "plm_initial_ratio": np.float32(0.25),
        "plm_change_rate": np.float64(0.5),
        "plm_num_bins": np.int64(10),
        "plm_max_shift": np.int32(50),
        "plm_class_weight": np.float16(0.5),
        "plm_update_steps": np.int64(2),
        "plm_objective_kwargs": {"gamma_negative": np.float32(2)},
    }
    args = make_args(max_steps=2, **values)
    plain = {name: getattr(args, name) for name in values}
    assert plain == {
        "plm_initial_ratio": 0.25,
        "plm_change_rate": 0.5,
        "plm_num_bins": 10,
        "plm_max_shift": 50,
        "plm_class_weight": 0.5,
        "plm_update_steps": 2,
        "plm_objective_kwargs": {"gamma_negative": 2},
    }
    kinds = {name: type(value) for name, value in plain.items()}
    assert set(kinds.values()) == {float, int, dict}
    assert json.loads(args.to_json_string())["plm_num_bins"] == 10
    trainer = PLMTrainer(make_bert(), args, train_dataset=text_data)
    trainer.train()
    settings = trainer.plm_loss.settings
    assert (type(settings.num_bins), settings.num_bins) == (int, 10)
    assert json.dumps(trainer.plm_state.settings)
    args.plm_max_shift = np.int64(20)  # as a search may do
    assert type(PLMSettings.from_preset(**args.plm_settings()).max_shift) is int


def test_the_token_is_not_pickled(tmp_path):
    args = PLMTrainingArguments(str(tmp_path), use_cpu=True, hub_token="secret", seed=7)
    loaded = pickle.loads(pickle.dumps(args))
    assert (loaded.hub_token, loaded.seed, args.hub_token) == (None, 7, "secret")
