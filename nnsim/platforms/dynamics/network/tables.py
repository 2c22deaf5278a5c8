"""From the program of a network to the table that `nnsim.platforms.dynamics.network.passes` goes by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from itertools import product as all_pairs
from typing import Any, NamedTuple

import numpy as np

from nnsim.networks.operations import Operation, Place
from nnsim.networks.program import Program
from nnsim.platforms.dynamics.network import activations, joins, passes
from nnsim.platforms.dynamics.network.lanes import LANES

COLUMNS = passes.OWN + 18
DIRECT_CHANNELS = 32  # up to which loops over rows are faster than a matrix product of strips
STRIP_NUMBERS = 32_768  # of a strip's matrix, about what the second cache takes
MOSTLY_ZERO, MOSTLY_FULL = 0.35, 0.5  # shares of numbers that are not zero: of all points, and of a column
RISING = ("relu", "tanh", "sigmoid")  # activations that never fall
# Of these the output is not needed for their gradients, so that an activation may take its place.
_OUTPUT_FREE = (
    passes.LINEAR,
    passes.SPARSE_LINEAR,
    passes.DIRECT,
    passes.STRIPS,
    passes.NORM,
    passes.SCALE,
    passes.SUM,
)


class Unknown(Exception):
    """What of a network the compiled passes do not know."""


class Tables(NamedTuple):
    """A network for the compiled passes.

    Attributes:
        ops, reals, lists: operations, their real numbers, and lists of integers; see `passes`.
        rows: of a block of values.
        points_rows: of a block of points: columns that are kept in full.
        result: first row of the outputs.
        outputs: how many there are.
        fixed: numbers that follow the parameters in theta.
        full: columns of the points that are kept in full; the others are lists.
        room: how many numbers of scratch a block of so many points takes.
    """

    ops: np.ndarray
    reals: np.ndarray
    lists: np.ndarray
    rows: int
    points_rows: int
    result: int
    outputs: int
    fixed: np.ndarray
    full: np.ndarray
    room: Callable[[int], int]


@dataclass
class _Value:
    """Where a value lies: its first row, and which other values share its rows."""

    row: int
    shape: tuple[int, ...]
    root: int
    of_points: bool = False

    @property
    def rows(self) -> int:
        return math.prod(self.shape)


@dataclass
class _Builder:
    program: Program
    size: int
    shape: tuple[int, ...]
    full: np.ndarray
    listed: bool
    values: dict[int, _Value] = field(default_factory=dict)
    ops: list[list[int]] = field(default_factory=list)
    reads: list[tuple[_Value, ...]] = field(default_factory=list)
    outputs: list[_Value] = field(default_factory=list)
    reals: list[float] = field(default_factory=list)
    lists: list[int] = field(default_factory=list)
    fixed: list[np.ndarray] = field(default_factory=list)
    rows: int = 0
    rooms: list[Callable[[int], int]] = field(default_factory=lambda: [lambda points: 3 * points])

    def place(self, place: Place | None) -> int:
        """Where a tensor begins in theta; -1 for none."""
        if place is None:
            return -1
        if place.at is not None:
            return place.at.start
        numbers = self.program.fixed[place.name].detach().cpu().double().numpy().reshape(-1)
        begin = self.size + sum(len(one) for one in self.fixed)
        self.fixed.append(numbers)
        return begin

    def new(self, shape: tuple[int, ...]) -> _Value:
        """Rows for a value of a shape."""
        value = _Value(self.rows, shape, self.rows)
        self.rows += math.prod(shape)
        return value

    def list(self, numbers: Any) -> int:
        """Where a list of integers begins."""
        begin = len(self.lists)
        self.lists += [int(one) for one in numbers]
        return begin

    def write(
        self, kind: int, reads: Sequence[_Value], output: _Value, own: Sequence[int] = (), reals: Sequence[float] = ()
    ) -> _Value:
        """One more operation."""
        second = reads[1].row if len(reads) > 1 else 0
        row = [kind, int(reads[0].of_points), reads[0].row, second, output.row, 0, 0, len(self.reals), *own]
        self.ops.append(row + [0] * (COLUMNS - len(row)))
        self.reads.append(tuple(reads))
        self.outputs.append(output)
        self.reals += reals
        return output


def tables_of(program: Program, size: int, shape: tuple[int, ...], points: np.ndarray, itemsize: int) -> Tables:
    """The tables of a network.

    Args:
        program: traced with points.
        size: number of parameters n.
        shape: of a point.
        points: all of them, [N, ...]: linear layers of points that are mostly zero take lists.
        itemsize: bytes of a number.

    Raises:
        Unknown: an operation that has no compiled code.
    """
    program = _pooled_first(program)
    live = _live(program)
    flat = points.reshape(len(points), -1)
    listed = _worth_listing(program, live, flat)
    full = np.flatnonzero((flat != 0).mean(axis=0) > MOSTLY_FULL) if listed else np.arange(flat.shape[1])
    b = _Builder(program, size, shape, full, listed)
    b.values[0] = _Value(0, shape, -1, of_points=True)
    skipped: set[int] = set()
    for number, one in enumerate(program.operations):
        if number + 1 in live and number not in skipped:
            known = _channel_norm(b, number, live) or _WRITERS.get(one.kind)
            if known is None:
                raise Unknown(f"{one.layer or one.kind} ({one.kind})")
            if isinstance(known, tuple):  # several operations as one
                skipped.update(known[1])
                b.values[max(known[1]) + 1] = known[0]
                continue
            b.values[number + 1] = known(b, one, [b.values[value] for value in one.reads], number)
    result = b.values[program.result]
    if result.of_points or len(result.shape) != 1:
        raise Unknown(f"outputs of shape {result.shape}")
    _plan_gradients(b, result)
    if any(op[passes.SECOND] < 0 for op in b.ops):
        raise Unknown("a sum with the points")
    return Tables(
        np.array(b.ops, dtype=np.int64).reshape(-1, COLUMNS),
        np.array(b.reals or [0.0]),
        np.array(b.lists or [0], dtype=np.int64),
        b.rows,
        len(full),
        result.row,
        result.rows,
        np.concatenate([np.zeros(0), *b.fixed]),
        full,
        lambda count: max(room(count) for room in b.rooms),
    )


def _pooled_first(program: Program) -> Program:
    """The same with each activation that only rises, such as ReLU, after the max pooling that alone reads it.

    The values are the same, since the largest number stays the largest, and there are fewer of them.
    """
    operations = list(program.operations)
    for number, (one, pool) in enumerate(pairwise(operations)):
        rises = one.kind == "activation" and one.settings["function"] in RISING
        if rises and "max_pool" in pool.kind and program.readers(number + 1) == [number + 1]:
            first = replace(pool, reads=one.reads)
            operations[number : number + 2] = first, replace(one, reads=(number + 1,), shape=pool.shape)
    return replace(program, operations=tuple(operations))


def _live(program: Program) -> set[int]:
    """Numbers of the values that the result is made of."""
    live = {program.result}
    for number in range(len(program.operations) - 1, -1, -1):
        if number + 1 in live:
            live.update(program.operations[number].reads)
    return live


def _worth_listing(program: Program, live: set[int], flat: np.ndarray) -> bool:
    """Whether points are mostly zero, and all that reads them are linear layers, perhaps after a flattening."""
    if np.count_nonzero(flat) > MOSTLY_ZERO * flat.size:
        return False
    values = {0}
    for number, one in enumerate(program.operations):
        if number + 1 in live and values & set(one.reads):
            if one.kind in ("flatten", "reshape", "rest"):
                values.add(number + 1)
            elif one.kind != "linear":
                return False
    return program.result not in values


def _plan_gradients(b: _Builder, result: _Value) -> None:
    """Say for each input, the last operation first, whether its gradient is written, added to, or not needed."""
    written = {result.root}
    for op, reads, output in reversed(list(zip(b.ops, b.reads, b.outputs, strict=True))):
        for value, column in zip(reads, (passes.NEEDS, passes.NEEDS_SECOND), strict=False):
            if value.of_points:
                continue
            op[column] = 2 if value.root in written and value.root != output.root else 1
            written.add(value.root)


# ---------------------------------------------------------------------------------------- one kind after the other


def _same(b: _Builder, one: Operation, reads: list[_Value], number: int) -> _Value:
    value = reads[0]
    assert one.shape is not None
    return _Value(value.row, one.shape, value.root, value.of_points)


def _linear(b: _Builder, one: Operation, reads: list[_Value], number: int) -> _Value:
    (value,), weight = reads, one.parameters["weight"]
    if len(value.shape) != 1:
        raise Unknown(f"{one.layer} (linear on points of shape {value.shape})")
    outputs, inputs = weight.shape
    own = [b.place(weight), b.place(one.parameters.get("bias")), inputs, outputs]
    if value.of_points and b.listed:
        own += [len(b.full), b.list(b.full)]
        b.rooms.append(lambda points: max(LANES * (inputs + points + 2), outputs * len(b.full)))
        return b.write(passes.SPARSE_LINEAR, [value], b.new((outputs,)), own)
    return b.write(passes.LINEAR, [value], b.new((outputs,)), own)


def _convolution(b: _Builder, one: Operation, reads: list[_Value], number: int) -> _Value:
    (value,), weight, s = reads, one.parameters["weight"], one.settings
    assert one.shape is not None
    if len(value.shape) not in (2, 3):
        raise Unknown(f"{one.layer} (convolution along {len(value.shape) - 1} dimensions)")

    def two(sizes: Sequence[Any], default: Any) -> list[Any]:
        return [default] * (2 - len(sizes)) + list(sizes)

    channels, (height, width) = value.shape[0], two(value.shape[1:], 1)
    outputs, (tall, wide) = one.shape[0], two(one.shape[1:], 1)
    kernel, stride, dilation = (two(s[name], 1) for name in ("kernel_size", "stride", "dilation"))
    (top, _), (left, _) = two(s["padding"], (0, 0))
    taps = channels // s["groups"] * math.prod(kernel)
    plain = stride == [1, 1] and dilation == [1, 1] and s["groups"] == 1
    direct = plain and top < kernel[0] and left < kernel[1] and channels * outputs <= DIRECT_CHANNELS**2
    strip = 1

    def room(points: int) -> int:
        if direct:
            return (max(channels, outputs) + 1) * (height + tall + kernel[0]) * (width + kernel[1]) * points + (
                outputs * channels * math.prod(kernel)
            )
        return taps * strip * wide * points

    if not direct:
        strip = max(1, min(tall, STRIP_NUMBERS // (taps * wide * 16)))
    b.rooms.append(room)
    own = [b.place(weight), b.place(one.parameters.get("bias")), channels, height, width, outputs, tall, wide]
    own += [*kernel, *stride, top, left, *dilation, s["groups"], strip]
    return b.write(passes.DIRECT if direct else passes.STRIPS, [value], b.new(one.shape), own)


def _activation(b: _Builder, one: Operation, reads: list[_Value], number: int) -> _Value:
    (value,), function = reads, one.settings["function"]
    if function == "identity":
        return _same(b, one, reads, number)
    if function not in activations.KINDS:
        raise Unknown(f"{one.layer} ({function})")
    kind, numbers = activations.KINDS[function], [v for k, v in one.settings.items() if k != "function"]
    if function == "gelu":
        kind, numbers = (activations.GELU_TANH if numbers == ["tanh"] else kind), []
    if function == "relu6":
        numbers = [0.0, 6.0]
    may = len(b.program.readers(one.reads[0])) == 1 and _gives_up_output(b, value)
    out = value if may and kind in activations.IN_PLACE else b.new(value.shape)
    reals = [float(v) for v in numbers] + [0.0] * (2 - len(numbers))
    code = passes.ACTIVATION if kind in activations.FREQUENT else passes.OTHER
    return b.write(code, [value], out, [kind, value.rows], reals)


def _gives_up_output(b: _Builder, value: _Value) -> bool:
    """Whether what made a value does not need it for its gradient."""
    maker = next((op for op, out in zip(b.ops, b.outputs, strict=True) if out is value), None)
    if maker is None:
        return False
    return maker[passes.KIND] in _OUTPUT_FREE or (maker[passes.KIND] == passes.JOIN and maker[passes.OWN] == joins.ADD)


def _lists(b: _Builder, lists: list[Any]) -> tuple[int, int]:
    """Where the pointers to lists, and the lists, begin."""
    pointers = b.list(np.concatenate([[0], np.cumsum([len(one) for one in lists])]))
    return pointers, b.list(np.concatenate([np.asarray(one).reshape(-1) for one in lists]))


def _sum(b: _Builder, value: _Value, lists: list[Any], weights: Any, channels: int, shape: tuple[int, ...]) -> _Value:
    own = [*_lists(b, lists), value.rows // channels, len(lists), channels]
    return b.write(passes.SUM, [value], b.new(shape), own, np.broadcast_to(weights, len(lists)).tolist())


def _reduce(b: _Builder, one: Operation, reads: list[_Value], number: int) -> _Value:
    (value,), dims = reads, tuple(d - 1 for d in one.settings["dims"])
    assert one.shape is not None
    index = np.arange(value.rows).reshape(value.shape)
    kept = [d for d in range(index.ndim) if d not in dims]
    lists = index.transpose(*kept, *dims).reshape(math.prod(value.shape[d] for d in kept), -1)
    weight = 1 / lists.shape[1] if one.kind == "mean" else 1.0
    return _sum(b, value, list(lists), weight, 1, one.shape)


def _permute(b: _Builder, one: Operation, reads: list[_Value], number: int) -> _Value:
    (value,), s = reads, one.settings
    assert one.shape is not None
    index = np.arange(value.rows).reshape(1, *value.shape)
    moved = index.transpose(s["dims"]) if one.kind == "permute" else np.moveaxis(index, s["source"], s["destination"])
    return _sum(b, value, list(moved.reshape(-1, 1)), 1.0, 1, one.shape)


def _windows(inside: tuple[int, ...], outside: tuple[int, ...], s: Any) -> list[tuple[list[int], int]]:
    """Places of the pixels of each window, and of how many pixels it is, with the padding."""
    along = []
    for d, (size, out) in enumerate(zip(inside, outside, strict=True)):
        if "output_size" in s:
            ranges = [range(o * size // out, -((-(o + 1) * size) // out)) for o in range(out)]
            along.append([(list(r), len(r)) for r in ranges])
            continue
        k, stride, pad = s["kernel_size"][d], s["stride"][d], s["padding"][d]
        dilation = s.get("dilation", (1,) * len(inside))[d]
        windows = []
        for o in range(out):
            at = [o * stride - pad + i * dilation for i in range(k)]
            windows.append(([i for i in at if 0 <= i < size], min(at[0] + k, size + pad) - at[0]))
        along.append(windows)
    found = []
    for window in all_pairs(*along):
        places = [int(np.ravel_multi_index(at, inside)) for at in all_pairs(*(w[0] for w in window))]
        found.append((places, math.prod(w[1] for w in window)))
    return found


def _pool(b: _Builder, one: Operation, reads: list[_Value], number: int) -> _Value:
    (value,), s = reads, one.settings
    assert one.shape is not None
    windows = _windows(value.shape[1:], one.shape[1:], s)
    lists = [places for places, _ in windows]
    if "max" in one.kind:
        own = [*_lists(b, lists), value.rows // value.shape[0], len(lists), value.shape[0]]
        return b.write(passes.MAX, [value], b.new(one.shape), own)
    if s.get("divisor_override"):
        weights = [1 / s["divisor_override"]] * len(lists)
    elif s.get("count_include_pad", False):
        weights = [1 / size for _, size in windows]
    else:
        weights = [1 / max(len(places), 1) for places in lists]
    return _sum(b, value, lists, weights, value.shape[0], one.shape)


def _norm(
    b: _Builder,
    one: Operation,
    value: _Value,
    shape: tuple[int, ...],
    sizes: tuple[int, int, int],
    block: int,
    span: int,
) -> _Value:
    outer, size, inner = sizes
    weight, bias = (b.place(one.parameters.get(name)) for name in ("weight", "bias"))
    kept, out = b.new((2 * outer * inner,)), b.new(shape)
    b.rooms.append(lambda points: 2 * inner * points)
    own = [weight, bias, kept.row, outer, size, inner, block, span]
    return b.write(passes.NORM, [value], out, own, [one.settings["eps"]])


def _layer_norm(b: _Builder, one: Operation, reads: list[_Value], number: int) -> _Value:
    size = math.prod(one.settings["normalized_shape"])
    return _norm(b, one, reads[0], reads[0].shape, (reads[0].rows // size, size, 1), 0, 1)


def _group_norm(b: _Builder, one: Operation, reads: list[_Value], number: int) -> _Value:
    value, groups = reads[0], one.settings["num_groups"]
    pixels, each = math.prod(value.shape[1:]), value.shape[0] // groups
    return _norm(b, one, value, value.shape, (groups, each * pixels, 1), each, pixels)


def _channel_norm(b: _Builder, number: int, live: set[int]) -> tuple[_Value, tuple[int, ...]] | None:
    """A layer norm over the channels: they are moved to the end, normalised, and moved back."""
    operations, value = b.program.operations, b.values.get(b.program.operations[number].reads[0])
    if value is None or value.of_points or number + 2 >= len(operations) or len(value.shape) < 2:
        return None
    first, norm, last = operations[number : number + 3]
    alone = all(b.program.readers(k + 1) == [k + 1] for k in (number, number + 1))
    kinds = (first.kind, norm.kind, last.kind)
    moves = {"permute", "movedim"}
    if not alone or kinds[1] != "layer_norm" or not {kinds[0], kinds[2]} <= moves:
        return None
    index = np.arange(value.rows).reshape(1, *value.shape)
    forth = _moved(index, first)
    if len(norm.settings["normalized_shape"]) != 1 or not np.array_equal(forth, np.moveaxis(index, 1, -1)):
        return None
    if not np.array_equal(_moved(forth, last), index):
        return None
    sizes = (1, value.shape[0], math.prod(value.shape[1:]))
    return _norm(b, norm, value, value.shape, sizes, 0, 1), (number, number + 1, number + 2)


def _moved(index: np.ndarray, one: Operation) -> np.ndarray:
    s = one.settings
    return index.transpose(s["dims"]) if one.kind == "permute" else np.moveaxis(index, s["source"], s["destination"])


def _batch_norm(b: _Builder, one: Operation, reads: list[_Value], number: int) -> _Value:
    (value,) = reads
    own = [b.place(one.parameters.get(name)) for name in ("weight", "bias", "mean", "variance")]
    own += [value.shape[0], math.prod(value.shape[1:])]
    return b.write(passes.SCALE, [value], b.new(value.shape), own, [one.settings["eps"]])


_JOINS = {"add": joins.ADD, "subtract": joins.SUBTRACT, "multiply": joins.MULTIPLY, "divide": joins.DIVIDE}


def _join(b: _Builder, one: Operation, reads: list[_Value], number: int) -> _Value:
    kind, value = _JOINS[one.kind], reads[0]
    assert one.shape is not None
    if len(reads) == 2:
        if reads[0].shape != reads[1].shape or reads[1].of_points or reads[0].of_points:
            raise Unknown(f"{one.layer} ({one.kind} of the points, or of values of different shapes)")
        return b.write(passes.JOIN, reads, b.new(one.shape), [kind, value.rows])
    if value.shape != one.shape:
        raise Unknown(f"{one.layer} ({one.kind} that repeats a value)")
    other = one.parameters.get("other")
    if other is None:
        return b.write(passes.NUMBER, [value], b.new(one.shape), [kind, value.rows], [one.settings["number"]])
    index = np.broadcast_to(np.arange(math.prod(other.shape)).reshape(other.shape), (1, *one.shape))
    own = [kind, value.rows, b.place(other), b.list(index.reshape(-1))]
    return b.write(passes.PARAMETER, [value], b.new(one.shape), own)


_WRITERS: dict[str, Callable[[_Builder, Operation, list[_Value], int], _Value]] = {
    "linear": _linear,
    "convolution": _convolution,
    "activation": _activation,
    **dict.fromkeys(("max_pool", "average_pool", "adaptive_average_pool", "adaptive_max_pool"), _pool),
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "batch_norm": _batch_norm,
    **dict.fromkeys(_JOINS, _join),
    **dict.fromkeys(("flatten", "reshape", "rest"), _same),
    **dict.fromkeys(("permute", "movedim"), _permute),
    **dict.fromkeys(("mean", "sum"), _reduce),
}
