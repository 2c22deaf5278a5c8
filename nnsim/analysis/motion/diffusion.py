r"""How walkers move in parameter space: mean squared displacement, velocity autocorrelation, diffusion coefficients.

All are means over parameters, so that D is per parameter: each is one dimension, and

    <(q_i(t) - q_i(0))^2> = 2 D t,        D = int_0^inf <v_i(0) v_i(t)> dt

The squared distance in the space of n parameters grows as 2 n D t. For Langevin dynamics on a flat energy
D = kT / (m gamma).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnsim.analysis.images import nearest
from nnsim.analysis.landscape.axes import Floats
from nnsim.analysis.motion.blocks import Recorded, Selection, Shapes
from nnsim.analysis.motion.correlation import lagged_products
from nnsim.errors import InputError, NNSimWarning, require_integer, require_number, require_pair

UNCLEAR = 0.45  # of a period: of normal moves with one of a million beyond it, one of ten millions is misread
FEWEST_GROUPS = 8  # fewer walkers than this do not tell an error: the record of each is cut into pieces in time


@dataclass(frozen=True)
class Diffusion:
    """A diffusion coefficient for each parameter.

    Attributes:
        value: D, in squared units of the parameters over reduced time.
        error: its standard error, from the spread over groups (walkers, or pieces of their records).
        between: lags that it was taken from, reduced time.
        exponent: d ln MSD / d ln t there: 1 for diffusion, 2 for flight, 0 where walkers are confined and D means
            nothing; NaN for a velocity autocorrelation.
        exponent_error: its standard error.
        groups: number of groups.
    """

    value: float
    error: float
    between: tuple[float, float]
    exponent: float
    exponent_error: float
    groups: int


@dataclass(frozen=True, eq=False)
class MeanSquaredDisplacement:
    """Mean squared displacement for each parameter.

    Attributes:
        lag: [L], reduced time, from 0.
        values: mean over walkers, parameters and time origins, [L], in squared units of the parameters.
        error: standard error, [L], from the spread over groups; NaN at lags longer than a group.
        walkers: of each walker, [L, W].
        groups: of each group of time origins, [L, G]; a group is a walker, or with fewer than 8 walkers a piece of the
            record of one.
    """

    lag: Floats
    values: Floats
    error: Floats
    walkers: Floats
    groups: Floats

    def diffusion(self, between: tuple[float, float] | None = None) -> Diffusion:
        r"""Diffusion coefficient by a straight line through MSD = a + 2 D t.

        Args:
            between: first and last lag of the fit, reduced time; beyond the flight at short times and, in a box or a
                well, before the walkers feel it. None is from a tenth of the longest lag on. Look at `exponent`.

        Raises:
            InputError: fewer than two lags in between.

        Reference: D. Frenkel, B. Smit, Understanding Molecular Simulation (2002), sec. 4.4.
        """
        known = np.flatnonzero(np.isfinite(self.groups).all(axis=1) & (self.lag > 0))
        longest = float(self.lag[known[-1]]) if len(known) else 0.0
        low, high = (0.1 * longest, longest) if between is None else require_pair("diffusion", "between", between)
        tiny = 1e-9 * longest  # lags are multiples of an interval, with its rounding
        chosen = known[(self.lag[known] >= low - tiny) & (self.lag[known] <= high + tiny)]
        if len(chosen) < 2:
            raise InputError(
                f"diffusion: between = ({low:g}, {high:g}) must hold two or more of the lags that have an error, "
                f"{self.lag[min(1, len(self.lag) - 1)]:g} to {longest:g}; change between, or record longer"
            )
        lag, groups = self.lag[chosen], self.groups[chosen]
        slope = _slope(lag, self.values[chosen])
        with np.errstate(divide="ignore", invalid="ignore"):  # walkers that do not move have no exponent
            exponent = _slope(np.log(lag), np.log(self.values[chosen]))
            exponents = _slope(np.log(lag), np.log(groups))
        return Diffusion(
            float(slope) / 2,
            float(_standard_error(_slope(lag, groups))) / 2,
            (float(lag[0]), float(lag[-1])),
            float(exponent),
            float(_standard_error(exponents)),
            groups.shape[1],
        )


def mean_squared_displacement(
    frames: Any,
    *,
    max_lag: int | None = None,
    selection: Selection = None,
    parameters: Shapes | None = None,
    period: Any = None,
    interval: float | None = None,
) -> MeanSquaredDisplacement:
    r"""Mean squared displacement over all time origins.

        MSD(t) = 1/n sum_i < (q_i(s + t) - q_i(s))^2 >_s

    By FFT: |q(s+t) - q(s)|^2 = |q(s+t)|^2 + |q(s)|^2 - 2 q(s+t) q(s), whose last term is an autocorrelation; its cost
    is T ln T for each parameter instead of T^2.

    Args:
        frames: `Trajectory`, its path, its positions, or an array [T, W, n], in evenly spaced frames.
        max_lag: longest lag in frames, below T; None is a quarter of a group's record (see `MeanSquaredDisplacement`).
        selection: of parameters: None (all), a slice, indices, a mask, or words as in `nnsim.trajectory.selection`.
        parameters: names and shapes of the tensors, for a selection in words; a trajectory knows its own.
        period: width of a periodic box, a number or [n]; None takes that of a trajectory. Moves of more than half of it
            between two frames are taken for passages through the edge: where moves come near to that, they are told
            apart no longer, which is warned of. In a reflecting box the MSD levels off.
        interval: time between frames; None takes it from the trajectory, and 1 for an array.

    Raises:
        InputError: fewer than 2 frames, frames at uneven times, another shape, a lag of T or more, or a trajectory
            of nnsim 0.1 in a periodic box without `period`.

    Reference: G. R. Kneller et al., DOI 10.1016/0010-4655(95)00048-K; V. Calandrini et al., DOI 10.1051/sfn/201112010,
    sec. 4.2.
    """
    owner = "mean_squared_displacement"
    recorded = Recorded(owner, frames, "positions", selection=selection, parameters=parameters, period=period)
    periods = None if recorded.period is None else np.tile(recorded.period, recorded.shape[1])  # of the W k columns
    longest = 0.0  # of all moves between frames, in periods

    def displacement(values: Floats, lags: int, columns: slice) -> Floats:
        """Sum of MSD over columns [T, k]."""
        nonlocal longest
        if periods is not None:
            moves = nearest(np.diff(values, axis=0), periods[columns])
            longest = max(longest, float(np.abs(moves / periods[columns]).max(initial=0.0)))
            values = np.concatenate((values[:1], values[0] + np.cumsum(moves, axis=0)))
        values = values - values.mean(axis=0)  # squares of large numbers would cancel to nothing
        squares = np.concatenate(([0.0], np.cumsum((values**2).sum(axis=1))))
        count, lag = len(values), np.arange(lags + 1)
        ends = squares[count - lag] + squares[count] - squares[lag]
        found = np.maximum(ends - 2 * lagged_products(values, lags), 0.0) / (count - lag)
        found[0] = 0.0
        return np.asarray(found)

    lag, walkers, groups = _over_groups(recorded, max_lag, interval, displacement)
    if longest > UNCLEAR:
        warnings.warn(
            f"{owner}: moves of up to {longest:.2f} periods between two frames: longer ones cannot be told from those "
            "the other way round, which makes the result too small; record positions more often (positions_every)",
            NNSimWarning,
            stacklevel=2,
        )
    return MeanSquaredDisplacement(lag, walkers.mean(axis=1), _standard_error(groups), walkers, groups)


def diffusion_coefficient(frames: Any, *, between: tuple[float, float] | None = None, **options: Any) -> Diffusion:
    """Diffusion coefficient for each parameter, from the slope of the mean squared displacement.

    Args:
        frames: as for `mean_squared_displacement`.
        between: lags of the fit, see `MeanSquaredDisplacement.diffusion`.
        **options: `max_lag`, `selection`, `parameters`, `period` and `interval`, as there.
    """
    return mean_squared_displacement(frames, **options).diffusion(between)


@dataclass(frozen=True, eq=False)
class VelocityAutocorrelation:
    """Velocity autocorrelation for each parameter.

    Attributes:
        lag: [L], reduced time, from 0.
        values: <v(0) v(t)> / <v^2>, [L].
        error: standard error of `values`, [L]; NaN at lags longer than a group.
        mean_square: <v^2>, mean over parameters; kT / m in equilibrium.
        integral: int_0^t <v(0) v(t')> dt' for each parameter, [L]; D where it has levelled off.
        integral_error: its standard error, [L].
        groups: number of groups that the errors are from.
    """

    lag: Floats
    values: Floats
    error: Floats
    mean_square: float
    integral: Floats
    integral_error: Floats
    groups: int

    def diffusion(self, until: float | None = None) -> Diffusion:
        r"""Diffusion coefficient by Green and Kubo, D = int_0^until <v(0) v(t)> dt.

        Args:
            until: end of the integral, reduced time; None is twice the lag at which the correlation first falls below
                two of its standard errors. Beyond that only noise is added.

        Raises:
            InputError: an end outside the lags that have an error.

        Reference: D. Frenkel, B. Smit, Understanding Molecular Simulation (2002), sec. 4.4.
        """
        known = np.flatnonzero(np.isfinite(self.integral_error))
        if not len(known):
            raise InputError("diffusion: no lag has an error; record longer, or give a smaller max_lag")
        last = int(known[-1])
        if until is None:
            lost = np.flatnonzero(np.abs(self.values[: last + 1]) < 2 * self.error[: last + 1])
            at = min(2 * int(lost[0]), last) if len(lost) else last
        else:
            until = require_number("diffusion", "until", until)
            if not self.lag[1] * (1 - 1e-9) <= until <= self.lag[last] * (1 + 1e-9):  # before that there is no integral
                raise InputError(
                    f"diffusion: until = {until:g} must be {self.lag[1]:g} to {self.lag[last]:g}, the first and the "
                    "longest lag with an error; change until"
                )
            at = int(np.searchsorted(self.lag, until * (1 + 1e-9), side="right")) - 1
        between = (0.0, float(self.lag[at]))
        return Diffusion(float(self.integral[at]), float(self.integral_error[at]), between, np.nan, np.nan, self.groups)


def velocity_autocorrelation(
    frames: Any,
    *,
    max_lag: int | None = None,
    selection: Selection = None,
    parameters: Shapes | None = None,
    interval: float | None = None,
) -> VelocityAutocorrelation:
    r"""Velocity autocorrelation over all time origins, and its integral, the diffusion coefficient.

        C(t) = 1/n sum_i < v_i(s) v_i(s + t) >_s,        D = int_0^inf C(t) dt        (trapezoid rule)

    No mean is subtracted. Frames must be much closer than what a velocity remembers, about 1/gamma for Langevin
    dynamics; the trapezoid rule makes D too large by about (gamma interval)^2 / 12.

    Args:
        frames: `Trajectory` with velocities, its path, its velocities, or an array [T, W, n], evenly spaced.
        max_lag: longest lag in frames, below T; None is a quarter of a group's record.
        selection: of parameters, as for `mean_squared_displacement`.
        parameters: names and shapes, likewise.
        interval: time between frames, likewise.

    Raises:
        InputError: as for `mean_squared_displacement`, or velocities that are all zero.

    Reference: R. Kubo, DOI 10.1143/JPSJ.12.570; M. P. Allen, D. J. Tildesley, Computer Simulation of Liquids (2017),
    ch. 2 and 8 (FFT).
    """
    owner = "velocity_autocorrelation"
    recorded = Recorded(owner, frames, "velocities", selection=selection, parameters=parameters)

    def products(values: Floats, lags: int, columns: slice) -> Floats:
        """Sum of C over columns [T, k]."""
        return lagged_products(values, lags) / (len(values) - np.arange(lags + 1))

    lag, walkers, groups = _over_groups(recorded, max_lag, interval, products)
    values = walkers.mean(axis=1)
    if values[0] == 0 or not (groups[0] > 0).all():
        raise InputError(f"{owner}: velocities are all zero, also of one walker; leave such walkers and frames out")
    return VelocityAutocorrelation(
        lag,
        values / values[0],
        _standard_error(groups / groups[0]),
        float(values[0]),
        _integrated(values, lag),
        _standard_error(_integrated(groups, lag)),
        groups.shape[1],
    )


def _over_groups(
    recorded: Recorded,
    max_lag: int | None,
    interval: float | None,
    measure: Callable[[Floats, int, slice], Floats],
) -> tuple[Floats, Floats, Floats]:
    """A function of the lag, averaged over parameters: lags [L], of each walker [L, W], of each group [L, G].

    `measure(values [T, k], lags, columns)` gives its sum over k columns, which are those of all walkers in turn.
    """
    _refuse_own_time_steps(recorded)
    frames, walkers, size = recorded.shape
    if frames < 2:
        raise InputError(f"{recorded.owner}: {frames} frame has no motion; give at least 2")
    pieces = max(1, min(-(-FEWEST_GROUPS // walkers), frames // 2))
    length = frames // pieces
    lags = max(1, length // 4) if max_lag is None else require_integer(recorded.owner, "max_lag", max_lag, least=1)
    if lags >= frames:
        raise InputError(f"{recorded.owner}: max_lag = {lags} must be below the {frames} frames; change max_lag")
    apart = recorded.interval(interval)
    of_walkers = np.zeros((lags + 1, walkers))
    groups = np.full((lags + 1, walkers, pieces), np.nan)
    shared = min(lags, length - 1)
    groups[: shared + 1] = 0.0
    for columns, batch in recorded.batches():
        for walker, part in _walkers_of(columns, size):
            values = batch[:, part.start - columns.start : part.stop - columns.start].astype(np.float64)
            of_walkers[:, walker] += measure(values, lags, part) / size
            for piece in range(pieces) if pieces > 1 else ():
                rows = values[piece * length : (piece + 1) * length]
                groups[: shared + 1, walker, piece] += measure(rows, shared, part) / size
    if pieces == 1:
        groups[:, :, 0] = of_walkers
    return apart * np.arange(lags + 1), of_walkers, groups.reshape(lags + 1, -1)


def _refuse_own_time_steps(recorded: Recorded) -> None:
    """Raise `InputError` where a lag in steps is not the same time for all walkers and frames."""
    dt = (recorded.header.get("integrator") or {}).get("dt")
    if dt is not None and not isinstance(dt, (int, float)):
        raise InputError(
            f"{recorded.owner}: dt was not one number in this run, so that a lag is no common time of its walkers; "
            "give the frames of walkers of one dt as an array, with their interval="
        )


def _walkers_of(columns: slice, size: int, most: int = 512) -> list[tuple[int, slice]]:
    """Columns of all walkers in turn, cut into parts of one walker and a bounded width."""
    found, first = [], columns.start
    while first < columns.stop:
        walker = first // size
        stop = min((walker + 1) * size, columns.stop, first + most)
        found.append((walker, slice(first, stop)))
        first = stop
    return found


def _slope(x: Floats, y: Floats) -> Floats:
    """Slope of the least-squares line through y [L] or [L, G]."""
    centred = x - x.mean()
    return np.asarray(centred @ y / (centred @ centred))


def _integrated(values: Floats, lag: Floats) -> Floats:
    """Integral from 0 to each lag, [L, ...], by the trapezoid rule."""
    from scipy.integrate import cumulative_trapezoid

    return np.asarray(cumulative_trapezoid(values, lag, axis=0, initial=0.0))


def _standard_error(groups: Floats) -> Floats:
    """Standard error of the mean over the last axis; NaN for a single group."""
    count = groups.shape[-1]
    if count < 2:
        return np.full(groups.shape[:-1], np.nan)
    return np.asarray(groups.std(axis=-1, ddof=1) / np.sqrt(count))
