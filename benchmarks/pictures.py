"""Pictures of the results, for the documents."""

import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from comparisons import DEFAULT, SCORES, is_single_label
from results import Results, values_of
from studies import LONGER, MAIN_METHODS, epochs_row

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SUMMARY_ROWS = ("BCE", "BCE with pos_weight", "asymmetric", "distribution-balanced", "PLM paper", DEFAULT)
COLOURS = dict(zip(SUMMARY_ROWS, ["#4c4c4c", "#a6a6a6", "#8c6bb1", "#9ecae1", "#fdae6b", "#d94801"], strict=True))
PANELS_A_LINE = 4


def draw_summary(results: Mapping[str, Results], path: Path) -> None:
    """Micro-F1, macro-F1 and mAP of the main methods, one panel for each task with several labels per row."""
    pictured = {task: rows for task, rows in results.items() if rows and not is_single_label(rows)}
    if not pictured:
        return
    columns = min(len(pictured), PANELS_A_LINE)
    lines = math.ceil(len(pictured) / columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(2.8 * columns + 0.6, 2.6 * lines + 0.8), squeeze=False, layout="constrained"
    )
    width = 0.85 / len(SUMMARY_ROWS)
    for axis, (task, rows) in zip(axes.flat, pictured.items(), strict=False):
        for index, name in enumerate(SUMMARY_ROWS):
            if name in rows:
                values = np.array([values_of(rows[name], score) for score in SCORES])
                places = np.arange(len(SCORES)) + (index - (len(SUMMARY_ROWS) - 1) / 2) * width
                spread = values.std(1, ddof=1)
                axis.bar(places, values.mean(1), width, yerr=spread, color=COLOURS[name], label=name)
        axis.set_xticks(range(len(SCORES)), SCORES.values())
        axis.set_title(task)
        tidy(axis)
    for axis in axes.flat[len(pictured) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("percent on validation data")
    finish(figure, path)


def draw_epochs(results: Mapping[str, Results], path: Path) -> None:
    """The study `epochs`: macro-F1, micro-F1 and mAP against epochs, one row of panels for each task."""
    pictured = {task: rows for task, rows in results.items() if rows}
    if not pictured:
        return
    scores = ("macro_f1", "micro_f1", "map")
    figure, axes = plt.subplots(
        len(pictured), len(scores), figsize=(9, 2.2 * len(pictured) + 0.8), squeeze=False, layout="constrained"
    )
    for line, (task, rows) in zip(axes, pictured.items(), strict=True):
        for axis, score in zip(line, scores, strict=True):
            for name in MAIN_METHODS:
                times = [longer for longer in LONGER if epochs_row(name, longer) in rows]
                values = np.array([values_of(rows[epochs_row(name, longer)], score) for longer in times])
                if times:
                    spread = values.std(1, ddof=1)
                    axis.errorbar(times, values.mean(1), spread, marker="o", color=COLOURS[name], label=name)
            axis.set_xscale("log")
            axis.set_xticks(LONGER, [str(longer) for longer in LONGER])
            axis.minorticks_off()
            tidy(axis)
        line[0].set_ylabel(f"{task}\npercent")
    for axis, score in zip(axes[0], scores, strict=True):
        axis.set_title(SCORES[score])
    for axis in axes[-1]:
        axis.set_xlabel("epochs, in multiples of the task's")
    finish(figure, path)


def tidy(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)


def finish(figure: Figure, path: Path) -> None:
    """Draw one legend for all panels, with each name once, and save the picture."""
    legend = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            legend.setdefault(label, handle)
    names = sorted(legend, key=list(COLOURS).index)
    figure.legend([legend[name] for name in names], names, loc="outside lower center", ncols=len(names), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
