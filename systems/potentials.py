"""Potentials U(q) of a network: what `NeuralNetwork(potential=...)` takes; add them with +."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nnsim.errors import InputError, settle_number, shown
from nnsim.evaluation import Evaluation
from nnsim.platforms.obstacles import unknown


class Potential:
    """Maps an evaluation to energies [W]; adds up, by + or `sum`, with others and with functions of an evaluation."""

    @property
    def native(self) -> tuple[float, float] | None:
        """Factors of the train loss and of |q|^2, for native platforms; None for a potential of another form."""
        return None

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """U, [W]."""
        raise NotImplementedError

    def __add__(self, other: Term) -> Potential:
        return SumPotential((*_parts(self), *_parts(other)))

    def __radd__(self, other: Term | int) -> Potential:
        if isinstance(other, int) and other == 0:  # what `sum` begins with
            return self
        return SumPotential((*_parts(other), *_parts(self)))


Term = Potential | Callable[[Evaluation], Tensor]


@dataclass(frozen=True)
class LossPotential(Potential):
    """U = factor x train loss; with kT = 1 the factor is the inverse loss temperature beta.

    Args:
        factor: energy per unit of loss, at least 0.
    """

    factor: float

    def __post_init__(self) -> None:
        settle_number(self, "factor", least=0.0)

    @property
    def native(self) -> tuple[float, float]:
        """Factors of the train loss and of |q|^2, for native platforms."""
        return self.factor, 0.0

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
        settle_number(self, "scale", above=0.0)

    @property
    def native(self) -> tuple[float, float]:
        """Factors of the train loss and of |q|^2, for native platforms."""
        return 0.0, 1 / (2 * self.scale**2)

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """U, [W]."""
        positions = evaluation.positions
        return torch.linalg.vecdot(positions, positions).double() / (2 * self.scale**2)


@dataclass(frozen=True)
class SumPotential(Potential):
    """The sum of several potentials or functions of an evaluation."""

    parts: tuple[Term, ...]

    @property
    def native(self) -> tuple[float, float] | None:
        """Factors of the train loss and of |q|^2, for native platforms; None if a part has none."""
        terms = [potential_terms(part) for part in self.parts]
        known = [term for term in terms if term is not None]
        return (sum(t[0] for t in known), sum(t[1] for t in known)) if len(known) == len(terms) else None

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """U, [W]."""
        total = self.parts[0](evaluation)
        for part in self.parts[1:]:
            total = total + part(evaluation)
        return total


def _parts(term: object) -> tuple[Term, ...]:
    """The terms of a sum, or the one term that it is."""
    if isinstance(term, SumPotential):
        return term.parts
    if isinstance(term, type) or not callable(term):
        raise InputError(
            f"Potential: {shown(term)} cannot be added to a potential; add potentials or functions of an evaluation"
        )
    return (term,)


def checked_potential(potential: Any) -> Term | None:
    """The potential of a network; raises `InputError` for what cannot be called with an evaluation."""
    if potential is not None and (isinstance(potential, type) or not callable(potential)):
        raise InputError(
            f"NeuralNetwork: potential = {shown(potential)} must be None, made of LossPotential(...) and "
            "GaussianPrior(...), or a function of an evaluation; change potential"
        )
    found: Term | None = potential
    return found


def terms_of(potential: Term | None) -> dict[str, Term]:
    """The terms of a potential by names such as `LossPotential`, those of the same name numbered."""
    found: dict[str, Term] = {}
    for term in () if potential is None else _parts(potential):
        name = own = getattr(term, "__name__", type(term).__name__)
        while name in found:
            name = f"{own}_{len(found) + 1}"
        found[name] = term
    return found


def potential_terms(potential: object) -> tuple[float, float] | None:
    """Factors (f, g) of U = f x train loss + g x |q|^2, or None for a potential of another form."""
    if potential is None:
        return 0.0, 0.0
    native = potential.native if isinstance(potential, Potential) else None
    return None if unknown("the potential", potential, native) else native
