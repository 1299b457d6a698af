"""Importing the package is quick: the file of a public name is imported when the name is first used."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import hf_plm

HEAVY = ("datasets", "evaluate", "matplotlib", "numpy", "pandas", "rich", "scipy", "sklearn", "torch", "transformers")
TRAINER = "import datasets\nfrom transformers import Trainer\n"


def imported_by(code, before=""):
    """The modules that `code` imports in addition to those that `before` imports, in a new process."""
    lines = [
        "import json, sys",
        before,
        "free = set(sys.modules)",
        code,
        "print(json.dumps([*set(sys.modules) - free]))",
    ]
    script = "\n".join(lines)
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return json.loads(process.stdout.splitlines()[-1])


def among(modules, packages):
    """Those of `packages` that have a module among `modules`."""
    return [name for name in packages if any(f"{each}.".startswith(f"{name}.") for each in modules)]


def test_importing_only_the_package_imports_no_dependency():
    modules = imported_by("import hf_plm")
    assert "hf_plm" in modules and among(modules, HEAVY) == []
    assert [name for name in modules if name.startswith("hf_plm.")] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PLMTrainingArguments", "PLMTrainer", "PLMLoss", "read_labeled", "predict"])
def test_a_name_imports_neither_pictures_nor_tables_nor_a_compiler_nor_scores(name):
    unwanted = ("matplotlib", "rich", "sklearn", "torch._dynamo", "torch._inductor")
    modules = imported_by(f"from hf_plm import {name}", TRAINER)
    assert "hf_plm" in modules and among(modules, unwanted) == []


@pytest.mark.slow
def test_the_compiler_is_imported_when_a_loss_is_compiled():
    loss = """
import torch
from hf_plm import LabelCounts, PLMLoss
plm_loss = PLMLoss(LabelCounts([1, 2], [3, 2]), fused=FUSED)
plm_loss(torch.zeros(2, 2, requires_grad=True), torch.ones(2, 2)).backward()
plm_loss.end_epoch()
"""
    assert among(imported_by(loss.replace("FUSED", "False")), ["torch._dynamo"]) == []
    assert among(imported_by(loss.replace("FUSED", "True")), ["torch._dynamo"]) == ["torch._dynamo"]


def test_every_public_name_is_found_and_listed():
    for name in hf_plm.__all__:
        assert getattr(hf_plm, name).__name__ == name
    assert set(hf_plm.__all__) <= set(dir(hf_plm))
    names = {}
    exec("from hf_plm import *", names)
    assert set(hf_plm.__all__) <= set(names)


def test_type_checkers_find_the_names_in_the_right_files():
    (block,) = (node for node in ast.parse(Path(hf_plm.__file__).read_text()).body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == {name: getattr(hf_plm, name).__module__.removeprefix("hf_plm.") for name in hf_plm.__all__}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'hf_plm' has no attribute 'PLMTrianer'"):
        hf_plm.PLMTrianer  # noqa: B018
    with pytest.raises(ImportError, match="PLMTrianer"):
        from hf_plm import PLMTrianer  # noqa: F401


def test_an_import_error_names_a_dependency_that_lacks_an_attribute(monkeypatch):
    def fail(*args):
        raise AttributeError("module 'numpy' has no attribute 'float'")

    monkeypatch.delitem(vars(hf_plm), "predict", raising=False)
    monkeypatch.setattr(hf_plm, "import_module", fail)
    with pytest.raises(ImportError, match="hf_plm.predict could not be imported: .* no attribute 'float'"):
        from hf_plm import predict  # noqa: F401
