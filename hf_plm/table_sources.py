"""Reads the parts of a data set from files, data frames, data sets in memory or the Hub, as a `DatasetDict`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
from datasets import Dataset, DatasetDict, load_dataset
from pyarrow import csv

from .label_space import shown_list

FORMATS = {".csv": "csv", ".tsv": "tsv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
DELIMITERS = {"csv": ",", "tsv": "\t"}
"""The characters between the columns of csv and tsv files."""

COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
WHOLE_FILE = 1 << 30
"""The bytes of a JSON file that are read at once, so that the column types fit all rows, not only the first ones."""


def read_parts(
    source: Any, config: str | None = None, split: str | Mapping[str, str] | None = None, text: Sequence[str] = ()
) -> DatasetDict:
    """Read one table, or several tables as the parts of one data set.

    Args:
        source: a file (csv, tsv, json, jsonl or parquet, also compressed, as a pattern such as `part-*.csv`, or as a
            URL), a `pandas.DataFrame`, a `datasets.Dataset`, a `DatasetDict`, the name of a data set of the Hub, or a
            folder that `load_dataset` reads; or a mapping from the name of a part to a file, data frame or `Dataset`.
        config: the configuration of a data set of the Hub, if it has several.
        split: the part to read, or a mapping from the new name of each part to its split. For a data set of the Hub,
            splits may be anything that `load_dataset` takes, such as `train[:10%]`. None for all.
        text: columns of csv and tsv files that are always read as text: `007` stays `007`.

    Returns:
        the parts; a single table is the part `train`, and a single split keeps its name.

    Raises:
        ValueError: if the source is of a different kind, a file cannot be read, or a part does not exist.
    """
    if isinstance(source, str | Path) and file_format(source) is None:
        if Path(source).is_file():
            raise ValueError(
                f"{source} is not a {', '.join(FORMATS)} file; read it with pandas, and pass the DataFrame"
            )
        data = load_dataset(str(source), config, split=dict(split) if isinstance(split, Mapping) else split)
        return DatasetDict({str(split): data}) if isinstance(data, Dataset) else data
    if config is not None:
        raise ValueError(f"config is {config!r}, but only data sets of the Hub have configurations; leave it out")
    if isinstance(source, Mapping) and not isinstance(source, DatasetDict):
        parts = DatasetDict({name: _read_table(table, text) for name, table in source.items()})
    else:
        parts = source if isinstance(source, DatasetDict) else DatasetDict(train=_read_table(source, text))
    if split is None:
        return parts
    chosen = split if isinstance(split, Mapping) else {split: split}
    for name in chosen.values():
        if name not in parts:
            raise ValueError(f"split is '{name}', but the data have only the parts {', '.join(map(repr, parts))}")
    return DatasetDict({part: parts[name] for part, name in chosen.items()})


def file_format(name: str | Path) -> str | None:
    """The format of a file by its ending; None for a data set of the Hub, a folder, or an unknown format."""
    path = Path(name)
    path = path.with_suffix("") if path.suffix in COMPRESSED else path
    return FORMATS.get(path.suffix.lower())


def _read_table(source: Any, text: Sequence[str]) -> Dataset:
    if isinstance(source, Dataset):
        return source
    if isinstance(source, pd.DataFrame):
        return Dataset.from_pandas(source, preserve_index=False)
    kind = file_format(source) if isinstance(source, str | Path) else None
    if kind is None:
        raise ValueError(
            f"{source if isinstance(source, str | Path) else type(source).__name__} is not a table: give a "
            f"{', '.join(FORMATS)} file, a pandas.DataFrame or a datasets.Dataset; or several of them in a mapping, "
            "{'train': ..., 'validation': ...}; or a DatasetDict, or the name of a data set of the Hub"
        )
    if kind in DELIMITERS:
        return _read_csv(str(source), DELIMITERS[kind], text)
    options = {"chunksize": WHOLE_FILE} if kind == "json" else {}
    return load_dataset(kind, data_files=str(source), split="train", **options)


def _read_csv(name: str, delimiter: str, text: Sequence[str]) -> Dataset:
    """Read csv files; the column types fit all rows. Empty text stays `""`, and no word stands for a missing value."""
    tables = []
    for file in fsspec.open_files(name, "rb", compression="infer"):
        try:
            with file as stream:
                table = csv.read_csv(
                    stream,
                    csv.ReadOptions(block_size=1 << 24),
                    csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                    csv.ConvertOptions(column_types=dict.fromkeys(text, pa.string())),
                )
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"{file.path} cannot be read: {error}. Correct the file (it must be UTF-8, with {delimiter!r} between "
                "the columns), or read it with pandas.read_csv(file, sep=...), and pass the DataFrame"
            ) from error
        if any(pa.types.is_binary(column.type) for column in table.columns):
            raise ValueError(
                f"{file.path} is not UTF-8; save it in UTF-8, or read it with pandas.read_csv(encoding=...)"
            )
        if len(set(table.column_names)) < table.num_columns:
            raise ValueError(f"{file.path} has a column name twice: {shown_list(table.column_names, None)}")
        tables.append(table)
    if not tables:
        raise FileNotFoundError(f"there is no file {name}")
    return Dataset(pa.concat_tables(tables, promote_options="permissive"))
