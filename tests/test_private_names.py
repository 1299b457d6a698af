"""Lists every private name of other packages that is used here, and checks that it still exists.

Any release may remove a private name. A test fails if one is not listed here, or no longer exists.
"""

import argparse
import ast
import importlib
import inspect
import sys
from pathlib import Path

import evaluate
import torch
import torch._dynamo.exc
import torch._inductor
from datasets import Dataset
from torch import nn
from transformers import Trainer

import hf_plm
from hf_plm import LabelCounts, PLMLoss, PLMState
from hf_plm.packed_histograms import OPTIONS

FOLDER = Path(hf_plm.__file__).parent
TREES = {path.stem: ast.parse(path.read_text()) for path in FOLDER.glob("*.py") if path.stem != "__main__"}

IMPORTED = {("fused", "torch._dynamo.exc")}
ATTRIBUTES = {
    ("command_parser", "_actions"),
    ("comparing", "_asdict"),
    ("label_columns", "_indices"),
    ("loss", "_modules"),
    ("trainer", "_replace"),
}
ARGUMENTS = {("hub", "_internal_call")}
OVERRIDDEN = {
    ("LabelTable", "_constructor"),
    ("LabelTable", "_repr_html_"),
    ("MultiLabelMetrics", "_compute"),
    ("MultiLabelMetrics", "_info"),
    ("PLMState", "_load_from_state_dict"),
    ("SavedTensors", "_apply"),
    ("SavedTensors", "_load_from_state_dict"),
    ("SavedTensors", "_save_to_state_dict"),
}
"""Where each name is used: a file, or for methods a class."""

OURS_OR_PYTHON = {"hf_plm", *sys.stdlib_module_names}


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def is_method(value):
    return inspect.isfunction(value) or isinstance(value, property)


def nodes(kind):
    return [(file, node) for file, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, kind)]


def own_names():
    """The names that the package itself defines: functions, classes, variables and attributes."""
    names = {node.name for _, node in nodes((ast.FunctionDef, ast.ClassDef))}
    names |= {node.id for _, node in nodes(ast.Name) if isinstance(node.ctx, ast.Store)}
    return names | {node.attr for _, node in nodes(ast.Attribute) if isinstance(node.ctx, ast.Store)}


def test_every_private_name_is_listed():
    imported = {(file, node.module) for file, node in nodes(ast.ImportFrom) if node.level == 0}
    imported |= {(file, alias.name) for file, node in nodes(ast.Import) for alias in node.names}
    assert {(file, name) for file, name in imported if any(map(is_private, name.split(".")))} == IMPORTED
    names = {alias.name for _, node in nodes(ast.ImportFrom) if node.level == 0 for alias in node.names}
    assert list(filter(is_private, names)) == []
    attributes = {(file, node.attr) for file, node in nodes(ast.Attribute) if is_private(node.attr)}
    own = own_names()
    assert {(file, name) for file, name in attributes if name not in own} == ATTRIBUTES
    arguments = {(file, node.arg) for file, node in nodes(ast.keyword) if node.arg and is_private(node.arg)}
    assert arguments == ARGUMENTS


def test_every_private_method_that_is_overridden_is_listed_and_still_called_so():
    found = set()
    for file in TREES:
        for cls in vars(importlib.import_module(f"hf_plm.{file}")).values():
            if inspect.isclass(cls) and cls.__module__ == f"hf_plm.{file}":
                others = [base for base in cls.__mro__ if base.__module__.split(".")[0] not in OURS_OR_PYTHON]
                private = [name for name, value in vars(cls).items() if is_private(name) and is_method(value)]
                found |= {(cls.__name__, name) for name in private if any(name in vars(base) for base in others)}
    assert found == OVERRIDDEN


def test_the_errors_of_the_compiler_are_still_there():
    assert issubclass(torch._dynamo.exc.TorchDynamoException, RuntimeError)
    assert issubclass(torch._dynamo.exc.FailOnRecompileLimitHit, Exception)


def test_the_options_of_the_compiler_are_still_there():
    assert set(OPTIONS) <= set(torch._inductor.list_options())


def test_a_module_still_stores_its_submodules_where_the_loss_expects_them():
    plm_loss = PLMLoss(LabelCounts([1, 2], [3, 2]))
    assert plm_loss._modules["state"] is plm_loss.state


def test_a_module_still_moves_saves_and_loads_by_the_methods_that_the_state_overrides(monkeypatch):
    called = []
    for name in ("_apply", "_save_to_state_dict", "_load_from_state_dict"):
        original = getattr(PLMState, name)
        monkeypatch.setattr(
            PLMState, name, lambda *args, _name=name, _call=original: called.append(_name) or _call(*args)
        )
    plm_loss = PLMLoss(LabelCounts([1, 2], [3, 2]))
    plm_loss.to(torch.float64)
    plm_loss.load_state_dict(plm_loss.state_dict())
    assert called == ["_apply", "_save_to_state_dict", "_load_from_state_dict"]
    assert isinstance(plm_loss, nn.Module)


def test_a_data_set_still_keeps_the_places_of_selected_rows():
    rows = Dataset.from_dict({"labels": [[0], [1], [2]]})
    assert rows._indices is None
    assert rows.select([2, 0])._indices.column(0).to_pylist() == [2, 0]


def test_a_trainer_still_marks_its_own_calls_of_save_model():
    assert "_internal_call" in inspect.signature(Trainer.save_model).parameters


def test_a_metric_still_asks_the_methods_that_are_overridden():
    assert {"_info", "_compute"} <= set(vars(evaluate.Metric)) | set(vars(evaluate.EvaluationModule))


def test_a_parser_still_stores_its_flags_where_the_command_expects_them():
    parser = argparse.ArgumentParser()
    flag = parser.add_argument("--flag")
    assert parser._actions[-1] is flag
