"""What is kept of the walkers and the biases after some of the steps, compiled."""

from __future__ import annotations

from nnsim.platforms.dynamics import forces, variables
from nnsim.platforms.dynamics.network.compile import kernel


@kernel
def keep_walker(w, now, film, problem, walkers, scratch, places):  # type: ignore[no-untyped-def]
    """Walker w after step `now`, which has a frame."""
    frame = now // film.every - film.first
    film.energy[frame, w], film.bias_energy[frame, w] = walkers.energy[w], walkers.bias_energy[w]
    film.kinetic[frame, w] = walkers.kinetic[w]
    for j in range(walkers.cvs.shape[1]):
        film.cvs[frame, w, j] = walkers.cvs[w, j]
    if film.positions_every and now % film.positions_every == 0:
        _copy(film.positions, frame, walkers.positions, w)
    if film.velocities_every and now % film.velocities_every == 0:
        _copy(film.velocities, frame, walkers.velocities, w)
    if film.values_every and now % film.values_every == 0:
        forces.copy_positions(walkers.positions, w, scratch.theta)
        network, points, values = problem[0], problem[1], film.values[frame]
        variables.values(network, points, film.quantities, film.wanted, scratch, film.sums, places, values, w)


@kernel
def _copy(kept, frame, rows, w):  # type: ignore[no-untyped-def]
    kind = kept.dtype.type
    for i in range(rows.shape[1]):
        kept[frame, w, i] = kind(rows[w, i])


@kernel
def keep_biases(now, film, problem, deposits):  # type: ignore[no-untyped-def]
    """What the biases have learnt after step `now`, which has a frame."""
    frame, grids, restraints = now // film.every - film.first, problem[5], problem[6]
    for b in range(deposits.made.size):
        film.counts[frame, 0, b], film.counts[frame, 1, b] = deposits.made[b], deposits.outside[b]
        film.last[frame, b] = deposits.last[b]
    for i in range(film.coefficients.shape[1]):
        film.coefficients[frame, i] = grids.coefficients[i]
        film.visits[frame, i] = grids.visits[i]
    for u in range(film.work.shape[1]):
        for w in range(film.work.shape[2]):
            film.work[frame, u, w] = restraints.work[u, w]
    for b in range(film.springs.shape[1]):
        for w in range(film.springs.shape[2]):
            film.springs[frame, b, w] = restraints.last[b, w]
