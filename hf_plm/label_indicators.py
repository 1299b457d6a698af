"""Joins columns of one label each (1, 0 or empty) into one column of labels."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, List, Value
from transformers.utils import logging

from .display import quoted
from .label_columns import stored_columns, with_column
from .label_space import shown_list

logger = logging.get_logger(__name__)

UNKNOWN = -1


def join_label_columns(data: DatasetDict, label_columns: str | Sequence[str], column: str) -> DatasetDict:
    """Join columns of 1 and 0 into one column; their names, in their order, are the label names.

    Args:
        data: the parts of one data set; each has all the columns.
        label_columns: names of columns, or patterns such as `tag_*`; also as one text with commas.
        column: the new column; the label columns are removed.

    Returns:
        the parts, with lists of class ids (`List(ClassLabel)`) in the column. If any label is unknown (empty, NaN, -1
        or -100), the rows instead hold a value for each label by its name: 1, 0, or null if it is unknown.

    Raises:
        ValueError: if a column is missing from a part, or a value is neither 1, 0 nor unknown.
    """
    names = {part: _chosen(label_columns, rows.column_names, part) for part, rows in data.items()}
    (first, labels), *others = names.items()
    for part, chosen in others:
        if set(chosen) != set(labels):
            differ = sorted(set(chosen) ^ set(labels))
            raise ValueError(
                f"label_columns is {label_columns!r}: '{first}' has {len(labels)} such columns and '{part}' has "
                f"{len(chosen)}; not in both: {shown_list(differ)}. Give each part the same label columns"
            )
    if column not in labels and any(column in rows.column_names for rows in data.values()):
        raise ValueError(
            f"label_columns is {label_columns!r}, and there is also a column '{column}'; remove the one that does "
            "not hold the labels"
        )
    tables = {part: stored_columns(rows, labels) for part, rows in data.items()}
    values = {part: [_values(table[name], name, part) for name in labels] for part, table in tables.items()}
    unknown = sum(int((each == UNKNOWN).sum()) for columns in values.values() for each in columns)
    if unknown:
        logger.warning(f"{unknown:,} labels are unknown: empty or -1 in one of the {len(labels):,} label columns")
    joined = {}
    for part, rows in data.items():
        if unknown:
            feature = {name: Value("int8") for name in labels}
            array = pa.StructArray.from_arrays(
                [pa.array((each == 1).astype(np.int8), mask=each == UNKNOWN) for each in values[part]], labels
            )
        else:
            feature = List(ClassLabel(names=labels))
            array = _lists_of_ids(values[part], len(rows))
        joined[part] = with_column(rows, column, array, feature, labels)
    return DatasetDict(joined)


def indicators(rows: Dataset) -> list[str]:
    """The columns of numbers whose cells are all 1, 0, -1 or empty."""
    kinds = ("bool", "int", "float")
    names = [name for name, feature in rows.features.items() if getattr(feature, "dtype", "").startswith(kinds)]
    table = stored_columns(rows, names)
    return [name for name in names if {*pc.unique(table[name]).to_pylist()} <= {1, 0, -1, None}]


def _chosen(label_columns: str | Sequence[str], columns: Sequence[str], part: str) -> list[str]:
    """The label columns of a table, each once; those that match a pattern are in the order of the table."""
    wanted = [name.strip() for name in label_columns.split(",")] if isinstance(label_columns, str) else label_columns
    chosen: dict[str, None] = {}
    for name in wanted:
        found = [name] if name in columns else [each for each in columns if fnmatchcase(each, name)]
        if not found:
            raise ValueError(
                f"label_columns names {quoted(name)}, and '{part}' has no such column; it has "
                f"{shown_list(columns, 30)}"
            )
        chosen |= dict.fromkeys(found)
    return list(chosen)


def _values(stored: pa.ChunkedArray, name: str, part: str) -> np.ndarray:
    """A label column as int8 `(rows,)`: 1, 0 or `UNKNOWN`."""
    cells = stored
    if pa.types.is_string(stored.type) or pa.types.is_large_string(stored.type):
        text = pc.utf8_trim_whitespace(stored)
        cells = pc.if_else(pc.equal(text, ""), None, text)
    try:
        values = np.asarray(cells.cast(pa.float32()), np.float32)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        values = np.array([_number(cell) for cell in cells.to_pylist()])
    is_unknown = np.isnan(values) | (values == -1) | (values == -100)
    wrong = ~(is_unknown | (values == 0) | (values == 1))
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"label column '{name}', row {row} of '{part}': {stored[row].as_py()!r} is neither 1, 0 nor unknown "
            "(empty or -1). Correct it, or leave the column out of label_columns"
        )
    return np.where(is_unknown, UNKNOWN, values).astype(np.int8)


def _number(cell: object) -> float:
    """The number in a cell: NaN if it is empty, and 2, an invalid label, if it is not a number."""
    try:
        return np.nan if cell is None else float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 2


def _lists_of_ids(columns: Sequence[np.ndarray], num_rows: int) -> pa.ListArray:
    """The ids of the positive labels of each row."""
    rows = [np.flatnonzero(values == 1) for values in columns]
    ids = np.repeat(np.arange(len(columns)), [len(each) for each in rows])
    rows_of_ids = np.concatenate(rows)
    lengths = np.bincount(rows_of_ids, minlength=num_rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, ids[np.argsort(rows_of_ids, kind="stable")])
