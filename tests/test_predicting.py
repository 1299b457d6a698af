"""Texts, pictures, data sets and tensors give the same predictions, batch by batch."""

import itertools

import numpy as np
import pytest
import scenarios
import torch
from datasets import Dataset, Image, IterableDataset
from PIL import Image as Picture
from scipy.special import expit, softmax
from text_models import NAMES, TOKENS, distilbert, lora, modernbert, named_bert, scores_of, state_of, write_thresholds
from torch import nn
from transformers import ViTImageProcessorPil

from hf_plm import calibrate, fold_thresholds, predict
from hf_plm.predicting import predict_batches

TEXTS = ["a small editor", "a game of colours", "library", "a small unheard game of a small library", "of"]


@pytest.fixture
def tokenizer():
    return scenarios.make_tokenizer()


@pytest.fixture
def text_model():
    """A model with thresholds between two scores of `TEXTS`, so that rows have different labels."""
    model = named_bert()
    write_thresholds(model, np.sort(text_logits(model), 0)[1:3].mean(0))
    return model


@pytest.fixture
def pictures():
    pixels = np.random.default_rng(0).integers(0, 255, (5, 10, 12, 3), dtype=np.uint8)
    return [Picture.fromarray(each) for each in pixels]


@pytest.fixture
def image_processor():
    return ViTImageProcessorPil(size={"height": 8, "width": 8})


@pytest.fixture
def paths(pictures, tmp_path):
    for index, picture in enumerate(pictures):
        picture.save(tmp_path / f"{index}.png")
    return [tmp_path / f"{index}.png" for index in range(len(pictures))]


def text_logits(model):
    """One text at a time: no padding."""
    tokenizer = scenarios.make_tokenizer()
    return np.concatenate([scores_of(model, tokenizer(text, return_tensors="pt")) for text in TEXTS])


def names_above(logits, thresholds):
    return [[NAMES[label] for label in np.flatnonzero(row >= thresholds)] for row in logits]


def expected_names(model):
    names = names_above(text_logits(model), np.array(model.config.plm["thresholds"]))
    assert len(set(map(tuple, names))) > 1
    return names


def tokenized(tokenizer):
    return Dataset.from_dict({"text": TEXTS, "labels": [[0]] * 5, **tokenizer(TEXTS)})


TEXT_INPUTS = {
    "list": lambda tokenizer: TEXTS,
    "iterator": lambda tokenizer: iter(TEXTS),
    "column": lambda tokenizer: Dataset.from_dict({"text": TEXTS})["text"],
    "dataset": lambda tokenizer: Dataset.from_dict({"id": range(5), "title": TEXTS[::-1], "text": TEXTS}),
    "the only column of text": lambda tokenizer: Dataset.from_dict({"labels": [[0]] * 5, "title": TEXTS}),
    "tokens": tokenized,
    "tokens as tensors": lambda tokenizer: tokenized(tokenizer).with_format("torch"),
    "tokens on the fly": lambda tokenizer: Dataset.from_dict({"text": TEXTS}).with_transform(
        lambda rows: dict(tokenizer(rows["text"]))
    ),
    "stream": lambda tokenizer: tokenized(tokenizer).to_iterable_dataset(),
    "rows": lambda tokenizer: [{"text": text} for text in TEXTS],
}


@pytest.mark.parametrize("kind", TEXT_INPUTS)
@pytest.mark.parametrize("batch_size", [2, 32])
def test_texts_in_every_form_have_the_same_labels(kind, batch_size, text_model, tokenizer):
    inputs = TEXT_INPUTS[kind](tokenizer)
    assert predict(text_model, inputs, tokenizer, batch_size) == expected_names(text_model)


def test_prepared_inputs_need_no_processor(text_model, tokenizer):
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    for each in (inputs, dict(inputs), {**inputs, "labels": torch.tensor([0, 1, 9, 2, 3])}):
        assert predict(text_model, each, batch_size=2) == expected_names(text_model)
    rows = Dataset.from_dict({name: tensor.tolist() for name, tensor in inputs.items()})
    assert predict(text_model, rows, batch_size=2) == expected_names(text_model)


@pytest.mark.parametrize("make", [distilbert, modernbert, lambda labels: lora(scenarios.make_bert(labels))])
def test_the_model_gets_only_the_inputs_that_it_takes(make, tokenizer):
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]  # DistilBERT has no token types
    assert "token_type_ids" in tokenizer(TEXTS)
    model = make(5)
    array = predict(model, TEXTS, tokenizer, batch_size=2, output="array")
    np.testing.assert_allclose(array, expit(predict_one_by_one(model, tokenizer)), rtol=1e-4)


def predict_one_by_one(model, tokenizer):
    names = ("input_ids", "attention_mask")
    rows = [tokenizer(text, return_tensors="pt") for text in TEXTS]
    return np.concatenate([scores_of(model, {name: row[name] for name in names}) for row in rows])


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_a_wrapped_model_makes_the_same_decisions(wrap, text_model, tokenizer):
    with torch.compiler.set_stance("force_eager"):  # compiling takes seconds
        assert predict(wrap(text_model), TEXTS, tokenizer) == expected_names(text_model)


def test_pictures_in_every_form_have_the_same_labels(make_vit, pictures, paths, image_processor):
    model = make_vit()
    pixels = image_processor(pictures, return_tensors="pt")
    expected = expit(scores_of(model, pixels))
    as_text = [str(path) for path in paths]
    rows = Dataset.from_dict({"name": as_text, "image": as_text}).cast_column("image", Image())
    for inputs in (
        pictures,
        paths,
        as_text,
        iter(paths),
        rows,
        rows.rename_column("image", "photo"),
        Dataset.from_dict({"image": as_text, "name": as_text}),
        rows.with_transform(lambda batch: image_processor(batch["image"], return_tensors="pt")),
        [picture.convert("RGBA") for picture in pictures],
    ):
        array = predict(model, inputs, image_processor, batch_size=2, output="array")
        np.testing.assert_allclose(array, expected, rtol=1e-5)
    np.testing.assert_allclose(predict(model, pixels, output="array"), expected, rtol=1e-5)


def test_one_text_or_picture_is_one_row(text_model, tokenizer, make_vit, pictures, paths, image_processor):
    assert predict(text_model, TEXTS[0], tokenizer) == expected_names(text_model)[:1]
    for picture in (pictures[0], paths[0], str(paths[0])):
        assert predict(make_vit(), picture, image_processor, output="array").shape == (1, 5)


def test_names_scores_and_array_belong_together(text_model, tokenizer):
    names = predict(text_model, TEXTS, tokenizer, batch_size=2)
    scores = predict(text_model, TEXTS, tokenizer, batch_size=2, output="scores")
    array = predict(text_model, TEXTS, tokenizer, batch_size=2, output="array")
    assert array.dtype == np.float32 and array.shape == (5, 5)
    np.testing.assert_allclose(array, expit(text_logits(text_model)), rtol=1e-5)
    assert [list(row) for row in scores] == names
    for row, values in zip(scores, array, strict=True):
        assert row == pytest.approx({name: values[NAMES.index(name)] for name in row})


def test_with_one_class_per_row_scores_are_a_softmax(tokenizer):
    model = named_bert(problem_type="single_label_classification")
    logits = text_logits(model)
    write_thresholds(model, logits[0] - np.array([0, 0, 1, 0, 0]))
    array = predict(model, TEXTS, tokenizer, output="array")
    np.testing.assert_allclose(array, softmax(logits, 1), rtol=1e-5)
    (scores,) = predict(model, TEXTS[0], tokenizer, output="scores")
    assert scores == pytest.approx({"blue": array[0, 2]})  # farthest above its threshold, but not the highest
    assert predict(model, TEXTS[0], tokenizer) == [["blue"]]


def test_a_folded_threshold_is_a_score_of_a_half(text_model, tokenizer):
    names = expected_names(text_model)
    fold_thresholds(text_model)
    scores = predict(text_model, TEXTS, tokenizer, output="array")
    assert [[NAMES[index] for index in np.flatnonzero(row >= 0.5)] for row in scores] == names
    assert predict(text_model, TEXTS, tokenizer) == names


def test_calibrating_changes_scores_and_no_labels(text_model, tokenizer):
    model, names = text_model, expected_names(text_model)
    before = predict(model, TEXTS, tokenizer, output="array")
    calibrate(model, state_of())
    assert (predict(model, TEXTS, tokenizer, output="array") < before).all()
    assert predict(model, TEXTS, tokenizer) == names


class Counting(nn.Module):
    """A linear model that keeps the sizes of its batches."""

    def __init__(self):
        super().__init__()
        self.linear, self.sizes = nn.Linear(4, 3), []

    def forward(self, x):
        self.sizes.append(len(x))
        return self.linear(x)


def test_only_one_batch_is_read_and_kept_at_a_time():
    model, read = Counting(), []

    def rows():
        for row in itertools.count():
            read.append(row)
            yield {"x": [1.0, 2.0, 3.0, float(row)]}

    batches = predict_batches(model, rows(), batch_size=7)
    for number in (1, 2, 3):
        batch = next(batches)
        assert len(read) == 7 * number and model.sizes == [7] * number
        assert len(batch.rows) == len(batch.names) == len(batch.named_scores) == 7
        assert batch.scores.shape == batch.predicted.shape == (7, 3)
    assert predict(model, {"x": torch.randn(16, 4)}, batch_size=7, output="array").shape == (16, 3)
    assert model.sizes[3:] == [7, 7, 2]


def test_the_model_is_left_in_the_same_mode(text_model, tokenizer):
    for part in (text_model, text_model.bert.encoder):
        text_model.eval()
        part.train()
        modes = [module.training for module in text_model.modules()]
        batches = predict_batches(text_model, TEXTS, tokenizer, batch_size=2)
        next(batches)
        assert [module.training for module in text_model.modules()] == modes
        assert torch.is_grad_enabled()
        predict(text_model, TEXTS, tokenizer)
        assert [module.training for module in text_model.modules()] == modes


def test_dropout_is_off(tokenizer):
    model = named_bert(dropout=0.5).train()
    one, other = (predict(model, TEXTS, tokenizer, output="array") for _ in range(2))
    np.testing.assert_array_equal(one, other)


class OnMeta(nn.Module):
    """A model on another device, which its inputs must reach."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3, device="meta", dtype=torch.bfloat16)

    def forward(self, x, ids):
        assert x.device == ids.device == self.linear.weight.device
        assert x.dtype == torch.bfloat16 and ids.dtype == torch.int64
        self.linear(x)
        return torch.zeros(len(x), 3)


def test_the_inputs_go_to_the_models_device_and_precision():
    model, inputs = OnMeta(), {"x": torch.randn(5, 4), "ids": torch.arange(5)}
    assert predict(model, inputs) == [["LABEL_0", "LABEL_1", "LABEL_2"]] * 5
    assert model.linear.weight.device.type == "meta"
    assert inputs["x"].device.type == "cpu"


def test_long_texts_are_cut_to_the_limit_of_the_model(text_model, tokenizer):
    long = "a small editor " * 100
    assert tokenizer.model_max_length > 1e20 and text_model.config.max_position_embeddings == 16
    assert predict(text_model, long, tokenizer) == predict(text_model, "a small editor " * 5 + "a", tokenizer)
    tokenizer.model_max_length = 3
    assert predict(text_model, long, tokenizer) == predict(text_model, TEXTS[0], tokenizer)


def test_empty_inputs_are_no_error(text_model, tokenizer):
    for inputs in ([], iter([]), Dataset.from_dict({"text": []}), {"input_ids": TOKENS[:0]}):
        assert predict(text_model, inputs, tokenizer) == predict(text_model, inputs, output="scores") == []
        assert predict(text_model, inputs, tokenizer, output="array").shape == (0, 5)


def test_a_stream_of_unknown_length_is_read(text_model, tokenizer):
    def rows():
        yield from ({"text": text} for text in TEXTS)

    stream = IterableDataset.from_generator(rows)
    assert predict(text_model, stream, tokenizer, batch_size=2) == expected_names(text_model)
