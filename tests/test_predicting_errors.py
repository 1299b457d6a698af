"""Unusable inputs are refused with a message that says what to do."""

import re

import numpy as np
import pytest
import scenarios
import torch
from datasets import Dataset
from PIL import Image as Picture
from text_models import TOKENS
from torch import nn
from transformers import ViTImageProcessorPil

from hf_plm import predict

TEXTS = ["a small editor", "a game of colours", "library"]


@pytest.fixture
def tokenizer():
    return scenarios.make_tokenizer()


@pytest.fixture
def text_model():
    return scenarios.make_bert()


@pytest.fixture
def image_processor():
    return ViTImageProcessorPil(size={"height": 8, "width": 8})


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(x)


def test_an_error_names_the_row_of_nan_logits():
    rows = [{"x": [0.0, 0.0, 0.0, float("nan") if row == 3 else 0.0]} for row in range(5)]
    with pytest.raises(ValueError, match="row 3 of the inputs has logits that are NaN"):
        predict(Linear(), rows, batch_size=2)


def test_an_error_names_a_missing_picture(make_vit, tmp_path, image_processor):
    paths = [tmp_path / f"{index}.png" for index in range(5)]
    for path in paths[:3]:
        Picture.new("RGB", (8, 8)).save(path)
    message = re.escape(f"row 3: there is no picture '{paths[3]}'")
    for inputs in (paths, iter(paths), Dataset.from_dict({"image": list(map(str, paths))})):
        with pytest.raises(FileNotFoundError, match=message):
            predict(make_vit(), inputs, image_processor, batch_size=2)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (TEXTS, r"the first row is a str, and processor is None; pass the model's tokenizer, or prepared inputs"),
        (Dataset.from_dict({"title": TEXTS, "body": TEXTS}), "processor is None; pass the model's tokenizer"),
        (5, "inputs is a int; give texts, pictures, a datasets.Dataset"),
        (TOKENS, "inputs is a Tensor; give texts"),
        (torch.utils.data.DataLoader(TEXTS), "inputs is a DataLoader; give texts.*one batch of a data loader"),
        ({"input_ids": [[5, 6]]}, r"inputs\['input_ids'\] is a list; .*return_tensors='pt'"),
        ({"input_ids": TOKENS, "attention_mask": TOKENS[:3]}, "the same number of rows; they have .*32.*3"),
        ({}, "inputs must hold tensors"),
        ([{"input_ids": [5, 6]}, {"input_ids": [5]}], "inputs of different sizes .*pass the model's tokenizer"),
    ],
)
def test_inputs_that_cannot_be_read_without_a_processor(inputs, message, text_model):
    with pytest.raises(ValueError, match=message):
        predict(text_model, inputs)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["a", None], "row 1 is a NoneType; with a tokenizer every row must be a text"),
        (["a"] * 3 + [["a", "b"]], "row 3 is a list; with a tokenizer"),
        (Dataset.from_dict({"text": ["a"] * 3 + [None]}), "row 3 is a NoneType"),
        (
            Dataset.from_dict({"title": TEXTS, "body": TEXTS}),
            r"no column 'text' and no 'input_ids', but several .*: \['title', 'body'\]; choose one .*select_columns",
        ),
        (Dataset.from_dict({"id": [1, 2]}), r"no column 'text' and no 'input_ids', but only \['id'\]"),
    ],
)
def test_rows_that_a_tokenizer_does_not_take(inputs, message, text_model, tokenizer):
    with pytest.raises(ValueError, match=message):
        predict(text_model, inputs, tokenizer, batch_size=2)


def test_a_processor_must_fit_the_model(text_model, make_vit, tokenizer, image_processor):
    with pytest.raises(ValueError, match="processor is a ViTImageProcessorPil, but the model takes 'input_ids'; pass"):
        predict(text_model, TEXTS, image_processor)
    with pytest.raises(ValueError, match="but the model takes 'pixel_values'; pass its image processor"):
        predict(make_vit(), TEXTS, tokenizer)
    with pytest.raises(ValueError, match="processor is a str, but the model takes 'input_ids'; pass its tokenizer"):
        predict(text_model, TEXTS, "bert")
    with pytest.raises(ValueError, match="row 0 is a ndarray; with an image processor every row must be a PIL image"):
        predict(make_vit(), [np.zeros((8, 8, 3))], image_processor)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output": "probabilities"}, r"output is 'probabilities'; it must be one of \('names', 'scores', 'array'\)"),
        ({"batch_size": 0}, "batch_size is 0; it must be 1 or more"),
    ],
)
def test_errors_name_arguments_out_of_range(arguments, message, text_model, tokenizer):
    with pytest.raises(ValueError, match=message):
        predict(text_model, TEXTS, tokenizer, **arguments)


def test_a_model_that_gives_no_score_per_label_is_refused():
    class Tokens(Linear):
        def forward(self, x):
            return self.linear(x)[:, None]

    with pytest.raises(ValueError, match=r"logits have shape \(2, 1, 3\); they must be \(rows, num_labels\)"):
        predict(Tokens(), {"x": torch.randn(2, 4)})
