"""Outputs of a layer in tiles that are summed up at once, and the weights in the order in which they are read then."""

from __future__ import annotations

from nnsim.platforms.dynamics.network.compile import inline, kernel
from nnsim.platforms.dynamics.network.taps import correlate_1, correlate_2, correlate_6

TILE, SMALL_TILE = 6, 2  # outputs


@inline
def tile_of(o, outputs):  # type: ignore[no-untyped-def]
    """First output of the tile to which o belongs, and how many there are in it."""
    large = outputs // TILE * TILE
    if o < large:
        return o // TILE * TILE, TILE
    small = large + (outputs - large) // SMALL_TILE * SMALL_TILE
    return (large + (o - large) // SMALL_TILE * SMALL_TILE, SMALL_TILE) if o < small else (o, 1)


@inline
def packed_place(packed, o, outputs, products):  # type: ignore[no-untyped-def]
    """Where what is added to output o is, in tiles of outputs with so many products each."""
    begin, _ = tile_of(o, outputs)
    return packed + begin * (products + 1) + o - begin


@kernel
def pack(room, packed, theta, weight, by_channel, begin, by_tap, o, outputs, channels, taps):  # type: ignore[no-untyped-def]
    """The weights of output o to its place among those of its tile."""
    _, size = tile_of(o, outputs)
    to = packed_place(packed, o, outputs, channels * taps) + size
    for c in range(channels):
        for t in range(taps):
            room[to] = theta[weight + c * by_channel + begin + t * by_tap]
            to += size


@inline
def correlate(  # type: ignore[no-untyped-def]
    size, packed, at, x, source, channels, by_channel, tall, by_row, wide, points, add, y, to, plane, n
):
    """Those of a tile of `size` outputs, see `nnsim.platforms.dynamics.network.taps`."""
    if size == TILE:
        correlate_6(packed, at, x, source, channels, by_channel, tall, by_row, wide, points, add, y, to, plane, n)
    elif size == SMALL_TILE:
        correlate_2(packed, at, x, source, channels, by_channel, tall, by_row, wide, points, add, y, to, plane, n)
    else:
        correlate_1(packed, at, x, source, channels, by_channel, tall, by_row, wide, points, add, y, to, plane, n)
