"""Tempering without anything known beforehand: what the pilot run settles, and that a resume goes by it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import nnsim

import nnsim as package
from nnsim import Box, InputError, Simulation, Trajectory, analysis, cv, tempering
from nnsim.bias import ReplicaExchange
from nnsim.integrators import Langevin
from nnsim.methods.pilot import Pilot
from nnsim.systems import AnalyticSystem, Harmonic, NeuralNetwork

N = 8


def quadratic() -> NeuralNetwork:
    """L = |w|^2 of 8 weights: <ln L> = psi(4) - ln beta, a curvature of 2 beta."""
    torch.manual_seed(0)
    points = torch.linalg.qr(torch.randn(N, N))[0] * N**0.5
    targets = torch.zeros(N, 1)
    return NeuralNetwork(
        torch.nn.Linear(N, 1, bias=False), (points, targets), test=(points[:4], targets[:4]), loss="mse",
        box=Box(2.0), initial="uniform",
    )  # fmt: skip


def made(**settings: Any) -> Simulation:
    shape: dict[str, Any] = {"rungs": 4, "ladders": 4, "pilot": 400, "warmup": 200, "every": 20, "threads": 1}
    return tempering(quadratic(), (-2.5, -0.5), **{**shape, **settings})


@pytest.mark.slow
def test_nothing_is_known_beforehand(tmp_path: Path) -> None:
    """Beta at both ends, time steps by the curvature, and averages that are right, of a quadratic loss."""
    simulation = made(ladders=8)
    simulation.run(4000, output=tmp_path / "run.zarr", progress=False)
    header = Trajectory(tmp_path / "run.zarr").header
    beta = np.array(header["bias"]["tempering"]["beta"])
    digamma = 1.256117668431800
    assert digamma - np.log(beta[[0, -1]]) == pytest.approx([-0.5, -2.5], abs=0.25)  # pilots of 60 walkers' 400 steps
    assert np.array(header["integrator"]["dt"]["values"]) * np.sqrt(2 * beta) == pytest.approx(0.9, rel=0.3)
    assert np.log(beta[1:] / beta[:-1]) == pytest.approx(np.log(beta[-1] / beta[0]) / 3, rel=0.4)
    found = analysis.tempering(tmp_path / "run.zarr", tolerance=1.0)
    assert found.at_equilibrium, found.verdict
    assert np.all(np.abs(found.x - (digamma - np.log(beta))) < 4.5 * found.x_error)
    start = Trajectory(tmp_path / "run.zarr")["ln_loss_train"][0]
    assert start[:16].min() > 0 > -5 > start[16:].max()  # the random side, and the trained one


@pytest.mark.slow
def test_a_resume_goes_by_the_pilot_of_then(tmp_path: Path) -> None:
    """A run that was cut is the same to the bit, and the pilot run is not made again."""
    whole = made(seed=3)
    whole.run(300, output=tmp_path / "whole.zarr", progress=False)
    made(seed=3).run(140, output=tmp_path / "cut.zarr", progress=False)
    again = made(seed=3)
    again._preparation = lambda simulation: pytest.fail("a resume prepares nothing")  # type: ignore[assignment]
    again.run(300, output=tmp_path / "cut.zarr", resume=True, progress=False)
    assert torch.equal(whole.state.positions, again.state.positions)
    one, two = (Trajectory(tmp_path / f"{name}.zarr") for name in ("whole", "cut"))
    for name in ("ln_loss_train", "tempering_rung"):
        assert np.array_equal(one[name][:], two[name][:])
    assert one.header["integrator"] == two.header["integrator"]


def test_a_loss_that_is_not_reached() -> None:
    with pytest.raises(InputError, match=r"tempering: ln loss_train = 9 is not reached; .* change between"):
        tempering(quadratic(), (-2.5, 9.0), rungs=2, ladders=4, threads=1).run(10)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"between": (1.0, 0.0)}, "tempering: between = 1 to 0 must rise"),
        ({"between": "low"}, "tempering: between = 'low' must be the lowest and the highest ln L_train"),
        ({"rungs": 1}, "tempering: rungs = 1"),
        ({"ladders": 5}, "tempering: ladders = 5 must be even"),
        ({"ladders": 2}, "tempering: ladders = 2"),
        ({"pilot": 10}, "tempering: pilot = 10"),
        ({"warmup": -1}, "tempering: warmup = -1"),
        ({"swap_every": 0}, "ReplicaExchange: every = 0"),
    ],
)
def test_bad_settings(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        tempering(quadratic(), **settings)


def test_the_friction_that_forgets_fastest() -> None:
    """Of three frictions the means of walkers differ least, and drift least, under the second."""
    from nnsim.methods.pilot import COPIES, FRICTIONS, _fastest

    drawn = np.random.default_rng(0).standard_normal((40, 5, len(FRICTIONS), COPIES))
    scale = np.array([3.0, 1.0, 5.0])[:, None]
    slow = drawn.mean(axis=0) * scale + 0.01 * drawn
    assert _fastest(slow.reshape(40, 5, -1)) == FRICTIONS[1]


def test_the_largest_frequency() -> None:
    """sqrt(2 beta) of |w|^2, to 1 %."""
    positions = torch.randn(3, N, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 10
    pilot = Pilot(quadratic(), cv.Loss("train"), positions, cv.LogLoss("test"), 0, {"threads": 1})
    beta = np.array([1.0, 10.0, 100.0])
    assert pilot.frequency(beta, positions) == pytest.approx(np.sqrt(2 * beta), rel=0.01)


def test_a_preparation_is_done_once() -> None:
    """Before the first step of a run in memory, by `advance` and by `run`; what it settles is in the description."""
    done = []

    def settle(simulation: Simulation) -> None:
        done.append(simulation.state.step)
        exchange.respace([1.0, 9.0])
        dt.set([0.2, 0.05])
        simulation.set_positions(torch.ones(4, 2))

    exchange = ReplicaExchange(cv.Energy(Harmonic()), [1.0, 2.0], every=10)
    dt = exchange.each([0.1, 0.1])
    simulation = Simulation(
        AnalyticSystem(2, Harmonic(), start=0.0), Langevin(dt, exchange.each([1.0, 2.0], [5.0, 5.0], ramp=10)),
        bias=exchange, walkers=4, preparation=settle,
    )  # fmt: skip
    assert simulation.describe()["bias"]["replica_exchange"]["beta"] == [1.0, 2.0]
    simulation.advance(1).advance(2)
    assert done == [0]
    assert simulation.describe()["bias"]["replica_exchange"]["beta"] == [1.0, 9.0]
    assert simulation.describe()["integrator"]["dt"]["values"] == [0.2, 0.05]
    assert simulation.describe()["integrator"]["friction"]["begin"] == [5.0, 5.0]
    with pytest.raises(InputError, match="Simulation: preparation = 3 must be a function of the simulation"):
        Simulation(AnalyticSystem(2, Harmonic(), start=0.0), Langevin(0.1, 1.0), preparation=3)  # type: ignore[arg-type]


def test_numbers_of_rungs_that_are_reached_by_a_ramp() -> None:
    exchange = ReplicaExchange(cv.Energy(Harmonic()), [1.0, 4.0], every=10)
    function = exchange.each([1.0, 4.0], [100.0, 0.25], ramp=20)
    exchange.full_slope(2)
    assert function(0).tolist() == [100.0, 0.25]
    assert function(10).tolist() == pytest.approx([10.0, 1.0])
    assert function(20).tolist() == function(500).tolist() == [1.0, 4.0]
    for call, told in (
        (lambda: exchange.each([1.0, 2.0], [0.0, 1.0], ramp=2), "begin"),
        (lambda: exchange.each([0.0, 2.0], [1.0, 1.0], ramp=2), "values must be above 0"),
        (lambda: exchange.each([1.0, 2.0], [1.0], ramp=2), "1 begin for 2 rungs"),
        (lambda: exchange.respace([2.0, 1.0]), "must be 2 ascending numbers"),
        (lambda: exchange.respace([1.0, 2.0, 3.0]), "must be 2 ascending numbers"),
    ):
        with pytest.raises(InputError, match=told):
            call()


def test_from_the_command_line(tmp_path: Path) -> None:
    """One command for the run, one for the report."""
    script = tmp_path / "input.py"
    script.write_text(
        "import nnsim\nfrom nnsim.systems import spiral_regression\n\n\ndef build(steps: int = 200):\n"
        "    system = spiral_regression((4,), points=40)\n"
        "    return nnsim.tempering(system, (-0.4, 0.4), rungs=3, ladders=4, pilot=100, every=10, steps=steps)\n"
    )
    nnsim("run", script, "-o", tmp_path / "run.zarr", "--no-progress")
    nnsim("report", tmp_path / "run.zarr", "-o", tmp_path / "run.html")
    page = (tmp_path / "run.html").read_text()
    assert "Rungs of the ladder" in page
    assert "Not at equilibrium" in page  # after so few steps
    assert package.Trajectory(tmp_path / "run.zarr").header["start"]["sides"].count("random") == 6
