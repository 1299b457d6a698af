"""Batches have the same labels for every form of the rows, and errors name wrong rows."""

import numpy as np
import pytest
import torch
from transformers import DataCollatorWithPadding, PreTrainedTokenizerFast, default_data_collator

from hf_plm import MultiLabelCollator
from hf_plm.label_tensors import multi_hot_labels

IDS = [[0, 2], [], [1]]
EXPECTED = torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0]])


def rows_of(labels):
    return [{"input_ids": [index, 1], "labels": row} for index, row in enumerate(labels)]


@pytest.mark.parametrize(
    "labels",
    [
        IDS,
        [np.array(row, np.int32) for row in IDS],
        [torch.tensor(row, dtype=torch.long) for row in IDS],
        EXPECTED.int().tolist(),
        EXPECTED.bool().tolist(),
        EXPECTED.tolist(),
        list(EXPECTED),
        list(EXPECTED.numpy()),
        [["a", "c"], [], ["b"]],
    ],
    ids=["ids", "int32 ids", "tensor ids", "ints", "bools", "floats", "tensors", "arrays", "names"],
)
def test_every_form_gives_the_same_float_labels(labels):
    batch = MultiLabelCollator(3, label_names=["a", "b", "c"])(rows_of(labels))
    assert batch["labels"].dtype == torch.float32
    assert torch.equal(batch["labels"], EXPECTED)
    assert batch["input_ids"].tolist() == [[0, 1], [1, 1], [2, 1]]


@pytest.mark.parametrize("unknown", [np.nan, -100, None])
def test_unknown_labels_become_nan(unknown):
    batch = MultiLabelCollator(3)(rows_of([[1, unknown, 0], [0, 0, unknown]]))
    assert batch["labels"].isnan().tolist() == [[False, True, False], [False, False, True]]
    assert batch["labels"][0, 0] == 1


@pytest.mark.parametrize("labels", [IDS, [["a", "c"], [], ["b"]]], ids=["ids", "names"])
def test_sparse_labels_are_class_ids(labels):
    collator = MultiLabelCollator(3, label_names=["a", "b", "c"], sparse=True)
    batch = collator(rows_of(labels))["labels"]
    assert batch.dtype == torch.int64
    assert batch.tolist() == [[0, 2], [-100, -100], [1, -100]]
    assert torch.equal(multi_hot_labels(batch, 3), EXPECTED.to(torch.int8))
    assert collator(rows_of([[], []]))["labels"].tolist() == [[-100], [-100]]
    assert collator([{"input_ids": [1]}]).keys() == {"input_ids"}


def test_integers_are_class_ids_if_labels_are_sparse():
    rows = rows_of([[0, 1], [1, 0]])
    assert MultiLabelCollator(2, sparse=True)(rows)["labels"].tolist() == [[0, 1], [1, 0]]


def test_the_form_is_decided_once_and_not_row_by_row():
    collator = MultiLabelCollator(3)
    collator(rows_of([[], []]))  # does not decide the form
    assert collator.label_format == "auto"
    collator(rows_of([[0, 2], [1]]))
    assert collator.label_format == "ids"
    with pytest.raises(ValueError, match="row 0 of the batch: the class 0 is listed twice"):
        collator(rows_of([[0, 0, 1], [1, 0, 0]]))
    assert torch.equal(collator(rows_of([[0, 1]]))["labels"], torch.tensor([[1.0, 1, 0]]))


def test_two_possible_readings_need_a_declared_form():
    rows = rows_of([[0, 1], [1, 0]])
    with pytest.raises(ValueError, match="can be read in 2 ways.*label_format='ids' or label_format='multi_hot'"):
        MultiLabelCollator(2)(rows)
    assert MultiLabelCollator(2, label_format="ids")(rows)["labels"].tolist() == [[1, 1], [1, 1]]
    assert MultiLabelCollator(2, label_format="multi_hot")(rows)["labels"].tolist() == [[0, 1], [1, 0]]


def test_other_columns_are_left_to_the_wrapped_collator():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(), pad_token="[PAD]")
    collator = MultiLabelCollator(3, DataCollatorWithPadding(tokenizer))
    batch = collator([{"input_ids": [1, 2, 3], "labels": [0]}, {"input_ids": [1], "labels": [1, 2]}])
    assert batch["input_ids"].tolist() == [[1, 2, 3], [1, 0, 0]]
    assert batch["labels"].tolist() == [[1, 0, 0], [0, 1, 1]]
    assert collator.tokenizer is tokenizer  # Trainer saves it with the model
    assert MultiLabelCollator(3).tokenizer is None


def tiny_tokenizer():
    from tokenizers import Tokenizer, models

    return Tokenizer(models.WordLevel({"[PAD]": 0, "a": 1}, unk_token="[PAD]"))


def test_rows_are_not_changed_and_rows_without_labels_give_a_batch_without():
    rows = rows_of(IDS)
    MultiLabelCollator(3, default_data_collator)(rows)
    assert rows == rows_of(IDS)
    batch = MultiLabelCollator(3)([{"input_ids": [1]}, {"input_ids": [2]}])
    assert set(batch) == {"input_ids"}


def test_labels_may_be_in_a_different_column():
    batch = MultiLabelCollator(3, column="tags")([{"input_ids": [1], "tags": [2, 0]}])
    assert batch["tags"].tolist() == [[1, 0, 1]]


@pytest.mark.parametrize(
    ("labels", "arguments", "message"),
    [
        ([[0], [3]], {}, r"column 'labels', row 1 of the batch: the class id 3 is not in \[0, 3\). Correct it"),
        ([[0], [-1, 1]], {}, "row 1 of the batch: the class id -1 is not"),
        (
            [[0], [2, 1, 2, 0]],
            {},
            "row 1 of the batch: the class 2 is listed twice. List every class of a row once",
        ),
        ([[1.0, 0, 0], [0, 0.5, 0]], {}, "row 1 of the batch: the value 0.5 is neither 1, 0 nor unknown"),
        ([[1.0, 0, 0], [0, np.inf, 0]], {}, "row 1 of the batch: the value inf is neither"),
        ([[1.0, 0, 0], [0.0, 1.0]], {}, "row 1 of the batch: 2 values where there are 3 labels. Give one value"),
        ([[1, 0, 0, 1]], {"label_format": "multi_hot"}, "row 0 of the batch: 4 values where there are 3 labels"),
        ([["a"], ["z"]], {}, "row 1 of the batch: 'z' is not among the 3 label names"),
        ([["a"], ["b", "b"]], {}, "row 1 of the batch: the class 'b' is listed twice"),
        ([["a"]], {"label_names": None}, "row 0 of the batch: the labels are class names. Pass label_names"),
        ([["a"]], {"label_format": "ids"}, "'a' cannot be read as label_format='ids'"),
        ([[1, 2]], {"label_format": "names"}, "1 cannot be read as label_format='names'"),
        ([1, 2], {}, "1 is a single number. Give every row a multi-hot vector"),
        ([[0], None], {}, "row 1 of the batch: the labels are null"),
        ([[1.0, 0, 1]], {"sparse": True}, "row 0 of the batch: the labels are multi-hot. With sparse=True, give"),
        ([[0], [3]], {"sparse": True}, "row 1 of the batch: the class id 3 is not in"),
        ([[0], ["a"]], {}, r"row 1 of the batch: \['a'\] is not a label row of the same kind as those before"),
    ],
)
def test_errors_name_wrong_rows_and_the_remedy(labels, arguments, message):
    collator = MultiLabelCollator(3, **{"label_names": ["a", "b", "c"], **arguments})
    with pytest.raises(ValueError, match=message):
        collator(rows_of(labels))


def test_a_batch_in_which_only_some_rows_have_labels_is_refused():
    with pytest.raises(ValueError, match="row 1 of the batch: this row has no labels, but other rows have"):
        MultiLabelCollator(3)([{"input_ids": [1], "labels": [0]}, {"input_ids": [2]}])


def test_a_wrapped_collator_that_reads_the_labels_is_an_error():
    def collate(rows):
        return {"labels": torch.stack([row["labels"] for row in rows])}

    with pytest.raises(ValueError, match="the wrapped collator reads the column 'labels'"):
        MultiLabelCollator(3, collate)(rows_of(IDS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_labels": 0}, "num_labels is 0; it must be 1 or more"),
        ({"num_labels": 2, "label_format": "list"}, "label_format is 'list'"),
        (
            {"num_labels": 2, "label_format": "multi_hot", "sparse": True},
            "sparse is True, but label_format is 'multi_hot'",
        ),
        ({"num_labels": 2, "label_names": ["a"]}, "label_names has 1 names"),
        ({"num_labels": 2, "label_names": ["a", "a"]}, "1 of them distinct"),
    ],
)
def test_errors_name_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiLabelCollator(**arguments)
