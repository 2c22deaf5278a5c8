"""Where things are on disk is settled at the first moment: whoever changes the working directory splits no run."""

import os
from pathlib import Path
from typing import Any

import pytest
from command_line import arrays_of, error_of, nnsim

from nnsim import Reporter, Simulation, Trajectory, TrajectoryError
from nnsim.integrators import Langevin
from nnsim.running.checkpoint import load_checkpoint, previous_path
from nnsim.running.storage import checkpoint_path
from nnsim.systems import AnalyticSystem, Harmonic

SCRIPT = """
import os
from pathlib import Path
import nnsim
from nnsim.integrators import Langevin
from nnsim.systems import AnalyticSystem, Harmonic
{module}
def build(seed: int = 0, own: str | None = None):
    {build}
    assert (Path(__file__).parent / "data").is_dir()
    return nnsim.Simulation(
        AnalyticSystem(3, Harmonic(), start=0.5), Langevin(0.05, 1.0), walkers=2, seed=seed, steps=40, every=2,
        checkpoint_every=10, threads=1, output=own,
    )
"""
MOVES = {"in build": ("", 'os.chdir("data")'), "in the script": ('os.chdir("data")', "")}


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    module, build = MOVES[request.param]
    (tmp_path / "input.py").write_text(SCRIPT.format(module=module, build=build))
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


everywhere = pytest.mark.parametrize("folder", MOVES, indirect=True)


def run(folder: Path, *arguments: object) -> None:
    os.chdir(folder)
    assert nnsim("run", "input.py", "--no-progress", *arguments) == (0, "", "")


@pytest.mark.slow
@everywhere
def test_a_script_that_changes_the_folder(folder: Path) -> None:
    run(folder)
    run(folder, "--resume", "--steps", "60")
    run(folder, "-o", "sub/out")
    run(folder, "--set", "own=own.zarr")
    run(folder, "--set", "own=own.zarr", "--resume", "--steps", "60")
    names = [path.relative_to(folder).as_posix() for path in [*folder.glob("*"), *folder.glob("sub/*")]]
    found = sorted(name for name in names if "previous" not in name)
    assert found == [
        "data",
        *("input.checkpoint.npz", "input.py", "input.zarr", "own.checkpoint.npz", "own.zarr"),
        *("sub", "sub/out", "sub/out-checkpoint.npz"),
    ]
    assert os.listdir(folder / "data") == []
    assert (Trajectory(folder / "input.zarr").steps, Trajectory(folder / "own.zarr").steps) == (60, 60)
    os.chdir(folder)
    assert "input.zarr exists already" in error_of("run", "input.py", "-o", "input.zarr")


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["in build"], indirect=True)
def test_a_sweep_of_such_a_script(folder: Path) -> None:
    assert nnsim("sweep", "input.py", "--seeds", "1", "--no-progress") == (0, "", "")
    assert Trajectory(folder / "input-sweep" / "seed=0" / "run.zarr").steps == 40
    assert sorted(os.listdir(folder)) == ["data", "input-sweep", "input.py"]
    assert os.listdir(folder / "data") == []


# ------------------------------------------------------------------------------------------------------- in Python


class Move(Reporter):
    def __init__(self, to: Path) -> None:
        self.to = to

    def due(self, step: int) -> int:
        return 15 if step < 15 else 10**9

    def report(self, _: Simulation) -> None:
        os.chdir(self.to)


def simulation(**more: Any) -> Simulation:
    settings = {"walkers": 2, "every": 2, "checkpoint_every": 10, **more}
    return Simulation(AnalyticSystem(3, Harmonic(), start=0.5), Langevin(0.05, 1.0), **settings)


def saved_step(trajectory: Path) -> int:
    return int(load_checkpoint(checkpoint_path(trajectory))["simulation"]["state"]["step"])


@pytest.mark.parametrize("own", [False, True])
def test_a_reporter_that_changes_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    away.mkdir()
    monkeypatch.chdir(home)
    moving = simulation(reporters=[Move(away)], output="run.zarr" if own else None)
    if own:
        os.chdir(away)  # its own output is where it was when the simulation was made
    moving.run(40, output=None if own else "run.zarr", progress=False)
    assert Path.cwd() == away
    assert os.listdir(away) == []
    assert sorted(os.listdir(home)) == ["run.checkpoint.npz", "run.checkpoint.previous.npz", "run.zarr"]
    assert saved_step(home / "run.zarr") == Trajectory(home / "run.zarr").steps == 40


def test_an_open_trajectory_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulation().run(40, output=tmp_path / "run.zarr", progress=False)
    monkeypatch.chdir(tmp_path)
    trajectory = Trajectory("run.zarr")
    thin = trajectory.thinned(4)
    os.chdir("/")
    assert str(trajectory.path) == str(thin.path) == "run.zarr"
    assert len(trajectory["potential_energy"][:]) == 20
    assert len(thin.thinned(8)["potential_energy"][:]) == 5
    assert trajectory.header["walkers"] == 2
    trajectory.refresh()
    assert trajectory.missing() == []


# ----------------------------------------------------------------------------------------------------- checkpoints


@pytest.mark.slow
def test_no_two_outputs_share_a_checkpoint(tmp_path: Path) -> None:
    names = ["run", "run.zarr", "run.checkpoint", "run.checkpoint.npz.zarr", "run-checkpoint", "run.npz", ".zarr"]
    assert len({checkpoint_path(tmp_path / name) for name in names}) == len(names)
    for name, seed in (("run", 0), ("run.zarr", 1)):
        simulation(seed=seed).run(20, output=tmp_path / name, progress=False)
    for name, seed in (("run", 0), ("run.zarr", 1)):
        simulation(seed=seed).run(40, output=tmp_path / name, resume=True, progress=False)
        simulation(seed=seed).run(40, output=tmp_path / f"whole{seed}.zarr", progress=False)
        assert arrays_of(tmp_path / name) == arrays_of(tmp_path / f"whole{seed}.zarr")


def test_all_links_to_an_output_lead_to_one_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link.zarr").symlink_to("disk/run.zarr")
    simulation().run(20, output=tmp_path / "link.zarr", progress=False)
    simulation().run(40, output=tmp_path / "disk" / "run.zarr", resume=True, progress=False)
    simulation().run(60, output=tmp_path / "link.zarr", resume=True, progress=False)
    found = sorted(os.listdir(tmp_path / "disk"))
    assert found == ["run.checkpoint.npz", "run.checkpoint.previous.npz", "run.zarr"]
    assert sorted(os.listdir(tmp_path)) == ["disk", "link.zarr"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run", "link.zarr"])
def test_checkpoints_where_version_0_1_had_them(tmp_path: Path, name: str) -> None:
    """Beside a link, and the same for `run` and `run.zarr`; that of another run is not taken."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link.zarr").symlink_to("disk/run.zarr")
    simulation().run(20, output=tmp_path / name, progress=False)
    checkpoint_path(tmp_path / name).rename(tmp_path / f"{name.removesuffix('.zarr')}.checkpoint.npz")
    previous_path(checkpoint_path(tmp_path / name)).unlink()
    simulation().run(40, output=tmp_path / name, resume=True, progress=False)
    simulation().run(40, output=tmp_path / "whole.zarr", progress=False)
    assert arrays_of(tmp_path / name) == arrays_of(tmp_path / "whole.zarr")
    for path in (checkpoint_path(tmp_path / name), previous_path(checkpoint_path(tmp_path / name))):
        path.unlink()
    simulation(seed=1).run(20, output=tmp_path / "other.zarr", progress=False)
    checkpoint_path(tmp_path / "other.zarr").rename(tmp_path / f"{name.removesuffix('.zarr')}.checkpoint.npz")
    with pytest.raises(TrajectoryError, match="is missing, damaged, or that of another run"):
        simulation().run(60, output=tmp_path / name, resume=True, progress=False)
