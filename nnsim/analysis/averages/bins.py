r"""Unbiased averages from biased runs.

A run under a bias V visits s with probability p(s) exp(-V(s)/kT); the weight w = exp(+V(s)/kT) of each frame takes the
bias off again. For a Wang-Landau run, V(s)/kT at its end is the entropy S(s), and every frame recorded after the bias
has nearly stopped to change is weighted with it. Within one bin of x only ratios of weights count, so any constant in V
drops out.

| symbol | name in code | shape |
|---|---|---|
| x, y | `x`, `y` | [F] frames, or [T, W] frames and walkers |
| ln w | `log_weights` | like x |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsim.analysis.checks import as_floats
from nnsim.analysis.landscape.axes import Curve, Floats
from nnsim.errors import InputError, require_integer, require_number, shown

Level: TypeAlias = Callable[[Floats, Floats, NDArray[np.int64], Floats], Floats]


@dataclass(frozen=True, eq=False)
class ConditionalMean:
    """Mean of y over each bin of x; for the mean at a value of x see `nnsim.analysis.averages.local_mean`.

    Args:
        edges: edges of the bins, [M + 1].
        mean: [M], NaN in empty bins.
        effective: effective number of frames (sum w)^2 / sum w^2, [M], 0 in empty bins.
        frames: number of frames, [M] int64.
        error: standard error of the mean, [M], or None; NaN where fewer than two walkers or blocks have been.
        contributors: number of walkers or blocks that have been in the bin, [M] int64, or None.
        left_out: the mean without each of the G walkers or blocks, [G, M], or None; for `jackknife` of what is made of
            several bins.
        place: mean of x in each bin, with the same weights, [M]: where the mean of y belongs, and not the centre; None
            is the centre.
    """

    edges: Floats
    mean: Floats
    effective: Floats
    frames: NDArray[np.int64]
    error: Floats | None = None
    contributors: NDArray[np.int64] | None = None
    left_out: Floats | None = None
    place: Floats | None = None

    @property
    def centers(self) -> Floats:
        """Centres of the bins, [M]."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    def curve(self, x_name: str = "", y_name: str = "") -> Curve:
        """Return the mean against the mean of x in each bin, for a plot."""
        return Curve(self.centers if self.place is None else self.place, self.mean, self.error, x_name, y_name)


def conditional_mean(x: ArrayLike, y: ArrayLike, log_weights: ArrayLike, edges: ArrayLike) -> ConditionalMean:
    r"""Weighted mean of y in bins of x.

        <y>_b = sum_{f in b} w_f y_f / sum_{f in b} w_f        n_eff = (sum w)^2 / sum w^2

    The weights of each bin are divided by their largest, so that no exponential overflows.

    Args:
        x: the CV, [F] (or any one shape for x, y and log_weights); frames outside the edges are left out, NaN too.
        y: the quantity to be averaged.
        log_weights: ln w; -inf is a frame without weight.
        edges: edges of the bins, [M + 1], increasing; the upper edge belongs to the last bin.

    Raises:
        InputError: shapes that differ, edges that do not increase, y or ln w not finite in a frame that counts.
    """
    table = Binned(x, y, log_weights, edges)
    total, first, square = table.sums(np.zeros_like(table.bins), 1, table.y)
    total, first, square = total[0], first[0], square[0]
    known = total > 0
    mean = np.divide(first, total, out=np.full(table.count, np.nan), where=known)
    effective = np.divide(total**2, square, out=np.zeros(table.count), where=known)
    moment = table.sums(np.zeros_like(table.bins), 1, table.x)[1][0]
    place = np.divide(moment, total, out=np.full(table.count, np.nan), where=known)
    return ConditionalMean(table.edges, mean, effective, table.frames, place=place)


def conditional_mean_over_walkers(
    x: ArrayLike,
    y: ArrayLike,
    log_weights: ArrayLike,
    edges: ArrayLike,
    *,
    groups: int | None = None,
    time_blocks: int = 1,
) -> ConditionalMean:
    r"""Average over the frames of all walkers, with the standard error from the spread over walkers.

    Frames of one walker are correlated, so their number says nothing about the error; walkers are independent. With N_g
    and D_g the sums of w y and w of walker g in a bin, the mean is the ratio sum N / sum D, and leaving out one walker
    at a time (the jackknife) gives the error of that ratio, unequal and random weights of the walkers included:

        m_(g) = (N - N_g) / (D - D_g)        error^2 = (G - 1)/G sum_g (m_(g) - mean of m_(.))^2

    An error from few walkers in the bin is itself uncertain, by about 1/sqrt(2 (G - 1)), and if nearly all weight of a
    bin is that of one walker (`effective` tells) it is too small.
    Walkers that share one bias are independent only given that bias: its own error shows in independent runs only.

    Args:
        x: the CV, [T, W], as for `conditional_mean`.
        y: the quantity to be averaged, [T, W].
        log_weights: ln w, [T, W].
        edges: edges of the bins, [M + 1].
        groups: number of groups of walkers to leave out together; None takes each walker for itself. For walkers that
            exchange or are otherwise correlated.
        time_blocks: number of pieces, one after the other in time, into which the record of each walker is cut; for
            few walkers. A piece must be much longer than the time y takes to forget its past.

    Raises:
        InputError: as for `conditional_mean`; fewer than 2 blocks in all, or more than there are walkers or frames.
    """
    shape = np.shape(x)
    if len(shape) != 2:
        raise InputError(f"conditional_mean_over_walkers: x of shape {shape} must be [T, W]; change x")
    owner = "conditional_mean_over_walkers"
    block, count = blocks_of(owner, shape[0], shape[1], groups, time_blocks)
    if count < 2:
        raise InputError(f"{owner}: one block of frames has no spread; use more walkers or time_blocks = 5 or more")
    table = Binned(x, y, log_weights, edges)
    pooled = conditional_mean(x, y, log_weights, edges)
    total, first, _ = table.sums(block.reshape(-1)[table.used], count, table.y)
    rest = without_each(total)
    left_out = np.divide(without_each(first), rest, out=np.full(rest.shape, np.nan), where=rest > 0)
    contributors = (total > 0).sum(axis=0, dtype=np.int64)
    error = jackknife(left_out)
    return replace(pooled, error=error, contributors=contributors, left_out=left_out)


def jackknife(left_out: ArrayLike) -> Floats:
    r"""Standard error of an estimate from the estimates with one block left out at a time.

        error^2 = (G - 1)/G sum_g (m_(g) - mean of m_(.))^2

    Args:
        left_out: m_(g), [G, ...], G at least 2.

    Returns:
        [...]; NaN where one of the estimates is not known.

    Raises:
        InputError: fewer than two estimates.
    """
    values = as_floats("jackknife", "left_out", left_out)
    count = len(values) if values.ndim else 0
    if count < 2:
        raise InputError(
            f"jackknife: left_out of shape {values.shape} must be [G, ...], G at least 2; give more blocks"
        )
    return np.sqrt((count - 1) / count * ((values - values.mean(axis=0)) ** 2).sum(axis=0))


def average_bins(centers: ArrayLike, values: ArrayLike, width: float, *, origin: float = 0.0) -> Curve:
    """Average alike over the fine bins that lie in each coarse bin; NaN ones are left out.

    The flat average is that of a run with a flat histogram: each fine bin counts alike, however large its entropy.
    Neighbouring bins of one run are correlated, so errors cannot be combined here: average each run, then take the
    spread.

    Args:
        centers: centres of the fine bins, [M], evenly spaced.
        values: [..., M], for example one row for each run.
        width: width of the coarse bins, a multiple of that of the fine ones.
        origin: any edge of a coarse bin.

    Returns:
        x: centres of the coarse bins, [B]; y: [..., B], NaN where nothing is known.

    Raises:
        InputError: a width that is no multiple of that of the fine bins, or edges that cut through a fine bin.
    """
    fine, data = (as_floats("average_bins", *one) for one in (("centers", centers), ("values", values)))
    origin = require_number("average_bins", "origin", origin)
    if fine.ndim != 1 or len(fine) < 2 or data.shape[-1:] != fine.shape:
        raise InputError(
            f"average_bins: centers {fine.shape} must be [M], M at least 2, and values {data.shape} [..., M]; "
            "change them"
        )
    step, apart = float(fine[1] - fine[0]), np.diff(fine)
    if not (apart > 0).all() or np.ptp(apart) > 1e-6 * step:
        raise InputError(f"average_bins: centers {shown(fine)} must rise by equal steps; change centers")
    ratio = require_number("average_bins", "width", width, above=0.0) / step
    shift = (fine[0] - 0.5 * step - origin) / step
    far = abs(shift) > 1e9  # where rounding hides whether edges meet
    if far or ratio < 0.5 or abs(ratio - round(ratio)) > 1e-6 or abs(shift - round(shift)) > 1e-6:
        raise InputError(
            f"average_bins: bins of width = {width:g} with an edge at origin = {origin:g} do not hold whole fine bins "
            f"of {step:g}; change width or origin"
        )
    coarse = np.floor((round(shift) + np.arange(len(fine))) / round(ratio)).astype(np.int64)
    bins = np.arange(coarse[0], coarse[-1] + 1)
    member = coarse == bins[:, None]  # [B, M]
    known = np.isfinite(data)
    count = known.astype(np.float64) @ member.T
    total = np.where(known, data, 0.0) @ member.T
    mean = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
    return Curve(origin + (bins + 0.5) * width, mean)


class Binned:
    """The frames that fall into a bin, with weights scaled to at most 1 in each bin.

    Args:
        x, y, log_weights, edges: as for `conditional_mean`.
        level: what is taken off ln w before they are scaled: a function of x, ln w and the bin of each frame, and the
            edges, to a number for each frame; None is nothing.

    Attributes:
        edges: [M + 1].
        count: number of bins M.
        used: which of the frames given lie in a bin.
        bins, x, y, weight: of those, [F].
        frames: number of frames in each bin, [M] int64.
        weighted: number of those with a weight.
    """

    def __init__(
        self, x: ArrayLike, y: ArrayLike, log_weights: ArrayLike, edges: ArrayLike, level: Level | None = None
    ) -> None:
        self.edges = as_floats("conditional_mean", "edges", edges)
        given = {"x": x, "y": y, "log_weights": log_weights}
        arrays = [as_floats("conditional_mean", name, one) for name, one in given.items()]
        if len({array.shape for array in arrays}) > 1:
            raise InputError(
                f"conditional_mean: x, y and log_weights have shapes {[a.shape for a in arrays]}; make them one"
            )
        if self.edges.ndim != 1 or len(self.edges) < 2 or not (np.diff(self.edges) > 0).all():
            raise InputError("conditional_mean: edges must be an increasing list of at least 2; sort them")
        s, values, logs = (array.reshape(-1) for array in arrays)
        self.count = len(self.edges) - 1
        self.used: Any = (s >= self.edges[0]) & (s <= self.edges[-1])
        index = np.searchsorted(self.edges, s[self.used], side="right") - 1
        self.bins = np.minimum(index, self.count - 1)
        self.x, self.y = s[self.used], values[self.used]
        self._weigh(logs[self.used], level)
        self.frames = np.bincount(self.bins, minlength=self.count).astype(np.int64)
        self.weighted = np.bincount(self.bins[self.weight > 0], minlength=self.count).astype(np.int64)

    def _weigh(self, logs: Floats, level: Level | None) -> None:
        bad = int(np.count_nonzero(~np.isfinite(self.y) | np.isnan(logs) | np.isposinf(logs)))
        if bad:
            raise InputError(f"conditional_mean: y or log_weights is not finite in {bad} frames; leave them out")
        if level is not None:
            logs = logs - level(self.x, logs, self.bins, self.edges)
        top = np.full(self.count, -np.inf)
        np.maximum.at(top, self.bins, logs)
        top[np.isneginf(top)] = 0.0
        self.weight = np.exp(logs - top[self.bins])

    def sums(self, group: Any, groups: int, values: Floats) -> tuple[Floats, Floats, Floats]:
        """Add up w, w times the values of the frames and w^2 for each group and bin, [groups, M] each."""
        flat, size = group * self.count + self.bins, groups * self.count
        terms = (self.weight, self.weight * values, self.weight**2)
        tables = [np.bincount(flat, term, size).astype(np.float64).reshape(groups, self.count) for term in terms]
        return tables[0], tables[1], tables[2]


def blocks_of(
    owner: str, frames: int, walkers: int, groups: int | None, time_blocks: int
) -> tuple[NDArray[np.int64], int]:
    """Return the block that each frame of each walker belongs to, [T, W], and the number of blocks."""
    sets = require_integer(owner, "groups", walkers if groups is None else groups, least=1)
    pieces = require_integer(owner, "time_blocks", time_blocks, least=1)
    if sets > walkers or pieces > frames:
        raise InputError(
            f"{owner}: {sets} groups and {pieces} time_blocks of {walkers} walkers and {frames} frames; take fewer"
        )
    set_of = np.arange(walkers) * sets // walkers
    piece_of = np.arange(frames) * pieces // frames
    return piece_of[:, None] * sets + set_of, sets * pieces


def without_each(rows: Floats) -> Floats:
    """Return the sum over all rows but one, for each of them, [G, ...]."""
    # sums without one entry, not differences: those lose all digits when one entry holds nearly all the weight
    without = (~np.eye(len(rows), dtype=bool)).astype(np.float64)
    return np.asarray(np.tensordot(without, rows, axes=1))
