"""Turns labels that are text in a table, one cell per row, into lists."""

import ast
import io
import itertools
import json
import tokenize
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, List, Value
from transformers.utils import logging

from .display import quoted
from .label_columns import TEXT, cell_type, stored_column, with_column
from .separators import find_separator, split_names

logger = logging.get_logger(__name__)

WHOLE_NUMBER = r"^-?(0|[1-9]\d*)(\.0)?$"
SIMPLE_LIST = r"^\[\s*('[^'\"\\]*'\s*(,\s*'[^'\"\\]*'\s*)*)?\]$"
"""A list of names as Python writes it; with double quotes it is JSON."""


def split_label_text(data: DatasetDict, column: str, separator: str | None = None) -> DatasetDict:
    """Split a column of text such as `a|b` or `['a', 'b']`, so that each row is a list; other columns do not change.

    Args:
        data: the parts of one data set; all are read in the same way.
        column: the column of the labels.
        separator: the text between the names of a cell; empty if each cell is one name; None to find it.

    Returns:
        the same parts with lists of names in the column, or lists of numbers if the cells are lists of numbers.

    Raises:
        ValueError: if only some cells are lists, if the separator is not clear, or if a separator is given but the
            column is not text.
    """
    kinds = {name: cell_type(rows, column) for name, rows in data.items()}
    if not any(kind in TEXT for kind in kinds.values()) and set(kinds.values()) != {"null"}:  # null: no row has labels
        if separator is not None:
            feature = next(iter(data.values())).features[column]
            raise ValueError(
                f"separator is {separator!r}, but column '{column}' is not text but {feature}; leave the separator out"
            )
        return data
    texts = {name: _text_cells(rows, column) for name, rows in data.items() if kinds[name] in (*TEXT, "null")}
    chunks = itertools.chain.from_iterable(each.chunks for each in texts.values())
    cells = pa.chunked_array(chunks, pa.large_string()).combine_chunks()
    filled = cells.filter(pc.not_equal(cells, ""))
    if separator is None and _holds_lists(filled):
        rows_of = [(name, len(each)) for name, each in texts.items()]
        lists = _parsed_lists(cells, column, rows_of)
    else:
        lists = split_names(cells, find_separator(filled, column) if separator is None else separator)
    feature = List(Value(str(lists.type.value_type).replace("double", "float64")))
    split, first = {}, 0
    for name, rows in data.items():
        if name in texts:
            part = lists.slice(first, len(rows))
            first += len(rows)
            rows = with_column(rows, column, part, feature)
        split[name] = rows
    return DatasetDict(split)


def class_ids_of_text(data: DatasetDict, column: str) -> DatasetDict:
    """Convert text to class ids if it is a whole number in every row; other columns do not change.

    A csv file does not show whether `3` is text or a number. Empty cells become null; `007` stays text.
    """
    cells = {name: _text_cells(rows, column) for name, rows in data.items() if cell_type(rows, column) in TEXT}
    filled = [each.filter(pc.not_equal(each, "")) for each in cells.values()]
    is_number = [pc.all(pc.match_substring_regex(each, WHOLE_NUMBER)).as_py() is not False for each in filled]
    if not all(is_number) or not sum(map(len, filled)):
        return data
    logger.warning(f"Column '{column}': each cell is a whole number and is read as a class id, one per row")
    ids = {
        name: pc.if_else(pc.equal(each, ""), None, each).cast(pa.float64()).cast(pa.int64())
        for name, each in cells.items()
    }
    return DatasetDict(
        {name: with_column(rows, column, ids[name]) if name in ids else rows for name, rows in data.items()}
    )


def _text_cells(rows: Dataset, column: str) -> pa.ChunkedArray:
    """The cells as text without surrounding blanks; missing values become empty text."""
    return pc.utf8_trim_whitespace(stored_column(rows, column).cast(pa.large_string()).fill_null(""))


def _holds_lists(cells: pa.Array) -> bool:
    """Whether any cell is a list, or a tuple or set (and not only a name in brackets)."""
    if pc.any(pc.match_substring_regex(cells, r"(?s)^\[.*\]$")).as_py():
        return True
    others = pc.unique(cells.filter(pc.match_substring_regex(cells, r"(?s)^(\(.*\)|\{.*\})$")))
    return any(isinstance(_literal(text), tuple | set) for text in others.to_pylist())


def _literal(text: str) -> Any:
    """The value of a Python literal; None if it is not one, or if commas between strings are missing, as in NumPy."""
    try:
        value = ast.literal_eval(text)
        kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text).readline)]
    except (ValueError, SyntaxError, tokenize.TokenError):
        return None
    kinds = [kind for kind in kinds if kind not in (tokenize.NL, tokenize.COMMENT)]
    is_joined = any(pair == (tokenize.STRING, tokenize.STRING) for pair in itertools.pairwise(kinds))
    return None if is_joined else value


def _parsed_lists(cells: pa.Array, column: str, rows_of: Sequence[tuple[str, int]]) -> pa.ListArray:
    """The list in each cell; each distinct text is parsed only once.

    Args:
        rows_of: pairs of the name of a part and its number of rows, in the order of the cells.
    """
    encoded = cells.dictionary_encode()
    is_simple = pc.match_substring_regex(encoded.dictionary, SIMPLE_LIST)
    quotes_doubled = pc.replace_substring(encoded.dictionary, "'", '"')
    texts = pc.if_else(is_simple, quotes_doubled, encoded.dictionary).to_pylist()
    lists = [_parsed(text) for text in texts]
    if None in lists:
        odd = lists.index(None)
        place = row_place(pc.index(encoded.indices, odd).as_py(), rows_of)
        raise ValueError(
            f"column '{column}', {place}: {quoted(texts[odd])} is not a list of names or numbers in the format of "
            "JSON or Python; write all rows in the same way, or give the separator of the labels of a row: "
            "separator=... (--separator)"
        )
    kinds = {type(label) for labels in lists for label in labels or ()}
    if str in kinds and len(kinds) > 1:
        raise ValueError(f"column '{column}' holds names in some rows and numbers in others; write all as names")
    value_type = pa.float64() if float in kinds else pa.int64() if kinds - {str} else pa.string()
    if bool in kinds:
        lists = [[value if value is None else float(value) for value in labels or ()] for labels in lists]
    return pa.array(lists, pa.list_(value_type)).take(encoded.indices)


def _parsed(text: str) -> list[str | int | float | None] | None:
    """The list that a JSON or Python text describes; in Python also a tuple or a set. None for other text."""
    try:
        values = json.loads(text or "[]")
    except json.JSONDecodeError:
        values = _literal(text)
    if not isinstance(values, list | tuple | set) or not all(
        each is None or isinstance(each, str | int | float) for each in values
    ):
        return None
    return sorted(values, key=str) if isinstance(values, set) else list(values)


def row_place(row: int, rows_of: Sequence[tuple[str, int]]) -> str:
    """The place of a row for messages: its number, and its part if there are several."""
    part = 0
    while row >= rows_of[part][1]:
        row -= rows_of[part][1]
        part += 1
    return f"row {row}" if len(rows_of) == 1 else f"row {row} of '{rows_of[part][0]}'"
