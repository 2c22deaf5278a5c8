"""The operations of integrators that act on each parameter by itself, compiled: one function for each.

They are carried out for `TILE` parameters after each other, all that follow each other at once, while the numbers are
in the cache; see `nnsim.program` for what they mean. The first and the last parameter, `low` and `high`, are unsigned:
indices that cannot be counted from the end are what lets the compiler take many at once.
"""

from __future__ import annotations

import math

import numpy as np

from nnsim.jit import is_finite
from nnsim.platforms.dynamics.network.compile import inline, kernel
from nnsim.random import philox

KICK, DRIFT, ORNSTEIN_UHLENBECK, KINETIC, DIFFUSE, DIFFUSE_MEMORY, DIFFUSION_HEAT, MOMENTUM, MOMENTS, CONFINE = range(
    10
)
FORCES, LOSS_FORCES, CHAIN, EXTENDED, SAVE, DRAW, ACCEPT = range(10, 17)
BY_PARAMETER = DIFFUSION_HEAT, *range(KICK, DIFFUSE_MEMORY + 1), MOMENTUM, MOMENTS, CONFINE
OPEN, REFLECTING, PERIODIC = range(3)
TILE = 4 * philox.TILE


@inline
def at(array, place, w, i):  # type: ignore[no-untyped-def]
    """A mass or mobility of walker w and parameter i; `place` is its begin and the steps between the two."""
    return array[np.uint64(place[0] + w * place[1]) + np.uint64(i) * np.uint64(place[2])]


@kernel
def doubt(q, v, w, low, high):  # type: ignore[no-untyped-def]
    """A number that is not finite if any of q and v is not."""
    total = 0.0
    for i in range(low, high):
        total += q[w, i] * 0 + v[w, i] * 0
    return total


@kernel
def kick(v, f, w, low, high, dt, masses, place):  # type: ignore[no-untyped-def]
    """v <- v + dt f / m."""
    if place[2] == 0:
        factor = v.dtype.type(dt / at(masses, place, w, 0))
        for i in range(low, high):
            v[w, i] += factor * f[w, i]
    else:
        begin = np.uint64(place[0] + w * place[1])
        for i in range(low, high):
            v[w, i] += v.dtype.type(dt * f[w, i] / masses[begin + i])


@kernel
def drift(q, v, w, low, high, dt, box):  # type: ignore[no-untyped-def]
    """q <- q + dt v, then back into the box."""
    h, outside = q.dtype.type(dt), 0.0
    if box.kind == OPEN:
        for i in range(low, high):
            q[w, i] += h * v[w, i]
    elif box.alike[low // TILE]:
        least, most = box.lower[low], box.upper[low]
        for i in range(low, high):
            x = q[w, i] + h * v[w, i]
            q[w, i] = x
            outside += 1.0 if (x < least) | (x > most) else 0.0
    else:
        for i in range(low, high):
            x = q[w, i] + h * v[w, i]
            q[w, i] = x
            outside += 1.0 if (x < box.lower[i]) | (x > box.upper[i]) else 0.0
    if outside > 0:
        confine(q, v, w, low, high, box)


@kernel
def confine(q, v, w, low, high, box):  # type: ignore[no-untyped-def]
    """Back into the box, mirrored with reversed v, or wrapped."""
    if box.kind == OPEN:
        return
    outside, lower, upper = 0.0, box.lower, box.upper
    for i in range(low, high):
        outside += 1.0 if (q[w, i] < lower[i]) | (q[w, i] > upper[i]) else 0.0
    if outside > 0:  # few are, in one step
        for i in range(low, high):
            _turn(q, v, w, i, lower[i], upper[i], box.kind)


@kernel
def _turn(q, v, w, i, lower, upper, kind):  # type: ignore[no-untyped-def]
    if lower <= q[w, i] <= upper or not is_finite(q[w, i]):
        return
    width, beyond = upper - lower, q[w, i] - lower
    if kind == PERIODIC:
        q[w, i] = lower + (beyond - width * np.floor(beyond / width))
        return
    # a long jump may cross the box several times: unfold onto a circle of twice the width
    along = beyond - 2 * width * np.floor(beyond / (2 * width))
    if along > width:
        along = 2 * width - along
        v[w, i] = -v[w, i]
    q[w, i] = lower + along


@kernel
def ornstein_uhlenbeck(v, w, low, high, decay, kT, masses, place, noise):  # type: ignore[no-untyped-def]
    """v <- c v + sqrt((1 - c^2) kT / m) xi."""
    c = v.dtype.type(decay)
    variance = (1 - decay * decay) * kT
    if place[2] == 0:
        scale = v.dtype.type(math.sqrt(variance / at(masses, place, w, 0)))
        for i in range(low, high):
            v[w, i] = v[w, i] * c + scale * v.dtype.type(noise[i - low])
    else:
        begin = np.uint64(place[0] + w * place[1])
        for i in range(low, high):
            v[w, i] = v[w, i] * c + v.dtype.type(math.sqrt(variance / masses[begin + i]) * noise[i - low])


@kernel
def kinetic_energy(v, w, low, high, masses, place):  # type: ignore[no-untyped-def]
    """The sum of m v^2 / 2 of these parameters."""
    total = 0.0
    if place[2] == 0:
        for i in range(low, high):
            total += v[w, i] * v[w, i]
        return 0.5 * at(masses, place, w, 0) * total
    begin = np.uint64(place[0] + w * place[1])
    for i in range(low, high):
        total += masses[begin + i] * v[w, i] * v[w, i]
    return 0.5 * total


@kernel
def diffuse(q, f, w, low, high, kT, mobility, place, noise, box, start, turned, before, counts):  # type: ignore[no-untyped-def]
    """q <- q + b f + sqrt(2 kT b) xi; with `counts` it leaves displacement, mirrors and forces."""
    for i in range(low, high):
        b = at(mobility, place, w, i)
        shift = q.dtype.type(b * f[w, i]) + q.dtype.type(math.sqrt(2 * kT * b) * noise[i - low])
        q[w, i] += shift
        if counts:
            start[w, i], before[w, i], turned[w, i] = shift, f[w, i], 1.0
    confine(q, turned, w, low, high, box)


@kernel
def diffusion_heat(f, w, low, high, mobility, place, displacement, turned, before):  # type: ignore[no-untyped-def]
    """Minus the heat of the step, see `nnsim.program.DiffusionHeat`."""
    total = 0.0
    for i in range(low, high):
        after, b = turned[w, i] * f[w, i], at(mobility, place, w, i)
        total += displacement[w, i] * (before[w, i] + after) / 2
        total += b * (after * after - before[w, i] * before[w, i]) / 4
    return total


@kernel
def diffuse_with_memory(q, f, kept, w, low, high, kT, before, mobility, place, noise, box, counts):  # type: ignore[no-untyped-def]
    """q <- q + b f + sqrt(b / 2) (sqrt(kT before) xi + sqrt(kT) xi'); returns the heat, if it counts."""
    heat = 0.0
    for i in range(low, high):
        b, new = at(mobility, place, w, i), kept.dtype.type(noise[i - low])
        if counts:
            velocity = math.sqrt(before) * kept[w, i] + math.sqrt(2 * b) * f[w, i]
            heat += 0.5 * (kT * new * new - velocity * velocity)
        q[w, i] += q.dtype.type(b * f[w, i])
        q[w, i] += q.dtype.type(math.sqrt(0.5 * before * b) * kept[w, i])
        q[w, i] += q.dtype.type(math.sqrt(0.5 * kT * b) * new)
        kept[w, i] = new
    confine(q, kept, w, low, high, box)
    return heat


@kernel
def momentum(q, v, f, w, low, high, rate, mu, nesterov, decay):  # type: ignore[no-untyped-def]
    """g <- f - lambda q;  v <- mu v + g;  q <- q + eta v or, with Nesterov's momentum, q <- q + eta (g + mu v)."""
    rate, mu, decay = q.dtype.type(rate), q.dtype.type(mu), q.dtype.type(decay)
    for i in range(low, high):
        g = f[w, i] - decay * q[w, i]
        v[w, i] = mu * v[w, i] + g
        q[w, i] += rate * (g + mu * v[w, i] if nesterov else v[w, i])


@kernel
def moments(q, v, f, second, w, low, high, rate, first_beta, second_beta, eps, decay, step):  # type: ignore[no-untyped-def]
    """Adam's step number `step`."""
    one = 1 - first_beta**step
    size = rate / one
    root = math.sqrt(1 - second_beta**step)
    for i in range(low, high):
        g = f[w, i] - decay * q[w, i]
        v[w, i] = first_beta * v[w, i] + (1 - first_beta) * g
        second[w, i] = second_beta * second[w, i] + (1 - second_beta) * g * g
        q[w, i] += size * v[w, i] / (math.sqrt(second[w, i]) / root + eps)


@kernel
def normal_numbers(noise, stream, step, draw, key, low, count, counters, words, normals):  # type: ignore[no-untyped-def]
    """noise [count] <- the normal numbers from number `low` (a multiple of 4) on of a walker's draw."""
    blocks = (count + 3) // 4
    whole = (blocks + 7) // 8 * 8  # some more than are needed, rather than the last few one by one
    first = np.uint64(low // 4)
    for i in range(whole):
        counters[0, i], counters[1, i] = first + np.uint64(i), stream
    philox.normals(counters, step, draw, key, words, normals, whole)
    for i in range(count // 4):
        for j in range(4):
            noise[4 * i + j] = normals[j, i]
    for j in range(count % 4):
        noise[count // 4 * 4 + j] = normals[j, count // 4]
