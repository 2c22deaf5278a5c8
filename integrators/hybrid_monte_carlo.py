"""Hybrid Monte Carlo: trajectories of Newton's dynamics, accepted or rejected as a whole."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nnsim.errors import InputError, require_integer, require_number
from nnsim.forcefield import ForceField
from nnsim.integrators import pieces, settings
from nnsim.program import (
    Accept,
    DrawMove,
    Drift,
    Forces,
    FromState,
    Kick,
    KineticEnergy,
    Operation,
    OrnsteinUhlenbeck,
    Repeat,
    Save,
)
from nnsim.program.operation import Known, at_step
from nnsim.protocols import Integrator
from nnsim.schedules import Setting
from nnsim.state import State


class HybridMonteCarlo(Integrator):
    r"""Metropolis moves far across the energy surface: no error of the time step at all. Also Hamiltonian Monte Carlo.

    One step is one trajectory of each walker, with H = sum m v^2 / 2 + U(q) + V(s(q)):

        v  <- cos(phi) v + sin(phi) sqrt(kT / m) xi,    sin(phi)^2 = refreshment
        h  =  dt (1 + jitter u),                        u uniform in [-1, 1]
        (q', v') = `steps` steps of velocity Verlet of h from (q, v)
        accept (q', v') with probability min(1, exp(-(H(q', v') - H(q, v)) / kT)), otherwise (q, -v)

    | symbol | code | shape |
    |---|---|---|
    | h | `integrator_state["time_step"]` | [W, 1], another for each walker and trajectory |
    | q, v | `integrator_state["saved_positions"]`, `["saved_velocities"]` | [W, n], during a trajectory |
    | q', v' | `state.positions`, `state.velocities` | [W, n], during a trajectory |

    Verlet's steps are reversible and keep the volume of phase space, with the mirror of a reflecting box too, so that
    detailed balance is exact at any dt; a smaller one only raises the acceptance. The jitter keeps a trajectory from
    closing on itself at a period of the system. With a refreshment below 1 the walkers keep some of their direction
    from trajectory to trajectory; then the reversal of the velocity after a rejection is what keeps the law exact.

    Biases stand still along a trajectory: they learn after it, from its end or, if it was rejected, from its start once
    more. Trajectories that end outside the grid of a Wang-Landau bias, or in a NaN, are rejected. With such a bias this
    is the Wang-Landau hybrid Monte Carlo (WLHMC) of the authors of arXiv 2503.13145, with `steps` of 20 to 50.

    Args:
        dt: mean time step, in reduced time, above 0: one number, one for each walker [W], or a function from the
            trajectory t = 1, 2, ... to either, as for a ladder (`ReplicaExchange.each`); time counts trajectories where
            it is not one number.
        steps: time steps in a trajectory, at least 1; each takes one gradient, and a changing bias one more.
        kT: temperature, above 0: one number, or one for each walker [W]; or a schedule of either, such as
            `nnsim.schedules.LinearRamp`, whose kT(t) is that of trajectory t = 1, 2, ..., all along it, and kT(0) that
            of the initial velocities.
        jitter: the time step varies by +- this fraction, at least 0 and below 1.
        refreshment: fraction of the kinetic energy that is drawn anew before a trajectory, above 0 and at most 1.
        masses: one number, or one for each parameter [n], walker [W, 1] or both [W, n], above 0.

    Raises:
        InputError: a number out of its range; at the step where a schedule gives one; when the simulation is made,
            numbers for more or fewer walkers or parameters.

    `integrator_state["accepted"]` [W] counts the accepted trajectories; see `Acceptance`. `"kinetic_energy"` [W] is
    taken right after the refreshment, where its mean is n kT / 2.

    Reference: S. Duane, A. D. Kennedy, B. J. Pendleton and D. Roweth, Phys. Lett. B 195, 216 (1987),
    doi:10.1016/0370-2693(87)91197-X; partial refreshment: A. M. Horowitz, Phys. Lett. B 268, 247 (1991),
    doi:10.1016/0370-2693(91)90812-5; jitter: P. B. Mackenzie, Phys. Lett. B 226, 369 (1989),
    doi:10.1016/0370-2693(89)91212-4.

    >>> from nnsim import Simulation
    >>> from nnsim.integrators import Acceptance, HybridMonteCarlo
    >>> from nnsim.systems import AnalyticSystem, Harmonic
    >>> system, integrator = AnalyticSystem(3, Harmonic(), start=0.0), HybridMonteCarlo(dt=0.1, steps=20)
    >>> simulation = Simulation(system, integrator, observe=[Acceptance()], walkers=2).advance(10)
    >>> bool((simulation.state.integrator_state["accepted"] > 0).all())
    True
    """

    dt: Setting
    kT: Setting
    metropolis = True

    def __init__(
        self,
        dt: Setting,
        steps: int,
        kT: Setting = 1.0,
        *,
        jitter: float = 0.2,
        refreshment: float = 1.0,
        masses: float | Tensor = 1.0,
    ) -> None:
        self.dt = settings.check_time_step("HybridMonteCarlo", dt)
        self.steps = require_integer("HybridMonteCarlo", "steps", steps, least=1)
        self.kT = settings.check_temperature("HybridMonteCarlo", kT, above=0.0)
        self.jitter = require_number("HybridMonteCarlo", "jitter", jitter, least=0.0)
        if self.jitter >= 1:
            raise InputError(
                f"HybridMonteCarlo: jitter = {self.jitter:g} must be below 1, or the time step could become 0 or "
                "negative; lower jitter"
            )
        self.refreshment = require_number("HybridMonteCarlo", "refreshment", refreshment, above=0.0)
        if self.refreshment > 1:
            raise InputError(
                f"HybridMonteCarlo: refreshment = {self.refreshment:g} must be at most 1, which draws all of the "
                "velocity anew; lower refreshment"
            )
        self.masses = settings.check_masses("HybridMonteCarlo", masses)

    @property
    def time_step(self) -> float:
        """Mean time that one trajectory advances; 1 where dt is not one number."""
        return self.dt * self.steps if isinstance(self.dt, float) else 1.0

    def init(self, positions: Tensor, force_field: ForceField, generator: torch.Generator) -> State:
        """Thermal velocities and the forces at positions [W, n]."""
        self._walkers = settings.Walkers("HybridMonteCarlo", positions)
        self._masses = settings.masses_like("HybridMonteCarlo", self.masses, positions)
        velocities = pieces.thermal_velocities(positions, at_step(self._kT, 0), self._masses, generator)
        state = pieces.first_state(positions, velocities, force_field, generator)
        at_step(self._dt, 1)  # refuses now what it would refuse then
        state.integrator_state["accepted"] = torch.zeros(len(positions), dtype=torch.long, device=positions.device)
        KineticEnergy(self._masses, double=True).apply(state, force_field)
        return state

    def program(self, force_field: ForceField) -> Sequence[Operation]:
        """One trajectory of each walker."""
        h, half_h = FromState("time_step"), FromState("time_step", 0.5)
        drift, forces, kick, half_kick = Drift(h), Forces(), Kick(h, self._masses), Kick(half_h, self._masses)
        return (
            *([forces] if force_field.biases else []),  # they may have grown, also where the walkers stand
            OrnsteinUhlenbeck(math.sqrt(1 - self.refreshment), self._kT, self._masses),
            KineticEnergy(self._masses, double=True),
            Save(),
            DrawMove(self._dt, self.jitter),
            half_kick,
            Repeat(self.steps - 1, (drift, forces, kick)),  # the half kicks between two steps are one
            drift,
            forces,
            half_kick,
            Accept(self._kT, self._masses),
        )

    @property
    def _dt(self) -> Known:
        return self._walkers.number("dt", self.dt, above=0.0)

    @property
    def _kT(self) -> Known:
        return self._walkers.number("kT", self.kT, above=0.0)
