"""Makes label names and other text from users readable in messages, tables and pictures."""

import re

JOINERS = "\u200c\u200d"
"""Invisible characters that join letters, or the parts of an emoji; they are kept as they are."""


def printable(name: str, width: int = 60) -> str:
    r"""Any text on one line.

    Line breaks, control characters and invisible characters are escaped as in Python (`\n`). Empty text, and text
    with spaces at its ends, is put in quotes. The middle of text that is longer than `width` characters becomes an
    ellipsis.
    """
    text = "".join(char if char.isprintable() or char in JOINERS else _escaped(char) for char in name)
    text = text if text and text == text.strip() else f"'{text}'"
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def markdown(name: str, width: int = 60) -> str:
    """`printable` text for Markdown, also in tables; markup, HTML and mathematics in it are escaped."""
    text = printable(name, width)
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\\", "&#92;")):
        text = text.replace(char, entity)
    text = re.sub(r"(?<!&)([`*\[\]|~$#])", r"\\\1", text)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # within a word, _ is not markup


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def quoted(name: str) -> str:
    """A label name for a message: on one line, in quotes."""
    return f"'{printable(name)}'" if name and name == name.strip() else printable(name)  # printable adds the quotes
