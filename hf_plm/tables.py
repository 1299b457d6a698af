"""Turns labels that a file holds as text, one cell per row, into lists."""

import ast
import io
import itertools
import json
import tokenize
from collections.abc import Sequence
from typing import Any

from datasets import DatasetDict, List, Value
from transformers.utils import logging

from .display import quoted

logger = logging.get_logger(__name__)

SEPARATORS = ("|", ";", ",")
"""What may separate the names in a cell, if the user does not say."""


def split_label_text(data: DatasetDict, column: str, separator: str | None = None) -> DatasetDict:
    """Take apart a column of text, `a|b` or `['a', 'b']`, so that each row is a list; other columns stay as they are.

    Args:
        data: the parts of one data set; all are read in the same way.
        column: the column of the labels.
        separator: between the names of a cell; empty if each cell is one name; None to find it.

    Returns:
        the same parts with lists of names in the column, or lists of numbers if the cells are lists of numbers.

    Raises:
        ValueError: if only some cells are lists, or if the cells do not tell what separates the names.
    """
    types = {getattr(rows.features[column], "dtype", None) for rows in data.values()}
    if not types <= {"string", "large_string", "null"}:  # null: not one row has any
        return data
    cells = {name: [(text or "").strip() for text in rows[column]] for name, rows in data.items()}
    filled = [text for texts in cells.values() for text in texts if text]
    if separator is None and any(_is_list(text) for text in filled):
        labels = {
            name: [_parsed(text, row, column) for row, text in enumerate(texts)] for name, texts in cells.items()
        }
    else:
        separator = find_separator(filled, column) if separator is None else separator
        labels = {name: [_names(text, separator) for text in texts] for name, texts in cells.items()}
    kinds = {type(label) for rows in labels.values() for row in rows for label in row}
    if str in kinds and len(kinds) > 1:
        raise ValueError(f"column '{column}' holds names in some rows and numbers in others; write all as names")
    feature = List(Value("float64" if float in kinds else "int64" if kinds & {int, bool} else "string"))
    lists = f"{column} as lists"
    return DatasetDict(
        {
            name: rows.add_column(lists, labels[name], feature=feature)
            .remove_columns(column)
            .rename_column(lists, column)
            for name, rows in data.items()
        }
    )


def find_separator(cells: Sequence[str], column: str) -> str:
    """The one of `SEPARATORS` that the cells hold; empty if they hold none of them and no blank.

    Raises:
        ValueError: if they hold several, or only blanks: then the cells do not tell what separates the names.
    """
    found = [separator for separator in SEPARATORS if any(separator in cell for cell in cells)]
    if len(found) == 1:
        logger.warning(f"Column '{column}': the labels of a row are separated by '{found[0]}'")
        return found[0]
    odd = next((cell for cell in cells if (found and found[0] in cell) or len(cell.split()) > 1), None)
    if odd is None:
        return ""
    held = " and ".join(f"'{separator}'" for separator in found) or "blanks"
    raise ValueError(
        f"column '{column}' holds text such as {quoted(odd)}, with {held}; say what separates the labels of a "
        "row: separator=... (--separator), empty if each cell is one label"
    )


def _names(text: str, separator: str) -> list[str | int | float]:
    parts = text.split(separator) if separator.strip() else text.split() if separator else [text]
    return [part.strip() for part in parts if part.strip()]


def _is_list(text: str) -> bool:
    if text[:1] + text[-1:] == "[]":
        return True
    return text[:1] + text[-1:] in ("()", "{}") and isinstance(_literal(text), tuple | set)  # else a name in brackets


def _literal(text: str) -> Any:
    """What Python reads; None for no literal, and for texts without a comma between them, as NumPy prints them."""
    try:
        value = ast.literal_eval(text)
        kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text).readline)]
    except (ValueError, SyntaxError, tokenize.TokenError):
        return None
    kinds = [kind for kind in kinds if kind not in (tokenize.NL, tokenize.COMMENT)]
    is_joined = any(pair == (tokenize.STRING, tokenize.STRING) for pair in itertools.pairwise(kinds))
    return None if is_joined else value


def _parsed(text: str, row: int, column: str) -> list[str | int | float]:
    """A list that is written as JSON or Python write it; in Python also a tuple or a set."""
    try:
        values = json.loads(text or "[]")
    except json.JSONDecodeError:
        values = _literal(text)
    if not isinstance(values, list | tuple | set) or not all(isinstance(each, str | int | float) for each in values):
        raise ValueError(
            f"column '{column}', row {row}: {quoted(text)} is no list of names or numbers as JSON or Python write it; "
            "write all rows in the same way, or say what separates the labels of a row: separator=... (--separator)"
        )
    return sorted(values, key=str) if isinstance(values, set) else list(values)
