"""Who may write where: locks of the operating system, on small files that say who holds them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

from nnsim.errors import NNSimWarning, TrajectoryError
from nnsim.files import is_alive, writing

_held: weakref.WeakSet[Lock] = weakref.WeakSet()


class Locked(Exception):
    """A lock is held by somebody else.

    Attributes:
        note: what the holder says of itself: `host`, `process`, `since`, and more; empty if it cannot be read.
    """

    def __init__(self, note: dict[str, Any]) -> None:
        super().__init__(note)
        self.note = note


class Lock:
    """The sole right to write somewhere: a `flock` on a file, taken when it is made.

    It excludes other processes and, in this one, every other `Lock` of the same file, whatever thread has it. It ends
    with its holder however that ends, also by kill -9: a file that was left behind locks nothing.

    The holder removes the file before it lets go. Whoever has locked a file therefore looks whether it still is the one
    of that name, and else begins again: two can never hold the lock through different files.

    The lock belongs to a job, which may be more than one process: those that are given `fileno()`, as a sweep gives it
    to its runs, hold it together, and it lasts until the last of them ends. Processes forked without that, such as the
    workers of a torch DataLoader, do not keep it: their copy of the file is closed as they begin (but in those that
    foreign C code forks without a new program), and programs that are started never get one.

    What does not hold: on a file system that has no locks there is a warning and no lock. Between machines it excludes
    as far as the file system carries `flock` from one to the other: NFS of Linux does, unless mounted with `nolock` or
    `local_lock`; Lustre only if mounted with `flock`; most of SMB, FUSE and cloud mounts do not. On NFS a machine that
    crashes may keep its locks until the server gives them up. A file removed by hand locks nothing any more.

    Args:
        path: the file; its folder exists.
        **note: what others may read about the holder, as JSON, beside host, process and the time.

    Raises:
        Locked: somebody else holds it.
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, **note: Any) -> None:
        self.path = path
        self._since = time.strftime("%Y-%m-%d %H:%M:%S")
        self._holders = 1
        self._file = _locked_file(path)
        self._finish = weakref.finalize(self, _let_go, self._file, path, os.getpid())
        _held.add(self)
        with released_on_error(self):
            self.note(**note)

    def note(self, **more: Any) -> None:
        """Write down who holds it, for those who find it locked."""
        content = {"host": socket.gethostname(), "process": os.getpid(), "since": self._since, **more}
        self._file.truncate(0)
        self._file.write(json.dumps(content))
        self._file.flush()

    def fileno(self) -> int:
        """The open file, for a process that shall hold the lock too."""
        return self._file.fileno()

    def share(self) -> Self:
        """The same lock for one more part of this process, which lasts until all have released it."""
        self._holders += 1
        return self

    def release(self) -> None:
        """Let go of it; what was shared lasts until the last release."""
        self._holders -= 1
        if not self._holders:
            self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self.release()


def _locked_file(path: Path) -> IO[str]:
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            _flock(file, path)
            if _is_there(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _flock(file: IO[str], path: Path) -> None:
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Locked(_noted(file)) from None
    except (OSError, ImportError) as error:
        why = getattr(error, "strerror", None) or error
        warnings.warn(
            f"{path.parent}: its file system cannot lock files ({why}); make sure that nothing else writes there",
            NNSimWarning,
            stacklevel=2,
        )


def _noted(file: IO[str]) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        file.seek(0)
        note = json.loads(file.read())
        return note if isinstance(note, dict) else {}
    return {}


def _is_there(file: IO[str], path: Path) -> bool:
    """Whether the open file still is the one of this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:  # removed meanwhile
        return False


def _let_go(file: IO[str], path: Path, process: int) -> None:
    if file.closed:
        return
    if os.getpid() == process:
        with contextlib.suppress(OSError):
            if _is_there(file, path):
                path.unlink()
        with contextlib.suppress(OSError, ImportError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_UN)  # not only closed: a process that was forked may have a copy of the file
    _close(file)


def _close(file: IO[str]) -> None:
    with contextlib.suppress(OSError):  # a note that a full disk did not take is tried once more, and is not missed
        file.close()


def _close_in_child() -> None:
    for lock in list(_held):
        _close(lock._file)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class OutputLock(Lock, os.PathLike[str]):
    """The sole right to write an output and what belongs to it; it may be given wherever the path of an output is.

    The file is `.NAME.lock` beside the output itself, whatever links and relative paths lead there.

    Args:
        output: the path as the user gave it.
        folder: what a relative one is relative to; None is the present folder.

    Attributes:
        output: likewise, for messages.
        absolute: the same from the root of the file system, right also after the working directory has changed.
        root: that without links.

    Raises:
        TrajectoryError: somebody else is writing it, or nothing can be written there.
    """

    def __init__(self, output: Path | str, folder: Path | None = None) -> None:
        self.output = Path(output)
        self.absolute = ((folder or Path()) / self.output).absolute()
        self.root = Path(os.path.realpath(self.absolute))
        with writing(self.output):
            self.root.parent.mkdir(parents=True, exist_ok=True)
            try:
                super().__init__(_lock_of(self.root))
            except Locked as held:
                raise TrajectoryError(_in_use(self.output, held.note)) from None

    @classmethod
    def of(cls, output: OutputLock | Path | str) -> OutputLock:
        """A share of a lock, or a new one for a path."""
        return output.share() if isinstance(output, OutputLock) else cls(output)

    def __fspath__(self) -> str:
        return str(self.root)


def _lock_of(root: Path) -> Path:
    return root.parent / f".{root.name}.lock"


def holder(output: Path | str) -> dict[str, Any]:
    """What the process that writes an output says of itself: `host`, `process` and `since`.

    Empty where there is none, as far as can be told without taking the lock, which a run that starts just now would
    find taken: a process of this machine is looked for, one of another is believed.
    """
    try:
        note = json.loads(_lock_of(Path(os.path.realpath(output))).read_text(encoding="utf-8"))
        here, process = note["host"] == socket.gethostname(), int(note["process"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {} if here and not is_alive(process) else note


class Releasable(Protocol):
    """Something that holds a lock."""

    def release(self) -> None:
        """Let go of it."""


@contextlib.contextmanager
def released_on_error(holder: Releasable) -> Iterator[None]:
    """Release what has been taken if what follows fails: an error that is kept would keep the lock too."""
    try:
        yield
    except BaseException:
        holder.release()
        raise


def _in_use(output: Path, note: dict[str, Any]) -> str:
    """One line about who writes an output."""
    host, process, since = note.get("host"), note.get("process"), note.get("since")
    if (host, process) == (socket.gethostname(), os.getpid()):
        return (
            f"{output} is being written by another run of this very process, {process}, since {since}; end that one "
            "first, or choose another output"
        )
    if process is None:
        return f"{output} is being written by another process; wait until it ends, or choose another output"
    return (
        f"{output} is being written by process {process} on {host} since {since}; wait until it ends, stop it with "
        f"kill -INT {process}, or choose another output"
    )
