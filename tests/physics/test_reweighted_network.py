"""The distribution of the accuracy of a network in equilibrium: from biased runs, reweighted, and from an unbiased one.

2-4-2 on the spiral in a box of +-3, U = 20 L, the accuracy on 40 test points at kT = 1 and at kT = 0.5 (beta = 20 and
40 per unit of the loss). The unbiased runs are compiled Monte Carlo of 32 walkers with 4e5 moves each in full.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conftest import statistics_scale

from nnsim import Box, Grid, Simulation, Trajectory, cv
from nnsim.analysis import Profile, profile
from nnsim.bias import Metadynamics, ReplicaExchange, Wall, WangLandau
from nnsim.integrators import Langevin, MixedStep, MonteCarlo
from nnsim.schedules import RampHoldInverseTime
from nnsim.systems import LossPotential, NeuralNetwork, spiral_classification

SCALE = statistics_scale(0.25)
MOVES = round(400_000 * SCALE)
FACTOR = 20.0


def network(potential: bool = True) -> NeuralNetwork:
    more = {"potential": LossPotential(FACTOR)} if potential else {}
    return spiral_classification(hidden=(4,), box=Box(3.0), initial="normal", initial_scale=0.3, **more)


def monte_carlo(kT: float = 1.0) -> MonteCarlo:
    return MonteCarlo(MixedStep(1e-2, 3.0), kT=kT)


def run(path: Path, system: NeuralNetwork, integrator: object, bias: object, walkers: int, steps: int) -> Trajectory:
    simulation = Simulation(
        system, integrator, bias=bias, observe=[cv.Accuracy("test"), cv.Loss("train")], walkers=walkers, seed=7,
        every=max(steps // 2000, 1), positions_every=0, threads=1,
    )  # fmt: skip
    simulation.run(steps, output=path, progress=False)
    return Trajectory(path)


@cache
def unbiased(folder: Path, kT: float) -> Profile:
    found = run(folder / f"unbiased_{kT}.zarr", network(), monte_carlo(kT), (), 32, MOVES)
    return profile(found, "accuracy_test", bins="values", since=0.1, blocks=16)


def wang_landau(folder: Path) -> Trajectory:
    grid = Grid(-1.5, 1.0, spacing=0.1, kind="bins")
    hold = 4e6 * SCALE  # then the bias hardly changes any more, and its end stands for all frames
    bias = WangLandau(cv.LogLoss("train"), grid, RampHoldInverseTime(1e-3, 0, hold, 0.98 * hold))
    return run(folder / "wang_landau.zarr", network(), monte_carlo(), bias, 32, MOVES)


def metadynamics(folder: Path) -> Trajectory:
    loss = cv.LogLoss("train")
    bias = Metadynamics(loss, Grid(-1.8, 2.0, spacing=0.05), height=0.02, sigma=0.1, pace=10, bias_factor=5.0)
    steps = round(24_000 * SCALE)
    return run(
        folder / "metadynamics.zarr", network(), Langevin(0.01, 1.0), [bias, Wall(loss, upper=1.5, strength=3000.0)],
        512, steps,
    )  # fmt: skip


def tempering(folder: Path) -> Trajectory:
    bias = ReplicaExchange(cv.Loss("train"), [0, 2, 5, 10, 20, 30, 40, 55], every=100, pilot=MOVES // 5)
    return run(folder / "tempering.zarr", network(potential=False), monte_carlo(), bias, 32, MOVES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("network")


@pytest.mark.slow
@pytest.mark.parametrize("method", [wang_landau, metadynamics, tempering])
def test_the_accuracy_distribution_is_that_of_an_unbiased_run(folder: Path, method) -> None:
    """The share of each value, with the errors of 16 blocks.

    In ten pairs of independent runs in full with a Wang-Landau bias the mean difference was 0 within its error, and the
    spread of runs was 1.0 times the error bars, which reached 0.008. The largest of 13 deviations, in errors of 15
    degrees of freedom, was between 1.2 and 3.7.
    """
    biased = method(folder)
    for kT in (1.0, 0.5):
        target = {"beta": FACTOR / kT} if method is tempering else {"kT": kT}
        found = profile(biased, "accuracy_test", bins="values", since=0.4, blocks=16, **target)
        exact = unbiased(folder, kT)
        values = sorted({*np.round(found.centers[0], 6), *np.round(exact.centers[0], 6)})
        assert len(values) > 15
        p, q = (_at(one, values) for one in (found, exact))
        largest = 0.009 if method is wang_landau else 0.006
        assert max(p[1].max(), q[1].max()) < largest / np.sqrt(SCALE)
        often = (p[0] + q[0]) > 0.004  # of a value that hardly occurs the error is not known
        assert p[0][often].sum() > 0.97
        deviation = (p[0] - q[0])[often] / np.hypot(p[1], q[1])[often]
        print(f"{method.__name__} {kT}: largest SE {p[1].max():.4f} {q[1].max():.4f}, deviations {deviation.round(1)}")
        assert np.abs(deviation).max() < 4.5
        assert np.sqrt(np.mean(deviation**2)) < 2
        assert found.mean == pytest.approx(exact.mean, abs=4 * np.hypot(found.mean_error, exact.mean_error))
    far = np.abs(_at(unbiased(folder, 1.0), values)[0] - _at(unbiased(folder, 0.5), values)[0])
    assert far.max() > 0.03  # the two temperatures differ


def _at(one: Profile, values: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Probability and error of each value; 0 where it did not occur."""
    known = dict(zip(np.round(one.centers[0], 6), zip(one.p, one.p_error, strict=True), strict=True))
    pairs = np.array([known.get(value, (0.0, 0.0)) for value in values])
    return pairs[:, 0], pairs[:, 1]
