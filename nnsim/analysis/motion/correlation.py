r"""How many independent numbers a correlated record holds: autocorrelation time, effective sample size, block averages.

The autocorrelation time tau is here what emcee calls it and pymbar calls the statistical inefficiency,

    tau = 1 + 2 sum_{t>=1} rho(t)        [frames]

twice the integrated time of Sokal's lectures. A mean over N frames is as good as one over N / tau independent ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.checks import as_numbers
from nnsim.analysis.images import gathered, period_of_series
from nnsim.analysis.landscape.axes import Floats
from nnsim.analysis.motion.blocks import spacing
from nnsim.errors import InputError, require_flag, require_integer, require_number

RELIABLE = 50  # frames per autocorrelation time; emcee warns below that


@dataclass(frozen=True)
class AutocorrelationTime:
    """Integrated autocorrelation time of a record, and what follows from it.

    Attributes:
        tau: 1 + 2 sum rho(t), in frames; NaN for a record that does not change.
        error: its standard error, in frames.
        window: lag at which the sum was cut, in frames.
        frames, walkers: size of the record, T and W.
        interval: time between frames, reduced units.
        mean: over frames and walkers, in units of the record.
        variance: of the record about this mean, corrected for its correlation.
    """

    tau: float
    error: float
    window: int
    frames: int
    walkers: int
    interval: float
    mean: float
    variance: float

    @property
    def time(self) -> float:
        """The autocorrelation time in reduced units of time."""
        return self.tau * self.interval

    @property
    def effective(self) -> float:
        """Effective sample size T W / tau."""
        return self.frames * self.walkers / self.tau

    @property
    def mean_error(self) -> float:
        """Standard error of the mean, sqrt(variance tau / (T W)); NaN where it is not known, 0 without change.

        A tau below 1 counts as 1: in a short record it is rather an accident than a negative correlation.
        """
        samples = self.frames * self.walkers
        return 0.0 if self.variance == 0 else float(np.sqrt(self.variance * max(self.tau, 1.0) / samples))

    @property
    def reliable(self) -> bool:
        """Whether a walker's record is at least 50 tau long; before that tau comes out too small."""
        return bool(self.frames >= RELIABLE * self.tau)


def autocorrelation(
    series: Any, *, max_lag: int | None = None, common_mean: bool = True, period: float | None = None
) -> Floats:
    r"""Normalised autocorrelation function of a record, averaged over its walkers.

        c(t) = 1/(T W) sum_w sum_s (x_w(s) - m)(x_w(s + t) - m),        rho(t) = c(t) / c(0)

    All pairs of frames, by FFT. The divisor is T at every lag, not T - t: the noise at long lags stays small and the
    sum over all lags finite.

    Args:
        series: [T] or [T, W], an array or a series of a trajectory.
        max_lag: longest lag in frames, below T; None is T - 1.
        common_mean: m is the mean over all walkers, right where all sample the same distribution: walkers that have not
            mixed then show as a correlation that does not decay. False: each walker about its own mean.
        period: after how much the values come round, above 0, as a parameter does in a periodic box; None takes that of
            a trajectory's series. m then is the intrinsic mean, and x - m goes to the nearest image
            (`nnsim.analysis.images`).

    Returns:
        [max_lag + 1]; NaN for a record that does not change.

    Raises:
        InputError: another shape, values that are not finite, or a lag of T or more.

    Reference: A. D. Sokal, in Functional Integration (1997), DOI 10.1007/978-1-4899-0319-8_6, sec. 3; averaging over
    walkers: J. Goodman, J. Weare, DOI 10.2140/camcos.2010.5.65.
    """
    require_flag("autocorrelation", "common_mean", common_mean)
    values, _ = _record("autocorrelation", series, period, common_mean=common_mean)
    lags = _require_lag("autocorrelation", max_lag, len(values), len(values) - 1)
    covariance = _covariance(values, common_mean)[: lags + 1]
    return np.full(lags + 1, np.nan) if _is_constant(values, covariance) else covariance / covariance[0]


def autocorrelation_time(
    series: Any,
    *,
    window: float = 5.0,
    common_mean: bool = True,
    interval: float | None = None,
    period: float | None = None,
) -> AutocorrelationTime:
    r"""Integrated autocorrelation time with Sokal's window, and the effective sample size.

        tau(M) = 1 + 2 sum_{t=1}^{M} rho(t),        M the smallest lag with M >= window tau(M)
        error of tau = tau sqrt(2 (2 M + 1 - tau) / (T W))

    A sum over all lags would be noise; the window leaves out about exp(-2 window) of an exponential correlation. It is
    the rule of emcee, and for one walker gives the same number. The error holds for T much longer than M; for 200 tau
    it is about a fifth too large.

    Args:
        series: [T] or [T, W], an array or a series of a trajectory, such as `trajectory["ln_loss_train"]`.
        window: c of the rule, above 0; 5 is customary.
        common_mean: as for `autocorrelation`; False for walkers that sample different distributions.
        interval: time between frames; None takes it from a series, and 1 for an array.
        period: as for `autocorrelation`.

    Raises:
        InputError: another shape, values that are not finite, a window or interval not above 0, uneven times.

    Reference: A. D. Sokal, DOI 10.1007/978-1-4899-0319-8_6, sec. 3; U. Wolff, DOI
    10.1016/S0010-4655(03)00467-3, eq. 42 (the error); D. Foreman-Mackey et al., DOI 10.1086/670067.

    >>> x = np.random.default_rng(0).standard_normal(4000)
    >>> found = autocorrelation_time(x)
    >>> abs(found.tau - 1) < 4 * found.error, found.reliable
    (True, True)
    """
    require_flag("autocorrelation_time", "common_mean", common_mean)
    window = require_number("autocorrelation_time", "window", window, above=0.0)
    values, apart = _record("autocorrelation_time", series, period, interval, common_mean=common_mean)
    frames, walkers = values.shape
    covariance = _covariance(values, common_mean)
    mean = float(values.mean())
    if _is_constant(values, covariance):
        return AutocorrelationTime(np.nan, np.nan, 0, frames, walkers, apart, mean, 0.0)
    taus = 2 * np.cumsum(covariance / covariance[0]) - 1
    cut = np.flatnonzero(np.arange(frames) >= window * taus)
    last = int(cut[0]) if len(cut) else frames - 1
    # a record that alternates may sum to nothing, but no record is worth more than the square of its frames
    tau = max(float(taus[last]), 1 / frames)
    error = tau * np.sqrt(2 * (2 * last + 1 - tau) / (frames * walkers))
    free = 1 - tau / (frames * walkers)  # the mean took its share of the fluctuation
    variance = float(covariance[0]) / free if free > 0 else np.nan
    return AutocorrelationTime(tau, float(error), last, frames, walkers, apart, mean, variance)


def effective_sample_size(
    series: Any, *, window: float = 5.0, common_mean: bool = True, period: float | None = None
) -> float:
    """Number of independent frames that a record is worth, T W / tau; arguments as for `autocorrelation_time`."""
    options: dict[str, Any] = {"window": window, "common_mean": common_mean, "period": period}
    return autocorrelation_time(series, interval=1.0, **options).effective


@dataclass(frozen=True, eq=False)
class BlockAverages:
    """Standard error of the mean against the length of the blocks it is taken from.

    Attributes:
        length: of the blocks, in frames, [K]: 1, 2, 4, ...
        blocks: how many there are, of all walkers, [K].
        error: standard error of the mean if blocks were independent, [K], in units of the record.
        error_error: standard error of that, [K].
        mean: over frames and walkers.
        plateau: index of the shortest length at which the error no longer grows; None if the record is too short.
        interval: time between frames, reduced units.
    """

    length: NDArray[np.int64]
    blocks: NDArray[np.int64]
    error: Floats
    error_error: Floats
    mean: float
    plateau: int | None
    interval: float

    @property
    def mean_error(self) -> float:
        """Standard error of the mean, read off at the plateau; NaN without one."""
        return np.nan if self.plateau is None else float(self.error[self.plateau])


def block_averages(series: Any, *, interval: float | None = None, period: float | None = None) -> BlockAverages:
    r"""Standard error of a mean by block averages of doubling length.

        x'_i = (x_{2i} + x_{2i+1}) / 2
        error_k^2 = c_0(k) / (n_k - 1),        error of error_k = error_k / sqrt(2 (n_k - 1))

    with c_0(k) the variance of the n_k blocks of length 2^k about the mean. The error grows until blocks are
    independent and then stays. The plateau is the shortest length B with B^3 > 2 N (error_k / error_0)^4, N the number
    of frames of all walkers: there the bias that is left and the noise are about equal. Walkers count as independent.

    Args:
        series: [T] or [T, W], an array or a series of a trajectory; T of at least 2. What is beyond a whole number of
            blocks is left out of these.
        interval: time between frames; None takes it from a series, and 1 for an array.
        period: as for `autocorrelation`.

    Raises:
        InputError: another shape, fewer than 2 frames, values that are not finite, uneven times.

    Reference: H. Flyvbjerg, H. G. Petersen, DOI 10.1063/1.457480, eq. 20 f. and 26; the plateau: R. M. Lee et al.,
    DOI 10.1103/PhysRevE.83.066706.
    """
    values, apart = _record("block_averages", series, period, interval)
    if len(values) < 2:
        raise InputError(f"block_averages: {len(values)} frame cannot be cut into blocks; give at least 2")
    total, mean = values.size, float(values.mean())
    length, counts, errors = [], [], []
    blocks, size = values, 1
    while blocks.size >= 2 and len(blocks):
        length.append(size)
        counts.append(blocks.size)
        errors.append(blocks.std() / np.sqrt(blocks.size - 1))
        whole = len(blocks) // 2
        blocks, size = 0.5 * (blocks[0 : 2 * whole : 2] + blocks[1 : 2 * whole : 2]), 2 * size
    error, count = np.array(errors), np.array(counts, dtype=np.int64)
    grown = error / error[0] if error[0] > 0 else np.ones_like(error)
    fits = np.flatnonzero(np.array(length, dtype=float) ** 3 > 2 * total * grown**4)
    plateau = int(fits[0]) if len(fits) and count[fits[0]] > 2 else None
    return BlockAverages(
        np.array(length, dtype=np.int64), count, error, error / np.sqrt(2 * (count - 1)), mean, plateau, apart
    )


def _record(
    owner: str, series: Any, period: float | None, interval: float | None = 1.0, *, common_mean: bool = True
) -> tuple[Floats, float]:
    """A record as [T, W] float64, of what comes round the images nearest to its mean, and the time between frames."""
    given = series[...] if hasattr(series, "step") else series
    values = as_numbers(owner, "series", given).astype(np.float64)
    if values.ndim not in (1, 2) or not values.size:
        raise InputError(
            f"{owner}: a series of shape {values.shape} must be [T] or [T, W]; take one number for each walker"
        )
    if not np.isfinite(values).all():
        raise InputError(f"{owner}: a series with values that are not finite; leave such frames out")
    apart = spacing(owner, series) if interval is None else require_number(owner, "interval", interval, above=0.0)
    values = values.reshape(len(values), -1)
    if period is None:
        period = period_of_series(owner, series)
    else:
        require_number(owner, "period", period, above=0.0)
    return gathered(owner, values, period, (0, 1) if common_mean else (0,)), apart


def _require_lag(owner: str, max_lag: int | None, frames: int, default: int) -> int:
    if max_lag is None:
        return default
    if require_integer(owner, "max_lag", max_lag, least=0) >= frames:
        raise InputError(f"{owner}: max_lag = {max_lag} must be below the {frames} frames; change max_lag")
    return int(max_lag)


def _covariance(values: Floats, common_mean: bool) -> Floats:
    """Autocovariance at all lags, [T], divided by T and averaged over walkers."""
    centred = values - (values.mean() if common_mean else values.mean(axis=0))
    return lagged_products(centred, len(values) - 1) / values.size


def _is_constant(values: Floats, covariance: Floats) -> bool:
    """Whether a record does not change but for the rounding of its mean."""
    return bool(covariance[0] <= (1e-15 * np.abs(values).max()) ** 2)


def lagged_products(values: Floats, lags: int) -> Floats:
    r"""sum_k sum_s x_k(s) x_k(s + t) of columns [T, k] for t = 0 ... lags, [lags + 1], by FFT (Wiener-Khinchin)."""
    from scipy import fft

    length = fft.next_fast_len(len(values) + lags, real=True)  # zeros between the ends, so that nothing wraps around
    width = max(1, 2**22 // length)
    power = np.zeros(length // 2 + 1)
    for first in range(0, values.shape[1], width):
        part = np.ascontiguousarray(values[:, first : first + width].T)
        power += (np.abs(fft.rfft(part, length, axis=1)) ** 2).sum(axis=0)
    return np.asarray(fft.irfft(power, length)[: lags + 1])
