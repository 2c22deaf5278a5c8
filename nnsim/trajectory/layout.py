"""Files: atomic replacement, clear errors, and the layout of a trajectory folder that its writer and reader share.

Imports neither torch nor zarr, so that `nnsim info` answers at once and the engine runs where zarr is missing.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from nnsim.errors import InputError, TrajectoryError, shown

LAYOUT_VERSION = 1
"""Version of the layout of a trajectory folder; readers refuse newer ones."""
STARTING = ".starting"
"""Marker of a run that has not created its trajectory yet."""
PARTIAL = ".partial"
"""End of the name of everything half-written, ours and that of zarr's LocalStore."""
HEADER = "parameters/nnsim"
BIASES = "nnsim/bias"
COLUMNS = ("value", "step", "time")
_ZSTD = {"id", "level", "checksum"}
_NUMBERS = tuple("biufc")

_REMEDIES = {
    errno.ENOSPC: "free some space, then continue with --resume",
    errno.EDQUOT: "free some of your quota, then continue with --resume",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), then continue with --resume",
    errno.EACCES: "change its permissions or choose another output",
    errno.EPERM: "change its permissions or choose another output",
    errno.EROFS: "choose another output, on a disk that can be written",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a part of that path is a file; choose another output",
    errno.EEXIST: "a part of that path is a file; choose another output",
}


def os_error_line(path: Path, error: OSError) -> str:
    """One line that says what could not be written, why, and what to do."""
    remedy = _REMEDIES.get(error.errno or 0, "check the disk or choose another output")
    return f"cannot write {path}: {error.strerror or error}; {remedy}"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an `OSError`, such as a full disk, into one clear line about `path`."""
    try:
        yield
    except OSError as error:
        raise TrajectoryError(os_error_line(path, error)) from error


def import_zarr() -> ModuleType:
    """Import zarr when it is first needed."""
    try:
        import zarr
    except ImportError:
        raise TrajectoryError("trajectories need the package zarr, which is missing; pip install 'zarr>=3.1'") from None
    return zarr


# ---------------------------------------------------------------------------------------------- atomic replacement


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, from the page cache to the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, write: Callable[[BinaryIO], object], *, previous: Path | None = None) -> None:
    """Replace `path` by what `write` puts into a file; at every moment the old or the new content is there, whole.

    What is replaced is kept as `previous`, if that is given. Where the file system has no hard links, only that file is
    there for the moment between two renames.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            _keep(path, previous)
        partial.replace(path)
        sync(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _keep(path: Path, previous: Path) -> None:
    """Give a file a second name, which is taken from the file that had it."""
    linked = previous.with_name(f".{previous.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        os.link(path, linked)
    except OSError:
        path.replace(previous)
        return
    linked.replace(previous)
    linked.unlink(missing_ok=True)  # a rename leaves it where both are the same file already


def remove_leftovers(folder: Path, *, prefix: str, suffix: str) -> None:
    """Remove what killed writers left in `folder`: files and folders of such a name."""
    for entry in folder.iterdir():
        if entry.name.startswith(prefix) and entry.name.endswith(suffix):
            remove(entry)


def remove(path: Path) -> None:
    """Remove a file or a whole folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------- groups and attributes


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace a small JSON file; numpy scalars and arrays become numbers and lists."""
    text = json_bytes(path, content)
    replace_file(path, lambda file: file.write(text))


def json_bytes(path: Path, content: dict[str, Any]) -> bytes:
    """What `write_json` writes to `path`."""
    try:
        return json.dumps(content, indent=1, default=_plain).encode()
    except (TypeError, ValueError) as error:
        raise InputError(f"{path.parent.name}: not storable as JSON ({error}); give numbers, strings, lists") from None


def _plain(value: object) -> object:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} {value!r}")


def read_json(path: Path) -> dict[str, Any]:
    """Read a small JSON file; try again for a moment, as some file systems do not show a replacement at once."""
    for attempt in range(4):
        try:
            content = json.loads(path.read_bytes())
            if isinstance(content, dict):
                return content
            reason = "not an object"
        except (OSError, ValueError) as error:
            reason = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
        if attempt < 3:
            time.sleep(0.01)
    raise damaged(path, reason)


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


def check_name(name: str) -> str:
    """Return the name of an observable, bias or table, or raise `InputError` if it is no safe file name."""
    unsafe = (
        not name
        or not name.isprintable()
        or any(character in '/\\<>:"|?*' for character in name)
        or name.startswith((".", " "))
        or name.endswith((".", " "))
        or len(name.encode()) > 200
    )
    if unsafe:
        raise InputError(
            f"name {name!r} cannot be stored; use letters, digits, spaces and _-+=,.()[] only, no / and no leading dot"
        )
    return name


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
