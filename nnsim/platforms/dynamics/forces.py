"""Energies and forces of one walker, compiled: the network, the variables, the biases, and the chain rule back."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnsim.jit import is_finite
from nnsim.platforms.dynamics import potentials, variables
from nnsim.platforms.dynamics.network.compile import kernel
from nnsim.platforms.dynamics.network.indirect import addresses_of, held

BIASED, OF_LOSS, OF_BATCH = range(3)


def addresses(which: int, arguments: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    """Where one of the three ways to compute forces is, for arguments of certain types."""
    return addresses_of([energies_and_forces, loss_forces, batch_forces], arguments, {which})


@kernel
def energies_and_forces(w, step, parts):  # type: ignore[no-untyped-def]
    """U, V, the CVs and f of walker w at its positions; all biases are those of a step."""
    _, _, _, walkers, _, problem, _, scratch, places = held(parts)
    network, points, quantities, cvs, potential, grids, restraints = problem
    q, coefficients, s = walkers.positions, scratch.coefficients, walkers.cvs[w]
    copy_positions(q, w, scratch.theta)
    variables.evaluate(network, points, quantities, scratch, scratch.sums, places, True)
    for k in range(coefficients.size):
        coefficients[k] = 0.0
    variables.fill(cvs, scratch.sums)
    first = scratch.sums.size - cvs.kind.size
    for j in range(cvs.shown.size):
        s[j] = scratch.sums[first + cvs.shown[j]]
    walkers.bias_energy[w] = potentials.energy_and_slopes(grids, restraints, w, step, s, scratch.slopes, scratch)
    variables.chain_rule(cvs, quantities, scratch.sums, scratch.slopes, scratch.pull, coefficients)
    if potential.loss != 0:
        coefficients[quantities.gradient[potential.quantity]] += potential.loss
    walkers.energy[w] = _potential(q, w, potential, quantities, scratch)
    scratch.doubt[0] += _combine(walkers.forces, q, w, scratch.gradients, coefficients, potential.prior)


@kernel
def loss_forces(w, step, parts):  # type: ignore[no-untyped-def]
    """U of all points, and minus the gradient of the train loss, of a mini-batch if there is one."""
    _, _, _, walkers, _, problem, batch, scratch, places = held(parts)
    network, points, quantities, _, potential, _, _ = problem
    q = walkers.positions
    copy_positions(q, w, scratch.theta)
    of_batch = batch.points.counts.size > 0
    if of_batch:
        gather(batch, w, step)
        variables.evaluate(network, batch.points, batch.quantities, scratch, scratch.sums, places, True)
    else:
        variables.evaluate(network, points, quantities, scratch, scratch.sums, places, True)
    scratch.coefficients[0] = 1.0
    scratch.doubt[0] += _combine(walkers.forces, q, w, scratch.gradients, scratch.coefficients, 0.0)
    if of_batch and potential.loss != 0:
        variables.evaluate(network, points, quantities, scratch, scratch.sums, places, False)
    walkers.energy[w] = _potential(q, w, potential, quantities, scratch)


@kernel
def batch_forces(w, step, parts):  # type: ignore[no-untyped-def]
    """Estimates of U and f on a mini-batch."""
    _, _, _, walkers, _, problem, batch, scratch, places = held(parts)
    network, _, _, _, potential, _, _ = problem
    q = walkers.positions
    copy_positions(q, w, scratch.theta)
    gather(batch, w, step)
    variables.evaluate(network, batch.points, batch.quantities, scratch, scratch.sums, places, True)
    scratch.coefficients[0] = potential.loss
    walkers.energy[w] = _potential(q, w, potential, batch.quantities, scratch)
    scratch.doubt[0] += _combine(walkers.forces, q, w, scratch.gradients, scratch.coefficients, potential.prior)


@kernel
def copy_positions(q, w, theta):  # type: ignore[no-untyped-def]
    """The positions in the type of the network; the fixed numbers behind them stay."""
    for i in range(q.shape[1]):
        theta[i] = theta.dtype.type(q[w, i])


@kernel
def _potential(q, w, potential, quantities, scratch):  # type: ignore[no-untyped-def]
    """U = loss x train loss + prior x |q|^2."""
    energy = 0.0
    if potential.loss != 0:
        energy = potential.loss * scratch.sums[potential.quantity]
    if potential.prior != 0:
        square = 0.0
        for i in range(q.shape[1]):
            square += q[w, i] * q[w, i]
        energy += potential.prior * square
    return energy


@kernel
def _combine(f, q, w, gradients, coefficients, prior):  # type: ignore[no-untyped-def]
    """f <- -(sum over k of coefficient[k] x gradient[k] + 2 prior q); the gradients are zero then, for the next ones.

    Returns:
        A number that is not finite if any of f is not.
    """
    kind, n, zero, doubt = f.dtype.type, f.shape[1], gradients.dtype.type(0), 0.0
    if coefficients.size == 1:
        a = kind(-coefficients[0])
        for i in range(n):
            f[w, i] = a * gradients[0, i]
            gradients[0, i] = zero
            doubt += f[w, i] * 0
    elif coefficients.size == 2:
        a, b = kind(-coefficients[0]), kind(-coefficients[1])
        for i in range(n):
            f[w, i] = a * gradients[0, i] + b * gradients[1, i]
            gradients[0, i] = gradients[1, i] = zero
            doubt += f[w, i] * 0
    else:
        for i in range(n):
            f[w, i] = kind(0)
        for k in range(coefficients.size):
            a = kind(-coefficients[k])
            for i in range(n):
                f[w, i] += a * gradients[k, i]
                gradients[k, i] = zero
                doubt += f[w, i] * 0
    for k in range(coefficients.size):
        for i in range(n, gradients.shape[1]):  # of fixed numbers
            gradients[k, i] = zero
    if prior != 0:
        a = kind(-2 * prior)
        for i in range(n):
            f[w, i] += a * q[w, i]
    return doubt


@kernel
def gather(batch, w, step):  # type: ignore[no-untyped-def]
    """Lay out the points of a walker's mini-batch of a step as blocks, with all that is known of them."""
    points, source = batch.points, batch.source
    width, rows, first = points.width[0], batch.numbers.shape[1], step % batch.per_epoch * batch.size
    count, norm = min(batch.size, batch.order.shape[1] - first), 0.0
    for p in range(count):
        index = batch.order[w, first + p]
        begin = p // width * rows * width + p % width
        for r in range(rows):
            points.numbers[begin + r * width] = batch.numbers[index, r]
        for c in range(points.values.shape[0]):
            points.values[c, p] = source.values[c, index]
            points.shares[c, p] = source.shares[c, index]
        points.labels[p] = source.labels[index]
        norm += source.each[index]
    points.counts[0] = count
    points.blocks[0] = (count + width - 1) // width
    points.norm[0] = max(norm, batch.tiny)


@kernel
def finite(walkers, w):  # type: ignore[no-untyped-def]
    """Whether nothing of a walker is NaN or infinite; a sum is not if any of its terms is not."""
    total = walkers.energy[w] + walkers.bias_energy[w]
    for i in range(walkers.positions.shape[1]):
        total += walkers.positions[w, i] * 0 + walkers.velocities[w, i] * 0 + walkers.forces[w, i] * 0
    return is_finite(total)


@kernel
def settled(walkers, w, scratch):  # type: ignore[no-untyped-def]
    """The same, from what was noticed of the numbers when they were changed."""
    return is_finite(walkers.energy[w] + walkers.bias_energy[w] + scratch.doubt[0])
