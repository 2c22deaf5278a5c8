"""Mini-batches: which train points each walker's next gradient is estimated on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nnsim.errors import InputError, require_integer
from nnsim.forcefield import ForceField
from nnsim.protocols import System
from nnsim.random.streams import Purpose
from nnsim.state import State


class MiniBatches:
    """Every epoch visits each point once, in an order of its own for each walker.

    As in torch's DataLoader the last batch of an epoch is smaller where the size does not divide the number of points.
    The order follows from the number of the epoch, and where in it a run is from the step; `integrator_state["order"]`
    [W, N] is that of the present epoch.

    Args:
        owner: the integrator, for messages.
        size: points of a mini-batch, at most the number of train points.
        system: has data and a `batch_loss(positions, index)`.

    Raises:
        InputError: a system without data or `batch_loss`, a batch larger than the data.
    """

    def __init__(self, owner: str, size: int, system: System) -> None:
        self.size, self.points = size, train_points(owner, system)
        if size > self.points:
            raise InputError(
                f"{owner}: batch_size = {size} must be at most the number of train points, {self.points}; "
                "lower it, or leave it out for full batches"
            )
        if type(system).batch_loss is System.batch_loss:
            raise InputError(
                f"{owner}: {type(system).__name__} has no batch_loss(positions, index), which mini-batches need; "
                "give it one, or leave batch_size out"
            )
        self.per_epoch = math.ceil(self.points / size)

    @classmethod
    def of_dynamics(
        cls, owner: str, size: int | None, positions: Tensor, force_field: ForceField
    ) -> MiniBatches | None:
        """The mini-batches of a dynamics at positions [W, n], or None without a size.

        Raises `InputError` where a mini-batch could not give the forces: a bias, or a U without the train loss.
        """
        if size is None:
            return None
        if force_field.biases:
            names = ", ".join(bias.name for bias in force_field.biases)
            raise InputError(
                f"{owner}: a bias needs the exact CVs, which a mini-batch only estimates; "
                f"leave batch_size out, or the bias ({names})"
            )
        batches = cls(owner, size, force_field.system)
        first = torch.zeros((len(positions), 1), dtype=torch.long, device=positions.device)
        with torch.no_grad():
            trial = force_field.evaluate(positions, first)
            energy = force_field.system.energy(trial)
        if energy is None or "train" not in trial.requested:
            what = "U = 0" if energy is None else "U does not depend on the train loss"
            raise InputError(
                f"{owner}: {what}, so batch_size = {size} leaves nothing to estimate; "
                "give the system a potential of the train loss, such as LossPotential(...), or leave batch_size out"
            )
        return batches

    def shuffle_(self, state: State) -> None:
        """A new order of the points for each walker, [W, N], at the start of an epoch; to be called once a step."""
        if state.step % self.per_epoch:
            return
        shape, device = (state.walkers, self.points), state.positions.device
        if self.per_epoch == 1:  # of all points, in whatever order
            order = torch.arange(self.points, device=device).repeat(state.walkers, 1)
        else:
            order = state.generator.orders(Purpose.ORDER, shape, step=state.step // self.per_epoch)
        state.integrator_state["order"] = order

    def index(self, state: State) -> Tensor:
        """Numbers of the points of each walker's mini-batch of the present step, [W, B]."""
        first = state.step % self.per_epoch * self.size
        return state.integrator_state["order"][:, first : first + self.size]


def check_batch_size(owner: str, size: object) -> int | None:
    """Return `size` as a whole number, or None; raise `InputError` if it is below 1."""
    return None if size is None else require_integer(owner, "batch_size", size, least=1)


def train_points(owner: str, system: System) -> int:
    """Number of train points; raises `InputError` without data."""
    try:
        return len(system.targets("train"))
    except (NotImplementedError, InputError):
        raise InputError(
            f"{owner}: {type(system).__name__} has no data, so no train loss; "
            "use a NeuralNetwork, or a dynamics without mini-batches"
        ) from None
