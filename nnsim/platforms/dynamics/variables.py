"""From positions to sums over the points, collective variables and forces, compiled."""

from __future__ import annotations

import math

from nnsim.platforms.dynamics.network import passes
from nnsim.platforms.dynamics.network.compile import entry, inline, kernel
from nnsim.platforms.dynamics.network.indirect import call
from nnsim.platforms.formulas import NUMBER, combine, slopes

LOSS, LN_LOSS, ACCURACY, SMOOTHED, LOGIT_SMOOTHED = range(5)
LOSS_SLOPE = -1.0  # in `Quantities.slope`


@kernel
def evaluate(network, points, quantities, scratch, sums, places, gradients):  # type: ignore[no-untyped-def]
    """Fill `sums` with all quantities, and with `gradients` the rows of `scratch.gradients`, zero before, with theirs.

    The parameters are in `scratch.theta`; `places` says where the BLAS, the operations, and the losses are.
    """
    rows = scratch.gradients
    for q in range(quantities.split.size):
        sums[q] = 0.0
    tables = (network.reals, network.lists, points.pointers, points.places, points.data)
    theta, room, wide = scratch.theta, scratch.room, network.points_rows
    low = 0
    while low < quantities.split.size:
        s, high = quantities.split[low], low + 1
        while high < quantities.split.size and quantities.split[high] == s:
            high += 1
        width, begin = points.width[s], points.start[s]
        y = scratch.y[: network.rows * width].reshape(network.rows, width)
        g = scratch.g[: network.rows * width].reshape(network.rows, width)
        x = points.numbers[begin : begin + points.blocks[s] * wide * width].reshape(points.blocks[s] * wide, width)
        for block in range(points.blocks[s]):
            count = min(width, points.counts[s] - block * width)
            first = points.first[s] + block * width
            passes.forward(
                network.ops, tables, theta, x, block * wide, first, count, y, room, places.blas, places.forward
            )
            for q in range(low, high):
                wanted, slope = gradients and quantities.gradient[q] >= 0, quantities.slope[q]
                of_loss = slope == LOSS_SLOPE
                norm = points.norm[s] if of_loss else points.counted[s]
                call(
                    places.losses, points.kind if of_loss else points.right,
                    (
                        slope, points.values, points.labels, points.shares, first, norm, y, network.result,
                        network.outputs, g, network.result, wanted, count, width, room, sums, q,
                    ),
                )  # fmt: skip
                if wanted:
                    passes.backward(
                        network.ops, tables, theta, x, block * wide, first, count, y, g, rows[quantities.gradient[q]],
                        room, places.blas, places.backward,
                    )  # fmt: skip
        for q in range(low, high):
            sums[q] /= points.norm[s] if quantities.slope[q] == LOSS_SLOPE else points.counted[s]
        low = high


@kernel
def values(network, points, quantities, cvs, scratch, sums, places, found, w):  # type: ignore[no-untyped-def]
    """Fill column w of `found` [k, W] with collective variables; `sums` is room for their quantities and rows."""
    evaluate(network, points, quantities, scratch, sums, places, False)
    fill(cvs, sums)
    first = sums.size - cvs.kind.size
    for j in range(cvs.shown.size):
        found[j, w] = sums[first + cvs.shown[j]]


@entry
def observe(positions, network, points, quantities, cvs, scratch, sums, places, found):  # type: ignore[no-untyped-def]
    """Fill `found` [k, W] with collective variables at positions [W, n]."""
    theta = scratch.theta
    for w in range(positions.shape[0]):
        for i in range(positions.shape[1]):
            theta[i] = theta.dtype.type(positions[w, i])
        values(network, points, quantities, cvs, scratch, sums, places, found, w)


@kernel
def fill(cvs, sums):  # type: ignore[no-untyped-def]
    """The rows of the variables, the last entries of `sums`, whose first ones are the quantities."""
    first = sums.size - cvs.kind.size
    for r in range(cvs.kind.size):
        kind = cvs.kind[r]
        if kind < NUMBER:
            sums[first + r], _ = value(kind, sums[cvs.quantity[r]], cvs.scale[r], cvs.epsilon, cvs.tiny)
        elif kind == NUMBER:
            sums[first + r] = cvs.scale[r]
        else:
            sums[first + r] = combine(kind, sums[first + cvs.left[r]], sums[first + cvs.right[r]])


@kernel
def chain_rule(cvs, quantities, sums, by_variable, pull, coefficients):  # type: ignore[no-untyped-def]
    """Add to `coefficients` the derivatives of V by the quantities, given those by the variables [k].

    They go from each row to those that it is made of, which lie before it; `pull` [R] is room for them.
    """
    first = sums.size - cvs.kind.size
    for r in range(cvs.kind.size):
        pull[r] = 0.0
    for j in range(cvs.shown.size):
        pull[cvs.shown[j]] += by_variable[j]
    for r in range(cvs.kind.size - 1, -1, -1):
        if cvs.kind[r] > NUMBER:
            left, right = cvs.left[r], cvs.right[r]
            a, b = slopes(cvs.kind[r], sums[first + left], sums[first + right])
            pull[left] += a * pull[r]
            pull[right] += b * pull[r]
    for r in range(cvs.kind.size):
        gradient = quantities.gradient[cvs.quantity[r]] if cvs.kind[r] < NUMBER else -1
        if gradient >= 0:
            _, slope = value(cvs.kind[r], sums[cvs.quantity[r]], cvs.scale[r], cvs.epsilon, cvs.tiny)
            coefficients[gradient] += pull[r] * slope


@inline
def value(kind, total, scale, epsilon, tiny):  # type: ignore[no-untyped-def]
    """A collective variable, and its derivative by the quantity `total` that it is made of."""
    if kind == LOSS:
        return total, 1.0
    if kind == LN_LOSS:
        return math.log(max(total, tiny)), (1 / total if total >= tiny else 0.0)
    if kind == LOGIT_SMOOTHED:
        mean = epsilon + (1 - 2 * epsilon) * total
        return scale * math.log(mean / (1 - mean)), scale * (1 - 2 * epsilon) / (mean * (1 - mean))
    return scale * total, scale
