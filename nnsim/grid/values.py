"""Functions on a grid without torch: the cubic B-spline of `nnsim.Grid`, for records and pictures.

The same spline is written for torch (`Grid`) and compiled (`compiled.evaluate`); tests hold the three together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def grid_values(coefficients: ArrayLike, grid: Mapping[str, Any], s: ArrayLike) -> Floats:
    r"""Values at s of the function on a grid with the given coefficients, the same as `nnsim.Grid.evaluate` gives.

        f(s) = sum_i c_i B((s - s_i) / h)      cubic B-spline, s_i the centres of the bins, c_{-1-i} = c_i at an edge

    Args:
        coefficients: [M1, ..., Mk].
        grid: `lower`, `upper`, `bins`, `periodic` (one for each axis) and `kind`, as `nnsim.Grid.describe()` gives.
        s: points, [..., k]; outside the grid the value is that of the nearest edge, also with `kind="bins"`.

    Returns:
        [...]; NaN where s is not finite.

    Reference: C. de Boor, A Practical Guide to Splines (1978), chapter IX.
    """
    from scipy.ndimage import map_coordinates

    table, given = np.asarray(coefficients, dtype=np.float64), np.asarray(s, dtype=np.float64)
    points = given.reshape(-1, given.shape[-1])
    lower, upper, bins = (np.asarray(grid[key], dtype=np.float64) for key in ("lower", "upper", "bins"))
    periodic = np.asarray(grid["periodic"], dtype=bool)
    finite = np.asarray(np.isfinite(points).all(axis=-1))
    points = np.where(finite[..., None], points, lower)
    points = np.where(periodic, lower + np.mod(points - lower, upper - lower), np.clip(points, lower, upper))
    place = (points - lower) * (bins / (upper - lower))  # in bins from the lower edge
    if grid["kind"] == "bins":
        index = np.clip(np.floor(place), 0, bins - 1).astype(np.int64)
        values = table[tuple(np.moveaxis(index, -1, 0))]
    else:
        for axis, wraps in enumerate(periodic):
            width = [(2, 2) if d == axis else (0, 0) for d in range(table.ndim)]
            table = np.pad(table, width, mode="wrap" if wraps else "symmetric")
        values = map_coordinates(table, np.moveaxis(place + 1.5, -1, 0), order=3, prefilter=False)
    return np.where(finite, values, np.nan).reshape(given.shape[:-1])


def node_values(coefficients: ArrayLike, periodic: Sequence[bool], kind: str = "spline") -> Floats:
    r"""Values at the bin centres of a uniform cubic B-spline with the given coefficients.

        f(s_i) = (c_{i-1} + 4 c_i + c_{i+1}) / 6        along each axis in turn

    Args:
        coefficients: [M1, ..., Mk].
        periodic: for each axis, whether it wraps around; otherwise the coefficients are mirrored at the edges.
        kind: `"spline"`, or `"bins"`, where the coefficients are the values.

    Reference: C. de Boor, A Practical Guide to Splines (1978), chapter IX; the same rule as `Grid.on_nodes`.
    """
    values = np.array(coefficients, dtype=np.float64)
    if kind == "bins":
        return values
    for axis, wraps in enumerate(periodic):
        last = values.shape[axis] - 1
        index = np.arange(last + 1)
        # the mirror image of the first node, half a bin outside the edge, is the first node itself
        left, right = ((index - 1) % (last + 1), (index + 1) % (last + 1)) if wraps else (index - 1, index + 1)
        left, right = left.clip(0, last), right.clip(0, last)
        values = (values.take(left, axis) + 4 * values + values.take(right, axis)) / 6
    return values


def coefficients_of(values: ArrayLike, periodic: Sequence[bool]) -> Floats:
    """Coefficients of the cubic B-spline that has the given values at the bin centres: the inverse of `node_values`.

    Args:
        values: [M1, ..., Mk].
        periodic: for each axis, whether it wraps around; otherwise the coefficients are mirrored at the edges.
    """
    from scipy.ndimage import spline_filter1d

    found = np.array(values, dtype=np.float64)
    for axis, wraps in enumerate(periodic):
        found = spline_filter1d(found, 3, axis, mode="grid-wrap" if wraps else "reflect")
    return np.asarray(found)


def on_another_grid(
    coefficients: ArrayLike, counts: ArrayLike, grid: Mapping[str, Any], other: Mapping[str, Any]
) -> tuple[Floats, NDArray[Any]]:
    """A spline and a histogram of one grid on another of as many bins, in whose bins those of the first lie.

    Args:
        coefficients: of the spline, [M1, ..., Mk].
        counts: the histogram, [M1, ..., Mk].
        grid: where they are, as `nnsim.Grid.describe()` gives it.
        other: where they shall be; it reaches as far as anything was counted.

    Returns:
        Coefficients and counts there.
    """
    centers = [
        low + (np.arange(m) + 0.5) * (high - low) / m
        for one in (grid, other)
        for low, high, m in zip(one["lower"], one["upper"], one["bins"], strict=True)
    ]
    k, counted = len(grid["bins"]), np.asarray(counts)
    places = np.stack(np.meshgrid(*centers[k:], indexing="ij"), axis=-1)
    found = np.zeros_like(counted)
    index = []
    for d, centre in enumerate(centers[:k]):
        m, low, high = other["bins"][d], other["lower"][d], other["upper"][d]
        index.append(np.clip(np.floor((centre - low) * m / (high - low)), 0, m - 1).astype(np.int64))
    np.add.at(found, np.ix_(*index), counted)
    return coefficients_of(grid_values(coefficients, grid, places), other["periodic"]), found


def edges_around(low: float, high: float, bins: int, width: float = 0.0) -> tuple[float, float]:
    """The narrowest place for so many bins that holds an interval, by itself: of `nnsim.grid.growing`.

    Bins are 2^j wide, at least `width`, and the place begins at a multiple of half its length; an empty interval has
    bins of width 1.
    """
    if not low < high:
        return 0.0, float(bins)
    power = math.floor(math.log2((high - low) / bins))
    if width > 0:
        power = max(power, math.ceil(math.log2(width)))
    while True:
        length = bins * 2.0**power
        begin = math.floor(low / (length / 2)) * (length / 2)
        if high <= begin + length:
            return begin, begin + length
        power += 1


def common_grid(grids: Sequence[Mapping[str, Any]], counts: Sequence[ArrayLike]) -> dict[str, Any]:
    """The grid of `edges_around` that holds all that was counted on several of them, for as many bins."""
    first = dict(grids[0])
    lower, upper = list(first["lower"]), list(first["upper"])
    for d, bins in enumerate(first["bins"]):
        if first["periodic"][d]:
            continue
        widths = [(one["upper"][d] - one["lower"][d]) / bins for one in grids]
        ends = []
        for one, table, width in zip(grids, counts, widths, strict=True):
            table = np.asarray(table)
            seen = np.flatnonzero(table.any(axis=tuple(axis for axis in range(table.ndim) if axis != d)))
            if seen.size:
                ends += [one["lower"][d] + seen[0] * width, one["lower"][d] + (seen[-1] + 1) * width]
        if ends:
            lower[d], upper[d] = edges_around(float(min(ends)), float(max(ends)), bins, max(widths))
    return {**first, "lower": lower, "upper": upper}
