"""A run shows how it goes while it goes."""

import re
import socket
import time
from pathlib import Path

import pytest
from command_line import arrays_of, killed, launch, nnsim, wait_for
from test_resume import analytic

from nnsim import Reporter, Simulation, Trajectory, simulation
from nnsim.cli.info import describe_trajectory
from nnsim.running.storage import checkpoint_path
from nnsim.trajectory.writer import TrajectoryWriter

SCRIPT = """
import time
import nnsim
from nnsim.integrators import Langevin
from nnsim.systems import AnalyticSystem, Harmonic


class Pause(nnsim.Reporter):
    def due(self, step: int) -> int:
        return step + 1

    def report(self, simulation: nnsim.Simulation) -> None:
        time.sleep(0.01)


def build() -> nnsim.Simulation:
    system = AnalyticSystem(3, Harmonic(), start=0.5)
    return nnsim.Simulation(
        system, Langevin(0.02, 1.0), every=5, steps=100_000, checkpoint_every=50_000, threads=1, reporters=[Pause()]
    )
"""


@pytest.mark.slow
def test_the_first_seconds_of_a_run(tmp_path: Path) -> None:
    """Long before its first checkpoint, of step 50,000, there are frames, a rate and the time left."""
    (tmp_path / "input.py").write_text(SCRIPT)
    path = tmp_path / "input.zarr"
    process = launch("run", "input.py", "--no-progress", cwd=tmp_path)
    wait_for(checkpoint_path(path).exists, process)
    begin, before = time.monotonic(), checkpoint_path(path).read_bytes()
    wait_for(lambda: Trajectory(path).steps, process)
    assert time.monotonic() - begin < 10  # 2 of them its own; the machine may be busy
    shown = dict(re.findall(r"^(\w[\w ]*): +(.*)$", nnsim("info", path).out, re.MULTILINE))
    step = int(shown["last committed step"])
    found = re.fullmatch(r"step (\d+) of 100000 \([\d.e-]+ %\), ([\d.]+) steps/s, (.+) left", shown["progress"])
    assert found, shown
    assert step <= int(found[1]) < step + 5
    assert float(found[2]) <= 100  # 10 milliseconds a step
    assert re.fullmatch(r"\d+ s ago, at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", shown["last write"])
    assert checkpoint_path(path).read_bytes() == before
    assert re.fullmatch(
        rf"process {process.pid} on {socket.gethostname()} since 20\d\d-\d\d-\d\d [\d:]+", shown["being written by"]
    )
    killed(process)
    stopped = describe_trajectory(Trajectory(path))
    assert "being written by" not in stopped
    assert re.fullmatch(r"step .*, [\d.]+ steps/s", stopped["progress"])
    assert nnsim("run", tmp_path / "input.py", "-o", path, "--resume", "--steps", "20", "--no-progress").status == 0
    assert describe_trajectory(Trajectory(path))["progress"] == "step 20 of 20 (100 %)"


class Broken(Reporter):
    """Breaks a run at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def due(self, step: int) -> int:
        return self.step if step < self.step else 10**9

    def report(self, simulation: Simulation) -> None:
        raise RuntimeError("broken")


@pytest.mark.slow
def test_what_was_committed_after_the_checkpoint_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COMMIT_SECONDS", "CHECKPOINT_SECONDS"):
        monkeypatch.setattr(simulation, name, -1.0)  # whenever the run looks up
    path, whole = tmp_path / "run.zarr", tmp_path / "whole.zarr"
    with pytest.raises(RuntimeError, match="broken"):
        analytic(reporters=[Broken(13)]).run(18, output=path, progress=False)
    assert Trajectory(path).steps > 7
    analytic().run(18, output=path, resume=True, progress=False)
    monkeypatch.undo()
    analytic().run(18, output=whole, progress=False)
    assert arrays_of(path) == arrays_of(whole)


@pytest.mark.parametrize("odd", [None, "x", {}, {"step": "3", "at": []}, {"step": 1e400, "at": float("nan")}, [1]])
def test_files_that_say_nothing_of_it(tmp_path: Path, odd: object) -> None:
    """As those of an older version, or of somebody else."""
    path = tmp_path / "run.zarr"
    TrajectoryWriter.create(path, {"target": 100, "written": odd, "going": odd}).close()
    rows = describe_trajectory(Trajectory(path))
    assert rows["progress"] == "step 0 of 100 (0 %)"
    assert rows["last write"].startswith(("0 s ago", "1 s ago"))
    TrajectoryWriter.create(path, {"target": odd}, overwrite=True).close()
    assert "progress" not in describe_trajectory(Trajectory(path))
