"""What is given to OPES, checked, and the numbers that follow from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nnsim.errors import InputError, require_number, require_numbers, shown
from nnsim.grid.grid import Grid

LARGEST = 700.0  # -ln epsilon: beyond, epsilon is no number of double precision


class Shape:
    """How deep V is, and how far kernels reach and attract.

    Attributes:
        bias_factor: gamma.
        amplitude: V in units of kT is that times ln(P / Z + epsilon).
        epsilon, cutoff, threshold: as `OPES` has them.
    """

    def __init__(
        self,
        barrier: float,
        bias_factor: float | None,
        explore: bool,
        epsilon: float | None,
        cutoff: float | None,
        threshold: float,
    ) -> None:
        """Of a barrier in units of kT."""
        self.bias_factor = barrier if bias_factor is None else _factor(bias_factor, explore)
        self.amplitude = self.bias_factor - 1 if explore else 1 - 1 / self.bias_factor
        depth = barrier / self.amplitude
        if epsilon is None and depth > LARGEST:
            raise InputError(
                f"OPES: a barrier of {barrier:g} kT makes epsilon = exp(-{depth:g}), which is 0 in double precision; "
                f"give a barrier below {LARGEST * self.amplitude:g} kT"
            )
        self.epsilon = math.exp(-depth) if epsilon is None else require_number("OPES", "epsilon", epsilon, above=0.0)
        usual = math.sqrt(2 * barrier if explore else 2 * depth)
        self.cutoff = usual if cutoff is None else require_number("OPES", "cutoff", cutoff, above=0.0)
        self.threshold = require_number("OPES", "threshold", threshold, least=0.0)
        if self.threshold >= self.cutoff:
            raise InputError(
                f"OPES: threshold = {self.threshold:g} must be below cutoff = {self.cutoff:g}; lower threshold"
            )


def _factor(given: object, explore: bool) -> float:
    if isinstance(given, (int, float)) and given == math.inf:
        if explore:
            raise InputError(
                "OPES: explore with bias_factor = inf has no bias that is finite; give a finite bias_factor"
            )
        return math.inf
    return require_number("OPES", "bias_factor", given, above=1.0)


def require_periods(given: Any, k: int, grid: Grid | None) -> tuple[float | None, ...]:
    """The period of each of k CVs, or None: those given, which must be those of a grid, if there is one."""
    if grid is not None and not isinstance(grid, Grid):
        raise InputError(f"OPES: grid = {shown(grid)} must be a grid; give nnsim.Grid(lower, upper, bins)")
    if grid is not None and (grid.dimensions != k or grid.kind != "spline"):
        raise InputError(
            f"OPES: {k} CVs, and a grid of {grid.dimensions} dimensions and kind {grid.kind!r}; give one axis "
            "each, of kind 'spline'"
        )
    own: tuple[float | None, ...] = (None,) * k
    if grid is not None:
        edges = zip(grid.lower, grid.upper, grid.periodic, strict=True)
        own = tuple(high - low if wraps else None for low, high, wraps in edges)
    if given is None:
        return own
    values = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if len(values) != k:
        raise InputError(
            f"OPES: {len(values)} values of periods for {k} CVs; give one for each CV, None where not periodic"
        )
    found = tuple(None if one is None else require_number("OPES", "periods", one, above=0.0) for one in values)
    if grid is not None and found != own:
        raise InputError(f"OPES: periods = {shown(given)}, but those of the grid are {own}; leave one out")
    return found


def require_widths(sigma: float | Sequence[float], k: int) -> tuple[float, ...]:
    """Sigma of each of k CVs."""
    numbers = require_numbers("OPES", "sigma", sigma).reshape(-1).tolist()
    if len(numbers) not in (1, k):
        raise InputError(f"OPES: {len(numbers)} values of sigma for {k} CVs; give one, or one for each CV")
    widths = tuple(require_number("OPES", "sigma", value, above=0.0) for value in numbers)
    return widths * k if len(widths) == 1 else widths
