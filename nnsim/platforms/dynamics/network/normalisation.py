"""Normalisation of groups of rows, as LayerNorm and GroupNorm do, and scaling by fixed numbers, as BatchNorm at rest.

    y_e = w_e (x_e - m) / sqrt(v + eps) + b_e,      m, v: mean and variance of x over the rows e of a group

Row number (o size + e) inner + i belongs to group (o, i), of `outer` x `inner` groups; its w and b are those numbered
o block + e // span. So it is one loop for norms over the last dimensions (inner = 1), over channels of each pixel
(inner = pixels) and over groups of channels (block = channels of a group, span = pixels).
"""

from __future__ import annotations

import math

import numpy as np

from nnsim.platforms.dynamics.network.compile import kernel


@kernel
def forward(theta, weight, bias, eps, x, first, y, out, kept, shape, points, room):  # type: ignore[no-untyped-def]
    """y from `out` on; m of all groups, and then 1 / sqrt(v + eps), go to y from `kept` on.

    Arrays are flat, and `shape` is (outer, size, inner, block, span): rows of one e lie side by side, so that the inner
    loops are long.
    """
    outer, size, inner, block, span = shape
    zero, one, share = x.dtype.type(0), x.dtype.type(1), x.dtype.type(1 / size)
    n = np.uint64(inner * points)
    for o in range(outer):
        begin = np.uint64(o * size * inner * points)
        source, to = np.uint64(first) + begin, np.uint64(out) + begin
        m = np.uint64(kept + o * inner * points)
        s = m + np.uint64(outer * inner * points)
        for k in range(n):
            y[m + k] = zero
            y[s + k] = zero
        for e in range(np.uint64(size)):
            for k in range(n):
                y[m + k] += share * x[source + e * n + k]
        for e in range(np.uint64(size)):
            for k in range(n):
                d = x[source + e * n + k] - y[m + k]
                y[s + k] += share * d * d
        for k in range(n):
            y[s + k] = one / math.sqrt(y[s + k] + x.dtype.type(eps))
        for e in range(np.uint64(size)):
            number = o * block + np.int64(e) // span
            w = theta[weight + number] if weight >= 0 else one
            b = theta[bias + number] if bias >= 0 else zero
            for k in range(n):
                y[to + e * n + k] = (x[source + e * n + k] - y[m + k]) * y[s + k] * w + b


@kernel
def backward(theta, weight, bias, x, first, y, out, kept, gradient, gx, gy, needs, shape, points, room):  # type: ignore[no-untyped-def]
    """Gradients of w and b, and with `needs` (1: write, 2: add) of the input; `room` takes two numbers for a group."""
    outer, size, inner, block, span = shape
    zero, one, share = x.dtype.type(0), x.dtype.type(1), x.dtype.type(1 / size)
    n = np.uint64(inner * points)
    for o in range(outer):
        begin = np.uint64(o * size * inner * points)
        source, to = np.uint64(first) + begin, np.uint64(out) + begin
        m = np.uint64(kept + o * inner * points)
        s = m + np.uint64(outer * inner * points)
        for k in range(n + n):
            room[k] = zero
        for e in range(np.uint64(size)):
            number = o * block + np.int64(e) // span
            w = share * (theta[weight + number] if weight >= 0 else one)
            of_w = of_b = zero
            for k in range(n):
                g, h = gy[to + e * n + k], (x[source + e * n + k] - y[m + k]) * y[s + k]
                of_w += g * h
                of_b += g
                room[k] += w * g
                room[n + k] += w * g * h
            if weight >= 0:
                gradient[weight + number] += of_w
            if bias >= 0:
                gradient[bias + number] += of_b
        if not needs:
            continue
        for e in range(np.uint64(size)):
            number = o * block + np.int64(e) // span
            w = theta[weight + number] if weight >= 0 else one
            for k in range(n):
                h = (x[source + e * n + k] - y[m + k]) * y[s + k]
                d = y[s + k] * (w * gy[to + e * n + k] - room[k] - h * room[n + k])
                gx[source + e * n + k] = d if needs == 1 else gx[source + e * n + k] + d


@kernel
def scale_forward(theta, weight, bias, mean, variance, eps, x, first, y, out, channels, pixels, points):  # type: ignore[no-untyped-def]
    """y <- w (x - mean) / sqrt(variance + eps) + b, with numbers for each channel."""
    for c in range(channels):
        w = theta[weight + c] if weight >= 0 else theta.dtype.type(1)
        b = theta[bias + c] if bias >= 0 else theta.dtype.type(0)
        m, s = theta[mean + c], theta.dtype.type(1 / math.sqrt(theta[variance + c] + eps))
        for i in range(pixels):
            r, t = first + c * pixels + i, out + c * pixels + i
            for p in range(points):
                y[t, p] = (x[r, p] - m) * s * w + b


@kernel
def scale_backward(  # type: ignore[no-untyped-def]
    theta, weight, bias, mean, variance, eps, x, first, gradient, gx, gy, out, needs, channels, pixels, points
):  # fmt: skip
    """Gradients of w and b, and with `needs` (1: write, 2: add) those of the input."""
    zero = x.dtype.type(0)
    for c in range(channels):
        w = theta[weight + c] if weight >= 0 else theta.dtype.type(1)
        m, s = theta[mean + c], theta.dtype.type(1 / math.sqrt(theta[variance + c] + eps))
        of_w = of_b = zero
        for i in range(pixels):
            r, t = first + c * pixels + i, out + c * pixels + i
            for p in range(points):
                of_w += gy[t, p] * (x[r, p] - m) * s
                of_b += gy[t, p]
            if needs == 1:
                for p in range(points):
                    gx[r, p] = w * s * gy[t, p]
            elif needs:
                for p in range(points):
                    gx[r, p] += w * s * gy[t, p]
        if weight >= 0:
            gradient[weight + c] += of_w
        if bias >= 0:
            gradient[bias + c] += of_b
