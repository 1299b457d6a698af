"""Makes a task from tables: the parts, their labels and inputs, and the model that is trained on them."""

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
"""The usual name of the column of texts."""

SHARE = 0.1
"""The share of the rows in each part that is split off `train`."""

SPLIT_SEED = 0
"""The seed of the splits: the same for all commands and seeds, so that all scores are for the same rows."""

PARTS = ("train", "validation", "test")


ID_ENDINGS = ("_id", "-id")
"""Columns with these endings, or with the name `id`, are used as texts only if there are no other text columns."""

PICTURE_NAMES = r"(?i)^\S+\.(png|jpe?g|gif|bmp|webp|tiff?)$"
"""Matches text that is the name of a picture file."""


def _flag(metavar: str, help: str, default: Any = None) -> Any:
    return field(default=default, metadata={"metavar": metavar, "help": help})


@dataclass
class TaskArguments(TrainingRows):
    """Flags: the tables with the parts, their columns, and the model that is trained."""

    model: str | None = _flag("NAME", "A model of the Hub or a folder. Default: a small one, for a quick test.")
    validation_file: str | None = _flag("FILE", "Rows for choosing thresholds. Default: a tenth of FILE.")
    test_file: str | None = _flag("FILE", "Rows for the reported scores. Default: a tenth of FILE.")
    config: str | None = _flag("NAME", "The configuration of a Hub data set, if it has several.")
    train_split: str = _flag("NAME", "The split of a Hub data set. Default: train.", "train")
    validation_split: str | None = _flag("NAME", "Its split for validation. Default: validation, if there is one.")
    test_split: str | None = _flag("NAME", "Its split for test. Default: test, if there is one.")
    text_column: str | None = _flag("NAME", "The column of the texts. Default: text, or the only one with texts.")
    image_column: str | None = _flag("NAME", "The column of the pictures, or of their files. Default: image.")
    image_folder: str | None = _flag("FOLDER", "The folder of the files of the pictures.")
    max_length: int | None = _flag(
        "N", "Longer texts are cut to this many tokens. Default: 128; 48 for the small model."
    )


@dataclass(frozen=True)
class Task:
    """A model and its data.

    Attributes:
        data: the parts `train`, `validation` and `test`; each row has the model's inputs and `labels`.
        counts: the label counts of `train`, with the names of the labels of all parts.
        processor: the tokenizer or image processor.
        columns: `text_column` or `image_column` -> the column of the table from which the inputs are made.
        make_model: creates the untrained model.
        training: arguments of `PLMTrainingArguments` with which this kind of model learns well.
        description: the model, its inputs and the parts, in words.
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
        seed: the seed for drawing `max_train_samples` rows.

    Raises:
        ValueError: if the tables cannot be read, hold neither texts nor pictures, or have one class id per row.
    """
    parts = split_parts(_read_parts(source, args))
    parts["train"] = draw_rows(parts["train"], args.max_train_samples, seed)
    space = label_space_of(*parts.values())
    if space.form == "class_id":
        raise ValueError(
            f"column '{args.label_column}' has one class id per row, but this command is for several labels per row; "
            "replace the ids by names to use it anyway, or train in Python with PLMTrainer (docs/faq.md)"
        )
    counts = count_labels(parts["train"], space.num_labels, label_names=space.names)
    name = args.model
    size = ", ".join(f"{part} {len(rows):,}" for part, rows in parts.items())
    if args.text_column is None and isinstance(parts["train"].features.get(IMAGE), Image):
        if args.max_length is not None:
            raise ValueError(f"max_length is {args.max_length}, but the rows hold pictures; leave it out")
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
    """All three parts; a missing part is split off `train`, with a tenth of its rows."""
    missing = [part for part in PARTS if part not in parts]
    if len(missing) == 2:
        parts = train_test_split_multilabel(parts["train"], SHARE, SHARE, SPLIT_SEED)
    elif missing:
        halves = train_test_split_multilabel(parts["train"], SHARE, seed=SPLIT_SEED)
        parts = DatasetDict({**parts, "train": halves["train"], missing[0]: halves["test"]})
    return DatasetDict({part: concatenate_datasets([parts[part]], split=part) for part in PARTS})


def find_text_column(parts: Mapping[str, Dataset], column: str | None, usual: str | None = None) -> str:
    """Find the column of texts: `column`, `usual`, `text`, or the only one that holds texts.

    Args:
        usual: used without `column`, if it exists and holds texts.

    Raises:
        ValueError: if there is no such column, several could be meant, or a row has no text.
    """
    first = next(iter(parts.values()))
    of_text = [name for name in first.column_names if cell_type(first, name) in TEXT]
    columns = [name for name in first.column_names if name != LABELS]
    column = choose_text_column([name for name in of_text if name != LABELS], columns, column, usual)
    if column not in of_text:
        raise ValueError(f"text_column is '{column}', which holds {first.features[column]}, not texts")
    for part, rows in parts.items():
        if empty := stored_column(rows, column).null_count:
            raise ValueError(f"column '{column}': {empty:,} rows of '{part}' have no text; fill or drop them")
    return column


def choose_text_column(of_text: list[str], columns: list[str], column: str | None, usual: str | None = None) -> str:
    """Choose one of the columns of a table as `find_text_column` does; a column of ids is the last choice.

    Args:
        of_text: the columns that hold texts, without the label column.
        columns: all columns, without the label column.
    """
    if column is not None:
        if column not in columns:
            raise ValueError(f"text_column is '{column}', but the columns are {shown_list(columns, None)}")
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
            f"{found} (all columns: {shown_list(columns)}); name the column with text_column=... (--text-column), or "
            "with image_column=... (--image-column) for pictures"
        )
    return candidates[0]


def _refuse_names_of_pictures(rows: Dataset, column: str) -> None:
    """Raise a ValueError if a text column that the user did not name holds file names of pictures."""
    texts = stored_column(rows, column)
    if len(texts) and pc.all(pc.match_substring_regex(texts, PICTURE_NAMES)).as_py():
        raise ValueError(
            f"column '{column}' holds file names of pictures, such as {quoted(texts[0].as_py())}; to train on the "
            f"pictures, give image_column='{column}' (--image-column {column}), and their folder as image_folder=... "
            f"(--image-folder); to train on the names as texts, give text_column='{column}' (--text-column {column})"
        )


def _read_parts(source: str, args: TaskArguments) -> DatasetDict:
    """Read the given parts, with labels, and with pictures if a column holds any."""
    if args.text_column is not None and (args.image_column or args.image_folder) is not None:
        raise ValueError("text_column is given together with image_column or image_folder; leave one of them out")
    files = {"train": source, "validation": args.validation_file, "test": args.test_file}
    given = {part: file for part, file in files.items() if file is not None}
    splits = {"train": args.train_split, "validation": args.validation_split, "test": args.test_split}
    is_file = file_format(source) is not None or Path(source).is_file()
    if is_file:
        if args.config is not None or splits != {"train": "train", "validation": None, "test": None}:
            raise ValueError(
                f"{source} is a file, but config, train_split, validation_split and test_split are for data sets of "
                "the Hub; give other files as validation_file and test_file"
            )
    elif len(given) > 1:
        raise ValueError(
            f"'{source}' is not a file, so it must be a data set of the Hub; choose its parts with validation_split "
            "and test_split instead of validation_file and test_file"
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
