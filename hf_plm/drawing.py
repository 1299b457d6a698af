"""Helpers for all pictures: colours, names that can be drawn, legends, and names at the ends of lines."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.isotonic import isotonic_regression

from .display import printable
from .extras import needed

with needed("matplotlib"):
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties, findfont, get_font
    from matplotlib.ticker import FuncFormatter, NullFormatter

WIDTH = 8.0
"""The width of every picture in inches; the text is readable on a model card, at 800 pixels."""

NAMED_LABELS = 40
"""At most this many labels are shown by name."""

NAME_WIDTH = 32
"""The maximum length of a name in characters; the middle of longer names is left out."""

TITLE_WIDTH = 90
"""The maximum length of a line of a title in characters."""

SMALL = 8
"""The font size of names and values next to bars and lines, in points."""

PLAIN_TEXT: dict[str, Any] = {"parse_math": False, "usetex": False}
"""Arguments for text from users, so that `$` does not start a formula."""

COLOURS = ("#7f7f7f", "#d94801", "#2171b5", "#222222", "#e8b000")
"""Colours of runs. People with any kind of colour blindness can distinguish these and `GROUP_COLOURS`."""

GROUP_COLOURS = {"head": "#2171b5", "medium": "#c25700", "tail": "#111111"}


def drawable(name: str, width: int = NAME_WIDTH) -> str:
    """Text as `printable` returns it; characters that the fonts in use lack are escaped as well.

    For Chinese names, set a font that has them: `rcParams["font.family"] = ["DejaVu Sans", "Noto Sans CJK SC"]`.
    """
    fonts = [get_font(findfont(FontProperties(family=[family]))) for family in FontProperties().get_family()]
    text = printable(name, width=len(name) * 10 + 2)  # not shortened yet
    shown = (
        char if any(font.get_char_index(ord(char)) for font in fonts) else char.encode("unicode_escape").decode()
        for char in text
    )
    return printable("".join(shown), width)


def set_title(figure: Figure, *lines: str) -> None:
    """Set the title of a picture; empty lines are left out."""
    figure.suptitle("\n".join(drawable(line, TITLE_WIDTH) for line in lines if line), fontsize=11, **PLAIN_TEXT)


def write_plainly(axis: Axis) -> None:
    """Write the numbers of a log scale as 1,000,000, not as a power of ten."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axis.set_minor_formatter(NullFormatter())


def tidy(axis: Axes, grid: Literal["both", "x", "y"] = "both") -> None:
    """Draw a pale grid behind the data, and no frame at the top and on the right."""
    axis.grid(axis=grid, alpha=0.25)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def legend_below(
    figure: Figure, entries: Sequence[tuple[str, Artist]], columns: int, title: str | None = None
) -> None:
    """Add a legend below the axes, where it hides no data; `entries` are pairs of a text and its artist."""
    legend = figure.legend(
        [artist for _, artist in entries],
        [str(index) for index in range(len(entries))],  # matplotlib leaves out texts that begin with _
        loc="outside lower center",
        ncols=columns,
        title=title,
        fontsize=9,
        frameon=False,
    )
    for text, (name, _) in zip(legend.get_texts(), entries, strict=True):
        text.update({"text": drawable(name, TITLE_WIDTH), **PLAIN_TEXT})


def name_line_ends(axis: Axes, heights: ArrayLike, names: Sequence[str], colours: Sequence[str], gap: float) -> None:
    """Write the name of each line to the right of the axes, next to its end or as near as the other names allow.

    Set the limits of the axes before the call.

    Args:
        heights (float, `(num_lines,)`): where the lines end, in units of the y axis.
        gap: the minimum distance of two names, as a share of the height of the axes; `num_lines * gap` is at most 1.
    """
    ends = np.column_stack([np.zeros(len(names)), np.asarray(heights, float)])
    ends = axis.transAxes.inverted().transform(axis.transData.transform(ends))[:, 1]
    order = np.argsort(ends, kind="stable")
    for index, place in zip(order, spread(ends[order], gap), strict=True):
        axis.annotate(
            drawable(names[index]),
            xy=(1, ends[index]),
            xytext=(1.04, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=SMALL,
            color=colours[index],
            arrowprops={
                "arrowstyle": "-",
                "color": colours[index],
                "linewidth": 0.6,
                "relpos": (0, 0.5),  # from the middle of the left side of the name
                "shrinkA": 1,
                "shrinkB": 0,
            },
            **PLAIN_TEXT,
        )


def spread(places: np.ndarray, gap: float) -> np.ndarray:
    """The increasing places in [0, 1] nearest to the increasing `places`, at least `gap` apart."""
    steps = gap * np.arange(len(places))
    room = max(0.0, 1 - gap * (len(places) - 1))
    spread_out: np.ndarray = isotonic_regression(places - steps, y_min=0.0, y_max=room) + steps
    return spread_out
