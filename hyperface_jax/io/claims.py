"""Ownership of folders: which run made a folder, and whether another run may write to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import atomic_write_json, one_line, read_json

_NO_NAMES: Mapping[str, str] = MappingProxyType({})
_NO_VALUES: Mapping[str, Mapping[str, str]] = MappingProxyType({})
_SHOWN = 3


def claim(
    folder: Path,
    name: str,
    settings: Mapping[str, Any],
    *,
    ignore: Collection[str] = (),
    renamed: Mapping[str, str] = _NO_NAMES,
    respelled: Mapping[str, Mapping[str, str]] = _NO_VALUES,
    own: Collection[str] = (),
    kind: str = "run",
) -> None:
    """Write the settings of a run to its folder, or check that the folder was made with the same ones.

    Args:
        folder: an existing folder.
        name: name of the settings file in it.
        settings: settings as JSON values.
        ignore: settings that may differ because they do not change the result.
        renamed: current names of settings, by the names that earlier versions wrote.
        respelled: for each setting (by its current name), current values by the values that earlier
            versions wrote.
        own: names of files that may already be there.
        kind: kind of thing that the folder holds, for the message.

    Raises:
        InputError: the folder holds files of something else, or was made with other settings; the
            message names each of them.
    """
    path = folder / name
    if not path.exists():
        refuse_strangers(folder, own=own, lacks=name)
        atomic_write_json(path, dict(settings))
        return
    there = {renamed.get(key, key): value for key, value in read_json(path).items()}
    for key in there.keys() & respelled.keys():
        there[key] = respelled[key].get(there[key], there[key])
    differing = [
        f"{one_line(key)} ({there.get(key)!r} there, {settings.get(key)!r} now)"
        for key in sorted((there.keys() | settings.keys()) - set(ignore))
        if there.get(key) != settings.get(key)
    ]
    if differing:
        raise InputError(
            f"{one_line(folder)}: holds a {kind} with other settings: {', '.join(differing)}: choose "
            "another `out` or the same settings"
        )


def refuse_strangers(folder: Path, *, own: Collection[str] = (), lacks: str = "") -> None:
    """Refuse a folder that holds files of something else.

    Args:
        folder: the folder; it may be missing.
        own: names of files that may be there.
        lacks: name of the missing file that would mark the folder as ours, for the message.

    Raises:
        InputError: the folder holds other files, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"`out={one_line(folder)}`: is a file; choose a folder")
    found = folder.iterdir() if folder.exists() else ()
    strangers = sorted(path.name for path in found if path.name not in own)
    if strangers:
        listed = one_line(", ".join(strangers[:_SHOWN]))
        missing = f" and no {lacks}" if lacks else ""
        raise InputError(
            f"{one_line(folder)}: holds files of something else ({listed}){missing}: choose an empty "
            "`out`"
        )


def refuse_foreign(
    folder: Path,
    name: str,
    is_own: Callable[[Any], bool] = lambda _: True,
    *,
    unfinished: Collection[str] = (),
) -> None:
    """Refuse a folder that holds anything but a result that may be replaced.

    Args:
        folder: the folder; it may be missing or empty.
        name: name of the JSON file that tells what made the folder.
        is_own: tells from the contents of that file whether the result is ours.
        unfinished: names of files that a run leaves there before that file.

    Raises:
        InputError: the folder holds something else, or is a file.
    """
    path = folder / name
    if not (path.is_file() and is_own(read_json(path))):
        refuse_strangers(folder, own=unfinished)


def refuse_foreign_file(path: Path, maker: str, is_own: Callable[[Path], bool]) -> None:
    """Refuse to replace a file that something else wrote.

    Args:
        path: the file; it may be missing.
        maker: the stage that writes such files, for the message.
        is_own: tells whether an existing file was written by that stage.

    Raises:
        InputError: the file was written by something else.
    """
    if path.exists() and not is_own(path):
        raise InputError(
            f"`out={one_line(path)}`: is there and was not written by {maker}; choose another name"
        )
