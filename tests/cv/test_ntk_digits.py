"""The stand-in study of PAPERS.md: NTK entropy of dense networks on scikit-learn's digits, at the start and trained.

500 train points, the mean kernel on all of them, truncated LeCun normal start, Adam 1e-3 with batches of 128, 500
epochs. Its means are those of 3 seeds; ours of 12 (8 at width 500). Welch: they must lie within 3 combined standard
errors, with the study's standard deviations where it gives them, and ours where it does not.
"""

import math

import numpy as np
import pytest
import torch
from conftest import statistics_scale

from nnsim import Simulation, cv
from nnsim.integrators import Adam
from nnsim.systems import digits

ENTROPY = cv.NTKEntropy("train")
EPOCH = 4  # steps
SEEDS = 3  # of the study

# (activation, width, depth): entropy and its standard deviation over seeds, at the start and at the end
START = {
    ("relu", 12, 3): (1.70, 0.13),
    ("relu", 50, 3): (2.04, 0.43),
    ("relu", 100, 3): (2.34, 0.24),
    ("relu", 500, 3): (2.31, 0.13),
    ("tanh", 50, 2): (1.47, None),
    ("tanh", 12, 3): (1.13, None),
}
END = {
    ("relu", 12, 3): (1.60, 0.16),
    ("relu", 50, 3): (1.70, 0.03),
    ("relu", 100, 3): (1.81, 0.09),
    ("relu", 500, 3): (1.97, 0.11),
    ("tanh", 50, 2): (2.79, None),
    ("tanh", 12, 3): (3.32, None),
}
LOWEST = {  # and the epoch of the lowest point of the mean curve
    ("relu", 12, 3): (1.46, 90),
    ("relu", 50, 3): (1.48, 27),
    ("relu", 100, 3): (1.40, 12),
    ("relu", 500, 3): (1.38, 5),
}
# The others take minutes; NNSIM_FULL_STATISTICS=1 runs them too.
LONG = END if statistics_scale() == 1 else [("tanh", 12, 3)]


def training(activation: str, width: int, depth: int, observe: tuple = ()) -> Simulation:
    return Simulation(
        digits(width, depth, activation=activation), Adam(1e-3, batch_size=128), observe=observe,
        walkers=8 if width == 500 else 12, seed=100, every=2 * EPOCH, record_start=True, precision="single", threads=1,
    )  # fmt: skip


def entropies(simulation: Simulation) -> np.ndarray:
    with torch.no_grad():
        return ENTROPY(simulation.force_field.evaluate(simulation.state.positions)).double().numpy()


def agrees(found: np.ndarray, mean: float, deviation: float | None) -> bool:
    own = found.std(ddof=1)
    error = math.hypot((own if deviation is None else deviation) / math.sqrt(SEEDS), own / math.sqrt(len(found)))
    print(f"{found.mean():.3f} ± {own:.3f} for {mean}: {(found.mean() - mean) / error:+.1f} standard errors")
    return abs(found.mean() - mean) < 3 * error


@pytest.mark.slow
@pytest.mark.parametrize("case", START, ids=str)
def test_the_start_is_that_of_the_study(case) -> None:
    assert agrees(entropies(training(*case)), *START[case])


@pytest.mark.slow
@pytest.mark.parametrize("case", LONG, ids=str)
def test_trained_networks_are_those_of_the_study(case) -> None:
    simulation = training(*case)
    start = entropies(simulation)
    simulation.platform.advance(simulation.state, 500 * EPOCH)
    end = entropies(simulation)
    assert agrees(end, *END[case])
    assert (end.mean() > start.mean()) == (case[0] == "tanh")  # ReLU is compressed, tanh opens up from the start


@pytest.mark.slow
@pytest.mark.parametrize("case", LOWEST if statistics_scale() == 1 else [("relu", 50, 3)], ids=str)
def test_relu_networks_are_compressed_first_and_recover(case) -> None:
    """The lowest point of the mean curve, as deep and as early as in the study (a factor of 1.5 in epochs)."""
    value, epoch = LOWEST[case]
    simulation = training(*case, observe=(ENTROPY,))
    simulation.advance(2 * epoch * EPOCH)
    curve = simulation.history["ntk_entropy_train"]
    lowest = int(curve.mean(axis=1).argmin())
    assert agrees(curve[lowest], value, None)
    assert epoch / 1.5 - 1 <= 2 * lowest <= 1.5 * epoch + 1  # every second epoch is looked at
    assert curve[0].mean() > curve[lowest].mean() + 0.2
    assert curve[-1].mean() > curve[lowest].mean()
