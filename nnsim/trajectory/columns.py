"""Growing arrays of a trajectory: frames gather in memory and are written as whole chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nnsim.errors import InputError
from nnsim.trajectory.layout import COLUMNS, StoredArray, check_codecs, import_zarr, read_json

CHUNK_BYTES = 4_000_000
MOST_FRAMES = 16384


def frames_per_chunk(frame_bytes: int) -> int:
    """Frames of so many bytes in one chunk: about 4 MB, at least 1 frame, at most 16384."""
    return min(max(CHUNK_BYTES // max(frame_bytes, 1), 1), MOST_FRAMES)


class Column:
    """A growing array [T, ...] on disk; the frames of its last, unfinished chunk stay in memory."""

    def __init__(self, folder: Path, buffer: np.ndarray, count: int = 0) -> None:
        self.folder, self.buffer, self.count = folder, buffer, count
        self.start = count - count % len(buffer)  # first frame of the buffer: writes are whole chunks, never merged
        self.on_disk = count
        self.touched: set[Path] = set()
        self._array: Any = None

    @classmethod
    def new(cls, folder: Path, frame: np.ndarray) -> Column:
        """Make an empty column for frames like this one; nothing is written yet."""
        return cls(folder, np.empty((frames_per_chunk(frame.nbytes), *frame.shape), frame.dtype))

    @classmethod
    def truncated(cls, folder: Path, count: int) -> Column:
        """Cut a column on disk to `count` frames; its last unfinished chunk is in memory again."""
        stored = StoredArray(folder)
        column = cls(folder, np.empty((stored.chunks[0], *stored.shape[1:]), stored.dtype), count)
        if count > column.start:
            column.buffer[: count - column.start] = stored.read(count // stored.chunks[0], count)
        column._open().resize((count, *stored.shape[1:]))
        column.touched.add(folder / ".zarray")
        return column

    @property
    def room(self) -> int:
        """How many frames the buffer can still take; none if it holds a whole chunk."""
        return self.start + len(self.buffer) - self.count

    def add(self, frames: np.ndarray) -> None:
        """Copy frames [T, ...] into the buffer, which must have room for them."""
        begin = self.count - self.start
        self.buffer[begin : begin + len(frames)] = frames
        self.count += len(frames)

    def write(self) -> None:
        """Bring the buffered frames to the disk; a file that exists is replaced atomically by zarr's LocalStore."""
        if self.on_disk == self.count:
            return
        array = self._open()
        array.resize((self.count, *self.buffer.shape[1:]))
        self.touched.add(self.folder / ".zarray")
        if self.buffer[0].size:
            array[self.start : self.count] = self.buffer[: self.count - self.start]
            self.touched.add(StoredArray.chunk_name(self.folder, self.start // len(self.buffer), self.buffer.ndim))
        self.on_disk = self.count
        if not self.room:
            self.start = self.count

    def _open(self) -> Any:
        if self._array is None and self.on_disk:
            self._array = open_array(self.folder)
        elif self._array is None:
            shape = self.buffer.shape
            self._array = create_array(self.folder, (0, *shape[1:]), shape, self.buffer.dtype)
        return self._array


class SeriesColumns:
    """Value, step and time of one recorded quantity; each has chunks of its own length."""

    def __init__(self, value: Column, step: Column, time: Column) -> None:
        self.columns = (value, step, time)

    @classmethod
    def new(cls, folder: Path, frame: np.ndarray) -> SeriesColumns:
        """Make an empty series for frames like this one."""
        frames = (frame, np.zeros((), np.int64), np.zeros((), np.float64))
        return cls(*(Column.new(folder / name, one) for name, one in zip(COLUMNS, frames, strict=True)))

    @classmethod
    def truncated(cls, folder: Path, count: int) -> SeriesColumns:
        """Cut a series on disk to `count` frames."""
        return cls(*(Column.truncated(folder / name, count) for name in COLUMNS))

    @property
    def count(self) -> int:
        """Number of frames."""
        return self.columns[0].count

    def extend(self, name: str, steps: np.ndarray, times: np.ndarray, frames: np.ndarray) -> None:
        """Add frames [T, ...] to all columns or, from where a full one cannot be written on, to none."""
        buffer = self.columns[0].buffer
        if frames.shape[1:] != buffer.shape[1:] or not np.can_cast(frames.dtype, buffer.dtype, "safe"):
            raise InputError(
                f"{name}: a frame of {frames.dtype}{list(frames.shape[1:])} after frames of {buffer.dtype}"
                f"{list(buffer.shape[1:])}; every frame must have the shape and type of the first"
            )
        self._write_full()  # only after a failed write, which is tried again
        done = 0
        while done < len(frames):
            upto = done + min(column.room for column in self.columns)
            for column, values in zip(self.columns, (frames, steps, times), strict=True):
                column.add(values[done:upto])
            self._write_full()
            done = upto

    def _write_full(self) -> None:
        for column in self.columns:
            if not column.room:
                column.write()


def create_array(folder: Path, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype) -> Any:
    """Make an empty zarr array, replacing one that is there."""
    zarr = import_zarr()
    from numcodecs import Zstd  # type: ignore[import-untyped]

    # A store of its own for each array: zarr then leaves the attributes of the groups above alone. The checksum finds
    # bits that went bad; level 1, since noise hardly compresses. Without write_empty_chunks an all-zero chunk would
    # have no file and could not be told from a lost one. Other programs, which do not look for the files of chunks, get
    # no plausible numbers in place of a lost one.
    return zarr.create_array(
        zarr.storage.LocalStore(folder),
        shape=shape,
        chunks=tuple(max(size, 1) for size in chunks),
        dtype=dtype,
        compressors=Zstd(level=1, checksum=True),
        fill_value=_fill_value(dtype),
        zarr_format=2,
        overwrite=True,
        config={"write_empty_chunks": True},
    )


def _fill_value(dtype: np.dtype) -> Any:
    """What stands for a number that is missing: NaN, -1, the largest of unsigned ones, False."""
    match dtype.kind:
        case "f" | "c":
            return np.nan
        case "i":
            return -1
        case "u":
            return np.iinfo(dtype).max
    return False


def open_array(folder: Path) -> Any:
    """Open a zarr array for writing."""
    check_codecs(folder, read_json(folder / ".zarray"))
    zarr = import_zarr()
    with zarr.config.set({"array.write_empty_chunks": True}):  # open_array has a `config`, but ignores it
        return zarr.open_array(zarr.storage.LocalStore(folder), mode="r+", zarr_format=2)
