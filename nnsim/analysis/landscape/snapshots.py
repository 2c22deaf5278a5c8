"""What the snapshots of a Wang-Landau bias say: flatness of the histogram, changes and differences of S."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsim.analysis.averages.common_frames import opened
from nnsim.analysis.checks import as_floats, as_numbers
from nnsim.analysis.landscape.landscape import EntropyLandscape
from nnsim.analysis.landscape.learnt import wang_landau_name
from nnsim.errors import InputError, shown

if TYPE_CHECKING:
    from nnsim.trajectory.reader import BiasRecord, Trajectory

# The later part of a run begins at the snapshot nearest to its half, if that leaves at least a quarter on both sides.
_LATE = (0.25, 0.75)


# ---------------------------------------------------------------------- what was recorded


def has_record(trajectory: Trajectory | str | Path, bias: str | None = None) -> bool:
    """Whether a Wang-Landau run was long enough to record what `diagnose` looks at."""
    trajectory = opened(trajectory, "has_record")
    name = wang_landau_name(trajectory, bias)
    return f"{name}_increment" in trajectory and str(trajectory.bias(name).attrs["cvs"][0]) in trajectory


def require_record(trajectory: Trajectory, bias: str) -> None:
    """Refuse a run that has not recorded that yet."""
    if not has_record(trajectory, bias):
        raise InputError(f"{trajectory.path} has no frame yet, since it is shorter than one interval; run longer")


def reports_of(trajectory: Trajectory, recorded: BiasRecord) -> list[tuple[int, int | None]]:
    """Step and frame of each snapshot; None stands for the tables of the last checkpoint."""
    series = recorded.snapshots.get("potential")
    steps = [] if series is None else [int(step) for step in series.step]
    found: list[tuple[int, int | None]] = [(step, frame) for frame, step in enumerate(steps)]
    interval = steps[-1] - (steps[-2] if len(steps) > 1 else 0) if steps else 0
    last = last_step(trajectory, recorded)
    if not steps or last - steps[-1] >= max(1, interval / 2):
        found.append((last, None))
    return found


def last_step(trajectory: Trajectory, recorded: BiasRecord) -> int:
    """Step of the newest tables of a bias."""
    return int(recorded.attrs.get("step", trajectory.steps))


def halfway_snapshot(recorded: BiasRecord, steps: int) -> int | None:
    """Index of the snapshot that is nearest to half of the run, or None if all are far from it."""
    series = recorded.snapshots.get("potential")
    return None if series is None else index_at_half(series.step, steps)


def index_at_half(step: ArrayLike, steps: int) -> int | None:
    """Index of the one of some steps that is nearest to half of `steps`, or None if all are far from it."""
    if not steps or not np.size(step):
        return None
    found = np.asarray(step, dtype=np.int64)
    nearest = int(np.abs(2 * found - steps).argmin())  # in integers: of two equally near ones the first
    return nearest if _LATE[0] <= found[nearest] / steps <= _LATE[1] else None


def visits_of(recorded: BiasRecord, frame: int | None) -> NDArray[Any] | None:
    """Histogram of a report, or None if it was not recorded."""
    if frame is None:
        return np.asarray(recorded.tables["visits"])
    return np.asarray(recorded.snapshots["visits"][frame]) if "visits" in recorded.snapshots else None


# ---------------------------------------------------------------------- the histogram


def flatness(visits: ArrayLike, known: ArrayLike | None = None) -> float:
    """Least visited bin over the mean number of visits, 1 for a perfectly flat histogram.

    Args:
        visits: how often each bin was visited, of any shape.
        known: the bins that count, a mask of the same shape; None takes those with a visit.

    Returns:
        Between 0 and 1; NaN without any visit.

    Raises:
        InputError: visits that are no finite numbers of at least 0, or a mask of another shape.
    """
    counts = as_floats("flatness", "visits", visits)
    if not (np.isfinite(counts) & (counts >= 0)).all():
        raise InputError("flatness: visits must be finite numbers of at least 0; give a histogram")
    mask = counts > 0 if known is None else as_numbers("flatness", "known", known) != 0
    if mask.shape != counts.shape:
        raise InputError(
            f"flatness: known {mask.shape} and visits {counts.shape} differ; give a mask of the same shape"
        )
    seen = counts[mask]
    return float(seen.min() / seen.mean()) if seen.sum() > 0 else math.nan


@dataclass(frozen=True)
class HistogramFlatness:
    """Flatness of the histogram of a Wang-Landau bias; what is not known is NaN.

    Bins that were never visited do not count. A bin that was visited once but not in the later part is 0 there.

    Attributes:
        whole: of all visits, in the bins of one CV.
        late: of those in the later part of the run, in the bins of one CV.
        whole_grid: of all visits, in the bins of the grid.
        late_grid: of those in the later part, in the bins of the grid.
    """

    whole: float = math.nan
    late: float = math.nan
    whole_grid: float = math.nan
    late_grid: float = math.nan


def histogram_flatness(
    trajectory: Trajectory | str | Path, *, cv: str | None = None, bias: str | None = None
) -> HistogramFlatness:
    """Flatness of the histogram of a Wang-Landau run, and of its later part.

    The later part begins at the snapshot of the bias that is nearest to half of the run. It is not known if there is no
    snapshot between a quarter and three quarters of the run.

    Args:
        trajectory: of the run.
        cv: the CV for the marginal; None is the first of the bias.
        bias: its name, if there are several.

    Raises:
        InputError: no such bias, or a CV that is not one of its axes.
    """
    trajectory = opened(trajectory, "histogram_flatness")
    name = wang_landau_name(trajectory, bias)
    recorded = trajectory.bias(name)
    axis = axis_of(recorded, cv)
    visits = np.asarray(recorded.tables["visits"])
    half = halfway_snapshot(recorded, last_step(trajectory, recorded))
    known = {"whole": flatness(along(visits, axis)), "whole_grid": flatness(visits)}
    if half is not None and "visits" in recorded.snapshots:
        new = visits - np.asarray(recorded.snapshots["visits"][half])
        known["late"] = flatness(along(new, axis), along(visits, axis) > 0)
        known["late_grid"] = flatness(new, visits > 0)
    return HistogramFlatness(**known)


def along(visits: NDArray[Any], axis: int) -> NDArray[Any]:
    """Visits in the bins of one axis."""
    return np.asarray(visits.sum(axis=tuple(other for other in range(visits.ndim) if other != axis)))


def axis_of(recorded: BiasRecord, cv: str | None) -> int:
    """Index of a CV among the axes of a bias; None is the first."""
    names = [str(one) for one in recorded.attrs["cvs"]]
    if cv is not None and cv not in names:
        raise InputError(f"{cv!r} is not a CV of the bias {recorded.name!r}; choose from {', '.join(names)} (--cv)")
    return 0 if cv is None else names.index(cv)


# ---------------------------------------------------------------------- the entropy


def _require_landscape(owner: str, name: str, landscape: object) -> None:
    if not isinstance(landscape, EntropyLandscape):
        raise InputError(
            f"{owner}: {name} = {shown(landscape)} must be an EntropyLandscape; give what "
            "EntropyLandscape.from_trajectory or Profile.landscape gives"
        )


class EntropyChange(NamedTuple):
    """By how much one estimate of S differs from another, in nats; NaN if it is not known.

    Attributes:
        rms: root of the mean of the squares over the bins known in both.
        largest: the largest absolute change of a bin.
    """

    rms: float = math.nan
    largest: float = math.nan


def entropy_change(before: EntropyLandscape, after: EntropyLandscape) -> EntropyChange:
    r"""By how much S has changed between two moments of a run.

        d(s) = S_after(s) - S_before(s) - mean of the same over the bins visited in both

    S is known up to a constant only, which the mean removes. Bins that are new do not count: they show in the flatness.

    Args:
        before: the earlier one.
        after: the later one, on the same grid.

    Returns:
        Its rms and largest absolute value; NaN if fewer than two bins were visited in both.

    Raises:
        InputError: different grids.
    """
    for name, one in (("before", before), ("after", after)):
        _require_landscape("entropy_change", name, one)
    pairs = zip(before.axes, after.axes, strict=False)
    if len(before.axes) != len(after.axes) or not all(one.matches(other) for one, other in pairs):
        raise InputError(
            f"entropy_change: {before!r} and {after!r} have different grids; compare the same CVs and Grid"
        )
    both = before.visited & after.visited
    if both.sum() < 2:
        return EntropyChange()
    change = after.entropy[both] - before.entropy[both]
    change -= change.mean()
    return EntropyChange(float(np.sqrt(np.mean(change**2))), float(np.abs(change).max()))


class EntropyDifference(NamedTuple):
    """S(a) - S(b), in nats; NaN where it is not known.

    Attributes:
        value: of the one run, or the mean over runs.
        error: standard error of the mean over independent runs; NaN for a single run.
    """

    value: float
    error: float


def entropy_difference(landscape: EntropyLandscape, a: float, b: float, cv: str | int = 0) -> EntropyDifference:
    """S(a) - S(b) along one CV at points, with its standard error where there are independent runs.

    It has no free constant and can be compared between runs, grids and methods. All other CVs are integrated out.

    Args:
        landscape: of one run, or the average of independent ones, `EntropyLandscape.average`.
        a: a value of the CV.
        b: another one, in a different bin of the grid.
        cv: name or index of the CV.

    Returns:
        NaN if the bin of one of the two was not visited, in an average by every run.

    Raises:
        InputError: an unknown CV, a value outside the grid, or two values in one bin.
    """
    _require_landscape("entropy_difference", "landscape", landscape)
    axis = landscape.axes[landscape.axis_index(cv)]
    if axis.bin_of(a) == axis.bin_of(b):
        raise InputError(
            f"entropy_difference: {axis.name} = {a:g} and {b:g} lie in one bin of the grid, of width {axis.width:g}; "
            "move them apart (--between)"
        )
    found = landscape.marginal(axis.name)
    runs = found.members or (found,)
    values = np.array([run.at(**{axis.name: a}) - run.at(**{axis.name: b}) for run in runs])
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return EntropyDifference(float(values.mean()), float(error))
