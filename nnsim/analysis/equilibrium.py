r"""Equilibrium averages of any recorded observable at given values of a CV, from runs under any bias.

    <y>(x) = sum_f w_f y_f / sum_f w_f      over the frames in a narrow bin of x,    w_f = exp(V(s_f) / kT)

with V the final bias at the frame's CVs. For y the smoothed accuracy this is equation 1 of arXiv 2503.13145; for y the
exact accuracy it gives what a dynamics, which needs smooth CVs, cannot sample directly. In a run that samples
exp(-beta s) all frames of one s have the same weight, whatever their beta. For other biases the weights are those of
`nnsim.analysis.weights`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.axes import Axis, Curve, Floats
from nnsim.analysis.boltzmann import boltzmann_settings, require_fraction, since_ramp
from nnsim.analysis.frames import common_frames
from nnsim.analysis.images import refuse_mean
from nnsim.analysis.landscape import EntropyLandscape, wang_landau_name
from nnsim.analysis.potentials import bias_settings, biases_of_type
from nnsim.analysis.reweight import (
    ConditionalMean,
    average_bins,
    conditional_mean,
    conditional_mean_over_walkers,
    jackknife,
    log_weights,
)
from nnsim.analysis.weights import frame_weights
from nnsim.errors import InputError, require_number

if TYPE_CHECKING:
    from nnsim.trajectory import Trajectory

MOST_BINS = 100_000
GROUPS = 16  # of walkers, left out one at a time for the standard error
NARROW = 5  # narrow bins in one of the table, where no grid says how wide they are
FEWEST_BLOCKS = 8  # fewer walkers than this do not tell an error: the record of each is cut into pieces in time


@dataclass(frozen=True, eq=False)
class EquilibriumTable:
    """Mean of an observable against a CV.

    Attributes:
        given, of: names of the CV and of the observable.
        edges: edges of the bins of the CV, [B + 1].
        mean: average over narrow bins, each counted alike, in each bin, [B]; NaN where nothing was visited.
        error: standard error from the spread over groups of walkers, [B]; of fewer than 8 walkers, over pieces of their
            record, one after the other in time, and then too small if y remembers its past for longer than a piece.
            All share one bias, whose own error shows in independent runs only.
        frames: number of recorded frames, [B].
        fine: the same mean in the narrow bins of the grid, for a picture.
    """

    given: str
    of: str
    edges: Floats
    mean: Floats
    error: Floats
    frames: NDArray[np.int64]
    fine: Curve

    def rows(self) -> list[dict[str, float | int]]:
        """One dictionary for each bin that was visited, from the highest value of the CV down."""
        order = [b for b in reversed(range(len(self.mean))) if self.frames[b] and np.isfinite(self.mean[b])]
        return [
            {
                f"{self.given}_from": float(self.edges[b]),
                f"{self.given}_to": float(self.edges[b + 1]),
                f"mean_{self.of}": float(self.mean[b]),
                "standard_error": float(self.error[b]),
                "frames": int(self.frames[b]),
            }
            for b in order
        ]


def equilibrium(
    trajectory: Trajectory,
    given: str,
    of: str,
    *,
    width: float = 0.5,
    since: float = 0.5,
    centred: bool = False,
    bias: str | None = None,
) -> EquilibriumTable:
    """Equilibrium mean of the observable `of` at given values of a CV of the bias.

    Args:
        trajectory: of a run with a Wang-Landau, Boltzmann, ReplicaExchange, Metadynamics or Umbrella bias.
        given: a CV of a Wang-Landau bias; for a Boltzmann bias its CV, or the logarithm of it; for the others any
            recorded observable.
        of: a recorded observable with one number for each walker.
        width: of the bins of the table, in units of the CV; of a Wang-Landau run a multiple of the grid's spacing (of
            twice that if `centred`).
        since: fraction of the run that is left out at the beginning, where the bias was still growing, from 0 to 1.
        centred: whether the centres of the bins, and not their edges, lie at multiples of the width.
        bias: its name, if there are several.

    Raises:
        InputError: unknown names, a width that does not fit the grid, quantities without common frames, or an `of` that
            comes round, as a parameter in a periodic box.
    """
    require_number("equilibrium", "width", width, above=0.0)
    require_fraction("equilibrium", since)
    refuse_mean("equilibrium", trajectory, of)
    x, y, weights, edges, groups = _sampled(trajectory, given, of, since, bias, width, 2 if centred else 1)
    coupled = _weighted(trajectory, bias) is not None  # walkers of a group belong together
    fine = _means(x, y, weights, edges, groups, coupled)
    origin = _origin(edges, width) + (0.5 * width if centred else 0.0)
    coarse = average_bins(fine.centers, fine.mean, width, origin=origin)
    error, fine_error = np.full(coarse.y.shape, np.nan), np.full(fine.mean.shape, np.nan)
    if fine.left_out is not None and fine.error is not None:
        error, fine_error = jackknife(average_bins(fine.centers, fine.left_out, width, origin=origin).y), fine.error
    bounds = _rounded(np.concatenate((coarse.x - width / 2, coarse.x[-1:] + width / 2)), float(edges[1] - edges[0]))
    frames = np.histogram(x[np.isfinite(weights)], bounds)[0]
    curve = Curve(fine.centers, fine.mean, fine_error, given, of)
    return EquilibriumTable(given, of, bounds, coarse.y, error, frames, curve)


def biased_quantity(trajectory: Trajectory, bias: str | None = None) -> str:
    """What averages are usually taken at given values of: the first CV of the bias, or ln of one that has a beta.

    Raises:
        InputError: no bias that averages are made from, or none of that name.
    """
    settings = _weighted(trajectory, bias) or boltzmann_settings(trajectory)
    if settings is None or bias not in (None, settings["name"]):
        return str(trajectory.bias(wang_landau_name(trajectory, bias)).attrs["cvs"][0])
    biased = str(settings["cvs"][0])
    logarithm = f"ln_{biased}" in trajectory.observables and settings["type"] in ("Boltzmann", "ReplicaExchange")
    return f"ln_{biased}" if logarithm else biased


def averaged_type(trajectory: Trajectory, bias: str | None = None) -> str | None:
    """Type of the bias that `equilibrium` makes averages from; None if there is none."""
    if (weighted := _weighted(trajectory, bias)) is not None:
        return str(weighted["type"])
    settings = boltzmann_settings(trajectory)
    if settings is not None and bias in (None, settings["name"]):
        return "Boltzmann"
    return "WangLandau" if biases_of_type(trajectory, "WangLandau") else None


def _weighted(trajectory: Trajectory, bias: str | None) -> dict[str, Any] | None:
    """Settings, and the name, of the bias whose frames `frame_weights` weights; None for Wang-Landau or Boltzmann."""
    for kind in ("ReplicaExchange", "Metadynamics", "Umbrella"):
        for name, settings in biases_of_type(trajectory, kind).items():
            if bias in (None, name):
                return {**settings, "name": name}
    return None


def _sampled(
    trajectory: Trajectory, given: str, of: str, since: float, bias: str | None, width: float, least: int
) -> tuple[Floats, Floats, Floats, Floats, int]:
    """Frames [T, W] of both, logarithms of their weights, edges of narrow bins, and how many groups of walkers.

    A bin of the table holds a multiple of `least` narrow ones.
    """
    if (weighted := _weighted(trajectory, bias)) is not None:
        return _sampled_with_weights(trajectory, weighted, given, of, since, width, least)
    settings = boltzmann_settings(trajectory)
    if settings is None or bias not in (None, settings["name"]):
        landscape = EntropyLandscape.from_trajectory(trajectory, wang_landau_name(trajectory, bias))
        axis = landscape.axes[landscape.axis_index(given)]
        spacing = float(axis.edges[1] - axis.edges[0])
        if not _divides(least * spacing, width):
            nearest = least * spacing * max(1, round(width / (least * spacing)))
            raise InputError(
                f"equilibrium: width = {width:g} must be a multiple of {least * spacing:.10g}, so that bins hold "
                f"whole bins of the grid; the nearest is --width {nearest:.10g}"
            )
        values = common_frames(trajectory, [*landscape.names, of], since)
        weights = log_weights(landscape, np.stack(values[:-1], axis=-1))
        return axis.wrap(values[landscape.axis_index(given)]), values[-1], weights, axis.edges, GROUPS
    biased = str(settings["cvs"][0])
    if given not in (biased, f"ln_{biased}"):
        raise InputError(
            f"equilibrium: given = {given!r} must be {biased!r} or its logarithm, which alone have the same weight in "
            "all frames of this Boltzmann run; change given"
        )
    x, y = common_frames(trajectory, [given, of], since_ramp(trajectory, settings, since))
    order, chains = _across(settings["beta"])
    x, y = x[:, order], y[:, order]
    return x, y, np.zeros_like(x), _narrow(x, width, least), chains if chains > 1 else GROUPS


def _sampled_with_weights(
    trajectory: Trajectory, settings: dict[str, Any], given: str, of: str, since: float, width: float, least: int
) -> tuple[Floats, Floats, Floats, Floats, int]:
    """The same from a run under other biases; walkers that are independent of each other make the groups."""
    weights = frame_weights(trajectory, since=since, names=(given, of))
    order = np.argsort(weights.sets, kind="stable")
    x, y, logs = (one[:, order] for one in (weights.values(given), weights.values(of), weights.log_weights))
    edges = _narrow(x, width, least)
    if "grid" in settings and given in settings["cvs"]:
        d, grid = settings["cvs"].index(given), settings["grid"]
        of_grid = np.linspace(grid["lower"][d], grid["upper"][d], grid["bins"][d] + 1)
        x = Axis(given, 0.5 * (of_grid[1:] + of_grid[:-1]), of_grid, bool(grid["periodic"][d])).wrap(x)
        edges = of_grid if _divides(least * (of_grid[1] - of_grid[0]), width) else edges
    biased = str(settings["cvs"][0])
    if (
        settings["type"] == "ReplicaExchange"
        and given in (biased, f"ln_{biased}")
        and len(bias_settings(trajectory)) == 1
    ):
        logs = np.zeros_like(x)  # exactly alike at a given s
    return x, y, logs, edges, min(int(weights.sets.max()) + 1, GROUPS)


def _divides(spacing: float, width: float) -> bool:
    """Whether a width is a multiple of a spacing, up to rounding."""
    ratio = width / spacing
    return ratio > 0.5 and abs(ratio - round(ratio)) <= 1e-6


def _narrow(x: Floats, width: float, least: int) -> Floats:
    """Edges of narrow bins over all of x, a multiple of `least` and at least `NARROW` of them in a width."""
    parts = -(-NARROW // least) * least
    step = width / parts
    first, last = np.floor(x.min() / width), np.ceil(x.max() / width)
    count = round(parts * max(last - first, 1))
    if count > MOST_BINS:
        raise InputError(f"equilibrium: width = {width:g} makes {count:.3g} bins, more than {MOST_BINS}; widen it")
    return np.asarray(first * width + step * np.arange(count + 1))


def _across(betas: Sequence[float]) -> tuple[NDArray[np.int64], int]:
    """Order of the walkers in which a chain of each beta follows one of each, and how many chains of a beta there are.

    Walkers of one beta come one after the other, and groups of those would each have a stretch of s of their own.
    """
    turn, found = [], Counter[float]()
    for beta in betas:
        turn.append(found[beta])
        found[beta] += 1
    return np.argsort(turn, kind="stable"), max(found.values())


def _means(x: Floats, y: Floats, weights: Floats, edges: Floats, groups: int, coupled: bool = False) -> ConditionalMean:
    """Mean of y in the narrow bins, with its error as far as the record can be cut into two or more blocks."""
    frames, walkers = x.shape
    independent = groups if coupled else walkers
    pieces = min(-(-FEWEST_BLOCKS // independent), frames)
    if independent * pieces < 2:
        return conditional_mean(x, y, weights, edges)
    return conditional_mean_over_walkers(x, y, weights, edges, groups=min(groups, walkers), time_blocks=pieces)


def _rounded(values: Floats, spacing: float) -> Floats:
    """Without the last digits of sums, which make 1.7e-16 of what is 0 on a grid of this spacing."""
    return np.round(values, 9 - math.floor(math.log10(spacing))) + 0.0  # no -0


def mean_curve(tables: Sequence[EquilibriumTable]) -> Curve:
    """Mean against the centres of the bins: of one run with its own error, of several with that of their spread."""
    first = tables[0]
    centers = _rounded(0.5 * (first.edges[1:] + first.edges[:-1]), float(first.edges[1] - first.edges[0]))
    if len(tables) == 1:
        return Curve(centers, first.mean, first.error, first.given, first.of)
    values = np.stack([table.mean for table in tables])
    error = values.std(axis=0, ddof=1) / np.sqrt(len(tables))
    return Curve(centers, values.mean(axis=0), error, first.given, first.of)


def _origin(edges: Floats, width: float) -> float:
    """A multiple of `width` if the fine bins have an edge there, or else their first edge."""
    nearest = width * np.round(edges[0] / width)
    shift = (nearest - edges[0]) / (edges[1] - edges[0])
    return float(nearest if abs(shift - round(shift)) < 1e-6 else edges[0])
