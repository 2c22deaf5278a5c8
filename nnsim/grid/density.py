r"""A density as a list of Gaussian kernels, without a grid, compiled: its logarithm is the bias of `nnsim.bias.OPES`.

    P(s) = sum_j h_j [exp(-x_j^2 / 2) - exp(-c^2 / 2)]      over the kernels with x_j < c
    x_j^2 = sum_d ((s_d - c_jd) / sigma_jd)^2

A kernel is a row (centre [k], sigma [k], height h) of an array. Nothing is allocated here, see `nnsim.grid.compiled`.
"""

from __future__ import annotations

import math

import numpy as np

from nnsim.jit import IN_ORDER, compiled

CUTOFF, FLOOR, SCALE, EPSILON, FACTOR = range(5)
"""Places of the numbers of a bias: c^2, exp(-c^2 / 2), 1 / (norm x Z), epsilon, and what ln is multiplied by."""

_PLAIN = compiled(IN_ORDER, python=True)
_INLINE = compiled(IN_ORDER, inline=True)


@_INLINE
def _away(x, center, period):  # type: ignore[no-untyped-def]
    """How far x lies from the nearest image of a centre; a period of 0 is none."""
    difference = x - center
    return difference - period * np.round(difference / period) if period > 0 else difference


@_INLINE
def _distance(kernels, j, kernel, periods):  # type: ignore[no-untyped-def]
    """x^2 of the centre of one kernel in widths of the other, j."""
    k, square = periods.size, 0.0
    for d in range(k):
        x = _away(kernel[d], kernels[j, d], periods[d]) / kernels[j, k + d]
        square += x * x
    return square


@_PLAIN
def potential(kernels, begin, end, s, periods, numbers, slope):  # type: ignore[no-untyped-def]
    """factor x ln(scale x P(s) + epsilon) at s [k] of the kernels `begin` to `end`; fills slope [k] with its slope."""
    k, total = periods.size, 0.0
    for d in range(k):
        slope[d] = 0.0
    for j in range(begin, end):
        square = 0.0
        for d in range(k):
            x = _away(s[d], kernels[j, d], periods[d]) / kernels[j, k + d]
            square += x * x
        if square < numbers[CUTOFF]:
            value = math.exp(-0.5 * square)
            total += kernels[j, 2 * k] * (value - numbers[FLOOR])
            for d in range(k):
                sigma = kernels[j, k + d]
                slope[d] -= kernels[j, 2 * k] * value * _away(s[d], kernels[j, d], periods[d]) / (sigma * sigma)
    within = numbers[SCALE] * total + numbers[EPSILON]
    for d in range(k):
        slope[d] *= numbers[FACTOR] * numbers[SCALE] / within
        total += 0 * s[d]  # what is not finite is so at the end
    return numbers[FACTOR] * math.log(within) + 0 * total


@_PLAIN
def potentials(kernels, s, periods, numbers, energy, slopes):  # type: ignore[no-untyped-def]
    """The same at each s [W, k]: fills energy [W] and slopes [W, k]."""
    for w in range(s.shape[0]):
        energy[w] = potential(kernels, 0, kernels.shape[0], s[w], periods, numbers, slopes[w])


@_PLAIN
def add(kernels, count, kernel, periods, cutoff, threshold, total):  # type: ignore[no-untyped-def]
    """Add one kernel to the first `count` of an array with room for it; those nearer than the threshold become one.

    The new one is merged with the nearest, if the distance is below `threshold` (squared) widths of that; so is what
    comes of it, until none is so near. `total` is the sum of P over all centres, kept up to date.

    Returns:
        How many there are now, and the sum of P over their centres.
    """
    columns = kernels.shape[1]
    for i in range(columns):
        kernels[count, i] = kernel[i]
    giver, count = count, count + 1
    total += _share(kernels, count, giver, periods, cutoff)
    while True:
        taker = _nearest(kernels, count, giver, periods, threshold)
        if taker < 0:
            return count, total
        total -= _share(kernels, count, giver, periods, cutoff)
        for i in range(columns):
            kernel[i] = kernels[giver, i]
            kernels[giver, i] = kernels[count - 1, i]
        count -= 1
        if taker == count:
            taker = giver
        total -= _share(kernels, count, taker, periods, cutoff)
        _merge(kernels, taker, kernel, periods)
        total += _share(kernels, count, taker, periods, cutoff)
        giver = taker


@_PLAIN
def _share(kernels, count, own, periods, cutoff):  # type: ignore[no-untyped-def]
    """What one kernel adds to the sum of P over the centres: its value at all, and those of all others at its own."""
    k, floor = periods.size, math.exp(-0.5 * cutoff)
    total = kernels[own, 2 * k] * (1 - floor)
    for j in range(count):
        if j != own:
            square = _distance(kernels, j, kernels[own], periods)
            if square < cutoff:
                total += kernels[j, 2 * k] * (math.exp(-0.5 * square) - floor)
            square = _distance(kernels, own, kernels[j], periods)
            if square < cutoff:
                total += kernels[own, 2 * k] * (math.exp(-0.5 * square) - floor)
    return total


@_PLAIN
def _nearest(kernels, count, own, periods, threshold):  # type: ignore[no-untyped-def]
    """The kernel whose centre is the nearest to that of another, in its own widths; -1 if none is near enough."""
    found, least = -1, threshold
    for j in range(count):
        if j != own:
            square = _distance(kernels, j, kernels[own], periods)
            if square < least:
                found, least = j, square
    return found


@_PLAIN
def _merge(kernels, taker, kernel, periods):  # type: ignore[no-untyped-def]
    """Make one kernel of two, with the integral, the mean and the variance that they have together."""
    k = periods.size
    mass, other = kernels[taker, 2 * k], kernel[2 * k]
    for d in range(k):
        mass *= kernels[taker, k + d]
        other *= kernel[k + d]
    volume = 1.0
    for d in range(k):
        share = other / (mass + other)
        apart = _away(kernel[d], kernels[taker, d], periods[d])
        one, two = kernels[taker, k + d], kernel[k + d]
        kernels[taker, d] += share * apart
        if periods[d] > 0:
            kernels[taker, d] -= periods[d] * np.round(kernels[taker, d] / periods[d])
        kernels[taker, k + d] = math.sqrt((1 - share) * one * one + share * two * two + share * (1 - share) * apart**2)
        volume *= kernels[taker, k + d]
    kernels[taker, 2 * k] = (mass + other) / volume
