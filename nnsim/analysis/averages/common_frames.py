"""Frames that several recorded series have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import InputError, shown

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory


def opened(trajectory: Trajectory | str | Path, owner: str = "Trajectory") -> Trajectory:
    """A trajectory, opened if it is a path; raises `InputError` for anything else."""
    if isinstance(trajectory, (str, Path)):
        from nnsim.trajectory.reader import Trajectory

        return Trajectory(trajectory)
    if not _is_trajectory(trajectory):
        raise InputError(
            f"{owner}: trajectory = {shown(trajectory)} must be a trajectory or its path; give one that nnsim run wrote"
        )
    return trajectory


def all_opened(trajectories: Any, owner: str) -> list[Trajectory]:
    """At least one run, each once, from trajectories or their paths, or a single one."""
    single = isinstance(trajectories, (str, Path)) or _is_trajectory(trajectories)
    try:
        given = [trajectories] if single else list(trajectories)
    except TypeError:
        given = [trajectories]  # which is then named
    if not given:
        raise InputError(f"{owner}: no trajectory; give at least one")
    runs = [opened(one, owner) for one in given]
    _refuse_repeated(runs, owner)
    return runs


def _is_trajectory(thing: object) -> bool:
    return hasattr(thing, "header") and not isinstance(thing, type)


def _refuse_repeated(runs: list[Trajectory], owner: str) -> None:
    """A run counted twice would make the standard error too small."""
    seen: dict[Any, Path] = {}
    for one in runs:
        name = one.header.get("run") or (one.root.resolve() if one.path.exists() else id(one))
        if name in seen:
            raise InputError(f"{owner}: {seen[name]} and {one.path} are the same run; give each run once")
        seen[name] = one.path


def require_one_network(runs: Iterable[Trajectory], owner: str) -> None:
    """Raise `InputError` unless all runs are of the same network, or other system, as far as they say."""
    known = [(run, list(shapes.items())) for run in runs if (shapes := run.header.get("parameters"))]
    for run, shapes in known[1:]:
        if shapes != known[0][1]:
            raise InputError(
                f"{owner}: {known[0][0].path} and {run.path} are runs of different networks, of "
                f"{size_of(known[0][0])} and {size_of(run)} parameters; take those of one"
            )


def size_of(run: Trajectory) -> int | None:
    """Number of parameters of the system of a run; None where it does not say."""
    shapes = run.header.get("parameters")
    return sum(math.prod(shape) for shape in shapes.values()) if shapes else None


def common_frames(trajectory: Trajectory, names: list[str], since: float, until: float = 1.0) -> list[Floats]:
    """The values [T, W] of several observables at the steps that all of them have, between two fractions of the run."""
    steps = common_steps(trajectory, names, since * trajectory.steps, until * trajectory.steps)
    return [frames_at(trajectory, name, steps) for name in names]


def common_steps(trajectory: Trajectory, names: list[str], after: float, until: float = np.inf) -> NDArray[np.int64]:
    """The steps, beyond `after` and up to `until`, at which all of several observables were recorded."""
    steps = trajectory[names[0]].step
    for name in names[1:]:
        steps = np.intersect1d(steps, trajectory[name].step)
    steps = steps[(steps > after) & (steps <= until)]
    if not len(steps):
        listed = ", ".join(names)
        raise InputError(f"no step has a frame of each of {listed}, of that part; record them at the same interval")
    return np.asarray(steps)


def frames_at(trajectory: Trajectory, name: str, steps: NDArray[np.int64], per_walker: bool = True) -> Floats:
    """The values of an observable at steps at which it was recorded, [T, W], or [T] of one number for all walkers."""
    series = trajectory[name]
    values = np.asarray(series[:], dtype=np.float64)[np.isin(series.step, steps)]
    if len(values) != len(steps):
        raise InputError(f"{name} was not recorded at all of the frames; record it at the interval of the others")
    if per_walker and values.ndim != 2:
        raise InputError(f"{name} has shape {values.shape[1:]} in a frame; choose one with a number for each walker")
    return values
