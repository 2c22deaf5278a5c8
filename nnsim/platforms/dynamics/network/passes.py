"""Forward and backward pass of a whole network over a block of points, operation by operation.

A network is a table of integers, a row for each operation, made in `nnsim.platforms.dynamics.network.tables`, so that
one compiled function serves all networks. Value 0 is the block of points, in rows of x; all others are rows of y. The
rows of g hold the gradient of the value in the same row of y.

Each kind of operation is two functions here, which hand its integers to the kernels, and are called by their
addresses.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nnsim.platforms.dynamics.network import activations, convolution, joins, linear, normalisation, sparse, windows
from nnsim.platforms.dynamics.network.compile import kernel
from nnsim.platforms.dynamics.network.indirect import addresses_of, call

LINEAR, SPARSE_LINEAR, DIRECT, STRIPS, ACTIVATION, SUM, MAX, NORM, SCALE, JOIN, NUMBER, PARAMETER, OTHER = range(13)
# What all operations have: kind; whether the first input is the points; first rows of the first and second input and of
# the output; what becomes of the gradients of the inputs (0: not needed, 1: written, 2: added to); the first of its
# real numbers. Its own integers follow, from OWN on.
KIND, OF_POINTS, INPUT, SECOND, OUTPUT, NEEDS, NEEDS_SECOND, REALS, OWN = range(9)


@kernel
def forward(ops, tables, theta, x, first, begin, count, y, room, blas, addresses):  # type: ignore[no-untyped-def]
    """Fill y [rows, points] with all values of the block of points whose rows begin at `first` in x.

    `ops` are the operations, [K, columns]; `tables` real numbers, lists of integers, and pointers, places and data of
    points that are kept as lists; theta has the parameters, then fixed numbers. `begin` is the number of the block's
    first point, `count` how many there are. `room` is scratch; `blas` and `addresses` say where functions are.
    """
    for number in range(ops.shape[0]):
        op = ops[number]
        if op[OF_POINTS]:
            arguments = (op, tables, theta, x, first + op[INPUT], begin, count, y, room, blas)
        else:
            arguments = (op, tables, theta, y, op[INPUT], begin, count, y, room, blas)
        call(addresses, op[KIND], arguments)


@kernel
def backward(ops, tables, theta, x, first, begin, count, y, g, gradient, room, blas, addresses):  # type: ignore[no-untyped-def]
    """Add to the gradient that of all parameters, given the gradient of the outputs in their rows of g."""
    for number in range(ops.shape[0] - 1, -1, -1):
        op = ops[number]
        if op[OF_POINTS]:
            arguments = (op, tables, theta, x, first + op[INPUT], begin, count, y, g, gradient, room, blas)
        else:
            arguments = (op, tables, theta, y, op[INPUT], begin, count, y, g, gradient, room, blas)
        call(addresses, op[KIND], arguments)


def addresses(kinds: set[int], kind: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Where the forward and backward functions of some kinds of operations are, for numbers of a type."""
    whole, rows, flat = np.zeros((1, 1), dtype=np.int64), np.zeros((1, 1), dtype=kind), np.zeros(1, dtype=kind)
    tables = flat, whole[0], whole[0], whole[0], flat
    common = whole[0], tables, flat, rows, 0, 0, 0, rows
    last = flat, whole[0]
    return (
        addresses_of([one[0] for one in FUNCTIONS], (*common, *last), kinds),
        addresses_of([one[1] for one in FUNCTIONS], (*common, rows, flat, *last), kinds),
    )


# ---------------------------------------------------------------------------------------- one kind after the other


@kernel
def _linear(op, tables, theta, x, first, begin, count, y, room, blas):  # type: ignore[no-untyped-def]
    a, out, n = op[OWN:], op[OUTPUT], y.shape[1]
    linear.forward(theta, a[0], a[1], x, first, a[2], y, out, a[3], n, room, blas)
    if a[4]:  # with its activation, which takes the same rows
        activations.forward(a[4] - 1, y, out, y, out, a[3], n, True)


@kernel
def _linear_back(op, tables, theta, x, first, begin, count, y, g, gradient, room, blas):  # type: ignore[no-untyped-def]
    a, out, n = op[OWN:], op[OUTPUT], y.shape[1]
    if a[4]:
        activations.backward(a[4] - 1, y, out, y, out, g, a[3], n, False)
    linear.weight_gradient(gradient, a[0], a[1], x, first, a[2], g, out, a[3], n, blas)
    if op[NEEDS]:
        linear.input_gradient(theta, a[0], g, first, a[2], op[NEEDS] == 2, g, out, a[3], n, blas)


@kernel
def _sparse(op, tables, theta, x, first, begin, count, y, room, blas):  # type: ignore[no-untyped-def]
    a, n = op[OWN:], y.shape[1]
    sparse.forward(
        theta, a[0], a[1], x, first, a[4], tables[1], a[5], tables[2:], begin, a[2], y, op[OUTPUT], a[3], n, count,
        room, blas,
    )  # fmt: skip


@kernel
def _sparse_back(op, tables, theta, x, first, begin, count, y, g, gradient, room, blas):  # type: ignore[no-untyped-def]
    a, n = op[OWN:], y.shape[1]
    sparse.weight_gradient(
        gradient, a[0], a[1], x, first, a[4], tables[1], a[5], tables[2:], begin, a[2], g, op[OUTPUT], a[3], n, count,
        room, blas,
    )  # fmt: skip


@kernel
def _direct(op, tables, theta, x, first, begin, count, y, room, blas):  # type: ignore[no-untyped-def]
    a, n = op[OWN:], y.shape[1]
    convolution.direct_forward(
        theta, a[0], a[1], x.reshape(x.size), first * n, y.reshape(y.size), op[OUTPUT] * n, convolution.shape_of(a), n,
        room,
    )  # fmt: skip


@kernel
def _direct_back(op, tables, theta, x, first, begin, count, y, g, gradient, room, blas):  # type: ignore[no-untyped-def]
    a, n, flat = op[OWN:], y.shape[1], g.reshape(g.size)
    convolution.direct_backward(
        theta, a[0], a[1], x.reshape(x.size), first * n, gradient, flat, op[OUTPUT] * n, flat, op[NEEDS],
        convolution.shape_of(a), n, room,
    )  # fmt: skip


@kernel
def _strips(op, tables, theta, x, first, begin, count, y, room, blas):  # type: ignore[no-untyped-def]
    a, n = op[OWN:], y.shape[1]
    convolution.strips_forward(
        theta, a[0], a[1], x.reshape(x.size), first * n, y.reshape(y.size), op[OUTPUT] * n, convolution.shape_of(a), n,
        room, blas,
    )  # fmt: skip


@kernel
def _strips_back(op, tables, theta, x, first, begin, count, y, g, gradient, room, blas):  # type: ignore[no-untyped-def]
    a, n, flat = op[OWN:], y.shape[1], g.reshape(g.size)
    convolution.strips_backward(
        theta, a[0], a[1], x.reshape(x.size), first * n, gradient, flat, op[OUTPUT] * n, flat, op[NEEDS],
        convolution.shape_of(a), n, room, blas,
    )  # fmt: skip


@kernel
def _activation(op, tables, theta, x, first, begin, count, y, room, blas):  # type: ignore[no-untyped-def]
    a = op[OWN:]
    in_place = first == op[OUTPUT] and not op[OF_POINTS]
    activations.forward(a[0], x, first, y, op[OUTPUT], a[1], y.shape[1], in_place)


@kernel
def _activation_back(op, tables, theta, x, first, begin, count, y, g, gradient, room, blas):  # type: ignore[no-untyped-def]
    a, needs = op[OWN:], op[NEEDS]
    if needs:
        activations.backward(a[0], x, first, y, op[OUTPUT], g, a[1], y.shape[1], needs == 2)


@kernel
def _other(op, tables, theta, x, first, begin, count, y, room, blas):  # type: ignore[no-untyped-def]
    a, real, n = op[OWN:], op[REALS], y.shape[1]
    activations.other_forward(a[0], tables[0][real], tables[0][real + 1], x, first, y, op[OUTPUT], a[1], n)


@kernel
def _other_back(op, tables, theta, x, first, begin, count, y, g, gradient, room, blas):  # type: ignore[no-untyped-def]
    a, real, n, needs = op[OWN:], op[REALS], y.shape[1], op[NEEDS]
    if needs:
        activations.other_backward(
            a[0], tables[0][real], tables[0][real + 1], x, first, y, op[OUTPUT], g, g, a[1], n, needs == 2
        )


@kernel
def _sum(op, tables, theta, x, first, begin, count, y, room, blas):  # type: ignore[no-untyped-def]
    a = op[OWN:]
    windows.sum_forward(
        tables[1], a[0], a[1], tables[0], op[REALS], x, first, a[2], y, op[OUTPUT], a[3], a[4], y.shape[1]
    )


@kernel
def _sum_back(op, tables, theta, x, first, begin, count, y, g, gradient, room, blas):  # type: ignore[no-untyped-def]
    a = op[OWN:]
    if op[NEEDS]:
        windows.sum_backward(
            tables[1], a[0], a[1], tables[0], op[REALS], g, first, a[2], g, op[OUTPUT], a[3], a[4], y.shape[1],
            op[NEEDS] == 2,
        )  # fmt: skip


@kernel
def _max(op, tables, theta, x, first, begin, count, y, room, blas):  # type: ignore[no-untyped-def]
    a = op[OWN:]
    windows.max_forward(tables[1], a[0], a[1], x, first, a[2], y, op[OUTPUT], a[3], a[4], y.shape[1])


@kernel
def _max_back(op, tables, theta, x, first, begin, count, y, g, gradient, room, blas):  # type: ignore[no-untyped-def]
    a = op[OWN:]
    if op[NEEDS]:
        windows.max_backward(
            tables[1], a[0], a[1], x, g, first, a[2], y, g, op[OUTPUT], a[3], a[4], y.shape[1], op[NEEDS] == 2, room
        )


@kernel
def _norm(op, tables, theta, x, first, begin, count, y, room, blas):  # type: ignore[no-untyped-def]
    a, n, eps = op[OWN:], y.shape[1], tables[0][op[REALS]]
    shape = (a[3], a[4], a[5], a[6], a[7])
    normalisation.forward(
        theta,
        a[0],
        a[1],
        eps,
        x.reshape(x.size),
        first * n,
        y.reshape(y.size),
        op[OUTPUT] * n,
        a[2] * n,
        shape,
        n,
        room,
    )


@kernel
def _norm_back(op, tables, theta, x, first, begin, count, y, g, gradient, room, blas):  # type: ignore[no-untyped-def]
    a, n, flat = op[OWN:], y.shape[1], g.reshape(g.size)
    normalisation.backward(
        theta, a[0], a[1], x.reshape(x.size), first * n, y.reshape(y.size), op[OUTPUT] * n, a[2] * n, gradient, flat,
        flat, op[NEEDS], (a[3], a[4], a[5], a[6], a[7]), n, room,
    )  # fmt: skip


@kernel
def _scale(op, tables, theta, x, first, begin, count, y, room, blas):  # type: ignore[no-untyped-def]
    a = op[OWN:]
    eps = tables[0][op[REALS]]
    normalisation.scale_forward(theta, a[0], a[1], a[2], a[3], eps, x, first, y, op[OUTPUT], a[4], a[5], y.shape[1])


@kernel
def _scale_back(op, tables, theta, x, first, begin, count, y, g, gradient, room, blas):  # type: ignore[no-untyped-def]
    a = op[OWN:]
    eps = tables[0][op[REALS]]
    normalisation.scale_backward(
        theta, a[0], a[1], a[2], a[3], eps, x, first, gradient, g, g, op[OUTPUT], op[NEEDS], a[4], a[5], y.shape[1]
    )


@kernel
def _join(op, tables, theta, x, first, begin, count, y, room, blas):  # type: ignore[no-untyped-def]
    a = op[OWN:]
    joins.forward(a[0], x, first, y, op[SECOND], y, op[OUTPUT], a[1], y.shape[1])


@kernel
def _join_back(op, tables, theta, x, first, begin, count, y, g, gradient, room, blas):  # type: ignore[no-untyped-def]
    a = op[OWN:]
    joins.backward(a[0], x, first, y, op[SECOND], g, op[NEEDS], g, op[NEEDS_SECOND], g, op[OUTPUT], a[1], y.shape[1])


@kernel
def _number(op, tables, theta, x, first, begin, count, y, room, blas):  # type: ignore[no-untyped-def]
    a = op[OWN:]
    joins.number_forward(a[0], tables[0][op[REALS]], x, first, y, op[OUTPUT], a[1], y.shape[1])


@kernel
def _number_back(op, tables, theta, x, first, begin, count, y, g, gradient, room, blas):  # type: ignore[no-untyped-def]
    a = op[OWN:]
    if op[NEEDS]:
        joins.number_backward(a[0], tables[0][op[REALS]], g, first, g, op[OUTPUT], a[1], y.shape[1], op[NEEDS] == 2)


@kernel
def _parameter(op, tables, theta, x, first, begin, count, y, room, blas):  # type: ignore[no-untyped-def]
    a = op[OWN:]
    joins.parameter_forward(a[0], theta, a[2], tables[1], a[3], x, first, y, op[OUTPUT], a[1], y.shape[1])


@kernel
def _parameter_back(op, tables, theta, x, first, begin, count, y, g, gradient, room, blas):  # type: ignore[no-untyped-def]
    a = op[OWN:]
    joins.parameter_backward(
        a[0], theta, a[2], tables[1], a[3], x, first, gradient, g, op[NEEDS], g, op[OUTPUT], a[1], y.shape[1]
    )


FUNCTIONS = [  # in the order of the kinds
    (_linear, _linear_back),
    (_sparse, _sparse_back),
    (_direct, _direct_back),
    (_strips, _strips_back),
    (_activation, _activation_back),
    (_sum, _sum_back),
    (_max, _max_back),
    (_norm, _norm_back),
    (_scale, _scale_back),
    (_join, _join_back),
    (_number, _number_back),
    (_parameter, _parameter_back),
    (_other, _other_back),
]
