"""Walls on a collective variable."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from nnsim.errors import InputError, require_choice, require_cv, require_number
from nnsim.protocols import Bias, CollectiveVariable


class Wall(Bias):
    r"""A one-sided potential that keeps a CV below `upper`, above `lower`, or both.

        V(s) = strength x (s - upper)^2 / 2     beyond the wall, for shape="quadratic"
        V(s) = strength x (s - upper)           beyond the wall, for shape="linear"

    and the mirror image at `lower`. Put a wall well inside the grid of a Wang-Landau bias, at least
    sqrt(2 x (range of S) / strength) from its edge: a bias that flattens the histogram also climbs walls.

    Args:
        cv: the collective variable.
        upper, lower: where the wall begins, in units of the CV; at least one of them.
        strength: above 0; energy per unit of the CV squared (quadratic) or per unit of the CV (linear).
        shape: `"quadratic"` or `"linear"`; the latter has a bounded force, but one that jumps.
        name: name of the bias; by default made of the CV's name and the sides.

    Raises:
        InputError: no wall, no CV, lower >= upper, or a number that is not finite or not positive; when the simulation
            is made, a periodic CV, on which nothing lies beyond a wall.
    """

    kind, formula = "restraint", "wall"
    periods = (None,)

    def __init__(
        self,
        cv: CollectiveVariable,
        *,
        upper: float | None = None,
        lower: float | None = None,
        strength: float = 3000.0,
        shape: str = "quadratic",
        name: str | None = None,
    ) -> None:
        if upper is None and lower is None:
            raise InputError("Wall: it has no side; give upper, lower, or both")
        require_cv("Wall", "cv", cv)
        self.cvs = (cv,)
        self.upper = None if upper is None else require_number("Wall", "upper", upper)
        self.lower = None if lower is None else require_number("Wall", "lower", lower)
        if self.upper is not None and self.lower is not None and self.lower >= self.upper:
            raise InputError(f"Wall: lower = {self.lower:g} must be below upper = {self.upper:g}; swap them")
        self.strength = require_number("Wall", "strength", strength, above=0.0)
        self.shape = require_choice("Wall", "shape", shape, ("quadratic", "linear"))
        sides = "_".join(side for side in ("lower", "upper") if getattr(self, side) is not None)
        self.name = f"wall_{sides}_{cv.name}" if name is None else name

    @property
    def native(self) -> tuple[float, float, float, bool]:
        """Lower and upper edge, strength, and whether it is quadratic, for native platforms."""
        lower = -math.inf if self.lower is None else self.lower
        return lower, math.inf if self.upper is None else self.upper, self.strength, self.shape == "quadratic"

    def still(self, step: int) -> bool:
        """Whether V stays as it is from a step on."""
        return True

    def energy(self, s: Tensor, step: int) -> Tensor:
        """V [W] at s [W, 1]."""
        beyond = self._beyond(s[:, 0]).abs()
        return self.strength * (0.5 * beyond**2 if self.shape == "quadratic" else beyond)

    def gradient(self, s: Tensor, step: int) -> Tensor:
        """dV/ds [W, 1] at s [W, 1]."""
        beyond = self._beyond(s)
        return self.strength * (beyond if self.shape == "quadratic" else torch.sign(beyond))

    def _beyond(self, s: Tensor) -> Tensor:
        """How far s lies beyond a wall: positive past `upper`, negative past `lower`, 0 between."""
        return s - torch.clamp(s, self.lower, self.upper)

    def describe(self) -> dict[str, Any]:
        """Settings, for the record."""
        names = ("lower", "upper", "strength", "shape")
        return {"cvs": [self.cvs[0].name], "cv": self.cvs[0], **{name: getattr(self, name) for name in names}}
