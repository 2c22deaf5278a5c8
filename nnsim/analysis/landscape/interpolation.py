"""S at the CVs of frames, between the centres of the bins: the logarithms of weights that take it off again."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsim.analysis.checks import as_floats
from nnsim.analysis.landscape.axes import Axis, Floats
from nnsim.analysis.landscape.landscape import EntropyLandscape
from nnsim.errors import InputError, shown


def log_weights(landscape: EntropyLandscape, samples: ArrayLike) -> Floats:
    """Return ln w = S at each frame; -inf (no weight) outside the grid and where S is not known.

    Between the centres of bins S is a straight line (in several CVs a product of them). These are the weights of frames
    that visit all of the grid alike; those of the frames of a run, whatever its biases, are `frame_weights`.

    Args:
        landscape: S with k axes.
        samples: the CVs in the order of the axes, [..., k] (or [...] for k = 1).

    Returns:
        [...].
    """
    if not isinstance(landscape, EntropyLandscape):
        raise InputError(f"log_weights: landscape = {shown(landscape)} must be an EntropyLandscape; give one")
    points, axes = as_floats("log_weights", "samples", samples), landscape.axes
    if points.ndim == 0 or points.shape[-1] != len(axes):
        if len(axes) > 1:
            raise InputError(
                f"log_weights: samples of shape {points.shape} must end in {len(axes)}, the number of axes; change "
                "samples"
            )
        points = points[..., None]
    inside = np.isfinite(points).all(axis=-1)
    places = [_between(axis, np.where(inside, points[..., d], axis.centers[0])) for d, axis in enumerate(axes)]
    inside &= np.logical_and.reduce([place.inside for place in places])
    own = landscape.entropy[tuple(place.bin for place in places)]
    value = np.zeros_like(own)
    for sides in itertools.product((0, 1), repeat=len(axes)):
        share = np.prod([place.shares[side] for place, side in zip(places, sides, strict=True)], axis=0)
        there = landscape.entropy[tuple(place.ends[side] for place, side in zip(places, sides, strict=True))]
        value = value + share * np.where(np.isfinite(there), there, own)  # towards a bin not known S stays as it is
    return np.where(inside & np.isfinite(own), value, -np.inf)


class _Between(NamedTuple):
    """Where values lie along an axis: in which bin, and between which two centres, with the share of each."""

    inside: NDArray[np.bool_]
    bin: NDArray[np.int64]
    ends: tuple[NDArray[np.int64], NDArray[np.int64]]
    shares: tuple[Floats, Floats]


def _between(axis: Axis, values: Floats) -> _Between:
    bins, scaled = len(axis.centers), (values - axis.edges[0]) / axis.width
    inside = np.full(scaled.shape, True) if axis.periodic else (scaled >= 0) & (scaled <= bins)
    scaled = scaled % bins if axis.periodic else scaled.clip(0, bins)
    own = np.minimum(scaled.astype(np.int64), bins - 1)
    if axis.discrete:
        return _Between(inside, own, (own, own), (np.ones_like(scaled), np.zeros_like(scaled)))
    first = np.floor(scaled - 0.5).astype(np.int64)
    both = np.stack((first, first + 1))
    left, right = both % bins if axis.periodic else both.clip(0, bins - 1)
    share = scaled - 0.5 - first
    return _Between(inside, own, (left, right), (1 - share, share))
