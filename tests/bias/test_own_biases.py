"""Biases of one's own, each in a file outside the package: every analysis goes by what they say of themselves."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import nnsim
from own_sine import Sine
from own_wang_landau import Blunt, Stairs, Stepwise

from nnsim import Box, EntropyLandscape, Grid, InputError, Simulation, Trajectory, cv
from nnsim.analysis import averaged_type, biased_quantity, diagnose, equilibrium, frame_weights, teach
from nnsim.analysis.averages import kinds
from nnsim.bias import Boltzmann, Metadynamics, ReplicaExchange, Umbrella, Wall, WangLandau
from nnsim.integrators import Langevin, MonteCarlo
from nnsim.systems import AnalyticSystem, Harmonic, NeuralNetwork
from nnsim.systems.modules import mlp

LOSS = cv.LogLoss("train")


def network() -> NeuralNetwork:
    x = torch.linspace(-1, 1, 12).reshape(6, 2)
    return NeuralNetwork(mlp((2, 3, 2)), (x, (x[:, 0] > 0).long()), box=Box(1.0), initial="uniform")


def sampling(bias: Any, **more: Any) -> Simulation:
    return Simulation(network(), MonteCarlo(0.2), bias=bias, walkers=3, seed=1, every=100, threads=1, **more)


def grid() -> Grid:
    return Grid(-4.0, 2.0, 30, kind="bins")


@pytest.fixture(scope="module")
def stepwise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "stepwise.zarr"
    made = sampling([Stepwise(LOSS, grid()), Wall(LOSS, upper=1.5)])
    assert made.platform.name == "native"
    made.run(20_000, output=path, progress=False)
    return path


# ---------------------------------------------------------------------- a subclass of Wang-Landau


@pytest.mark.slow
def test_a_subclass_runs_and_is_read_as_the_built_in_bias(stepwise: Path, tmp_path: Path) -> None:
    """To the last bit."""
    plain = sampling([WangLandau(LOSS, grid(), Stairs(1e-3, 100_000), name="stepwise"), Wall(LOSS, upper=1.5)])
    assert plain.platform.name == "native"
    plain.run(20_000, output=tmp_path / "plain.zarr", progress=False)
    runs = [Trajectory(stepwise), Trajectory(tmp_path / "plain.zarr")]
    one, two = (run.bias("stepwise").tables["potential"] for run in runs)
    np.testing.assert_array_equal(one, two)
    one, two = (EntropyLandscape.from_trajectory(run).entropy for run in runs)
    np.testing.assert_array_equal(one, two)
    one, two = (frame_weights(run).log_weights for run in runs)
    np.testing.assert_array_equal(one, two)


def test_an_overridden_method_is_the_obstacle() -> None:
    with pytest.raises(InputError, match=r"the bias 'stepwise' \(Blunt\) has an own method update, which native code"):
        sampling(Blunt(LOSS, grid()), platform="native")
    assert sampling(Blunt(LOSS, grid())).platform.name == "reference"


@pytest.mark.slow
def test_every_analysis_reads_a_subclass(stepwise: Path, tmp_path: Path) -> None:
    run = Trajectory(stepwise)
    assert run.header["bias"]["stepwise"]["type"] == "Stepwise"
    assert run.bias("stepwise").attrs["note"] == "stairs"
    tables = run.bias("stepwise").tables
    weights = frame_weights(run)
    s = weights.values("ln_loss_train")
    index = np.clip(np.floor((s + 4.0) / 0.2), 0, 29).astype(int)
    logs = tables["potential"][index] + 3000.0 * np.clip(s - 1.5, 0, None) ** 2 / 2
    np.testing.assert_allclose(weights.log_weights - weights.log_weights[0, 0], logs - logs[0, 0], atol=1e-9)
    assert (averaged_type(run), biased_quantity(run)) == ("Stepwise", "ln_loss_train")
    assert diagnose(run).increment == 1e-3
    assert np.isfinite(equilibrium(run, "ln_loss_train", "bias_energy").mean).any()
    page = tmp_path / "page.html"
    assert nnsim("report", stepwise, "-o", page).status == 0
    text = page.read_text(encoding="utf-8")
    assert "biased by Wang-Landau on ln_loss_train" in text
    assert "Entropy along ln_loss_train" in text


# ---------------------------------------------------------------------- a kind of its own


@pytest.fixture(scope="module")
def sine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "sine.zarr"
    system = AnalyticSystem(1, Harmonic(), start=0.0)
    made = Simulation(
        system, Langevin(0.2, 2.0, kT=0.8), bias=Sine(cv.Parameter(0), 1.5, ramp=200), walkers=200, seed=3, every=50
    )
    made.run(2000, output=path, progress=False)
    return path


@pytest.mark.slow
def test_frames_of_a_kind_of_its_own_are_weighted(sine: Path) -> None:
    """exp(V / kT) to the last digits, from when the ramp is over; the mean of q, which V shifts, is 0 again.

    By symmetry <q> = 0 without the bias, with a standard error from 200 independent walkers.
    """
    run = Trajectory(sine)
    weights = frame_weights(run, since=0.0)
    assert weights.steps[0] == 250
    assert weights.kT == 0.8
    expected = weights.values("bias_energy") / 0.8
    np.testing.assert_allclose(weights.log_weights - weights.log_weights[0, 0], expected - expected[0, 0], atol=1e-12)
    q, w = weights.values("parameter_0"), np.exp(weights.log_weights)
    of_walkers = (w * q).sum(axis=0) / w.sum(axis=0).mean()
    error = of_walkers.std(ddof=1) / math.sqrt(len(of_walkers))
    assert abs(of_walkers.mean()) < 5 * error
    assert q.mean() < -10 * error
    assert (averaged_type(run), biased_quantity(run)) == ("Sine", "parameter_0")
    table = equilibrium(run, "parameter_0", "bias_energy", width=0.5)
    assert np.isfinite(table.mean).any()


def test_who_was_not_taught_is_told(sine: Path) -> None:
    """In a process that has not imported the bias; none of this needs torch."""
    code = (
        "import sys; from nnsim.analysis import frame_weights\n"
        f"try: frame_weights({str(sine)!r})\n"
        "except Exception as error: print(error)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "the bias 'sine' is of type Sine, whose weights are not known; import the module that teaches" in done.stdout


def test_what_can_be_taught() -> None:
    def nothing(settings: Any, values: Any, kT: float) -> Any:
        return np.zeros(())

    with pytest.raises(InputError, match="teach: formula = 'wall' is one of nnsim's own; give yours another name"):
        teach("wall", nothing)
    with pytest.raises(InputError, match="teach: potential = 3 must be a function"):
        teach("three", 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="teach: formula = 4 must be a name"):
        teach(4, nothing)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- what biases say, and what files said before


def biases() -> list[Any]:
    loss, axis = cv.Loss("train"), Grid(0.0, 2.0, 20)
    return [
        WangLandau(loss, axis, Stairs(1e-3, 10)),
        Metadynamics(loss, axis, 0.1, 0.1, 10),
        Boltzmann(loss, [1.0, 2.0]),
        ReplicaExchange(loss, [1.0, 2.0]),
        Umbrella(loss, [0.5, 0.6], 10.0),
        Umbrella(loss, 0.5, 10.0),
        Wall(loss, upper=1.0),
    ]


@pytest.mark.parametrize("bias", biases(), ids=lambda bias: type(bias).__name__)
def test_earlier_files_are_read_as_new_ones(bias: Any) -> None:
    """The table of types gives what the biases say themselves."""
    from nnsim.describe import describe

    settings = json.loads(json.dumps(describe(bias)))
    told = json.loads(json.dumps(describe(bias.for_readers())))
    assert told["kind"] in ("grid", "states", "restraint")

    class Run:
        bias_names: tuple[str, ...] = ()

        def __init__(self, said: dict[str, Any]) -> None:
            self.header = {"bias": {"own": said}}

    earlier: Any = Run(settings)
    now: Any = Run({**settings, **told, "type": "Renamed"})
    assert kinds.bias_settings(earlier)["own"] == {**kinds.bias_settings(now)["own"], "type": type(bias).__name__}
