"""Labels of tables in which rows times labels exceed 32 bits."""

import pyarrow as pa
import pytest
from datasets import Dataset

from hf_plm import count_labels

ROWS, LABELS = 40_000, 2**17
"""Row r and row r + 2 ** 15 would have the same 32-bit key `row * labels + label`."""


def one_label_each(last_row):
    """Label 7 in all rows except the last, whose labels are given; the first row has also the last label."""
    values = [7] * (ROWS - 1) + last_row
    offsets = [*range(ROWS), ROWS - 1 + len(last_row)]
    labels = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values, pa.int64()))
    return Dataset(pa.table({"labels": labels}))


def test_equal_labels_of_different_rows_are_not_duplicates():
    counts = count_labels(one_label_each([LABELS - 1]), label_format="ids")
    assert counts.num_labels == LABELS
    assert counts.positives[7] == ROWS - 1
    assert counts.positives[LABELS - 1] == 1


@pytest.mark.parametrize("label", [7, LABELS - 2])
def test_a_label_twice_in_a_row_is_found_there(label):
    with pytest.raises(ValueError, match=f"row {ROWS - 1}: the class {label} is listed twice"):
        count_labels(one_label_each([label, LABELS - 1, label]), label_format="ids")
