"""Whose folder is this? What a folder says that it was made by, and what may be written there."""

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
    """Write the settings that a folder is made by, or check that it was made by the same.

    Args:
        folder: the folder, which is there.
        name: of the file of settings in it.
        settings: in terms of JSON.
        ignore: settings that may differ, since they do not change the result.
        renamed: new names of settings, by those that earlier versions wrote.
        respelled: new values by those that earlier versions wrote, by the (new) name of the setting.
        own: names of files that may be there already.
        kind: what the folder holds, for the message.

    Raises:
        InputError: it holds files of something else, or was made by other settings, each of which is
            named.
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
        lacks: name of the file that would tell that it is ours, for the message.

    Raises:
        InputError: it does, or is a file.
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


def refuse_foreign(folder: Path, name: str, is_own: Callable[[Any], bool] = lambda _: True) -> None:
    """Refuse a folder, or a place for one, that holds other things than a result that may be replaced.

    Args:
        folder: the folder; it may be missing or empty.
        name: of the file of JSON that tells whose it is.
        is_own: whether what that file holds is ours.

    Raises:
        InputError: it does, or is a file.
    """
    path = folder / name
    if not (path.is_file() and is_own(read_json(path))):
        refuse_strangers(folder)


def refuse_foreign_file(path: Path, maker: str, is_own: Callable[[Path], bool]) -> None:
    """Refuse to replace a file that something else wrote.

    Args:
        path: the file; it may be missing.
        maker: the stage that writes such files, for the message.
        is_own: whether a file that is there was written by it.

    Raises:
        InputError: it was not.
    """
    if path.exists() and not is_own(path):
        raise InputError(
            f"`out={one_line(path)}`: is there and was not written by {maker}; choose another name"
        )
