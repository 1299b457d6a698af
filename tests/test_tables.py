"""Label texts in a file become lists. Their cells show the separator; if they do not, an error asks for it."""

import pytest
from datasets import Dataset, DatasetDict, load_dataset

from hf_plm.tables import split_label_text


def read(cells, separator=None, **others):
    data = DatasetDict(train=Dataset.from_dict({"labels": cells, **others}))
    return split_label_text(data, "labels", separator)["train"]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["a|b", "b", "", None, "c d|"], [["a", "b"], ["b"], [], [], ["c d"]]),
        (["a, b", "b,", "a"], [["a", "b"], ["b"], ["a"]]),
        (["a;b", "b"], [["a", "b"], ["b"]]),
        (["a", "b", ""], [["a"], ["b"], []]),
        (["['cat', 'dog']", "[]", "", '["it\'s"]'], [["cat", "dog"], [], [], ["it's"]]),
        (["[0, 1, 1]", "[1, 0, 0]"], [[0, 1, 1], [1, 0, 0]]),
        (["[0.0, 1.0]", "[1.0, 0.0]"], [[0.0, 1.0], [1.0, 0.0]]),
        ([None, None], [[], []]),
        ([[1, 2], [0]], [[1, 2], [0]]),  # not text
    ],
)
def test_cells_become_lists(cells, expected):
    assert read(cells)["labels"][:] == expected


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["cat dog", "dog"], "column 'labels' holds text such as 'cat dog', with blanks; give the separator"),
        (["a|b", "c, d"], r"holds text such as 'a\|b', with '\|' and ','; give the separator"),
        (["['a']", "b, c"], "column 'labels', row 1: 'b, c' is not a list of names or numbers"),
        (["['a'", "['b']"], "row 0: '\\['a'' is not a list"),
        (["['a']", "[1]"], "holds names in some rows and numbers in others"),
    ],
)
def test_ambiguous_cells_are_an_error_that_asks(cells, message):
    with pytest.raises(ValueError, match=message):
        read(cells)


@pytest.mark.parametrize(
    ("cells", "separator", "expected"),
    [
        (["cat dog", "dog"], " ", [["cat", "dog"], ["dog"]]),
        (["New York", "Rome, Italy"], "", [["New York"], ["Rome, Italy"]]),
        (["a|b, c"], "|", [["a", "b, c"]]),
        (["a::b", "[x]"], "::", [["a", "b"], ["[x]"]]),
    ],
)
def test_the_separator_can_be_given(cells, separator, expected):
    assert read(cells, separator)["labels"][:] == expected


def test_other_columns_and_leading_rows_without_labels_do_not_matter(tmp_path):
    rows = 1500
    Dataset.from_dict({"text": ["x"] * rows, "labels": [""] * (rows - 1) + ["a|b"]}).to_csv(tmp_path / "own.csv")
    data = load_dataset("csv", data_files=str(tmp_path / "own.csv"), cache_dir=str(tmp_path))
    read = split_label_text(data, "labels")["train"]
    assert read["labels"][:2] == [[], []]
    assert read["labels"][-1] == ["a", "b"]
    assert read["text"][0] == "x"


def test_a_message_names_the_separator_that_was_found(caplog):
    from transformers.utils import logging

    logging.get_logger("transformers").addHandler(caplog.handler)
    read(["a|b"])
    assert "the labels of a row are separated by '|'" in caplog.text
