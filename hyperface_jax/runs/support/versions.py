"""The versions of the packages that a result was made with."""

from __future__ import annotations

import importlib.metadata
import platform
from contextlib import suppress


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python and of those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
