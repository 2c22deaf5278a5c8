"""Wang-Landau Monte Carlo and Wang-Landau dynamics, which share nothing but the bias, find one entropy of a network."""

import numpy as np
import pytest
import torch
from conftest import statistics_scale

from nnsim import Box, Grid, Simulation, cv
from nnsim.bias import Wall, WangLandau
from nnsim.integrators import Langevin, MixedStep, MonteCarlo
from nnsim.schedules import InverseTime, RampHoldInverseTime
from nnsim.systems import NeuralNetwork, spiral_classification

SPACING = 0.1
LOW, HIGH = -0.5, 2.7  # what is compared, in ln L; chance is -0.37, and the lowest ln L in the box about -1.2
SEEDS = range(6)


def network() -> NeuralNetwork:
    """2-4-2 on the spiral: 22 parameters in a box of +-3."""
    return spiral_classification(hidden=(4,), box=Box(3.0))


def monte_carlo_entropy(seed: int, moves: int) -> np.ndarray:
    """S of each compared bin by compiled Monte Carlo, on a grid that moves cannot leave, two bins wider or more."""
    grid = Grid(-0.8, 3.2, spacing=SPACING, kind="bins")
    bias = WangLandau(cv.LogLoss("train"), grid, InverseTime(0.02, 2 * grid.shape[0]))
    simulation = Simulation(
        network(), MonteCarlo(MixedStep(1e-2, 3.0)), bias=bias, walkers=4, seed=seed, threads=1, every=10**9
    )
    simulation.advance(moves)
    centers = np.asarray(grid.centers()).reshape(-1)
    return bias.potential.numpy()[(centers > LOW) & (centers < HIGH)]


def dynamics_entropy(seed: int, steps: int, walkers: int) -> np.ndarray:
    """S of each compared bin by Langevin dynamics, as ln of the mean of exp(V / kT) over the bin.

    S falls by 3 kT from one bin to the next at the lower end, so that the middle of a bin would not do. The walls are
    at the distance of two bins or more from what is compared, beyond the reach of the kernel. A walker needs about 4
    units of time to forget its loss: what all walkers together deposit meanwhile must be small at the end, here 0.04
    kT in each bin, and large enough at the beginning to fill 14 kT, hence a hold and a decay from near its end.
    """
    grid = Grid(-1.1, 3.4, spacing=SPACING, kind="spline")
    deposits = steps * walkers
    schedule = RampHoldInverseTime(6144 / deposits, ramp=0, hold=0.15 * deposits, offset=0.142 * deposits)
    bias = WangLandau(cv.LogLoss("train"), grid, schedule, kernel=0.05)
    wall = Wall(bias.cvs[0], lower=-0.8, upper=3.1, strength=3000.0)
    # A step of 0.016 makes S wrong by 0.15 at the upper end.
    integrator = Langevin(dt=0.004, friction=1.0)
    simulation = Simulation(
        network(), integrator, bias=[bias, wall], walkers=walkers, seed=seed, threads=1, every=10**9
    )
    simulation.advance(steps)
    assert abs(float(simulation.kinetic_temperature().mean()) - 1) < 5 * np.sqrt(2 / (22 * walkers))
    within = SPACING * (torch.arange(20, dtype=torch.float64) + 0.5) / 20
    edges = torch.arange(round((HIGH - LOW) / SPACING), dtype=torch.float64) * SPACING + LOW
    values = bias.energy((edges[:, None] + within).reshape(-1, 1), steps).reshape(len(edges), -1)
    return torch.logsumexp(values, dim=1).numpy()


@pytest.mark.slow
def test_monte_carlo_and_dynamics_agree_on_the_entropy_of_a_network():
    """S(ln L_train) over 3.2 units of ln L, six runs each, in full of 6e6 x 4 moves and of 32000 x 128 steps.

    S is known up to a constant, which is taken off every single run as its mean over the compared bins. So the spread
    over runs holds the error of the constant too, and nothing is fitted between the two methods.
    """
    moves, walkers = (round(count * statistics_scale(0.25)) for count in (6_000_000, 128))
    dynamics = [dynamics_entropy(seed, 32_000, walkers) for seed in SEEDS]
    monte_carlo = [monte_carlo_entropy(seed, moves) for seed in SEEDS]
    means, errors = [], []
    for runs in (np.stack(dynamics), np.stack(monte_carlo)):
        entropy = runs - runs.mean(axis=1, keepdims=True)
        spread = entropy.std(axis=0, ddof=1) / np.sqrt(len(entropy))
        # An error estimated from 6 runs is itself uncertain by 30 %: bins share their mean square.
        errors.append(np.maximum(spread, np.sqrt((spread**2).mean())))
        means.append(entropy.mean(axis=0))
    assert SPACING * len(means[0]) >= 3
    assert np.max(errors) < 0.3
    assert np.ptp(means[1]) > 8  # there is something to agree on
    deviation = (means[0] - means[1]) / np.hypot(*errors)
    print(
        f"largest difference {np.abs(deviation).max():.2f} SE, largest SE {np.max(errors, axis=1)}", deviation.round(2)
    )
    assert np.abs(deviation).max() < 4.5  # the largest of 32, with errors from six runs
