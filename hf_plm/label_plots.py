"""Draws pictures of all labels, from frequent to rare: bars with names for few labels, dots for many."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from .drawing import (
    COLOURS,
    NAMED_LABELS,
    PLAIN_TEXT,
    SMALL,
    WIDTH,
    drawable,
    legend_below,
    set_title,
    tidy,
    write_plainly,
)
from .extras import needed
from .inspection import LabelReport
from .label_counts import LabelCounts
from .label_space import generic_names
from .scores import LabelScores

with needed("matplotlib"):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

MOST_DECADES = 4
"""The maximum number of ticks on a log scale that fit next to each other."""

SCORES = {"recall": "recall\n(share of positives found)", "precision": "precision\n(share of predictions right)"}


def plot_label_counts(report: LabelReport, preset: str = "default") -> Figure:
    """Plot how often each label is positive, from frequent to rare, and the share that a preset keeps."""
    counts = report.counts
    order = _from_frequent_to_rare(counts)
    positives = counts.positives.numpy()[order]
    kept = [keep.numpy()[order] for keep in report.keep_probabilities(preset)]
    figure, (above, below) = _panels(len(order), bars_per_label=2)
    colours = COLOURS[1:3]
    if _are_named(order):
        _draw_bars(above, positives, [f"{count:,}" for count in positives], COLOURS[0])
        above.set_xscale("symlog", linthresh=1)
        above.set_xlim(0, 3 * max(positives.max(), 1) ** 1.25)  # with room for the number of the longest bar
        decades = len(str(positives.max()))
        above.set_xticks([0, *(10.0 ** np.arange(0, decades, math.ceil(decades / MOST_DECADES)))])
        above.set_xlabel("positives\n(rows, log scale)")
        write_plainly(above.xaxis)
        for index, (shares, colour) in enumerate(zip(kept, colours, strict=True)):
            _draw_bars(below, shares, [_number(share) for share in shares], colour, index, len(kept))
    else:
        places = np.arange(1, len(order) + 1)
        above.bar(places, positives, width=1, color=COLOURS[0])
        above.set_yscale("symlog", linthresh=1)
        above.set_ylabel("positives\n(rows, log scale)")
        write_plainly(above.yaxis)
        for shares, colour in zip(kept, colours, strict=True):
            below.plot(places, shares, ".", markersize=4, color=colour)
    _share_axis(below, order, f"share kept in the loss\n(preset '{preset}')")
    _label_axis((above, below), counts, order)
    marks = [Line2D([], [], color=colour, marker="s", linestyle="") for colour in colours]
    legend_below(figure, list(zip(("kept positives", "kept negatives"), marks, strict=True)), 2)
    labels = "1 label" if counts.num_labels == 1 else f"{counts.num_labels:,} labels"
    set_title(
        figure,
        "How often each label is positive, and the share kept in the loss in the first epoch",
        f"{labels}, {report.num_rows:,} rows, mean imbalance ratio (MeanIR) {report.mean_ir:,.1f}",
    )
    return figure


def plot_label_scores(runs: Mapping[str, LabelScores], counts: LabelCounts, title: str = "") -> Figure:
    """Plot the recall and precision of each label, from the most frequent to the rarest, for one or more runs.

    Few labels are drawn as bars with their values; a text marks labels that are never predicted or have no positive.
    Many labels are drawn as dots with rolling means; labels without a positive are left out.

    Args:
        runs: name of a run -> `label_scores` of its predictions; all runs on the same rows.
        counts: the counts of the training set, with the names of the labels.
        title: says on which data the scores were measured.
    """
    order = _from_frequent_to_rare(counts)
    positives = next(iter(runs.values())).positives
    if not _are_named(order):
        order = order[positives[order] > 0]
    figure, axes = _panels(len(order), bars_per_label=len(runs))
    colours = COLOURS if len(runs) > 1 else COLOURS[2:]
    for index, scores in enumerate(runs.values()):
        colour = colours[index % len(colours)]
        for axis, score in zip(axes, SCORES, strict=True):
            values, is_predicted = getattr(scores, score)[order], scores.predicted[order] > 0
            if _are_named(order):
                shown = _shown_scores(values, scores.positives[order], is_predicted)
                _draw_bars(axis, values, shown, colour, index, len(runs))
            else:
                _draw_dots(axis, values, is_predicted, colour)
    for axis, name in zip(axes, SCORES.values(), strict=True):
        _share_axis(axis, order, name)
        for place in np.flatnonzero(positives[order] == 0).tolist():
            _write_beside_bar(axis, 0, place, "no positives")
    _label_axis(axes, counts, order, positives)
    _score_legend(figure, runs, colours, order)
    best = "longer bars are better; n: positives" if _are_named(order) else "higher is better"
    left_out = counts.num_labels - len(order)
    note = f"{left_out:,} of {counts.num_labels:,} labels are left out: no positives in these data" if left_out else ""
    set_title(figure, f"Recall and precision of each label ({best})", note, title)
    return figure


def _from_frequent_to_rare(counts: LabelCounts) -> np.ndarray:
    return torch.sort(counts.positives, descending=True, stable=True).indices.numpy()


def _are_named(order: np.ndarray) -> bool:
    """Whether labels are drawn as bars with names; otherwise they are dots."""
    return len(order) <= NAMED_LABELS


def _panels(num_labels: int, bars_per_label: int) -> tuple[Figure, tuple[Axes, Axes]]:
    """A figure with two axes: side by side and high enough for the bars, or for many labels one above the other."""
    if num_labels <= NAMED_LABELS:
        height = 2.2 + num_labels * (0.12 + 0.14 * bars_per_label)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
    else:
        figure = Figure(figsize=(WIDTH, 7.5), layout="constrained")
        axes = figure.subplots(2, 1, sharex=True)
    return figure, tuple(axes)


def _draw_bars(
    axis: Axes, values: np.ndarray, shown: Sequence[str], colour: str, index: int = 0, num_bars: int = 1
) -> None:
    """Draw a bar for each label with a text at its end: the `index`-th of the `num_bars` bars of the label."""
    height = 0.8 / num_bars
    places = np.arange(len(values)) + (index - (num_bars - 1) / 2) * height
    lengths = np.nan_to_num(values)
    axis.barh(places, lengths, 0.9 * height, color=colour)
    for place, length, text in zip(places, lengths, shown, strict=True):
        _write_beside_bar(axis, length, place, text)


def _write_beside_bar(axis: Axes, length: float, place: float, text: str) -> None:
    axis.annotate(text, (length, place), (3, 0), textcoords="offset points", va="center", fontsize=SMALL)


def _shown_scores(values: np.ndarray, positives: np.ndarray, is_predicted: np.ndarray) -> list[str]:
    """The texts next to the bars of a score; empty for a label without positives."""
    return [
        "" if not count else "NaN" if np.isnan(value) else _number(value) if predicted else "never predicted"
        for value, count, predicted in zip(values, positives, is_predicted, strict=True)
    ]


def _number(value: float) -> str:
    return f"{value:.2f}" if value == 0 or value >= 0.01 else f"{value:.1g}"


def _draw_dots(axis: Axes, values: np.ndarray, is_predicted: np.ndarray, colour: str) -> None:
    """Draw a dot for each label, or a cross if it is never predicted, and the rolling mean."""
    places = np.arange(1, len(values) + 1)
    for mask, marker in ((is_predicted, "o"), (~is_predicted, "x")):
        style = {"linewidths": 0} if marker == "o" else {"linewidths": 0.8}
        axis.scatter(places[mask], values[mask], s=12, marker=marker, color=colour, alpha=0.5, **style)
    window = rolling_window(len(values))
    margin = window // 2
    axis.plot(places[margin:-margin], rolling_mean(values, window), color=colour, linewidth=2.5)


def rolling_window(num_labels: int) -> int:
    """The number of labels in a rolling mean; it is odd."""
    return max(5, num_labels // 15) | 1


def rolling_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of each full window of successive values, NaN left out: `(len(values) - window + 1,)`."""
    windows = np.lib.stride_tricks.sliding_window_view(values, window)
    known = ~np.isnan(windows)
    with np.errstate(invalid="ignore"):  # NaN if no value is known
        means: np.ndarray = np.where(known, windows, 0).sum(1) / known.sum(1)
    return means


def _share_axis(axis: Axes, order: np.ndarray, name: str) -> None:
    """Set up an axis of shares from 0 to 1, with room for the texts next to its bars."""
    if _are_named(order):
        axis.set_xlim(0, 1.2)
        axis.set_xticks(np.linspace(0, 1, 6))
        axis.set_xlabel(name)
    else:
        axis.set_ylim(-0.03, 1.03)
        axis.set_ylabel(name)


def _label_axis(
    axes: Sequence[Axes], counts: LabelCounts, order: np.ndarray, positives: np.ndarray | None = None
) -> None:
    """Write the names of few labels with their `positives`, or for many labels an axis title; mark the groups."""
    first, last = axes
    if _are_named(order):
        names = counts.label_names or generic_names(counts.num_labels)
        numbers = [""] * len(order) if positives is None else [f"  n={count:,}" for count in positives[order]]
        shown = [drawable(names[index]) + number for index, number in zip(order, numbers, strict=True)]
        first.set_yticks(range(len(order)), shown, fontsize=SMALL, **PLAIN_TEXT)
        first.set_ylim(len(order) - 0.4, -0.6)
    else:
        last.set_xlabel("labels, from the most frequent (1) to the rarest")
        last.set_xlim(0.4, len(order) + 0.6)
    for axis in axes:
        tidy(axis, "x" if _are_named(order) else "both")
    _mark_groups(axes, counts, order)


def _mark_groups(axes: Sequence[Axes], counts: LabelCounts, order: np.ndarray) -> None:
    """Write head, medium and tail at the edge, with dotted lines between them."""
    for group, mask in counts.groups().items():
        members = np.flatnonzero(mask.numpy()[order])
        if not len(members):
            continue
        end, is_last = members.max() + 0.5, members.max() + 1 == len(order)
        if _are_named(order):
            axis = axes[1]
            axis.text(1.02, members.mean(), group, va="center", transform=axis.get_yaxis_transform())
        else:
            axis = axes[0]
            axis.text(1 + members.mean(), 1.02, group, ha="center", transform=axis.get_xaxis_transform())
            end += 1
        for axis in axes if not is_last else ():
            line = axis.axhline if _are_named(order) else axis.axvline
            line(end, color="black", linewidth=0.8, linestyle=":")


def _score_legend(figure: Figure, runs: Mapping[str, LabelScores], colours: Sequence[str], order: np.ndarray) -> None:
    """Explain the colours of several runs; for many labels also the marks, and how many are never predicted."""
    if _are_named(order) and len(runs) == 1:
        return
    entries = []
    for index, (name, scores) in enumerate(runs.items()):
        text = drawable(name)
        if not _are_named(order):
            never = int(((scores.predicted == 0) & (scores.recall == 0)).sum())
            text += f" ({never:,} of {len(order):,} labels never predicted)"
        entries.append((text, Line2D([], [], color=colours[index % len(colours)], linewidth=4)))
    if not _are_named(order):
        entries += [
            ("a label", Line2D([], [], color="black", marker="o", markersize=3, linestyle="")),
            ("a label that is never predicted", Line2D([], [], color="black", marker="x", markersize=4, linestyle="")),
            (f"mean of {rolling_window(len(order))} labels in a row", Line2D([], [], color="black", linewidth=2.5)),
        ]
    legend_below(figure, entries, 3 if _are_named(order) else 2)
