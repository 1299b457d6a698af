"""Help and version of the command, as `hf-plm` and as `python -m hf_plm`."""

import runpy
import sys

import pytest

import hf_plm
from hf_plm.command_line import main


def test_it_prints_its_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"hf-plm {hf_plm.__version__}\n"


def test_it_runs_as_a_module_too(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["python -m hf_plm", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("hf_plm", run_name="__main__")
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: hf-plm [-h] [--version] COMMAND")
    assert all(f"\n    {name} " in printed for name in ("inspect", "train", "predict", "compare"))
