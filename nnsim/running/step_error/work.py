"""Measures the shadow work of the steps of a run, in windows, and what it says about the error of the time step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nnsim.criteria import LARGEST_ENERGY_ERROR, LARGEST_SPREAD_ERROR
from nnsim.errors import InputError
from nnsim.running.step_error import shadow_work
from nnsim.running.step_error.meters import (
    AIM,
    FIRST,
    MOST_WINDOWS,
    SURE,
    Meter,
    Verdict,
    degrees_of_freedom,
    present_kT,
    time_step,
)

if TYPE_CHECKING:
    from nnsim.simulation import Simulation
    from nnsim.state import State

EARLY = 100  # step of the first look that is judged by its mean values
SHORTEST, LONGEST, LONGEST_COPY = 8, 100, 40  # lags, in steps
OWN_SHARE, COPY_SHARE = 1 / 4, 1 / 25  # of the steps: the run's own cost little to measure, copies cost as much again
COMPILED_SHARE = 1 / 3000  # where a step of a copy takes as long as up to two hundred of the run
SPAN, SPAN_COPY = 6, 3  # lags in a window
UNSTABLE = 3.0  # kT of work on each degree of freedom in a single step
MOST_SAVED = 2_000_000  # numbers of an unfinished window, beyond which a checkpoint leaves it out


class WorkMeter(Meter):
    """Measures the shadow work of steps, and what follows from it, see `nnsim.running.step_error.shadow_work`.

    The steps of the run itself are measured, in windows that are a quarter of it. Where a bias learns or moves, H
    changes with it, and on a compiled platform a look at each step would take longer than the steps; there a copy of
    the state is taken some steps on, with the bias and the time held still, and forgotten. Only windows of the second
    half of the run count: before, it may not be in equilibrium.

    A window that is not finished is saved with the rest, so that what is found does not depend on where the run is cut;
    but for one of very many walkers, which would make the checkpoint large.
    """

    def __init__(self) -> None:
        self._windows: list[shadow_work.Window] = []
        self._short: shadow_work.Window | None = None  # of a run that ended before the first of them
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
        if self._open is not None and not self._open.follows(state):  # after steps that nobody looked at
            self._drop(state)
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
        compiled = simulation.platform.compiled
        if not compiled and all(bias.still(step) for bias in force_field.biases):
            self._open = _Frames(simulation, state, lag, SPAN, self._centre(state))
            return False
        share = COMPILED_SHARE if compiled else COPY_SHARE
        pause = round(SPAN_COPY * min(lag, LONGEST_COPY) * stride / share)
        self._next = step + (min(pause, 3 * step) if compiled else pause)  # some looks early in a run
        return self._keep(_on_a_copy(simulation, min(lag, LONGEST_COPY), self._centre(state)))

    def finish(self, simulation: Simulation) -> bool:
        """Of a run without any window, look at some steps of a copy."""
        state = simulation.state
        if self._windows or state.step % _stride(simulation) or not present_kT(simulation) > 0:
            return False
        found = _on_a_copy(simulation, 2, state.positions.double().mean(dim=0))
        self._short = None if found is None else found.window()
        return self._short is not None

    def look_ahead(self, simulation: Simulation, lag: int) -> bool:
        """Go some steps on with a copy at once, and follow the response over `lag` steps, at least 2."""
        return self._keep(_on_a_copy(simulation, lag, self._centre(simulation.state)))

    def _drop(self, state: State) -> None:
        state.heat, self._open, self._next = None, None, state.step

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
        every = self._windows or [one for one in [self._short] if one is not None]
        if not every:
            return Verdict("not known: the run is too short")
        latest = every[-1].step
        windows = [one for one in every if one.step > latest / 2]
        freedom = degrees_of_freedom(simulation)
        size, gain = (np.mean([getattr(one, name) for one in windows]) / freedom for name in ("size", "gain"))
        numbers = {"work": float(gain) / time_step(simulation)}
        if not size < UNSTABLE:
            return Verdict(
                f"a step changes the energy by {size:.2g} kT for each degree of freedom", True, numbers=numbers
            )
        if simulation.integrator.kT is None:
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
        """The windows, the unfinished one included."""
        unfinished = None if self._open is None else self._open.state_dict()
        return {
            "windows": [one.saved() for one in self._windows],
            "next": self._next,
            "middle": None if self._middle is None else self._middle.clone(),
            "snapshots": self._snapshots,
            "open": unfinished,
        }

    def load_state_dict(self, saved: Mapping[str, Any], simulation: Simulation) -> None:
        """Take over the windows."""
        self._windows = [shadow_work.Window.load(row) for row in saved.get("windows", [])]
        self._next = int(saved.get("next", FIRST))
        self._middle, self._snapshots = saved.get("middle"), int(saved.get("snapshots", 0))
        if saved.get("open") is not None:
            self._open = _Frames.load(saved["open"], simulation)


class _Frames:
    """A window of some lags: w of every step, and the observables but for its first and last lag, energies in kT.

    The observables are U + V and, where a potential holds the positions together, their squared distance to `centre`.
    """

    def __init__(self, simulation: Simulation, state: State, lag: int, span: int, centre: Tensor | None) -> None:
        self._integrator, self._lag, self._stride = simulation.integrator, lag, _stride(simulation)
        self._span = span
        self._kT, self._start = present_kT(simulation), state.step
        held = not simulation.force_field.flat and simulation.system.box.kind != "periodic"
        self._centre = centre if held else None
        self._work: list[Tensor] = []
        self._observables: list[Tensor] = []
        self._at: list[int] = []
        state.heat = torch.zeros_like(state.energy)
        self._heat = state.heat
        self._energy = self._conserved(state)

    def state_dict(self) -> dict[str, Any] | None:
        """What has been taken so far, or None if that is too much to be saved."""
        if self._span * self._lag * len(self._energy) > MOST_SAVED:
            return None
        lists = {"work": self._work, "observables": self._observables}
        return {
            **{name: getattr(self, f"_{name}") for name in ("lag", "span", "kT", "start", "at", "centre")},
            **{name: torch.stack(values) if values else None for name, values in lists.items()},
            "energy": self._energy,
            "heat": self._heat.clone(),
        }

    @classmethod
    def load(cls, saved: Mapping[str, Any], simulation: Simulation) -> _Frames:
        """The window that `state_dict` told of; the walkers of the simulation stand in the midst of it."""
        frames = cls(simulation, simulation.state, int(saved["lag"]), int(saved["span"]), saved["centre"])
        frames._kT, frames._start, frames._at = float(saved["kT"]), int(saved["start"]), list(saved["at"])
        frames._centre, frames._energy = saved["centre"], saved["energy"]
        frames._work, frames._observables = (
            [] if saved[name] is None else list(saved[name].unbind()) for name in ("work", "observables")
        )
        simulation.state.heat = frames._heat = saved["heat"].to(simulation.state.energy)
        return frames

    def follows(self, state: State) -> bool:
        """Whether these walkers have just done the next step of it."""
        return state.heat is self._heat and state.step == self._start + (self.length + 1) * self._stride

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
        before, self._energy = self._energy, self._conserved(state)
        self._work.append(self._energy - before - self._heat)
        state.heat = self._heat = torch.zeros_like(self._heat)
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


def _percent(error: float, spread: float) -> str:
    known = f"{100 * error:.2g} +- {100 * spread:.1g} %"
    return known if math.isfinite(spread) else f"{100 * error:.2g} % (error not known)"
