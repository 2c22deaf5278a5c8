"""Writing files: each appears whole or not at all, and replaces nothing but what nnsim has made."""

from __future__ import annotations

import contextlib
import csv
import errno
import gzip
import io
import json
import mmap
import os
import re
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from nnsim.errors import InputError, NNSimError, TrajectoryError, require_flag, require_path
from nnsim.running.interrupt import Interrupt, InterruptedRun

PARTIAL = ".partial"
"""End of the name of everything half-written, ours and that of zarr's LocalStore."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
MARK = "made by nnsim"
"""Stands in the metadata of pictures and films, and tells them from those of other programs."""
# What files begin with that can carry the mark; in others, as a script that quotes it, it means nothing.
_HEADS = (b"\x89PNG", b"%PDF", b"%!PS", b"<?xml", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")
_FILM = slice(4, 8), b"ftyp"
_ZIPPED, _MOST_UNZIPPED = b"\x1f\x8b", 10**8  # an .svgz
_FOREIGN = (b"/PTEX.", b"inkscape:")  # of a paper that includes such a picture, and of one that was drawn on
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


def replace_file(
    path: Path, write: Callable[[BinaryIO], object], *, previous: Path | None = None, durable: bool = True
) -> None:
    """Replace `path` by what `write` puts into a file; at every moment the old or the new content is there, whole.

    What is replaced is kept as `previous`, if that is given. Where the file system has no hard links, only that file is
    there for the moment between two renames. After a power cut it is there if `durable`, else if the caller has synced
    file and folder.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if previous is not None and path.exists():
            _keep(path, previous)
        partial.replace(path)
        if durable:
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


# ------------------------------------------------------------------------------------------------ outputs of commands


@contextmanager
def whole(
    output: Path | str,
    *,
    overwrite: bool = False,
    kind: str = "export",
    replaceable: Callable[[Path], bool] = Path.is_file,
    ours: Callable[[Path], bool] | None = None,
) -> Iterator[Path]:
    """Give a temporary name beside `output` to write to; rename it in the end, or remove it after any error or signal.

    Args:
        output: the file or folder to make; its parents are made too.
        overwrite: replace what is there.
        kind: what is made, for messages.
        replaceable: what may be replaced at all; by default files, never folders.
        ours: tells what may be replaced without being asked: what the same command has made; None for nothing.

    Raises:
        InputError: `output` exists and is left alone.
        TrajectoryError: the disk is full or cannot be written.
        InterruptedRun: Ctrl-C or another signal that asks to stop.
    """
    overwrite = require_flag(kind, "overwrite", overwrite)
    output = require_path(kind, "output", output)
    output = Path(os.path.realpath(output))  # what a link points to is replaced, not the link
    check = partial(_check_place, output, overwrite, kind, replaceable, ours)
    check()
    end = f"{PARTIAL}{output.suffix}"  # the suffix stays last: some writers look at it
    fresh = output.with_name(f".{output.name}.{os.getpid()}.{uuid.uuid4().hex}{end}")
    stands = f"while {output} was being written; repeat the same command"
    with Interrupt(lambda: stands, at_once=True) as interrupt:
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(output, end)
            yield fresh
            if fresh.is_file():
                sync(fresh)
            if interrupt.requested:  # what it raised did not get through, as in a callback of C
                interrupt.raise_(stands)
            check()  # another process may have made it meanwhile
            if output.is_dir():
                remove(output)
            fresh.replace(output)
            sync(output.parent)
        except BaseException as error:
            with contextlib.suppress(OSError):
                remove(fresh)
            if interrupt.requested and not isinstance(error, InterruptedRun):
                interrupt.raise_(stands)  # ffmpeg, which got half a frame, has failed
            if (refused := _refusal(error)) is not None:
                what = refused.strerror or refused
                raise TrajectoryError(f"cannot write {output}: {what}; choose another output, or free space") from error
            raise


def _refusal(error: BaseException) -> OSError | None:
    """The error of the disk, also where a library that cleaned up after it failed again, in another way."""
    if isinstance(error, OSError):
        return error
    found: BaseException | None = None if isinstance(error, NNSimError) else error
    while found is not None and not (isinstance(found, OSError) and found.errno in _FULL):
        found = found.__cause__ or found.__context__
    return found


def _check_place(
    output: Path,
    overwrite: bool,
    kind: str,
    replaceable: Callable[[Path], bool],
    ours: Callable[[Path], bool] | None,
) -> None:
    """Refuse to replace what is there, unless it is free to be; see `whole`."""
    if not os.path.lexists(output):
        return
    if not replaceable(output):
        raise InputError(f"{output} exists and is no earlier {kind}, so it is left alone; choose another output")
    if overwrite:
        return
    if ours is None:
        raise InputError(f"{output} exists already; replace it with --overwrite, or choose another output")
    if not ours(output):
        raise InputError(
            f"{output} exists and is no {kind} of nnsim, so it is left alone; replace it with --overwrite "
            "(overwrite=True), or choose another output"
        )


def _remove_leftovers(output: Path, end: str) -> None:
    """Remove what killed processes left; another one may be at work on the same output just now."""
    form = re.compile(rf"\.{re.escape(output.name)}\.(?:(\d+)\.)?[0-9a-f]{{32}}{re.escape(end)}")
    for entry in output.parent.iterdir():
        if (match := form.fullmatch(entry.name)) and (match[1] is None or not is_alive(int(match[1]))):
            remove(entry)


def is_alive(process: int) -> bool:
    """Whether a process of this machine still runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def is_marked(path: Path) -> bool:
    """Whether a file is a picture or film that nnsim has made."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content[:2] != _ZIPPED:
                return _bears_mark(content)
            with gzip.open(file) as unzipped:
                return _bears_mark(unzipped.read(_MOST_UNZIPPED))
    except (OSError, ValueError, EOFError, zlib.error):  # an empty file cannot be mapped
        return False


def _bears_mark(content: bytes | mmap.mmap) -> bool:
    place, film = _FILM
    known = content[:8].startswith(_HEADS) or content[place] == film
    return known and content.find(MARK.encode()) >= 0 and all(content.find(text) < 0 for text in _FOREIGN)


def write_table(rows: Sequence[Mapping[str, Any]], path: Path | str, *, overwrite: bool = False) -> Path:
    """Write rows, all with the same names, to a CSV file, which appears whole or not at all.

    A table of the same columns is replaced, any other file only with `overwrite`: plain CSV has no room for a mark.

    Returns:
        The path written.

    Raises:
        InputError: the path is another file, a folder, or in a folder that does not exist.
        TrajectoryError: the file cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"{path}: cannot be written (its folder does not exist); choose another --output")
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    content = text.getvalue().encode()
    head = content.partition(b"\n")[0].strip()

    def same_columns(other: Path) -> bool:
        try:
            with other.open("rb") as file:
                return bool(head) and file.readline(len(head) + 2).strip() == head
        except OSError:
            return False

    with whole(path, overwrite=overwrite, kind="table", ours=same_columns) as fresh:
        fresh.write_bytes(content)
    return path


# ---------------------------------------------------------------------------------------------------------------- JSON


def read_json(path: Path, *, retries: int = 0) -> dict[str, Any]:
    """Read a small JSON file that holds an object.

    Args:
        path: of the file.
        retries: how often to try again after a moment: some file systems do not show a replacement at once.

    Raises:
        OSError: it is missing or cannot be read.
        ValueError: it holds something else.
    """
    for _ in range(retries):
        with contextlib.suppress(OSError, ValueError):
            return read_json(path)
        time.sleep(0.01)
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError("it is no object")
    return content


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
    import numpy as np  # here, as the command line asks about locks without it

    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} {value!r}")
