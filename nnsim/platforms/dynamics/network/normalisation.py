"""Normalisation of groups of rows, as LayerNorm and GroupNorm do, and scaling by fixed numbers, as BatchNorm at rest.

    y_e = w_e (x_e - m) / sqrt(v + eps) + b_e,      m, v: mean and variance of x over the rows e of a group

Row number (o size + e) inner + i belongs to group (o, i), of `outer` x `inner` groups; its w and b are those numbered
o block + e // span. So it is one loop for norms over the last dimensions (inner = 1), over channels of each pixel
(inner = pixels) and over groups of channels (block = channels of a group, span = pixels).
"""

from __future__ import annotations

import math

from nnsim.platforms.dynamics.network.compile import kernel


@kernel
def forward(theta, weight, bias, eps, x, first, y, out, kept, outer, size, inner, block, span, points):  # type: ignore[no-untyped-def]
    """Rows of y from `out` on; m and 1 / sqrt(v + eps) of each group go to two rows of y from `kept` on."""
    zero, share = x.dtype.type(0), x.dtype.type(1 / size)
    for group in range(outer * inner):
        o, i = group // inner, group % inner
        begin = o * size * inner + i
        m, s = kept + 2 * group, kept + 2 * group + 1
        for p in range(points):
            y[m, p] = zero
            y[s, p] = zero
        for e in range(size):
            r = first + begin + e * inner
            for p in range(points):
                y[m, p] += share * x[r, p]
        for e in range(size):
            r = first + begin + e * inner
            for p in range(points):
                d = x[r, p] - y[m, p]
                y[s, p] += share * d * d
        for p in range(points):
            y[s, p] = 1 / math.sqrt(y[s, p] + eps)
        for e in range(size):
            r, t = first + begin + e * inner, out + begin + e * inner
            number = o * block + e // span
            w = theta[weight + number] if weight >= 0 else theta.dtype.type(1)
            b = theta[bias + number] if bias >= 0 else theta.dtype.type(0)
            for p in range(points):
                y[t, p] = (x[r, p] - y[m, p]) * y[s, p] * w + b


@kernel
def backward(  # type: ignore[no-untyped-def]
    theta, weight, bias, x, first, y, out, kept, gradient, gx, gy, needs, outer, size, inner, block, span, points, room
):  # fmt: skip
    """Gradients of w and b, and with `needs` (1: write, 2: add) those of the input; `room` takes two rows."""
    zero, share = x.dtype.type(0), x.dtype.type(1 / size)
    for group in range(outer * inner):
        o, i = group // inner, group % inner
        begin = o * size * inner + i
        m, s = kept + 2 * group, kept + 2 * group + 1
        for p in range(2 * points):
            room[p] = zero
        for e in range(size):
            r, t = first + begin + e * inner, out + begin + e * inner
            number = o * block + e // span
            w = theta[weight + number] if weight >= 0 else theta.dtype.type(1)
            of_w = of_b = zero
            for p in range(points):
                g, h = gy[t, p], (x[r, p] - y[m, p]) * y[s, p]
                of_w += g * h
                of_b += g
                room[p] += share * w * g
                room[points + p] += share * w * g * h
            if weight >= 0:
                gradient[weight + number] += of_w
            if bias >= 0:
                gradient[bias + number] += of_b
        if not needs:
            continue
        for e in range(size):
            r, t = first + begin + e * inner, out + begin + e * inner
            number = o * block + e // span
            w = theta[weight + number] if weight >= 0 else theta.dtype.type(1)
            for p in range(points):
                h = (x[r, p] - y[m, p]) * y[s, p]
                d = y[s, p] * (w * gy[t, p] - room[p] - h * room[points + p])
                gx[r, p] = d if needs == 1 else gx[r, p] + d


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
