"""A hook for MkDocs, see `mkdocs.yml`: which files the site shows, and how code is shown in its pages.

The site has the folders of the repository, and `README.md` is its first page. So a link from one file to another works
both on GitHub and on the site.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PAGES = ("*.md", "docs/**/*.md", "examples/**/*.md")
LINKED = (
    *("docs/images/*", "examples/*.*", "examples/accelerate/*", "benchmarks/*.py", "hf_plm/*.py", "tests/*.py"),
    *("LICENSE", "Makefile", "mkdocs.yml", "pyproject.toml", "docs/site.*"),
)
"""Files that a page may link to or load, in addition to other pages; the site has a copy of each."""

CODE = re.compile(r"(<(?:a|h\d|pre)\b.*?</(?:a|h\d|pre)>)|<code>([^<]*)</code>", re.DOTALL)
CALL = re.compile(r"(?:hf_plm\.)?(\w+)((?:\.\w+)?)(\(.*\))?", re.DOTALL)
AMBIGUOUS = {"predict"}  # without a class, it may be that of `Trainer`


def matching(patterns: tuple[str, ...]) -> set[str]:
    """The paths, in the repository, of the files that match a pattern."""
    return {path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)}


def documented_names() -> list[str]:
    """The names of `hf_plm` that the API pages describe, in the order of the pages."""
    pages = sorted((ROOT / "docs" / "api").glob("*.md"))
    return [name for page in pages for name in re.findall(r"^::: hf_plm\.(\w+)$", page.read_text(), re.MULTILINE)]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files that MkDocs found in docs/ by those of the whole repository that the site shows."""
    for file in [file for file in files if file.src_dir == config.docs_dir]:
        files.remove(file)
    for path in sorted(matching(PAGES + LINKED)):
        files.append(File(path, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_content(html: str, page: Page, **_: Any) -> str:
    """Link the public names to their descriptions, and show the types in docstrings without markup."""
    names, is_api = set(documented_names()), page.file.src_uri.startswith("docs/api/")

    def shown(match: re.Match[str]) -> str:
        code = match[2]
        if code is None:  # a link, a heading or a block of code
            return match[0]
        if "`" in code and is_api:  # "`float`, *optional*" or "int64, `(num_labels,)`"; the default follows it
            return f"<code>{re.sub(r', (?:[*]optional[*]|defaults to .*)$', '', code).replace('`', '')}</code>"
        call = CALL.fullmatch(code)
        if call is None or call[1] not in names or code in AMBIGUOUS:
            return match[0]
        return f'<autoref identifier="hf_plm.{call[1]}{call[2]}" optional>{match[0]}</autoref>'

    return CODE.sub(shown, html)
