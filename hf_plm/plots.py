"""Pictures of a training run as matplotlib figures: ideal ratios, calibration, and the ones in `label_plots`."""

import math

import numpy as np
from scipy.special import expit, logit

from .decisions import SCORES
from .drawing import GROUP_COLOURS, NAMED_LABELS, WIDTH, legend_below, name_line_ends, set_title, tidy, write_plainly
from .extras import needed
from .label_plots import plot_label_counts, plot_label_scores
from .label_space import generic_names
from .state import PLMState

with needed("matplotlib"):
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, MaxNLocator

__all__ = ["plot_calibration", "plot_label_counts", "plot_label_scores", "plot_ratios"]

MOST_LINES = 500
"""The maximum number of lines for a group; of more labels, an evenly spaced selection by id is drawn."""

FEW_ENTRIES = 10
"""The share of positives among fewer entries than this is mostly chance, and is not drawn."""


def plot_ratios(state: PLMState) -> Figure:
    """Plot, for each update, each label's ideal ratio relative to its ratio in the data.

    For few labels the names are at the ends of the lines; for many labels thick lines show the medians of head, medium
    and tail. Labels without positives or without negatives have no ratio, and no line.
    """
    has_ratio = state.has_ratio.cpu().numpy()
    shifts = state.shifts.exp().cpu().numpy()[:, has_ratio]
    updates = state.history_updates.cpu().numpy()
    are_named = len(has_ratio) <= NAMED_LABELS
    height = max(5, 2.5 + 0.16 * len(has_ratio) * are_named)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axis = figure.subplots()
    marker = "o" if len(updates) <= 30 else ""
    colours = np.empty(len(has_ratio), object)
    entries: list[tuple[str, Artist]] = []
    for group, mask in state.groups().items():
        colour = colours[mask.numpy()] = GROUP_COLOURS[group]
        members = shifts[:, mask.numpy()[has_ratio]]
        if not members.size:
            continue
        if are_named:
            axis.plot(updates, members, color=colour, linewidth=1.2, marker=marker, markersize=3, clip_on=False)
        else:
            thin = members[:, :: math.ceil(members.shape[1] / MOST_LINES)]
            axis.plot(updates, thin, color=colour, linewidth=0.5, alpha=min(0.5, 20 / thin.shape[1]))
            axis.plot(updates, np.median(members, 1), color=colour, linewidth=3, marker=marker, clip_on=False)
        entries.append((group, Line2D([], [], color=colour, linewidth=2 if are_named else 3)))
    _ratio_axis(axis, shifts, updates, state)
    if are_named:
        names = np.array(state.label_names or generic_names(len(has_ratio)), object)[has_ratio]
        name_line_ends(axis, shifts[-1], names, colours[has_ratio], gap=0.16 / (height - 2))
    if entries:
        legend_below(figure, entries, 3, None if are_named else "thick lines: medians of")
    set_title(
        figure,
        "How the ideal ratios of the labels changed (flat lines have converged)",
        "above 1: negatives are masked; below 1: positives are masked; at 1: nothing is masked",
    )
    return figure


def _ratio_axis(axis: Axes, shifts: np.ndarray, updates: np.ndarray, state: PLMState) -> None:
    """Set up a log axis of ratios, at least from 0.5 to 2, with readable numbers, and the axis of updates."""
    low, high = min(0.5, shifts.min(initial=1)), max(2, shifts.max(initial=1))
    axis.set_yscale("log")
    axis.set_ylim(low / 1.1, high * 1.1)
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 3000 else (1,)))
    write_plainly(axis.yaxis)
    axis.set_ylabel("ideal ratio / ratio of the data (log scale)")
    axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
    if updates[-1]:
        axis.set_xlim(0, updates[-1])
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axis.set_xlim(-1, 0)
        axis.set_xticks([0])
    steps = state.settings["update_steps"]
    missing = int((~state.has_ratio).sum())
    note = f"\n(not shown: {missing:,} labels without positives or without negatives)" if missing else ""
    axis.set_xlabel((f"updates, every {steps:,} steps" if steps else "updates, one per epoch") + note)
    tidy(axis)


def plot_calibration(state: PLMState, scores: str = "trained") -> Figure:
    """Plot the share of positives against the predicted probability, for head, medium and tail labels.

    The data are the histograms of the last epoch of training. Each point is a bin of probabilities with at least
    `FEW_ENTRIES` entries; an entry is one label of one row. Lines join only points of neighbouring bins.

    Args:
        scores: the kind of the model's scores, see `Decisions`. After `calibrate` (`probabilities`) each bin moves
            with its middle. After `fold_thresholds` (`decisions`) the scores are not probabilities, so those of
            training are shown.

    Raises:
        ValueError: if `scores` is unknown.
    """
    if scores not in SCORES:
        raise ValueError(f"scores is {scores!r}; it must be one of {SCORES}")
    histograms = state.histograms.cpu().double().numpy()
    probabilities = _model_probabilities(state, scores)
    num_bins = histograms.shape[-1]
    figure = Figure(figsize=(WIDTH, 7), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    above.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
    entries: list[tuple[str, Artist]] = []
    for group, mask in state.groups().items():
        places, colour = probabilities[mask.numpy()].ravel(), GROUP_COLOURS[group]
        bins = np.minimum((places * num_bins).astype(int), num_bins - 1)
        positives, negatives = (np.bincount(bins, each[mask.numpy()].ravel(), num_bins) for each in histograms)
        total = positives + negatives
        with np.errstate(invalid="ignore"):  # NaN if there is no entry
            mean = np.bincount(bins, (histograms.sum(0)[mask.numpy()]).ravel() * places, num_bins) / total
            share = np.where(total >= FEW_ENTRIES, positives / total, np.nan)
        above.plot(mean, share, ".-", color=colour)
        below.plot(mean, np.where(total > 0, total, np.nan), ".-", color=colour)
        if mask.any():
            entries.append((group, Line2D([], [], color=colour, marker=".")))
    _calibration_axes(above, below)
    legend_below(figure, entries, 3)
    whose = {"trained": "", "probabilities": ", after calibrate()", "decisions": ", before fold_thresholds()"}[scores]
    set_title(
        figure,
        "Are the predicted probabilities right? (best: points on the dotted line)",
        f"below the line: probabilities too high; last epoch of training{whose}",
    )
    return figure


def _model_probabilities(state: PLMState, scores: str) -> np.ndarray:
    """The model's probability in the middle of each bin of the histograms, `(num_labels, num_bins)`.

    The histograms are those of the loss, whose logits assume the ideal ratios.
    """
    num_bins = state.histograms.shape[-1]
    middles = logit((np.arange(num_bins) + 0.5) / num_bins)
    mask_shift = state.shifts[-1 if state.is_measuring or len(state.shifts) == 1 else -2].cpu().double()
    left_in_logits = 0.0 if scores == "probabilities" else state.shift_in_force.cpu().double()
    probabilities: np.ndarray = expit(middles - (mask_shift - left_in_logits).numpy()[:, None])
    return probabilities


def _calibration_axes(above: Axes, below: Axes) -> None:
    above.set_ylabel("share of entries that are positive")
    above.set_ylim(-0.02, 1.02)
    above.set_xlim(0, 1)
    below.set_yscale("log")
    below.set_ylim(bottom=0.8)
    below.set_ylabel("entries\n(rows × labels,\nlog scale)")
    write_plainly(below.yaxis)
    below.set_xlabel(f"predicted probability (points of fewer than {FEW_ENTRIES} entries are left out above)")
    for axis in (above, below):
        tidy(axis)
