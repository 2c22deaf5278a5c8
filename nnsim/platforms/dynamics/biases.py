"""The biases as arrays, which compiled steps read and change, and what the biases are told of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nnsim.grid.deposits import LEARNT
from nnsim.platforms.dynamics import structures as to

if TYPE_CHECKING:
    from nnsim.forcefield import ForceField


class LearntGrids:
    """The grids of all biases that learn, side by side; the biases' own tables become parts of them."""

    def __init__(self, force_field: ForceField, walkers: int) -> None:
        self.biases: list[Any] = [bias for bias in force_field.biases if bias.native in LEARNT]
        columns = {cv.name: column for column, cv in enumerate(force_field.cvs)}
        self._columns = _padded([[columns[cv.name] for cv in bias.cvs] for bias in self.biases], np.int64)
        self._walkers = walkers
        self.join()

    def join(self) -> None:
        """Lay the tables side by side, if they are not, as after a load."""
        sizes = [bias.potential.numel() for bias in self.biases]
        begin = np.concatenate(([0], np.cumsum(sizes)))[:-1].astype(np.int64)
        if len(self.biases) == 1:
            self.biases[0].potential, self.biases[0].visits = (
                table.contiguous() for table in (self.biases[0].potential, self.biases[0].visits)
            )
            coefficients, visits = self.biases[0].potential.view(-1), self.biases[0].visits.view(-1)
        else:
            nothing = torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
            coefficients = torch.cat([nothing[0], *(bias.potential.view(-1) for bias in self.biases)])
            visits = torch.cat([nothing[1], *(bias.visits.view(-1) for bias in self.biases)])
            for bias, first, size in zip(self.biases, begin, sizes, strict=True):
                bias.potential = coefficients[first : first + size].view(bias.grid.shape)
                bias.visits = visits[first : first + size].view(bias.grid.shape)
        self._addresses = self._present()
        grids = [bias.grid for bias in self.biases]
        kernels = [bias.kernel.native_tables for bias in self.biases]
        tables = [grid.native_tables for grid in grids]
        self.arrays = to.Grids(
            self._columns,
            np.array([grid.dimensions for grid in grids], dtype=np.int64),
            begin,
            coefficients.numpy(),
            visits.numpy(),
            lower=_padded([table[0] for table in tables], np.float64),
            upper=_padded([table[1] for table in tables], np.float64),
            inverse=_padded([table[2] for table in tables], np.float64),
            bins=_padded([table[3] for table in tables], np.int64),
            wraps=_padded([table[4] for table in tables], np.bool_),
            strides=_padded([kernel[0] for kernel in kernels], np.int64),
            nodes=_stacked([grid.native_nodes for grid in grids], 2, np.int64),
            indices=_stacked([kernel[1] for kernel in kernels], 3, np.int64),
            weights=_stacked([kernel[2] for kernel in kernels], 3, np.float64),
            widths=_padded([kernel[3] for kernel in kernels], np.int64),
        )

    def _present(self) -> list[int]:
        return [table.data_ptr() for bias in self.biases for table in (bias.potential, bias.visits)]

    @property
    def moved(self) -> bool:
        """Whether a bias has got another table in the meantime."""
        return self._addresses != self._present()

    def plan(self, steps: int) -> tuple[to.Deposits, int]:
        """What the next steps deposit, and for how many steps that is known."""
        plans = [bias.deposit_plan(steps, self._walkers) for bias in self.biases]
        count = len(plans)
        deposits = to.Deposits(
            np.array([plan.pace for plan in plans], dtype=np.int64),
            _padded([plan.heights for plan in plans], np.float64, last=True),
            np.array([plan.tempering for plan in plans], dtype=np.float64),
            np.zeros(count, dtype=np.int64),
            np.zeros(count, dtype=np.int64),
            np.zeros(count),
            np.zeros((count, self._walkers)),
        )
        return deposits, min([steps, *(plan.steps for plan in plans)])

    def rest(self) -> to.Deposits:
        """No deposits."""
        nothing = np.zeros(len(self.biases), dtype=np.int64)
        height, each = np.zeros((len(self.biases), 3)), np.zeros((len(self.biases), self._walkers))
        return to.Deposits(nothing, height, nothing * 0.0, nothing.copy(), nothing.copy(), nothing * 0.0, each)

    def take_account(self, plan: to.Deposits, made: to.Array, outside: to.Array, last: to.Array) -> None:
        """Let the biases know how many deposits by a plan were made and left out, and the latest heights, each [B]."""
        for bias, pace, *numbers in zip(self.biases, plan.pace, made, outside, last, strict=True):
            if pace:
                bias.take_account(int(numbers[0]), int(numbers[1]), float(numbers[2]))

    @contextmanager
    def showing(self) -> Iterator[None]:
        """While it lasts, the biases may show other tables, by `show`."""
        own = [(bias.potential, bias.visits) for bias in self.biases]
        try:
            yield
        finally:
            for bias, (potential, visits) in zip(self.biases, own, strict=True):
                bias.potential, bias.visits = potential, visits

    def show(self, coefficients: to.Array, visits: to.Array) -> None:
        """Let the biases show tables of then, which lie side by side."""
        for bias, first in zip(self.biases, self.arrays.begin, strict=True):
            place = slice(first, first + bias.potential.numel())
            bias.potential = torch.from_numpy(coefficients[place]).view(bias.grid.shape)
            bias.visits = torch.from_numpy(visits[place]).view(bias.grid.shape)


def _padded(rows: list[Any], kind: Any, last: bool = False) -> np.ndarray:
    """Rows of different lengths as an array, at least three long, filled up with zeros or their `last` number."""
    width = max([3, *(len(row) for row in rows)])
    table = np.zeros((len(rows), width), dtype=kind)
    for to_row, row in zip(table, rows, strict=True):
        to_row[: len(row)] = row
        if last:
            to_row[len(row) :] = row[-1]
    return table


def _stacked(tables: list[np.ndarray], axes: int, kind: Any) -> np.ndarray:
    """Arrays of different shapes in one, filled up with zeros."""
    shape = np.max([(0,) * axes, *(table.shape for table in tables)], axis=0)
    stacked = np.zeros((len(tables), *shape), dtype=kind)
    for place, table in zip(stacked, tables, strict=True):
        place[tuple(slice(n) for n in table.shape)] = table
    return stacked


class Restrained:
    """Walls, slopes, umbrellas and kernels as arrays; what umbrellas that move keep is taken and given back."""

    def __init__(self, force_field: ForceField, walkers: int) -> None:
        columns = {cv.name: column for column, cv in enumerate(force_field.cvs)}
        biases: list[Any] = list(force_field.biases)
        walls = [(columns[bias.cvs[0].name], *bias.native) for bias in biases if isinstance(bias.native, tuple)]
        self._sloped = [bias for bias in biases if bias.native in ("slope", "exchange")]
        self._umbrellas = [bias for bias in biases if bias.native == "springs"]
        self._densities = [bias for bias in biases if bias.native == "kernels"]
        self._columns = columns
        springs = [(u, d) for u in range(len(self._umbrellas)) for d in range(len(self._umbrellas[u].cvs))]
        never = 2**62

        def each(what: str) -> np.ndarray:
            rows = [getattr(self._umbrellas[u], what)[:, d].numpy() for u, d in springs]
            return _rows([np.broadcast_to(row, walkers) for row in rows], walkers)

        self.springs, self.walkers = springs, walkers
        self.arrays = to.Restraints(
            np.array(walls, dtype=np.float64).reshape(-1, 5),
            np.zeros((len(self._sloped), walkers)),
            np.array([columns[bias.cvs[0].name] for bias in self._sloped], dtype=np.int64),
            np.array([bias.ramp for bias in self._sloped], dtype=np.float64),
            np.array([columns[self._umbrellas[u].cvs[d].name] for u, d in springs], dtype=np.int64),
            np.array([u for u, _ in springs], dtype=np.int64),
            center=each("center"),
            stiffness=each("stiffness"),
            velocity=each("velocity"),
            period=np.array([self._umbrellas[u].periods[d] or 0.0 for u, d in springs], dtype=np.float64),
            until=np.array([self._umbrellas[u].until or never for u, _ in springs], dtype=np.int64),
            last=np.zeros((len(springs), walkers)),
            work=np.zeros((len(self._umbrellas), walkers)),
            at_end=np.array([self._umbrellas[u].work_at_end for u, _ in springs], dtype=np.float64),
            kernels=_kernels(self._densities, columns, walkers),
        )

    @property
    def moving(self) -> bool:
        """Whether any centre moves."""
        return any(umbrella.moving for umbrella in self._umbrellas)

    def take(self) -> None:
        """Take over slopes, kernels, and work so far."""
        if self._densities:
            self.arrays = self.arrays._replace(kernels=_kernels(self._densities, self._columns, self.walkers))
        for row, bias in zip(self.arrays.slopes, self._sloped, strict=True):
            row[:] = bias.full_slope(self.walkers).numpy()
        for number, (u, d) in enumerate(self.springs):
            if self._umbrellas[u].moving:
                self.arrays.last[number] = self._umbrellas[u].last_cvs[:, d].numpy()
                self.arrays.work[u] = self._umbrellas[u].work.numpy()

    def give_back(self) -> None:
        """Let umbrellas that move know of their work."""
        self.give(self.arrays.work, self.arrays.last)

    def give(self, work: to.Array, last: to.Array) -> None:
        """Let umbrellas that move know of their work, and their CVs at the last step, as in `Restraints`."""
        for u, umbrella in enumerate(self._umbrellas):
            if umbrella.moving:
                rows = [number for number, (owner, _) in enumerate(self.springs) if owner == u]
                umbrella.take_work(torch.from_numpy(work[u].copy()), torch.from_numpy(last[rows].T.copy()))


def _kernels(biases: list[Any], columns: dict[str, int], walkers: int) -> to.Kernels:
    """The kernels of biases of that kind, as they are now."""
    tables = [bias.kernels.numpy() for bias in biases]
    rows = np.zeros((sum(map(len, tables)), 7))
    begin = np.concatenate(([0], np.cumsum([len(table) for table in tables]))).astype(np.int64)
    for first, table in zip(begin, tables, strict=False):
        rows[first : first + len(table), : table.shape[1]] = table
    return to.Kernels(
        rows,
        begin,
        _padded([[columns[cv.name] for cv in bias.cvs] for bias in biases], np.int64),
        np.array([len(bias.cvs) for bias in biases], dtype=np.int64),
        _padded([bias.wraps for bias in biases], np.float64),
        np.array([bias.numbers() for bias in biases], dtype=np.float64).reshape(-1, 5),
        np.zeros((walkers, 3)),
        np.zeros((walkers, 3)),
    )


def _rows(rows: list[np.ndarray], walkers: int) -> np.ndarray:
    return np.array(rows, dtype=np.float64).reshape(-1, walkers)
