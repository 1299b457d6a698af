"""Draws the picture of a comparison of methods."""

import statistics
from typing import Any

from .comparing import SCORES, TUNED, Comparison
from .drawing import COLOURS
from .extras import needed

with needed("matplotlib"):
    from matplotlib.figure import Figure


def plot_comparison(comparison: Comparison) -> Figure:
    """Plot every score of every row: a dot for each seed, and a line at the mean; filled dots for tuned thresholds."""
    rows = list(comparison.scores)
    figure = Figure(figsize=(3.2 * len(SCORES) + 2, 0.45 * len(rows) + 1.8), layout="constrained")
    axes: Any = figure.subplots(1, len(SCORES), sharey=True)
    methods = list(dict.fromkeys(row.removesuffix(TUNED) for row in rows))
    for axis, (score, title) in zip(axes, SCORES.items(), strict=True):
        for place, row in enumerate(rows):
            values = comparison.scores[row][score]
            colour = COLOURS[methods.index(row.removesuffix(TUNED)) % len(COLOURS)]
            face = colour if row.endswith(TUNED) else "none"
            axis.scatter(values, [place] * len(values), s=36, facecolors=face, edgecolors=colour)
            axis.vlines(statistics.mean(values), place - 0.35, place + 0.35, color=colour, linewidth=2)
        axis.set_title(title)
        axis.set_xlabel("percent")
        axis.grid(axis="x", alpha=0.25)
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].invert_yaxis()
    size = f"{comparison.num_rows['train']:,} training rows, {comparison.num_rows['test']:,} test rows"
    figure.suptitle(
        "Which method suits these data? (farther right is better; filled dots: tuned thresholds)\n"
        f"each dot is a training, each line a mean; {len(comparison.seeds)} seeds, {size}"
    )
    return figure
