"""Nose-Hoover chains of one walker, compiled; see `nnsim.program.Chain`."""

from __future__ import annotations

import math

from nnsim.platforms.dynamics.network.compile import inline, kernel
from nnsim.platforms.dynamics.operations import at

_OUTER = 1 / (4 - 4 ** (1 / 3))
_SUZUKI = (_OUTER, _OUTER, 1 - 4 * _OUTER, _OUTER, _OUTER)


@kernel
def chain(walkers, w, time, kT, substeps, inertia, freedom, masses, place):  # type: ignore[no-untyped-def]
    """For a time: one chain for all parameters, or one for each; `inertia` and `freedom` are [W, chain]."""
    v, u, x = walkers.velocities, walkers.chain_velocities, walkers.chain_positions
    n, groups = v.shape[1], u.shape[1]
    if groups == 1:
        twice = 0.0
        for i in range(n):
            twice += at(masses, place, w, i) * v[w, i] * v[w, i]
        scale = v.dtype.type(_propagate(u, x, w, 0, twice, time, kT, substeps, inertia, freedom))
        for i in range(n):
            v[w, i] *= scale
        return
    for i in range(n):
        twice = at(masses, place, w, i) * v[w, i] * v[w, i]
        v[w, i] *= v.dtype.type(_propagate(u, x, w, i, twice, time, kT, substeps, inertia, freedom))


@inline
def _propagate(u, x, w, group, twice, time, kT, substeps, inertia, freedom):  # type: ignore[no-untyped-def]
    """By what the velocities of a chain's parameters are multiplied; the chain moves on."""
    length, scale = u.shape[2], 1.0
    for _ in range(substeps):
        for weight in _SUZUKI:
            h = weight * time / substeps
            for j in range(length - 1, -1, -1):
                _push(u, w, group, j, twice, h, kT, inertia, freedom)
            scale *= math.exp(-h * u[w, group, 0])
            twice *= math.exp(-2 * h * u[w, group, 0])
            for j in range(length):
                x[w, group, j] += h * u[w, group, j]
            for j in range(length):
                _push(u, w, group, j, twice, h, kT, inertia, freedom)
    return scale


@kernel
def _push(u, w, group, j, twice, h, kT, inertia, freedom):  # type: ignore[no-untyped-def]
    controlled = twice if j == 0 else inertia[w, j - 1] * u[w, group, j - 1] ** 2
    force = (controlled - freedom[w, j] * kT) / inertia[w, j]
    drag = math.exp(-h / 4 * u[w, group, j + 1]) if j + 1 < u.shape[2] else 1.0
    u[w, group, j] = (u[w, group, j] * drag + force * (h / 2)) * drag


@kernel
def extended_energy(walkers, w, kT, inertia, freedom):  # type: ignore[no-untyped-def]
    """Sum over the chains of Q u^2 / 2 + kT N x."""
    u, x, total = walkers.chain_velocities, walkers.chain_positions, 0.0
    for group in range(u.shape[1]):
        for j in range(u.shape[2]):
            total += 0.5 * inertia[w, j] * u[w, group, j] ** 2 + kT * freedom[w, j] * x[w, group, j]
    return total
