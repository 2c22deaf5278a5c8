"""Biases as functions of the collective variables of one walker, and what they learn, compiled."""

from __future__ import annotations

import math

import numpy as np

from nnsim.grid import compiled as grid_native
from nnsim.grid import density
from nnsim.jit import is_finite
from nnsim.platforms.dynamics.network.compile import kernel


@kernel
def energy_and_slopes(grids, restraints, walker, step, s, slopes, scratch):  # type: ignore[no-untyped-def]
    """V at s [k] of a walker at a step; fills slopes [k] with dV/ds."""
    for j in range(slopes.size):
        slopes[j] = 0.0
    energy = 0.0
    for b in range(grids.begin.size):
        energy += _grid(grids, b, s, slopes, scratch)
    walls = restraints.walls
    for b in range(walls.shape[0]):
        column = np.int64(walls[b, 0])
        beyond = s[column] - min(max(s[column], walls[b, 1]), walls[b, 2])
        if walls[b, 4]:
            energy += walls[b, 3] * 0.5 * beyond * beyond
            slopes[column] += walls[b, 3] * beyond
        else:
            energy += walls[b, 3] * abs(beyond)
            slopes[column] += walls[b, 3] * np.sign(beyond)
    for b in range(restraints.slope_of.size):
        column, ramp = restraints.slope_of[b], restraints.ramp[b]
        slope = restraints.slopes[b, walker] * (min(1.0, step / ramp) if ramp else 1.0)
        energy += slope * s[column]
        slopes[column] += slope
    for b in range(restraints.springs.size):
        difference = _stretch(restraints, b, walker, step, s[restraints.springs[b]])
        pull = restraints.stiffness[b, walker] * difference
        energy += 0.5 * pull * difference
        slopes[restraints.springs[b]] += pull
    for b in range(restraints.kernels.dimensions.size):
        energy += _density(restraints.kernels, b, walker, s, slopes)
    return energy


@kernel
def _density(kernels, b, walker, s, slopes):  # type: ignore[no-untyped-def]
    k, place, slope = kernels.dimensions[b], kernels.place[walker], kernels.slope[walker]
    for d in range(k):
        place[d] = s[kernels.columns[b, d]]
    energy = density.potential(
        kernels.rows, kernels.begin[b], kernels.begin[b + 1], place, kernels.periods[b, :k], kernels.numbers[b], slope
    )
    for d in range(k):
        slopes[kernels.columns[b, d]] += slope[d]
    return energy


@kernel
def _stretch(restraints, b, walker, step, x):  # type: ignore[no-untyped-def]
    """How far x lies from the nearest image of a spring's centre."""
    center = restraints.center[b, walker] + restraints.velocity[b, walker] * min(step, restraints.until[b])
    difference, period = x - center, restraints.period[b]
    return difference - period * np.round(difference / period) if period > 0 else difference


@kernel
def _grid(grids, b, s, slopes, scratch):  # type: ignore[no-untyped-def]
    k, place = grids.dimensions[b], scratch.place
    for d in range(k):
        place[0, d] = s[grids.columns[b, d]]
    grid_native.evaluate(
        grids.coefficients[grids.begin[b] :], place, grids.lower[b, :k], grids.upper[b, :k], grids.inverse[b, :k],
        grids.bins[b, :k], grids.wraps[b, :k], grids.nodes[b], scratch.value, scratch.partial, scratch.basis,
        scratch.nodes,
    )  # fmt: skip
    for d in range(k):
        slopes[grids.columns[b, d]] += scratch.partial[0, d]
    return scratch.value[0]


@kernel
def inside(grids, s):  # type: ignore[no-untyped-def]
    """Whether s [k] lies on all grids."""
    for b in range(grids.begin.size):
        for d in range(grids.dimensions[b]):
            x = s[grids.columns[b, d]]
            if not (grids.lower[b, d] <= x <= grids.upper[b, d] or (grids.wraps[b, d] and is_finite(x))):
                return False
    return True


@kernel
def weigh(grids, deposits, step, own, cvs, scratch):  # type: ignore[no-untyped-def]
    """The heights of a thread's walkers' deposits after a step, before any of them is made."""
    for b in range(grids.begin.size):
        if not deposits.pace[b] or step % deposits.pace[b]:
            continue
        height = deposits.height[b, min(deposits.made[b], deposits.height.shape[1] - 1)]
        tempering = deposits.tempering[b]
        for w in range(own[0], own[1]):
            deposits.next[b, w] = height
            if tempering:
                for j in range(scratch.slopes.size):
                    scratch.slopes[j] = 0.0
                deposits.next[b, w] *= math.exp(-_grid(grids, b, cvs[w], scratch.slopes, scratch) / tempering)


@kernel
def learn(grids, deposits, restraints, step, part, parts, cvs, scratch):  # type: ignore[no-untyped-def]
    """What all biases learn from the walkers at cvs [W, k] after a step, in the order of the walkers.

    Each thread adds to its part of the tables; the first of them keeps account.
    """
    for b in range(grids.begin.size):
        if deposits.pace[b] and step % deposits.pace[b] == 0:
            _deposit(grids, deposits, b, part, parts, cvs, scratch)
    if part == 0:
        for b in range(restraints.springs.size):
            _work(restraints, b, step, cvs)


@kernel
def _deposit(grids, deposits, b, part, parts, cvs, scratch):  # type: ignore[no-untyped-def]
    """A deposit of each walker, as high as it was weighed."""
    k, place, walkers, heights = grids.dimensions[b], scratch.place, cvs.shape[0], deposits.next[b]
    made, total = 0, 0.0
    begin = grids.begin[b]
    for w in range(walkers):
        for d in range(k):
            place[0, d] = cvs[w, grids.columns[b, d]]
        count = grid_native.deposit(
            grids.coefficients[begin:], grids.visits[begin:], place, heights[w], grids.lower[b, :k],
            grids.upper[b, :k], grids.inverse[b, :k], grids.bins[b, :k], grids.wraps[b, :k], grids.strides[b],
            grids.indices[b], grids.weights[b], grids.widths[b], part, parts,
        )  # fmt: skip
        made += count
        total += heights[w] * count
    if part:
        return
    deposits.made[b] += made
    deposits.outside[b] += walkers - made
    if made:
        deposits.last[b] = total / made


@kernel
def _work(restraints, b, step, cvs):  # type: ignore[no-untyped-def]
    """The work that the last move of a spring's centre has done on each walker."""
    if step > restraints.until[b]:
        return
    column, share = restraints.springs[b], restraints.at_end[b]
    for w in range(cvs.shape[0]):
        half = 0.5 * restraints.stiffness[b, w]
        before, now = restraints.last[b, w], cvs[w, column]
        restraints.last[b, w] = now
        if restraints.velocity[b, w] == 0:
            continue
        change = (1 - share) * (
            _stretch(restraints, b, w, step, before) ** 2 - _stretch(restraints, b, w, step - 1, before) ** 2
        )
        if share:
            change += share * (
                _stretch(restraints, b, w, step, now) ** 2 - _stretch(restraints, b, w, step - 1, now) ** 2
            )
        restraints.work[restraints.owner[b], w] += half * change
