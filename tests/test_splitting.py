"""In splits and folds, every label has its share in each part, and each row is in exactly one part."""

import tracemalloc

import numpy as np
import pytest
from datasets import ClassLabel, Dataset
from test_sampling import FORMS, IDS

from hf_plm import count_labels, multilabel_folds, train_test_split_multilabel


def rows_of(part):
    return part["row"][:]


def random_ids(num_rows, num_labels, positives_per_row, seed):
    generator = np.random.default_rng(seed)
    rows = generator.random((num_rows, num_labels)) < positives_per_row / num_labels
    return [np.flatnonzero(row).tolist() for row in rows]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "sizes", [{"test_size": 0.1}, {"test_size": 0.3}, {"validation_size": 0.2, "test_size": 0.1}, {"test_size": 37}]
)
def test_every_part_has_its_size_and_its_share_of_every_label(form, sizes):
    data = Dataset.from_dict({"row": range(400), "labels": FORMS[form]})
    split = train_test_split_multilabel(data, **sizes, seed=3)
    whole = count_labels(data, 3).positives
    shares = {name.removesuffix("_size"): size if size < 1 else size / 400 for name, size in sizes.items()}
    shares = {"train": 1 - sum(shares.values())} | shares
    assert list(split) == list(shares)
    assert sorted(row for part in split.values() for row in rows_of(part)) == list(range(400))
    for name, share in shares.items():
        assert len(split[name]) == round(share * 400)
        assert (count_labels(split[name], 3).positives - share * whole).abs().max() <= 1
    again = rows_of(train_test_split_multilabel(data, **sizes, seed=3)["test"])
    assert again == rows_of(split["test"]) == sorted(again)
    assert rows_of(train_test_split_multilabel(data, **sizes, seed=4)["test"]) != again


@pytest.mark.parametrize("form", FORMS)
def test_folds_distribute_rows_and_labels_evenly(form):
    data = Dataset.from_dict({"row": range(399), "labels": FORMS[form][:399]})
    folds = multilabel_folds(data, 5, seed=3)
    whole = count_labels(data, 3).positives
    assert sorted(row for fold in folds for row in rows_of(fold["test"])) == list(range(399))
    assert sorted(len(fold["test"]) for fold in folds) == [79, 80, 80, 80, 80]
    for fold in folds:
        assert sorted(rows_of(fold["train"]) + rows_of(fold["test"])) == list(range(399))
        assert all(rows_of(part) == sorted(rows_of(part)) for part in fold.values())
        assert (count_labels(fold["test"], 3).positives - whole / 5).abs().max() <= 1
    again, other = (rows_of(multilabel_folds(data, 5, seed)[0]["test"]) for seed in (3, 4))
    assert rows_of(folds[0]["test"]) == again != other


@pytest.mark.filterwarnings("ignore:.*so that every label is in every part")
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["two", "three", "folds"])
def test_each_label_is_in_every_part_or_in_as_many_as_it_has_positives(kind, seed):
    data = Dataset.from_dict({"labels": random_ids(200, 60, 3 * 60 / 200, seed)})
    arguments = {"seed": seed, "num_labels": 60, "label_format": "ids"}
    if kind == "folds":
        parts = [fold["test"] for fold in multilabel_folds(data, 4, **arguments)]
    else:
        validation_size = 0.1 if kind == "three" else None
        parts = list(train_test_split_multilabel(data, 0.1, validation_size, **arguments).values())
    totals = count_labels(data, 60, label_format="ids").positives
    assert ((totals >= 2) & (totals <= 3)).sum() > 10
    in_parts = sum((count_labels(part, 60, label_format="ids").positives > 0).int() for part in parts)
    assert in_parts.tolist() == totals.clamp(max=len(parts)).tolist()
    assert max(len(part) for part in parts[1:]) < 60


def test_a_warning_says_that_the_rows_allow_no_such_split():
    rows = Dataset.from_dict({"labels": [["a", "b"], ["b", "c"], ["a", "c"]]})  # two rows must be in the same part
    with pytest.warns(UserWarning, match=r"labels are missing from a part, because .* rare labels: \['[abc]'\]"):
        train_test_split_multilabel(rows, 0.4)
    with pytest.warns(UserWarning, match=r"labels are missing from a part, because .* rare labels: \['[abc]'\]"):
        multilabel_folds(rows, 2)


def test_a_warning_says_that_a_part_is_larger_than_requested():
    ids = [[label] for label in range(20) for _ in range(2)]
    with pytest.warns(UserWarning, match="test has 20 rows instead of 4, so that every label is in every part"):
        split = train_test_split_multilabel(Dataset.from_dict({"labels": ids}), 4, label_format="ids")
    assert [len(part) for part in split.values()] == [20, 20]


@pytest.mark.parametrize("unknown", [float("nan"), -100.0])
def test_unknown_labels_are_not_positive(unknown):
    known = [[0.0, 1.0]] * 40 + [[1.0, 0.0]] * 40
    data = Dataset.from_dict({"row": range(400), "labels": known + [[0.0, unknown]] * 320})
    split = train_test_split_multilabel(data, 0.25)
    assert sum(row < 40 for row in rows_of(split["test"])) == 10
    assert sum(40 <= row < 80 for row in rows_of(split["test"])) == 10
    assert len(split["test"]) == 100


def test_one_class_per_row_is_stratified():
    classes = [0] * 300 + [1] * 80 + [2] * 10 + [-100] * 10  # the last are unknown
    data = Dataset.from_dict({"label": classes})
    for part in (data, data.cast_column("label", ClassLabel(names=["a", "b", "c"]))):
        split = train_test_split_multilabel(part, 0.1, 0.2, column="label")
        counts = {name: np.unique(rows["label"][:], return_counts=True)[1].tolist() for name, rows in split.items()}
        assert counts == {"train": [7, 210, 56, 7], "validation": [2, 60, 16, 2], "test": [1, 30, 8, 1]}


@pytest.mark.filterwarnings(
    "ignore:.*so that every label is in every part", "ignore:these labels are missing from a part"
)
def test_thousands_of_labels_need_memory_only_for_the_positives():
    data = Dataset.from_dict({"labels": random_ids(5_000, 5_000, 3, seed=0)})
    num_positives = int(count_labels(data, 5_000, label_format="ids").positives.sum())
    tracemalloc.start()
    train_test_split_multilabel(data, 0.1, 0.1, num_labels=5_000, label_format="ids")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * num_positives < 5_000 * 5_000 / 8


@pytest.mark.parametrize("size", [0, 0.0, 1.0, 1.5, -0.1, -3, True, float("nan"), "0.1"])
@pytest.mark.parametrize("argument", ["test_size", "validation_size"])
def test_an_error_names_a_size_out_of_range(argument, size):
    with pytest.raises(ValueError, match=f"{argument} is {size!r}; it must be a share of the rows, a float between"):
        train_test_split_multilabel(Dataset.from_dict({"labels": IDS}), **{argument: size})


@pytest.mark.parametrize(
    "sizes, message",
    [
        ({"test_size": 400}, "test_size is 400; this leaves no row for train: the data set has 400 rows"),
        (
            {"test_size": 0.5, "validation_size": 200},
            "validation_size is 200 and test_size is 0.5; this leaves no row",
        ),
    ],
)
def test_sizes_that_leave_no_row_to_train_are_an_error(sizes, message):
    with pytest.raises(ValueError, match=message):
        train_test_split_multilabel(Dataset.from_dict({"labels": IDS}), **sizes)


@pytest.mark.parametrize("num_folds", [1, 0, 2.5, "5", True])
def test_an_error_names_a_wrong_number_of_folds(num_folds):
    with pytest.raises(ValueError, match=f"num_folds is {num_folds!r}; it must be a whole number, 2 or more"):
        multilabel_folds(Dataset.from_dict({"labels": IDS}), num_folds)
    with pytest.raises(ValueError, match="num_folds is 401, but the data set has only 400 rows"):
        multilabel_folds(Dataset.from_dict({"labels": IDS}), 401)
