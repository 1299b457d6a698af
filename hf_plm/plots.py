"""Pictures of labels, ideal ratios, scores and calibration, as matplotlib figures: for 10 labels and for 1,000."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator

from .display import printable
from .inspection import LabelReport
from .label_counts import LabelCounts
from .label_space import generic_names
from .scores import LabelScores
from .state import PLMState

NAMED_LABELS = 40
"""At most this many labels are shown by name."""

NAME_WIDTH = 32
"""In characters; the middle of longer names is left out."""

AS_IT_STANDS: dict[str, Any] = {"parse_math": False, "usetex": False}
"""For text from users: `$` does not start a formula."""

COLOURS = ("#7f7f7f", "#d94801", "#2171b5", "#238b45", "#8c6bb1")
GROUP_COLOURS = {"head": "#d62728", "medium": "#9467bd", "tail": "#17becf"}


def plot_label_counts(report: LabelReport, preset: str = "default") -> Figure:
    """How often each label is positive, from frequent to rare, and which share of its labels a preset keeps."""
    counts = report.counts
    order = _from_frequent_to_rare(counts)
    figure = Figure(figsize=(11, 7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    places = np.arange(len(order))
    above.bar(places, counts.positives[order].numpy(), width=1 if len(order) > NAMED_LABELS else 0.7, color=COLOURS[2])
    above.set_yscale("symlog", linthresh=1)
    above.set_ylabel("positives")
    keep_positive, keep_negative = (keep.numpy() for keep in report.keep_probabilities(preset))
    below.plot(places, keep_positive[order], ".-", color=COLOURS[1], linewidth=1, label="positives")
    below.plot(places, keep_negative[order], ".-", color=COLOURS[2], linewidth=1, label="negatives")
    below.set_ylim(-0.02, 1.05)
    below.set_ylabel(f"kept by preset {preset}\nin the first epoch")
    below.legend()
    _label_axis(below, counts, order)
    _mark_groups([above, below], counts, order)
    figure.suptitle(f"{counts.num_labels} labels, {report.num_rows:,} rows, MeanIR {report.mean_ir:.1f}")
    return figure


def plot_ratios(state: PLMState) -> Figure:
    """How far each label's ideal ratio lies from its own ratio, update by update, with the medians of the groups."""
    shifts = state.shifts.exp().cpu().numpy()
    updates = state.history_updates.cpu().numpy()
    figure = Figure(figsize=(8, 5), layout="constrained")
    axis = figure.subplots()
    for group, mask in state.groups().items():
        members = shifts[:, (mask & state.has_ratio.cpu()).numpy()]
        if members.size:
            alpha = min(0.5, 20 / members.shape[1])
            axis.plot(updates, members, color=GROUP_COLOURS[group], linewidth=0.5, alpha=alpha)
            median = np.median(members, 1)
            axis.plot(updates, median, color=GROUP_COLOURS[group], linewidth=3, marker="o", label=group)
    axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
    axis.set_yscale("log")
    axis.set_xlabel("updates")
    axis.set_ylabel("ideal ratio / ratio of the data")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.25)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(title="median of")
    figure.suptitle("Ideal ratios: above 1 negatives are masked, below 1 positives")
    return figure


def plot_label_scores(runs: Mapping[str, LabelScores], counts: LabelCounts, title: str = "") -> Figure:
    """Recall and precision label by label, from the most frequent label to the rarest, of one run or several.

    Labels without a positive among the references of the first run are left out.

    Args:
        runs: name -> `label_scores` of its predictions.
        counts: of the training set, with the names of the labels.
        title: says on which data the scores were measured.
    """
    order = _from_frequent_to_rare(counts)
    order = order[next(iter(runs.values())).positives[order] > 0]
    places = np.arange(len(order))
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True)
    for index, scores in enumerate(runs.values()):
        for axis, values in zip(axes, (scores.recall, scores.precision), strict=True):
            _draw_values(axis, places, values[order], index, len(runs))
    for axis, score in zip(axes, ("recall", "precision"), strict=True):
        axis.set_ylabel(score)
        axis.set_ylim(-0.02, 1.02)
        axis.grid(alpha=0.25)
    legend = axes[0].legend(loc="upper right", framealpha=0.95)
    for text, name in zip(legend.get_texts(), runs, strict=True):
        text.update({"text": drawable(name), **AS_IT_STANDS})
    _label_axis(axes[1], counts, order)
    _mark_groups(axes, counts, order)
    if title:
        figure.suptitle(drawable(title, 100), **AS_IT_STANDS)
    return figure


def plot_calibration(state: PLMState) -> Figure:
    """How often labels are positive where the loss gives them a probability, for head, medium and tail labels.

    Made from the histograms of the last epoch of training: each point is a bin of probabilities.
    """
    histograms = state.histograms.cpu().double()
    bins = histograms.shape[-1]
    centres = (np.arange(bins) + 0.5) / bins
    figure = Figure(figsize=(6.5, 7), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    above.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
    for group, mask in state.groups().items():
        positives, negatives = histograms[:, mask].sum(1).numpy()
        total = positives + negatives
        seen = total > 0
        above.plot(centres[seen], positives[seen] / total[seen], ".-", color=GROUP_COLOURS[group], label=group)
        below.plot(centres, total, ".-", color=GROUP_COLOURS[group])
    above.set_ylabel("share that is positive")
    above.set_ylim(-0.02, 1.02)
    above.legend()
    below.set_yscale("symlog", linthresh=1)
    below.set_ylim(bottom=0)
    below.set_ylabel("labels")
    below.set_xlabel("predicted probability")
    for axis in (above, below):
        axis.grid(alpha=0.25)
    figure.suptitle("Calibration in the last epoch of training\n(below the dotted line too much is predicted)")
    return figure


def drawable(name: str, width: int = NAME_WIDTH) -> str:
    """A text as `printable` gives it; characters that the fonts in use lack are escaped, too."""
    fonts = [get_font(findfont(FontProperties(family=[family]))) for family in FontProperties().get_family()]
    text = printable(name, width=len(name) * 10 + 2)  # not cut yet
    shown = (
        char if any(font.get_char_index(ord(char)) for font in fonts) else char.encode("unicode_escape").decode()
        for char in text
    )
    return printable("".join(shown), width)


def _from_frequent_to_rare(counts: LabelCounts) -> np.ndarray:
    return torch.sort(counts.positives, descending=True, stable=True).indices.numpy()


def _draw_values(axis: Axes, places: np.ndarray, values: np.ndarray, index: int, num_runs: int) -> None:
    """One run's value of each label: bars for few labels, dots with a rolling mean for many."""
    colour = COLOURS[index % len(COLOURS)]
    if len(places) <= NAMED_LABELS:
        width = 0.8 / num_runs
        axis.bar(places + (index - (num_runs - 1) / 2) * width, values, width, color=colour, label=str(index))
        return
    window = np.ones(max(5, len(places) // 15))
    mean = np.convolve(values, window, "same") / np.convolve(np.ones_like(values), window, "same")
    axis.scatter(places, values, s=9, color=colour, alpha=0.35, linewidths=0)
    axis.plot(places, mean, color=colour, linewidth=2.5, label=str(index))


def _label_axis(axis: Axes, counts: LabelCounts, order: np.ndarray) -> None:
    """Names of few labels, or what the axis shows."""
    if len(order) <= NAMED_LABELS:
        names = counts.label_names or generic_names(counts.num_labels)
        shown = [drawable(names[index]) for index in order]
        axis.set_xticks(range(len(order)), shown, rotation=45, ha="right", **AS_IT_STANDS)
    else:
        axis.set_xlabel("label, from the most frequent to the rarest")
    axis.set_xlim(-0.6, len(order) - 0.4)


def _mark_groups(axes: Sequence[Axes], counts: LabelCounts, order: np.ndarray) -> None:
    """Head, medium and tail: names above the first axis, dotted lines between."""
    for group, mask in counts.groups().items():
        members = np.flatnonzero(mask.numpy()[order])
        if len(members):
            axes[0].text(
                members.mean(), 1.02, group, ha="center", fontweight="bold", transform=axes[0].get_xaxis_transform()
            )
            for axis in axes:
                if members.max() + 1 < len(order):
                    axis.axvline(members.max() + 0.5, color="black", linewidth=0.8, linestyle=":")
