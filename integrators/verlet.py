"""Newton's equations: velocity Verlet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnsim.errors import require_number
from nnsim.forcefield import ForceField
from nnsim.integrators import pieces
from nnsim.program import Drift, Forces, Kick, KineticEnergy, Operation
from nnsim.protocols import Integrator
from nnsim.state import State


class VelocityVerlet(Integrator):
    r"""Constant-energy dynamics.

        v <- v + (dt/2) f(q) / m
        q <- q + dt v
        v <- v + (dt/2) f(q) / m

    Symplectic and reversible: in a smooth potential the energy error stays bounded and is proportional to dt^2. With a
    bias that is evaluated every k steps (see `nnsim.Simulation`) it is both at the multiples of k.

    Args:
        dt: time step, in reduced time, above 0.
        masses: one number or one for each parameter [n], above 0.
        kT: temperature of the initial velocities, at least 0.

    Raises:
        InputError: a negative or non-finite number.

    Reference: L. Verlet, Phys. Rev. 159, 98 (1967), doi:10.1103/PhysRev.159.98; in the velocity form of
    W. C. Swope et al., J. Chem. Phys. 76, 637 (1982), doi:10.1063/1.442716, eqs. 4-6.
    """

    dt: float
    multiple_time_stepping = True

    def __init__(self, dt: float, *, masses: float | Tensor = 1.0, kT: float = 1.0) -> None:
        self.dt = require_number("VelocityVerlet", "dt", dt, above=0.0)
        self.initial_kT = require_number("VelocityVerlet", "kT", kT, least=0.0)
        self.masses = pieces.check_masses("VelocityVerlet", masses)

    @property
    def time_step(self) -> float:
        """Time that one step advances."""
        return self.dt

    def conserved(self, state: State) -> Tensor:
        """K + U + V, [W]."""
        return pieces.total_energy(state, self._masses)

    def init(self, positions: Tensor, force_field: ForceField, generator: torch.Generator) -> State:
        """Thermal velocities and the forces at positions [W, n]."""
        self._masses = pieces.masses_like("VelocityVerlet", self.masses, positions)
        velocities = pieces.thermal_velocities(positions, self.initial_kT, self._masses, generator)
        state = pieces.first_state(positions, velocities, force_field, generator)
        state.integrator_state["kinetic_energy"] = pieces.kinetic_energy(velocities, self._masses)
        return state

    def program(self, force_field: ForceField) -> Sequence[Operation]:
        """One step of dt; `integrator_state["kinetic_energy"]` [W] is that of its end."""
        kick = Kick(self.dt / 2, self._masses)
        return kick, Drift(self.dt), Forces(), kick, KineticEnergy(self._masses)
