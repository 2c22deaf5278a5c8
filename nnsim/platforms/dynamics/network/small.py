"""Linear layers of a few neurons at a few points: `LANES` points at once, and sums that stay in registers.

There, a loop over a row of points costs more before and after it than in it, and so many rows mean so many loops.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nnsim.platforms.dynamics.network.lanes import spread

LANES = 16  # of which blocks of points are a multiple
MOST_POINTS = 128  # beyond, loops over rows of points are as fast or faster
_FAST = ("contract", "reassoc", "nsz")
_INDEX = ir.IntType(64)


@intrinsic
def weighted_sums(typingctx, theta, weight, by_output, by_input, bias, x, first, inputs, add, y, out, outputs, points):  # type: ignore[no-untyped-def]
    """y[out + o] <- the sum over i < `inputs` of theta[weight + o by_output + i by_input] x[first + i].

    For o < `outputs` and all `points` of a row, plus theta[bias + o] if `bias` is not negative, plus what is there with
    `add`. x and y are [*, points].
    """
    signature = types.void(
        theta, weight, by_output, by_input, bias, x, first, inputs, add, y, out, outputs, points
    )  # fmt: skip
    return signature, _weighted_sums


@intrinsic
def products_of_rows(typingctx, gradient, weight, bias, x, first, inputs, g, out, outputs, points):  # type: ignore[no-untyped-def]
    """gradient[weight + o inputs + i] += g[out + o] . x[first + i]; gradient[bias + o] += the sum of g[out + o].

    For o < `outputs` and i < `inputs`; no `bias` if it is negative. g and x are [*, points].
    """
    return types.void(gradient, weight, bias, x, first, inputs, g, out, outputs, points), _products_of_rows


def _weighted_sums(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    s = _Code(context, builder, signature, args)
    theta, x, y = s.data(0), s.data(5), s.data(9)
    weight, by_output, by_input, bias, first, inputs, out, outputs, points = map(
        s.index, (1, 2, 3, 4, 6, 7, 10, 11, 12)
    )
    add = builder.icmp_signed("!=", s.index(8), _INDEX(0))
    biased = builder.icmp_signed(">=", bias, _INDEX(0))
    total = cgutils.alloca_once(builder, s.vector)
    with s.each(points, LANES) as p, s.each(outputs) as o:
        target = s.row(y, builder.add(out, o), points, p)
        builder.store(s.nothing, total)
        with builder.if_then(biased):
            builder.store(spread(builder, s.number(theta, builder.add(bias, o)), LANES), total)
        with builder.if_then(add):
            builder.store(builder.fadd(builder.load(total), s.load(target), flags=_FAST), total)
        begin = builder.add(weight, builder.mul(o, by_output))
        with s.each(inputs) as i:
            factor = spread(builder, s.number(theta, builder.add(begin, builder.mul(i, by_input))), LANES)
            s.accumulate(total, factor, s.load(s.row(x, builder.add(first, i), points, p)))
        builder.store(builder.load(total), target, align=s.size)
    return context.get_dummy_value()


def _products_of_rows(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    s = _Code(context, builder, signature, args)
    gradient, x, g = s.data(0), s.data(3), s.data(6)
    weight, bias, first, inputs, out, outputs, points = map(s.index, (1, 2, 4, 5, 7, 8, 9))
    biased = builder.icmp_signed(">=", bias, _INDEX(0))
    one = ir.Constant(s.vector, [1.0] * LANES)
    total = cgutils.alloca_once(builder, s.vector)

    def collect(row: Any, other: Any, place: Any) -> None:
        """Add to the gradient at a place a row of g times one of x, or its sum."""
        builder.store(s.nothing, total)
        with s.each(points, LANES) as p:
            factor = one if other is None else s.load(s.row(x, other, points, p))
            s.accumulate(total, s.load(s.row(g, row, points, p)), factor)
        address = builder.gep(gradient, [place])
        builder.store(builder.fadd(builder.load(address), s.sum(builder.load(total)), flags=_FAST), address)

    with s.each(outputs) as o:
        row, begin = builder.add(out, o), builder.add(weight, builder.mul(o, inputs))
        with builder.if_then(biased):
            collect(row, None, builder.add(bias, o))
        with s.each(inputs) as i:
            collect(row, builder.add(first, i), builder.add(begin, i))
    return context.get_dummy_value()


class _Code:
    """Instructions that the two have in common, for arguments of certain types."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.context, self.builder, self.kinds, self.args = context, builder, signature.args, args
        element = context.get_data_type(self.kinds[0].dtype)
        self.vector, self.size = ir.VectorType(element, LANES), self.kinds[0].dtype.bitwidth // 8
        self.nothing = ir.Constant(self.vector, [0.0] * LANES)

    def data(self, number: int) -> Any:
        """Pointer to the numbers of an array."""
        return self.context.make_array(self.kinds[number])(self.context, self.builder, self.args[number]).data

    def index(self, number: int) -> Any:
        """An argument as an integer of 64 bits."""
        return self.context.cast(self.builder, self.args[number], self.kinds[number], types.int64)

    @contextmanager
    def each(self, count: Any, step: int = 1) -> Iterator[Any]:
        """A loop over 0, step, 2 step, ... below `count`."""
        with cgutils.for_range_slice(self.builder, _INDEX(0), count, _INDEX(step)) as (place, _):
            yield place

    def number(self, data: Any, place: Any) -> Any:
        """One number."""
        return self.builder.load(self.builder.gep(data, [place]))

    def row(self, data: Any, row: Any, points: Any, p: Any) -> Any:
        """Pointer to `LANES` points of a row from p on."""
        place = self.builder.add(self.builder.mul(row, points), p)
        return self.builder.bitcast(self.builder.gep(data, [place]), self.vector.as_pointer())

    def load(self, pointer: Any) -> Any:
        """`LANES` numbers."""
        return self.builder.load(pointer, align=self.size)

    def accumulate(self, total: Any, a: Any, b: Any) -> None:
        """total += a b."""
        term = self.builder.fmul(a, b, flags=_FAST)
        self.builder.store(self.builder.fadd(self.builder.load(total), term, flags=_FAST), total)

    def sum(self, vector: Any) -> Any:
        """Of all lanes, by halves."""
        width = LANES
        while width > 1:
            width //= 2
            upper = ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(width, 2 * width)))
            lower = ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(width)))
            halves = [self.builder.shuffle_vector(vector, vector, half) for half in (lower, upper)]
            vector = self.builder.fadd(*halves, flags=_FAST)
        return self.builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))
