"""From tables to a task: parts, labels and inputs, and the model that is trained on them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, Image, concatenate_datasets, get_dataset_split_names
from transformers import PreTrainedModel

from .counting import count_labels, label_space_of
from .display import quoted
from .label_columns import TEXT, cell_type, stored_column
from .label_counts import LabelCounts
from .label_space import shown_list
from .labeled_data import LABELS, read_labeled
from .model_inputs import Processor
from .picture_files import IMAGE, find_pictures
from .recipes import (
    PRETRAINED,
    SMALL_IMAGE,
    SMALL_TEXT,
    TrainingRows,
    draw_rows,
    image_inputs,
    image_model,
    image_processor,
    text_inputs,
    text_model,
    text_tokenizer,
)
from .splitting import train_test_split_multilabel
from .table_sources import file_format

TEXT_COLUMN = "text"
"""The usual name of the column of the texts."""

SHARE = 0.1
"""The share of the rows of each part that is split off."""

SPLIT_SEED = 0
"""The same for all commands and seeds, so that their scores are of the same rows."""

PARTS = ("train", "validation", "test")


ID_ENDINGS = ("_id", "-id")
"""A column that is called `id`, or ends so, is not taken for that of the texts if there are others."""

PICTURE_NAMES = r"(?i)^\S+\.(png|jpe?g|gif|bmp|webp|tiff?)$"
"""Text that is the name of a picture's file."""


def _flag(metavar: str, help: str, default: Any = None) -> Any:
    return field(default=default, metadata={"metavar": metavar, "help": help})


@dataclass
class TaskArguments(TrainingRows):
    """Flags: which tables hold the parts, what their columns hold, and which model is trained."""

    model: str | None = _flag("NAME", "A model of the Hub or a folder. Default: a small one, for a first look.")
    validation_file: str | None = _flag("FILE", "Rows to choose thresholds on. Default: a tenth of FILE.")
    test_file: str | None = _flag("FILE", "Rows to report on. Default: a tenth of FILE.")
    config: str | None = _flag("NAME", "Of a data set of the Hub, if it has several.")
    train_split: str = _flag("NAME", "Of a data set of the Hub. Default: train.", "train")
    validation_split: str | None = _flag("NAME", "The same. Default: validation, if there is one.")
    test_split: str | None = _flag("NAME", "The same. Default: test, if there is one.")
    text_column: str | None = _flag("NAME", "The column of the texts. Default: text, or the only one with texts.")
    image_column: str | None = _flag("NAME", "The column of the pictures, or of their files. Default: image.")
    image_folder: str | None = _flag("FOLDER", "Where the files of the pictures are.")
    max_length: int | None = _flag(
        "N", "Longer texts are cut to this many tokens. Default: 128; 48 for the small model."
    )


@dataclass(frozen=True)
class Task:
    """What a model is trained on.

    Attributes:
        data: the parts `train`, `validation` and `test`; their rows are the model's inputs and `labels`.
        counts: of `train`, with the names of the labels of all parts.
        processor: the tokenizer or image processor.
        columns: `text_column` or `image_column` -> the column of the table that the inputs are made from.
        make_model: makes the model as it is before training.
        training: arguments of `PLMTrainingArguments` with which this kind of model learns well.
        description: the model, its inputs and the parts, for people.
    """

    data: DatasetDict
    counts: LabelCounts
    processor: Processor
    columns: dict[str, str]
    make_model: Callable[[], PreTrainedModel]
    training: dict[str, Any]
    description: str


def load_task(source: str, args: TaskArguments, seed: int = 42) -> Task:
    """Read the parts of a task, split off those that are missing, and prepare their inputs.

    Args:
        source: a file or the name of a data set of the Hub, as for `read_labeled`.
        seed: draws the rows of `max_train_samples`.

    Raises:
        ValueError: if the tables cannot be read, hold neither texts nor pictures, or have one class id per row.
    """
    parts = split_parts(_read_parts(source, args))
    parts["train"] = draw_rows(parts["train"], args.max_train_samples, seed)
    space = label_space_of(*parts.values())
    if space.form == "class_id":
        raise ValueError(
            f"column '{args.label_column}' has one class id per row, and this command is for several labels per row; "
            "write names for the ids to train on them all the same, or train in Python with PLMTrainer (docs/faq.md)"
        )
    counts = count_labels(parts["train"], space.num_labels, label_names=space.names)
    name = args.model
    size = ", ".join(f"{part} {len(rows):,}" for part, rows in parts.items())
    if args.text_column is None and isinstance(parts["train"].features.get(IMAGE), Image):
        if args.max_length is not None:
            raise ValueError(f"max_length is {args.max_length}, and the rows hold pictures; it is for texts")
        processor: Any = image_processor(name)
        return Task(
            parts.with_transform(image_inputs(processor)),
            counts,
            processor,
            {"image_column": args.image_column or IMAGE},
            lambda: image_model(name, space),
            SMALL_IMAGE if name is None else PRETRAINED,
            f"{name or 'a small ViT from scratch'}; pictures in '{IMAGE}', {space.num_labels} labels; rows: {size}",
        )
    column = find_text_column(parts, args.text_column)
    if args.text_column is None:
        _refuse_names_of_pictures(parts["train"], column)
    tokenizer = text_tokenizer(name, parts["train"][column], args.max_length)
    return Task(
        parts.with_transform(text_inputs(tokenizer, column)),
        counts,
        tokenizer,
        {"text_column": column},
        lambda: text_model(name, space, tokenizer),
        SMALL_TEXT if name is None else PRETRAINED,
        f"{name or 'a small ModernBERT from scratch'}; texts in '{column}', {space.num_labels} labels; rows: {size}",
    )


def split_parts(parts: DatasetDict) -> DatasetDict:
    """Train, validation and test; those that are missing are split off `train`, a tenth of its rows each."""
    missing = [part for part in PARTS if part not in parts]
    if len(missing) == 2:
        parts = train_test_split_multilabel(parts["train"], SHARE, SHARE, SPLIT_SEED)
    elif missing:
        halves = train_test_split_multilabel(parts["train"], SHARE, seed=SPLIT_SEED)
        parts = DatasetDict({**parts, "train": halves["train"], missing[0]: halves["test"]})
    return DatasetDict({part: concatenate_datasets([parts[part]], split=part) for part in PARTS})


def find_text_column(parts: Mapping[str, Dataset], column: str | None, usual: str | None = None) -> str:
    """The column of the texts: the given one, the usual one, `text`, or the only one that holds texts.

    Args:
        usual: is taken if it is there and holds texts.

    Raises:
        ValueError: if it is not there or not plain, or a row has no text.
    """
    first = next(iter(parts.values()))
    of_text = [name for name in first.column_names if cell_type(first, name) in TEXT]
    columns = [name for name in first.column_names if name != LABELS]
    column = choose_text_column([name for name in of_text if name != LABELS], columns, column, usual)
    if column not in of_text:
        raise ValueError(f"text_column is '{column}', which holds {first.features[column]}, no texts")
    for part, rows in parts.items():
        if empty := stored_column(rows, column).null_count:
            raise ValueError(f"column '{column}': {empty:,} rows of '{part}' have no text; fill or drop them")
    return column


def choose_text_column(of_text: list[str], columns: list[str], column: str | None, usual: str | None = None) -> str:
    """One of the columns of a table, see `find_text_column`; that of the rows' ids is no candidate beside others.

    Args:
        of_text: the columns that hold texts, without that of the labels.
        columns: all columns, without that of the labels.
    """
    if column is not None:
        if column not in columns:
            raise ValueError(f"text_column is '{column}', and the columns are {shown_list(columns, None)}")
        return column
    for name in (usual, TEXT_COLUMN):
        if name in of_text:
            return str(name)
    candidates = [name for name in of_text if name.lower() != "id" and not name.lower().endswith(ID_ENDINGS)]
    candidates = candidates or of_text
    if len(candidates) != 1:
        found = (
            f"several columns hold texts: {shown_list(candidates)}"
            if candidates
            else "no column holds texts or pictures"
        )
        raise ValueError(
            f"{found} (all columns: {shown_list(columns)}); name it with text_column=... (--text-column), or that of "
            "the pictures with image_column=... (--image-column)"
        )
    return candidates[0]


def _refuse_names_of_pictures(rows: Dataset, column: str) -> None:
    """Raise a ValueError if a column that nobody named as that of the texts holds the names of pictures."""
    texts = stored_column(rows, column)
    if len(texts) and pc.all(pc.match_substring_regex(texts, PICTURE_NAMES)).as_py():
        raise ValueError(
            f"column '{column}' holds names of pictures, such as {quoted(texts[0].as_py())}; to train on the pictures "
            f"give image_column='{column}' (--image-column {column}), and with image_folder=... (--image-folder) the "
            f"folder that they are in; to train on the names as texts, text_column='{column}' (--text-column {column})"
        )


def _read_parts(source: str, args: TaskArguments) -> DatasetDict:
    """The parts that there are, with labels, and with pictures if a column holds any."""
    if args.text_column is not None and (args.image_column or args.image_folder) is not None:
        raise ValueError("there are a text_column and an image_column or image_folder; leave one of them out")
    files = {"train": source, "validation": args.validation_file, "test": args.test_file}
    given = {part: file for part, file in files.items() if file is not None}
    splits = {"train": args.train_split, "validation": args.validation_split, "test": args.test_split}
    is_file = file_format(source) is not None or Path(source).is_file()
    if is_file:
        if args.config is not None or splits != {"train": "train", "validation": None, "test": None}:
            raise ValueError(
                f"{source} is a file, and config, train_split, validation_split and test_split are of data sets of "
                "the Hub; name further files with validation_file and test_file"
            )
    elif len(given) > 1:
        raise ValueError(
            f"'{source}' is no file, and taken for a data set of the Hub; choose its parts with validation_split and "
            "test_split rather than validation_file and test_file"
        )
    else:
        there = get_dataset_split_names(source, args.config)
        splits = {part: split or (part if part in there else None) for part, split in splits.items()}
    data = read_labeled(
        given if is_file else source,
        config=args.config,
        split=None if is_file else {part: split for part, split in splits.items() if split is not None},
        **args.columns(),
        image_column=args.image_column,
        image_folder=args.image_folder,
    )
    is_given = any(each is not None for each in (args.text_column, args.image_column, args.image_folder))
    if not is_given and IMAGE in data["train"].column_names:
        data = find_pictures(data, IMAGE)
    return data
