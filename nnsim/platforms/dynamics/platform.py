"""The native platform for dynamics: whole steps compiled, for walkers on threads.

It does what the reference platform does, step by step: all walkers make a step, and then each bias learns from all of
them in their order. So results depend neither on the number of threads nor on how a run is cut into pieces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nnsim.platforms.dynamics.obstacles import obstacle
from nnsim.protocols import Integrator, Observable, Platform, System
from nnsim.running.film import NO_FILM, Film

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from nnsim.simulation import Simulation
    from nnsim.state import State

MOST_STEPS = 4096  # in one call, whose schedules are made before


class NativeDynamics(Platform):
    """Integrators that are programs, for networks that can be traced."""

    name = "native"
    compiled = True

    @classmethod
    def obstacle(cls, simulation: Simulation) -> str | None:
        """Why this simulation cannot run here, or None if it can."""
        return obstacle(simulation)

    @classmethod
    def serves(cls, integrator: Integrator) -> bool:
        """Whether it is a dynamics given as a program."""
        return integrator.needs_gradients and integrator.is_program

    @classmethod
    def concerns(cls, simulation: Simulation) -> bool:
        """Whether such integrators move a network: others have nothing that could be compiled."""
        own = type(simulation.system).traced_network is not System.traced_network
        return own and cls.serves(simulation.integrator)

    def attach(self, simulation: Simulation) -> None:
        """Take over a simulation: its parts as arrays, and room for each thread."""
        from nnsim.platforms.dynamics.walkers import Team

        self.integrator, self.force_field = simulation.integrator, simulation.force_field
        threads = simulation.threads or torch.get_num_threads()  # which knows what the machine lets us have
        self.team = Team(simulation.integrator, simulation.force_field, simulation.state, threads)

    def summary(self) -> str:
        """In some words, how the steps are made."""
        return f"native: compiled steps, threads={len(self.team.shares)}"

    def observe(self, state: State, things: Sequence[Observable]) -> Mapping[str, Tensor]:
        """Losses and accuracies, by the compiled network."""
        return self.team.observe(state, things)

    def filmed(self, things: Sequence[Observable]) -> Sequence[Observable]:
        """Losses and accuracies."""
        return self.team.known(things)

    def advance(self, state: State, steps: int) -> State:
        """`steps` steps of all walkers, with what the biases learn."""
        return self.film(state, steps, NO_FILM)

    def film(self, state: State, steps: int, film: Film) -> State:
        """The same, keeping frames."""
        end = state.step + steps
        while state.step < end:
            self.team.advance(state, min(end - state.step, MOST_STEPS), film)
        return state
