"""Formulas of the pages as MathML, which browsers draw themselves: no script and no network.

A hook of MkDocs. The pages hold blocks of LaTeX under ```` ```math ````, which GitHub draws too.
"""

import re
from typing import Any

from latex2mathml.converter import convert

_BLOCK = re.compile(r"^```math\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Return a page with its blocks of LaTeX as MathML."""
    return _BLOCK.sub(_drawn, markdown)


def _drawn(found: re.Match[str]) -> str:
    formula = convert(" ".join(found[1].split()), display="block")
    return f'<div style="overflow-x: auto">{formula}</div>'
