"""Watches a run for what makes its result doubtful."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from nnsim.errors import NNSimWarning
from nnsim.running.film import Film, FrameReporter, Frames, Present
from nnsim.schedules import BiasFunction, Setting, setting_at

if TYPE_CHECKING:
    from nnsim.simulation import Simulation

MOST_SAMPLES = 4096  # more than these are thinned, so that a long run does not fill the memory
WINDOW = 50  # samples of the kinetic temperature that are averaged before it is judged
TOLERANCE = 0.05  # relative deviation from kT that is worth a warning, beyond 5 standard errors


class Monitor(FrameReporter):
    """Keeps the kinetic temperature along the run and warns, once, when it leaves that of the thermostat.

    Of walkers with a kT each, every one is compared with its own.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._stride = 1  # every so many reports one sample is kept
        self._samples: list[tuple[int, float]] = []
        self._newest: list[list[float]] = []  # of all walkers together or, where each has its own kT, of each
        self._warned = False

    def due(self, step: int) -> int:
        """At its interval, that of the observables."""
        return step - step % self._every + self._every

    def report(self, simulation: Simulation) -> None:
        """Take one sample and judge the newest ones."""
        self.take(simulation, Present(simulation))

    def take(self, simulation: Simulation, frames: Frames) -> None:
        """Take a sample of each frame that is due, and judge the newest ones."""
        kT = simulation.integrator.kT
        if frames.kinetic_energy is None or kT is None:
            return
        temperatures = 2 * frames.kinetic_energy.cpu().numpy() / simulation.state.positions.shape[1]
        for frame in np.flatnonzero(frames.steps % self._every == 0):
            self._sample(simulation, int(frames.steps[frame]), temperatures[frame], kT)

    def filmed(self, film: Film) -> tuple[Monitor | None, Monitor | None]:
        """All of it, if the film has its steps."""
        return (None, self) if self._every % film.every else (self, None)

    def _sample(self, simulation: Simulation, step: int, found: np.ndarray, kT: Setting) -> None:
        """Keep the kinetic temperatures [W] of a step."""
        if step // self._every % self._stride == 0:
            self._samples.append((step, float(found.mean())))
        if len(self._samples) > MOST_SAMPLES:
            self._stride *= 2
            self._samples = [pair for pair in self._samples if pair[0] // self._every % self._stride == 0]
        if callable(kT) or step <= _beginning(simulation):  # which the kinetic temperature lags behind
            return
        given = setting_at(kT, step)
        newest = [float(found.mean())] if isinstance(given, float) else found.tolist()
        if self._newest and len(self._newest[-1]) != len(newest):  # a run that goes on with another kind of kT
            self._newest = []
        self._newest.append(newest)
        if len(self._newest) == WINDOW:
            if not self._warned and simulation.force_field.biases:
                self._judge(simulation, step, given)
            self._newest = []

    def state_dict(self) -> dict[str, Any]:
        """The samples, so that a resumed run can average over its last part."""
        steps, values = zip(*self._samples, strict=True) if self._samples else ((), ())
        return {
            "stride": self._stride,
            "steps": list(steps),
            "values": list(values),
            "newest": [list(one) for one in self._newest],
            "warned": self._warned,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self._stride, self._warned = int(saved["stride"]), bool(saved["warned"])
        self._samples = list(zip(saved["steps"], saved["values"], strict=True))
        newest = saved["newest"]  # up to version 0.2 a list of numbers
        self._newest = [list(one) if isinstance(one, (list, tuple)) else [one] for one in newest]

    def kinetic_temperature(self, since: float = 0) -> float:
        """Mean kinetic temperature over walkers and samples from step `since` on; NaN without samples."""
        chosen = [value for step, value in self._samples if step >= since]
        return sum(chosen) / len(chosen) if chosen else math.nan

    def _judge(self, simulation: Simulation, step: int, given: float | Tensor) -> None:
        """Compare the newest samples of all walkers, or of each walker, with kT."""
        kT, means = np.atleast_1d(np.asarray(given)), np.mean(self._newest, axis=0)
        velocities = simulation.state.positions.numel() // len(kT)
        # velocities of neighbouring samples are correlated: count only a tenth of them as independent
        error = kT * math.sqrt(2 / (velocities * max(WINDOW / 10, 1)))
        excess = np.abs(means - kT) - (TOLERANCE * kT + 5 * error)
        worst = int(excess.argmax())
        if excess[worst] <= 0:
            return
        self._warned = True
        cause = "the bias heats the walkers faster than the thermostat cools them: let it grow more slowly"
        if means[worst] < kT[worst]:
            cause = "the thermostat has not caught up"
        of = f" of walker {worst}" if isinstance(given, Tensor) else ""
        warnings.warn(
            f"step {step}: kinetic temperature {means[worst]:.3g}{of} instead of kT = {kT[worst]:.3g}; {cause}, "
            "raise the friction, or use a smaller time step",
            NNSimWarning,
            stacklevel=2,
        )


def _beginning(simulation: Simulation) -> int:
    """Step up to which time step and friction are still those of the way to where the walkers are to be sampled."""
    settings = (simulation.integrator.dt, simulation.integrator.friction)
    return max([one.ramp for one in settings if isinstance(one, BiasFunction)], default=0)
