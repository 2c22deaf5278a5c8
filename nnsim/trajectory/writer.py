"""Writing a trajectory: frames are buffered, written in whole chunks and committed at a flush.

Order is what keeps a killed run readable. A kill leaves arrays of unequal length. Hence a flush writes and fsyncs all
frames first and, last, the `committed` number of frames of each series in the record (`trajectory_record`), one small
file that is replaced atomically. Readers stop there; resume truncates to the counts of the checkpoint, which are never
above it.
"""

from __future__ import annotations

import getpass
import os
import shutil
import uuid
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from nnsim.describe import check_name
from nnsim.errors import InputError, TrajectoryError
from nnsim.files import PARTIAL, json_bytes, remove, remove_leftovers, sync, write_json, writing
from nnsim.lock import OutputLock, released_on_error
from nnsim.trajectory.columns import SeriesColumns, write_array, write_chunk
from nnsim.trajectory.layout import (
    BIASES,
    COLUMNS,
    GROUP,
    HEADER,
    STARTING,
    StoredArray,
    check_series,
    damaged,
    ensure_group,
    is_starting,
    looks_like_trajectory,
    read_attributes,
    unmarked_groups,
)
from nnsim.trajectory.record import (
    Record,
    RecordKeeper,
    check_metadata,
    checksum,
    metadata_files,
    read_record,
    state_of,
    write_record,
)

_SERIES_PARENTS = ("observables", "particles/parameters", f"{BIASES}/*/snapshots")


class TrajectoryWriter:
    """Writes a trajectory folder; made by `create` or `resume`.

    It has the only right to write there, from before anything is touched until it is closed or released.

    Attributes:
        path: the folder.
    """

    def __init__(self, lock: OutputLock, series: dict[str, SeriesColumns]) -> None:
        self.path = lock.output
        self._lock: OutputLock | None = lock
        self._root = lock.root
        self._series = series
        self._touched: set[Path] = set()
        self._record = RecordKeeper(lock.root, {name: one.count for name, one in series.items()})
        self._recorded = set(series)  # series whose metadata the record knows

    @classmethod
    def create(
        cls, path: OutputLock | Path | str, header: dict[str, Any], *, overwrite: bool = False
    ) -> TrajectoryWriter:
        """Begin a new trajectory.

        Args:
            path: folder to make, by custom `NAME.zarr`; parents are made too. A folder that holds nothing but the
                marker `.starting` counts as absent. Or the lock of it.
            header: what `Trajectory.header` gives: settings, parameter names, script, seed, versions... (JSON).
            overwrite: replace an existing trajectory; anything else is never replaced.

        Raises:
            TrajectoryError: the output exists, is being written, or cannot be written.
        """
        lock = OutputLock.of(path)
        with released_on_error(lock), writing(lock.output):
            root = lock.root
            _check_target(lock.output, root, overwrite)
            root.parent.mkdir(parents=True, exist_ok=True)
            for suffix in (f".new{PARTIAL}", f".old{PARTIAL}"):
                remove_leftovers(root.parent, prefix=f".{root.name}.", suffix=suffix)
            fresh = root.parent / f".{root.name}.{uuid.uuid4().hex}.new{PARTIAL}"
            try:
                _write_skeleton(fresh, header)
                _swap_in(fresh, root)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
            return cls(lock, {})

    @classmethod
    def resume(cls, path: OutputLock | Path | str, counts: dict[str, int]) -> TrajectoryWriter:
        """Continue a trajectory after the frames that a checkpoint knows of.

        Args:
            path: the folder, or the lock of it.
            counts: frames of each series, as `flush` gave them; a series that is absent is removed.

        Raises:
            TrajectoryError: no trajectory, a damaged one, one that is being written, or one with fewer frames than
                `counts`.
        """
        if not isinstance(path, OutputLock):
            read_record(Path(path))  # where there is nothing to resume, nothing is made
        lock = OutputLock.of(path)
        with released_on_error(lock):
            root = lock.root
            check_metadata(root)
            _refuse_links(root)
            counts = {check_series(name): int(count) for name, count in counts.items() if count}
            for name, count in counts.items():
                _check_frames(root / name, count)
            with writing(lock.output):
                writer = cls(lock, _truncated(root, counts))
                writer._record.commit(counts)
                return writer

    def append(self, series: str, step: int, time: float, value: np.ndarray) -> None:
        """Add one frame; it is copied, and reaches the disk with its chunk or at the next flush.

        Args:
            series: `observables/NAME`, `particles/parameters/position` (or `velocity`), or
                `nnsim/bias/NAME/snapshots/TABLE`.
            step: step of the simulation.
            time: time of the simulation, in reduced units.
            value: the frame, [...]; every frame of a series has the shape and type of its first.

        Raises:
            InputError: a name that is no safe file name, or a frame unlike the first.
            TrajectoryError: the disk is full or fails; what is committed stays readable.
        """
        self.extend(series, np.array([step]), np.array([time]), np.asarray(value)[None])

    def extend(self, series: str, steps: np.ndarray, times: np.ndarray, values: np.ndarray) -> None:
        """Add T frames, as `append` for each.

        Args:
            series: as of `append`.
            steps: of the simulation, [T], int64; T at least 1.
            times: of the simulation, [T], in reduced units.
            values: the frames, [T, ...].

        Raises:
            InputError, TrajectoryError: as `append`; of frames that do not fit the first none is added.
        """
        self._require_open()
        values = np.asarray(values)
        if series not in self._series:
            check_series(series)
            _storable(series, values)
            with writing(self.path):
                group, _, name = series.rpartition("/")
                folder = self._group(group) / name  # the series itself is nothing to a reader before its first commit
                folder.mkdir(exist_ok=True)
                write_json(folder / ".zgroup", GROUP)
                self._series[series] = SeriesColumns.new(folder, values[0])
        with writing(self.path):
            self._series[series].extend(series, steps, times, values)

    def put(self, path: str, array: np.ndarray, attrs: dict[str, Any] | None = None) -> None:
        """Replace one array atomically, such as the newest table of a bias.

        Args:
            path: `nnsim/bias/NAME/TABLE`.
            array: any shape; stored as a single chunk.
            attrs: attributes of the array (JSON), left as they are if None.
        """
        self._require_open()
        match path.split("/"):
            case ["nnsim", "bias", name, table] if table != "snapshots":
                check_name(name)
                check_name(table)
            case _:
                raise InputError(f"put: {path!r} must be nnsim/bias/NAME/TABLE, and TABLE not 'snapshots'; rename it")
        array, folder = _storable(path, np.asarray(array)), self._root / path
        with writing(self.path):
            if not _same_array(folder, array):
                self._put_new(folder, array)
            elif array.size:
                write_chunk(folder, 0, array)
            if attrs is not None:
                self._write_attributes(folder, attrs)
        self._touched |= {folder / ".zarray"}
        if array.size:
            self._touched.add(StoredArray.chunk_name(folder, 0, array.ndim))

    def _put_new(self, folder: Path, array: np.ndarray) -> None:
        """Make the array aside and rename it, so that no reader finds metadata without data."""
        parent = self._group(folder.parent.relative_to(self._root).as_posix())
        fresh = parent / f".{folder.name}.{uuid.uuid4().hex}{PARTIAL}"
        try:
            write_array(fresh, array)
            inside = folder.relative_to(self._root).as_posix()
            coming = {f"{inside}/{name}": state_of(fresh, name, f"{inside}/{name}") for name in metadata_files(fresh)}
            self._record.announce(coming, gap=True)
            if folder.exists():
                remove(folder)
            fresh.rename(folder)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    def _group(self, group: str) -> Path:
        """Make a group that the record knows."""
        mark = checksum(".zgroup", json_bytes(self._root / group, GROUP))
        if missing := unmarked_groups(self._root, group):
            self._record.announce(dict.fromkeys(missing, mark))
        return ensure_group(self._root, group)

    def _write_attributes(self, folder: Path, attrs: dict[str, Any]) -> None:
        path = folder / ".zattrs"
        name = path.relative_to(self._root).as_posix()
        self._record.announce({name: checksum(name, json_bytes(path, attrs))})
        write_json(path, attrs)

    def set_attrs(self, group: str, attrs: dict[str, Any]) -> None:
        """Add to, or replace, attributes (JSON) of `parameters/nnsim` (the header) or of `nnsim/bias/NAME`."""
        self._require_open()
        match group.split("/"):
            case ["parameters", "nnsim"]:
                pass
            case ["nnsim", "bias", name]:
                check_name(name)
            case _:
                raise InputError(f"set_attrs: {group!r} must be {HEADER} or {BIASES}/NAME; choose one of them")
        with writing(self.path):
            folder = self._group(group)
            self._write_attributes(folder, {**read_attributes(folder), **attrs})

    def flush(self) -> dict[str, int]:
        """Write all buffered frames, then the committed counts; returns these, for the checkpoint.

        What the counts promise is fsynced before they are written, and they before a checkpoint refers to them: also
        after a power cut the frames of a checkpoint are there. It costs about 0.3 ms a file, once a checkpoint.
        """
        self._require_open()
        counts = {name: series.count for name, series in sorted(self._series.items()) if series.count}
        with writing(self.path):
            for series in self._series.values():
                for column in series.columns:
                    column.write()
                    self._touched |= column.touched
                    column.touched = set()
            self._sync()
            for name in sorted(counts.keys() - self._recorded):
                self._record.add(self._root / name)
                self._recorded.add(name)
            self._record.commit(counts)
        return dict(counts)

    def _sync(self) -> None:
        folders = {folder for file in self._touched for folder in _folders_up_to(self._root, file)}
        for entry in [*self._touched, *folders]:
            if entry.exists():  # a table of another shape may have replaced it
                sync(entry)
        self._touched = set()

    def close(self) -> None:
        """Flush, and let others write there; this may be called again."""
        if self._lock is not None:
            self.flush()
            self.release()

    def release(self) -> None:
        """Let others write there without a flush, as if this process were killed now."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _require_open(self) -> None:
        if self._lock is None:
            raise TrajectoryError(
                f"{self.path}: this writer was closed, and another may write there now; go on with "
                "TrajectoryWriter.resume"
            )


def _truncated(root: Path, counts: dict[str, int]) -> dict[str, SeriesColumns]:
    """Cut what is on disk to these counts."""
    gone = [folder for folder in _series_folders(root) if folder.relative_to(root).as_posix() not in counts]
    # before anything is removed, so that no reader looks for frames that are going to vanish
    write_record(root, _without(read_record(root), [folder.relative_to(root).as_posix() for folder in gone], counts))
    for entry in [*root.rglob(f"*{PARTIAL}")]:
        remove(entry)
    for folder in gone:
        shutil.rmtree(folder)
    return {name: SeriesColumns.truncated(root / name, count) for name, count in counts.items()}


def _without(record: Record, series: list[str], counts: dict[str, int]) -> Record:
    """The record with other counts, and without what is known of some series."""
    if record.checksums is None:
        return Record(counts, None)
    starts = tuple(f"{name}/" for name in series)
    return Record(counts, {name: states for name, states in record.checksums.items() if not name.startswith(starts)})


def _storable(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "biufc":
        raise InputError(f"{name}: values of type {array.dtype} cannot be stored; use numbers")
    return array


def _same_array(folder: Path, array: np.ndarray) -> bool:
    if not (folder / ".zarray").is_file():
        return False
    stored = StoredArray(folder)
    return stored.shape == array.shape and stored.dtype == array.dtype


def _folders_up_to(root: Path, file: Path) -> Iterator[Path]:
    """Folders from that of a file up to the root, whose names must be durable too."""
    for folder in file.parents:
        yield folder
        if folder == root:
            return


def _series_folders(root: Path) -> list[Path]:
    folders = [folder for parent in _SERIES_PARENTS for folder in root.glob(f"{parent}/*")]
    return [folder for folder in folders if (folder / ".zgroup").exists()]  # others are of other programs


def _refuse_links(root: Path) -> None:
    """Nothing that was given to somebody may lead a writer, who also deletes, out of its folder."""
    for entry in root.rglob("*"):
        if entry.is_symlink():
            raise TrajectoryError(
                f"{entry} is a link, and a trajectory that goes on holds none; put what it points to in its place"
            )


def _check_frames(folder: Path, count: int) -> None:
    for column in COLUMNS:
        stored = StoredArray(folder / column)
        if stored.shape[0] < count:
            raise damaged(folder / column, f"{stored.shape[0]} frames where the checkpoint has {count}")


def _check_target(path: Path, root: Path, overwrite: bool) -> None:
    """Refuse what must not be replaced."""
    if not os.path.lexists(root) or is_starting(root):
        return
    if not looks_like_trajectory(root):
        raise TrajectoryError(
            f"{path} exists and is not a trajectory of nnsim, so it is left alone; choose another output"
        )
    if not overwrite:
        raise TrajectoryError(
            f"{path} exists already; replace it with --overwrite, continue it with --resume, or choose another output"
        )


def _write_skeleton(folder: Path, header: dict[str, Any]) -> None:
    """Make the groups of an empty trajectory."""
    for group in ("h5md/author", "h5md/creator", "particles/parameters", "observables", HEADER, BIASES):
        ensure_group(folder, group)
    write_json(folder / "h5md" / ".zattrs", {"version": [1, 1]})
    write_json(folder / "h5md" / "author" / ".zattrs", {"name": _author()})
    write_json(folder / "h5md" / "creator" / ".zattrs", {"name": "nnsim", "version": _version()})
    write_json(folder / HEADER / ".zattrs", header)
    RecordKeeper(folder, {}).commit({})


def _swap_in(fresh: Path, root: Path) -> None:
    """Rename a finished folder to its place; what stood there is removed last."""
    old = None
    if is_starting(root):
        (root / STARTING).unlink(missing_ok=True)  # a rename replaces an empty folder at once
    elif os.path.lexists(root):
        old = root.parent / f".{root.name}.{uuid.uuid4().hex}.old{PARTIAL}"
        root.rename(old)
    try:
        fresh.rename(root)
    except OSError:
        if old is not None:
            old.rename(root)
        raise
    sync(root.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _author() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run as a user without a name
        return "unknown"


def _version() -> str:
    try:
        return version("nnsim")
    except PackageNotFoundError:
        return "unknown"
