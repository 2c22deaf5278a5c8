"""Frames of step 0: once in memory and on disk, whatever happens to the run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import arrays_of, committed, launch, nnsim, read_all
from test_resume import SCRIPT, assert_equals, assert_same_bits, kill_when

from nnsim import Grid, InputError, Integrator, Simulation, Trajectory, cv
from nnsim.analysis import round_trips
from nnsim.bias import Metadynamics, Wall, WangLandau
from nnsim.integrators import (
    Acceptance,
    Adam,
    Brownian,
    GradientDescent,
    HybridMonteCarlo,
    Langevin,
    MonteCarlo,
    NoseHoover,
    VelocityVerlet,
)
from nnsim.running import storage, zarr_store
from nnsim.running.checkpoint import load_checkpoint
from nnsim.running.storage import checkpoint_path
from nnsim.schedules import InverseTime
from nnsim.systems import AnalyticSystem, Harmonic, spiral_classification
from nnsim.trajectory.writer import TrajectoryWriter


def langevin(record_start: bool = True, **changed: Any) -> Simulation:
    energy = cv.LogEnergy(Harmonic())
    bias = WangLandau(energy, Grid(-6.0, 3.0, 30), InverseTime(0.1, 100.0), kernel=0.5)
    settings = {
        "bias": [bias, Wall(energy, upper=2.0)],
        "observe": [(cv.WeightNorm(), 7)],
        "walkers": 2,
        "every": 2,
        "positions_every": 3,
        "velocities_every": 5,
        "snapshot_every": 4,
        "checkpoint_every": 7,
        "threads": 1,
        **changed,
    }
    return Simulation(AnalyticSystem(3, start=0.5), Langevin(0.05, 1.0), record_start=record_start, **settings)


# ---------------------------------------------------------------------------------------------------------- in memory


def test_the_first_frame_is_the_start() -> None:
    run = langevin()
    state = {name: value.clone() for name, value in run.state.state_dict().items() if torch.is_tensor(value)}
    temperature = run.kinetic_temperature().clone()
    history = run.advance(10).history
    assert history.steps("ln_energy").tolist() == [0, 2, 4, 6, 8, 10]
    assert history.steps("weight_norm").tolist() == [0, 7]
    assert history.steps("position").tolist() == [0, 3, 6, 9]
    assert history.steps("velocity").tolist() == [0, 5, 10]
    np.testing.assert_array_equal(history["position"][0], state["positions"].float())
    np.testing.assert_array_equal(history["velocity"][0], state["velocities"].float())
    np.testing.assert_array_equal(history["ln_energy"][0], state["cvs"][:, 0])
    np.testing.assert_array_equal(history["bias_energy"][0], state["bias_energy"])
    np.testing.assert_array_equal(history["potential_energy"][0], state["energy"])
    np.testing.assert_allclose(history["weight_norm"][0], np.sqrt(0.75), rtol=1e-6)
    np.testing.assert_array_equal(history["kinetic_temperature"][0], temperature)
    np.testing.assert_allclose(temperature, state["velocities"].square().mean(1), rtol=1e-12)
    assert history["wang_landau_increment"].shape == (6,)


@pytest.mark.parametrize("pieces", [[10], [0, 10], [3, 7], [1, 0, 4, 5]])
def test_once_however_a_run_is_cut(pieces: list[int]) -> None:
    whole, parts = langevin().advance(10), langevin()
    for steps in pieces:
        parts.advance(steps)
    assert parts.history.names == whole.history.names
    for name in whole.history.names:
        np.testing.assert_array_equal(parts.history[name], whole.history[name])
        assert parts.history.steps(name).tolist() == whole.history.steps(name).tolist()


def test_nothing_else_changes() -> None:
    with_start, without = langevin().advance(10), langevin(record_start=False).advance(10)
    assert_same_bits(with_start.state_dict(), without.state_dict())
    for name in without.history.names:
        np.testing.assert_array_equal(with_start.history[name][1:], without.history[name])
        assert without.history.steps(name)[0] > 0
    assert "start" not in without.describe()["recording"]


def test_run_in_memory_and_a_run_that_goes_on() -> None:
    assert langevin().run(4).history.steps("ln_energy").tolist() == [0, 2, 4]
    later = langevin()
    later.advance(4)
    assert later.run(8).history.steps("ln_energy").tolist() == [0, 2, 4, 6, 8]


@pytest.mark.slow
@pytest.mark.parametrize(
    "integrator",
    [
        GradientDescent(0.05),
        Adam(0.01, batch_size=4),
        VelocityVerlet(0.01),
        NoseHoover(0.01, 1.0),
        Brownian(0.01, 1.0),
        HybridMonteCarlo(0.01, 3),
        MonteCarlo(0.1),
        Langevin(0.01, 1.0),
    ],
    ids=lambda one: type(one).__name__,
)
@pytest.mark.parametrize("platform", ["auto", "reference"])
def test_every_integrator(tmp_path: Path, integrator: Integrator, platform: str) -> None:
    """Among them training, whose initialisation is what studies of it begin with."""

    def build() -> Simulation:
        counts = isinstance(integrator, (MonteCarlo, HybridMonteCarlo))
        return Simulation(
            spiral_classification(hidden=(4,), points_per_class=5),
            integrator,
            observe=[cv.Loss("train"), (cv.Accuracy("test"), 3), *([Acceptance()] if counts else [])],
            walkers=3,
            every=5,
            record_start=True,
            precision="double",
            platform=platform,
        )

    run = build()
    at_start = run.force_field.evaluate(run.state.positions).loss("train")
    run.run(20, output=tmp_path / "run.zarr", progress=False)
    trajectory = Trajectory(tmp_path / "run.zarr")
    assert trajectory["loss_train"].step.tolist() == [0, 5, 10, 15, 20]
    assert trajectory["loss_train"].time[0] == 0.0
    np.testing.assert_allclose(trajectory["loss_train"][0], at_start.detach(), rtol=1e-13)
    assert trajectory["accuracy_test"].step.tolist() == [0, 3, 6, 9, 12, 15, 18]
    memory = build().advance(20)
    for name in trajectory.observables:
        np.testing.assert_array_equal(trajectory[name][:], memory.history[name])


# ------------------------------------------------------------------------------------------------------------ on disk


@pytest.mark.slow
@pytest.mark.parametrize("stop", [0, 1, 12])
def test_resume_neither_doubles_nor_loses_it(tmp_path: Path, stop: int) -> None:
    whole, parts = tmp_path / "whole.zarr", tmp_path / "parts.zarr"
    langevin().run(20, output=whole, progress=False)
    langevin().run(stop, output=parts, progress=False)
    assert Trajectory(parts)["ln_energy"].step[0] == 0
    langevin().run(20, output=parts, resume=True, progress=False)
    assert_equals(parts, whole)
    trajectory = Trajectory(whole)
    for name, first in (("ln_energy", [0, 2]), ("weight_norm", [0, 7]), ("potential_energy", [0, 2])):
        assert trajectory[name].step[:2].tolist() == first
    assert trajectory.positions is not None
    assert trajectory.positions.step[:2].tolist() == [0, 3]
    assert trajectory.bias("wang_landau").snapshots["potential"].step[0] == 4  # those begin with what was learnt
    assert load_checkpoint(checkpoint_path(whole))["counts"]["observables/ln_energy"] == 11


class Killed(BaseException):
    """The process ends here."""


def killed(*arguments: Any, **options: Any) -> None:
    raise Killed


STAGES: dict[str, tuple[Any, str]] = {
    "before any frame": (storage.Recorder, "start"),
    "before the frames are written": (TrajectoryWriter, "flush"),
    "before the first checkpoint": (zarr_store, "save_checkpoint"),
    "after the first checkpoint": (Simulation, "_run"),
}


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_each_stage_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, again: bool
) -> None:
    """Also twice, the second time at the same stage of the resume."""
    whole, path = tmp_path / "whole.zarr", tmp_path / "run.zarr"
    langevin().run(20, output=whole, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(*STAGES[stage], killed)
        for resume in [False, True] if again else [False]:
            with pytest.raises(Killed):
                langevin().run(20, output=path, resume=resume, progress=False)
    assert checkpoint_path(path).exists() == (stage == "after the first checkpoint")
    langevin().run(20, output=path, resume=True, progress=False)
    assert_equals(path, whole)


@pytest.mark.slow
def test_killed_between_committed_frames_and_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames of step 0 are there for readers, and those of the new start replace them."""
    whole, path = tmp_path / "whole.zarr", tmp_path / "run.zarr"
    langevin().run(20, output=whole, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(zarr_store, "save_checkpoint", killed)
        with pytest.raises(Killed):
            langevin().run(20, output=path, progress=False)
    assert Trajectory(path)["ln_energy"].step.tolist() == [0]
    assert read_all(path) == 0
    assert "Error" not in nnsim("info", path).out
    langevin().run(20, output=path, resume=True, progress=False)
    assert_equals(path, whole)


@pytest.mark.slow
def test_kill_9_of_a_process(tmp_path: Path) -> None:
    """While it starts, as the trajectory appears, and later."""
    (tmp_path / "input.py").write_text(SCRIPT.replace("walkers=2, steps=600", "walkers=2, record_start=True, steps=90"))
    path, whole = tmp_path / "input.zarr", tmp_path / "whole.zarr"
    assert nnsim("run", tmp_path / "input.py", "-o", whole, "--no-progress").status == 0
    run = lambda *more: launch("run", "input.py", "--no-progress", *more, cwd=tmp_path, PAUSE="0.02")  # noqa: E731
    kill_when(run(), (path / ".zgroup").exists)
    kill_when(run("--resume"), lambda: checkpoint_path(path).exists(), 0.0, path)
    kill_when(run("--resume"), lambda: read_all(path) > 20, 0.05, path)
    assert nnsim("run", tmp_path / "input.py", "-o", path, "--resume", "--no-progress").status == 0
    assert_equals(path, whole)
    assert Trajectory(path)["ln_energy"].step[:2].tolist() == [0, 3]


@pytest.mark.slow
def test_a_run_of_no_steps_is_its_start(tmp_path: Path) -> None:
    langevin().run(0, output=tmp_path / "run.zarr", progress=False)
    trajectory = Trajectory(tmp_path / "run.zarr")
    assert trajectory.steps == 0
    assert {name: trajectory[name].step.tolist() for name in trajectory} == {name: [0] for name in trajectory}
    before = arrays_of(tmp_path / "run.zarr"), committed(tmp_path / "run.zarr")
    langevin().run(0, output=tmp_path / "run.zarr", resume=True, progress=False)
    assert (arrays_of(tmp_path / "run.zarr"), committed(tmp_path / "run.zarr")) == before


def test_an_output_that_begins_later_has_none(tmp_path: Path) -> None:
    run = langevin().advance(3)
    run.run(10, output=tmp_path / "run.zarr", progress=False)
    assert Trajectory(tmp_path / "run.zarr")["ln_energy"].step.tolist() == [4, 6, 8, 10]
    assert run.history.steps("ln_energy").tolist() == [0, 2]


@pytest.mark.parametrize("first", [True, False])
def test_it_is_a_setting_of_the_run(tmp_path: Path, first: bool) -> None:
    langevin(first).run(4, output=tmp_path / "run.zarr", progress=False)
    with pytest.raises(InputError, match=r"recording\.start: "):
        langevin(not first).run(8, output=tmp_path / "run.zarr", resume=True, progress=False)


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_it_is_true_or_false(value: Any) -> None:
    with pytest.raises(InputError, match=r"record_start = .* must be True or False"):
        langevin(value)


# ------------------------------------------------------------------------------------------------------------ readers


def wang_landau(record_start: bool) -> Simulation:
    return langevin(record_start, every=1, snapshot_every=50, checkpoint_every=None)


def metadynamics(record_start: bool) -> Simulation:
    energy = cv.LogEnergy(Harmonic())
    bias = Metadynamics(energy, Grid(-6.0, 3.0, 30), height=0.1, sigma=0.4, pace=5, bias_factor=5.0)
    return langevin(record_start, bias=bias, every=5, observe=[cv.WeightNorm()], checkpoint_every=None)


COMMANDS = {
    "info": (wang_landau, ["info", "{}"]),
    "timeseries": (wang_landau, ["plot", "timeseries", "{}", "--observable", "ln_energy", "--output", "{}.png"]),
    "convergence": (wang_landau, ["plot", "convergence", "{}", "--output", "{}.png"]),
    "histogram": (wang_landau, ["plot", "histogram", "{}", "--observable", "ln_energy", "--output", "{}.png"]),
    "landscape": (wang_landau, ["plot", "landscape", "{}", "--output", "{}.png"]),
    "reweight": (metadynamics, ["analyze", "reweight", "{}", "--along", "weight_norm", "--bins", "10"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_take_such_trajectories(tmp_path: Path, command: str) -> None:
    """What they print of averages is what they print without it: the start is no sample of an ensemble."""
    build, words = COMMANDS[command]
    said = []
    for start in (True, False):
        path = tmp_path / f"{start}.zarr"
        build(start).run(400, output=path, progress=False)
        result = nnsim(*(word.format(path) for word in words))
        assert result.status == 0, result
        said.append(result.out)
    if command == "reweight":
        assert said[0].replace("True", "False") == said[1]


@pytest.mark.slow
def test_round_trips_may_begin_at_the_start(tmp_path: Path) -> None:
    counts = []
    for start in (True, False):
        wang_landau(start).run(400, output=tmp_path / f"{start}.zarr", progress=False)
        series = Trajectory(tmp_path / f"{start}.zarr")["ln_energy"]
        counts.append(round_trips(series, -1.0, 0.5))
    assert np.all(abs(counts[0] - counts[1]) <= 1)


@pytest.mark.parametrize(
    ("bins", "walkers", "asked", "expected"),
    [(50, 2, None, 1000), (300, 2, None, 15_000), (300, 20, None, 2000), (300, 2, 70, 70)],
)
def test_snapshots_of_large_tables_are_seldom(bins: int, walkers: int, asked: int | None, expected: int) -> None:
    """Two tables of 300 x 300 numbers, 1.44 MB: 14400 steps for 100 positions, 1440 for 1000, in hundreds of frames."""
    two = [cv.WeightNorm(), cv.Parameter(0)]
    bias = WangLandau(two, Grid((0, -2), (9, 2), bins=(bins, bins)), InverseTime(0.1, 100.0), kernel=0.3)
    system = AnalyticSystem(50, Harmonic(), start=0.1)
    simulation = Simulation(system, Langevin(0.01, 1.0), bias=bias, walkers=walkers, every=10, snapshot_every=asked)
    assert sum(table.nbytes for table in bias.tables().values()) == 16 * bins**2
    assert simulation.recording.snapshot_every == expected
    assert simulation.describe()["recording"]["snapshot_every"] == expected
