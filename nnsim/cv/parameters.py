"""Collective variables of the parameters themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nnsim.box import Box
from nnsim.cv.loss import refuse_negative
from nnsim.errors import InputError, require_integer, require_numbers, shown
from nnsim.evaluation import Evaluation
from nnsim.protocols import CollectiveVariable


@dataclass(frozen=True)
class WeightNorm(CollectiveVariable):
    """Euclidean norm of all parameters, |q|.

    In a periodic box, where q and q + width are one point, it is the smallest norm of all images: the `Distance` from
    0. There it has a kink where a parameter is half a width away from 0, at the edges of a box [-limit, limit].
    """

    name: str = "weight_norm"

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """|q|, [W]."""
        return torch.linalg.vector_norm(evaluation.difference(0.0), dim=-1)

    def period(self, box: Box) -> float:
        """A norm does not come round."""
        return math.inf


@dataclass(frozen=True)
class Parameter(CollectiveVariable):
    """One of the parameters.

    Args:
        index: its place in the flat positions, from 0.
    """

    index: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", require_integer("Parameter", "index", self.index, least=0))

    @property
    def name(self) -> str:  # type: ignore[override]
        """`parameter_<index>`."""
        return f"parameter_{self.index}"

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """q_index, [W]."""
        n = evaluation.positions.shape[1]
        if self.index >= n:
            raise InputError(f"Parameter: index = {self.index} must be below the number of parameters, {n}; lower it")
        return evaluation.positions[:, self.index]

    def period(self, box: Box) -> float:
        """Width of a periodic box along this parameter; infinity in any other one."""
        if box.period is None:
            return math.inf
        return float(box.period[self.index] if box.period.ndim else box.period)


class Distance(CollectiveVariable):
    r"""Euclidean distance from a reference point in parameter space.

        s(q) = |q - r|

    In a periodic box it is the distance to the nearest image of the reference: each q_i - r_i is at most half a width.
    Where one of them is just that, the direction of the gradient along i turns round.

    Args:
        reference: a number (the same for all parameters) or positions [n].
        name: name of the CV.
    """

    def __init__(self, reference: float | Tensor = 0.0, name: str = "distance") -> None:
        self.name = name
        self.reference = require_numbers("Distance", "reference", reference)
        if self.reference.ndim > 1 or not bool(torch.isfinite(self.reference).all()):
            raise InputError(
                f"Distance: reference = {shown(reference)} must be finite, and a number or one for each parameter; "
                "change reference"
            )

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """|q - reference|, [W]."""
        positions = evaluation.positions
        if self.reference.ndim and self.reference.shape != positions.shape[1:]:
            raise InputError(
                f"Distance: the reference has {self.reference.numel()} values for {positions.shape[1]} parameters; "
                "give one for each, or one number"
            )
        return torch.linalg.vector_norm(evaluation.difference(self.reference.to(positions)), dim=-1)

    def period(self, box: Box) -> float:
        """A distance does not come round."""
        return math.inf

    def describe(self) -> dict[str, Any]:
        """The reference, for the record."""
        return {"reference": self.reference.tolist()}


@dataclass(frozen=True)
class Energy(CollectiveVariable):
    """Any function of the positions, such as an analytic energy, as a mere CV: it exerts no force of its own.

    Args:
        function: maps positions [W, n] to values [W].
        name: name of the CV.
    """

    function: Callable[[Tensor], Tensor]
    name: str = "energy"

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """The function's value, [W]."""
        return evaluation.keep(("function", self.function), lambda: self.function(evaluation.positions))


@dataclass(frozen=True)
class LogEnergy(CollectiveVariable):
    """ln of a positive function of the positions, such as an analytic energy.

    Args:
        function: maps positions [W, n] to positive values [W].
        name: name of the CV.

    Raises:
        DivergedError: a value below 0; when the simulation is made it is an `InputError`.
    """

    function: Callable[[Tensor], Tensor]
    name: str = "ln_energy"

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """Ln of the function's value, [W]."""
        value = evaluation.keep(("function", self.function), lambda: self.function(evaluation.positions))
        refuse_negative(self.name, "the function", value)
        return torch.log(value.clamp_min(torch.finfo(value.dtype).tiny))
