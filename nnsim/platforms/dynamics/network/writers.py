"""How each kind of operation of a program is written into the table: one function for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product as all_pairs
from typing import Any

import numpy as np

from nnsim.networks.operations import Operation
from nnsim.platforms.dynamics.network import activations, joins, passes
from nnsim.platforms.dynamics.network.builder import Builder, Unknown, Value
from nnsim.platforms.dynamics.network.lanes import LANES as LANES_OF_SPARSE
from nnsim.platforms.dynamics.network.registers import LANES

DIRECT_CHANNELS = 96  # up to which sums over taps are faster than a matrix product of strips
STRIP_NUMBERS = 32_768  # of a strip's matrix, about what the second cache takes
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


def _same(b: Builder, one: Operation, reads: list[Value], number: int) -> Value:
    value = reads[0]
    assert one.shape is not None
    return Value(value.row, one.shape, value.root, value.of_points)


def _linear(b: Builder, one: Operation, reads: list[Value], number: int) -> Value:
    (value,), weight = reads, one.parameters["weight"]
    if len(value.shape) != 1:
        raise Unknown(f"{one.layer} (linear on points of shape {value.shape})")
    outputs, inputs = weight.shape
    own = [b.place(weight), b.place(one.parameters.get("bias")), inputs, outputs]
    if value.of_points and b.listed:
        own += [len(b.full), b.list(b.full)]
        b.rooms.append(lambda points: max(LANES_OF_SPARSE * (inputs + points + 2), outputs * len(b.full)))
        return b.write(passes.SPARSE_LINEAR, [value], b.new((outputs,)), own)
    b.rooms.append(lambda points: outputs * (inputs + 1))
    return b.write(passes.LINEAR, [value], b.new((outputs,)), own)


def _convolution(b: Builder, one: Operation, reads: list[Value], number: int) -> Value:
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
            padded = max(channels, outputs) * (height + tall + kernel[0]) * (width + wide + kernel[1]) * points
            packed = max(outputs, channels) * (max(outputs, channels) * math.prod(kernel) + 1)
            return padded + max(outputs * taps * LANES, packed)
        return taps * strip * wide * points

    if not direct:
        strip = max(1, min(tall, STRIP_NUMBERS // (taps * wide * 16)))
    b.rooms.append(room)
    own = [b.place(weight), b.place(one.parameters.get("bias")), channels, height, width, outputs, tall, wide]
    own += [*kernel, *stride, top, left, *dilation, s["groups"], strip]
    return b.write(passes.DIRECT if direct else passes.STRIPS, [value], b.new(one.shape), own)


def _activation(b: Builder, one: Operation, reads: list[Value], number: int) -> Value:
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
    maker = _maker(b, value)
    may = len(b.program.readers(one.reads[0])) == 1 and _gives_up_output(maker)
    if may and kind in activations.IN_PLACE and maker[passes.KIND] == passes.LINEAR:
        maker[passes.OWN + 4] = kind + 1  # the layer does it itself
        return value
    out = value if may and kind in activations.IN_PLACE else b.new(value.shape)
    reals = [float(v) for v in numbers] + [0.0] * (2 - len(numbers))
    code = passes.ACTIVATION if kind in activations.FREQUENT else passes.OTHER
    return b.write(code, [value], out, [kind, value.rows], reals)


def _maker(b: Builder, value: Value) -> list[int]:
    """The last operation that wrote a value; nothing for points."""
    return next((op for op, out in reversed([*zip(b.ops, b.outputs, strict=True)]) if out is value), [])


def _gives_up_output(maker: list[int]) -> bool:
    """Whether what made a value does not need it for its gradient."""
    if not maker or (maker[passes.KIND] == passes.LINEAR and maker[passes.OWN + 4]):
        return False
    return maker[passes.KIND] in _OUTPUT_FREE or (maker[passes.KIND] == passes.JOIN and maker[passes.OWN] == joins.ADD)


def _lists(b: Builder, lists: list[Any]) -> tuple[int, int]:
    """Where the pointers to lists, and the lists, begin."""
    pointers = b.list(np.concatenate([[0], np.cumsum([len(one) for one in lists])]))
    return pointers, b.list(np.concatenate([np.asarray(one).reshape(-1) for one in lists]))


def _sum(b: Builder, value: Value, lists: list[Any], weights: Any, channels: int, shape: tuple[int, ...]) -> Value:
    own = [*_lists(b, lists), value.rows // channels, len(lists), channels]
    return b.write(passes.SUM, [value], b.new(shape), own, np.broadcast_to(weights, len(lists)).tolist())


def _reduce(b: Builder, one: Operation, reads: list[Value], number: int) -> Value:
    (value,), dims = reads, tuple(d - 1 for d in one.settings["dims"])
    assert one.shape is not None
    index = np.arange(value.rows).reshape(value.shape)
    kept = [d for d in range(index.ndim) if d not in dims]
    lists = index.transpose(*kept, *dims).reshape(math.prod(value.shape[d] for d in kept), -1)
    weight = 1 / lists.shape[1] if one.kind == "mean" else 1.0
    return _sum(b, value, list(lists), weight, 1, one.shape)


def _permute(b: Builder, one: Operation, reads: list[Value], number: int) -> Value:
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


def _pool(b: Builder, one: Operation, reads: list[Value], number: int) -> Value:
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
    b: Builder,
    one: Operation,
    value: Value,
    shape: tuple[int, ...],
    sizes: tuple[int, int, int],
    block: int,
    span: int,
) -> Value:
    outer, size, inner = sizes
    weight, bias = (b.place(one.parameters.get(name)) for name in ("weight", "bias"))
    kept, out = b.new((2 * outer * inner,)), b.new(shape)
    b.rooms.append(lambda points: 2 * inner * points)
    own = [weight, bias, kept.row, outer, size, inner, block, span]
    return b.write(passes.NORM, [value], out, own, [one.settings["eps"]])


def _layer_norm(b: Builder, one: Operation, reads: list[Value], number: int) -> Value:
    size = math.prod(one.settings["normalized_shape"])
    return _norm(b, one, reads[0], reads[0].shape, (reads[0].rows // size, size, 1), 0, 1)


def _group_norm(b: Builder, one: Operation, reads: list[Value], number: int) -> Value:
    value, groups = reads[0], one.settings["num_groups"]
    pixels, each = math.prod(value.shape[1:]), value.shape[0] // groups
    return _norm(b, one, value, value.shape, (groups, each * pixels, 1), each, pixels)


def channel_norm(b: Builder, number: int, live: set[int]) -> tuple[Value, tuple[int, ...]] | None:
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


def _batch_norm(b: Builder, one: Operation, reads: list[Value], number: int) -> Value:
    (value,) = reads
    own = [b.place(one.parameters.get(name)) for name in ("weight", "bias", "mean", "variance")]
    own += [value.shape[0], math.prod(value.shape[1:])]
    return b.write(passes.SCALE, [value], b.new(value.shape), own, [one.settings["eps"]])


_JOINS = {"add": joins.ADD, "subtract": joins.SUBTRACT, "multiply": joins.MULTIPLY, "divide": joins.DIVIDE}


def _join(b: Builder, one: Operation, reads: list[Value], number: int) -> Value:
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


WRITERS: dict[str, Callable[[Builder, Operation, list[Value], int], Value]] = {
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
