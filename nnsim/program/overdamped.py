"""Operations of Brownian dynamics, where the noise displaces the positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nnsim.program.dynamics import kinetic_energy
from nnsim.program.operation import Number, Operation, Scheduled, at_step, number

if TYPE_CHECKING:
    from nnsim.forcefield import ForceField
    from nnsim.state import State


@dataclass(frozen=True, eq=False)
class Diffuse(Operation):
    """q <- q + b f + sqrt(2 kT b) xi, with b = `mobility`, then back into the box.

    While heat is counted it leaves what `DiffusionHeat` needs: the displacement, where a mirror turned it, and the
    forces before it.
    """

    mobility: Number
    kT: Number

    READS = ("positions", "forces", "heat")
    WRITES = ("positions", "displacement", "turned", "earlier_forces")

    def apply(self, state: State, force_field: ForceField) -> None:
        """In place."""
        box, new, mobility = force_field.system.box, state.normal(like=state.positions), number(self.mobility, state)
        start = None if state.heat is None else state.positions.clone()
        add_(state.positions, state.forces, mobility)
        add_(state.positions, new, (2 * number(self.kT, state) * mobility) ** 0.5)
        if start is None:
            box.confine_(state.positions)
            return
        own, turned = state.integrator_state, torch.ones_like(new)
        own["displacement"], own["earlier_forces"] = state.positions - start, state.forces
        box.confine_(state.positions, turned)
        own["turned"] = turned


@dataclass(frozen=True, eq=False)
class DiffusionHeat(Operation):
    """While heat is counted, that of the step: -kT ln of the density of the step over that of the step back.

    With the forces at the two ends the logarithm is, times kT, displacement . (before + after) / 2 + mobility (after^2
    - before^2) / 4: minus the heat, so that U + heat changes by kT ln of the ratio that Metropolis would accept with.
    """

    mobility: Number

    READS = ("forces", "heat", "displacement", "turned", "earlier_forces")
    WRITES = ("heat", "displacement", "turned", "earlier_forces")

    def apply(self, state: State, force_field: ForceField) -> None:
        """Added to `state.heat`; what `Diffuse` left is taken away."""
        if state.heat is None:
            return
        own = state.integrator_state
        displacement, turned, before = own.pop("displacement"), own.pop("turned"), own.pop("earlier_forces")
        after, mobility = turned * state.forces, number(self.mobility, state)
        each = displacement * (before + after) / 2 + mobility * (after.square() - before.square()) / 4
        state.heat -= each.double().sum(dim=1)


@dataclass(frozen=True, eq=False)
class DiffuseWithMemory(Operation):
    """q <- q + b f + sqrt(kT b / 2) (xi + xi'), with b = `mobility`, then back into the box; the new xi' is kept.

    xi is that of the step before, with the kT of that. The mirror of the box turns xi' too. Heat is that of the BAOAB
    step without memory that it is, in units where the masses are 1.
    """

    mobility: Number
    kT: float | Tensor | Scheduled

    READS = ("positions", "forces", "noise", "heat")
    WRITES = ("positions", "noise", "heat")

    def apply(self, state: State, force_field: ForceField) -> None:
        """In place; the noise is a new tensor."""
        old, new = state.integrator_state["noise"], state.normal(like=state.positions)
        before, now, mobility = (
            at_step(self.kT, state.step - 1), at_step(self.kT, state.step), number(self.mobility, state),
        )  # fmt: skip
        if state.heat is not None:  # the velocity before and after the O of the BAOAB step
            velocities = before**0.5 * old
            add_(velocities, state.forces, (2 * mobility) ** 0.5)
            state.heat += kinetic_energy(new, now) - kinetic_energy(velocities, 1.0)
        add_(state.positions, state.forces, mobility)
        add_(state.positions, old, (0.5 * before * mobility) ** 0.5)
        add_(state.positions, new, (0.5 * now * mobility) ** 0.5)
        state.integrator_state["noise"] = new
        force_field.system.box.confine_(state.positions, new)


def add_(positions: Tensor, direction: Tensor, factor: float | Tensor) -> None:
    """positions += factor x direction, for a factor that is one number, or one for each walker or parameter."""
    if isinstance(factor, Tensor):
        positions.addcmul_(direction, factor.to(positions))
    else:
        positions.add_(direction, alpha=factor)
