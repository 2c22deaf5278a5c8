"""Stopping when a signal asks for it: a run between two steps, anything else at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, NoReturn

ALWAYS = (signal.SIGINT, signal.SIGTERM)
# What job schedulers and closing terminals send; only where the program itself makes nothing else of it.
UNCLAIMED = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGXCPU") if hasattr(signal, name)
)
GO_ON = "repeat the same command with --resume (run(..., resume=True)) to go on"


class InterruptedRun(KeyboardInterrupt):
    """The work was asked to stop and did: a run after writing its checkpoint, a file by not being there.

    Like every `KeyboardInterrupt` it is no `Exception`: a loop that goes on after failures does not go on after this.

    Attributes:
        exit_status: 128 + the number of the signal, as shells report it.
    """

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status
        if not isinstance(sys.excepthook, _Hook):
            sys.excepthook = _Hook()


class _Hook:
    """Lets a script that does not catch the stop end as `nnsim run` does: with one line, and the status of a signal.

    Python would give the status 1, which job schedulers take for a failure.
    """

    def __init__(self) -> None:
        self.before = sys.excepthook

    def __call__(self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not isinstance(error, InterruptedRun):
            return self.before(kind, error, traceback)
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)


class Interrupt:
    """While entered, signals to stop set `requested` instead of breaking a step; a second Ctrl-C does break it.

    They are Ctrl-C, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT and SIGXCPU. One that is ignored, as SIGHUP under nohup,
    stays ignored; the last five are left to a handler that the program has set. Outside the main thread signals cannot
    be caught, and nothing happens.

    Args:
        stands: says where the work stands and how to go on, for those who ask twice.
        at_once: the first signal breaks the work, by `InterruptedRun`, so that what has begun can be cleared away;
            those that follow count for nothing, but for Ctrl-C. Signals that the program, or a run around this,
            listens to are left to it.
    """

    def __init__(self, stands: Callable[[], str], *, at_once: bool = False) -> None:
        self.signal: int | None = None
        self._stands, self._at_once = stands, at_once

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    def __enter__(self) -> Interrupt:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (*ALWAYS, *UNCLAIMED):
                if self._takes(number, signal.getsignal(number)):
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def _takes(self, number: int, handler: Any) -> bool:
        if self._at_once:
            return handler in (signal.SIG_DFL, signal.default_int_handler)
        # None is a handler that is not of Python, which could not be put back
        return handler == signal.SIG_DFL or (number in ALWAYS and handler not in (signal.SIG_IGN, None))

    def __exit__(self, kind: type | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise InterruptedRun(f"stopped at once by a second SIGINT, {self._stands()}", 128 + number)
        if self.signal is None:
            self.signal = number
            if self._at_once:
                self.raise_(self._stands())

    def raise_(self, where: str) -> NoReturn:
        """Raise `InterruptedRun`, which says where the work stands."""
        assert self.signal is not None
        name = signal.Signals(self.signal).name
        raise InterruptedRun(f"stopped by {name} {where}", 128 + self.signal)
