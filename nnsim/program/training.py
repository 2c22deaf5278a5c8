"""Operations of classical training: f is minus the gradient of the train loss L, v minus the optimiser's momentum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from nnsim.program.dynamics import Batches
from nnsim.program.operation import Number, Operation, number
from nnsim.program.overdamped import add_

if TYPE_CHECKING:
    from nnsim.forcefield import ForceField
    from nnsim.state import State


@dataclass(frozen=True, eq=False)
class Momentum(Operation):
    """g <- f - lambda q;  v <- mu v + g;  q <- q + eta v or, with Nesterov's momentum, q <- q + eta (g + mu v).

    eta is `rate`, mu `momentum`, lambda `weight_decay`.
    """

    rate: Number
    momentum: float
    nesterov: bool
    weight_decay: float

    READS = ("positions", "velocities", "forces")
    WRITES = ("positions", "velocities")

    def apply(self, state: State, force_field: ForceField) -> None:
        """In place."""
        force = _decayed(state, self.weight_decay)
        velocities = state.velocities.mul_(self.momentum).add_(force)
        if self.nesterov:
            velocities = force.add(velocities, alpha=self.momentum)
        add_(state.positions, velocities, number(self.rate, state))


@dataclass(frozen=True, eq=False)
class Moments(Operation):
    """Adam's step t with both moments of the force g <- f - lambda q.

    v <- beta1 v + (1 - beta1) g;  u <- beta2 u + (1 - beta2) g^2;
    q <- q + eta v / (1 - beta1^t) / (sqrt(u / (1 - beta2^t)) + eps)
    """

    rate: Number
    betas: tuple[float, float]
    eps: float
    weight_decay: float

    READS = ("positions", "velocities", "forces", "second_moment")
    WRITES = ("positions", "velocities", "second_moment")

    def apply(self, state: State, force_field: ForceField) -> None:
        """In place."""
        beta1, beta2 = self.betas
        force, second = _decayed(state, self.weight_decay), state.integrator_state["second_moment"]
        state.velocities.lerp_(force, 1 - beta1)
        second.mul_(beta2).addcmul_(force, force, value=1 - beta2)
        scale = second.sqrt().div_(math.sqrt(1 - beta2**state.step)).add_(self.eps)
        rate = number(self.rate, state) / (1 - beta1**state.step)
        if isinstance(rate, Tensor):
            state.positions.addcdiv_(rate * state.velocities, scale)
        else:
            state.positions.addcdiv_(state.velocities, scale, value=rate)


def _decayed(state: State, weight_decay: float) -> Tensor:
    """The forces with the pull of the weight decay, [W, n]."""
    return state.forces.sub(state.positions, alpha=weight_decay) if weight_decay else state.forces


@dataclass(frozen=True, eq=False)
class Confine(Operation):
    """Back into the box: positions mirrored with reversed velocity, or wrapped."""

    READS = ("positions", "velocities")
    WRITES = ("positions", "velocities")

    def apply(self, state: State, force_field: ForceField) -> None:
        """In place."""
        force_field.system.box.confine_(state.positions, state.velocities)


@dataclass(frozen=True, eq=False)
class LossForces(Operation):
    """U of the system, and minus the gradient of the train loss, of each walker's mini-batch with `batches`."""

    batches: Batches | None = None

    WRITES = ("energy", "forces")

    @property
    def reads(self) -> tuple[str, ...]:
        """The positions, and the order of the points."""
        return ("positions", "order") if self.batches else ("positions",)

    def apply(self, state: State, force_field: ForceField) -> None:
        """New tensors."""
        index = self.batches.index(state) if self.batches else None
        state.energy, state.forces = force_field.loss_forces(state.positions, index)
