"""Substitutes for what pickled NumPy arrays are made of, so that reading them calls nothing in NumPy.

A pickle may call any code. An unpickler that finds only the names in :data:`STANDS_FOR`, each as a
:class:`Stand`, can build arrays of numbers and of objects, and nothing else.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np


class PickledDtype:
    """Substitute for a pickled NumPy type; only booleans, numbers and objects are allowed."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code.decode("ascii") if isinstance(code, bytes) else code
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        self.order = order.decode("ascii") if isinstance(order, bytes) else order

    @property
    def is_of_objects(self) -> bool:
        """Whether it is the type of Python objects."""
        return bool(re.fullmatch("O[48]?", self.code))

    def values(self, data: bytes) -> np.ndarray:
        """Return the numbers in the bytes of an array.

        Raises:
            ValueError: the type is not allowed.
        """
        if not re.fullmatch("b1|[ui][1248]|f[248]", self.code) or self.order not in (
            "<",
            ">",
            "|",
            "=",
        ):
            raise ValueError(f"an array of type {self.order}{self.code}")
        return np.frombuffer(data, self.order.replace("|", "=") + self.code)


class PickledArray:
    """Substitute for a pickled NumPy array."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, data = state
        self.fill(data, dtype, shape, "F" if is_fortran else "C")

    def fill(self, data: Any, dtype: Any, shape: Any, order: Any) -> PickledArray:
        """Take the numbers or the objects of an array.

        Raises:
            TypeError: the data are of neither kind.
        """
        if isinstance(dtype, PickledDtype) and dtype.is_of_objects and isinstance(data, list):
            # Assigned one by one, because NumPy would unpack objects that are sequences.
            values = np.empty(len(data), object)
            for index, value in enumerate(data):
                values[index] = value
        elif isinstance(dtype, PickledDtype) and isinstance(data, bytes | bytearray):
            values = dtype.values(bytes(data))
        else:
            raise TypeError("an array that is not of bytes and a type")
        self.values = values.reshape(shape, order=order)
        return self

    @property
    def is_flat(self) -> bool:
        """Whether the values form a single row or a single column."""
        return self.values.size == max(self.values.shape, default=1)


def _scalar(dtype: PickledDtype, data: bytes) -> Any:
    return dtype.values(data).item()


def _encode(text: str, encoding: Any) -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise ValueError(f"the encoding {encoding}")
    return text.encode("latin1")


STANDS_FOR = {
    ("numpy", "ndarray"): lambda *_: None,
    ("numpy", "dtype"): PickledDtype,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", lambda *_: PickledArray()),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", lambda *args: PickledArray().fill(*args)),
        )
    },
}
"""What a pickle gets for the names, by module and name, that it may ask for."""


class Stand:
    """A function that a pickle can only call; it cannot, for example, set its attributes.

    Args:
        key: module and name that the pickle asks for, among ``STANDS_FOR``.
    """

    __slots__ = ("_key",)

    def __init__(self, key: tuple[str, str]) -> None:
        self._key = key

    def __call__(self, *args: Any) -> Any:
        """Call the substitute."""
        return STANDS_FOR[self._key](*args)

    def __setstate__(self, state: Any) -> None:
        raise TypeError("a function cannot be changed")
