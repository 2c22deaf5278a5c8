"""Frames: what is known of a run at some of its steps, for what is written down and watched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from nnsim.protocols import Bias, Observable, Reporter

if TYPE_CHECKING:
    from nnsim.evaluation import Evaluation
    from nnsim.simulation import Simulation

MOST_BYTES = 16_000_000  # of the frames that a film holds
MOST_FRAMES = 16_384

Numbers: TypeAlias = "dict[str, dict[str, Any]]"  # by the name of a bias, what its `observables` gave


class Frames(Protocol):
    """W walkers at T steps.

    Attributes:
        steps: [T], int64.
        positions, velocities: [T, W, n]; in a film only those rows are right that it was asked for.
        energy, bias_energy: [T, W].
        cvs: [T, W, k].
        kinetic_energy: [T, W]; None without one.
        numbers: of the biases, [T]; None where a film was not asked for them.
    """

    steps: np.ndarray
    positions: Tensor
    velocities: Tensor
    energy: Tensor
    bias_energy: Tensor
    cvs: Tensor
    kinetic_energy: Tensor | None

    @property
    def numbers(self) -> Sequence[Numbers | None]:
        """Of the biases."""
        ...

    def observed(self, thing: Observable) -> Tensor:
        """The values of an observable, [T, W, ...]."""
        ...


@dataclass
class Filmed:
    """Frames that a platform has kept; see `Frames`."""

    steps: np.ndarray
    positions: Tensor
    velocities: Tensor
    energy: Tensor
    bias_energy: Tensor
    cvs: Tensor
    kinetic_energy: Tensor | None
    numbers: Sequence[Numbers | None]
    values: Mapping[str, Tensor]

    def observed(self, thing: Observable) -> Tensor:
        """The values of an observable that the film was asked for, [T, W, ...]."""
        return self.values[thing.name]


class Present:
    """The one frame of a simulation as it is now; see `Frames`.

    Args:
        simulation: it must not go on while this is in use.
        things: observables that are going to be asked for.
    """

    def __init__(self, simulation: Simulation, things: Sequence[Observable] = ()) -> None:
        self._simulation, self._things, state = simulation, things, simulation.state
        self.steps = np.array([state.step])
        self.positions, self.velocities = state.positions[None], state.velocities[None]
        self.energy, self.bias_energy, self.cvs = state.energy[None], state.bias_energy[None], state.cvs[None]
        kinetic = state.integrator_state.get("kinetic_energy")
        self.kinetic_energy = None if kinetic is None else kinetic[None]

    @cached_property
    def numbers(self) -> Sequence[Numbers | None]:
        """Of the biases."""
        return [numbers_of(self._simulation.force_field.biases)]

    @cached_property
    def _known(self) -> Mapping[str, Tensor]:
        return self._simulation.platform.observe(self._simulation.state, self._things) if self._things else {}

    @cached_property
    def _evaluation(self) -> Evaluation:
        return self._simulation.force_field.evaluate(self._simulation.state.positions)

    def observed(self, thing: Observable) -> Tensor:
        """The values of an observable, [1, W, ...]: by the platform if it knows how, else by the observable itself."""
        known = self._known.get(thing.name)
        value = thing.observe(self._simulation.state, self._evaluation) if known is None else known
        return (value if isinstance(value, Tensor) else torch.as_tensor(np.array(np.float64(value))))[None]


def numbers_of(biases: Sequence[Bias]) -> Numbers:
    """What the biases say of themselves now, in copies."""
    return {bias.name: {key: _copied(value) for key, value in bias.observables().items()} for bias in biases}


def _copied(value: float | Tensor) -> np.ndarray | np.float64:
    return np.array(value.detach().cpu().numpy()) if isinstance(value, Tensor) else np.float64(value)


@dataclass
class Film:
    """Which steps a platform shall keep as frames while it makes them, and those that it has kept.

    Attributes:
        every: interval of the frames, in steps.
        numbers_every, positions_every, velocities_every, things_every: of what only some frames need, multiples; 0 is
            never.
        things: observables of the last of these.
        frames: what was kept.
    """

    every: int
    numbers_every: int = 0
    positions_every: int = 0
    velocities_every: int = 0
    things_every: int = 0
    things: tuple[Observable, ...] = ()
    frames: list[Filmed] = field(default_factory=list)

    def count(self, step: int, steps: int) -> int:
        """How many frames there are in so many steps after this one."""
        return (step + steps) // self.every - step // self.every if self.every else 0

    def within(self, step: int, steps: int, frame_bytes: int) -> int:
        """As many of the steps after this one, at least one, as have frames that can be held at once."""
        most = min(max(MOST_BYTES // max(frame_bytes, 1), 1), MOST_FRAMES)
        return min(steps, self.every * most - step % self.every)

    def developed(self) -> list[Filmed]:
        """The frames, which the film then no longer holds."""
        frames, self.frames = self.frames, []
        return frames


NO_FILM = Film(every=0)  # without any frames


class FrameReporter(Reporter):
    """A reporter that can take many frames at once."""

    def take(self, simulation: Simulation, frames: Frames) -> None:
        """Take those frames that are due."""
        raise NotImplementedError

    def filmed(self, film: Film) -> tuple[FrameReporter | None, Reporter | None]:
        """What of it a film serves, and what must be called at its own steps all the same."""
        raise NotImplementedError
