"""Names of a package that are loaded when they are first asked for."""

from __future__ import annotations

import importlib
from typing import Any

from hyperface_jax.errors import InputError


def load(name: str, module: str, extra: str) -> Any:
    """Return a name of a module that needs an extra.

    Args:
        name: the name.
        module: full name of the module that defines it.
        extra: the extra of this package that installs what the module imports.

    Raises:
        InputError: a library of the extra is not installed.
    """
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("hyperface_jax"):
            raise
        raise InputError(
            f"{name} needs {error.name}: pip install '.[{extra}]' in a checkout"
        ) from error
    return getattr(found, name)
