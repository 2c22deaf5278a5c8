"""Sums and maxima over lists of rows: poolings, means, sums and permutations.

An output row of each channel has a list of input rows of that channel: places `pointers[o]` to `pointers[o + 1]` of
`lists`, counted from `begin` on. A sum has a weight for each output, 1 over the length of the list for a mean.
"""

from __future__ import annotations

from nnsim.platforms.dynamics.network.compile import kernel


@kernel
def sum_forward(lists, pointers, begin, weights, factor, x, first, step, y, out, count, channels, points):  # type: ignore[no-untyped-def]
    """y[o] <- weight[o] x the sum of its list, for `count` outputs of each of `channels` of `step` input rows."""
    zero = x.dtype.type(0)
    for c in range(channels):
        for o in range(count):
            row = out + c * count + o
            for p in range(points):
                y[row, p] = zero
            for place in range(lists[pointers + o], lists[pointers + o + 1]):
                r = first + c * step + lists[begin + place]
                for p in range(points):
                    y[row, p] += x[r, p]
            w = weights[factor + o]
            if w != 1:
                for p in range(points):
                    y[row, p] *= w


@kernel
def sum_backward(lists, pointers, begin, weights, factor, gx, first, step, gy, out, count, channels, points, add):  # type: ignore[no-untyped-def]
    """The gradient of each input row of a list gains that of the output, times its weight."""
    if not add:
        clear(gx, first, step * channels, points)
    for c in range(channels):
        for o in range(count):
            row, w = out + c * count + o, weights[factor + o]
            for place in range(lists[pointers + o], lists[pointers + o + 1]):
                r = first + c * step + lists[begin + place]
                for p in range(points):
                    gx[r, p] += w * gy[row, p]


@kernel
def max_forward(lists, pointers, begin, x, first, step, y, out, count, channels, points):  # type: ignore[no-untyped-def]
    """y[o] <- the largest of its list."""
    for c in range(channels):
        for o in range(count):
            row, start = out + c * count + o, lists[pointers + o]
            r = first + c * step + lists[begin + start]
            for p in range(points):
                y[row, p] = x[r, p]
            for place in range(start + 1, lists[pointers + o + 1]):
                r = first + c * step + lists[begin + place]
                for p in range(points):
                    y[row, p] = max(y[row, p], x[r, p])


@kernel
def max_backward(lists, pointers, begin, x, gx, first, step, y, gy, out, count, channels, points, add, room):  # type: ignore[no-untyped-def]
    """The gradient goes to the first of the largest ones, as in torch; `room` holds what is still to be given."""
    zero = x.dtype.type(0)
    if not add:
        clear(gx, first, step * channels, points)
    for c in range(channels):
        for o in range(count):
            row = out + c * count + o
            for p in range(points):
                room[p] = gy[row, p]
            for place in range(lists[pointers + o], lists[pointers + o + 1]):
                r = first + c * step + lists[begin + place]
                for p in range(points):
                    given = room[p] if x[r, p] == y[row, p] else zero
                    gx[r, p] += given
                    room[p] -= given


@kernel
def clear(gx, first, rows, points):  # type: ignore[no-untyped-def]
    """Zeros in `rows` rows."""
    zero = gx.dtype.type(0)
    for r in range(first, first + rows):
        for p in range(points):
            gx[r, p] = zero
