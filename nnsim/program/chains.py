"""Operations of Nose-Hoover chains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nnsim.program.dynamics import Masses, kinetic_energy
from nnsim.program.operation import Number, Operation, number
from nnsim.program.overdamped import add_

if TYPE_CHECKING:
    from nnsim.forcefield import ForceField
    from nnsim.state import State

# Fourth-order factorisation of a thermostat's propagator: w1, w1, 1 - 4 w1, w1, w1 with w1 = 1 / (4 - 4^(1/3)).
_OUTER = 1 / (4 - 4 ** (1 / 3))
SUZUKI = (_OUTER, _OUTER, 1 - 4 * _OUTER, _OUTER, _OUTER)


@dataclass
class _Thermostat:
    """Thermostat j of all chains: u_j [W, G], Q_j, and N_j kT, which is what twice its kinetic energy tends to."""

    speed: Tensor
    inertia: Tensor
    heat: Tensor


@dataclass(frozen=True, eq=False)
class Chain(Operation):
    """Chains of thermostats and what they do to the velocities, for a time.

    The propagators of the parts, each of them exact, are applied from the end of a chain to its begin and back,
    `substeps` times with the weights of Suzuki. G is the number of chains: one for all parameters, or one for each.

    Args:
        time: how long, one number or [W, 1].
        kT: temperature, one number or [W, 1].
        inertia: Q_j of the thermostats of a chain, [chain], or those of each walker, [W, 1, chain].
        freedom: N of what each of them controls, [chain]: 1 but for the first.
        masses: of the parameters.
        massive: a chain for each parameter.
        substeps: parts of the time.
    """

    time: Number
    kT: Number
    inertia: Tensor
    freedom: Tensor
    masses: Masses
    massive: bool
    substeps: int

    READS = ("velocities", "thermostat_velocities", "thermostat_positions")
    WRITES = ("velocities", "thermostat_velocities", "thermostat_positions")

    def apply(self, state: State, force_field: ForceField) -> None:
        """In place."""
        kT, time = number(self.kT, state), number(self.time, state)
        u, x = (state.integrator_state[f"thermostat_{name}"] for name in ("velocities", "positions"))
        places, thermostats = x.unbind(-1), self._thermostats(u, kT)
        twice = self._twice_kinetic(state)  # of each chain, [W, G]
        scale = torch.ones_like(twice)
        for weight in SUZUKI * self.substeps:
            h = weight * time / self.substeps
            for j in reversed(range(len(thermostats))):
                self._push(thermostats, j, twice, h)
            speeds = [one.speed for one in thermostats]
            scale *= torch.exp(-h * speeds[0])
            twice = twice * torch.exp(-2 * h * speeds[0])
            for place, speed in zip(places, speeds, strict=True):
                add_(place, speed, h)
            for j in range(len(thermostats)):
                self._push(thermostats, j, twice, h)
        torch.stack([one.speed for one in thermostats], dim=-1, out=u)
        state.velocities.mul_(scale.to(state.velocities))  # [W, n] or [W, 1]

    def _thermostats(self, u: Tensor, kT: float | Tensor) -> list[_Thermostat]:
        """From the begin of a chain on; each is a whole array, which is read sooner than a view."""
        inertia = self.inertia.unbind(-1)
        return [
            _Thermostat(speed.contiguous(), inertia[j], self.freedom[j] * kT) for j, speed in enumerate(u.unbind(-1))
        ]

    @staticmethod
    def _push(thermostats: list[_Thermostat], j: int, twice: Tensor, h: float | Tensor) -> None:
        """Half of a time h of thermostat j, by what it controls and under the drag of the next one."""
        own = thermostats[j]
        controlled = twice if j == 0 else thermostats[j - 1].inertia * thermostats[j - 1].speed ** 2
        force = (controlled - own.heat) / own.inertia
        drag = torch.exp(-h / 4 * thermostats[j + 1].speed) if j + 1 < len(thermostats) else 1.0
        own.speed = (own.speed * drag + force * (h / 2)) * drag

    def _twice_kinetic(self, state: State) -> Tensor:
        """Sum of m v^2 over the parameters of each chain, [W, G]."""
        each = (self.masses * state.velocities.square()).double()
        return each if self.massive else each.sum(dim=1, keepdim=True)


@dataclass(frozen=True, eq=False)
class ExtendedEnergy(Operation):
    """K, as `"kinetic_energy"`, and K + U + V + sum_j Q_j u_j^2 / 2 + kT N_j x_j, as `"conserved_quantity"`, [W]."""

    kT: Number
    inertia: Tensor
    freedom: Tensor
    masses: Masses

    READS = ("velocities", "energy", "bias_energy", "thermostat_velocities", "thermostat_positions")
    WRITES = ("kinetic_energy", "conserved_quantity")

    def apply(self, state: State, force_field: ForceField) -> None:
        """New tensors."""
        u, x = (state.integrator_state[f"thermostat_{name}"] for name in ("velocities", "positions"))
        own = 0.5 * self.inertia * u**2 + of_chains(number(self.kT, state)) * self.freedom * x
        kinetic = kinetic_energy(state.velocities, self.masses)
        state.integrator_state["kinetic_energy"] = kinetic
        total = kinetic + state.energy + state.bias_energy + own.sum(dim=(1, 2))
        state.integrator_state["conserved_quantity"] = total


def of_chains(value: float | Tensor) -> float | Tensor:
    """One number for each walker, [W, 1], as [W, 1, 1], beside what chains have, [W, G, chain]."""
    return value[..., None] if isinstance(value, Tensor) else value
