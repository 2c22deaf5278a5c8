"""Sweeps: the same input script at many settings, each in a folder and a process of its own.

A sweep is a folder with sweep.json (the plan), sweep.csv (the results) and one folder for each point: run.zarr with its
checkpoint, log.txt (what the run printed), and at the end done.json or failed.json. Whatever is killed, the same
command goes on from there: what is done is skipped, what was begun is resumed, and what failed is tried again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nnsim.analysis.training.sweep_table import (
    DONE,
    FAILED,
    PLAN,
    first_and_last,
    make_table,
    read_plan,
    read_record,
)
from nnsim.errors import InputError, NNSimError, TrajectoryError, require_integer
from nnsim.files import PARTIAL, is_alive, read_json, remove, remove_leftovers, replace_file, write_json, writing
from nnsim.lock import Lock, Locked
from nnsim.running.interrupt import Interrupt
from nnsim.running.script import Script
from nnsim.running.sweep_points import Point, digest, grid_points, shown, storable, storables

RUN, CHECKPOINT, PREVIOUS, LOG = "run.zarr", "run.checkpoint.npz", "run.checkpoint.previous.npz", "log.txt"
BEGUN, TABLE, LOCK = "begun.json", "sweep.csv", ".sweep.lock"
LOOK_SECONDS = 0.05  # between two looks at the processes
PATIENCE_SECONDS = 10.0  # for a process that is told to break at once


class Display(Protocol):
    """Shows how a sweep goes."""

    def update(self, sweep: Sweep) -> None:
        """Show the present counts and running points; called many times a second."""

    def ended(self, sweep: Sweep, point: Point) -> None:
        """Show that a point has just ended, done or failed."""


class Sweep:
    """A script at every combination of some settings, some points at a time.

    Every name and value is checked when the sweep is made; `run` starts the processes.

    Args:
        script: the input script.
        folder: where everything goes; made if it is not there.
        grid: texts NAME=V1,V2,..., or NAME=V1;V2;... for values that hold commas themselves.
        seeds: N >= 1 runs each setting with seed = 0 to N - 1; None takes the script's own seed.
        overrides: texts NAME=VALUE for all points.
        steps: total length of each run in steps; None is the script's own.
        jobs: how many points run at the same time, at least 1. Each has as many threads as there are cores for it,
            unless OMP_NUM_THREADS is set or the script says how many.
        overwrite: remove the points of an earlier sweep in this folder, whatever its plan.
        accept_changes: the script may have changed: points that were begun go on with it, which their records say, and
            those that are done stay as they are.

    Attributes:
        output: the folder as it was given.
        points: what is asked for.
        records: name -> what is known of each point of the folder, those of earlier commands included.
        running: names of the points that run now.

    Raises:
        InputError: settings that the script does not have or that do not fit, a plan that differs from that of an
            earlier sweep in the same folder in more than values of the grid and a greater length.
    """

    def __init__(
        self,
        script: Script,
        folder: Path,
        *,
        grid: Sequence[str] = (),
        seeds: int | None = None,
        overrides: Sequence[str] = (),
        steps: int | None = None,
        jobs: int = 1,
        overwrite: bool = False,
        accept_changes: bool = False,
    ) -> None:
        self.script, self.overwrite, self.accept_changes = script, overwrite, accept_changes
        self.output, self.folder = folder, script.folder / folder  # the script may have changed the working directory
        self.jobs = require_integer("nnsim sweep", "jobs", jobs, least=1)
        self.overrides, self.steps = tuple(overrides), steps
        self.points = grid_points(script, grid, seeds, overrides, steps)
        self.records: dict[str, dict[str, Any]] = {}
        self._processes: list[_Process] = []
        self._stopping = False
        fixed = dict(text.split("=", 1) for text in overrides)
        self.plan: dict[str, Any] = {
            "script": script.path.name,
            "sha256": digest(script.text),
            "set": {name: storable(self.points[0].settings[name]) for name in sorted(fixed)},
            "steps": steps,
            "swept": list(self.points[0].values),
            "points": {point.name: {key: storable(value) for key, value in point.values.items()}
                       for point in self.points},
        }  # fmt: skip
        self._check_folder()

    # ------------------------------------------------------------------ what is there already

    def _check_folder(self) -> None:
        """Refuse a folder of something else, and a plan that differs."""
        if not self.folder.exists():
            return
        if not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file; choose another --output")
        if (self.folder / PLAN).exists():
            if not self.overwrite:
                self._refuse_differences(read_plan(self.folder))
        elif any(entry.name != LOCK and not entry.name.endswith(PARTIAL) for entry in self.folder.iterdir()):
            raise InputError(f"{self.folder} exists and is not a sweep, so it is left alone; choose another --output")

    def _refuse_differences(self, earlier: dict[str, Any]) -> None:
        changed = []
        if earlier["sha256"] != self.plan["sha256"] and not self.accept_changes:
            changed.append(f"the text of {self.script.path.name} has changed")
        for name in sorted({*earlier["set"], *self.plan["set"]}):
            before, now = (shown(one["set"], name) for one in (earlier, self.plan))
            if before != now:
                changed.append(f"--set {name}: {before} then, {now} now")
        if earlier["swept"] != self.plan["swept"]:
            before, now = (", ".join(one["swept"]) for one in (earlier, self.plan))
            changed.append(f"swept settings: {before} then, {now} now")
        length = earlier["steps"]
        if length != self.steps and (self.steps is None or (length is not None and self.steps < length)):
            changed.append(f"--steps: {length} then, {self.steps} now; a sweep can only become longer")
        if changed:
            raise InputError(
                f"{self.folder} holds a sweep made in another way ({'; '.join(changed)}); restore it, use --overwrite "
                "to replace the sweep, or choose another --output"
            )

    def _prepare(self) -> None:
        """Write the plan, with the points of earlier commands in it, and see what is done."""
        self._remove_leftovers()
        exists = (self.folder / PLAN).exists()
        earlier = read_plan(self.folder) if exists else None
        if earlier is not None and self.overwrite:
            for name in earlier["points"]:
                self._clear(name)
        elif earlier is not None:
            self._refuse_differences(earlier)  # another command may just have written it
            self.plan["points"] = {**earlier["points"], **self.plan["points"]}
            self.plan |= self._changes(earlier)
        with writing(self.folder / PLAN):
            write_json(self.folder / PLAN, self.plan)
        self.records = {name: read_record(self.folder / name) for name in self.plan["points"]}
        for point in self.points:
            if not self._is_done(point) and self.records[point.name]["status"] != "left":
                self._reopen(point)

    def _remove_leftovers(self) -> None:
        """Remove what a killed sweep left half-written; what the runs left they remove themselves."""
        points = [one for one in self.folder.iterdir() if one.is_dir() and not one.is_symlink()]
        for folder in (self.folder, *points):
            for name in (PLAN, TABLE) if folder == self.folder else (DONE, FAILED, BEGUN):
                remove_leftovers(folder, prefix=f".{name}.", suffix=PARTIAL)

    def _changes(self, earlier: dict[str, Any]) -> dict[str, Any]:
        """For the plan: the scripts before the present one, each with the points that were done with it."""
        found = earlier.get("changed", [])
        if earlier["sha256"] != self.plan["sha256"]:
            done = [name for name in earlier["points"] if (self.folder / name / DONE).exists()]
            found = [*found, {"sha256": earlier["sha256"], "done": done}]
        return {"changed": found} if found else {}

    def _is_done(self, point: Point) -> bool:
        record = self.records[point.name]
        return record["status"] == "done" and (self.steps is None or record["steps"] >= self.steps)

    def _reopen(self, point: Point) -> None:
        """A point that failed, or that shall become longer, is left to do; the seconds spent on it are kept."""
        folder = self.folder / point.name
        with writing(folder):
            write_json(folder / BEGUN, {"seconds": _spent(folder)})
            for name in (DONE, FAILED):
                (folder / name).unlink(missing_ok=True)
        self.records[point.name] = {"status": "left"}

    def _clear(self, name: str) -> None:
        """Remove what a sweep wrote for a point, and nothing else."""
        folder = self.folder / name
        if folder.is_symlink():  # what it leads to is not of the sweep
            folder.unlink()
        if not folder.is_dir():
            return
        with writing(folder):
            for entry in (RUN, CHECKPOINT, PREVIOUS, LOG, DONE, FAILED, BEGUN):
                remove(folder / entry)
            with contextlib.suppress(OSError):  # not empty: somebody keeps something of their own there
                folder.rmdir()

    # ------------------------------------------------------------------ running

    @property
    def running(self) -> list[str]:
        """Names of the points that run now."""
        return [process.point.name for process in self._processes]

    def count(self, status: str) -> int:
        """How many of the points asked for are `done`, `failed` or `left`."""
        return sum(self.records[point.name]["status"] == status for point in self.points)

    def failures(self) -> dict[str, str]:
        """Name of each failed point -> its one line."""
        found = ((point.name, self.records[point.name]) for point in self.points)
        return {name: record["message"] for name, record in found if record["status"] == "failed"}

    def run(self, display: Display | None = None) -> None:
        """Run all points that are not done, and write the table after each.

        Raises:
            InterruptedRun: Ctrl-C or another signal that asks to stop, after the runs have written their checkpoints.
            TrajectoryError: something cannot be written, or another sweep is at work in the folder.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with _lock(self.folder) as lock, Interrupt(self._stands) as interrupt:
            self._prepare()
            self._write_table()
            waiting = deque(point for point in self.points if self.records[point.name]["status"] == "left")
            try:
                self._loop(waiting, lock, interrupt, display)
            finally:
                self._break_off()
            if interrupt.requested and self.count("left"):
                interrupt.raise_(self._stands())

    def _stands(self) -> str:
        done = sum(self.records.get(point.name, {}).get("status") == "done" for point in self.points)
        return f"with {done} of {len(self.points)} points done; repeat the same command to go on"

    def _loop(self, waiting: deque[Point], lock: Lock, interrupt: Interrupt, display: Display | None) -> None:
        while self._processes or (waiting and not interrupt.requested):
            while waiting and len(self._processes) < self.jobs and not interrupt.requested:
                self._start(waiting.popleft(), lock)
            if interrupt.requested and not self._stopping:
                self._stopping = True
                self._signal(_stop_signal())
            if display is not None:
                display.update(self)
            for process in [one for one in self._processes if one.popen.poll() is not None]:
                self._end(process)
                self._processes.remove(process)
                _note_processes(lock, self._processes)
                self._write_table()
                if display is not None and self.records[process.point.name]["status"] != "left":
                    display.ended(self, process.point)
            time.sleep(LOOK_SECONDS)

    def _start(self, point: Point, lock: Lock) -> None:
        folder = self.folder / point.name
        self._refuse_changed_script()
        with writing(folder):
            folder.mkdir(exist_ok=True)
            log = (folder / LOG).open("ab")
        with log:
            mark, begin = log.tell(), time.monotonic()
            # A session of its own: Ctrl-C reaches the sweep alone, which passes it on once. The lock is inherited, so
            # that it lasts until the last run ends, although the sweep may have been killed.
            popen = subprocess.Popen(
                self._command(point, folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                cwd=self.script.folder,
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )
        self._processes.append(_Process(point, popen, begin, _spent(folder), mark))
        _note_processes(lock, self._processes)

    def _refuse_changed_script(self) -> None:
        try:
            same = (self.script.folder / self.script.path).read_text(encoding="utf-8") == self.script.text
        except (OSError, UnicodeDecodeError):
            same = False
        if not same:
            raise InputError(
                f"{self.script.path} was changed while the sweep ran; restore it and repeat the command to go on"
            )

    def _command(self, point: Point, folder: Path) -> list[str]:
        # -P: a folder named nnsim where the command is given must not be taken for the package
        command = [sys.executable, "-P", "-m", "nnsim", "run", str(self.script.path), "--no-progress", "--debug"]
        for text in (*self.overrides, *point.texts):
            command += ["--set", text]
        if self.steps is not None:
            command += ["--steps", str(self.steps)]
        run = folder / RUN
        resume = ["--resume", *(["--accept-changes"] if self.accept_changes else [])] if run.exists() else []
        return [*command, "--output", str(run), *resume]

    def _environment(self) -> dict[str, str]:
        return {"OMP_NUM_THREADS": str(max(1, _cores() // self.jobs)), **os.environ}

    def _end(self, process: _Process) -> None:
        """Write done.json or failed.json, or leave the point to the next command if the sweep is being stopped."""
        folder, code = self.folder / process.point.name, process.popen.returncode
        seconds = round(process.spent + time.monotonic() - process.begin, 3)
        record: dict[str, Any] = {"settings": storables(process.point.settings)}
        name, status = DONE, "done"
        if code == 0:
            try:
                steps = _last_step(folder / CHECKPOINT)
                record |= {"steps": steps, "seconds": seconds, "observables": first_and_last(folder / RUN)}
            except NNSimError as error:
                name, status, record["message"] = FAILED, "failed", str(error)
        elif self._stopping:
            name, status = BEGUN, "left"
        else:
            name, status, record["message"] = FAILED, "failed", _why(code, folder / LOG, process.mark)
        record["seconds"] = seconds
        with writing(folder / name):
            write_json(folder / name, record)
            if name != BEGUN:
                (folder / BEGUN).unlink(missing_ok=True)
        self.records[process.point.name] = {"status": status, **record}

    def _write_table(self) -> None:
        path, text = self.folder / TABLE, make_table(self.plan, self.records).csv()
        with writing(path):
            replace_file(path, lambda file: file.write(text.encode()))

    def _signal(self, number: int) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.popen.send_signal(number)

    def _break_off(self) -> None:
        """End what still runs because the sweep itself broke: a second Ctrl-C, or a full disk."""
        if not self._processes:
            return
        self._signal(_stop_signal())
        until = time.monotonic() + PATIENCE_SECONDS
        try:
            while any(one.popen.poll() is None for one in self._processes) and time.monotonic() < until:
                time.sleep(LOOK_SECONDS)
        finally:  # of a third Ctrl-C too
            self._signal(signal.SIGKILL)
            for process in self._processes:
                process.popen.wait()


@dataclass(frozen=True)
class _Process:
    """A running point: when it began, seconds spent on it earlier, and where its part of the log begins."""

    point: Point
    popen: subprocess.Popen[bytes]
    begin: float
    spent: float
    mark: int


# ------------------------------------------------------------------------------------------------------- the processes


def _lock(folder: Path) -> Lock:
    """Hold the folder alone. The runs inherit the lock, so that it lasts until the last of them ends."""
    with writing(folder / LOCK):
        try:
            return Lock(folder / LOCK, runs=[])
        except Locked as held:
            raise TrajectoryError(_who_holds(folder, held.note)) from None


def _note_processes(lock: Lock, processes: Sequence[_Process]) -> None:
    """Who is at work, for those who find the folder locked."""
    with writing(lock.path):
        lock.note(runs=[process.popen.pid for process in processes])


def _who_holds(folder: Path, note: dict[str, Any]) -> str:
    try:
        host, sweep, runs = str(note["host"]), int(note["process"]), [int(number) for number in note["runs"]]
    except (ValueError, KeyError, TypeError):
        return f"{folder}: another sweep is at work there; wait until it ends"
    if host != socket.gethostname():
        return f"{folder}: another sweep is at work there, process {sweep} on {host}; wait until it ends"
    if is_alive(sweep):
        return f"{folder}: another sweep is at work there, process {sweep}; wait until it ends, or stop it with Ctrl-C"
    numbers = " ".join(map(str, filter(is_alive, runs))) or "unknown"
    return (
        f"{folder}: the sweep was killed, but runs that it started are still at work, process {numbers}; wait until "
        f"they end, or stop them with kill -INT {numbers}"
    )


def _stop_signal() -> int:
    """What the runs are told to stop with; they ignore what this process does, as Ctrl-C in the background."""
    return signal.SIGTERM if signal.getsignal(signal.SIGINT) == signal.SIG_IGN else signal.SIGINT


def _cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _spent(folder: Path) -> float:
    """Seconds that earlier processes have worked on a point, as far as a sweep saw them end."""
    for name in (DONE, FAILED, BEGUN):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return float(read_json(folder / name)["seconds"])
    return 0.0


def _last_step(checkpoint: Path) -> int:
    from nnsim.running.checkpoint import load_checkpoint

    return int(load_checkpoint(checkpoint)["simulation"]["state"]["step"])


def _why(code: int, log: Path, mark: int) -> str:
    """One line on why a run failed: its own, or the signal that killed it."""
    if code < 0:
        with contextlib.suppress(ValueError):
            memory = ", perhaps since memory ran out" if code == -signal.SIGKILL else ""
            return f"killed by {signal.Signals(-code).name}{memory}"
    with log.open("rb") as file:
        file.seek(mark)
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    if lines and not errors and not text.endswith("\n"):
        return f"exit status {code}; its log was cut off, as on a full disk"
    return (errors or lines or [f"exit status {code}"])[-1]
