"""A simulation as arrays, and the threads that make its steps."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nnsim.errors import DivergedError
from nnsim.grid.deposits import NOW_AND_THEN
from nnsim.platforms.dynamics import assemble, forces, variables
from nnsim.platforms.dynamics import operations as op
from nnsim.platforms.dynamics import step as compiled_step
from nnsim.platforms.dynamics import structures as to
from nnsim.platforms.dynamics.biases import LearntGrids, Restrained
from nnsim.platforms.dynamics.integrate import Compiled
from nnsim.platforms.dynamics.kept import Kept
from nnsim.platforms.dynamics.network import blas, losses, passes
from nnsim.platforms.dynamics.network.indirect import Holding
from nnsim.platforms.dynamics.threads import alone, announced, single_blas
from nnsim.platforms.obstacles import follows_learning, unknown_cv
from nnsim.platforms.reference import check_finite
from nnsim.protocols import CollectiveVariable
from nnsim.random.streams import WALKERS, Purpose
from nnsim.running.film import NO_FILM, Film

if TYPE_CHECKING:
    from nnsim.forcefield import ForceField
    from nnsim.platforms.native import TracedNetwork
    from nnsim.protocols import Integrator
    from nnsim.state import State

BOXES = {"open": op.OPEN, "reflecting": op.REFLECTING, "periodic": op.PERIODIC}


class Team:
    """Threads, each with walkers of its own and room for their work."""

    def __init__(self, integrator: Integrator, force_field: ForceField, state: State, threads: int) -> None:
        self.force_field, self.walkers = force_field, state.walkers
        n = state.positions.shape[1]
        system: Any = force_field.system
        self.integrator, self._size = integrator, n
        self._follow_settings()
        traced: TracedNetwork = system.traced_network()
        network, tables = assemble.network_of(traced, n)
        points = assemble.points_of(traced, tables)
        batches = self.compiled.batches is not None
        loss = traced.loss_factor != 0 or (self.compiled.trains and not batches)
        gradients = [force_field.smooth.get(cv.name, False) for cv in force_field.cvs]
        quantities, cvs, number = assemble.quantities_of(traced, list(force_field.cvs), gradients, loss, not batches)
        self.grids = LearntGrids(force_field, self.walkers)
        self.restrained = Restrained(force_field, self.walkers)
        potential = to.Potential(traced.loss_factor, traced.prior, number)
        self._traced = traced
        self._compiled = False
        self._known_things: dict[int, tuple[Any, bool]] = {}  # by identity, with the things, so that those stay alive
        self._static = network, points, quantities, cvs, potential
        count = min(threads, self.walkers)
        self.shares = [range(t * self.walkers // count, (t + 1) * self.walkers // count) for t in range(count)]
        make = partial(assemble.batch_of, traced, tables, points, self.compiled.batches)
        self._way = forces.OF_LOSS if self.compiled.trains else forces.OF_BATCH if batches else forces.BIASED
        self.batches = [make() for _ in self.shares]
        widths = [*points.width.tolist(), *self.batches[0].points.width.tolist()]
        wanted = self.batches[0].quantities if batches else quantities
        self.scratch = [assemble.scratch_of(traced, tables, widths, n, wanted, cvs) for _ in self.shares]
        self.box = _box(system.box, n)
        numbers = np.float32 if traced.single else np.float64
        kinds = {int(kind) for kind in network.ops[:, passes.KIND]}
        single_blas()
        with announced():
            of_losses = losses.addresses(numbers, points.kind)
            of_parts = passes.addresses(kinds, numbers)
            self.places = to.Places(blas.addresses(), *of_parts, of_losses, alone(1, np.int64), alone(1, np.int64))
        self.between: list[Any] = [bias for bias in force_field.biases if bias.native in NOW_AND_THEN]
        streams = state.generator
        first = np.uint64(streams.first_walker)
        of_purpose = [first + np.uint64(WALKERS * purpose) for purpose in (Purpose.NOISE, Purpose.MOVE)]
        self.random = np.uint64(streams.key), *of_purpose
        self.kept = Kept(force_field, traced, self.grids, self.restrained, count)
        self.pool = ThreadPoolExecutor(max(count - 1, 1))  # the calling thread takes a share itself

    # ------------------------------------------------------------------ what is recorded

    def known(self, things: Sequence[Any]) -> list[Any]:
        """Those that are losses or accuracies of a split."""
        for one in things:
            if id(one) not in self._known_things:
                self._known_things[id(one)] = one, knows(one)
        return [one for one in things if self._known_things[id(one)][1]]

    def observe(self, state: State, things: Sequence[Any]) -> dict[str, Tensor]:
        """The values [W] of those that are known."""
        known = self.known(things)
        if not known:
            return {}
        quantities, cvs, sums = self.kept.wanted(known)
        network, points = self._static[:2]
        values = np.zeros((len(known), self.walkers))
        variables.observe(
            state.positions.numpy(), network, points, quantities, cvs, self.scratch[0], sums[0], self.places, values
        )
        return {one.name: torch.from_numpy(row) for one, row in zip(known, values, strict=True)}

    # ------------------------------------------------------------------ steps

    def advance(self, state: State, steps: int, film: Film = NO_FILM) -> None:
        """At most `steps` steps, as many as are known at once, some of them kept as frames."""
        if self.grids.moved:
            self.grids.join()
        if any(self._settings.get(name, self) is not value for name, value in vars(self.integrator).items()):
            self._follow_settings()
        steps = self.kept.within(film, state, self._known(state, steps))
        deposits, steps = self.grids.plan(steps)
        self._shuffle(state)
        begin, kept = state.step, self.kept.room(film, state, film.count(state.step, steps))
        made = self._call(state, steps, self.compiled.arrays, deposits, kept, film)
        failed = [-count for count in made if count < 0]
        state.step += min([steps, *failed])
        good = film.count(begin, min(failed) - 1 if failed else steps)
        numbers = self.kept.take_account(film, kept, deposits, state.step, good)
        self.restrained.give_back()
        state.generator.taken(Purpose.NOISE, begin + steps, self.compiled.draws)
        refreshed = not failed and self._learn(state)
        self.kept.develop(film, kept, state, numbers, refreshed)
        if failed:
            check_finite(state)
            raise DivergedError(f"step {state.step}: a walker became NaN or infinite; use a smaller time step")

    def _learn(self, state: State) -> bool:
        """Let those biases that change now and then learn from the state; whether forces must be computed anew."""
        # all of them, and no other bias: those have learnt in the compiled step
        if any([one.update(state.cvs[:, self.force_field.columns_of(one)], state.step) for one in self.between]):  # noqa: C419
            self.refresh(state)
            return True
        return False

    def _follow_settings(self) -> None:
        """The program of the integrator with its present settings, which a user may change between two runs."""
        self._settings = dict(vars(self.integrator))
        self.compiled = Compiled(list(self.integrator.program(self.force_field)), self.walkers, self._size)

    def refresh(self, state: State) -> None:
        """Energies, CVs and forces anew at the same positions."""
        only = self.compiled.evaluation()
        state.step -= 1
        self._call(state, 1, only, self.grids.rest(), self.kept.room(NO_FILM, state, 0), NO_FILM)
        state.step += 1

    def _call(
        self, state: State, steps: int, program: to.Program, deposits: to.Deposits, kept: to.Film, film: Film
    ) -> list[int]:
        """Let each thread make the steps of its walkers; what each made, negative if something is not finite."""
        self.restrained.take()
        learns = bool(deposits.pace.any()) or self.restrained.moving
        learning = to.Learning(deposits, learns and program is self.compiled.arrays)
        walkers = self._walkers(state)
        schedule = self.compiled.schedule(state.step, steps)
        network, points, quantities, cvs, potential = self._static
        problem = network, points, quantities, cvs, potential, self.grids.arrays, self.restrained.arrays
        batch = self._ordered(state)
        team = to.Team(len(self.shares), alone(1, np.int64), alone(1, np.int64))
        own = [kept._replace(sums=sums) for sums in self.kept.wanted(film.things)[2]]

        if not self._compiled:
            self._compile(program, schedule, walkers, problem, learning, batch[0], kept)

        def work(number: int) -> int:
            share = self.shares[number].start, self.shares[number].stop, number
            return int(
                compiled_step.advance(
                    steps, state.step, share, program, schedule, self.random, walkers, self.box,
                    problem, learning, batch[number], own[number], team, self.scratch[number], self.places,
                )
            )  # fmt: skip

        others = [self.pool.submit(work, number) for number in range(1, len(self.shares))]
        with nullcontext() if self._compiled else announced():
            made = [work(0), *(other.result() for other in others)]
        self._compiled = True
        self._take_back(state, walkers)
        return made

    def _compile(
        self,
        program: to.Program,
        schedule: Any,
        walkers: to.Walkers,
        problem: Any,
        learning: to.Learning,
        batch: to.Batch,
        kept: to.Film,
    ) -> None:
        """The parts of a step, for the types of the first call."""
        scratch = self.scratch[0]
        with announced():
            parts = Holding((program, schedule, self.random, walkers, self.box, problem, batch, scratch, self.places))
            self.places = self.places._replace(forces=forces.addresses(self._way, (0, 0, parts)))
            step = compiled_step.addresses(
                program, schedule, self.random, walkers, self.box, problem, learning, batch, kept, scratch, self.places
            )
            self.places = self.places._replace(step=step)

    def _known(self, state: State, steps: int) -> int:
        """For how many steps nothing happens that is done outside: swaps, new kernels, new orders of the points."""
        if follows_learning(self.integrator):
            return 1
        steps = min([steps, *(one.next_update(state.step) - state.step for one in self.between)])
        if self.compiled.shuffle is not None:
            epoch = self.compiled.shuffle.batches.per_epoch
            steps = min(steps, epoch - 1 - state.step % epoch or epoch)
        return steps

    def _shuffle(self, state: State) -> None:
        """The order of the points, if a new epoch begins with the next step."""
        if self.compiled.shuffle is not None:
            state.step += 1
            self.compiled.shuffle.apply(state, self.force_field)
            state.step -= 1

    def _ordered(self, state: State) -> list[to.Batch]:
        """Mini-batches in the present order."""
        if self.compiled.batches is None:
            return self.batches
        order = state.integrator_state["order"].numpy()
        return [one._replace(order=order) for one in self.batches]

    def _walkers(self, state: State) -> to.Walkers:
        """The state as arrays; what does not change in place is new."""
        count, n = state.positions.shape
        own = {name: value.numpy() for name, value in state.integrator_state.items()}
        nothing = np.zeros(0)
        has = self.compiled.codes.__contains__
        kinetic = np.zeros(count)
        if "kinetic_energy" in own:
            kinetic[:] = own["kinetic_energy"]
        extra = own.get("noise", own.get("second_moment"))
        if extra is None:
            extra = np.zeros((3, count, n if has(op.DIFFUSE) else 0), dtype=own_type(state))
        else:
            extra = extra[None]
        none = np.zeros((count, 0, 0))
        saved = n if has(op.SAVE) else 0
        return to.Walkers(
            state.positions.numpy(),
            state.velocities.numpy(),
            state.forces.numpy(),
            state.energy.numpy().copy(),
            state.bias_energy.numpy().copy(),
            np.ascontiguousarray(state.cvs.numpy()).copy(),
            kinetic,
            np.zeros(count),
            nothing if state.heat is None else state.heat.numpy(),
            extra,
            own.get("thermostat_velocities", none),
            own.get("thermostat_positions", none),
            np.zeros((3, count, saved), dtype=own_type(state)),
            np.zeros((count, 2 + state.cvs.shape[1])),
            np.zeros((count, 2)),
            own.get("accepted", np.zeros(count, dtype=np.int64)),
        )

    def _take_back(self, state: State, walkers: to.Walkers) -> None:
        """Numbers that are new go back to the state."""
        state.energy, state.bias_energy = torch.from_numpy(walkers.energy), torch.from_numpy(walkers.bias_energy)
        state.cvs = torch.from_numpy(walkers.cvs)
        own = state.integrator_state
        if "kinetic_energy" in own:
            own["kinetic_energy"] = torch.from_numpy(walkers.kinetic).to(own["kinetic_energy"].dtype)
        if op.EXTENDED in self.compiled.codes:
            own["conserved_quantity"] = torch.from_numpy(walkers.conserved)


def knows(thing: Any) -> bool:
    """Whether an observable is one that the compiled network can compute."""
    return CollectiveVariable in type(thing).__mro__ and unknown_cv(thing) is None


def own_type(state: State) -> Any:
    """Of the positions, in numpy."""
    return state.positions.numpy().dtype


def _box(box: Any, n: int) -> to.Box:
    """Kind and edges of n parameters; those of an open box are not looked at."""
    n = 1 if box.kind == "open" else n
    edges = (edge.double().numpy().reshape(-1) for edge in (box.lower, box.upper))
    lower, upper = (np.ascontiguousarray(np.broadcast_to(edge[:n], n)) for edge in edges)
    tiles = [slice(low, low + op.TILE) for low in range(0, n, op.TILE)]
    alike = [bool((edge[tile] == edge[tile][0]).all()) for tile in tiles for edge in (lower, upper)]
    return to.Box(BOXES[box.kind], lower, upper, np.array(alike).reshape(-1, 2).min(axis=1))
