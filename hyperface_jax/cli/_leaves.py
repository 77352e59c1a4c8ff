"""Fields of settings as command-line options: names, types, defaults and help."""

import ast
import functools
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from hyperface_jax.runs.support.settings import Option, option_of

Trail = tuple[str, ...]
"""Names of nested fields that lead to a field, such as ``("arc2face", "steps")``."""


class Leaf(NamedTuple):
    """A field that a single option sets; its default is ``MISSING`` if the option is required."""

    trail: Trail
    kind: Any
    default: Any
    help: str
    group: str
    option: Option

    @property
    def flag(self) -> str:
        """Name of the option, without the leading hyphens."""
        return self.trail[-1].replace("_", "-")

    @property
    def metavar(self) -> str:
        """Placeholder for the value on a help page."""
        named = self.option.metavar or (self.flag.upper() if self.option.is_positional else None)
        return shown_kind(self.kind, named)

    def in_words(self, value: str | None) -> str:
        """Return the option as written on a command line, with the value if there is one."""
        if self.kind is bool and value in ("True", "False"):
            return f"--{self.flag}" if value == "True" else f"--no-{self.flag}"
        name = self.metavar.upper() if self.option.is_positional else f"--{self.flag}"
        return name if value is None else f"{name} {value}"


def leaves(settings: type, trail: Trail = (), group: str = "", part: Any = None) -> Iterator[Leaf]:
    """Yield the fields of settings and of nested settings.

    For nested settings, ``trail`` leads to them, ``group`` is their title and ``part`` their default.
    """
    kinds, helps = get_type_hints(settings), _docstrings(settings)
    for item in fields(settings):
        kind, option, below = kinds[item.name], option_of(item), (*trail, item.name)
        default = item.default if item.default_factory is MISSING else item.default_factory()
        default = default if part is None else getattr(part, item.name)
        title = option.group or group
        if _is_part(kind):
            title = title or item.name.replace("_", " ")
            yield from leaves(kind, below, title, None if default is MISSING else default)
        else:
            yield Leaf(below, kind, default, helps.get(item.name, ""), title, option)


def build(settings: type, values: Mapping[Trail, Any], trail: Trail = ()) -> Any:
    """Build settings from the values of their leaves."""
    found = {}
    for name, kind in get_type_hints(settings).items():
        below = (*trail, name)
        found[name] = build(kind, values, below) if _is_part(kind) else values[below]
    return settings(**found)


def shown_kind(kind: Any, named: str | None = None) -> str:
    """Return a type as a help page shows it: ``INT``, ``{png,jpg}``, ``PATH ...``."""
    origin, parts = get_origin(kind), get_args(kind)
    if named:
        return f"{named} ..." if origin is tuple else named
    if origin is Literal:
        return "{" + ",".join(map(str, parts)) + "}"
    if origin in (Union, UnionType):
        return "|".join(shown_kind(part) for part in parts if part is not NoneType)
    if origin is tuple:
        return " ".join("..." if part is ... else shown_kind(part) for part in parts)
    return "TEXT" if kind is str else kind.__name__.upper()


def in_flags(text: str, settings: type) -> str:
    """Write the backquoted fields of a text as options: ```num_ids=1``` becomes ``--num-ids 1``."""
    known = {leaf.trail[-1]: leaf for leaf in leaves(settings)}

    def shown(found: re.Match[str]) -> str:
        leaf = known.get(found[2])
        return leaf.in_words(found[3]) if leaf else found[0]

    return re.sub(r"(``?)(\w+)(?:=([^`]*))?\1", shown, text)


@functools.cache
def _docstrings(settings: type) -> dict[str, str]:
    """Return the docstrings of the fields of a class and of its bases."""
    found: dict[str, str] = {}
    for base in reversed(settings.__mro__[:-1]):
        tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        for item, text in itertools.pairwise(getattr(tree.body[0], "body", [])):
            match item, text:
                case ast.AnnAssign(), ast.Expr(value=ast.Constant(value=str(words))):
                    found[ast.unparse(item.target)] = " ".join(words.split())
    return found


def _is_part(kind: Any) -> bool:
    return isinstance(kind, type) and is_dataclass(kind)
