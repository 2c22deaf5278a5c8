"""Which frames, walkers and parameters are exported, read in blocks of bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsim.errors import InputError, require_integer, shown

if TYPE_CHECKING:
    from pathlib import Path

    from nnsim.trajectory.frames import Frames
    from nnsim.trajectory.reader import Trajectory

BLOCK_BYTES = 16_000_000
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Consecutive exported frames of one walker.

    Attributes:
        step: [F] int64.
        time: [F] float64, reduced units.
        values: positions [F, k].
    """

    step: Indices
    time: NDArray[np.float64]
    values: NDArray[Any]

    @property
    def xyz(self) -> NDArray[Any]:
        """The parameters as atoms at (x, 0, 0), [F, k, 3]."""
        xyz = np.zeros((*self.values.shape, 3), self.values.dtype)
        xyz[..., 0] = self.values
        return xyz


@dataclass(frozen=True)
class WalkerFrames:
    """Every `every`-th frame of the positions of one walker.

    Attributes:
        series: the recorded positions [T, W, n].
        walker: the walker.
        every: interval in frames.
        columns: places in the flat positions, [k], in the order of the export.
    """

    series: Frames
    walker: int
    every: int
    columns: Indices

    def __len__(self) -> int:
        return len(self.step)

    @property
    def step(self) -> Indices:
        """Steps of the exported frames."""
        return self.series.step[:: self.every]

    @property
    def time(self) -> NDArray[np.float64]:
        """Times of the exported frames."""
        return self.series.time[:: self.every]

    def blocks(self) -> Iterator[Block]:
        """The exported frames, about 16 MB of coordinates at a time."""
        size = block_length(3 * len(self.columns) * self.series.dtype.itemsize)
        step, time = self.step, self.time
        for first in range(0, len(step), size):
            part = slice(first, min(first + size, len(step)))
            rows = slice(part.start * self.every, (part.stop - 1) * self.every + 1, self.every)
            # of each chunk only the columns are kept, so that a few of many parameters do not bring all along
            yield Block(step[part], time[part], self.series[rows, self.walker, self.columns])


def chosen_frames(
    trajectory: Trajectory, columns: Indices, *, owner: str, walker: object = 0, every: object = 1
) -> WalkerFrames:
    """The frames of one walker; refuses what is not there."""
    series = positions(trajectory, owner)
    return WalkerFrames(
        series,
        require_walker(owner, walker, series.shape[1]),
        require_integer(owner, "every", every, least=1),
        columns,
    )


def opened_run(trajectory: Trajectory | Path | str, owner: str) -> Trajectory:
    """What is exported, opened if it is a path."""
    from nnsim.analysis.averages.common_frames import opened

    return opened(trajectory, owner)


def positions(trajectory: Trajectory, owner: str) -> Frames:
    """The recorded positions, of which there must be at least one frame."""
    series = trajectory.positions
    if series is None or not len(series):
        raise InputError(
            f"{owner}: {trajectory.path} has no positions; run again with positions_every=..., or export observables "
            "to .csv or .npz"
        )
    return series


def require_walker(owner: str, walker: object, walkers: int) -> int:
    """The number of a walker that there is."""
    number = require_integer(owner, "walker", walker, least=0)
    if number >= walkers:
        raise InputError(f"{owner}: walker = {number} must be below {walkers}, the number of walkers; change walker")
    return number


def selected(parameters: dict[str, tuple[int, ...]], text: str | None) -> Indices:
    """Places in the flat positions, increasing: all, or those of a selection in words (`trajectory.selection`)."""
    if text is None:
        return np.arange(sum(math.prod(shape) for shape in parameters.values()))
    from nnsim.trajectory.selection import select

    return select(parameters, text)


def block_length(row_bytes: int) -> int:
    """Rows of so many bytes in a block."""
    return max(BLOCK_BYTES // max(row_bytes, 1), 1)


def walkers(trajectory: Trajectory) -> int:
    """Number of walkers."""
    return int(trajectory.header["walkers"])


def is_per_walker(series: Frames, count: int) -> bool:
    """Whether an observable [T, W, ...] has a value for each walker, told by its second axis."""
    return series.shape[1:2] == (count,)


def chosen_observables(trajectory: Trajectory, names: tuple[str, ...] | None) -> dict[str, Frames]:
    """The observables asked for, by default all; an unknown one is refused."""
    if names is not None and (isinstance(names, (str, bytes)) or not isinstance(names, Sequence)):
        raise InputError(f"export: observables = {shown(names)} must be a list of names; change observables")
    return {name: trajectory[name] for name in (trajectory.observables if names is None else names)}
