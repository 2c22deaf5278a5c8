r"""Operations of dynamics with velocities, and the same as functions.

| operation | equation | function |
|---|---|---|
| `Kick` | v <- v + dt f / m | `kick_` |
| `Drift` | q <- q + dt v, then back into the box | `drift_` |
| `OrnsteinUhlenbeck` | v <- c v + sqrt((1 - c^2) kT / m) xi | `ornstein_uhlenbeck_` |
| `Forces` | f, U, V and s at q | `update_forces_` |
| `KineticEnergy` | sum m v^2 / 2 | `kinetic_energy` |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from nnsim.program.operation import Number, Operation, like, number

if TYPE_CHECKING:
    from nnsim.box import Box
    from nnsim.forcefield import ForceField
    from nnsim.state import State

Masses = float | Tensor  # one number, [n], [W, 1] or [W, n]


class Batches(Protocol):
    """Which train points each walker's forces are estimated on: `size` of `points`, in a new order every epoch."""

    size: int
    points: int
    per_epoch: int

    def shuffle_(self, state: State) -> None:
        """A new order [W, N] in `integrator_state["order"]`, at the start of an epoch."""

    def index(self, state: State) -> Tensor:
        """Numbers of the points of each walker's mini-batch of the present step, [W, B]."""
        ...


@dataclass(frozen=True, eq=False)
class Kick(Operation):
    """v <- v + dt f / m, with the forces of all groups that are due: those of slow biases count k times."""

    dt: Number
    masses: Masses = 1.0

    READS = ("velocities", "forces")
    WRITES = ("velocities",)

    def apply(self, state: State, force_field: ForceField) -> None:
        """In place."""
        kick_(state, number(self.dt, state), self.masses)


@dataclass(frozen=True, eq=False)
class Drift(Operation):
    """q <- q + dt v, then back into the box (mirrored with reversed velocity, or wrapped)."""

    dt: Number

    READS = ("positions", "velocities")
    WRITES = ("positions", "velocities")

    def apply(self, state: State, force_field: ForceField) -> None:
        """In place."""
        drift_(state, number(self.dt, state), force_field.system.box)


@dataclass(frozen=True, eq=False)
class OrnsteinUhlenbeck(Operation):
    """v <- c v + sqrt((1 - c^2) kT / m) xi, with c = `decay`; draws one normal number for each velocity."""

    decay: Number
    kT: Number
    masses: Masses = 1.0

    READS = ("velocities", "heat")
    WRITES = ("velocities", "heat")

    def apply(self, state: State, force_field: ForceField) -> None:
        """In place."""
        ornstein_uhlenbeck_(state, number(self.decay, state), number(self.kT, state), self.masses)


@dataclass(frozen=True, eq=False)
class Shuffle(Operation):
    """At the start of an epoch, a new order of the train points for each walker; once a step."""

    batches: Batches

    READS = ("order",)
    WRITES = ("order",)

    def apply(self, state: State, force_field: ForceField) -> None:
        """In `integrator_state`."""
        self.batches.shuffle_(state)


@dataclass(frozen=True, eq=False)
class Forces(Operation):
    """Forces, energies and cvs at the positions; with `batches` estimates of them on the step's mini-batches.

    CVs of slow biases that are not due keep their values.
    """

    batches: Batches | None = None

    WRITES = ("energy", "bias_energy", "cvs", "forces")

    @property
    def reads(self) -> tuple[str, ...]:
        """The positions; and the CVs that may stay, or the order of the points."""
        return ("positions", "order") if self.batches else ("positions", "cvs")

    def apply(self, state: State, force_field: ForceField) -> None:
        """New tensors."""
        update_forces_(state, force_field, self.batches)


@dataclass(frozen=True, eq=False)
class KineticEnergy(Operation):
    """Sum of m v^2 / 2, [W], as `integrator_state["kinetic_energy"]`; `double` computes it in double precision."""

    masses: Masses = 1.0
    double: bool = False

    READS = ("velocities",)
    WRITES = ("kinetic_energy",)

    def apply(self, state: State, force_field: ForceField) -> None:
        """A new tensor."""
        velocities = state.velocities.double() if self.double else state.velocities
        state.integrator_state["kinetic_energy"] = kinetic_energy(velocities, self.masses)


# ------------------------------------------------------------------------------------------------------- as functions


def kick_(state: State, dt: float | Tensor, masses: Masses) -> None:
    """v <- v + dt f / m; dt is one number or one for each walker, [W, 1]."""
    if isinstance(dt, Tensor):
        state.velocities.addcmul_(state.forces, (dt / masses).to(state.velocities))
    elif isinstance(masses, float):
        state.velocities.add_(state.forces, alpha=dt / masses)
    else:
        state.velocities.addcdiv_(state.forces, masses, value=dt)


def drift_(state: State, dt: float | Tensor, box: Box) -> None:
    """q <- q + dt v, then back into the box (mirrored with reversed velocity, or wrapped)."""
    if isinstance(dt, Tensor):
        state.positions.addcmul_(state.velocities, dt.to(state.positions))
    else:
        state.positions.add_(state.velocities, alpha=dt)
    box.confine_(state.positions, state.velocities)


def ornstein_uhlenbeck_(state: State, decay: float | Tensor, kT: float | Tensor, masses: Masses) -> None:
    """v <- c v + sqrt((1 - c^2) kT / m) xi, exact for any time step; `decay` is c = exp(-friction dt).

    Both may be numbers for each walker, [W, 1]; c then in double precision, of which 1 - c^2 needs all digits.
    """
    noise = state.normal(like=state.velocities)
    if state.heat is not None:
        state.heat -= kinetic_energy(state.velocities, masses)
    state.velocities.mul_(like(decay, state.velocities))
    variance = (1 - decay * decay) * kT / masses
    if isinstance(variance, Tensor):
        state.velocities.addcmul_(noise, variance.sqrt().to(noise))
    else:
        state.velocities.add_(noise, alpha=math.sqrt(variance))
    if state.heat is not None:
        state.heat += kinetic_energy(state.velocities, masses)


def update_forces_(state: State, force_field: ForceField, batches: Batches | None = None) -> None:
    """Bring forces, energies and cvs up to date with the positions, on the step's mini-batches if there are any."""
    if batches is not None:
        result = force_field.batch_forces(state.positions, batches.index(state))
    elif force_field.slow:  # CVs that are not due stay as they are
        result = force_field(state.positions, state.step, state.cvs)
    else:
        result = force_field(state.positions, state.step)
    state.energy, state.bias_energy, state.cvs, state.forces = result


def kinetic_energy(velocities: Tensor, masses: Masses) -> Tensor:
    """Sum of m v^2 / 2, [W], for velocities [W, n]."""
    if isinstance(masses, float):
        return 0.5 * masses * torch.linalg.vecdot(velocities, velocities)
    return 0.5 * torch.linalg.vecdot(velocities, masses * velocities)
