"""Processes of `nnsim` that begin as copies of one that has imported everything, which saves each of them two seconds.

What a new interpreter does by itself is tested with new ones, see `command_line.COMMAND`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import nnsim
import nnsim.cli


@cache
def _server() -> Any:
    """Makes copies of a process that has imported all of nnsim; it is started at the first one."""
    server: Any = multiprocessing.get_context("forkserver")
    every = (one.name for one in pkgutil.walk_packages(nnsim.__path__, "nnsim."))
    server.set_forkserver_preload([*(name for name in every if not name.endswith("__main__")), __name__])
    return server


class Command(NamedTuple):
    """What a shell would start; `said` are the files that stdout and stderr go to."""

    arguments: tuple[str, ...]
    cwd: str
    environment: dict[str, str]
    ignored: list[int]
    said: list[str]


class Copy:
    """`nnsim ARGUMENTS` as a process and session of its own, with the methods of `subprocess.Popen` that tests use."""

    def __init__(
        self, arguments: tuple[str, ...], cwd: Path, environment: Mapping[str, str], log: Path | None = None
    ) -> None:
        """What it prints goes to the end of `log`, if there is one."""
        temporary: Any = partial(tempfile.NamedTemporaryFile, "r")
        self._said = [temporary() if log is None else log.open() for _ in range(2)]  # open as long as the process
        ignored = [number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN]
        command = Command(arguments, str(cwd), dict(environment), ignored, [one.name for one in self._said])
        began, begins = _server().Pipe(duplex=False)
        self._process = _server().Process(target=_become, args=(command, begins), daemon=True)
        with mock.patch.dict(os.environ, {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}):
            self._process.start()
        began.recv()  # signals are for the command from now on
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status; minus the signal's number if one has ended it, None while it works."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status when it has ended."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("nnsim", timeout or 0.0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it has printed when it has ended."""
        self.wait(timeout)
        out, err = (Path(one.name).read_text() for one in self._said)
        return out, err

    def send_signal(self, number: int) -> None:
        """To the process, if it is there; it may end, and be reaped, in between."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """At once."""
        self.send_signal(signal.SIGKILL)


class OfSweeps:
    """What `nnsim.running.sweep` needs of `subprocess`, with copies as processes; they do not inherit its lock."""

    DEVNULL, STDOUT = subprocess.DEVNULL, subprocess.STDOUT

    @staticmethod
    def Popen(command: list[str], *, stdout: Any, env: Mapping[str, str], cwd: Path, **settings: Any) -> Copy:
        """A point's `nnsim run`."""
        return Copy(tuple(command[command.index("nnsim") + 1 :]), Path(cwd), env, Path(stdout.name))


def _become(command: Command, begins: Any) -> None:
    """What a copy does: become the command."""
    os.setsid()
    os.chdir(command.cwd)
    os.environ.clear()
    os.environ.update(command.environment)
    for number in command.ignored:
        signal.signal(number, signal.SIG_IGN)
    for number, place in enumerate([os.devnull, *command.said]):
        os.dup2(os.open(place, os.O_RDWR | os.O_APPEND), number)
    sys.argv, sys.path = ["nnsim", *command.arguments], ["", *sys.path]
    os.fsync = lambda _: None  # as in `conftest`
    sys.dont_write_bytecode = True  # a test may write a module anew within the second that Python tells versions by
    begins.send(True)
    begins.close()
    nnsim.cli.main()
