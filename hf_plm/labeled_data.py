"""A table in any shape that people have, as rows with `labels`."""

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
        split: the part to read; or a mapping from the names that the parts get to the splits that they are, such as
            `{"train": "train", "validation": "test"}`. None for all.
        label_column: the column of the labels, as: names in one text (`cat|dog`), a list in one text
            (`['cat', 'dog']`, `[0, 1, 1]`), lists of names or of class ids, multi-hot vectors, a value for each label
            by its name (`{"cat": 1, "dog": 0}`), or one class id, also as text. It is renamed to `labels`.
        label_columns: instead of it, one column per label, with 1, 0, or nothing (empty, NaN, -1) where the label is
            unknown: the columns' names, or patterns such as `tag_*`, as one text with commas between them or as a
            sequence. The label names are the columns' names.
        separator: between the names in a text; empty if each text is one name. None to find it: `|`, `;` or `,`, where
            it is plain. What was found is logged.
        image_column: the column of the pictures, or of their files. It is renamed to `image`.
        image_folder: where the files of the pictures are, or the folders with them, if `image_column` (default:
            `image`) does not say; it may leave out their endings.

    Returns:
        the parts, each with the column `labels`; a single table is the part `train`. `labels` holds lists of names
        (texts), lists of class ids, or multi-hot vectors, each label of a row once; or one class id per row. Of
        `label_columns`: lists of class ids with their names (`List(ClassLabel)`), or if any is unknown a value for
        each label by its name, 1, 0 or null. With `image_folder` or `image_column` there is a column `image` of the
        type `datasets.Image`. `label_space_of(*data.values())` has the names of all parts in one order.

    Raises:
        ValueError: for sources, columns, labels or pictures that cannot be read, with the argument or the row, the
            value, and what to do.
    """
    if label_columns is not None and (label_column != LABELS or separator is not None):
        other = f"label_column={label_column!r}" if label_column != LABELS else f"separator={separator!r}"
        raise ValueError(f"label_columns is {label_columns!r}, and there is {other} as well; leave one of them out")
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
    """The parts with the column of the labels called `labels`."""
    for part, rows in data.items():
        names = rows.column_names
        if column not in names:
            raise ValueError(
                f"there is no column '{column}' in '{part}', only {', '.join(names)}; name it with label_column=... "
                f"(--label-column){_advice(rows)}"
            )
        if column != LABELS and LABELS in names:
            raise ValueError(
                f"label_column is '{column}', and '{part}' has a column '{LABELS}' as well; rename or remove the one "
                "that does not hold the labels"
            )
    return data if column == LABELS else data.rename_column(column, LABELS)


def _advice(rows: Dataset) -> str:
    """What else to do about a table without the column of the labels."""
    if any(mark in name for name in rows.column_names for mark in ";\t"):
        return (
            ". If it is a file that other characters separate than its ending says, read it with "
            "pandas.read_csv(file, sep=...), and give the DataFrame"
        )
    names = indicators(rows)
    if not names:
        return ""
    shown = ",".join(names) if len(names) <= SHOWN_NAMES else f"{names[0]},{names[1]},..."
    return f". With one column per label: label_columns='{shown}' (--label-columns)"
