"""What the compiled step works on, as named tuples of arrays; made in `nnsim.platforms.dynamics.assemble`.

W walkers, n parameters, k collective variables. A split is the train points, the test points, or a mini-batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Points(NamedTuple):
    """The points of all splits, in blocks.

    Attributes:
        numbers: flat; block b of split s has rows of `width[s]` points, from `start[s]` + b x rows x width on.
        pointers, places, data: the numbers that are kept as lists, see `nnsim.platforms.dynamics.network.sparse`.
        start, width, blocks, counts, first: of each split, [S]; `first` is the number of its first point.
        kind, right: numbers of the functions of the loss, and of right answers, in
            `nnsim.platforms.dynamics.network.losses`.
        values, shares: [C, N] of all points; labels: [N].
        norm, counted: what the sums of losses, and of right answers, are divided by, [S].
        each: what each point adds to the norm, [N].
    """

    numbers: Array
    pointers: Array
    places: Array
    data: Array
    start: Array
    width: Array
    blocks: Array
    counts: Array
    first: Array
    kind: int
    right: int
    values: Array
    labels: Array
    shares: Array
    norm: Array
    counted: Array
    each: Array


class Network(NamedTuple):
    """Tables of the network, see `nnsim.platforms.dynamics.network.tables`."""

    ops: Array
    reals: Array
    lists: Array
    rows: int
    points_rows: int
    result: int
    outputs: int


class Quantities(NamedTuple):
    """What is computed of the outputs, one row each, in the order of the splits.

    Attributes:
        split: of each, [Q].
        slope: of a smoothed accuracy; 0 of an exact one, -1 of the loss.
        gradient: number of its gradient; -1 for none.
    """

    split: Array
    slope: Array
    gradient: Array


class Variables(NamedTuple):
    """The collective variables, in rows that are made of a quantity, of a number, or of two rows before.

    Attributes:
        kind: see `nnsim.platforms.dynamics.variables` and `nnsim.platforms.formulas`, [R].
        quantity: of which it is made, [R].
        scale: its factor, or the number, [R].
        left, right: rows that it is made of, [R].
        shown: the row of each collective variable, [k].
        epsilon, tiny: of the logit, and the smallest loss of which a logarithm is taken.
    """

    kind: Array
    quantity: Array
    scale: Array
    left: Array
    right: Array
    shown: Array
    epsilon: float
    tiny: float


class Grids(NamedTuple):
    """Learnt potentials on grids, B of them, their tables side by side.

    Attributes:
        columns: of their CVs, [B, 3].
        dimensions: number of CVs, [B].
        begin: where coefficients and visits begin, [B].
        coefficients, visits: of all, flat.
        lower, upper, inverse, bins, wraps, strides: of the grids, [B, 3].
        nodes: [B, 3, *].
        indices, weights, widths: of the kernels, [B, 3, *, *] and [B, 3].
    """

    columns: Array
    dimensions: Array
    begin: Array
    coefficients: Array
    visits: Array
    lower: Array
    upper: Array
    inverse: Array
    bins: Array
    wraps: Array
    strides: Array
    nodes: Array
    indices: Array
    weights: Array
    widths: Array


class Deposits(NamedTuple):
    """What the grids learn.

    Attributes:
        pace: deposits at its multiples, [B]; 0 if none are made.
        height: energy of one deposit after so many in this call, [B, *]; of hills one for all.
        tempering: kT (bias factor - 1) of well-tempered hills, [B]; 0 of others.
        made, outside: deposits, and steps outside the grid, in this call, [B].
        last: mean height of the latest deposits, [B].
        next: height of the next deposit of each walker, [B, W].
    """

    pace: Array
    height: Array
    tempering: Array
    made: Array
    outside: Array
    last: Array
    next: Array


class Kernels(NamedTuple):
    """Logarithms of densities of kernels, B of them, see `nnsim.grid.density`; they stand still in a call.

    Attributes:
        rows: the kernels of all, [*, 7]; begin: of each, and the end, [B + 1].
        columns: of their CVs, [B, 3]; dimensions: number of CVs, [B].
        periods: [B, 3]; numbers: [B, 5].
        place, slope: room for the CVs, and the slope of V, of each walker, [W, 3].
    """

    rows: Array
    begin: Array
    columns: Array
    dimensions: Array
    periods: Array
    numbers: Array
    place: Array
    slope: Array


class Restraints(NamedTuple):
    """Walls, slopes, umbrellas and densities of kernels: known functions of one CV, or of some.

    Attributes:
        walls: [*, 5]: column, lower, upper, strength, and 1 if quadratic.
        slopes: energy per unit of the CV, for each walker, [*, W]; slope_of: column, [*]; ramp: steps, [*].
        springs: column of each CV of each umbrella, [*]; owner: number of its umbrella.
        center, stiffness, velocity: [*, W]; period: 0 for none; until: step at which the centre stops.
        last: the CVs at the last step, [*, W]; work: of each umbrella on each walker, [*, W]; at_end: share of the work
            that is done at the end of a step, [*].
        kernels: densities of kernels.
    """

    walls: Array
    slopes: Array
    slope_of: Array
    ramp: Array
    springs: Array
    owner: Array
    center: Array
    stiffness: Array
    velocity: Array
    period: Array
    until: Array
    last: Array
    work: Array
    at_end: Array
    kernels: Kernels


class Program(NamedTuple):
    """An integrator's step.

    Attributes:
        codes: of the operations, see `nnsim.platforms.dynamics.operations`.
        draws: number of the draw of noise in the step, of each that draws.
        groups: first operation of each group that is done parameter by parameter, and of each other one.
        numbers: [operations, 4, W].
        source: where they come from, [operations, 4]: -1 from `numbers`, -2 those times the walker's own time step,
            else a column of the schedule.
        arrays: masses or mobilities, flat; array: begin, and steps between walkers and between parameters, of each
            operation, [operations, 3].
        inertia, freedom: of the chains of thermostats, [W, chain].
        watched: whether positions, velocities and forces are changed only where it is noticed if they are not finite.
    """

    codes: Array
    draws: Array
    groups: Array
    numbers: Array
    source: Array
    arrays: Array
    array: Array
    inertia: Array
    freedom: Array
    watched: bool


class Box(NamedTuple):
    """Kind (0 open, 1 reflecting, 2 periodic), edges of each parameter, and of which tiles all have the same."""

    kind: int
    lower: Array
    upper: Array
    alike: Array


class Walkers(NamedTuple):
    """The state, and what integrators carry along; arrays of one row for each walker, which change in place."""

    positions: Array
    velocities: Array
    forces: Array
    energy: Array
    bias_energy: Array
    cvs: Array
    kinetic: Array
    conserved: Array
    heat: Array  # empty while it is not counted
    extra: Array  # noise, second moment, ... [*, W, n]
    chain_velocities: Array  # [W, G, chain]
    chain_positions: Array
    saved: Array  # [3, W, n]: positions, velocities, forces
    saved_numbers: Array  # [W, 3 + k]: energies, kinetic energy, CVs
    drawn: Array  # [W, 2]: time step, threshold
    accepted: Array


class Potential(NamedTuple):
    """U = loss x train loss + prior x |q|^2, of the quantity `quantity`; -1 where the loss is no part."""

    loss: float
    prior: float
    quantity: int


class Batch(NamedTuple):
    """Where the mini-batches come from, and room for one.

    Attributes:
        points: room for one, a single split; empty without mini-batches.
        quantities: its loss.
        numbers: all train points, [N, rows]; source: what is known of them.
        order: in which they are visited, [W, N]; a new one begins every `per_epoch` steps, with batches of `size`.
        tiny: the least that a norm can be.
    """

    points: Points
    quantities: Quantities
    numbers: Array
    source: Points
    order: Array
    size: int
    per_epoch: int
    tiny: float


class Learning(NamedTuple):
    """What the grids learn, and whether anything is kept account of after each step."""

    deposits: Deposits
    together: bool


class Film(NamedTuple):
    """Room for F frames, the walkers after some of the steps.

    Attributes:
        every: interval of the frames, in steps; 0 for none.
        first: step of the first over `every`.
        positions_every, velocities_every, values_every: which of them have those; 0 for none.
        positions, velocities: [F, W, n].
        energy, bias_energy, kinetic: [F, W]; cvs: [F, W, k].
        quantities, wanted: what the values [F, j, W] are made of, as `Quantities` and `Variables`.
        counts: deposits made and left out in this call until then, [F, 2, B]; last: height of the latest, [F, B].
        coefficients, visits: of all grids, [F, *]; empty if not needed.
        work, springs: of umbrellas, and their CVs at the last step, [F, *, W]; empty if none moves.
        sums: room for those of the values and for their rows, of one thread.
    """

    every: int
    first: int
    positions_every: int
    velocities_every: int
    values_every: int
    positions: Array
    velocities: Array
    energy: Array
    bias_energy: Array
    kinetic: Array
    cvs: Array
    quantities: Quantities
    wanted: Variables
    values: Array
    counts: Array
    last: Array
    coefficients: Array
    visits: Array
    work: Array
    springs: Array
    sums: Array


class Team(NamedTuple):
    """The threads that work on the walkers.

    Attributes:
        size: how many.
        arrived: how often one has come to a wait.
        failed: in which step of the call, from 1 on, something of a walker was not finite; 0 in none.
    """

    size: int
    arrived: Array
    failed: Array


class Places(NamedTuple):
    """Addresses: of the BLAS, of operations of a network forward and backward, losses, forces, and parts of a step."""

    blas: Array
    forward: Array
    backward: Array
    losses: Array
    forces: Array
    step: Array


class Scratch(NamedTuple):
    """Room for one thread.

    In `sums` are the quantities, and behind them the rows of the variables; `slopes` are the derivatives of V by the
    variables, [k], `pull` those by the rows, [R].
    """

    theta: Array
    gradients: Array
    y: Array
    g: Array
    room: Array
    sums: Array
    slopes: Array
    pull: Array
    coefficients: Array
    place: Array
    value: Array
    partial: Array
    basis: Array
    nodes: Array
    counters: Array
    words: Array
    normals: Array
    tile: Array
    doubt: Array
