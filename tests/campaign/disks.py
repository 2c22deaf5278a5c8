"""A disk that is full after so many writes or bytes: one line says so, and once there is room the same command works.

Every write of Python fails from a random one on, in all processes that the command starts; or files can have so many
bytes only (RLIMIT_FSIZE), which reaches what is written by libraries in C and by ffmpeg, too. Both are switched on by
a module that Python imports before everything else.
"""

from __future__ import annotations

import itertools
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from campaign import Trial
from campaign.commands import COMMANDS, command, made, repeated, strange
from campaign.runs import (
    STEPS,
    SWEEP,
    failure,
    finish,
    finished,
    finished_sweep,
    leftovers,
    numbers,
    one_line,
    results,
    same,
    script,
)

FULL = """
import errno, io, os, builtins
whole_open, whole_write = io.open, os.write
left = int(os.environ.get("FULL_AFTER_WRITES", 10**9))
def write(call, *data):
    global left
    left -= 1
    if left < 0: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return call(*data)
class Full:
    def __init__(self, file): self._file = file
    def write(self, data): return write(self._file.write, data)
    def __getattr__(self, name): return getattr(self._file, name)
    def __enter__(self): self._file.__enter__(); return self
    def __exit__(self, *error): return self._file.__exit__(*error)
    def __iter__(self): return iter(self._file)
def limited(file, mode="r", *more, **settings):
    made = whole_open(file, mode, *more, **settings)
    return Full(made) if set(mode) & set("wax+") and file != os.devnull else made
if "FULL_AFTER_WRITES" in os.environ:
    builtins.open = io.open = limited
    os.write = lambda descriptor, data: (write if descriptor > 2 else lambda call, *a: call(*a))(
        whole_write, descriptor, data)
if "FULL_AFTER_BYTES" in os.environ:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["FULL_AFTER_BYTES"]),) * 2)
"""
WAYS = ("writes", "bytes")


def disks(count: int, rng: random.Random) -> Iterator[Trial]:
    """So many disks that are full at a random moment, for files of commands, runs and sweeps in turn."""
    names = itertools.cycle(itertools.product(rng.sample(list(COMMANDS), len(COMMANDS)), WAYS))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(FULL)
        for number in range(count):
            kind, way = rng.choice(list(STEPS)), WAYS[number // 4 % 2]
            work = Path(folder) / f"disk_{number}"
            work.mkdir()
            script(work, kind)
            if number % 4 == 0:
                yield _run(work, kind, *_full(way, 10 ** rng.uniform(0, 2.8), 10 ** rng.uniform(1, 4.5)))
            elif number % 4 == 2:
                yield _sweep(work, kind, *_full(way, 10 ** rng.uniform(0, 2), 10 ** rng.uniform(1, 4.5)))
            else:
                name, way = next(names)
                largest = max(made(name, finished(kind)).values())
                full = _full(way, 10 ** rng.uniform(0, 1.5), rng.uniform(0, 1) * largest)
                yield _command(work, kind, name, *full)


def _full(way: str, writes: float, size: float) -> tuple[str, dict[str, str]]:
    """What the disk can take, in words and as the environment of a command."""
    number = int(writes if way == "writes" else size)
    return f"full after {number} {way}", {f"FULL_AFTER_{way.upper()}": str(number)}


def _tried(arguments: list[object] | tuple[object, ...], work: Path, full: dict[str, str]) -> tuple[int, str]:
    path = os.pathsep.join([str(work.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return finish(*arguments, cwd=work, PYTHONPATH=path, **full)


def _command(work: Path, kind: str, name: str, words: str, full: dict[str, str]) -> Trial:
    run, label = finished(kind), f"{name} of {kind}, {words}"
    status, err = _tried(command(name, run), work, full)
    if not one_line(err) or (status and not err):
        return Trial("disk", label, "raw", err)
    if left := strange(work, name) or (status and (work / name).exists()):
        return Trial("disk", label, "silent", f"left over: {left}; {err}")
    outcome, detail = repeated(work, name, run)
    return Trial("disk", label, outcome, f"{err} {detail}")


def _run(work: Path, kind: str, words: str, full: dict[str, str]) -> Trial:
    run = ("run", "input.py", "--no-progress")
    again = lambda: (*run, "--resume") if (work / "input.zarr").exists() else run  # noqa: E731
    right = lambda: same(numbers(work / "input.zarr"), numbers(finished(kind)))  # noqa: E731
    return _goes_on(f"run of {kind}, {words}", work, run, full, again, right)


def _sweep(work: Path, kind: str, words: str, full: dict[str, str]) -> Trial:
    sweep = (*SWEEP, "--jobs", "2")
    right = lambda: same(results(work / "input-sweep"), finished_sweep(kind))  # noqa: E731
    return _goes_on(f"sweep of {kind}, {words}", work, sweep, full, lambda: sweep, right)


def _goes_on(
    label: str,
    work: Path,
    arguments: tuple[str, ...],
    full: dict[str, str],
    again: Callable[[], tuple[str, ...]],
    right: Callable[[], bool],
) -> Trial:
    status, said = _tried(arguments, work, full)
    if not one_line(said) or (status and not said):
        return Trial("disk", label, "raw", said[-600:])
    if half := [one for one in leftovers(work) if one.endswith((".partial", ".lock"))]:
        return Trial("disk", label, "silent", f"left over: {half}; {said}")
    if status:
        status, err = finish(*again(), cwd=work)
        if status:
            return Trial("disk", label, *failure(status, f"{err} after {said}"))
    if not right():
        return Trial("disk", label, "silent", f"other numbers; {said}")
    left = leftovers(work)
    return Trial("disk", label, "silent" if left else "right", f"left over: {left}; {said}" if left else said)
