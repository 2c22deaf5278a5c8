"""Linear layers: y <- W x + b.

Large ones are matrix products, those with few outputs for their inputs sums in registers, small ones loops over the
points, which take four inputs at a time to save traffic; with few points all of these cost too much before they begin,
see `nnsim.platforms.dynamics.network.small`.
"""

from __future__ import annotations

from nnsim.platforms.dynamics.network.blas import PLAIN, TRANSPOSED, product
from nnsim.platforms.dynamics.network.compile import inline, kernel
from nnsim.platforms.dynamics.network.registers import LANES
from nnsim.platforms.dynamics.network.small import MOST_POINTS, products_of_rows, weighted_sums
from nnsim.platforms.dynamics.network.tiles import correlate, pack, packed_place, tile_of

MOST_OUTPUTS, FLAT = 64, 4  # up to how many outputs, of so many inputs each, sums are kept in registers
PANEL = 32  # points
SMALL = 400  # numbers of a weight matrix up to which loops are faster than a call of the BLAS


@kernel
def forward(theta, weight, bias, x, first, inputs, y, out, outputs, points, room, blas):  # type: ignore[no-untyped-def]
    """Rows from `out` on of y <- W times the rows from `first` on of x, plus b; both are [*, points].

    W [outputs, inputs] is in theta from `weight` on, and b from `bias` on (-1: none).
    """
    if few(inputs, outputs, points):
        weighted_sums(theta, weight, inputs, 1, bias, x, first, inputs, False, y, out, outputs, points)
        return
    if flat(inputs, outputs):
        _by_tiles(theta, weight, bias, x, first, inputs, y, out, outputs, points, room)
        return
    for o in range(outputs):
        b = theta[bias + o] if bias >= 0 else theta.dtype.type(0)
        for p in range(points):
            y[out + o, p] = b
    if inputs * outputs > SMALL:
        product(
            blas, PLAIN, PLAIN, outputs, points, inputs, theta, weight, inputs, x, first * points, points, 1.0,
            y, out * points, points,
        )  # fmt: skip
        return
    for o in range(outputs):
        combine(theta, weight + o * inputs, 1, x, first, inputs, y, out + o, points)


@inline
def flat(inputs, outputs):  # type: ignore[no-untyped-def]
    """Whether a layer has so few outputs for its inputs that sums in registers are faster than the BLAS."""
    return inputs * outputs > SMALL and outputs <= MOST_OUTPUTS and inputs >= FLAT * outputs


@kernel
def _by_tiles(theta, weight, bias, x, first, inputs, y, out, outputs, points, room):  # type: ignore[no-untyped-def]
    """Some outputs and points after the other; `room` takes the weights."""
    x, y = x.reshape(x.size), y.reshape(y.size)
    for o in range(outputs):
        pack(room, 0, theta, weight + o * inputs, 1, 0, 1, o, outputs, inputs, 1)
        room[packed_place(0, o, outputs, inputs)] = theta[bias + o] if bias >= 0 else theta.dtype.type(0)
    for p in range(0, points, PANEL):
        o = 0
        while o < outputs:
            _, size = tile_of(o, outputs)
            correlate(
                size, room, o * (inputs + 1), x, first * points + p, inputs, points, 1, 0, 1, 0, False, y,
                (out + o) * points + p, points, min(PANEL, points - p),
            )  # fmt: skip
            o += size


@inline
def few(inputs, outputs, points):  # type: ignore[no-untyped-def]
    """Whether neurons and points are so few."""
    return inputs * outputs <= SMALL and points <= MOST_POINTS and points % LANES == 0


@kernel
def combine(theta, weight, stride, x, first, count, y, row, points):  # type: ignore[no-untyped-def]
    """y[row] += sum over i < `count` of theta[weight + i stride] x[first + i]."""
    i = 0
    while i + 4 <= count:
        at = weight + i * stride
        w0, w1, w2, w3 = theta[at], theta[at + stride], theta[at + 2 * stride], theta[at + 3 * stride]
        r = first + i
        for p in range(points):
            y[row, p] += w0 * x[r, p] + w1 * x[r + 1, p] + w2 * x[r + 2, p] + w3 * x[r + 3, p]
        i += 4
    if i + 2 <= count:
        at, r = weight + i * stride, first + i
        w0, w1 = theta[at], theta[at + stride]
        for p in range(points):
            y[row, p] += w0 * x[r, p] + w1 * x[r + 1, p]
        i += 2
    if i < count:
        w0, r = theta[weight + i * stride], first + i
        for p in range(points):
            y[row, p] += w0 * x[r, p]


@kernel
def weight_gradient(gradient, weight, bias, x, first, inputs, g, out, outputs, points, blas):  # type: ignore[no-untyped-def]
    """Add to the gradient [n] that of W and b, from those of the outputs, the rows from `out` on of g."""
    if few(inputs, outputs, points):
        products_of_rows(gradient, weight, bias, x, first, inputs, g, out, outputs, points)
        return
    if bias >= 0:
        for o in range(outputs):
            total = gradient.dtype.type(0)
            for p in range(points):
                total += g[out + o, p]
            gradient[bias + o] += total
    if inputs * outputs > SMALL:
        product(
            blas, PLAIN, TRANSPOSED, outputs, inputs, points, g, out * points, points, x, first * points, points, 1.0,
            gradient, weight, inputs,
        )  # fmt: skip
        return
    zero = gradient.dtype.type(0)
    for o in range(outputs):
        row, at, i = out + o, weight + o * inputs, 0
        while i + 4 <= inputs:
            r = first + i
            s0 = s1 = s2 = s3 = zero
            for p in range(points):
                d = g[row, p]
                s0 += d * x[r, p]
                s1 += d * x[r + 1, p]
                s2 += d * x[r + 2, p]
                s3 += d * x[r + 3, p]
            gradient[at + i] += s0
            gradient[at + i + 1] += s1
            gradient[at + i + 2] += s2
            gradient[at + i + 3] += s3
            i += 4
        while i < inputs:
            r, s0 = first + i, zero
            for p in range(points):
                s0 += g[row, p] * x[r, p]
            gradient[at + i] += s0
            i += 1


@kernel
def input_gradient(theta, weight, gx, first, inputs, add, g, out, outputs, points, blas):  # type: ignore[no-untyped-def]
    """Rows from `first` on of gx <- W^T times those from `out` on of g; added with `add`."""
    if few(inputs, outputs, points):
        weighted_sums(theta, weight, 1, inputs, -1, g, out, outputs, add, gx, first, inputs, points)
        return
    if inputs * outputs > SMALL:
        product(
            blas, TRANSPOSED, PLAIN, inputs, points, outputs, theta, weight, inputs, g, out * points, points,
            1.0 if add else 0.0, gx, first * points, points,
        )  # fmt: skip
        return
    zero = theta.dtype.type(0)
    for i in range(inputs):
        if not add:
            for p in range(points):
                gx[first + i, p] = zero
        combine(theta, weight + i, inputs, g, out, outputs, gx, first + i, points)
