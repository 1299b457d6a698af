"""Finds the pictures that a table names, in a folder."""

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


def find_pictures(data: DatasetDict, folder: str | Path, column: str = IMAGE) -> DatasetDict:
    """Give a table a column `image`, of the type `datasets.Image`: a picture is opened when its row is read.

    Args:
        data: the parts of one data set.
        folder: where the pictures are, also in folders in it.
        column: holds their paths in the folder, with or without the ending of the file; it is taken out.

    Raises:
        ValueError: if there is no such folder or column, or a picture is missing; the first missing one is named.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"image_folder is '{folder}', and there is no such folder")
    folder = Path(folder).resolve()
    files = [
        Path(parent, name).relative_to(folder).as_posix()
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
    ]
    stems: dict[str, str | None] = {}
    for file in files:  # a name without its ending is told apart where it stands for one file
        stem = os.path.splitext(file)[0]
        stems[stem] = None if stem in stems else file
    known = pa.array([*files, *stems], pa.string())
    paths = pa.array([None if file is None else f"{folder}/{file}" for file in (*files, *stems.values())], pa.string())
    found, missing = {}, []
    for part, rows in data.items():
        if column not in rows.column_names or (column != IMAGE and IMAGE in rows.column_names):
            raise ValueError(
                f"image_column is '{column}', and '{part}' has the columns {shown_list(rows.column_names, None)}; "
                f"name the one with the files of the pictures, and rename another one that is called '{IMAGE}'"
            )
        names = stored_column(rows, column).cast(pa.string())
        found[part] = paths.take(pc.index_in(names, value_set=known).combine_chunks())
        is_missing = found[part].is_null().to_numpy(zero_copy_only=False)
        missing += [(part, row, names[row].as_py()) for row in np.flatnonzero(is_missing)]
    if missing:
        part, row, name = missing[0]
        raise ValueError(
            f"image_folder '{folder}' has no picture {quoted(name or '')} (column '{column}', row {row} of '{part}'); "
            f"{len(missing):,} of {sum(map(len, data.values())):,} rows have none. Add the files, or drop the rows"
        )
    return DatasetDict(
        {
            part: with_column(rows, IMAGE, found[part], Value("string"), [column]).cast_column(IMAGE, Image())
            for part, rows in data.items()
        }
    )
