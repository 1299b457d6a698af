"""The pictures show what they should, with names for few labels and lines for many."""

import warnings

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_plm import LabelCounts, PLMLoss, inspect_labels
from hf_plm.plots import drawable, plot_calibration, plot_label_counts, plot_label_scores, plot_ratios
from hf_plm.scores import label_scores


@pytest.fixture(params=[1, 10, 200], ids=lambda num_labels: f"{num_labels} labels")
def labels(request):
    """300 rows; in the last label of several no row is positive."""
    generator = np.random.default_rng(0)
    rows = generator.random((300, request.param)) < 0.5 * np.arange(1, request.param + 1) ** -0.7
    if request.param > 1:
        rows[:, -1] = False
    return rows.astype(np.float32)


@pytest.fixture
def counts(labels):
    names = [f"topic {index}" for index in range(labels.shape[1])]
    return LabelCounts(labels.sum(0), (1 - labels).sum(0), names)


@pytest.fixture
def plm_loss(labels, counts):
    plm_loss = PLMLoss(counts)
    for _ in range(3):
        plm_loss(torch.tensor(2 * labels - 1.5), torch.tensor(labels))
        plm_loss.end_epoch()
    return plm_loss


def save(figure, tmp_path):
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5_000


def test_label_scores_are_drawn_for_every_label_that_has_a_positive(labels, counts, tmp_path):
    generator = np.random.default_rng(1)
    runs = {name: label_scores(generator.random(labels.shape), labels) for name in ("one", "other")}
    figure = plot_label_scores(runs, counts)
    save(figure, tmp_path)
    order = np.argsort(-counts.positives.numpy(), kind="stable")
    order = order[labels.any(0)[order]]
    for axis, name in zip(figure.axes, ("recall", "precision"), strict=True):
        assert axis.get_ylabel() == name
        for index, scores in enumerate(runs.values()):
            expected = getattr(scores, name)[order]
            if len(order) <= 40:
                drawn = [bar.get_height() for bar in axis.containers[index]]
            else:
                drawn = axis.collections[index].get_offsets()[:, 1]
            np.testing.assert_allclose(drawn, expected)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["one", "other"]
    if len(order) <= 40:
        names = [text.get_text() for text in figure.axes[1].get_xticklabels()]
        assert names == [f"topic {index}" for index in order]


def test_ratios_are_drawn_from_their_start_on(plm_loss, tmp_path):
    state = plm_loss.state
    figure = plot_ratios(state)
    save(figure, tmp_path)
    lines = [line.get_ydata() for line in figure.axes[0].lines if len(line.get_ydata()) == 4]
    drawn = np.array(lines)
    shifts = state.shifts.exp()[:, state.has_ratio].T.numpy()
    num_medians = len(drawn) - len(shifts)
    assert 1 <= num_medians <= 3
    for row in shifts:
        assert (np.abs(np.array(lines) - row).max(1) < 1e-6).any()


def test_calibration_is_the_share_of_positives_in_each_bin(plm_loss, tmp_path):
    state = plm_loss.state
    figure = plot_calibration(state)
    save(figure, tmp_path)
    _, head, *_ = figure.axes[0].lines
    histograms = state.histograms[:, LabelCounts(state.positives, state.negatives).groups()["head"]].sum(1)
    total = histograms.sum(0)
    expected = (histograms[0] / total)[total > 0]
    np.testing.assert_allclose(head.get_ydata(), expected)
    np.testing.assert_allclose(head.get_xdata(), ((torch.arange(20) + 0.5) / 20)[total > 0])


def test_label_counts_are_drawn_from_frequent_to_rare(labels, counts, tmp_path):
    rows = Dataset.from_dict({"labels": labels.tolist()})
    figure = plot_label_counts(inspect_labels(rows, label_format="multi_hot"))
    save(figure, tmp_path)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == sorted(counts.positives.tolist(), reverse=True)


def test_nothing_measured_yet_can_be_drawn(counts, tmp_path):
    state = PLMLoss(counts).state
    save(plot_ratios(state), tmp_path)
    save(plot_calibration(state), tmp_path)


def test_ratios_are_drawn_as_they_were_in_force(tmp_path):
    """Of a stream nothing is masked at first, whatever its ratios are today."""
    shifts = torch.tensor([[0.0, 0.0], [2.0, -1.0]])
    state = PLMLoss(LabelCounts([90, 10], [10, 90])).state
    state.shifts, state.history_updates = shifts, torch.arange(2)
    lines = [line.get_ydata().tolist() for line in plot_ratios(state).axes[0].lines[:-1]]
    for label in range(2):
        assert pytest.approx(shifts[:, label].exp().tolist()) in lines


ODD = ["$", "$$", "$$$", r"\frac{a}{", "[bold]x[/bold]", "a|b", "line\nbreak", '"q"', "", "\U0001f999", "x" * 2000]
ODD += ["_under", "中文", " a ", "%d", "\x1b[31m", "<b>", "`c`", "a$b$c$"]


@pytest.mark.parametrize("num_labels", [2, 10, 113])
@pytest.mark.parametrize("offset", [0, 9])
def test_names_of_any_text_are_drawn_without_a_warning(num_labels, offset, tmp_path):
    names = (ODD[offset:] + [f"topic {index}" for index in range(num_labels)])[:num_labels]
    generator = np.random.default_rng(0)
    rows = (generator.random((200, num_labels)) < 0.5 * np.arange(1, num_labels + 1) ** -0.5).astype(np.float32)
    rows[0] = 1
    counts = LabelCounts(rows.sum(0), (1 - rows).sum(0), names)
    runs = {"_a $x$": label_scores(generator.random(rows.shape), rows)}
    data = Dataset.from_dict({"labels": [[names[label] for label in np.flatnonzero(row)] for row in rows]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = plot_label_scores(runs, counts, "'$a$\n\U0001f999', 200 rows")
        figures = [scores, plot_label_counts(inspect_labels(data)), plot_ratios(PLMLoss(counts).state)]
        for figure in figures:
            save(figure, tmp_path)
    assert scores.get_suptitle() == r"'$a$\n\U0001f999', 200 rows"
    assert [text.get_text() for text in scores.axes[0].get_legend().get_texts()] == ["_a $x$"]
    for figure in figures[:2]:
        ticks = figure.axes[-1].get_xticklabels()
        if num_labels <= 40:
            assert {text.get_text() for text in ticks} == set(map(drawable, names))
            assert not any(text.get_parse_math() for text in ticks)


def test_characters_that_no_font_has_are_escaped():
    assert drawable("a\U0001f999 中") == r"a\U0001f999 \u4e2d"
    assert drawable("") == "''" and drawable("a\nb") == r"a\nb"
    assert len(drawable("x" * 2000)) == 32


def test_a_picture_of_scores_says_of_what_data_they_are(labels, counts):
    figure = plot_label_scores({"one": label_scores(labels, labels)}, counts, "validation, 300 rows")
    assert figure.get_suptitle() == "validation, 300 rows"
    assert plot_label_scores({"one": label_scores(labels, labels)}, counts).get_suptitle() == ""
