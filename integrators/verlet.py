"""Newton's equations: velocity Verlet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnsim.errors import require_each
from nnsim.forcefield import ForceField
from nnsim.integrators import pieces, settings
from nnsim.program import Drift, Forces, Kick, KineticEnergy, Operation
from nnsim.program.operation import Known, at_step
from nnsim.protocols import Integrator
from nnsim.schedules import Numbers, Setting
from nnsim.state import State


class VelocityVerlet(Integrator):
    r"""Constant-energy dynamics.

        v <- v + (dt/2) f(q) / m
        q <- q + dt v
        v <- v + (dt/2) f(q) / m

    Symplectic and reversible: in a smooth potential the energy error stays bounded and is proportional to dt^2. With a
    bias that is evaluated every k steps (see `nnsim.Simulation`) it is both at the multiples of k.

    Args:
        dt: time step, in reduced time, above 0: one number, one for each walker [W], or a function from the step t = 1,
            2, ... to either, as for a ladder (`ReplicaExchange.each`); time counts steps where it is not one number.
        masses: one number, or one for each parameter [n], walker [W, 1] or both [W, n], above 0.
        kT: temperature of the initial velocities, at least 0: one number, or one for each walker [W].

    Raises:
        InputError: a negative or non-finite number; when the simulation is made, numbers for more or fewer walkers or
            parameters; at a step, what a function gives.

    Reference: L. Verlet, Phys. Rev. 159, 98 (1967), doi:10.1103/PhysRev.159.98; in the velocity form of
    W. C. Swope et al., J. Chem. Phys. 76, 637 (1982), doi:10.1063/1.442716, eqs. 4-6.
    """

    dt: Setting
    multiple_time_stepping = True

    def __init__(self, dt: Setting, *, masses: float | Tensor = 1.0, kT: Numbers = 1.0) -> None:
        self.dt = settings.check_time_step("VelocityVerlet", dt)
        self.initial_kT = require_each("VelocityVerlet", "kT", kT, least=0.0)
        self.masses = settings.check_masses("VelocityVerlet", masses)

    @property
    def time_step(self) -> float:
        """Time that one step advances; 1 where dt is not one number."""
        return settings.time_step_of(self.dt)

    def conserved(self, state: State) -> Tensor:
        """K + U + V, [W]."""
        return pieces.total_energy(state, self._masses)

    def init(self, positions: Tensor, force_field: ForceField, generator: torch.Generator) -> State:
        """Thermal velocities and the forces at positions [W, n]."""
        self._walkers = settings.Walkers("VelocityVerlet", positions)
        self._masses = settings.masses_like("VelocityVerlet", self.masses, positions)
        kT = self._walkers.number("kT", self.initial_kT)
        velocities = pieces.thermal_velocities(positions, at_step(kT, 0), self._masses, generator)
        state = pieces.first_state(positions, velocities, force_field, generator)
        at_step(self._dt, 1)  # refuses now what it would refuse then
        state.integrator_state["kinetic_energy"] = pieces.kinetic_energy(velocities, self._masses)
        return state

    def program(self, force_field: ForceField) -> Sequence[Operation]:
        """One step of dt; `integrator_state["kinetic_energy"]` [W] is that of its end."""
        dt = self._dt
        kick = Kick(settings.derived(lambda dt: dt / 2, dt), self._masses)
        return kick, Drift(dt), Forces(), kick, KineticEnergy(self._masses)

    @property
    def _dt(self) -> Known:
        return self._walkers.number("dt", self.dt, above=0.0)
