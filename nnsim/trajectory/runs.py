"""Several trajectories opened together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsim.errors import InputError, require_choice, shown
from nnsim.trajectory import selection
from nnsim.trajectory.reader import Trajectory


def open_runs(paths: Iterable[Trajectory | Path | str], owner: str = "Trajectories") -> list[Trajectory]:
    """Open trajectories of independent runs; one that is given twice, also as a copy, would count twice.

    Raises:
        InputError: the same run twice.
        TrajectoryError: one that cannot be read.
    """
    if not isinstance(paths, Iterable) or getattr(paths, "ndim", 1) == 0:
        raise InputError(f"{owner}: runs = {shown(paths)} must be trajectories or paths; give a list of them")
    runs = [path if isinstance(path, Trajectory) else Trajectory(path) for path in paths]
    seen: dict[Any, Path] = {}
    for run in runs:
        name = run.header.get("run") or run.root.resolve()
        if name in seen:
            same = "the same trajectory twice" if run.path == seen[name] else "the same run"
            raise InputError(f"{seen[name]} and {run.path} are {same}, not independent runs; give each run once")
        seen[name] = run.path
    return runs


@dataclass(frozen=True, eq=False)
class Joined:
    """One quantity of several runs in one array.

    Attributes:
        values: along frames [T1 + T2 + ..., W, ...]; along walkers [T, W1 + W2 + ..., ...].
        run: number of the run of each frame, or of each walker, in the order they were given.
        step: step of each frame in its own run, [T]; along frames it begins anew with each run.
        time: likewise, in reduced units.
    """

    values: np.ndarray
    run: NDArray[np.int64]
    step: NDArray[np.int64]
    time: NDArray[np.float64]


class Trajectories(Sequence[Trajectory]):
    """Independent runs, opened together: a sequence of `Trajectory`, and what they have in common.

    Args:
        runs: trajectories or their paths, at least one, each run once; or a single one.

    Raises:
        InputError: none, or the same run twice.
        TrajectoryError: one that cannot be read.

    Example:
        runs = Trajectories(["a.zarr", "b.zarr"])
        runs.concatenate("ln_loss_train").values
    """

    def __init__(self, runs: Trajectory | Path | str | Iterable[Trajectory | Path | str]) -> None:
        if isinstance(runs, (str, Path, Trajectory)):
            runs = [runs]
        self._runs = open_runs(runs)
        if not self._runs:
            raise InputError("Trajectories: no run was given; give at least one path")

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, index: Any) -> Any:
        found = self._runs[index]
        return Trajectories(found) if isinstance(index, slice) else found

    def __iter__(self) -> Iterator[Trajectory]:
        return iter(self._runs)

    @property
    def observables(self) -> list[str]:
        """Names of the observables that all of them have."""
        return sorted(set.intersection(*(set(run.observables) for run in self._runs)))

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each parameter tensor; the same in all.

        Raises:
            InputError: runs of different networks.
        """
        first = self._runs[0].parameters
        for run in self._runs[1:]:
            if list(run.parameters.items()) != list(first.items()):
                raise InputError(
                    f"{self._runs[0].path} and {run.path} have different parameters, {shown(first)} and "
                    f"{shown(run.parameters)}; take runs of the same network"
                )
        return first

    def select(self, text: str) -> NDArray[np.int64]:
        """As `Trajectory.select`, for runs of the same network."""
        return selection.select(self.parameters, text)

    def thinned(self, every: int = 1, *, first: int = 0, last: int | None = None) -> Trajectories:
        """Each run thinned, as by `Trajectory.thinned`."""
        return Trajectories(run.thinned(every, first=first, last=last) for run in self._runs)

    def concatenate(self, name: str, *, along: str = "walkers", parameters: Any = None) -> Joined:
        """One observable, or the positions or velocities, of all runs in one array.

        Along `"walkers"`, the runs count as further walkers of one run: the frames are those of the steps that all runs
        have. Along `"frames"`, all frames of each run follow one another; the runs must have as many walkers.

        Args:
            name: of an observable, or `"position"` or `"velocity"`, of which all that is asked for comes into memory:
                take `parameters`, or `thinned` runs, where that is much.
            along: `"walkers"` or `"frames"`.
            parameters: for positions and velocities, as in `Trajectory.slice`.

        Raises:
            InputError: frames of different shapes, no step in common, times that differ, or different networks.
            TrajectoryError: a run in which it was not recorded.
        """
        require_choice("Trajectories.concatenate", "along", along, ("walkers", "frames"))
        series = [self._of(run, name, parameters) for run in self._runs]
        if along == "frames":
            return _along_frames(name, series)
        return _along_walkers(name, series, [run.header.get("walkers") for run in self._runs])

    def _of(self, run: Trajectory, name: str, parameters: Any) -> Any:
        if name in ("position", "velocity"):
            # a selection in words must mean the same in all
            chosen = self.select(parameters) if isinstance(parameters, str) else parameters
            return run.slice(parameters=chosen, of=name) if self.parameters else None
        if parameters is not None:
            raise InputError(f"Trajectories.concatenate: {name} is not of the parameters; leave parameters out")
        return run[name]

    def __repr__(self) -> str:
        return f"Trajectories({', '.join(str(run.path) for run in self._runs)})"


def _along_frames(name: str, series: list[Any]) -> Joined:
    shapes = {one.shape[1:] for one in series}
    if len(shapes) > 1:
        raise InputError(
            f"Trajectories.concatenate: frames of {name} have shapes {', '.join(map(str, sorted(shapes)))}; runs of "
            "different size join along='walkers' only, if at all"
        )
    run = np.repeat(np.arange(len(series)), [len(one) for one in series])
    parts = [np.concatenate([getattr(one, clock) for one in series]) for clock in ("step", "time")]
    return Joined(np.concatenate([one[:] for one in series]), run, *parts)


def _along_walkers(name: str, series: list[Any], walkers: list[int | None]) -> Joined:
    for one, count in zip(series, walkers, strict=True):
        if len(one.shape) < 2 or (count is not None and one.shape[1] != count):
            raise InputError(
                f"Trajectories.concatenate: {name} has shape {one.shape[1:]} in a frame, no entry for each walker; "
                "use along='frames'"
            )
    if len({one.shape[2:] for one in series}) > 1:
        shapes = ", ".join(str(one.shape[2:]) for one in series)
        raise InputError(f"Trajectories.concatenate: {name} has shapes {shapes} for each walker; take runs alike")
    steps = series[0].step
    for one in series[1:]:
        steps = np.intersect1d(steps, one.step)
    if not len(steps):
        raise InputError(
            f"Trajectories.concatenate: no step has a frame of {name} in all runs; record it at the same interval, or "
            "use along='frames'"
        )
    rows = [np.flatnonzero(np.isin(one.step, steps)) for one in series]
    times = [one.time[chosen] for one, chosen in zip(series, rows, strict=True)]
    if not all(np.allclose(times[0], other, rtol=1e-9) for other in times):
        raise InputError(
            "Trajectories.concatenate: the runs have different times at the same steps, so different time steps; use "
            "along='frames'"
        )
    values = np.concatenate([one[chosen] for one, chosen in zip(series, rows, strict=True)], axis=1)
    run = np.repeat(np.arange(len(series)), [one.shape[1] for one in series])
    return Joined(values, run, steps, times[0])
