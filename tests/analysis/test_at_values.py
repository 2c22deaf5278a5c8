"""Averages and entropies belong to values of a CV, not to bins of it: harmonic wells, where both are known.

In n dimensions S(ln E) = (n / 2) ln E + const, and y = ln E has the mean x at given ln E = x. Frames are drawn from the
exact law of each method, so that what differs from the truth is the analysis alone.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import nnsim
from in_memory import Record

from nnsim import Box, EntropyLandscape, Grid, InputError, Simulation, Trajectory, cv
from nnsim.analysis import Axis, entropy_advantage, entropy_difference, equilibrium, mean_curve, profile, training_curve
from nnsim.analysis.averages.local_mean import local_mean
from nnsim.analysis.landscape.within_bins import mean_place, points_of_means
from nnsim.bias import Wall, WangLandau
from nnsim.integrators import Langevin
from nnsim.schedules import InverseTime
from nnsim.systems import AnalyticSystem, Harmonic
from nnsim.trajectory.writer import TrajectoryWriter

LOW, HIGH = -2.0, 1.0


def edges_of(h: float) -> np.ndarray:
    return LOW + h * np.arange(round((HIGH - LOW) / h) + 1)


def log_mean_of_bins(slope: float, edges: np.ndarray) -> np.ndarray:
    """ln of the mean of exp(slope x) over each bin."""
    h = float(edges[1] - edges[0])
    return slope * edges[1:] + np.log(-np.expm1(-slope * h) / (slope * h))


def well(
    path: Path, n: int, h: float, kind: str = "bins", seed: int = 0, noise: float = 0.1, frames: int = 1500
) -> Trajectory:
    """A converged Wang-Landau run of 16 walkers along ln E with a grid of width h, its histogram flat."""
    generator, slope, edges = np.random.default_rng(seed), n / 2, edges_of(h)
    writer = TrajectoryWriter.create(path, {"system": {"flat": True}, "parameters": {"q": [n]}, "run": str(path)})
    grid = {"lower": [LOW], "upper": [HIGH], "bins": [len(edges) - 1], "periodic": [False], "kind": kind}
    attrs = {"type": "WangLandau", "cvs": ["x"], "grid": grid, "kT": 1.0, "increment": 1e-6, "outside": 0.0}
    writer.set_attrs("nnsim/bias/wl", attrs)
    centers = 0.5 * (edges[1:] + edges[:-1])
    # constant in each bin, or a spline, whose coefficients of a straight line are its values
    writer.put("nnsim/bias/wl/potential", log_mean_of_bins(slope, edges) if kind == "bins" else slope * centers)
    writer.put("nnsim/bias/wl/visits", np.ones(len(centers)))
    # a spline is no straight line beside the edges, so walkers stay away from them
    share = generator.random((frames, 16))
    within = h * share if kind == "spline" else np.log1p(share * np.expm1(slope * h)) / slope
    if slope * h > 500:
        within = h + np.log(share) / slope
    margin = 2 if kind == "spline" else 0
    x = edges[generator.integers(margin, len(centers) - margin, (frames, 16))] + within
    y = x + noise * generator.standard_normal(x.shape)
    for step, (one, other) in enumerate(zip(x, y, strict=True), start=1):
        writer.append("observables/x", step, float(step), one)
        writer.append("observables/y", step, float(step), other)
        writer.append("observables/wl_increment", step, float(step), np.float64(1e-6))
    writer.close()
    return Trajectory(path)


# ------------------------------------------------------------------------------------------------------------ averages


@pytest.mark.slow
@pytest.mark.parametrize("n", [6, 60, 600])
@pytest.mark.parametrize(("h", "kind"), [(0.1, "bins"), (0.5, "bins"), (1.0, "bins"), (0.1, "spline")])
def test_the_mean_of_ln_energy_at_given_ln_energy_is_that(tmp_path: Path, n: int, h: float, kind: str) -> None:
    """24000 frames, with a noise about y = x of a third of what the frames of a bin of the grid are off its centre.

    Up to 30 means in units of their errors, of 15 degrees of freedom: the largest of a Student t is below 6.5 (4e-4).
    """
    effect = float(mean_place(np.array(n / 2), h))
    run = well(tmp_path / "run.zarr", n, h, kind, noise=effect / 3)
    for width in (0.1, 0.3, 1.0):
        for centred in (False, True):
            table = equilibrium(run, "x", "y", width=width, since=0.0, centred=centred)
            told = np.isfinite(table.error)
            assert told.sum() >= 2
            assert (np.abs(table.mean - table.at)[told] < 6.5 * table.error[told]).all()
            many = told & (table.frames > 400)
            assert many.any()
            assert table.error[many].max() < effect / 5
            inside = (table.at >= table.edges[:-1]) & (table.at <= table.edges[1:])
            assert inside[np.isfinite(table.mean)].all()
    fine = table.fine
    assert fine.error is not None
    sure = np.isfinite(fine.error)
    assert (np.abs(fine.y - fine.x)[sure] < 7.5 * fine.error[sure]).all()


def test_a_mean_over_a_bin_says_where_it_belongs(tmp_path: Path) -> None:
    """The example of a 60-dimensional well: the frames of -1.50 ... -1.40 are at -1.4287 in the mean."""
    from nnsim.analysis import conditional_mean

    run = well(tmp_path / "run.zarr", 120, 0.1, noise=0.0)
    x = run["x"][:]
    found = conditional_mean(x, x, 0 * x, [-1.5, -1.4])
    expected = -1.4 - 1 / 60 + 0.1 / np.expm1(6)  # h - 1 / s + h / (exp(s h) - 1) from the lower edge, s = 60
    assert found.mean[0] == pytest.approx(expected, abs=5 * 0.02 / np.sqrt(found.frames[0]))
    assert found.curve().x[0] == pytest.approx(found.mean[0])
    table = equilibrium(run, "x", "y", width=0.1, since=0.0)
    b = int(np.argmin(abs(table.at + 1.45)))
    assert table.at[b] == pytest.approx(-1.45)
    assert table.mean[b] == pytest.approx(-1.45, abs=1e-9)


def test_curved_means_and_errors_of_independent_repetitions() -> None:
    """200 times 1000 frames whose density rises by 60 nats per unit in each bin of 0.1: z has the variance of a t15."""
    z = []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        x = 0.1 * generator.integers(-20, 10, (60, 16)) + np.log1p(generator.random((60, 16)) * np.expm1(6)) / 60
        y = np.sin(2 * x) + 0.3 * generator.standard_normal(x.shape)
        found = local_mean(x, y, 20 * x, edges_of(0.5))  # weights that rise by 20 nats per unit too
        z.append((found.mean - np.sin(2 * found.at)) / found.error)
        np.testing.assert_allclose(found.at, found.centers)
    square = np.square(z)
    # variance 15 / 13 of a Student t; the mean square of 1200 of them has a standard error of 0.055
    assert abs(square.mean() - 15 / 13) < 5 * 0.055
    assert (np.abs(np.mean(z, axis=0)) < 5 * np.sqrt(15 / 13 / 200)).all()


def test_where_frames_are_on_one_side_the_mean_is_theirs() -> None:
    generator = np.random.default_rng(1)
    x = 1 + np.log(generator.random((500, 16))) / 300  # within 0.003 of the upper edge
    found = local_mean(x, 2 * x, 0 * x, [0.0, 1.0])
    assert found.at[0] == pytest.approx(x.mean())
    assert found.mean[0] == pytest.approx(2 * x.mean())
    assert found.moved([0.99])[0] == pytest.approx(1.98)


def test_equation_one_at_a_value() -> None:
    """S(L, a) of a Gaussian of mean tanh(L) and width 0.3 in a, S(L) rising by 40 nats per unit, as means over bins."""
    given, of = (Axis(name, 0.5 * (e[1:] + e[:-1]), e) for name, e in (("L", edges_of(0.25)), ("a", edges_of(0.1) * 2)))
    t, w = np.polynomial.legendre.leggauss(60)
    fine_given, fine_of = (axis.centers[:, None] + t * axis.width / 2 for axis in (given, of))
    s = 40 * fine_given[:, :, None, None] - 0.5 * ((fine_of - np.tanh(fine_given)[:, :, None, None]) / 0.3) ** 2
    top = s.max(axis=(1, 3), keepdims=True)
    mass = np.einsum("igjh,g,h->ij", np.exp(s - top), w / 2, w / 2)
    means = top[:, 0, :, 0] + np.log(mass)
    landscape = EntropyLandscape.from_means(means, np.ones(means.shape, bool), (given, of))
    curve = landscape.equilibrium("L", "a")
    inner = slice(1, -1)
    np.testing.assert_allclose(curve.y[inner], np.tanh(curve.x[inner]), atol=0.01)
    plain = EntropyLandscape(means, np.ones(means.shape, bool), (given, of)).equilibrium("L", "a")
    assert np.abs(plain.y - np.tanh(plain.x))[inner].max() > 0.05  # what it would be at the centres of the bins
    probable = landscape.most_probable("L", "a")
    np.testing.assert_allclose(probable.y[inner], np.tanh(probable.x[inner]), atol=0.02)


# ------------------------------------------------------------------------------------------------------------- entropy


@pytest.mark.parametrize("h", [0.02, 0.1, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("n", [6, 60, 600])
def test_entropy_at_points_from_means_over_bins(n: int, h: float) -> None:
    edges, slope = edges_of(h), n / 2
    means = log_mean_of_bins(slope, edges)
    centers = 0.5 * (edges[1:] + edges[:-1])
    np.testing.assert_allclose(points_of_means(means, h, 0), slope * centers, rtol=1e-10, atol=1e-9)
    grid = {"lower": [LOW], "upper": [HIGH], "bins": [len(centers)], "periodic": [False], "kind": "bins"}
    landscape = EntropyLandscape.from_coefficients(means, np.ones(len(centers)), 1.0, grid, ["x"], True)
    for a, b in ((-1.9, 0.9), (-1.51, -0.49)):
        assert entropy_difference(landscape, a, b).value == pytest.approx(slope * (a - b), rel=1e-9)
    assert landscape.at(x=0.3) - landscape.at(x=-1.2) == pytest.approx(1.5 * slope, rel=1e-9)


def test_discrete_levels_are_left_alone() -> None:
    counts = np.log([1.0, 10.0, 45.0, 120.0, 210.0])  # numbers of states at each level
    grid = {"lower": [-0.5], "upper": [4.5], "bins": [5], "periodic": [False], "kind": "bins"}
    found = EntropyLandscape.from_coefficients(counts, np.ones(5), 1.0, grid, ["m"], True, discrete=[True])
    np.testing.assert_allclose(found.entropy, counts - counts.max(), rtol=1e-12)
    assert found.at(m=2.0) - found.at(m=0.0) == pytest.approx(np.log(45))


@pytest.mark.parametrize("h", [0.05, 0.2, 0.5])
def test_a_profile_gives_entropy_at_points(h: float) -> None:
    """A Gaussian of width 0.1, whose slope reaches 30: S at the centres, and p the mean of the bins.

    800000 frames; every point within 9 of its standard errors (7 degrees of freedom).
    """
    x = np.random.default_rng(0).normal(0.0, 0.1, (50_000, 16))
    bins = round(0.6 / h) if h < 0.3 else 1
    found = profile(Record({}, x=x), "x", bins=bins, between=(-0.3, 0.3), since=0.0)
    exact = -0.5 * (found.centers[0] / 0.1) ** 2
    shift = np.average(found.entropy - exact, weights=1 / found.entropy_error**2)
    tolerance = 9 * found.entropy_error + (0.1 if h == 0.2 else 0.0)  # three bins of two widths hold no curve
    assert (np.abs(found.entropy - exact - shift) < tolerance).all()
    assert (found.p * np.diff(found.edges[0])).sum() == pytest.approx(1)
    if h == 0.05:
        for value in (-0.2, 0.01, 0.22):
            assert found.entropy_at(value) - found.entropy_at(0.0) == pytest.approx(-50 * value**2, abs=0.05)
        with pytest.raises(InputError, match="2 values for x; give one of each"):
            found.entropy_at(0.0, 0.0)


# --------------------------------------------------------------------------------------------------------------- walls


def test_entropy_goes_on_beyond_a_wall(tmp_path: Path) -> None:
    """Of a converged bias V / kT = S - V_wall / kT: 9 nats at 0.3 beyond a wall of strength 200.

    The spline of these coefficients is higher by h^2 / 6 of the wall's curvature, 0.33, than the wall.
    """
    energy = cv.LogEnergy(Harmonic())
    wall = Wall(energy, upper=0.0, lower=-1.0, strength=200.0)
    grid = Grid(-1.6, 0.6, spacing=0.1)
    bias = WangLandau(energy, grid, InverseTime(0.1, 100.0))
    simulation = Simulation(AnalyticSystem(6, box=Box(3.0), start=0.5), Langevin(0.02, 1.0), bias=[bias, wall])
    s = grid.centers()
    v_wall = 100 * (s - np.clip(s, -1.0, 0.0)) ** 2
    bias.potential[:] = torch.from_numpy(3 * s - v_wall)
    bias.visits += 1
    simulation.run(0, output=tmp_path / "run.zarr", progress=False)
    found = EntropyLandscape.from_trajectory(tmp_path / "run.zarr")
    assert found.at(ln_energy=0.3) - found.at(ln_energy=-0.5) == pytest.approx(3 * 0.8, abs=0.4)
    assert found.at(ln_energy=-1.3) - found.at(ln_energy=-0.5) == pytest.approx(-3 * 0.8, abs=0.4)
    assert found.restraints == ()


def test_bins_up_a_wall_that_were_hardly_visited_are_not_known(tmp_path: Path) -> None:
    """V has not come to outweigh the wall there: V + V_wall would rise with it, by 16 nats at 0.4."""
    energy = cv.LogEnergy(Harmonic())
    bias = WangLandau(energy, Grid(-1.6, 0.6, spacing=0.1), InverseTime(0.1, 100.0))
    wall = Wall(energy, upper=0.0, strength=200.0)
    simulation = Simulation(AnalyticSystem(6, box=Box(3.0), start=0.5), Langevin(0.02, 1.0), bias=[bias, wall])
    s = bias.grid.centers()
    bias.potential[:] = torch.from_numpy(3 * s - 100 * np.clip(s, 0.0, 0.25) ** 2)
    bias.visits += torch.from_numpy(np.where(s < 0.3, 1000, 5))
    simulation.run(0, output=tmp_path / "run.zarr", progress=False)
    found = EntropyLandscape.from_trajectory(tmp_path / "run.zarr")
    assert found.at(ln_energy=0.2) - found.at(ln_energy=-0.5) == pytest.approx(3 * 0.7, abs=0.4)
    assert np.isnan(found.at(ln_energy=0.45))
    assert found.visited.sum() == (s < 0.3).sum()


def walled(kind: str, rng: np.random.Generator) -> Any:
    """x an energy under some bias, z = x + w, and w of unit variance but for a wall of strength 1/2 above 0."""
    frames, walkers = 4000, 16
    z = rng.standard_normal(8 * frames * walkers)
    z = z[rng.random(len(z)) < np.exp(-0.25 * np.clip(z, 0, None) ** 2)][: frames * walkers].reshape(frames, walkers)
    wall = {"type": "Wall", "cvs": ["w"], "lower": None, "upper": 0.0, "strength": 0.5, "shape": "quadratic"}
    beta = np.tile([1.0, 2.0], 8)
    energy = rng.gamma(3.0, 1 / beta, (frames, walkers))
    columns: dict[str, Any] = {"x": energy, "z": z + energy, "w": z}
    bias: dict[str, Any] = {"wall": wall}
    if kind == "WangLandau":
        grid = {"lower": [0.0], "upper": [20.0], "bins": [4], "periodic": [False], "kind": "bins"}
        bias["own"] = {"type": "WangLandau", "cvs": ["x"], "grid": grid, "kT": 1.0}
        return Record(bias, tables={"own": {"potential": np.zeros(4), "visits": np.ones(4)}}, **columns)
    bias["own"] = {"type": kind, "cvs": ["x"], "beta": beta.tolist(), "ramp": 0, "kT": 1.0, "rungs": 2, "pilot": 0}
    if kind == "ReplicaExchange":
        columns |= {"own_beta": np.tile(beta, (frames, 1))}
        columns |= {"own_round_trips": np.arange(frames)}
    return Record(bias, **columns)


@pytest.mark.parametrize("kind", ["WangLandau", "Boltzmann", "ReplicaExchange"])
def test_a_wall_on_another_cv_is_taken_off_under_every_bias(kind: str) -> None:
    """<z>(x) = x without the wall, 0.16 lower with it; 64000 frames."""
    run = walled(kind, np.random.default_rng(2))
    table = equilibrium(run, "x", "z", width=1.0, since=0.0)
    told = np.isfinite(table.error) & (table.frames > 500)
    assert told.sum() >= 4
    assert (np.abs(table.mean - table.at)[told] < 6.5 * table.error[told]).all()
    assert table.error[told & (table.frames > 8000)].max() < 0.16 / 5
    within = equilibrium(Record({**run.header["bias"], "wall": {**run.header["bias"]["wall"], "upper": 99.0}},
                                tables=run.tables, **{k: v.values for k, v in run.columns.items()}),
                         "x", "z", width=1.0, since=0.0)  # fmt: skip
    assert np.average((within.mean - within.at)[told], weights=within.frames[told]) == pytest.approx(-0.16, abs=0.02)


# ----------------------------------------------------------------------------------------------------- several runs


def test_tables_of_several_runs_are_combined_by_their_edges(tmp_path: Path) -> None:
    """Runs that begin at other values: an advantage of 0.039 each at -0.75 is one of 0.039 together."""
    tables = []
    for seed, low in enumerate((-2.0, -3.2, -1.4)):
        x = np.random.default_rng(seed).uniform(low, 0.5, (2000, 16))
        run = Record({}, x=x, y=0.5 + 0.3 * np.tanh(x) + 0.039)
        run.steps = 2000
        tables.append(equilibrium(run, "x", "y", width=0.5, since=0.0))
    assert len({len(table.mean) for table in tables}) == 3
    curve = mean_curve(tables)
    np.testing.assert_allclose(curve.y, 0.539 + 0.3 * np.tanh(curve.x), atol=1e-3)
    assert curve.x.min() == pytest.approx(-1.25)
    assert curve.error is not None
    assert (curve.error < 1e-3).all()
    levels = [2.0, -0.25, -0.75, -5.0]
    fall = np.linspace(1.0, -4.0, 400)[:, None].repeat(3, axis=1)
    training = training_curve(Record({}, x=fall, y=0.5 + 0.3 * np.tanh(fall)), "x", "y", levels=levels)  # type: ignore[arg-type]
    rows = {row["x"]: row["advantage"] for row in entropy_advantage(tables, training)}
    assert rows.keys() == {-0.25, -0.75}
    for advantage in rows.values():
        assert advantage == pytest.approx(0.039, abs=1e-3)
    singly = {row["x"]: row["advantage"] for row in entropy_advantage(tables[0], training)}
    assert singly[-0.75] == pytest.approx(rows[-0.75], abs=1e-3)


def test_tables_that_do_not_fit_together_are_refused() -> None:
    x = np.random.default_rng(0).uniform(-2, 0, (500, 8))
    run = Record({}, x=x, y=x, z=x)
    table = equilibrium(run, "x", "y", width=0.5, since=0.0)
    with pytest.raises(InputError, match="do not lie on one grid; make all tables with the same width"):
        mean_curve([table, equilibrium(run, "x", "y", width=0.4, since=0.0)])
    with pytest.raises(InputError, match="do not lie on one grid"):
        mean_curve([table, equilibrium(run, "x", "y", width=0.5, since=0.0, centred=True)])
    with pytest.raises(InputError, match="tables of y at given x and of z at given x; take the same"):
        mean_curve([table, equilibrium(run, "x", "z", width=0.5, since=0.0)])
    with pytest.raises(InputError, match="no table"):
        mean_curve([])


# ---------------------------------------------------------------------------------------------- what blocks cannot see


@pytest.mark.slow
def test_replica_exchange_without_round_trips_tells_no_error(tmp_path: Path) -> None:
    """One ladder of 4 rungs: the numbers stay, their errors go, and it is said why, until 8 trips have been made."""
    rng, betas = np.random.default_rng(0), np.array([1.0, 1.6, 2.6, 4.2])
    for trips in (0, 7, 8):
        path = tmp_path / f"{trips}.zarr"
        settings = {"type": "ReplicaExchange", "cvs": ["loss_train"], "kT": 1.0, "rungs": 4, "pilot": 0}
        header = {"system": {"flat": True}, "parameters": {"q": [1]}, "kT": 1.0, "bias": {"re": settings}}
        writer = TrajectoryWriter.create(path, {**header, "walkers": 4})
        for step in range(1, 401):
            energy = rng.gamma(4.0, 1 / betas)
            made = round(trips * max(0.0, (step - 200) / 200))  # all in the later half, which is looked at
            for name, value in (("loss_train", energy), ("ln_loss_train", np.log(energy)), ("re_beta", betas),
                                ("re_round_trips", np.float64(made)), ("y", rng.standard_normal(4))):  # fmt: skip
                writer.append(f"observables/{name}", step, float(step), value)
        writer.close()
        run = Trajectory(path)
        table = equilibrium(run, "ln_loss_train", "y", width=1.0)
        found = profile(run, "ln_loss_train", bins=4)
        for errors in (table.error, found.entropy_error, found.weights.free_energy_errors):
            assert np.isfinite(errors).any() == (trips >= 8)
        assert np.isfinite(table.mean).any()
        line = f"the walkers of 're' made {trips} round trips of the ladder (converged: 8 or more)"
        commands = [
            ("analyze", "equilibrium", path, "--of", "y"),
            ("analyze", "reweight", path, "--along", "ln_loss_train", "-o", tmp_path / "t.csv"),
        ]
        for command in commands:
            result = nnsim(*command)
            assert result.status == 0, result.err
            assert (f"NOT CONVERGED: {line}" in result.out) == (trips < 8)
        assert nnsim("report", path, "-o", tmp_path / f"{trips}.html").status == 0
        page = (tmp_path / f"{trips}.html").read_text()
        assert ("round trips of the ladder (converged: 8 or more)" in page) == (trips < 8)


def test_few_frames_tell_no_error() -> None:
    """Three windows on a harmonic well: fewer than 8 independent frames of a window give a number, but no error."""
    rng, center = np.random.default_rng(0), np.array([-1.0, 0.0, 1.0])
    rows = {"center": center[:, None].tolist(), "stiffness": [[5.0]] * 3, "velocity": [[0.0]]}
    settings = {"type": "Umbrella", "cvs": ["x"], **rows, "until": None, "periods": [None]}
    for frames in (1, 2, 4, 7, 40):
        x = rng.normal(center * 5 / 6, 1 / np.sqrt(6), (frames, 3))
        run = Record({"umbrella": settings}, x=x)
        if frames == 1:
            with pytest.raises(InputError, match="1 frame of each walker is too few to combine 3 states"):
                profile(run, "x", bins=4, since=0.0)
            continue
        found = profile(run, "x", bins=4, between=(-2, 2), since=0.0)
        assert np.isfinite(found.weights.free_energy_errors[1:]).all() == (frames >= 40)
        assert np.isfinite(found.mean_error) == (frames >= 40)
        assert np.isfinite(found.weights.free_energies).all()
        if frames < 8:
            assert "independent frames, too few to tell an error (8 are needed)" in found.weights.doubts.problems[0]
