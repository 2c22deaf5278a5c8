"""A disk that is full after so many bytes: the run says so in one line, and goes on from there once there is room.

The limit is that of the size of a file (RLIMIT_FSIZE, signal ignored), or every write fails from a random one on.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from campaign import Trial
from campaign.runs import finish, finished, numbers, one_line, same, script

FULL = """
import errno, os, sys
left = int(sys.argv.pop(1))
whole_write = os.write
def fails():
    global left
    left -= 1
    return left < 0
import builtins
whole_open, whole_replace = open, os.replace
class Full:
    def __init__(self, file): self._file = file
    def write(self, data):
        if fails(): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._file.write(data)
    def __getattr__(self, name): return getattr(self._file, name)
    def __enter__(self): self._file.__enter__(); return self
    def __exit__(self, *error): return self._file.__exit__(*error)
    def __iter__(self): return iter(self._file)
def limited(file, mode="r", *more, **settings):
    made = whole_open(file, mode, *more, **settings)
    return Full(made) if set(mode) & set("wax+") else made
import io
builtins.open = io.open = limited
def write(descriptor, data):
    if descriptor > 2 and fails(): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return whole_write(descriptor, data)
os.write = write
from nnsim.cli import main
main()
"""


def disks(count: int, rng: random.Random) -> Iterator[Trial]:
    """So many disks that are full from a random write on."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            kind = rng.choice(["dynamics", "monte_carlo"])
            whole = finished(kind, Path(folder))
            work = Path(folder) / f"disk_{number}"
            work.mkdir()
            script(work, kind)
            yield _full(work, kind, whole, int(10 ** rng.uniform(0, 2.8)))


def _full(work: Path, kind: str, whole: Path, writes: int) -> Trial:
    command = [sys.executable, "-c", FULL, str(writes), "run", "input.py", "--no-progress"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=180, check=False)
    label = f"{kind}, full after {writes} writes"
    if done.returncode == 0:
        return Trial(
            "disk", label, "right" if same(numbers(work / "input.zarr"), numbers(whole)) else "silent", "enough"
        )
    if not one_line(done.stderr):
        return Trial("disk", label, "raw", done.stderr[-600:])
    again = ("--resume",) if (work / "input.zarr").exists() else ()
    status, err = finish("run", "input.py", "--no-progress", *again, cwd=work)
    if status:
        return Trial("disk", label, "lost" if one_line(err) else "raw", err)
    outcome = "right" if same(numbers(work / "input.zarr"), numbers(whole)) else "silent"
    return Trial("disk", label, outcome, done.stderr)
