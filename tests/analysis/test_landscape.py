"""Landscapes with closed forms: Gaussian densities, B-splines, averages over runs, round trips."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.interpolate import BSpline

from nnsim.analysis import Axis, EntropyLandscape, crossings, natural_value, round_trips
from nnsim.analysis.landscape.learnt import grid_bias_name, wang_landau_name
from nnsim.errors import InputError
from nnsim.grid.values import node_values

SLOPE, WIDTH = 0.4, 0.8  # of the Gaussian in a around its mean SLOPE x


def axis(name: str, low: float, high: float, bins: int, periodic: bool = False) -> Axis:
    edges = np.linspace(low, high, bins + 1)
    return Axis(name, 0.5 * (edges[1:] + edges[:-1]), edges, periodic)


def gaussian(noise: float = 0.0, seed: int = 0, offset: float = 0.0) -> EntropyLandscape:
    """S(x, a) = -x^2/2 - (a - SLOPE x)^2 / (2 WIDTH^2): marginal, mean and mode are known."""
    x, a = axis("x", -3, 3, 30), axis("a", -8, 8, 160)
    grid_x, grid_a = np.meshgrid(x.centers, a.centers, indexing="ij")
    s = -0.5 * grid_x**2 - 0.5 * ((grid_a - SLOPE * grid_x) / WIDTH) ** 2
    s = s + offset + noise * np.random.default_rng(seed).standard_normal(s.shape)
    return EntropyLandscape(s, np.ones_like(s, dtype=bool), (x, a))


def test_the_maximum_is_zero_and_bins_not_visited_are_nan() -> None:
    s = np.array([[1.0, 5.0], [3.0, -np.inf]])
    landscape = EntropyLandscape(s, s > 2, (axis("x", 0, 2, 2), axis("y", 0, 1, 2)))
    np.testing.assert_array_equal(landscape.entropy, [[np.nan, 0], [-2, np.nan]])
    assert landscape.range() == 2
    assert landscape.at(x=1.5, y=0.2) == -2
    assert np.isnan(landscape.at(x=0.5, y=0.2))
    assert landscape.runs == 1
    assert "2 of 4 bins" in repr(landscape)


def test_marginal_of_a_gaussian() -> None:
    marginal = gaussian().marginal("x")
    expected = -0.5 * marginal.axes[0].centers ** 2
    # sums over a uniform grid of 8 bins per width, cut at 8.5 widths, are exact integrals to rounding
    np.testing.assert_allclose(marginal.entropy, expected - expected.max(), atol=1e-12)
    assert marginal.names == ("x",)


def test_marginal_of_several_axes_in_the_order_asked() -> None:
    rng = np.random.default_rng(1)
    axes = (axis("x", 0, 1, 3), axis("y", 0, 1, 4), axis("z", 0, 1, 5))
    weight = rng.uniform(0.1, 1, (3, 4, 5))
    landscape = EntropyLandscape(np.log(weight), weight > 0.2, axes)
    summed = np.where(weight > 0.2, weight, 0).sum(1).T
    result = landscape.marginal("z", "x")
    assert result.names == ("z", "x")
    np.testing.assert_allclose(np.exp(result.entropy), summed / summed.max(), atol=1e-14)


def test_equilibrium_and_most_probable_value_of_a_gaussian() -> None:
    landscape = gaussian()
    mean, mode = landscape.equilibrium("x", "a"), landscape.most_probable(0, 1)
    np.testing.assert_allclose(mean.y, SLOPE * mean.x, atol=1e-12)
    np.testing.assert_allclose(mode.y, SLOPE * mode.x, atol=1e-12)  # S is a parabola: refinement is exact
    assert mean.error is None
    assert (mean.x_name, mean.y_name) == ("x", "a")
    square = landscape.equilibrium("x", "a", value=np.square)
    np.testing.assert_allclose(square.y, WIDTH**2 + (SLOPE * square.x) ** 2, atol=1e-12)


def test_equilibrium_is_equation_1_on_the_visited_bins_only() -> None:
    s = np.array([[700.0, 701.0, 9e9], [0.0, 0.0, 0.0], [-900.0, 0.0, -900.0]])
    visited = np.array([[True, True, False], [False, False, False], [True, False, True]])
    landscape = EntropyLandscape(s, visited, (axis("L", 0, 3, 3), axis("a", 0, 3, 3)))
    curve = landscape.equilibrium("L", "a")
    np.testing.assert_allclose(curve.y, [(0.5 + 1.5 * np.e) / (1 + np.e), np.nan, 1.5], rtol=1e-12)
    # the highest bin is next to one that was not visited: no parabola
    np.testing.assert_allclose(landscape.most_probable("L", "a").y, [1.5, np.nan, 0.5])


def test_most_probable_value_across_a_periodic_edge() -> None:
    angle = axis("phi", -np.pi, np.pi, 72, periodic=True)
    runs = []
    for shift in (-0.03, 0.03):
        s = 5 * np.cos(angle.centers - np.pi - shift)
        runs.append(EntropyLandscape(np.stack([s, s]), np.ones((2, 72), bool), (axis("x", 0, 1, 2), angle)))
    mode: Any = EntropyLandscape.average(runs).most_probable("x", "phi")
    np.testing.assert_allclose(np.cos(mode.y), -1, atol=1e-6)
    # two values 0.06 apart: standard error 0.03, up to the parabola's error (h^2 is 0.008)
    np.testing.assert_allclose(mode.error, 0.03, rtol=0.01)


def test_average_takes_off_the_unknown_constants() -> None:
    runs = [gaussian(offset=offset) for offset in (-100.0, 3.0, 55.0)]
    average: Any = EntropyLandscape.average(runs)
    np.testing.assert_allclose(average.entropy, gaussian().entropy, atol=1e-12)
    np.testing.assert_allclose(average.error, 0, atol=1e-12)
    assert average.runs == 3


def test_average_has_the_standard_error_of_the_noise() -> None:
    sigma, count = 0.3, 20
    average: Any = EntropyLandscape.average([gaussian(sigma, seed, offset=10 * seed) for seed in range(count)])
    deviation = average.entropy - gaussian().entropy
    z = (deviation - deviation.mean()) / average.error  # the constant of the average is not known either
    # 4800 bins of Student t with 19 degrees of freedom, variance 19/17: its mean square has a standard error of 0.026
    assert abs((z**2).mean() - 19 / 17) < 5 * 0.026
    assert abs((average.error**2).mean() / (sigma**2 / count) - 1) < 5 * np.sqrt(2 / (19 * 4800))
    nested = EntropyLandscape.average([average, gaussian()])
    assert nested.runs == count + 1


def test_what_is_derived_from_an_average_has_the_spread_of_the_runs() -> None:
    runs = [gaussian(0.3, seed) for seed in range(8)]
    average: Any = EntropyLandscape.average(runs)
    curves = np.stack([run.equilibrium("x", "a").y for run in runs])
    curve: Any = average.equilibrium("x", "a")
    np.testing.assert_allclose(curve.y, curves.mean(0))
    np.testing.assert_allclose(curve.error, curves.std(0, ddof=1) / np.sqrt(8))
    # 30 bins, Student t with 7 degrees of freedom: 5 standard errors of the mean square z, whose excess is large
    z = (curve.y - SLOPE * curve.x) / curve.error
    assert np.abs(z).max() < 8  # one bin in 700 tests of 30 bins exceeds this
    marginal: Any = average.marginal("x")
    marginals = np.stack([run.marginal("x").entropy for run in runs])
    marginals -= marginals.mean(1, keepdims=True)
    np.testing.assert_allclose(marginal.error, marginals.std(0, ddof=1) / np.sqrt(8))
    assert average.slice(a=0.0).runs == 8


def test_average_counts_as_visited_what_all_runs_have_visited() -> None:
    axes = (axis("x", 0, 4, 4),)
    first = EntropyLandscape(np.array([0.0, 1, 2, 3]), np.array([True, True, True, False]), axes)
    second = EntropyLandscape(np.array([0.0, 11, 12, 13]), np.array([False, True, True, True]), axes)
    average: Any = EntropyLandscape.average([first, second])
    np.testing.assert_array_equal(average.visited, [False, True, True, False])
    np.testing.assert_allclose(average.entropy, [np.nan, -1, 0, np.nan])
    assert average.error is not None
    assert np.isnan(average.error[0])


def test_slice_leaves_the_other_axes() -> None:
    landscape = gaussian()
    cut = landscape.slice(x=0.1)  # the centre of bin 15
    assert cut.names == ("a",)
    np.testing.assert_allclose(cut.entropy, landscape.entropy[15] - landscape.entropy[15].max(), atol=1e-12)
    between = landscape.slice(x=0.17)
    expected = -0.5 * ((cut.axes[0].centers - SLOPE * 0.17) / WIDTH) ** 2
    np.testing.assert_allclose(between.entropy, expected - expected.max(), atol=1e-12)


def test_values_between_the_centres() -> None:
    """Cubics through values and slopes are exact for a parabola; beyond the last centre S goes on straight."""
    landscape = gaussian()

    def exact(x: float, a: float) -> float:
        return -0.5 * x**2 - 0.5 * ((a - SLOPE * x) / WIDTH) ** 2

    for x, a in ((0.1, 0.05), (0.17, -1.23), (-2.3, 3.1)):
        assert landscape.at(x=x, a=a) - landscape.at(x=0.1, a=0.05) == pytest.approx(exact(x, a) - exact(0.1, 0.05))
    line = EntropyLandscape(60 * np.arange(4.0), np.ones(4, bool), (axis("x", 0, 4, 4),))
    assert line.at(x=4.0) - line.at(x=0.0) == pytest.approx(240)
    ring = axis("phi", 0, 2 * np.pi, 90, periodic=True)
    wave = EntropyLandscape(np.cos(ring.centers), np.ones(90, bool), (ring,))
    assert wave.at(phi=0.01) - wave.at(phi=6.0) == pytest.approx(np.cos(0.01) - np.cos(6.0), abs=1e-5)


@pytest.mark.parametrize("periodic", [False, True])
def test_node_values_are_those_of_the_spline(periodic: bool) -> None:
    rng = np.random.default_rng(2)
    c = rng.standard_normal((7, 6))

    def matrix(bins: int) -> np.ndarray:
        """Values at the nodes of each padded basis function, by scipy, folded back onto the coefficients."""
        source = np.pad(np.arange(bins), 2, mode="wrap" if periodic else "symmetric")
        knots = np.arange(-4.0, bins + 4)  # the spline of coefficient j (padded) is centred on node j - 2
        basis = BSpline(knots, np.eye(bins + 4), 3)(np.arange(bins, dtype=float))
        folded = np.zeros((bins, bins))
        np.add.at(folded.T, source, basis.T)
        return folded

    expected = matrix(7) @ c @ matrix(6).T
    np.testing.assert_allclose(node_values(c, (periodic, periodic)), expected, atol=1e-13)
    np.testing.assert_array_equal(node_values(c, (periodic, periodic), "bins"), c)


def test_from_a_bias_in_memory() -> None:
    torch = pytest.importorskip("torch")
    grid = {"lower": [0.0], "upper": [5.0], "bins": [5], "periodic": [False], "kind": "spline"}
    bias = SimpleNamespace(
        potential=torch.tensor([0.0, 6, 12, 6, 0], dtype=torch.float64),
        visits=torch.tensor([0, 1, 4, 1, 0]),
        kT=2.0,
        cvs=(SimpleNamespace(name="r"),),
        grid=SimpleNamespace(describe=lambda: grid),
    )
    landscape = EntropyLandscape.from_bias(bias, flat=False)
    np.testing.assert_allclose(landscape.entropy, [np.nan, (36 / 6 - 60 / 6) / 2, 0, (36 / 6 - 60 / 6) / 2, np.nan])
    assert not landscape.flat


class FakeSeries:
    def __init__(self, values: np.ndarray) -> None:
        self.step, self.values = np.arange(len(values)), values

    def __getitem__(self, key: Any) -> np.ndarray:
        return self.values[key]


class FakeTrajectory:
    """What `EntropyLandscape.from_trajectory` uses of an `nnsim.Trajectory`."""

    def __init__(self, *names: str, **changed: Any) -> None:
        self.header = {"system": {"flat": True}}
        self.bias_names = [*names, "wall"]
        self.changed = changed  # settings of the biases, such as their type

    def __contains__(self, name: str) -> bool:
        return False

    def bias(self, name: str) -> SimpleNamespace:
        if name == "wall":
            return SimpleNamespace(attrs={"type": "Wall"}, tables={}, snapshots={})
        grid = {"lower": [0.0], "upper": [4.0], "bins": [4], "periodic": [False], "kind": "bins"}
        attrs = {"type": "WangLandau", "cvs": ["r"], "grid": grid, "kT": 0.5, **self.changed}
        potential = np.array([0.0, 1, 2, 3])
        snapshots = {"potential": FakeSeries(np.stack([0 * potential, [0, 0, 1, 0], potential]))}
        tables = {"potential": potential, "visits": np.array([0, 1, 1, 5])}
        return SimpleNamespace(attrs=attrs, tables=tables, snapshots=snapshots)


def fake(*names: str, **changed: Any) -> Any:
    return FakeTrajectory(*names, **changed)


def test_from_a_trajectory() -> None:
    landscape = EntropyLandscape.from_trajectory(fake("wl"))
    np.testing.assert_array_equal(landscape.entropy, [np.nan, -4, -2, 0])
    assert landscape.flat
    early = EntropyLandscape.from_trajectory(fake("wl"), frame=1)
    np.testing.assert_array_equal(early.visited, [False, False, True, False])
    with pytest.raises(InputError, match="frame = 3 is not among the 3 snapshots"):
        EntropyLandscape.from_trajectory(fake("wl"), frame=3)
    with pytest.raises(InputError, match="no bin of the grid has been visited"):
        EntropyLandscape.from_trajectory(fake("wl"), frame=0)
    with pytest.raises(
        InputError, match="several Wang-Landau, metadynamics or OPES biases; name one with --bias; it has: one, two"
    ):
        EntropyLandscape.from_trajectory(fake("one", "two"))
    assert EntropyLandscape.from_trajectory(fake("one", "two"), "two").names == ("r",)
    with pytest.raises(InputError, match="has no Wang-Landau, metadynamics or OPES bias; give that of a run with one"):
        EntropyLandscape.from_trajectory(fake())
    with pytest.raises(InputError, match="no Wang-Landau, metadynamics or OPES bias 'wall'; it has: one"):
        EntropyLandscape.from_trajectory(fake("one"), "wall")


@pytest.mark.parametrize(("bias_factor", "factor"), [(None, 1.0), (4.0, 4 / 3)])
def test_from_a_trajectory_of_metadynamics(bias_factor: float | None, factor: float) -> None:
    """S = V / kT, or gamma / (gamma - 1) V / kT of well-tempered metadynamics."""
    settings = {"type": "Metadynamics", "bias_factor": bias_factor}
    landscape = EntropyLandscape.from_trajectory(fake("hills", **settings))
    np.testing.assert_allclose(landscape.entropy, factor * np.array([np.nan, -4, -2, 0]), rtol=1e-14)
    assert landscape.flat
    early = EntropyLandscape.from_trajectory(fake("hills", **settings), frame=1)
    np.testing.assert_array_equal(early.visited, [False, False, True, False])
    with pytest.raises(InputError, match="bias_factor = 1 must be a finite number above 1"):
        EntropyLandscape.from_trajectory(fake("hills", type="Metadynamics", bias_factor=1.0))


def test_convergence_is_that_of_wang_landau_alone() -> None:
    assert grid_bias_name(fake("hills", type="Metadynamics"), None) == "hills"
    assert grid_bias_name(fake("wl"), None) == wang_landau_name(fake("wl"), "wl") == "wl"
    with pytest.raises(InputError, match="has no Wang-Landau bias; give that of a run with one"):
        wang_landau_name(fake("hills", type="Metadynamics"), None)
    with pytest.raises(InputError, match="has several Wang-Landau biases; name one with --bias; it has: one, two"):
        wang_landau_name(fake("one", "two"), None)
    with pytest.raises(InputError, match="has no Wang-Landau bias 'wall'; it has: one"):
        wang_landau_name(fake("one"), "wall")


def test_bad_input_is_named() -> None:
    landscape, other = gaussian(), gaussian().marginal("x")
    with pytest.raises(InputError, match="no axis 'b'; choose one of x, a"):
        landscape.equilibrium("x", "b")
    with pytest.raises(InputError, match="no axis 2"):
        landscape.marginal(2)
    with pytest.raises(InputError, match="different axes"):
        landscape.equilibrium("x", "x")
    with pytest.raises(InputError, match="value of a is missing"):
        landscape.at(x=1.0)
    with pytest.raises(InputError, match=r"x = 7 is outside the grid, \[-3, 3\]"):
        landscape.slice(x=7.0)
    with pytest.raises(InputError, match="none is left"):
        landscape.slice(x=0.0, a=0.0)
    with pytest.raises(InputError, match=r"1 run\(s\)"):
        EntropyLandscape.average([landscape])
    with pytest.raises(InputError, match="different grids"):
        EntropyLandscape.average([landscape, other])
    with pytest.raises(InputError, match="not finite"):
        EntropyLandscape(np.array([np.nan, 1.0]), np.array([True, True]), (axis("x", 0, 1, 2),))
    with pytest.raises(InputError, match="differ"):
        EntropyLandscape(np.zeros(3), np.ones(3, bool), (axis("x", 0, 1, 2),))


def test_natural_value_undoes_the_coordinate() -> None:
    accuracy = np.array([0.001, 0.3, 0.99])
    squeezed = 1e-4 + (1 - 2e-4) * accuracy
    value, name = natural_value("10x_logit_smoothed_accuracy_test")
    np.testing.assert_allclose(value(10 * np.log(squeezed / (1 - squeezed))), accuracy, rtol=1e-12)
    assert name == "smoothed_accuracy_test"
    value, name = natural_value("ln_loss_test")
    assert (value(np.array(2.0)), name) == (2.0, "ln_loss_test")


def test_round_trips_of_series_made_by_hand() -> None:
    series = np.array(
        # one walker in each column: starts inside; one round trip; one and a half; hovers at one end; never anywhere
        [
            [0.5, 0.0, 1.0, 0.0, 0.5],
            [0.0, 0.5, 0.0, 0.4, 0.6],
            [1.0, 1.0, 2.0, -1.0, 0.5],
            [0.5, 0.9, 0.5, 0.9, np.nan],
            [0.9, 0.0, -3.0, 0.0, 0.4],
        ]
    )
    np.testing.assert_array_equal(crossings(series, 0.0, 1.0), [1, 2, 3, 0, 0])
    np.testing.assert_array_equal(round_trips(series, 0.0, 1.0), [0, 1, 1, 0, 0])
    np.testing.assert_array_equal(round_trips(series[:, 1], 0.0, 1.0), [1])
    np.testing.assert_array_equal(round_trips(FakeSeries(series), 0.0, 1.0), [0, 1, 1, 0, 0])
    with pytest.raises(InputError, match="low = 1 must be below high = 0"):
        round_trips(series, 1.0, 0.0)


def test_analysis_does_not_import_torch_or_matplotlib() -> None:
    code = "import sys, nnsim.analysis; sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_node_values_agree_with_the_grid() -> None:
    torch = pytest.importorskip("torch")
    from nnsim.grid.grid import Grid

    grid = Grid((0, 0), (1, 1), (5, 6), periodic=(True, False))
    c = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(node_values(c.numpy(), grid.periodic), grid.on_nodes(c).numpy(), atol=1e-14)


def test_from_a_trajectory_on_disk(tmp_path: Path) -> None:
    from nnsim.trajectory.reader import Trajectory
    from nnsim.trajectory.writer import TrajectoryWriter

    path, recorded = tmp_path / "run.zarr", FakeTrajectory("wl").bias("wl")
    writer = TrajectoryWriter.create(path, {"system": {"flat": True}, "parameters": {"w": [2]}})
    writer.set_attrs("nnsim/bias/wl", recorded.attrs)
    for name, table in recorded.tables.items():
        writer.put(f"nnsim/bias/wl/{name}", table)
    for step in range(3):
        writer.append("nnsim/bias/wl/snapshots/potential", step, 0.1 * step, recorded.snapshots["potential"][step])
        writer.append("observables/r", step, 0.1 * step, np.array([step, 1.0]))
    writer.flush()
    np.testing.assert_array_equal(EntropyLandscape.from_trajectory(path).entropy, [np.nan, -4, -2, 0])
    np.testing.assert_array_equal(EntropyLandscape.from_trajectory(str(path), frame=1).visited, [0, 0, 1, 0])
    np.testing.assert_array_equal(crossings(Trajectory(path)["r"], 0.5, 1.5), [1, 0])
