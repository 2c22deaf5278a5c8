"""Linear layers whose inputs, the points, are mostly zero, as one-hot columns are.

Columns that are mostly full are rows of x as usual; of the others only the numbers that are not zero are kept, as a
list for each point: `data[k]` in the column `places[k]`, for k from `pointers[p]` to `pointers[p + 1]`. The outputs lie
innermost, `LANES` of them, so that each number of a point takes one row of weights.
"""

from __future__ import annotations

import numpy as np

from nnsim.platforms.dynamics.network.blas import PLAIN, TRANSPOSED, product
from nnsim.platforms.dynamics.network.compile import kernel
from nnsim.platforms.dynamics.network.lanes import LANES, add_scaled, sum_of_rows


@kernel
def forward(  # type: ignore[no-untyped-def]
    theta, weight, bias, x, first, full, columns, known, points_of, begin, inputs, y, out, outputs, points, count,
    room, blas,
):  # fmt: skip
    """Rows from `out` on of y <- W x + b.

    W [outputs, inputs] is in theta from `weight` on and b from `bias` on (-1: none). The `full` rows of x from `first`
    on are those of the columns columns[known ...]; `points_of` is pointers, places and data of the others, and `begin`
    the number of the block's first point. `room` takes LANES x (inputs + points), and outputs x full numbers.
    """
    pointers, places, data = points_of
    zero = theta.dtype.type(0)
    for o in range(outputs):
        b = theta[bias + o] if bias >= 0 else zero
        for p in range(points):
            y[out + o, p] = b
    _full_weights(theta, weight, inputs, outputs, columns, known, full, room)
    product(
        blas,
        PLAIN,
        PLAIN,
        outputs,
        points,
        full,
        room,
        0,
        full,
        x,
        first * points,
        points,
        1.0,
        y,
        out * points,
        points,
    )
    for low in range(0, outputs, LANES):
        rows = min(outputs - low, LANES)
        sums = LANES * inputs
        for j in range(inputs):
            for i in range(LANES):
                room[LANES * j + i] = theta[weight + (low + i) * inputs + j] if i < rows else zero
        for p in range(count):
            sum_of_rows(room, sums + LANES * p, room, places, data, pointers[begin + p], pointers[begin + p + 1])
        for i in range(rows):
            for p in range(count):
                y[out + low + i, p] += room[sums + LANES * p + i]


@kernel
def _full_weights(theta, weight, inputs, outputs, columns, known, full, room):  # type: ignore[no-untyped-def]
    """room [outputs, full] <- the weights of the full columns."""
    for o in range(outputs):
        for j in range(full):
            room[o * full + j] = theta[weight + o * inputs + columns[known + j]]


@kernel
def weight_gradient(  # type: ignore[no-untyped-def]
    gradient, weight, bias, x, first, full, columns, known, points_of, begin, inputs, g, out, outputs, points, count,
    room, blas,
):  # fmt: skip
    """Add to the gradient that of W and b, from the rows of g from `out` on."""
    pointers, places, data = points_of
    zero = gradient.dtype.type(0)
    product(
        blas, PLAIN, TRANSPOSED, outputs, full, points, g, out * points, points, x, first * points, points, 0.0,
        room, 0, full,
    )  # fmt: skip
    for o in range(outputs):
        for j in range(full):
            gradient[weight + o * inputs + columns[known + j]] += room[o * full + j]
        if bias >= 0:
            total = zero
            for p in range(count):
                total += g[out + o, p]
            gradient[bias + o] += total
    own = LANES * inputs  # the gradients of one point's outputs
    for low in range(0, outputs, LANES):
        rows = min(outputs - low, LANES)
        for k in range(np.uint64(own + LANES)):
            room[k] = zero
        for p in range(count):
            for i in range(rows):
                room[own + i] = g[out + low + i, p]
            for k in range(pointers[begin + p], pointers[begin + p + 1]):
                add_scaled(room, LANES * places[k], data[k], room, own)
        for i in range(rows):
            at = weight + (low + i) * inputs
            for j in range(inputs):
                gradient[at + j] += room[LANES * j + i]
