"""Convolutions of images whose points lie innermost: y[o] <- sum over c, u, v of w[o, c, u, v] x[c, i + u, j + v] + b.

Two ways, chosen in `nnsim.platforms.dynamics.network.writers`. With few channels, by `direct`: a row of an output
channel is one long loop over contiguous numbers of a padded copy of the input. With many, by `strips`: rows of the
image are laid out as a matrix with a row for each tap (im2col), and the BLAS multiplies.

Arrays are flat: a value of [channels, height, width] begins at an element, and has the points of a block innermost.
"""

from __future__ import annotations

import numpy as np

from nnsim.platforms.dynamics.network.blas import PLAIN, TRANSPOSED, product
from nnsim.platforms.dynamics.network.compile import inline, kernel

# The integers of a convolution after the places of w and b: `shape`.
SHAPE = (
    "channels", "height", "width", "outputs", "out_height", "out_width", "kernel_h", "kernel_w", "stride_h",
    "stride_w", "top", "left", "dilation_h", "dilation_w", "groups", "strip",
)  # fmt: skip


@inline
def shape_of(a):  # type: ignore[no-untyped-def]
    """`SHAPE` of an operation's integers."""
    return (
        a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15], a[16], a[17]
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- direct


@kernel
def direct_forward(theta, weight, bias, x, first, y, out, shape, points, room):  # type: ignore[no-untyped-def]
    """With a stride of 1; `room` takes the padded input."""
    channels, height, width, outputs, out_height, out_width, kernel_h, kernel_w, _, _, top, left = shape[:12]
    tall, wide = out_height + kernel_h - 1, out_width + kernel_w - 1
    _pad(x, first, channels, height, width, points, room, tall, wide, top, left)
    for o in range(outputs):
        b = theta[bias + o] if bias >= 0 else theta.dtype.type(0)
        begin = np.uint64(out + o * out_height * out_width * points)
        for k in range(np.uint64(out_height * out_width * points)):
            y[begin + k] = b
    _correlate(
        theta, weight, room, channels, tall, wide, y, out, outputs, out_height, out_width, kernel_h, kernel_w, points
    )


@kernel
def direct_backward(theta, weight, bias, x, first, gradient, g, out, gx, needs, shape, points, room):  # type: ignore[no-untyped-def]
    """Gradients of w and b, and with `needs` (1: write, 2: add) those of the input."""
    channels, height, width, outputs, out_height, out_width, kernel_h, kernel_w, _, _, top, left = shape[:12]
    tall, wide = out_height + kernel_h - 1, out_width + kernel_w - 1
    _pad(x, first, channels, height, width, points, room, tall, wide, top, left)
    taps = kernel_h * kernel_w
    for o in range(outputs):
        start = out + o * out_height * out_width * points
        if bias >= 0:
            gradient[bias + o] += _sum(g, start, out_height * out_width * points)
        for c in range(channels):
            at = weight + (o * channels + c) * taps
            source = c * tall * wide * points
            if kernel_h == 3 and kernel_w == 3:
                _nine_sums(gradient, at, room, source, wide, g, start, out_height, out_width, points)
            else:
                for u in range(kernel_h):
                    for v in range(kernel_w):
                        gradient[at + u * kernel_w + v] += _overlap(
                            room, source + (u * wide + v) * points, wide, g, start, out_height, out_width, points
                        )
    if needs:
        if needs == 1:
            begin = np.uint64(first)
            for k in range(np.uint64(channels * height * width * points)):
                gx[begin + k] = theta.dtype.type(0)
        _back_to_input(
            theta,
            weight,
            channels,
            height,
            width,
            outputs,
            out_height,
            out_width,
            kernel_h,
            kernel_w,
            top,
            left,
            g,
            out,
            gx,
            first,
            points,
            room,
        )


@kernel
def _back_to_input(  # type: ignore[no-untyped-def]
    theta, weight, channels, height, width, outputs, out_height, out_width, kernel_h, kernel_w, top, left, g, out, gx,
    first, points, room,
):  # fmt: skip
    """gx += the correlation of the padded g with the turned kernels, which lie behind it in `room`."""
    taps = kernel_h * kernel_w
    tall, wide = height + kernel_h - 1, width + kernel_w - 1
    _pad(g, out, outputs, out_height, out_width, points, room, tall, wide, kernel_h - 1 - top, kernel_w - 1 - left)
    turned = outputs * tall * wide * points
    for o in range(outputs):
        for c in range(channels):
            for t in range(taps):
                room[turned + (c * outputs + o) * taps + taps - 1 - t] = theta[weight + (o * channels + c) * taps + t]
    _correlate(room, turned, room, outputs, tall, wide, gx, first, channels, height, width, kernel_h, kernel_w, points)


@kernel
def _pad(x, first, channels, height, width, points, room, tall, wide, top, left):  # type: ignore[no-untyped-def]
    """room [channels, tall, wide, points] <- x, whose corner comes to (top, left); zeros around it, or cut off."""
    zero = room.dtype.type(0)
    begin, end = max(left, 0), min(left + width, wide)
    for c in range(channels):
        for i in range(tall):
            to = np.uint64((c * tall + i) * wide * points)
            for k in range(np.uint64(wide * points)):
                room[to + k] = zero
            if top <= i < top + height and end > begin:
                source = np.uint64(first + ((c * height + i - top) * width + begin - left) * points)
                to += np.uint64(begin * points)
                for k in range(np.uint64((end - begin) * points)):
                    room[to + k] = x[source + k]


@kernel
def _correlate(theta, weight, x, channels, tall, wide, y, out, outputs, height, width, kernel_h, kernel_w, points):  # type: ignore[no-untyped-def]
    """y [outputs, height, width] += sum over channels and taps of padded x [channels, tall, wide], from 0 on."""
    taps, n = kernel_h * kernel_w, width * points
    for i in range(height):
        o = 0
        while o < outputs:
            pair = o + 1 < outputs
            to = out + (o * height + i) * n
            for c in range(channels):
                at, source = weight + (o * channels + c) * taps, (c * tall + i) * wide * points
                if kernel_h == 3 and kernel_w == 3 and pair:
                    _nine_taps_twice(
                        theta, at, at + channels * taps, x, source, wide * points, y, to, to + height * n, n, points
                    )
                elif kernel_h == 3 and kernel_w == 3:
                    _nine_taps(theta, at, x, source, wide * points, y, to, n, points)
                else:
                    for t in range(taps):
                        shift = source + (t // kernel_w * wide + t % kernel_w) * points
                        _tap(theta[at + t], x, shift, y, to, n)
                        if pair:
                            _tap(theta[at + channels * taps + t], x, shift, y, to + height * n, n)
            o += 2 if pair else 1


# Unsigned indices, which cannot be counted from the end, are what lets the compiler take many at once.


@inline
def _tap(w, x, source, y, to, n):  # type: ignore[no-untyped-def]
    a, b = np.uint64(source), np.uint64(to)
    for k in range(np.uint64(n)):
        y[b + k] += w * x[a + k]


@inline
def _nine_taps(theta, at, x, source, row, y, to, n, points):  # type: ignore[no-untyped-def]
    w0, w1, w2, w3, w4 = theta[at], theta[at + 1], theta[at + 2], theta[at + 3], theta[at + 4]
    w5, w6, w7, w8 = theta[at + 5], theta[at + 6], theta[at + 7], theta[at + 8]
    s, t, row, a = np.uint64(points), np.uint64(2 * points), np.uint64(row), np.uint64(source)
    b, c, to = a + row, a + row + row, np.uint64(to)
    for k in range(np.uint64(n)):
        y[to + k] += (
            w0 * x[a + k] + w1 * x[a + s + k] + w2 * x[a + t + k] + w3 * x[b + k] + w4 * x[b + s + k]
            + w5 * x[b + t + k] + w6 * x[c + k] + w7 * x[c + s + k] + w8 * x[c + t + k]
        )  # fmt: skip


@inline
def _nine_taps_twice(theta, at, also, x, source, row, y, to, other, n, points):  # type: ignore[no-untyped-def]
    """For two output channels, which share what they read."""
    w0, w1, w2, w3, w4 = theta[at], theta[at + 1], theta[at + 2], theta[at + 3], theta[at + 4]
    w5, w6, w7, w8 = theta[at + 5], theta[at + 6], theta[at + 7], theta[at + 8]
    v0, v1, v2, v3, v4 = theta[also], theta[also + 1], theta[also + 2], theta[also + 3], theta[also + 4]
    v5, v6, v7, v8 = theta[also + 5], theta[also + 6], theta[also + 7], theta[also + 8]
    s, t, row, a = np.uint64(points), np.uint64(2 * points), np.uint64(row), np.uint64(source)
    b, c, to, other = a + row, a + row + row, np.uint64(to), np.uint64(other)
    for k in range(np.uint64(n)):
        x0, x1, x2 = x[a + k], x[a + s + k], x[a + t + k]
        x3, x4, x5 = x[b + k], x[b + s + k], x[b + t + k]
        x6, x7, x8 = x[c + k], x[c + s + k], x[c + t + k]
        y[to + k] += w0 * x0 + w1 * x1 + w2 * x2 + w3 * x3 + w4 * x4 + w5 * x5 + w6 * x6 + w7 * x7 + w8 * x8
        y[other + k] += v0 * x0 + v1 * x1 + v2 * x2 + v3 * x3 + v4 * x4 + v5 * x5 + v6 * x6 + v7 * x7 + v8 * x8


@inline
def _sum(g, start, n):  # type: ignore[no-untyped-def]
    total, a = g.dtype.type(0), np.uint64(start)
    for k in range(np.uint64(n)):
        total += g[a + k]
    return total


@inline
def _overlap(x, source, wide, g, start, height, width, points):  # type: ignore[no-untyped-def]
    """Sum of g [height, width] x [height, wide], of flat places."""
    total = g.dtype.type(0)
    for i in range(height):
        a, b = np.uint64(source + i * wide * points), np.uint64(start + i * width * points)
        for k in range(np.uint64(width * points)):
            total += g[b + k] * x[a + k]
    return total


@inline
def _nine_sums(gradient, at, x, source, wide, g, start, height, width, points):  # type: ignore[no-untyped-def]
    """The same for nine taps, three of a row of the kernel at a time."""
    zero, s, t = g.dtype.type(0), np.uint64(points), np.uint64(2 * points)
    for u in range(3):
        s0 = s1 = s2 = zero
        for i in range(height):
            a, b = np.uint64(source + (i + u) * wide * points), np.uint64(start + i * width * points)
            for k in range(np.uint64(width * points)):
                d = g[b + k]
                s0 += d * x[a + k]
                s1 += d * x[a + s + k]
                s2 += d * x[a + t + k]
        gradient[at + 3 * u] += s0
        gradient[at + 3 * u + 1] += s1
        gradient[at + 3 * u + 2] += s2


# ---------------------------------------------------------------------------------------------- strips


@kernel
def strips_forward(theta, weight, bias, x, first, y, out, shape, points, room, blas):  # type: ignore[no-untyped-def]
    """Of any stride, dilation and number of groups; `room` takes the matrix of a strip."""
    channels, height, width, outputs, out_height, out_width, kernel_h, kernel_w = shape[:8]
    groups, strip = shape[14], shape[15]
    inputs, each = channels // groups, outputs // groups
    taps, plane = inputs * kernel_h * kernel_w, out_height * out_width * points
    for o in range(outputs):
        b = theta[bias + o] if bias >= 0 else theta.dtype.type(0)
        begin = np.uint64(out + o * plane)
        for k in range(np.uint64(plane)):
            y[begin + k] = b
    for group in range(groups):
        for i in range(0, out_height, strip):
            rows = min(strip, out_height - i)
            n = rows * out_width * points
            _lay_out(x, first + group * inputs * height * width * points, room, i, rows, shape, points)
            product(
                blas, PLAIN, PLAIN, each, n, taps, theta, weight + group * each * taps, taps, room, 0, n, 1.0,
                y, out + group * each * plane + i * out_width * points, plane,
            )  # fmt: skip


@kernel
def strips_backward(theta, weight, bias, x, first, gradient, g, out, gx, needs, shape, points, room, blas):  # type: ignore[no-untyped-def]
    """Gradients of w and b, and with `needs` (1: write, 2: add) those of the input."""
    channels, height, width, outputs, out_height, out_width, kernel_h, kernel_w = shape[:8]
    groups, strip = shape[14], shape[15]
    inputs, each = channels // groups, outputs // groups
    taps, plane = inputs * kernel_h * kernel_w, out_height * out_width * points
    if needs == 1:
        begin = np.uint64(first)
        for k in range(np.uint64(channels * height * width * points)):
            gx[begin + k] = theta.dtype.type(0)
    if bias >= 0:
        for o in range(outputs):
            gradient[bias + o] += _sum(g, out + o * plane, plane)
    for group in range(groups):
        source, kernels = first + group * inputs * height * width * points, weight + group * each * taps
        for i in range(0, out_height, strip):
            rows = min(strip, out_height - i)
            n = rows * out_width * points
            at = out + group * each * plane + i * out_width * points
            _lay_out(x, source, room, i, rows, shape, points)
            product(
                blas, PLAIN, TRANSPOSED, each, taps, n, g, at, plane, room, 0, n, 1.0, gradient, kernels, taps
            )  # fmt: skip
            if needs:
                product(blas, TRANSPOSED, PLAIN, taps, n, each, theta, kernels, taps, g, at, plane, 0.0, room, 0, n)
                _fold_back(room, gx, source, i, rows, shape, points)


@kernel
def _lay_out(x, first, room, begin, rows, shape, points):  # type: ignore[no-untyped-def]
    """room [channels of a group x taps, rows x out_width x points] <- what each tap sees of rows from `begin` on."""
    zero = room.dtype.type(0)
    channels, height, width, out_width = shape[0] // shape[14], shape[1], shape[2], shape[5]
    kernel_h, kernel_w, stride_h, stride_w, top, left, dilation_h, dilation_w = shape[6:14]
    to = np.uint64(0)
    n = np.uint64(points)
    for c in range(channels):
        for u in range(kernel_h):
            for v in range(kernel_w):
                low, high = _inside(v * dilation_w - left, stride_w, width, out_width)
                for i in range(begin, begin + rows):
                    row = i * stride_h - top + u * dilation_h
                    if row < 0 or row >= height or high <= low:
                        for k in range(np.uint64(out_width * points)):
                            room[to + k] = zero
                        to += np.uint64(out_width * points)
                        continue
                    for k in range(np.uint64(low * points)):
                        room[to + k] = zero
                    to += np.uint64(low * points)
                    column = low * stride_w + v * dilation_w - left
                    source = np.uint64(first + ((c * height + row) * width + column) * points)
                    if stride_w == 1:
                        for k in range(np.uint64((high - low) * points)):
                            room[to + k] = x[source + k]
                        to += np.uint64((high - low) * points)
                    else:
                        for _ in range(high - low):
                            for k in range(n):
                                room[to + k] = x[source + k]
                            to += n
                            source += np.uint64(stride_w * points)
                    for k in range(np.uint64((out_width - high) * points)):
                        room[to + k] = zero
                    to += np.uint64((out_width - high) * points)


@kernel
def _fold_back(room, gx, first, begin, rows, shape, points):  # type: ignore[no-untyped-def]
    """gx += what `_lay_out` would have laid out, the other way round."""
    channels, height, width, out_width = shape[0] // shape[14], shape[1], shape[2], shape[5]
    kernel_h, kernel_w, stride_h, stride_w, top, left, dilation_h, dilation_w = shape[6:14]
    start = np.uint64(0)
    n, whole = np.uint64(points), np.uint64(out_width * points)
    for c in range(channels):
        for u in range(kernel_h):
            for v in range(kernel_w):
                low, high = _inside(v * dilation_w - left, stride_w, width, out_width)
                for i in range(begin, begin + rows):
                    row = i * stride_h - top + u * dilation_h
                    if 0 <= row < height and high > low:
                        column = low * stride_w + v * dilation_w - left
                        to = np.uint64(first + ((c * height + row) * width + column) * points)
                        source = start + np.uint64(low * points)
                        if stride_w == 1:
                            for k in range(np.uint64((high - low) * points)):
                                gx[to + k] += room[source + k]
                        else:
                            for _ in range(high - low):
                                for k in range(n):
                                    gx[to + k] += room[source + k]
                                source += n
                                to += np.uint64(stride_w * points)
                    start += whole


@inline
def _inside(shift, stride, width, out_width):  # type: ignore[no-untyped-def]
    """From which output on, and up to which, j stride + shift lies in 0 ... width - 1."""
    low = 0 if shift >= 0 else (-shift + stride - 1) // stride
    high = (width - shift + stride - 1) // stride
    return min(low, out_width), max(min(high, out_width), 0)
