r"""Quantities that come round, such as positions in a periodic box: differences are those to the nearest image.

    d(a, b) = a - b - P round((a - b) / P)        |d| <= P / 2        P the period

and a mean is the point about which the squared differences are least (the intrinsic mean on the circle),

    m = argmin over m of <d(q, m)^2>,             at which <d(q, m)> = 0

It is sought from the direction of <exp(2 pi i q / P)>. The length R of that, from 0 to 1, tells whether it has a
meaning: R = exp(-(2 pi sigma / P)^2 / 2) for a wrapped normal distribution, 0 for one that is spread evenly.

Reference: R. Bhattacharya, V. Patrangenaru, DOI 10.1214/aos/1046294456; K. V. Mardia, P. E. Jupp, Directional
Statistics (2000), sec. 2.3 and 3.5.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import InputError, NNSimWarning
from nnsim.trajectory.record import read_header

Average = Callable[[Callable[[Floats], NDArray[Any]]], NDArray[Any]]  # of a function of the values, over the values

GATHERED = 0.5  # R of a normal distribution of sigma = 0.19 P, of which 0.8 % is more than half a period away
PASSES = 50  # over the values; two are enough where they are gathered


def nearest(difference: Floats, period: Any) -> Floats:
    """Differences to the nearest image; a period of None leaves them."""
    return difference if period is None else difference - period * np.round(difference / period)


def centre(owner: str, average: Average, period: Any, start: Floats) -> Floats:
    """The intrinsic mean of values that come round; where they are spread over the period, it warns.

    Args:
        owner: who asks, for messages.
        average: maps a function of the values to its average over them, in a pass over the record.
        period: a number, or one for each column.
        start: any of the values; the image of the mean that is given is the nearest one to it.
    """
    mean, resultant = _mean_and_resultant(average, period)
    spread = int(np.count_nonzero(resultant < GATHERED))
    if spread:
        warnings.warn(
            f"{owner}: {spread} of {np.size(mean)} means are of values that are spread over the period, which has no "
            "middle: means, and what is measured from them, depend on where the circle is cut; look at cosines and "
            "sines, or at mean_squared_displacement",
            NNSimWarning,
            stacklevel=4,
        )
    return start + nearest(mean - start, period)


def _mean_and_resultant(average: Average, period: Any) -> tuple[Floats, Floats]:
    """The intrinsic mean and the length R of <exp(2 pi i q / P)>."""
    direction = average(lambda q: np.exp(2j * np.pi * q / period))
    mean = np.asarray(np.angle(direction) * period / (2 * np.pi))
    for _ in range(PASSES):
        shift = average(lambda q, mean=mean: nearest(q - mean, period))  # type: ignore[misc]
        mean = np.asarray(mean + shift)
        if np.all(np.abs(shift) <= 1e-12 * period):
            break
    return mean, np.abs(direction)


def unwrapped_about(values: Floats, weights: Floats, period: float) -> Floats:
    """Values as those images that are nearest to their weighted mean; NaN if they are spread over the period.

    They are NaN, too, where the period is not known.
    """
    if math.isnan(period):
        return np.full_like(values, np.nan)
    share = weights / weights.sum()
    mean, resultant = _mean_and_resultant(lambda function: np.asarray((share * function(values)).sum()), period)
    return np.asarray(mean + nearest(values - mean, period)) if resultant >= GATHERED else np.full_like(values, np.nan)


def gathered(owner: str, values: Floats, period: float | None, axes: tuple[int, ...] = (0, 1)) -> Floats:
    """Values [T, W] as those images that are nearest to their mean over the axes, of which averages may be taken."""
    if period is None:
        return values

    def average(function: Callable[[Floats], NDArray[Any]]) -> NDArray[Any]:
        return np.asarray(function(values).mean(axis=axes))

    mean = centre(owner, average, period, values[0] if axes == (0,) else values[0, 0])
    return np.asarray(mean + nearest(values - mean, period))


# ---------------------------------------------------------------------------------------------------- what was recorded


def period_of_positions(owner: str, header: Mapping[str, Any], places: NDArray[np.int64]) -> Floats | None:
    """Widths of the periodic box of a run, from the head of its trajectory; None where the box is not periodic.

    Args:
        owner: who asks, for messages.
        header: of the trajectory; empty for an array.
        places: of the parameters in the flat positions, [k].

    Raises:
        InputError: a trajectory of nnsim 0.1, which did not record them.
    """
    if not in_periodic_box(header):
        return None
    if "box" not in header:
        raise InputError(f"{owner}: the box of this run is periodic; give its width as period=, which was not recorded")
    lower, upper = (_expanded(header["box"][side], places) for side in ("lower", "upper"))
    return upper - lower


def period_of_series(owner: str, series: Any) -> float | None:
    """Period of a recorded observable, from the head of its trajectory; None of what does not come round and of arrays.

    Raises:
        InputError: a parameter in a periodic box, from nnsim 0.1, which did not record the width.
    """
    period = recorded_period(series)
    if period is not None and math.isnan(period):
        raise InputError(f"{owner}: the box of this run is periodic; give its width as period=, which was not recorded")
    return period


def recorded_period(series: Any) -> float | None:
    """The same; NaN where it was not recorded."""
    if not hasattr(series, "root"):
        return None
    header, name = read_header(series.root), series.name
    if "periods" in header:
        period = header["periods"].get(name)
        return None if period is None else float(period)
    return math.nan if in_periodic_box(header) and re.fullmatch(r"parameter_\d+", name) else None


def refuse_mean(owner: str, trajectory: Any, name: str) -> None:
    """Raise `InputError` for an observable that comes round, of which a plain mean would say nothing."""
    if recorded_period(trajectory[name]) is not None:
        raise InputError(
            f"{owner}: {name} comes round, so that its mean depends on where the circle is cut; record its cosine and "
            "sine, such as nnsim.cv.Energy(lambda q: torch.cos(q[:, 0]), name='cosine')"
        )


def in_periodic_box(header: Mapping[str, Any]) -> bool:
    """Whether the box of a run is periodic, from the head of its trajectory."""
    box = header.get("box") or header.get("system", {}).get("box", {})
    return bool(box.get("kind") == "periodic")


def _expanded(edge: float | Sequence[tuple[float, int]], places: NDArray[np.int64]) -> Floats:
    """An edge of the box as `nnsim.Box.record` gives it, at some parameters, [k]."""
    if not isinstance(edge, Sequence):
        return np.full(len(places), float(edge))
    values, counts = zip(*edge, strict=True)
    return np.repeat(np.array(values, dtype=np.float64), counts)[places]
