r"""Short runs before a run: at which beta a loss is reached, how long a step may be, which friction forgets fastest.

Walkers at beta feel V = kT beta L, with kT = 1. The largest curvature of U + V, omega^2, tells the time step: velocity
Verlet is stable up to omega dt = 2, and a step of `RESOLVED` / omega keeps the error of beta L to about one part in a
hundred of its variance, which the shadow work of the step then has to confirm.

Friction is told by how far means over the pilot run differ, between walkers and between the halves of its record: both
have the variance 2 tau sigma^2 / T, tau the correlation time of the observable. What is compared are frictions per step
of time, friction x dt, so that one number serves all rungs.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nnsim.bias import Boltzmann
from nnsim.errors import InputError, NNSimWarning
from nnsim.integrators import Langevin
from nnsim.protocols import CollectiveVariable, Observable, System
from nnsim.running.step_error.curvature import largest_curvature
from nnsim.running.step_error.work import WorkMeter
from nnsim.simulation import Simulation

Floats = NDArray[np.float64]

RESOLVED = 0.9  # omega dt
CAREFUL = 0.4  # the same where the walkers are still on their way
QUENCH = 0.02  # friction x dt on that way
FRICTIONS = (0.002, 0.006, 0.02)  # x dt, to be compared
COLDER = 4  # times that scouts look at temperatures ten times lower
COLD = 10.0  # times the highest beta that can matter
SCOUTS, SCOUT_STEPS, SCOUT_ROUNDS = 12, 100, 10  # temperatures, steps of a round
MARGIN = 2.5  # of beta, beyond both ends as the scouts see them, who are still on their way
STATIONS, COPIES = 5, 4  # temperatures of the second part, walkers for each of its frictions
CURVATURE_ROUNDS = 15
LEAST_FREQUENCY = 1e-3  # of V / beta, where it is flat
HEATED, CORRELATED = 0.02, 10.0  # relative error of the kinetic temperature; frames that are worth one
TESTED, LAG = 16, 20  # walkers that tell the error of a step, and steps over which it is followed
SHRINK, MOST_TRIALS = 0.7, 5  # of a time step whose error is too large
LARGEST_ERROR = 0.05  # of beta L, in units of its variance


@dataclass(frozen=True)
class Plan:
    """What a pilot run has found, for the rungs of a ladder.

    Attributes:
        beta, dt, friction: of each rung, [K].
        barrier: sum of the standard deviations of beta L along ln beta: rungs apart by 1 of it swap half of the time.
        step_error: largest error of the mean of beta L found at these time steps, in units of its variance, and the
            standard error of that.
    """

    beta: tuple[float, ...]
    dt: tuple[float, ...]
    friction: tuple[float, ...]
    barrier: float
    step_error: tuple[float, float]


class Pilot:
    """The runs before a run.

    Args:
        system: what is simulated.
        along: L, above 0, such as its train loss.
        trained: where the walkers begin, [S, n].
        of: what the walkers are to forget.
        seed: of their random numbers.
        settings: of the simulations.
    """

    def __init__(
        self,
        system: System,
        along: CollectiveVariable,
        trained: Tensor,
        of: Observable,
        seed: int,
        settings: Mapping[str, Any],
    ) -> None:
        self.system, self.along, self.trained, self.of = system, along, trained, of
        self.seed, self.settings = seed, dict(settings)

    def plan(self, low: float, high: float, rungs: int, steps: int) -> Plan:
        """Rungs from ln L = `high` to `low`, evenly on the scale of swaps.

        Raises:
            InputError: a loss that is not reached at any temperature.
        """
        scouts = self._scouts(low, high)
        hot, cold = self._reached(scouts, (high, low))
        stations = self._settle(np.geomspace(hot / MARGIN, cold * MARGIN, STATIONS), scouts, steps)
        return self._rungs(stations, self._reached(stations, (high, low)), rungs)

    # ------------------------------------------------------------------ which temperatures

    def _scouts(self, low: float, high: float) -> _Seen:
        """Walkers at all temperatures that can matter: beta L is at most n / 2, but where L stays above 0."""
        coldest = max(self.trained.shape[1], 10.0) * np.exp(-low)
        for _ in range(COLDER):
            seen = self._scout(np.geomspace(0.3 * np.exp(-high), coldest, SCOUTS))
            if seen.log_loss.min() < low:
                break
            coldest *= 10
        return seen

    def _scout(self, beta: Floats) -> _Seen:
        """Two walkers at each temperature."""
        positions = self._copies(SCOUTS, 2)
        for _ in range(SCOUT_ROUNDS):
            run = self._run(np.repeat(beta, 2), positions, None, QUENCH, SCOUT_STEPS)
            positions = run.state.positions
        return _Seen.of(run, beta, self.along, self.of, since=0.3)

    def _copies(self, groups: int, each: int) -> Tensor:
        """Trained walkers, each group's one after the other, [groups x each, n]."""
        return self.trained[torch.arange(groups * each) % len(self.trained)]

    def _reached(self, seen: _Seen, levels: Sequence[float]) -> list[float]:
        """Beta at which the mean of ln L is each level."""
        falling = np.minimum.accumulate(seen.log_loss)
        for level in levels:
            if not falling[-1] <= level <= falling[0]:
                raise InputError(
                    f"tempering: ln {self.along.name} = {level:g} is not reached; at beta from {seen.beta[0]:.3g} to "
                    f"{seen.beta[-1]:.3g} it is between {falling[0]:.3g} and {falling[-1]:.3g}; change between"
                )
        return [float(np.exp(np.interp(-level, -falling, np.log(seen.beta)))) for level in levels]

    def quench(self, positions: Tensor, low: float) -> Tensor:
        """Where walkers come to from some positions [S, n] at a beta that is far above that of ln L = `low`."""
        beta = np.full(len(positions), COLD * max(positions.shape[1], 10) * np.exp(-low))
        for _ in range(SCOUT_ROUNDS):
            positions = self._run(beta, positions, None, QUENCH, SCOUT_STEPS).state.positions
        return positions.double().cpu()

    # ------------------------------------------------------------------ which steps

    def _run(
        self, beta: Floats, positions: Tensor, dt: Floats | None, friction: float | Floats, steps: int
    ) -> Simulation:
        """A run at given temperatures [W], dt [W] or by the curvature where the walkers are, and friction x dt."""
        dt = CAREFUL / self.frequency(beta, positions) if dt is None else dt
        one = Simulation(
            self.system,
            Langevin(dt=dt.tolist(), friction=(friction / dt).tolist()),
            bias=Boltzmann(self.along, beta=beta.tolist()),
            observe=[self.along, *([] if self.of.name == self.along.name else [self.of])],
            positions=positions,
            seed=self.seed,
            every=max(1, steps // 100),
            **self.settings,
        )
        self.seed += 1
        with warnings.catch_warnings():  # of walkers that are still hot from their way
            warnings.simplefilter("ignore", NNSimWarning)
            return one.run(steps, progress=False)

    def frequency(self, beta: Floats, positions: Tensor) -> Floats:
        """Largest frequency of each walker, [W], where it is."""
        probe = Simulation(
            self.system,
            Langevin(dt=1e-6, friction=1.0),
            bias=Boltzmann(self.along, beta=beta.tolist()),
            positions=positions,
            **self.settings,
        )
        found = np.sqrt(np.maximum(largest_curvature(probe, CURVATURE_ROUNDS).cpu().double().numpy(), 0.0))
        return np.maximum(found, LEAST_FREQUENCY * np.sqrt(beta))

    def _settle(self, beta: Floats, scouts: _Seen, steps: int) -> _Stations:
        """Time step and friction at some temperatures."""
        nearest = [int(np.abs(np.log(scouts.beta / one)).argmin()) for one in beta]
        each = COPIES * len(FRICTIONS)
        picks = [2 * place + copy % 2 for place in nearest for copy in range(each)]
        walkers = np.repeat(beta, each)
        positions = self._run(walkers, scouts.positions[picks], None, QUENCH, 4 * SCOUT_STEPS).state.positions
        highest = self.frequency(walkers, positions).reshape(len(beta), each).max(axis=1)
        trials = [self._checked(*one) for one in zip(beta, RESOLVED / highest, positions.split(each), strict=True)]
        dt = np.array([one for one, _ in trials])
        frictions = np.tile(np.repeat(FRICTIONS, COPIES), len(beta))
        for _ in range(MOST_TRIALS):
            run = self._run(walkers, positions, np.repeat(dt, each), frictions, steps)
            positions, hot = run.state.positions, _is_hot(run, len(beta))
            if not hot.any():
                break
            dt = np.where(hot, SHRINK * dt, dt)
        seen = _Seen.of(run, beta, self.along, self.of, since=0.2)
        return _Stations(**vars(seen), dt=dt, friction=_fastest(seen.record), step_error=max(one for _, one in trials))

    def _checked(self, beta: float, dt: float, positions: Tensor) -> tuple[float, tuple[float, float]]:
        """A time step whose shadow work shows a small error only, and what is known of it."""
        positions = positions[torch.arange(TESTED) % len(positions)]  # each with velocities of its own
        for _ in range(MOST_TRIALS):
            one = Simulation(
                self.system,
                Langevin(dt=dt, friction=FRICTIONS[-1] / dt),
                bias=Boltzmann(self.along, beta=[beta] * len(positions)),
                positions=positions,
                seed=self.seed,
                **self.settings,
            )
            error, spread = known = _step_error(one)
            if error <= LARGEST_ERROR + 2 * spread:
                return dt, known
            dt *= SHRINK
        raise InputError(
            f"tempering: at beta = {beta:.3g} even a time step of {dt:.3g} has an error of {error:.2g} of the variance "
            "of beta L; take a smooth loss and activation, or a smaller box"
        )

    # ------------------------------------------------------------------ which rungs

    def _rungs(self, stations: _Stations, ends: Sequence[float], rungs: int) -> Plan:
        """Evenly spaced on the scale of d Lambda = sd(beta L) d ln beta, on which swaps are alike."""
        fine = np.linspace(math.log(ends[0]), math.log(ends[1]), 1000)
        density = np.interp(fine, np.log(stations.beta), stations.spread)
        scale = np.concatenate(([0.0], np.cumsum(np.diff(fine) * (density[1:] + density[:-1]) / 2)))
        beta = np.exp(np.interp(np.linspace(0, scale[-1], rungs), scale, fine))
        dt = np.exp(np.interp(np.log(beta), np.log(stations.beta), np.log(stations.dt)))
        plan = Plan(_rounded(beta), _rounded(dt), _rounded(stations.friction / dt), scale[-1], stations.step_error)
        logging.getLogger("nnsim").info(
            f"tempering: {rungs} rungs from beta = {plan.beta[0]:g} to {plan.beta[-1]:g}, dt = {plan.dt[0]:g} to "
            f"{plan.dt[-1]:g}, friction x dt = {stations.friction:g}, error of a step {_percent(plan.step_error)} of "
            f"the variance of beta L; neighbours are {plan.barrier / (rungs - 1):.2g} standard deviations apart"
        )
        return plan


@dataclass(frozen=True)
class _Seen:
    """What walkers at some temperatures have shown: `record` is that of the observable, [T, temperatures, walkers]."""

    beta: Floats
    log_loss: Floats
    spread: Floats  # standard deviation of beta L
    record: Floats
    positions: Tensor

    @classmethod
    def of(cls, run: Simulation, beta: Floats, along: Observable, of: Observable, since: float) -> _Seen:
        values, record = (
            one[int(since * len(one)) :].reshape(-1, len(beta), one.shape[1] // len(beta))
            for one in (np.asarray(run.history[name]) for name in (along.name, of.name))
        )
        spread = beta * values.std(axis=(0, 2))
        return cls(beta, np.log(values).mean(axis=(0, 2)), spread, record, run.state.positions.clone())


@dataclass(frozen=True)
class _Stations(_Seen):
    dt: Floats
    friction: float  # x dt
    step_error: tuple[float, float]


def _is_hot(run: Simulation, groups: int) -> NDArray[np.bool_]:
    """Whether the kinetic temperature of any friction of a group is off, in the last two thirds of a run."""
    record = np.asarray(run.history["kinetic_temperature"])
    record = record[len(record) // 3 :].reshape(-1, groups, len(FRICTIONS), COPIES)
    chance = math.sqrt(2 / (run.state.positions.shape[1] * COPIES * len(record) / CORRELATED))
    return np.asarray((np.abs(record.mean(axis=(0, 3)) - 1) > HEATED + 4 * chance).any(axis=1))


def _fastest(record: Floats) -> float:
    """The friction under which means of the record [T, temperatures, frictions x copies] differ least."""
    series = record.reshape(*record.shape[:2], len(FRICTIONS), COPIES)
    first, second = (half.mean(axis=0) for half in np.array_split(series, 2))
    means, drifts = (first + second) / 2, (second - first) / 2
    variance = (means.var(axis=-1, ddof=1) * (COPIES - 1) + (drifts**2).sum(axis=-1)) / (2 * COPIES - 1)
    score = np.log(np.maximum(variance, np.finfo(float).tiny)).mean(axis=0)
    return FRICTIONS[int(score.argmin())]


def _rounded(values: Floats) -> tuple[float, ...]:
    return tuple(float(f"{one:.4g}") for one in values)


def _percent(known: tuple[float, float]) -> str:
    return f"{100 * known[0]:.2g} +- {100 * known[1]:.1g} %"


def _step_error(simulation: Simulation) -> tuple[float, float]:
    """Error of the mean of beta L by the shadow work of some steps, in units of its variance, and its standard error.

    Infinite where the steps are unstable.
    """
    meter = WorkMeter()
    meter.look_ahead(simulation, LAG)
    numbers = meter.verdict(simulation).numbers
    return abs(numbers.get("energy", math.inf)), numbers.get("energy_error", 0.0)
