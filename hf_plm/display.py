"""Label names and other text from users, made readable wherever they are shown."""

import re

JOINERS = "\u200c\u200d"
"""Marks between letters, and between the parts of an emoji; on their own they change nothing."""


def printable(name: str, width: int = 60) -> str:
    r"""Any text on one line.

    Line breaks, control characters and all that cannot be seen are escaped as in Python (`\n`); empty text, and text
    with spaces at its ends, stands in quotes; what is longer than `width` characters has an ellipsis in its middle.
    """
    text = "".join(char if char.isprintable() or char in JOINERS else _escaped(char) for char in name)
    text = text if text and text == text.strip() else f"'{text}'"
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def markdown(name: str, width: int = 60) -> str:
    """`printable` text for Markdown, tables too: nothing of it is taken for markup, HTML or mathematics."""
    text = printable(name, width)
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\\", "&#92;")):
        text = text.replace(char, entity)
    text = re.sub(r"(?<!&)([`*\[\]|~$#])", r"\\\1", text)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # within a word it is no markup


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def quoted(name: str) -> str:
    """A label name in a message: on one line, in quotes."""
    return f"'{printable(name)}'" if name and name == name.strip() else printable(name)  # which adds the quotes
