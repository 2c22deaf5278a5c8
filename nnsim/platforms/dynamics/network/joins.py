"""Sums and products of two values, of a value and a number, and of a value and a parameter."""

from __future__ import annotations

from nnsim.platforms.dynamics.network.compile import inline, kernel

ADD, SUBTRACT, MULTIPLY, DIVIDE = range(4)


@kernel
def forward(kind, a, first, b, second, y, out, rows, points):  # type: ignore[no-untyped-def]
    """y <- a + b, a - b, a b or a / b, row by row."""
    for i in range(rows):
        r, s, o = first + i, second + i, out + i
        if kind == ADD:
            for p in range(points):
                y[o, p] = a[r, p] + b[s, p]
        elif kind == SUBTRACT:
            for p in range(points):
                y[o, p] = a[r, p] - b[s, p]
        elif kind == MULTIPLY:
            for p in range(points):
                y[o, p] = a[r, p] * b[s, p]
        else:
            for p in range(points):
                y[o, p] = a[r, p] / b[s, p]


@kernel
def backward(kind, a, first, b, second, ga, needs_a, gb, needs_b, gy, out, rows, points):  # type: ignore[no-untyped-def]
    """What the gradients of a and b gain (1: are written, 2: added to, 0: not needed)."""
    one = gy.dtype.type(1)
    for i in range(rows):
        r, s, o = first + i, second + i, out + i
        if needs_a and kind == MULTIPLY:
            _product(one, gy, o, b, s, ga, r, needs_a, points)
        elif needs_a and kind == DIVIDE:
            for p in range(points):
                d = gy[o, p] / b[s, p]
                ga[r, p] = d if needs_a == 1 else ga[r, p] + d
        elif needs_a:
            _pass_on(one, gy, o, ga, r, needs_a, points)
        if needs_b and kind == MULTIPLY:
            _product(one, gy, o, a, r, gb, s, needs_b, points)
        elif needs_b and kind == DIVIDE:
            for p in range(points):
                d = -gy[o, p] * a[r, p] / (b[s, p] * b[s, p])
                gb[s, p] = d if needs_b == 1 else gb[s, p] + d
        elif needs_b:
            _pass_on(one if kind == ADD else -one, gy, o, gb, s, needs_b, points)


@inline
def _product(factor, gy, o, b, s, gx, r, needs, points):  # type: ignore[no-untyped-def]
    """gx <- factor gy b, or gains it."""
    if needs == 1:
        for p in range(points):
            gx[r, p] = factor * gy[o, p] * b[s, p]
    else:
        for p in range(points):
            gx[r, p] += factor * gy[o, p] * b[s, p]


@inline
def _pass_on(factor, gy, o, gx, r, needs, points):  # type: ignore[no-untyped-def]
    """gx <- factor gy, or gains it."""
    if needs == 1:
        for p in range(points):
            gx[r, p] = factor * gy[o, p]
    else:
        for p in range(points):
            gx[r, p] += factor * gy[o, p]


@kernel
def number_forward(kind, number, x, first, y, out, rows, points):  # type: ignore[no-untyped-def]
    """y <- x + number, or x times it."""
    c = x.dtype.type(number)
    for i in range(rows):
        for p in range(points):
            y[out + i, p] = x[first + i, p] + c if kind == ADD else x[first + i, p] * c


@kernel
def number_backward(kind, number, gx, first, gy, out, rows, points, add):  # type: ignore[no-untyped-def]
    """What the gradient of x is, or gains."""
    c = gx.dtype.type(1) if kind == ADD else gx.dtype.type(number)
    for i in range(rows):
        _pass_on(c, gy, out + i, gx, first + i, 2 if add else 1, points)


@kernel
def parameter_forward(kind, theta, place, lists, begin, x, first, y, out, rows, points):  # type: ignore[no-untyped-def]
    """y <- x + c, or x times it, with c of row i the parameter number `lists[begin + i]` from `place` on."""
    for i in range(rows):
        c = theta[place + lists[begin + i]]
        for p in range(points):
            y[out + i, p] = x[first + i, p] + c if kind == ADD else x[first + i, p] * c


@kernel
def parameter_backward(kind, theta, place, lists, begin, x, first, gradient, gx, needs, gy, out, rows, points):  # type: ignore[no-untyped-def]
    """Gradient of the parameter, and with `needs` (1: write, 2: add) that of x."""
    one, zero = gy.dtype.type(1), gy.dtype.type(0)
    for i in range(rows):
        at = place + lists[begin + i]
        total = zero
        for p in range(points):
            total += gy[out + i, p] * (one if kind == ADD else x[first + i, p])
        gradient[at] += total
        if needs:
            _pass_on(one if kind == ADD else theta[at], gy, out + i, gx, first + i, needs, points)
