"""What a split's outputs z [classes, points] come to: the loss, and how many answers are right, each with its gradient.

Sums run over the first `count` points of a block; the others only fill it up, and their gradients are 0. What is known
of the points (see `nnsim.platforms.native.LossTable`) lies in columns from `begin` on.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnsim.platforms.dynamics.network.compile import inline, kernel
from nnsim.platforms.dynamics.network.elementary import exp, log1p, sigmoid
from nnsim.platforms.dynamics.network.indirect import addresses_of

CROSS_ENTROPY, WEIGHTED_CROSS_ENTROPY, MSE, BCE, WEIGHTED_BCE = range(5)
ANSWERS_RIGHT = 5  # numbers of the functions: one for each kind of loss, then the right answers of bce, and of classes
CLASSES_RIGHT = 6


def addresses(numbers: Any, kind: int) -> np.ndarray[Any, Any]:
    """Where the functions are that a kind of loss needs, for numbers of a type."""
    whole, rows, flat = np.zeros(1, dtype=np.int64), np.zeros((1, 1), dtype=numbers), np.zeros(1, dtype=numbers)
    arguments = 0.0, rows, whole, rows, 0, 0.0, rows, 0, 0, rows, 0, True, 0, 0, flat, np.zeros(1), 0
    functions = [cross_entropy, weighted_cross_entropy, squares, bce, weighted_bce, right_answers, right_classes]
    return addresses_of(functions, arguments, {kind} if kind == MSE else {kind, right_of(kind)})


def right_of(kind: int) -> int:
    """Number of the function that counts the right answers, for a kind of loss."""
    return ANSWERS_RIGHT if kind in (BCE, WEIGHTED_BCE) else CLASSES_RIGHT


# Each adds to sums[q] what the first `count` points of a block come to; with `wanted` the rows of g from `out` on are
# its gradient over `norm`. Not all take all arguments.


@kernel
def cross_entropy(  # type: ignore[no-untyped-def]
    slope, values, labels, shares, begin, norm, z, row, classes, g, out, wanted, count, points, room, sums, q
):  # fmt: skip
    """-ln softmax of the right class."""
    if wanted:
        _clear_rest(g, out, classes, count, points)
    _highest(z, row, classes, count, room)
    sums[q] += _labelled(labels, begin, norm, z, row, classes, g, out, wanted, count, points, room)


@kernel
def weighted_cross_entropy(  # type: ignore[no-untyped-def]
    slope, values, labels, shares, begin, norm, z, row, classes, g, out, wanted, count, points, room, sums, q
):  # fmt: skip
    """-sum over classes of share x ln softmax."""
    if wanted:
        _clear_rest(g, out, classes, count, points)
    _highest(z, row, classes, count, room)
    sums[q] += _shared(shares, begin, norm, z, row, classes, g, out, wanted, count, points, room)


@kernel
def squares(  # type: ignore[no-untyped-def]
    slope, values, labels, shares, begin, norm, z, row, classes, g, out, wanted, count, points, room, sums, q
):  # fmt: skip
    """(z - y)^2."""
    if wanted:
        _clear_rest(g, out, classes, count, points)
    sums[q] += _squares(values, begin, norm, z, row, classes, g, out, wanted, count)


@kernel
def bce(  # type: ignore[no-untyped-def]
    slope, values, labels, shares, begin, norm, z, row, classes, g, out, wanted, count, points, room, sums, q
):  # fmt: skip
    """Binary cross-entropy."""
    if wanted:
        _clear_rest(g, out, classes, count, points)
    sums[q] += _answers(BCE, values, shares, begin, norm, z, row, classes, g, out, wanted, count)


@kernel
def weighted_bce(  # type: ignore[no-untyped-def]
    slope, values, labels, shares, begin, norm, z, row, classes, g, out, wanted, count, points, room, sums, q
):  # fmt: skip
    """Binary cross-entropy, each term times its share."""
    if wanted:
        _clear_rest(g, out, classes, count, points)
    sums[q] += _answers(WEIGHTED_BCE, values, shares, begin, norm, z, row, classes, g, out, wanted, count)


@kernel
def right_answers(  # type: ignore[no-untyped-def]
    slope, values, labels, shares, begin, norm, z, row, classes, g, out, wanted, count, points, room, sums, q
):  # fmt: skip
    """How many answers are right: sigmoid(slope x margin) of each, or with slope 0 1 if that is above 0."""
    if wanted:
        _clear_rest(g, out, classes, count, points)
    for c in range(classes):
        for p in range(count):
            sign = 2 * values[c, begin + p] - 1
            room[p] = sign * z[row + c, p]
            room[points + p] = sign
        sums[q] += _rightness(slope, norm, room, count, points)
        if wanted:
            for p in range(count):
                g[out + c, p] = room[points + p] * room[2 * points + p]


@kernel
def right_classes(  # type: ignore[no-untyped-def]
    slope, values, labels, shares, begin, norm, z, row, classes, g, out, wanted, count, points, room, sums, q
):  # fmt: skip
    """The same of classes, with the margins of `nnsim.networks.margins`."""
    zero = z.dtype.type(0)
    if wanted:
        _clear_rest(g, out, classes, count, points)
    _rivals(labels, begin, z, row, classes, count, points, room)
    sums[q] += _rightness(slope, norm, room, count, points)
    if wanted:
        for c in range(classes):
            for p in range(count):
                d = room[2 * points + p]
                g[out + c, p] = d if labels[begin + p] == c else (-d if room[points + p] == c else zero)


@inline
def _clear_rest(g, out, classes, count, points):  # type: ignore[no-untyped-def]
    for c in range(classes):
        for p in range(count, points):
            g[out + c, p] = g.dtype.type(0)


@inline
def _squares(values, begin, norm, z, row, classes, g, out, wanted, count):  # type: ignore[no-untyped-def]
    """(z - y)^2."""
    total, factor = 0.0, z.dtype.type(2 / norm)
    for c in range(classes):
        part = z.dtype.type(0)
        for p in range(count):
            d = z[row + c, p] - values[c, begin + p]
            part += d * d
        total += part
        if wanted:
            for p in range(count):
                g[out + c, p] = factor * (z[row + c, p] - values[c, begin + p])
    return total


@inline
def _answers(kind, values, shares, begin, norm, z, row, classes, g, out, wanted, count):  # type: ignore[no-untyped-def]
    """-y ln s(z) - (1 - y) ln s(-z) = max(z, 0) - y z + ln(1 + exp(-|z|)), times its share."""
    total, zero, factor = 0.0, z.dtype.type(0), z.dtype.type(1 / norm)
    for c in range(classes):
        for p in range(count):
            x, y = z[row + c, p], values[c, begin + p]
            share = shares[c, begin + p] if kind == WEIGHTED_BCE else z.dtype.type(1)
            total += share * (max(x, zero) - y * x + log1p(exp(-abs(x))))
            if wanted:
                g[out + c, p] = factor * share * (sigmoid(x) - y)
    return total


@inline
def _highest(z, row, classes, count, room):  # type: ignore[no-untyped-def]
    """room <- the highest output of each point."""
    for p in range(count):
        room[p] = z[row, p]
    for c in range(1, classes):
        for p in range(count):
            room[p] = max(room[p], z[row + c, p])


@inline
def _labelled(labels, begin, norm, z, row, classes, g, out, wanted, count, points, room):  # type: ignore[no-untyped-def]
    """-ln softmax of the right class: (highest - own) + ln(1 + the other terms); exact also where it is tiny.

    The second row of `room` is the sum of exp(z - highest) over the wrong classes, the third is that of the right one.
    """
    zero, one, factor = z.dtype.type(0), z.dtype.type(1), z.dtype.type(1 / norm)
    wrong, own = points, 2 * points
    for p in range(count):
        room[wrong + p] = zero
        room[own + p] = zero
    for c in range(classes):
        for p in range(count):
            e = exp(z[row + c, p] - room[p])
            right = labels[begin + p] == c
            room[wrong + p] += zero if right else e
            room[own + p] += e if right else zero
            if wanted:
                g[out + c, p] = e
    total = 0.0
    for p in range(count):
        total += room[p] - z[row + labels[begin + p], p]
    for p in range(count):
        total += log1p((room[own + p] - one) + room[wrong + p])
    if wanted:
        for p in range(count):
            room[own + p] = factor / (room[own + p] + room[wrong + p])
            room[wrong + p] *= -room[own + p]
        for c in range(classes):
            for p in range(count):
                g[out + c, p] = room[wrong + p] if labels[begin + p] == c else g[out + c, p] * room[own + p]
    return total


@inline
def _shared(shares, begin, norm, z, row, classes, g, out, wanted, count, points, room):  # type: ignore[no-untyped-def]
    """-sum over classes of share x ln softmax."""
    zero, one, factor = z.dtype.type(0), z.dtype.type(1), z.dtype.type(1 / norm)
    others, whole = points, 2 * points
    for p in range(count):
        room[others + p] = -one  # one of the terms is exp(0)
        room[whole + p] = zero
    for c in range(classes):
        for p in range(count):
            room[others + p] += exp(z[row + c, p] - room[p])
            room[whole + p] += shares[c, begin + p]
    for p in range(count):
        room[others + p] = log1p(room[others + p])
    total = 0.0
    for c in range(classes):
        for p in range(count):
            x = z[row + c, p] - room[p] - room[others + p]  # ln softmax
            total -= shares[c, begin + p] * x
            if wanted:
                g[out + c, p] = factor * (room[whole + p] * exp(x) - shares[c, begin + p])
    return total


@inline
def _rivals(labels, begin, z, row, classes, count, points, room):  # type: ignore[no-untyped-def]
    """The margin of each point, -inf if its label is ignored, and the number of the highest wrong class."""
    for p in range(count):
        room[p] = -math.inf
        room[points + p] = -1
        room[2 * points + p] = -math.inf
    for c in range(classes):
        for p in range(count):
            x, own = z[row + c, p], labels[begin + p] == c
            higher = (not own) and x > room[p]
            room[2 * points + p] = x if own else room[2 * points + p]
            room[p] = x if higher else room[p]
            room[points + p] = c if higher else room[points + p]
    for p in range(count):
        room[p] = room[2 * points + p] - room[p]


@inline
def _rightness(slope, norm, room, count, points):  # type: ignore[no-untyped-def]
    """Sum over the margins in `room`; the third row is the derivative over `norm`."""
    total = 0.0
    if slope == 0:
        for p in range(count):
            total += 1.0 if room[p] > 0 else 0.0
        return total
    one, k, factor = room.dtype.type(1), room.dtype.type(slope), room.dtype.type(slope / norm)
    for p in range(count):
        s = sigmoid(k * room[p])
        total += s
        room[2 * points + p] = factor * s * (one - s)
    return total
