"""The largest curvature of the energy where the walkers are, which limits the time step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nnsim.running.step_error.meters import displacement

if TYPE_CHECKING:
    from nnsim.simulation import Simulation

POWER_STEPS = 8


def largest_curvature(simulation: Simulation, rounds: int = POWER_STEPS) -> Tensor:
    """Largest curvature of U + V over a mass, omega^2, of each walker, [W].

    By a power iteration with differences of forces. The error falls with each of the `rounds`; it may be negative, or
    not finite, where nothing is curved upwards.
    """
    state, force_field = simulation.state, simulation.force_field
    masses = simulation.integrator.masses
    inverse = 1 / (masses.to(state.positions) if isinstance(masses, Tensor) else float(masses))
    direction = state.forces + torch.finfo(state.forces.dtype).eps
    size = displacement(state)
    curvature = torch.zeros(state.walkers)
    for _ in range(rounds):
        direction = direction / torch.linalg.vector_norm(direction, dim=1, keepdim=True)
        ahead, behind = (force_field(state.positions + sign * size * direction, state.step) for sign in (1, -1))
        curved = inverse * (behind.forces - ahead.forces) / (2 * size)
        curvature, direction = torch.linalg.vecdot(curved, direction), curved
    return curvature
