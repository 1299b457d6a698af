"""Label names with any characters are readable in a terminal, a message and a card."""

import random

import pytest
from rich.console import Console
from rich.text import Text

from hf_plm.display import markdown, printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("web dev", "web dev"),
        ("", "''"),
        (" ", "' '"),
        (" a", "' a'"),
        ("a\nb\r\t", r"a\nb\r\t"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\u2028b", r"a\u2028b"),
        ("\u202eabc", r"\u202eabc"),
        ("a\ud800", r"a\ud800"),
        ("$x$ [bold]", "$x$ [bold]"),
        ("😀 日本語", "😀 日本語"),
        ("👩\u200d💻", "👩\u200d💻"),
        ("x" * 60, "x" * 60),
        ("a" * 1000 + "b" * 1000, "a" * 30 + "…" + "b" * 29),
    ],
)
def test_any_text_is_shown_on_one_line(name, shown):
    assert printable(name) == shown


def test_text_of_random_characters_is_printable_and_never_too_long():
    generator = random.Random(0)
    for _ in range(300):
        name = "".join(chr(generator.randrange(0x3000)) for _ in range(generator.randrange(200)))
        text = printable(name, width=40)
        assert 1 <= len(text) <= 40
        assert len(text.splitlines()) == 1
        assert text.replace("\u200c", "").replace("\u200d", "").isprintable()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("role::program, c++ (x)", "role::program, c++ (x)"),
        ("snake_case", "snake_case"),
        ("_a_ __b__", r"\_a\_ \_\_b\_\_"),
        ("a|b", r"a\|b"),
        ("`c`", r"\`c\`"),
        ("*b* ~s~ #h", r"\*b\* \~s\~ \#h"),
        ("[t](u)", r"\[t\](u)"),
        ("$$x$$", r"\$\$x\$\$"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("a\\|", r"a&#92;\|"),
        ("a\nb", "a&#92;nb"),
    ],
)
def test_markdown_in_names_is_escaped(name, shown):
    assert markdown(name) == shown


def test_rich_shows_a_name_unchanged():
    console = Console(width=80, record=True)
    console.print(Text(printable("[bold]x[/bold] [/] :smile:")))
    assert console.export_text() == "[bold]x[/bold] [/] :smile:\n"
