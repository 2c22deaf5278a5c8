"""Recording: what is written down along a run, how often, and where to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import torch

from nnsim.errors import InputError
from nnsim.forcefield import difference
from nnsim.identity.parts import same
from nnsim.protocols import Bias, Observable, Reporter
from nnsim.schedules import setting_at
from nnsim.trajectory.layout import folder_name

if TYPE_CHECKING:
    from nnsim.evaluation import Evaluation
    from nnsim.simulation import Simulation


# Gives a value from the simulation and a lazily made evaluation at its positions.
Read: TypeAlias = "Callable[[Simulation, Callable[[], Evaluation]], torch.Tensor | float]"


class Sink(Protocol):
    """Takes frames: a trajectory on disk, or memory."""

    def append(self, series: str, step: int, time: float, value: np.ndarray) -> None:
        """Add one frame to a series such as `observables/ln_loss_train`."""
        ...


@dataclass(frozen=True)
class Series:
    """One recorded quantity.

    Attributes:
        name: path in the trajectory.
        every: its interval in steps.
        read: gives the value.
        what: what it is, in words.
        thing: the CV or observable, if it is one.
        observed: whether it must be computed for the frame.
    """

    name: str
    every: int
    read: Read
    what: str = "what every run records"
    thing: Any = None
    observed: bool = False


class Recorder(Reporter):
    """Appends each series to the sink at its own interval.

    The first frame of a series is that of step `every`, unless `start` is called at step 0.
    """

    def __init__(self, series: list[Series], sink: Sink) -> None:
        self.series, self.sink = series, sink

    def due(self, step: int) -> int:
        """The next step that is a multiple of the interval of any series."""
        return min(step - step % one.every + one.every for one in self.series)

    def report(self, simulation: Simulation) -> None:
        """Append every series that is due now."""
        self._append(simulation, [one for one in self.series if simulation.state.step % one.every == 0])

    def start(self, simulation: Simulation) -> None:
        """Append every series as it is before the first step, but no snapshots of biases that have learnt nothing."""
        self._append(simulation, [one for one in self.series if "/snapshots/" not in one.name])

    @torch.no_grad()
    def _append(self, simulation: Simulation, series: list[Series]) -> None:
        made: list[Evaluation] = []

        def evaluation() -> Evaluation:
            if not made:
                made.append(simulation.force_field.evaluate(simulation.state.positions))
            return made[0]

        step = simulation.state.step
        things = [one.thing for one in series if one.observed]
        known = simulation.platform.observe(simulation.state, things) if things else {}
        for one in series:
            value = (
                known[one.thing.name] if one.observed and one.thing.name in known else one.read(simulation, evaluation)
            )
            array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.float64(value)
            self.sink.append(one.name, step, step * simulation.integrator.time_step, np.array(array))


class History:
    """A sink in memory: `history["ln_loss_train"]` is the array [T, W] of an observable."""

    def __init__(self) -> None:
        self._frames: dict[str, list[np.ndarray]] = {}
        self._steps: dict[str, list[int]] = {}

    def append(self, series: str, step: int, time: float, value: np.ndarray) -> None:
        """Keep a copy of one frame."""
        self._frames.setdefault(series, []).append(np.array(value))
        self._steps.setdefault(series, []).append(step)

    def _key(self, name: str) -> str:
        for key in (name, f"observables/{name}", f"particles/parameters/{name}"):
            if key in self._frames:
                return key
        raise KeyError(f"{name!r} was not recorded; there is {', '.join(map(repr, self.names)) or 'nothing yet'}")

    @property
    def names(self) -> list[str]:
        """Names of what was recorded."""
        return sorted(key.split("/")[-1] for key in self._frames)

    def __getitem__(self, name: str) -> np.ndarray:
        return np.stack(self._frames[self._key(name)])

    def steps(self, name: str) -> np.ndarray:
        """Steps of the frames of a series, [T]."""
        return np.array(self._steps[self._key(name)])


# Names that readers of a trajectory take for these very quantities, also where a run does not record them, and those
# that exported tables give to columns of their own.
RESERVED = (
    *("potential_energy", "bias_energy", "kinetic_temperature", "kT", "position", "velocity"),
    *("step", "time", "walker", "header"),
)


def standard_series(simulation: Simulation) -> list[Series]:
    """What every run records: CVs, energies, kinetic temperature, the biases' numbers, observables and snapshots.

    Raises:
        InputError: two different things of one name, or a thing that is asked for at two intervals.
    """
    plan = simulation.recording
    found = [
        _observable("potential_energy", plan.every, lambda sim, _: sim.state.energy),
        _observable("bias_energy", plan.every, lambda sim, _: sim.state.bias_energy),
    ]
    asked = {thing.name: every for thing, every in plan.observables}
    for column, cv in enumerate(simulation.force_field.cvs):
        every = asked.get(cv.name, plan.every)
        found.append(_observable(cv.name, every, _cv_column(column), f"the CV {type(cv).__name__} of a bias", cv))
    if "kinetic_energy" in simulation.state.integrator_state:
        found.append(_observable("kinetic_temperature", plan.every, lambda sim, _: sim.kinetic_temperature()))
    kT = simulation.integrator.kT
    if callable(kT):
        found.append(_observable("kT", plan.every, lambda sim, _: setting_at(kT, sim.state.step)))
    for bias in simulation.force_field.biases:
        for key in bias.observables():
            name, what = f"{bias.name}_{key}", f"the number {key!r} of the bias {bias.name!r}"
            found.append(_observable(name, plan.every, _bias_number(bias, key), what))
        for key in bias.tables():
            name, what = f"nnsim/bias/{bias.name}/snapshots/{key}", f"the table {key!r} of the bias {bias.name!r}"
            found.append(Series(name, plan.snapshot_every, _bias_table(bias, key), what))
    for thing, own in plan.observables:
        what = f"the observable {type(thing).__name__}"
        found.append(_observable(thing.name, own, _observed(thing), what, thing, True))
    return _without_repetitions(found)


def _without_repetitions(series: list[Series]) -> list[Series]:
    """Each thing once; what two different things are called alike is refused.

    So are names that differ in their letters' case, or in how their accents are written: on many file systems they are
    one folder.
    """
    found: dict[str, Series] = {}
    for one in series:
        name = one.name.rpartition("/")[2]
        if name in RESERVED and one.thing is not None:
            raise InputError(
                f"Simulation: {one.what} is called {name!r}, which is kept for what runs record themselves; give it "
                "another name"
            )
        known = found.setdefault(folder_name(one.name), one)
        if known is one:
            continue
        if one.thing is None or known.thing is None or known.name != one.name or not same(known.thing, one.thing):
            other = known.name.rpartition("/")[2]
            pair = f"called {name!r}" if other == name else f"called {other!r} and {name!r}, one folder on many disks"
            raise InputError(
                f"Simulation: {known.what} and {one.what} are different, but {pair}; give one of them another name"
                f"{difference(known.thing, one.thing)}"
            )
        if known.every != one.every:
            raise InputError(
                f"Simulation: {name!r} is asked for every {known.every} and every {one.every} steps; leave one out"
            )
    return list(found.values())


def particle_series(simulation: Simulation) -> list[Series]:
    """Positions, in the precision of the network, and velocities."""
    plan, dtype = simulation.recording, simulation.precision.network
    found = []
    every = plan.every if plan.positions_every is None else plan.positions_every
    if every:
        found.append(Series("particles/parameters/position", every, lambda sim, _: sim.state.positions.to(dtype)))
    if plan.velocities_every:
        every = plan.velocities_every
        found.append(Series("particles/parameters/velocity", every, lambda sim, _: sim.state.velocities.to(dtype)))
    return found


def _observable(name: str, every: int, read: Read, *what: Any) -> Series:
    return Series(f"observables/{name}", every, read, *what)


def _cv_column(column: int) -> Read:
    return lambda simulation, _: simulation.state.cvs[:, column]


def bias_numbers(bias: Bias) -> dict[str, float]:
    """Those of a bias's observables that are single numbers, for a summary."""
    return {key: value for key, value in bias.observables().items() if isinstance(value, (int, float))}


def _bias_number(bias: Bias, key: str) -> Read:
    return lambda simulation, _: bias.observables()[key]


def _bias_table(bias: Bias, key: str) -> Read:
    def read(simulation: Simulation, _: object) -> torch.Tensor:
        with simulation.platform.settled():
            return bias.tables()[key]

    return read


def _observed(thing: Observable) -> Read:
    return lambda simulation, evaluation: thing.observe(simulation.state, evaluation())
