"""The range of pixel values that an ONNX network expects, read from its first layers without onnx."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from hyperface_jax.io.files import StrPath

InputRange = Literal["signed", "unit", "pixels"]
"""Range of the numbers that a network takes: -1 to 1, 0 to 1, or 0 to 255."""

_NUM_FIRST = 8
_PASSES = ("Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Dropout")
_SHIFTS, _SCALES = ("Sub", "Add"), ("Mul", "Div")
_NORM, _NORM_EPSILON = "BatchNormalization", 1e-5
_DTYPES = {1: "<f4", 6: "<i4", 7: "<i8", 10: "<f2", 11: "<f8"}
# Field numbers in onnx.proto.
_GRAPH, _NODE, _INITIALIZER = 7, 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OP, _NODE_ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_FLOAT, _ATTRIBUTE_TENSOR = 1, 2, 5
_VARINT, _DELIMITED, _LENGTHS = 0, 2, {1: 8, 5: 4}
_TENSOR_DTYPE, _TENSOR_FLOATS, _TENSOR_NAME, _TENSOR_RAW = 2, 4, 8, 9


_Message: TypeAlias = "dict[int, list[memoryview]]"
"""The fields of a message by field number; an integer is given by its bytes."""


class _Node(NamedTuple):
    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, _Message]


class _Affine(NamedTuple):
    """The map ``scale x + shift``, averaged over channels."""

    scale: float = 1.0
    shift: float = 0.0


def find_input_range(path: StrPath, input_name: str) -> InputRange:
    """Infer which numbers a network takes from the scaling that it starts with.

    Args:
        path: an ONNX file.
        input_name: name of the input that takes images.

    Returns:
        "pixels" or "unit" if the first layers scale numbers of that range to about -1 to 1; "signed" if
        there is no such scaling, or if the file cannot be followed.
    """
    try:
        with Path(path).open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        nodes, constants = _parsed(content)
        scaling = _first_scaling(nodes, constants, input_name)
    except (OSError, KeyError, ValueError, IndexError, struct.error):
        return "signed"
    if scaling is None:
        return "pixels" if _is_scaled_by_name(nodes) else "signed"
    return _range_of(scaling)


def _range_of(scaling: _Affine) -> InputRange:
    if scaling == _Affine() or scaling.scale == 0:
        return "signed"
    center = -scaling.shift / scaling.scale
    if abs(center) > 2 or abs(scaling.scale) < 0.1:
        return "pixels"
    return "unit" if 0.3 < center < 0.7 and scaling.scale > 1.5 else "signed"


def _is_scaled_by_name(nodes: list[_Node]) -> bool:
    """Apply the rule of insightface, for constants that the file computes."""
    names = [name.lower().lstrip("_") for node in nodes[:_NUM_FIRST] for name in node[:2]]
    return all(any(name.startswith(way) for name in names) for way in (("sub", "minus"), "mul"))


def _first_scaling(
    nodes: list[_Node], constants: dict[str, memoryview], value: str
) -> _Affine | None:
    """Follow the input up to the first layer that does not scale; None if a constant is unknown."""
    scaling = _Affine()
    for _ in range(_NUM_FIRST):
        users = [node for node in nodes if value in node.inputs and node.op != "Shape"]
        if len(users) != 1:
            return scaling
        node = users[0]
        if node.op in (*_SHIFTS, *_SCALES, _NORM):
            numbers = [_number(constants, name) for name in node.inputs if name != value]
            known = [number for number in numbers if number is not None]
            if len(known) < len(numbers) or not known:
                return None
            scaling = _after(node, known, scaling, is_left=node.inputs[0] == value)
        elif node.op not in _PASSES:
            return scaling
        value = node.outputs[0]
    return scaling


def _after(node: _Node, numbers: list[float], before: _Affine, *, is_left: bool) -> _Affine:
    scale, shift = before
    if node.op == _NORM:
        gain, bias, mean, variance = numbers
        gain /= (variance + _epsilon(node)) ** 0.5
        return _Affine(gain * scale, gain * (shift - mean) + bias)
    number = numbers[0]
    if node.op == "Add":
        return _Affine(scale, shift + number)
    if node.op == "Sub":
        return _Affine(scale, shift - number) if is_left else _Affine(-scale, number - shift)
    if node.op == "Div" and (not is_left or number == 0):
        raise ValueError("no scaling")
    factor = number if node.op == "Mul" else 1 / number
    return _Affine(factor * scale, factor * shift)


def _epsilon(node: _Node) -> float:
    stored = node.attributes.get("epsilon", {}).get(_ATTRIBUTE_FLOAT)
    return struct.unpack("<f", stored[0])[0] if stored else _NORM_EPSILON


def _number(constants: dict[str, memoryview], name: str) -> float | None:
    """Return the mean of a constant, if the file holds it."""
    if name not in constants:
        return None
    fields = _message(constants[name])
    dtype = _DTYPES.get(int.from_bytes(fields[_TENSOR_DTYPE][0], "little"))
    data = b"".join(fields.get(_TENSOR_RAW) or fields.get(_TENSOR_FLOATS, []))
    if dtype is None or not data:
        return None
    return float(np.mean(np.frombuffer(data, dtype).astype(np.float64)))


def _parsed(content: memoryview) -> tuple[list[_Node], dict[str, memoryview]]:
    """Return the nodes, and the constants by name."""
    graph = _message(_message(content)[_GRAPH][0])
    nodes = [_node(data) for data in graph.get(_NODE, [])]
    constants = {
        _text(_message(data)[_TENSOR_NAME][0]): data for data in graph.get(_INITIALIZER, [])
    }
    for node in nodes:
        tensor = node.attributes.get("value", {}).get(_ATTRIBUTE_TENSOR)
        if node.op == "Constant" and tensor:
            constants[node.outputs[0]] = tensor[0]
    return nodes, constants


def _node(data: memoryview) -> _Node:
    fields = _message(data)
    inputs, outputs, names, ops = (
        [_text(value) for value in fields.get(key, [])]
        for key in (_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OP)
    )
    attributes = [_message(value) for value in fields.get(_NODE_ATTRIBUTE, [])]
    named = {_text(fields[_ATTRIBUTE_NAME][0]): fields for fields in attributes}
    return _Node("".join(ops), "".join(names), inputs, outputs, named)


def _text(data: memoryview) -> str:
    return bytes(data).decode(errors="replace")


def _message(data: memoryview) -> _Message:
    """Split a protocol buffer message into its fields, without decoding them."""
    fields: _Message = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            field = memoryview(value.to_bytes(10, "little"))
        elif kind in _LENGTHS:
            field, at = data[at : at + _LENGTHS[kind]], at + _LENGTHS[kind]
        elif kind == _DELIMITED:
            length, at = _varint(data, at)
            field, at = data[at : at + length], at + length
        else:
            raise ValueError("no protocol buffer")
        fields.setdefault(tag >> 3, []).append(field)
    return fields


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("no protocol buffer")
