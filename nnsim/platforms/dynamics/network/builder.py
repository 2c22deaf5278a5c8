"""A table of operations as it grows, and where values and parameters lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnsim.networks.operations import Place
from nnsim.networks.program import Program
from nnsim.platforms.dynamics.network import passes

COLUMNS = passes.OWN + 18


class Unknown(Exception):
    """What of a network the compiled passes do not know."""


@dataclass
class Value:
    """Where a value lies: its first row, and which other values share its rows."""

    row: int
    shape: tuple[int, ...]
    root: int
    of_points: bool = False

    @property
    def rows(self) -> int:
        """How many it takes."""
        return math.prod(self.shape)


@dataclass
class Builder:
    """The table, and room for what it works on."""

    program: Program
    size: int
    shape: tuple[int, ...]
    full: np.ndarray
    listed: bool
    values: dict[int, Value] = field(default_factory=dict)
    ops: list[list[int]] = field(default_factory=list)
    reads: list[tuple[Value, ...]] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    reals: list[float] = field(default_factory=list)
    lists: list[int] = field(default_factory=list)
    fixed: list[np.ndarray] = field(default_factory=list)
    rows: int = 0
    rooms: list[Callable[[int], int]] = field(default_factory=lambda: [lambda points: 3 * points])

    def place(self, place: Place | None) -> int:
        """Where a tensor begins in theta; -1 for none."""
        if place is None:
            return -1
        if place.at is not None:
            return place.at.start
        numbers = self.program.fixed[place.name].detach().cpu().double().numpy().reshape(-1)
        begin = self.size + sum(len(one) for one in self.fixed)
        self.fixed.append(numbers)
        return begin

    def new(self, shape: tuple[int, ...]) -> Value:
        """Rows for a value of a shape."""
        value = Value(self.rows, shape, self.rows)
        self.rows += math.prod(shape)
        return value

    def list(self, numbers: Any) -> int:
        """Where a list of integers begins."""
        begin = len(self.lists)
        self.lists += [int(one) for one in numbers]
        return begin

    def write(
        self, kind: int, reads: Sequence[Value], output: Value, own: Sequence[int] = (), reals: Sequence[float] = ()
    ) -> Value:
        """One more operation."""
        second = reads[1].row if len(reads) > 1 else 0
        row = [kind, int(reads[0].of_points), reads[0].row, second, output.row, 0, 0, len(self.reals), *own]
        self.ops.append(row + [0] * (COLUMNS - len(row)))
        self.reads.append(tuple(reads))
        self.outputs.append(output)
        self.reals += reals
        return output
