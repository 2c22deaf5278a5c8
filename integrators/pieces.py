r"""The small steps that integrators are composed of.

| symbol | meaning | code |
|---|---|---|
| B | kick: v <- v + dt f / m | `kick_` |
| A | drift: q <- q + dt v, then back into the box | `drift_` |
| O | Ornstein-Uhlenbeck: v <- c v + sqrt((1 - c^2) kT / m) xi | `ornstein_uhlenbeck_` |

All of them change the tensors of the state in place. As operations of a program they are in `nnsim.program`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnsim.forcefield import ForceField
from nnsim.integrators.mini_batches import MiniBatches
from nnsim.integrators.settings import check_masses, check_temperature, masses_like
from nnsim.program.dynamics import Masses, drift_, kick_, kinetic_energy, ornstein_uhlenbeck_, update_forces_
from nnsim.program.operation import like
from nnsim.random.streams import Purpose, RandomStreams
from nnsim.state import State

__all__ = [
    "Masses",
    "check_masses",
    "check_temperature",
    "drift_",
    "first_state",
    "kick_",
    "kinetic_energy",
    "masses_like",
    "ornstein_uhlenbeck_",
    "thermal_velocities",
    "total_energy",
    "update_forces_",
]


def total_energy(state: State, masses: Masses, ahead: float | Tensor = 0.0) -> Tensor:
    """H = K + U + V, [W], in double precision, of velocities that are kicked for a time `ahead`, a number or [W, 1]."""
    kicked = isinstance(ahead, Tensor) or ahead != 0
    velocities = state.velocities + ahead * state.forces / masses if kicked else state.velocities
    return kinetic_energy(velocities, masses).double() + state.energy + state.bias_energy


def thermal_velocities(positions: Tensor, kT: float | Tensor, masses: Masses, generator: torch.Generator) -> Tensor:
    """Velocities [W, n] from the Maxwell-Boltzmann distribution, variance kT / m; kT is one number or [W, 1]."""
    drawn = RandomStreams.of(generator).normal(Purpose.VELOCITY, positions.shape, dtype=positions.dtype)
    return drawn.mul_(like((kT / masses) ** 0.5, drawn))


def first_state(
    positions: Tensor,
    velocities: Tensor,
    force_field: ForceField,
    generator: torch.Generator,
    batches: MiniBatches | None = None,
) -> State:
    """The state at step 0, with forces that belong to the positions."""
    nothing = positions.new_zeros(len(positions), dtype=torch.float64)
    streams = RandomStreams.of(generator)
    state = State(positions, velocities, torch.zeros_like(positions), nothing, nothing, nothing[:, None], streams)
    if batches:
        batches.shuffle_(state)
    update_forces_(state, force_field, batches)
    return state
