"""Everything that moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class State:
    """The state of W walkers with n parameters each.

    | symbol | name | shape |
    |---|---|---|
    | q | `positions` | [W, n] |
    | v | `velocities` | [W, n] |
    | -grad(U + V) | `forces` | [W, n] |
    | U(q) | `energy` | [W] |
    | V(s) | `bias_energy` | [W] |
    | s(q) | `cvs` | [W, k] |

    On return from an integrator's step, forces, energies and cvs belong to `positions`. Integrators update the
    tensors in place: clone what should outlive a step. `integrator_state` holds whatever else an integrator carries
    along (thermostat chains, moments, counters) and is saved with the rest.
    """

    positions: Tensor
    velocities: Tensor
    forces: Tensor
    energy: Tensor
    bias_energy: Tensor
    cvs: Tensor
    generator: torch.Generator
    step: int = 0
    integrator_state: dict[str, Tensor] = field(default_factory=dict)

    @property
    def walkers(self) -> int:
        """Number of walkers W."""
        return self.positions.shape[0]

    def normal(self, like: Tensor) -> Tensor:
        """Independent unit normal numbers in the shape of `like` [any], from the state's own generator.

        On a CPU they are drawn in float32 whatever the type of `like`: torch's float32 generator is vectorised and
        five times faster, and the rounding of a noise term (relative 6e-8) is far below its own standard deviation.
        """
        drawn = torch.randn(like.shape, generator=self.generator, device=like.device, dtype=torch.float32)
        return drawn.to(like.dtype)

    def state_dict(self) -> dict[str, Any]:
        """A copy of all of it, as tensors and numbers."""
        tensors = {name: getattr(self, name).clone() for name in _TENSORS}
        return {
            **tensors,
            "step": self.step,
            "generator": self.generator.get_state(),
            "integrator_state": {name: value.clone() for name, value in self.integrator_state.items()},
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave, on this state's device."""
        for name in _TENSORS:
            setattr(self, name, saved[name].to(self.positions.device, copy=True))
        self.step = int(saved["step"])
        self.generator.set_state(saved["generator"])
        device = self.positions.device
        self.integrator_state = {name: value.to(device, copy=True) for name, value in saved["integrator_state"].items()}


_TENSORS = ("positions", "velocities", "forces", "energy", "bias_energy", "cvs")
