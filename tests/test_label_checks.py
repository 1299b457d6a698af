"""Labels that are neither 1, 0 nor unknown are refused: at once on a CPU, at the next synchronisation on a GPU.

The checks for a GPU are tested on a CPU, with `hf_plm.label_checks.can_read` replaced.
"""

import pytest
import torch

from hf_plm import LabelCounts, PLMLoss
from hf_plm.label_checks import LabelChecks
from hf_plm.label_tensors import wrong_class_ids, wrong_labels

NAMES = ["dog", "c\nat", "bird"]
COUNTS = LabelCounts([50, 50, 50], [50, 50, 50], NAMES)
WRONG = [
    (0.95, torch.float32, "0.95"),
    (0.05, torch.float16, "0.0499878"),
    (0.95, torch.bfloat16, "0.949"),
    (1 + 1e-9, torch.float64, "1"),
    (-1, torch.float32, "-1"),
    (-1, torch.int64, "-1"),
    (2, torch.int8, "2"),
    (2, torch.int64, "2"),
    (255, torch.uint8, "255"),
    (156, torch.uint8, "156"),
    (255, torch.float16, "255"),
    (torch.inf, torch.float32, "inf"),
]
MODES = ["eager", "compiled", "evaluation"]
COMPILED = (torch.float32, torch.float64, torch.int64, torch.uint8)  # each further dtype takes seconds
IN_ALL_MODES = [(*each, mode) for each in WRONG for mode in MODES if mode != "compiled" or each[1] in COMPILED]


@pytest.fixture
def cannot_read(monkeypatch):
    monkeypatch.setattr("hf_plm.label_checks.can_read", lambda labels: False)


def make(mode, **kwargs):
    return PLMLoss(COUNTS, initial_ratio="dataset", fused=mode == "compiled", **kwargs).train(mode != "evaluation")


def batch(value, dtype, rows=4):
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 1], [1, 1, 1]]).to(dtype)[-rows:]
    if value is not None:
        labels[-1, 1:] = value
    return torch.zeros(rows, 3), labels


@pytest.mark.parametrize(("value", "dtype", "shown", "mode"), IN_ALL_MODES)
def test_a_wrong_label_is_refused_with_value_and_place_before_it_counts(value, dtype, shown, mode):
    plm_loss = make(mode)
    with pytest.raises(
        ValueError, match=rf"row 3 of the batch, label 'c\\nat': the label is {shown}.*must be 1, 0, or"
    ):
        plm_loss(*batch(value, dtype))
    assert plm_loss.state.num_batches == 0
    assert plm_loss.state.histograms.sum() == 0
    plm_loss.raise_for_wrong_labels()  # it was reported once


@pytest.mark.parametrize(("value", "dtype", "shown", "mode"), IN_ALL_MODES)
def test_where_reading_values_would_wait_a_wrong_label_is_refused_at_the_end_of_the_epoch(
    value, dtype, shown, mode, cannot_read
):
    plm_loss = make(mode)
    plm_loss(*batch(None, dtype))
    plm_loss.raise_for_wrong_labels()
    plm_loss(*batch(None, dtype))
    plm_loss(*batch(value, dtype))
    plm_loss(*batch(2, dtype, rows=2))  # not the first
    before = plm_loss.state.history.clone()
    with pytest.raises(ValueError, match=rf"row 3 of .*label 'c\\nat': the label is {shown}.* \(2 rows have wrong"):
        plm_loss.end_epoch()
    assert torch.equal(plm_loss.state.history, before)
    plm_loss.raise_for_wrong_labels()  # it was reported once


def test_no_value_is_read_where_reading_would_wait(cannot_read):
    """On the device "meta" there are no values: reading one is an error."""
    checks = LabelChecks(3, None, are_class_ids=False)
    for _ in range(2):
        labels = torch.zeros(4, 3, device="meta")
        checks.check(wrong_labels(labels), labels)
        ids = torch.zeros(4, 2, dtype=torch.int64, device="meta")
        checks.check(wrong_class_ids(ids, 3), ids)
    with pytest.raises(NotImplementedError):
        checks.raise_found()


@pytest.mark.parametrize("rows", [4, 1])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["at once", "later"])
def test_right_labels_are_never_refused(rows, mode, way, request):
    if way == "later":
        request.getfixturevalue("cannot_read")
    plm_loss = make(mode)
    dtypes = (torch.float32, torch.int64, torch.uint8, torch.bool)
    for dtype in dtypes if mode == "compiled" else (*dtypes, torch.float64, torch.float16, torch.bfloat16, torch.int8):
        logits, labels = batch(None, dtype, rows)
        assert plm_loss(logits, labels).isfinite()
        if dtype.is_signed:
            labels[-1, 0] = -100
            plm_loss(logits, labels)
        if dtype.is_floating_point:
            labels[-1, 1] = torch.nan
            plm_loss(logits, labels)
    plm_loss(torch.zeros(0, 3), torch.zeros(0, 3))
    plm_loss.raise_for_wrong_labels()


IDS = torch.tensor([[0, 2], [-1, -1], [-100, -100], [1, -100]])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("row", "place", "value"), [(0, 1, 3), (3, 1, -7), (1, 1, 2), (2, 0, 10**6), (3, 0, -1)])
def test_a_wrong_class_id_is_refused(row, place, value, mode, monkeypatch):
    ids = IDS.clone()
    ids[row, place] = value
    shown = -1 if row == 1 else value  # not -1, which would make the whole row unknown
    message = rf"row {row} of the batch: the class id {shown} is not in \[0, 3\)"
    with pytest.raises(ValueError, match=message):
        make(mode, sparse=True)(torch.zeros(4, 3), ids)
    monkeypatch.setattr("hf_plm.label_checks.can_read", lambda labels: False)
    plm_loss = make(mode, sparse=True)
    plm_loss(torch.zeros(4, 3), IDS)
    plm_loss(torch.zeros(4, 3), ids)
    with pytest.raises(ValueError, match=message):
        plm_loss.raise_for_wrong_labels()


def test_labels_without_names_are_numbered():
    with pytest.raises(ValueError, match="row 1 of the batch, label 0: the label is 3;"):
        PLMLoss(LabelCounts([1], [2]))(torch.zeros(2, 1), torch.tensor([[1], [3]]))
