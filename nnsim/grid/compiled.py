"""The two operations on a grid that a dynamics does in every step, compiled for CPUs.

They do what `Grid._evaluate_torch` and `Kernel._deposit_torch` do, and are tested against them; a few walkers cost
microseconds here and a hundred microseconds of call overhead there. They are compiled without reference counts (_nrt),
which cost more than the arithmetic when other compiled code calls them; so nothing can be allocated in them.
"""

from __future__ import annotations

import numpy as np

from nnsim.jit import IN_ORDER, compiled, is_finite

_PLAIN = compiled(IN_ORDER, python=True)


@_PLAIN
def evaluate(coefficients, s, lower, upper, inverse, bins, wraps, nodes, value, gradient, work, place):  # type: ignore[no-untyped-def]
    """Fill value [W] and gradient [W, k] of a cubic B-spline with flat `coefficients` at the first k columns of s.

    `nodes` [k, max M + 4] are the node tables times the strides; `work` [7, 4] and `place` [3, 4] are scratch.
    """
    walkers, k = s.shape[0], lower.size
    basis, slope, factor = work[0:3], work[3:6], work[6]
    for w in range(walkers):
        finite = True
        for d in range(k):
            x = s[w, d]
            finite = finite and is_finite(x)
            factor[d] = inverse[d]
            if not wraps[d] and not lower[d] <= x <= upper[d]:
                x = min(max(x, lower[d]), upper[d])
                factor[d] = 0.0  # constant outside
            scaled = (x - lower[d]) * inverse[d] - 0.5
            if not finite:
                scaled = 0.0
            floor = np.floor(scaled)
            t = scaled - floor
            first = np.int64(floor)
            if wraps[d]:
                first = first % bins[d]
            r = 1.0 - t
            basis[d, 0] = r * r * r / 6
            basis[d, 1] = (3 * t * t * t - 6 * t * t + 4) / 6
            basis[d, 2] = (3 * r * r * r - 6 * r * r + 4) / 6
            basis[d, 3] = t * t * t / 6
            slope[d, 0] = -0.5 * r * r
            slope[d, 1] = 1.5 * t * t - 2 * t
            slope[d, 2] = -1.5 * r * r + 2 * r
            slope[d, 3] = 0.5 * t * t
            for i in range(4):
                place[d, i] = nodes[d, first + 1 + i]
        value[w] = 0.0 if finite else np.nan
        for d in range(k):
            gradient[w, d] = value[w]
        for m in range(4**k):
            index = 0
            product = 1.0
            digits = m
            for d in range(k):
                i = digits % 4
                digits //= 4
                index += place[d, i]
                product *= basis[d, i]
            c = coefficients[index]
            value[w] += c * product
            for d in range(k):
                term = c * factor[d]
                digits = m
                for e in range(k):
                    i = digits % 4
                    digits //= 4
                    term *= slope[e, i] if e == d else basis[e, i]
                gradient[w, d] += term


@_PLAIN
def deposit(  # type: ignore[no-untyped-def]
    coefficients, visits, s, height, lower, upper, inverse, bins, wraps, strides, indices, weights, widths, part, parts
):
    """Add `height` x kernel at the first k columns of each s on the grid; count the visits, and return how many.

    `indices` and `weights` [3, max M, max width] are the kernel's tables, with a trivial axis for those beyond k. Of
    several parts that work at once each adds to rows of its own, and the first counts the visits: what a coefficient
    gets, and in which order, does not depend on how many there are.
    """
    walkers, k = s.shape[0], lower.size
    inside_count = 0
    for w in range(walkers):
        inside = True
        first_bin = second_bin = third_bin = np.int64(0)
        for d in range(k):
            x = s[w, d]
            if not (lower[d] <= x <= upper[d] or (wraps[d] and is_finite(x))):
                inside = False
                break
            j = np.int64(np.floor((x - lower[d]) * inverse[d]))
            j = j % bins[d] if wraps[d] else min(max(j, np.int64(0)), bins[d] - 1)
            if d == 0:
                first_bin = j
            elif d == 1:
                second_bin = j
            else:
                third_bin = j
        if not inside:
            continue
        inside_count += 1
        flat = first_bin * strides[0]
        if k > 1:
            flat += second_bin * strides[1]
        if k > 2:
            flat += third_bin * strides[2]
        if part == 0:
            visits[flat] += 1
        if k > 1:
            _add_kernel(
                coefficients, height, first_bin, second_bin, third_bin, strides[0], indices, weights, widths, k - 1,
                part, parts,
            )  # fmt: skip
        elif part == 0:
            _add_row(coefficients, height, 0, first_bin, indices[0], weights[0], widths[0])
    return inside_count


@_PLAIN
def _add_kernel(  # type: ignore[no-untyped-def]
    coefficients, height, first_bin, second_bin, third_bin, stride, indices, weights, widths, last, part, parts
):
    """Add `height` x kernel at a bin of a grid of two or three axes, to those rows that are this part's."""
    for a in range(widths[0]):
        first = indices[0, first_bin, a]
        if parts > 1 and first // stride % parts != part:
            continue
        weight = height * weights[0, first_bin, a]
        if last == 1:
            _add_row(coefficients, weight, first, second_bin, indices[1], weights[1], widths[1])
            continue
        for b in range(widths[1]):
            second = first + indices[1, second_bin, b]
            along = weight * weights[1, second_bin, b]
            _add_row(coefficients, along, second, third_bin, indices[2], weights[2], widths[2])


@_PLAIN
def _add_row(coefficients, height, first, own, indices, weights, width):  # type: ignore[no-untyped-def]
    """Add along the last axis of the grid, where coefficients mostly lie side by side."""
    begin = indices[own, 0]
    if indices[own, width - 1] - begin == width - 1:
        at = np.uint64(first + begin)
        for c in range(np.uint64(width)):
            coefficients[at + c] += height * weights[own, c]
    else:  # it comes round
        for c in range(width):
            coefficients[first + indices[own, c]] += height * weights[own, c]
