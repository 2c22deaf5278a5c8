"""The record of a trajectory: how many frames are committed, and the checksum of every file of metadata.

It is one small file, `nnsim/.zattrs`, that is replaced atomically and has a checksum of itself. The checksums are of
all bytes of `.zgroup` and `.zattrs`, and of what a `.zarray` says, but for the length of the arrays that grow: that is
ahead of the committed counts while a run writes.

A file is replaced only after the record knows both what is there and what comes; at the next commit only what is there
remains. So the files fit the record at every moment, also after a kill, and a reader that finds one which does not fit
looks whether the record has changed meanwhile. If it has not, the file is damaged.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnsim.errors import InputError, TrajectoryError, shown
from nnsim.files import PARTIAL, write_json
from nnsim.trajectory.layout import COLUMNS, HEADER, LAYOUT_VERSION, check_series, damaged, is_starting, read_json

RECORD = "nnsim/.zattrs"
METADATA = (".zgroup", ".zattrs", ".zarray")
ABSENT = "absent"
"""State of a file that is not there, in place of a checksum."""
# What format 2 of Zarr puts into a .zarray
_ARRAY_KEYS = (
    *("zarr_format", "shape", "chunks", "dtype", "compressor"),
    *("fill_value", "order", "filters", "dimension_separator"),
)
_KEYS = {"layout", "committed", "checksums", "checksum"}


@dataclass(frozen=True)
class Record:
    """What the record says.

    Attributes:
        committed: number of frames of each series that readers may rely on.
        checksums: path of each file of metadata in the trajectory -> its checksum, or several while it is replaced, of
            which one may be `ABSENT`; None in a trajectory of version 0.1.
    """

    committed: dict[str, int]
    checksums: dict[str, list[str]] | None


def read_record(path: Path) -> Record:
    """Check that `path` is a trajectory of a known layout and read its record."""
    _check_folder(path)
    content = read_json(path / RECORD)
    layout, committed, checksums = (content.get(key) for key in ("layout", "committed", "checksums"))
    fits = "checksum" not in content or content["checksum"] == _checksum_of(content)
    if isinstance(layout, int) and layout > LAYOUT_VERSION:
        doubt = "" if fits else f", unless {RECORD} is damaged, whose checksum is another"
        raise TrajectoryError(
            f"{path} has layout version {layout}, this nnsim reads up to {LAYOUT_VERSION}; update nnsim to read it"
            + doubt
        )
    if not fits:
        raise damaged(path / RECORD, "changed, it does not fit its own checksum")
    if not isinstance(layout, int) or not isinstance(committed, dict):
        raise damaged(path / RECORD, "layout or committed counts missing")
    if set(content) - _KEYS or ("checksum" in content) != isinstance(checksums, dict):
        raise damaged(path / RECORD, "not a record of nnsim")
    for name, count in committed.items():
        _check_committed(path, name, count)
    for name in checksums or ():
        _check_file(path, name)
    return Record(dict(committed), checksums if isinstance(checksums, dict) else None)


def _check_committed(path: Path, name: str, count: object) -> None:
    """Names of series become paths, so those in a file obey the rule of those that are written."""
    try:
        check_series(name)
    except InputError:
        raise damaged(path / RECORD, f"no series is called {shown(name)}") from None
    if type(count) is not int or count < 0:
        raise damaged(path / RECORD, f"{shown(count)} frames of {name}")


def _check_file(path: Path, name: str) -> None:
    """So do those of files."""
    parts = name.split("/")
    if parts[-1] not in METADATA or any(part in ("", ".", "..") for part in parts) or os.path.isabs(name):
        raise damaged(path / RECORD, f"no file of metadata is called {shown(name)}")


def _check_folder(path: Path) -> None:
    if not path.exists():
        raise TrajectoryError(f"{path} does not exist; check the path, or write it first with nnsim run")
    if not path.is_dir():
        raise TrajectoryError(f"{path} is a file, not a trajectory; give the folder NAME.zarr that nnsim run wrote")
    try:
        starting = is_starting(path)
    except OSError as error:
        raise TrajectoryError(f"cannot read {path}: {error.strerror}; change its permissions") from error
    if starting:
        raise TrajectoryError(f"{path}: the run has not written anything yet; wait a moment and try again")
    if not any((path / name).exists() for name in (".zgroup", ".zarray", "zarr.json", "nnsim")):
        raise TrajectoryError(f"{path} is not a zarr folder; give the folder NAME.zarr that nnsim run wrote")
    if not (path / "nnsim").is_dir():
        raise TrajectoryError(f"{path} is a zarr folder but not a trajectory of nnsim; give one that nnsim run wrote")


def write_record(root: Path, record: Record) -> None:
    """Replace the record."""
    content: dict[str, Any] = {"layout": LAYOUT_VERSION, "committed": record.committed}
    if record.checksums is not None:
        content["checksums"] = record.checksums
        content["checksum"] = _checksum_of(content)
    write_json(root / RECORD, content)


def check_metadata(root: Path, names: Iterable[str] | None = None) -> None:
    """Compare files of metadata, all of them or those named, with their checksums.

    Raises:
        TrajectoryError: one is lost or has changed.
    """
    record = read_record(root)
    while wrong := _misfit(root, record, names):
        before, record = record, read_record(root)
        if record == before:
            raise damaged(root / wrong[0], wrong[1])


def _misfit(root: Path, record: Record, names: Iterable[str] | None) -> tuple[str, str] | None:
    known = record.checksums or {}
    for name in known if names is None else [name for name in names if name in known]:
        state = state_of(root, name)
        if state not in known[name]:
            return name, "missing" if state == ABSENT else "changed, it does not fit its checksum"
    return None


def read_header(root: Path) -> dict[str, Any]:
    """What the run recorded about itself, checked."""
    check_metadata(root, [f"{HEADER}/.zattrs"])
    return read_json(root / HEADER / ".zattrs")


def opened_header(root: Path) -> dict[str, Any]:
    """The same of a trajectory that has not been opened: that it is one, and whole, is checked first."""
    read_record(root)
    check_metadata(root)
    return read_header(root)


# --------------------------------------------------------------------------------------------------------- checksums


def state_of(root: Path, name: str, final: str | None = None) -> str:
    """Checksum of a file of metadata, or `ABSENT`; `final` is its name in the trajectory if it is still elsewhere."""
    try:
        return checksum(final or name, (root / name).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT


def checksum(name: str, content: bytes) -> str:
    """Checksum of the content of a file of metadata, 8 hexadecimal digits."""
    if name.endswith(".zarray"):
        try:
            content = _canonical(_array_content(name, json.loads(content)))
        except (ValueError, TypeError, KeyError, AttributeError):
            return "unreadable"
    return f"{zlib.crc32(content):08x}"


def _array_content(name: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """What must not change in a .zarray, whatever version of zarr writes it anew."""
    content = {key: metadata[key] for key in _ARRAY_KEYS}
    if _grows(name):
        content["shape"] = content["shape"][1:]
    return content


def _grows(name: str) -> bool:
    series, _, column = name.removesuffix("/.zarray").rpartition("/")
    try:
        check_series(series)
    except InputError:
        return False
    return column in COLUMNS


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _checksum_of(record: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(_canonical({key: value for key, value in record.items() if key != 'checksum'})):08x}"


def metadata_files(root: Path) -> list[str]:
    """Paths, in the trajectory, of all files of metadata but the record; half-written things are left out."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(folder).relative_to(root)
        found += [(inside / name).as_posix() for name in METADATA if name in files]
    return [name for name in found if name != RECORD]


def foreign_files(root: Path) -> list[str]:
    """Paths, in the trajectory, of all files that are neither metadata nor chunks, nor half-written."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.endswith(PARTIAL))
        strange = [name for name in sorted(files) if not _is_ours(name)]
        found += [(Path(folder).relative_to(root) / name).as_posix() for name in strange]
    return found


def _is_ours(name: str) -> bool:
    return name in METADATA or name.endswith(PARTIAL) or re.fullmatch(r"\d+(\.\d+)*", name) is not None


class RecordKeeper:
    """Keeps the record of a trajectory that is being written.

    Args:
        root: the folder; what is there counts as right.
        committed: number of frames of each series.
    """

    def __init__(self, root: Path, committed: dict[str, int]) -> None:
        self._root, self._committed = root, committed
        self._states = {name: [state_of(root, name)] for name in metadata_files(root)}
        self._written: Record | None = None

    def announce(self, states: Mapping[str, str], *, gap: bool = False) -> None:
        """Enter what files of metadata are about to become; with a `gap`, they may be absent for a moment."""
        for name, state in states.items():
            known = self._states.get(name, [ABSENT])
            if state != known[-1] or gap:
                self._states[name] = [*dict.fromkeys([*known, *([ABSENT] if gap else [])]), state]
        self._write()

    def add(self, folder: Path) -> None:
        """Enter the files in a folder that no reader looks at before the next commit."""
        inside = folder.relative_to(self._root).as_posix()
        for name in metadata_files(folder):
            self._states[f"{inside}/{name}"] = [state_of(self._root, f"{inside}/{name}")]

    def commit(self, committed: dict[str, int]) -> None:
        """Write how many frames there are now, and what the files of metadata have become."""
        self._committed = dict(committed)
        for name, states in self._states.items():
            if len(states) > 1 and (now := state_of(self._root, name)) in states:  # what was announced may have failed
                self._states[name] = [now]
        self._states = {name: states for name, states in self._states.items() if states != [ABSENT]}
        self._write()

    def _write(self) -> None:
        record = Record(self._committed, {name: list(states) for name, states in sorted(self._states.items())})
        if record != self._written:
            write_record(self._root, record)
            self._written = record
