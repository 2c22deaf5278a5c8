"""Sums over the channels and taps of a convolution that stay in registers, for some outputs and `LANES` numbers.

A number of the input that is loaded serves all outputs of a tile, a weight `LANES` numbers. Rows of an image and the
points of a block lie side by side, so that a step of one pixel is one of `points` numbers.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nnsim.platforms.dynamics.network.lanes import spread
from nnsim.platforms.dynamics.network.registers import FAST, INDEX, LANES, Code


def _correlation(outputs: int) -> Any:
    """The sums of so many outputs."""

    @intrinsic
    def correlate(  # type: ignore[no-untyped-def]
        typingctx, packed, at, x, source, channels, by_channel, tall, by_row, wide, points, add, y, to, plane, n
    ):
        """y[to + o plane + k] <- the sum over c, u, v of weights x x[source + c by_channel + u by_row + v points + k].

        For k < `n`, all outputs o of the tile, c < `channels`, u < `tall` and v < `wide`; plus what is there with
        `add`. From `at` on, `packed` holds what is added to each output, and then the weights, outputs innermost.
        """
        return types.void(
            packed, at, x, source, channels, by_channel, tall, by_row, wide, points, add, y, to, plane, n
        ), _code  # fmt: skip

    def _code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        s = Code(context, builder, signature, args)
        packed, x, y = s.data(0), s.data(2), s.data(11)
        at, source, channels, by_channel, tall, by_row, wide, points, to, plane, n = map(
            s.index, (1, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14)
        )
        adds = builder.icmp_signed("!=", s.index(10), INDEX(0))
        totals = [cgutils.alloca_once(builder, s.vector) for _ in range(outputs)]
        tile = [INDEX(o) for o in range(outputs)]
        with s.each(n, LANES) as k:
            here = builder.add(to, k)
            rows = [s.at(y, builder.add(here, builder.mul(o, plane))) for o in tile]
            for o, total in zip(tile, totals, strict=True):
                builder.store(spread(builder, s.number(packed, builder.add(at, o)), LANES), total)
            with builder.if_then(adds):
                for row, total in zip(rows, totals, strict=True):
                    builder.store(builder.fadd(builder.load(total), s.load(row), flags=FAST), total)
            begin = builder.add(source, k)
            with s.each(channels) as c, s.each(tall) as u, s.each(wide) as v:
                number = builder.add(builder.mul(builder.add(builder.mul(c, tall), u), wide), v)
                weights = builder.add(at, builder.mul(builder.add(number, INDEX(1)), INDEX(outputs)))
                place = begin
                for step, size in ((c, by_channel), (u, by_row), (v, points)):
                    place = builder.add(place, builder.mul(step, size))
                value = s.load(s.at(x, place))
                for o, total in zip(tile, totals, strict=True):
                    s.accumulate(total, spread(builder, s.number(packed, builder.add(weights, o)), LANES), value)
            for row, total in zip(rows, totals, strict=True):
                builder.store(builder.load(total), row, align=s.size)
        return context.get_dummy_value()

    return correlate


def _overlap(outputs: int, taps: int) -> Any:
    """The sums of so many outputs and taps side by side."""

    @intrinsic
    def overlap(  # type: ignore[no-untyped-def]
        typingctx, sums, at, by_output, x, source, x_row, points, g, to, plane, g_row, rows, n
    ):
        """sums[at + o by_output + v LANES] += the sum of g[to + o plane + ...] x x[source + v points + ...].

        Over k < `n` numbers of i < `rows` rows, which are `g_row` and `x_row` numbers apart, lanes apart; for all
        outputs o and taps v of the tile.
        """
        return types.void(sums, at, by_output, x, source, x_row, points, g, to, plane, g_row, rows, n), _code

    def _code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        s = Code(context, builder, signature, args)
        sums, x, g = s.data(0), s.data(3), s.data(7)
        at, by_output, source, x_row, points, to, plane, g_row, rows, n = map(
            s.index, (1, 2, 4, 5, 6, 8, 9, 10, 11, 12)
        )
        totals = [[cgutils.alloca_once(builder, s.vector) for _ in range(taps)] for _ in range(outputs)]

        def kept(o: int, v: int) -> Any:
            begin = builder.add(at, builder.mul(INDEX(o), by_output))
            return s.at(sums, builder.add(begin, INDEX(v * LANES)))

        tile = [(o, v) for o in range(outputs) for v in range(taps)]
        for o, v in tile:
            builder.store(s.load(kept(o, v)), totals[o][v])
        with s.each(rows) as i, s.each(n, LANES) as k:
            of_g = builder.add(builder.add(to, k), builder.mul(i, g_row))
            of_x = builder.add(builder.add(source, k), builder.mul(i, x_row))
            seen = [s.load(s.at(x, builder.add(of_x, builder.mul(INDEX(v), points)))) for v in range(taps)]
            for o in range(outputs):
                value = s.load(s.at(g, builder.add(of_g, builder.mul(INDEX(o), plane))))
                for v in range(taps):
                    s.accumulate(totals[o][v], value, seen[v])
        for o, v in tile:
            builder.store(builder.load(totals[o][v]), kept(o, v), align=s.size)
        return context.get_dummy_value()

    return overlap


correlate_1, correlate_2, correlate_6 = (_correlation(outputs) for outputs in (1, 2, 6))
overlap_1_1, overlap_1_3, overlap_4_1, overlap_4_3 = (_overlap(o, v) for o in (1, 4) for v in (1, 3))
