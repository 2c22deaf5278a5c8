"""What measures the error of a time step, and the meters of integrators that tell no conserved quantity.

Those that do have the `WorkMeter`, in `nnsim.running.step_error.work`.
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

from nnsim.criteria import LARGEST_SPREAD_ERROR, LEAST_ACCEPTANCE
from nnsim.random.streams import Purpose
from nnsim.running.step_error import shadow_work
from nnsim.schedules import Setting, setting_at

if TYPE_CHECKING:
    from nnsim.protocols import Integrator
    from nnsim.simulation import Simulation
    from nnsim.state import State

NEVER = 2**62
FIRST = 8  # step of the first look
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

    def load_state_dict(self, saved: Mapping[str, Any], simulation: Simulation) -> None:
        """Take over what `state_dict` gave, or nothing of an empty one."""
        return


@dataclass(frozen=True)
class NoMeter(Meter):
    """Measures nothing, and says why; the words are empty where there is nothing to be said."""

    words: str

    def verdict(self, simulation: Simulation) -> Verdict:
        """The words."""
        return Verdict(self.words)


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

    def load_state_dict(self, saved: Mapping[str, Any], simulation: Simulation) -> None:
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

    def load_state_dict(self, saved: Mapping[str, Any], simulation: Simulation) -> None:
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
    """That of the thermostat at the present step or, without one, of the initial velocities; one for all walkers."""
    return float(setting_at(_temperature(simulation.integrator), simulation.state.step))


def not_common(simulation: Simulation) -> str:
    """Which of dt and kT each walker has for itself, in words; empty if none."""
    integrator, step = simulation.integrator, simulation.state.step
    found = {"kT": setting_at(_temperature(integrator), step)}
    if integrator.dt is not None:
        found["dt"] = setting_at(integrator.dt, max(step, 1))
    return " and ".join(name for name, value in found.items() if isinstance(value, Tensor))


def _temperature(integrator: Integrator) -> Setting:
    return integrator.initial_kT if integrator.kT is None else integrator.kT


def time_step(simulation: Simulation) -> float:
    """dt of a simulation at the present step, where it is the same for all walkers."""
    integrator = simulation.integrator
    if integrator.dt is None:
        return integrator.time_step
    return float(setting_at(integrator.dt, max(simulation.state.step, 1)))
