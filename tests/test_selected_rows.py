"""Shuffled or selected data sets are read in storage order, with the same counts as row by row."""

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, concatenate_datasets

from hf_plm import count_labels
from hf_plm.counting import check_labels, positive_entries, read_labels
from hf_plm.label_columns import label_rows
from hf_plm.label_space import LabelSpace

ROWS = 60
IDS = [[i % 5] + ([5 + i % 2] if i % 3 else []) for i in range(ROWS)]
NAMES = list("gfedcba")
MULTI_HOT = [[float(label in ids) for label in range(7)] for ids in IDS]
UNKNOWN = [
    [None if (row + label) % 11 == 0 else v for label, v in enumerate(each)] for row, each in enumerate(MULTI_HOT)
]
FORMS = {
    "ids": Dataset.from_dict({"labels": IDS}),
    "some without a positive": Dataset.from_dict({"labels": [ids if row % 4 else [] for row, ids in enumerate(IDS)]}),
    "ids with names": Dataset.from_dict({"labels": IDS}, Features({"labels": List(ClassLabel(names=NAMES))})),
    "names": Dataset.from_dict({"labels": [[NAMES[label] for label in ids] for ids in IDS]}),
    "multi-hot": Dataset.from_dict({"labels": MULTI_HOT}),
    "multi-hot integers": Dataset.from_dict({"labels": [[int(v) for v in each] for each in MULTI_HOT]}),
    "unknown": Dataset.from_dict({"labels": UNKNOWN}),
    "-100": Dataset.from_dict({"labels": [[-100.0 if v is None else v for v in each] for each in UNKNOWN]}),
    "fixed size": Dataset.from_dict({"labels": UNKNOWN}, Features({"labels": List(Value("float32"), length=7)})),
    "by name": Dataset.from_dict({"labels": [dict(zip(NAMES, each, strict=True)) for each in UNKNOWN]}),
    "class id": Dataset.from_dict({"labels": [ids[0] if row % 7 else -100 for row, ids in enumerate(IDS)]}),
}
SELECTIONS = {
    "shuffled": lambda rows: rows.shuffle(seed=0),
    "one": lambda rows: rows.shuffle(seed=9).select([5]),
    "repeated": lambda rows: rows.select([3, 50, 3, 3, 7, 50]),
    "nested": lambda rows: rows.shuffle(seed=1).select(range(5, 50)).select([1, 40, 2, 2]).shuffle(seed=2),
    "filtered": lambda rows: rows.filter(lambda row, index: index % 3 == 1, with_indices=True).shuffle(seed=0),
    "sharded": lambda rows: rows.shuffle(seed=3).shard(3, 1),
    "formatted": lambda rows: rows.shuffle(seed=4).with_format("numpy"),
    "transformed": lambda rows: rows.shuffle(seed=5).with_transform(lambda batch: {"other": batch["labels"]}),
    "concatenated": lambda rows: concatenate_datasets([rows.select([9, 4]), rows, rows.shuffle(seed=6)]),
    "concatenated and shuffled": lambda rows: concatenate_datasets([rows, rows, rows.select([1])]).shuffle(seed=7),
    "beside others": lambda rows: (
        concatenate_datasets([rows, Dataset.from_dict({"text": ["a"] * ROWS})], axis=1)
        .shuffle(seed=8)
        .rename_column("text", "words")
    ),
}


@pytest.fixture(autouse=True)
def few_rows_at_a_time(monkeypatch):
    monkeypatch.setattr("hf_plm.label_columns.CHUNK_ROWS", 8)
    monkeypatch.setattr("hf_plm.label_columns.NEAR_ROWS", 5)


def row_by_row(rows):
    """The same rows without an indices mapping."""
    return rows.with_format(None).flatten_indices()


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("form", FORMS)
def test_they_are_counted_as_row_by_row(form, selection):
    rows = SELECTIONS[selection](FORMS[form])
    assert rows._indices is not None
    num_labels = None if form == "names" else 7
    (found, found_form), (expected, expected_form) = (
        read_labels(each, num_labels) for each in (rows, row_by_row(rows))
    )
    assert found_form == expected_form
    assert found.label_names == expected.label_names
    assert found.positives.tolist() == expected.positives.tolist()
    assert found.negatives.tolist() == expected.negatives.tolist()
    assert found.positives.any()
    entries = [positive_entries(each, found, "labels", found_form) for each in (rows, row_by_row(rows))]
    assert all(np.array_equal(one, other) for one, other in zip(*entries, strict=True))


def test_each_row_is_read_once_and_few_at_a_time():
    rows = SELECTIONS["concatenated and shuffled"](FORMS["ids"])
    parts = list(label_rows(rows, "labels"))
    assert sorted(np.concatenate([part.numbers for part in parts])) == list(range(2 * ROWS + 1))
    assert 8 <= max(len(part.lengths) for part in parts[:-1]) < 16
    repeated = list(label_rows(FORMS["ids"].select([3] * 100), "labels"))
    assert [len(part.lengths) for part in repeated] == [8] * 12 + [4]


@pytest.mark.parametrize(
    ("wrong", "message"), [([0, -3], "the class id -3 is not"), ([1, 1], "the class 1 is listed")]
)
def test_an_error_gives_the_number_of_a_wrong_row_among_those_selected(wrong, message):
    rows = Dataset.from_dict({"labels": [*IDS, wrong]}).shuffle(seed=0)
    row = rows["labels"][:].index(wrong)
    with pytest.raises(ValueError, match=f"column 'labels', row {row}: {message}"):
        count_labels(rows, 7, label_format="ids")
    with pytest.raises(ValueError, match=f"eval_dataset does not .* row {row}: {message}"):
        check_labels(rows, LabelSpace(7, None, "labels", "ids"), "eval_dataset")


def test_an_error_gives_the_number_of_a_null_row_among_those_selected():
    rows = Dataset.from_dict({"labels": [*IDS, None]}).select([5, 2, ROWS, 1])
    with pytest.raises(ValueError, match="row 2: the labels are null"):
        count_labels(rows)


def test_labels_made_by_a_transform_are_not_counted():
    rows = FORMS["ids"].shuffle(seed=0).rename_column("labels", "tags")
    with pytest.raises(ValueError, match="column 'labels' is made by the data set's transform"):
        count_labels(rows.with_transform(lambda batch: {"labels": batch["tags"]}))
    with pytest.raises(ValueError, match="there is no column 'labels'"):
        count_labels(rows)


def test_rows_in_files_are_counted_as_row_by_row(tmp_path):
    FORMS["ids"].save_to_disk(tmp_path, num_shards=3)
    rows = datasets.load_from_disk(tmp_path).shuffle(seed=0)
    assert len(rows.data.column(0).chunks) > 1
    assert count_labels(rows, 7).positives.tolist() == count_labels(FORMS["ids"], 7).positives.tolist()
