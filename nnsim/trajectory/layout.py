"""The layout of a trajectory folder, which its writer and its reader share.

Imports neither torch nor zarr, so that `nnsim info` answers at once and the engine runs where zarr is missing.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nnsim import files
from nnsim.describe import check_name
from nnsim.errors import InputError, TrajectoryError, shown
from nnsim.files import write_json

LAYOUT_VERSION = 1
"""Version of the layout of a trajectory folder; readers refuse newer ones."""
STARTING = ".starting"
"""Marker of a run that has not created its trajectory yet."""
HEADER = "parameters/nnsim"
BIASES = "nnsim/bias"
COLUMNS = ("value", "step", "time")
_ZSTD = {"id", "level", "checksum"}
_NUMBERS = tuple("biufc")


def import_zarr() -> ModuleType:
    """Import zarr when it is first needed."""
    try:
        import zarr
    except ImportError:
        raise missing_zarr() from None
    return zarr


def missing_zarr() -> TrajectoryError:
    """Make the error for an installation without zarr, or numcodecs that comes with it."""
    return TrajectoryError("trajectories need the package zarr, which is missing; pip install 'zarr>=3.1'")


# ------------------------------------------------------------------------------------------- groups and attributes


def read_json(path: Path) -> dict[str, Any]:
    """Read a small JSON file of a trajectory.

    Raises:
        TrajectoryError: it is missing or damaged.
    """
    try:
        return files.read_json(path, retries=3)
    except (OSError, ValueError) as error:
        raise damaged(path, "missing" if isinstance(error, FileNotFoundError) else "unreadable") from error


def damaged(path: Path, what: str) -> TrajectoryError:
    """Make the error for a trajectory that was cut off or changed."""
    return TrajectoryError(
        f"{path}: {what}: the trajectory is cut off or damaged; restore it from a copy, or run again with another "
        "--output"
    )


GROUP = {"zarr_format": 2}
"""What a .zgroup holds."""


def ensure_group(root: Path, group: str) -> Path:
    """Make the folder of a group and mark it and its parents, below `root`, as zarr groups."""
    root.mkdir(exist_ok=True)
    for mark in unmarked_groups(root, group):
        (root / mark).parent.mkdir(exist_ok=True)
        write_json(root / mark, GROUP)
    return root / group


def unmarked_groups(root: Path, group: str) -> list[str]:
    """The .zgroup files that a group and its parents, below `root`, still lack; paths below `root`."""
    parts = group.split("/")
    marks = [Path(*parts[:length], ".zgroup").as_posix() for length in range(len(parts) + 1)]
    return [mark for mark in marks if not (root / mark).exists()]


def read_attributes(folder: Path) -> dict[str, Any]:
    """Attributes of a group or an array; empty where none were set."""
    path = folder / ".zattrs"
    return read_json(path) if path.exists() else {}


def is_starting(path: Path | str) -> bool:
    """Whether `path` is the folder of a run that has not written anything yet: empty but for the marker."""
    folder = Path(path)
    return folder.is_dir() and {entry.name for entry in folder.iterdir()} <= {STARTING}


def looks_like_trajectory(path: Path) -> bool:
    """Whether the folder has the groups that only nnsim makes, however damaged it may be inside."""
    return (path / ".zgroup").is_file() and (path / "h5md").is_dir() and (path / "nnsim").is_dir()


# --------------------------------------------------------------------------------------------------------- names


def stored_name(folder: Path) -> str:
    """Return the name of the folder of a bias or table, which obeys the rule of names that are written."""
    try:
        return check_name(folder.name)
    except InputError:
        raise damaged(folder.parent, f"nothing in it is called {shown(folder.name)}") from None


def folder_name(name: str) -> str:
    """What a name has in common with all that are one folder on some file systems.

    On those of macOS and Windows letters differ neither in case nor in how an accent is written.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def check_series(series: str) -> str:
    """Return the path of a series, or raise `InputError` unless it is one that the layout has."""
    match series.split("/"):
        case ["particles", "parameters", "position" | "velocity"]:
            return series
        case ["observables", name]:
            check_name(name)
            return series
        case ["nnsim", "bias", name, "snapshots", table]:
            check_name(name)
            check_name(table)
            return series
    raise InputError(
        f"series {series!r} is not one of particles/parameters/position, particles/parameters/velocity, "
        "observables/NAME, nnsim/bias/NAME/snapshots/TABLE with names without /; rename it"
    )


# --------------------------------------------------------------------------------------------------------- arrays


def check_codecs(folder: Path, metadata: dict[str, Any]) -> None:
    """Refuse an array stored in another way than nnsim's before a byte of it is decoded: some codecs run code.

    Raises:
        TrajectoryError: a filter, another compressor than zstd, or values that are no numbers.
    """
    if not {"compressor", "filters", "dtype"} <= set(metadata):
        raise damaged(folder / ".zarray", "unreadable")
    compressor, filters, kind = (metadata[name] for name in ("compressor", "filters", "dtype"))
    if filters:
        found = f"filters {shown(filters)}"
    elif not isinstance(compressor, dict) or compressor.get("id") != "zstd" or set(compressor) - _ZSTD:
        found = f"compressor {shown(compressor)}"
    elif not isinstance(kind, str) or kind.lstrip("<>|=")[:1] not in _NUMBERS:
        found = f"values of type {shown(kind)}"
    else:
        return
    raise TrajectoryError(
        f"{folder} has {found}, but nnsim stores numbers by zstd without filters and runs no other codec; take the "
        "trajectory as nnsim run wrote it"
    )


class StoredArray:
    """A zarr array [T, ...] on disk that is split into chunks along its first axis only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handle: Any = None
        self._read_metadata()

    def _read_metadata(self) -> None:
        metadata = read_json(self.folder / ".zarray")
        check_codecs(self.folder, metadata)
        try:
            self.shape = tuple(int(size) for size in metadata["shape"])
            self.chunks = tuple(int(size) for size in metadata["chunks"])
            self.dtype = np.dtype(metadata["dtype"])
        except (KeyError, TypeError, ValueError):
            raise damaged(self.folder / ".zarray", "unreadable") from None

    @staticmethod
    def chunk_name(folder: Path, index: int, axes: int) -> Path:
        """File of a chunk: its number along the first axis, 0 along the others."""
        return folder / ".".join([str(index), *["0"] * (axes - 1)])

    def chunk_path(self, index: int) -> Path:
        """File of the chunk that holds frames from `index * chunks[0]` on."""
        return self.chunk_name(self.folder, index, len(self.chunks))

    def read(self, index: int, stop: int) -> np.ndarray:
        """Frames of one chunk up to frame `stop`, [frames, ...]."""
        start = index * self.chunks[0]
        stop = min(stop, start + self.chunks[0])
        # zarr would silently give the fill value for a chunk whose file is missing
        if 0 not in self.shape[1:] and not self.chunk_path(index).is_file():
            raise damaged(self.chunk_path(index), "missing")
        return self._guarded(slice(start, stop), stop)

    def missing(self, frames: int | None = None) -> list[Path]:
        """Files of chunks that are not there, of the first `frames` frames or of an array that is a single chunk."""
        if 0 in self.shape[1:] or (frames is None and 0 in self.shape):
            return []
        chunks = 1 if frames is None else -(-frames // self.chunks[0])
        there = set(os.listdir(self.folder)) if self.folder.is_dir() else set()
        return [path for path in map(self.chunk_path, range(chunks)) if path.name not in there]

    def read_all(self) -> np.ndarray:
        """Read the whole of an array that is a single chunk."""
        if 0 not in self.shape and not self.chunk_path(0).is_file():
            raise damaged(self.chunk_path(0), "missing")
        return self._guarded(..., 0)

    def _guarded(self, selection: Any, frames: int) -> np.ndarray:
        zarr = import_zarr()
        try:
            if self._handle is None or (frames and self._handle.shape[0] < frames):
                check_codecs(self.folder, read_json(self.folder / ".zarray"))  # which zarr is going to read anew
                store = zarr.storage.LocalStore(self.folder, read_only=True)
                self._handle = zarr.open_array(store, mode="r", zarr_format=2)
            if frames and self._handle.shape[0] < frames:
                raise damaged(self.folder, f"{self._handle.shape[0]} frames where {frames} were written")
            return np.asarray(self._handle[selection])
        except (OSError, RuntimeError, ValueError, EOFError) as error:
            raise damaged(self.folder, f"a chunk cannot be decoded ({error})") from error
