"""What a trajectory knows of the biases that have learnt a landscape: their names, CVs, snapshots and restraints."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from nnsim.analysis.averages import bias_values, kinds
from nnsim.analysis.landscape.axes import Axis, Floats
from nnsim.errors import InputError, shown
from nnsim.grid.values import common_grid, on_another_grid

if TYPE_CHECKING:
    from nnsim.trajectory.reader import BiasRecord, Trajectory

LOOKED_AT = 20_000  # frames by which it is told whether a CV is discrete


def discrete_cvs(trajectory: Trajectory, attrs: Mapping[str, Any]) -> list[bool]:
    """For each CV of a bias on a grid whether it takes a few values only, as an exact accuracy or on a lattice does.

    Where the run has not recorded it, what was recorded of the CV tells: no more different values than bins.
    """
    names, grid = [str(one) for one in attrs["cvs"]], attrs["grid"]
    if grid["kind"] != "bins":  # a spline is for CVs that change smoothly
        return [False] * len(names)
    if trajectory.header.get("system", {}).get("box", {}).get("kind") == "lattice":
        return [True] * len(names)
    known, found = attrs.get("discrete", [False] * len(names)), []
    for name, bins, said in zip(names, grid["bins"], known, strict=True):
        recorded = np.asarray(trajectory[name][-LOOKED_AT:]) if name in trajectory and not said else np.empty(0)
        different = len(np.unique(recorded[np.isfinite(recorded)]))
        found.append(bool(said) or (0 < different <= bins and recorded.size > 2 * different))
    return found


def restraints(
    trajectory: Trajectory, bias: str, attrs: Mapping[str, Any]
) -> tuple[Callable[[tuple[Axis, ...]], ArrayLike], tuple[str, ...]]:
    """V / kT at the centres of the restraints on CVs of a bias, and the names of those on other CVs."""
    names, kT = [str(one) for one in attrs["cvs"]], float(attrs["kT"])
    known, others = [], []
    for name, settings in kinds.bias_settings(trajectory).items():
        if name != bias and settings.get("cvs"):
            potential = bias_values.restraint(settings)
            inside = potential is not None and set(kinds.reads(settings)) <= set(names)
            known.append(potential) if inside else others.append(name)

    def total(axes: tuple[Axis, ...]) -> Floats:
        shape = tuple(len(axis.centers) for axis in axes)
        along = {
            axis.name: axis.centers.reshape([-1 if d == number else 1 for d in range(len(axes))])
            for number, axis in enumerate(axes)
        }
        found = np.zeros(shape)
        for potential in known:
            found = found + potential(along.__getitem__, kT)  # type: ignore[misc]
        return found

    return total, tuple(others)


def wang_landau_name(trajectory: Trajectory, bias: str | None) -> str:
    """Return the name asked for if it is a Wang-Landau bias, or that of the only one."""
    return _bias_name(trajectory, bias, kinds.of_formula(trajectory, "flat_histogram"), "Wang-Landau")


def grid_bias_name(trajectory: Trajectory, bias: str | None) -> str:
    """Return the name asked for if it is a bias that learns S on a grid, or that of the only one."""
    return _bias_name(trajectory, bias, kinds.of_kind(trajectory, "grid"), "Wang-Landau, metadynamics or OPES")


def _bias_name(trajectory: Trajectory, bias: str | None, among: Mapping[str, Any], kind: str) -> str:
    """Return the name asked for if it is among some biases, of that kind, that have been saved; or the only one's."""
    known = [name for name in trajectory.bias_names if name in among]
    listed = ", ".join(known) or "none"
    if bias is not None and bias not in known:
        raise InputError(f"the trajectory has no {kind} bias {bias!r}; it has: {listed}")
    if not known:
        raise InputError(f"the trajectory has no {kind} bias; give that of a run with one")
    if bias is None and len(known) > 1:
        raise InputError(f"the trajectory has several {kind} biases; name one with --bias; it has: {listed}")
    return bias or known[0]


def snapshot(recorded: BiasRecord, frame: int) -> tuple[Any, Any]:
    """Coefficients and histogram (or mask) of a snapshot, on the grid of the newest table."""
    series = recorded.snapshots.get("potential")
    count = 0 if series is None else len(series.step)
    try:
        number = operator.index(frame)
    except TypeError:
        number = count
    if isinstance(frame, bool) or not -count <= number < count:
        raise InputError(
            f"EntropyLandscape: frame = {shown(frame)} is not among the {count} snapshots of the bias; change frame"
        )
    potential = np.asarray(recorded.snapshots["potential"][number])
    if "visits" not in recorded.snapshots:
        return potential, (np.asarray(recorded.tables["visits"]) > 0) & (potential > 0)
    visits = np.asarray(recorded.snapshots["visits"][number])
    if "edges" not in recorded.snapshots:
        return potential, visits
    lower, upper = np.asarray(recorded.snapshots["edges"][number]).T.tolist()  # of a grid that grows
    grid = recorded.attrs["grid"]
    then = {**grid, "lower": lower, "upper": upper}
    return (potential, visits) if then == grid else on_another_grid(potential, visits, then, grid)


def tables(recorded: BiasRecord, frame: int | None, grid: Mapping[str, Any] | None) -> tuple[Any, Any]:
    """Coefficients and histogram of a snapshot, or the newest, on a grid like its own, which is that if None."""
    potential, visits = recorded.tables["potential"], recorded.tables["visits"]
    if frame is not None:
        potential, visits = snapshot(recorded, frame)
    own = recorded.attrs["grid"]
    return (potential, visits) if grid in (None, own) else on_another_grid(potential, visits, own, grid or own)


def grid_of_runs(trajectories: Sequence[Trajectory], bias: str | None) -> Mapping[str, Any] | None:
    """The grid on which biases of several runs can be compared whose own grids have grown; None: each on its own."""
    records = [run.bias(grid_bias_name(run, bias)) for run in trajectories]
    grids = [one.attrs["grid"] for one in records]
    same = [(one["bins"], one["periodic"]) for one in grids]
    if not all("edges" in one.tables for one in records) or any(one != same[0] for one in same):
        return None
    return common_grid(grids, [one.tables["visits"] for one in records])
