"""The pictures that stand beside the tables of README and docs, from the JSON results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from benchmarks.closed_loop import drawn_arms
from hyperface_jax.reports.frontier import frontier_plot

Point: TypeAlias = tuple[float, float]
_OURS: dict[str, dict[str, Any]] = {
    f"hyperface_jax {name}": {"color": "black", "linewidth": 2.4, "zorder": 3, "linestyle": line}
    for name, line in (("annealed", "-"), ("code start", "--"))
}


def draw_choosing_alpha(figures: dict[str, Any]) -> Figure:
    """Draw the frontier as the report of ``hyperface frontier`` does."""
    most, chosen = max(r["neighbors"] for r in figures["points"]), recommended(figures)
    drawn = {"recommended": {"chosen": chosen}, "neighbors": most, "threshold": None}
    return frontier_plot(figures | drawn)


def recommended(figures: dict[str, Any]) -> int:
    """Return the place of the recommended point of the frontier over alpha."""
    chosen = figures["recommended"].items()
    return next(i for i, r in enumerate(figures["points"]) if chosen <= r.items())


def draw_rivals(figures: dict[str, Any]) -> Figure:
    """Draw max cosine against seconds for every shape."""
    shapes = [shape for shape in figures["shapes"] if "methods" in shape]
    width = max(len(shapes), 1)
    figure = Figure(figsize=(4.6 * width, 4.2), layout="constrained")
    for axes, shape in zip(figure.subplots(1, width, squeeze=False)[0], shapes, strict=False):
        for method in shape["methods"]:
            trace = method["trace"]
            style = _OURS.get(method["name"], {"alpha": 0.8})
            axes.plot(trace["seconds"], trace["max_cosine"], label=method["name"], **style)
        axes.axhline(shape["lower_bound"], color="gray", linestyle=":", label="lower bound")
        axes.set(
            title=f"n={shape['n']}, d={shape['d']}",
            xlabel="seconds",
            ylabel="max cosine, best so far" if axes is figure.axes[0] else "",
            xscale="log",
            ylim=(0, None),
        )
        axes.grid(alpha=0.3)
    if shapes:
        figure.axes[0].legend(
            fontsize=7, ncols=2, loc="lower left", facecolor="white", framealpha=1
        )
    return figure


def draw_closed_loop(figures: dict[str, Any]) -> Figure:
    """Draw what drawing leaves of the spread, and the error rate against the spread of the faces."""
    figure = Figure(figsize=(13, 5.6), layout="constrained")
    spread, error_rate = figure.subplots(1, 2)
    before_after: dict[str, Point] = {}
    after_eer: dict[str, Point] = {}
    for name, row in drawn_arms(figures).items():
        if "cap" in name:  # So much worse than all others that nothing would be told apart.
            continue
        style = _style(name)
        before, after = row["nearest_before"]["mean"], row["nearest_after"]["mean"]
        if before is not None:
            spread.plot(before, after, **style)
            before_after[name] = before, after
        eer = row["eer"]
        error = 100 * (eer["error"] or 0)
        error_rate.errorbar(after, 100 * eer["mean"], error, capsize=3, **style)
        after_eer[name] = after, 100 * eer["mean"]
    spread.axline((0.6, 0.6), slope=1, color="gray", linestyle=":")
    spread.set(
        xlabel="mean cosine to the nearest other identity, embeddings",
        ylabel="the same of the drawn faces",
    )
    error_rate.set(
        xlabel="mean cosine to the nearest other identity, faces",
        ylabel="EER on easy pairs, %, with one standard error",
    )
    for axes in figure.axes:
        axes.margins(0.12)
        axes.grid(alpha=0.3)
    figure.draw_without_rendering()
    _name_points(spread, before_after)
    _name_points(error_rate, after_eer)
    return figure


def _name_points(axes: Axes, points: dict[str, Point]) -> None:
    """Write a name beside each point, on the side where it covers the least of points and names."""
    places = {name: axes.transData.transform(point) for name, point in points.items()}
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in places.values()]
    for name, point in points.items():
        drawn = []
        for ha, va, offset in _SIDES:
            text = axes.annotate(
                name, point, offset, textcoords="offset points", fontsize=7, ha=ha, va=va
            )
            box = text.get_window_extent()
            is_inside = axes.bbox.fully_containsx(box.x0) and axes.bbox.fully_containsx(box.x1)
            drawn.append((box.count_overlaps(taken) + 9 * (not is_inside), len(drawn), text))
        best = min(drawn)[2]
        for *_, text in drawn:
            if text is not best:
                text.remove()
        taken.append(best.get_window_extent())


def _style(name: str) -> dict[str, Any]:
    """Return the marker of an arm: real persons, the diffusion generator, or the parametric one."""
    if "real" in name:
        return {"marker": "s", "color": "black", "linestyle": ""}
    if "diffusion" in name:
        return {"marker": "^", "color": "tab:orange", "linestyle": ""}
    return {"marker": "o", "color": "tab:blue", "linestyle": ""}


_SIDES: tuple[tuple[str, str, Point], ...] = (
    ("left", "bottom", (4, 4)),
    ("left", "top", (4, -4)),
    ("right", "bottom", (-4, 4)),
    ("right", "top", (-4, -4)),
    ("center", "bottom", (0, 7)),
    ("center", "top", (0, -7)),
)
DRAWINGS: dict[str, Callable[[dict[str, Any]], Figure]] = {
    "rivals": draw_rivals,
    "closed_loop": draw_closed_loop,
    "choosing_alpha": draw_choosing_alpha,
}
