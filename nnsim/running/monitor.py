"""Watches a run for what makes its result doubtful."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

from nnsim.errors import NNSimWarning
from nnsim.protocols import Reporter

if TYPE_CHECKING:
    from nnsim.simulation import Simulation

MOST_SAMPLES = 4096  # more than these are thinned, so that a long run does not fill the memory
WINDOW = 50  # samples of the kinetic temperature that are averaged before it is judged
TOLERANCE = 0.05  # relative deviation from kT that is worth a warning, beyond 5 standard errors


class Monitor(Reporter):
    """Keeps the kinetic temperature along the run and warns, once, when it leaves that of the thermostat."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._stride = 1  # every so many reports one sample is kept
        self._samples: list[tuple[int, float]] = []
        self._newest: list[float] = []
        self._warned = False

    def due(self, step: int) -> int:
        """At its interval, that of the observables."""
        return step - step % self._every + self._every

    def report(self, simulation: Simulation) -> None:
        """Take one sample and judge the newest ones."""
        if "kinetic_energy" not in simulation.state.integrator_state or simulation.integrator.kT is None:
            return
        step, value = simulation.state.step, float(simulation.kinetic_temperature().mean())
        if step // self._every % self._stride == 0:
            self._samples.append((step, value))
        if len(self._samples) > MOST_SAMPLES:
            self._stride *= 2
            self._samples = [pair for pair in self._samples if pair[0] // self._every % self._stride == 0]
        self._newest.append(value)
        if len(self._newest) == WINDOW:
            ramp = callable(simulation.integrator.kT)  # which the kinetic temperature lags behind
            if not self._warned and not ramp and simulation.force_field.biases:
                self._judge(simulation)
            self._newest = []

    def state_dict(self) -> dict[str, Any]:
        """The samples, so that a resumed run can average over its last part."""
        steps, values = zip(*self._samples, strict=True) if self._samples else ((), ())
        return {
            "stride": self._stride,
            "steps": list(steps),
            "values": list(values),
            "newest": list(self._newest),
            "warned": self._warned,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self._stride, self._warned = int(saved["stride"]), bool(saved["warned"])
        self._samples = list(zip(saved["steps"], saved["values"], strict=True))
        self._newest = list(saved["newest"])

    def kinetic_temperature(self, since: float = 0) -> float:
        """Mean kinetic temperature over walkers and samples from step `since` on; NaN without samples."""
        chosen = [value for step, value in self._samples if step >= since]
        return sum(chosen) / len(chosen) if chosen else math.nan

    def _judge(self, simulation: Simulation) -> None:
        kT = float(simulation.integrator.kT)
        mean = sum(self._newest) / WINDOW
        # velocities of neighbouring samples are correlated: count only a tenth of them as independent
        error = kT * math.sqrt(2 / (simulation.state.positions.numel() * max(WINDOW / 10, 1)))
        if abs(mean - kT) <= TOLERANCE * kT + 5 * error:
            return
        self._warned = True
        cause = "the bias heats the walkers faster than the thermostat cools them: let it grow more slowly"
        if mean < kT:
            cause = "the thermostat has not caught up"
        warnings.warn(
            f"step {simulation.state.step}: kinetic temperature {mean:.3g} instead of kT = {kT:.3g}; {cause}, "
            "raise the friction, or use a smaller time step",
            NNSimWarning,
            stacklevel=2,
        )
