"""OPES against what follows from its equations: densities of given kernels, restarts, merges and records."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from nnsim import Grid, InputError, Simulation, Trajectory, cv
from nnsim.analysis import EntropyLandscape, equilibrium, frame_weights
from nnsim.bias import OPES, Wall
from nnsim.grid.estimate import in_torch
from nnsim.grid.values import coefficients_of, grid_values, node_values, on_another_grid
from nnsim.integrators import Langevin
from nnsim.plotting.tables import BiasTables
from nnsim.systems import AnalyticSystem, DoubleWell

X, Y, Z = cv.Parameter(0), cv.Parameter(1), cv.Parameter(2)


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def points(number: int, k: int, seed: int = 0, low: float = -2.0, high: float = 2.0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).uniform(low, high, (number, k)))


def fed(bias: Any, updates: int = 20, walkers: int = 6, seed: int = 0) -> Any:
    """A bias that has seen walkers anywhere, at each of so many updates."""
    for step in range(1, updates + 1):
        bias.update(points(walkers, len(bias.cvs), 1000 * seed + step), step * bias.pace)
    return bias


def same_bits(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_bits(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor):
        return torch.equal(torch.nan_to_num(one, nan=-7.0), torch.nan_to_num(other, nan=-7.0))
    return bool(one == other)


def direct(bias: Any, s: torch.Tensor) -> np.ndarray:
    """The sum over all kernels at s, by numpy: P but for its divisor."""
    k, kernels = len(bias.cvs), bias.kernels.numpy()
    away = s.numpy()[:, None] - kernels[:, :k]
    for d, period in enumerate(bias.periods):
        if period:
            away[..., d] -= period * np.round(away[..., d] / period)
    square = ((away / kernels[:, k : 2 * k]) ** 2).sum(-1)
    cut = np.exp(-0.5 * square) - math.exp(-0.5 * bias._shape.cutoff**2)
    return np.asarray((np.where(square < bias._shape.cutoff**2, cut, 0.0) * kernels[:, -1]).sum(1))


# ---------------------------------------------------------------- equations


def test_the_first_kernels_are_those_of_the_papers() -> None:
    """By hand, barrier 8 at kT = 2, gamma = 4: weights exp(V / kT), sigma by Silverman's rule, Z and V."""
    bias = OPES(X, 8.0, pace=10, sigma=0.3, kT=2.0)
    assert bias.bias_factor == 4.0
    assert bias._shape.epsilon == pytest.approx(math.exp(-4 / 0.75), rel=1e-14)
    assert bias._shape.cutoff == pytest.approx(math.sqrt(2 * 4 / 0.75), rel=1e-14)
    np.testing.assert_allclose(bias.energy(column(0.0, 5.0), 0), -8.0, rtol=1e-14)  # without a kernel
    bias.update(column(0.1), 9)
    assert bias.deposits == 0
    bias.update(column(0.1), 10)
    first = math.exp(-4.0)  # V was -barrier
    floor = math.exp(-0.5 * bias._shape.cutoff**2)
    narrower = ((1 + 2 * first) ** 2 / (1 + 2 * first**2) * 3 / 4) ** -0.2
    np.testing.assert_allclose(bias.kernels, [[0.1, 0.3 * narrower, first / narrower]], rtol=1e-14)
    # Z is P at the only centre: V = kT (1 - 1 / gamma) ln(1 + epsilon) there
    assert float(bias.energy(column(0.1), 0)) == pytest.approx(1.5 * math.log(1 + bias._shape.epsilon), rel=1e-12)
    gaussian = math.exp(-0.5 * (0.2 / (0.3 * narrower)) ** 2)
    expected = 1.5 * math.log((gaussian - floor) / (1 - floor) + bias._shape.epsilon)
    assert float(bias.energy(column(0.3), 0)) == pytest.approx(expected, rel=1e-12)
    weight = math.exp(expected / 2.0)
    far = math.exp(-4.0)  # of one where V is -barrier
    bias.update(column(0.3, 4.0), 20)
    total, squares = 2 * first + weight + far, 2 * first**2 + weight**2 + far**2
    assert bias.observables()["neff"] == pytest.approx((1 + total) ** 2 / (1 + squares), rel=1e-12)
    assert bias.observables()["rct"] == pytest.approx(2.0 * math.log(total / 4), rel=1e-12)
    assert bias.deposits == 3
    assert bias.kernels[-1, 0] == 4.0


def test_explore_counts_all_kernels_alike() -> None:
    """sigma is that of the density with V on, sqrt(gamma) times as wide; V = kT (gamma - 1) ln(p / Z + epsilon)."""
    bias = OPES(X, 6.0, pace=1, sigma=0.3, explore=True)
    assert bias._shape.epsilon == pytest.approx(math.exp(-6 / 5), rel=1e-14)
    assert bias._shape.cutoff == pytest.approx(math.sqrt(12), rel=1e-14)
    np.testing.assert_allclose(bias.energy(column(0.0), 0), -6.0, rtol=1e-14)
    bias.update(column(0.0, 9.0), 1)
    narrower = (3 * 3 / 4) ** -0.2
    width = 0.3 * math.sqrt(6) * narrower
    np.testing.assert_allclose(bias.kernels, [[0, width, 1 / narrower], [9, width, 1 / narrower]], rtol=1e-14)
    np.testing.assert_allclose(bias.energy(column(0.0, 9.0), 0), 5 * math.log(1 + bias._shape.epsilon), rtol=1e-12)


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_potential_and_normalisation_are_sums_over_the_kernels(k: int, explore: bool) -> None:
    """V from the direct sum, Z from the direct double sum, in 1 to 3 dimensions, the second of which comes round."""
    periods = [None, 4.0, None][:k]
    bias = fed(OPES((X, Y, Z)[:k], 12.0, sigma=0.2, explore=explore, periods=periods, kT=1.3), updates=60)
    count = len(bias.kernels)
    assert 5 < count < bias.deposits  # some were merged
    norm = bias.deposits + 1 if explore else bias._estimate.norm
    zed = direct(bias, bias.kernels[:, :k]).sum() / norm / count
    assert bias.observables()["zed"] == pytest.approx(zed, rel=1e-12)
    s = points(200, k, 5, -3.0, 3.0)
    factor = bias.kT * (bias.bias_factor - 1 if explore else 1 - 1 / bias.bias_factor)
    expected = factor * np.log(direct(bias, s) / norm / zed + bias._shape.epsilon)
    np.testing.assert_allclose(bias.energy(s, 0), expected, rtol=1e-11, atol=1e-12)
    for found, other in zip(
        bias.energy_and_gradient(s, 0), in_torch(bias.kernels, s, bias.wraps, bias.numbers()), strict=True
    ):
        torch.testing.assert_close(found, other, rtol=1e-11, atol=1e-11)  # what other devices do
    if k > 1:
        moved = s + torch.tensor([0.0, 4.0, 0.0][:k])
        torch.testing.assert_close(bias.energy(moved, 0), bias.energy(s, 0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize("k", [1, 2])
def test_gradient_is_the_derivative_of_the_energy(k: int, explore: bool) -> None:
    bias = fed(OPES((X, Y)[:k], 12.0, sigma=0.3, explore=explore, periods=[None, 4.0][:k]))
    s = points(100, k, 3)
    gradient = bias.gradient(s, 0)
    for d in range(k):
        h = torch.zeros(k, dtype=torch.float64)
        h[d] = 1e-6
        numeric = (bias.energy(s + h, 0) - bias.energy(s - h, 0)) / 2e-6
        np.testing.assert_allclose(gradient[:, d], numeric, rtol=1e-5, atol=1e-5)
    assert gradient.abs().max() > 1
    assert bias.energy(column(math.nan).expand(1, k), 0).isnan().all()


def test_merging_keeps_integral_mean_and_variance() -> None:
    """Of all kernels together, to rounding, and so P on a scale above sigma; at a point it changes by some per cent.

    600 kernels of random weights at normal places are merged to 22 to 28. P differed by 0.03 to 0.09 of its largest
    value at most, for seeds 1 to 8: one kernel has taken the place of others that were up to a sigma away.
    """
    merged, whole = (OPES(X, 12.0, sigma=0.3, threshold=threshold) for threshold in (1.0, 0.0))
    rng = np.random.default_rng(1)
    for _ in range(100):
        s, weights = rng.normal(size=(6, 1)), rng.uniform(0.1, 1, 6)
        for bias in (merged, whole):
            bias._estimate.add(s, weights, [0.3])
    assert len(whole.kernels) == 600
    assert len(merged.kernels) < 60

    def moments(bias: OPES) -> list[float]:
        c, sigma, h = bias.kernels.numpy().T
        return [float((h * sigma * power).sum()) for power in (1.0, c, c**2 + sigma**2)]

    np.testing.assert_allclose(moments(merged), moments(whole), rtol=1e-12, atol=1e-9)
    s = points(500, 1, 2, -3.0, 3.0)
    one, other = direct(merged, s), direct(whole, s)
    assert 1e-4 < np.abs(one - other).max() / other.max() < 0.15


def test_the_order_of_the_walkers_does_not_matter() -> None:
    """But for which kernels are merged first: without merging, to rounding; with it, V by a few hundredths of kT."""
    for threshold, tolerance in ((0.0, 1e-10), (1.0, 0.3)):
        one, other = (OPES((X, Y), 8.0, sigma=0.4, pace=2, threshold=threshold) for _ in range(2))
        for step in range(1, 21):
            s = points(12, 2, step, -1.0, 1.0)
            one.update(s, step)
            other.update(s.flip(0), step)
        s = points(100, 2, 9, -1.0, 1.0)
        torch.testing.assert_close(one.energy(s, 0), other.energy(s, 0), rtol=0, atol=tolerance)
        assert one.observables()["neff"] == pytest.approx(other.observables()["neff"], rel=0.02 if threshold else 1e-12)


def test_only_walkers_of_the_mask_leave_kernels() -> None:
    one, other = (OPES(X, 8.0, sigma=0.4, pace=1) for _ in range(2))
    s = points(6, 1)
    one.update(s, 1, mask=torch.tensor([True, False, True, False, False, False]))
    other.update(s[[0, 2]], 1)
    assert same_bits(one.state_dict(), other.state_dict())
    one.update(s, 2, mask=torch.zeros(6, dtype=torch.bool))
    one.frozen = True
    one.update(s, 3)
    assert one.deposits == 2


def test_sigma_is_that_of_a_walker_in_its_minimum() -> None:
    """Measured of 3 walkers far apart, which jump now and then, of angles that come round, with a drift in one.

    Standard deviations 0.3 and 0.2, 10 windows of 50 independent looks of 3 walkers: the median over 30 windows of a
    standard deviation with an error of 10 % each is right to 1.25 x 10 % / sqrt(30) = 2.3 %.
    """
    bias = OPES((X, Y), 8.0, pace=100, periods=[None, 2 * math.pi])
    rng = np.random.default_rng(0)
    for step in range(1, 1001):
        jump = np.array([[-5.0, 3.1], [0.0 if step < 520 else 4.0, 0.0], [5.0, -3.1]])
        s = torch.tensor(jump + rng.normal(size=(3, 2)) * (0.3, 0.2))
        s[:, 1] = torch.remainder(s[:, 1] + math.pi, 2 * math.pi) - math.pi
        assert (bias.next_update(step - 1) == step) == (step % 2 == 0)
        bias.update(s, step)
    assert bias.deposits == 0
    assert bias.sigma is not None
    np.testing.assert_allclose(bias.sigma, (0.3, 0.2), rtol=5 * 0.023)
    assert bias.next_update(1000) == 1100
    bias.update(s, 1100)
    assert bias.deposits == 3
    still = OPES(X, 8.0, pace=1)
    for step in range(1, 500):
        still.update(column(1.0, 2.0), step)
    with pytest.raises(InputError, match="the CV parameter_0 has not moved in the first 500 steps"):
        still.update(column(1.0, 2.0), 500)


# ---------------------------------------------------------------- shared, saved, recorded


@pytest.mark.parametrize("explore", [False, True])
def test_merged_at_every_update_two_halves_are_the_whole(explore: bool) -> None:
    """Bit for bit, from the first steps on, in which sigma is measured."""
    whole, one, two = (OPES((X, Y), 8.0, pace=3, explore=explore, periods=[None, 4.0]) for _ in range(3))
    for bias in (one, two):
        bias.share()
    assert one.shared
    for step in range(1, 541):
        s = points(8, 2, step)
        whole.update(s, step)
        one.update(s[:5], step)
        two.update(s[5:], step)
        parts = [one.learnt(), two.learnt()]
        one.merge(parts)
        two.merge(parts)
    assert whole.deposits == 8 * 14
    assert not len(one.learnt()["rows"])
    for bias in (one, two):
        assert same_bits(bias._content(), whole._content())


def test_between_merges_each_feels_its_own_kernels() -> None:
    """Kernels of several steps come together in the order of steps, each with the weight that it was left with."""
    one, two = (fed(OPES(X, 8.0, sigma=0.3, pace=1)) for _ in range(2))
    for bias in (one, two):
        bias.share()
    for step in (21, 22, 23):
        one.update(points(4, 1, step), step)
        two.update(points(4, 1, step + 50), step)
    s = points(50, 1)
    assert not torch.equal(one.energy(s, 0), two.energy(s, 0))
    parts = [one.learnt(), two.learnt()]
    assert parts[0]["rows"].shape == (12, 3)
    saved = OPES(X, 8.0, sigma=0.3, pace=1)
    saved.load_state_dict(one.state_dict())  # in the middle between two merges
    for bias in (one, two, saved):
        bias.merge(parts)
        assert same_bits(bias._content(), one._content())
    assert one.deposits == 120 + 24
    weights = torch.cat([part["rows"] for part in parts])[:, 2].exp()
    alone = fed(OPES(X, 8.0, sigma=0.3, pace=1))
    assert one._estimate.norm == pytest.approx(alone._estimate.norm + float(weights.sum()), rel=1e-12)
    with pytest.raises(InputError, match="'opes' is not shared, so that nothing is kept apart"):
        alone.learnt()


@pytest.mark.parametrize("updates", [100, 600])
def test_a_saved_bias_goes_on_as_if_it_had_not_been(updates: int) -> None:
    """Bit for bit, while sigma is being measured too."""
    whole, saved = (fed(OPES((X, Y), 8.0, pace=1), updates) for _ in range(2))
    other = OPES((X, Y), 8.0, pace=1)
    other.load_state_dict(saved.state_dict())
    for step in range(updates + 1, updates + 500):
        s = points(4, 2, step)
        whole.update(s, step)
        other.update(s, step)
    assert whole.deposits
    assert same_bits(other.state_dict(), whole.state_dict())
    assert torch.equal(other.potential, whole.potential)


def test_free_energy_and_landscape_are_those_of_the_potential() -> None:
    for factor, gain in ((4.0, 4 / 3), (math.inf, 1.0)):
        bias = fed(OPES((X, Y), 12.0, sigma=0.3, bias_factor=factor, kT=2.0), 40)
        assert int(bias.visits.sum()) == bias.deposits
        mesh = np.stack(np.meshgrid(*(bias.grid.centers(d) for d in (0, 1)), indexing="ij"), -1).reshape(-1, 2)
        v = bias.energy(torch.tensor(mesh), 0).reshape(bias.grid.shape)
        np.testing.assert_allclose(bias.grid.on_nodes(bias.potential), v, atol=1e-11)
        np.testing.assert_allclose(bias.free_energy(), -gain * (v - v.max()), atol=1e-10)
        landscape = EntropyLandscape.from_bias(bias)
        where = torch.from_numpy(landscape.visited)
        expected = (gain * v / 2.0)[where]
        np.testing.assert_allclose(landscape.entropy[landscape.visited], expected - expected.max(), atol=1e-10)
        assert bias.for_readers()["bias_factor"] == (None if factor == math.inf else factor)


def test_doubts() -> None:
    bias = OPES(X, 8.0, sigma=0.3, pace=1)
    assert bias.doubts() == ["it has left no kernel yet"]
    bias.update(points(4, 1), 1)
    assert any("its kernels count as 1 only" in one for one in bias.doubts())
    rng = np.random.default_rng(0)
    for step in range(2, 400):
        bias.update(torch.tensor(rng.normal(size=(4, 1))), step)
    assert bias.doubts() == []
    for step in range(400, 440):
        bias.update(torch.tensor([[0.0], [0.5], [-0.5], [10.0 * step]]), step)  # one is always somewhere new
    assert any("10 % of its newest kernels were left where V was within kT of -barrier" in one for one in bias.doubts())
    for step in range(440, 700):  # something new is found
        bias.update(torch.tensor(6 + rng.normal(size=(4, 1))), step)
    assert any("has changed by" in one for one in bias.doubts())
    bias.frozen = True
    assert not any("has changed by" in one for one in bias.doubts())


# ---------------------------------------------------------------- the grid of the record


def test_coefficients_are_those_of_the_values() -> None:
    values = np.random.default_rng(0).normal(size=(7, 9))
    for periodic in ((False, True), (True, False)):
        np.testing.assert_allclose(node_values(coefficients_of(values, periodic), periodic), values, atol=1e-13)


def test_the_grid_follows_what_is_explored_and_nothing_else() -> None:
    """Counts are exact after every doubling, and an earlier table is read on the later grid."""
    bias, seen, tables = OPES((X, Y), 8.0, sigma=0.05, pace=1, periods=[None, 4.0]), [], []
    for step in range(1, 30):
        s = points(5, 2, step) * torch.tensor([0.01 * 1.4**step, 1.0])
        seen.append(s.numpy())
        bias.update(s, step)
        tables.append((bias.grid.describe(), bias.potential.numpy().copy(), bias.visits.numpy().copy()))
    assert len({str(grid) for grid, _, _ in tables}) > 5
    every = np.concatenate(seen)
    low, high = bias.grid.lower, bias.grid.upper
    assert (low[1], high[1]) == (-2.0, 2.0)
    assert low[0] < every[:, 0].min() < every[:, 0].max() < high[0]
    assert high[0] - low[0] < 4.5 * np.ptp(every[:, 0])
    edges = [bias.grid.edges(d) for d in (0, 1)]
    np.testing.assert_array_equal(bias.visits, np.histogram2d(*every.T, edges)[0])
    grid, potential, visits = tables[14]
    there, counts = on_another_grid(potential, visits, grid, bias.grid.describe())
    np.testing.assert_array_equal(counts, np.histogram2d(*np.concatenate(seen[:15]).T, edges)[0])
    places = np.stack(np.meshgrid(*(bias.grid.centers(d) for d in (0, 1)), indexing="ij"), -1)
    expected = grid_values(potential, grid, places)
    np.testing.assert_allclose(node_values(there, (False, True)), expected, atol=1e-10)
    fixed = fed(OPES((X, Y), 8.0, sigma=0.05, grid=Grid((-1, -2), (1, 2), 8, periodic=(False, True))))
    assert fixed.periods == (None, 4.0)
    assert "edges" not in fixed.tables()
    assert 0 < int(fixed.visits.sum()) < fixed.deposits  # those outside are kernels too, but not counted


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cvs": (X, X, X, X)}, "4 CVs; give 1 to 3"),
        ({"cvs": "x"}, "cvs"),
        ({"barrier": 1.0}, "barrier = 1 must be a finite number above 1"),
        ({"barrier": 800.0}, "epsilon = exp.* is 0 in double precision; give a barrier below 69"),
        ({"pace": 0}, "pace = 0"),
        ({"sigma": [0.1, 0.2]}, "2 values of sigma for 1 CVs"),
        ({"sigma": -1.0}, "sigma = -1"),
        ({"bias_factor": 1.0}, "bias_factor = 1"),
        ({"bias_factor": math.inf, "explore": True}, "explore with bias_factor = inf"),
        ({"explore": 2}, "explore = 2"),
        ({"epsilon": 0.0}, "epsilon = 0"),
        ({"cutoff": 0.5}, "threshold = 1 must be below cutoff = 0.5"),
        ({"threshold": -1.0}, "threshold = -1"),
        ({"periods": [1.0, 2.0]}, "2 values of periods for 1 CVs"),
        ({"periods": 0.0}, "periods = 0"),
        ({"grid": 3}, "grid = 3 must be a grid"),
        ({"grid": Grid(0, 1, 5, kind="bins")}, "a grid of 1 dimensions and kind 'bins'"),
        ({"grid": Grid(0, 1, 5), "periods": 1.0}, "periods = 1.0, but those of the grid are"),
        ({"kT": 0.0}, "kT = 0"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        OPES(**{"cvs": X, "barrier": 8.0, **change})


# ---------------------------------------------------------------- what a run records, and what readers make of it


def recorded(path: Any, seed: int = 0, steps: int = 600, **settings: Any) -> Simulation:
    """A double well along one of two parameters, with a snapshot of V every 100 steps."""
    bias = OPES(X, 8.0, pace=10, sigma=0.2, kT=0.5, **settings)
    system = AnalyticSystem(2, DoubleWell(2.5), start=-1.0)
    wall = Wall(X, upper=1.3, strength=50.0)
    simulation = Simulation(
        system, Langevin(0.05, 1.0, kT=0.5), bias=[bias, wall], walkers=4, seed=seed, every=5, snapshot_every=100,
        observe=[cv.Energy(lambda q: q.square().sum(-1), name="square")],
    )  # fmt: skip
    simulation.run(steps, output=path, progress=False)
    return simulation


@pytest.mark.parametrize("factor", [None, math.inf])
def test_frames_weigh_by_the_bias_of_their_time(tmp_path: Any, factor: float | None) -> None:
    """exp((V + wall) / kT), as recorded; with the final bias, by V from its table."""
    path = tmp_path / "run.zarr"
    simulation = recorded(path, bias_factor=factor)
    bias = simulation.force_field.biases[0]
    assert isinstance(bias, OPES)
    trajectory = Trajectory(path)
    weights = frame_weights(path, since=0.0)
    s, energy = trajectory["parameter_0"][:], trajectory["bias_energy"][:]
    expected = energy / 0.5
    found = weights.log_weights
    np.testing.assert_allclose(found - found[0, 0], (expected - expected[0, 0]), atol=1e-9)
    final = frame_weights(path, since=0.0, final_bias=True).log_weights
    over = np.clip(s - 1.3, 0, None)
    v = bias.energy(torch.tensor(s.reshape(-1, 1)), 0).numpy().reshape(s.shape) + 25.0 * over**2
    np.testing.assert_allclose(final - final[0, 0], (v - v[0, 0]) / 0.5, atol=0.02)  # between the nodes of the table
    assert trajectory["opes_kernels"][-1] == len(bias.kernels)
    assert trajectory["opes_neff"][-1] == pytest.approx(bias.observables()["neff"])
    assert equilibrium(path, "parameter_0", "square").mean.size


def test_landscapes_of_runs_whose_grids_have_grown(tmp_path: Any) -> None:
    """Of one run at all its times, and of several on one grid."""
    runs = [recorded(tmp_path / f"run{seed}.zarr", seed) for seed in (0, 1)]
    paths = [tmp_path / f"run{seed}.zarr" for seed in (0, 1)]
    bias = runs[0].force_field.biases[0]
    assert isinstance(bias, OPES)
    landscape = EntropyLandscape.from_trajectory(paths[0])
    grid, visited = bias.grid.centers(), landscape.visited
    wall = 25.0 * np.clip(grid - 1.3, 0, None) ** 2  # which is taken off
    expected = (-bias.free_energy().numpy() + wall)[visited] / 0.5
    np.testing.assert_allclose(landscape.entropy[visited], expected - expected.max(), atol=1e-9)
    tables = BiasTables(Trajectory(paths[0]))
    assert len(tables) == 6
    first, last = (tables.landscape(index) for index in (0, -1))
    assert first.axes[0].matches(last.axes[0])
    assert 0 < np.isfinite(tables.at(0)).sum() <= np.isfinite(tables.at(5)).sum()
    both = EntropyLandscape.from_runs(paths)
    assert both.runs == 2
    for member, run in zip(both.members, runs, strict=True):
        known = run.force_field.biases[0]
        s = member.axes[0].centers
        f = -known.free_energy().numpy()  # type: ignore[attr-defined]
        here = np.interp(s, known.grid.centers(), f) + 25.0 * np.clip(s - 1.3, 0, None) ** 2  # type: ignore[attr-defined]
        np.testing.assert_allclose((member.entropy - here / 0.5)[both.visited].std(), 0, atol=0.02)


def test_a_run_is_resumed_bit_for_bit(tmp_path: Any) -> None:
    """In the middle of the measuring of sigma, and later."""

    def simulation() -> Simulation:
        bias = OPES(X, 8.0, pace=2)
        return Simulation(AnalyticSystem(1, DoubleWell(2.0), start=-1.0), Langevin(0.05, 1.0), bias=bias, walkers=3)

    whole = simulation()
    whole.run(900, output=tmp_path / "whole.zarr", progress=False)
    simulation().run(300, output=tmp_path / "run.zarr", progress=False)
    for steps in (700, 900):
        resumed = simulation()
        resumed.run(steps, output=tmp_path / "run.zarr", resume=True, progress=False)
    assert torch.equal(resumed.state.positions, whole.state.positions)
    one, other = (run.force_field.biases[0].state_dict() for run in (resumed, whole))
    assert same_bits(one, other)
    assert other["estimate"]["deposits"] == 3 * 200
