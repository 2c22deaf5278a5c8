"""Linear layers of a few neurons at a few points: `LANES` points at once, and sums that stay in registers.

There, a loop over a row of points costs more before and after it than in it, and so many rows mean so many loops.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nnsim.platforms.dynamics.network.lanes import spread
from nnsim.platforms.dynamics.network.registers import FAST, INDEX, LANES, Code

MOST_POINTS = 128  # beyond, loops over rows of points are as fast or faster


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
    s = Code(context, builder, signature, args)
    theta, x, y = s.data(0), s.data(5), s.data(9)
    weight, by_output, by_input, bias, first, inputs, out, outputs, points = map(
        s.index, (1, 2, 3, 4, 6, 7, 10, 11, 12)
    )
    add = builder.icmp_signed("!=", s.index(8), INDEX(0))
    biased = builder.icmp_signed(">=", bias, INDEX(0))
    total = cgutils.alloca_once(builder, s.vector)
    with s.each(points, LANES) as p, s.each(outputs) as o:
        target = s.row(y, builder.add(out, o), points, p)
        builder.store(s.nothing, total)
        with builder.if_then(biased):
            builder.store(spread(builder, s.number(theta, builder.add(bias, o)), LANES), total)
        with builder.if_then(add):
            builder.store(builder.fadd(builder.load(total), s.load(target), flags=FAST), total)
        begin = builder.add(weight, builder.mul(o, by_output))
        with s.each(inputs) as i:
            factor = spread(builder, s.number(theta, builder.add(begin, builder.mul(i, by_input))), LANES)
            s.accumulate(total, factor, s.load(s.row(x, builder.add(first, i), points, p)))
        builder.store(builder.load(total), target, align=s.size)
    return context.get_dummy_value()


def _products_of_rows(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    s = Code(context, builder, signature, args)
    gradient, x, g = s.data(0), s.data(3), s.data(6)
    weight, bias, first, inputs, out, outputs, points = map(s.index, (1, 2, 4, 5, 7, 8, 9))
    biased = builder.icmp_signed(">=", bias, INDEX(0))
    one = ir.Constant(s.vector, [1.0] * LANES)
    total = cgutils.alloca_once(builder, s.vector)

    def collect(row: Any, other: Any, place: Any) -> None:
        """Add to the gradient at a place a row of g times one of x, or its sum."""
        builder.store(s.nothing, total)
        with s.each(points, LANES) as p:
            factor = one if other is None else s.load(s.row(x, other, points, p))
            s.accumulate(total, s.load(s.row(g, row, points, p)), factor)
        address = builder.gep(gradient, [place])
        builder.store(builder.fadd(builder.load(address), s.sum(builder.load(total)), flags=FAST), address)

    with s.each(outputs) as o:
        row, begin = builder.add(out, o), builder.add(weight, builder.mul(o, inputs))
        with builder.if_then(biased):
            collect(row, None, builder.add(bias, o))
        with s.each(inputs) as i:
            collect(row, builder.add(first, i), builder.add(begin, i))
    return context.get_dummy_value()
