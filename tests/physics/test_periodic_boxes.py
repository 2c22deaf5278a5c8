"""Periodic boxes: every difference is that to the nearest image, and biases repeat as their CVs do."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import nnsim
from torch import Tensor

from nnsim import (
    Bias,
    Box,
    CollectiveVariable,
    EntropyLandscape,
    Grid,
    InputError,
    Lattice,
    NNSimWarning,
    Simulation,
    Trajectory,
    analysis,
    cv,
    plotting,
)
from nnsim.analysis.images import nearest
from nnsim.analysis.landscape.passages import way_round
from nnsim.bias import Boltzmann, Metadynamics, Umbrella, Wall, WangLandau
from nnsim.describe import describe
from nnsim.evaluation import Evaluation
from nnsim.integrators import GradientDescent, HybridMonteCarlo, Langevin, MonteCarlo, VelocityVerlet
from nnsim.plotting.paths import cut_at_edges
from nnsim.schedules import FlatnessHalving, InverseTime
from nnsim.systems import AnalyticSystem, GaussianPrior, LossPotential, spiral_classification
from nnsim.trajectory.writer import TrajectoryWriter

CIRCLE = Box(math.pi, kind="periodic")
UNEVEN = Box(lower=[-1.0, 0.0, 2.0], upper=[1.0, 3.0, 2.5], kind="periodic")
Q, R = cv.Parameter(0), cv.Parameter(1)
Make = Callable[[], object]


def waves(q: Tensor) -> Tensor:
    return torch.cos(q).sum(-1)


def simulated(bias: Any = (), box: Box = CIRCLE, integrator: Any = None, potential: Any = waves, **more: Any) -> Any:
    system = AnalyticSystem(2, potential, box=box, start=0.5)
    return Simulation(system, integrator or Langevin(0.05, 1.0), bias=bias, **{"walkers": 3, **more})


def hills(grid: Grid, of: Any = Q) -> Metadynamics:
    return Metadynamics(of, grid, height=0.1, sigma=0.3, pace=10)


def around(periodic: bool = True, of: Any = Q) -> Metadynamics:
    return hills(Grid(-math.pi, math.pi, 60, periodic=periodic), of)


class Angle(CollectiveVariable):
    """Direction of two coordinates, which does not tell its period."""

    name = "angle"

    def __call__(self, evaluation: Evaluation) -> Tensor:
        return torch.atan2(evaluation.positions[:, 1], evaluation.positions[:, 0])


class Told(Angle):
    """The same, which does."""

    def period(self, box: Box) -> float | None:
        return 2 * math.pi


class Spring(Bias):
    """A bias that says nothing of periods."""

    name = "spring"

    def __init__(self, of: Any) -> None:
        self.cvs = [of]

    def energy(self, s: Tensor, step: int) -> Tensor:
        return (s[:, 0] - 1) ** 2


# ------------------------------------------------------------------------------------------------------- boxes and CVs


def test_nearest_images_in_the_box() -> None:
    difference = torch.tensor([[0.9, -2.0, 0.4], [-1.1, 1.6, -0.3]], dtype=torch.float64)
    found = UNEVEN.nearest(difference)
    assert torch.allclose(found, torch.tensor([[0.9, 1.0, -0.1], [0.9, -1.4, 0.2]], dtype=torch.float64))
    for box in (Box(1.0), Box(kind="open"), Lattice([-1, 1])):
        assert box.period is None
        assert box.nearest(difference) is difference


@pytest.mark.parametrize("make", [lambda: cv.WeightNorm(), lambda: cv.Distance(torch.tensor([0.9, 2.8, 2.1]))])
def test_distances_and_their_gradients_are_those_of_the_nearest_image(make: Callable[[], Any]) -> None:
    """Against the smallest over all images, and against differences of the values."""
    variable, system = make(), AnalyticSystem(3, box=UNEVEN)
    reference = torch.zeros(3) if isinstance(variable, cv.WeightNorm) else variable.reference
    q = UNEVEN.uniform(50, 3, torch.Generator().manual_seed(0)).requires_grad_()
    value = variable(Evaluation(system, q))
    shifts = torch.cartesian_prod(*[torch.arange(-6.0, 7.0)] * 3).double() * torch.tensor([2.0, 3.0, 0.5])
    images = (q.detach()[:, None] - reference - shifts).norm(dim=-1).amin(1)
    assert torch.allclose(value.detach(), images, rtol=1e-12)
    (gradient,) = torch.autograd.grad(value.sum(), q)
    for i in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[i] = 1e-7
        up, down = (variable(Evaluation(system, q.detach() + sign * step)) for sign in (1, -1))
        assert torch.allclose((up - down) / 2e-7, gradient[:, i], atol=1e-5)


def test_a_biased_distance_conserves_energy_through_the_edge() -> None:
    """A spring on the distance from a point beside the edge, walkers on both sides of it: H to the order of dt^2."""
    spring = Umbrella(cv.Distance(torch.full((2,), 3.1)), 0.0, stiffness=20.0)
    found = []
    for dt in (0.02, 0.01):
        run = simulated(spring, potential=None, integrator=Langevin(dt, 0.0), walkers=20, precision="double")
        run.state.positions.copy_(CIRCLE.uniform(20, 2, torch.Generator().manual_seed(1)) * 0.1 + math.pi)
        CIRCLE.confine_(run.state.positions)
        run.state.velocities.copy_(torch.randn(20, 2, generator=torch.Generator().manual_seed(2)))
        state = run.state
        _, state.bias_energy, state.cvs, state.forces = run.force_field(state.positions, 0)

        def total(state: Any = state) -> Tensor:
            return state.bias_energy + 0.5 * (state.velocities**2).sum(1)

        before = total()
        crossed, worst = torch.zeros(20, dtype=torch.bool), torch.zeros(20, dtype=torch.float64)
        for _ in range(round(4 / dt)):
            side = state.positions.sign()
            run.advance(1)
            crossed |= (side != state.positions.sign()).any(1)
            worst = torch.maximum(worst, (total() - before).abs())
        assert crossed.sum() > 15
        found.append(float(worst.max()))
    assert found[0] < 0.1
    assert found[1] < 0.4 * found[0]


# ---------------------------------------------------------------------------------------------- what is refused, warned

REPEATS = (
    r"use Grid\(lower, upper, \.\.\., periodic=True\) with upper - lower = 6\.283185307, "
    r"Umbrella\(\.\.\., periods=6\.283185307\), or a box that is not periodic"
)


def unlike_the_parameter() -> dict[str, tuple[Make, str]]:
    return {
        "grid": (lambda: simulated(around(False)), f"does not repeat along 'parameter_0'.*{REPEATS}"),
        "grid of another period": (lambda: simulated(hills(Grid(-1.5, 1.5, 60, periodic=True))), "has a period of 3 "),
        "one axis of two": (
            lambda: simulated(
                Metadynamics([Q, R], Grid((-4, -4), (4, 4), 40, periodic=(False, True)), 0.1, 0.3, 10),
                Box(4.0, kind="periodic"),
            ),
            "does not repeat along 'parameter_0', which repeats after 8",
        ),
        "Wang-Landau by Monte Carlo": (
            lambda: simulated(
                WangLandau(Q, Grid(-math.pi, math.pi, 60, kind="bins"), FlatnessHalving(0.1)),
                integrator=MonteCarlo(0.3),
            ),
            "does not repeat",
        ),
        "umbrella": (lambda: simulated(Umbrella(Q, 3.0, 2.0)), "the bias 'umbrella' does not repeat"),
        "umbrella of another period": (lambda: simulated(Umbrella(Q, 3.0, 2.0, periods=3.0)), "has a period of 3 "),
        "wall": (lambda: simulated(Wall(Q, upper=1.0)), "wall_upper_parameter_0' does not repeat"),
        "Boltzmann": (lambda: simulated(Boltzmann(Q, [1.0, 2.0, 3.0])), "'boltzmann' does not repeat"),
        "reflecting": (lambda: simulated(around(), Box(math.pi)), "which does not repeat; leave periodic=True out"),
        "open": (lambda: simulated(around(), Box(kind="open")), "or use Box\\(kind='periodic'\\)"),
        "distance": (lambda: simulated(around(of=cv.Distance())), "along 'distance', which does not repeat"),
        "told": (lambda: simulated(around(False, Told()), Box(kind="open")), "along 'angle', which repeats after 6.28"),
    }


@pytest.mark.parametrize("case", unlike_the_parameter())
def test_a_bias_that_does_not_repeat_as_its_cv_is_refused(case: str) -> None:
    make, words = unlike_the_parameter()[case]
    with pytest.raises(InputError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_biases_that_repeat_are_taken() -> None:
    uneven = Grid((-1, 0), (1, 3), 40, periodic=True)
    for bias, box in (
        (around(), CIRCLE),
        (hills(Grid(0.0, 6.2832, 60, periodic=True)), CIRCLE),  # another beginning, five digits of the period
        (Umbrella(Q, 3.0, 2.0, periods=2 * math.pi), CIRCLE),
        (Metadynamics([Q, R], uneven, 0.1, 0.2, 10), Box(lower=[-1.0, 0.0], upper=[1.0, 3.0], kind="periodic")),
        (around(of=Angle()), Box(kind="open")),  # an angle need not tell
        (around(of=Told()), Box(kind="open")),
        (hills(Grid(0.0, 4.5, 60), cv.Distance(3.0)), CIRCLE),
    ):
        assert simulated(bias, box, potential=None).advance(20).state.step == 20


def test_what_jumps_at_the_edge_is_told_where_it_is_not_felt() -> None:
    def own(function: Callable[[Tensor], Tensor]) -> cv.Energy:
        return cv.Energy(function, "own")

    line = Grid(-4.0, 4.0, 40)
    spiral = spiral_classification(hidden=(3,), box=Box(1.0, kind="periodic"), potential=LossPotential(10.0))
    uneven = Box(lower=0.0, upper=1.0, kind="periodic")
    for make, words in (
        (lambda: simulated(potential=lambda q: q.sum(-1)), "U jumps by up to 12.6 at the edges of the Box"),
        (lambda: simulated(potential=lambda q: (q[:, 0] - q[:, 1]) ** 2, walkers=1), "U jumps"),
        (lambda: simulated(potential=lambda q: q.square().sum(-1), box=uneven), "where Langevin feels no force"),
        (lambda: simulated(hills(line, own(lambda q: q[:, 0]))), "the CV 'own' of a bias jumps by up to 6.28"),
        (lambda: simulated(Spring(Q)), "V jumps"),
        (lambda: simulated(potential=lambda q: q.sum(-1), integrator=VelocityVerlet(0.01)), "VelocityVerlet feels no"),
        (lambda: Simulation(spiral, Langevin(0.01, 1.0), walkers=2), "use Box.*kind='reflecting'"),
    ):
        with pytest.warns(NNSimWarning, match=words) as caught:
            make()
        assert len(caught) == 1
    # Metropolis methods compare energies; a Gaussian prior is a kink in a box that is even about 0; angles come round
    simulated(potential=lambda q: q.sum(-1), integrator=MonteCarlo(0.3))
    simulated(potential=lambda q: q.sum(-1), integrator=HybridMonteCarlo(0.1, 5))
    simulated(potential=lambda q: q.square().sum(-1))
    simulated(hills(Grid(-math.pi, math.pi, 60, periodic=True), own(lambda q: q[:, 0])))
    simulated(Spring(cv.Energy(lambda q: torch.sin(q[:, 0]), "sine")))
    prior = spiral_classification(hidden=(3,), box=Box(1.0, kind="periodic"), potential=GaussianPrior(1.0))
    Simulation(prior, Langevin(0.01, 1.0), walkers=2)


def test_training_that_leaves_a_periodic_box_is_refused() -> None:
    system = spiral_classification(hidden=(3,), box=Box(1.0, kind="periodic"))
    with pytest.raises(InputError, match=r"GradientDescent: the Box\(periodic, \[-1, 1\]\) is periodic.*confine=True"):
        Simulation(system, GradientDescent(0.1))
    own = spiral_classification(hidden=(3,), box=Box(1.0, kind="periodic"), potential=LossPotential(10.0))
    assert Simulation(own, GradientDescent(0.1, confine=True)).advance(3).state.step == 3  # which U does not move


# ----------------------------------------------------------------------------------------------------- a whole example


@pytest.mark.slow
@pytest.mark.parametrize("bias_factor", [10.0, None])
def test_metadynamics_around_a_circle(bias_factor: float | None) -> None:
    """U = 3 cos(q - 1): F within 0.1 kT (rms) all around, also at the edge; 160 walkers, averaged over 40 moments.

    The standard error of a bin over seeds was 0.04 to 0.06 kT with 20 walkers, 12 000 steps and hills twice as high.
    """
    system = AnalyticSystem(1, lambda q: 3 * torch.cos(q[:, 0] - 1), box=CIRCLE, start=0.0)
    grid = Grid(-math.pi, math.pi, 100, periodic=True)
    bias = Metadynamics(Q, grid, height=0.01, sigma=0.2, pace=20, bias_factor=bias_factor)
    run = Simulation(system, Langevin(0.05, 1.0), bias=bias, walkers=160, every=1000).advance(2000)
    found = torch.zeros(100, dtype=torch.float64)
    for _ in range(40):
        found += run.advance(25).force_field.biases[0].free_energy() / 40
    x = torch.tensor(grid.centers())
    error = found - 3 * torch.cos(x - 1)
    error -= error.mean()
    assert error.square().mean().sqrt() < 0.1
    assert torch.cat((error[:8], error[-8:])).abs().max() < 0.2
    jump = bias.energy(torch.tensor([[math.pi]]), 0) - bias.energy(torch.tensor([[-math.pi]]), 0)
    slopes = bias.gradient(torch.tensor([[math.pi - 1e-9], [-math.pi + 1e-9]], dtype=torch.float64), 0)
    assert abs(float(jump)) < 1e-6
    assert abs(float(slopes[0] - slopes[1])) < 1e-6


@pytest.fixture(scope="module")
def at_the_edge(tmp_path_factory: pytest.TempPathFactory) -> Trajectory:
    """20 coordinates in wells at the edge of a box, each with a spread of 0.05; 4 walkers, 200 frames."""
    path = tmp_path_factory.mktemp("edge") / "edge.zarr"
    stiff = 1 / (0.05 * math.pi) ** 2
    box = Box(lower=[-1.0] * 10 + [0.0] * 10, upper=[1.0] * 10 + [2.0] * 10, kind="periodic")
    start = torch.tensor([1.0] * 20)

    def wells(q: Tensor) -> Tensor:
        return (stiff * (1 + torch.cos(math.pi * q))).sum(-1)

    system = AnalyticSystem(20, wells, box=box, start=start)
    observe = [cv.Distance(torch.ones(20)), Q]
    run = Simulation(system, Langevin(0.002, 5.0), walkers=4, every=20, observe=observe, velocities_every=20)
    run.run(4000, output=path, progress=False)
    return Trajectory(path)


@pytest.mark.slow
def test_measures_of_walkers_at_the_edge(at_the_edge: Trajectory) -> None:
    """Each is that of a Gaussian of 0.05 in 20 dimensions; frames of a walker are about 6 frames correlated.

    rmsf: 20 x 4 x 200 / 6 independent numbers give 1 % for the mean over parameters and walkers.
    """
    run, late = at_the_edge, slice(20, None)
    found = analysis.rmsf(run)
    assert np.sqrt(np.mean(found.values**2)) == pytest.approx(0.05, rel=0.06)
    assert np.abs(nearest(found.mean - 1.0, 2.0)).max() < 0.05
    point = np.ones(20)
    assert np.sqrt(np.mean(analysis.rmsd(run, point).values[late] ** 2)) == pytest.approx(0.05, rel=0.06)
    assert np.sqrt(np.mean(analysis.rmsd(run, -1).values[20:150] ** 2)) == pytest.approx(0.0707, rel=0.1)
    components = analysis.principal_components(run)
    assert components.variance.sum() / components.explained.sum() == pytest.approx(20 * 0.0025, rel=0.12)
    assert components.variance[0] < 0.0045
    assert np.allclose(components.project(run.positions[3]), components.projections[3])
    distance = run["distance"][late]
    assert np.sqrt(np.mean(distance**2)) == pytest.approx(0.05 * math.sqrt(20), rel=0.06)
    assert np.allclose(distance, math.sqrt(20) * analysis.rmsd(run, point).values[late], rtol=1e-5)
    msd = analysis.mean_squared_displacement(run)
    assert msd.values[-10:].mean() == pytest.approx(2 * 0.0025, rel=0.15)
    with pytest.raises(InputError, match=r"overlap: the box is periodic.*give centre="):
        analysis.overlap(run)
    assert np.abs(analysis.overlap(run, centre=point).matrix[np.triu_indices(4, 1)]).max() < 0.2


def test_all_measures_as_without_the_edge(at_the_edge: Trajectory) -> None:
    """The same run moved half a period away from the edge, as an array without a box."""
    run = at_the_edge
    positions = run.positions
    assert positions is not None
    moved = np.concatenate((nearest(positions[:, :, :10] - 1.0, 2.0), positions[:, :, 10:] - 1.0), axis=2)
    assert np.abs(moved).max() < 0.4
    close = {"rtol": 1e-6, "atol": 1e-7}
    assert np.allclose(analysis.rmsd(run).values, analysis.rmsd(moved).values, **close)
    one, two = analysis.rmsf(run), analysis.rmsf(moved)
    assert np.allclose(one.values, two.values, **close)
    assert np.allclose(one.error, two.error, **close)
    assert np.allclose(nearest(one.mean - 1.0, 2.0), two.mean, **close)
    both = [analysis.principal_components(frames) for frames in (run, moved)]
    assert np.allclose(both[0].variance, both[1].variance, **close)
    assert np.allclose(np.abs(both[0].projections), np.abs(both[1].projections), rtol=1e-4, atol=1e-5)
    few = [analysis.principal_components(frames, selection=[0, 15]) for frames in (run, moved)]  # the other matrix
    assert np.allclose(few[0].variance, few[1].variance, **close)
    around_one = analysis.overlap(run, centre=np.ones(20))
    assert np.allclose(around_one.values, analysis.overlap(moved).values, rtol=1e-4, atol=1e-5)
    msds = [analysis.mean_squared_displacement(frames, interval=1.0).values for frames in (run, moved)]
    assert np.allclose(*msds, **close)
    taus = [analysis.autocorrelation_time(series, interval=1.0) for series in (run["parameter_0"], moved[..., 0])]
    assert taus[0].tau == pytest.approx(taus[1].tau, rel=1e-4)
    assert nearest(taus[0].mean - 1.0, 2.0) == pytest.approx(taus[1].mean, abs=1e-6)
    assert np.allclose(analysis.autocorrelation(run["parameter_0"]), analysis.autocorrelation(moved[..., 0]), rtol=1e-4)
    raw = run["parameter_0"][:]
    assert np.allclose(
        analysis.autocorrelation(raw, period=2.0, common_mean=False),
        analysis.autocorrelation(moved[..., 0], common_mean=False), rtol=1e-4,
    )  # fmt: skip
    blocks = [analysis.block_averages(one) for one in (run["parameter_0"], moved[..., 0])]
    assert np.allclose(blocks[0].error, blocks[1].error, rtol=1e-4)
    found = analysis.profile(run, "parameter_0", since=0.0)
    assert nearest(np.array(found.mean - 1.0), 2.0) == pytest.approx(taus[1].mean, abs=1e-6)
    assert 0 < found.mean_error < 0.05


def test_slices_and_arrays_know_or_are_told_the_widths(tmp_path: Path) -> None:
    """A width for each parameter, edges not even about 0."""
    rng = np.random.default_rng(0)
    path = np.array([0.9, 0.1, 2.4]) + 0.05 * rng.standard_normal((40, 2, 3)).cumsum(axis=0) / 3
    width = np.array([2.0, 3.0, 0.5])
    wrapped = UNEVEN.lower.numpy() + np.mod(path - UNEVEN.lower.numpy(), width)
    writer = TrajectoryWriter.create(tmp_path / "a.zarr", {
        "parameters": {"0.weight": [2], "1.weight": [1]}, "walkers": 2, "system": {"box": describe(UNEVEN)},
        "box": UNEVEN.record(),
    })  # fmt: skip
    for step, frame in enumerate(wrapped):
        writer.append("particles/parameters/position", step, float(step), frame)
    writer.close()
    run = Trajectory(tmp_path / "a.zarr")
    assert not np.allclose(wrapped, path)
    exact = analysis.rmsd(path).values
    for frames in (run, tmp_path / "a.zarr", run.positions, run.slice()):
        assert np.allclose(analysis.rmsd(frames).values, exact)
    assert np.allclose(analysis.rmsd(wrapped, period=width).values, exact)
    last = run.slice(frames=slice(None, None, 2), walkers=[1], parameters="layer 1 and weight")
    assert np.allclose(analysis.rmsf(last).values, analysis.rmsf(path[::2, 1:, 2:]).values)
    assert np.allclose(
        analysis.mean_squared_displacement(run, selection=[2, 0]).values,
        analysis.mean_squared_displacement(path[..., [2, 0]]).values,
    )
    with pytest.raises(InputError, match="rmsd: period must be a number above 0, or one for each of 3; change period"):
        analysis.rmsd(wrapped, period=[1.0, 2.0])
    with pytest.raises(InputError, match="autocorrelation: period = 0 must be a finite number above 0"):
        analysis.autocorrelation(wrapped[..., 0], period=0.0)


def test_runs_that_did_not_record_the_width_are_refused_with_the_remedy(
    at_the_edge: Trajectory, tmp_path: Path
) -> None:
    positions = at_the_edge.positions
    assert positions is not None
    old = {name: value for name, value in at_the_edge.header.items() if name not in ("box", "periods")}
    writer = TrajectoryWriter.create(tmp_path / "old.zarr", old)
    for step in range(20):
        writer.append("particles/parameters/position", step, float(step), positions[step])
        writer.append("observables/parameter_0", step, float(step), positions[step][:, 0])
    writer.close()
    run = Trajectory(tmp_path / "old.zarr")
    for measure in (
        analysis.rmsd, analysis.rmsf, analysis.principal_components, analysis.overlap,
        analysis.mean_squared_displacement, analysis.diffusion_coefficient,
    ):  # fmt: skip
        with pytest.raises(InputError, match="the box of this run is periodic; give its width as period="):
            measure(run)
    for of_series in (analysis.autocorrelation, analysis.autocorrelation_time, analysis.block_averages):
        with pytest.raises(InputError, match="the box of this run is periodic; give its width as period="):
            of_series(run["parameter_0"])
    assert np.allclose(analysis.rmsd(run, period=2.0).values, analysis.rmsd(at_the_edge).values[:20])
    assert analysis.autocorrelation(run["parameter_0"], period=2.0)[0] == 1


# ----------------------------------------------------------------------------------------------------- means on circles


def test_what_is_spread_over_the_period_is_told() -> None:
    even = np.random.default_rng(0).uniform(-1, 1, (500, 2, 3))
    for measure in (analysis.rmsf, analysis.principal_components):
        with pytest.warns(NNSimWarning, match="are of values that are spread over the period, which has no middle"):
            measure(even, period=2.0)
    with pytest.warns(NNSimWarning, match="1 of 1 means"):
        analysis.autocorrelation_time(even[..., 0], period=2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NNSimWarning)
        assert (analysis.rmsf(even, period=2.0).values < 2 / math.sqrt(12) + 1e-9).all()
    with pytest.warns(NNSimWarning, match="moves of up to 0.50 periods between two frames"):
        analysis.mean_squared_displacement(even, period=2.0)


def test_the_mean_is_where_the_squared_distances_are_least() -> None:
    """A skewed distribution across the edge: the direction of the mean resultant alone is not it."""
    q = np.mod(0.9 + 0.25 * np.random.default_rng(1).exponential(size=(4000, 1, 1)).clip(0, 3) + 1, 2) - 1
    found = analysis.rmsf(q, period=2.0)
    trial = np.linspace(-1, 1, 4001)
    squares = [(nearest(q - one, 2.0) ** 2).mean() for one in trial]
    best = trial[int(np.argmin(squares))]
    assert abs(nearest(found.mean[0, 0] - best, 2.0)) < 1e-3
    assert found.values[0, 0] == pytest.approx(math.sqrt(min(squares)), rel=1e-5)
    direction = np.angle(np.exp(1j * np.pi * q).mean()) / np.pi
    assert abs(nearest(direction - best, 2.0)) > 5e-3


@pytest.mark.slow
def test_plain_means_of_what_comes_round_are_refused(tmp_path: Path) -> None:
    grid = Grid((0.0, -math.pi), (2 * math.pi, math.pi), (20, 20), periodic=True)
    bias = WangLandau([Q, R], grid, InverseTime(0.05, 1000), kernel=0.4)
    path = tmp_path / "run.zarr"
    simulated(bias, every=10, walkers=8, snapshot_every=200).run(1000, output=path, progress=False)
    run = Trajectory(path)
    assert run.header["periods"] == {"parameter_0": 2 * math.pi, "parameter_1": 2 * math.pi}
    with pytest.raises(InputError, match=r"equilibrium: parameter_1 comes round.*record its cosine"):
        analysis.equilibrium(run, "parameter_0", "parameter_1")
    landscape = EntropyLandscape.from_trajectory(run)
    with pytest.raises(InputError, match=r"parameter_1 is periodic.*give value=numpy\.cos"):
        landscape.equilibrium("parameter_0", "parameter_1")
    with pytest.raises(InputError, match="another function that is periodic too"):
        landscape.equilibrium("parameter_0", "parameter_1", lambda s: 2 * s)
    assert np.abs(landscape.equilibrium("parameter_0", "parameter_1", np.cos).y).max() < 1
    assert nnsim("plot", "landscape", path, "-o", tmp_path / "landscape.png").status == 0
    # frames lie in [-pi, pi], the grid in [0, 2 pi]: all of them count
    table = analysis.equilibrium(run, "parameter_0", "potential_energy", width=math.pi / 5)
    assert table.frames.sum() == 8 * (len(run["parameter_0"]) - np.sum(run["parameter_0"].step <= 500))
    assert nnsim("report", path, "-o", tmp_path / "report.html").status == 0
    assert "comes round after 6.283" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(plotting.plot_timeseries(run, "parameter_0")[0].lines) == 8  # and no mean
    drawn = plotting.plot_paths(run, walkers=[0, 1])
    for line in drawn.lines:
        x, y = np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)
        for column, low in ((x, 0.0), (y, -math.pi)):
            known = column[np.isfinite(column)]
            assert known.min() >= low
            assert known.max() <= low + 2 * math.pi
            assert np.nanmax(np.abs(np.diff(column)), initial=0.0) <= math.pi


def test_paths_are_cut_where_they_pass_an_edge() -> None:
    axis = analysis.Axis("q", np.array([0.5, 1.5, 2.5, 3.5]), np.arange(5.0), periodic=True)
    line = analysis.Axis("r", np.array([5.0]), np.array([0.0, 10.0]))
    path = np.array([[3.5, 0.0], [-0.5, 9.0], [0.5, 1.0], [4.5, 1.0], [2.0, 2.0]])
    found = cut_at_edges(path, (axis, line))
    expected = [[3.5, 0], [3.5, 9], [np.nan] * 2, [0.5, 1], [0.5, 1], [2.0, 2.0]]
    np.testing.assert_allclose(found, expected)


def test_round_trips_go_round_the_circle() -> None:
    """A walker that hovers at the edge makes none; one that goes around makes one each time."""
    hovering = np.tile([3.0, -3.0], 50)[:, None]
    turning = nearest(np.linspace(0, 5 * 2 * np.pi, 401), 2 * np.pi)[:, None]
    low, high = -math.pi, 0.0
    for series, trips in ((hovering, 0), (turning, 5)):
        assert analysis.round_trips(*way_round(series, low, high, 2 * math.pi)).tolist() == [trips]
        assert way_round(series, low, high, None) == (series, low, high)
    assert analysis.round_trips(hovering, -2.9, 2.9)[0] > 20  # what a line would count


def test_landscapes_on_a_circle() -> None:
    """S = 2 cos(phi - 3) + cos(psi), its maximum beside the edge: the same seen from two beginnings of the grid."""
    found = []
    for low in (-math.pi, 0.0):
        grid = Grid((low, -math.pi), (low + 2 * math.pi, math.pi), (60, 40), periodic=True)
        phi, psi = np.meshgrid(grid.centers(0), grid.centers(1), indexing="ij")
        bias = Metadynamics([Q, R], grid, height=1.0, sigma=0.3, pace=1)
        bias.potential = torch.tensor(2 * np.cos(phi - 3) + np.cos(psi))
        bias.visits += 1
        s = EntropyLandscape.from_bias(bias)
        assert s.axes[0].periodic
        assert s.marginal("parameter_0").axes[0].periodic
        for moved in (0.0, 2 * math.pi, -4 * math.pi):
            assert s.at(parameter_0=3.0 + moved, parameter_1=0.0) == pytest.approx(0.0, abs=0.02)
        peak = s.most_probable("parameter_1", "parameter_0").y
        assert np.abs(nearest(peak - 3.0, 2 * math.pi)).max() < 1e-3
        found.append(s)
        twin = EntropyLandscape.average([s, s])
        assert np.abs(nearest(twin.most_probable("parameter_1", "parameter_0").y - 3.0, 2 * math.pi)).max() < 1e-3
        one = s.slice(parameter_1=0.1)
        assert one.at(parameter_0=3.0 - 2 * math.pi) == pytest.approx(one.at(parameter_0=3.0))


# ----------------------------------------------------------------------------------------------------------- the record


def test_edges_are_recorded_exactly_and_in_little_room() -> None:
    assert Box(math.pi, kind="periodic").record() == {"kind": "periodic", "lower": -math.pi, "upper": math.pi}
    assert Box(kind="open").record() == {"kind": "open"}
    limits = torch.tensor([0.1] * 40_000 + [1 / 3] * 3_604, dtype=torch.float64)
    record: Any = Box(limits).record()
    assert record["upper"] == [[0.1, 40_000], [1 / 3, 3_604]]
    assert Lattice([1, -1]).record() == {"kind": "lattice", "values": [-1.0, 1.0]}


def test_a_run_records_its_box(at_the_edge: Trajectory) -> None:
    assert at_the_edge.header["box"] == {
        "kind": "periodic", "lower": [[-1.0, 10], [0.0, 10]], "upper": [[1.0, 10], [2.0, 10]],
    }  # fmt: skip
    assert at_the_edge.header["periods"] == {"parameter_0": 2.0}
    assert analysis.layer_temperatures(at_the_edge).values.shape == (1,)  # velocities do not come round
    assert np.allclose(analysis.rmsf(at_the_edge.velocities).mean, at_the_edge.velocities[:].mean(axis=0))  # type: ignore[index]
