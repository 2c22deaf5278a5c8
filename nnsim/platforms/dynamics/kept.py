"""Frames that compiled steps keep: room for them, and what the biases said at each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nnsim.grid.deposits import numbers_follow_tables
from nnsim.platforms.dynamics import assemble
from nnsim.platforms.dynamics import structures as to
from nnsim.platforms.dynamics.biases import LearntGrids, Restrained
from nnsim.running.film import NO_FILM, Film, Filmed, Numbers, numbers_of

if TYPE_CHECKING:
    from nnsim.forcefield import ForceField
    from nnsim.platforms.native import TracedNetwork
    from nnsim.protocols import Observable
    from nnsim.state import State


class Kept:
    """The frames of a team of threads."""

    def __init__(
        self,
        force_field: ForceField,
        traced: TracedNetwork,
        grids: LearntGrids,
        restrained: Restrained,
        threads: int,
    ) -> None:
        self._biases, self._traced, self._grids, self._restrained = force_field.biases, traced, grids, restrained
        self._dtype, self._threads = (np.float32 if traced.single else np.float64), threads
        self._tables = any(numbers_follow_tables(bias) for bias in grids.biases)
        self._things: dict[tuple[Observable, ...], tuple[to.Quantities, to.Variables, list[to.Array]]] = {}

    def wanted(self, things: Sequence[Any]) -> tuple[to.Quantities, to.Variables, list[to.Array]]:
        """What observables are made of, and room for the sums of each thread."""
        key = tuple(things)
        if key not in self._things:
            quantities, variables, _ = assemble.quantities_of(self._traced, list(key), [False] * len(key), False, False)
            sums = [assemble.sums_of(quantities, variables) for _ in range(self._threads)]
            self._things[key] = quantities, variables, sums
        return self._things[key]

    def within(self, film: Film, state: State, steps: int) -> int:
        """For how many of the next steps there is room."""
        if film is NO_FILM:
            return steps
        one = self.room(film, state, 1)
        return film.within(state.step, steps, sum(array.nbytes for array in one if isinstance(array, np.ndarray)))

    def room(self, film: Film, state: State, count: int) -> to.Film:
        """Room for so many frames of the steps that come next."""
        walkers, n = state.positions.shape
        quantities, variables, sums = self.wanted(film.things)
        biases = len(self._grids.biases)
        tables = self._grids.arrays.coefficients.size if self._tables and film.numbers_every else 0
        work, springs = self._restrained.arrays.work, self._restrained.arrays.last
        moving = count if self._restrained.moving and film.numbers_every else 0
        return to.Film(
            every=film.every,
            first=state.step // film.every + 1 if film.every else 0,
            positions_every=film.positions_every,
            velocities_every=film.velocities_every,
            values_every=film.things_every,
            positions=np.empty((count if film.positions_every else 0, walkers, n), dtype=self._dtype),
            velocities=np.empty((count if film.velocities_every else 0, walkers, n), dtype=self._dtype),
            energy=np.empty((count, walkers)),
            bias_energy=np.empty((count, walkers)),
            kinetic=np.empty((count, walkers)),
            cvs=np.empty((count, walkers, state.cvs.shape[1])),
            quantities=quantities,
            wanted=variables,
            values=np.empty((count, len(film.things), walkers)),
            counts=np.empty((count, 2, biases), dtype=np.int64),
            last=np.empty((count, biases)),
            coefficients=np.empty((count, tables)),
            visits=np.empty((count, tables), dtype=np.int64),
            work=np.empty((count, len(work) if moving else 0, walkers)),
            springs=np.empty((count, len(springs) if moving else 0, walkers)),
            sums=sums[0],
        )

    def take_account(
        self, film: Film, kept: to.Film, deposits: to.Deposits, end: int, good: int
    ) -> list[Numbers | None]:
        """Let the biases know of the deposits; what they say of themselves at the good frames before step `end`."""
        numbers: list[Numbers | None] = [None] * good
        before = np.zeros((2, len(self._grids.biases)), dtype=np.int64)
        with self._grids.showing():
            for frame in range(good if film.numbers_every else 0):
                step = (kept.first + frame) * kept.every
                if step % film.numbers_every or step == end:
                    continue
                if self._tables:
                    self._grids.show(kept.coefficients[frame], kept.visits[frame])
                made, outside = kept.counts[frame] - before
                self._grids.take_account(deposits, made, outside, kept.last[frame])
                before = kept.counts[frame]
                if kept.work.shape[1]:
                    self._restrained.give(kept.work[frame], kept.springs[frame])
                numbers[frame] = numbers_of(self._biases)
        self._grids.take_account(deposits, deposits.made - before[0], deposits.outside - before[1], deposits.last)
        return numbers

    def develop(self, film: Film, kept: to.Film, state: State, numbers: list[Numbers | None], refreshed: bool) -> None:
        """Put the good frames, as many as there are numbers, into the film; the last may be of the present step."""
        good = len(numbers)
        if not good:
            return
        steps = kept.every * np.arange(kept.first, kept.first + good)
        if steps[-1] == state.step:
            if film.numbers_every and state.step % film.numbers_every == 0:
                numbers[-1] = numbers_of(self._biases)
            if refreshed:  # a bias has changed at once
                kept.energy[good - 1], kept.bias_energy[good - 1] = state.energy.numpy(), state.bias_energy.numpy()
                kept.cvs[good - 1] = state.cvs.numpy()
        kinetic = state.integrator_state.get("kinetic_energy")
        film.frames.append(
            Filmed(
                steps,
                positions=torch.from_numpy(kept.positions[:good]),
                velocities=torch.from_numpy(kept.velocities[:good]),
                energy=torch.from_numpy(kept.energy[:good]),
                bias_energy=torch.from_numpy(kept.bias_energy[:good]),
                cvs=torch.from_numpy(kept.cvs[:good]),
                kinetic_energy=None if kinetic is None else torch.from_numpy(kept.kinetic[:good]).to(kinetic.dtype),
                numbers=numbers,
                values={thing.name: torch.from_numpy(kept.values[:good, j]) for j, thing in enumerate(film.things)},
            )
        )
