"""Equilibrium tables and diagnoses of small trajectories made by hand, and what the command line prints of them."""

import csv
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import error_of, nnsim

from nnsim import Trajectory
from nnsim.analysis import Diagnosis, diagnose, equilibrium, jackknife, mean_curve
from nnsim.errors import InputError
from nnsim.trajectory.writer import TrajectoryWriter

FRAMES = 1600


def make(
    path: Path, x: np.ndarray, y: np.ndarray, lower: float = -5.1, spacing: float = 0.1, cvs: int = 1
) -> Trajectory:
    """A Wang-Landau run with a flat bias on 100 bins of each CV, frames x and y [T, W] at steps 1, 2..."""
    grid: dict[str, Any] = {"lower": [lower] * cvs, "upper": [lower + 100 * spacing] * cvs, "bins": [100] * cvs}
    if cvs == 3:
        grid |= {"upper": [lower + 10 * spacing] * cvs, "bins": [10] * cvs}
    grid |= {"periodic": [False] * cvs, "kind": "bins"}
    writer = TrajectoryWriter.create(path, {"system": {"flat": True}, "parameters": {"w": [1]}})
    names = ["s", "t", "u"][:cvs]
    attrs = {"type": "WangLandau", "cvs": names, "grid": grid, "kT": 1.0, "increment": 1e-4, "outside": 0.0}
    writer.set_attrs("nnsim/bias/wl", attrs)
    for name in ("potential", "visits"):
        writer.put(f"nnsim/bias/wl/{name}", np.ones(grid["bins"]))
    for step in range(len(x)):
        for name in names:
            writer.append(f"observables/{name}", step + 1, step + 1.0, x[step])
        writer.append("observables/y", step + 1, step + 1.0, y[step])
        writer.append("observables/wl_increment", step + 1, step + 1.0, np.float64(1e-4))
    writer.close()
    return Trajectory(path)


def sample(walkers: int, seed: int = 0, frames: int = FRAMES) -> tuple[np.ndarray, np.ndarray]:
    """x uniform over [-0.95, 0.95] and y = noise of unit width, independent of the past."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.95, 0.95, (frames, walkers)), rng.standard_normal((frames, walkers))


@pytest.mark.parametrize("walkers", [1, 2, 7, 8, 40])
def test_the_error_of_few_walkers_is_that_of_the_mean(tmp_path: Path, walkers: int) -> None:
    frames = -(-2 * FRAMES // walkers)
    run = make(tmp_path / "run.zarr", *sample(walkers, frames=frames))
    table = equilibrium(run, "s", "y", width=1.0)
    there = table.frames > 0
    np.testing.assert_array_equal(np.isfinite(table.error), there)
    assert there.sum() == 2
    # Independent frames of unit width; at its centre a parabola has 9/4 the variance of a mean. The square of the error
    # has 7 degrees of freedom or more: 99.9 % of its root lies between 0.29 and 1.9 times what it should be.
    expected = 1.5 / np.sqrt(table.frames[there])
    assert (table.error[there] > 0.29 * expected).all()
    assert (table.error[there] < 1.9 * expected).all()
    assert (np.abs(table.mean[there]) < 5 * expected).all()
    assert table.fine.error is not None
    known = np.isfinite(table.fine.error)
    assert np.isfinite(table.fine.y[known]).all()
    assert known.sum() == 10  # narrow bins


def test_one_frame_of_one_walker_has_no_error(tmp_path: Path) -> None:
    run = make(tmp_path / "run.zarr", np.array([[0.05]]), np.array([[0.5]]))
    table = equilibrium(run, "s", "y")
    assert table.mean[np.isfinite(table.mean)] == [0.5]
    assert np.isnan(table.error).all()
    assert diagnose(run).round_trips == 0  # nothing has moved


def test_jackknife_of_means_is_the_plain_standard_error() -> None:
    values = np.random.default_rng(1).standard_normal((12, 3))
    left_out = (values.sum(0) - values) / 11
    np.testing.assert_allclose(jackknife(left_out), values.std(0, ddof=1) / np.sqrt(12))
    assert np.isnan(jackknife([[np.nan, 1.0], [2.0, 1.0]])[0])


def test_edges_are_multiples_of_the_spacing(tmp_path: Path) -> None:
    """-5.1 + 51 x 0.1 is not 0 in binary; the table and the CSV file have 0."""
    run = make(tmp_path / "run.zarr", *sample(8))
    assert {-0.45, -0.15, 0.15, 0.45} <= set(mean_curve([equilibrium(run, "s", "y", width=0.3)]).x.tolist())
    result = nnsim(
        "analyze", "equilibrium", tmp_path / "run.zarr", "--of", "y", "--width", "0.3", "-o", tmp_path / "t.csv"
    )
    assert result.status == 0, result.err
    assert "e-16" not in result.out
    assert "0 to 0.3" in result.out
    with (tmp_path / "t.csv").open() as file:
        edges = [row[name] for row in csv.DictReader(file) for name in ("s_from", "s_to")]
    assert {"0.0", "0.3", "-0.3", "0.6"} <= set(edges)
    assert all(len(edge) <= 4 for edge in edges)


# ---------------------------------------------------------------------------------------------------------- convergence


def diagnosis(temperature: float, trips: int = 100) -> Diagnosis:
    return Diagnosis("s", -1.0, 1.0, trips, 8, 1e-4, 0.1, 0.0, temperature, 1.0)


def test_an_unknown_kinetic_temperature_is_left_out() -> None:
    assert diagnosis(math.nan).problems() == []
    assert str(diagnosis(math.nan)) == "increment 0.0001 kT, 100 round trips, 0 % outside"
    assert "T = 1.000 kT" in str(diagnosis(1.0))
    assert "kinetic temperature is 1.1, not kT = 1" in diagnosis(1.1).problems()[0]
    assert len(diagnosis(math.nan, trips=0).problems()) == 1


def test_the_verdict_says_that_the_temperature_is_not_known(tmp_path: Path) -> None:
    make(tmp_path / "run.zarr", *sample(8))
    out = nnsim("analyze", "equilibrium", tmp_path / "run.zarr", "--of", "y").out
    assert "nan" not in out
    assert (
        "no sign that the run has not converged (without a look at the kinetic temperature, which is not known)" in out
    )


def test_two_ends_of_round_trips_must_differ(tmp_path: Path) -> None:
    run = make(tmp_path / "run.zarr", *sample(8, frames=40))
    for command in (("analyze", "equilibrium", run.path, "--of", "y"), ("plot", "landscape", run.path)):
        line = error_of(*command, "--between", "5", "5")
        assert "round trips between 5 and 5: must be two different finite numbers" in line
        assert "change one (--between)" in line
    with pytest.raises(InputError, match="between nan and 1: must be two different finite numbers"):
        diagnose(run, between=(math.nan, 1.0))
    assert diagnose(run, between=(0.5, -0.5)).low == -0.5


# ---------------------------------------------------------------------------------------------------- independent runs


@pytest.mark.slow
def test_the_same_run_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("run.zarr"), *sample(8, frames=40))
    make(Path("other.zarr"), *sample(8, 1, frames=40))
    words = "not independent runs; give each run once"
    assert f"run.zarr and run.zarr are the same trajectory twice, {words}" in error_of(
        "plot", "landscape", "run.zarr", "run.zarr"
    )
    Path("link.zarr").symlink_to("run.zarr")
    assert f"run.zarr and link.zarr are the same run, {words}" in error_of("plot", "landscape", "run.zarr", "link.zarr")
    assert nnsim("plot", "landscape", "run.zarr", "other.zarr").status == 0
    both = ("--of", "y", "--training")
    assert words in error_of("analyze", "advantage", "run.zarr", "run.zarr", *both, "other.zarr")
    assert words in error_of("analyze", "advantage", "run.zarr", *both, "other.zarr", "--training", "other.zarr")


def test_a_copy_of_a_run_is_the_same_run(tmp_path: Path) -> None:
    TrajectoryWriter.create(tmp_path / "a.zarr", {"run": "1234", "parameters": {}}).close()
    shutil.copytree(tmp_path / "a.zarr", tmp_path / "b.zarr")
    assert "are the same run" in error_of("plot", "landscape", tmp_path / "a.zarr", tmp_path / "b.zarr")


# ---------------------------------------------------------------------------------------------------------- landscapes


def test_options_without_effect_on_a_line_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("one.zarr"), *sample(8, frames=40))
    line = error_of("plot", "landscape", "one.zarr", "--observable", "y")
    assert "--observable y needs a landscape of two CVs, but this is one of s alone; leave it out" in line
    assert "--width 0.2 needs a landscape of two CVs" in error_of("plot", "landscape", "one.zarr", "--width", "0.2")
    make(Path("two.zarr"), *sample(8, frames=40), cvs=2)
    arguments = ("plot", "landscape", "two.zarr")
    assert "this is one of t alone" in error_of(*arguments, "--marginal", "t", "--observable", "y")
    assert "--width 0.2 is that of the mean of --observable" in error_of(*arguments, "--width", "0.2")
    assert nnsim(*arguments, "--observable", "y", "--width", "0.2").status == 0


@pytest.mark.slow
def test_marginal_of_three_cvs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x, y = sample(8, frames=40)
    make(Path("run.zarr"), x, y, lower=-1.0, spacing=0.2, cvs=3)
    arguments = ("plot", "landscape", "run.zarr")
    assert nnsim(*arguments).status == 0  # slices
    assert "must be different axes" in error_of(*arguments, "--marginal", "s", "--marginal", "s")
    assert nnsim(*arguments, "--marginal", "u", "--marginal", "s", "-o", "map.svg").status == 0
    assert nnsim(*arguments, "--marginal", "u", "--marginal", "s", "--observable", "y", "--width", "0.4").status == 0
    assert nnsim(*arguments, "--marginal", "t").status == 0
