"""Finds the separator of the label names in cells of text; if it is not clear, an error asks for it."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers.utils import logging

from .display import quoted
from .label_space import shown_list

logger = logging.get_logger(__name__)

SEPARATORS = ("|", ";", ",")
"""The separators that can be found."""

UNUSUAL = ("/", "+", "&", "#")
"""Characters that are more often part of a name than a separator: an error asks about them."""

QUOTED = r"^('[^']*'|\"[^\"]*\")$"


def find_separator(cells: pa.Array, column: str) -> str:
    """The separator in `SEPARATORS` that clearly separates the names in the cells; empty if each cell is one name.

    A separator is clear if at least half of the cells contain it, or at least half of the names that it separates
    occur in several cells. `|` and `;`, which are rare in names, are also clear if no other of `SEPARATORS` is found.
    A separator is not clear if a second one separates names as well.

    Args:
        cells: text that is not empty.

    Raises:
        ValueError: if no separator or more than one is clear, and the cells may still be lists of names.
    """
    different = pc.unique(cells)
    found = [separator for separator in SEPARATORS if _holding(different, separator)]
    plain = [
        separator
        for separator in found
        if (
            (found == [separator] and separator != ",")
            or 2 * len(_holding(cells, separator)) >= len(cells)
            or _names_come_back(different, separator)
        )
        and not any(_separates_names(different, separator, other) for other in found if other != separator)
    ]
    if len(plain) == 1:
        example = _holding(different, plain[0])[0].as_py()
        logger.warning(
            f"Column '{column}': the labels of a row are separated by '{plain[0]}': {quoted(example)} is "
            f"{shown_list(split_names(pa.array([example]), plain[0]).values.to_pylist())}"
        )
        return plain[0]
    found += [other for other in UNUSUAL if not found and _names_come_back(different, other)]
    blanks = pc.match_substring_regex(different, r"\S\s+\S")
    odd = _holding(different, found[0]) if found else different.filter(blanks)
    if not len(odd):
        if len(different):
            logger.warning(f"Column '{column}': the text has no separator of labels; each cell is one label")
        return ""
    held = " and ".join(f"'{separator}'" for separator in found) or "blanks"
    raise ValueError(
        f"column '{column}' holds text such as {quoted(odd[0].as_py())}, with {held}; give the separator of the "
        "labels of a row: separator=... (--separator), empty if each cell is one label"
    )


def split_names(cells: pa.Array, separator: str) -> pa.ListArray:
    """The names in each cell, without surrounding blanks; quotes are removed if all names of all cells have them.

    Args:
        cells: text; empty if a row has no label.
        separator: the text between names; a blank stands for any white space; empty if each cell is one name.
    """
    parts = _split(cells, separator)
    names = parts.values
    if len(names) and pc.all(pc.match_substring_regex(names, QUOTED)).as_py():
        names = pc.utf8_slice_codeunits(names, 1, -1)
    return pa.ListArray.from_arrays(parts.offsets.cast(pa.int32()), names.cast(pa.string()))


def _split(cells: pa.Array, separator: str) -> pa.LargeListArray:
    """The parts of each cell without surrounding blanks; empty parts are left out."""
    cells = cells.cast(pa.large_string())
    if not separator:
        parts, rows = cells, np.arange(len(cells))
    else:
        lists = pc.utf8_split_whitespace(cells) if separator == " " else pc.split_pattern(cells, separator)
        parts, rows = lists.flatten(), pc.list_parent_indices(lists).to_numpy()
    parts = pc.utf8_trim_whitespace(parts)
    is_filled = pc.not_equal(parts, "")
    lengths = np.bincount(rows[is_filled.to_numpy(zero_copy_only=False)], minlength=len(cells))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), parts.filter(is_filled))


def _holding(cells: pa.Array, text: str) -> pa.Array:
    return cells.filter(pc.match_substring(cells, text))


def _names_come_back(different: pa.Array, separator: str) -> bool:
    """Whether at least half of the names that a separator separates occur in several distinct cells."""
    separated = pc.unique(_split(_holding(different, separator), separator).values)
    counts = pc.value_counts(_split(different, separator).values)
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    return len(separated) > 0 and 2 * pc.sum(pc.is_in(separated, repeated)).as_py() >= len(separated)


def _separates_names(different: pa.Array, separator: str, other: str) -> bool:
    """Whether names split by `separator` contain `other`, and some of the parts between are names as well."""
    names = pc.unique(_split(different, separator).values)
    parts = pc.unique(_split(_holding(names, other), other).values)
    return len(parts) > 0 and pc.any(pc.is_in(parts, names)).as_py()
