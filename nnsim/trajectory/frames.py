"""Frames of a trajectory: recorded series, thinned ones and slices of them, all read when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsim.errors import InputError, TrajectoryError, require_integer, shown
from nnsim.trajectory.layout import COLUMNS, StoredArray, damaged
from nnsim.trajectory.record import read_record

Indices = NDArray[np.int64]


class Frames:
    """Frames [T, ...] of which only what is asked for is read, indexed as in numpy.

    `frames[i]`, `frames[a:b:c]`, `frames[[3, 5]]` and further indices give arrays.

    Attributes:
        name: name of the observable, or `position`, `velocity`, or the table of a bias.
        shape: [T, ...].
        dtype: type of the values.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def step(self) -> np.ndarray:
        """Step of each frame, [T]."""
        return self._clock("step")

    @property
    def time(self) -> np.ndarray:
        """Time of each frame, [T], in reduced units."""
        return self._clock("time")

    @property
    def root(self) -> Path:
        """Folder of the trajectory."""
        raise NotImplementedError

    def _clock(self, name: str) -> np.ndarray:
        raise NotImplementedError

    def _stretches(self, rows: Indices) -> Iterator[tuple[int, int]]:
        """Begin and end of each stretch of `rows` whose frames lie in one chunk on disk."""
        raise NotImplementedError

    def _within_chunk(self, rows: Indices) -> np.ndarray:
        """Frames of a stretch of rows that lie in one chunk, [R, ...]."""
        raise NotImplementedError

    def __getitem__(self, key: Any) -> np.ndarray:
        first, rest = self._split(key)
        rows = np.arange(len(self))[first]  # numpy's own rules for negative and too large indices
        if rows.ndim > 1:
            raise IndexError(f"{self.name}: the first index has {rows.ndim} axes; use a number, a slice or a list")
        if rows.ndim == 0:
            return self._frames(np.array([rows]), rest)[0]
        return self._frames(rows, rest)

    def _split(self, key: Any) -> tuple[Any, tuple[Any, ...]]:
        """Index of the frames, and the indices of the other axes."""
        keys = key if isinstance(key, tuple) else (key,)
        if any(one is None for one in keys):
            raise IndexError(f"{self.name}: None is not an index here; read the frames, then add an axis")
        places = [place for place, one in enumerate(keys) if one is Ellipsis]
        if places:
            fill = (slice(None),) * (len(self.shape) - len(keys) + 1)
            keys = keys[: places[0]] + fill + keys[places[0] + 1 :]
        if len(keys) > len(self.shape):
            raise IndexError(f"{self.name}: {len(keys)} indices for {len(self.shape)} axes {list(self.shape)}")
        if sum(not isinstance(one, (int, np.integer, slice)) for one in keys) > 1:
            raise IndexError(f"{self.name}: only one index may be a list; read the frames, then index them")
        return (keys[0] if keys else slice(None)), tuple(keys[1:])

    def _frames(self, rows: Indices, rest: tuple[Any, ...]) -> np.ndarray:
        """Frames `rows` [R], indexed by `rest` along the other axes, chunk by chunk."""
        inner = np.broadcast_to(np.empty((), self.dtype), self.shape[1:])[rest].shape
        found = np.empty((len(rows), *inner), self.dtype)
        for start, stop in self._stretches(rows):
            found[start:stop] = self._within_chunk(rows[start:stop])[(slice(None), *rest)]
        return found

    def blocks(self) -> Iterator[np.ndarray]:
        """All frames in order, as one array [t, ...] for each chunk on disk: a pass in little memory."""
        rows = np.arange(len(self))
        for start, stop in self._stretches(rows):
            yield self._within_chunk(rows[start:stop])

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, {list(self.shape)}, {self.dtype})"


class Series(Frames):
    """One recorded quantity, [T, ...]; T is the number of frames committed when the trajectory was opened or refreshed.

    See `Frames` for what it offers.
    """

    def __init__(self, root: Path, key: str, count: int) -> None:
        self._root, self._key, self._folder = root, key, root / key
        self.name = self._folder.name
        self._rebase(count)

    def _rebase(self, count: int) -> None:
        """Take over a new committed count; the arrays on disk must reach it."""
        columns = {name: StoredArray(self._folder / name) for name in COLUMNS} if count else {}
        for name, stored in columns.items():
            if not stored.shape or stored.shape[0] < count:
                raise damaged(self._folder / name, f"{stored.shape[:1]} frames where {count} were committed")
        if columns:
            self.dtype, frame = columns["value"].dtype, columns["value"].shape[1:]
        else:  # the run was resumed from before the first frame of this series
            self.dtype, frame = getattr(self, "dtype", np.dtype("float64")), getattr(self, "shape", (0,))[1:]
        self.shape = (count, *frame)
        self._count = count
        self._columns = columns
        self._cached: tuple[int, np.ndarray] | None = None
        self._clocks: dict[str, np.ndarray] = {}

    @property
    def root(self) -> Path:
        """Folder of the trajectory."""
        return self._root

    def missing(self) -> list[Path]:
        """Files of chunks that are not there although their frames were committed."""
        found = [path for stored in self._columns.values() for path in stored.missing(self._count)]
        if found and read_record(self._root).committed.get(self._key, 0) < self._count:
            return []  # the run went back to its checkpoint
        return found

    @property
    def last_step(self) -> int:
        """Step of the last frame; 0 without frames."""
        if not self._count:
            return 0
        return int(self._read("step", (self._count - 1) // self._columns["step"].chunks[0])[-1])

    def _read(self, column: str, index: int) -> np.ndarray:
        """Frames of one chunk; says so if they are gone because the run went back to its checkpoint."""
        try:
            return self._columns[column].read(index, self._count)
        except TrajectoryError:
            if read_record(self._root).committed.get(self._key, 0) >= self._count:
                raise
        raise TrajectoryError(
            f"{self._root}: the run was resumed from an earlier checkpoint while this was open; call refresh()"
        )

    def _clock(self, name: str) -> np.ndarray:
        if name not in self._clocks:
            chunks = -(-self._count // self._columns[name].chunks[0]) if self._count else 0
            parts = [self._read(name, index) for index in range(chunks)]
            empty = np.empty(0, np.int64 if name == "step" else np.float64)
            self._clocks[name] = np.concatenate([empty, *parts])
        return self._clocks[name].copy()

    def _stretches(self, rows: Indices) -> Iterator[tuple[int, int]]:
        if not len(rows):
            return iter(())
        per_chunk = self._columns["value"].chunks[0]
        return pairwise([0, *(np.flatnonzero(np.diff(rows // per_chunk)) + 1).tolist(), len(rows)])

    def _within_chunk(self, rows: Indices) -> np.ndarray:
        per_chunk = self._columns["value"].chunks[0]
        index = int(rows[0]) // per_chunk
        return self._chunk(index)[rows - index * per_chunk]

    def _chunk(self, index: int) -> np.ndarray:
        """Frames of a chunk; the last one is kept, so that a loop over frames decodes each chunk once."""
        if self._cached is None or self._cached[0] != index:
            self._cached = None
            self._cached = (index, self._read("value", index))
        return self._cached[1]


def last_step(series: Iterable[Series]) -> int:
    """The last committed step of several series; 0 without frames. Series whose steps are missing do not count."""
    found, lost = [], None
    for one in series:
        try:
            found.append(one.last_step)
        except TrajectoryError as error:
            if not one.missing():  # damaged: nobody else names it
                raise
            lost = error
    if lost is not None and not found:
        raise lost
    return max(found, default=0)


def recorded_steps(root: Path) -> int:
    """The same of a whole trajectory that has not been opened."""
    return last_step(Series(root, name, count) for name, count in read_record(root).committed.items())


class ThinnedSeries(Series):
    """The frames of a series whose steps are kept by a rule."""

    def __init__(self, root: Path, key: str, count: int, keep: Callable[[np.ndarray], np.ndarray]) -> None:
        self._keep = keep
        super().__init__(root, key, count)

    def _rebase(self, count: int) -> None:
        super()._rebase(count)
        self._rows = np.flatnonzero(self._keep(super()._clock("step")))
        self.shape = (len(self._rows), *self.shape[1:])

    @property
    def last_step(self) -> int:
        """Step of the last frame that is kept; 0 without frames."""
        return int(self.step[-1]) if len(self) else 0

    def _clock(self, name: str) -> np.ndarray:
        return super()._clock(name)[self._rows]

    def _stretches(self, rows: Indices) -> Iterator[tuple[int, int]]:
        return super()._stretches(self._rows[rows])

    def _within_chunk(self, rows: Indices) -> np.ndarray:
        return super()._within_chunk(self._rows[rows])


class Slice(Frames):
    """Some frames, walkers and parameters of the positions or velocities, [T, W, k]; read when it is indexed.

    Only the chunks that hold the frames asked for are read, one at a time, so that memory is that of the result and of
    one chunk. `slice.blocks()` passes over all of it in the memory of one chunk.

    Attributes:
        frames: indices of the frames in the trajectory, [T].
        walkers: indices of the walkers, [W].
        parameters: places of the parameters in the flat positions, [k].
    """

    def __init__(self, series: Series, frames: Any, walkers: Any, parameters: Indices | None) -> None:
        self._series, self.name, self.dtype = series, series.name, series.dtype
        self.frames = _chosen("frames", frames, len(series))
        self.walkers = _chosen("walkers", walkers, series.shape[1])
        self.parameters = np.arange(series.shape[2]) if parameters is None else parameters
        self.shape = (len(self.frames), len(self.walkers), len(self.parameters))
        # None where all are taken, which spares a copy
        self._walkers = None if walkers is None else self.walkers
        self._parameters = parameters

    @property
    def root(self) -> Path:
        """Folder of the trajectory."""
        return self._series.root

    def _clock(self, name: str) -> np.ndarray:
        return self._series._clock(name)[self.frames]

    def _stretches(self, rows: Indices) -> Iterator[tuple[int, int]]:
        return self._series._stretches(self.frames[rows])

    def _within_chunk(self, rows: Indices) -> np.ndarray:
        block = self._series._within_chunk(self.frames[rows])
        if self._walkers is not None:
            block = block[:, self._walkers]
        return block if self._parameters is None else block[..., self._parameters]


def _chosen(name: str, chosen: Any, count: int) -> Indices:
    """Indices, 0 to count - 1, that a number, slice, list or mask stands for; None is all of them."""
    if chosen is None:
        return np.arange(count)
    try:
        found = np.arange(count)[chosen if isinstance(chosen, slice) else _index_array(chosen)]
    except (IndexError, TypeError, ValueError):
        found = None
    if found is None or found.ndim > 1:
        raise InputError(
            f"Trajectory: {name} = {shown(chosen)} must be a number, slice, list or mask for {count} {name}, "
            f"{-count} to {count - 1}; change {name}"
        )
    return np.atleast_1d(found)


def _index_array(chosen: ArrayLike) -> np.ndarray:
    array = np.asarray(chosen)
    return array.astype(np.int64) if array.size == 0 else array


def positions_in(parameters: Any, size: int) -> Indices:
    """Places in the flat positions, given as numbers, a slice or a mask."""
    return _chosen("parameters", parameters, size)


class Keep:
    """The rule of a thinned trajectory: steps that are multiples of `every`, from `first` to `last`.

    Raises:
        InputError: an interval below 1, or a step below 0 or above `last`.
    """

    def __init__(self, every: int, first: int, last: int | None) -> None:
        self.every = require_integer("Trajectory.thinned", "every", every, least=1)
        self.first = require_integer("Trajectory.thinned", "first", first, least=0)
        self.last = None if last is None else require_integer("Trajectory.thinned", "last", last, least=self.first)

    def __call__(self, steps: np.ndarray) -> np.ndarray:
        """Which of the steps are kept."""
        kept = (steps % self.every == 0) & (steps >= self.first)
        return kept if self.last is None else kept & (steps <= self.last)

    def and_of(self, other: Keep) -> Keep:
        """The rule that keeps what both keep."""
        lasts = [last for last in (self.last, other.last) if last is not None]
        both = Keep(math.lcm(self.every, other.every), 0, None)
        both.first, both.last = max(self.first, other.first), min(lasts, default=None)
        return both
