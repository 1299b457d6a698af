"""docs/public.md names all that the documents use in addition to `hf_plm.__all__`, and only names that exist."""

import importlib
import re
from pathlib import Path

import pytest

import hf_plm

ROOT = Path(__file__).parent.parent
NAMED = set(re.findall(r"`(hf_plm\.[\w.]+)`", (ROOT / "docs" / "public.md").read_text()))
DOCUMENTS = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]


def used(text):
    """The names of modules of hf_plm that a document describes, or that its code imports."""
    described = re.findall(r"^::: (hf_plm\.[\w.]+)$", text, re.MULTILINE)
    imports = re.findall(r"^\s*from (hf_plm[\w.]*) import (.+)$", text, re.MULTILINE)
    return {*described, *(f"{module}.{name.strip()}" for module, names in imports for name in names.split(","))}


def test_every_name_in_the_documents_is_public():
    names = {name for document in DOCUMENTS for name in used(document.read_text())}
    assert {"hf_plm.PLMTrainer", "hf_plm.comparing.compare_methods", "hf_plm.objectives"} <= names
    assert names - NAMED - {f"hf_plm.{name}" for name in hf_plm.__all__} == set(), "name it in docs/public.md"


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_name_that_is_public_exists(name):
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)


def test_the_changelog_begins_with_this_version():
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first[1] == hf_plm.__version__
