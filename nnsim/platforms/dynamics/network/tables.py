"""From the program of a network to the table that `nnsim.platforms.dynamics.network.passes` goes by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from nnsim.networks.program import Program
from nnsim.platforms.dynamics.network import passes
from nnsim.platforms.dynamics.network.builder import COLUMNS, Builder, Unknown, Value
from nnsim.platforms.dynamics.network.writers import WRITERS, channel_norm

MOSTLY_ZERO, MOSTLY_FULL = 0.35, 0.5  # shares of numbers that are not zero: of all points, and of a column
RISING = ("relu", "tanh", "sigmoid")  # activations that never fall


class Tables(NamedTuple):
    """A network for the compiled passes.

    Attributes:
        ops, reals, lists: operations, their real numbers, and lists of integers; see `passes`.
        rows: of a block of values.
        points_rows: of a block of points: columns that are kept in full.
        result: first row of the outputs.
        outputs: how many there are.
        fixed: numbers that follow the parameters in theta.
        full: columns of the points that are kept in full; the others are lists.
        room: how many numbers of scratch a block of so many points takes.
    """

    ops: np.ndarray
    reals: np.ndarray
    lists: np.ndarray
    rows: int
    points_rows: int
    result: int
    outputs: int
    fixed: np.ndarray
    full: np.ndarray
    room: Callable[[int], int]


def tables_of(program: Program, size: int, shape: tuple[int, ...], points: np.ndarray, itemsize: int) -> Tables:
    """The tables of a network.

    Args:
        program: traced with points.
        size: number of parameters n.
        shape: of a point.
        points: all of them, [N, ...]: linear layers of points that are mostly zero take lists.
        itemsize: bytes of a number.

    Raises:
        Unknown: an operation that has no compiled code.
    """
    program = _pooled_first(program)
    live = _live(program)
    flat = points.reshape(len(points), -1)
    listed = _worth_listing(program, live, flat)
    full = np.flatnonzero((flat != 0).mean(axis=0) > MOSTLY_FULL) if listed else np.arange(flat.shape[1])
    b = Builder(program, size, shape, full, listed)
    b.values[0] = Value(0, shape, -1, of_points=True)
    skipped: set[int] = set()
    for number, one in enumerate(program.operations):
        if number + 1 in live and number not in skipped:
            known = channel_norm(b, number, live) or WRITERS.get(one.kind)
            if known is None:
                raise Unknown(f"{one.layer or one.kind} ({one.kind})")
            if isinstance(known, tuple):  # several operations as one
                skipped.update(known[1])
                b.values[max(known[1]) + 1] = known[0]
                continue
            b.values[number + 1] = known(b, one, [b.values[value] for value in one.reads], number)
    result = b.values[program.result]
    if result.of_points or len(result.shape) != 1:
        raise Unknown(f"outputs of shape {result.shape}")
    _plan_gradients(b, result)
    if any(op[passes.SECOND] < 0 for op in b.ops):
        raise Unknown("a sum with the points")
    return Tables(
        np.array(b.ops, dtype=np.int64).reshape(-1, COLUMNS),
        np.array(b.reals or [0.0]),
        np.array(b.lists or [0], dtype=np.int64),
        b.rows,
        len(full),
        result.row,
        result.rows,
        np.concatenate([np.zeros(0), *b.fixed]),
        full,
        lambda count: max(room(count) for room in b.rooms),
    )


def _pooled_first(program: Program) -> Program:
    """The same with each activation that only rises, such as ReLU, after the max pooling that alone reads it.

    The values are the same, since the largest number stays the largest, and there are fewer of them.
    """
    operations = list(program.operations)
    for number, (one, pool) in enumerate(pairwise(operations)):
        rises = one.kind == "activation" and one.settings["function"] in RISING
        if rises and "max_pool" in pool.kind and program.readers(number + 1) == [number + 1]:
            first = replace(pool, reads=one.reads)
            operations[number : number + 2] = first, replace(one, reads=(number + 1,), shape=pool.shape)
    return replace(program, operations=tuple(operations))


def _live(program: Program) -> set[int]:
    """Numbers of the values that the result is made of."""
    live = {program.result}
    for number in range(len(program.operations) - 1, -1, -1):
        if number + 1 in live:
            live.update(program.operations[number].reads)
    return live


def _worth_listing(program: Program, live: set[int], flat: np.ndarray) -> bool:
    """Whether points are mostly zero, and all that reads them are linear layers, perhaps after a flattening."""
    if np.count_nonzero(flat) > MOSTLY_ZERO * flat.size:
        return False
    values = {0}
    for number, one in enumerate(program.operations):
        if number + 1 in live and values & set(one.reads):
            if one.kind in ("flatten", "reshape", "rest"):
                values.add(number + 1)
            elif one.kind != "linear":
                return False
    return program.result not in values


def _plan_gradients(b: Builder, result: Value) -> None:
    """Say for each input, the last operation first, whether its gradient is written, added to, or not needed."""
    written = {result.root}
    for op, reads, output in reversed(list(zip(b.ops, b.reads, b.outputs, strict=True))):
        for value, column in zip(reads, (passes.NEEDS, passes.NEEDS_SECOND), strict=False):
            if value.of_points:
                continue
            op[column] = 2 if value.root in written and value.root != output.root else 1
            written.add(value.root)
