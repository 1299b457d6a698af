"""Links between README, docs and files work, every public name is described, and pages look right.

Most tests need no built site: they parse a document as GitHub does (markdown-it) and as the site does
(Python-Markdown).
"""

import posixpath
import re
import subprocess
import sys
from collections import Counter
from difflib import unified_diff
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import markdown
import pytest
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from mkdocs.config import load_config

import hf_plm

ROOT = Path(__file__).parent.parent
CONFIG = load_config(str(ROOT / "mkdocs.yml"))
HOOK = CONFIG.hooks["docs/site.py"]
PAGES = sorted(HOOK.matching(HOOK.PAGES))
SHOWN = HOOK.matching(HOOK.PAGES + HOOK.LINKED)
ELEMENTS = ["h1", "h2", "h3", "h4", "ul", "ol", "li", "table", "th", "td", "pre", "code", "strong", "em", "a", "img"]


def parsed(html):
    """HTML without the links that the site adds to headings."""
    soup = BeautifulSoup(html, "html.parser")
    for link in soup.find_all(class_="headerlink"):
        link.decompose()
    return soup


@cache
def on_github(page):
    return parsed(MarkdownIt("commonmark").enable("table").render((ROOT / page).read_text()))


@cache
def on_site(page):
    options = {"extensions": CONFIG.markdown_extensions, "extension_configs": CONFIG.mdx_configs}
    return parsed(markdown.markdown((ROOT / page).read_text(), **options))


def github_anchors(page):
    """The headings' anchors: lower case, no punctuation, hyphens for spaces; a number if the anchor exists already."""
    seen = Counter()
    anchors = set()
    for heading in on_github(page).find_all(re.compile(r"^h\d$")):
        anchor = re.sub(r"[^\w\- ]", "", heading.text.lower()).replace(" ", "-")
        anchors.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return anchors


def links(soup):
    return [tag.get("href") or tag.get("src") for tag in soup.find_all(["a", "img"])]


def broken(page, link):
    """What is wrong with a link of a page, or None."""
    parts = urlsplit(link)
    if parts.scheme:
        return None
    target = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(parts.path))) if parts.path else page
    if not (ROOT / target).exists():
        return f"{link}: there is no {target}"
    if target not in SHOWN:
        return f"{link}: the site does not show {target}; link a file of it, or add it to LINKED in docs/site.py"
    if parts.fragment and not (
        target.endswith(".md")
        and parts.fragment in github_anchors(target)
        and on_site(target).find(id=parts.fragment) is not None
    ):
        return f"{link}: {target} has no heading with this anchor"
    return None


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    assert [found for link in links(on_github(page)) if (found := broken(page, link))] == []


def test_broken_links_are_found():
    assert "docs/method.md" in links(on_github("README.md"))
    assert "docs/images/methods.png" in links(on_github("README.md"))
    assert broken("README.md", "docs/method.md#class-weight") is None
    assert broken("docs/method.md", "#ratios") is None
    assert broken("docs/results/bins.md", "../choices.md") is None
    assert broken("docs/method.md", "https://arxiv.org/abs/2105.10782") is None
    assert "no docs/docs/text.md" in broken("docs/method.md", "docs/text.md")
    assert "no heading" in broken("README.md", "docs/method.md#ratio")
    assert "no heading" in broken("README.md", "LICENSE#ratio")
    assert "does not show examples" in broken("README.md", "examples/")


def text_and_elements(soup):
    """The words, the elements and the targets of links, in order."""
    for row in soup.find_all("tr"):
        if not row.text.strip():  # Python-Markdown adds an empty head to a table without one
            row.decompose()
    for tag in soup.find_all(ELEMENTS):
        tag.insert_before(f" <{tag.name} {tag.get('href') or tag.get('src') or ''}> ")
    return soup.text.split()


@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith("docs/api/")])
def test_a_page_looks_the_same_on_github_and_on_the_site(page):
    github, site = (text_and_elements(parsed(str(soup))) for soup in (on_github(page), on_site(page)))
    differences = list(unified_diff(github, site, "GitHub", "the site", n=8, lineterm=""))
    remedy = "put an empty line before a list or a table, and indent a list within a list by four spaces: "
    assert not differences, remedy + " ".join(differences[:60])


def test_every_public_name_is_described_on_one_page():
    described = Counter(HOOK.documented_names())
    expected = Counter([*hf_plm.__all__, "objectives"])  # the module
    assert not expected - described, "add '::: hf_plm.NAME' to a page of docs/api"
    assert not described - expected, "described twice, or not in hf_plm.__all__"


def pages_of(menu):
    """The pages of a menu, and of the menus in it."""
    entries = [entry for each in menu for entry in each.values()]
    return [page for entry in entries for page in ([entry] if isinstance(entry, str) else pages_of(entry))]


def test_the_menu_names_every_page():
    assert Counter(pages_of(CONFIG.nav)) == Counter(PAGES), "name each page once in nav of mkdocs.yml"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The pages of the built site by path. MkDocs itself checks links and anchors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return {path.relative_to(folder).as_posix(): parsed(path.read_text()) for path in folder.rglob("*.html")}


@pytest.mark.slow
def test_the_site_is_built_with_every_name_and_without_markup_that_is_left(built):
    articles = {path: soup.article for path, soup in built.items() if path != "404.html"}
    assert sorted(articles) == sorted(page.replace("README", "index").replace(".md", ".html") for page in PAGES)
    for name in hf_plm.__all__:
        assert len([path for path, article in articles.items() if article.find(id=f"hf_plm.{name}")]) == 1, name
    for path, article in articles.items():
        for source in article.find_all(class_="mkdocstrings-source"):
            source.decompose()
        for code in article.find_all("code"):
            assert not path.startswith("docs/api/") or "`" not in code.text, (path, code.text)
            code.decompose()
        assert re.findall(r".*(?:`|\*\*|\n\s*- ).*", article.text) == [], path


@pytest.mark.slow
def test_a_browser_loads_nothing_from_elsewhere(built):
    for path, soup in built.items():
        loaded = [tag.get("src") or tag.get("href") for tag in soup.find_all(["script", "link", "img", "iframe"])]
        assert [each for each in loaded if each and urlsplit(each).netloc] == [], path
