"""Activations: y <- a(x) for each number, and gx <- gy a'(x).

The frequent ones have loops of their own, in which the compiler takes many numbers at once. Those in `IN_PLACE` need
only y for a'(x), so that y may take the rows of x.
"""

from __future__ import annotations

import math

import numpy as np

from nnsim.platforms.dynamics.network.compile import inline, kernel
from nnsim.platforms.dynamics.network.elementary import sigmoid, tanh

RELU, TANH, SIGMOID, SILU, GELU, GELU_TANH, ELU, CELU, LEAKY_RELU, SOFTPLUS, SOFTSIGN, LOGSIGMOID = range(12)
HARDTANH, HARDSIGMOID, HARDSWISH, MISH, TANHSHRINK, SIN, EXP, SELU = range(12, 20)
KINDS = {
    "relu": RELU, "tanh": TANH, "sigmoid": SIGMOID, "silu": SILU, "gelu": GELU, "elu": ELU, "celu": CELU,
    "leaky_relu": LEAKY_RELU, "softplus": SOFTPLUS, "softsign": SOFTSIGN, "logsigmoid": LOGSIGMOID,
    "hardtanh": HARDTANH, "relu6": HARDTANH, "hardsigmoid": HARDSIGMOID, "hardswish": HARDSWISH, "mish": MISH,
    "tanhshrink": TANHSHRINK, "sin": SIN, "exp": EXP, "selu": SELU,
}  # fmt: skip
IN_PLACE = (RELU, TANH, SIGMOID)
FREQUENT = (RELU, TANH, SIGMOID, SILU)

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
_ROOT_HALF, _ROOT_2_PI, _CUBE = math.sqrt(0.5), math.sqrt(2 * math.pi), 0.044715
_GELU_SCALE = math.sqrt(2 / math.pi)


@kernel
def forward(kind, x, first, y, out, rows, points, in_place):  # type: ignore[no-untyped-def]
    """`rows` rows of y from `out` on, of those of x [*, points] from `first` on; with `in_place` they are the same."""
    zero, count = x.dtype.type(0), np.uint64(rows * points)  # rows lie one after the other
    x, y, first, out = x.reshape(x.size), y.reshape(y.size), np.uint64(first * points), np.uint64(out * points)
    if in_place:  # which the compiler must know to take many at once
        if kind == RELU:
            for k in range(out, out + count):
                y[k] = max(y[k], zero)
        elif kind == TANH:
            for k in range(out, out + count):
                y[k] = tanh(y[k])
        else:
            for k in range(out, out + count):
                y[k] = sigmoid(y[k])
    elif kind == RELU:
        for k in range(count):
            y[out + k] = max(x[first + k], zero)
    elif kind == TANH:
        for k in range(count):
            y[out + k] = tanh(x[first + k])
    elif kind == SIGMOID:
        for k in range(count):
            y[out + k] = sigmoid(x[first + k])
    else:
        for k in range(count):
            y[out + k] = x[first + k] * sigmoid(x[first + k])


@kernel
def backward(kind, x, first, y, out, g, rows, points, add):  # type: ignore[no-untyped-def]
    """Rows of g from `first` on, of those from `out` on; added with `add`."""
    zero, one, count = x.dtype.type(0), x.dtype.type(1), np.uint64(rows * points)
    x, y, g = x.reshape(x.size), y.reshape(y.size), g.reshape(g.size)
    first, out = np.uint64(first * points), np.uint64(out * points)
    if add:
        for k in range(count):
            g[first + k] += g[out + k] * _frequent_slope(kind, x[first + k], y[out + k])
    elif first == out:  # in place
        if kind == RELU:
            for k in range(out, out + count):
                g[k] *= one if y[k] > zero else zero
        elif kind == TANH:
            for k in range(out, out + count):
                g[k] *= one - y[k] * y[k]
        else:
            for k in range(out, out + count):
                g[k] *= y[k] * (one - y[k])
    elif kind == RELU:
        for k in range(count):
            g[first + k] = g[out + k] * (one if y[out + k] > zero else zero)
    elif kind == TANH:
        for k in range(count):
            g[first + k] = g[out + k] * (one - y[out + k] * y[out + k])
    elif kind == SIGMOID:
        for k in range(count):
            g[first + k] = g[out + k] * (y[out + k] * (one - y[out + k]))
    else:
        for k in range(count):
            s = sigmoid(x[first + k])
            g[first + k] = g[out + k] * (s * (one + x[first + k] * (one - s)))


@inline
def _frequent_slope(kind, x, y):  # type: ignore[no-untyped-def]
    one = type(x)(1)
    if kind == RELU:
        return one if y > 0 else type(x)(0)
    if kind == TANH:
        return one - y * y
    if kind == SIGMOID:
        return y * (one - y)
    s = sigmoid(x)
    return s * (one + x * (one - s))


@kernel
def other_forward(kind, a, b, x, first, y, out, rows, points):  # type: ignore[no-untyped-def]
    """The same of the rare ones; a and b are the activation's numbers."""
    for i in range(rows):
        for p in range(points):
            y[out + i, p] = _value(kind, x[first + i, p], a, b)


@kernel
def other_backward(kind, a, b, x, first, y, out, gx, gy, rows, points, add):  # type: ignore[no-untyped-def]
    """Rows of gx from `first` on, of those of gy from `out` on; added with `add`."""
    for i in range(rows):
        r, o = first + i, out + i
        for p in range(points):
            d = gy[o, p] * _slope(kind, x[r, p], y[o, p], a, b)
            gx[r, p] = gx[r, p] + d if add else d


@inline
def _value(kind, x, a, b):  # type: ignore[no-untyped-def]
    """a(x) of the rare ones."""
    if kind == GELU:
        return 0.5 * x * (1 + math.erf(x * _ROOT_HALF))
    if kind == GELU_TANH:
        return 0.5 * x * (1 + math.tanh(_GELU_SCALE * (x + _CUBE * x * x * x)))
    if kind == ELU:
        return x if x > 0 else a * math.expm1(x)
    if kind == CELU:
        return x if x > 0 else a * math.expm1(x / a)
    if kind == SELU:
        return _SELU_SCALE * (x if x > 0 else _SELU_ALPHA * math.expm1(x))
    if kind == LEAKY_RELU:
        return x if x > 0 else a * x
    if kind == SOFTPLUS:
        return x if a * x > b else math.log1p(math.exp(a * x)) / a
    if kind == SOFTSIGN:
        return x / (1 + abs(x))
    if kind == LOGSIGMOID:
        return min(x, 0.0) - math.log1p(math.exp(-abs(x)))
    if kind == HARDTANH:
        return min(max(x, a), b)
    if kind == HARDSIGMOID:
        return min(max(x / 6 + 0.5, 0.0), 1.0)
    if kind == HARDSWISH:
        return x * min(max(x / 6 + 0.5, 0.0), 1.0)
    if kind == MISH:
        return x * math.tanh(x if x > 20 else math.log1p(math.exp(x)))
    if kind == TANHSHRINK:
        return x - math.tanh(x)
    if kind == SIN:
        return math.sin(x)
    return math.exp(x)


@inline
def _slope(kind, x, y, a, b):  # type: ignore[no-untyped-def]
    """a'(x) of the rare ones, given y = a(x)."""
    if kind == GELU:
        return 0.5 * (1 + math.erf(x * _ROOT_HALF)) + x * math.exp(-0.5 * x * x) / _ROOT_2_PI
    if kind == GELU_TANH:
        t = math.tanh(_GELU_SCALE * (x + _CUBE * x * x * x))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * _GELU_SCALE * (1 + 3 * _CUBE * x * x)
    if kind == ELU:
        return 1.0 if x > 0 else a * math.exp(x)
    if kind == CELU:
        return 1.0 if x > 0 else math.exp(x / a)
    if kind == SELU:
        return _SELU_SCALE * (1.0 if x > 0 else _SELU_ALPHA * math.exp(x))
    if kind == LEAKY_RELU:
        return 1.0 if x > 0 else a
    if kind == SOFTPLUS:
        return 1.0 if a * x > b else 1 / (1 + math.exp(-a * x))
    if kind == SOFTSIGN:
        return 1 / (1 + abs(x)) ** 2
    if kind == LOGSIGMOID:
        return 1 - sigmoid(x)
    if kind == HARDTANH:
        return 1.0 if a < x < b else 0.0
    if kind == HARDSIGMOID:
        return 1.0 / 6 if -3 < x < 3 else 0.0
    if kind == HARDSWISH:
        return 0.0 if x <= -3 else (1.0 if x >= 3 else x / 3 + 0.5)
    if kind == MISH:
        t = math.tanh(x if x > 20 else math.log1p(math.exp(x)))
        return t + x * (1 - t * t) * sigmoid(x)
    if kind == TANHSHRINK:
        t = math.tanh(x)
        return t * t
    if kind == SIN:
        return math.cos(x)
    return y
