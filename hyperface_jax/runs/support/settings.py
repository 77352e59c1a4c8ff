"""Settings of stages: frozen dataclasses that also define the options of the command line.

A field made by ``option`` says what the command line needs besides the field's name, type and
docstring. Nothing here parses a command line. Errors name fields in backquotes, with the invalid value:
```num_ids=1```.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass
from typing import Any

from hyperface_jax.io.files import plain_json


@dataclass(frozen=True)
class Option:
    """How a field appears on a command line.

    Attributes:
        group: title of the group of options that lists the field.
        is_positional: whether the value is given without a flag.
        metavar: placeholder for the value on a help page; None derives it from the type.
        aliases: other names of the field, such as older spellings.
    """

    group: str = ""
    is_positional: bool = False
    metavar: str | None = None
    aliases: tuple[str, ...] = ()


_KEY = "option"


def option(
    default: Any = MISSING,
    *,
    group: str = "",
    is_positional: bool = False,
    metavar: str | None = None,
    aliases: Sequence[str] = (),
) -> Any:
    """Return a dataclass field that says how it appears on a command line; see :class:`Option`."""
    described = Option(group, is_positional, metavar, tuple(aliases))
    return field(default=default, metadata={_KEY: described})


def option_of(item: Field[Any]) -> Option:
    """Return how a field appears on a command line."""
    return item.metadata.get(_KEY, Option())


def plain(settings: Any) -> dict[str, Any]:
    """Return settings as JSON values: paths as text, tuples as lists, nested settings as objects."""
    return plain_json(asdict(settings))


def changed(settings: Any) -> dict[str, Any]:
    """Return the fields whose values differ from their defaults."""
    values = {item.name: getattr(settings, item.name) for item in fields(settings)}
    return {item.name: values[item.name] for item in fields(settings) if _is_changed(item, values)}


def _is_changed(item: Field[Any], values: Mapping[str, Any]) -> bool:
    default = item.default if item.default_factory is MISSING else item.default_factory()
    return default is MISSING or values[item.name] != default


def command(settings: Any) -> str:
    """Return the command line for settings, without the values that are defaults."""
    words = ["hyperface", type(settings).__name__.lower()]
    positional, flags = _words(settings)
    return shlex.join([*words, *positional, *flags])


def _words(settings: Any) -> tuple[list[str], list[str]]:
    positional: list[str] = []
    flags: list[str] = []
    described = {item.name: option_of(item) for item in fields(settings)}
    for name, value in changed(settings).items():
        flag = name.replace("_", "-")
        if is_dataclass(value):
            inner = _words(value)
            positional, flags = positional + inner[0], flags + inner[1]
        elif described[name].is_positional:
            positional.append(str(value))
        elif isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            parts = value if isinstance(value, tuple) else (value,)
            flags += [f"--{flag}", *map(str, parts)]
    return positional, flags
