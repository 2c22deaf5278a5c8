"""Systems whose answers are known, for tests and teaching.

The functions are energies, but may as well serve as mere collective variables: `cv.LogEnergy(Harmonic())` on
`AnalyticSystem(n)`, which has U = 0.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nnsim.box import Box
from nnsim.errors import InputError, require_integer, require_numbers, settle_number, shown
from nnsim.evaluation import Evaluation
from nnsim.precision import Precision
from nnsim.protocols import System
from nnsim.systems.checks import checked_box


@dataclass(frozen=True)
class Harmonic:
    """E = stiffness x |q|^2 / 2.

    With E as a CV and U = 0, S(ln E) = (n / 2) ln E + constant inside the largest sphere that fits the box.

    Args:
        stiffness: above 0, in energy per length squared.
    """

    stiffness: float = 1.0

    def __post_init__(self) -> None:
        settle_number(self, "stiffness", above=0.0)

    def __call__(self, positions: Tensor) -> Tensor:
        """E [W] at positions [W, n]."""
        return 0.5 * self.stiffness * torch.linalg.vecdot(positions, positions)


@dataclass(frozen=True)
class DoubleWell:
    """E = sum_i barrier ((q_i / minimum)^2 - 1)^2 + coupling sum_i (q_i - q_{i+1})^2 / 2.

    Args:
        barrier: height of the barrier between the wells of one coordinate, at least 0.
        minimum: place of the wells at +-minimum, above 0.
        coupling: stiffness of the springs between neighbouring coordinates, at least 0.
    """

    barrier: float = 5.0
    minimum: float = 1.0
    coupling: float = 0.0

    def __post_init__(self) -> None:
        settle_number(self, "barrier", least=0.0)
        settle_number(self, "minimum", above=0.0)
        settle_number(self, "coupling", least=0.0)

    def __call__(self, positions: Tensor) -> Tensor:
        """E [W] at positions [W, n]."""
        wells = self.barrier * ((positions / self.minimum) ** 2 - 1).square().sum(-1)
        if not self.coupling or positions.shape[-1] < 2:
            return wells
        return wells + 0.5 * self.coupling * positions.diff(dim=-1).square().sum(-1)


class AnalyticSystem(System):
    """n coordinates with a potential given as a function; without one, free particles in a box.

    Args:
        n: number of coordinates, at least 1.
        potential: maps positions [W, n] to energies [W], such as `Harmonic()`; None is U = 0.
        box: where the coordinates may live; None is an open box.
        start: positions of the walkers at the start: `"uniform"` in the box, a number or [n] for all, or [W, n].

    Raises:
        InputError: n < 1, or a start of the wrong shape or outside the box.
    """

    def __init__(
        self,
        n: int,
        potential: Callable[[Tensor], Tensor] | None = None,
        *,
        box: Box | None = None,
        start: str | float | Tensor = "uniform",
    ) -> None:
        self.size = require_integer("AnalyticSystem", "n", n, least=1)
        self.parameters = {"q": (self.size,)}
        if potential is not None and (isinstance(potential, type) or not callable(potential)):
            raise InputError(
                f"AnalyticSystem: potential = {shown(potential)} must be None or a function of positions [W, n], "
                "such as Harmonic(); change potential"
            )
        self.potential = potential
        self.box = checked_box("AnalyticSystem", box)
        self.box.check_size(self.size)
        if isinstance(start, str) and start != "uniform":
            raise InputError(f"AnalyticSystem: start = {start!r} must be 'uniform' or positions; give one of them")
        self.start = start if isinstance(start, str) else require_numbers("AnalyticSystem", "start", start)
        if isinstance(self.start, Tensor) and not bool(torch.isfinite(self.start).all()):
            raise InputError(f"AnalyticSystem: start = {shown(start)} must be finite numbers; change start")

    def prepare(self, precision: Precision, device: torch.device) -> None:
        """Bring the box to the type and device of the run."""
        self.box = copy.copy(self.box)  # the user's box, and that of a copy of this system, stay as they are
        self.box.prepare(precision.state, device)

    def exact(self, device: torch.device) -> AnalyticSystem:
        """A copy in double precision."""
        other = copy.copy(self)
        other.prepare(Precision.named("double"), device)
        return other

    def initial_positions(self, walkers: int, generator: torch.Generator) -> Tensor:
        """Start of each walker, [W, n], float64."""
        if isinstance(self.start, str):
            return self.box.uniform(walkers, self.size, generator)
        start = self.start.to(generator.device)
        try:
            positions = start.expand(walkers, self.size).clone()
        except RuntimeError:
            raise InputError(
                f"AnalyticSystem: start has shape {tuple(start.shape)}; give a number, [{self.size}] or "
                f"[{walkers}, {self.size}] values"
            ) from None
        if not bool(self.box.contains(positions).all()):
            raise InputError(f"AnalyticSystem: the start lies outside the {self.box}; move it inside")
        return positions

    def energy(self, evaluation: Evaluation) -> Tensor | None:
        """U [W], or None for free particles."""
        return None if self.potential is None else self.potential(evaluation.positions)
