"""Docstrings as the pages of the API show them: without Sphinx roles and rules for developers."""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:mod|func|class|meth|data|attr|exc):`~?([^`]+)`")
_OF_LAYERS = re.compile(r"\bmay import\b|^This folder imports\b|\bimport this folder\b")
"""What only concerns those who work on the package: which folder may import which."""


class Roles(griffe.Extension):
    """Write ``:func:`a.b``` as ``a.b``, and leave out what module docstrings say about layers."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)
            if obj.is_module:
                parts = map(_without_layers, obj.docstring.value.split("\n\n"))
                obj.docstring.value = "\n\n".join(filter(None, parts))


def _without_layers(paragraph: str) -> str:
    sentences = re.split(r"(?<=\.)\s+", paragraph)
    kept = [sentence for sentence in sentences if not _OF_LAYERS.search(sentence)]
    return paragraph if len(kept) == len(sentences) else " ".join(kept)
