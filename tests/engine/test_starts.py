"""Walkers start where they are told to: at given positions, at frames of a trajectory, or at networks."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import error_of, nnsim
from torch import nn

from nnsim import Box, InputError, Lattice, Simulation, States, Trajectory, TrajectoryError, cv, states
from nnsim.bias import WangLandau
from nnsim.grid import Grid
from nnsim.integrators import Adam, Langevin, MonteCarlo
from nnsim.schedules import InverseTime
from nnsim.systems import AnalyticSystem, Harmonic, NeuralNetwork, spiral_classification

X, Y = torch.linspace(-1, 1, 24).reshape(12, 2), torch.arange(12) // 6
SCRIPT = """
import nnsim
from nnsim.integrators import Langevin
from nnsim.systems import AnalyticSystem, Harmonic

def build(walkers=2, steps=20):
    return nnsim.Simulation(
        AnalyticSystem(3, Harmonic(), start=0.5), Langevin(0.05, 1.0), walkers=walkers, every=5, threads=1, steps=steps,
    )
"""


def small(box: Box | None = None) -> NeuralNetwork:
    return NeuralNetwork(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)), (X, Y), box=box)


def harmonic(box: Any = None, **settings: Any) -> Simulation:
    system = AnalyticSystem(3, Harmonic(), box=box, start=0.5 if not isinstance(box, Lattice) else 0.0)
    mover = MonteCarlo(0.1) if isinstance(box, Lattice) else Langevin(0.05, 1.0)
    return Simulation(system, mover, every=5, threads=1, **settings)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """Five networks trained for 30 steps, with frames at 10, 20 and 30."""
    run = Simulation(small(), Adam(0.01), walkers=5, seed=3, every=10, precision="double")
    run.run(30, output=tmp_path / "trained.zarr", progress=False)
    return tmp_path / "trained.zarr"


# --------------------------------------------------------------------------------------------------- given positions


def test_given_positions_are_the_start() -> None:
    given = torch.arange(12, dtype=torch.float64).reshape(4, 3) / 10
    before = given.clone()
    run = harmonic(positions=given)
    assert run.walkers == 4
    assert torch.equal(run.state.positions, given)
    assert torch.allclose(run.state.energy, 0.5 * given.square().sum(1))
    run.advance(10)
    assert torch.equal(given, before)  # the run moves its own
    for other in (given.numpy(), given.tolist()):
        assert torch.equal(harmonic(positions=other).state.positions, given)
    assert torch.equal(
        harmonic(positions=[0.1, 0.2, 0.3], walkers=2).state.positions, given[[0, 0]] * 0 + given.new([0.1, 0.2, 0.3])
    )


def test_a_start_that_is_set_is_the_start_that_is_given() -> None:
    """Also for biases, which begin anew, and for the random numbers."""
    given = torch.tensor([[0.1, 0.2, 0.3], [1.0, -1.0, 0.5]], dtype=torch.float64)

    def learning(**settings: Any) -> Simulation:
        bias = WangLandau(cv.WeightNorm(), Grid(-1.0, 9.0, 50), InverseTime(0.1, 100.0), kernel=0.3)
        return harmonic(bias=bias, walkers=2, seed=7, **settings)

    told, put = learning(positions=given), learning().set_positions(given)
    for run in (told, put):
        run.advance(40)
    assert torch.equal(told.state.positions, put.state.positions)
    assert torch.equal(
        told.force_field.biases[0].tables()["potential"], put.force_field.biases[0].tables()["potential"]
    )
    with pytest.raises(InputError, match="this one is at step 40"):
        put.set_positions(given)


def test_an_edge_that_was_rounded_is_no_outside() -> None:
    """2 / sqrt(6) in single precision lies above itself; further out nothing is put right silently."""
    edge = 2 / 6**0.5
    rounded = torch.full((1, 3), edge).float()
    assert float(rounded[0, 0]) != edge
    run = harmonic(Box(edge), positions=torch.cat([rounded, -rounded]))
    assert torch.equal(run.state.positions.abs(), torch.full((2, 3), edge, dtype=torch.float64))
    with pytest.raises(
        InputError, match=r"the positions of walker 1, and of 0 others, lie outside the Box\(reflecting"
    ):
        harmonic(Box(edge), positions=[[0.0, 0.0, 0.0], [0.0, 0.0, edge + 1e-5]])


def test_in_a_periodic_box_a_start_comes_round() -> None:
    run = harmonic(Box(1.0, kind="periodic"), positions=[[0.5, 1.5, -2.5]])
    assert torch.allclose(run.state.positions, torch.tensor([[0.5, -0.5, -0.5]], dtype=torch.float64))


def test_a_lattice_takes_its_own_values_only() -> None:
    lattice = Lattice([-1.0, 0.0, 1.0])
    assert harmonic(lattice, positions=[[1.0, 0.0, -1.0]]).walkers == 1
    with pytest.raises(InputError, match="outside the Lattice"):
        harmonic(lattice, positions=[[0.5, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("positions", "walkers", "message"),
    [
        ([[1.0, 2.0]], None, r"shape \[1, 2\], but this system needs \[walkers, 3\]"),
        (torch.zeros(0, 3), None, r"shape \[0, 3\]"),
        (torch.zeros(2, 3, 1), None, r"shape \[2, 3, 1\]"),
        (0.5, None, r"shape \[\]"),
        (torch.zeros(2, 3), 3, "2 rows of positions for 3 walkers"),
        ([[0.0, float("nan"), 0.0]], None, "the positions of walker 0 are not finite"),
        ("run.zarr", None, "positions = 'run.zarr' must be numbers"),
        ([["a", "b", "c"]], None, "must be numbers"),
        (torch.zeros(2, 3), 0, "walkers = 0"),
    ],
)
def test_positions_that_cannot_be_a_start(positions: Any, walkers: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        harmonic(positions=positions, walkers=walkers)


# ------------------------------------------------------------------------------------------------------------ states


def test_states_of_a_trajectory(trained: Path) -> None:
    run = Trajectory(trained)
    assert run.positions is not None
    last = states(trained)
    assert isinstance(last, States)
    assert len(last) == 5
    assert np.array_equal(last.positions.numpy(), run.positions[-1])
    assert last.source == {"trajectory": str(trained), "run": run.header["run"], "frame": 2, "step": 30}
    assert np.array_equal(states(run, 0).positions.numpy(), run.positions[0])
    assert np.array_equal(states(run, step=20).positions.numpy(), run.positions[1])
    some = states(run, walkers=[4, 0])
    assert np.array_equal(some.positions.numpy(), run.positions[-1][[4, 0]])
    assert some.source["walkers"] == [4, 0]
    assert np.array_equal(states(run, walkers=slice(1, 3)).positions.numpy(), run.positions[-1][1:3])
    assert np.array_equal(states(run, walkers=-1).positions.numpy(), run.positions[-1][4:])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frame": 3}, "frame = 3 must be an integer from -3 to 2"),
        ({"frame": 0.5}, "frame = 0.5"),
        ({"frame": True}, "frame = True"),
        ({"step": 15}, "step = 15 is no step of .* with positions; the last is 30"),
        ({"walkers": 5}, "walkers = 5 must be indices from -5 to 4"),
        ({"walkers": []}, r"walkers = \[\]"),
        ({"walkers": "all"}, "walkers = 'all'"),
        ({"walkers": True}, "walkers = True"),
    ],
)
def test_states_that_are_not_there(trained: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        states(trained, **settings)


def test_walkers_take_states_in_turn(trained: Path) -> None:
    """Fewer walkers take the first states, more begin again with the first; which, is recorded."""
    known = states(trained)
    for walkers, expected in ((None, [0, 1, 2, 3, 4]), (2, [0, 1]), (7, [0, 1, 2, 3, 4, 0, 1])):
        run = Simulation(small(), Langevin(0.01, 1.0), positions=known, walkers=walkers, precision="double")
        assert torch.equal(run.state.positions, known.positions[expected])
        assert run.start_record["walkers"] == expected
    run.advance(5)
    assert not torch.equal(run.state.positions[0], run.state.positions[5])  # other random numbers
    picked = Simulation(small(), Langevin(0.01, 1.0), positions=states(trained, walkers=[3, 1]), walkers=3)
    assert picked.start_record["walkers"] == [3, 1, 3]


def test_states_of_networks() -> None:
    modules = [nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)) for _ in range(3)]
    run = Simulation(small(), Adam(0.01), positions=states(modules))
    for module, own in zip(modules, run.state.positions, strict=True):
        assert torch.equal(torch.cat([p.detach().flatten() for p in module.parameters()]), own.float())
    assert run.start_record == {"networks": 3, "walkers": [0, 1, 2]}
    assert len(states(modules[0])) == 1
    for wrong, message in (
        ([nn.Linear(2, 1), nn.Linear(3, 1)], "network 1 are those of another network"),
        ([], "at least one"),
    ):
        with pytest.raises(InputError, match=message):
            states(wrong)
    with pytest.raises(InputError, match="frame and step are for a trajectory"):
        states(modules, frame=0)


def test_states_of_another_network_are_refused(trained: Path) -> None:
    with pytest.raises(InputError, match="positions: they are those of another network"):
        Simulation(spiral_classification(), Langevin(0.01, 1.0), positions=states(trained))


def test_a_trajectory_without_positions(tmp_path: Path) -> None:
    harmonic(positions_every=0).run(10, output=tmp_path / "run.zarr", progress=False)
    with pytest.raises(TrajectoryError, match="no positions were recorded, so nothing can start from them"):
        states(tmp_path / "run.zarr")
    with pytest.raises(TrajectoryError, match="does not exist"):
        states(tmp_path / "none.zarr")
    with pytest.raises(InputError, match="source = 3 must be a trajectory"):
        states(3)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------ command line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "input.py").write_text(SCRIPT)
    assert nnsim("run", "input.py", "-o", "first.zarr", "--no-progress").status == 0
    return tmp_path


def test_a_run_starts_from_another(folder: Path) -> None:
    """The last frame, or another; the start is in the header and shown, and a resume needs it no more."""
    arguments = ("run", "input.py", "--start", "first.zarr", "--no-progress", "--set", "walkers=3")
    assert nnsim(*arguments, "-o", "last.zarr").status == 0
    assert nnsim(*arguments, "-o", "other.zarr", "--start-frame", "1", "--steps", "10").status == 0
    first = Trajectory("first.zarr")
    assert first.positions is not None
    for name, frame in (("last", 3), ("other", 1)):
        start = Trajectory(f"{name}.zarr").header["start"]
        assert start["frame"] == frame
        assert start["step"] == int(first.positions.step[frame])
        assert start["trajectory"] == str(folder / "first.zarr")
        assert start["walkers"] == [0, 1, 0]
        assert (
            f"frame {frame}, of step {start['step']}, of {folder / 'first.zarr'}" in nnsim("info", f"{name}.zarr").out
        )
    assert nnsim("run", "input.py", "-o", "other.zarr", "--set", "walkers=3", "--resume", "--no-progress").status == 0
    whole = nnsim(*arguments, "-o", "whole.zarr", "--start-frame", "1")
    assert whole.status == 0
    parts, straight = (Trajectory(name).positions for name in ("other.zarr", "whole.zarr"))
    assert parts is not None
    assert straight is not None
    assert np.array_equal(parts[:], straight[:])


def test_a_start_that_cannot_be(folder: Path) -> None:
    assert "with --resume one goes on" in error_of(
        "run", "input.py", "-o", "first.zarr", "--resume", "--start", "first.zarr"
    )
    assert "give that with --start" in error_of("run", "input.py", "-o", "x.zarr", "--start-frame", "2")
    assert "does not exist" in error_of("run", "input.py", "-o", "x.zarr", "--start", "none.zarr")
    assert "frame = 9" in error_of("run", "input.py", "-o", "x.zarr", "--start", "first.zarr", "--start-frame", "9")
    assert not os.path.exists("x.zarr")


def test_minimise(folder: Path) -> None:
    """The minimum is written like a run, and a run starts from it."""
    result = nnsim("minimise", "input.py", "--set", "walkers=4")
    assert result.status == 0
    assert "4 of 4" in result.out
    assert "trajectory: input_minimised.zarr" in result.out
    found = Trajectory("input_minimised.zarr")
    assert found.positions is not None
    assert abs(found.positions[-1]).max() < 1e-6
    assert np.array_equal(found.positions[0], np.full((4, 3), 0.5))
    assert nnsim("run", "input.py", "--start", "input_minimised.zarr", "-o", "run.zarr", "--no-progress").status == 0
    again = ("minimise", "input.py", "--start", "first.zarr", "-o", "m.zarr", "--no-progress", "--set", "walkers=2")
    assert nnsim(*again).status == 0
    first = Trajectory("first.zarr").positions
    assert first is not None
    start = Trajectory("m.zarr").positions
    assert start is not None
    assert np.array_equal(start[0], first[-1].astype(float))
    assert "exists" in error_of(*again)
    assert nnsim(*again, "--overwrite").status == 0
    assert "has no data" in error_of("minimise", "input.py", "--of", "loss", "-o", "n.zarr")
