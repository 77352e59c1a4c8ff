"""What an optimized program moves and computes, read from its HLO text.

``cost_analysis()`` of a compiled program counts the body of a loop once. Here loops count as often as
they run, of a conditional its largest branch, and arrays that the compiler keeps on the chip (``S(1)``
in their layout, VMEM) are free. Padding of layouts is not counted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

_HEADER = re.compile(r"^(ENTRY )?%(\S+) \(.*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%(\S+) = (.*?) ([a-z][a-z\d-]*)\((.*)$")
_ARRAY = re.compile(r"([a-z]+\d*\w*)\[([\d,]*)\](\{[^{}]*\})?")
_PRECISION = re.compile(r"operand_precision=\{(\w+)")
_PASSES = {"default": 1, "high": 3, "highest": 6}
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call"}
_FREE |= {"conditional", "async-start", "custom-call", "after-all", "opt-barrier"}


class Array(NamedTuple):
    """An array and where it lives: memory space 0 is HBM, 1 VMEM."""

    dtype: str
    dims: tuple[int, ...]
    memory: int

    @property
    def num_bytes(self) -> float:
        """Bytes of the elements."""
        bits = re.search(r"\d+", self.dtype)
        return math.prod(self.dims) * (int(bits[0]) / 8 if bits else self.dtype == "pred")

    @property
    def hbm_bytes(self) -> float:
        """Bytes of the elements if they live in HBM, else 0."""
        return 0 if self.memory else self.num_bytes


class Instruction(NamedTuple):
    """One line of a computation; the arrays of its result, tuples flattened."""

    name: str
    is_root: bool
    arrays: tuple[Array, ...]
    opcode: str
    text: str
    """Operands and attributes as they stand there."""

    @property
    def argument(self) -> str:
        """What stands between the parentheses."""
        return self.text.partition(")")[0]

    @property
    def operands(self) -> list[str]:
        """Names of the operands."""
        return re.findall(r"%([^\s,()]+)", self.argument)

    def attribute(self, *names: str) -> str:
        """Return the first of some one-word attributes, a computation for example."""
        found = re.search(rf"[ ,](?:{'|'.join(names)})=%?([^\s,{{}}]+)", self.text)
        return found[1] if found else ""


Computation = dict[str, Instruction]
"""Instructions by name, in the order of the schedule."""


class Traffic(NamedTuple):
    """What a device moves from and to HBM, in bytes, and the FLOPs of its matrix products."""

    read: float = 0
    written: float = 0
    flops: float = 0
    passed_flops: float = 0
    """The same, times the passes of a bfloat16 unit: six in ``Precision.HIGHEST``, three in ``HIGH``."""

    @property
    def hbm_bytes(self) -> float:
        """Bytes from and to HBM."""
        return self.read + self.written


class Visit(NamedTuple):
    """An instruction outside fusions, the computation around it, and how often it runs."""

    instruction: Instruction
    inside: Computation
    times: float


class Permute(NamedTuple):
    """A transfer between devices, and what the device does between its start and its end."""

    asynchronous: bool
    times: float
    num_bytes: float
    """Bytes that a device sends, all times together."""
    hidden_flops: float = 0
    """FLOPs in between, each time."""
    hidden_loops: int = 0


class Program:
    """A parsed program.

    Args:
        text: ``compiled.as_text()``.
        unknown_trips: how often a loop runs whose number of iterations does not stand in the text;
            None raises a ValueError there.
    """

    def __init__(self, text: str, unknown_trips: float | None = None) -> None:
        self._computations, self._entry = _parsed(text)
        self._unknown_trips = unknown_trips

    def visits(self) -> Iterator[Visit]:
        """Yield everything that runs, in the order of the schedule."""
        return self._walk(self._entry, 1)

    def traffic(self) -> Traffic:
        """Return what one execution moves and computes."""
        return self._total(self.visits())

    def own_traffic(self, visit: Visit) -> Traffic:
        """Return what an instruction moves and computes each time, without the loops in it."""
        return Traffic(*self._moved(visit), *self._flops(visit.instruction, visit.inside))

    def permutes(self) -> list[Permute]:
        """Return the transfers between devices."""
        starts = ("collective-permute", "collective-permute-start")
        return [self._permute(v) for v in self.visits() if v.instruction.opcode in starts]

    def opcodes(self, instruction: Instruction) -> list[str]:
        """Return the opcodes of an instruction, inside a fusion those of everything fused."""
        if instruction.opcode != "fusion":
            return [instruction.opcode]
        fused = self._computations[instruction.attribute("calls")]
        return [opcode for each in fused.values() for opcode in self.opcodes(each)]

    def largest_array(self) -> Array:
        """Return the array of most elements, inside fusions too."""
        lines = (i for computation in self._computations.values() for i in computation.values())
        return max((a for i in lines for a in i.arrays), key=lambda a: math.prod(a.dims))

    def _walk(self, name: str, times: float) -> Iterator[Visit]:
        inside = self._computations[name]
        for instruction in inside.values():
            yield from self._visit(Visit(instruction, inside, times))

    def _visit(self, visit: Visit) -> Iterator[Visit]:
        yield visit
        instruction = visit.instruction
        if instruction.opcode == "while":
            times = visit.times * self._trips(instruction, visit.inside)
            yield from self._walk(instruction.attribute("body"), times)
        elif instruction.opcode in ("call", "async-start"):
            yield from self._walk(instruction.attribute("to_apply", "calls"), visit.times)
        elif instruction.opcode == "conditional":
            largest = max(_branches(instruction), key=lambda name: self._total(self._walk(name, 1)))
            yield from self._walk(largest, visit.times)

    def _total(self, visits: Iterator[Visit]) -> Traffic:
        parts = [[visit.times * x for x in self.own_traffic(visit)] for visit in visits]
        return Traffic(*map(sum, zip(*parts, strict=True)))

    def _trips(self, loop: Instruction, inside: Computation) -> float:
        """Count a loop that steps by one, as those of JAX do, from a constant up to another.

        Compilers for CPUs write the count down, those for TPUs leave it to the condition.
        """
        if written := _TRIPS.search(loop.text):
            return int(written[1])
        condition = self._computations[loop.attribute("condition")]
        compare, state = _root(condition), inside[loop.operands[0]]
        if compare.attribute("direction") == "LT" and state.opcode == "tuple":
            counter, bound = compare.operands
            place = condition[counter].attribute("index")
            start = _constant(inside, state.operands[int(place)]) if place else None
            stop = _constant(condition, bound)
            if start is not None and stop is not None:
                return stop - start
        if self._unknown_trips is None:
            raise ValueError(f"{loop.name} runs from or to a variable: pass unknown_trips")
        return self._unknown_trips

    def _moved(self, visit: Visit) -> tuple[float, float]:
        instruction, inside, _ = visit
        opcode, arrays = instruction.opcode, instruction.arrays
        if opcode in _FREE or opcode.endswith("-done"):
            return 0, 0
        operands = [array for name in instruction.operands for array in inside[name].arrays]
        if opcode == "fusion":
            fused = self._computations[instruction.attribute("calls")]
            return self._read_by(fused, operands), self._written_by(fused, arrays)
        if opcode in ("copy-start", "collective-permute-start"):
            return operands[0].hbm_bytes, arrays[opcode != "copy-start"].hbm_bytes
        if opcode in ("slice", "dynamic-slice", "slice-start"):
            part = arrays[opcode == "slice-start"]
            return 0 if operands[0].memory else part.num_bytes, part.hbm_bytes
        if opcode == "dynamic-update-slice":
            return operands[1].hbm_bytes, 0 if arrays[0].memory else operands[1].num_bytes
        return sum(a.hbm_bytes for a in operands), sum(a.hbm_bytes for a in arrays)

    def _read_by(self, fused: Computation, operands: list[Array]) -> float:
        names = {i.argument: i.name for i in fused.values() if i.opcode == "parameter"}
        return sum(
            self._read(fused, names[str(place)], array.num_bytes)
            for place, array in enumerate(operands)
            if not array.memory
        )

    def _read(self, fused: Computation, name: str, whole: float) -> float:
        """Return what a fusion reads of an array: slices of it where it uses no more."""
        total = 0.0
        for user in fused.values():
            places = [place for place, operand in enumerate(user.operands) if operand == name]
            if not places or (user.opcode == "dynamic-update-slice" and places == [0]):
                continue
            if user.opcode == "bitcast":
                total += self._read(fused, user.name, whole)
            elif user.opcode in ("slice", "dynamic-slice"):
                total += user.arrays[0].num_bytes
            elif user.opcode == "fusion":
                nested = self._computations[user.attribute("calls")]
                names = {i.argument: i.name for i in nested.values() if i.opcode == "parameter"}
                total += sum(self._read(nested, names[str(place)], whole) for place in places)
            else:
                return whole
        return min(total, whole)

    def _written_by(self, fused: Computation, arrays: tuple[Array, ...]) -> float:
        root = _root(fused)
        ends = [fused[name] for name in root.operands] if root.opcode == "tuple" else [root]
        pairs = zip(ends, arrays, strict=True)
        return sum(self._update(fused, end) or a.num_bytes for end, a in pairs if not a.memory)

    def _update(self, fused: Computation, end: Instruction) -> float:
        """Return the bytes that a fusion updates in place; 0 if it writes a whole array."""
        if end.opcode == "bitcast":
            return self._update(fused, fused[end.operands[0]])
        if end.opcode == "fusion":
            nested = self._computations[end.attribute("calls")]
            return self._update(nested, _root(nested))
        is_update = end.opcode == "dynamic-update-slice"
        return fused[end.operands[1]].arrays[0].num_bytes if is_update else 0

    def _flops(self, instruction: Instruction, inside: Computation) -> tuple[float, float]:
        if instruction.opcode == "fusion":
            fused = self._computations[instruction.attribute("calls")]
            pairs = [self._flops(each, fused) for each in fused.values()]
            return sum(a for a, _ in pairs), sum(b for _, b in pairs)
        if instruction.opcode not in ("convolution", "dot"):
            return 0, 0
        left, right = (inside[name].arrays[0].dims for name in instruction.operands)
        contracted = _contracted(instruction, left, right)
        flops = 2.0 * math.prod(instruction.arrays[0].dims) * contracted
        precision = _PRECISION.search(instruction.text)
        return flops, flops * _PASSES[precision[1] if precision else "default"]

    def _permute(self, visit: Visit) -> Permute:
        start, inside, times = visit
        sent = times * inside[start.operands[0]].arrays[0].num_bytes
        if start.opcode == "collective-permute":
            return Permute(False, times, sent)
        order = list(inside.values())
        end = next(i for i in order if i.opcode.endswith("-done") and start.name in i.operands)
        between = order[order.index(start) : order.index(end)]
        hidden = (v for each in between for v in self._visit(Visit(each, inside, 1)))
        loops = sum(each.opcode == "while" for each in between)
        return Permute(True, times, sent, self._total(hidden).flops, loops)


def traffic(text: str, *, unknown_trips: float | None = None) -> Traffic:
    """Return what one execution of a program moves and computes."""
    return Program(text, unknown_trips).traffic()


def permutes(text: str, *, unknown_trips: float | None = None) -> list[Permute]:
    """Return the transfers between devices in a program."""
    return Program(text, unknown_trips).permutes()


def largest_array(text: str) -> Array:
    """Return the array of most elements in a program."""
    return Program(text).largest_array()


def _parsed(text: str) -> tuple[dict[str, Computation], str]:
    computations: dict[str, Computation] = {}
    entry, current = "", {}
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        if header := _HEADER.match(line):
            current = computations[header[2]] = {}
            entry = header[2] if header[1] else entry
        elif found := _LINE.match(line):
            root, name, shape, opcode, rest = found.groups()
            arrays = tuple(map(_array, _ARRAY.finditer(shape)))
            current[name] = Instruction(name, bool(root), arrays, opcode, rest)
    return computations, entry


def _array(found: re.Match[str]) -> Array:
    memory = re.search(r"S\((\d+)\)", found[3] or "")
    dims = tuple(int(side) for side in found[2].split(",") if side)
    return Array(found[1], dims, int(memory[1]) if memory else 0)


def _root(computation: Computation) -> Instruction:
    return next(instruction for instruction in computation.values() if instruction.is_root)


def _branches(conditional: Instruction) -> list[str]:
    listed = re.search(r"branch_computations=\{(.*?)\}", conditional.text)
    named = re.findall(r"(?:true|false)_computation=%([^\s,]+)", conditional.text)
    return re.findall(r"%([^\s,]+)", listed[1]) if listed else named


def _constant(inside: Computation, name: str) -> int | None:
    instruction: Any = inside[name]
    while instruction.opcode in ("copy", "bitcast"):
        instruction = inside[instruction.operands[0]]
    is_number = instruction.opcode == "constant" and re.fullmatch(r"-?\d+", instruction.argument)
    return int(instruction.argument) if is_number else None


def _contracted(product: Instruction, left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Return how many multiplications an element of a product takes."""
    if labels := product.attribute("dim_labels"):
        kernel = labels.partition("_")[2].partition("->")[0]
        return math.prod(n for n, label in zip(right, kernel, strict=True) if label != "o")
    axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", product.text)
    return math.prod(left[int(axis)] for axis in axes[1].split(",") if axis) if axes else 1
