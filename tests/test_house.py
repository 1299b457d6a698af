"""Files and functions stay short, and imports inside the package run one way."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("hf_plm", "examples", "benchmarks", "tests")
FILES = {
    path.relative_to(ROOT).as_posix(): path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))
}
PACKAGE = {name: path for name, path in FILES.items() if name.startswith("hf_plm/")}
LONGEST_FILE, LONGEST_FUNCTION = 300, 60


def long_functions(source):
    """The name and the number of lines (with decorators) of each function that is too long."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            lines = node.end_lineno - first + 1
            if lines > LONGEST_FUNCTION:
                found.append((node.name, lines))
    return found


def imported_modules(source, modules):
    """Which modules of the package a file imports, at any place in it; `__init__` for the package root."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "hf_plm"]
        elif isinstance(node, ast.ImportFrom):
            base = "hf_plm" if node.level else ""
            base = ".".join(filter(None, [base, node.module or ""]))
            if base.split(".")[0] == "hf_plm":
                names = [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            part = name.split(".")[1:2]
            found.add(part[0] if part and part[0] in modules else "__init__")
    return found


def circles(graph):
    """Each circle of imports, as a list of modules; the search starts from every module."""
    found = []

    def follow(module, path):
        if module in path:
            found.append([*path[path.index(module) :], module])
        elif module not in done:
            for imported in sorted(graph.get(module, ())):
                follow(imported, [*path, module])
            done.add(module)

    done = set()
    for module in sorted(graph):
        follow(module, [])
    return found


@pytest.mark.parametrize("name", FILES)
def test_no_file_and_no_function_is_long(name):
    source = FILES[name].read_text()
    assert len(source.splitlines()) <= LONGEST_FILE
    assert long_functions(source) == []


def test_imports_inside_the_package_run_one_way_and_never_from_the_root():
    modules = {path.stem for path in PACKAGE.values()}
    graph = {path.stem: imported_modules(path.read_text(), modules) for path in PACKAGE.values()}
    assert "trainer" in graph["__init__"]  # the imports are found
    assert [module for module, imported in graph.items() if "__init__" in imported] == []
    assert circles(graph) == []


def test_the_checks_find_violations():
    long = "def f():\n" + "    x = 1\n" * 60
    assert long_functions(long) == [("f", 61)]
    assert long_functions("class A:\n" + "".join(f"    {line}\n" for line in ["@g", *long.splitlines()])) == [
        ("f", 62)
    ]
    assert long_functions("def f():\n" + "    x = 1\n" * 59) == []
    source = "if TYPE_CHECKING:\n    from .b import X\nfrom . import __version__, c\nimport hf_plm.d\n"
    source += "def f():\n    from hf_plm import e\n"
    assert imported_modules(source, {"a", "b", "c", "d", "e"}) == {"b", "c", "d", "e", "__init__"}
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_contributing_names_every_file_of_the_package():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text[text.index("The files of `hf_plm/`") :].partition("\n## ")[0]
    named = re.findall(r"`(\w+\.py)`", table)
    assert sorted(named) == sorted(path.name for path in PACKAGE.values() if path.stem != "__init__")
