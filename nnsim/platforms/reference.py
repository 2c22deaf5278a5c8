"""The reference platform: the equations, step by step, in torch."""

from __future__ import annotations

import torch
from torch import Tensor

from nnsim.errors import DivergedError, InputError
from nnsim.program.operation import execute
from nnsim.protocols import Platform
from nnsim.running.checks.integrators import require_state
from nnsim.state import State


class ReferencePlatform(Platform):
    """Runs integrator and biases one step at a time; every other platform is tested against it."""

    name = "reference"

    def summary(self) -> str:
        """In some words, how the steps are made."""
        return f"reference: steps in torch, threads={torch.get_num_threads()}"

    def advance(self, state: State, steps: int) -> State:
        """`steps` times: a step of the integrator, then an update of every bias at the new cvs."""
        program = tuple(self.integrator.program(self.force_field)) if self.integrator.is_program else None
        for _ in range(steps):
            before = state.step
            if program is None:
                state = self.integrator.step(state, self.force_field)
            else:
                state = execute(program, state, self.force_field)
            require_state(f"{type(self.integrator).__name__}: step()", state)
            if state.step != before + 1:
                raise InputError(
                    f"{type(self.integrator).__name__}: step() took state.step from {before} to {state.step}; "
                    "it must add 1"
                )
            check_finite(state)
            if self.force_field.update_biases(state.cvs, state.step):
                self._refresh(state)
        return state

    def _refresh(self, state: State) -> None:
        """Energies and forces at unchanged positions, after a bias has changed at once."""
        if self.integrator.needs_gradients:
            previous = (state.cvs,) if self.force_field.slow else ()
            result = self.force_field(state.positions, state.step, *previous)
            state.energy, state.bias_energy, state.cvs, state.forces = result
        else:
            state.bias_energy = self.force_field.bias_energy(state.cvs, state.step)


def check_finite(state: State) -> None:
    """Raise `DivergedError`, naming step, walker and quantity, if a NaN or an infinity has appeared."""
    if not bool(not_finite(state)):
        return
    # in the order of cause and effect, so that the first bad one is named
    named = {
        name: getattr(state, name) for name in ("positions", "energy", "cvs", "bias_energy", "forces", "velocities")
    }
    for quantity, values in {**named, **state.integrator_state}.items():
        bad = ~torch.isfinite(values.reshape(len(values), -1)) if values.ndim else ~torch.isfinite(values.view(1, 1))
        if bool(bad.any()):
            walker = int(bad.any(dim=1).nonzero()[0])
            raise DivergedError(f"step {state.step}: {quantity} of walker {walker} {_REMEDY[state.step == 0]}")


def not_finite(state: State) -> Tensor:
    """Whether anything is NaN or infinite, [], bool: a sum is, if any of its terms is."""
    parts = [state.positions, state.velocities, state.forces, state.energy, state.bias_energy, state.cvs]
    parts += [value for value in state.integrator_state.values() if value.is_floating_point()]
    total = torch.stack([part.sum(dtype=torch.float64) for part in parts])
    return ~torch.isfinite(total.sum())


_REMEDY = {
    True: "is NaN or infinite at the start; change the start or the system",
    False: "became NaN or infinite; use a smaller time step, a smaller increment of the bias, or a higher friction",
}
