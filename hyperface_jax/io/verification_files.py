"""Readers of verification benchmarks: pairs of images that a recognition network is tested on.

A ``.bin`` file of insightface is a pickle, and a pickle may call any code. Here it cannot call anything
in Python or NumPy: see :mod:`hyperface_jax.io.numpy_pickles`.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperface_jax.errors import InputError
from hyperface_jax.io.files import one_line, os_input_error
from hyperface_jax.io.numpy_pickles import STANDS_FOR, PickledArray, Stand
from hyperface_jax.io.pair_lists import LIST_FORMATS, listed_pairs

if TYPE_CHECKING:
    import os

    StrPath = str | os.PathLike[str]

_FORMATS = f"give a .bin of insightface, {LIST_FORMATS}"
_PICKLE_SUFFIXES = (".bin", ".pkl", ".pickle")
_PICKLE_START = b"\x80"


@dataclass(frozen=True)
class VerificationSet:
    """Pairs of images; some show the same person, the others show two persons.

    Attributes:
        images: encoded images or paths, ``[2 n]``; the two images of a pair are adjacent.
        is_same: whether each pair shows one person, bool ``[n]``.
        name: name of the benchmark.
    """

    images: Sequence[bytes | Path]
    is_same: np.ndarray
    name: str

    def read(self, index: int, /) -> bytes:
        """Return an encoded image; raise an ``InputError`` if its file cannot be read."""
        image = self.images[index]
        if isinstance(image, bytes):
            return image
        try:
            return image.read_bytes()
        except OSError as error:
            raise os_input_error(image, "cannot read", error) from error


def refuse_equal_names(option: str, paths: Sequence[Path]) -> None:
    """Raise an ``InputError`` if two files give sets of the same name, whose figures would collide."""
    names = [path.stem for path in paths]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{option}: two are called {one_line(twice)}; rename a file")


def read_verification_set(path: StrPath, images_root: StrPath | None = None) -> VerificationSet:
    """Read the pairs of a benchmark in any of the known formats.

    Args:
        path: a ``.bin`` file of insightface, or a list of pairs in a format of
            :mod:`hyperface_jax.io.pair_lists`.
        images_root: folder that the paths in a list are relative to; None takes the folder of the list.
            A ``.bin`` file contains its images and does not need it.

    Returns:
        The pairs in the order of the file; the set is named after the file.

    Raises:
        InputError: the file cannot be read, has an unknown format, is truncated or inconsistent, or is
            a pickle that asks to run code; or images of a list are missing.
    """
    path = Path(path)
    content = _read(path)
    if path.suffix.lower() in _PICKLE_SUFFIXES or content.startswith(_PICKLE_START):
        return _from_pickle(path, content)
    root = path.parent if images_root is None else Path(images_root)
    pairs = listed_pairs(path, content, root)
    images = [image for pair in pairs for image in (pair.first, pair.second)]
    return VerificationSet(images, np.array([pair.is_same for pair in pairs]), path.stem)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise os_input_error(path, "cannot read", error) from error


# Pickles


class _Unpickler(pickle.Unpickler):
    def __init__(self, path: Path, content: bytes) -> None:
        # Python 2 wrote encoded images as text; only this setting restores the bytes.
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._path = path

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in STANDS_FOR:
            raise InputError(
                f"{one_line(self._path)}: the pickle asks for "
                f"{one_line(f'{module_name}.{global_name}')}, which is no part of a benchmark and "
                "was not run; get the file from its source again"
            )
        return Stand((module_name, global_name))


def _from_pickle(path: Path, content: bytes) -> VerificationSet:
    value = _unpickled(path, content)
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise InputError(f"{one_line(path)}: is no pair (images, is_same); {_FORMATS}")
    images = [_image(path, index, image) for index, image in enumerate(_items(path, value[0]))]
    is_same = [_label(path, index, label) for index, label in enumerate(_items(path, value[1]))]
    if len(images) != 2 * len(is_same) or not is_same:
        raise InputError(
            f"{one_line(path)}: {len(images)} images for {len(is_same)} labels; two images per label "
            "are needed, so get the file again"
        )
    return VerificationSet(images, np.array(is_same), path.stem)


def _unpickled(path: Path, content: bytes) -> Any:
    try:
        return _Unpickler(path, content).load()
    except InputError:
        raise
    except (
        pickle.UnpicklingError,
        EOFError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        OverflowError,
        MemoryError,
        RecursionError,
        struct.error,
    ) as error:
        raise InputError(
            f"{one_line(path)}: no whole pickle of a benchmark ({one_line(error)}); "
            "get the file again"
        ) from error


def _items(path: Path, value: Any) -> Sequence[Any]:
    if isinstance(value, PickledArray) and value.is_flat:
        return value.values.reshape(-1).tolist()
    if not isinstance(value, list | tuple):
        raise InputError(
            f"{one_line(path)}: holds a {type(value).__name__} where a list is needed; {_FORMATS}"
        )
    return value


def _image(path: Path, index: int, image: Any) -> bytes:
    if isinstance(image, PickledArray) and image.values.dtype == object and image.values.size == 1:
        image = image.values.item()
    if isinstance(image, PickledArray) and image.values.dtype == np.uint8 and image.is_flat:
        image = image.values.tobytes()
    if not isinstance(image, bytes) or not image:
        raise InputError(
            f"{one_line(path)}: image {index} is not an encoded image; store the bytes of a JPEG "
            "or PNG file"
        )
    return image


def _label(path: Path, index: int, label: Any) -> bool:
    if not isinstance(label, int) or label not in (0, 1):
        raise InputError(f"{one_line(path)}: label {index} is not True or False; fix that label")
    return bool(label)
