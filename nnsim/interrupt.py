"""Stopping a run between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import NoReturn

from nnsim.errors import NNSimError


class InterruptedRun(NNSimError):
    """The run was asked to stop and did, after writing its checkpoint.

    Attributes:
        exit_status: 128 + the number of the signal, as shells report it.
    """

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class Interrupt:
    """While entered, Ctrl-C and SIGTERM set `requested` instead of breaking a step; a second Ctrl-C breaks at once.

    Outside the main thread signals cannot be caught, and it does nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    def __enter__(self) -> Interrupt:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def raise_(self, step: int, *, saved: bool) -> NoReturn:
        """Raise `InterruptedRun` for a stop at `step`."""
        assert self.signal is not None
        name = signal.Signals(self.signal).name
        how = "repeat the same command with --resume (run(..., resume=True)) to go on" if saved else "nothing was saved"
        raise InterruptedRun(f"stopped by {name} after step {step}; {how}", 128 + self.signal)
