"""Trajectories: one folder `NAME.zarr`, laid out after H5MD in Zarr format 2.

`Trajectory` reads lazily, also while a run writes; `TrajectoryWriter` writes. Neither imports torch, and zarr is
imported when the first array is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from nnsim.errors import TrajectoryError
from nnsim.trajectory_layout import (
    BIASES,
    COLUMNS,
    HEADER,
    LAYOUT_VERSION,
    STARTING,
    StoredArray,
    check_name,
    damaged,
    is_starting,
    read_attributes,
    read_json,
    read_layout,
)
from nnsim.trajectory_writer import TrajectoryWriter

__all__ = [
    "LAYOUT_VERSION",
    "STARTING",
    "BiasRecord",
    "Series",
    "Trajectory",
    "TrajectoryWriter",
    "check_name",
    "is_starting",
]

_POSITION, _VELOCITY = "particles/parameters/position", "particles/parameters/velocity"


class Series:
    """One recorded quantity, [T, ...], of which only what is asked for is read.

    `series[i]`, `series[a:b:c]`, `series[[3, 5]]` and further indices as in numpy give arrays. T is the number of
    frames that were committed when the trajectory was opened or refreshed.

    Attributes:
        name: name of the observable, or `position`, `velocity`, or the table of a bias.
        shape: [T, ...].
        dtype: type of the values.
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
        self.shape: tuple[int, ...] = (count, *frame)
        self._columns = columns
        self._cached: tuple[int, np.ndarray] | None = None
        self._clocks: dict[str, np.ndarray] = {}

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
    def last_step(self) -> int:
        """Step of the last frame; 0 without frames."""
        if not len(self):
            return 0
        return int(self._read("step", (len(self) - 1) // self._columns["step"].chunks[0])[-1])

    def _read(self, column: str, index: int) -> np.ndarray:
        """Frames of one chunk; says so if they are gone because the run went back to its checkpoint."""
        try:
            return self._columns[column].read(index, len(self))
        except TrajectoryError:
            if read_layout(self._root).get(self._key, 0) >= len(self):
                raise
        raise TrajectoryError(
            f"{self._root}: the run was resumed from an earlier checkpoint while this was open; call refresh()"
        )

    def _clock(self, name: str) -> np.ndarray:
        if name not in self._clocks:
            chunks = -(-len(self) // self._columns[name].chunks[0]) if len(self) else 0
            parts = [self._read(name, index) for index in range(chunks)]
            empty = np.empty(0, np.int64 if name == "step" else np.float64)
            self._clocks[name] = np.concatenate([empty, *parts])
        return self._clocks[name].copy()

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

    def _frames(self, rows: np.ndarray, rest: tuple[Any, ...]) -> np.ndarray:
        """Frames `rows` [R], indexed by `rest` along the other axes, chunk by chunk."""
        inner = np.broadcast_to(np.empty((), self.dtype), self.shape[1:])[rest].shape
        found = np.empty((len(rows), *inner), self.dtype)
        if not len(rows):
            return found
        per_chunk = self._columns["value"].chunks[0]
        # stretches of rows that lie in the same chunk, whatever their order
        edges = [0, *(np.flatnonzero(np.diff(rows // per_chunk)) + 1), len(rows)]
        for start, stop in pairwise(edges):
            index = int(rows[start]) // per_chunk
            block = self._chunk(index)[(slice(None), *rest)]
            found[start:stop] = block[rows[start:stop] - index * per_chunk]
        return found

    def _chunk(self, index: int) -> np.ndarray:
        """Frames of a chunk; the last one is kept, so that a loop over frames decodes each chunk once."""
        if self._cached is None or self._cached[0] != index:
            self._cached = None
            self._cached = (index, self._read("value", index))
        return self._cached[1]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)

    def __repr__(self) -> str:
        return f"Series({self.name}, {list(self.shape)}, {self.dtype})"


class BiasRecord:
    """What a trajectory holds of one bias.

    Attributes:
        name: name of the bias.
        snapshots: table name -> `Series` [T, ...], its values along the run.
    """

    def __init__(self, folder: Path, snapshots: dict[str, Series]) -> None:
        self.name = folder.name
        self.snapshots = snapshots
        self._folder = folder

    @property
    def attrs(self) -> dict[str, Any]:
        """Type, grid and settings of the bias."""
        return read_attributes(self._folder)

    @property
    def tables(self) -> dict[str, np.ndarray]:
        """The newest tables on the grid, read now."""
        return {folder.name: StoredArray(folder).read_all() for folder in _arrays(self._folder)}

    def table_attrs(self, table: str) -> dict[str, Any]:
        """Attributes of one table."""
        return read_attributes(self._folder / check_name(table))

    def __repr__(self) -> str:
        tables = ", ".join(folder.name for folder in _arrays(self._folder))
        return f"BiasRecord({self.name}: tables {tables or 'none'}; snapshots {', '.join(self.snapshots) or 'none'})"


def _arrays(group: Path) -> list[Path]:
    """Folders of the whole arrays in a group, half-written ones left out."""
    return sorted(file.parent for file in group.glob("*/.zarray") if not file.parent.name.startswith("."))


class Trajectory:
    """A trajectory on disk, read lazily; the run may still be writing it.

    `trajectory["name"]` is the `Series` of an observable. What is seen are the frames committed when it was opened;
    `refresh` looks again.

    Args:
        path: the folder `NAME.zarr`.

    Raises:
        TrajectoryError: missing, not a trajectory, nothing written yet, cut off, or of a newer layout.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._series: dict[str, Series] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take over the frames committed since; series that were handed out before see them too."""
        committed = read_layout(self.path)
        while True:
            try:
                self._take_over(committed)
                return
            except TrajectoryError:
                # a resume that truncates has lowered the counts first: only unchanged counts mean damage
                before, committed = committed, read_layout(self.path)
                if committed == before:
                    raise

    def _take_over(self, committed: dict[str, int]) -> None:
        for name, count in committed.items():
            if name in self._series:
                self._series[name]._rebase(count)
            else:
                self._series[name] = Series(self.path, name, count)
        for name in set(self._series) - set(committed):
            self._series.pop(name)._rebase(0)

    @property
    def header(self) -> dict[str, Any]:
        """What the run recorded about itself: parameter names, settings, script, seed, versions..."""
        return read_json(self.path / HEADER / ".zattrs")

    @property
    def observables(self) -> list[str]:
        """Names of the observables that have frames."""
        return sorted(name.split("/", 1)[1] for name in self._series if name.startswith("observables/"))

    def __getitem__(self, name: str) -> Series:
        if f"observables/{name}" not in self._series:
            listed = ", ".join(map(repr, self.observables)) or "none yet"
            raise TrajectoryError(f"{self.path} has no observable {name!r}; it has {listed}")
        return self._series[f"observables/{name}"]

    def __contains__(self, name: object) -> bool:
        return f"observables/{name}" in self._series

    def __iter__(self) -> Iterator[str]:
        return iter(self.observables)

    @property
    def positions(self) -> Series | None:
        """Positions [T, W, n], or None if none were recorded."""
        return self._series.get(_POSITION)

    @property
    def velocities(self) -> Series | None:
        """Velocities [T, W, n], or None if none were recorded."""
        return self._series.get(_VELOCITY)

    @property
    def bias_names(self) -> list[str]:
        """Names of the biases."""
        return sorted(file.parent.name for file in (self.path / BIASES).glob("*/.zgroup"))

    def bias(self, name: str) -> BiasRecord:
        """Attributes, newest tables and snapshots of a bias."""
        if name not in self.bias_names:
            listed = ", ".join(map(repr, self.bias_names)) or "none"
            raise TrajectoryError(f"{self.path} has no bias {name!r}; it has {listed}")
        start = f"{BIASES}/{name}/snapshots/"
        found = {key[len(start) :]: series for key, series in sorted(self._series.items()) if key.startswith(start)}
        return BiasRecord(self.path / BIASES / name, found)

    @property
    def steps(self) -> int:
        """The last committed step of all series; 0 without frames."""
        return max((series.last_step for series in self._series.values()), default=0)

    def __repr__(self) -> str:
        particles = [series.name for series in (self.positions, self.velocities) if series is not None]
        listed = ", ".join([*particles, *self.observables])
        return f"Trajectory({str(self.path)!r}, steps={self.steps}: {listed or 'no frames yet'})"
