"""What `nnsim export` writes, as MDAnalysis sees it: `make test-interop`.

These tests are outside `testpaths`, since they need the environment .venv-interop. They run in the environment of
nnsim and start read_with_mdanalysis.py in the other one.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnsim import Simulation, Trajectory, cv
from nnsim.export import atom_order, export
from nnsim.integrators import Langevin
from nnsim.systems import spiral_classification

READER = Path(__file__).parent / "read_with_mdanalysis.py"
WALKER = 1
PART: dict[str, Any] = {"walker": 2, "every": 5, "selection": "layer 1 and bias", "observables": ("weight_norm",)}
Seen = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Trajectory:
    """A run of 3 walkers: positions every 4 steps, losses every 2, accuracy every 3 and parameter norms every 4."""
    system = spiral_classification(hidden=(6, 6), points_per_class=10)
    simulation = Simulation(
        system,
        Langevin(dt=0.01, friction=1.0, kT=1.0),
        observe=[(cv.LogLoss("train"), 2), (cv.Accuracy("test"), 3), (cv.WeightNorm(), 4)],
        walkers=3,
        every=2,
        positions_every=4,
        seed=5,
        threads=1,
    )
    path = tmp_path_factory.mktemp("run") / "run.zarr"
    simulation.run(48, output=path, progress=False)
    return Trajectory(path)


@pytest.fixture(scope="module")
def seen(run: Trajectory) -> dict[str, Seen]:
    """What MDAnalysis reads from each export, by the name of the file."""
    options: dict[str, dict[str, Any]] = {
        "out.zarrmd": {"walker": WALKER},
        "part.zarrmd": PART,
        "out.dcd": {},
        "out.trr": {},
    }
    files = [run.path.with_name(name) for name in options]
    for file in files:
        export(run, file, **options[file.name])
    atoms = run.positions.shape[2]
    command = [os.environ["NNSIM_INTEROP_PYTHON"], READER, str(atoms), *files]
    reader = subprocess.run(command, capture_output=True, text=True, check=False)
    assert reader.returncode == 0, reader.stderr
    found = {}
    for file in files:
        with np.load(f"{file}.seen.npz") as arrays:
            found[file.name] = dict(arrays)
    return found


@pytest.fixture
def zarrmd(seen: dict[str, Seen]) -> Seen:
    """The whole export."""
    return seen["out.zarrmd"]


def test_zarrmd_positions_are_those_of_the_run(run: Trajectory, zarrmd: Seen) -> None:
    """Bit for bit, in the order of atoms, and nothing in the other two dimensions."""
    positions = run.positions[:, WALKER][:, atom_order(run.parameters)]
    assert positions.shape == (12, 74)
    np.testing.assert_array_equal(zarrmd["positions"][..., 0], positions)
    assert not zarrmd["positions"][..., 1:].any()
    assert not zarrmd["dimensions"].any()
    np.testing.assert_array_equal(zarrmd["last"][0, 0], positions[-1, 0])


def test_zarrmd_frames_steps_and_times(run: Trajectory, zarrmd: Seen) -> None:
    """Every recorded frame, at its step and, bit for bit, its time."""
    np.testing.assert_array_equal(zarrmd["frame"], np.arange(12))
    np.testing.assert_array_equal(zarrmd["data/step"], run.positions.step)
    np.testing.assert_array_equal(zarrmd["time"], run.positions.time)


def test_zarrmd_observables_belong_to_their_frames(run: Trajectory, zarrmd: Seen) -> None:
    """Those of the walker, and None at frames at which one was not recorded."""
    steps = run.positions.step
    assert {name[5:] for name in zarrmd if name.startswith("data/")} == {*run.observables, "step", "time"}
    for name in run.observables:
        series = run[name]
        values = series[:, WALKER] if len(series.shape) == 2 else series[:]
        expected = np.full(len(steps), np.nan)
        there = np.isin(steps, series.step)
        expected[there] = values[np.isin(series.step, steps)]
        np.testing.assert_array_equal(zarrmd[f"data/{name}"], expected, err_msg=name)
    assert np.isnan(zarrmd["data/accuracy_test"]).sum() == 8  # every 3 steps, frames every 4
    assert np.isfinite(zarrmd["data/ln_loss_train"]).all()


def test_zarrmd_of_a_part(run: Trajectory, seen: dict[str, Seen]) -> None:
    """Some frames, some parameters, one observable."""
    found = seen["part.zarrmd"]
    np.testing.assert_array_equal(found["data/step"], [4, 24, 44])
    np.testing.assert_array_equal(found["positions"][..., 0], run.positions[::5, 2, 54:60])
    np.testing.assert_array_equal(found["data/weight_norm"], run["weight_norm"][::5, 2])
    assert "data/ln_loss_train" not in found


def test_dcd_and_trr_have_ten_times_the_numbers(run: Trajectory, seen: dict[str, Seen]) -> None:
    """MDAnalysis counts in angstroms: what the docs say of .dcd, and of the .trr, whose unit is the nanometre."""
    positions = run.positions[:, 0][:, atom_order(run.parameters)]
    for name in ("out.dcd", "out.trr"):
        found = seen[name]["positions"]
        np.testing.assert_allclose(found[..., 0], 10 * positions, rtol=2.4e-7)
        assert not found[..., 1:].any()
    np.testing.assert_allclose(seen["out.trr"]["time"], run.positions.time, rtol=1e-6)
    np.testing.assert_array_equal(seen["out.trr"]["data/step"], run.positions.step)
