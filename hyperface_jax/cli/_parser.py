"""Parsing of command-line arguments into settings, with tyro."""

import argparse
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from hyperface_jax import runs
from hyperface_jax.cli._config import read_config
from hyperface_jax.cli._leaves import Leaf, Trail, build, in_flags, leaves
from hyperface_jax.cli._verbs import EXAMPLES, VERBS
from hyperface_jax.runs.support.settings import option

_GENERAL = ("general",)
_MARKERS = (tyro.conf.OmitArgPrefixes,)


@dataclass(frozen=True, kw_only=True)
class General:
    """Options that every verb has."""

    quiet: bool = option(False, aliases=("silent",))
    """Show no progress and no remarks; warnings stay."""
    json: bool = False
    """Print the figures as JSON instead of words."""
    config: Path | None = option(None, metavar="FILE")
    """Read settings from FILE, in YAML or JSON. Options on the command line take precedence."""
    print_config: bool = False
    """Print all settings as YAML that --config can read, and run nothing."""


def parse(verb: str, words: Sequence[str]) -> tuple[Any, General]:
    """Return the settings of a verb that its arguments give, and the general ones."""
    settings = getattr(runs, verb.capitalize())
    found = _leaves(settings)
    words = _in_new_names(words, found)
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--config", type=Path, nargs="?")
    path = early.parse_known_args(words)[0].config
    try:
        parsed = tyro.cli(
            _tyro_type(found, read_config(path, settings) if path else {}),
            prog=f"hyperface {verb}",
            description=in_flags(inspect.getdoc(settings) or "", settings),
            args=words,
            config=_MARKERS,
        )
    except SystemExit as leaving:
        if not leaving.code:
            print(f"example:\n  hyperface {verb} {EXAMPLES[verb]}")
        raise
    flat: dict[str, Any] = {}
    for name, value in vars(parsed).items():
        flat |= vars(value) if is_dataclass(value) else {name: value}
    values = {leaf.trail: flat["_".join(leaf.trail)] for leaf in found}
    return build(settings, values), build(General, values, _GENERAL)


def print_completion(shell: str) -> None:
    """Print a script that completes all verbs in a shell, and raise ``SystemExit``."""
    types = {verb: _tyro_type(_leaves(getattr(runs, verb.capitalize())), {}) for verb in VERBS}
    words = ["--tyro-print-completion", shell]
    tyro.extras.subcommand_cli_from_dict(types, prog="hyperface", args=words, config=_MARKERS)


def _leaves(settings: type) -> list[Leaf]:
    own = [leaf._replace(help=in_flags(leaf.help, settings)) for leaf in leaves(settings)]
    return [*own, *leaves(General, _GENERAL, "general")]


def _tyro_type(found: Sequence[Leaf], given: Mapping[Trail, Any]) -> Any:
    """Return a class with an attribute for each option outside of groups and for each group."""
    groups: dict[str, list[Any]] = {"": []}
    for leaf in found:
        shown = _tyro_field(leaf, given.get(leaf.trail, leaf.default))
        groups.setdefault(leaf.group, []).append(shown)
    attributes = groups.pop("")
    for title, members in groups.items():
        name = f"group_{len(attributes)}"
        group = make_dataclass(name, members, kw_only=True)
        attributes.append((name, Annotated[group, tyro.conf.arg(name=title)]))
    return make_dataclass("Options", attributes, kw_only=True)


def _tyro_field(leaf: Leaf, default: Any) -> Any:
    is_pair = leaf.kind is bool
    is_switch = is_pair and leaf.trail[:-1] == _GENERAL
    config = tyro.conf.arg(
        name=leaf.flag,
        help=leaf.help,
        metavar=None if is_pair else leaf.metavar,
        help_behavior_hint="" if is_switch or default in (None, ()) else None,
    )
    kind = Annotated[leaf.kind, config]
    if leaf.option.is_positional:
        kind = tyro.conf.Positional[kind]
    if is_switch:
        kind = tyro.conf.FlagCreatePairsOff[kind]
    return "_".join(leaf.trail), kind, field(default=default)


def _in_new_names(words: Sequence[str], found: Sequence[Leaf]) -> list[str]:
    """Replace old names of options by their current names."""
    names = {alias.replace("_", "-"): leaf.flag for leaf in found for alias in leaf.option.aliases}
    renamed = {f"--{no}{old}": f"--{no}{new}" for old, new in names.items() for no in ("", "no-")}
    split = [word.partition("=") for word in words]
    return [renamed.get(name, name) + equals + value for name, equals, value in split]
