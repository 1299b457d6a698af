"""Reads the texts of csv and tsv files of any size, with only one block of a file in memory."""

from collections.abc import Iterator

import fsspec
import pyarrow as pa
from pyarrow import csv

BLOCK_BYTES = 1 << 22
"""The size of the blocks in which files are read; no row may be longer."""


class CsvTexts:
    """A column of one csv or tsv file, or of several with the same columns; all values are read as text.

    Args:
        name: the file, also compressed, as a pattern such as `part-*.csv`, or as a URL.
        delimiter: the character between columns.

    Raises:
        FileNotFoundError: if there is no such file.
    """

    def __init__(self, name: str, delimiter: str):
        self._files = fsspec.open_files(name, "rb", compression="infer")
        if not self._files:
            raise FileNotFoundError(f"there is no file {name}")
        self._delimiter = delimiter
        self.column: str | None = None

    def columns(self) -> dict[str, pa.DataType]:
        """The columns of the first file and their types in its first rows. ValueError if it cannot be read."""
        with self._files[0] as stream, self._reading(self._files[0], stream, None) as reader:
            return dict(zip(reader.schema.names, reader.schema.types, strict=True))

    def count_rows(self) -> int:
        """Count the rows; this reads all files once. ValueError if one cannot be read."""
        return sum(len(batch) for batch in self._batches())

    def __iter__(self) -> Iterator[str]:
        for batch in self._batches():
            yield from batch.column(0).to_pylist()

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for file in self._files:
            try:
                with file as stream, self._reading(file, stream, self.column) as reader:
                    yield from reader
            except pa.ArrowInvalid as error:
                raise self._unreadable(file, error) from error

    def _reading(self, file: fsspec.core.OpenFile, stream: object, column: str | None) -> csv.CSVStreamingReader:
        try:
            return csv.open_csv(
                stream,
                csv.ReadOptions(block_size=BLOCK_BYTES),
                csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
                csv.ConvertOptions(
                    column_types={column: pa.string()} if column is not None else None,
                    include_columns=[column] if column is not None else None,
                ),
            )
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            raise self._unreadable(file, error) from error

    def _unreadable(self, file: fsspec.core.OpenFile, error: Exception) -> ValueError:
        return ValueError(
            f"{file.path} cannot be read: {error}. It must be UTF-8, with {self._delimiter!r} between the columns"
        )
