"""CVs that are made of others sample what is known exactly.

A network without a hidden layer has the outputs u of its train point and v of its test point, free in [-1, 1] each, and
the losses u^2 and v^2: ln of their quotient is distributed as exp(-|s| / 2) / 4.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import statistics_scale
from scipy.ndimage import uniform_filter1d
from torch import nn

from nnsim import Box, Grid, Simulation, cv
from nnsim.bias import Umbrella, WangLandau
from nnsim.integrators import Langevin, MonteCarlo
from nnsim.schedules import RampHoldInverseTime
from nnsim.systems import AnalyticSystem, NeuralNetwork

RUNS, WALKERS, BINS = 6, 16, 24
TRAIN, TEST = cv.Loss("train"), cv.Loss("test")
GAP = cv.LogLoss("test") - cv.LogLoss("train")


def losses() -> NeuralNetwork:
    """L = u^2 of the train point and v^2 of the test point."""
    module, target = nn.Sequential(nn.Linear(2, 1, bias=False)), torch.zeros(1, 1)
    points = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    return NeuralNetwork(module, (points[0], target), (points[1], target), loss="mse", box=Box(1.0), initial="uniform")


def share_below(s: np.ndarray) -> np.ndarray:
    """P(2 ln |v / u| < s)."""
    return np.where(s < 0, np.exp(s / 2) / 2, 1 - np.exp(-s / 2) / 2)


# Name: the CV, the share of the square where it is below a value, and the ends of the grid.
LAWS = {
    "difference of logarithms": (GAP, share_below, -6.0, 6.0),
    "quotient": (TEST / TRAIN, lambda s: share_below(np.log(s)), 0.1, 4.9),
    "half the root of the product": ((TRAIN * TEST) ** 0.5 / 2, lambda s: 2 * s - 2 * s * np.log(2 * s), 0.01, 0.49),
}


def entropy(combined, system, lower, upper, walkers, moves, **settings):
    """S of the bins, with mean 0, and its standard error, both by independent runs."""
    found, hold = [], 100 * walkers
    for seed in range(RUNS):
        # 0.05 kT for 100 moves of all walkers, then 2 bins / t
        schedule = RampHoldInverseTime(0.05, 0, hold, offset=hold - 2 * BINS / 0.05)
        bias = WangLandau(combined, Grid(lower, upper, BINS, kind="bins"), schedule)
        run = Simulation(system(), MonteCarlo(1.0), bias=bias, walkers=walkers, seed=seed, threads=1, **settings)
        run.advance(moves)
        with run.platform.settled():
            found.append(bias.potential.numpy().copy())
    S = np.array(found)
    S -= S.mean(1, keepdims=True)
    return S.mean(0), np.sqrt(uniform_filter1d(S.var(0, ddof=1), 5, mode="nearest") / RUNS)


def assert_exact(found, error, law, lower, upper):
    exact = np.log(np.diff(law(np.linspace(lower, upper, BINS + 1))))
    assert error.max() < 0.15
    assert (np.abs(found - (exact - exact.mean())) < 5 * error).all()


@pytest.mark.parametrize("name", LAWS)
def test_densities_of_states(name):
    """Wang-Landau by native Monte Carlo: ln of the share of each bin.

    6 runs of 16 walkers with 400 000 moves each in full; 5 standard errors, of a variance that is averaged over five
    bins.
    """
    combined, law, lower, upper = LAWS[name]
    moves = int(400_000 * statistics_scale(0.05))
    found = entropy(combined, losses, lower, upper, WALKERS, moves, platform="native")
    assert_exact(*found, law, lower, upper)


def test_density_of_states_of_a_sum_of_parameters():
    """The same of x + y in [-1, 1]^2, whose density is a triangle: 100 walkers, 8000 moves in full."""
    moves = int(8000 * statistics_scale(0.05))
    combined = cv.Parameter(0) + cv.Parameter(1)
    found = entropy(combined, lambda: AnalyticSystem(2, box=Box(1.0), start="uniform"), -1.8, 1.8, 100, moves)
    assert_exact(*found, lambda s: np.where(s < 0, (2 + s) ** 2, 8 - (2 - s) ** 2) / 8, -1.8, 1.8)


SPRINGS = {
    "difference": (TEST - TRAIN, lambda train, test: test - train),
    "product": (4 * TRAIN * TEST, lambda train, test: 4 * train * test),
    "quotient": (TEST / (0.2 + TRAIN), lambda train, test: test / (0.2 + train)),
    "power": ((1 + TRAIN - TEST) ** 3 / 4, lambda train, test: (1 + train - test) ** 3 / 4),
    "function": (
        cv.Function(torch.logaddexp, TRAIN, 2 * TEST),
        lambda train, test: np.logaddexp(train, 2 * test),
    ),
}


@pytest.mark.parametrize("name", SPRINGS)
def test_forces_of_a_spring_along_a_combination(name):
    """Langevin under V = 4 (s - 1/2)^2 kT: mean of s and of (s - mean)^2 within 5 standard errors.

    Of 200 walkers over 20 000 steps in full (the function, in torch: 2000), against a rule of 1000 x 1000 midpoints. At
    dt = 0.02 the error of BAOAB is below 1e-4.
    """
    combined, formula = SPRINGS[name]
    walkers, steps = 200, int((2000 if name == "function" else 20_000) * statistics_scale(0.25))
    run = Simulation(
        losses(), Langevin(0.02, 2.0), bias=Umbrella(combined, 0.5, 8.0), walkers=walkers, seed=7, every=10,
        precision="double", threads=1,
    )  # fmt: skip
    assert run.platform.name == ("reference" if name == "function" else "native")
    s = run.run(steps, progress=False).history[combined.name][steps // 50 :]
    square = ((np.arange(1000) + 0.5) / 1000) ** 2
    exact = formula(square[:, None], square)
    weight = np.exp(-4 * (exact - 0.5) ** 2)
    mean = np.average(exact, weights=weight)
    for one, right in ((s, mean), ((s - mean) ** 2, np.average((exact - mean) ** 2, weights=weight))):
        of_walkers = one.mean(0)
        error = of_walkers.std(ddof=1) / np.sqrt(walkers)
        assert error < 0.03
        assert abs(of_walkers.mean() - right) < 5 * error
