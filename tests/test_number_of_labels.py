"""A single label needs no list; if model and data differ in the number of labels, an error gives the right one."""

import math

import pytest
from datasets import Dataset

from hf_plm import PLMTrainer


@pytest.mark.parametrize("values", [[0, 1, None, 1], [0.0, 1.0, math.nan, 1.0], [False, True, None, True]])
def test_the_value_of_one_label_needs_no_list(values, make_bert, make_args):
    rows = Dataset.from_list([{"input_ids": [5, 6], "labels": value} for value in values * 4])
    trainer = PLMTrainer(make_bert(1), make_args(), train_dataset=rows, eval_dataset=rows)
    assert (trainer.label_counts.positives.tolist(), trainer.label_counts.negatives.tolist()) == ([8], [4])
    trainer.train()
    assert math.isfinite(trainer.evaluate()["eval_loss"])
    assert trainer.model.config.problem_type == "multi_label_classification"


@pytest.mark.parametrize(
    "labels",
    [[[9, 0], [1]], [[1.0] + [0.0] * 9] * 2, [list("abcde"), list("fghij")], [9, 0]],
    ids=["ids", "multi-hot", "names", "class ids"],
)
def test_an_error_gives_the_number_of_labels_that_a_model_needs(labels, make_bert, make_args):
    rows = Dataset.from_list([{"input_ids": [5, 6], "labels": row} for row in labels])
    with pytest.raises(
        ValueError, match=r"num_labels=2: make the model with num_labels=10, or .*config_arguments\(\)"
    ):
        PLMTrainer(make_bert(2), make_args(), train_dataset=rows)
