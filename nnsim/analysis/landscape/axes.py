"""Axes, curves and values on them: what landscapes and pictures are made of."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsim.analysis.checks import as_floats
from nnsim.arithmetic import operation_of
from nnsim.errors import InputError, require_flag, require_number, require_text, shown
from nnsim.logit import EPSILON

Floats = NDArray[np.float64]
Value = Callable[[Floats], ArrayLike]


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of a landscape.

    Args:
        name: name of the CV.
        centers: centres of the bins, [M], in units of the CV.
        edges: their edges, [M + 1].
        periodic: whether the last edge is the same point as the first.
        discrete: whether the CV takes the values of the centres only, as an exact accuracy does: nothing lies within a
            bin then.

    Raises:
        InputError: edges that do not rise evenly, or centres that are not one in each bin.
    """

    name: str
    centers: Floats
    edges: Floats
    periodic: bool = False
    discrete: bool = False

    def __post_init__(self) -> None:
        owner = f"Axis {require_text('Axis', 'name', self.name)!r}"
        for flag in ("periodic", "discrete"):
            require_flag(owner, flag, getattr(self, flag))
        centers, edges = (as_floats(owner, name, getattr(self, name), axes=1) for name in ("centers", "edges"))
        if len(edges) != len(centers) + 1 or not len(centers):
            raise InputError(f"{owner}: {len(centers)} centers and {len(edges)} edges; give one edge more than centers")
        widths = np.diff(edges)
        if not (widths > 0).all() or np.ptp(widths) > 1e-6 * widths.max():
            raise InputError(
                f"{owner}: edges from {edges[0]:g} to {edges[-1]:g} must rise by equal steps; change edges"
            )
        if not ((edges[:-1] <= centers) & (centers <= edges[1:])).all():
            raise InputError(f"{owner}: centers must lie in their bins, one in each; change centers or edges")
        object.__setattr__(self, "centers", centers)
        object.__setattr__(self, "edges", edges)

    @property
    def width(self) -> float:
        """Width of a bin."""
        return float(self.edges[1] - self.edges[0])

    def wrap(self, values: Floats) -> Floats:
        """Values as those images that lie between the edges, if the axis is periodic."""
        if not self.periodic:
            return values
        low, high = float(self.edges[0]), float(self.edges[-1])
        return low + np.mod(values - low, high - low)

    def bin_of(self, value: float) -> int:
        """Index of the bin that holds `value`; the upper edge belongs to the last bin.

        Raises:
            InputError: a value outside the axis.
        """
        low, high = float(self.edges[0]), float(self.edges[-1])
        value = float(self.wrap(np.asarray(require_number("EntropyLandscape", self.name, value))))
        if not low <= value <= high:
            raise InputError(
                f"EntropyLandscape: {self.name} = {value:g} is outside the grid, [{low:g}, {high:g}]; give one inside"
            )
        return min(int(np.searchsorted(self.edges, value, side="right")) - 1, len(self.centers) - 1)

    def place_of(self, value: float) -> float:
        """Place of a value in bins from the centre of the first bin; raises `InputError` outside the axis."""
        low, width = float(self.edges[0]), self.width
        inside, value = self.bin_of(value), float(value)
        if self.periodic:
            value = low + (value - low) % (float(self.edges[-1]) - low)
        return float(inside) if self.discrete else (value - low) / width - 0.5

    def matches(self, other: Axis) -> bool:
        """Whether two axes are the same."""
        same = (self.name, self.periodic, len(self.edges)) == (other.name, other.periodic, len(other.edges))
        return same and bool(np.allclose(self.edges, other.edges, rtol=0, atol=1e-9 * max(1.0, np.ptp(self.edges))))


@dataclass(frozen=True, eq=False)
class Curve:
    """A function of one CV, with a standard error where several independent runs give one.

    Args:
        x, y: [M] each; y is NaN where it is not known.
        error: standard error of y, [M], or None.
        x_name, y_name: names of the CVs.
    """

    x: Floats
    y: Floats
    error: Floats | None = None
    x_name: str = ""
    y_name: str = ""

    def __post_init__(self) -> None:
        for name in ("x", "y", "error"):
            if name != "error" or self.error is not None:
                object.__setattr__(self, name, as_floats("Curve", name, getattr(self, name)))
        for name in ("x_name", "y_name"):
            require_text("Curve", name, getattr(self, name))
        shapes = [one.shape[-1:] for one in (self.x, self.y, self.error) if one is not None]
        if len(set(shapes)) > 1 or self.x.ndim != 1:
            raise InputError(f"Curve: x, y and error end with {shapes} points; give one of each for every point")


def natural_value(name: str) -> tuple[Callable[[Floats], Floats], str]:
    """Return the quantity behind the coordinate of a CV, by its name: a function, and the name of the quantity.

    `10x_smoothed_accuracy_test` is divided by 10 and `logit_smoothed_accuracy_test` goes back through the logistic
    function, both giving `smoothed_accuracy_test`, a number between 0 and 1; every other CV is its own quantity.

    >>> value, name = natural_value("10x_smoothed_accuracy_test")
    >>> float(value(np.array(7.0))), name
    (0.7, 'smoothed_accuracy_test')
    """
    if not isinstance(name, str):
        raise InputError(f"natural_value: name = {shown(name)} must be the name of a CV; give a text")
    match = re.fullmatch(r"(?:(?P<scale>[0-9.e+-]+)x_)?(?P<logit>logit_)?(?P<name>(?:smoothed_)?accuracy_.+)", name)
    if match is None or operation_of(name):
        return lambda s: np.asarray(s, dtype=np.float64), name
    try:
        scale = float(match["scale"] or 1)
    except ValueError:
        scale = 0.0
    if scale <= 0:
        raise InputError(f"natural_value: {name!r} begins with no scale above 0; give the name of a CV")
    logit = match["logit"] is not None

    def value(s: Floats) -> Floats:
        plain = np.asarray(s, dtype=np.float64) / scale
        if not logit:
            return plain
        sigmoid = 0.5 * (1 + np.tanh(plain / 2))  # does not overflow
        return (sigmoid - EPSILON) / (1 - 2 * EPSILON)

    return value, match["name"]
