"""Runs that earlier versions wrote open, and go on where nothing in their way changed its meaning."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import nnsim
from conftest import statistics_scale

from nnsim import EntropyLandscape, Trajectory
from nnsim.analysis import frame_weights
from nnsim.running.checkpoint import load_checkpoint
from nnsim.running.script import Script

SAVED = Path(__file__).parents[1] / "saved"
RUNS = sorted(SAVED.glob("*/*.zip"))


def named(run: Path) -> str:
    return f"{run.parent.name}-{run.stem}"


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path)
    return tmp_path


every_run = pytest.mark.parametrize("folder", RUNS, ids=named, indirect=True)


def test_there_are_runs_of_each_kind() -> None:
    assert {run.stem for run in RUNS if run.parent.name == "0.1"} == {
        "metadynamics",
        "metadynamics_nose_hoover",
        "replica_exchange",
        "training",
        "training_batches",
        "wang_landau_dynamics",
        "wang_landau_monte_carlo",
    }
    assert sum(run.stat().st_size for run in RUNS if run.parent.name == "0.1") < 1e6


@pytest.mark.slow
@every_run
def test_a_saved_run_opens(folder: Path) -> None:
    (path,) = folder.glob("*.zarr")
    run, later = Trajectory(path), np.load(folder / "later.npz")
    assert set(run.observables) == set(later.files)
    assert run.steps > 0
    for name in run:
        assert len(run[name]) > 0
        assert np.isfinite(run[name][:]).all()
    assert run.positions is not None
    assert np.isfinite(run.positions[:]).all()
    assert run.parameters_at(-1, 0).keys() == run.parameters.keys()
    for name in run.bias_names:
        assert all(np.isfinite(table).all() for table in run.bias(name).tables.values())
    assert nnsim("info", path).status == 0
    assert nnsim("report", path, "-o", folder / "report.html").status == 0
    assert (folder / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("folder", [run for run in RUNS if "training" not in run.stem], ids=named, indirect=True)
def test_its_bias_can_be_taken_off(folder: Path) -> None:
    (path,) = folder.glob("*.zarr")
    weights = frame_weights(path)
    assert weights.effective > 1
    if "replica_exchange" not in path.name:
        assert EntropyLandscape.from_trajectory(path).range() > 3


# Version 0.1 drew other random numbers from a seed: these draw none once they have begun.
WITHOUT_RANDOM_NUMBERS = {"metadynamics_nose_hoover", "training"}
OTHER_NUMBERS = "this run was begun by nnsim 0.1, which drew other random numbers from its seed"


def go_on(folder: Path) -> tuple[Trajectory, dict[str, np.ndarray], str]:
    """The run at twice its length (reduced: 1.25 times), what the version that began it made of that, and messages."""
    (path,) = folder.glob("*.zarr")
    before, script = Trajectory(path), folder / f"{path.stem}.py"
    begin = {name: int((before[name].step > 0).sum()) for name in before}  # the frame of `later` that is its first
    steps = before.steps + round(before.steps * statistics_scale(0.25))
    done = nnsim("run", script, "-o", path, "--no-progress", "--resume", "--steps", steps)
    assert done.status == 0, done.err
    run = Trajectory(path)
    later = {name: values[: len(run[name]) - begin[name]] for name, values in np.load(folder / "later.npz").items()}
    return run, later, done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "folder", [run for run in RUNS if run.stem in WITHOUT_RANDOM_NUMBERS], ids=named, indirect=True
)
def test_a_saved_run_without_random_numbers_goes_on_as_it_would_have(folder: Path) -> None:
    run, later, messages = go_on(folder)
    assert OTHER_NUMBERS not in messages
    for name in run:
        half = len(run[name]) - len(later[name])
        np.testing.assert_allclose(run[name][half:], later[name], rtol=1e-9, atol=1e-9)


drawing = pytest.mark.parametrize(
    "folder",
    [run for run in RUNS if run.parent.name == "0.1" and run.stem not in WITHOUT_RANDOM_NUMBERS],
    ids=named,
    indirect=True,
)


@pytest.mark.slow
@drawing
def test_a_saved_run_with_random_numbers_goes_on_with_other_ones(folder: Path) -> None:
    """It says so, once, keeps what was recorded, and stays where such a run stays."""
    (path,) = folder.glob("*.zarr")
    before = Trajectory(path)
    recorded = {name: before[name][:] for name in before}
    run, later, messages = go_on(folder)
    assert messages.count(OTHER_NUMBERS) == 1
    for name in run:
        half = len(recorded[name])
        np.testing.assert_array_equal(run[name][:half], recorded[name])
        new = run[name][half:]
        assert new.shape == later[name].shape
        assert np.isfinite(new).all()
        # The same law, other numbers: within what 0.1 had before and after, and half of that beyond.
        known = np.concatenate([recorded[name].ravel(), later[name].ravel()])
        room = 0.5 * np.ptp(known) + 1e-9
        assert known.min() - room <= new.min() <= new.max() <= known.max() + room, name
    assert any(not np.array_equal(run[name][len(recorded[name]) :], later[name]) for name in run)


@drawing
def test_a_saved_run_is_resumed_from_all_of_its_state(folder: Path) -> None:
    """Positions, velocities, energies, biases with their histograms, counters and what an integrator carries along."""
    (path,) = folder.glob("*.zarr")
    saved = load_checkpoint(folder / f"{path.stem}.checkpoint.npz")["simulation"]
    script = Script(folder / f"{path.stem}.py")
    simulation = script.simulation(script.settings())
    simulation.load_state_dict(saved)
    now = simulation.state_dict()
    for name in ("positions", "velocities", "forces", "energy", "bias_energy", "cvs", "step", "generator"):
        assert_equal(now["state"][name], saved["state"][name], name)
    for part in ("bias", "monitor"):
        assert_equal(now[part], saved[part], part)
    assert_equal(now["state"]["integrator_state"], saved["state"]["integrator_state"], "integrator_state")
    assert_equal(now["platform"], {key: saved["platform"][key] for key in now["platform"]}, "platform")
    assert set(saved["platform"]) - set(now["platform"]) <= {"generators"}


def assert_equal(one: Any, other: Any, name: str) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), name
        for key in one:
            assert_equal(one[key], other[key], f"{name}.{key}")
    else:
        np.testing.assert_array_equal(one, other, err_msg=name)
