"""Frames that several recorded series have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.axes import Floats
from nnsim.errors import InputError

if TYPE_CHECKING:
    from nnsim.trajectory import Trajectory


def opened(trajectory: Trajectory | str | Path) -> Trajectory:
    """A trajectory, opened if it is a path."""
    if not isinstance(trajectory, (str, Path)):
        return trajectory
    from nnsim.trajectory import Trajectory

    return Trajectory(trajectory)


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
        raise InputError(f"{name} has shape {values.shape[1:]} in a frame; one number for each walker is needed")
    return values
