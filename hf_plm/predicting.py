"""Predicts the labels of texts, pictures and data sets with a trained model, batch by batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
from accelerate.utils import extract_model_from_parallel
from scipy.special import expit, softmax
from torch import nn

from .classifier_bias import in_evaluation, logits_of
from .decisions import thresholds_of
from .label_space import generic_names, read_id2label
from .model_inputs import InputMaker, Processor, read_batches

OUTPUTS = ("names", "scores", "array")


@dataclass(frozen=True, eq=False)
class BatchPredictions:
    """The predictions of a model for the rows of one batch.

    Attributes:
        rows: the inputs of the batch: a list, or a mapping of tensors.
        label_names: the names of the labels in the order of the model's outputs.
        scores (float64, `(rows, num_labels)`): in [0, 1]; see `predict`.
        predicted (bool, `(rows, num_labels)`): which labels are predicted.
    """

    rows: Any
    label_names: list[str]
    scores: np.ndarray
    predicted: np.ndarray

    @property
    def names(self) -> list[list[str]]:
        """The names of the predicted labels of each row."""
        return [[self.label_names[index] for index in np.flatnonzero(row)] for row in self.predicted]

    @property
    def named_scores(self) -> list[dict[str, float]]:
        """The predicted labels of each row: name -> score."""
        return [
            {self.label_names[index]: float(scores[index]) for index in np.flatnonzero(row)}
            for row, scores in zip(self.predicted, self.scores, strict=True)
        ]


@overload
def predict(
    model: nn.Module,
    inputs: Any,
    processor: Processor | None = None,
    batch_size: int = 32,
    output: Literal["names"] = "names",
) -> list[list[str]]: ...


@overload
def predict(
    model: nn.Module,
    inputs: Any,
    processor: Processor | None = None,
    batch_size: int = 32,
    *,
    output: Literal["scores"],
) -> list[dict[str, float]]: ...


@overload
def predict(
    model: nn.Module,
    inputs: Any,
    processor: Processor | None = None,
    batch_size: int = 32,
    *,
    output: Literal["array"],
) -> np.ndarray: ...


def predict(
    model: nn.Module,
    inputs: Any,
    processor: Processor | None = None,
    batch_size: int = 32,
    output: str = "names",
) -> list[list[str]] | list[dict[str, float]] | np.ndarray:
    """The labels that a trained model predicts for each row, with the same thresholds as in its evaluation.

        predict(model, ["a small editor", "a game"], tokenizer)
        predict(model, ["pictures/1.png"], image_processor, output="scores")

    A label is predicted if its logit is at least its threshold (`config.plm`), or 0 if the model has no thresholds:
    a probability of 0.5. A model with one class per row predicts the class whose logit is farthest above its
    threshold.

    Scores are the same as in pipelines: sigmoids of the logits, or with one class per row their softmax. Their meaning
    depends on the model. After training, they are shifted by masks and prior. After `calibrate` they are probabilities
    for the frequencies of the training data (with one class per row the softmax is more confident than that). After
    `fold_thresholds` they are not probabilities: a label is predicted if its score is at least 0.5.

    Args:
        model: the trained model. Its device and mode (training or evaluation) stay the same; inputs are moved to the
            device.
        inputs: one of:

            - texts: a list of str, or one str. They are cut to the tokenizer's `model_max_length`, or to the limit of
              the model.
            - pictures: a list of PIL images or of paths, or a single one.
            - a `datasets.Dataset` or a stream, with the model's own inputs (`input_ids`, `pixel_values`), or with a
              column of texts or pictures: `text` or `image`, or the only one of its kind.
            - any other iterable of such texts, pictures or rows; it is read batch by batch.
            - prepared inputs: a mapping of tensors, as tokenizers and image processors return it with
              `return_tensors="pt"`.
        processor: the tokenizer or image processor that the model was trained with; not needed for prepared inputs of
            the same length.
        batch_size: rows in one forward pass, 1 or more.
        output: `names`, `scores` or `array`.

    Returns:
        `names`: the names of the predicted labels, a list for each row, in the order of the model's outputs.
        `scores`: the same labels with their scores, for each row a dictionary from name to score, in [0, 1].
        `array`: the scores of all labels, float32 `(rows, num_labels)`.

    Raises:
        ValueError: for inputs that cannot be read, a processor that is missing or of the wrong kind, logits that are
            NaN or missing, and the errors of `read_decisions`.
        FileNotFoundError: for the first picture that is missing.
    """
    if output not in OUTPUTS:
        raise ValueError(f"output is {output!r}; it must be one of {OUTPUTS}")
    batches = predict_batches(model, inputs, processor, batch_size)
    if output == "names":
        return [names for batch in batches for names in batch.names]
    if output == "scores":
        return [scores for batch in batches for scores in batch.named_scores]
    num_labels = getattr(getattr(model, "config", None), "num_labels", 0)
    return np.concatenate(
        [batch.scores.astype(np.float32) for batch in batches] or [np.zeros((0, num_labels), np.float32)]
    )


def predict_batches(
    model: nn.Module, inputs: Any, processor: Processor | None = None, batch_size: int = 32
) -> Iterator[BatchPredictions]:
    """Predict as `predict` does, batch by batch, for inputs of any length; names and scores from one forward pass.

    Only one batch is in memory. Arguments and errors are those of `predict`; an error is raised at the first batch, or
    at the batch that causes it.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be 1 or more")
    inner = extract_model_from_parallel(model, keep_torch_compile=False)
    config = getattr(inner, "config", None)
    thresholds = thresholds_of(config)
    is_single_label = getattr(config, "problem_type", None) == "single_label_classification"
    own_names = read_id2label(config)
    maker = InputMaker(inner, processor)
    num_rows = 0
    for rows in read_batches(inputs, batch_size):
        tensors = maker.make(rows, num_rows)
        with in_evaluation(model):
            logits = logits_of(model(**tensors)).cpu().double().numpy()
        if logits.ndim != 2:
            raise ValueError(f"the model's logits have shape {logits.shape}; they must be (rows, num_labels)")
        if np.isnan(logits).any():
            raise ValueError(
                f"row {num_rows + int(np.isnan(logits).any(1).argmax())} of the inputs has logits that are NaN, so "
                "nothing can be predicted; check the inputs and the weights"
            )
        num_rows += len(logits)
        margins = logits if thresholds is None else logits - thresholds
        predicted = margins >= 0
        if is_single_label:
            predicted = np.arange(logits.shape[1]) == margins.argmax(1)[:, None]
        scores = softmax(logits, axis=1) if is_single_label else expit(logits)
        yield BatchPredictions(rows, own_names or generic_names(logits.shape[1]), scores, predicted)
