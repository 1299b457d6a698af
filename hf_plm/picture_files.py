"""Finds the picture files that a table names."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import DatasetDict, Image, Value

from .display import quoted
from .label_columns import stored_column, with_column
from .label_space import shown_list

IMAGE = "image"
"""The column of the pictures."""


def find_pictures(data: DatasetDict, column: str = IMAGE, folder: str | Path | None = None) -> DatasetDict:
    """Give a table the column `image`, of the type `datasets.Image`: a picture is opened when its row is read.

    Args:
        data: the parts of one data set.
        column: the column with pictures, or with the names of their files as text. It is renamed.
        folder: the folder that has the files, also in its subfolders; the names may be without file endings. None if
            the names are paths.

    Raises:
        ValueError: if there is no such folder or column, or if pictures are missing; it names the first one.
    """
    if folder is not None and not Path(folder).is_dir():
        raise ValueError(f"image_folder is '{folder}', but there is no such folder")
    if any(
        column not in rows.column_names or (column != IMAGE and IMAGE in rows.column_names) for rows in data.values()
    ):
        columns = shown_list(next(iter(data.values())).column_names, None)
        raise ValueError(
            f"image_column is '{column}', but the columns are {columns}; name the column of the pictures or their "
            f"files with image_column=... (--image-column), and rename any other column called '{IMAGE}'"
        )
    if folder is None and all(_is_of_pictures(rows.features[column]) for rows in data.values()):
        return (data if column == IMAGE else data.rename_column(column, IMAGE)).cast_column(IMAGE, Image())
    names = {part: stored_column(rows, column).cast(pa.string()).combine_chunks() for part, rows in data.items()}
    known, paths = _named_files(list(names.values())) if folder is None else _files_in(folder)
    found = {part: paths.take(pc.index_in(each, value_set=known)) for part, each in names.items()}
    missing = [(part, row) for part, each in found.items() for row in np.flatnonzero(each.is_null())]
    if missing:
        part, row = missing[0]
        place = "there is no file" if folder is None else f"image_folder '{folder}' has no file"
        raise ValueError(
            f"{place} {quoted(names[part][row].as_py() or '')} (column '{column}', row {row} of '{part}'); "
            f"{len(missing):,} of {sum(map(len, data.values())):,} pictures are missing. Name their folder with "
            "image_folder=... (--image-folder), add the files, or drop the rows"
        )
    return DatasetDict(
        {
            part: with_column(rows, IMAGE, found[part], Value("string"), [column]).cast_column(IMAGE, Image())
            for part, rows in data.items()
        }
    )


def _is_of_pictures(feature: object) -> bool:
    """Whether a column holds pictures, not names of files, which may be text or numbers."""
    return not isinstance(feature, Value) or "binary" in feature.dtype


def _named_files(names: list[pa.Array]) -> tuple[pa.Array, pa.Array]:
    """The names of existing files, and URLs, which `datasets` can open; returned twice, as names and as paths."""
    different = pc.unique(pa.chunked_array(names)).drop_null().to_pylist()
    known = pa.array([name for name in different if os.path.isfile(name) or "://" in name], pa.string())
    return known, known


def _files_in(folder: str | Path) -> tuple[pa.Array, pa.Array]:
    """The names of the files in a folder, relative to it, with and without ending; and the full path of each."""
    folder = Path(folder).resolve()
    files = [
        Path(parent, name).relative_to(folder).as_posix()
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
    ]
    stems: dict[str, str | None] = {}
    for file in files:  # a name without ending that fits two files is not used
        stem = os.path.splitext(file)[0]
        stems[stem] = None if stem in stems else file
    known = pa.array([*files, *stems], pa.string())
    paths = pa.array([None if file is None else f"{folder}/{file}" for file in (*files, *stems.values())], pa.string())
    return known, paths
