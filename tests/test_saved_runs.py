"""Runs that earlier versions wrote open, and go on where nothing in their way changed its meaning."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from command_line import nnsim

from nnsim import EntropyLandscape, Trajectory
from nnsim.analysis import frame_weights

SAVED = Path(__file__).parent / "saved"
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


@every_run
def test_a_saved_run_goes_on(folder: Path) -> None:
    (path,) = folder.glob("*.zarr")
    later, steps = np.load(folder / "later.npz"), Trajectory(path).steps
    script = folder / f"{path.stem}.py"
    done = nnsim("run", script, "-o", path, "--no-progress", "--resume", "--steps", 2 * steps)
    assert done.status == 0, done.err
    run = Trajectory(path)
    for name in run:
        half = len(run[name]) - len(later[name])
        np.testing.assert_allclose(run[name][half:], later[name], rtol=1e-9, atol=1e-9)
