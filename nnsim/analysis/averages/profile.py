r"""Free energy, entropy and distribution along any recorded observables, with the biases of the run taken off.

    p_b = sum_{n in b} w_n / (h_b sum_n w_n)        S = ln p - max        F = -kT ln p - min

w_n are the weights of `nnsim.analysis.weights`, h_b the width (area) of bin b. p_b is the mean density of the bin; S
and F are those of the density at its centre, which follows by the local slope (`nnsim.analysis.within_bins`). Standard
errors are those of the jackknife over blocks of the record; those of S and F are of ln p, p normalised over all bins,
so that none of the bins is exact by convention. Where the record is too short to tell them, they are NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.averages.bins import jackknife
from nnsim.analysis.averages.weights import FrameWeights, frame_weights
from nnsim.analysis.images import recorded_period, unwrapped_about
from nnsim.analysis.landscape.axes import Axis, Floats
from nnsim.analysis.landscape.landscape import EntropyLandscape
from nnsim.analysis.landscape.within_bins import points_of_means
from nnsim.errors import InputError, require_integer, require_number, shown

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

MOST_BINS = 10**6
MOST_VALUES = 10_000
BEYOND = 2  # bins on each side that are counted too, if frames are there: they tell the slope of S in the outer bins
FEW_PER_BIN = 5  # different values of an observable of levels; a smooth one has more, also where moves were rejected
Between = Sequence[float] | Sequence[Sequence[float]] | None


@dataclass(frozen=True, eq=False)
class Profile:
    """A distribution along one or two observables.

    Attributes:
        along: their names.
        centers: centres of the bins, or the values, of each, [M1] and [M2].
        edges: edges of the bins, [M1 + 1] and [M2 + 1]; with `discrete` halfway between the values.
        discrete: whether each bin is a single value.
        p, p_error: mean probability density of each bin with its standard error, [M1] or [M1, M2]; the probability
            itself if discrete.
        entropy, entropy_error: S = ln p at the centres, with its largest value at 0, in nats; NaN where no frame has
            been. `entropy_at` gives it between them.
        free_energy, free_energy_error: F = -kT S, in units of energy, with its minimum at 0.
        frames: number of frames, int64.
        effective: effective number of frames, (sum w)^2 / sum w^2 in each bin.
        means, mean_errors: average of each observable over all frames (also those outside the bins), with its error; of
            one that comes round, as a parameter in a periodic box, the intrinsic mean (`nnsim.analysis.images`), NaN
            where it is spread over the period.
        weights: those of the frames, with the total effective number of frames and the states of MBAR.
        flat: whether S is the entropy: U = 0, and no other ensemble was asked for.
        levels: for each observable whether it takes a few values only, so that nothing lies within a bin.
    """

    along: tuple[str, ...]
    centers: tuple[Floats, ...]
    edges: tuple[Floats, ...]
    discrete: bool
    p: Floats
    p_error: Floats
    entropy: Floats
    entropy_error: Floats
    frames: NDArray[np.int64]
    effective: Floats
    means: tuple[float, ...]
    mean_errors: tuple[float, ...]
    weights: FrameWeights
    flat: bool
    levels: tuple[bool, ...] = ()

    @property
    def kT(self) -> float:
        """Temperature of the ensemble."""
        return self.weights.kT

    @property
    def free_energy(self) -> Floats:
        """F = -kT ln p with its minimum at 0, in units of energy."""
        return -self.kT * self.entropy + 0.0

    @property
    def free_energy_error(self) -> Floats:
        """Standard error of -kT ln p."""
        return self.kT * self.entropy_error

    @property
    def mean(self) -> float:
        """Average of the first observable."""
        return self.means[0]

    @property
    def mean_error(self) -> float:
        """Standard error of the average of the first observable."""
        return self.mean_errors[0]

    @property
    def total_effective(self) -> float:
        """Effective number of frames of the whole run."""
        return self.weights.effective

    def rows(self) -> list[dict[str, float | int]]:
        """One dictionary for each bin that was visited: S and F at its centre, p its mean density."""
        density = "probability" if self.discrete else "probability_density"
        return [
            {
                **self._place(index),
                "free_energy": float(self.free_energy[index]),
                "free_energy_error": float(self.free_energy_error[index]),
                "entropy": float(self.entropy[index]),
                "entropy_error": float(self.entropy_error[index]),
                density: float(self.p[index]),
                f"{density}_error": float(self.p_error[index]),
                "frames": int(self.frames[index]),
                "effective_frames": float(self.effective[index]),
            }
            for index in map(tuple, np.argwhere(self.frames > 0))
        ]

    def _place(self, index: tuple[int, ...]) -> dict[str, float]:
        found = {}
        for name, centers, edges, i in zip(self.along, self.centers, self.edges, index, strict=True):
            found[name] = float(centers[i])
            if not self.discrete:
                found |= {f"{name}_from": float(edges[i]), f"{name}_to": float(edges[i + 1])}
        return found

    def landscape(self) -> EntropyLandscape:
        """S as a landscape, for its averages over runs, slices and pictures.

        Raises:
            InputError: one of discrete values, which lie on no grid.
        """
        if self.discrete:
            raise InputError("Profile.landscape: discrete values lie on no grid; take bins = a number")
        levels = self.levels or (False,) * len(self.along)
        parts = zip(self.along, self.centers, self.edges, levels, strict=True)
        axes = tuple(Axis(name, centers, edges, discrete=level) for name, centers, edges, level in parts)
        visited = np.isfinite(self.entropy)
        with np.errstate(divide="ignore"):
            means = np.where(visited, np.log(self.p), np.nan)
        # with S as it is here, since frames beyond the outer bins have a say in it
        return EntropyLandscape(self.entropy, visited, axes, self.entropy_error, self.flat, means=means)

    def entropy_at(self, *values: float) -> float:
        """S at a point, a value of each observable, relative to its largest value at a centre; NaN where not visited.

        Raises:
            InputError: more or fewer values than observables, one outside the bins, or discrete values.
        """
        if len(values) != len(self.along):
            raise InputError(f"Profile.entropy_at: {len(values)} values for {', '.join(self.along)}; give one of each")
        return self.landscape().at(**dict(zip(self.along, values, strict=True)))


def profile(
    trajectory: Trajectory | str | Path,
    along: str | Sequence[str],
    *,
    bins: int | str | Sequence[int] = 50,
    between: Between = None,
    since: float = 0.5,
    blocks: int = 8,
    beta: float | None = None,
    kT: float | None = None,
    final_bias: bool = False,
) -> Profile:
    """Distribution, entropy and free energy along one or two recorded observables, biased or not.

    Args:
        trajectory: of a run with any of the biases that `frame_weights` knows, or none; or its path.
        along: one or two observables with a number for each walker.
        bins: number of bins along each, at least 1; `"values"` is a bin for each value that occurs, for discrete
            observables such as an accuracy.
        between: lowest and highest value, or a pair of those for each observable; by default all values that occur.
            Frames outside are left out of the bins; p is normalised over the bins.
        since: fraction of the run that is left out at its beginning, from 0 to below 1.
        blocks: number of blocks for the errors, at least 2 (see `frame_weights`).
        beta: additional factor exp(-beta L), L the train loss (see `frame_weights`).
        kT: another temperature than the run's, above 0, for systems with U.
        final_bias: for metadynamics and OPES, take the final V for all frames instead of V(s, t) - c(t) and V(s, t).

    Raises:
        InputError: as `frame_weights`; more than two observables, no frame between the limits, too many values.
        TrajectoryError: an observable that was not recorded.

    Reference: S. Kumar et al., J. Comput. Chem. 13, 1011 (1992), doi:10.1002/jcc.540130812; weights by MBAR: M. R.
    Shirts and J. D. Chodera, J. Chem. Phys. 129, 124105 (2008), doi:10.1063/1.2978177, eqs. 11 to 13.
    """
    names = (along,) if isinstance(along, str) or not isinstance(along, Sequence) else tuple(along)
    strings = all(isinstance(name, str) for name in names)
    if not strings or not 1 <= len(names) <= 2 or len(set(names)) < len(names):
        raise InputError(f"profile: along = {shown(along)} must be one observable or two different ones; change along")
    counts, limits = _bins(bins, len(names)), _limits(between, len(names))
    options: dict[str, Any] = {"since": since, "beta": beta, "kT": kT, "final_bias": final_bias, "blocks": blocks}
    weights = frame_weights(trajectory, names=names, **options)
    values = [weights.values(name) for name in names]
    known = np.isfinite(weights.log_weights) & np.logical_and.reduce([np.isfinite(one) for one in values])
    periods = [recorded_period(weights.trajectory[name]) for name in names]
    axes = [_axis(*parts, known) for parts in zip(names, values, counts, limits, strict=True)]
    levels = tuple(_takes_few_values(one[known], count) for one, count in zip(values, counts, strict=True))
    table = _Table(weights, values, [edges for _, edges in axes], known, counts[0] is None, levels, periods)
    flat = bool(weights.trajectory.header.get("system", {}).get("flat", False)) and beta is None
    centers, edges = (tuple(parts) for parts in zip(*axes, strict=True))
    return Profile(names, centers, edges, table.discrete, **table.results(), weights=weights, flat=flat, levels=levels)


def _takes_few_values(seen: Floats, bins: int | None) -> bool:
    """Whether an observable is one of levels, such as an exact accuracy, and not a smooth one that was sampled."""
    if bins is None:
        return True
    different = len(np.unique(seen))
    return different <= FEW_PER_BIN * bins and 2 * different < seen.size


class _Table:
    """Frames in bins, with their weights."""

    def __init__(
        self,
        weights: FrameWeights,
        values: list[Floats],
        edges: list[Floats],
        known: NDArray[np.bool_],
        discrete: bool,
        levels: tuple[bool, ...],
        periods: list[float | None],
    ) -> None:
        self.weights, self.known, self.discrete = weights, known, discrete
        self.widths = [None if level else float(one[1] - one[0]) for one, level in zip(edges, levels, strict=True)]
        mass = np.exp(weights.log_weights[known] - weights.log_weights[known].max(initial=-np.inf))
        pairs = zip((one[known] for one in values), periods, strict=True)
        self.averaged = [one if period is None else unwrapped_about(one, mass, period) for one, period in pairs]
        shape = tuple(len(one) - 1 for one in edges)
        if np.prod(shape) > MOST_BINS:
            raise InputError(f"profile: bins = {shape} make more than {MOST_BINS} bins; take fewer")
        beyond = [0 if width is None else BEYOND for width in self.widths]
        self.asked = tuple(slice(more, more + count) for more, count in zip(beyond, shape, strict=True))
        edges = [_longer(one, more) for one, more in zip(edges, beyond, strict=True)]
        self.shape = tuple(len(one) - 1 for one in edges)
        index, inside = [], known.copy()
        for one, bounds, asked in zip(values, edges, self.asked, strict=True):
            inside &= (one >= bounds[0]) & (one <= bounds[-1])
            place = np.searchsorted(bounds, one, side="right") - 1
            last = one == bounds[asked.stop]  # which belongs to the last bin that was asked for
            index.append(np.where(last, asked.stop - 1, place).clip(0, len(bounds) - 2))
        self.inside = inside
        self.index = np.ravel_multi_index(index, self.shape)[inside]
        self.frames = np.bincount(self.index, minlength=int(np.prod(self.shape))).reshape(self.shape)[self.asked]
        if not self.frames.any():
            raise InputError("profile: no frame lies between the limits; change between")
        self.size = np.ones(self.shape)
        if not discrete:
            for axis, bounds in enumerate(edges):
                self.size *= np.diff(bounds).reshape([-1 if d == axis else 1 for d in range(len(edges))])

    def density(self, log_weights: Floats) -> Floats:
        """Normalised over the bins that were asked for, [their shape and BEYOND on each side]."""
        found = self._sums(np.exp(log_weights[self.inside]))
        total = found[self.asked].sum()
        return found / (self.size * (total if total > 0 else np.nan))

    def _sums(self, terms: Floats) -> Floats:
        return np.bincount(self.index, terms, int(np.prod(self.shape))).astype(np.float64).reshape(self.shape)

    def averages(self, log_weights: Floats) -> Floats:
        """Of each observable over all frames."""
        weights = np.exp(log_weights[self.known])
        return np.array([(weights * one).sum() / weights.sum() for one in self.averaged])

    def results(self) -> dict[str, Any]:
        """Densities, averages and their errors."""
        logs = self.weights.log_weights
        density, means = self.density(logs), self.averages(logs)
        p, entropy = density[self.asked], self._entropy(density)
        errors = [np.full(one.shape, np.nan) for one in (p, means, entropy)]
        if self.weights.tells_errors:
            left_out = [self.weights.left_out(block) for block in range(self.weights.block_count)]
            densities = [self.density(one) for one in left_out]
            averages, entropies = [self.averages(one) for one in left_out], [self._entropy(one) for one in densities]
            rows = [one[self.asked] for one in densities], averages, entropies
            errors = [jackknife(np.stack(row)) for row in rows]
        relative = np.where(self.inside, logs, -np.inf)[self.inside]
        weights = np.exp(relative - relative.max())
        first, second = self._sums(weights)[self.asked], self._sums(weights**2)[self.asked]
        return {
            "p": p,
            "p_error": errors[0],
            "entropy": entropy - np.nanmax(entropy),
            "entropy_error": errors[2],
            "frames": self.frames,
            "effective": np.divide(first**2, second, out=np.zeros(p.shape), where=second > 0),
            "means": tuple(means.tolist()),
            "mean_errors": tuple(errors[1].tolist()),
        }

    def _entropy(self, density: Floats) -> Floats:
        """ln of the density at the centres of the bins that were asked for, NaN in empty ones."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.where(density > 0, np.log(density), np.nan)
        for axis, width in enumerate(self.widths):
            if width is not None:
                found = points_of_means(found, width, axis)
        return found[self.asked]


def _longer(edges: Floats, bins: int) -> Floats:
    """Edges of so many bins more on each side."""
    if not bins:
        return edges
    width, steps = edges[1] - edges[0], np.arange(1, bins + 1)
    return np.concatenate((edges[0] - width * steps[::-1], edges, edges[-1] + width * steps))


def _bins(bins: int | str | Sequence[int], axes: int) -> list[int | None]:
    """Number of bins along each axis; None for one for each value."""
    if isinstance(bins, str):
        if bins != "values":
            raise InputError(f"profile: bins = {bins!r} must be a whole number of at least 1, or 'values'; change bins")
        return [None] * axes
    several = [bins] * axes if isinstance(bins, bytes) or not isinstance(bins, Sequence) else list(bins)
    if len(several) != axes:
        raise InputError(f"profile: {len(several)} numbers of bins for {axes} observables; give one, or one for each")
    return [require_integer("profile", "bins", one, least=1) for one in several]


def _limits(between: Between, axes: int) -> list[tuple[float, float] | None]:
    """Lowest and highest value along each axis."""
    if between is None:
        return [None] * axes
    given: Any = between.tolist() if isinstance(between, np.ndarray) else between
    nested = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if nested and not isinstance(nested[0], Sequence):
        nested = [nested]
    if len(nested) != axes or any(not isinstance(pair, Sequence) or len(pair) != 2 for pair in nested):
        raise InputError(
            f"profile: between = {shown(between)} must be a pair (low, high) for each observable; change between"
        )
    found: list[tuple[float, float] | None] = []
    for pair in nested:
        low, high = (require_number("profile", "between", value) for value in pair)
        if low >= high:
            raise InputError(f"profile: between = {low:g} to {high:g} must rise; swap or widen them")
        found.append((low, high))
    return found


def _axis(
    name: str, values: Floats, count: int | None, limits: tuple[float, float] | None, known: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Centres (or values) and edges of the bins along an observable."""
    seen = values[known]
    if not seen.size:
        raise InputError(f"profile: {name} has no finite value in a frame with weight; choose another")
    low, high = limits or (float(seen.min()), float(seen.max()))
    if count is None:
        return _single_values(name, seen[(seen >= low) & (seen <= high)])
    if low == high:
        raise InputError(f"profile: {name} is {low:g} in all frames; give between, or bins = 'values'")
    edges = np.linspace(low, high, count + 1)
    return 0.5 * (edges[1:] + edges[:-1]), edges


def _single_values(name: str, seen: Floats) -> tuple[Floats, Floats]:
    """The values that occur, and edges halfway between them."""
    centers = np.unique(seen)
    if not len(centers):
        raise InputError(f"profile: no frame of {name} lies between the limits; change between")
    if len(centers) > MOST_VALUES:
        raise InputError(f"profile: {name} takes {len(centers)} different values, more than {MOST_VALUES}; take bins")
    inner = 0.5 * (centers[1:] + centers[:-1])
    first = centers[0] - (inner[0] - centers[0] if len(inner) else 0.5)
    last = centers[-1] + (centers[-1] - inner[-1] if len(inner) else 0.5)
    return centers, np.concatenate(([first], inner, [last]))
