"""Operations of Metropolis methods: where the walkers stand is saved, they go on, and go back if they are rejected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nnsim.program.dynamics import Masses, kinetic_energy
from nnsim.program.operation import Number, Operation, number
from nnsim.random.streams import Purpose

if TYPE_CHECKING:
    from nnsim.forcefield import ForceField
    from nnsim.state import State

MOVED = ("positions", "velocities", "forces", "energy", "bias_energy", "cvs")
SAVED = tuple(f"saved_{name}" for name in MOVED)


@dataclass(frozen=True, eq=False)
class Save(Operation):
    """A copy of what moves, in `integrator_state` under `"saved_..."`, until `Accept`."""

    READS = MOVED
    WRITES = SAVED

    def apply(self, state: State, force_field: ForceField) -> None:
        """New tensors."""
        state.integrator_state |= {f"saved_{name}": getattr(state, name).clone() for name in MOVED}


@dataclass(frozen=True, eq=False)
class DrawMove(Operation):
    """Two uniform numbers for each walker: u makes its time step dt (1 + jitter (2 u - 1)), the other is for `Accept`.

    They are `"time_step"` [W, 1] and `"threshold"` [W] in `integrator_state`, until `Accept`.
    """

    dt: Number
    jitter: float

    WRITES = ("time_step", "threshold")

    def apply(self, state: State, force_field: ForceField) -> None:
        """New tensors."""
        drawn = state.generator.uniform(Purpose.MOVE, (state.walkers, 2), step=state.step, draw=0)
        time_step = number(self.dt, state) * (1 + self.jitter * (2 * drawn[:, :1] - 1))
        state.integrator_state["time_step"] = time_step.to(state.positions)
        state.integrator_state["threshold"] = drawn[:, 1]


@dataclass(frozen=True, eq=False)
class Accept(Operation):
    """Stay with probability min(1, exp(-(H' - H) / kT)), else go back to what was saved, with reversed velocities.

    H is that of what was saved, with `integrator_state["kinetic_energy"]`, which was taken then. Never accepted are a
    NaN, and CVs that a bias does not allow. `integrator_state["accepted"]` [W] counts.
    """

    kT: Number
    masses: Masses = 1.0

    READS = (*MOVED, *SAVED, "kinetic_energy", "threshold", "accepted")
    WRITES = (*MOVED, *SAVED, "time_step", "threshold", "accepted")

    def apply(self, state: State, force_field: ForceField) -> None:
        """Positions and velocities in place, the others new; what was saved and drawn is taken away."""
        own = state.integrator_state
        old = {name: own.pop(f"saved_{name}") for name in MOVED}
        del own["time_step"]
        # in double precision: an error of the kinetic energy would be one of the acceptance
        kinetic = kinetic_energy(state.velocities.double(), self.masses)
        before = own["kinetic_energy"] + old["energy"] + old["bias_energy"]
        climb = (kinetic + state.energy + state.bias_energy - before) / of_walkers(number(self.kT, state))
        accepted = force_field.allows(state.cvs) & (own.pop("threshold") < torch.exp(-climb))  # a NaN is not accepted

        each = accepted[:, None]
        state.positions.copy_(torch.where(each, state.positions, old["positions"]))
        state.velocities.copy_(torch.where(each, state.velocities, -old["velocities"]))
        state.forces = torch.where(each, state.forces, old["forces"])
        state.energy = torch.where(accepted, state.energy, old["energy"])
        state.bias_energy = torch.where(accepted, state.bias_energy, old["bias_energy"])
        state.cvs = torch.where(each, state.cvs, old["cvs"])
        own["accepted"] += accepted


def of_walkers(value: float | Tensor) -> float | Tensor:
    """One number for each walker, [W, 1], as [W]."""
    return value.reshape(-1) if isinstance(value, Tensor) else value
