"""Wang-Landau dynamics recovers densities of states that are known exactly.

Each case runs independent simulations from scratch, with zero bias and every walker at the same point. The entropies of
the runs, each shifted to zero mean over the compared nodes, give a mean and a standard error at every node. A variance
of so few runs is itself uncertain (by sqrt(2 / 7) = 53 % for 8), but changes slowly along the CV: it is averaged over
neighbouring nodes, so that 5 standard errors are about what they are for a normal distribution.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import statistics_scale
from scipy.ndimage import uniform_filter1d

from nnsim import Box, Grid, Simulation, cv
from nnsim.bias import Wall, WangLandau
from nnsim.integrators import Langevin
from nnsim.protocols import CollectiveVariable
from nnsim.schedules import RampHoldInverseTime
from nnsim.systems import AnalyticSystem, Harmonic

RUNS = 8 if statistics_scale() == 1 else 4


@dataclass(frozen=True)
class Job:
    """Settings of one case; see the comments for how they follow from the system.

    The bias is a spline with single-bin deposits, so that it can take the exact shape at every node. Its increment is
    `maximum` until `fill` of the reduced run is over, when the walkers must have filled the grid, and then falls as
    maximum x (hold - offset) / (t - offset), with the offset that makes it DECAY x bins / (t - offset): with a factor
    of 1 or less the error of the start would be remembered, with a large one noise would remain.
    """

    cv: CollectiveVariable
    lower: float  # of the grid
    upper: float
    spacing: float
    wall: dict  # of the upper wall, which keeps the sphere inside the box, and perhaps a lower one
    strength: float
    maximum: float
    fill: float
    dt: float  # at most 0.4 / frequency at the smallest radius, sqrt(n) / r
    friction: float  # changes the angular momentum, without which the centrifugal barrier cannot be passed
    walkers: int
    steps: int  # of the reduced form
    compare: tuple[float, float]  # between these values of the CV


DECAY = 2.0


def entropy(job, system, seed):
    """S at the nodes, and the kinetic temperature over the last tenth."""
    grid = Grid(job.lower, job.upper, spacing=job.spacing)
    steps = int(4 * job.steps * statistics_scale(0.25))
    hold = job.fill * job.steps * job.walkers
    offset = max(0.0, hold - DECAY * grid.shape[0] / job.maximum)
    bias = WangLandau(job.cv, grid, RampHoldInverseTime(job.maximum, ramp=0, hold=hold, offset=offset))
    wall = Wall(job.cv, strength=job.strength, **job.wall)
    simulation = Simulation(
        system, Langevin(job.dt, job.friction), bias=[bias, wall], walkers=job.walkers, seed=seed, precision="double",
        every=25,
    )  # fmt: skip
    simulation.run(steps, progress=False)
    assert bias.increment < job.maximum / 10
    return grid.on_nodes(bias.potential).numpy(), simulation.monitor.kinetic_temperature(since=0.9 * steps)


def check(job, make_system, exact, least_range):
    """The issue's criteria; returns the numbers."""
    grid = Grid(job.lower, job.upper, spacing=job.spacing)
    x = grid.centers()
    chosen = (x > job.compare[0]) & (x < job.compare[1])
    assert np.ptp(x[chosen]) >= least_range
    runs, temperatures = zip(*(entropy(job, make_system(), seed) for seed in range(RUNS)), strict=True)
    S = np.array(runs)[:, chosen]
    S -= S.mean(1, keepdims=True)
    expected = exact(x[chosen]) - exact(x[chosen]).mean()
    span = np.ptp(expected)
    deviation = S.mean(0) - expected
    error = np.sqrt(uniform_filter1d(S.var(0, ddof=1), size=chosen.sum() // 4 + 1, mode="nearest") / RUNS)
    numbers = {
        "range": span, "max deviation": np.abs(deviation).max() / span, "max error": error.max() / span,
        "in errors": np.abs(deviation / error).max(), "kT": np.mean(temperatures),
    }  # fmt: skip
    print(numbers)
    assert np.abs(deviation).max() < 0.03 * span, numbers
    assert error.max() < 0.01 * span, numbers
    assert (np.abs(deviation) < 5 * error).all(), numbers
    assert abs(np.mean(temperatures) - 1) < 0.03, numbers


LN_ENERGY = cv.LogEnergy(Harmonic())

# The box [-1, 1] holds the sphere of radius 1, ln E = -0.69. At the lower end of the grid r = 0.064.
TEN = Job(
    LN_ENERGY, -6.2, -0.7, 0.1, {"upper": -1.4}, 200.0,
    maximum=0.01, fill=0.2, dt=0.003, friction=10.0, walkers=160, steps=3600, compare=(-5.7, -1.5),
)  # fmt: skip
# 250 kT to fill, a stiffer wall, and a higher frequency sqrt(100) / 0.067 at the lower end
HUNDRED = Job(
    LN_ENERGY, -6.1, -0.7, 0.1, {"upper": -1.4}, 2000.0,
    maximum=0.08, fill=0.4, dt=0.002, friction=60.0, walkers=64, steps=8000, compare=(-5.6, -1.45),
)  # fmt: skip
DISTANCE = Job(
    cv.Distance(0.0), 0.05, 1.0, 0.05, {"lower": 0.12, "upper": 0.75}, 400.0,
    maximum=0.003, fill=0.1, dt=0.015, friction=3.0, walkers=512, steps=2500, compare=(0.2, 0.7),
)  # fmt: skip
# an open box: the potential confines
WITH_POTENTIAL = Job(
    LN_ENERGY, -1.9, 3.6, 0.1, {"upper": 2.9}, 200.0,
    maximum=0.005, fill=0.15, dt=0.03, friction=2.0, walkers=256, steps=3500, compare=(-1.4, 2.8),
)  # fmt: skip


HARMONIC = [(TEN, 10, 0.2), (HUNDRED, 100, 0.05)][: 2 if statistics_scale() == 1 else 1]


@pytest.mark.slow
@pytest.mark.parametrize(("job", "n", "start"), HARMONIC, ids=[f"{n} parameters" for _, n, _ in HARMONIC])
def test_harmonic_energy_as_cv_gives_half_n_ln_E(job, n, start):
    """S = (n / 2) ln E, from zero bias and walkers at ln E = -1.6 or -2.1, where entropy alone would keep them."""
    check(job, lambda: AnalyticSystem(n, box=Box(1.0), start=start), lambda x: n / 2 * x, 4.0)


@pytest.mark.slow
def test_distance_in_three_dimensions_gives_2_ln_r():
    check(DISTANCE, lambda: AnalyticSystem(3, box=Box(1.0), start=0.4), lambda r: 2 * np.log(r), 0.4)


@pytest.mark.slow
def test_with_the_potential_it_is_minus_the_free_energy():
    """U = E at kT = 1: (n / 2) ln E - E."""
    check(WITH_POTENTIAL, lambda: AnalyticSystem(10, Harmonic(), start=0.35), lambda x: 5 * x - np.exp(x), 4.0)


def test_torch_threads_are_one():
    """The time that the cases above take is stated for one core."""
    assert torch.get_num_threads() == 1
