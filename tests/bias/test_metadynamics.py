"""Metadynamics against exact answers: given hills, known free energies, weights of frames."""

import copy
import math

import numpy as np
import pytest
import torch
from command_line import arrays_of
from conftest import statistics_scale

from nnsim import Box, Grid, InputError, Simulation, Trajectory, cv
from nnsim.analysis import EntropyLandscape
from nnsim.bias import Metadynamics, Umbrella, WangLandau, Work
from nnsim.integrators import Langevin, MonteCarlo
from nnsim.schedules import InverseTime
from nnsim.systems import AnalyticSystem, DoubleWell, Harmonic

X, Y, Z = cv.Parameter(0), cv.Parameter(1), cv.Parameter(2)
LINE = Grid(-2.0, 2.0, 100)


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def points(number, k, low=-2.0, high=2.0, seed=0):
    return torch.tensor(np.random.default_rng(seed).uniform(low, high, (number, k)))


def same_bits(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_bits(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


# ---------------------------------------------------------------- hills


@pytest.mark.parametrize("bins", [1.0, 1.5, 2.0, 4.0])
def test_a_hill_is_a_gaussian_of_the_given_height_and_width(bins):
    """In 1 to 3 dimensions, at the node nearest to the walker; exact at the maximum, elsewhere to what a spline can."""
    tolerance = {1.0: 0.03, 1.5: 0.005, 2.0: 0.002, 4.0: 0.001}[bins]
    for k in (1, 2, 3):
        grid = Grid((-2.0, -1.0, 0.0)[:k], (2.0, 1.5, 9.0)[:k], 40)
        sigma = bins * np.array(grid.spacing)
        bias = Metadynamics((X, Y, Z)[:k], grid, 0.7, sigma, pace=1)
        node = torch.tensor([[grid.centers(d)[19 + d] for d in range(k)]])
        bias.update(node + 0.4 * torch.tensor(grid.spacing), step=1)
        assert float(bias.energy(node, 0)) == pytest.approx(0.7, rel=1e-13)
        s = node + torch.tensor(sigma) * points(500, k, -5.0, 5.0)
        gaussian = 0.7 * torch.exp(-0.5 * ((s - node) / torch.tensor(sigma)).square().sum(-1))
        np.testing.assert_allclose(bias.energy(s, 0), gaussian, atol=0.7 * tolerance)


@pytest.mark.parametrize("bias_factor", [None, 6.0])
def test_metadynamics_gradient_is_the_derivative_of_its_energy(bias_factor):
    grid = Grid((-2.0, -2.0), (2.0, 2.0), (30, 40), periodic=(False, True))
    bias = Metadynamics((X, Y), grid, 0.5, (0.2, 0.3), pace=1, bias_factor=bias_factor)
    for step in range(5):
        bias.update(points(60, 2, seed=step), step)
    s = points(50, 2, -2.2, 2.2, seed=9).requires_grad_()
    value, _ = grid._evaluate_torch(bias.potential, s)  # what the compiled code computes, open to torch
    (derivative,) = torch.autograd.grad(value.sum(), s)
    s = s.detach()
    np.testing.assert_allclose(bias.energy(s, 0), value.detach(), rtol=1e-12)
    np.testing.assert_allclose(bias.gradient(s, 0), derivative, rtol=1e-10, atol=1e-11)
    assert bias.gradient(s, 0).abs().max() > 1


def test_hills_come_every_pace_steps():
    bias = Metadynamics(X, LINE, 0.5, 0.1, pace=4)
    for step in range(1, 13):
        before = bias.potential.clone()
        bias.update(column(0.1, 0.3), step)
        assert torch.equal(bias.potential, before) == (step % 4 != 0)
    assert (bias.deposits, int(bias.visits.sum()), bias.outside) == (6, 6, 0)
    bias = Metadynamics(X, LINE, 0.5, 0.1, pace=4)
    simulation = Simulation(AnalyticSystem(1, start=0.0), Langevin(0.01, 1.0), bias=bias, walkers=2)
    for steps, hills_so_far in ((3, 0), (1, 2), (3, 2), (2, 4)):
        simulation.advance(steps)
        assert bias.deposits == hills_so_far


@pytest.mark.parametrize("bias_factor", [None, 6.0])
def test_outside_the_grid_nothing_is_deposited(bias_factor):
    bias = Metadynamics(X, LINE, 0.5, 0.1, pace=1, bias_factor=bias_factor)
    bias.update(column(2.5, -9.0, float("nan")), step=1)
    assert (bias.deposits, bias.outside) == (0, 3)
    assert bias.potential.abs().sum() == 0
    bias.update(column(0.1, 2.5, 0.2, 9.0), step=2, mask=torch.tensor([True, True, False, False]))
    assert (bias.deposits, bias.outside) == (1, 4)
    assert bias.observables() == {"hills": 1.0, "mean_height": 0.5, "outside": 0.8, "offset": bias.offset()}
    assert bias.allows(column(0.1, 2.5)).tolist() == [True, False]
    bias.frozen = True
    bias.update(column(0.1, 2.5), step=3)
    assert (bias.deposits, bias.outside) == (1, 4)


def test_well_tempered_heights():
    """w = height exp(-V / (kT (gamma - 1))), V as it was before any walker of the update deposited."""
    kT, gamma = 0.5, 5.0
    bias = Metadynamics(X, LINE, 1.5, 0.1, pace=1, bias_factor=gamma, kT=kT)
    node = float(LINE.centers()[60])
    bias.update(column(node), step=1)
    assert bias.last_height == 1.5
    bias.update(column(node, node, -1.0), step=2)
    low = 1.5 * math.exp(-1.5 / (kT * (gamma - 1)))
    assert float(bias.energy(column(node), 0)) == pytest.approx(1.5 + 2 * low, rel=1e-13)
    assert float(bias.energy(column(-1.0 + 0.5 * LINE.spacing[0]), 0)) == pytest.approx(1.5, rel=1e-13)
    assert bias.last_height == pytest.approx((2 * low + 1.5) / 3, rel=1e-13)
    np.testing.assert_allclose(
        bias.heights(column(node)), 1.5 * math.exp(-(1.5 + 2 * low) / (kT * (gamma - 1))), rtol=1e-13
    )


def test_the_order_of_the_walkers_does_not_matter_and_the_two_ways_to_deposit_agree():
    grid = Grid((-2.0, -2.0), (2.0, 2.0), (30, 40), periodic=(False, True))
    one, other, dense = (Metadynamics((X, Y), grid, 0.5, (0.2, 0.3), 1, bias_factor=4.0) for _ in range(3))
    dense._deposit = dense._deposit_at_once  # what a device other than the CPU does
    for step in range(4):
        s = points(40, 2, -2.1, 2.1, seed=step)
        one.update(s, step)
        other.update(s.flip(0), step)
        dense.update(s, step)
    for second in (other, dense):
        np.testing.assert_allclose(one.potential, second.potential, rtol=1e-11, atol=1e-14)
        assert torch.equal(one.visits, second.visits)
        assert (one.deposits, one.outside) == (second.deposits, second.outside)
    assert one.last_height < 0.45


def test_free_energy_and_landscape_of_given_hills():
    plain, tempered = (Metadynamics(X, LINE, 0.5, 0.1, 1, bias_factor=factor, kT=2.0) for factor in (None, 4.0))
    for bias, factor in ((plain, 1.0), (tempered, 4 / 3)):
        bias.update(column(0.1, 0.2, -0.5), step=1)
        bias.update(column(0.1), step=2)
        centers = torch.tensor(LINE.centers())[:, None]
        expected = -factor * bias.energy(centers, 0)
        assert bias.free_energy().shape == LINE.shape
        np.testing.assert_allclose(bias.free_energy(), expected - expected.min(), atol=1e-13)
        landscape = EntropyLandscape.from_bias(bias)  # S = -F / kT where U = 0
        where = landscape.visited
        expected = -bias.free_energy()[torch.from_numpy(where)] / 2.0
        np.testing.assert_allclose(landscape.entropy[where], expected - expected.max(), atol=1e-13)


# ---------------------------------------------------------------- free energies


def recovered(simulation, bias, exact, steps, parts=20):
    """Difference in kT, where F < 10 kT, between the mean of `free_energy()` over the second half and the exact F."""
    total = np.zeros(bias.grid.shape)
    for part in range(2 * parts):
        simulation.advance(steps // (2 * parts))
        if part >= parts:
            total += bias.free_energy().numpy() / parts
    region = exact - exact.min() < 10 * bias.kT
    difference = (total - exact)[region] / bias.kT
    return difference - difference.mean()


METHODS = {"standard": {"height": 0.004, "pace": 10}, "well-tempered": {"height": 0.03, "pace": 20, "bias_factor": 10}}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_double_well(method):
    """F = 5 kT (s^2 - 1)^2, kT = 2, 1600 walkers that all start in the left well, 5000 steps, to 0.1 kT.

    Standard metadynamics has filled the grid to its edges, 28 kT, after a quarter of the run; from then on V fluctuates
    by 0.2 kT, so the mean of it over the second half of the run is compared. Of 200 walkers, 20 000 steps and
    hills twice as high, over seeds 1 to 8 the standard error of a
    bin was 0.020 kT and the largest error of the 78 bins below 10 kT was 0.045 to 0.079 kT (standard); 0.022 kT and
    0.041 to 0.081 kT (well-tempered). The tolerance is four to five standard errors.
    """
    kT = 2.0
    grid = Grid(-1.84, 1.84, 92)
    bias = Metadynamics(X, grid, sigma=0.08, kT=kT, **METHODS[method])
    simulation = Simulation(
        AnalyticSystem(1, DoubleWell(5 * kT), start=-1.0), Langevin(dt=0.02, friction=3.0, kT=kT), bias=bias,
        walkers=1600, seed=1, every=10**6,
    )  # fmt: skip
    exact = 5 * kT * (grid.centers() ** 2 - 1) ** 2
    difference = recovered(simulation, bias, exact, 5000)
    assert len(difference) == 78
    assert np.abs(difference).max() < 0.1
    assert bias.outside < 1e-3 * bias.deposits
    expected = METHODS[method]["height"] * (1.0 if method == "standard" else 0.1)
    assert bias.last_height <= expected * (1 + 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_periodic_cv(method):
    """An angle, U = 4 cos(2 q) + 1.5 sin(q) on a circle: 1600 walkers, 3000 steps, compared as above.

    Of 200 walkers and 12 000 steps, over seeds 1 to 8, the error of a bin was 0.020 kT
    and the largest of the 80 bins 0.043 to 0.060 kT
    (standard); 0.024 kT and 0.056 to 0.072 kT (well-tempered).
    """
    potential = lambda q: (4 * torch.cos(2 * q) + 1.5 * torch.sin(q)).sum(-1)  # noqa: E731
    grid = Grid(-math.pi, math.pi, 80, periodic=True)
    bias = Metadynamics(X, grid, sigma=0.16, **{**METHODS[method], "height": METHODS[method]["height"] / 2})
    simulation = Simulation(
        AnalyticSystem(1, potential, box=Box(math.pi, kind="periodic"), start=1.5), Langevin(dt=0.06, friction=1.0),
        bias=bias, walkers=1600, seed=1, every=10**6,
    )  # fmt: skip
    angle = grid.centers()
    difference = recovered(simulation, bias, 4 * np.cos(2 * angle) + 1.5 * np.sin(angle), 3000)
    assert len(difference) == 80  # the whole circle lies below 10 kT
    assert np.abs(difference).max() < 0.1
    assert bias.outside == 0


@pytest.mark.slow
def test_monte_carlo_on_bins_recovers_the_free_energy():
    """A potential that is constant in each bin, for Monte Carlo: F = s^2 / 2 on [-3, 3], 800 walkers, 2000 moves.

    F in a bin is that of its integral; all of the grid lies below 10 kT. Of 100 walkers and 8000 moves, over seeds 1 to
    8, the largest error of the 20 bins was 0.022 to 0.040 kT.
    """
    grid = Grid(-3.0, 3.0, 20, kind="bins")
    bias = Metadynamics(X, grid, 0.002, 0.3, 4)
    assert not bias.differentiable
    simulation = Simulation(
        AnalyticSystem(1, Harmonic(), start=0.0), MonteCarlo(1.5), bias=bias, walkers=800, seed=3, every=10**6
    )
    normal = torch.special.ndtr(torch.tensor(grid.edges())).diff().numpy()
    assert np.abs(recovered(simulation, bias, -np.log(normal), 2000)).max() < 0.06
    assert bias.outside == 0  # moves that leave the grid are rejected


# ---------------------------------------------------------------- weights of frames


@pytest.mark.parametrize("bias_factor", [None, 1.5, 8.0])
def test_the_offset_is_that_of_its_equation(bias_factor):
    """Integrals by the midpoint rule, in one and two dimensions, with a spline and with bins; then by fine quadrature.

    V is smooth on the scale of a bin and flat at the edges, where the midpoint rule converges fast.
    """
    kT, gamma = 1.7, bias_factor
    for grid in (LINE, Grid((-2.0, -2.0), (2.0, 2.0), (30, 40), periodic=(False, True)), Grid(-2, 2, 50, kind="bins")):
        k = grid.dimensions
        bias = Metadynamics((X, Y)[:k], grid, 0.9, (0.2, 0.3)[:k], pace=1, bias_factor=bias_factor, kT=kT)
        assert bias.offset() == pytest.approx(0.0, abs=1e-14)
        for step in range(20):
            bias.update(points(10, k, seed=step), step)

        def direct(grid=grid, bias=bias, fine=1):
            edges = [np.linspace(-2.0, 2.0, fine * bins + 1) for bins in grid.shape]
            mesh = np.meshgrid(*(0.5 * (one[1:] + one[:-1]) for one in edges), indexing="ij")
            v = bias.energy(torch.tensor(np.stack([one.ravel() for one in mesh], axis=1)), 0).numpy() / bias.kT
            ds = math.prod(float(one[1] - one[0]) for one in edges)
            if gamma is None:
                return kT * math.log((np.exp(v) * ds).sum() / (4.0**grid.dimensions))
            over, under = np.exp(gamma / (gamma - 1) * v) * ds, np.exp(v / (gamma - 1)) * ds
            return kT * math.log(over.sum() / under.sum())

        assert bias.offset() > 0.5
        assert bias.offset() == pytest.approx(direct(), rel=1e-12)
        if grid.kind == "spline":
            assert bias.offset() == pytest.approx(direct(fine=7), rel=1e-3)
        assert bias.observables()["offset"] == bias.offset()


@pytest.mark.parametrize("bias_factor", [None, 1.01, 8.0])
def test_a_constant_in_the_potential_is_in_the_offset(bias_factor):
    """V and V - c(t) are known up to no constant: V + a has c + a, also where exp(V / kT) is beyond all numbers."""
    bias = Metadynamics(X, LINE, 0.9, 0.2, pace=1, bias_factor=bias_factor, kT=0.5)
    bias.update(points(30, 1), 1)
    before = bias.offset()
    for constant in (2.0, 1e5):
        bias.potential += constant
        assert bias.offset() - before == pytest.approx(constant, rel=1e-11)
        bias.potential -= constant
    bias.potential[:] = 3.0
    assert bias.offset() == pytest.approx(3.0, rel=1e-12)


KT, BARRIER, TILT = 0.7, 5.0, 0.6


def tilted(q):
    return KT * (BARRIER * (q[:, 0] ** 2 - 1) ** 2 + TILT * q[:, 0])


def weighted_run(seed, steps):
    """Left or not and ln of the weight, [T, W], of a well-tempered run, from where V has filled both wells.

    All walkers start in the left well; 5 kT of barrier are filled after 300 steps, and 600 are left out.
    """
    bias = Metadynamics(X, Grid(-1.8, 1.8, 90), 0.05 * KT, 0.08, pace=10, bias_factor=6.0, kT=KT)
    simulation = Simulation(
        AnalyticSystem(1, tilted, start=-1.0), Langevin(dt=0.06, friction=2.0, kT=KT), bias=bias, walkers=50, seed=seed,
        every=5, precision="double",
    )  # fmt: skip
    simulation.advance(steps)
    history, since = simulation.history, 120
    offset = history["metadynamics_offset"]
    assert offset[-1] == bias.offset()
    assert offset[-1] - offset[since] > 3 * KT  # it has kept growing
    return history["parameter_0"][since:] < 0, ((history["bias_energy"] - offset[:, None]) / KT)[since:]


@pytest.mark.slow
def test_frames_of_a_growing_bias_are_unbiased_by_the_offset():
    """Probability of the left of two wells, 0.7575, from all frames of 8 runs of 8000 steps (in CI 2000).

    The standard error is that of the runs, which share nothing; the tolerance is 4.5 of them. Over other seeds the mean
    was 0.7546 +- 0.0027 (40 runs of 6000 steps of 0.03) and 0.7557 +- 0.0032 (5 of 24 000).

    The mean weight of the walkers is 1 as far as they follow V, which rises under them. Over 16 runs of 6000 such it
    was 1.033 +- 0.004 in the first and 1.012 +- 0.005 in the second half, at frames in between two updates, where V and
    c(t) are of one time; the tolerance is 5 standard errors of 8 runs (0.006) above the former.
    """
    x = np.linspace(-1.8, 1.8, 100_001)
    density = np.exp(-(BARRIER * (x**2 - 1) ** 2 + TILT * x))
    exact = density[x < 0].sum() / density.sum()
    assert exact == pytest.approx(0.7575, abs=1e-4)

    def error(values):
        return np.std(values, axis=0, ddof=1) / math.sqrt(len(values))

    runs = [weighted_run(seed, round(8000 * statistics_scale(0.25))) for seed in range(1, 9)]
    found = np.array([np.average(left, weights=np.exp(weight)) for left, weight in runs])
    plain = np.array([left.mean() for left, _ in runs])
    assert error(found) < 0.015
    assert abs(found.mean() - exact) < 4.5 * error(found)
    assert abs(plain.mean() - exact) > 25 * error(plain)  # V has flattened the difference

    between = [np.exp(weight[::2]).mean(axis=1) for _, weight in runs]  # frames at steps 605, 615, ...
    halves = np.array([[half.mean() for half in np.array_split(one, 2)] for one in between])
    np.testing.assert_allclose(halves.mean(axis=0), 1.0, atol=0.06)


# ---------------------------------------------------------------- resume


@pytest.mark.parametrize("bias_factor", [None, 8.0])
def test_metadynamics_state_dict_round_trip_is_bitwise(bias_factor):
    def make():
        return Metadynamics(X, LINE, 0.1, 0.1, pace=3, bias_factor=bias_factor)

    whole, first, second = make(), make(), make()
    for step in range(60):
        s = points(16, 1, -2.2, 2.2, seed=step)
        whole.update(s, step)
        if step < 31:
            first.update(s, step)
        if step == 30:
            second.load_state_dict(saved := copy.deepcopy(first.state_dict()))
            assert second.observables() == first.observables()
        if step > 30:
            second.update(s, step)
    assert same_bits(second.state_dict(), whole.state_dict())
    assert same_bits(first.state_dict(), saved)  # no memory is shared
    assert not same_bits(first.state_dict(), whole.state_dict())
    first.frozen = True
    second.load_state_dict(first.state_dict())
    assert second.frozen


@pytest.mark.slow
def test_two_halves_equal_the_whole(tmp_path):
    """Metadynamics in one coordinate, a moving restraint of each walker in another; no two intervals are aligned."""

    def build():
        tempered = Metadynamics(X, LINE, 0.2, 0.1, pace=4, bias_factor=6.0)
        steered = Umbrella(Y, [-1.0, 0.0, 1.0], 20.0, velocity=0.01, until=120)
        return Simulation(
            AnalyticSystem(3, DoubleWell(3.0), start=-1.0), Langevin(0.05, 1.0), bias=[tempered, steered],
            observe=[Work(steered), (Z, 7)], walkers=3, seed=5, every=5, positions_every=4, snapshot_every=25,
            checkpoint_every=47,
        )  # fmt: skip

    stop = 82
    whole = build().run(2 * stop, output=tmp_path / "whole.zarr", progress=False)
    build().run(stop, output=tmp_path / "halves.zarr", progress=False)
    halves = build().run(2 * stop, output=tmp_path / "halves.zarr", resume=True, progress=False)
    assert same_bits(halves.state_dict(), whole.state_dict())
    assert arrays_of(tmp_path / "halves.zarr") == arrays_of(tmp_path / "whole.zarr")
    trajectory = Trajectory(tmp_path / "whole.zarr")
    assert trajectory["umbrella_work"][:].shape == (2 * stop // 5, 3)
    assert trajectory["metadynamics_hills"][-1] == 3 * (2 * stop // 5 * 5 // 4)
    assert 0 < trajectory["metadynamics_mean_height"][-1] < 0.2
    offset = trajectory["metadynamics_offset"][:]
    assert offset.shape == (2 * stop // 5,)
    assert (np.diff(offset) >= 0).all()
    assert offset[-1] > 0
    recorded = trajectory.bias("metadynamics")
    assert recorded.attrs["bias_factor"] == 6.0
    np.testing.assert_array_equal(recorded.tables["potential"], whole.force_field.biases[0].potential)
    landscape = EntropyLandscape.from_trajectory(trajectory)
    in_memory = EntropyLandscape.from_bias(whole.force_field.biases[0])
    np.testing.assert_array_equal(landscape.entropy, in_memory.entropy)
    assert not landscape.flat
    assert len(recorded.snapshots["visits"].step) == 2 * stop // 25


def test_settings_that_differ_are_refused_on_resume(tmp_path):
    def build(height=0.2, center=0.0):
        bias = [Metadynamics(X, LINE, height, 0.1, pace=4), Umbrella(Y, center, 1.0)]
        return Simulation(AnalyticSystem(2, start=0.0), Langevin(0.05, 1.0), bias=bias, output=tmp_path / "run.zarr")

    build().run(10, progress=False)
    for changed, message in (({"height": 0.3}, r"height: 0.2 -> 0.3"), ({"center": 1.0}, r"center: \[\[0.0\]\] -> ")):
        with pytest.raises(Exception, match=message):
            build(**changed).run(20, resume=True, progress=False)


# ---------------------------------------------------------------- refusals


def hills(**changed):
    settings = {"cvs": X, "grid": LINE, "height": 0.1, "sigma": 0.1, "pace": 10, **changed}
    return Metadynamics(**settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hills(cvs="x"), r"Metadynamics: cvs = 'x' must be a collective variable"),
        (lambda: hills(cvs=(X, Y)), r"2 CVs on a grid of 1 dimensions; give one axis each"),
        (lambda: hills(grid=(0, 1)), r"grid = \(0, 1\) must be a grid; give nnsim.Grid"),
        (lambda: hills(height=0.0), r"height = 0 must be a finite number above 0; change height"),
        (lambda: hills(height="high"), r"height = 'high' must be"),
        (lambda: hills(sigma=0.0), r"sigma = 0 must be a finite number above 0"),
        (lambda: hills(sigma="wide"), r"Metadynamics: sigma = 'wide' must be"),
        (lambda: hills(sigma=(0.1, 0.1)), r"2 values of sigma for 1 CVs; give one"),
        (lambda: hills(sigma=0.03), r"sigma = 0.03 is less than the width 0.04 of a bin.*; take a larger sigma or mo"),
        (lambda: hills(sigma=0.51), r"sigma = 0.51 makes a hill wider than the grid, -2 to 2 .*take a smaller sigma"),
        (lambda: hills(pace=0), r"pace = 0 must be a whole number of at least 1; change pace"),
        (lambda: hills(pace=2.5), r"pace = 2.5 must be a whole number"),
        (lambda: hills(bias_factor=1.0), r"bias_factor = 1 must be a finite number above 1; change bias_factor"),
        (lambda: hills(kT=0.0), r"kT = 0 must be a finite number above 0"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_widest_and_narrowest_hills_are_accepted():
    for bins in (8, 9, 40, 41):
        grid = Grid(0.0, 1.0, bins)
        for sigma in (1 / 8, 1 / bins):
            bias = hills(grid=grid, sigma=sigma)
            bias.update(column(0.5), 10)
            node = grid.centers()[bins // 2]
            assert float(bias.energy(column(node), 0)) == pytest.approx(0.1, rel=0.01)


def test_metadynamics_fits_its_simulation():
    system = AnalyticSystem(1, start=3.0)
    with pytest.raises(InputError, match=r"all 1 walkers start outside the grid \(parameter_0 from 3 to 3, grid -2"):
        Simulation(system, Langevin(0.1, 1.0), bias=hills())
    with pytest.raises(InputError, match=r"'metadynamics' has kT = 2 but Langevin has kT = 1; make them equal"):
        Simulation(AnalyticSystem(1, start=0.0), Langevin(0.1, 1.0), bias=hills(kT=2.0))
    with pytest.raises(InputError, match=r"'metadynamics' has none: it is constant in each bin"):
        Simulation(AnalyticSystem(1, start=0.0), Langevin(0.1, 1.0), bias=hills(grid=Grid(-2, 2, 40, kind="bins")))


def test_one_hill_of_wang_landau_and_metadynamics_have_one_shape():
    """The same kernel up to its norm: a Wang-Landau deposit weighs kT f in all, a hill has its height at the top."""
    grid = Grid(-2.0, 2.0, 50, kind="bins")
    hill, deposit = Metadynamics(X, grid, 0.3, 0.2, 1), WangLandau(X, grid, InverseTime(0.5, scale=1e9), kernel=0.2)
    for bias in (hill, deposit):
        bias.update(column(0.3), step=1)
    assert float(hill.potential.max()) == pytest.approx(0.3, rel=1e-14)
    np.testing.assert_allclose(hill.potential / hill.potential.sum(), deposit.potential / 0.5, rtol=1e-12)
