"""Code that all HTML reports share: templates, themes, and figures inside the page.

Figures are vector graphics with CSS variables as colors, so one drawing serves both the light and the
dark theme.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_write_text
from hyperface_jax.io.run_directory import REPORT
from hyperface_jax.reports.style import DARK, LIGHT, NARROW, WIDE, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[tuple[float, float]], "Figure"]
"""Function that draws a figure of a given width and height, in inches."""


def render_page(template: str, **context: Any) -> str:
    """Return a page as HTML, with every text of the context escaped.

    Args:
        template: name of a template in the folder of this module.
        context: values that the template shows, in addition to the themes.

    Raises:
        InputError: a library of the ``cli`` extra is not installed.
    """
    page = _environment().get_template(template)
    return page.render(light=asdict(LIGHT), dark=asdict(DARK), **context)


def write_page(folder: Path, template: str, **context: Any) -> Path:
    """Write a page by :func:`render_page` as the ``report.html`` of a folder, and return its path.

    Raises:
        InputError: the page cannot be written, or a library of the ``cli`` extra is not installed.
    """
    atomic_write_text(folder / REPORT, render_page(template, **context))
    return folder / REPORT


@cache  # Compiling a template takes longer than filling it.
def _environment() -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise InputError("the report needs jinja2: pip install '.[cli]' in a checkout") from error
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(number=number, duration=duration, shown=shown)
    return templates


def both_sizes(figures: Mapping[str, Draw]) -> dict[str, dict[str, Any]]:
    """Draw each figure for wide and for narrow screens, by :func:`inline_svg`."""
    return {
        name: {
            kind: inline_svg(draw(size), f"{name}-{kind}")
            for kind, size in (("wide", WIDE), ("narrow", NARROW))
        }
        for name, draw in figures.items()
    }


def one_size(figures: Mapping[str, Draw], size: tuple[float, float]) -> dict[str, Any]:
    """Draw each figure once, at a size for phones and for two columns, by :func:`inline_svg`."""
    return {name: inline_svg(draw(size), name) for name, draw in figures.items()}


def data_uri(png: bytes) -> str:
    """Return a PNG file as a data URI for an ``<img>`` element."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def data_uris(shown: Iterable[tuple[str, bytes]]) -> list[tuple[str, str]]:
    """Return captions and data URIs of captions and PNG files."""
    return [(caption, data_uri(png)) for caption, png in shown]


def told(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a template shows of the settings of a run: ``config``, and its ``command`` apart."""
    command = config.get("command")
    if isinstance(command, list):
        command = shlex.join(str(word) for word in command)
    settings = {name: value for name, value in config.items() if name != "command"}
    return {"config": settings, "command": None if command is None else str(command)}


def inline_svg(figure: Figure, prefix: str) -> Any:
    """Return a figure in the ``LIGHT`` theme as SVG that takes its colors and font from the page.

    Args:
        figure: the figure.
        prefix: prefix of every id, so that several figures can be on one page.

    Returns:
        Markup that is safe in HTML; the colors are CSS variables with the names of the fields of
        :class:`~hyperface_jax.reports.style.Theme`.
    """
    import matplotlib
    from markupsafe import Markup

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for unwanted in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r' xmlns(:xlink)?="[^"]*"'):
        svg = re.sub(unwanted, "", svg, flags=re.DOTALL)
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    for name, color in asdict(LIGHT).items():
        svg = svg.replace(color, f"var(--{name})")
    # Sizes in points would keep the page from scaling the figure.
    return Markup(re.sub(r'(<svg[^>]*?) width="[^"]*"|(<svg[^>]*?) height="[^"]*"', r"\1\2", svg))


def duration(seconds: float) -> str:
    """Format seconds for reading.

    Examples:
        >>> [duration(x) for x in (0.5, 42.25, 83, 7265)]
        ['0.50 s', '42.2 s', '1 min 23 s', '2 h 1 min']
    """
    if seconds < 60:
        return f"{seconds:.{2 if seconds < 10 else 1}f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def shown(value: Any) -> str:
    """Write a setting as text; strings unchanged, everything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
