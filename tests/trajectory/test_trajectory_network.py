"""Parts of trajectories, several of them, the networks in them, and frames drawn from a bin of a landscape."""

import copy
import dataclasses
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import statistics_scale
from torch import nn

from nnsim import EntropyLandscape, Grid, InputError, NNSimWarning, Simulation, Trajectory, TrajectoryError, cv
from nnsim.analysis.averages import weights
from nnsim.analysis.landscape.axes import Axis
from nnsim.analysis.landscape.sampling import systematic
from nnsim.bias import Umbrella, WangLandau
from nnsim.integrators import Adam, Langevin, MonteCarlo
from nnsim.running.script import Script
from nnsim.schedules import InverseTime
from nnsim.systems import AnalyticSystem, Harmonic, NeuralNetwork, spiral_classification
from nnsim.trajectory import columns as trajectory_columns
from nnsim.trajectory.layout import StoredArray
from nnsim.trajectory.runs import Trajectories
from nnsim.trajectory.writer import TrajectoryWriter

SHAPES = {"0.weight": [3, 2], "0.bias": [3], "2.weight": [1, 3]}
POSITION, VELOCITY, LOSS = "particles/parameters/position", "particles/parameters/velocity", "observables/loss"


def write(path: Path, frames: int = 23, walkers: int = 4, seed: int = 0, **header: Any) -> np.ndarray:
    """Positions every 10 steps, velocities every 20, a loss every 5; in chunks of 3 frames of positions."""
    values = np.random.default_rng(seed).normal(size=(frames, walkers, 12)).astype("f4")
    writer = TrajectoryWriter.create(path, {"parameters": SHAPES, "walkers": walkers, **header})
    for step in range(5, 10 * frames + 1, 5):
        writer.append(LOSS, step, 0.5 * step, np.arange(walkers) + 1000.0 * step)
        if step % 10 == 0:
            writer.append(POSITION, step, 0.5 * step, values[step // 10 - 1])
        if step % 20 == 0:
            writer.append(VELOCITY, step, 0.5 * step, -values[step // 10 - 1])
    writer.flush()
    writer.close()
    return values


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Trajectory, np.ndarray]:
    monkeypatch.setattr(trajectory_columns, "CHUNK_BYTES", 3 * 4 * 12 * 4)
    values = write(tmp_path / "run.zarr")
    return Trajectory(tmp_path / "run.zarr"), values


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Each chunk that is read from now on."""
    found: list[tuple[str, int]] = []
    read = StoredArray.read

    def counted(self: StoredArray, index: int, stop: int) -> np.ndarray:
        found.append((self.folder.parent.name, index))
        return read(self, index, stop)

    monkeypatch.setattr(StoredArray, "read", counted)
    return found


# ------------------------------------------------------------------------------------------------------------- slices


@pytest.mark.parametrize(
    "frames", [None, 4, -1, slice(None, None, 5), slice(20, 2, -3), [7, 0, 22, 7], np.arange(23) % 2 == 1]
)
@pytest.mark.parametrize("walkers", [None, 2, [3, 0]])
def test_slices(written: tuple[Trajectory, np.ndarray], frames: Any, walkers: Any) -> None:
    trajectory, values = written
    chosen = trajectory.slice(frames, walkers, "layer 0 and neuron 1")
    rows = np.atleast_1d(np.arange(23)[slice(None) if frames is None else frames])
    columns = np.atleast_1d(np.arange(4)[slice(None) if walkers is None else walkers])
    expected = values[np.ix_(rows, columns, [2, 3, 7])]
    assert chosen.shape == expected.shape
    np.testing.assert_array_equal(chosen[:], expected)
    np.testing.assert_array_equal(np.asarray(chosen), expected)
    np.testing.assert_array_equal(chosen.step, 10 * (rows + 1))
    np.testing.assert_array_equal(chosen.time, 5.0 * (rows + 1))
    np.testing.assert_array_equal([*chosen], expected)
    np.testing.assert_array_equal(np.concatenate([*chosen.blocks()]), expected)
    np.testing.assert_array_equal(chosen[-1, :, 1], expected[-1, :, 1])
    np.testing.assert_array_equal(chosen[:, 0], expected[:, 0])


def test_slices_of_parameters_by_number_and_of_velocities(written: tuple[Trajectory, np.ndarray]) -> None:
    trajectory, values = written
    for parameters in ([5, 1], slice(3, 8), np.arange(12) > 7):
        np.testing.assert_array_equal(trajectory.slice(parameters=parameters)[:], values[:, :, parameters])
    empty = trajectory.slice([], parameters="bias")
    assert empty.shape == empty[:].shape == (0, 4, 3)
    assert [*empty.blocks()] == []
    velocities = trajectory.slice(slice(0, 3), of="velocity", parameters=-1)
    np.testing.assert_array_equal(velocities[:], -values[1:6:2, :, -1:])
    assert velocities.step.tolist() == [20, 40, 60]
    np.testing.assert_array_equal(trajectory.select("2.weight"), [9, 10, 11])
    assert repr(trajectory.slice(0)) == "Slice(position, [1, 4, 12], float32)"


def test_only_the_chunks_that_are_needed_are_read(
    written: tuple[Trajectory, np.ndarray], reads: list[tuple[str, int]]
) -> None:
    trajectory, _ = written
    chosen = trajectory.slice(slice(None, None, 7), 1, "layer 1")  # frames 0, 7, 14, 21 of chunks of 3
    assert reads == []
    chosen[:]
    assert reads == [("position", index) for index in (0, 2, 4, 7)]
    reads.clear()
    chosen[1]
    trajectory.parameters_at(6, 3)
    assert reads == [("position", 2)]  # and kept for what comes next
    reads.clear()
    for _ in trajectory.slice(slice(3, 9)).blocks():
        pass
    assert reads == [("position", 1), ("position", 2)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 23}, "frames = 23 must be a number, slice, list or mask for 23 frames, -23 to 22"),
        ({"walkers": [0, 4]}, r"walkers = \[0, 4\]"),
        ({"walkers": "all"}, "walkers = 'all'"),
        ({"frames": 1.5}, "frames = 1.5"),
        ({"frames": np.ones(4, bool)}, "frames = array"),
        ({"parameters": 12}, "parameters = 12"),
        ({"parameters": "layer 2"}, "is no layer"),
        ({"of": "forces"}, "of = 'forces'"),
    ],
)
def test_bad_slices(written: tuple[Trajectory, np.ndarray], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        written[0].slice(**options)


def test_memory_of_a_pass_over_many_frames(tmp_path: Path) -> None:
    """5e2 to 2e3 frames of 6661 parameters: one parameter of all frames costs a few chunks of 4 MB."""
    frames = round(2000 * statistics_scale())
    values = np.zeros((1, 6661), dtype="f4")
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {"parameters": {"w": [6661]}, "walkers": 1})
    for frame in range(frames):
        values[:] = frame
        writer.append(POSITION, frame + 1, 1.0, values)
    writer.flush()
    writer.close()
    trajectory = Trajectory(tmp_path / "run.zarr")
    trajectory.slice(0)[:]  # zarr itself is imported
    tracemalloc.start()
    found = trajectory.slice(parameters="index 6660")[:]
    total = sum(float(block.sum(dtype="f8")) for block in trajectory.slice().blocks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found[:, 0, 0], np.arange(frames))
    assert total == 6661 * frames * (frames - 1) / 2
    assert peak < 30e6 < 6661 * 4 * 2000


# ------------------------------------------------------------------------------------------------------------ thinned


def test_thinned(written: tuple[Trajectory, np.ndarray]) -> None:
    trajectory, values = written
    thin = trajectory.thinned(30, first=60, last=200)
    assert thin["loss"].step.tolist() == [60, 90, 120, 150, 180]
    np.testing.assert_array_equal(thin["loss"][:], 1000.0 * thin["loss"].step[:, None] + np.arange(4))
    assert thin.positions is not None
    np.testing.assert_array_equal(thin.positions[:], values[5:20:3])
    np.testing.assert_array_equal(thin.positions[-1, 2], values[17, 2])
    np.testing.assert_array_equal(thin.slice([1, 3], 0, "bias")[:], values[[8, 14], :1, 6:9])
    assert thin.positions.time.tolist() == [30.0, 45.0, 60.0, 75.0, 90.0]
    assert thin.velocities is not None
    assert thin.velocities.step.tolist() == [60, 120, 180]
    assert thin.steps == thin["loss"].last_step == 180
    assert thin.header == trajectory.header
    assert thin.thinned(20)["loss"].step.tolist() == [60, 120, 180]
    assert trajectory.thinned(5, last=10).velocities is None  # nothing is left of them
    np.testing.assert_array_equal(thin.parameters_at(step=90)["0.bias"], values[8, 0, 6:9])


def test_a_thinned_trajectory_grows_with_the_run(tmp_path: Path) -> None:
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {"parameters": SHAPES})
    for step in range(1, 11):
        writer.append(LOSS, step, 1.0, np.ones(2) * step)
    writer.flush()
    thin = Trajectory(tmp_path / "run.zarr").thinned(4)
    series = thin["loss"]
    assert series.step.tolist() == [4, 8]
    for step in range(11, 21):
        writer.append(LOSS, step, 1.0, np.ones(2) * step)
    writer.flush()
    assert series.step.tolist() == [4, 8]
    thin.refresh()
    assert series.step.tolist() == [4, 8, 12, 16, 20]
    assert series[:, 0].tolist() == [4, 8, 12, 16, 20]


@pytest.mark.parametrize(("options", "message"), [({"every": 0}, "every = 0"), ({"first": 9, "last": 5}, "last = 5")])
def test_bad_thinning(written: tuple[Trajectory, np.ndarray], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        written[0].thinned(**options)


# ------------------------------------------------------------------------------------------------------- several runs


def test_several_runs(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.zarr", 6, run="a"), write(tmp_path / "b.zarr", 4, seed=1, run="b")
    runs = Trajectories([tmp_path / "a.zarr", Trajectory(tmp_path / "b.zarr")])
    assert len(runs) == 2
    assert runs.observables == ["loss"]
    assert [run.path.name for run in runs] == ["a.zarr", "b.zarr"]
    assert len(runs[1:]) == 1
    np.testing.assert_array_equal(runs.select("bias"), [6, 7, 8])
    beside = runs.concatenate("position", parameters="bias")
    np.testing.assert_array_equal(beside.values, np.concatenate([a[:4], b], axis=1)[..., 6:9])
    assert beside.run.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert beside.step.tolist() == [10, 20, 30, 40]
    after = runs.concatenate("position", along="frames")
    np.testing.assert_array_equal(after.values, np.concatenate([a, b]))
    assert after.run.tolist() == [0] * 6 + [1] * 4
    assert after.step.tolist() == [10, 20, 30, 40, 50, 60, 10, 20, 30, 40]
    assert after.time.tolist() == [5 * t for t in (1, 2, 3, 4, 5, 6, 1, 2, 3, 4)]
    thin = runs.thinned(20).concatenate("loss", along="frames")
    assert thin.step.tolist() == [20, 40, 60, 20, 40]
    np.testing.assert_array_equal(thin.values, 1000.0 * thin.step[:, None] + np.arange(4))


def test_several_runs_that_do_not_fit(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", 3, run="a")
    write(tmp_path / "copy.zarr", 3, run="a")
    write(tmp_path / "other.zarr", 3, walkers=2, run="b")
    writer = TrajectoryWriter.create(tmp_path / "net.zarr", {"parameters": {"w": [5]}, "walkers": 4})
    writer.append(LOSS, 7, 1.0, np.ones(4))
    writer.append("observables/number", 5, 2.5, np.float64(1))
    writer.append(POSITION, 7, 1.0, np.ones((4, 5), "f4"))
    writer.flush()
    with pytest.raises(InputError, match="no run was given"):
        Trajectories([])
    with pytest.raises(InputError, match="are the same run"):
        Trajectories([tmp_path / "a.zarr", tmp_path / "copy.zarr"])
    with pytest.raises(InputError, match="the same trajectory twice"):
        Trajectories([tmp_path / "a.zarr"] * 2)
    with pytest.raises(InputError, match="along='walkers' only"):
        Trajectories([tmp_path / "a.zarr", tmp_path / "other.zarr"]).concatenate("loss", along="frames")
    different = Trajectories([tmp_path / "a.zarr", tmp_path / "net.zarr"])
    with pytest.raises(InputError, match="different parameters"):
        different.concatenate("position")
    with pytest.raises(InputError, match="no step has a frame of loss in all runs"):
        different.concatenate("loss")
    with pytest.raises(TrajectoryError, match="no observable 'number'"):
        different.concatenate("number")
    with pytest.raises(InputError, match="no entry for each walker"):
        Trajectories(tmp_path / "net.zarr").concatenate("number")
    with pytest.raises(InputError, match="leave parameters out"):
        different.concatenate("loss", parameters="bias")
    with pytest.raises(InputError, match="along = 'time'"):
        different.concatenate("loss", along="time")


# ----------------------------------------------------------------------------------------------------------- networks

SCRIPT = """
import dataclasses
from pathlib import Path
import nnsim
from nnsim import Box, Grid, cv
from nnsim.bias import WangLandau
from nnsim.integrators import Langevin
from nnsim.schedules import InverseTime
from nnsim.systems import LossPotential, spiral_classification

@dataclasses.dataclass
class Own:
    slope: float = 5.0

def half(outputs, targets):
    return 0.5 * (outputs ** 2).mean() + 0 * targets.sum()

def build(steps: int, hidden: tuple[int, ...] = (5, 4), label: str | None = None, where: Path = Path("."),
          upper: float = float("inf"), loss: str = "cross_entropy", output=None) -> nnsim.Simulation:
    assert isinstance(hidden, tuple) and isinstance(where, Path) and isinstance(upper, float)
    assert label is None or isinstance(label, str)
    system = spiral_classification(hidden=hidden, points_per_class=12, potential=LossPotential(3.0), box=Box(4.0))
    if loss == "half":
        system = nnsim.systems.NeuralNetwork(
            system.module, (system.points("train"), system.targets("train")), loss=half, box=Box(4.0)
        )
    loss_cv = cv.LogLoss("train")
    bias = WangLandau(loss_cv, Grid(-6, 6, 40), InverseTime(0.1, 100.0), kernel=0.4)
    observe = [cv.Loss("train"), cv.WeightNorm()]
    if loss != "half":
        observe += [cv.SmoothedAccuracy("train", slope=Own().slope), cv.Loss("test"), cv.NTKTrace("train")]
    return nnsim.Simulation(system, Langevin(dt=0.01, friction=1.0, kT=1.0), bias=bias, observe=observe,
                            walkers=3, every=10, steps=steps, output=output, threads=1)
"""


def run_script(folder: Path, **settings: Any) -> Trajectory:
    (folder / "input.py").write_text(SCRIPT)
    script = Script(folder / "input.py")
    given = {**script.settings(["steps=60"]), **settings}
    script.simulation(given).run(output=folder / "run.zarr", progress=False)
    (folder / "input.py").unlink()
    return Trajectory(folder / "run.zarr")


@pytest.mark.slow
def test_a_network_has_the_losses_and_cvs_recorded_at_its_frame(tmp_path: Path) -> None:
    """The recorded script is all there is: the module, its points and its CVs are made from it."""
    trajectory = run_script(tmp_path)
    system = trajectory.simulation().system
    rounding = 2e-6  # of float32, over sums of 12 points
    for frame in (0, -1):
        for walker in range(3):
            module = trajectory.module(frame, walker)
            with torch.no_grad():
                loss = {
                    split: float(nn.functional.cross_entropy(module(system.points(split)), system.targets(split)))
                    for split in ("train", "test")
                }
                outputs = module(system.points("train"))
            row = np.arange(len(outputs))
            margin = outputs[row, system.targets("train")] - outputs[row, 1 - system.targets("train")]
            recorded = {name: float(trajectory[name][frame, walker]) for name in trajectory.observables
                        if trajectory[name][0].ndim == 1}  # fmt: skip
            np.testing.assert_allclose(loss["train"], recorded["loss_train"], rtol=rounding)
            np.testing.assert_allclose(loss["test"], recorded["loss_test"], rtol=rounding)
            np.testing.assert_allclose(np.log(loss["train"]), recorded["ln_loss_train"], atol=2 * rounding)
            np.testing.assert_allclose(3 * loss["train"], recorded["potential_energy"], rtol=rounding)
            np.testing.assert_allclose(
                torch.sigmoid(5.0 * margin).mean(), recorded["smoothed_accuracy_train"], rtol=5 * rounding
            )
            norm = np.sqrt(sum(float(p.detach().double().square().sum()) for p in module.parameters()))
            np.testing.assert_allclose(norm, recorded["weight_norm"], rtol=rounding)
            assert not any(p.grad is not None for p in module.parameters())
    assert trajectory.module(0) is not trajectory.module(0)
    assert trajectory.positions is not None
    # a simulation made anew computes every CV at the recorded positions
    simulation = trajectory.simulation()
    evaluation = simulation.force_field.evaluate(torch.as_tensor(trajectory.positions[3]).double())
    for thing, _ in simulation.recording.observables:
        np.testing.assert_allclose(
            thing.observe(simulation.state, evaluation).detach(), trajectory[thing.name][3], rtol=1e-5
        )


def test_frames_by_step_and_state_dicts(tmp_path: Path) -> None:
    trajectory = run_script(tmp_path)
    assert trajectory.positions is not None
    flat = trajectory.positions[2, 1]
    tensors = trajectory.state_dict(2, 1)
    assert list(tensors) == list(trajectory.parameters)
    assert {name: tuple(one.shape) for name, one in tensors.items()} == trajectory.parameters
    np.testing.assert_array_equal(torch.cat([one.flatten() for one in tensors.values()]), flat)
    by_step = trajectory.parameters_at(walker=1, step=30)
    by_frame = trajectory.parameters_at(-4, -2)
    for name, one in tensors.items():
        np.testing.assert_array_equal(by_step[name], one)
        np.testing.assert_array_equal(by_frame[name], one)
    module = trajectory.module(2, 1)
    module.load_state_dict(tensors)  # they fit
    for options, message in [
        ({"frame": 6}, "frame = 6 must be -6 to 5"),
        ({"walker": -4}, "walker = -4"),
        ({"step": 35}, "the nearest are of 30, 40"),
        ({"step": 1000}, "the nearest are of 60"),
        ({"frame": 0.5}, "frame = 0.5"),
    ]:
        with pytest.raises(InputError, match=message):
            trajectory.state_dict(**options)


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden": (6,), "label": "3", "where": Path("some/where"), "upper": 2.0},
        {"hidden": (2, 2, 2), "label": "none", "upper": float("inf")},
        {"loss": "half"},
    ],
)
def test_settings_come_back_in_their_types(tmp_path: Path, settings: dict[str, Any]) -> None:
    trajectory = run_script(tmp_path, **settings)
    before = list(sys.path)
    simulation = trajectory.simulation()
    assert sys.path == before
    assert {name: simulation.settings[name] for name in settings} == settings
    assert simulation.steps == 60
    changed = trajectory.simulation(steps=100, where=Path("b"))
    assert changed.steps == 100
    assert changed.settings["where"] == Path("b")


def test_a_script_that_builds_something_else_now(tmp_path: Path) -> None:
    trajectory = run_script(tmp_path)
    with pytest.raises(InputError, match="builds another system now"):
        trajectory.simulation(hidden=(5, 3))
    with pytest.raises(InputError, match="has no setting 'width'"):
        trajectory.simulation(width=3)
    with pytest.raises(InputError, match="is no folder"):
        trajectory.simulation(folder=tmp_path / "none")


def test_a_script_that_imports_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_the_script.py").write_text("HIDDEN = (3,)\n")
    (tmp_path / "input.py").write_text(
        "import nnsim, neighbour_of_the_script as other\n"
        "from nnsim.integrators import Adam\n"
        "def build():\n"
        "    system = nnsim.systems.spiral_classification(hidden=other.HIDDEN, points_per_class=5)\n"
        "    return nnsim.Simulation(system, Adam(0.1), every=1)\n"
    )
    path = list(sys.path)
    script = Script(tmp_path / "input.py")
    script.simulation({}).run(2, output=tmp_path / "run.zarr", progress=False)
    sys.path[:] = path
    del sys.modules["neighbour_of_the_script"]
    trajectory = Trajectory(tmp_path / "run.zarr")
    with pytest.raises(InputError, match=r"neighbour_of_the_script.*trajectory.simulation\(folder=...\)"):
        trajectory.module()
    assert trajectory.simulation(folder=tmp_path).system.parameters["0.weight"] == (3, 2)
    del sys.modules["neighbour_of_the_script"]
    (tmp_path / "neighbour_of_the_script.py").write_text("HIDDEN = (4,)  # of another length than before\n")
    with pytest.raises(InputError, match=r"builds another system now.*restore its data and modules"):
        trajectory.simulation(folder=tmp_path)


class Convolutional(nn.Module):
    """With a normalisation that is fixed, a frozen layer and a buffer, none of which is recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Conv2d(1, 2, 1).requires_grad_(False)
        self.conv = nn.Conv2d(2, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(12, 2)
        self.register_buffer("shift", torch.tensor(0.3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.norm(self.conv(self.frozen(x)))).flatten(1)) + self.shift


def convolutional(seed: int = 0) -> NeuralNetwork:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    module = Convolutional().eval()
    module.norm.running_mean += 0.2
    x = torch.randn(20, 1, 4, 4, generator=generator)
    return NeuralNetwork(module, (x, (x.sum((1, 2, 3)) > 0).long()))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["single", "mixed", "double"])
@pytest.mark.parametrize("give", ["system", "simulation", "module"])
def test_a_convolutional_network_trained_by_adam(tmp_path: Path, precision: str, give: str) -> None:
    system = convolutional()
    simulation = Simulation(
        system, Adam(0.05), observe=[cv.Loss("train"), cv.Accuracy("train")], walkers=2, every=5, precision=precision
    )
    simulation.run(20, output=tmp_path / "run.zarr", progress=False)
    trajectory = Trajectory(tmp_path / "run.zarr")
    given = {"system": system} if give == "system" else {"system": simulation} if give == "simulation" else {}
    given = given or {"module": system.module}
    before = {name: p.clone() for name, p in system.module.state_dict().items()}
    x, y = system.data("train")
    for frame in range(4):
        module = trajectory.module(frame, 1, **given)
        dtype = torch.float64 if precision == "double" else torch.float32
        assert {p.dtype for p in module.parameters()} == {dtype}
        assert not module.norm.training
        with torch.no_grad():
            outputs = module(x.to(dtype))
        loss = nn.functional.cross_entropy(outputs, y)
        rounding = 1e-12 if precision == "double" else 2e-6
        np.testing.assert_allclose(loss, trajectory["loss_train"][frame, 1], rtol=rounding)
        np.testing.assert_allclose((outputs.argmax(1) == y).double().mean(), trajectory["accuracy_train"][frame, 1])
    for name, p in system.module.state_dict().items():
        assert torch.equal(p, before[name])  # the module of the system is as it was
    missing = module.load_state_dict(trajectory.state_dict(), strict=False).missing_keys
    assert "shift" in missing
    assert "frozen.weight" in missing


def test_networks_without_a_script(tmp_path: Path) -> None:
    system = spiral_classification(hidden=(3,), points_per_class=5)
    Simulation(system, Adam(0.05), every=1).run(2, output=tmp_path / "run.zarr", progress=False)
    trajectory = Trajectory(tmp_path / "run.zarr")
    with pytest.raises(InputError, match=r"holds no input script.*system=.*state_dict"):
        trajectory.module()
    with pytest.raises(InputError, match="holds no input script"):
        trajectory.simulation()
    with pytest.raises(InputError, match="not both"):
        trajectory.module(system=system, module=system.module)
    with pytest.raises(InputError, match=r"must be a torch\.nn\.Module"):
        trajectory.module(module="a network")
    with pytest.raises(InputError, match="has no torch module"):
        trajectory.module(system=AnalyticSystem(3, Harmonic()))
    with pytest.raises(InputError, match="another network"):
        trajectory.module(system=spiral_classification(hidden=(4,)))
    other = copy.deepcopy(system.module)
    other[1] = nn.Softplus()
    with pytest.warns(NNSimWarning, match="reads otherwise"):
        trajectory.module(module=other)


def test_no_positions(tmp_path: Path) -> None:
    system = spiral_classification(hidden=(3,), points_per_class=5)
    run = Simulation(system, Adam(0.05), every=1, positions_every=0)
    run.run(2, output=tmp_path / "run.zarr", progress=False)
    with pytest.raises(TrajectoryError, match=r"no frame of the position.*positions_every"):
        Trajectory(tmp_path / "run.zarr").module(system=system)


# ------------------------------------------------------------------------------------------------- frames of a bin


def test_systematic_draws() -> None:
    generator = np.random.default_rng(0)
    p = np.array([0.0, 0.05, 0.55, 0.1, 0.0, 0.3, 0.0])
    draws = 4000
    counts = np.stack([np.bincount(systematic(p, 7, generator), minlength=7) for _ in range(draws)])
    assert (counts >= np.floor(7 * p)).all()
    assert (counts <= np.ceil(7 * p)).all()
    error = np.sqrt((7 * p % 1) * (1 - 7 * p % 1) / draws)
    assert (np.abs(counts.mean(0) - 7 * p) <= 5 * error + 1e-12).all()
    assert systematic(np.full(10, 0.1), 10, generator).tolist() == [*range(10)]


GRID = {"lower": [0.0, 0.0], "upper": [4.0, 3.0], "bins": [8, 6], "periodic": [False, False], "kind": "bins"}
# S(x, y) of a known table; the run is flat in x and y, as a converged Wang-Landau run is
TABLE = np.add.outer(1.5 * np.arange(8), np.array([0.0, 1.0, 2.0, 2.5, 1.0, -1.0])) + 0.3 * np.outer(
    np.arange(8), np.arange(6)
)


def flat_run(path: Path, frames: int, seed: int, kT: float = 2.0) -> Trajectory:
    """x and y uniform on the grid at each frame and walker; the positions are (x, y, a Gaussian number)."""
    generator = np.random.default_rng(seed)
    settings = {"type": "WangLandau", "cvs": ["x_of_q", "y_of_q"], "kT": kT, "grid": GRID}
    header = {"parameters": {"q": [3]}, "walkers": 4, "kT": kT, "system": {"flat": True}, "run": str(path),
              "bias": {"wang_landau": settings}}  # fmt: skip
    writer = TrajectoryWriter.create(path, header)
    writer.set_attrs("nnsim/bias/wang_landau", settings)
    writer.put("nnsim/bias/wang_landau/potential", kT * (TABLE + seed))  # each run has a constant of its own
    writer.put("nnsim/bias/wang_landau/visits", np.ones((8, 6)))
    for step in range(1, 2 * frames + 1):
        x, y = 4 * generator.random(4), 3 * generator.random(4)
        writer.append("observables/x_of_q", step, 1.0 * step, x)
        writer.append("observables/y_of_q", step, 1.0 * step, y)
        if step % 2 == 0:
            writer.append(POSITION, step, 1.0 * step, np.stack([x, y, generator.normal(size=4)], 1).astype("f4"))
    writer.flush()
    writer.close()
    return Trajectory(path)


@pytest.mark.slow
def test_averages_over_a_sample_are_those_of_equilibrium(tmp_path: Path) -> None:
    frames = round(8000 * statistics_scale(0.25))
    runs = [flat_run(tmp_path / "a.zarr", frames, 1), flat_run(tmp_path / "b.zarr", frames // 2, 2)]
    landscape = EntropyLandscape.from_trajectory(runs[0])
    sample = landscape.sample(runs, x=1.25, n=400, seed=3)
    assert sample.ranges == {"x_of_q": (1.0, 1.5)}
    assert ((sample.values[:, 0] >= 1.0) & (sample.values[:, 0] < 1.5)).all()
    # exactly: y uniform within its bin, whose probability is exp(S)
    weight = np.exp(TABLE[2]) / np.exp(TABLE[2]).sum()
    centre = 0.25 + 0.5 * np.arange(6)
    mean = (weight * centre).sum()
    spread = np.sqrt((weight * (centre**2 + 1 / 48)).sum() - mean**2)
    error = spread / np.sqrt(sample.effective)  # the picks are spread more evenly than independent ones
    assert abs(sample.values[:, 1].mean() - mean) < 5 * error + spread / 400
    share = np.bincount((sample.values[:, 1] // 0.5).astype(int), minlength=6) / 400
    assert (np.abs(share - weight) < 5 * np.sqrt(weight * (1 - weight) / sample.effective) + 1 / 400).all()
    # twice as many frames, twice as many picks
    assert abs((sample.run == 0).mean() - 2 / 3) < 5 * np.sqrt(2 / 9 / sample.available) + 0.02
    # what is said of the picks is what was recorded
    for i in range(0, 400, 47):
        run, frame, walker = runs[sample.run[i]], sample.frame[i], sample.walker[i]
        assert run.positions is not None
        assert run.positions.step[frame] == sample.step[i]
        np.testing.assert_allclose(run.positions[frame, walker][:2], sample.values[i], rtol=1e-6)
    np.testing.assert_allclose(sample.positions("index 0 to 1"), sample.values, rtol=1e-6)
    assert sample.positions().shape == (400, 3)


def test_picks_lie_at_the_value_where_entropy_is_steep(tmp_path: Path) -> None:
    """A walker that samples exp(30 x) within each bin of 0.1 is 0.024 above its centre in the mean; its picks are not.

    400 picks out of about 1600, spread evenly over 0.1: a standard error of the mean of 0.029 / 40.
    """
    generator, slope, h = np.random.default_rng(5), 30.0, 0.1
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {"system": {"flat": True}, "parameters": {"w": [1]}})
    grid = {"lower": [0.0], "upper": [0.5], "bins": [5], "periodic": [False], "kind": "bins"}
    writer.set_attrs("nnsim/bias/wl", {"type": "WangLandau", "cvs": ["x"], "grid": grid, "kT": 1.0})
    writer.put("nnsim/bias/wl/potential", slope * h * np.arange(5.0))
    writer.put("nnsim/bias/wl/visits", np.ones(5))
    for step in range(1, 1001):
        within = np.log1p(generator.random(8) * np.expm1(slope * h)) / slope
        x = generator.integers(5, size=8) * h + within
        writer.append("observables/x", step, float(step), x)
        writer.append("particles/parameters/position", step, float(step), x[:, None])
    writer.close()
    landscape = EntropyLandscape.from_trajectory(tmp_path / "run.zarr")
    np.testing.assert_allclose(np.diff(landscape.entropy), slope * h)
    for value in (0.25, 0.22):
        sample = landscape.sample(x=value, n=400, since=0.0)
        assert abs(sample.values[:, 0].mean() - value) < 5 * 0.029 / 40


def test_the_bin_of_a_sample(tmp_path: Path) -> None:
    run = flat_run(tmp_path / "run.zarr", 400, 0)
    landscape = EntropyLandscape.from_trajectory(run)
    both = landscape.sample(run, x_of_q=3.75, y=0.25, n=5)
    assert both.ranges == {"x_of_q": (3.5, 4.0), "y_of_q": (0.0, 0.5)}
    # one bin of the bias: all alike, but for what makes few frames lie more evenly
    np.testing.assert_allclose(both.weight, 1 / both.available, rtol=0.5)
    assert landscape.sample(run, x=3.0, n=5).ranges == {"x_of_q": (2.75, 3.25)}  # around the value
    assert len(set(zip(both.frame.tolist(), both.walker.tolist(), strict=True))) == 5
    wide = landscape.sample(tmp_path / "run.zarr", x=2.0, width=2.0, n=200)
    assert wide.values[:, 0].min() > 1
    assert wide.values[:, 0].max() < 3
    assert wide.available > both.available
    again = landscape.sample(run, x=2.0, width=2.0, n=200)
    np.testing.assert_array_equal(wide.frame, again.frame)
    assert (landscape.sample(run, x=2.0, width=2.0, n=200, seed=1).frame != wide.frame).any()
    everywhere = landscape.marginal("x_of_q").sample(run, x=2.0, width=2.0, n=200)
    np.testing.assert_array_equal(everywhere.frame, wide.frame)  # the weights are those of the run
    assert everywhere.names == ("x_of_q",)
    assert (landscape.sample(run, x=2.0, since=0.9, n=10).step > 720).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": 1.0, "n": 10_000}, "frames with recorded positions and a weight have x_of_q in .*positions_every"),
        ({"z": 1.0}, "'z' is no CV of this landscape; choose one of x_of_q, y_of_q"),
        ({"of_q": 1.0}, "stands for x_of_q and y_of_q"),
        ({"x": 1.0, "x_of_q": 1.0}, "two values for x_of_q"),
        ({}, "no value was given"),
        ({"x": 5.0}, "outside the grid"),
        ({"x": float("nan")}, "x = nan"),
        ({"x": 1.0, "width": 0.0}, "width = 0"),
        ({"x": 1.0, "n": 0}, "n = 0"),
        ({"x": 1.0, "seed": -1}, "seed = -1"),
        ({"x": 1.0, "since": 1.0}, "since"),
    ],
)
def test_samples_that_cannot_be(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    run = flat_run(tmp_path / "run.zarr", 30, 0)
    with pytest.raises(InputError, match=message):
        EntropyLandscape.from_trajectory(run).sample(run, **options)


def test_networks_of_a_sample(tmp_path: Path) -> None:
    """Of a real Wang-Landau run: the networks that were picked have the loss that was asked for."""
    system = spiral_classification(hidden=(4,), points_per_class=10)
    bias = WangLandau(cv.LogLoss("train"), Grid(-1.2, 0.4, 16), InverseTime(1e-2, 1e3))
    integrator = MonteCarlo(0.3, kT=1.0)
    Simulation(system, integrator, bias=bias, walkers=4, every=20, seed=1, threads=1).run(
        8000, output=tmp_path / "run.zarr", progress=False
    )
    landscape = EntropyLandscape.from_trajectory(tmp_path / "run.zarr")
    sample = landscape.sample(ln_loss=-0.35, n=20)  # a landscape knows where it was read
    again = landscape.sample(tmp_path / "run.zarr", ln_loss=-0.35, n=20)
    np.testing.assert_array_equal(sample.frame, again.frame)
    with pytest.raises(InputError, match="needs runs"):
        dataclasses.replace(landscape, source=None).sample(ln_loss=-0.35, n=20)
    x, y = system.data("train")
    for i in range(20):
        with torch.no_grad():
            loss = nn.functional.cross_entropy(sample.module(i, system=system)(x.float()), y)
        assert -0.4 - 1e-6 <= float(loss.log()) <= -0.3 + 1e-6
        np.testing.assert_allclose(float(loss.log()), sample.values[i, 0], atol=3e-6)


@pytest.mark.slow
def test_a_network_in_the_ntk_parametrisation(tmp_path: Path) -> None:
    """The NTK parametrisation is part of the system's module, not of the user's."""
    system = spiral_classification(hidden=(4,), points_per_class=5, initial="ntk")
    run = Simulation(system, Langevin(0.01, 1.0), observe=[cv.Loss("train")], every=2)
    run.run(4, output=tmp_path / "run.zarr", progress=False)
    trajectory = Trajectory(tmp_path / "run.zarr")
    x, y = system.data("train")
    with torch.no_grad():
        loss = nn.functional.cross_entropy(trajectory.module(system=system)(x.float()), y)
    np.testing.assert_allclose(loss, trajectory["loss_train"][-1, 0], rtol=2e-6)


def test_neighbours_of_two_scripts_may_have_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs in one session: each has the module of its own folder, though they differ in what they compute only."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, sign in (("a", "+"), ("b", "-")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "namesake.py").write_text(
            "from torch import nn\n"
            "class Net(nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.inner = nn.Linear(2, 2)\n"
            f"    def forward(self, x):\n        return {sign}self.inner(x)\n"
        )
        (folder / "input.py").write_text(
            "import nnsim, torch\n"
            "from namesake import Net\n"
            "def build():\n"
            "    data = torch.eye(2), torch.arange(2)\n"
            "    system = nnsim.systems.NeuralNetwork(Net(), data)\n"
            "    return nnsim.Simulation(system, nnsim.integrators.Adam(0.1), every=1)\n"
        )
        sys.modules.pop("namesake", None)
        Script(folder / "input.py").simulation({}).run(2, output=folder / "run.zarr", progress=False)
    for name, sign in (("a", 1), ("b", -1), ("a", 1)):
        trajectory = Trajectory(tmp_path / name / "run.zarr")
        network: Any = trajectory.module(system=trajectory.simulation(folder=tmp_path / name))
        x = torch.ones(1, 2)
        torch.testing.assert_close(network(x), sign * network.inner(x))
    del sys.modules["namesake"]


@pytest.mark.parametrize("since", [0.0, 0.5, 0.505])
def test_frames_left_out_by_mbar_are_not_those_with_positions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, since: float
) -> None:
    x = cv.Parameter(0)
    Simulation(
        AnalyticSystem(1, Harmonic(), start=0.0), MonteCarlo(0.5, kT=1.0), bias=Umbrella(x, [-0.5, 0.5], stiffness=1.0),
        observe=[x], walkers=2, every=1, positions_every=2, seed=1,
    ).run(200, output=tmp_path / "run.zarr", progress=False)  # fmt: skip
    landscape = EntropyLandscape(
        np.zeros(2), np.ones(2, bool), [Axis(x.name, np.array([-4.5, 4.5]), np.array([-9.0, 0.0, 9.0]))]
    )
    recorded = len([step for step in range(2, 201, 2) if step > 200 * since])
    monkeypatch.setattr(weights, "LARGEST", 2 * 2 * recorded)  # of 2 states and 2 walkers
    sample = landscape.sample(tmp_path / "run.zarr", n=1, since=since, width=18.0, **{x.name: 0.0})
    assert sample.available == 2 * recorded
