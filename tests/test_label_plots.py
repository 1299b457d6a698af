"""Pictures of all labels: bars with names and values for few labels, dots and means for many."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import scenarios
from datasets import Dataset
from matplotlib import rc_context
from matplotlib.text import Text

from hf_plm import LabelCounts, PLMLoss, inspect_labels
from hf_plm.drawing import drawable
from hf_plm.label_plots import rolling_mean, rolling_window
from hf_plm.plots import plot_label_counts, plot_label_scores, plot_ratios
from hf_plm.scores import label_scores

pytestmark = pytest.mark.usefixtures("rendered")


@pytest.fixture(params=[1, 10, 200], ids=lambda num_labels: f"{num_labels} labels")
def labels(request):
    return scenarios.long_tailed_labels(request.param)


@pytest.fixture
def counts(labels):
    return scenarios.named_counts(labels)


@pytest.fixture
def runs(labels):
    """The second run never predicts the first label."""
    generator = np.random.default_rng(1)
    scores = {name: generator.random(labels.shape) for name in ("one", "other")}
    scores["other"][:, 0] = 0
    return {name: label_scores(each, labels) for name, each in scores.items()}


def save(figure, tmp_path):
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5_000
    assert figure.get_size_inches()[0] == 8


def texts_beside(axis):
    """Text -> its position on the axis of the labels."""
    return [(text.get_text(), text.xy[1]) for text in axis.texts if hasattr(text, "xy")]


def test_few_labels_are_bars_with_values_names_and_numbers(labels, counts, runs, tmp_path):
    figure = plot_label_scores(runs, counts)
    save(figure, tmp_path)
    if labels.shape[1] > 40:
        assert not figure.axes[0].containers
        return
    order = np.argsort(-counts.positives.numpy(), kind="stable")
    for axis, name in zip(figure.axes, ("recall", "precision"), strict=True):
        assert axis.get_xlabel().startswith(f"{name}\n(share of")
        written = texts_beside(axis)
        for bars, scores in zip(axis.containers, runs.values(), strict=True):
            np.testing.assert_allclose(
                [bar.get_width() for bar in bars], np.nan_to_num(getattr(scores, name)[order]), atol=1e-12
            )
            for bar, label in zip(bars, order, strict=True):
                middle = bar.get_y() + bar.get_height() / 2
                beside = [text for text, place in written if place == pytest.approx(middle) and text]
                if not labels[:, label].any():
                    continue
                value = f"{getattr(scores, name)[label]:.2f}"
                assert beside == [value if scores.predicted[label] else "never predicted"]
    shown = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert shown == [f"topic {index}  n={int(labels[:, index].sum())}" for index in order]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "other"]


def test_few_labels_without_positives_are_shown_as_such():
    labels = np.array([[1, 0], [0, 0], [1, 0]], np.float32)
    counts = LabelCounts([5, 3], [5, 7], ["a", "b"])
    figure = plot_label_scores({"run": label_scores(np.ones((3, 2)), labels)}, counts)
    for axis in figure.axes:
        assert ("no positives", 1) in texts_beside(axis)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["a  n=2", "b  n=0"]
    assert figure.legends == []  # one run needs no legend


def test_a_score_that_is_nan_is_shown_as_such():
    scores, labels = np.array([[np.nan, 1.0], [0.0, 0.0]]), np.array([[1, 1], [0, 0]], np.float32)
    figure = plot_label_scores({"run": label_scores(scores, labels)}, LabelCounts([1, 1], [1, 1]))
    assert [text for text, _ in texts_beside(figure.axes[0])] == ["NaN", "1.00"]


def test_many_labels_are_dots_with_a_mean_that_ends_half_a_window_before_the_edge(runs, labels, counts):
    if labels.shape[1] <= 40:
        return
    figure = plot_label_scores(runs, counts)
    order = np.argsort(-counts.positives.numpy(), kind="stable")
    order = order[labels.any(0)[order]]
    window = rolling_window(len(order))
    assert window == 13 and len(order) < 200
    for axis, name in zip(figure.axes, ("recall", "precision"), strict=True):
        assert axis.get_ylabel().startswith(f"{name}\n(share of")
        lines = [line for line in axis.lines if len(line.get_xdata()) > 2]
        for index, scores in enumerate(runs.values()):
            values, predicted = getattr(scores, name)[order], scores.predicted[order] > 0
            dots, crosses = axis.collections[2 * index : 2 * index + 2]
            np.testing.assert_allclose(dots.get_offsets()[:, 1], values[predicted])
            assert crosses.get_offsets()[:, 0].tolist() == (1 + np.flatnonzero(~predicted)).tolist()
            places = lines[index].get_xdata()
            assert (places[0], places[-1]) == (1 + window // 2, len(order) - window // 2)
            assert lines[index].get_ydata()[0] == pytest.approx(values[:window].mean())
            assert lines[index].get_ydata()[-1] == pytest.approx(values[-window:].mean())
    never = int((runs["other"].predicted[order] == 0).sum())
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert never and f"other ({never} of {len(order)} labels never predicted)" in shown
    assert "mean of 13 labels in a row" in shown and "a label that is never predicted" in shown
    assert f"{200 - len(order)} of 200 labels are left out: no positives" in figure.get_suptitle()


def test_a_rolling_mean_uses_whole_windows_and_skips_unknown_values():
    assert rolling_mean(np.array([1.0, 2.0, 3.0, 4.0, np.nan]), 3).tolist() == [2.0, 3.0, 3.5]
    assert np.isnan(rolling_mean(np.array([np.nan] * 3), 3)).all()
    assert [rolling_window(number) for number in (41, 113, 365)] == [5, 7, 25]


def test_few_labels_with_positives_among_many_are_named():
    labels = np.zeros((4, 100), np.float32)
    labels[:2, :3] = 1
    names = [f"topic {index}" for index in range(100)]
    figure = plot_label_scores({"run": label_scores(labels, labels)}, LabelCounts([9] * 100, [9] * 100, names))
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [f"topic {i}  n=2" for i in range(3)]
    assert "97 of 100 labels are left out: no positives" in figure.get_suptitle()


def test_a_picture_says_that_the_data_have_no_positive(tmp_path):
    labels = np.zeros((4, 100), np.float32)
    figure = plot_label_scores({"run": label_scores(labels, labels)}, LabelCounts([1] * 100, [1] * 100))
    save(figure, tmp_path)
    assert "100 of 100 labels are left out: no positives" in figure.get_suptitle()


def test_label_counts_are_drawn_from_frequent_to_rare(labels, counts, tmp_path):
    rows = Dataset.from_dict({"labels": labels.tolist()})
    figure = plot_label_counts(inspect_labels(rows, label_format="multi_hot"))
    save(figure, tmp_path)
    axis, kept = figure.axes
    expected = sorted(counts.positives.tolist(), reverse=True)
    if labels.shape[1] <= 40:
        assert [bar.get_width() for bar in axis.patches] == expected
        assert [text for text, _ in texts_beside(axis)] == [f"{count}" for count in expected]
        assert axis.get_xlim()[1] > max(expected)
    else:
        assert [bar.get_height() for bar in axis.patches] == expected
    assert "kept in the loss" in kept.get_xlabel() + kept.get_ylabel()


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
    runs = {name: label_scores(generator.random(rows.shape), rows) for name in ("_a $x$", "$")}
    data = Dataset.from_dict({"labels": [[names[label] for label in np.flatnonzero(row)] for row in rows]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = plot_label_scores(runs, counts, "'$a$\n\U0001f999', 200 rows")
        ratios = plot_ratios(PLMLoss(counts).state)
        figures = [scores, plot_label_counts(inspect_labels(data)), ratios]
        for figure in figures:
            save(figure, tmp_path)
    assert scores.get_suptitle().endswith("\n" + r"'$a$\n\U0001f999', 200 rows")
    assert scores.legends[0].get_texts()[0].get_text().startswith("_a $x$")
    if num_labels <= 40:
        for figure in figures[:2]:
            ticks = figure.axes[0].get_yticklabels()
            assert {text.get_text().split("  n=")[0] for text in ticks} == set(map(drawable, names))
            assert not any(text.get_parse_math() for text in ticks)
        assert {text.get_text() for text in ratios.axes[0].texts} == set(map(drawable, names))


def ticks_out_of_sight(figure):
    """Texts of ticks that are not drawn: outside the limits of an axis, or on an axis that shares its names."""
    found = []
    for axis in (each for axes in figure.axes for each in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks() + axis.get_minor_ticks():
            found += [] if low <= tick.get_loc() <= high and tick.label1.get_visible() else [tick.label1]
            found += [tick.label2]
    return found


@pytest.mark.parametrize("num_labels", [2, 40, 113])
def test_no_text_is_cut_off_and_no_texts_overlap(num_labels):
    """Texts of bars, names, ticks, titles, legends and groups do not overlap, even with long names and numbers."""
    generator = np.random.default_rng(0)
    rows = (generator.random((3000, num_labels)) < np.geomspace(0.5, 0.01, num_labels)).astype(np.float32)
    rows[:, -1] = 0
    names = [f"{index}: {'a long name ' * 9}" for index in range(num_labels)]
    counts = LabelCounts(rows.sum(0), (1 - rows).sum(0), names)
    perfect = {"perfect": label_scores(rows, rows), "b" * 40: label_scores(1 - rows, rows)}
    data = Dataset.from_dict({"labels": rows.tolist()})
    for figure in (
        plot_label_scores(perfect, counts, "eval_dataset 'validation', 3,000 rows, after 8,000 steps"),
        plot_label_counts(inspect_labels(data, label_format="multi_hot", label_names=names)),
    ):
        figure.draw_without_rendering()
        texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        unseen = {id(text) for text in ticks_out_of_sight(figure)}
        texts = [text for text in texts if id(text) not in unseen]
        boxes = np.array([text.get_window_extent().extents for text in texts])
        low, high = boxes[:, :2], boxes[:, 2:]
        assert (low >= 0).all() and (high <= figure.bbox.extents[2:]).all()
        on_another = ((low[:, None] < high) & (low < high[:, None])).all(-1) & ~np.eye(len(texts), dtype=bool)
        assert [texts[index].get_text() for index in np.flatnonzero(on_another.any(1))] == []


def test_characters_that_no_font_has_are_escaped():
    assert drawable("a\U0001f999 中") == r"a\U0001f999 \u4e2d"
    assert drawable("") == "''" and drawable("a\nb") == r"a\nb"
    assert len(drawable("x" * 2000)) == 32


def test_a_users_font_can_have_more_characters():
    assert drawable("⌒ 1") == r"\u2312 1"
    with rc_context({"font.family": ["DejaVu Sans", "STIXGeneral"]}):
        assert drawable("⌒ 1") == "⌒ 1"


def test_a_picture_of_scores_says_which_values_are_good_and_names_the_data(labels, counts):
    run = {"one": label_scores(labels, labels)}
    title = plot_label_scores(run, counts, "validation, 300 rows").get_suptitle()
    good = "longer bars are better" if labels.shape[1] <= 40 else "higher is better"
    assert good in title and title.endswith("\nvalidation, 300 rows")
    assert plot_label_scores(run, counts, "").get_suptitle() == title.removesuffix("\nvalidation, 300 rows")


@pytest.mark.parametrize("most", [3, 6_698, 2_000_000])
def test_the_numbers_of_a_log_scale_do_not_overlap(most):
    report = inspect_labels(Dataset.from_dict({"labels": [[0, 1], [0]]}))
    report = replace(report, counts=LabelCounts([most, 1], [10, most]))
    figure = plot_label_counts(report)
    figure.draw_without_rendering()
    axis = figure.axes[0]
    low, high = axis.get_xlim()
    shown = [
        text for place, text in zip(axis.get_xticks(), axis.get_xticklabels(), strict=True) if low <= place <= high
    ]
    boxes = [text.get_window_extent() for text in shown]
    assert len(boxes) >= 2 and "1" in [text.get_text() for text in shown]
    assert all(left.x1 + 2 < right.x0 for left, right in zip(boxes, boxes[1:], strict=False))
    assert not any("e+" in text.get_text() for text in shown)
