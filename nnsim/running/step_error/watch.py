"""Measures along a run what its finite time step does to it, and warns where that is too much.

| integrator | meter |
|---|---|
| says what it conserves: Langevin, Brownian and Newton's dynamics, Nose-Hoover | `WorkMeter`, by shadow work |
| hybrid Monte Carlo, which has no error, but rejects more the larger the time step | `AcceptanceMeter` |
| one of your own with a temperature | `CurvatureMeter`, by the configurational temperature |
| a dt or, but for hybrid Monte Carlo, a kT for each walker: no time step to try would be right for all | `NoMeter` |
| all others | `NoMeter`, which says why |
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

from nnsim.errors import NNSimWarning
from nnsim.protocols import Reporter
from nnsim.running.step_error.curvature import largest_curvature
from nnsim.running.step_error.meters import (
    AcceptanceMeter,
    CurvatureMeter,
    Meter,
    NoMeter,
    Verdict,
    not_common,
    present_kT,
    time_step,
)
from nnsim.running.step_error.work import WorkMeter

if TYPE_CHECKING:
    from nnsim.simulation import Simulation


class StepError(Reporter):
    """Measures the error of the time step now and then along a run, and warns once where it is too large."""

    def __init__(self) -> None:
        self._meter: Meter | None = None
        self._warned = False
        self._try: float | None = None

    def due(self, step: int) -> int:
        """When the meter wants to look next."""
        return step + 1 if self._meter is None else max(step + 1, self._meter.due(step))

    def report(self, simulation: Simulation) -> None:
        """Let the meter look, and judge what it has found when it has found something new."""
        if self._meter is None:
            self._of(simulation)  # which says when it wants to look
        elif self._meter.look(simulation):
            self._judge(simulation)

    def finish(self, simulation: Simulation) -> None:
        """End what is under way; a run too short for a look gets a short one."""
        if simulation.state.step and self._of(simulation).finish(simulation):
            self._judge(simulation)

    def verdict(self, simulation: Simulation) -> Verdict:
        """What is known so far."""
        return self._of(simulation).verdict(simulation)

    def summary(self, simulation: Simulation) -> str:
        """The same in words; empty for methods without a time step."""
        verdict = self.verdict(simulation)
        advice = f"; TOO LARGE, try dt = {self._try:.2g}" if verdict.too_large and self._try else ""
        return verdict.words + advice

    def record(self, simulation: Simulation) -> dict[str, Any]:
        """The same for the header of a trajectory, as JSON values."""
        verdict = self.verdict(simulation)
        numbers = {name: value if math.isfinite(value) else None for name, value in verdict.numbers.items()}
        return {"words": verdict.words, "too_large": verdict.too_large, "try": self._try, **numbers}

    def state_dict(self) -> dict[str, Any]:
        """What was found so far, so that a resumed run goes on with it."""
        found = {} if self._meter is None else self._meter.state_dict()
        return {"meter": found, "warned": self._warned, "try": self._try}

    def load_state_dict(self, saved: dict[str, Any], simulation: Simulation) -> None:
        """Take over what `state_dict` gave, for a simulation whose state is that of then."""
        self._warned, self._try = bool(saved["warned"]), saved["try"]
        self._meter = meter_of(simulation) if saved["meter"] else None
        if self._meter is not None:
            self._meter.load_state_dict(saved["meter"], simulation)

    def _of(self, simulation: Simulation) -> Meter:
        if self._meter is None:
            self._meter = meter_of(simulation)
        return self._meter

    def _judge(self, simulation: Simulation) -> None:
        verdict = self.verdict(simulation)
        if not verdict.too_large or self._warned:
            return
        self._warned = True
        dt = time_step(simulation)
        self._try = dt * verdict.factor if math.isfinite(verdict.factor) else _half_stable(simulation, dt)
        warnings.warn(
            f"step {simulation.state.step}: the time step dt = {dt:g} is too large: {verdict.words}; try "
            f"dt = {self._try:.2g}",
            NNSimWarning,
            stacklevel=2,
        )


def meter_of(simulation: Simulation) -> Meter:
    """The meter for the integrator of a simulation."""
    integrator, state, own = simulation.integrator, simulation.state, not_common(simulation)
    if integrator.metropolis:
        if integrator.dt is None:
            return NoMeter("")
        return NoMeter("none in the law; each walker has a dt of its own") if "dt" in own else AcceptanceMeter()
    if own:
        return NoMeter(f"not measured: each walker has a {own} of its own")
    if integrator.batch_size is not None:
        return NoMeter("not measured: forces of mini-batches are noisy, and no energy is conserved")
    conserved, kT = integrator.conserved(state) is not None, integrator.kT
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


def _half_stable(simulation: Simulation, dt: float) -> float:
    """Half of 1 / omega, with omega^2 the largest curvature of U + V over a mass: a quarter of the limit of stability.

    Where nothing is curved upwards it is a tenth of dt.
    """
    largest = float(largest_curvature(simulation).max())
    return 0.5 / math.sqrt(largest) if math.isfinite(largest) and largest > 0 else dt / 10
