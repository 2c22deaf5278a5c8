"""Functions on a grid without torch: the cubic B-spline of `nnsim.Grid`, for records and pictures.

The same spline is written for torch (`Grid`) and compiled (`compiled.evaluate`); tests hold the three together.
"""

from __future__ import annotations

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
