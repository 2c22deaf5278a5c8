"""Passages and round trips of walkers between two values of a CV."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsim.analysis.checks import as_floats
from nnsim.analysis.images import nearest
from nnsim.errors import InputError, require_number, shown


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
    arrivals = _arrivals(series, low, high)
    return np.array([len(walker) for walker in arrivals], dtype=np.int64)


def round_trips(series: Any, low: float, high: float) -> NDArray[np.int64]:
    """Count the completed round trips of each walker, from one end to the other and back.

    Half of `crossings`, rounded down; the arguments are the same. A Wang-Landau run has not converged before its
    walkers have made several.
    """
    return crossings(series, low, high) // 2


def _arrivals(series: Any, low: float, high: float) -> list[NDArray[np.int64]]:
    """For each walker the frames at which it reaches the end it was not at last; see `crossings`."""
    values = as_floats("crossings", "series", series[...] if hasattr(series, "step") else series)
    low, high = (require_number("crossings", name, end) for name, end in (("low", low), ("high", high)))
    if not low < high:
        remedy = "swap them" if low > high else "change one"
        raise InputError(f"crossings: low = {low:g} must be below high = {high:g}; {remedy}")
    if values.ndim not in (1, 2):
        raise InputError(f"crossings: a series of shape {values.shape} must be [T, W] or [T]; take one scalar CV")
    ends = (values >= high).astype(np.int8) - (values <= low).astype(np.int8)
    found = []
    for walker in (ends if ends.ndim == 2 else ends[:, None]).T:
        there = np.flatnonzero(walker)
        found.append(there[1:][np.diff(walker[there]) != 0])
    return found


def round_trips_by(series: Any, step: ArrayLike, until: ArrayLike, low: float, high: float) -> NDArray[np.int64]:
    """Count the round trips that all walkers together have completed by given steps.

    Args:
        series: the CV in time, [T, W] (or [T] for one walker), as for `crossings`.
        step: step of each frame, [T], increasing.
        until: steps by which to count, [R].
        low: the lower end.
        high: the upper end.

    Returns:
        [R] int64; at the last frame it is the sum of `round_trips`.

    Raises:
        InputError: as for `crossings`.
    """
    owner = "round_trips_by"
    steps, asked = as_floats(owner, "step", step, 1), as_floats(owner, "until", until)
    frames = np.shape(series)[0] if np.ndim(series) else 0
    if len(steps) != frames or not (np.diff(steps) > 0).all():
        raise InputError(f"{owner}: step must rise and have one for each of {frames} frames; give series.step")
    # every second arrival ends a round trip
    completed = np.concatenate([walker[1::2] for walker in _arrivals(series, low, high)] or [np.zeros(0, np.int64)])
    return np.searchsorted(np.sort(steps[completed]), asked, side="right").astype(np.int64)


def way_round(
    values: NDArray[np.float64], low: float, high: float, period: float | None
) -> tuple[NDArray[np.float64], float, float]:
    """What to count passages by: of a CV that comes round, the distance from `low`, either way, up to that of `high`.

    There one end is a tenth of the way from `low`, and the other nine tenths: a walker that passes the edge of a grid,
    which is nowhere, has not gone from one end to the other.
    """
    if period is None:
        return values, low, high
    far = float(np.abs(nearest(np.asarray(high - low), period)))
    return np.abs(nearest(values - low, period)), 0.1 * far, 0.9 * far


def _two(between: Any) -> tuple[float, float]:
    """Two numbers, finite or not."""
    try:
        low, high = (float(one) for one in (() if isinstance(between, str) else between))
    except (TypeError, ValueError):
        raise InputError(
            f"round trips between {shown(between)}: must be two numbers, the ends of the way; change them (--between)"
        ) from None
    return low, high


def ends_of(values: NDArray[np.float64], between: tuple[float, float] | None) -> tuple[float, float]:
    """The lower and the upper end for round trips; equal where nothing has moved."""
    if between is None:
        low, high = np.quantile(values, (0.1, 0.9))
        return float(low), float(high)
    pair = _two(between)
    low, high = sorted(pair)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(
            f"round trips between {pair[0]:g} and {pair[1]:g}: must be two different finite numbers, "
            "the ends of the way; change one (--between)"
        )
    return low, high
