"""Everything that moves."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from nnsim.random.streams import Purpose, RandomStreams


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
    along (thermostat chains, moments, counters) and is saved with the rest. `generator` is the run's `RandomStreams`;
    given a plain generator of torch, it is one with a seed drawn from that.

    While `heat` [W] is not None, heat baths add to it what they give to each walker; it is not saved.
    """

    positions: Tensor
    velocities: Tensor
    forces: Tensor
    energy: Tensor
    bias_energy: Tensor
    cvs: Tensor
    generator: RandomStreams
    step: int = 0
    integrator_state: dict[str, Tensor] = field(default_factory=dict)
    heat: Tensor | None = None

    def __post_init__(self) -> None:
        self.generator = RandomStreams.of(self.generator)

    @property
    def walkers(self) -> int:
        """Number of walkers W."""
        return self.positions.shape[0]

    def normal(self, like: Tensor) -> Tensor:
        """Independent unit normal numbers in the shape and type of `like`, other ones at each call.

        Row w of `like` [W, ...] has those of (seed, walker w, `step`, number of the call in this step). Where the first
        axis is not that of the W walkers they belong to none of them.
        """
        shape = like.shape
        if shape and shape[0] == self.positions.shape[0]:
            return self.generator.normal(Purpose.NOISE, shape, step=self.step, dtype=like.dtype)
        drawn = self.generator.normal(Purpose.NOISE, (1, like.numel()), step=self.step, dtype=like.dtype, first=0)
        return drawn.view(shape)

    def clone(self) -> State:
        """A copy that goes its own way, with random numbers of its own as well."""
        tensors = {name: getattr(self, name).clone() for name in _TENSORS}
        carried = {name: value.clone() for name, value in self.integrator_state.items()}
        return replace(self, **tensors, generator=copy.deepcopy(self.generator), integrator_state=carried)

    def state_dict(self) -> dict[str, Any]:
        """A copy of all of it, as tensors and numbers."""
        tensors = {name: getattr(self, name).clone() for name in _TENSORS}
        return {
            **tensors,
            "step": self.step,
            "generator": self.generator.get_state(),
            "draws": self.generator.draws(),
            "integrator_state": {name: value.clone() for name, value in self.integrator_state.items()},
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave, on this state's device."""
        for name in _TENSORS:
            setattr(self, name, saved[name].to(self.positions.device, copy=True))
        self.step = int(saved["step"])
        self.generator.set_state(saved["generator"])
        self.generator.restore(saved.get("draws"))
        device = self.positions.device
        self.integrator_state = {name: value.to(device, copy=True) for name, value in saved["integrator_state"].items()}


_TENSORS = ("positions", "velocities", "forces", "energy", "bias_energy", "cvs")
