"""How the error of a time step is measured, for each kind of integrator.

| integrator | meter |
|---|---|
| says what it conserves: Langevin, Brownian and Newton's dynamics, Nose-Hoover | `WorkMeter`, by shadow work |
| hybrid Monte Carlo, which has no error, but rejects more the larger the time step | `AcceptanceMeter` |
| one of your own with a temperature | `CurvatureMeter`, by the configurational temperature |
| all others | `NoMeter`, which says why |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from scipy.special import erfcinv
from torch import Tensor

from nnsim import shadow_work
from nnsim.criteria import LARGEST_ENERGY_ERROR, LARGEST_SPREAD_ERROR, LEAST_ACCEPTANCE
from nnsim.errors import InputError
from nnsim.random import Purpose
from nnsim.schedules import temperature_at

if TYPE_CHECKING:
    from nnsim.simulation import Simulation
    from nnsim.state import State

NEVER = 2**62
FIRST, EARLY = 8, 100  # step of the first look, and of the first that is judged by its mean values
SHORTEST, LONGEST, LONGEST_COPY = 8, 100, 40  # lags, in steps
OWN_SHARE, COPY_SHARE = 1 / 4, 1 / 25  # of the steps: the run's own cost little to measure, copies cost as much again
SPAN, SPAN_COPY = 6, 3  # lags in a window
ARRAYS = ("moments", "variance")
UNSTABLE = 3.0  # kT of work on each degree of freedom in a single step
SURE = 4.0  # standard errors from 0
MOST_WINDOWS = 256
AIM, AIM_ACCEPTANCE = 0.01, 0.65  # at the time step to try
PROBES = 25  # steps from one probe of the curvature to the next, at least


@dataclass(frozen=True)
class Verdict:
    """What is known of the error of a time step.

    Attributes:
        words: for a summary.
        too_large: whether the time step is.
        factor: by which it should be multiplied; NaN where that is not known.
        numbers: to be recorded.
    """

    words: str
    too_large: bool = False
    factor: float = math.nan
    numbers: Mapping[str, float] = field(default_factory=dict)


class Meter(Protocol):
    """Looks at a simulation now and then."""

    def due(self, step: int) -> int:
        """The step, after `step`, of the next look."""
        return NEVER

    def look(self, simulation: Simulation) -> bool:
        """Take a look; True if there is something new to be judged."""
        return False

    def finish(self, simulation: Simulation) -> bool:
        """The run ends; True if there is something new to be judged."""
        return False

    def verdict(self, simulation: Simulation) -> Verdict:
        """What is known so far."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What was found so far."""
        return {}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, or nothing of an empty one."""
        return


def meter_of(simulation: Simulation) -> Meter:
    """The meter for the integrator of a simulation."""
    integrator, state = simulation.integrator, simulation.state
    if integrator.metropolis:
        return AcceptanceMeter() if hasattr(integrator, "dt") else NoMeter("")
    if getattr(integrator, "batch_size", None) is not None:
        return NoMeter("not measured: forces of mini-batches are noisy, and no energy is conserved")
    conserved, kT = integrator.conserved(state) is not None, getattr(integrator, "kT", None)
    if not conserved and (not isinstance(kT, (int, float)) or kT <= 0 or not integrator.needs_gradients):
        return NoMeter("")
    if simulation.force_field.flat and not simulation.force_field.biases:
        return NoMeter("none: without forces every step is exact")
    if conserved:
        return WorkMeter() if present_kT(simulation) > 0 else NoMeter("not measured: kT = 0")
    if simulation.system.box.kind == "reflecting":
        name = type(integrator).__name__
        return NoMeter(f"not measured: {name} has no conserved(), and walls of the box change what its forces tell")
    return CurvatureMeter()


@dataclass(frozen=True)
class NoMeter(Meter):
    """Measures nothing, and says why; the words are empty where there is nothing to be said."""

    words: str

    def verdict(self, simulation: Simulation) -> Verdict:
        """The words."""
        return Verdict(self.words)


class WorkMeter(Meter):
    """Measures the shadow work of steps, and what follows from it, see `nnsim.shadow_work`.

    The steps of the run itself are measured, in windows that are a quarter of it. Where a bias learns or moves, H
    changes with it; there a copy of the state is taken some steps on, with the bias and the time held still, and
    forgotten. Only windows of the second half of the run count: before, it may not be in equilibrium.
    """

    def __init__(self) -> None:
        self._windows: list[shadow_work.Window] = []
        self._next = FIRST
        self._open: _Frames | None = None  # the present window
        self._middle: Tensor | None = None  # of the positions, [n]
        self._snapshots = 0

    def due(self, step: int) -> int:
        """The start of the next window or, within one, the next step at which H is known."""
        return self._next if self._open is None else self._open.next(step)

    def look(self, simulation: Simulation) -> bool:
        """Begin a window, take a step of it, or go some steps on with a copy."""
        state, force_field = simulation.state, simulation.force_field
        step, stride = state.step, _stride(simulation)
        if self._open is not None:
            self._open.take(state)
            if not self._open.complete:
                return False
            state.heat = None
            done, self._open = self._open, None
            self._next = step + round(done.length * stride * (1 / OWN_SHARE - 1))
            return self._keep(done)
        if step % stride or not present_kT(simulation) > 0:  # as where a schedule ends
            self._next = step - step % stride + stride
            return False
        lag = min(max(step // 25, SHORTEST), LONGEST)
        if all(bias.still(step) for bias in force_field.biases):
            self._open = _Frames(simulation, state, lag, SPAN, self._centre(state))
            return False
        self._next = step + round(SPAN_COPY * min(lag, LONGEST_COPY) * stride / COPY_SHARE)
        return self._keep(_on_a_copy(simulation, min(lag, LONGEST_COPY), self._centre(state)))

    def finish(self, simulation: Simulation) -> bool:
        """Drop an unfinished window; of a run without any, look at some steps of a copy."""
        state = simulation.state
        if self._open is not None:
            state.heat, self._open, self._next = None, None, state.step + 1
        if self._windows or state.step % _stride(simulation) or not present_kT(simulation) > 0:
            return False
        return self._keep(_on_a_copy(simulation, 2, self._centre(state)))

    def _centre(self, state: State) -> Tensor:
        """The mean of the positions so far, [n]."""
        self._snapshots = min(self._snapshots + 1, 50)
        mean = state.positions.double().mean(dim=0)
        self._middle = mean if self._middle is None else self._middle + (mean - self._middle) / self._snapshots
        return self._middle

    def _keep(self, found: _Frames | None) -> bool:
        if found is None:
            return False
        self._windows.append(found.window())
        if len(self._windows) > MOST_WINDOWS:
            self._windows = self._windows[1::2]
        return True

    def verdict(self, simulation: Simulation) -> Verdict:
        """Relative errors of the mean potential energy and of the spread of the positions, and the work of a step."""
        latest = self._windows[-1].step if self._windows else 0
        windows = [one for one in self._windows if one.step > latest / 2]
        if not windows:
            return Verdict("not known: the run is too short")
        freedom = degrees_of_freedom(simulation)
        size, gain = (np.mean([getattr(one, name) for one in windows]) / freedom for name in ("size", "gain"))
        numbers = {"work": float(gain) / time_step(simulation)}
        if not size < UNSTABLE:
            return Verdict(
                f"a step changes the energy by {size:.2g} kT for each degree of freedom", True, numbers=numbers
            )
        if not hasattr(simulation.integrator, "kT"):
            return self._without_bath(
                simulation, math.sqrt(8 * np.mean([one.wander for one in windows]) / freedom), numbers
            )
        found = shadow_work.estimate(windows)
        scale = found.mean.copy()  # of the spread of the positions
        scale[0] = max(found.variance[0], freedom / 2)
        errors, spreads = found.error / scale, found.standard_error / scale
        numbers |= {"energy": float(errors[0]), "energy_error": float(spreads[0])}
        if len(errors) > 1:
            numbers |= {"spread": float(errors[1]), "spread_error": float(spreads[1])}
        limits = np.array([LARGEST_ENERGY_ERROR, LARGEST_SPREAD_ERROR][: len(errors)])
        excess = np.abs(errors) / np.maximum(limits, SURE * spreads)
        factor = float((AIM / np.abs(errors).max()) ** (1 / simulation.integrator.order)) if errors.any() else 1.0
        parts = zip(errors, spreads, ("the energy", "the spread of the positions"), strict=False)
        words = ", ".join(f"{_percent(error, spread)} of {what}" for error, spread, what in parts)
        return Verdict(words, bool(excess.max() > 1) and latest >= EARLY, factor, numbers)

    def _without_bath(self, simulation: Simulation, error: float, numbers: dict[str, float]) -> Verdict:
        factor = (AIM / error) ** (1 / simulation.integrator.order) if error else 1.0
        words = f"{100 * error:.2g} % of the energy, which wanders by as much"
        return Verdict(words, error > LARGEST_SPREAD_ERROR, factor, {**numbers, "energy": error})

    def state_dict(self) -> dict[str, Any]:
        """The windows; one that is not finished is not kept."""
        rows = [{**one._asdict(), **{k: getattr(one, k).tolist() for k in ARRAYS}} for one in self._windows]
        return {"windows": rows, "next": self._next}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over the windows."""
        rows = saved.get("windows", [])
        self._windows = [shadow_work.Window(**{**row, **{k: np.array(row[k]) for k in ARRAYS}}) for row in rows]
        self._next = int(saved.get("next", FIRST))


class _Frames:
    """A window of some lags: w of every step, and the observables but for its first and last lag, energies in kT.

    The observables are U + V and, where a potential holds the positions together, their squared distance to `centre`.
    """

    def __init__(self, simulation: Simulation, state: State, lag: int, span: int, centre: Tensor) -> None:
        self._integrator, self._lag, self._stride = simulation.integrator, lag, _stride(simulation)
        self._span = span
        self._kT, self._start = present_kT(simulation), state.step
        held = not simulation.force_field.flat and simulation.system.box.kind != "periodic"
        self._centre = centre if held else None
        self._work: list[Tensor] = []
        self._observables: list[Tensor] = []
        self._at: list[int] = []
        state.heat = torch.zeros_like(state.energy)
        self._energy = self._conserved(state)

    @property
    def length(self) -> int:
        """Number of looks so far."""
        return len(self._work)

    @property
    def complete(self) -> bool:
        """Whether all steps are there."""
        return self.length >= self._span * self._lag

    def next(self, step: int) -> int:
        """The next step at which H is known: with a bias that acts every few steps it is known at these."""
        return step - step % self._stride + self._stride

    def take(self, state: State) -> None:
        """The step that has just been done."""
        assert state.heat is not None
        before, self._energy = self._energy, self._conserved(state)
        self._work.append(self._energy - before - state.heat)
        state.heat = torch.zeros_like(state.heat)
        since = self.length - self._lag
        if 0 <= since <= (self._span - 2) * self._lag and since % max(self._lag // 10, 1) == 0:
            self._at.append(self.length)
            self._observables.append(self._observe(state))

    def _observe(self, state: State) -> Tensor:
        energy = (state.energy + state.bias_energy) / self._kT
        if self._centre is None:
            return energy[None]
        return torch.stack([energy, (state.positions - self._centre).square().sum(dim=1)])

    def window(self) -> shadow_work.Window:
        """The means of all of it."""
        work = (torch.stack(self._work) / self._kT).cpu().numpy()
        observables = torch.stack(self._observables, dim=1).cpu().numpy()
        step = self._start + self.length * self._stride
        return shadow_work.window(step, self._lag, self._at, observables, work, self._integrator.symmetric)

    def _conserved(self, state: State) -> Tensor:
        energy = self._integrator.conserved(state)
        assert energy is not None
        return energy.double()


def _on_a_copy(simulation: Simulation, lag: int, centre: Tensor) -> _Frames | None:
    """The window of a copy, V and the time held still; None where a schedule ends before."""
    state, origin, stride = simulation.state.clone(), simulation.state.step, _stride(simulation)
    frames = _Frames(simulation, state, lag, SPAN_COPY, centre)
    try:
        while not frames.complete:
            if stride == 1:  # else the step says which biases act
                state.step = origin - 1
            state = simulation.integrator.step(state, simulation.force_field)
            if state.step % stride == 0:
                frames.take(state)
    except InputError:
        return None
    return frames


def _stride(simulation: Simulation) -> int:
    """Every so many steps all biases act, and H is known."""
    return math.lcm(*simulation.force_field.intervals, 1)


# ---------------------------------------------------------------------- other integrators


class AcceptanceMeter(Meter):
    """The share of accepted trajectories of hybrid Monte Carlo.

    Its law is exact at any dt. The error of the energy, which grows as dt^2, shows in the acceptance,
    erfc(sqrt(<dH> / kT) / 2) with <dH> ~ dt^4.

    Reference: S. Gupta, A. Irback, F. Karsch and B. Petersson, Phys. Lett. B 242, 437 (1990),
    doi:10.1016/0370-2693(90)91790-I.
    """

    def __init__(self) -> None:
        self._next = FIRST

    def due(self, step: int) -> int:
        """Ever more seldom."""
        return self._next

    def look(self, simulation: Simulation) -> bool:
        """The counts are kept by the integrator."""
        self._next = 2 * simulation.state.step
        return True

    def finish(self, simulation: Simulation) -> bool:
        """Always worth a look."""
        return True

    def verdict(self, simulation: Simulation) -> Verdict:
        """The mean acceptance so far."""
        state = simulation.state
        if not state.step:
            return Verdict("not known: the run is too short")
        rate = float(state.integrator_state["accepted"].double().mean()) / state.step
        words = f"none in the law; {100 * rate:.3g} % of the trajectories were accepted"
        # a few rejections are chance
        too_large = rate < LEAST_ACCEPTANCE and state.step * state.walkers * LEAST_ACCEPTANCE > -math.log(1e-3)
        factor = math.sqrt(erfcinv(AIM_ACCEPTANCE) / erfcinv(rate)) if 0 < rate < 1 else math.nan
        return Verdict(words, too_large, factor, {"acceptance": rate})

    def state_dict(self) -> dict[str, Any]:
        """When to look next."""
        return {"next": self._next}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over when to look next."""
        self._next = int(saved.get("next", FIRST))


class CurvatureMeter(Meter):
    """The configurational temperature <f.f> / <trace of the Hessian of U + V>, by random probes of the trace.

    In equilibrium it is kT whatever moves the walkers, where no wall of a box is near.

    Reference: H. H. Rugh, Phys. Rev. Lett. 78, 772 (1997), doi:10.1103/PhysRevLett.78.772; B. D. Butler, G. Ayton,
    O. G. Jepps and D. J. Evans, J. Chem. Phys. 109, 6519 (1998), doi:10.1063/1.477301, eq. 14.
    """

    def __init__(self) -> None:
        self._probes: list[tuple[int, float, float]] = []  # step, means of f.f and of the trace

    def due(self, step: int) -> int:
        """At multiples of an interval."""
        return step - step % PROBES + PROBES

    def look(self, simulation: Simulation) -> bool:
        """One probe."""
        state, force_field = simulation.state, simulation.force_field
        words = state.generator.words(Purpose.PROBE, tuple(state.positions.shape), step=state.step, draw=0)
        signs = (2 * (words % 2) - 1).to(state.positions)
        size = displacement(state)
        ahead, behind = (force_field(state.positions + sign * size * signs, state.step) for sign in (1, -1))
        here = force_field(state.positions, state.step)
        trace = torch.linalg.vecdot(signs, behind.forces - ahead.forces) / (2 * size)
        square = here.forces.double().square().sum(dim=1)
        self._probes.append((state.step, float(square.mean()), float(trace.double().mean())))
        if len(self._probes) > MOST_WINDOWS:
            self._probes = self._probes[1::2]
        return len(self._probes) >= 2 * shadow_work.FEWEST

    def verdict(self, simulation: Simulation) -> Verdict:
        """The temperature relative to kT, from the second half of the probes."""
        late = np.array(self._probes[len(self._probes) // 2 :])
        if len(late) < shadow_work.FEWEST or late[:, 2].mean() <= 0:
            return Verdict("not known: the run is too short, or its energy is not curved upwards")
        count, kT = len(late), present_kT(simulation)
        left_out = (late.sum(axis=0) - late) / (count - 1)
        ratios = left_out[:, 1] / left_out[:, 2] / kT
        error = float(late[:, 1].mean() / late[:, 2].mean() / kT - 1)
        spread = float(np.sqrt((count - 1) * ratios.var()))
        words = f"{100 * error:.2g} +- {100 * spread:.1g} % of the configurational temperature"
        too_large = abs(error) > max(LARGEST_SPREAD_ERROR, SURE * spread)
        factor = (AIM / abs(error)) ** (1 / simulation.integrator.order) if error else 1.0
        return Verdict(words, too_large, factor, {"error": error, "standard_error": spread})

    def state_dict(self) -> dict[str, Any]:
        """The probes."""
        return {"probes": [list(one) for one in self._probes]}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over the probes."""
        self._probes = [(int(step), float(square), float(trace)) for step, square, trace in saved.get("probes", [])]


def displacement(state: State) -> float:
    """For differences of forces: a hundredth of the spread of the positions or, where they have none, of 1."""
    spread = float(state.positions.std(correction=0))
    return 0.01 * (spread if spread > 1e-6 else 1.0)


def degrees_of_freedom(simulation: Simulation) -> int:
    """Number of directions in which forces act: with U = 0 those of the collective variables."""
    return len(simulation.force_field.cvs) if simulation.force_field.flat else simulation.state.positions.shape[1]


def present_kT(simulation: Simulation) -> float:
    """That of the thermostat at the present step or, without one, of the initial velocities."""
    integrator = simulation.integrator
    kT = getattr(integrator, "kT", getattr(integrator, "initial_kT", 0.0))
    return temperature_at(kT, simulation.state.step)


def time_step(simulation: Simulation) -> float:
    """dt of a simulation."""
    return float(getattr(simulation.integrator, "dt", simulation.integrator.time_step))


def _percent(error: float, spread: float) -> str:
    known = f"{100 * error:.2g} +- {100 * spread:.1g} %"
    return known if math.isfinite(spread) else f"{100 * error:.2g} % (error not known)"
