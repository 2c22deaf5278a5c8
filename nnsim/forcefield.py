"""From positions to energies and forces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nnsim.errors import InputError
from nnsim.evaluation import Evaluation
from nnsim.protocols import Bias, System


class Forces(NamedTuple):
    """What a `ForceField` returns: energy [W], bias_energy [W], cvs [W, k] and forces [W, n]."""

    energy: Tensor
    bias_energy: Tensor
    cvs: Tensor
    forces: Tensor


class ForceField:
    r"""H = sum m v^2 / 2 + U(q) + sum_b V_b(s(q)), and the forces of its potential part.

    One evaluation of the network, dV/ds at s, and one backward pass of U + sum_j (dV/ds_j) s_j, in which dV/ds is a
    constant: by the chain rule that is the gradient of U + V.

    Args:
        system: gives U and the outputs that the CVs are made of.
        biases: their CVs together are the k columns of `cvs`, each CV once.

    Raises:
        InputError: two different CVs, or two biases, of one name.
    """

    def __init__(self, system: System, biases: Sequence[Bias] = ()) -> None:
        self.system = system
        self.biases = unique_by_name(biases, "biases")
        if len(self.biases) < len(biases):
            raise InputError("ForceField: a bias is given twice, so it would count twice; leave one out")
        self.cvs = unique_by_name((cv for bias in biases for cv in bias.cvs), "collective variables")
        order = {cv.name: column for column, cv in enumerate(self.cvs)}
        self._columns = [_as_slice([order[cv.name] for cv in bias.cvs]) for bias in biases]
        self._prefetch: tuple[str, ...] = ()
        self.smooth: dict[str, bool] = {}
        self.flat = True

    def probe(self, positions: Tensor) -> None:
        """Evaluate once to check that the CVs work, and to learn which data splits they need together.

        `self.smooth` then says of each CV, by name, whether it has a gradient, and `self.flat` whether U = 0.
        """
        evaluation = Evaluation(self.system, positions.detach().requires_grad_())
        with torch.enable_grad():
            values = [(f"CV {cv.name!r}", cv(evaluation)) for cv in self.cvs]
            energy = self.system.energy(evaluation)
        self.smooth = {cv.name: value.requires_grad for cv, (_, value) in zip(self.cvs, values, strict=True)}
        self.flat = energy is None
        if energy is not None:
            values.append(("the energy", energy))
        for what, value in values:
            if value.shape != positions.shape[:1]:
                raise InputError(
                    f"ForceField: {what} has shape {tuple(value.shape)}, but one number for each of "
                    f"{len(positions)} walkers is needed; return a tensor of shape [W]"
                )
        self._prefetch = tuple(sorted(evaluation.requested))

    def evaluate(self, positions: Tensor) -> Evaluation:
        """A fresh evaluation at positions [W, n], ready for the splits that the CVs use."""
        return Evaluation(self.system, positions, self._prefetch)

    def __call__(self, positions: Tensor, step: int) -> Forces:
        """Energies and forces at positions [W, n]; `step` is the time of moving biases."""
        leaf = positions.detach().requires_grad_()
        with torch.enable_grad():
            energy, s, columns = self._energy_and_cvs(self.evaluate(leaf))
        bias_energy, slope = self._bias(s, step)
        # The scalar whose gradient is that of U + V, as (tensor, factor) pairs: no need to build the sum itself.
        terms = [(energy, torch.ones_like(energy))] if energy is not None and energy.requires_grad else []
        for j, column in enumerate(columns):
            if column.requires_grad:
                terms.append((column, slope[:, j].to(column.dtype)))
        if terms:
            (gradient,) = torch.autograd.grad(
                [tensor for tensor, _ in terms], leaf, [factor for _, factor in terms], allow_unused=True
            )
        else:
            gradient = None
        forces = torch.zeros_like(positions) if gradient is None else gradient.neg()
        return Forces(self._plain(energy, positions), bias_energy, s, forces)

    @torch.no_grad()
    def energies(self, positions: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Energy [W], bias energy [W] and cvs [W, k] without gradients, for Monte Carlo."""
        energy, s, _ = self._energy_and_cvs(self.evaluate(positions))
        return self._plain(energy, positions), self.bias_energy(s, step), s

    @torch.no_grad()
    def bias_energy(self, s: Tensor, step: int) -> Tensor:
        """Sum of the bias energies, [W], at s [W, k]."""
        total = torch.zeros(len(s), dtype=torch.float64, device=s.device)
        for bias, columns in zip(self.biases, self._columns, strict=True):
            total = total + bias.energy(s[:, columns], step)
        return total

    def allows(self, s: Tensor) -> Tensor:
        """Whether a Monte Carlo move may lead each walker to s [W, k], for all biases, [W]."""
        allowed = torch.ones(len(s), dtype=torch.bool, device=s.device)
        for bias, columns in zip(self.biases, self._columns, strict=True):
            allowed &= bias.allows(s[:, columns])
        return allowed

    def update_biases(self, s: Tensor, step: int) -> None:
        """Let every bias learn from the walkers at s [W, k]."""
        for bias, columns in zip(self.biases, self._columns, strict=True):
            bias.update(s[:, columns], step)

    def start_biases(self, s: Tensor) -> None:
        """Let every bias refuse a useless start at s [W, k]."""
        for bias, columns in zip(self.biases, self._columns, strict=True):
            bias.start(s[:, columns])

    def _energy_and_cvs(self, evaluation: Evaluation) -> tuple[Tensor | None, Tensor, list[Tensor]]:
        energy = self.system.energy(evaluation)
        columns = [cv(evaluation) for cv in self.cvs]
        if not columns:
            return energy, evaluation.positions.new_zeros((len(evaluation.positions), 0), dtype=torch.float64), []
        return energy, torch.stack([column.detach().double() for column in columns], dim=1), columns

    @torch.no_grad()
    def _bias(self, s: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Sum of the bias energies [W] and its gradient dV/ds [W, k]."""
        total = torch.zeros(len(s), dtype=torch.float64, device=s.device)
        slope = torch.zeros_like(s)
        for bias, columns in zip(self.biases, self._columns, strict=True):
            value, gradient = bias.energy_and_gradient(s[:, columns], step)
            total += value
            if isinstance(columns, slice):
                slope[:, columns] += gradient
            else:  # a bias may use one CV twice, and both gradients count
                slope.index_add_(1, torch.tensor(columns, device=s.device), gradient)
        return total, slope

    @staticmethod
    def _plain(energy: Tensor | None, positions: Tensor) -> Tensor:
        if energy is None:
            return torch.zeros(len(positions), dtype=torch.float64, device=positions.device)
        return energy.detach().double()


def _as_slice(columns: list[int]) -> slice | list[int]:
    """Neighbouring columns as a slice, which selects a view, many times faster than a list does."""
    if columns and columns == list(range(columns[0], columns[0] + len(columns))):
        return slice(columns[0], columns[0] + len(columns))
    return columns


def unique_by_name(things: object, what: str) -> tuple:
    """The things without repetitions; raises `InputError` where two different ones share a name."""
    found: dict[str, object] = {}
    for thing in things:  # type: ignore[attr-defined]
        known = found.setdefault(thing.name, thing)
        if known is not thing and known != thing:
            raise InputError(f"two different {what} are called {thing.name!r}; give one of them another name")
    return tuple(found.values())
