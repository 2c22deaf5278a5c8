"""Convolutions of images whose points lie innermost: y[o] <- sum over c, u, v of w[o, c, u, v] x[c, i + u, j + v] + b.

Two ways, chosen in `nnsim.platforms.dynamics.network.writers`. Most by `direct`: a row of some output channels is one
long loop over contiguous numbers of a padded copy of the input, with sums in registers. With a stride, dilation, groups
or many channels by `strips`: rows of the image are laid out as a matrix with a row for each tap (im2col), and the BLAS
multiplies.

Arrays are flat: a value of [channels, height, width] begins at an element, and has the points of a block innermost.
"""

from __future__ import annotations

import numpy as np

from nnsim.platforms.dynamics.network.blas import PLAIN, TRANSPOSED, product
from nnsim.platforms.dynamics.network.compile import inline, kernel
from nnsim.platforms.dynamics.network.registers import LANES
from nnsim.platforms.dynamics.network.taps import overlap_1_1, overlap_1_3, overlap_4_1, overlap_4_3
from nnsim.platforms.dynamics.network.tiles import correlate, pack, packed_place, tile_of

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

ROW_NUMBERS = 1024  # of the output that are gone through before sums over them are put away
GRADIENTS, TAPS = 4, 3  # outputs and taps whose gradients are


@kernel
def direct_forward(theta, weight, bias, x, first, y, out, shape, points, room):  # type: ignore[no-untyped-def]
    """With a stride of 1; `room` takes the padded input, and the weights as they are read."""
    channels, height, width, outputs, out_height, out_width, kernel_h, kernel_w, _, _, top, left = shape[:12]
    tall, wide = out_height + kernel_h - 1, out_width + kernel_w - 1
    _pad(x, first, channels, height, width, points, room, tall, wide, top, left)
    packed, taps = channels * tall * wide * points, kernel_h * kernel_w
    for o in range(outputs):
        pack(room, packed, theta, weight + o * channels * taps, taps, 0, 1, o, outputs, channels, taps)
        place = packed_place(packed, o, outputs, channels * taps)
        room[place] = theta[bias + o] if bias >= 0 else theta.dtype.type(0)
    _correlate(
        room, packed, channels, tall, wide, y, out, False, outputs, out_height, out_width, kernel_h, kernel_w, points
    )


@kernel
def direct_backward(theta, weight, bias, x, first, gradient, g, out, gx, needs, shape, points, room):  # type: ignore[no-untyped-def]
    """Gradients of w and b, and with `needs` (1: write, 2: add) those of the input."""
    channels, height, width, outputs, out_height, out_width, kernel_h, kernel_w, _, _, top, left = shape[:12]
    if bias >= 0:
        plane = out_height * out_width * points
        for o in range(outputs):
            gradient[bias + o] += _sum(g, out + o * plane, plane)
    tall, wide = out_height + kernel_h - 1, out_width + kernel_w - 1
    _pad(x, first, channels, height, width, points, room, tall, wide, top, left)
    _overlap(
        gradient, weight, room, channels, tall, wide, g, out, outputs, out_height, out_width, kernel_h, kernel_w, points
    )
    if not needs:
        return
    # The correlation of the padded g with the turned kernels.
    tall, wide, taps = height + kernel_h - 1, width + kernel_w - 1, kernel_h * kernel_w
    _pad(g, out, outputs, out_height, out_width, points, room, tall, wide, kernel_h - 1 - top, kernel_w - 1 - left)
    packed = outputs * tall * wide * points
    for c in range(channels):
        pack(room, packed, theta, weight + c * taps, channels * taps, taps - 1, -1, c, channels, outputs, taps)
        room[packed_place(packed, c, channels, outputs * taps)] = theta.dtype.type(0)
    _correlate(
        room, packed, outputs, tall, wide, gx, first, needs == 2, channels, height, width, kernel_h, kernel_w, points
    )


@kernel
def _pad(x, first, channels, height, width, points, room, tall, wide, top, left):  # type: ignore[no-untyped-def]
    """room [channels, tall, wide, points] <- x, whose corner comes to (top, left); zeros around it, or cut off."""
    zero = room.dtype.type(0)
    begin, end = max(left, 0), min(left + width, wide)
    for c in range(channels):
        for i in range(tall):
            to = np.uint64((c * tall + i) * wide * points)
            if i < top or i >= top + height or end <= begin:
                for k in range(np.uint64(wide * points)):
                    room[to + k] = zero
                continue
            for k in range(np.uint64(begin * points)):
                room[to + k] = zero
            to += np.uint64(begin * points)
            source = np.uint64(first + ((c * height + i - top) * width + begin - left) * points)
            for k in range(np.uint64((end - begin) * points)):
                room[to + k] = x[source + k]
            to += np.uint64((end - begin) * points)
            for k in range(np.uint64((wide - end) * points)):
                room[to + k] = zero


@kernel
def _correlate(room, packed, channels, tall, wide, y, out, add, outputs, height, width, kernel_h, kernel_w, points):  # type: ignore[no-untyped-def]
    """y [outputs, height, width] <- or += sums over channels and taps of padded numbers, from 0 on in `room`."""
    n, products = width * points, channels * kernel_h * kernel_w
    row, plane = wide * points, height * n
    for i in range(height):
        o = 0
        while o < outputs:
            _, size = tile_of(o, outputs)
            correlate(
                size, room, packed + o * (products + 1), room, i * row, channels, tall * row, kernel_h, row, kernel_w,
                points, add, y, out + (o * height + i) * n, plane, n,
            )  # fmt: skip
            o += size


@kernel
def _overlap(gradient, weight, room, channels, tall, wide, g, out, outputs, height, width, kernel_h, kernel_w, points):  # type: ignore[no-untyped-def]
    """gradient of w [outputs, channels, taps] += sums over g [outputs, height, width] x padded numbers in `room`."""
    row, n, taps, zero = wide * points, width * points, kernel_h * kernel_w, room.dtype.type(0)
    sums, plane, count = channels * tall * row, height * n, outputs * channels * taps
    for k in range(np.uint64(count * LANES)):
        room[np.uint64(sums) + k] = zero
    by_output, together = channels * taps * LANES, max(ROW_NUMBERS // n, 1)
    for i in range(0, height, together):
        rows = min(together, height - i)
        for c in range(channels):
            for u in range(kernel_h):
                o = 0
                while o < outputs:
                    many, v, to = outputs - o >= GRADIENTS, 0, out + (o * height + i) * n
                    while v < kernel_w:
                        side = kernel_w - v >= TAPS
                        at = sums + ((o * channels + c) * taps + u * kernel_w + v) * LANES
                        x = (c * tall + i + u) * row + v * points
                        if many and side:
                            overlap_4_3(room, at, by_output, room, x, row, points, g, to, plane, n, rows, n)
                        elif many:
                            overlap_4_1(room, at, by_output, room, x, row, points, g, to, plane, n, rows, n)
                        elif side:
                            overlap_1_3(room, at, by_output, room, x, row, points, g, to, plane, n, rows, n)
                        else:
                            overlap_1_1(room, at, by_output, room, x, row, points, g, to, plane, n, rows, n)
                        v += TAPS if side else 1
                    o += GRADIENTS if many else 1
    for w in range(count):
        gradient[weight + w] += _sum(room, sums + w * LANES, LANES)


@inline
def _sum(g, start, n):  # type: ignore[no-untyped-def]
    total, a = g.dtype.type(0), np.uint64(start)
    for k in range(np.uint64(n)):
        total += g[a + k]
    return total


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
