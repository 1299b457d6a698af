"""Removes labels that a row lists more than once, as in picture annotations with one entry for each object."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, DatasetDict, List
from transformers.utils import logging

from .label_columns import stored_column, with_column

logger = logging.get_logger(__name__)


def drop_repeated_labels(data: DatasetDict, column: str) -> DatasetDict:
    """Keep each label of a row once, in lists of names or of ids; a warning says how many rows are changed.

    Rows that may be multi-hot vectors, and columns without lists, are not changed.
    """
    lists = {name: stored_column(rows, column).combine_chunks() for name, rows in data.items()}
    if not all(_is_of_labels(each) for each in lists.values()):
        return data
    types = [rows.features[column].feature for rows in data.values()]
    if not any(isinstance(each, ClassLabel) for each in types) and _may_be_vectors(list(lists.values())):
        return data
    kept, repeating = {}, []
    for name, rows in data.items():
        distinct = _distinct(lists[name])
        is_shorter = pc.less(pc.list_value_length(distinct), pc.list_value_length(lists[name])).to_numpy(False)
        repeating += [f"row {row} of '{name}'" for row in np.flatnonzero(is_shorter)]
        feature = List(rows.features[column].feature)
        kept[name] = with_column(rows, column, distinct, feature) if is_shorter.any() else rows
    if repeating:
        logger.warning(
            f"Column '{column}': {len(repeating):,} of {sum(map(len, data.values())):,} rows list a label more than "
            f"once, such as {repeating[0]}; each label counts once"
        )
    return DatasetDict(kept)


def _is_of_labels(array: pa.Array) -> bool:
    """Whether each row is a list of names or of whole numbers."""
    kind = array.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return False
    values = kind.value_type
    is_label = pa.types.is_integer(values) or pa.types.is_string(values) or pa.types.is_large_string(values)
    return is_label and not array.null_count and not array.flatten().null_count


def _may_be_vectors(lists: list[pa.Array]) -> bool:
    """Whether all rows have the same length, and only values of a multi-hot vector."""
    if not pa.types.is_integer(lists[0].type.value_type):
        return False
    lengths = {length for each in lists for length in pc.unique(pc.list_value_length(each)).to_pylist()}
    values = {value for each in lists for value in pc.unique(each.flatten()).to_pylist()}
    return len(lengths) == 1 and values <= {0, 1, -100}


def _distinct(lists: pa.Array) -> pa.ListArray:
    """The lists without repeated values; the first of each stays, in the order of the list."""
    values, rows = lists.flatten(), pc.list_parent_indices(lists).to_numpy()
    encoded = values.dictionary_encode()
    keys = rows * max(len(encoded.dictionary), 1) + encoded.indices.to_numpy()
    _, positions = np.unique(keys, return_index=True)
    positions.sort()
    lengths = np.bincount(rows[positions], minlength=len(lists))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, values.take(pa.array(positions)))
