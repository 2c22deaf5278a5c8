"""How the tests call `nnsim`: in this process (quick), or in one of its own (to be killed)."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import zarr
from warm import Copy

from nnsim import Trajectory, cli

Process = subprocess.Popen | Copy
COMMAND = [sys.executable, "-c", "from nnsim.cli import main; main()"]


class Result(NamedTuple):
    """What a command left: exit status, and what it printed."""

    status: int
    out: str
    err: str


def nnsim(*arguments: object) -> Result:
    """Run `nnsim ARGUMENTS` in this process."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    path = list(sys.path)
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
        mock.patch.object(sys, "argv", ["nnsim", *map(str, arguments)]),
    ):
        try:
            cli.main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        finally:
            sys.path[:] = path  # an input script's folder was put there
    return Result(status, out.getvalue(), err.getvalue())


def error_of(*arguments: object) -> str:
    """The one line that a wrong command prints on stderr, after checking that it is one and that the status is 2."""
    result = nnsim(*arguments)
    assert result.status == 2, result
    assert result.err.startswith("Error: ")
    assert result.err.count("\n") == 1, result.err
    assert "Traceback" not in result.out + result.err
    return result.err.strip()


def hear_signals() -> list[signal.Signals]:
    """Take signals that are ignored as a terminal's foreground does; returns which.

    Shells start what runs in their background with Ctrl-C ignored, which processes inherit and nnsim respects. So does
    nohup with SIGHUP.
    """
    numbers = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
    ignored = [number for number in numbers if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    return ignored


def launch(*arguments: object, cwd: Path, **environment: str) -> Copy:
    """Start `nnsim ARGUMENTS` as a process and a session of its own, as a terminal gives it, on one thread."""
    return Copy(tuple(map(str, arguments)), cwd, {**os.environ, "OMP_NUM_THREADS": "1", **environment})


def ended(process: Process, seconds: float = 120) -> Result:
    """What a process leaves when it ends; it is killed, and the test fails, if it takes too long."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        killed(process)
        raise
    return Result(process.returncode, out, err)


def killed(process: Process) -> Result:
    """What a process leaves that is killed by `kill -9` now."""
    process.kill()
    return ended(process)


def wait_for(
    condition: Callable[[], Any],
    process: Process | None = None,
    seconds: float = 60,
    pause: float = 0.02,
) -> None:
    """Wait until it holds, while the process works."""
    until = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(pause)


def python(code: str, cwd: Path) -> Result:
    """Run Python code in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


def arrays_of(path: Path) -> dict[str, tuple]:
    """Metadata, names of chunk files and bytes of every array of a trajectory, read by zarr itself."""
    found = {}
    for file in sorted(path.rglob(".zarray")):
        array = zarr.open_array(str(file.parent), mode="r", zarr_format=2)
        chunks = sorted(entry.name for entry in file.parent.iterdir() if not entry.name.startswith("."))
        found[file.parent.relative_to(path).as_posix()] = (file.read_text(), chunks, np.asarray(array[...]).tobytes())
    return found


def committed(path: Path) -> dict[str, int]:
    """The committed counts of a trajectory."""
    return json.loads((path / "nnsim" / ".zattrs").read_text())["committed"]


def read_all(path: Path) -> int:
    """Read every frame of every series that is there; the number of steps."""
    trajectory = Trajectory(path)
    for series in trajectory._series.values():
        assert len(series[:]) == len(series.step) == len(series.time) == len(series)
    for name in trajectory.bias_names:
        _ = trajectory.bias(name).tables, trajectory.bias(name).attrs
    return trajectory.steps
