"""One output, one writer: everybody else is told who has it, and no kill leaves a lock behind."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import arrays_of, ended, error_of, killed, launch, nnsim, python, wait_for
from warm import Copy

from nnsim import NNSimWarning, Reporter, Simulation, Trajectory, TrajectoryError
from nnsim.cli.claim import Claim
from nnsim.integrators import Langevin
from nnsim.lock import Lock, Locked, OutputLock
from nnsim.systems import AnalyticSystem, Harmonic
from nnsim.trajectory.writer import TrajectoryWriter

SCRIPT = """
import os, time
import nnsim
from nnsim.integrators import Langevin
from nnsim.protocols import Reporter
from nnsim.systems import AnalyticSystem, Harmonic

class Pause(Reporter):
    def due(self, step):
        return step + 1
    def report(self, simulation):
        time.sleep(float(os.environ.get("PAUSE", "0")))

def build(seed: int = 0, own: str | None = None):
    return nnsim.Simulation(
        AnalyticSystem(3, Harmonic(), start=0.5), Langevin(0.05, 1.0), walkers=2, seed=seed, steps=200, every=2,
        checkpoint_every=10, threads=1, reporters=[Pause()], output=own,
    )
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "input.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple]:
    folder = tmp_path_factory.mktemp("whole")
    (folder / "input.py").write_text(SCRIPT)
    assert nnsim("run", folder / "input.py", "-o", folder / "whole.zarr", "--no-progress").status == 0
    return arrays_of(folder / "whole.zarr")


def has_frames(path: Path) -> bool:
    try:
        return Trajectory(path).steps > 0
    except TrajectoryError:
        return False


@pytest.fixture
def live(folder: Path) -> Iterator[Copy]:
    """A run that has written frames to run.zarr and goes on for a while."""
    process = launch("run", "input.py", "-o", "run.zarr", "--no-progress", cwd=folder, PAUSE="0.15")
    wait_for(lambda: has_frames(folder / "run.zarr"), process)
    yield process
    killed(process)


def holder(process: Copy) -> str:
    return f"is being written by process {process.pid} on {socket.gethostname()} since 2"


def simulation(**more: Any) -> Simulation:
    return Simulation(
        AnalyticSystem(3, Harmonic(), start=0.5), Langevin(0.05, 1.0), walkers=2, every=2, checkpoint_every=10, **more
    )


# ------------------------------------------------------------------------------------------------------- a live run


@pytest.mark.slow
def test_a_live_run_is_left_alone(folder: Path, live: Copy, whole: dict[str, tuple]) -> None:
    """Whatever is asked for and however its path is spelled; it is killed and goes on to the same bits."""
    (folder / "link.zarr").symlink_to("run.zarr")
    (folder / "sub").mkdir()
    (folder / "sub" / "back").symlink_to("..")
    spellings = ["run.zarr", "./sub/../run.zarr", folder / "run.zarr", "link.zarr", "sub/back/run.zarr", "run.zarr/"]
    for output in spellings:
        for more in ([], ["--overwrite"], ["--resume"], ["--resume", "--set", "seed=3"]):
            line = error_of("run", "input.py", "-o", output, *more)
            assert holder(live) in line
            assert f"stop it with kill -INT {live.pid}, or choose another output" in line
    for more in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(TrajectoryError, match="is being written by process"):
            simulation().run(20, output="run.zarr", progress=False, **more)
    with pytest.raises(TrajectoryError, match="is being written by process"):
        TrajectoryWriter.create("run.zarr", {}, overwrite=True)
    with pytest.raises(TrajectoryError, match="is being written by process"):
        TrajectoryWriter.resume("run.zarr", {})
    # an output that the script names, and one that only the name of the script suggests
    assert holder(live) in error_of("run", "input.py", "--set", "own=run.zarr", "--overwrite")
    with OutputLock("input.zarr"):
        assert nnsim("run", "input.py", "--set", "own=other.zarr", "--no-progress") == (0, "", "")
    assert Trajectory("other.zarr").steps == 200
    assert not [*folder.glob(".other*"), *folder.glob("input.zarr"), *folder.glob(".input*")]
    # a killed owner does not block
    killed(live)
    assert (folder / ".run.zarr.lock").exists()
    assert nnsim("run", "input.py", "-o", "run.zarr", "--resume", "--no-progress") == (0, "", "")
    assert arrays_of(folder / "run.zarr") == whole
    assert not (folder / ".run.zarr.lock").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", [[], ["--overwrite"]], ids=str)
def test_processes_that_start_together(folder: Path, how: list[str], whole: dict[str, tuple]) -> None:
    """One of them runs, the others are refused with a line and a status, and the result is that of one."""
    if how:
        assert nnsim("run", "input.py", "-o", "run.zarr", "--steps", "20", "--no-progress").status == 0
    arguments = ["run", "input.py", "-o", "run.zarr", "--no-progress", *how]
    processes = [launch(*arguments, cwd=folder, PAUSE="0.015") for _ in range(2)]
    results = [ended(process) for process in processes]
    assert sorted(status for status, _, _ in results) == [0, 2]
    for status, _, line in results:
        assert (status == 0 and line == "") or ("is being written by process" in line and line.count("\n") == 1)
    assert arrays_of(folder / "run.zarr") == whole
    assert sorted(os.listdir(folder)) == ["input.py", "run.checkpoint.npz", "run.checkpoint.previous.npz", "run.zarr"]


# ------------------------------------------------------------------------------------------------------ one process


class Again(Reporter):
    """Starts another run on the output of this one, in a thread or not."""

    def __init__(self, path: Path, thread: bool, **how: bool) -> None:
        self.path, self.thread, self.how, self.said = path, thread, how, ""

    def due(self, step: int) -> int:
        return 20 if step < 20 else 10**9

    def report(self, _: Simulation) -> None:
        other = threading.Thread(target=self.run)
        if self.thread:
            other.start()
            other.join()
        else:
            self.run()

    def run(self) -> None:
        try:
            simulation().run(40, output=self.path, progress=False, **self.how)
        except TrajectoryError as error:
            self.said = str(error)


@pytest.mark.slow
@pytest.mark.parametrize("thread", [False, True])
@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"resume": True}], ids=str)
def test_two_simulations_of_one_process(tmp_path: Path, thread: bool, how: dict[str, bool]) -> None:
    again = Again(tmp_path / "run.zarr", thread, **how)
    simulation(reporters=[again]).run(40, output=tmp_path / "run.zarr", progress=False)
    assert f"is being written by another run of this very process, {os.getpid()}, since 2" in again.said
    simulation().run(40, output=tmp_path / "whole.zarr", progress=False)
    assert arrays_of(tmp_path / "run.zarr") == arrays_of(tmp_path / "whole.zarr")


class Breaks(Reporter):
    def due(self, step: int) -> int:
        return 20 if step < 20 else 10**9

    def report(self, _: Simulation) -> None:
        raise ZeroDivisionError


def test_whatever_ends_a_run_frees_its_output(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with pytest.raises(ZeroDivisionError):
        simulation(reporters=[Breaks()]).run(40, output=path, progress=False)
    with pytest.raises(TrajectoryError, match="exists already"):
        simulation().run(40, output=path, progress=False)
    with pytest.raises(Exception, match="made with other settings"):
        simulation(seed=1).run(40, output=path, resume=True, progress=False)
    assert sorted(os.listdir(tmp_path)) == ["run.checkpoint.npz", "run.checkpoint.previous.npz", "run.zarr"]
    simulation().run(40, output=path, resume=True, progress=False)
    simulation().run(60, output=path, resume=True, progress=False)


def test_a_writer_has_the_output_until_it_is_closed(tmp_path: Path) -> None:
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {})
    for other in (lambda: TrajectoryWriter.create(writer.path, {}, overwrite=True), lambda: OutputLock(writer.path)):
        with pytest.raises(TrajectoryError, match="is being written by another run of this very process"):
            other()
    writer.close()
    TrajectoryWriter.create(tmp_path / "run.zarr", {}, overwrite=True)
    for late in (writer.flush, lambda: writer.set_attrs("parameters/nnsim", {}), lambda: writer.append("x", 1, 1, 1)):
        with pytest.raises(TrajectoryError, match=r"this writer was closed.*TrajectoryWriter\.resume"):
            late()


def test_a_lock_that_the_caller_holds(tmp_path: Path) -> None:
    with OutputLock(tmp_path / "run.zarr") as lock:
        simulation().run(20, output=lock, progress=False)
        simulation().run(40, output=lock, resume=True, progress=False)
        with pytest.raises(TrajectoryError, match="this very process"):
            simulation().run(60, output=tmp_path / "run.zarr", resume=True, progress=False)
    simulation().run(60, output=tmp_path / "run.zarr", resume=True, progress=False)


# --------------------------------------------------------------------------------------------------------- the lock

COUNT = """
import sys, time
from pathlib import Path
from nnsim.lock import Lock, Locked
done, counter = 0, Path("counter")
while done < 100:
    try:
        with Lock(Path("lock")):
            counter.write_text(str(int(counter.read_text()) + 1))
        done += 1
    except Locked:
        pass
"""


def test_removal_of_the_file_lets_no_two_in(tmp_path: Path) -> None:
    """Each of the many takings removes the file that others are just opening; none of the additions is lost."""
    (tmp_path / "counter").write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNT], cwd=tmp_path) for _ in range(3)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    assert (tmp_path / "counter").read_text() == "300"
    assert os.listdir(tmp_path) == ["counter"]


FORK = """
import multiprocessing, os, sys, time
from pathlib import Path
from nnsim.lock import Lock
lock = Lock(Path("lock"))
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
child.start()
print(child.pid, flush=True)
time.sleep(60)
"""


def test_forked_workers_do_not_keep_it(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", FORK], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    worker = int(owner.stdout.readline())
    try:
        time.sleep(0.2)
        with pytest.raises(Locked) as caught:
            Lock(tmp_path / "lock")
        assert caught.value.note["process"] == owner.pid
        owner.kill()
        owner.wait()
        os.kill(worker, 0)
        Lock(tmp_path / "lock").release()
    finally:
        os.kill(worker, signal.SIGKILL)
        owner.stdout.close()


def test_a_forked_process_that_ends_does_not_release_it(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from nnsim.lock import Lock, Locked
lock = Lock(Path("lock"))
if os.fork() == 0:
    lock.release()
    sys.exit()
os.wait()
try:
    Lock(Path("lock"))
except Locked:
    print(os.path.exists("lock"), "held")
"""
    assert python(code, tmp_path) == (0, "True held\n", "")


def test_a_process_that_is_given_the_file_holds_it_too(tmp_path: Path) -> None:
    code = """
import subprocess, sys, os
from pathlib import Path
from nnsim.lock import Lock
lock = Lock(Path("lock"))
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
child = subprocess.Popen(["sleep", "60"], pass_fds=[lock.fileno()], **quiet)
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    with pytest.raises(Locked):
        Lock(tmp_path / "lock")
    os.kill(int(done.stdout), signal.SIGKILL)
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            Lock(tmp_path / "lock").release()
            return
        except Locked:
            time.sleep(0.02)
    raise AssertionError("still locked")


@pytest.mark.parametrize("note", ["", "{", "[]", '{"process": null}', "\x00\xff"])
def test_a_note_that_cannot_be_read(tmp_path: Path, note: str) -> None:
    with OutputLock(tmp_path / "run.zarr"):
        (tmp_path / ".run.zarr.lock").write_text(note)
        with pytest.raises(TrajectoryError, match="is being written by another process; wait until it ends, or choose"):
            OutputLock(tmp_path / "run.zarr")


def test_a_file_system_without_locks_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(NNSimWarning, match=r"its file system cannot lock files \(No locks available\); make sure"):
        OutputLock(tmp_path / "run.zarr").release()


def test_a_run_that_will_be_refused_refuses_nobody(tmp_path: Path) -> None:
    """While it imports torch, a run without --output that finds another one there does not keep --overwrite away."""
    path = tmp_path / "run.zarr"
    TrajectoryWriter.create(path, {}).close()
    with Claim(path, resume=False, overwrite=False, certain=False) as claim:
        OutputLock(path).release()
        with pytest.raises(TrajectoryError, match="exists already"):
            TrajectoryWriter.create(claim.moved(path), {})
    with Claim(path, resume=False, overwrite=True, certain=False), pytest.raises(TrajectoryError, match="written by"):
        OutputLock(path)


def test_a_full_disk_frees_the_lock(tmp_path: Path) -> None:
    code = """
import resource
from nnsim import TrajectoryError
from nnsim.lock import OutputLock
whole = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, whole[1]))
try:
    OutputLock("run.zarr")
except TrajectoryError as error:
    kept = error
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, whole)
OutputLock("run.zarr")
"""
    result = python(code, tmp_path)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("cannot write run.zarr: File too large; ")
    assert os.listdir(tmp_path) == []


def test_where_nothing_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "run.zarr", tmp_path / ("a" * 255)):
        with pytest.raises(TrajectoryError, match=r"cannot write .*; ") as caught:
            OutputLock(path)
        assert "\n" not in str(caught.value)
