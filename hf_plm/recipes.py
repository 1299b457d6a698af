"""The steps that the examples and the command `hf-plm` share: columns, models, inputs, evaluation."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BaseImageProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .extras import needed
from .label_space import LabelSpace
from .labeled_data import read_labeled
from .small_models import small_image_model, small_image_processor, small_text_model, train_tokenizer
from .trainer import PLMTrainer

EVERY_EPOCH: dict[str, Any] = {
    "eval_strategy": "epoch",
    "logging_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 1,
    "per_device_eval_batch_size": 256,
    "remove_unused_columns": False,  # inputs are made from texts and pictures when a row is read
}
"""Training arguments for evaluating and saving after every epoch."""

SMALL_TEXT: dict[str, Any] = {"num_train_epochs": 4, "learning_rate": 2e-3, "per_device_train_batch_size": 64}
SMALL_IMAGE: dict[str, Any] = {"num_train_epochs": 8, "learning_rate": 1e-3, "per_device_train_batch_size": 64}
PRETRAINED: dict[str, Any] = {"num_train_epochs": 5, "learning_rate": 5e-5, "per_device_train_batch_size": 16}
"""Training arguments with which the small models, or a pretrained one, learn well."""

SMALL_LENGTH, USUAL_LENGTH = 48, 128
"""The number of tokens to which texts are cut for the small model, and for a pretrained one."""


@dataclass
class LabelArguments:
    """Flags: where the labels are in a table."""

    label_column: str = field(
        default="labels", metadata={"metavar": "NAME", "help": "The column of the labels. Default: labels."}
    )
    label_columns: str | None = field(
        default=None,
        metadata={
            "metavar": "NAMES",
            "help": "Instead of it, one column for each label, with 1, 0, or nothing if unknown: a,b,c or a pattern "
            "such as 'tag_*'.",
        },
    )
    separator: str | None = field(
        default=None,
        metadata={
            "metavar": "TEXT",
            "help": "The separator of the names in a label column of text; '' if each cell is one name. Default: |, ; "
            "or a comma, if the data make it clear.",
        },
    )

    def columns(self) -> dict[str, Any]:
        """The arguments of `read_labeled`."""
        return {
            "label_column": self.label_column,
            "label_columns": self.label_columns,
            "separator": self.separator,
        }


@dataclass
class TrainingRows(LabelArguments):
    """Flags: where the labels are in a table, and how many rows are used for training."""

    max_train_samples: int | None = field(
        default=None, metadata={"metavar": "N", "help": "Train on this many rows, drawn at random. Default: all."}
    )


@dataclass
class DataArguments(TrainingRows):
    """Flags of the examples: the model, and the files or the Hub data set with the parts."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A model of the Hub or a folder. Default: a small untrained one."}
    )
    dataset_name: str | None = field(default=None, metadata={"help": "A data set of the Hub."})
    dataset_config: str | None = field(default=None, metadata={"help": "Its configuration, if it has several."})
    validation_split: str = field(default="validation", metadata={"help": "Its split for evaluation."})
    train_file: str | None = field(default=None, metadata={"help": "Your own csv, tsv, json or parquet file."})
    validation_file: str | None = field(default=None, metadata={"help": "The same for evaluation."})

    def read_data(self, bundled: Path) -> DatasetDict:
        """The parts `train` and `validation`.

        Args:
            bundled: the folder of the parquet files that are read if no other data are given.

        Raises:
            ValueError: for one file without the other, and the errors of `read_labeled`.
        """
        if (self.train_file is None) != (self.validation_file is None):
            raise ValueError("give both --train_file and --validation_file")
        train_file = self.train_file or str(bundled / "train.parquet")
        files = {"train": train_file, "validation": self.validation_file or str(bundled / "validation.parquet")}
        is_of_hub = self.dataset_name is not None
        return read_labeled(
            self.dataset_name if is_of_hub else files,
            config=self.dataset_config,
            split={"train": "train", "validation": self.validation_split} if is_of_hub else None,
            **self.columns(),
        )


@contextmanager
def loading(name: str | None) -> Iterator[None]:
    """A context for loading a model; if that fails, the error names the model."""
    try:
        yield
    except OSError as error:
        where = "from this folder" if Path(str(name)).is_dir() else "from the Hub, and there is no such folder"
        raise OSError(f"the model '{name}' cannot be loaded {where}: {error}") from error


def draw_rows(rows: Dataset, most: int | None, seed: int) -> Dataset:
    """At most `most` rows, drawn at random; all rows for None.

    Raises:
        ValueError: if `most` is below 1.
    """
    if most is None:
        return rows
    if most < 1:
        raise ValueError(f"max_train_samples is {most}; it must be 1 or more")
    return rows.shuffle(seed).select(range(min(most, len(rows))))


def text_tokenizer(name: str | None, texts: Iterable[str], max_length: int | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a pretrained model, or a new one that is trained on `texts`.

    Args:
        name: the name of the model on the Hub, or its folder; None to train a tokenizer.
        max_length: longer texts are cut to this many tokens. It is saved with the tokenizer, so that `predict` cuts
            texts to the same length. None for 48 tokens with a new tokenizer; with a pretrained one for 128 tokens,
            or for the limit of the model if it is lower.

    Raises:
        ValueError: if `max_length` is below 1, or above the limit of the model.
    """
    if name is None:
        tokenizer: PreTrainedTokenizerBase = train_tokenizer(texts)
        limit, usual = tokenizer.model_max_length, SMALL_LENGTH
    else:
        with loading(name):
            tokenizer = AutoTokenizer.from_pretrained(name)
            positions = getattr(AutoConfig.from_pretrained(name), "max_position_embeddings", None)
        limit, usual = min(tokenizer.model_max_length, positions or tokenizer.model_max_length), USUAL_LENGTH
    max_length = min(usual, limit) if max_length is None else max_length
    if not 1 <= max_length <= limit:
        raise ValueError(f"max_length is {max_length}; it must be from 1 to {limit}, the limit of the model")
    tokenizer.model_max_length = max_length
    return tokenizer


def text_model(name: str | None, space: LabelSpace, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A pretrained model with a new classifier for the labels of `space`; for None a small ModernBERT from scratch."""
    if name is None:
        return small_text_model(space, tokenizer)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        name, **space.config_arguments(), ignore_mismatched_sizes=True
    )
    return model


def image_processor(name: str | None) -> BaseImageProcessor:
    """The image processor of a pretrained model; for None the one of the small ViT."""
    if name is None:
        return small_image_processor()
    with loading(name), needed("PIL"):
        processor: BaseImageProcessor = AutoImageProcessor.from_pretrained(name)
    return processor


def image_model(name: str | None, space: LabelSpace) -> PreTrainedModel:
    """A pretrained model with a new classifier for the labels of `space`; for None a small ViT from scratch."""
    if name is None:
        return small_image_model(space)
    model: PreTrainedModel = AutoModelForImageClassification.from_pretrained(
        name, **space.config_arguments(), ignore_mismatched_sizes=True
    )
    return model


def text_inputs(
    tokenizer: PreTrainedTokenizerBase, column: str = "text"
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """For `with_transform`: tokens, cut at the tokenizer's `model_max_length`, and labels."""

    def make(rows: dict[str, Any]) -> dict[str, Any]:
        return {**tokenizer(rows[column], truncation=True), "labels": rows["labels"]}

    return make


def image_inputs(processor: Any, column: str = "image") -> Callable[[dict[str, Any]], dict[str, Any]]:
    """For `with_transform`: the pixels of pictures, and labels."""

    def make(rows: dict[str, Any]) -> dict[str, Any]:
        pictures = [picture.convert("RGB") for picture in rows[column]]
        return {**processor(pictures, return_tensors="pt"), "labels": rows["labels"]}

    return make


def evaluate_and_save(trainer: PLMTrainer, rows: Any = None) -> dict[str, float]:
    """Evaluate, and save the metrics, the model, its card and its pictures; with `push_to_hub` also upload them.

    Args:
        rows: the rows for evaluation; None for the trainer's `eval_dataset`.

    Returns:
        the metrics, as `Trainer.evaluate`.
    """
    metrics = trainer.evaluate(rows)
    trainer.save_metrics("eval", metrics)
    trainer.save_model()
    if trainer.args.push_to_hub:
        trainer.push_to_hub()
    else:
        trainer.create_model_card()
    return metrics
