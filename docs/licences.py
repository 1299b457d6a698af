"""Make the tables of `docs/licences.md`: which packages hf_plm and its extras install, and under which licences.

    python docs/licences.py

It reads the metadata of installed packages, so all must be installed: run `make licences`.
"""

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PAGE = Path(__file__).parent / "licences.md"
ROOT = "hf-plm"
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "ISC License": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""SPDX names for licences that some packages spell out. A licence without a version is not changed."""

COPYLEFT = re.compile(r"GPL|MPL|EPL|CDDL")
Needed = dict[str, set[str]]
"""Package -> the packages that require it."""


def licence_of(name: str) -> str:
    """The licence that an installed package states: as an SPDX expression, else in one line, else as a classifier.

    Raises:
        ValueError: if it states none.
    """
    stated = metadata.metadata(name)
    classifiers = [each for each in stated.get_all("Classifier", []) if each.startswith("License :: ")]
    written = (stated.get("License") or "").strip()
    if expression := stated.get("License-Expression"):
        return expression
    if written not in ("", "UNKNOWN") and "\n" not in written:
        return SPDX.get(written, written)
    if classifiers:
        names = [each.rpartition(" :: ")[2] for each in classifiers]
        return ", ".join(sorted(SPDX.get(each, each) for each in names))
    raise ValueError(f"{name} states no licence in its metadata; look at its repository, and add what you find")


def requirements(name: str, extras: frozenset[str]) -> list[Requirement]:
    """The requirements of an installed package with these extras on this machine.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        asked = [Requirement(line) for line in metadata.requires(name) or []]
    except metadata.PackageNotFoundError as error:
        raise ValueError(f"{name} is not installed; make install installs everything") from error
    return [
        each
        for each in asked
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", *extras))
    ]


def needed(name: str, extras: frozenset[str] = frozenset()) -> Needed:
    """All packages that a package with these extras installs (without itself), and what requires each."""
    found: Needed = {}
    done = set()
    waiting = [(canonicalize_name(name), extras)]
    while waiting:
        asking, chosen = waiting.pop()
        if (asking, chosen) in done:
            continue
        done.add((asking, chosen))
        for requirement in requirements(asking, chosen):
            package = canonicalize_name(requirement.name)
            waiting.append((package, frozenset(requirement.extras)))
            if package != canonicalize_name(name):
                found.setdefault(package, set()).add(asking)
    return found


def table(packages: Needed) -> str:
    """A table of the packages, sorted by name, and a list of those with a copyleft licence."""
    if not packages:
        return "Nothing new."
    lines = ["| package | licence | needed by |", "|---|---|---|"]
    for name in sorted(packages):
        lines.append(f"| {name} | {licence_of(name)} | {', '.join(sorted(packages[name]))} |")
    copyleft = [f"{name} ({licence})" for name in sorted(packages) if COPYLEFT.search(licence := licence_of(name))]
    lines += ["", f"Copyleft among them: {', '.join(copyleft) or 'none'}."]
    return "\n".join(lines)


def sections(root: str = ROOT) -> str:
    """A table of the packages without extras, and one for each extra with what it adds."""
    alone = needed(root)
    parts = [f"## Without extras\n\n{table(alone)}"]
    for extra in sorted(metadata.metadata(root).get_all("Provides-Extra", [])):
        added = {name: by for name, by in needed(root, frozenset({extra})).items() if name not in alone}
        parts.append(f"## What the extra `{extra}` adds\n\n{table(added)}")
    return "\n\n".join(parts)


def fill(text: str, made: str) -> str:
    """A page with the text between its marks replaced."""
    return re.sub(r"(?s)(?<=<!-- licences -->\n).*(?=<!-- end -->)", lambda _: f"\n{made}\n\n", text)


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(), sections()))
    print(f"made the tables of {PAGE}")
