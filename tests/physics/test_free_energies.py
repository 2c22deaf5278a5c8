"""Exact free energies along a coordinate and along an angle, by every method that computes them.

Both systems have a hidden second coordinate that follows the first: integrating over it leaves a constant, so that F is
known, while the CV alone does not make the motion. Each method recovers F within 0.1 kT wherever it is below 10 kT, up
to the constant, which is taken off as the mean difference. In their reduced form the runs are 10 times shorter, with
hills 10 times as high where there are hills, so that all errors are sqrt(10) times as large, and so is the tolerance.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import few, statistics_scale

from nnsim import Bias, Box, Grid, Simulation, Trajectory, cv
from nnsim.analysis.averages.profile import profile
from nnsim.bias import Metadynamics, ReplicaExchange, Umbrella, WangLandau
from nnsim.integrators import Langevin
from nnsim.schedules import RampHoldInverseTime
from nnsim.systems import AnalyticSystem

kT = 1.5
X = cv.Parameter(0)
SCALE = statistics_scale()
TOLERANCE = 0.1 / math.sqrt(SCALE)  # kT


@dataclass(frozen=True)
class Landscape:
    """U / kT of two coordinates, F / kT along the first, and settings of about equal cost on both."""

    energy: Callable[[torch.Tensor], torch.Tensor]
    free_energy: Callable[[np.ndarray], np.ndarray]
    box: Box
    grid: Grid
    region: tuple[float, float]  # of the bins of a profile
    start: float
    dt: float
    windows: tuple[float, float]  # the outermost centres, which F pulls inwards, and the springs in kT: stiffer than F
    springs: float  # is curved downwards at its barriers (20 and 16 kT), so that no window has two wells of its own
    period: float | None = None

    def system(self, start: float | torch.Tensor | None = None) -> AnalyticSystem:
        return AnalyticSystem(
            2, lambda q: kT * self.energy(q), box=self.box, start=self.start if start is None else start
        )

    @property
    def dynamics(self) -> Langevin:
        return Langevin(self.dt, 2.0, kT)


def two_wells(x: torch.Tensor) -> torch.Tensor:
    """Wells of -0.9 and 0.7 kT at -1 and 1, the barrier between them 6 kT above the lower one."""
    return 5 * (x * x - 1) ** 2 + 0.8 * x


def on_a_circle(x: torch.Tensor) -> torch.Tensor:
    """Two wells of different depth and two barriers of different height: all of it lies within 9.1 kT."""
    return 4 * torch.cos(2 * x) + 1.5 * torch.sin(x)


LANDSCAPES = {
    "asymmetric double well": Landscape(
        lambda q: two_wells(q[:, 0]) + 4 * (q[:, 1] - q[:, 0]) ** 2,
        lambda x: two_wells(torch.from_numpy(x)).numpy(),
        Box([2.3, 4.0]),  # for parallel tempering, whose hottest walkers are free; elsewhere none comes to its edges
        Grid(
            -2.2, 2.2, 110
        ),  # F is 74 kT at its edges, so that no bias fills it that far: there V cannot have F's slope
        (-1.56, 1.56),
        start=-1.0,
        dt=0.03,
        windows=(-1.9, 1.9),
        springs=120.0,
    ),
    "angle": Landscape(
        lambda q: on_a_circle(q[:, 0]) - 3 * torch.cos(q[:, 1] - q[:, 0]),
        lambda x: on_a_circle(torch.from_numpy(x)).numpy(),
        Box(math.pi, kind="periodic"),
        Grid(-math.pi, math.pi, 80, periodic=True),
        (-math.pi, math.pi),
        start=1.5,
        dt=0.06,
        windows=(-math.pi, math.pi),
        springs=40.0,
        period=2 * math.pi,
    ),
}


def largest_error(found: np.ndarray, exact: np.ndarray) -> float:
    """Largest difference, in kT, where the exact F is below 10 kT; both in kT and up to a constant."""
    region = exact - exact.min() < 10
    difference = (found - exact)[region]
    assert len(difference) > 0.5 * len(exact)
    return float(np.abs(difference - difference.mean()).max())


# ---------------------------------------------------------------- biases that grow


def tables(landscape: Landscape, bias: Bias, steps: int, read: Callable[[], torch.Tensor], seed: int = 1) -> float:
    """Error of the mean of `read()`, F in units of energy on the grid, over the second half of the run."""
    running = Simulation(landscape.system(), landscape.dynamics, bias=bias, walkers=200, seed=seed, every=10**6)
    running.advance(steps // 2)
    total = 0.0
    for _ in range(20):
        running.advance(steps // 40)
        total = total + read().numpy() / 20
    return largest_error(total / kT, landscape.free_energy(landscape.grid.centers()))


# Of the same volume a step; the hills of well-tempered metadynamics, and the increment of Wang-Landau, shrink.
HILLS = {
    "standard": {"height": 0.002 / SCALE, "pace": 10},
    "well-tempered": {"height": 0.02 / SCALE, "pace": 20, "bias_factor": 10.0},
}
STEPS = round(32_000 * SCALE)


# each landscape with each method, so that every second pair has all of them
ORDERS = (LANDSCAPES, reversed(LANDSCAPES))
PAIRS = [(name, method) for method, names in zip(HILLS, ORDERS, strict=True) for name in names]


def metadynamics_error(landscape: Landscape, method: str, seed: int = 1) -> float:
    grid = landscape.grid
    bias = Metadynamics(X, grid, sigma=2 * grid.spacing[0], kT=kT, **HILLS[method])
    error = tables(landscape, bias, STEPS, bias.free_energy, seed)
    assert bias.outside < 1e-3 * bias.deposits
    return error


@pytest.mark.slow
@pytest.mark.parametrize(("name", "method"), few(PAIRS))
def test_metadynamics(name, method):
    """200 walkers that start in one well, in full 32 000 steps."""
    error = metadynamics_error(LANDSCAPES[name], method)
    print(name, method, error)
    assert error < TOLERANCE


def wang_landau_error(landscape: Landscape, seed: int = 1) -> float:
    grid, deposits = landscape.grid, 200 * STEPS
    schedule = RampHoldInverseTime(0.0015 / SCALE, ramp=0, hold=0.3 * deposits, offset=0.27 * deposits)
    bias = WangLandau(X, grid, schedule, kT=kT)
    return tables(landscape, bias, STEPS, lambda: -grid.on_nodes(bias.potential), seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", LANDSCAPES)
def test_wang_landau(name):
    """200 walkers that start in one well, in full 32 000 steps; the increment falls to 4 % of its plateau."""
    error = wang_landau_error(LANDSCAPES[name])
    print(name, error)
    assert error < TOLERANCE


# ---------------------------------------------------------------- frames reweighted by MBAR

BINS = 20


def exact_centers(landscape: Landscape) -> np.ndarray:
    """F / kT at the centre of each bin of the region."""
    low, high = landscape.region
    return landscape.free_energy(low + (high - low) * (np.arange(BINS) + 0.5) / BINS)


def profile_error(landscape: Landscape, running: Simulation, steps: int, path, **options) -> tuple[float, float]:
    """Error of the profile along x of a run, and the largest standard error that the profile states."""
    running.run(steps, output=path, progress=False)
    found = profile(Trajectory(path), "parameter_0", bins=BINS, between=landscape.region, since=0.1, **options)
    return largest_error(-found.entropy, exact_centers(landscape)), float(np.nanmax(found.entropy_error))


def umbrella_error(landscape: Landscape, path, seed: int = 1) -> tuple[float, float]:
    (low, high), springs = landscape.windows, landscape.springs
    centers = np.linspace(low, high, 24, endpoint=landscape.period is None).repeat(80)
    windows = Umbrella(X, centers, springs * kT, periods=landscape.period)
    start = torch.from_numpy(centers).clamp(*landscape.region)[:, None].expand(-1, 2)
    # a friction of about the frequency in a window, where frames are independent soonest
    running = Simulation(
        landscape.system(start),
        Langevin(landscape.dt, 8.0, kT),
        bias=windows,
        walkers=len(centers),
        seed=seed,
        every=40,
    )
    return profile_error(landscape, running, round(9000 * SCALE), path)


@pytest.mark.slow
@pytest.mark.parametrize("name", LANDSCAPES)
def test_umbrella_windows_with_mbar(name, tmp_path):
    """24 windows of 80 walkers each, in full 9000 steps."""
    error, stated = umbrella_error(LANDSCAPES[name], tmp_path / "run.zarr")
    print(name, error, "stated", stated)
    assert error < TOLERANCE
    assert stated < 0.75 * TOLERANCE


def tempering_error(landscape: Landscape, path, seed: int = 1) -> tuple[float, float, Simulation]:
    """U / kT is the CV of a flat system, so that beta = 1 is the ensemble sought."""
    ladder = [0.0, 0.06, 0.16, 0.35, 0.6, 1.0]
    energy = cv.Energy(landscape.energy)
    bias = ReplicaExchange(energy, ladder, every=10, kT=kT)
    free = AnalyticSystem(2, box=landscape.box, start=landscape.start)
    running = Simulation(
        free, landscape.dynamics, bias=bias, observe=[X], walkers=96 * len(ladder), seed=seed, every=40
    )
    return *profile_error(landscape, running, round(16_000 * SCALE), path, beta=1.0), running


@pytest.mark.slow
@pytest.mark.parametrize("name", LANDSCAPES)
def test_parallel_tempering(name, tmp_path):
    """96 ladders of 6 rungs, from the flat prior on the box to the full U, in full 16 000 steps."""
    error, stated, running = tempering_error(LANDSCAPES[name], tmp_path / "run.zarr")
    print(name, error, "stated", stated, "round trips", running.force_field.biases[0].round_trips.sum())
    assert error < TOLERANCE
    assert stated < 0.75 * TOLERANCE
