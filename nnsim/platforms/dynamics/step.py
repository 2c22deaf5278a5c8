"""Steps of several walkers, compiled: an integrator's program, and what the biases learn."""

from __future__ import annotations

import math

import numpy as np

from nnsim.platforms.dynamics import chains, film, forces, potentials
from nnsim.platforms.dynamics import operations as op
from nnsim.platforms.dynamics.network.compile import entry, kernel
from nnsim.platforms.dynamics.network.indirect import Holding, addresses_of, call, held, hold
from nnsim.platforms.dynamics.threads import arrive, wait
from nnsim.random import philox

BY_PARAMETER, WHOLE, WEIGH, LEARN, KEEP_WALKER, KEEP_BIASES = range(6)


def addresses(program, schedule, random, walkers, box, problem, learning, batch, kept, scratch, places):  # type: ignore[no-untyped-def]
    """Where the parts of a step are, for arguments of certain types."""
    parts = Holding((program, schedule, random, walkers, box, problem, batch, scratch, places))
    of_parts = (
        (_by_parameter, (0, 0, 0, 0, 0, False, parts)),
        (_whole, (0, 0, 0, 0, parts)),
        (potentials.weigh, (problem[5], learning.deposits, 0, (0, 0, 0), walkers.cvs, scratch)),
        (potentials.learn, (problem[5], learning.deposits, problem[6], 0, 0, 0, walkers.cvs, scratch)),
        (film.keep_walker, (0, 0, kept, problem, walkers, scratch, places)),
        (film.keep_biases, (0, kept, problem, learning.deposits)),
    )
    return np.concatenate([addresses_of([part], arguments, {0}) for part, arguments in of_parts])


@entry
def advance(  # type: ignore[no-untyped-def]
    steps, step, own, program, schedule, random, walkers, box, problem, learning, batch, kept, team, scratch, places
):
    """`steps` steps of the walkers from `own[0]` to `own[1]`, after step number `step`, some of them `kept` as frames.

    With a bias that learns, all threads of the team wait for each other after each step, and each of them, number
    `own[2]`, makes the deposits of all walkers, in their order, in its part of the tables. So nothing depends on how
    many there are. The tables are read when all have been there, in the next step, of which a part is done meanwhile.

    Returns:
        How many steps were made; with a minus sign, if then something of a walker is not finite.
    """
    turn, parts = 0, hold((program, schedule, random, walkers, box, problem, batch, scratch, places))
    for k in range(steps):
        now, fine = step + k + 1, True
        shown = kept.every > 0 and now % kept.every == 0
        for w in range(own[0], own[1]):
            scratch.doubt[0] = 0.0
            seen = k == steps - 1 or shown or not program.watched
            one_step(w, now, k, seen, program, team, turn, parts, places)
            fine = (forces.settled(walkers, w, scratch) if program.watched else forces.finite(walkers, w)) and fine
        if not fine:
            team.failed[0] = k + 1
        if learning.together:
            call(places.step, WEIGH, (problem[5], learning.deposits, now, own, walkers.cvs, scratch))
            wait(team, arrive(team))
            if team.failed[0] == k + 1:  # another thread may be in the next step already, and fail there
                return -(k + 1)
            call(
                places.step,
                LEARN,
                (problem[5], learning.deposits, problem[6], now, own[2], team.size, walkers.cvs, scratch),
            )
            turn = arrive(team)
            if shown or k == steps - 1:
                wait(team, turn)
        elif not fine:
            return -(k + 1)
        if shown:
            for w in range(own[0], own[1]):
                call(places.step, KEEP_WALKER, (w, now, kept, problem, walkers, scratch, places))
            if own[0] == 0:
                call(places.step, KEEP_BIASES, (now, kept, problem, learning.deposits))
    return steps


@kernel
def one_step(w, now, k, seen, program, team, turn, parts, places):  # type: ignore[no-untyped-def]
    """The operations of one step of walker w, group by group; `seen` if anybody will see the kinetic energy."""
    groups = program.groups
    for g in range(groups.size - 1):
        first, last = groups[g], groups[g + 1]
        if program.codes[first] < op.FORCES:
            call(places.step, BY_PARAMETER, (first, last, w, now, k, seen, parts))
        else:
            wait(team, turn)
            call(places.step, WHOLE, (first, w, now, k, parts))


@kernel
def _number(program, schedule, walkers, o, slot, w, k):  # type: ignore[no-untyped-def]
    """Number `slot` of operation o for a walker, in step k of this call."""
    source = program.source[o, slot]
    if source == -1:
        return program.numbers[o, slot, w]
    if source == -2:
        return program.numbers[o, slot, w] * walkers.drawn[w, 0]
    return schedule[k, source, w]


@kernel
def _by_parameter(first, last, w, now, k, seen, parts):  # type: ignore[no-untyped-def]
    """Operations `first` to `last`, all of them for one tile of parameters after the other."""
    program, schedule, random, walkers, box, _, _, scratch, _ = held(parts)
    n, counts, takes = walkers.positions.shape[1], walkers.heat.size > 0, False
    heat, kinetic, doubt = 0.0, 0.0, 0.0
    q, v, f, masses, noise = walkers.positions, walkers.velocities, walkers.forces, program.arrays, scratch.tile
    key, stream = random[0], random[1] + np.uint64(w)
    for begin in range(0, n, op.TILE):
        end = min(begin + op.TILE, n)
        low, high = np.uint64(begin), np.uint64(end)
        for o in range(first, last):
            code, place = program.codes[o], program.array[o]
            a = _number(program, schedule, walkers, o, 0, w, k)
            b = _number(program, schedule, walkers, o, 1, w, k)
            if program.draws[o] >= 0:
                op.normal_numbers(
                    noise, stream, now, program.draws[o], key, begin, end - begin, scratch.counters, scratch.words,
                    scratch.normals,
                )  # fmt: skip
            if code == op.KICK:
                op.kick(v, f, w, low, high, a, masses, place)
            elif code == op.DRIFT:
                op.drift(q, v, w, low, high, a, box)
            elif code == op.ORNSTEIN_UHLENBECK:
                if counts:
                    heat -= op.kinetic_energy(v, w, low, high, masses, place)
                op.ornstein_uhlenbeck(v, w, low, high, a, b, masses, place, noise)
                if counts:
                    heat += op.kinetic_energy(v, w, low, high, masses, place)
            elif code == op.KINETIC:
                if seen:
                    kinetic += op.kinetic_energy(v, w, low, high, masses, place)
                    takes = True
            elif code == op.MOMENTUM:
                c = _number(program, schedule, walkers, o, 2, w, k)
                d = _number(program, schedule, walkers, o, 3, w, k)
                op.momentum(q, v, f, w, low, high, a, b, c != 0, d)
            elif code == op.MOMENTS:
                c = _number(program, schedule, walkers, o, 2, w, k)
                d = _number(program, schedule, walkers, o, 3, w, k)
                eps = program.arrays[place[0]]
                op.moments(q, v, f, walkers.extra[0], w, low, high, a, b, c, eps, d, now)
            elif code == op.CONFINE:
                op.confine(q, v, w, low, high, box)
            elif code == op.DIFFUSE:
                extra = walkers.extra
                op.diffuse(
                    q, f, w, low, high, a, masses, place, noise, box, extra[0], extra[1], extra[2], counts
                )  # fmt: skip
            elif code == op.DIFFUSION_HEAT:
                if counts:
                    extra = walkers.extra
                    heat -= op.diffusion_heat(f, w, low, high, masses, place, extra[0], extra[1], extra[2])
            elif code == op.DIFFUSE_MEMORY:
                heat += op.diffuse_with_memory(
                    q, f, walkers.extra[0], w, low, high, a, b, masses, place, noise, box, counts
                )  # fmt: skip
        doubt += op.doubt(q, v, w, low, high)
    scratch.doubt[0] += doubt
    if counts:
        walkers.heat[w] += heat
    if takes:
        walkers.kinetic[w] = kinetic


@kernel
def _whole(o, w, now, k, parts):  # type: ignore[no-untyped-def]
    """An operation on a whole walker."""
    program, schedule, random, walkers, _, problem, batch, _, places = held(parts)
    code = program.codes[o]
    a = _number(program, schedule, walkers, o, 0, w, k)
    b = _number(program, schedule, walkers, o, 1, w, k)
    if code == op.FORCES or code == op.LOSS_FORCES:
        which = forces.OF_LOSS
        if code == op.FORCES:
            which = forces.OF_BATCH if batch.points.counts.size else forces.BIASED
        call(places.forces, which, (w, now, parts))
    elif code == op.CHAIN:
        substeps = np.int64(_number(program, schedule, walkers, o, 2, w, k))
        chains.chain(
            walkers, w, a, b, substeps, program.inertia, program.freedom, program.arrays, program.array[o]
        )  # fmt: skip
    elif code == op.EXTENDED:
        kinetic = op.kinetic_energy(
            walkers.velocities,
            w,
            np.uint64(0),
            np.uint64(walkers.velocities.shape[1]),
            program.arrays,
            program.array[o],
        )
        walkers.kinetic[w] = kinetic
        own = chains.extended_energy(walkers, w, a, program.inertia, program.freedom)
        walkers.conserved[w] = kinetic + walkers.energy[w] + walkers.bias_energy[w] + own
    elif code == op.SAVE:
        _save(walkers, w)
    elif code == op.DRAW:
        one, two = philox.uniform_pair(random[2] + np.uint64(w), now, 0, random[0])
        walkers.drawn[w, 0], walkers.drawn[w, 1] = a * (1 + b * (2 * one - 1)), two
    else:
        kinetic = op.kinetic_energy(
            walkers.velocities,
            w,
            np.uint64(0),
            np.uint64(walkers.velocities.shape[1]),
            program.arrays,
            program.array[o],
        )
        _accept(walkers, w, kinetic, a, potentials.inside(problem[5], walkers.cvs[w]))


@kernel
def _save(walkers, w):  # type: ignore[no-untyped-def]
    """Keep what moves."""
    saved, numbers = walkers.saved, walkers.saved_numbers[w]
    for i in range(walkers.positions.shape[1]):
        saved[0, w, i] = walkers.positions[w, i]
        saved[1, w, i] = walkers.velocities[w, i]
        saved[2, w, i] = walkers.forces[w, i]
    numbers[0], numbers[1] = walkers.energy[w], walkers.bias_energy[w]
    for j in range(walkers.cvs.shape[1]):
        numbers[2 + j] = walkers.cvs[w, j]


@kernel
def _accept(walkers, w, kinetic, kT, allowed):  # type: ignore[no-untyped-def]
    """Stay with probability min(1, exp(-(H' - H) / kT)), or go back with reversed velocities."""
    saved, numbers = walkers.saved, walkers.saved_numbers[w]
    before = walkers.kinetic[w] + numbers[0] + numbers[1]
    climb = (kinetic + walkers.energy[w] + walkers.bias_energy[w] - before) / kT
    if allowed and walkers.drawn[w, 1] < math.exp(-climb):  # a NaN is not accepted
        walkers.accepted[w] += 1
        return
    for i in range(walkers.positions.shape[1]):
        walkers.positions[w, i] = saved[0, w, i]
        walkers.velocities[w, i] = -saved[1, w, i]
        walkers.forces[w, i] = saved[2, w, i]
    walkers.energy[w], walkers.bias_energy[w] = numbers[0], numbers[1]
    for j in range(walkers.cvs.shape[1]):
        walkers.cvs[w, j] = numbers[2 + j]
