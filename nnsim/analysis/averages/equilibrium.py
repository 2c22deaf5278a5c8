r"""Equilibrium averages of any recorded observable at given values of a CV, from runs under any bias.

    <y>(x) = sum_f w_f y_f / sum_f w_f      over the frames at x,    w_f = exp(V(s_f) / kT)

with V the sum of all biases of the run, walls too, at the frame's CVs: whatever they are, they are taken off. The
weights are those of `nnsim.analysis.weights`; where the states of the walkers, such as values of beta, differ by a
function of x alone, all frames at x have the same weight whatever their state, and no states need be combined. For y
the smoothed accuracy this is equation 1 of arXiv 2503.13145; for y the exact accuracy it gives what a dynamics, which
needs smooth CVs, cannot sample directly.

The averages belong to values of x, the centres of bins, and are no averages over these: `nnsim.analysis.local_mean`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.averages.biased_run import BiasedRun, Values, joint_states
from nnsim.analysis.averages.common_frames import common_steps, opened, size_of
from nnsim.analysis.averages.independence import Doubts, doubts_of_trips
from nnsim.analysis.averages.kinds import bias_settings, taught
from nnsim.analysis.averages.local_mean import LocalMean, local_mean
from nnsim.analysis.averages.weights import frame_weights
from nnsim.analysis.checks import require_fraction
from nnsim.analysis.images import refuse_mean
from nnsim.analysis.landscape.axes import Curve, Floats
from nnsim.analysis.landscape.learnt import wang_landau_name
from nnsim.errors import InputError, require_flag, require_number, require_several, require_text

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

MOST_BINS = 100_000
# Formulas of the biases that averages are made from (`nnsim.analysis.averages.kinds`), the first that there is.
AVERAGED = ("ladder", "hills", "kernels", "harmonic", "slope", "flat_histogram")
GROUPS = 16  # of walkers, left out one at a time for the standard error
NARROW = 5  # narrow bins in one of the table, for pictures
FEWEST_BLOCKS = 8  # fewer walkers than this do not tell an error: the record of each is cut into pieces in time


@dataclass(frozen=True, eq=False)
class EquilibriumTable:
    """Mean of an observable at values of a CV.

    Attributes:
        given, of: names of the CV and of the observable.
        edges: edges of the bins of the CV, [B + 1], at multiples of their width (or halfway between), so that the bins
            of different runs are the same.
        mean: average at `at`, [B]; NaN where nothing was visited.
        error: standard error from the spread over groups of walkers, [B]; of fewer than 8 independent walkers, over
            pieces of their record, one after the other in time, and then too small if y remembers its past for longer
            than a piece. NaN where fewer than 8 effective frames have been, or where `doubts` withhold it. Walkers that
            share a bias do not show its own error: independent runs do.
        frames: number of recorded frames, [B].
        fine: the mean in narrow bins, for a picture.
        at: value of the CV to which each mean belongs, [B]: the centre of the bin or, where the frames are so far on
            one side of it that this would be an extrapolation, their own mean.
        doubts: what speaks against the numbers, such as replica exchange without round trips.
    """

    given: str
    of: str
    edges: Floats
    mean: Floats
    error: Floats
    frames: NDArray[np.int64]
    fine: Curve
    at: Floats = field(default_factory=lambda: np.zeros(0))
    doubts: Doubts = field(default_factory=Doubts)
    local: LocalMean | None = None  # by which the mean can be moved to another value of the bin
    size: int | None = None  # number of parameters of the system, if known

    def __post_init__(self) -> None:
        if not len(self.at):
            object.__setattr__(self, "at", 0.5 * (self.edges[1:] + self.edges[:-1]))

    @property
    def width(self) -> float:
        """Width of a bin."""
        return float(self.edges[1] - self.edges[0])

    def rows(self) -> list[dict[str, float | int]]:
        """One dictionary for each bin that was visited, from the highest value of the CV down."""
        order = [b for b in reversed(range(len(self.mean))) if self.frames[b] and np.isfinite(self.mean[b])]
        return [
            {
                self.given: float(self.at[b]),
                f"mean_{self.of}": float(self.mean[b]),
                "standard_error": float(self.error[b]),
                "frames": int(self.frames[b]),
                f"{self.given}_from": float(self.edges[b]),
                f"{self.given}_to": float(self.edges[b + 1]),
            }
            for b in order
        ]


def equilibrium(
    trajectory: Trajectory | str | Path,
    given: str,
    of: str,
    *,
    width: float = 0.5,
    since: float = 0.5,
    centred: bool = False,
    bias: str | None = None,
) -> EquilibriumTable:
    """Equilibrium mean of the observable `of` at given values of a CV, all biases of the run taken off.

    Args:
        trajectory: of a run with any of the biases that `frame_weights` knows; or its path.
        given: a recorded observable with one number for each walker; usually a CV of the bias.
        of: another one.
        width: of the bins of the table, in units of the CV: frames so far apart have a say in one average. Its bins
            have their edges at multiples of the width.
        since: fraction of the run that is left out at the beginning, where the bias was still growing, from 0 to 1. The
            ramp of a Boltzmann bias and the pilot run of replica exchange are always left out.
        centred: whether the centres of the bins, and not their edges, lie at multiples of the width.
        bias: name of a bias that must be there; all are taken off, whichever is named.

    Raises:
        InputError: unknown names, a bias whose frames cannot be weighted, quantities without common frames, or an `of`
            that comes round, as a parameter in a periodic box.
        TrajectoryError: an observable that was not recorded.
    """
    trajectory = opened(trajectory, "equilibrium")
    width = require_number("equilibrium", "width", width, above=0.0)
    since = require_fraction("equilibrium", since)
    centred = require_flag("equilibrium", "centred", centred)
    given, of = require_text("equilibrium", "given", given), require_text("equilibrium", "of", of)
    refuse_mean("equilibrium", trajectory, of)
    if bias is not None:
        biased_quantity(trajectory, bias)  # which refuses one that is not there
    frames = _frames(trajectory, given, of, since)
    edges = _edges(frames.x, width, centred)
    mean = _means(frames, edges)
    fine = _means(frames, _divided(edges, NARROW), degree=1)
    bounds = _rounded(edges, width)
    at = np.where(mean.at == mean.centers, _rounded(mean.at, width), mean.at)
    withheld = frames.doubts.withheld
    error, fine_error = (np.full_like(one.error, np.nan) if withheld else one.error for one in (mean, fine))
    curve = Curve(fine.at[fine.frames > 0], fine.mean[fine.frames > 0], fine_error[fine.frames > 0], given, of)
    return EquilibriumTable(
        given, of, bounds, mean.mean, error, mean.frames, curve, at, frames.doubts, mean, size_of(trajectory)
    )


def biased_quantity(trajectory: Trajectory | str | Path, bias: str | None = None) -> str:
    """What averages are usually taken at given values of: the first CV of the bias, or ln of one that has a beta.

    Raises:
        InputError: no bias that averages are made from, or none of that name.
    """
    trajectory = opened(trajectory, "biased_quantity")
    settings = averaged_bias(trajectory, bias)
    if settings is None or settings["formula"] == "flat_histogram":
        return str(trajectory.bias(wang_landau_name(trajectory, bias)).attrs["cvs"][0])
    biased = str(settings["cvs"][0])
    logarithm = f"ln_{biased}" in trajectory.observables and settings["formula"] in ("slope", "ladder")
    return f"ln_{biased}" if logarithm else biased


def averaged_type(trajectory: Trajectory | str | Path, bias: str | None = None) -> str | None:
    """Type of the bias that `equilibrium` makes averages from; None if there is none."""
    trajectory = opened(trajectory, "averaged_type")
    if bias is not None:
        require_text("averaged_type", "bias", bias)
    settings = averaged_bias(trajectory, bias)
    return None if settings is None else str(settings["type"])


def averaged_bias(trajectory: Trajectory, bias: str | None = None) -> dict[str, Any] | None:
    """Settings of the bias that `equilibrium` makes averages from, of that name if there is one; None without any."""
    biases = bias_settings(trajectory)
    for formula in AVERAGED:
        for name, settings in biases.items():
            if settings["formula"] == formula and (bias in (None, name) or formula == "flat_histogram"):
                return settings
    own = (one for name, one in biases.items() if taught(one) is not None and bias in (None, name))
    return next(own, None)


# ---------------------------------------------------------------------- frames


class _Frames(NamedTuple):
    """Frames [T, W] of both quantities with ln of their weights, and the set of each walker; sets are independent."""

    x: Floats
    y: Floats
    log_weights: Floats
    sets: NDArray[np.int64]
    doubts: Doubts


def _frames(trajectory: Trajectory, given: str, of: str, since: float) -> _Frames:
    run = BiasedRun(trajectory, final_bias=False)
    if run.states_differ_by(given):
        return _frames_at_given(run, given, of, since)
    weights = frame_weights(trajectory, since=since, names=(given, of))
    x, y = weights.values(given), weights.values(of)
    doubts = weights.doubts if weights.states else Doubts()  # of a single state each bin tells whether it has enough
    return _Frames(x, y, weights.log_weights, weights.sets, doubts)


def _frames_at_given(run: BiasedRun, given: str, of: str, since: float) -> _Frames:
    """The same where the states of the walkers differ by a function of `given`: at given x they weigh alike."""
    after = run.after(since)
    steps = common_steps(run.trajectory, list(dict.fromkeys([*run.names, given, of])), after)
    values, families = Values(run.trajectory, steps), run.families(steps)
    state, picks = joint_states(families)
    sets = run.sets(values(given).shape[1], state)
    if len(set(sets.tolist())) == 1 and not run.exchanges:
        sets = _turns(state[0].tolist())  # walkers at values of beta, not equally many of each
    logs = run.shared(values, families, state, picks)
    return _Frames(values(given), values(of), logs, sets, doubts_of_trips(run, after, int(sets.max()) + 1))


def _turns(states: Sequence[int]) -> NDArray[np.int64]:
    """For each walker how many of its state come before it: walkers of one turn have different states."""
    turn, found = [], Counter[int]()
    for state in states:
        turn.append(found[state])
        found[state] += 1
    return np.array(turn, np.int64)


# ---------------------------------------------------------------------- bins and blocks


def _edges(x: Floats, width: float, centred: bool) -> Floats:
    """Edges of bins over all of x, at multiples of the width or halfway between."""
    shift = 0.5 if centred else 0.0
    seen = x[np.isfinite(x)]
    if not seen.size:
        raise InputError("equilibrium: the CV is finite in no frame; it has diverged")
    first = math.floor(float(seen.min()) / width - shift)
    last = max(math.ceil(float(seen.max()) / width - shift), first + 1)
    if (last - first) * NARROW > MOST_BINS:
        raise InputError(
            f"equilibrium: width = {width:g} makes {last - first:.3g} bins, more than {MOST_BINS // NARROW}; widen it"
        )
    return np.asarray((np.arange(first, last + 1) + shift) * width)


def _divided(edges: Floats, parts: int) -> Floats:
    """Each bin cut into so many."""
    count = (len(edges) - 1) * parts
    return np.interp(np.arange(count + 1) / parts, np.arange(len(edges)), edges)


def _means(frames: _Frames, edges: Floats, degree: int = 2) -> LocalMean:
    """Mean of y in the bins, with its error as far as the record can be cut into two or more blocks."""
    order = np.argsort(frames.sets, kind="stable")
    x, y, logs = (one[:, order] for one in (frames.x, frames.y, frames.log_weights))
    independent = int(frames.sets.max()) + 1
    groups = min(independent, GROUPS)
    pieces = min(-(-FEWEST_BLOCKS // groups), len(x))
    finite = np.isfinite(y)
    x = np.where(finite, x, np.nan)  # what is not known has no say
    return local_mean(x, np.where(finite, y, 0.0), logs, edges, groups=groups, time_blocks=pieces, degree=degree)


def _rounded(values: Floats, spacing: float) -> Floats:
    """Without the last digits of sums, which make 1.7e-16 of what is 0 on a grid of this spacing."""
    return np.round(values, 9 - math.floor(math.log10(spacing))) + 0.0  # no -0


# ---------------------------------------------------------------------- several runs


def mean_curve(tables: EquilibriumTable | Iterable[EquilibriumTable]) -> Curve:
    """Mean at values of the CV: of one run with its own error, of several with that of their spread.

    Bins go by their edges, which must lie on one grid; the tables need not begin and end at the same. A mean is given
    where all tables have one, at the centre of the bin or, where some are given elsewhere, at the mean of their values,
    to which each is moved.

    Raises:
        InputError: no table, the same one twice, tables of different quantities, or bins that do not lie on one grid.
    """
    tables = require_several("mean_curve", "tables", () if tables is None else tables, EquilibriumTable, "equilibrium")
    if not tables:
        raise InputError("mean_curve: no table; give at least one")
    if len({id(one) for one in tables}) < len(tables):
        raise InputError("mean_curve: the same table twice is no independent run; give each run once")
    first = tables[0]
    _require_alike(tables)
    if len(tables) == 1:
        known = np.isfinite(first.mean)
        return Curve(first.at[known], first.mean[known], first.error[known], first.given, first.of)
    offsets = [round(float(one.edges[0] - first.edges[0]) / first.width) for one in tables]
    begin, end = max(offsets), min(offset + len(one.mean) for offset, one in zip(offsets, tables, strict=True))
    picks = [slice(begin - offset, max(end - offset, begin - offset)) for offset in offsets]
    at = np.stack([one.at[pick] for one, pick in zip(tables, picks, strict=True)])
    same = np.ptp(at, axis=0) <= 1e-9 * first.width
    place = np.where(same, at[0], at.mean(axis=0))
    values = np.stack([_moved(one, pick, place) for one, pick in zip(tables, picks, strict=True)])
    known = np.logical_and.reduce(np.isfinite(values))
    error = values.std(axis=0, ddof=1) / np.sqrt(len(tables))
    return Curve(place[known], values.mean(axis=0)[known], error[known], first.given, first.of)


def _moved(table: EquilibriumTable, pick: slice, place: Floats) -> Floats:
    """The means of some bins of a table at other values of the CV."""
    own, mean = table.at[pick], table.mean[pick]
    if table.local is None or not len(place):
        return np.where(np.abs(own - place) <= 1e-9 * table.width, mean, np.nan)
    at = table.at.copy()
    at[pick] = place
    return np.where(np.abs(own - place) <= 1e-9 * table.width, mean, table.local.moved(at)[pick])


def _require_alike(tables: Sequence[EquilibriumTable]) -> None:
    first = tables[0]
    for one in tables[1:]:
        if (one.given, one.of) != (first.given, first.of):
            raise InputError(
                f"mean_curve: tables of {first.of} at given {first.given} and of {one.of} at given {one.given}; take "
                "the same quantities"
            )
        if None not in (one.size, first.size) and one.size != first.size:
            raise InputError(
                f"mean_curve: tables of systems of {first.size} and {one.size} parameters; take runs of one system"
            )
        shift = (one.edges[0] - first.edges[0]) / first.width
        if abs(one.width / first.width - 1) > 1e-6 or abs(shift - round(shift)) > 1e-6:
            raise InputError(
                f"mean_curve: bins of {first.given} of width {first.width:g} with an edge at {first.edges[0]:g}, and "
                f"of width {one.width:g} with one at {one.edges[0]:g}, do not lie on one grid; make all tables with "
                "the same width"
            )
