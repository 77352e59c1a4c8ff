"""Settings files, as ``--print-config`` writes them and ``--config`` reads them."""

import difflib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from hyperface_jax.cli._leaves import Trail, leaves, shown_kind
from hyperface_jax.errors import InputError
from hyperface_jax.runs.support.settings import plain

_WORDS: dict[Any, dict[str, Any]] = {
    NoneType: dict.fromkeys(("", "~", "null")),
    bool: {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False},
}


def as_yaml(settings: Any) -> str:
    """Return all settings as YAML."""
    return yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=True).rstrip()


def read_config(path: Path, settings: type) -> dict[Trail, Any]:
    """Read the values of settings from a YAML file, or from a JSON file that ends in ``.json``."""
    known = {
        ".".join((*leaf.trail[:-1], name)): leaf
        for leaf in leaves(settings)
        for name in (leaf.trail[-1], *leaf.option.aliases)
    }
    values = {}
    for name, value in _flat(_document(path)):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f": did you mean {close[0]}?" if close else ""
            raise InputError(f"{path}: {name} is no setting{hint}")
        leaf = known[name]
        try:
            values[leaf.trail] = _converted(value, leaf.kind)
        except ValueError:
            shown = "a list" if isinstance(value, list) else repr(value)
            expected = shown_kind(leaf.kind)
            raise InputError(f"{path}: {name}: must be {expected}, not {shown}") from None
    return values


def _document(path: Path) -> dict[str, Any]:
    """Read the file, with every value as the text that it is written as."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            text = json.dumps(json.loads(text), ensure_ascii=False)
        document = yaml.load(text, Loader=yaml.BaseLoader) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as YAML or JSON: {reason}") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: must hold names of settings and their values")
    return document


def _flat(document: dict[str, Any], start: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        name = start + str(key).replace("-", "_")
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def _converted(value: Any, kind: Any) -> Any:
    """Convert a text, or a list of texts, to a value of a type."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        for part in sorted(parts, key=lambda part: part is not NoneType):
            with suppress(ValueError):
                return _converted(value, part)
        raise ValueError(value)
    if (origin is tuple) != isinstance(value, list):
        raise ValueError(value)
    if origin is tuple:
        kinds = [parts[0]] * len(value) if parts[-1] is ... else parts
        return tuple(_converted(v, k) for v, k in zip(value, kinds, strict=True))
    words = {str(part): part for part in parts} if origin is Literal else _WORDS.get(kind)
    value = value.lower() if kind is bool else value
    if value not in (words or [value]) or (kind is Path and not value):
        raise ValueError(value)
    return words[value] if words else kind(value)
