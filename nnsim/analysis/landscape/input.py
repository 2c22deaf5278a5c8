"""What a landscape may be made of, and asked with: tables, grids and functions that were given."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnsim.analysis.checks import as_floats
from nnsim.analysis.landscape.axes import Axis, Floats, Value
from nnsim.errors import InputError, first_line, require_choice, require_integer, shown


def index_of(axis: object) -> int | None:
    """An axis given by a whole number; None for anything else."""
    try:
        return operator.index(axis)  # type: ignore[arg-type]
    except TypeError:
        return None


def on_bins(name: str, values: object, shape: tuple[int, ...]) -> Floats:
    """Numbers on the bins of a grid."""
    found = as_floats("EntropyLandscape", name, values)
    if found.shape != shape:
        raise InputError(
            f"EntropyLandscape: {name} {found.shape} and axes {shape} differ; give an array of the grid's shape"
        )
    return found


def called(name: str, function: object, *arguments: Any) -> Any:
    """What a function of the user's gives; what it raises, with its name, as an `InputError`."""
    if not callable(function):
        raise InputError(
            f"EntropyLandscape: {name} = {shown(function)} must be a function; give one, such as numpy.cos"
        )
    try:
        return function(*arguments)
    except Exception as error:
        raise InputError(
            f"EntropyLandscape: the function {name} fails: {type(error).__name__}: {first_line(error)}; repair it"
        ) from error


class Quantity:
    """A function of the coordinate that was given as `value`, whose results are checked."""

    def __init__(self, value: Value) -> None:
        self.value = value

    def __call__(self, places: Floats) -> Floats:
        """The quantity at each of the places."""
        found = as_floats("EntropyLandscape", "value(...)", called("value", self.value, places))
        if found.shape != places.shape:
            raise InputError(
                f"EntropyLandscape: value makes {found.shape} of {places.shape} numbers; let it give one for each, as "
                "numpy functions do"
            )
        return found


def axes_of(grid: Mapping[str, Any], names: Sequence[str], discrete: Sequence[bool]) -> tuple[Axis, ...]:
    """The axes of a grid that is given by its settings."""
    parts = ("lower", "upper", "bins", "periodic")
    if not isinstance(grid, Mapping) or not {*parts, "kind"} <= set(grid):
        raise InputError(
            f"EntropyLandscape: grid = {shown(grid)} must have {', '.join(parts)} and kind; give nnsim.Grid.describe()"
        )
    require_choice("EntropyLandscape", "kind", grid["kind"], ("spline", "bins"))
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, Sequence) or isinstance(names, bytes) or not all(isinstance(one, str) for one in names):
        raise InputError(f"EntropyLandscape: names = {shown(names)} must be those of the CVs; give a list of texts")
    levels = tuple(discrete) if isinstance(discrete, Sequence) else (discrete,)
    columns: list[Any] = [names, *(grid[name] for name in parts), levels or (False,) * len(names)]
    if any(np.ndim(column) != 1 or len(column) != len(names) for column in columns):
        raise InputError(
            f"EntropyLandscape: names = {shown(names)}, {', '.join(parts)} and discrete must be as many; give one for "
            "each CV"
        )
    return tuple(_axis(*arguments) for arguments in zip(*columns, strict=True))


def _axis(name: str, lower: float, upper: float, bins: int, periodic: bool, discrete: bool) -> Axis:
    bins = require_integer("EntropyLandscape", "bins", bins, least=1)
    edges: Floats = lower + np.arange(bins + 1, dtype=np.float64) * ((upper - lower) / bins)
    return Axis(name, 0.5 * (edges[1:] + edges[:-1]), edges, bool(periodic), bool(discrete))
