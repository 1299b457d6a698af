"""The pictures of a run: ideal ratios, with names if there are few labels, and calibration."""

import numpy as np
import pytest
import scenarios
import torch
from matplotlib.text import Text
from scipy.special import expit, logit

from hf_plm import LabelCounts, PLMLoss
from hf_plm.decisions import log_odds_shift
from hf_plm.drawing import spread
from hf_plm.plots import FEW_ENTRIES, MOST_LINES, plot_calibration, plot_ratios

pytestmark = pytest.mark.usefixtures("rendered")


@pytest.fixture(params=[1, 10, 200], ids=lambda num_labels: f"{num_labels} labels")
def labels(request):
    return scenarios.long_tailed_labels(request.param)


@pytest.fixture
def counts(labels):
    return scenarios.named_counts(labels)


@pytest.fixture
def state(labels, counts):
    plm_loss = PLMLoss(counts)
    for _ in range(3):
        plm_loss(torch.tensor(2 * labels - 1.5), torch.tensor(labels))
        plm_loss.end_epoch()
    return plm_loss.state


def state_of(histograms, prior="ideal", mean_shift=0.0):
    """A state that has measured these histograms since its last update."""
    num_labels = histograms.shape[1]
    state = PLMLoss(LabelCounts([50] * num_labels, [50] * num_labels), prior=prior).state
    state.ideal_ratio = torch.full((num_labels,), float(np.exp(mean_shift)))
    state.shifts[-1], state.shift_in_force = state.mask_shift(), state.shift()
    state.histograms, state.is_measuring = torch.as_tensor(histograms), True
    return state


def save(figure, tmp_path):
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5_000
    assert figure.get_size_inches()[0] == 8


def test_ratios_are_drawn_from_their_start_on(state, tmp_path):
    figure = plot_ratios(state)
    save(figure, tmp_path)
    drawn = np.array([line.get_ydata() for line in figure.axes[0].lines if len(line.get_ydata()) == 4])
    shifts = state.shifts.exp()[:, state.has_ratio].T.numpy()
    assert len(drawn) - len(shifts) == (3 if state.num_labels == 200 else 0)  # the medians
    for row in shifts:
        assert (np.abs(drawn - row).max(1) < 1e-6).any()


def test_few_labels_are_named_at_the_ends_of_their_lines_and_many_are_not(state):
    figure = plot_ratios(state)
    (axis,) = figure.axes
    shown = {text.get_text(): text for text in axis.texts}
    has_ratio = state.has_ratio.tolist()
    expected = {f"topic {index}" for index, has in enumerate(has_ratio) if has}
    assert set(shown) == (expected if state.num_labels <= 40 else set())
    ends = [state.shifts[-1, int(name.split()[1])].item() for name in shown]
    heights = [text.xyann[1] for text in shown.values()]
    assert np.array_equal(np.argsort(ends, kind="stable"), np.argsort(heights, kind="stable"))
    groups = [text.get_text() for text in figure.legends[0].get_texts()]
    assert groups == [name for name, mask in state.groups().items() if (mask & state.has_ratio).any()]
    missing = has_ratio.count(False)
    assert (f"not shown: {missing} labels" in axis.get_xlabel()) is bool(missing)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_the_names_of_forty_labels_do_not_overlap(shift):
    """The lines of the ideal ratios all end at the same value, in the middle or at the top."""
    state = PLMLoss(LabelCounts([10] * 40, [90] * 40, [f"a long name, number {index}" for index in range(40)])).state
    state.shifts = torch.tensor([[0.0] * 40, [shift] * 40])
    state.history_updates = torch.arange(2)
    figure = plot_ratios(state)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(name) for name in figure.axes[0].texts]  # without the lines that lead to the names
    boxes.sort(key=lambda box: box.y0)
    assert len(boxes) == 40
    assert all(below.y1 <= above.y0 for below, above in zip(boxes, boxes[1:], strict=False))
    assert boxes[0].y0 > 0 and boxes[-1].y1 < figure.bbox.y1 and max(box.x1 for box in boxes) < figure.bbox.x1


def test_positions_of_names_are_spread_as_little_as_needed():
    assert spread(np.array([0.1, 0.5, 0.9]), 0.1).tolist() == pytest.approx([0.1, 0.5, 0.9])
    assert spread(np.array([0.5, 0.5, 0.9]), 0.1).tolist() == pytest.approx([0.45, 0.55, 0.9])
    assert spread(np.array([0.0, 0.0]), 0.2).tolist() == pytest.approx([0.0, 0.2])
    assert spread(np.array([1.0, 1.0]), 0.2).tolist() == pytest.approx([0.8, 1.0])


def test_ratios_are_drawn_as_they_were_applied():
    """With a stream nothing is masked at first, whatever the ratios are later."""
    shifts = torch.tensor([[0.0, 0.0], [2.0, -1.0]])
    state = PLMLoss(LabelCounts([90, 10], [10, 90])).state
    state.shifts, state.history_updates = shifts, torch.arange(2)
    lines = [line.get_ydata().tolist() for line in plot_ratios(state).axes[0].lines[:-1]]
    for label in range(2):
        assert pytest.approx(shifts[:, label].exp().tolist()) in lines


def test_only_some_of_very_many_labels_have_lines():
    state = PLMLoss(LabelCounts([1] * 9000, [9] * 9000)).state
    assert 3 < len(plot_ratios(state).axes[0].lines) <= 3 * (MOST_LINES + 1) + 1


def test_calibration_is_the_share_of_positives_in_each_bin(state, tmp_path):
    figure = plot_calibration(state)
    save(figure, tmp_path)
    _, head, *_ = figure.axes[0].lines
    histograms = state.histograms[:, state.groups()["head"]].sum(1)
    total = histograms.sum(0)
    expected = np.where(total >= FEW_ENTRIES, histograms[0] / total, np.nan)
    np.testing.assert_allclose(head.get_ydata(), expected)
    assert np.isfinite(expected).any()
    seen = total > 0
    np.testing.assert_allclose(head.get_xdata()[seen], ((torch.arange(20) + 0.5) / 20)[seen])


def test_calibration_has_no_point_of_few_entries_and_no_line_across_a_gap():
    histograms = np.zeros((2, 1, 20), np.int32)
    histograms[0, 0, [1, 2, 3, 6, 7]] = [5, 4, 6, 5, 9]
    histograms[1, 0, [1, 2, 3, 6, 7]] = [5, 5, 6, 5, 1]
    _, head, *_ = plot_calibration(state_of(histograms)).axes[0].lines
    drawn = np.full(20, np.nan)
    drawn[[1, 3, 6, 7]] = [0.5, 0.5, 0.5, 0.9]  # bin 2 has only nine entries
    np.testing.assert_allclose(head.get_ydata(), drawn)  # NaN interrupts the line


@pytest.mark.parametrize("prior", ["ideal", "balanced", "data"])
def test_calibration_is_of_the_probabilities_that_the_model_gives_now(prior):
    """The loss gets logits at the ideal ratio I; those of the model are at T, and after `calibrate` at R, here 1."""
    histograms = np.zeros((2, 1, 20), np.int32)
    histograms[:, 0, 5] = 10
    state = state_of(histograms, prior, mean_shift=1.0)
    seen_by_loss = logit(5.5 / 20)
    at_data = seen_by_loss - 1.0
    as_trained = at_data + log_odds_shift(state).item()
    assert as_trained == pytest.approx(seen_by_loss if prior == "ideal" else at_data)
    for scores, expected in {"trained": as_trained, "probabilities": at_data, "decisions": as_trained}.items():
        figure = plot_calibration(state, scores)
        _, head, *_ = figure.axes[0].lines
        (place,) = np.flatnonzero(np.isfinite(head.get_ydata()))
        assert head.get_xdata()[place] == pytest.approx(expit(expected), abs=1e-6)
        assert head.get_ydata()[place] == 0.5
        assert ("after calibrate()" in figure.get_suptitle()) is (scores == "probabilities")
        assert ("before fold_thresholds()" in figure.get_suptitle()) is (scores == "decisions")


def test_the_shift_of_an_epoch_that_has_ended_is_that_before_its_update():
    """The histograms were measured with it."""
    plm_loss = PLMLoss(LabelCounts([30], [70]))
    positive = torch.arange(40)[:, None] < 10
    for _ in range(3):
        plm_loss(torch.where(positive, 3.0, 1.0), positive)
        plm_loss.end_epoch()
    state = plm_loss.state
    assert not state.is_measuring and abs(state.shifts[-1] - state.shifts[-2]).item() > 0.1
    figure = plot_calibration(state, "probabilities")
    place, _ = np.flatnonzero(np.isfinite(figure.axes[0].lines[1].get_ydata()))
    middle = logit(14.5 / 20)  # the bin of sigmoid(1), of the negatives
    expected = expit(middle - log_odds_shift(state).item())
    assert figure.axes[0].lines[1].get_xdata()[place] == pytest.approx(expected, abs=1e-6)


def test_an_error_names_an_unknown_kind_of_scores(state):
    with pytest.raises(ValueError, match=r"scores is 'folded'; it must be one of"):
        plot_calibration(state, "folded")


def test_a_state_without_measurements_can_be_drawn(counts, tmp_path):
    state = PLMLoss(counts).state
    save(plot_ratios(state), tmp_path)
    save(plot_calibration(state), tmp_path)


def test_titles_say_which_values_are_good(state):
    assert "converged" in plot_ratios(state).get_suptitle()
    assert "best: points on the dotted line" in plot_calibration(state).get_suptitle()
