"""Growing arrays of a trajectory: frames gather in memory and are written as whole chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nnsim.errors import InputError
from nnsim.files import json_bytes, remove, replace_file
from nnsim.trajectory.layout import COLUMNS, StoredArray, missing_zarr, read_json

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
        self._metadata: dict[str, Any] | None = None

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
        column._metadata = read_json(folder / ".zarray")
        column._resize(count)
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
        """Bring the buffered frames to the disk: their chunk, then how many there are; replacing files atomically."""
        if self.on_disk == self.count:
            return
        if self._metadata is None:
            shape = self.buffer.shape
            self._metadata = create_array(self.folder, (0, *shape[1:]), shape, self.buffer.dtype)
        if self.buffer[0].size:
            self.buffer[self.count - self.start :] = missing_value(self.buffer.dtype)
            self.touched.add(write_chunk(self.folder, self.start // len(self.buffer), self.buffer))
        self._resize(self.count)
        self.on_disk = self.count
        if not self.room:
            self.start = self.count

    def _resize(self, count: int) -> None:
        assert self._metadata is not None
        self._metadata["shape"] = [count, *self.buffer.shape[1:]]
        write_metadata(self.folder, self._metadata)
        self.touched.add(self.folder / ".zarray")


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


def create_array(folder: Path, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype) -> dict[str, Any]:
    """Make an empty zarr array, replacing one that is there; returns its metadata.

    The checksum finds bits that went bad; level 1, since noise hardly compresses. Other programs, which do not look for
    the files of chunks, get no plausible numbers in place of a lost one.
    """
    remove(folder)
    folder.mkdir()
    metadata = {
        "zarr_format": 2,
        "shape": list(shape),
        "chunks": [max(size, 1) for size in chunks],
        "dtype": dtype.str,
        "compressor": _codec().get_config(),
        "fill_value": {"f": "NaN", "c": ["NaN", 0.0]}.get(dtype.kind, missing_value(dtype)),
        "order": "C",
        "filters": None,
        "dimension_separator": ".",
    }
    write_metadata(folder, metadata)
    return metadata


def write_metadata(folder: Path, metadata: dict[str, Any]) -> None:
    """Replace the metadata of an array atomically."""
    path = folder / ".zarray"
    text = json_bytes(path, metadata)
    replace_file(path, lambda file: file.write(text), durable=False)


def write_chunk(folder: Path, index: int, values: np.ndarray) -> Path:
    """Replace a whole chunk of an array, split along its first axis only, atomically; returns its file.

    Written here and not by zarr, which takes ten times as long for a chunk of small numbers; zarr reads it.
    """
    path = StoredArray.chunk_name(folder, index, values.ndim)
    content = _codec().encode(np.ascontiguousarray(values))
    replace_file(path, lambda file: file.write(content), durable=False)
    return path


def write_array(folder: Path, array: np.ndarray) -> None:
    """Make an array of a single chunk, replacing one that is there."""
    create_array(folder, array.shape, array.shape, array.dtype)
    if array.size:
        write_chunk(folder, 0, array)


def _codec() -> Any:
    try:
        from numcodecs import Zstd  # type: ignore[import-untyped]
    except ImportError:
        raise missing_zarr() from None
    return Zstd(level=1, checksum=True)


def missing_value(dtype: np.dtype) -> Any:
    """What stands for a number that is missing: NaN, -1, the largest of unsigned ones, False."""
    match dtype.kind:
        case "f" | "c":
            return np.nan
        case "i":
            return -1
        case "u":
            return int(np.iinfo(dtype).max)
    return False
