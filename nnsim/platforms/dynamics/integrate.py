"""An integrator's program as arrays: its operations by number, and the numbers that they need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from nnsim import program as of
from nnsim.platforms.dynamics import operations as op
from nnsim.platforms.dynamics import structures as to
from nnsim.program.operation import FromState, Number, Operation, Repeat, Scheduled

# Number of each operation; the names of its numbers, in the order in which the compiled function takes them; the name
# of its masses or mobilities; how many draws of noise it takes.
CODES: dict[type[Operation], tuple[int, tuple[str, ...], str | None, int]] = {
    of.Kick: (op.KICK, ("dt",), "masses", 0),
    of.Drift: (op.DRIFT, ("dt",), None, 0),
    of.OrnsteinUhlenbeck: (op.ORNSTEIN_UHLENBECK, ("decay", "kT"), "masses", 1),
    of.KineticEnergy: (op.KINETIC, (), "masses", 0),
    of.Diffuse: (op.DIFFUSE, ("kT",), "mobility", 1),
    of.DiffuseWithMemory: (op.DIFFUSE_MEMORY, ("kT", "kT"), "mobility", 1),
    of.DiffusionHeat: (op.DIFFUSION_HEAT, (), "mobility", 0),
    of.Momentum: (op.MOMENTUM, ("rate", "momentum", "nesterov", "weight_decay"), None, 0),
    of.Moments: (op.MOMENTS, ("rate", "beta1", "beta2", "weight_decay"), "eps", 0),
    of.Confine: (op.CONFINE, (), None, 0),
    of.Forces: (op.FORCES, (), None, 0),
    of.LossForces: (op.LOSS_FORCES, (), None, 0),
    of.Chain: (op.CHAIN, ("time", "kT", "substeps"), "masses", 0),
    of.ExtendedEnergy: (op.EXTENDED, ("kT",), "masses", 0),
    of.Save: (op.SAVE, (), None, 0),
    of.DrawMove: (op.DRAW, ("dt", "jitter"), None, 0),
    of.Accept: (op.ACCEPT, ("kT",), "masses", 0),
}
SLOTS = 4
FIXED, FROM_TIME_STEP = -1, -2


def flat(operations: Iterable[Operation]) -> list[Operation]:
    """All operations one after the other, with those that are repeated as often as they are."""
    found: list[Operation] = []
    for one in operations:
        found += one.times * flat(one.operations) if isinstance(one, Repeat) else [one]
    return found


def unknown_operation(operations: Iterable[Operation]) -> str | None:
    """Name of the first operation that has no compiled code; None if there is none."""
    known = (*CODES, of.Shuffle)
    for one in flat(operations):
        if type(one) not in known:
            return type(one).__name__
        if any(isinstance(value, FromState) and value.name != "time_step" for value in vars(one).values()):
            return f"{type(one).__name__} with a number of the state"
        array = CODES[type(one)][2] if type(one) in CODES else None
        if array is not None and isinstance(vars(one).get(array), Scheduled):
            return f"{type(one).__name__} with a {array} that changes from step to step"
    return None


class Compiled:
    """A program for the compiled step.

    Attributes:
        arrays: what the step goes by.
        shuffle: the operation that orders the train points, or None; it is done outside.
        batches: of the operation that takes mini-batches, or None.
        trains: whether the forces are those of the train loss alone.
        codes: numbers of all operations.
        draws: how many times a step draws noise.
    """

    def __init__(self, operations: Sequence[Operation], walkers: int, n: int) -> None:
        every = flat(operations)
        self.shuffle = next((one for one in every if isinstance(one, of.Shuffle)), None)
        listed = [one for one in every if not isinstance(one, of.Shuffle)]
        evaluating: list[Any] = [one for one in listed if isinstance(one, (of.Forces, of.LossForces))]
        self.batches = next((one.batches for one in evaluating if one.batches is not None), None)
        self.trains = any(isinstance(one, of.LossForces) for one in listed)
        self.codes = [CODES[type(one)][0] for one in listed]
        self._columns: list[tuple[Callable[[int], Any], int]] = []  # of the schedule, and how many steps before
        self._walkers = walkers
        numbers = np.zeros((len(listed), SLOTS, walkers))
        source = np.full((len(listed), SLOTS), FIXED, dtype=np.int64)
        draws, drawn = np.full(len(listed), -1, dtype=np.int64), 0
        table = _Table(walkers, n)
        place = np.zeros((len(listed), 3), dtype=np.int64)
        for o, one in enumerate(listed):
            _, names, array, noise = CODES[type(one)]
            for slot, name in enumerate(names):
                before = int(isinstance(one, of.DiffuseWithMemory) and slot == 1)
                numbers[o, slot], source[o, slot] = self._number(_of(one, name), before)
            if array is not None:
                place[o] = table.place(_of(one, array))
            if noise:
                draws[o], drawn = drawn, drawn + 1
        self.draws = drawn
        inertia, freedom = _chains(listed, walkers)
        codes = np.array(self.codes, dtype=np.int64)
        self.arrays = to.Program(
            codes, draws, _groups(self.codes), numbers, source, table.flat(), place, inertia, freedom,
            not {op.CHAIN, op.SAVE, op.ACCEPT}.intersection(self.codes),
        )  # fmt: skip

    def evaluation(self) -> to.Program:
        """Of all operations only that which computes the forces."""
        o = next(o for o, code in enumerate(self.codes) if code in (op.FORCES, op.LOSS_FORCES))
        rows = {
            name: getattr(self.arrays, name)[o : o + 1] for name in ("codes", "draws", "numbers", "source", "array")
        }
        return self.arrays._replace(groups=np.array([0, 1]), **rows)

    def _number(self, value: Number, before: int) -> tuple[Any, int]:
        """A number for each walker, and where it comes from."""
        if isinstance(value, Scheduled):
            self._columns.append((value.at, before))
            return 0.0, len(self._columns) - 1
        if isinstance(value, FromState):
            return value.factor, FROM_TIME_STEP
        return _each(value, self._walkers), FIXED

    def schedule(self, step: int, steps: int) -> np.ndarray:
        """The scheduled numbers of the steps after `step`, [steps, columns, W]."""
        table = np.zeros((steps if self._columns else 0, len(self._columns), self._walkers))
        for k in range(len(table)):
            for column, (at, before) in enumerate(self._columns):
                table[k, column] = _each(at(step + k + 1 - before), self._walkers)
        return table


class _Table:
    """Masses and mobilities, each kind once, flat."""

    def __init__(self, walkers: int, n: int) -> None:
        self._shape, self._known, self._parts, self._size = (walkers, n), {}, [np.zeros(0)], 0  # type: ignore[var-annotated]  # fmt: skip

    def place(self, values: Any) -> tuple[int, int, int]:
        """Where they begin, and the steps from walker to walker and from parameter to parameter."""
        numbers = (
            values.detach().cpu().double().numpy() if isinstance(values, Tensor) else np.array(values, dtype=float)
        )
        numbers = numbers.reshape((1,) * (2 - numbers.ndim) + numbers.shape)
        steps = (numbers.shape[1] if numbers.shape[0] > 1 else 0), (1 if numbers.shape[1] > 1 else 0)
        key = numbers.shape, numbers.tobytes()
        if key not in self._known:
            self._known[key] = self._size
            self._parts.append(numbers.reshape(-1))
            self._size += numbers.size
        return self._known[key], *steps

    def flat(self) -> np.ndarray:
        """All of them."""
        return np.concatenate(self._parts)


def _of(one: Any, name: str) -> Any:
    """A number of an operation by its name."""
    return one.betas[int(name[-1]) - 1] if name.startswith("beta") else vars(one)[name]


def _each(value: Any, walkers: int) -> np.ndarray:
    """A number, or one for each walker [W, 1] or [W], as [W]."""
    numbers = value.detach().cpu().double().numpy().reshape(-1) if isinstance(value, Tensor) else np.float64(value)
    return np.broadcast_to(numbers, walkers)


def _chains(operations: list[Operation], walkers: int) -> tuple[np.ndarray, np.ndarray]:
    """Inertia and degrees of freedom of the thermostats, [W, chain]."""
    chain = next((one for one in operations if isinstance(one, of.Chain)), None)
    if chain is None:
        return np.zeros((walkers, 0)), np.zeros((walkers, 0))
    found = [one.detach().cpu().double().numpy() for one in (chain.inertia, chain.freedom)]
    found = [one.reshape(-1, one.shape[-1]) for one in found]
    inertia, freedom = (np.ascontiguousarray(np.broadcast_to(one, (walkers, one.shape[-1]))) for one in found)
    return inertia, freedom


def _groups(codes: list[int]) -> np.ndarray:
    """First operation of each group: those that act parameter by parameter go together, the others are alone."""
    begins = [o for o, code in enumerate(codes) if o == 0 or code >= op.FORCES or codes[o - 1] >= op.FORCES]
    return np.array([*begins, len(codes)], dtype=np.int64)
