"""Profiles along any observable: weights of each bias, bins, errors, and `nnsim analyze reweight`."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import error_of, nnsim
from conftest import statistics_scale
from in_memory import Record, umbrella

from nnsim import Box, Grid, Trajectory, cv
from nnsim.analysis import equilibrium, frame_weights, profile
from nnsim.analysis.averages.weights import FrameWeights
from nnsim.analysis.landscape.within_bins import points_of_means
from nnsim.bias import Metadynamics, Umbrella, Wall, WangLandau
from nnsim.cli.analyze import POOR_OVERLAP
from nnsim.errors import InputError
from nnsim.grid.values import grid_values
from nnsim.integrators import Langevin, VelocityVerlet
from nnsim.plotting import plot_profile
from nnsim.schedules import FlatnessHalving, LinearRamp
from nnsim.simulation import Simulation
from nnsim.systems import AnalyticSystem, Harmonic, LossPotential, spiral_classification
from nnsim.trajectory.writer import TrajectoryWriter

NINE = 9  # standard errors of 7 degrees of freedom, as unlikely as 4 to 5 sigma


def grid_settings(low: float = -4.0, high: float = 4.0, bins: int = 40, kind: str = "spline") -> dict[str, Any]:
    return {"lower": [low], "upper": [high], "bins": [bins], "periodic": [False], "kind": kind}


def wang_landau(kind: str = "spline") -> dict[str, Any]:
    return {"type": "WangLandau", "cvs": ["x"], "grid": grid_settings(kind=kind), "kT": 1.0}


def under_a_frozen_bias(frames: int, walkers: int, seed: int = 0) -> Any:
    """U = x^2 / 2 under a frozen V = 0.3 x^2 (a spline: exact but near the edges), y = x / 2 + noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, np.sqrt(1 / 1.6), (frames, walkers))
    centers = np.linspace(-3.9, 3.9, 40)
    coefficients = 0.3 * (centers**2 - 0.2**2 / 3)  # those of x^2 on a B-spline
    tables = {"wl": {"potential": coefficients, "visits": np.ones(40)}}
    y = 0.5 * x + rng.standard_normal(x.shape)
    levels = (x > 0.5).astype(float) + (x > 1.5)
    columns = {"x": x, "y": y, "level": levels}
    return Record({"wl": wang_landau()}, flat=False, tables=tables, **columns)


def saved(tmp_path: Path, frames: int = 400, walkers: int = 8) -> Path:
    """The same on disk."""
    record, path = under_a_frozen_bias(frames, walkers), tmp_path / "run.zarr"
    writer = TrajectoryWriter.create(path, {**record.header, "parameters": {"w": [1]}})
    writer.set_attrs("nnsim/bias/wl", record.header["bias"]["wl"])
    for name, table in record.tables["wl"].items():
        writer.put(f"nnsim/bias/wl/{name}", table)
    for step in range(frames):
        for name, column in record.columns.items():
            writer.append(f"observables/{name}", step + 1, step + 1.0, column.values[step])
    writer.close()
    return path


# ---------------------------------------------------------------------------------------------------------- potentials


@pytest.mark.parametrize("kind", ["spline", "bins"])
@pytest.mark.parametrize("periodic", [(False, False), (True, False), (False, True)])
def test_a_recorded_potential_is_evaluated_as_in_the_run(kind: str, periodic: tuple[bool, bool]) -> None:
    grid = Grid((-1.0, 0.0), (2.0, 5.0), (7, 9), periodic=periodic, kind=kind)
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(7, 9, generator=generator, dtype=torch.float64)
    points = torch.rand(5000, 2, generator=generator, dtype=torch.float64) * torch.tensor([6.0, 9.0]) - 2.5
    points = torch.cat((points, torch.tensor([[-1.0, 0.0], [2.0, 5.0], [0.5, 5.0]], dtype=torch.float64)))
    points = points if kind == "spline" else points[grid.inside(points)]
    found = grid_values(table.numpy(), grid.describe(), points.numpy().reshape(-1, 1, 2))
    np.testing.assert_allclose(found[:, 0], grid.evaluate(table, points)[0].numpy(), atol=1e-12)
    assert np.isnan(grid_values(table.numpy(), grid.describe(), np.array([np.nan, 1.0])))


@pytest.mark.parametrize("where", ["reference", "native"])
def test_the_potentials_of_a_real_run_are_those_recorded(tmp_path: Path, where: str) -> None:
    """Umbrella windows, one shared umbrella and walls: bias_energy, made from the record again."""
    x, y = cv.Parameter(0), cv.Parameter(1)
    biases = [
        Umbrella(x, [-0.5, 0.1, 0.8], stiffness=[4.0, 5.0, 6.0]),
        Umbrella([x, y], [0.2, 1.9], 1.5, periods=[None, 4.0], name="shared"),
        Wall(y, upper=0.5, strength=10.0),
        Wall(x, lower=0.0, strength=2.0, shape="linear", name="mine"),
    ]
    system = AnalyticSystem(2, box=Box(2.0))
    run = Simulation(system, Langevin(0.05, 1.0, kT=1.5), bias=biases, walkers=3, every=5, threads=1)
    run.run(200, output=tmp_path / "run.zarr", progress=False)
    weights = frame_weights(Trajectory(tmp_path / "run.zarr"), since=0.0)
    u = weights.values("bias_energy") / 1.5
    state = np.broadcast_to(np.arange(3), u.shape)  # sorted by centre, as the walkers are
    reduced = np.empty((3, u.size))
    reduced[:, weights._order] = weights._reduced
    own = np.take_along_axis(reduced.reshape(3, *u.shape), state[None], axis=0)[0]
    np.testing.assert_allclose(weights._factor + own, u, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------- the law


def test_a_final_bias_is_taken_off() -> None:
    found = profile(under_a_frozen_bias(8000, 16), "x", bins=24, between=(-2.4, 2.4), since=0.0)
    from scipy.stats import norm

    p = np.diff(norm.cdf(found.edges[0])) / 0.2 / (norm.cdf(2.4) - norm.cdf(-2.4))
    assert (np.abs(np.log(found.p / p)) < NINE * found.entropy_error).all()
    assert np.abs(found.free_energy + np.log(p / p.max())).max() < 0.25
    assert abs(found.mean) < NINE * found.mean_error
    # Kish: <w>^2 / <w^2> for w = exp(0.3 x^2), x of variance 1 / 1.6: sqrt(1 - 4 a^2) with a = 0.3 / 1.6
    share = np.sqrt(1.6 * (1.6 - 1.2)) / (1.6 - 0.6)
    assert found.total_effective / 128_000 == pytest.approx(share, rel=0.05)
    assert found.weights.states == []
    assert (found.effective <= found.frames).all()


def test_an_observable_without_a_bias() -> None:
    """y has variance 1 + 1 / 4 without the bias, and 1 + 0.25 / 1.6 with it."""
    found = profile(under_a_frozen_bias(8000, 16), "y", bins=20, between=(-3.0, 3.0), since=0.0)
    exact = 0.5 * found.centers[0] ** 2 / 1.25
    inner = np.abs(found.centers[0]) < 2.5
    deviation = (found.free_energy - exact)[inner]
    shift = np.average(deviation, weights=1 / found.free_energy_error[inner] ** 2)
    assert (np.abs(deviation - shift) < NINE * found.free_energy_error[inner]).all()


def test_probabilities_of_discrete_values() -> None:
    found = profile(under_a_frozen_bias(8000, 16), "level", bins="values", since=0.0)
    from scipy.stats import norm

    exact = np.diff(norm.cdf([-np.inf, 0.5, 1.5, np.inf]))
    np.testing.assert_array_equal(found.centers[0], [0, 1, 2])
    np.testing.assert_allclose(found.edges[0], [-0.5, 0.5, 1.5, 2.5])
    assert found.p.sum() == pytest.approx(1)
    assert (np.abs(found.p - exact) < NINE * found.p_error).all()
    assert found.p_error.max() < 0.01
    assert abs(found.mean - exact @ [0, 1, 2]) < NINE * found.mean_error
    assert list(found.rows()[0]) == [
        "level", "free_energy", "free_energy_error", "entropy", "entropy_error", "probability", "probability_error",
        "frames", "effective_frames",
    ]  # fmt: skip
    with pytest.raises(InputError, match="discrete values lie on no grid"):
        found.landscape()


def test_two_observables() -> None:
    """p(x, y) is a Gaussian of correlation 0.5 / sqrt(1.25); its sums over rows are the profile along one."""
    run = under_a_frozen_bias(8000, 16)
    limits = ((-1.5, 1.5), (-2.0, 2.0))
    found = profile(run, ("x", "y"), bins=(10, 8), between=limits, since=0.0)
    x, y = np.meshgrid(*found.centers, indexing="ij")
    exact = 0.5 * x**2 + 0.5 * (y - 0.5 * x) ** 2
    deviation = found.free_energy - exact
    shift = np.average(deviation, weights=1 / found.free_energy_error**2)
    assert (np.abs(deviation - shift) < NINE * found.free_energy_error + 0.005).all()
    volume = 0.3 * 0.5
    assert (found.p * volume).sum() == pytest.approx(1)
    assert found.means == pytest.approx((0, 0), abs=0.05)
    landscape = found.landscape()
    assert landscape.names == ("x", "y")
    np.testing.assert_allclose(landscape.entropy, found.entropy)
    curve = landscape.equilibrium("x", "y")
    assert np.abs(curve.y - 0.5 * curve.x).max() < 0.2  # the range of y is cut


def test_plain_runs_and_empty_bins() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate((rng.uniform(0, 1, (50, 9)), rng.uniform(2, 3, (50, 9))))
    found = profile(Record({}, x=x), "x", bins=30, between=(0, 3), since=0.0)
    assert np.isnan(found.entropy[10:20]).all()
    assert (found.p[10:20] == 0).all()
    assert found.total_effective == pytest.approx(900)
    np.testing.assert_allclose(found.effective, found.frames)
    assert len(found.rows()) == 20
    assert found.flat
    assert found.landscape().visited.sum() == 20


@pytest.mark.slow
@pytest.mark.parametrize(("walkers", "frames"), [(16, 100), (1, 1600), (3, 600)])
def test_errors_are_those_of_repetition(walkers: int, frames: int) -> None:
    """Mean of the squared errors over variance of the estimates; see test_mbar."""
    repetitions = int(800 * statistics_scale())
    estimates, errors = [], []
    for seed in range(repetitions):
        found = profile(under_a_frozen_bias(frames, walkers, seed), "y", bins=5, between=(-2.5, 2.5), since=0.0)
        estimates.append(np.append(points_of_means(np.log(found.p), 1.0, 0), found.mean))
        errors.append(np.append(found.entropy_error, found.mean_error))
    ratio = np.mean(np.square(errors), axis=0) / np.var(estimates, axis=0, ddof=1)
    assert (np.abs(np.log(ratio)) < 5 * np.sqrt(2 / repetitions + 2 / (7 * repetitions))).all(), ratio


def test_blocks() -> None:
    for walkers, frames, count in ((16, 40, 8), (20, 40, 8), (1, 40, 8), (3, 40, 9), (8, 40, 8), (1, 5, 5)):
        weights = frame_weights(under_a_frozen_bias(frames, walkers), since=0.0)
        assert weights.block_count == count
        assert len(np.unique(weights.blocks)) == count
        assert (np.ptp(weights.blocks, axis=0) == 0).all() == (walkers >= 8)


@pytest.mark.slow
def test_metadynamics(tmp_path: Path) -> None:
    """Well-tempered on x of two harmonic coordinates, weights from c(t) or the final bias: F(x), and F(y) beside it."""
    steps = int(100_000 * statistics_scale())
    grid = Grid(-4.0, 4.0, 80)
    bias = Metadynamics(cv.Parameter(0), grid, height=0.02, sigma=0.3, pace=50, bias_factor=4.0)
    simulation = Simulation(
        AnalyticSystem(2, Harmonic(), start=0.0, box=Box(4.0)),
        Langevin(0.1, 1.0), bias=bias, observe=[cv.Parameter(1)], walkers=16, every=10, threads=1,
    )  # fmt: skip
    simulation.run(steps, output=tmp_path / "run.zarr", progress=False)
    run = Trajectory(tmp_path / "run.zarr")
    for name, final in (("parameter_0", False), ("parameter_0", True), ("parameter_1", False)):
        found = profile(run, name, bins=20, between=(-2.0, 2.0), since=0.3, final_bias=final)
        exact = 0.5 * found.centers[0] ** 2
        deviation = found.free_energy - exact
        deviation -= np.average(deviation, weights=1 / found.free_energy_error**2)
        assert np.abs(deviation).max() < 0.1 / np.sqrt(statistics_scale())
        # the error of the shared bias comes on top
        assert (np.abs(deviation) < NINE * found.free_energy_error + 0.05).all()
        assert found.mean == pytest.approx(0, abs=0.1)
    table = equilibrium(run, "parameter_0", "parameter_1", width=0.5)
    inner = np.abs(0.5 * (table.edges[1:] + table.edges[:-1])) < 2
    assert (np.abs(table.mean[inner]) < NINE * table.error[inner]).all()


def test_metadynamics_without_a_record_of_the_offset() -> None:
    settings = {"type": "Metadynamics", "cvs": ["x"], "grid": grid_settings(), "kT": 1.0, "bias_factor": None}
    x = np.random.default_rng(0).standard_normal((50, 4))
    energy, offset = 0.3 * x**2, np.linspace(0, 2, 50)
    with pytest.raises(InputError, match=r"no record m_offset of c\(t\).*--final-bias"):
        frame_weights(Record({"m": settings}, x=x, bias_energy=energy))
    weights = frame_weights(Record({"m": settings}, x=x, bias_energy=energy, m_offset=offset), since=0.0)
    expected = energy - offset[:, None]
    np.testing.assert_allclose(weights.log_weights, expected - np.log(np.exp(expected).sum()))
    both = {"m": settings, "wl": wang_landau()}
    with pytest.raises(InputError, match="hold those of a Wang-Landau bias that grew too; use the final bias"):
        frame_weights(Record(both, x=x, bias_energy=energy, m_offset=offset))


# ---------------------------------------------------------------------------------------------------------- bad input


def test_bad_input_is_named() -> None:
    run = under_a_frozen_bias(50, 4)
    for settings, message in (
        ({"bins": 0}, "bins = 0 must be a whole number of at least 1"),
        ({"bins": "many"}, "bins = 'many' must be a whole number of at least 1, or 'values'"),
        ({"bins": (3, 4)}, "2 numbers of bins for 1 observables"),
        ({"between": (1.0, 1.0)}, "between = 1 to 1 must rise"),
        ({"between": ((0.0, 1.0), (0.0, 1.0))}, "must be a pair"),
        ({"between": 5.0}, "between = 5.0 must be a pair"),
        ({"between": ()}, "must be a pair"),
        ({"between": (None, 2.0)}, "between = None must be a finite number"),
        ({"between": (50.0, 51.0)}, "no frame lies between the limits; change between"),
        ({"since": 1.0}, "since = 1 must be at least 0 and below 1"),
        ({"blocks": 1}, "blocks = 1 must be a whole number of at least 2"),
        ({"kT": -1.0}, "potential_energy|kT = -1 must be"),
    ):
        with pytest.raises((InputError, KeyError), match=message):
            profile(run, "x", **settings)  # type: ignore[arg-type]
    for along in (0, (0, 1), (), ("x", "x"), ("x", "y", "level")):
        with pytest.raises(InputError, match="must be one observable or two different ones"):
            profile(run, along)
    with pytest.raises(InputError, match="x is 1 in all frames; give between, or bins = 'values'"):
        profile(Record({}, x=np.ones((20, 8))), "x")
    unsaved = Record({"wl": wang_landau()}, x=run["x"][:])
    with pytest.raises(InputError, match="'wl' has not been saved yet; run longer"):
        profile(unsaved, "x")
    with pytest.raises(InputError, match="has no kT"):
        frame_weights(Record({"wl": {**wang_landau(), "kT": None}}, kT=None, x=run["x"][:]))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("biased", [False, True])
def test_runs_without_one_temperature_are_refused(tmp_path: Path, biased: bool) -> None:
    """Schedules that are objects or functions, and a dynamics without a temperature."""
    path, system = tmp_path / "run.zarr", AnalyticSystem(1, Harmonic(), start=0.1)
    bias = [Wall(cv.Parameter(0), upper=1.0, strength=1.0)] if biased else []
    options: dict[str, Any] = {"bias": bias, "observe": [cv.Parameter(0)], "every": 5}
    for integrator, message in (
        (Langevin(0.1, 1.0, LinearRamp(1.0, 0.5, 10)), "run.zarr: kT followed a schedule, so its frames belong to no"),
        (Langevin(0.1, 1.0, lambda step: 1.0), "single temperature; run at a constant kT"),
        (VelocityVerlet(0.1), "run.zarr has no kT: a dynamics without a temperature has no equilibrium to weight for"),
    ):
        Simulation(system, integrator, **options).run(50, output=path, overwrite=True, progress=False)
        with pytest.raises(InputError, match=message):
            profile(path, "parameter_0")
        assert message in error_of("analyze", "reweight", path, "--along", "parameter_0")


@pytest.mark.slow
def test_energies_of_mini_batches_do_not_weight_frames(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    system = spiral_classification((3,), points_per_class=5, potential=LossPotential(1.0))
    run = Simulation(system, Langevin(0.01, 1.0, batch_size=2), every=5, observe=[cv.Loss("train")])
    run.run(50, output=path, progress=False)
    assert frame_weights(path).effective == pytest.approx(5)
    with pytest.raises(InputError, match=r"energies of mini-batches \(batch_size = 2\) are estimates"):
        frame_weights(path, kT=2.0)


def test_observables_of_another_shape_are_refused() -> None:
    """Such as the swap rates of pairs of rungs, which have no walkers."""
    run = under_a_frozen_bias(50, 4)
    run.columns["swap_rate"] = type(run["x"])(np.zeros((50, 3)))
    for ask in (lambda: frame_weights(run).values("swap_rate"), lambda: profile(run, "swap_rate")):
        with pytest.raises(
            InputError, match=r"swap_rate has shape \(3,\) in a frame of 4 walkers; one number for each"
        ):
            ask()


def test_a_trajectory_may_be_a_path(tmp_path: Path) -> None:
    path = saved(tmp_path, 40, 8)
    expected = profile(Trajectory(path), "x", bins=5)
    for one in (path, str(path)):
        np.testing.assert_array_equal(profile(one, "x", bins=5).p, expected.p)
        assert frame_weights(one).effective == expected.total_effective


@pytest.mark.slow
def test_any_width_will_do(tmp_path: Path) -> None:
    """Bins have their edges, or centres, at multiples of the width, whatever the spacing of the grid, here 2 / 15.

    U = q^2 / 2 is a function of q, and a parabola at that: its value at each q is exact, but in an outer bin or two
    where the frames carry a straight line only.
    """
    grid, options = Grid(-4.0, 4.0, 60), {"walkers": 4, "every": 5, "threads": 1}
    for bias, name in (
        (Metadynamics(cv.Parameter(0), grid, height=0.02, sigma=0.3, pace=50), "metadynamics"),
        (WangLandau(cv.Parameter(0), grid, FlatnessHalving(1e-3)), "wang_landau"),
    ):
        system = AnalyticSystem(1, Harmonic(), start=0.0, box=Box(4.0))
        simulation = Simulation(system, Langevin(0.1, 1.0), bias=bias, **options)  # type: ignore[arg-type]
        simulation.run(1000, output=tmp_path / f"{name}.zarr", progress=False)
        for width in (0.5, 0.4):
            for centred in (False, True):
                table = equilibrium(
                    Trajectory(tmp_path / f"{name}.zarr"), "parameter_0", "potential_energy", width=width,
                    centred=centred,
                )  # fmt: skip
                np.testing.assert_allclose(np.diff(table.edges), width)
                shift = table.edges / width - (0.5 if centred else 0)
                np.testing.assert_allclose(shift, np.round(shift), atol=1e-9)
                told = np.isfinite(table.error)
                assert told.sum() >= 6
                off = np.abs(table.mean[told] - table.at[told] ** 2 / 2)
                assert (off < 1e-6).sum() >= told.sum() - 2
                assert (off < width**2 / 8).all()
    command = ("analyze", "equilibrium", tmp_path / "wang_landau.zarr", "--of", "potential_energy", "--width")
    assert nnsim(*command, "0.5").status == 0


# ------------------------------------------------------------------------------------------------------- command line


@pytest.mark.slow
def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = nnsim("analyze", "reweight", "run.zarr", "--along", "x", "--bins", "12", "--between", "-2", "2")
    assert result.status == 0, result.err
    assert "effective sample size: " in result.out
    assert "free energy along x" in result.out
    assert Path("run_x.png").stat().st_size > 5000
    with Path("run_x.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    found = profile(Trajectory(path), "x", bins=12, between=(-2.0, 2.0))
    assert rows == found.rows()
    assert len(rows) == 12
    for option, made in ((("-o", "only.csv"), "only.csv"), (("--picture", "only.pdf"), "only.pdf")):
        before = set(tmp_path.iterdir())
        result = nnsim("analyze", "reweight", "run.zarr", "--along", "level", "--bins", "values", *option)
        assert result.status == 0, result.err
        assert {one.name for one in set(tmp_path.iterdir()) - before} == {made}
    result = nnsim("analyze", "reweight", "run.zarr", "--along", "x", "--along", "y", "--bins", "6")
    assert result.status == 0, result.err
    assert Path("run_x_y.png").exists()
    limits = ("--between", "-2", "2", "--between", "-1", "1.5", "--bins", "6", "--bins", "4")
    result = nnsim("analyze", "reweight", "run.zarr", "--along", "x", "--along", "y", *limits, "-o", "map.csv")
    assert result.status == 0, result.err
    with Path("map.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert rows == profile(path, ("x", "y"), bins=(6, 4), between=((-2, 2), (-1, 1.5))).rows()


@pytest.mark.slow
def test_the_command_line_of_windows(tmp_path: Path) -> None:
    """The free energies of the states are printed."""
    path = tmp_path / "windows.zarr"
    bias = Umbrella(cv.Parameter(0), [-0.5, 0.0, 0.5], stiffness=4.0)
    run = Simulation(
        AnalyticSystem(1, Harmonic(), start=0.0), Langevin(0.1, 1.0), bias=bias, walkers=3, every=5, threads=1
    )
    run.run(2000, output=path, progress=False)
    result = nnsim("analyze", "reweight", path, "--along", "parameter_0", "-o", tmp_path / "table.csv")
    assert result.status == 0, result.err
    assert "states combined by MBAR" in result.out
    assert "overlap of the states: 0." in result.out
    result = nnsim("analyze", "equilibrium", path, "--of", "potential_energy")
    assert result.status == 0, result.err
    assert "equilibrium potential_energy at given parameter_0" in result.out
    assert "--between is for round trips, which an Umbrella run does not make" in error_of(
        "analyze", "equilibrium", path, "--of", "potential_energy", "--between", "0", "1"
    )


@pytest.mark.slow
def test_long_chains_of_windows_do_not_overlap_poorly() -> None:
    """46 windows of which neighbours overlap well, though the ends have little in common; and 3 that are far apart."""
    rng = np.random.default_rng(5)
    for centers, k, poor in ((np.linspace(-15, 15, 46), 4.0, False), (np.linspace(-5, 5, 3), 1.0, True)):
        x = rng.normal(centers, 1 / np.sqrt(k), (3000, len(centers)))  # of U = 0
        weights = frame_weights(Record({"u": umbrella(centers, k)}, x=x), since=0.0, blocks=2)
        assert weights.overlap * 3000 < 100
        assert (weights.neighbour_overlap < POOR_OVERLAP) == poor
    chain = FrameWeights(
        *[None] * 6,  # type: ignore[arg-type]
        states=[{}] * 8,
        overlap=2 * 0.2 * (1 - np.cos(np.pi / 8)),
    )
    assert chain.neighbour_overlap == pytest.approx(0.2)


def test_errors_of_the_command_line(tmp_path: Path) -> None:
    path = saved(tmp_path, 40, 8)
    command = ("analyze", "reweight", path, "--along", "x")
    assert "--bins few: must be a whole number of at least 1, or `values`" in error_of(*command, "--bins", "few")
    both = (*command, "--along", "y")
    assert "--between is given 1 times for 2 observables; give" in error_of(*both, "--between", "0", "1")
    assert "--bins is given 2 times for 1 observables" in error_of(*command, "--bins", "2", "--bins", "3")
    assert "--bins: `values` of one observable go with" in error_of(*both, "--bins", "2", "--bins", "values")
    assert "has no observable 'z'" in error_of("analyze", "reweight", path, "--along", "z")
    assert "must end in a known format" in error_of(*command, "--picture", tmp_path / "x.nothing")
    assert "cannot be written" in error_of(*command, "-o", tmp_path / "no" / "x.csv")
    assert "since = 2" in error_of(*command, "--since", "2")
    assert "neither loss_train nor ln_loss_train" in error_of(*command, "--beta", "3")


# ------------------------------------------------------------------------------------------------------------ pictures


def test_pictures() -> None:
    run = under_a_frozen_bias(200, 8)
    line = profile(run, "x", bins=25, between=(-3.0, 3.0))
    panels = plot_profile(line, note="a note")
    assert [panel.get_ylabel() for panel in panels] == ["free energy $F$", "eff. frames"]
    assert panels[1].get_xlabel() == "x"
    drawn = next(line for line in panels[0].lines if line.get_linestyle() == "-").get_ydata()
    sure = line.effective >= 10
    np.testing.assert_array_equal(np.isfinite(np.asarray(drawn, float)), sure)
    assert plot_profile(line, quantity="probability")[0].get_ylabel() == "probability density"
    assert plot_profile(line, quantity="entropy")[0].get_ylabel() == "$S$ = ln $p$ (nats)"
    values = profile(run, "level", bins="values")
    assert plot_profile(values)[0].get_ylabel() == "probability"
    (panel,) = plot_profile(profile(run, ("x", "y"), bins=10))
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("x", "y")
    with pytest.raises(InputError, match="plot_profile: quantity = 'work' is not known"):
        plot_profile(line, quantity="work")
    with pytest.raises(InputError, match="a map of discrete values cannot be drawn"):
        plot_profile(profile(run, ("level", "x"), bins="values"))


def test_a_wang_landau_run(tmp_path: Path) -> None:
    """A real run: the weights are exp(V / kT) of its final bias at the recorded CVs."""
    bias = WangLandau(cv.Parameter(0), Grid(-2.0, 2.0, 40), FlatnessHalving(0.1), kernel=0.2, kT=1.5)
    run = Simulation(
        AnalyticSystem(2, box=Box(2.0)), Langevin(0.1, 1.0, kT=1.5), bias=bias, walkers=4, every=10, threads=1
    )
    run.run(600, output=tmp_path / "run.zarr", progress=False)
    weights = frame_weights(Trajectory(tmp_path / "run.zarr"))
    s = torch.from_numpy(weights.values("parameter_0")).reshape(-1, 1)
    expected = (bias.energy(s, 0) / 1.5).reshape(-1, 4).numpy()
    np.testing.assert_allclose(weights.log_weights, expected - np.log(np.exp(expected).sum()), atol=1e-9)


def test_bins_that_stand_alone_are_drawn():
    from types import SimpleNamespace

    from matplotlib.figure import Figure

    from nnsim.plotting.profile import _draw_line

    nan = np.nan
    alone: Any = SimpleNamespace(
        centers=[np.arange(5.0)],
        entropy=np.array([0.0, nan, -2.0, nan, -1.0]),
        entropy_error=np.array([0.1, nan, 0.2, nan, nan]),
        effective=np.array([20.0, 0.0, 3.0, 0.0, 1.0]),
        frames=np.array([20, 0, 3, 0, 1]),
        flat=True,
    )
    ax = Figure().subplots()
    _draw_line(ax, alone, "entropy")
    dots = [line.get_xdata().tolist() for line in ax.lines if line.get_marker() == "."]
    assert dots == [[0.0, 2.0, 4.0], [0.0]]  # all of them open, those with enough frames filled
