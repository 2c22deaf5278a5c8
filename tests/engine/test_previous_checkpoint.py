"""A checkpoint that is damaged costs the steps since the one before, and never the trajectory."""

import errno
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import arrays_of, error_of, nnsim

from nnsim import NNSimWarning, Simulation, Trajectory, TrajectoryError
from nnsim.files import PARTIAL
from nnsim.integrators import Langevin
from nnsim.running.checkpoint import DamagedCheckpoint, load_checkpoint, previous_path, save_checkpoint
from nnsim.running.storage import checkpoint_path
from nnsim.systems import AnalyticSystem, Harmonic


def simulation(**more: Any) -> Simulation:
    settings = {"walkers": 2, "every": 2, "checkpoint_every": 10, "threads": 1, **more}
    return Simulation(AnalyticSystem(3, Harmonic(), start=0.5), Langevin(0.05, 1.0), **settings)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 40 steps with checkpoints of steps 40 and 30."""
    simulation().run(40, output=tmp_path / "run.zarr", progress=False)
    return tmp_path / "run.zarr"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple]:
    path = tmp_path_factory.mktemp("whole") / "whole.zarr"
    simulation().run(60, output=path, progress=False)
    return arrays_of(path)


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def step_of(file: Path) -> int:
    return int(load_checkpoint(file)["simulation"]["state"]["step"])


# ---------------------------------------------------------------------------------------------------------- a resume


def test_a_resume_goes_back_to_the_one_before(run: Path, whole: dict[str, tuple]) -> None:
    checkpoint, previous = checkpoint_path(run), previous_path(checkpoint_path(run))
    assert (previous.name, step_of(checkpoint), step_of(previous)) == ("run.checkpoint.previous.npz", 40, 30)
    cut_off(checkpoint)
    words = (
        r"^run\.checkpoint\.npz is damaged: the run goes back to the one before, run\.checkpoint\.previous\.npz, of "
        r"step 30; 10 of the 40 steps recorded are computed again$"
    )
    with pytest.warns(NNSimWarning, match=words):
        simulation().run(60, output=run, resume=True, progress=False)
    assert arrays_of(run) == whole
    assert (step_of(checkpoint), step_of(previous)) == (60, 50)


def test_the_damaged_one_never_takes_the_place_of_the_whole_one(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resume that is broken off as it writes its first checkpoint can be repeated."""
    cut_off(checkpoint_path(run))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.warns(NNSimWarning, match="of step 30"):
        simulation().run(30, output=run, resume=True, progress=False)
    assert (step_of(checkpoint_path(run)), step_of(previous_path(checkpoint_path(run)))) == (30, 30)
    cut_off(checkpoint_path(run))
    monkeypatch.setattr(os, "fsync", full)
    warned = pytest.warns(NNSimWarning, match="of step 30")
    with warned, pytest.raises(TrajectoryError, match="No space left"):
        simulation().run(60, output=run, resume=True, progress=False)
    assert step_of(previous_path(checkpoint_path(run))) == 30


def test_one_that_is_missing(run: Path, whole: dict[str, tuple]) -> None:
    checkpoint_path(run).unlink()
    with pytest.warns(NNSimWarning, match=r"run\.checkpoint\.npz is missing: the run goes back .* of step 30; 10 of"):
        simulation().run(60, output=run, resume=True, progress=False)
    assert arrays_of(run) == whole


def test_both_bad(run: Path) -> None:
    before = arrays_of(run)
    cut_off(checkpoint_path(run))
    cut_off(previous_path(checkpoint_path(run)))
    with pytest.raises(TrajectoryError) as caught:
        simulation().run(60, output=run, resume=True, progress=False)
    for words in (
        "run.checkpoint.npz is damaged, run.checkpoint.previous.npz is damaged",
        "put a copy back, or start a new run with another --output: what was recorded up to step 40 is whole",
        "--overwrite would remove it",
    ):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert arrays_of(run) == before
    assert Trajectory(run).steps == 40


def test_a_new_run_keeps_nothing_of_the_one_it_replaces(run: Path) -> None:
    simulation(seed=1).run(0, output=run, overwrite=True, progress=False)
    name = Trajectory(run).header["run"]
    for path in (checkpoint_path(run), previous_path(checkpoint_path(run))):
        assert load_checkpoint(path)["run"] == name


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("input.py").write_text(
        "import nnsim\nfrom nnsim.integrators import Langevin\nfrom nnsim.systems import AnalyticSystem, Harmonic\n"
        "def build():\n    return nnsim.Simulation(AnalyticSystem(3, Harmonic(), start=0.5), Langevin(0.05, 1.0), "
        "every=2, checkpoint_every=10, steps=40, threads=1)\n"
    )
    assert nnsim("run", "input.py", "--no-progress").status == 0
    cut_off(Path("input.checkpoint.npz"))
    resumed = nnsim("run", "input.py", "--no-progress", "--resume", "--steps", "60")
    assert (resumed.status, resumed.err.count("\n")) == (0, 1)
    assert resumed.err.startswith("Warning: input.checkpoint.npz is damaged: the run goes back to the one before")
    cut_off(Path("input.checkpoint.npz"))
    cut_off(Path("input.checkpoint.previous.npz"))
    assert "is whole, and --overwrite would remove it" in error_of("run", "input.py", "--resume")


# ---------------------------------------------------------------------------------------------------------- the files


@pytest.mark.parametrize("links", [True, False])
def test_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not links:  # as on file systems without hard links
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "run.npz"
    for number in range(4):
        save_checkpoint(path, {"x": number}, keep=True)
        assert load_checkpoint(path) == {"x": number}
        if number:
            assert load_checkpoint(previous_path(path)) == {"x": number - 1}
    assert sorted(os.listdir(tmp_path)) == ["run.npz", "run.previous.npz"]


@pytest.mark.parametrize("moment", ["link", "rename of the link", "rename"])
def test_broken_off_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """There always is a whole one of that name, and the next save clears up."""
    path, real, calls = tmp_path / "run.npz", Path.replace, [0]
    save_checkpoint(path, {"x": 0}, keep=True)
    save_checkpoint(path, {"x": 1}, keep=True)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    def replace(self: Path, target: Path) -> Path:
        calls[0] += 1
        return killed() if calls[0] == (1 if moment == "rename of the link" else 2) else real(self, target)

    with monkeypatch.context() as patch:
        if moment == "link":
            patch.setattr(os, "link", killed)
        else:
            patch.setattr(Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(path, {"x": 2}, keep=True)
    assert load_checkpoint(path) == {"x": 1}
    assert load_checkpoint(previous_path(path))["x"] in (0, 1)
    save_checkpoint(path, {"x": 3}, keep=True)
    assert (load_checkpoint(path), load_checkpoint(previous_path(path))) == ({"x": 3}, {"x": 1})
    assert not [*tmp_path.glob(f".*{PARTIAL}")]


def test_no_bit_changes_unseen(tmp_path: Path) -> None:
    path, draw = tmp_path / "run.npz", random.Random(2)
    tree = {"x": np.arange(6.0), "y": torch.arange(3), "z": 1.5, "name": {"a": "b"}}
    save_checkpoint(path, tree)
    content = path.read_bytes()
    for _ in range(300):
        place, bit = draw.randrange(len(content)), 1 << draw.randrange(8)
        path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        try:
            back = load_checkpoint(path)
        except DamagedCheckpoint:
            continue
        assert np.array_equal(back["x"], tree["x"])
        assert torch.equal(back["y"], tree["y"])
        assert (back["z"], back["name"]) == (1.5, {"a": "b"})
