r"""What lies within a bin: values of S at points, from means over bins.

A histogram knows ln of the mean density of a bin of width h, b, and not S at its centre. With slope s and curvature c
of S there, |c| h^2 small,

    b = S + ln[sinh(s h/2) / (s h/2)] + c/2 <xi^2>        <xi> = h/2 coth(s h/2) - 1/s,  <xi^2> = h^2/4 - 2 <xi> / s

with xi the place within the bin, from the centre, and <.> the mean over exp(s xi). A walker that samples exp(S) is not
at the centre of the bin in the mean, but at <xi>: near its upper edge, where S rises steeply.

| symbol | name in code |
|---|---|
| b, S | `means`, `points`, NaN where not known |
| h | `width` |
| s, c | `slope`, `curvature`, by differences of neighbouring bins |
"""

from __future__ import annotations

import numpy as np

from nnsim.analysis.landscape.axes import Axis, Floats


def points_of_means(means: Floats, width: float, axis: int, periodic: bool = False) -> Floats:
    """S at the centres of the bins along one axis, from ln of the mean of exp(S) over each bin.

    Where a bin has no known neighbour along the axis, its slope is not known and taken for 0.

    Args:
        means: [M1, ..., Mk], NaN where not known.
        width: h, above 0.
        axis: along which the bins are.
        periodic: whether the last bin is a neighbour of the first.
    """
    slope, curvature = slopes(means, width, axis, periodic)
    # the differences are those of b, whose slope is S' where the walker is: at <xi>
    at_centre = slope - curvature * mean_place(slope, width)
    return means - log_mean(at_centre, width) - 0.5 * curvature * mean_square(at_centre, width)


def at_centres(means: Floats, axis: Axis, number: int) -> Floats:
    """S at the centres of the bins of one axis from ln of the mean of exp S over them, NaN where not visited."""
    return means if axis.discrete else points_of_means(means, axis.width, number, axis.periodic)


def slopes(values: Floats, width: float, axis: int, periodic: bool = False) -> tuple[Floats, Floats]:
    """First and second derivative along one axis by differences of the nearest bins; 0 where there are too few.

    Beside a bin that is not known they are those of the parabola through the three nearest on the other side, or the
    slope of the line through two.
    """
    row = np.moveaxis(np.asarray(values, dtype=np.float64), axis, -1)
    before, after = (_shifted(row, step, periodic) for step in (-1, 1))
    second_before, second_after = (_shifted(row, step, periodic) for step in (-2, 2))
    slope = (after - before) / 2
    for one, two, sign in ((after, second_after, 1.0), (before, second_before, -1.0)):
        sided = sign * (-1.5 * row + 2 * one - 0.5 * two)
        slope = np.where(np.isfinite(slope), slope, np.where(np.isfinite(sided), sided, sign * (one - row)))
    curvature = after - 2 * row + before
    for one, two in ((after, second_after), (before, second_before)):
        curvature = np.where(np.isfinite(curvature), curvature, row - 2 * one + two)
    found = (np.where(np.isfinite(one), one, 0.0) for one in (slope / width, curvature / width**2))
    first, second = (np.moveaxis(one, -1, axis) for one in found)
    return first, second


def _shifted(row: Floats, step: int, periodic: bool) -> Floats:
    """The values `step` bins further along the last axis; NaN beyond the ends."""
    found = np.roll(row, -step, axis=-1)
    if not periodic:
        found[..., slice(-step, None) if step > 0 else slice(None, -step)] = np.nan
    return found


def log_mean(slope: Floats, width: float) -> Floats:
    """ln[sinh(u) / u], u = s h/2: ln of the mean of exp(s xi) over a bin."""
    u = np.abs(slope) * (width / 2)
    large = np.maximum(u, 1e-3)
    return np.where(u < 1e-3, u**2 / 6, large + np.log1p(-np.exp(-2 * large)) - np.log(2 * large))


def mean_place(slope: Floats, width: float) -> Floats:
    """<xi>, the mean place within the bin of what samples exp(s xi), from the centre."""
    u = slope * (width / 2)
    large = np.where(np.abs(u) < 1e-3, 1.0, u)
    return (width / 2) * np.where(np.abs(u) < 1e-3, u / 3, 1 / np.tanh(large) - 1 / large)


def mean_square(slope: Floats, width: float) -> Floats:
    """<xi^2> of the same."""
    u = slope * (width / 2)
    large = np.where(np.abs(u) < 1e-2, 1.0, u)
    exact = 1 - 2 * (1 / np.tanh(large) - 1 / large) / large
    return (width / 2) ** 2 * np.where(np.abs(u) < 1e-2, 1 / 3 + 2 * u**2 / 45, exact)


def value_at(points: Floats, place: float, axis: int, periodic: bool = False) -> Floats:
    """S between the centres of the bins, [the other axes], by a cubic through the values and slopes at both sides.

    Beyond the last known centre, up to the edge of its bin, S goes on along its slope; NaN in a bin that is not known.

    Args:
        points: [M1, ..., Mk], NaN where not known.
        place: in bins from the centre of the first bin, -1/2 to M - 1/2.
        axis: along which.
        periodic: whether the last bin is a neighbour of the first.
    """
    row = np.moveaxis(np.asarray(points, dtype=np.float64), axis, -1)
    count = row.shape[-1]
    slope = np.moveaxis(slopes(points, 1.0, axis, periodic)[0], axis, -1)
    nearest = min(max(round(place), 0), count - 1)
    straight = row[..., nearest] + (place - nearest) * slope[..., nearest]
    first = int(np.floor(place))
    if not periodic and not 0 <= first < count - 1:
        return straight
    left, right, t = first % count, (first + 1) % count, place - first
    bases = (1 + 2 * t) * (1 - t) ** 2, t * (1 - t) ** 2, t**2 * (3 - 2 * t), t**2 * (t - 1)  # of Hermite
    values = (row[..., left], slope[..., left], row[..., right], slope[..., right])
    cubic = sum(base * value for base, value in zip(bases, values, strict=True))
    return np.where(np.isfinite(cubic), cubic, straight)
