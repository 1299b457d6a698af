"""Reads a table with labels in any usual form, as rows with `labels`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from .label_indicators import indicators, join_label_columns
from .label_space import SHOWN_NAMES
from .picture_files import IMAGE, find_pictures
from .repeated_labels import drop_repeated_labels
from .table_sources import read_parts
from .tables import class_ids_of_text, split_label_text

LABELS = "labels"


def read_labeled(
    source: Any,
    *,
    config: str | None = None,
    split: str | Mapping[str, str] | None = None,
    label_column: str = LABELS,
    label_columns: str | Sequence[str] | None = None,
    separator: str | None = None,
    image_column: str | None = None,
    image_folder: str | Path | None = None,
) -> DatasetDict:
    """Read a data set with its labels.

        data = read_labeled({"train": "train.csv", "validation": "validation.csv"}, label_columns="toxic,obscene")
        space = label_space_of(*data.values())
        model = AutoModelForSequenceClassification.from_pretrained(name, **space.config_arguments())

    Args:
        source: a csv, tsv, json, jsonl or parquet file; a `pandas.DataFrame`; a `datasets.Dataset` or `DatasetDict`;
            the name of a data set of the Hub; or a mapping from names of parts (`train`, `validation`, `test`) to
            files, data frames or `Dataset`s. All parts are read in the same way.
        config: the configuration of a data set of the Hub, if it has several.
        split: the part to read, or a mapping from the new name of each part to its split, such as
            `{"train": "train", "validation": "test"}`. None for all.
        label_column: the column of the labels. A row may be names in one text (`cat|dog`), a list in one text
            (`['cat', 'dog']`, `[0, 1, 1]`), a list of names or of class ids, a multi-hot vector, a value for each
            label by its name (`{"cat": 1, "dog": 0}`), or one class id, also as text. The column becomes `labels`.
        label_columns: used instead of `label_column` if there is one column per label, with 1, 0, or nothing (empty,
            NaN, -1) where the label is unknown: the names of the columns, or patterns such as `tag_*`, as a sequence
            or as one text with commas. The names of the columns are the label names.
        separator: the text between the names of a row; empty if each text is one name. None to find it: `|`, `;` or
            `,`, if the data make it clear. The separator found is logged.
        image_column: the column of the pictures, or of the names of their files. The column is renamed to `image`.
        image_folder: the folder with the files of the pictures, also in its subfolders, if `image_column` (default:
            `image`) has names without folders; the names may also be without file endings.

    Returns:
        the parts, each with the column `labels`; a single table is the part `train`. `labels` holds lists of names
        (texts), lists of class ids, or multi-hot vectors, with each label of a row once; or one class id per row.
        With `label_columns`, `labels` holds lists of class ids with their names (`List(ClassLabel)`), or if any label
        is unknown, a value for each label by its name: 1, 0 or null. With `image_folder` or `image_column` there is a
        column `image` of the type `datasets.Image`. `label_space_of(*data.values())` has the names of all parts.

    Raises:
        ValueError: if a source, column, label or picture cannot be read; the message has the argument or row, the
            value, and what to do.
    """
    if label_columns is not None and (label_column != LABELS or separator is not None):
        other = f"label_column={label_column!r}" if label_column != LABELS else f"separator={separator!r}"
        raise ValueError(f"label_columns is {label_columns!r}, but {other} is also given; leave one of them out")
    image_column = IMAGE if image_column is None and image_folder is not None else image_column
    data = read_parts(source, config, split, [name for name in (label_column, image_column) if name is not None])
    if label_columns is not None:
        data = join_label_columns(data, label_columns, LABELS)
    else:
        data = _renamed(data, label_column)
        data = data if separator is not None else class_ids_of_text(data, LABELS)
        data = split_label_text(data, LABELS, separator)
        data = drop_repeated_labels(data, LABELS)
    return data if image_column is None else find_pictures(data, image_column, image_folder)


def _renamed(data: DatasetDict, column: str) -> DatasetDict:
    """The parts, with their label column renamed to `labels`."""
    for part, rows in data.items():
        names = rows.column_names
        if column not in names:
            raise ValueError(
                f"there is no column '{column}' in '{part}', only {', '.join(names)}; name the label column with "
                f"label_column=... (--label-column){_advice(rows)}"
            )
        if column != LABELS and LABELS in names:
            raise ValueError(
                f"label_column is '{column}', but '{part}' also has a column '{LABELS}'; rename or remove the one "
                "that does not hold the labels"
            )
    return data if column == LABELS else data.rename_column(column, LABELS)


def _advice(rows: Dataset) -> str:
    """More advice for a table without the label column."""
    if any(mark in name for name in rows.column_names for mark in ";\t"):
        return (
            ". If the separator of the columns does not fit the file ending, read the file with "
            "pandas.read_csv(file, sep=...), and pass the DataFrame"
        )
    names = indicators(rows)
    if not names:
        return ""
    shown = ",".join(names) if len(names) <= SHOWN_NAMES else f"{names[0]},{names[1]},..."
    return f". With one column per label: label_columns='{shown}' (--label-columns)"
