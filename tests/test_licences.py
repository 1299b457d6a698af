"""docs/licences.md names every dependency, its tables follow the metadata, and each example row names its source."""

import importlib.util
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
DATA = ROOT / "examples" / "data"
spec = importlib.util.spec_from_file_location("licences", ROOT / "docs" / "licences.py")
licences = importlib.util.module_from_spec(spec)
spec.loader.exec_module(licences)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Fakes the metadata of an installed package."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name, *lines):
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1", *lines]))

    return install


def rows_of(text):
    """Package -> its licence and what needs it, from the tables in a text."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {name: (licence, by) for name, licence, by in rows if name != "package"}


def test_the_page_names_every_dependency_and_extra_of_pyproject():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = licences.PAGE.read_text()
    asked = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {canonicalize_name(Requirement(line).name) for lines in asked for line in lines} - {licences.ROOT}
    assert len(names) > 20
    assert names - set(rows_of(page)) == set(), "make licences updates the tables"
    headings = set(re.findall(r"^## What the extra `(.+)` adds$", page, re.MULTILINE))
    assert headings == set(project["optional-dependencies"]), "make licences updates the tables"


def test_a_table_lists_the_required_packages_and_what_needs_them(install):
    extras = ["e; extra == 'more'", "a[more]; extra == 'all'"]
    asked = [f"Requires-Dist: {each}" for each in ("b", "C_c[fast]>=2", *extras)]
    install("a", *asked, *(f"Provides-Extra: {extra}" for extra in ("more", "all", "none")))
    install("b", "License-Expression: MIT", "Requires-Dist: c.c", "Requires-Dist: w; sys_platform == 'no such'")
    install("c_c", "License-Expression: LGPL-3.0-only", "Requires-Dist: b", "Requires-Dist: d; extra == 'fast'")
    install("d", "License: Apache 2.0", "Requires-Dist: w; extra == 'unasked'")
    install("e", "License: MIT", "Requires-Dist: b")
    made = licences.sections("a")
    alone, for_all, for_more, for_none = re.split(r"^## What the extra .* adds$", made, flags=re.MULTILINE)
    assert rows_of(alone) == {"b": ("MIT", "a, c-c"), "c-c": ("LGPL-3.0-only", "a, b"), "d": ("Apache-2.0", "c-c")}
    assert "Copyleft among them: c-c (LGPL-3.0-only)." in alone
    assert rows_of(for_all) == rows_of(for_more) == {"e": ("MIT", "a")}
    assert "Copyleft among them: none." in for_all
    assert "Nothing new." in for_none
    assert made == licences.sections("a")


def test_an_error_names_a_package_that_is_missing_or_states_no_licence(install):
    install("a", "Requires-Dist: b", "License: UNKNOWN")
    with pytest.raises(ValueError, match="b is not installed; make install"):
        licences.needed("a")
    with pytest.raises(ValueError, match="a states no licence in its metadata"):
        licences.licence_of("a")


@pytest.mark.parametrize(
    ("lines", "licence"),
    [
        (["License: MIT License", "License-Expression: ISC"], "ISC"),
        (["License: MIT License", "Classifier: License :: OSI Approved :: BSD License"], "MIT"),
        (["License: Apache"], "Apache"),  # without a version
        (["License: UNKNOWN", "Classifier: License :: OSI Approved :: BSD License"], "BSD License"),
        (
            ["License: Copyright of somebody", "        All rights", "Classifier: License :: Public Domain"],
            "Public Domain",
        ),
    ],
)
def test_a_licence_is_read_from_the_metadata(install, lines, licence):
    install("a", *lines)
    assert licences.licence_of("a") == licence


def test_only_the_text_between_the_marks_is_replaced():
    page = "before\n<!-- licences -->\nold\n<!-- end -->\nbehind"
    made = licences.fill(page, r"new \1")
    assert made == "before\n<!-- licences -->\n\nnew \\1\n\n<!-- end -->\nbehind"
    assert licences.fill(made, r"new \1") == made


def test_every_row_of_the_examples_names_its_source():
    """A row can be found and removed by its package or its file."""
    for folder, column, total in (("debtags", "package", 24_816), ("clipart", "name", 5_496)):
        parts = [
            pq.read_table(DATA / folder / f"{part}.parquet", columns=[column]) for part in ("train", "validation")
        ]
        names = [name for part in parts for name in part[column].to_pylist()]
        assert len(names) == len(set(names)) == total
        assert all(names)
