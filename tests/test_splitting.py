"""Every label has its share on both sides of a split."""

import numpy as np
import pytest
from datasets import Dataset
from test_sampling import FORMS, IDS

from hf_plm import count_labels, train_test_split_multilabel


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("test_size", [0.1, 0.3])
def test_a_split_gives_every_label_its_share_on_both_sides(form, test_size):
    data = Dataset.from_dict({"row": range(400), "labels": FORMS[form]})
    split = train_test_split_multilabel(data, test_size, seed=3)
    whole = count_labels(data, 3).positives
    assert sorted(split["train"]["row"][:] + split["test"]["row"][:]) == list(range(400))
    assert len(split["test"]) == pytest.approx(400 * test_size, abs=4)
    assert (count_labels(split["test"], 3).positives - test_size * whole).abs().max() <= 3
    again = train_test_split_multilabel(data, test_size, seed=3)["test"]["row"][:]
    assert again == split["test"]["row"][:] == sorted(again)
    assert train_test_split_multilabel(data, test_size, seed=4)["test"]["row"][:] != again


@pytest.mark.parametrize("seed", range(5))
def test_no_label_with_two_positives_is_missing_from_a_side(seed):
    generator = np.random.default_rng(seed)
    ids = [np.flatnonzero(row).tolist() for row in generator.random((200, 60)) < 3 / 200]
    data = Dataset.from_dict({"labels": ids})
    counts = count_labels(data, 60, label_format="ids").positives
    assert ((counts >= 2) & (counts <= 3)).sum() > 10
    split = train_test_split_multilabel(data, 0.1, seed=seed, label_format="ids")
    for side in split.values():
        assert (count_labels(side, 60, label_format="ids").positives[counts >= 2] > 0).all()
    assert len(split["test"]) < 60


def test_a_split_that_no_rows_allow_is_said():
    rows = Dataset.from_dict({"labels": [["a", "b"], ["b", "c"], ["a", "c"]]})  # two of the three must lie together
    with pytest.warns(UserWarning, match=r"no split has these labels on both sides: \['[abc]'\]"):
        train_test_split_multilabel(rows, 0.4)


@pytest.mark.parametrize("test_size", [0, 1, 200])
def test_a_test_size_out_of_range_is_named(test_size):
    with pytest.raises(ValueError, match=f"test_size is {test_size}; it must be a share of the rows"):
        train_test_split_multilabel(Dataset.from_dict({"labels": IDS}), test_size)
