"""Recording: what is written down along a run, how often, and where to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import torch

from nnsim.errors import InputError
from nnsim.forcefield import difference
from nnsim.identity.parts import same
from nnsim.protocols import Bias, Observable, Platform, Reporter
from nnsim.running.film import Film, FrameReporter, Frames, Present
from nnsim.schedules import BiasFunction, Setting, setting_at
from nnsim.trajectory.layout import folder_name

if TYPE_CHECKING:
    from nnsim.simulation import Simulation


# What a series is read from. All but what must be asked for at its step, and tables, can be filmed; observables where
# the platform knows them.
STATE, NUMBERS, POSITIONS, VELOCITIES, OBSERVED, PRESENT, TABLES = (
    *("state", "numbers", "positions", "velocities", "observed", "present", "tables"),
)
Rows: TypeAlias = "slice | np.ndarray"
Read: TypeAlias = "Callable[[Frames, Rows], Any]"  # gives [T, ...], the values in some of the frames


class Sink(Protocol):
    """Takes frames: a trajectory on disk, or memory."""

    def extend(self, series: str, steps: np.ndarray, times: np.ndarray, values: np.ndarray) -> None:
        """Add T frames [T, ...] to a series such as `observables/ln_loss_train`."""
        ...


@dataclass(frozen=True)
class Series:
    """One recorded quantity.

    Attributes:
        name: path in the trajectory.
        every: its interval in steps.
        read: gives the values.
        what: what it is, in words.
        thing: the CV or observable, if it is one.
        source: what it is read from.
    """

    name: str
    every: int
    read: Read
    what: str = "what every run records"
    thing: Any = None
    source: str = STATE


class Recorder(FrameReporter):
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
        step = simulation.state.step
        self.take(simulation, Present(simulation, [one.thing for one in self._observed() if step % one.every == 0]))

    def take(self, simulation: Simulation, frames: Frames) -> None:
        """Append of every series those frames that are due."""
        for one in self.series:
            due = frames.steps % one.every == 0
            if due.any():
                self._append(simulation, one, frames, slice(None) if due.all() else np.flatnonzero(due))

    def start(self, simulation: Simulation) -> None:
        """Append every series as it is before the first step, but no snapshots of biases that have learnt nothing."""
        frames = Present(simulation, [one.thing for one in self._observed()])
        for one in self.series:
            if one.source != TABLES:
                self._append(simulation, one, frames, slice(None))

    def filmed(self, film: Film) -> tuple[Recorder | None, Recorder | None]:
        """A recorder of the series that a film serves, and one of the others."""
        served = [one for one in self.series if _serves(film, one)]
        others = [one for one in self.series if not _serves(film, one)]
        return (Recorder(served, self.sink) if served else None), (Recorder(others, self.sink) if others else None)

    def _observed(self) -> list[Series]:
        return [one for one in self.series if one.source == OBSERVED]

    @torch.no_grad()
    def _append(self, simulation: Simulation, one: Series, frames: Frames, rows: Rows) -> None:
        steps, value = frames.steps[rows], one.read(frames, rows)
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        self.sink.extend(one.name, steps, steps * simulation.integrator.time_step, array)


def filming(
    simulation: Simulation, reporters: Sequence[Reporter]
) -> tuple[Film | None, list[FrameReporter], list[Reporter]]:
    """A film, who is served by it, and who must be called at steps of his own; without a film these are all."""
    recorder = next((one for one in reporters if isinstance(one, Recorder)), None)
    film = None if recorder is None else _film_of(simulation, recorder)
    if film is None:
        return None, [], list(reporters)
    takers: list[FrameReporter] = []
    others: list[Reporter] = []
    for reporter in reporters:
        taker, other = reporter.filmed(film) if isinstance(reporter, FrameReporter) else (None, reporter)
        takers += [] if taker is None else [taker]
        others += [] if other is None else [other]
    return film, takers, others


def _film_of(simulation: Simulation, recorder: Recorder) -> Film | None:
    """The film from which the most of what a recorder appends can be read; None if the platform takes none.

    It has the frames of the shortest interval. What is recorded at others that are no multiples, and observables at
    longer ones, which would be computed too often, are left to the recorder.
    """
    observed = [one.thing for one in recorder.series if one.source == OBSERVED]
    known = simulation.platform.filmed(observed)
    if known is None or _advances_otherwise(simulation.platform):
        return None
    names = {thing.name for thing in known}
    series = [one for one in recorder.series if one.source not in (TABLES, PRESENT, OBSERVED)]
    series += [one for one in recorder.series if one.source == OBSERVED and one.thing.name in names]
    every = min(one.every for one in series)

    def shortest(source: str) -> int:
        return min((one.every for one in series if one.source == source and one.every % every == 0), default=0)

    things_every = shortest(OBSERVED)
    return Film(
        every,
        shortest(NUMBERS),
        shortest(POSITIONS),
        shortest(VELOCITIES),
        things_every,
        tuple(one.thing for one in series if one.source == OBSERVED and one.every == things_every),
    )


def _advances_otherwise(platform: Platform) -> bool:
    """Whether a subclass has an `advance` of its own, and takes `film`, which would go round it, from another class."""
    owner = {name: next(one for one in type(platform).__mro__ if name in vars(one)) for name in ("advance", "film")}
    return owner["advance"] is not owner["film"] and issubclass(owner["advance"], owner["film"])


def _serves(film: Film, one: Series) -> bool:
    """Whether a series can be read from a film."""
    if one.source == OBSERVED:
        return one.thing in film.things
    return one.source not in (TABLES, PRESENT) and one.every % film.every == 0


class History:
    """A sink in memory: `history["ln_loss_train"]` is the array [T, W] of an observable."""

    def __init__(self) -> None:
        self._frames: dict[str, list[np.ndarray]] = {}
        self._steps: dict[str, list[np.ndarray]] = {}

    def extend(self, series: str, steps: np.ndarray, times: np.ndarray, values: np.ndarray) -> None:
        """Keep a copy of frames [T, ...]."""
        self._frames.setdefault(series, []).append(np.array(values))
        self._steps.setdefault(series, []).append(np.array(steps))

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
        return np.concatenate(self._frames[self._key(name)])

    def steps(self, name: str) -> np.ndarray:
        """Steps of the frames of a series, [T]."""
        return np.concatenate(self._steps[self._key(name)])


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
        _observable("potential_energy", plan.every, lambda frames, rows: frames.energy[rows]),
        _observable("bias_energy", plan.every, lambda frames, rows: frames.bias_energy[rows]),
    ]
    asked = {thing.name: every for thing, every in plan.observables}
    for column, cv in enumerate(simulation.force_field.cvs):
        every = asked.get(cv.name, plan.every)
        found.append(_observable(cv.name, every, _cv_column(column), f"the CV {type(cv).__name__} of a bias", cv))
    if "kinetic_energy" in simulation.state.integrator_state:
        found.append(_observable("kinetic_temperature", plan.every, _temperature(simulation.state.positions.shape[1])))
    kT = simulation.integrator.kT
    if callable(kT):  # what follows a bias is known at the present step only
        source = PRESENT if isinstance(kT, BiasFunction) else STATE
        found.append(_observable("kT", plan.every, _schedule(kT), "the temperature of the run", None, source))
    for bias in simulation.force_field.biases:
        source = NUMBERS if _speaks_of_itself(bias) else PRESENT
        for key in bias.observables():
            name, what = f"{bias.name}_{key}", f"the number {key!r} of the bias {bias.name!r}"
            found.append(_observable(name, plan.every, _bias_number(bias, key), what, None, source))
        for key in bias.tables():
            name, what = f"nnsim/bias/{bias.name}/snapshots/{key}", f"the table {key!r} of the bias {bias.name!r}"
            found.append(Series(name, plan.snapshot_every, _bias_table(simulation, bias, key), what, None, TABLES))
    for thing, own in plan.observables:
        what = f"the observable {type(thing).__name__}"
        found.append(_observable(thing.name, own, _observed(thing), what, thing, OBSERVED))
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
        name, what = "particles/parameters/position", "the positions"
        found.append(Series(name, every, lambda frames, rows: frames.positions[rows].to(dtype), what, None, POSITIONS))
    if plan.velocities_every:
        every, name, what = plan.velocities_every, "particles/parameters/velocity", "the velocities"
        found.append(
            Series(name, every, lambda frames, rows: frames.velocities[rows].to(dtype), what, None, VELOCITIES)
        )
    return found


def _observable(name: str, every: int, read: Read, *what: Any) -> Series:
    return Series(f"observables/{name}", every, read, *what)


def _cv_column(column: int) -> Read:
    return lambda frames, rows: frames.cvs[rows][..., column]


def _temperature(parameters: int) -> Read:
    return lambda frames, rows: 2 * frames.kinetic_energy[rows] / parameters  # type: ignore[index]  # there is one


def _schedule(kT: Setting) -> Read:
    return lambda frames, rows: np.stack([np.asarray(setting_at(kT, int(step))) for step in frames.steps[rows]])


def bias_numbers(bias: Bias) -> dict[str, float]:
    """Those of a bias's observables that are single numbers, for a summary."""
    return {key: value for key, value in bias.observables().items() if isinstance(value, (int, float))}


def _speaks_of_itself(bias: Bias) -> bool:
    """Whether its numbers come from the class that native platforms know: those of a subclass may ask anything."""
    classes = [vars(bias), *map(vars, type(bias).__mro__)]
    first = {name: next(k for k, one in enumerate(classes) if name in one) for name in ("observables", "native")}
    return first["observables"] >= first["native"]


def _bias_number(bias: Bias, key: str) -> Read:
    def read(frames: Frames, rows: Rows) -> np.ndarray:
        numbers = [frames.numbers[frame] for frame in np.arange(len(frames.steps))[rows]]
        return np.stack([one[bias.name][key] for one in numbers if one is not None])

    return read


def _bias_table(simulation: Simulation, bias: Bias, key: str) -> Read:
    def read(frames: Frames, rows: Rows) -> torch.Tensor:
        with simulation.platform.settled():
            return bias.tables()[key][None]

    return read


def _observed(thing: Observable) -> Read:
    return lambda frames, rows: frames.observed(thing)[rows]
