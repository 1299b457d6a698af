"""Writes labels for all rows of a table into a csv file, batch by batch."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from datasets import DatasetDict
from torch import nn
from tqdm.auto import tqdm
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from .extras import needed
from .label_columns import TEXT, cell_type, stored_column
from .labeled_data import LABELS
from .model_inputs import Processor
from .picture_files import IMAGE, find_pictures
from .predicting import BatchPredictions, predict_batches
from .recipes import loading
from .table_sources import DELIMITERS, file_format, read_parts
from .table_streams import CsvTexts
from .tasks import choose_text_column, find_text_column

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class InputRows:
    """The rows of a table as a model's inputs.

    Attributes:
        inputs: the inputs for `predict_batches`.
        num_rows: the number of rows.
        column: the column of the texts or pictures.
        shown: a function that returns the texts or the files of the pictures of a batch, from its inputs and the
            number of its first row; None if the pictures have no files.
    """

    inputs: Any
    num_rows: int
    column: str
    shown: Callable[[list[Any], int], list[str]] | None


def load_classifier(name: str) -> tuple[PreTrainedModel, Processor]:
    """Load a text or image classifier with its tokenizer or image processor, from a folder or the Hub.

    The model is on the GPU, if there is one.

    Raises:
        ValueError: if the model classifies neither texts nor pictures.
        OSError: if there is no such model.
    """
    with loading(name):
        architecture = next(iter(AutoConfig.from_pretrained(name).architectures or [""]))
    model: Any
    processor: Any
    if architecture.endswith("ForSequenceClassification"):
        model = AutoModelForSequenceClassification.from_pretrained(name)
        processor = AutoTokenizer.from_pretrained(name)
    elif architecture.endswith("ForImageClassification"):
        model = AutoModelForImageClassification.from_pretrained(name)
        with needed("PIL"):
            processor = AutoImageProcessor.from_pretrained(name)
    else:
        raise ValueError(
            f"'{name}' is a {architecture or 'model of an unknown kind'}; it must be a text or image classifier, such "
            "as one from hf-plm train"
        )
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), processor


def predict_file(
    model: nn.Module,
    processor: Processor,
    source: str,
    output: str | Path,
    *,
    batch_size: int = 32,
    config: str | None = None,
    split: str = "train",
    text_column: str | None = None,
    image_column: str | None = None,
    image_folder: str | Path | None = None,
    usual_column: str | None = None,
) -> int:
    """Write the labels and scores of `predict` for every row of a table of any size into a csv file.

        model, processor = load_classifier("outputs/packages")
        predict_file(model, processor, "new.csv", "labels.csv")

    Only a block of a csv file, or a batch of rows of other files, is in memory. Each row of `output` has `row`
    (from 0), the text or the file of the picture, `labels` (the names of the predicted labels, as `a|b`; as a JSON
    list if a name contains `|`), and for each label `score_NAME`, in [0, 1], and `predicted_NAME`, 1 or 0.

    Args:
        model, processor: see `predict`.
        source: a csv, tsv, json, jsonl or parquet file, or the name of a data set of the Hub. It needs no labels.
        output: the file to write; it is overwritten, and its folder is created.
        batch_size: rows in one forward pass, 1 or more.
        config, split: of a data set of the Hub.
        text_column: if None: `usual_column` if it exists, else `text` or the only column of texts.
        image_column, image_folder: see `read_labeled`; if None, the column is `usual_column` if it exists, else
            `image`.
        usual_column: the column of the texts or pictures in the table that the model was trained on.

    Returns:
        the number of rows.

    Raises:
        ValueError: see `predict`; also if the table cannot be read. The message says how many rows were written.
    """
    if Path(output).resolve() == Path(source).resolve():
        raise ValueError(f"output is {output}, which is also the input; choose a different file")
    if isinstance(processor, PreTrainedTokenizerBase):
        if image_column is not None or image_folder is not None:
            raise ValueError("the model takes texts; leave out image_column and image_folder, which are for pictures")
        rows = _text_rows(source, config, split, text_column, usual_column)
    else:
        if text_column is not None:
            raise ValueError(f"text_column is '{text_column}', but the model takes pictures; leave it out")
        rows = _picture_rows(source, config, split, image_column, image_folder, usual_column)
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    return _write(predict_batches(model, rows.inputs, processor, batch_size), rows, output)


def _write(batches: Iterable[BatchPredictions], rows: InputRows, output: str | Path) -> int:
    """Write each batch when it is predicted. Returns the number of rows; an error says how many were written."""
    written = 0
    with open(output, "w", newline="", encoding="utf-8") as file, tqdm(total=rows.num_rows, unit=" rows") as bar:
        writer = csv.writer(file)
        try:
            for batch in batches:
                if not written:
                    writer.writerow(_header(rows, batch.label_names))
                shown = rows.shown(batch.rows, written) if rows.shown is not None else None
                writer.writerows(_lines(batch, written, shown))
                file.flush()
                written += len(batch.rows)
                bar.update(len(batch.rows))
        except (ValueError, OSError, RuntimeError) as error:
            raise ValueError(f"{error}. {output} has the first {written:,} rows") from error
        except KeyboardInterrupt:
            logger.warning(f"Stopped: {output} has the first {written:,} rows")
            raise
    return written


def _header(rows: InputRows, names: list[str]) -> list[str]:
    first = ["row"] if rows.shown is None else ["row", rows.column]
    return [*first, LABELS, *(f"score_{name}" for name in names), *(f"predicted_{name}" for name in names)]


def _lines(batch: BatchPredictions, first_row: int, shown: list[str] | None) -> Iterator[list[Any]]:
    is_plain = not any("|" in name for name in batch.label_names)
    for row, names in enumerate(batch.names):
        labels = "|".join(names) if is_plain else json.dumps(names, ensure_ascii=False)
        own = [] if shown is None else [shown[row]]
        scores = [f"{score:.6f}" for score in batch.scores[row]]
        yield [first_row + row, *own, labels, *scores, *batch.predicted[row].astype(int).tolist()]


def _text_rows(source: str, config: str | None, split: str, column: str | None, usual: str | None) -> InputRows:
    kind = file_format(source)
    if kind in DELIMITERS:
        texts = CsvTexts(source, DELIMITERS[kind])
        columns = texts.columns()
        of_text = [name for name, each in columns.items() if pa.types.is_string(each) and name != LABELS]
        column = texts.column = choose_text_column(of_text, list(columns), column, usual)
        return InputRows(texts, texts.count_rows(), column, lambda texts, first_row: texts)
    (rows,) = read_parts(source, config, split).values()
    column = find_text_column({split: rows}, column, usual)
    rows = rows.select_columns([column])
    return InputRows(rows, len(rows), column, lambda rows, first_row: [row[column] for row in rows])


def _picture_rows(
    source: str, config: str | None, split: str, column: str | None, folder: str | Path | None, usual: str | None
) -> InputRows:
    names = [column or IMAGE] if usual is None else [column or IMAGE, usual]
    (rows,) = read_parts(source, config, split, names).values()
    if column is None:
        column = usual if usual is not None and usual in rows.column_names else IMAGE
    has_files = column in rows.column_names and cell_type(rows, column) in TEXT
    files = stored_column(rows, column).to_pylist() if has_files else []
    rows = find_pictures(DatasetDict({split: rows}), column, folder)[split].select_columns([IMAGE])

    def shown(batch: list[Any], first_row: int) -> list[str]:
        return files[first_row : first_row + len(batch)]

    return InputRows(rows, len(rows), column, shown if has_files else None)
