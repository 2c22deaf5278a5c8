"""How well a run has covered its collective variables, and whether what it has learnt has stopped to change."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.averages.common_frames import all_opened, opened
from nnsim.analysis.landscape.landscape import EntropyLandscape
from nnsim.analysis.landscape.learnt import wang_landau_name
from nnsim.analysis.landscape.passages import ends_of, round_trips, round_trips_by, way_round
from nnsim.analysis.landscape.snapshots import (
    EntropyChange,
    HistogramFlatness,
    along,
    axis_of,
    entropy_change,
    entropy_difference,
    flatness,
    halfway_snapshot,
    histogram_flatness,
    index_at_half,
    last_step,
    reports_of,
    require_record,
    visits_of,
)
from nnsim.criteria import (
    CONVERGED_CHANGE,
    CONVERGED_FLATNESS,
    CONVERGED_INCREMENT,
    CONVERGED_ROUND_TRIPS,
    MOST_OUTSIDE,
)
from nnsim.errors import InputError

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory


@dataclass(frozen=True)
class Diagnosis:
    """What tells whether a Wang-Landau run may be trusted.

    Attributes:
        cv: the CV along which round trips are counted.
        low, high: the two values between which they are counted.
        round_trips: of all walkers together.
        walkers: how many there are.
        increment: at the end, in kT.
        largest_increment: of the run, in kT.
        outside: fraction of the walker-steps outside the grid.
        kinetic_temperature: mean over walkers and the last tenth of the run; NaN if it was not recorded, which is left
            out of every judgement.
        kT: of the bias.
        flatness: of the histogram, along the CV (or the first of the bias, if it is not one of them).
        late_change: of S along the same CV over the later part of the run. Unlike the change since the last snapshot
            it does not depend on how often snapshots are taken.
    """

    cv: str
    low: float
    high: float
    round_trips: int
    walkers: int
    increment: float
    largest_increment: float
    outside: float
    kinetic_temperature: float
    kT: float
    flatness: HistogramFlatness = field(default_factory=HistogramFlatness)
    late_change: EntropyChange = field(default_factory=EntropyChange)

    def problems(self) -> list[str]:
        """What is not as it should be, in words; empty if nothing speaks against convergence.

        What is not known (NaN) is not judged. The flatness is that along the CV in the later part of the run: bins at
        the rim of a grid of several CVs are hardly ever reached, however long a run is.
        """
        found = []
        if self.increment > CONVERGED_INCREMENT:
            found.append(f"the increment is still {self.increment:.2g} kT (converged: below {CONVERGED_INCREMENT:g})")
        if self.round_trips < CONVERGED_ROUND_TRIPS:
            trips = f"{self.round_trips} round trips between {self.cv} = {self.low:.4g} and {self.high:.4g}"
            found.append(f"only {trips} (converged: {CONVERGED_ROUND_TRIPS} or more)")
        if self.flatness.late < CONVERGED_FLATNESS:
            least = f"{self.flatness.late:.2g} of the mean (converged: at least {CONVERGED_FLATNESS:g})"
            found.append(f"the histogram is not flat, since the least visited bin has {least}")
        if self.late_change.rms > CONVERGED_CHANGE:
            change = f"{self.late_change.rms:.2g} nats (converged: below {CONVERGED_CHANGE:g})"
            found.append(f"S still changed by {change} in the later part of the run")
        if self.knows_temperature and abs(self.kinetic_temperature - self.kT) > 0.03 * self.kT:
            found.append(f"the kinetic temperature is {self.kinetic_temperature:.3g}, not kT = {self.kT:g}")
        if self.outside > MOST_OUTSIDE:
            found.append(f"{100 * self.outside:.0f} % of the steps were outside the grid")
        return found

    @property
    def knows_temperature(self) -> bool:
        """Whether the kinetic temperature was recorded; without it nothing is said about heating."""
        return not math.isnan(self.kinetic_temperature)

    def __str__(self) -> str:
        parts = [f"increment {self.increment:.2g} kT", f"{self.round_trips} round trips"]
        if not math.isnan(self.flatness.late):
            parts.append(f"flatness {self.flatness.late:.2g}")
        if not math.isnan(self.late_change.rms):
            parts.append(f"late change of S {self.late_change.rms:.2g} nats")
        if self.knows_temperature:
            parts.append(f"T = {self.kinetic_temperature / self.kT:.3f} kT")
        return ", ".join([*parts, f"{100 * self.outside:.2g} % outside"])


def diagnose(
    trajectory: Trajectory | str | Path,
    *,
    between: tuple[float, float] | None = None,
    cv: str | None = None,
    bias: str | None = None,
) -> Diagnosis:
    """Look at the convergence of a Wang-Landau run.

    Args:
        trajectory: of the run.
        between: the two values of the CV for round trips; None takes the 10 % and 90 % points of what was visited, and
            of a periodic CV the lower edge of the grid and the other side of the circle.
        cv: the CV for round trips; None is the first of the bias.
        bias: its name, if there are several.

    Raises:
        InputError: no such bias, a run too short for a frame, or two values that are equal, not finite or off the grid.
    """
    trajectory = opened(trajectory, "diagnose")
    name = wang_landau_name(trajectory, bias)
    require_record(trajectory, name)
    recorded = trajectory.bias(name).attrs
    cv = str(recorded["cvs"][0]) if cv is None else cv
    values, period = np.asarray(trajectory[cv][:], dtype=np.float64), _period(recorded, cv)
    low, high = _circle(recorded, cv) if period is not None and between is None else ends_of(values, between)
    if between is not None:
        _require_on_grid(recorded, cv, low, high)
    increments = np.asarray(trajectory[f"{name}_increment"][:])
    of = cv if cv in recorded["cvs"] else str(recorded["cvs"][0])
    return Diagnosis(
        cv=cv,
        low=low,
        high=high,
        round_trips=int(round_trips(*way_round(values, low, high, period)).sum()) if low < high else 0,
        walkers=values.shape[1],
        increment=float(recorded["increment"]),
        largest_increment=float(increments.max()),
        outside=float(recorded["outside"]),
        kinetic_temperature=_late_temperature(trajectory),
        kT=float(recorded["kT"]),
        flatness=histogram_flatness(trajectory, cv=of, bias=name),
        late_change=_late_change(trajectory, name, of),
    )


def _require_on_grid(recorded: Mapping[str, Any], cv: str, low: float, high: float) -> None:
    """Refuse ends of the way that no walker can reach, or that nothing is learnt of."""
    lower, upper, _ = _edges(recorded, cv)
    if cv in recorded["cvs"] and not lower <= low < high <= upper:
        raise InputError(
            f"round trips between {low:g} and {high:g}: must lie on the grid of {cv}, [{lower:g}, {upper:g}]; "
            "move them inside (--between)"
        )


def _edges(recorded: Mapping[str, Any], cv: str) -> tuple[float, float, bool]:
    """Edges of the grid of a bias along a CV, and whether they are one point; (0, 0, False) of any other CV."""
    if cv not in recorded["cvs"]:
        return 0.0, 0.0, False
    axis, grid = recorded["cvs"].index(cv), recorded["grid"]
    return float(grid["lower"][axis]), float(grid["upper"][axis]), bool(grid["periodic"][axis])


def _period(recorded: Mapping[str, Any], cv: str) -> float | None:
    low, high, periodic = _edges(recorded, cv)
    return high - low if periodic else None


def _circle(recorded: Mapping[str, Any], cv: str) -> tuple[float, float]:
    """Ends of the way round a circle: where the grid begins, and the other side."""
    low, high, _ = _edges(recorded, cv)
    return low, 0.5 * (low + high)


def _late_change(trajectory: Trajectory, bias: str, cv: str) -> EntropyChange:
    """Change of S along a CV since the snapshot nearest to half of the run."""
    recorded = trajectory.bias(bias)
    half = halfway_snapshot(recorded, last_step(trajectory, recorded))
    if half is None:
        return EntropyChange()
    before, after = (EntropyLandscape.from_trajectory(trajectory, bias, frame).marginal(cv) for frame in (half, None))
    return entropy_change(before, after)


def _late_temperature(trajectory: Trajectory) -> float:
    """Mean kinetic temperature over walkers and the last tenth of the run; NaN if none was recorded there."""
    if "kinetic_temperature" not in trajectory:
        return math.nan
    series = trajectory["kinetic_temperature"]
    late = series[:][series.step > 0.9 * trajectory.steps]
    return float(np.mean(late)) if len(late) else math.nan


# ---------------------------------------------------------------------- along the run


@dataclass(frozen=True, eq=False)
class ConvergenceRecord:
    """How a Wang-Landau run converges: one number for each of its R reports, the snapshots of its bias.

    The state at the last checkpoint counts as a report too, if it is at least half an interval later than the last
    snapshot.

    Attributes:
        name: of the trajectory.
        cv: the CV along which everything is looked at.
        low, high: its values between which round trips are counted.
        walkers: how many there are.
        step: step of each report, [R] int64.
        increment: [R], in kT.
        flatness: of the visits in the later half so far, since the report nearest to half of the step, in the bins of
            the CV that have been visited, [R]; where no report is near to half, as in the first, since the start.
        change: rms of the change of S(cv) since the report before, [R], in nats; NaN in the first.
        largest_change: of a bin, [R], in nats.
        round_trips: by all walkers so far, [R] int64.
        difference: S(low) - S(high), [R], in nats; NaN before both have been visited.
        entropy: S(cv) in the last report.
    """

    name: str
    cv: str
    low: float
    high: float
    walkers: int
    step: NDArray[np.int64]
    increment: NDArray[np.float64]
    flatness: NDArray[np.float64]
    change: NDArray[np.float64]
    largest_change: NDArray[np.float64]
    round_trips: NDArray[np.int64]
    difference: NDArray[np.float64]
    entropy: EntropyLandscape

    @property
    def moves(self) -> NDArray[np.int64]:
        """Steps, or Monte Carlo moves, of all walkers together at each report, [R]."""
        return self.step * self.walkers


def convergence_records(
    trajectories: Trajectory | str | Path | Iterable[Trajectory | str | Path],
    *,
    between: tuple[float, float] | None = None,
    cv: str | None = None,
    bias: str | None = None,
) -> list[ConvergenceRecord]:
    """Look at the convergence of one or several independent Wang-Landau runs along their way.

    Args:
        trajectories: of the runs.
        between: the two values of the CV for round trips and the difference of S; None takes the 10 % and 90 % points
            of what all runs have visited, which are the same for all.
        cv: one of the bias; None is its first.
        bias: its name, if there are several.

    Returns:
        One for each run.

    Raises:
        InputError: no trajectory, the same one twice, no such bias or CV, fewer than two reports, or two values that
            are equal, not finite, outside the grid or in one bin of it.
    """
    trajectories = all_opened(() if trajectories is None else trajectories, "convergence_records")
    names = [wang_landau_name(run, bias) for run in trajectories]
    for run, name in zip(trajectories, names, strict=True):
        axis_of(run.bias(name), cv)
        require_record(run, name)
        count = len(reports_of(run, run.bias(name)))
        if count < 2:
            raise InputError(
                f"{run.path} has {count} snapshot(s) of the bias, and 2 are needed to see a change; run longer, or "
                "record them more often (snapshot_every of nnsim.Simulation)"
            )
    first = trajectories[0].bias(names[0])
    of = str(first.attrs["cvs"][0]) if cv is None else cv
    values = [np.asarray(run[of][:], dtype=np.float64) for run in trajectories]
    pooled = np.concatenate([one.reshape(-1) for one in values])
    grid, axis = first.attrs["grid"], axis_of(first, cv)
    if between is None:  # walkers may have been outside the grid, where S is not known
        pooled = pooled[(pooled >= grid["lower"][axis]) & (pooled <= grid["upper"][axis])]
    ends = ends_of(pooled, between) if len(pooled) else (0.0, 0.0)
    if grid["periodic"][axis] and between is None:
        ends = _circle(first.attrs, of)
    if not ends[0] < ends[1]:
        raise InputError(f"{of} has not moved on the grid, so there are no round trips to count; run longer")
    pairs = zip(trajectories, names, values, strict=True)
    return [_record(run, name, of, one, ends) for run, name, one in pairs]


def _record(
    run: Trajectory, name: str, cv: str, values: NDArray[np.float64], ends: tuple[float, float]
) -> ConvergenceRecord:
    recorded = run.bias(name)
    axis, reports = axis_of(recorded, cv), reports_of(run, recorded)
    steps = np.array([step for step, _ in reports], dtype=np.int64)
    flat, changes, differences = [], [], []
    entropy: EntropyLandscape | None = None
    visits: list[NDArray[Any] | None] = []  # None where it was not recorded
    for _, frame in reports:
        now = EntropyLandscape.from_trajectory(run, name, frame).marginal(axis)
        changes.append(EntropyChange() if entropy is None else entropy_change(entropy, now))
        differences.append(entropy_difference(now, *ends).value)
        table = visits_of(recorded, frame)
        visits.append(None if table is None else along(table, axis))
        half = index_at_half(steps[: len(visits)], steps[len(visits) - 1])
        before = np.zeros(1) if half is None else visits[half]
        total = visits[-1]
        flat.append(math.nan if total is None or before is None else flatness(total - before, total > 0))
        entropy = now
    assert entropy is not None
    away, *marks = way_round(values, *ends, _period(recorded.attrs, cv))
    increments = run[f"{name}_increment"]
    # a report may lie between two frames of the increment
    places = np.searchsorted(increments.step, steps, side="right") - 1
    return ConvergenceRecord(
        name=run.path.name,
        cv=cv,
        low=ends[0],
        high=ends[1],
        walkers=values.shape[1],
        step=steps,
        increment=np.asarray(increments[:], dtype=np.float64)[places.clip(0)],
        flatness=np.array(flat),
        change=np.array([change.rms for change in changes]),
        largest_change=np.array([change.largest for change in changes]),
        round_trips=round_trips_by(away, run[cv].step, steps, *marks),
        difference=np.array(differences),
        entropy=entropy,
    )
