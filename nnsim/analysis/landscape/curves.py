"""Curves along one collective variable: what another one is in equilibrium there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from nnsim.analysis.landscape.averaging import mean_and_error
from nnsim.analysis.landscape.axes import Axis, Curve, Floats, Value
from nnsim.analysis.landscape.input import Quantity
from nnsim.analysis.landscape.within_bins import at_centres, mean_place, slopes
from nnsim.errors import InputError

if TYPE_CHECKING:
    from nnsim.analysis.landscape.landscape import EntropyLandscape


def equilibrium(landscape: EntropyLandscape, given: str | int, of: str | int, value: Value | None) -> Curve:
    """See `EntropyLandscape.equilibrium`."""
    axis = landscape.axes[landscape.axis_index(of)]
    function = None if value is None else Quantity(value)
    if axis.periodic and not _same_at_both_edges(function, axis):
        raise InputError(
            f"EntropyLandscape.equilibrium: {axis.name} is periodic, so that its mean depends on where the circle "
            "is cut; give value=numpy.cos, or another function that is periodic too"
        )

    def mean(part: EntropyLandscape) -> Floats:
        joint, places = _at_given(part)
        quantity = places if function is None else function(places.ravel()).reshape(places.shape)
        top = joint.max(axis=1, keepdims=True)
        known = np.isfinite(top[:, 0])
        weight = np.exp(joint[known] - top[known])
        # bins without weight may lie where the quantity is not defined
        result = np.full(len(joint), np.nan)
        result[known] = np.where(weight > 0, weight * quantity[known], 0.0).sum(axis=1) / weight.sum(axis=1)
        return result

    return _curve(landscape, given, of, mean)


def most_probable(landscape: EntropyLandscape, given: str | int, of: str | int) -> Curve:
    """See `EntropyLandscape.most_probable`."""
    axis = landscape.axes[landscape.axis_index(of)]

    def peaks(part: EntropyLandscape) -> Floats:
        return np.array([_peak(row, axis) for row in np.where(part.visited, part.entropy, -np.inf)])

    return _curve(landscape, given, of, peaks, axis)


def _curve(
    landscape: EntropyLandscape,
    given: str | int,
    of: str | int,
    function: Callable[[EntropyLandscape], Floats],
    wrap: Axis | None = None,
) -> Curve:
    """Apply `function` to S(given, of) of each run; mean and error over the runs."""
    x, y = landscape.axis_index(given), landscape.axis_index(of)
    values = np.stack([function(run.marginal(x, y)) for run in (landscape.members or (landscape,))])
    if wrap is not None and wrap.periodic:
        period = float(np.ptp(wrap.edges))  # runs on the two sides of the edge are neighbours
        values = values[0] + (values - values[0] + period / 2) % period - period / 2
    mean, error = mean_and_error(values)
    along, over = landscape.axes[x], landscape.axes[y]
    return Curve(along.centers, mean, error if landscape.members else None, along.name, over.name)


def _at_given(landscape: EntropyLandscape) -> tuple[Floats, Floats]:
    """Of two CVs: S at the centre of each bin of the first and over each bin of the second, and the place in it."""
    given, of = landscape.axes
    places = np.broadcast_to(of.centers, landscape.entropy.shape)
    if landscape.means is None:
        return np.where(landscape.visited, landscape.entropy, -np.inf), places
    joint = at_centres(landscape.means, given, 0)
    if not of.discrete:
        places = places + mean_place(slopes(landscape.means, of.width, 1, of.periodic)[0], of.width)
    return np.where(landscape.visited, joint, -np.inf), places


def _same_at_both_edges(value: Callable[[Floats], Floats] | None, axis: Axis) -> bool:
    """Whether a function, by default the coordinate itself, is the same at both edges of an axis."""
    edges = axis.edges[[0, -1]]
    low, high = edges if value is None else value(edges)
    return bool(abs(high - low) <= 1e-6 * (1 + abs(low) + abs(high)))


def _peak(row: Floats, axis: Axis) -> float:
    """Where a row of S, -inf where not visited, is largest."""
    i, last = int(row.argmax()), len(row) - 1
    if not np.isfinite(row[i]):
        return float("nan")
    left, right = (i - 1) % (last + 1), (i + 1) % (last + 1)
    inner = axis.periodic or 0 < i < last
    if not inner or not np.isfinite(row[left]) or not np.isfinite(row[right]):
        return float(axis.centers[i])
    curvature = row[left] - 2 * row[i] + row[right]
    shift = 0.5 * (row[left] - row[right]) / curvature if curvature < 0 else 0.0
    return float(axis.centers[i] + shift * axis.width)
