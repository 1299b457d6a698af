"""All kinds of data sets with the same labels give the same counts, and errors name bad data."""

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDataset, List, Value

from hf_plm import LabelCounts, PLMTrainer, count_labels, label_columns

IDS = [[0, 2], [2], [], [1, 2], [0]]
MULTI_HOT = [[1, 0, 1], [0, 0, 1], [0, 0, 0], [0, 1, 1], [1, 0, 0]]
NAMES = [["ant", "cat"], ["cat"], [], ["bee", "cat"], ["ant"]]
POSITIVES, NEGATIVES = [2, 1, 3], [3, 4, 2]


def with_type(rows, feature):
    return Dataset.from_dict({"labels": rows}, features=Features({"labels": feature}))


class TorchData(torch.utils.data.Dataset):
    """Has no iterator, and no IndexError at its end."""

    def __len__(self):
        return len(IDS)

    def __getitem__(self, index):
        return {"input_ids": [1], "labels": torch.tensor(MULTI_HOT[index % len(IDS)])}


def assert_counts(counts, positives=POSITIVES, negatives=NEGATIVES):
    assert counts.positives.tolist() == positives
    assert counts.negatives.tolist() == negatives
    assert counts.positives.dtype == torch.int64


@pytest.mark.parametrize(
    "dataset",
    [
        Dataset.from_dict({"labels": IDS}),
        with_type(IDS, List(ClassLabel(names=["ant", "bee", "cat"]))),
        with_type(IDS, List(Value("uint8"))),
        Dataset.from_dict({"labels": MULTI_HOT}),
        with_type(MULTI_HOT, List(Value("bool"))),
        with_type(MULTI_HOT, List(Value("float32"))),
        with_type(MULTI_HOT, List(Value("int8"), length=3)),
        Dataset.from_dict({"labels": NAMES}),
        Dataset.from_dict({"labels": MULTI_HOT}).with_format("torch"),
        Dataset.from_dict({"labels": IDS, "text": ["x"] * 5}).with_transform(lambda rows: 1 / 0),
        IterableDataset.from_generator(lambda: ({"labels": row} for row in IDS)),
        Dataset.from_dict({"labels": MULTI_HOT}).to_iterable_dataset(),
        [{"labels": row} for row in IDS],
        ({"labels": np.array(row, bool)} for row in MULTI_HOT),
        IDS,
        [torch.tensor(row) for row in MULTI_HOT],
        NAMES,
        TorchData(),
    ],
    ids=lambda dataset: type(dataset).__name__,
)
def test_every_form_and_every_kind_of_data_set_gives_the_same_counts(dataset):
    assert_counts(count_labels(dataset))


def test_rows_are_counted_after_select_and_shuffle():
    dataset = Dataset.from_dict({"labels": IDS * 3}).select(range(5, 15)).shuffle(seed=0).select(range(10))
    assert_counts(count_labels(dataset), [4, 2, 6], [6, 8, 4])


def test_the_counts_of_many_chunks_add_up(monkeypatch):
    monkeypatch.setattr("hf_plm.label_columns.CHUNK_ROWS", 1)
    for rows in (IDS, MULTI_HOT, NAMES, [[], *IDS[:2], *IDS[3:]]):
        assert_counts(count_labels(Dataset.from_dict({"labels": rows})))
        assert_counts(count_labels(iter(rows)))


def test_num_labels_adds_the_labels_that_never_occur():
    assert_counts(count_labels(IDS, num_labels=4), [*POSITIVES, 0], [*NEGATIVES, 5])


def test_names_are_kept_and_sorted_or_in_the_given_order():
    assert count_labels(NAMES).label_names == ["ant", "bee", "cat"]
    counts = count_labels(NAMES, label_names=["cat", "bee", "dog", "ant"])
    assert_counts(counts, [3, 1, 0, 2], [2, 4, 5, 3])
    assert counts.label_names == ["cat", "bee", "dog", "ant"]
    assert count_labels(with_type(IDS, List(ClassLabel(names=["x", "y", "z"])))).label_names == ["x", "y", "z"]


@pytest.mark.parametrize("unknown", [np.nan, -100, None])
def test_unknown_labels_count_in_neither(unknown):
    rows = [[1, 0, unknown], [0, unknown, 1], [1, 1, 0]]
    assert_counts(count_labels(Dataset.from_dict({"labels": rows})), [2, 1, 1], [1, 1, 1])


def test_one_class_id_per_row():
    counts = count_labels(Dataset.from_dict({"labels": [0, 2, 2, 1, -100]}), num_labels=4)
    assert_counts(counts, [1, 1, 2, 0], [3, 3, 2, 4])
    for rows in (torch.tensor([0, 2, 1, 2]), [np.int64(0), np.int64(2), np.int64(1), np.int64(2)]):
        assert_counts(count_labels([{"labels": row} for row in rows]), [1, 1, 2], [3, 3, 2])


def test_labels_may_be_in_a_different_column():
    assert_counts(count_labels(Dataset.from_dict({"tags": IDS}), column="tags"))


def test_counts_can_be_given_directly():
    counts = LabelCounts(np.array([2, 1]), (3, 4), ["a", "b"])
    assert count_labels(counts) is counts
    assert_counts(counts, [2, 1], [3, 4])
    mapping = count_labels({"a": (2, 3), "b": (1, 4)})
    assert_counts(mapping, [2, 1], [3, 4])
    assert mapping.label_names == ["a", "b"]
    assert_counts(LabelCounts.from_mapping({"a": 2, "b": 1}, num_rows=5), [2, 1], [3, 4])
    assert_counts(LabelCounts.from_mapping({"a": np.array([2, 3]), "b": torch.tensor([1, 4])}), [2, 1], [3, 4])
    positives = torch.tensor([2, 1])
    copied = LabelCounts(positives, [3, 4])
    positives += 1
    assert_counts(copied, [2, 1], [3, 4])


def test_reordered_follows_the_names():
    counts = LabelCounts([2, 1, 5], [3, 4, 0], ["a", "b", "c"]).reordered(["c", "a", "b"])
    assert_counts(counts, [5, 2, 1], [0, 3, 4])


def test_two_labels_as_zero_and_one_need_a_declared_form():
    rows = Dataset.from_dict({"labels": [[0, 1], [1, 0]]})
    with pytest.raises(ValueError, match="can be read in 2 ways, as ids and as multi_hot.*Pass label_format='ids'"):
        count_labels(rows)
    assert_counts(count_labels(rows, label_format="ids"), [2, 2], [0, 0])
    assert_counts(count_labels(rows, label_format="multi_hot"), [1, 1], [1, 1])


def test_one_unambiguous_row_decides_between_two_readings():
    # A list of ids has no class twice, so these rows must be multi-hot.
    assert_counts(count_labels([[0, 1], [1, 1]]), [1, 2], [1, 0])
    assert_counts(count_labels([[0, 1], [0, 0]]), [0, 1], [2, 1])


@pytest.mark.parametrize(
    ("dataset", "arguments", "message"),
    [
        ([], {}, "the data set is empty"),
        (Dataset.from_dict({"labels": []}), {}, "the data set is empty"),
        ([[0, 0, 0], [0, 0, 0]], {}, "not one positive label in 2 rows"),
        ([[], []], {}, "not one positive label in 2 rows"),
        (Dataset.from_dict({"tags": IDS}), {}, "there is no column 'labels' to count labels in, only 'tags'"),
        ([{"tags": [0]}], {}, "there is no column 'labels'"),
        (
            DatasetDict({"train": Dataset.from_dict({"labels": IDS})}),
            {},
            r"a dictionary of splits.*dataset\['train'\]",
        ),
        ([[0], [7], [1, 2]], {"num_labels": 5}, r"row 1: the class id 7 is not in \[0, 5\)"),
        ([[0], [-1, 2]], {"label_format": "ids"}, "row 1: the class id -1 is not 0 or more"),
        ([[0, 3], [1, 4, 1]], {}, "row 1: the class 1 is listed twice"),
        ([["a"], ["b", "b"]], {}, "row 1: the class 'b' is listed twice"),
        ([["a"], ["z"]], {"label_names": ["a", "b"]}, "row 1: 'z' is not among the 2 label names"),
        ([[0.0, 1.0], [0.5, 1.0]], {}, "row 1: the value 0.5 is neither 1, 0 nor unknown"),
        ([[0.0, 1.0], [0.0]], {}, "row 1: 1 values where there are 2 labels"),
        ([[1, 0, 1, 1]], {"num_labels": 3, "label_format": "multi_hot"}, "row 0: 4 values where there are 3 labels"),
        ([[0, 2], None], {}, "row 1: the labels are null"),
        ([["a"], ["b"], [1]], {}, r"row 2: \[1\] is not a label row of the same kind as those before"),
        ([[0, 1], [True, False]], {}, r"row 1: \[True, False\] is not a label row of the same kind as those before"),
        (LabelCounts([1], [1]), {"num_labels": 5}, "there are counts of 1 labels, and num_labels is 5"),
        (
            Dataset.from_dict({"tags": IDS}).with_transform(lambda rows: {"labels": rows["tags"]}),
            {},
            "column 'labels' is made by the data set's transform",
        ),
        ([["a"]], {"label_format": "ids"}, "'a' cannot be read as label_format='ids'; it fits 'names'"),
        ([0.5, 1.5], {}, "labels of the type double"),
        ([[[0, 1]]], {}, "labels of the type list"),
        (NAMES, {"num_labels": 2}, "the rows hold 3 distinct label names and num_labels is 2"),
        (NAMES, {"num_labels": 4}, "the rows hold 3 distinct label names and num_labels is 4"),
        (IDS, {"label_format": "list"}, "label_format is 'list'; use"),
        (IDS, {"num_labels": 3, "label_names": ["a"]}, "has 1 label names and num_labels is 3"),
        ({"a": 3}, {}, "without its negatives"),
        ({"a": (3, 2, 1)}, {}, r"the count of label 'a' is \(3, 2, 1\)"),
    ],
)
def test_errors_name_bad_data(dataset, arguments, message):
    with pytest.raises(ValueError, match=message):
        count_labels(dataset, **arguments)


def test_names_in_a_different_order_than_the_columns_are_reordered_and_other_names_are_refused():
    dataset = with_type(IDS, List(ClassLabel(names=["ant", "bee", "cat"])))
    counts = count_labels(dataset, label_names=["bee", "ant", "cat"])
    assert_counts(counts, [1, 2, 3], [4, 3, 2])
    assert counts.label_names == ["bee", "ant", "cat"]
    with pytest.raises(ValueError, match=r"column 'labels' are \['ant', 'bee', 'cat'\], those of label_names are"):
        count_labels(dataset, label_names=["bee", "ant", "cow"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [3]), "positives has 2 labels and negatives 1"),
        (([1, -2], [3, 4]), "positives holds -2; a count cannot be negative"),
        (([1, 2], [3, 0.5]), "negatives holds a count that is not a whole number"),
        (([1, 2], [3, np.nan]), "negatives holds a count that is not a whole number"),
        (([[1]], [[2]]), r"positives has shape \(1, 1\)"),
        (([1, 2], [3, 4], ["a", "a"]), "label_names has 2 names, 1 of them distinct, for 2 labels"),
    ],
)
def test_errors_name_impossible_counts(arguments, message):
    with pytest.raises(ValueError, match=message):
        LabelCounts(*arguments)


def test_groups_are_cut_by_frequency_and_hold_each_label_once():
    positives = torch.tensor([5, 90, 1, 30, 30, 2, 60, 10, 8, 0])
    groups = LabelCounts(positives, 100 - positives).groups()
    assert groups["head"].nonzero().flatten().tolist() == [1]
    assert groups["medium"].nonzero().flatten().tolist() == [3, 4, 6, 7]
    assert groups["tail"].nonzero().flatten().tolist() == [0, 2, 5, 8, 9]
    wider = LabelCounts(positives, 100 - positives).groups(head=0.3, tail=0.2)
    assert wider["head"].nonzero().flatten().tolist() == [1, 3, 6]  # the first of two labels with the same frequency
    assert wider["tail"].nonzero().flatten().tolist() == [2, 9]
    with pytest.raises(ValueError, match="a sum of at most 1"):
        LabelCounts(positives, 100 - positives).groups(head=0.6, tail=0.6)


def test_slow_counting_of_torch_rows_shows_its_progress(monkeypatch, messages, capsys):
    assert_counts(count_labels(TorchData()))
    assert messages.text == "" and "Counting labels" not in capsys.readouterr().err  # it was quick
    monkeypatch.setattr(label_columns, "SLOW_SECONDS", 0.0)
    assert_counts(count_labels(TorchData()))
    assert "loads all 5 rows of the TorchData" in messages.text and "PLMTrainer(label_counts=" in messages.text
    assert len({id(record) for record in messages.records}) == 1
    assert "Counting labels" in capsys.readouterr().err
    messages.clear()
    assert_counts(count_labels([{"labels": row} for row in IDS]))
    assert messages.text == ""  # these rows were already computed


def test_with_label_counts_no_torch_row_is_made(make_bert, make_args, monkeypatch):
    counts = count_labels(MULTI_HOT)
    monkeypatch.setattr(TorchData, "__getitem__", lambda self, index: 1 / 0)
    trainer = PLMTrainer(make_bert(3), make_args(), train_dataset=TorchData(), label_counts=counts)
    assert_counts(trainer.label_counts)
