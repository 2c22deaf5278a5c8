"""Frames that several recorded series have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nnsim.analysis.axes import Floats
from nnsim.errors import InputError

if TYPE_CHECKING:
    from nnsim.trajectory import Trajectory


def common_frames(trajectory: Trajectory, names: list[str], since: float, until: float = 1.0) -> list[Floats]:
    """The values [T, W] of several observables at the steps that all of them have, between two fractions of the run."""
    series = [trajectory[name] for name in names]
    steps = series[0].step
    for one in series[1:]:
        steps = np.intersect1d(steps, one.step)
    steps = steps[(steps > since * trajectory.steps) & (steps <= until * trajectory.steps)]
    if not len(steps):
        listed = ", ".join(names)
        raise InputError(f"no step has a frame of each of {listed}, of that part; record them at the same interval")
    found = [np.asarray(one[:], dtype=np.float64)[np.isin(one.step, steps)] for one in series]
    for name, values in zip(names, found, strict=True):
        if values.ndim != 2:
            raise InputError(f"{name} has shape {values.shape[1:]} in a frame; one number for each walker is needed")
    return found
