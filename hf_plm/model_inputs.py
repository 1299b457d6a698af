"""Turns texts, pictures, data sets and tensors into a model's inputs, batch by batch."""

import inspect
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import datasets
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import (
    BaseImageProcessor,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    default_data_collator,
)
from transformers.image_utils import is_pil_image, load_image

from .label_space import shown_list

Processor = PreTrainedTokenizerBase | BaseImageProcessor

NO_LIMIT = 10**9
"""A tokenizer without a maximum length has a `model_max_length` above this."""


def read_batches(inputs: Any, batch_size: int) -> Iterator[list[Any] | dict[str, Tensor]]:
    """Split any input of `predict` into batches; only one of them is in memory at a time.

    Yields:
        the rows of a batch, at least one; for a mapping of tensors, the same mapping for the rows of this batch.

    Raises:
        ValueError: if `inputs` cannot be read in rows, or the tensors of a mapping have different numbers of rows.
    """
    if isinstance(inputs, Mapping):
        num_rows = _count_rows(inputs)
        for start in range(0, num_rows, batch_size):
            yield {name: tensor[start : start + batch_size] for name, tensor in inputs.items()}
    elif isinstance(inputs, datasets.Dataset | datasets.IterableDataset):
        for columns in inputs.iter(batch_size):
            yield [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    else:
        rows = [inputs] if isinstance(inputs, str | os.PathLike) or is_pil_image(inputs) else inputs
        if isinstance(rows, Tensor | DataLoader) or not (isinstance(rows, Iterable) or hasattr(rows, "__getitem__")):
            raise ValueError(
                f"inputs is a {type(rows).__name__}; give texts, pictures, a datasets.Dataset, any other iterable "
                "of rows, or a mapping of tensors (such as one batch of a data loader)"
            )
        iterator = iter(rows)
        while batch := list(itertools.islice(iterator, batch_size)):
            yield batch


class InputMaker:
    """Makes a model's inputs from the batches of `read_batches`.

    Args:
        model: a model that takes tensors as named arguments.
        processor: the tokenizer or image processor that the model was trained with; None for prepared inputs.
    """

    def __init__(self, model: nn.Module, processor: Processor | None):
        self.processor = processor
        inner: Any = model
        if hasattr(model, "get_base_model"):  # an adapter
            inner = inner.get_base_model()
        parameters = inspect.signature(inner.forward).parameters
        self.names = [name for name in parameters if name != "labels"]
        self.main_input: str = getattr(inner, "main_input_name", None) or self.names[0]
        config = getattr(model, "config", None)
        self.max_length = getattr(config, "max_position_embeddings", None) or NO_LIMIT
        tensors = [each for each in model.parameters() if each.is_floating_point()]
        self.device = tensors[0].device if tensors else torch.device("cpu")
        self.dtype = tensors[0].dtype if tensors else torch.get_default_dtype()
        self._column: str | None = None

    def make(self, rows: list[Any] | dict[str, Tensor], first_row: int) -> dict[str, Tensor]:
        """The inputs of a batch, on the model's device; floating-point inputs have the model's dtype.

        Args:
            first_row: the number of the batch's first row among all rows, for error messages.

        Raises:
            ValueError: without the right processor, or if the processor does not take a row of this type.
            FileNotFoundError: if a picture is missing.
        """
        if isinstance(rows, dict):
            inputs = {name: tensor for name, tensor in rows.items() if name != "labels"}
        else:
            prepared = self._prepared(rows, first_row)
            inputs = {name: prepared[name] for name in self.names if name in prepared}
        return {
            name: tensor.to(self.device, self.dtype if tensor.is_floating_point() else None)
            for name, tensor in inputs.items()
        }

    def _prepared(self, rows: list[Any], first_row: int) -> Mapping[str, Tensor]:
        if isinstance(rows[0], Mapping) and self.main_input in rows[0]:
            return self._padded([{name: row[name] for name in self.names if name in row} for row in rows])
        self._check_processor(rows[0])
        if isinstance(rows[0], Mapping):
            self._column = self._column or self._raw_column(rows)
            rows = [row[self._column] for row in rows]
        if isinstance(self.processor, PreTrainedTokenizerBase):
            return self._tokens(rows, first_row)
        return self._pixels(rows, first_row)

    def _padded(self, rows: list[dict[str, Any]]) -> Mapping[str, Tensor]:
        """Rows of prepared inputs, padded to the same length by the tokenizer."""
        if isinstance(self.processor, PreTrainedTokenizerBase):
            return DataCollatorWithPadding(self.processor)(rows)
        try:
            return default_data_collator(rows)
        except (ValueError, RuntimeError) as error:
            raise ValueError(
                f"the rows have inputs of different sizes ({error}); pass the model's tokenizer as processor, which "
                "pads them"
            ) from None

    def _raw_column(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """The column that holds the texts or pictures of a data set."""
        usual = "text" if isinstance(self.processor, PreTrainedTokenizerBase) else "image"
        of_pictures = [name for name in rows[0] if any(is_pil_image(row[name]) for row in rows)]
        of_text = [name for name in rows[0] if any(isinstance(row[name], str) for row in rows)]
        found = of_text if usual == "text" else of_pictures or of_text
        if usual in found:
            return usual
        if len(found) == 1:
            return found[0]
        which = f"several others of this kind: {shown_list(found)}" if found else f"only {shown_list(list(rows[0]))}"
        raise ValueError(
            f"the rows have no column '{usual}' and no '{self.main_input}', but {which}; choose one with "
            "dataset.select_columns('NAME')"
        )

    def _check_processor(self, row: Any) -> None:
        """Raise a ValueError without a tokenizer or image processor, or if it does not fit the model."""
        wanted = {"input_ids": "tokenizer", "pixel_values": "image processor"}.get(self.main_input)
        if self.processor is None:
            raise ValueError(
                f"the first row is a {type(row).__name__}, and processor is None; pass the model's "
                f"{wanted or 'tokenizer or image processor'}, or prepared inputs: a mapping of tensors"
            )
        given = "tokenizer" if isinstance(self.processor, PreTrainedTokenizerBase) else "image processor"
        if not isinstance(self.processor, Processor) or wanted not in (None, given):
            raise ValueError(
                f"processor is a {type(self.processor).__name__}, but the model takes '{self.main_input}'; pass its "
                f"{wanted or 'tokenizer or image processor'}"
            )

    def _tokens(self, texts: list[Any], first_row: int) -> Mapping[str, Tensor]:
        for row, text in enumerate(texts, first_row):
            if not isinstance(text, str):
                raise ValueError(f"row {row} is a {type(text).__name__}; with a tokenizer every row must be a text")
        tokenizer: Any = self.processor
        limit = min(tokenizer.model_max_length, self.max_length)
        cut = {"truncation": True, "max_length": limit} if limit < NO_LIMIT else {}
        tokens: Mapping[str, Tensor] = tokenizer(texts, padding=True, return_tensors="pt", **cut)
        return tokens

    def _pixels(self, pictures: list[Any], first_row: int) -> Mapping[str, Tensor]:
        for row, picture in enumerate(pictures, first_row):
            if isinstance(picture, str | os.PathLike):
                if not os.path.isfile(picture):
                    raise FileNotFoundError(f"row {row}: there is no picture '{os.fspath(picture)}'")
            elif not is_pil_image(picture):
                raise ValueError(
                    f"row {row} is a {type(picture).__name__}; with an image processor every row must be a PIL image "
                    "or the path of a picture"
                )
        paths_as_text = [picture if is_pil_image(picture) else os.fspath(picture) for picture in pictures]
        processor: Any = self.processor
        pixels: Mapping[str, Tensor] = processor([load_image(each) for each in paths_as_text], return_tensors="pt")
        return pixels


def _count_rows(inputs: Mapping[str, Any]) -> int:
    """The number of rows of a mapping of tensors."""
    for name, tensor in inputs.items():
        if not isinstance(tensor, Tensor) or not tensor.dim():
            raise ValueError(
                f"inputs[{name!r}] is a {type(tensor).__name__}; a mapping must hold tensors with one entry per row: "
                "call the tokenizer or image processor with return_tensors='pt'"
            )
    sizes = {name: len(tensor) for name, tensor in inputs.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"inputs must hold tensors with the same number of rows; they have {sizes}")
    return next(iter(sizes.values()))
