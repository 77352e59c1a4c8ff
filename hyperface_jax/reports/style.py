"""The one style of all figures: themes, sizes, lines that differ without their color, and legends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, NARROW = (7.4, 3.5), (3.9, 3.3)
"""Sizes of the figures for large screens and for phones, in inches."""

SMALL = (4.2, 3.6)
"""Size of the figures that stand in two columns, in inches."""

TITLE, TEXT, TICKS = 9.5, 9.0, 8.5
"""Sizes of the letters in points. Figures are shown at most at the width that they are drawn for."""

DASHED = (0, (4, 2.5))
"""Dash pattern of a line that marks a value."""
DOTTED = (0, (1.2, 1.6))
"""Dash pattern of a line that marks another value."""

_DASHES = ("-", (0, (5, 2)), DOTTED, (0, (6, 2, 1.5, 2)), (0, (10, 3)))
_MARKERS = ("o", "s", "^", "D", "v")
_INCHES_A_LETTER, _INCHES_A_HANDLE = 0.068, 0.55
_FEW_POINTS = 40
"""Number of points up to which a curve shows each of them."""


@dataclass(frozen=True)
class Theme:
    """Colors of the page and of the figures, ``#rrggbb``, all different.

    Attributes:
        surface: background of the page.
        panel: background of tiles and code.
        ink: main text.
        muted: secondary text.
        rule: axes, grid and borders.
        before: the start of a run.
        after: the result of a run.
        bound: the lower bound.
        warning: things that the reader must not miss.
        second: second color of lines that are told apart by color.
        third: fourth such color, after that of the text.
        fourth: last such color.
    """

    surface: str
    panel: str
    ink: str
    muted: str
    rule: str
    before: str
    after: str
    bound: str
    warning: str
    second: str
    third: str
    fourth: str

    @property
    def lines(self) -> tuple[str, ...]:
        """Colors of lines, which differ also for readers who see no red or no green."""
        return self.after, self.second, self.ink, self.third, self.fourth


LIGHT = Theme(
    surface="#fcfcfa",
    panel="#f2f3ef",
    ink="#1d2327",
    muted="#626b72",
    rule="#d9dcd6",
    before="#aeb6b8",
    after="#24708a",
    bound="#b25a33",
    warning="#a3362b",
    second="#c07a00",
    third="#6a4fd8",
    fourth="#7a2f12",
)

DARK = Theme(
    surface="#14181a",
    panel="#1d2326",
    ink="#e7eae8",
    muted="#98a2a6",
    rule="#343c40",
    before="#6a767b",
    after="#66b5cd",
    bound="#e2966b",
    warning="#f08a7c",
    second="#e8b92e",
    third="#a763e8",
    fourth="#a8622c",
)


def new_plot(theme: Theme, size: tuple[float, float]) -> Figure:
    """Make an empty figure outside of matplotlib's global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("figures need matplotlib: pip install '.[cli]' in a checkout") from error
    return Figure(figsize=size, facecolor=theme.surface, layout="constrained")


def stacked_panels(
    theme: Theme, size: tuple[float, float], heights: Sequence[float]
) -> tuple[Figure, list[Any]]:
    """Make an empty figure of panels above each other, which share their horizontal axis.

    Args:
        theme: colors of the figure.
        size: width and height of the whole figure, in inches.
        heights: share of each panel in the height.

    Returns:
        The figure, and the panels from top to bottom.
    """
    figure = new_plot(theme, size)
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    return figure, list(axes[:, 0])


def line_styles(count: int, theme: Theme) -> list[dict[str, Any]]:
    """Return the looks of lines, no two alike: the first five differ in color, and also in dashes.

    Args:
        count: number of lines, at most 25.
        theme: colors of the figure.

    Returns:
        Arguments of ``Axes.plot``.
    """
    colors = theme.lines
    return [
        {
            "color": colors[i % len(colors)],
            "linestyle": _DASHES[(i + i // len(colors)) % len(_DASHES)],
            "linewidth": 1.6,
        }
        for i in range(count)
    ]


def marker(index: int) -> str:
    """Return the marker of one of several kinds of dots; five kinds differ."""
    return _MARKERS[index % len(_MARKERS)]


def plain_text(name: str) -> str:
    """Keep a name from being read as a formula or being left out of a legend."""
    return one_line(name).replace("$", r"\$").lstrip("_")


def draw_dots(
    axes: Axes,
    index: int,
    places: Any,
    values: Sequence[float],
    errors: Sequence[float] | None,
    color: str,
    label: str,
) -> None:
    """Draw one of several kinds of dots, with error bars if there are errors."""
    axes.errorbar(
        places,
        values,
        errors,
        fmt=marker(index),
        color=color,
        markersize=5.5,
        elinewidth=1.4,
        capsize=2.5,
        label=label,
    )


def draw_curves(
    axes: Axes,
    title: str,
    curves: Sequence[tuple[str | None, Any, Any]],
    theme: Theme,
    *,
    first: int = 0,
) -> None:
    """Draw a panel of curves: label (None for a curve that needs no name), x and y of each.

    Curves of few points show each of them. ``first`` is the number of curves in earlier panels that
    share a legend with this one, so that no two of them look alike.
    """
    styles = line_styles(first + len(curves), theme)[first:]
    for (label, x, y), style in zip(curves, styles, strict=True):
        mark = "o" if len(y) <= _FEW_POINTS else None
        axes.plot(x, y, label=label, marker=mark, markersize=3.5, **style)
    set_title(axes, title, theme)
    style_axes(axes, theme)


def legend(figure: Figure, theme: Theme) -> None:
    """Write the names of all lines and areas below the panels, where they cover nothing."""
    named = {
        name: handle
        for axes in figure.axes
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if not named:
        return
    figure.legend(
        list(named.values()),
        list(named),
        loc="outside lower center",
        ncols=_num_columns(list(named), figure.get_figwidth()),
        frameon=False,
        fontsize=TICKS,
        labelcolor=theme.ink,
        handlelength=2.6,
    )


def _num_columns(names: Sequence[str], width: float) -> int:
    widest = _INCHES_A_LETTER * max(map(len, names)) + _INCHES_A_HANDLE
    return max(1, min(len(names), int(width / widest)))


def label_axes(axes: Axes, x: str, y: str, theme: Theme) -> None:
    """Write what the two axes of a panel measure; an empty text writes nothing."""
    axes.set_xlabel(x, color=theme.muted, fontsize=TEXT)
    axes.set_ylabel(y, color=theme.muted, fontsize=TEXT)


def count_axis(axes: Axes, most_ticks: int = 4) -> None:
    """Make the vertical axis of a panel one of counts: whole numbers, each of them once."""
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(nbins=most_ticks, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")


def set_title(axes: Axes, text: str, theme: Theme) -> None:
    """Write the title of a panel, aligned to the left."""
    axes.set_title(text, loc="left", color=theme.ink, fontsize=TITLE, pad=6)


def style_axes(axes: Axes, theme: Theme) -> None:
    """Give a panel the colors and the grid of the page."""
    axes.set_facecolor("none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(theme.rule)
    axes.grid(axis="y", color=theme.rule, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.muted, labelsize=TICKS, length=0, pad=4)
    axes.tick_params(which="minor", length=0)
    if axes.get_xscale() == "linear":
        axes.ticklabel_format(useOffset=False)


_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def number(value: float) -> str:
    """Format a count, a cosine or a rate for reading.

    Examples:
        >>> [number(x) for x in (10_000, 0.13391, -0.5, 0.0, 3.2e-9, 61_575.6, 5.21e9)]
        ['10,000', '0.1339', '−0.5000', '0', '3.2 × 10⁻⁹', '61,576', '5.21 × 10⁹']
    """
    if isinstance(value, int) or value == 0:
        return f"{value:,.0f}".replace("-", "−")
    if 1e-3 <= abs(value) < 1e6:
        digits = 4 if abs(value) < 10 else 2 if abs(value) < 1000 else 0
        return f"{value:,.{digits}f}".replace("-", "−")
    mantissa, exponent = f"{value:.{1 if abs(value) < 1 else 2}e}".split("e")
    power = str(int(exponent)).translate(_SUPERSCRIPTS)
    return f"{mantissa} × 10{power}".replace("-", "−")
