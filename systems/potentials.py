"""Potentials U(q) of a network: what `NeuralNetwork(potential=...)` takes; add them with +."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nnsim.errors import require_number
from nnsim.evaluation import Evaluation


class Potential:
    """Maps an evaluation to energies [W]; two of them add up with +."""

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """U, [W]."""
        raise NotImplementedError

    def __add__(self, other: Potential) -> Potential:
        return SumPotential((self, other))


@dataclass(frozen=True)
class LossPotential(Potential):
    """U = factor x train loss; with kT = 1 the factor is the inverse loss temperature beta.

    Args:
        factor: energy per unit of loss, at least 0.
    """

    factor: float

    def __post_init__(self) -> None:
        require_number("LossPotential", "factor", self.factor, least=0.0)

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """U, [W]."""
        return self.factor * evaluation.loss("train").double()


@dataclass(frozen=True)
class GaussianPrior(Potential):
    """U = sum q^2 / (2 scale^2): at kT = 1 each parameter alone is normal with standard deviation `scale`.

    Args:
        scale: above 0, in units of the parameters.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        require_number("GaussianPrior", "scale", self.scale, above=0.0)

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """U, [W]."""
        positions = evaluation.positions
        return torch.linalg.vecdot(positions, positions).double() / (2 * self.scale**2)


@dataclass(frozen=True)
class SumPotential(Potential):
    """The sum of several potentials."""

    parts: tuple[Potential, ...]

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """U, [W]."""
        total = self.parts[0](evaluation)
        for part in self.parts[1:]:
            total = total + part(evaluation)
        return total


def potential_terms(potential: object) -> tuple[float, float] | None:
    """Factors (f, g) of U = f x train loss + g x |q|^2, or None for a potential of another form."""
    if potential is None:
        return 0.0, 0.0
    if isinstance(potential, LossPotential):
        return potential.factor, 0.0
    if isinstance(potential, GaussianPrior):
        return 0.0, 1 / (2 * potential.scale**2)
    if isinstance(potential, SumPotential):
        terms = [potential_terms(part) for part in potential.parts]
        if all(term is not None for term in terms):
            return sum(t[0] for t in terms if t), sum(t[1] for t in terms if t)
    return None
