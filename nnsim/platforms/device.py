"""The platform for GPUs: steps in torch, of which the host learns nothing before a block of them is done.

A host that asks for a number waits until the device has done all that it was told before, and the device then waits for
the host. So deposits, increments, the look for NaN, and frames stay on the device for a block of steps. Where nothing
in a step depends on its number, it is captured as a CUDA graph, whose launch costs as much as that of one operation.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nnsim.errors import DivergedError, first_line
from nnsim.grid.deposits import LEARNT, numbers_follow_tables
from nnsim.platforms.obstacles import follows_learning, unknown
from nnsim.platforms.reference import check_finite, not_finite
from nnsim.program import (
    Chain,
    Confine,
    Diffuse,
    DiffuseWithMemory,
    DiffusionHeat,
    Drift,
    ExtendedEnergy,
    Forces,
    Kick,
    KineticEnergy,
    LossForces,
    Momentum,
    Operation,
    OrnsteinUhlenbeck,
    Repeat,
    Scheduled,
    execute,
)
from nnsim.protocols import CollectiveVariable, Platform
from nnsim.running.film import NO_FILM, Film, Filmed, Numbers, numbers_of

if TYPE_CHECKING:
    from nnsim.forcefield import ForceField
    from nnsim.protocols import Bias, Observable
    from nnsim.simulation import Simulation
    from nnsim.state import State

MOST_STEPS = 1000  # of a block, whose increments are known before
_FIELDS = ("positions", "velocities", "forces", "energy", "bias_energy", "cvs")


class DevicePlatform(Platform):
    """Integrators that are programs, for any system, with biases that native code knows."""

    name = "device"
    compiled = True  # not compiled, but as much faster than single steps

    @classmethod
    def obstacle(cls, simulation: Simulation) -> str | None:
        """Why this simulation cannot run here, or None if it can."""
        if simulation.device.type == "cpu":
            return "it is for GPUs, and the device is the CPU"
        return obstacle(simulation)

    @classmethod
    def concerns(cls, simulation: Simulation) -> bool:
        """Whether the simulation is on a GPU."""
        return simulation.device.type != "cpu"

    def attach(self, simulation: Simulation) -> None:
        """Take over a simulation, with tables and box as code on the device takes them."""
        super().attach(simulation)
        self.device = simulation.device
        self.force_field.system.box.everywhere()
        for bias in self.force_field.biases:
            if bias.native in LEARNT:
                bias.grid.prepare(simulation.device, compiled=False)
                bias.kernel.prepare(simulation.device, compiled=False)
        self._steps: _Steps | None = None
        self._program: tuple[Operation, ...] = ()

    def summary(self) -> str:
        """In some words, how the steps are made."""
        return f"device: blocks of steps in torch on {self.device.type}"

    def filmed(self, things: Sequence[Observable]) -> Sequence[Observable]:
        """Collective variables; other observables may ask the biases, which know of deposits after a block only."""
        return [one for one in things if CollectiveVariable in type(one).__mro__]

    def advance(self, state: State, steps: int) -> State:
        """`steps` steps of all walkers, with what the biases learn."""
        return self.film(state, steps, NO_FILM)

    def film(self, state: State, steps: int, film: Film) -> State:
        """The same, keeping frames."""
        self._program = tuple(self.integrator.program(self.force_field))  # with its present settings
        self._steps = _Steps(self._program, self.force_field, state, self._steps)
        end = state.step + steps
        while state.step < end:
            self._block(state, min(end - state.step, MOST_STEPS), film)
        return state

    def _block(self, state: State, steps: int, film: Film) -> None:
        """At most so many steps, as many as are known at once."""
        assert self._steps is not None
        force_field = self.force_field
        exchanges = [bias for bias in force_field.biases if bias.native == "exchange"]
        for bias in exchanges:
            steps = min(steps, bias.every - state.step % bias.every)
        steps = 1 if follows_learning(self.integrator) else steps
        learnt = [bias for bias in force_field.biases if bias.native in LEARNT]
        learners = [_Learner(bias, force_field.columns_of(bias), state) for bias in learnt]
        steps = film.within(state.step, steps, 2 * state.positions.nbytes) if film.every else steps
        steps = min([steps, *(one.plan_steps(steps) for one in learners)])
        still = [bias for bias in force_field.biases if bias.native not in (*LEARNT, "exchange")]
        frames = _Frames(film, learners, [bias for bias in still if bias.moving])
        bad = torch.full((), -1, device=state.positions.device)
        for _ in range(steps):
            self._steps.make(state)
            bad = torch.where((bad < 0) & not_finite(state), state.step, bad)
            for one in learners:
                one.deposit(state.cvs, state.step)
            for bias in still:
                bias.update(state.cvs[:, force_field.columns_of(bias)], state.step)
            frames.keep(state, force_field)
        failed = int(bad)  # here the host waits
        numbers = frames.take_account(force_field.biases, state.step, failed)
        columns = [(bias, force_field.columns_of(bias)) for bias in exchanges if failed < 0]
        changed = [bias.update(state.cvs[:, own], state.step) for bias, own in columns]
        if any(changed):
            self.integrator.refresh(state, force_field)
            self._steps.settle(state)
            frames.replace_last(state)
        frames.develop(state, numbers, force_field.biases)
        if failed >= 0:
            state.step = failed
            check_finite(state)
            raise DivergedError(f"step {failed}: a walker became NaN or infinite; use a smaller time step")


def obstacle(simulation: Simulation) -> str | None:
    """Why a simulation cannot run in blocks, whatever its device; None if it can."""
    integrator, force_field = simulation.integrator, simulation.force_field
    if not integrator.is_program:
        return f"{type(integrator).__name__} has a step of its own, and no program"
    if force_field.slow:
        return "a bias that is evaluated every few steps is not made in blocks"
    for bias in force_field.biases:
        found = unknown(f"the bias {bias.name!r} ({type(bias).__name__})", bias, bias.native)
        if found or bias.native == "kernels":
            return found or f"the bias {bias.name!r} ({type(bias).__name__}) is not made in blocks"
        if bias.native in LEARNT and bias.shared:
            return f"the bias {bias.name!r} is shared with others"
    return None


class _Steps:
    """Steps of a program, in tensors that stay where they are; on a GPU as a graph, where one can be captured."""

    def __init__(
        self, program: tuple[Operation, ...], force_field: ForceField, state: State, before: _Steps | None
    ) -> None:
        self._program, self._force_field = program, force_field
        self._graph: torch.cuda.CUDAGraph | None = None
        self._fixed, self._tables = _tensors(state), _places(force_field)
        if before is not None and before._serves(self):
            self._program, self._graph = before._program, before._graph  # whose numbers the graph goes by
        biases = force_field.biases
        changes = any(bias.moving or bias.native == "slope" for bias in biases) or _depends_on_step(program)
        self._capture = state.positions.is_cuda and not changes and self._graph is None

    def _serves(self, other: _Steps) -> bool:
        """Whether a graph of this serves another: all tensors are where they were, and all settings what they were."""
        places = [{name: value.data_ptr() for name, value in one._fixed.items()} for one in (self, other)]
        return places[0] == places[1] and self._tables == other._tables and _alike(self._program, other._program)

    def make(self, state: State) -> None:
        """One step."""
        if self._graph is not None:
            self._graph.replay()
            state.step += 1
            return
        self._plainly(state)
        if self._capture:
            self._capture = False
            self._captured(state)

    def _plainly(self, state: State) -> None:
        """By the operations."""
        execute(self._program, state, self._force_field)
        self.settle(state)

    def settle(self, state: State) -> None:
        """Bring what is new to where it was."""
        for name, value in _tensors(state).items():
            fixed = self._fixed.setdefault(name, value)
            if value is not fixed:
                fixed.copy_(value)
                _put(state, name, fixed)

    def _captured(self, state: State) -> None:
        """Capture a step, which is not made thereby; first of a copy, whose generator may be lost in the attempt."""
        try:
            copied = state.clone()
            _Steps(self._program, self._force_field, copied, None)._record(copied)
            self._graph = self._record(state)
        except RuntimeError as error:  # of many kinds: then it stays with launches of single operations
            line = "the steps are launched operation by operation, since they cannot be captured as a graph (%s)"
            logging.getLogger("nnsim").info(line, first_line(error))
            for name, fixed in self._fixed.items():
                _put(state, name, fixed)

    def _record(self, state: State) -> torch.cuda.CUDAGraph:
        step, graph = state.step, torch.cuda.CUDAGraph()
        graph.register_generator_state(state.generator)
        with torch.cuda.graph(graph):
            self._plainly(state)
        state.step = step
        return graph


def _places(force_field: ForceField) -> dict[str, int]:
    """Where all tensors of the biases are."""
    return {
        f"{bias.name}.{name}": value.data_ptr()
        for bias in force_field.biases
        for name, value in vars(bias).items()
        if isinstance(value, Tensor)
    }


def _alike(one: Any, other: Any) -> bool:
    """Whether two programs, or what is in them, are the same to the bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple):
        return len(one) == len(other) and all(_alike(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Operation):
        return _alike(tuple(vars(one).values()), tuple(vars(other).values()))
    return bool(one == other)


def _tensors(state: State) -> dict[str, Tensor]:
    """All tensors of a state by name."""
    heat = {} if state.heat is None else {"heat": state.heat}
    return {**{name: getattr(state, name) for name in _FIELDS}, **state.integrator_state, **heat}


def _put(state: State, name: str, value: Tensor) -> None:
    """Put a tensor in its place."""
    if name in _FIELDS or name == "heat":
        setattr(state, name, value)
    else:
        state.integrator_state[name] = value


# Operations that do the same at all steps, and ask the host for nothing.
_ALWAYS_THE_SAME = (
    *(Kick, Drift, OrnsteinUhlenbeck, Forces, LossForces, KineticEnergy, Momentum, Confine, Diffuse),
    *(DiffuseWithMemory, DiffusionHeat, Chain, ExtendedEnergy),
)


def _depends_on_step(operations: Sequence[Operation]) -> bool:
    """Whether any operation may do something else at other steps."""
    for one in operations:
        if isinstance(one, Repeat):
            if _depends_on_step(one.operations):
                return True
        elif type(one) not in _ALWAYS_THE_SAME or any(
            isinstance(value, Scheduled) or (name == "batches" and value is not None)
            for name, value in vars(one).items()
        ):
            return True
    return False


class _Learner:
    """A bias whose deposits are made and counted on the device."""

    def __init__(self, bias: Any, columns: Any, state: State) -> None:
        self.bias, self._columns, self._walkers = bias, columns, state.walkers
        self._device = state.positions.device
        self.made, self.outside = torch.zeros(2, dtype=torch.int64, device=self._device).unbind()
        self.last = torch.zeros((), dtype=torch.float64, device=self._device)

    def plan_steps(self, steps: int) -> int:
        """For how many of the next steps the deposits are known."""
        plan = self.bias.deposit_plan(steps, self._walkers)
        self._pace, self._tempering = plan.pace, plan.tempering
        self._heights = torch.from_numpy(np.asarray(plan.heights, dtype=np.float64)).to(self._device)
        return int(plan.steps)

    def deposit(self, cvs: Tensor, step: int) -> None:
        """A deposit of each walker at cvs [W, k], if the step has one."""
        if not self._pace or step % self._pace:
            return
        s, bias = cvs[:, self._columns], self.bias
        place = self.made.clamp(max=len(self._heights) - 1).view(1)
        heights = self._heights.index_select(0, place).expand(len(s))
        if self._tempering:  # of what V is before any of them is made
            heights = heights * torch.exp(-bias.energy(s, step) / self._tempering)
        inside = bias.grid.inside(s)
        bias.kernel.deposit_each_(bias.potential, bias.visits, s, heights, inside)
        count = inside.sum()
        self.made += count
        self.outside += len(s) - count
        mean = torch.where(inside, heights, 0.0).sum() / count.clamp(min=1)
        self.last = torch.where(count > 0, mean, self.last)

    def counts(self) -> Tensor:
        """Deposits made and left out so far, and the mean height of the latest, [3]."""
        return torch.stack([self.made.double(), self.outside.double(), self.last])


@dataclass
class _Frames:
    """Frames on the device, and what the biases had learnt at each."""

    film: Film
    learners: list[_Learner]
    moving: list[Any]
    steps: list[int] = field(default_factory=list)
    rows: list[dict[str, Tensor]] = field(default_factory=list)
    values: list[dict[str, Tensor]] = field(default_factory=list)
    learnt: list[list[Tensor]] = field(default_factory=list)
    tables: list[list[tuple[Tensor, Tensor]]] = field(default_factory=list)
    work: list[list[tuple[Tensor, Tensor]]] = field(default_factory=list)

    @torch.no_grad()
    def keep(self, state: State, force_field: ForceField) -> None:
        """A frame, if the step has one."""
        film, step = self.film, state.step
        if not film.every or step % film.every:
            return
        names = ["energy", "bias_energy", "cvs"]
        names += ["positions"] if film.positions_every and step % film.positions_every == 0 else []
        names += ["velocities"] if film.velocities_every and step % film.velocities_every == 0 else []
        kinetic = state.integrator_state.get("kinetic_energy")
        self.steps.append(step)
        self.rows.append({name: getattr(state, name).clone() for name in names})
        if kinetic is not None:
            self.rows[-1]["kinetic_energy"] = kinetic.clone()
        wanted = bool(film.things_every) and step % film.things_every == 0
        evaluation = force_field.evaluate(state.positions) if wanted else None
        self.values.append(
            {one.name: torch.as_tensor(one.observe(state, evaluation)) for one in film.things} if evaluation else {}
        )
        self.learnt.append([one.counts() for one in self.learners])
        follow = [one.bias for one in self.learners if numbers_follow_tables(one.bias)]
        self.tables.append([(bias.potential.clone(), bias.visits.clone()) for bias in follow])
        self.work.append([(bias.work.clone(), bias.last_cvs.clone()) for bias in self.moving])

    def take_account(self, biases: Sequence[Bias], end: int, failed: int) -> list[Numbers | None]:
        """Let the biases know of the deposits; what they said at the good frames before step `end`."""
        good = sum(failed < 0 or step < failed for step in self.steps)
        numbers: list[Numbers | None] = [None] * good
        follow = [one.bias for one in self.learners if numbers_follow_tables(one.bias)]
        own = [(bias.potential, bias.visits) for bias in follow]
        present = [(bias.work, bias.last_cvs) for bias in self.moving]
        before = [np.zeros(3)] * len(self.learners)
        for frame in range(good if self.film.numbers_every else 0):
            if self.steps[frame] % self.film.numbers_every or self.steps[frame] == end:
                continue
            before = self._tell([one.cpu().numpy() for one in self.learnt[frame]], before)
            for bias, (potential, visits) in zip(follow, self.tables[frame], strict=True):
                bias.potential, bias.visits = potential, visits
            for bias, work in zip(self.moving, self.work[frame], strict=True):
                bias.take_work(*work)
            numbers[frame] = numbers_of(biases)
        for bias, (potential, visits) in zip(follow, own, strict=True):
            bias.potential, bias.visits = potential, visits
        for bias, work in zip(self.moving, present, strict=True):
            bias.take_work(*work)
        self._tell([one.counts().cpu().numpy() for one in self.learners], before)
        return numbers

    def _tell(self, counts: list[np.ndarray], before: list[np.ndarray]) -> list[np.ndarray]:
        for one, now, then in zip(self.learners, counts, before, strict=True):
            made, outside = int(now[0] - then[0]), int(now[1] - then[1])
            if made or outside:
                one.bias.take_account(made, outside, float(now[2]))
        return counts

    def replace_last(self, state: State) -> None:
        """Of the present step, after a bias has changed at once."""
        if self.steps and self.steps[-1] == state.step:
            self.rows[-1] |= {name: getattr(state, name).clone() for name in ("energy", "bias_energy", "cvs")}

    def develop(self, state: State, numbers: list[Numbers | None], biases: Sequence[Bias]) -> None:
        """Put the good frames into the film."""
        good, film = len(numbers), self.film
        if not good:
            return
        if self.steps[good - 1] == state.step and film.numbers_every and state.step % film.numbers_every == 0:
            numbers[-1] = numbers_of(biases)
        names = dict.fromkeys(name for row in self.rows for name in row)
        rows = {name: _spread([row.get(name) for row in self.rows[:good]]) for name in names}
        nothing = torch.zeros((good, 0))
        film.frames.append(
            Filmed(
                np.array(self.steps[:good]),
                positions=rows.get("positions", nothing),
                velocities=rows.get("velocities", nothing),
                energy=rows["energy"],
                bias_energy=rows["bias_energy"],
                cvs=rows["cvs"],
                kinetic_energy=rows.get("kinetic_energy"),
                numbers=numbers,
                values={one.name: _spread([row.get(one.name) for row in self.values[:good]]) for one in film.things},
            )
        )


def _spread(values: list[Tensor | None]) -> Tensor:
    """Values [T, ...], with nothing where none was asked for."""
    known = next((one for one in values if one is not None), None)
    if known is None:
        return torch.zeros((len(values), 0))
    return torch.stack([torch.zeros_like(known) if one is None else one for one in values]).cpu()
