"""Reads the rows of a label column from any kind of data set."""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from torch.utils.data import ConcatDataset, Subset
from transformers.utils import logging

from .label_formats import LabelRows, arrow_rows, flatten

logger = logging.get_logger(__name__)

CHUNK_ROWS = 50_000
"""How many rows are read at a time."""

NEAR_ROWS = 10_000
"""The number of stored rows, close together in memory, from which selected rows are taken at a time."""

SLOW_SECONDS = 5.0
"""The seconds before a warning and a progress bar show that counting labels loads whole rows of a torch data set."""

TEXT = ("string", "large_string")
"""The types of columns of text."""


def label_rows(dataset: Any, column: str) -> Iterator[LabelRows]:
    """The rows of the label column, about `CHUNK_ROWS` at a time, each row once.

    The rows of a shuffled or selected `datasets.Dataset` are in the order in which they are stored, see
    `LabelRows.numbers`.
    """
    if isinstance(dataset, datasets.Dataset) and dataset._indices is not None:
        for array, numbers in _selected_rows(dataset, column):
            yield flatten(array, column, "row {}", numbers=numbers)
        return
    first_row = 0
    columns = _arrow_column if isinstance(dataset, datasets.Dataset) else _python_column
    for array in columns(dataset, column):
        rows = flatten(array, column, "row {}", first_row)
        first_row += len(rows.lengths)
        yield rows


def feature_names_of(dataset: Any, column: str) -> list[str] | None:
    """The label names in the column's type: a `datasets.ClassLabel`, a list of them, or values by name.

    A `Subset` has the names of its data set, and a `ConcatDataset` those of its parts.

    Raises:
        ValueError: if the parts of a `ConcatDataset` have different names.
    """
    if isinstance(dataset, Subset):
        return feature_names_of(dataset.dataset, column)
    if isinstance(dataset, ConcatDataset):
        first, *others = (feature_names_of(part, column) for part in dataset.datasets)
        if any(names != first for names in others):
            raise ValueError(
                f"the parts of a ConcatDataset have different label names in column '{column}', or a different order "
                "of them; cast them to one ClassLabel before you concatenate them"
            )
        return first
    feature = (getattr(dataset, "features", None) or {}).get(column)
    if isinstance(feature, dict):
        return list(feature)
    feature = getattr(feature, "feature", feature)
    return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None


def form_of_type(dataset: Any, column: str) -> str | None:
    """`names` for a column of lists of text, `ids` for lists of a `datasets.ClassLabel`; else None."""
    if isinstance(dataset, Subset):
        return form_of_type(dataset.dataset, column)
    if isinstance(dataset, ConcatDataset):
        forms = {form_of_type(part, column) for part in dataset.datasets}
        return forms.pop() if len(forms) == 1 else None
    feature = (getattr(dataset, "features", None) or {}).get(column)
    inner = getattr(feature, "feature", None)
    if isinstance(inner, datasets.ClassLabel):
        return "ids"
    return "names" if getattr(inner, "dtype", None) in TEXT else None


def check_column(dataset: Any, column: str, source: str) -> None:
    """Raise a ValueError if data collators would use a column `label` or `label_ids` instead of `labels`.

    Args:
        source: what the data set is, for the message.
    """
    names = getattr(dataset, "column_names", None) or ()
    is_transformed = isinstance(dataset, datasets.Dataset) and dataset.format["type"] == "custom"
    other = next((name for name in ("label", "label_ids") if name in names), None)
    if column == "labels" and column not in names and other is not None and not is_transformed:
        raise ValueError(
            f"{source} has no column 'labels', but a column '{other}', which data collators use as labels without a "
            f"check; rename it: dataset.rename_column('{other}', 'labels')"
        )


def _arrow_column(dataset: datasets.Dataset, column: str) -> Iterator[pa.Array]:
    _require_stored_column(dataset, column)
    for table in dataset.select_columns([column]).with_format("arrow").iter(batch_size=CHUNK_ROWS):
        yield table[column].combine_chunks()


def _selected_rows(dataset: datasets.Dataset, column: str) -> Iterator[tuple[pa.Array, np.ndarray]]:
    """The rows of a data set with an indices mapping, in stored order, and their numbers in the data set.

    `datasets` would collect such rows one by one, which takes forty times as long.
    """
    _require_stored_column(dataset, column)
    stored = dataset.data.column(column).chunks
    chunks = [chunk.slice(first, NEAR_ROWS) for chunk in stored for first in range(0, len(chunk), NEAR_ROWS)]
    first_places = np.cumsum([0, *map(len, chunks)])
    places = dataset._indices.column(0).to_numpy().astype(np.int64)
    chunk_of_place = np.repeat(np.arange(len(chunks), dtype=np.min_scalar_type(len(chunks))), np.diff(first_places))
    chunk_of_row = chunk_of_place[places]
    order = np.argsort(chunk_of_row, kind="stable")
    places = places[order]
    bounds = np.cumsum([0, *np.bincount(chunk_of_row, minlength=len(chunks))])
    parts: list[pa.Array] = []
    begin = 0  # number of the first row in `parts`
    for chunk, first_place, start, end in zip(chunks, first_places, bounds, bounds[1:], strict=False):
        for first in range(start, end, CHUNK_ROWS):
            last = min(first + CHUNK_ROWS, end)
            parts.append(chunk.take(pa.array(places[first:last] - first_place)))
            if last - begin >= CHUNK_ROWS:
                yield pa.chunked_array(parts).combine_chunks(), order[begin:last]
                parts, begin = [], last
    if parts:
        yield pa.chunked_array(parts).combine_chunks(), order[begin:]


def _require_stored_column(dataset: datasets.Dataset, column: str) -> None:
    if column not in dataset.column_names and dataset.format["type"] == "custom":
        raise ValueError(
            f"column '{column}' is made by the data set's transform, and only stored labels are counted; count "
            f"the transformed rows, count_labels(row['{column}'] for row in dataset), and pass them as label_counts"
        )
    _require_column(dataset.column_names, column)


def _python_column(dataset: Any, column: str) -> Iterator[pa.Array]:
    if isinstance(dataset, datasets.DatasetDict | datasets.IterableDatasetDict):
        raise ValueError(f"this is a dictionary of splits; pass one of them, such as dataset[{next(iter(dataset))!r}]")
    if isinstance(dataset, datasets.IterableDataset) and dataset.column_names is not None:
        _require_column(dataset.column_names, column)
        dataset = dataset.select_columns([column])  # decode only this column
    has_rows = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    is_torch = has_rows and not isinstance(dataset, list)  # a torch Dataset has no iterator
    iterator = _whole_rows(dataset) if is_torch else iter(dataset)
    first_row = 0
    while chunk := list(itertools.islice(iterator, CHUNK_ROWS)):
        if isinstance(chunk[0], Mapping):
            _require_column(list(chunk[0]), column)
            chunk = [row[column] for row in chunk]
        yield arrow_rows(chunk, column, "row {}", first_row)
        first_row += len(chunk)


def _whole_rows(dataset: Any) -> Iterator[Any]:
    """The whole rows of a torch `Dataset`, with a warning and a progress bar if loading them takes long."""
    start, is_said = time.monotonic(), False
    for index in logging.tqdm(range(len(dataset)), desc="Counting labels", unit=" rows", delay=SLOW_SECONDS):
        if not is_said and time.monotonic() - start >= SLOW_SECONDS:
            is_said = True
            logger.warning(
                f"Counting labels loads all {len(dataset):,} rows of the {type(dataset).__name__}, with pictures or "
                "tokens. To skip this, count only the labels and pass the counts: "
                "PLMTrainer(label_counts=count_labels(list_with_the_labels_of_each_row))"
            )
        yield dataset[index]


def _require_column(names: Sequence[str], column: str) -> None:
    if column not in names:
        raise ValueError(
            f"there is no column '{column}' to count labels in, only {', '.join(map(repr, names))}; name the "
            f"right one with column=..., or rename it (for PLMTrainer: dataset.rename_column(..., '{column}'))"
        )


def cell_type(dataset: datasets.Dataset, column: str) -> str | None:
    """The type of a column's cells, such as `int64`; None for lists and the like."""
    return getattr(dataset.features[column], "dtype", None)


def stored_column(dataset: datasets.Dataset, column: str) -> pa.ChunkedArray:
    """A column as it is stored, without the format or the transform of the data set."""
    return stored_columns(dataset, [column])[column]


def stored_columns(dataset: datasets.Dataset, columns: Sequence[str]) -> pa.Table:
    """Columns as they are stored, without the format or the transform of the data set."""
    return dataset.select_columns(list(columns)).with_format("arrow")[:]


def with_column(
    dataset: datasets.Dataset,
    column: str,
    values: pa.Array | pa.ChunkedArray,
    feature: Any = None,
    instead_of: Sequence[str] = (),
) -> datasets.Dataset:
    """A data set in which a column is added or replaced.

    Args:
        feature: the column's type, as in `datasets.Features`; None for the type of the values.
        instead_of: columns to remove; a column that is replaced is always removed.
    """
    fresh = f"{column} (new)"  # added before others are removed: a data set without columns has no rows
    old = {column, *instead_of}
    kept = [name for name in dataset.column_names if name not in old]
    added = dataset.add_column(fresh, values, feature=feature).select_columns([*kept, fresh])
    return added.rename_column(fresh, column)
