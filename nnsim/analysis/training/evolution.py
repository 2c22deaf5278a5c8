"""How an observable evolves along training: mean over independent runs, their spread, and a running average."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsim.analysis.averages.common_frames import all_opened, opened, require_one_network
from nnsim.analysis.checks import as_floats
from nnsim.analysis.landscape.axes import Floats
from nnsim.analysis.training.sweep_table import Conditions, label, read_plan, read_sweep
from nnsim.errors import InputError, NNSimWarning, require_choice, require_integer, shown

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

OWNER = "evolution"
AVERAGED = 1 / 20  # of the frames, by default


@dataclass(frozen=True, eq=False)
class Evolution:
    """An observable along training, of R independent runs.

    Attributes:
        name: of the observable.
        step, epoch: of each frame, [T]; epoch = step / steps per epoch.
        values: of each run, [T, R].
        mean: over the runs, [T].
        std: their sample standard deviation, with R - 1, [T]; NaN for a single run.
        standard_error: of the mean, std / sqrt(R), [T]; NaN for a single run.
        running: centred running average of `mean`, [T]; see `running_average`.
        window: frames of that average.
        runs: which runs these are, [R], such as `run.zarr, walker 3`.
        dropped: runs that were recorded too, but left out, because they diverged.
    """

    name: str
    step: NDArray[np.int64]
    epoch: Floats
    values: Floats
    mean: Floats
    std: Floats
    standard_error: Floats
    running: Floats
    window: int
    runs: tuple[str, ...]
    dropped: tuple[str, ...] = ()

    def lowest(self) -> tuple[int, float]:
        """Step and value of the lowest point of the mean curve, the first if there are several."""
        return self._at(int(self.mean.argmin()))

    def highest(self) -> tuple[int, float]:
        """Step and value of the highest point of the mean curve, the first if there are several."""
        return self._at(int(self.mean.argmax()))

    def _at(self, frame: int) -> tuple[int, float]:
        return int(self.step[frame]), float(self.mean[frame])

    def rows(self) -> list[dict[str, float | int]]:
        """One dictionary for each frame, for a table."""
        columns = {
            "step": self.step, "epoch": self.epoch, f"mean_{self.name}": self.mean, "standard_deviation": self.std,
            "standard_error": self.standard_error, "running_average": self.running,
        }  # fmt: skip
        return [{key: column[t].item() for key, column in columns.items()} for t in range(len(self.step))]


def evolution(
    trajectory: Trajectory | str | Path | Sequence[Trajectory | str | Path],
    name: str,
    *,
    window: int | None = None,
    epoch: int | None = None,
    diverged: str = "refuse",
    leave_out: Collection[str] = (),
) -> Evolution:
    """Mean, spread and running average of an observable over independent training runs.

    Args:
        trajectory: of a simulation whose walkers are the runs, or several, whose runs are taken together.
        name: a recorded observable with one number for each walker.
        window: frames of the running average, an odd number; None is about a 20th of the frames.
        epoch: steps per epoch, at least 1; None takes ceil(train points / batch size), or 1 of full batches, as the
            trajectory says.
        diverged: what to do with a run that has a number that is not finite: `"refuse"`, or `"drop"` the whole run with
            a warning. Never is the frame alone left out, since the mean would then be over fewer runs from there on.
        leave_out: runs not to take, named as in `Evolution.runs`; they count as dropped.

    Raises:
        InputError: an observable that was not recorded or is not a scalar, no frame, trajectories with frames at
            different steps or with epochs of different length, the same run twice, a run that diverged (or, with
            `"drop"`, all of them), a window that is even or longer than the record.
    """
    trajectories = all_opened(trajectory, OWNER)
    require_one_network(trajectories, OWNER)
    require_choice(OWNER, "diverged", diverged, ("refuse", "drop"))
    if isinstance(leave_out, str) or not isinstance(leave_out, Collection) or hasattr(leave_out, "ndim"):
        raise InputError(
            f"{OWNER}: leave_out = {shown(leave_out)} must be a list of runs; name them as in Evolution.runs"
        )
    records = [_scalar(one, name) for one in trajectories]
    step = _shared_steps(trajectories, [step for step, _ in records], name)
    per_epoch = _shared_epoch(trajectories) if epoch is None else require_integer(OWNER, "epoch", epoch, least=1)
    values = np.concatenate([values for _, values in records], axis=1)
    runs = [
        f"{one.path}, walker {w}"
        for one, (_, own) in zip(trajectories, records, strict=True)
        for w in range(own.shape[1])
    ]
    unknown = [one for one in leave_out if one not in runs]
    if unknown:
        raise InputError(f"{OWNER}: leave_out = {shown(unknown[0])} is none of the runs; choose from {', '.join(runs)}")
    wanted = np.array([run for run in range(len(runs)) if runs[run] not in leave_out], dtype=np.int64)
    if not len(wanted):
        raise InputError(f"{OWNER}: leave_out names all {len(runs)} runs; keep at least one")
    known = _finite_runs(name, step, values, runs, wanted, diverged)
    values, count = values[:, known], len(known)
    mean, nothing = values.mean(axis=1), np.full(len(step), np.nan)
    std = values.std(axis=1, ddof=1) if count > 1 else nothing
    frames = default_window(len(step)) if window is None else require_integer(OWNER, "window", window, least=1)
    return Evolution(
        name=name,
        step=step,
        epoch=step / per_epoch,
        values=values,
        mean=mean,
        std=std,
        standard_error=std / math.sqrt(count),
        running=running_average(mean, frames),
        window=frames,
        runs=tuple(runs[run] for run in known),
        dropped=tuple(run for index, run in enumerate(runs) if index not in known),
    )


def running_average(values: ArrayLike, window: int) -> Floats:
    r"""Centred running average over an odd number of frames, which becomes narrower towards both ends.

        r_i = (1 / (2 h_i + 1)) \sum_{j = i - h_i}^{i + h_i} y_j,    h_i = min((window - 1) / 2, i, T - 1 - i)

    No frame is lost, a straight line stays as it is, and the first and the last frame are their own average.

    Args:
        values: y, [T], at least one.
        window: in frames, odd, from 1 to T (to T - 1 for an even T).

    Raises:
        InputError: a window that is even or longer than the record.

    >>> running_average([0.0, 3.0, 0.0, 6.0], 3).tolist()
    [0.0, 1.0, 3.0, 6.0]
    """
    y = as_floats(OWNER, "values", values, axes=1)
    window = require_integer(OWNER, "window", window, least=1)
    if window % 2 == 0:
        other = f"{window - 1} or {window + 1}"
        raise InputError(f"{OWNER}: window = {window} must be an odd number of frames, to have a middle; take {other}")
    if window > len(y):
        raise InputError(f"{OWNER}: window = {window} must be at most the number of frames, {len(y)}; lower it")
    half, last, found = window // 2, len(y) - 1, y.copy()
    found[half : len(y) - half] = np.convolve(y, np.full(window, 1 / window), mode="valid")
    for i in range(half):
        found[i] = y[: 2 * i + 1].mean()
        found[last - i] = y[last - 2 * i :].mean()
    return found


def default_window(frames: int) -> int:
    """About a 20th of the frames, and odd."""
    return 2 * int(AVERAGED * frames / 2) + 1


def steps_per_epoch(trajectory: Trajectory | str | Path) -> int:
    """Updates in which training visits every train point once: ceil(points / batch size), or 1 of full batches.

    Raises:
        InputError: mini-batches of data whose number the trajectory does not say.
    """
    trajectory = opened(trajectory, "steps_per_epoch")
    header = trajectory.header
    size = (header.get("integrator") or {}).get("batch_size")
    if size is None:
        return 1
    try:
        points = int(header["system"]["data"]["train"][0]["shape"][0])
    except (KeyError, IndexError, TypeError, ValueError):
        raise InputError(
            f"{OWNER}: {trajectory.path} does not say how many train points its batches of {size} are drawn from; "
            "give epoch, the number of steps in one"
        ) from None
    return math.ceil(points / size)


def sweep_runs(folder: Path | str, conditions: Conditions = (), **where: Any) -> dict[str, list[Trajectory]]:
    """Trajectories of the points of a sweep that are done, by their settings, those of different seeds together.

    Args:
        folder: that of `nnsim sweep`.
        conditions: only points with these values of swept settings, as a mapping or as pairs; see `SweepTable.where`.
        where: more of them, given as values or as their texts.

    Returns:
        Such as {"width=10": [seed 0, seed 1], "width=30": [...]}, in the order of the sweep; a setting that has a
        single value is left out of the name.

    Raises:
        InputError: no sweep, a setting that was not swept or a value that no point has, or no point that is done.
    """
    from nnsim.trajectory.reader import Trajectory

    table, folder = read_sweep(folder), Path(folder)
    points = read_plan(folder)["points"]
    status = dict(zip(points, table["status"].tolist(), strict=True))
    values = {name: dict(zip(points, table[name].tolist(), strict=True)) for name in table.swept}
    names = list(points)
    chosen = [names[row] for row in table.rows_where(conditions, **where)]
    naming = [name for name in table.swept if name != "seed" and len({label(values[name][p]) for p in chosen}) > 1]
    found: dict[str, list[Trajectory]] = {}
    for point in chosen:
        if status[point] == "done":
            key = ", ".join(f"{name}={label(values[name][point])}" for name in naming) or folder.name
            found.setdefault(key, []).append(Trajectory(folder / point / "run.zarr"))
    missing = sum(status[point] != "done" for point in chosen)
    if not found:
        raise InputError(f"{folder}: none of the {missing} points asked for is done; run the sweep first")
    if missing:
        warnings.warn(
            f"{folder}: {missing} of {len(chosen)} points are not done, and left out", NNSimWarning, stacklevel=2
        )
    return found


# ------------------------------------------------------------------------------------------------------------ checks


def _scalar(trajectory: Trajectory, name: str) -> tuple[NDArray[np.int64], Floats]:
    """The steps [T] and values [T, R] of a scalar observable."""
    if name not in trajectory.observables:
        listed = ", ".join(trajectory.observables) or "none"
        raise InputError(f"{OWNER}: {trajectory.path} has no observable {name!r}; it has {listed}")
    series = trajectory[name]
    size = math.prod(series.shape[2:])
    if size != 1:
        raise InputError(f"{OWNER}: {name!r} has {size} numbers for each walker; choose a scalar observable")
    values, step = np.asarray(series[:], dtype=np.float64), np.asarray(series.step)
    if not len(values):
        raise InputError(f"{OWNER}: {name!r} has no frame in {trajectory.path}; run longer than its interval")
    return step, values.reshape(len(values), -1)


def _shared_steps(trajectories: list[Trajectory], steps: list[NDArray[np.int64]], name: str) -> NDArray[np.int64]:
    first = steps[0]
    for one, own in zip(trajectories, steps, strict=True):
        if not np.array_equal(own, first):
            each = [(trajectories[0].path, first), (one.path, own)]
            said = " and ".join(f"{len(s)} frames at steps {s[0]} to {s[-1]} in {path}" for path, s in each)
            raise InputError(
                f"{OWNER}: {name!r} has {said}; a mean needs the same steps: run to the same length with the same "
                "interval, or give the trajectories one by one"
            )
    return first


def _shared_epoch(trajectories: list[Trajectory]) -> int:
    lengths = [steps_per_epoch(one) for one in trajectories]
    for one, length in zip(trajectories, lengths, strict=True):
        if length != lengths[0]:
            raise InputError(
                f"{OWNER}: an epoch has {lengths[0]} steps in {trajectories[0].path} and {length} in {one.path}; "
                "take runs of the same data and batch size, or give epoch"
            )
    return lengths[0]


def _finite_runs(
    name: str, step: NDArray[np.int64], values: Floats, runs: list[str], wanted: NDArray[np.int64], diverged: str
) -> NDArray[np.int64]:
    """Numbers of the runs, of those wanted, that are finite throughout."""
    finite = np.isfinite(values)
    bad = wanted[~finite[:, wanted].all(axis=0)]
    if not len(bad):
        return wanted
    frame = int((~finite[:, bad[0]]).argmax())
    where = f"{name!r} is {values[frame, bad[0]]} at step {step[frame]} in {runs[bad[0]]}"
    if diverged == "refuse":
        more = f", and {len(bad) - 1} more runs diverged" if len(bad) > 1 else ""
        raise InputError(
            f"{OWNER}: {where}{more}; leave these runs out with diverged='drop' (--drop-diverged), or lower the "
            "learning rate"
        )
    if len(bad) == len(wanted):
        raise InputError(f"{OWNER}: {where}, and no other run is finite throughout; lower the learning rate")
    warnings.warn(
        f"{OWNER}: {where}: {len(bad)} of {len(wanted)} runs are left out because they diverged",
        NNSimWarning,
        stacklevel=3,
    )
    return np.setdiff1d(wanted, bad)
