"""The output of `nnsim run` before the run: refused at once, or locked and marked while torch is imported."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from nnsim.errors import TrajectoryError
from nnsim.files import writing
from nnsim.lock import OutputLock
from nnsim.trajectory.layout import STARTING, is_starting, looks_like_trajectory


class Claim:
    """Refuse an unusable output at once, and else lock it and leave a mark there while imports and set-up go on.

    A run that is killed this early can then be repeated with --resume like any other. Unless the path is `certain`,
    the script may still name another one, and refusing is left to the run.

    Args:
        path: the output, relative to the present folder, to which all paths stay relative.
        resume: as the option.
        overwrite: as the option.
        certain: whether it was given, and not guessed.

    Raises:
        TrajectoryError: a certain output that exists, is being written, or is not there to be resumed.
    """

    def __init__(self, path: Path, *, resume: bool, overwrite: bool, certain: bool) -> None:
        self._folder, self._resume = Path.cwd(), resume
        self._marked: Path | None = None
        self._lock: OutputLock | None = None
        if resume and not os.path.exists(path):
            if certain:
                raise TrajectoryError(f"{path}: nothing to resume there; start without --resume, or check the path")
            return
        if not (certain or resume or overwrite) and os.path.lexists(path) and not is_starting(path):
            return  # refused later if the script names no other one; until then nobody else is to be refused for it
        try:
            self._lock = OutputLock(path)
        except TrajectoryError:
            if certain:
                raise
            return
        try:
            if certain and not resume:
                _refuse_existing(self._lock, overwrite)
            if not resume:
                self._mark()
        except BaseException:
            self._lock.release()
            raise

    def moved(self, path: Path) -> OutputLock:
        """The lock of the output that it turned out to be; a mark, also of a run that was killed early, goes along."""
        before, begun = self._lock, False
        if before is not None and before.root == Path(os.path.realpath(self._folder / path)):
            return before
        if self._resume and not os.path.exists(self._folder / path) and not (before and is_starting(before.root)):
            raise TrajectoryError(f"{path}: nothing to resume there; start without --resume, or check the path")
        self._lock = OutputLock(path, self._folder)
        if before is not None:
            begun = is_starting(before.root)
            _unmark(before.root)
            before.release()
        if begun or not self._resume:
            self._mark()
        return self._lock

    def _mark(self) -> None:
        lock = self._lock
        if lock is not None and not os.path.lexists(lock.root):
            with writing(lock.output):
                lock.root.mkdir()
                (lock.root / STARTING).touch()
            self._marked = lock.root

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        if self._marked is not None:
            _unmark(self._marked)
        if self._lock is not None:
            self._lock.release()


def _refuse_existing(lock: OutputLock, overwrite: bool) -> None:
    if not os.path.lexists(lock.root) or is_starting(lock.root):
        return
    if not looks_like_trajectory(lock.root):
        raise TrajectoryError(
            f"{lock.output} exists and is not an nnsim trajectory, so it is left alone; choose another --output"
        )
    if not overwrite:
        raise TrajectoryError(
            f"{lock.output} exists already; use --overwrite to replace it, --resume to continue it, or another --output"
        )


def _unmark(root: Path) -> None:
    if is_starting(root):
        (root / STARTING).unlink(missing_ok=True)
        root.rmdir()
