"""How well a run has covered its collective variables."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsim.errors import InputError


def crossings(series: Any, low: float, high: float) -> NDArray[np.int64]:
    r"""Count the passages of each walker from one end of a CV to the other, in either direction.

    A walker is at the lower end when s <= low and at the upper end when s >= high. Counted is how often the end it was
    at last changes; wandering in between, or leaving an end and coming back to it, does not count. The series must be
    recorded often enough to see every visit of an end: passages that fall between two frames are lost.

    Args:
        series: the CV in time, [T, W] (or [T] for one walker); NaN counts as in between.
        low: the lower end, in units of the CV.
        high: the upper end, above `low`.

    Returns:
        [W] int64.

    Raises:
        InputError: low not below high, or an array of other dimensions.
    """
    values = np.asarray(series[...] if hasattr(series, "step") else series, dtype=np.float64)
    if not low < high:
        raise InputError(f"crossings: low = {low:g} must be below high = {high:g}; swap them")
    if values.ndim not in (1, 2):
        raise InputError(f"crossings: a series of shape {values.shape} must be [T, W] or [T]; take one scalar CV")
    ends = (values >= high).astype(np.int8) - (values <= low).astype(np.int8)
    walkers = ends.reshape(len(ends), -1).T
    return np.array([np.count_nonzero(np.diff(walker[walker != 0])) for walker in walkers], dtype=np.int64)


def round_trips(series: Any, low: float, high: float) -> NDArray[np.int64]:
    """Count the completed round trips of each walker, from one end to the other and back.

    Half of `crossings`, rounded down; the arguments are the same. A Wang-Landau run has not converged before its
    walkers have made several.
    """
    return crossings(series, low, high) // 2
