r"""Averages at a value of a CV, not over a bin of it.

In a bin of x the walkers are where their density is high: where S rises by 60 nats per unit, the frames of a bin 0.1
wide lie 0.03 above its centre in the mean, and the average of y over them belongs there. So y is not averaged but
fitted, in each bin, by a parabola in x (or a line, where the frames do not carry more):

    minimise sum_f w_f (y_f - a - b (x_f - c) - d (x_f - c)^2)^2,        <y>(c) = a,        c the centre of the bin

Where the frames lie so far on one side of the bin that its centre would be an extrapolation, the average is given at
their own mean of x, by a line. Given x only ratios of weights count: what the weights have in common in a bin as a
function of x, ln w ~ parabola, is taken off them, so that all of the bin has a say.

The error is that of the jackknife: each group of walkers, or piece of their record, is left out once.

| symbol | name in code | shape |
|---|---|---|
| x, y, ln w | `x`, `y`, `log_weights` | [T, W] frames and walkers |
| c or the mean of x | `at` | [B] |
| <y> | `mean` | [B] |

Reference: W. S. Cleveland, J. Am. Stat. Assoc. 74, 829 (1979), doi:10.1080/01621459.1979.10481038 (local regression);
J. Fan and I. Gijbels, Local Polynomial Modelling and Its Applications (1996), ch. 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsim.analysis.averages.bins import Binned, blocks_of, jackknife, without_each
from nnsim.analysis.landscape.axes import Floats
from nnsim.criteria import FEWEST_FRAMES

PARABOLA, LINE = 8, 4  # effective frames that each asks for: what has an error is a parabola
DEAREST = 6.0  # by how much a fit may raise the variance of the mean: 2.25 for a parabola through an even bin
ROUNDING = 1e-9  # of the width of a bin: frames closer to each other are at one value
PARTS = 8  # of a bin, by which the trend of the weights is found


@dataclass(frozen=True, eq=False)
class LocalMean:
    """Mean of y at a value of x in each bin.

    Attributes:
        edges: edges of the bins, [B + 1].
        at: value of x that the mean belongs to, [B]: the centre of the bin, or where the frames are; NaN without any.
        mean: [B]; NaN without frames.
        error: standard error, [B]; NaN with fewer than 8 effective frames, or where only one block has been.
        frames: number of frames with a weight, [B] int64.
        effective: effective number of frames (sum w)^2 / sum w^2, [B].
        left_out: the mean without each of the G blocks, [G, B]; for what is made of several bins.
    """

    edges: Floats
    at: Floats
    mean: Floats
    error: Floats
    frames: NDArray[np.int64]
    effective: Floats
    left_out: Floats
    _fit: _Fit

    @property
    def centers(self) -> Floats:
        """Centres of the bins, [B]."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    def moved(self, at: ArrayLike) -> Floats:
        """The mean at other values of x, one in each bin, [B], near those at which it is given."""
        return self._fit.mean(np.asarray(at, dtype=np.float64))[0]


def local_mean(
    x: ArrayLike,
    y: ArrayLike,
    log_weights: ArrayLike,
    edges: ArrayLike,
    *,
    groups: int | None = None,
    time_blocks: int = 1,
    degree: int = 2,
) -> LocalMean:
    """Mean of y at the centres of bins of x, or where the frames are.

    Args:
        x: the CV, [T, W]; frames outside the edges, and NaN, are left out.
        y: the quantity to be averaged, [T, W].
        log_weights: ln w, [T, W]; -inf is a frame without weight.
        edges: edges of the bins, [B + 1], increasing; the upper edge belongs to the last bin.
        groups: number of groups of walkers to leave out together; None takes each walker for itself.
        time_blocks: number of pieces in time into which the record of each walker is cut, for few walkers.
        degree: highest degree of the fit, 0 to 2; 1 for bins that are narrow anyway.

    Raises:
        InputError: as for `conditional_mean`; more groups or pieces than there are walkers or frames.
    """
    logs = np.asarray(log_weights, dtype=np.float64)
    binned = Binned(x, y, logs, edges, level=_trend)
    frames, walkers = np.shape(x)
    block, count = blocks_of("local_mean", frames, walkers, groups, time_blocks)
    fit = _Fit(binned, block.reshape(-1)[binned.used], count, degree)
    mean, left_out = fit.mean(fit.at)
    error = jackknife(left_out) if count > 1 else np.full_like(mean, np.nan)
    sure = (fit.effective >= FEWEST_FRAMES) & (fit.contributors > 1)
    return LocalMean(
        binned.edges, fit.at, mean, np.where(sure, error, np.nan), binned.weighted, fit.effective, left_out, fit
    )


class _Fit:
    """Polynomials through the frames of each bin, of all frames and without each block.

    Attributes:
        at: where the mean is given, [B].
        effective: effective number of frames, [B].
        contributors: number of blocks with weight in a bin, [B].
    """

    def __init__(self, binned: Binned, block: NDArray[np.int64], count: int, degree: int) -> None:
        total, first, square = binned.sums(np.zeros_like(binned.bins), 1, binned.x)
        self._mean_x = np.divide(first, total, out=np.full_like(total, np.nan), where=total > 0)[0]
        self.effective = np.divide(total**2, square, out=np.zeros_like(total), where=square > 0)[0]
        # about the frames' own mean and in units of their spread, where the equations are solved best
        apart = binned.x - self._mean_x[binned.bins]
        spread = binned.sums(np.zeros_like(binned.bins), 1, apart**2)[1][0]
        scale = np.sqrt(np.divide(spread, total[0], out=np.zeros_like(spread), where=total[0] > 0))
        wide = scale > ROUNDING * np.diff(binned.edges)
        self._scale = np.where(wide, scale, 1.0)
        z = apart / self._scale[binned.bins]
        powers = [binned.sums(block, count, z**k) for k in range(5)]
        self._powers = np.stack([one[1] for one in powers], axis=-1)  # sums of w z^k, [G, B, 5]
        self._products = np.stack([binned.sums(block, count, z**k * binned.y)[1] for k in range(3)], axis=-1)
        self.contributors = (self._powers[..., 0] > 0).sum(axis=0)
        centers = 0.5 * (binned.edges[1:] + binned.edges[:-1])
        there = self._degrees(centers, degree, wide)
        self.at = np.where(there > 0, centers, self._mean_x)
        self._degree = np.where(there > 0, there, self._degrees(self._mean_x, degree, wide))

    def _degrees(self, at: Floats, highest: int, spread: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Degree of the fit at a place in each bin; 0 where the frames do not carry one that far."""
        moments = self._powers.sum(axis=0)
        found = np.zeros(len(at), dtype=np.int64)
        z = (at - self._mean_x) / self._scale
        for degree, least in ((1, LINE), (2, PARABOLA)):
            if degree <= highest:
                cost = np.where(spread, moments[:, 0], 1.0) * _leverage(moments, z, degree)
                found[spread & (self.effective >= least) & (cost <= DEAREST)] = degree
        return found

    def mean(self, at: Floats) -> tuple[Floats, Floats]:
        """The mean at a place in each bin, [B], and the same without each block, [G, B]."""
        z = (at - self._mean_x) / self._scale
        mean, left_out = np.full(len(z), np.nan), np.full(self._powers.shape[:2], np.nan)
        for degree in range(3):
            chosen = (self._degree == degree) & np.isfinite(z)
            if not chosen.any():
                continue
            powers, products = self._powers[:, chosen], self._products[:, chosen]
            mean[chosen] = _value(powers.sum(axis=0), products.sum(axis=0), z[chosen], degree)
            if len(powers) > 1:
                left_out[:, chosen] = _value(without_each(powers), without_each(products), z[chosen], degree)
        return mean, left_out


def _normal(moments: Floats, degree: int) -> Floats:
    """The matrices of the normal equations, [..., d + 1, d + 1]."""
    order = np.arange(degree + 1)
    return moments[..., order[:, None] + order]


def _leverage(moments: Floats, z: Floats, degree: int) -> Floats:
    """e^T M^-1 e, e = (1, z, z^2), [B]: the variance of the fit at z in units of that of one frame; inf if singular."""
    powers = z[..., None] ** np.arange(degree + 1)
    found: Floats = np.einsum("...i,...ij,...j->...", powers, _inverse(_normal(moments, degree)), powers)
    return np.where(np.isfinite(found) & (found > 0), found, np.inf)


def _value(moments: Floats, products: Floats, z: Floats, degree: int) -> Floats:
    """The polynomial at z, [..., B]."""
    powers = z[..., None] ** np.arange(degree + 1)
    inverse = _inverse(_normal(moments, degree))
    return np.asarray(np.einsum("...i,...ij,...j->...", powers, inverse, products[..., : degree + 1]))


def _inverse(matrices: Floats) -> Floats:
    """Inverses of symmetric matrices [..., d, d]; NaN for singular ones."""
    known = np.isfinite(matrices).all(axis=(-2, -1)) & (matrices[..., 0, 0] > 0)
    safe = np.where(known[..., None, None], matrices, np.eye(matrices.shape[-1]))
    values, vectors = np.linalg.eigh(safe)
    regular = known & (values[..., 0] > 1e-12 * np.abs(values[..., -1]))
    inverse = (vectors / np.where(regular[..., None], values, 1.0)[..., None, :]) @ vectors.swapaxes(-1, -2)
    return np.where(regular[..., None, None], inverse, np.nan)


def _trend(x: Floats, logs: Floats, bins: NDArray[np.int64], edges: Floats) -> Floats:
    """What ln w has in common as a function of x in each bin, at each frame."""
    finite = np.isfinite(logs)
    if not finite.any() or np.ptp(logs[finite]) == 0:
        return np.zeros_like(logs)
    return smooth_level(x, logs, bins, edges)


def smooth_level(x: Floats, logs: Floats, bins: NDArray[np.int64], edges: Floats, *, of_sum: bool = False) -> Floats:
    """Ln of the mean weight of the frames around x, at each frame: in each bin a parabola (or line) through its parts.

    Args:
        x: the CV of each frame, [F].
        logs: ln w, [F].
        bins: bin of each frame, [F].
        edges: edges of the bins, [B + 1].
        of_sum: of the sum of weights instead of their mean, by a line: the density of the frames counts too.
    """
    count, width, finite = len(edges) - 1, np.diff(edges), np.isfinite(logs)
    u = 2 * (x - edges[bins]) / width[bins] - 1  # -1 to 1 across the bin
    part = bins * PARTS + np.clip((u + 1) / 2 * PARTS, 0, PARTS - 1).astype(np.int64)
    level, number = _log_means(part[finite], logs[finite], count * PARTS)
    if of_sum:
        level = level + np.log(np.maximum(number, 1))
    place = np.bincount(part[finite], u[finite], count * PARTS) / np.maximum(number, 1)
    powers = place.reshape(count, PARTS, 1) ** np.arange(3)
    weight = number.reshape(count, PARTS)
    height = np.where(weight > 0, level.reshape(count, PARTS), 0.0)
    coefficients = _polynomials(powers, weight, height, 1 if of_sum else 2)
    return np.asarray((coefficients[bins] * u[:, None] ** np.arange(3)).sum(axis=1))


def _log_means(index: NDArray[np.int64], logs: Floats, size: int) -> tuple[Floats, Floats]:
    """Ln of the mean of exp(logs) in each class, -inf in empty ones, and the number of members."""
    number = np.bincount(index, minlength=size).astype(np.float64)
    top = np.full(size, -np.inf)
    np.maximum.at(top, index, logs)
    safe = np.where(np.isfinite(top), top, 0.0)
    total = np.bincount(index, np.exp(logs - safe[index]), size)
    with np.errstate(divide="ignore"):
        return safe + np.log(total / np.maximum(number, 1)), number


def _polynomials(powers: Floats, weight: Floats, height: Floats, highest: int) -> Floats:
    """Coefficients [B, 3] of weighted polynomials through the parts; of lower degree where fewer parts are known."""
    degrees = np.minimum((weight > 0).sum(axis=1) - 1, highest)
    found = np.zeros((len(weight), 3))
    for degree in range(highest + 1):
        chosen = degrees == degree
        basis = powers[chosen][:, :, : degree + 1] * np.sqrt(weight[chosen])[..., None]
        right = height[chosen] * np.sqrt(weight[chosen])
        solved: Any = np.einsum("bij,bj->bi", np.linalg.pinv(basis), right)
        found[chosen, : degree + 1] = solved
    return found
