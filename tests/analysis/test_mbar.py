"""MBAR: umbrella windows and ladders of beta against exact free energies, and errors that are right."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import statistics_scale
from in_memory import Record, umbrella

from nnsim import Trajectory, cv
from nnsim.analysis import equilibrium, frame_weights, profile
from nnsim.analysis.averages.mbar import log_mixture, solve_mbar
from nnsim.bias import Boltzmann, Umbrella
from nnsim.errors import InputError
from nnsim.integrators import Langevin, MonteCarlo
from nnsim.simulation import Simulation
from nnsim.systems import AnalyticSystem, DoubleWell, Harmonic

CENTERS, STIFFNESS = np.linspace(-3.0, 3.0, 7), 4.0


def gaussian_windows(frames: int, seed: int = 0, walkers_each: int = 1) -> Any:
    """Windows on U = x^2 / 2: independent frames of the exact distribution of each."""
    center = np.tile(CENTERS, walkers_each)
    spread = 1 / np.sqrt(1 + STIFFNESS)
    x = np.random.default_rng(seed).normal(center * STIFFNESS / (1 + STIFFNESS), spread, (frames, len(center)))
    return Record({"umbrella": umbrella(center, STIFFNESS)}, flat=False, x=x, potential_energy=x**2 / 2)


def gaussian_free_energies() -> np.ndarray:
    f = 0.5 * STIFFNESS / (1 + STIFFNESS) * CENTERS**2
    return f - f[0]


def ladder(frames: int, n: int = 8, seed: int = 0, ladders: int = 1, shuffle: bool = True) -> Any:
    """Replica exchange on E of a harmonic system of n coordinates: E is Gamma(n / 2, 1 / beta) at each beta."""
    rng, betas = np.random.default_rng(seed), np.array([1.0, 1.6, 2.6, 4.2])
    rung = np.tile(np.arange(4), (frames, ladders, 1))
    rung = (rng.permuted(rung, axis=-1) if shuffle else rung).reshape(frames, -1)
    energy = rng.gamma(n / 2, 1 / betas[rung])
    bias = {"type": "ReplicaExchange", "cvs": ["loss_train"], "kT": 1.0, "rungs": 4, "pilot": 0}
    columns = {"re_beta": betas[rung], "re_rung": rung, "loss_train": energy, "ln_loss_train": np.log(energy)}
    return Record({"re": bias}, **columns)


# ------------------------------------------------------------------------------------------------------------- the law


@pytest.mark.slow
def test_windows_on_a_gaussian() -> None:
    """30000 frames in each of 7 windows: f_k, F(x) and <x^2> are exact, F within 0.1 kT."""
    run = gaussian_windows(30_000)
    found = profile(run, "x", bins=40, between=(-3, 3), since=0.0)
    weights = found.weights
    f, error = weights.free_energies, weights.free_energy_errors
    assert (np.abs(f - gaussian_free_energies())[1:] < 5 * error[1:]).all()
    assert error[0] == 0
    assert error.max() < 0.06
    # p is the mean density of each bin, F that at its centre
    from scipy.stats import norm

    whole = norm.cdf(3) - norm.cdf(-3)
    p = np.diff(norm.cdf(found.edges[0])) / np.diff(found.edges[0]) / whole
    exact = 0.5 * found.centers[0] ** 2
    assert np.abs(found.free_energy - (exact - exact.min())).max() < 0.1
    # 7 degrees of freedom: 5 sigma of a normal are 9 of this Student t (3e-5); the largest of 40
    deviation = found.entropy + exact
    shift = np.average(deviation, weights=1 / found.entropy_error**2)
    assert (np.abs(deviation - shift) < 9 * found.entropy_error).all()
    assert (np.abs(found.p - p) < 9 * found.p_error).all()
    assert abs(found.mean) < 5 * found.mean_error
    assert weights.counts.tolist() == [30_000] * 7
    assert 0.02 < weights.overlap < 0.2
    assert weights.stride == 1
    assert np.exp(weights.log_weights).sum() == pytest.approx(1)
    second = (np.exp(weights.log_weights) * run["x"][:] ** 2).sum()
    assert second == pytest.approx(1, abs=5 * np.sqrt(2 / weights.effective))


def test_another_temperature() -> None:
    """At kT = 0.5 the spread of x is sqrt(0.5)."""
    weights = frame_weights(gaussian_windows(4000), since=0.0, kT=0.5)
    x2 = (np.exp(weights.log_weights) * weights.values("x") ** 2).sum()
    assert x2 == pytest.approx(0.5, abs=5 * 0.5 * np.sqrt(2 / weights.effective))
    assert weights.kT == 0.5


def by_pymbar(u: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The solution of the reference implementation, which needs a good start and a seed of its own."""
    from pymbar import MBAR

    protocol = ({"method": "adaptive", "options": {"maximum_iterations": 100}},)
    return np.asarray(MBAR(u, counts, solver_protocol=protocol, rseed=0).f_k, np.float64)


def test_pymbar_finds_the_same() -> None:
    """One equation solved in two ways, and the fixed point of it; from afar, from nearby, and with an empty state."""
    rng = np.random.default_rng(3)
    counts = np.array([300, 50, 700, 2])
    center = np.array([-1.0, 0.0, 0.5, 1.5])
    x = rng.normal(np.repeat(center, counts), 0.7)
    u = (x - center[:, None]) ** 2
    plain = by_pymbar(u, counts)
    np.testing.assert_allclose(solve_mbar(u, counts), plain, atol=1e-9)
    np.testing.assert_allclose(solve_mbar(u, counts, plain + np.array([0, 0.3, -0.2, 0.1])), plain, atol=1e-9)
    logs = -log_mixture(u, counts, plain)
    again = -np.log(np.exp(logs - u).sum(axis=1))
    np.testing.assert_allclose(again - again[0], plain, atol=1e-9)
    more, empty = np.insert(u, 2, 0.3 * x**2, axis=0), np.insert(counts, 2, 0)
    np.testing.assert_allclose(solve_mbar(more, empty), by_pymbar(more, empty), atol=1e-9)


@pytest.mark.parametrize("ladders", [1, 9])
def test_the_entropy_from_replica_exchange(ladders: int) -> None:
    """S(ln E) = (n / 2) ln E and f_k = (n / 2) ln beta_k, though each walker changes its beta all the time."""
    run = ladder(9000 // ladders, ladders=ladders)
    found = profile(run, "ln_loss_train", bins=30, between=(-0.5, 1.5), since=0.0)
    slope = 4.0
    # mean of exp(4 s) over a bin of width h, relative to that at the centre, is the same for all bins
    exact = slope * (found.centers[0] - found.centers[0][-1])
    shift = np.average(found.entropy - exact, weights=1 / found.entropy_error**2)
    assert (np.abs(found.entropy - exact - shift) < 9 * found.entropy_error).all()
    assert np.abs(found.entropy - exact - shift).max() < 0.15
    f = slope * np.log([1.0, 1.6, 2.6, 4.2])
    assert (np.abs(found.weights.free_energies - f)[1:] < 6 * found.weights.free_energy_errors[1:]).all()
    assert [label["beta"] for label in found.weights.states] == [1.0, 1.6, 2.6, 4.2]
    assert found.flat
    # groups of ladders, or pieces of the time of a single one
    blocks = found.weights.blocks
    assert found.weights.block_count == 8
    assert all((np.diff(blocks[0].reshape(ladders, 4), axis=1) == 0).ravel())
    assert (np.unique(blocks[:, 0]).size == 8) is (ladders == 1)


def test_the_ensemble_at_a_beta() -> None:
    """<E> = (n / 2) / beta at a beta between the rungs."""
    found = profile(ladder(4000), "loss_train", since=0.0, beta=2.0)
    assert found.mean == pytest.approx(2.0, abs=6 * found.mean_error)
    assert found.mean_error < 0.05
    assert not found.flat  # minus a free energy over kT


def test_pilot_frames_are_left_out() -> None:
    run = ladder(1000)
    run.header["bias"]["re"]["pilot"] = 700
    run.columns["re_beta"].values[:700] = 77.0
    weights = frame_weights(run, since=0.1)
    assert weights.steps[0] == 701
    assert len(weights.states) == 4
    run.header["bias"]["re"]["pilot"] = 1000
    with pytest.raises(InputError, match="ends at step 1000, before the first 1000 steps of the bias 're'"):
        frame_weights(run)


def test_equal_states_are_one_and_sets_of_walkers_are_told() -> None:
    run = gaussian_windows(500, walkers_each=9)
    weights = frame_weights(run, since=0.0)
    assert len(weights.states) == 7
    assert weights.counts.tolist() == [4500] * 7
    np.testing.assert_array_equal(weights.sets, np.repeat(np.arange(9), 7))
    np.testing.assert_array_equal(weights.blocks[0].reshape(9, 7)[:, 0], [0, 0, 1, 2, 3, 4, 5, 6, 7])
    betas = [1.0, 1.0, 2.0]
    bias = {"b": {"type": "Boltzmann", "cvs": ["s"], "beta": betas, "ramp": 0, "kT": 1.0}}
    energy = np.random.default_rng(0).gamma(3.0, 1 / np.array(betas), (400, 3))
    weights = frame_weights(Record(bias, s=energy), since=0.0)
    assert weights.sets.tolist() == [0, 0, 0]  # beta = 1 twice, beta = 2 once: no sets that sample alike
    assert weights.counts.tolist() == [800, 400]
    single = {"b": {"type": "Boltzmann", "cvs": ["s"], "beta": [1.0, 1.0], "ramp": 0, "kT": 1.0}}
    weights = frame_weights(Record(single, s=energy[:, :2]), since=0.0)
    assert weights.states == []
    logs = energy[:, :2] - np.log(np.exp(energy[:, :2]).sum())
    np.testing.assert_allclose(weights.log_weights, logs)


def test_windows_under_a_bias_that_all_share() -> None:
    """A wall on y that all windows of x feel is taken off too: y then has the width of the normal distribution."""
    rng, frames = np.random.default_rng(5), 4000
    wall = {"type": "Wall", "cvs": ["y"], "lower": 0.0, "upper": None, "strength": 1.5,
            "shape": "linear"}  # fmt: skip
    x = gaussian_windows(frames).columns["x"].values
    y = rng.standard_normal((200 * frames, 7))  # sampled with exp(-1.5 |y|) below 0 by rejection
    keep = rng.random(y.shape) < np.exp(-1.5 * np.clip(-y, 0, None))
    y = np.stack([column[mask][:frames] for column, mask in zip(y.T, keep.T, strict=True)], axis=1)
    biases = {"umbrella": umbrella(CENTERS, STIFFNESS), "wall_lower_y": wall}
    weights = frame_weights(Record(biases, x=x, y=y), since=0.0)
    w = np.exp(weights.log_weights)
    assert y.mean() > 0.2
    assert abs((w * y).sum()) < 5 / np.sqrt(weights.effective)
    assert abs((w * x).sum()) < 5 / np.sqrt(weights.effective)


def test_long_records_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnsim.analysis.weights.LARGEST", 7 * 7 * 100)
    weights = frame_weights(gaussian_windows(301), since=0.0)
    assert weights.stride == 4
    assert weights.steps.tolist() == list(range(4, 302, 4))


# ---------------------------------------------------------------------------------------------------------- the errors


@pytest.mark.slow
def test_errors_are_those_of_repetition() -> None:
    """Mean of the squared errors over variance of the estimates, over 400 repetitions in full.

    The variance of R estimates is known to sqrt(2 / R), that of their mean squared errors (7 degrees of freedom)
    better; the jackknife itself is too large by the order of 1 / (frames of a window), 1 %.
    """
    repetitions = int(400 * statistics_scale())
    estimates, errors = [], []
    for seed in range(repetitions):
        found = profile(gaussian_windows(120, seed=seed), "x", bins=6, between=(-3, 3), since=0.0)
        f = found.weights
        estimates.append(np.concatenate((np.log(found.p), [found.mean], f.free_energies[1:])))
        errors.append(np.concatenate((found.entropy_error, [found.mean_error], f.free_energy_errors[1:])))
    variance, claimed = np.var(estimates, axis=0, ddof=1), np.mean(np.square(errors), axis=0)
    ratio = claimed / variance
    tolerance = np.sqrt(2 / repetitions + 2 / (7 * repetitions))
    assert (np.abs(np.log(ratio)) < 5 * tolerance).all(), ratio
    # all 13 together are better known, by how far is not: they are correlated
    assert abs(np.log(ratio).mean()) < 4 * tolerance, ratio


# ---------------------------------------------------------------------------------------------------------------- runs


@pytest.mark.slow
def test_windows_from_one_input_script(tmp_path: Path) -> None:
    """A double well of 4 kT by Langevin dynamics in 11 windows: F against the exact one."""
    steps, well = int(100_000 * statistics_scale()), DoubleWell(4.0)
    centers = np.linspace(-1.5, 1.5, 11)
    system = AnalyticSystem(1, well, start=np.array(centers)[:, None])
    bias = Umbrella(cv.Parameter(0), centers, stiffness=25.0)
    simulation = Simulation(system, Langevin(0.05, 2.0, kT=1.0), bias=bias, walkers=11, every=10, threads=1)
    simulation.run(steps, output=tmp_path / "run.zarr", progress=False)
    found = profile(Trajectory(tmp_path / "run.zarr"), "parameter_0", bins=28, between=(-1.4, 1.4), since=0.05)
    fine = np.linspace(-1.4, 1.4, 28 * 100 + 1)
    p = np.exp(-4.0 * ((0.5 * (fine[1:] + fine[:-1])) ** 2 - 1) ** 2).reshape(28, 100).mean(axis=1)
    exact = -np.log(p / p.max())
    deviation = found.free_energy - exact
    deviation -= np.average(deviation, weights=1 / found.free_energy_error**2)
    assert np.abs(deviation).max() < 0.1 / np.sqrt(statistics_scale())
    assert (np.abs(deviation) < 9 * found.free_energy_error).all()  # 7 degrees of freedom
    # <x^2> in narrow bins of x is x^2, whatever the weights: the conditional average goes through them too
    table = equilibrium(Trajectory(tmp_path / "run.zarr"), "parameter_0", "parameter_0", width=0.5)
    centers = 0.5 * (table.edges[1:] + table.edges[:-1])
    inside = np.abs(centers) < 1.2
    np.testing.assert_allclose(table.mean[inside], centers[inside], atol=0.06)


@pytest.mark.slow
def test_a_ladder_of_boltzmann_walkers(tmp_path: Path) -> None:
    """exp(-beta E) on 4 coordinates by Monte Carlo, 16 walkers at 4 beta: S(ln E) = 2 ln E."""
    steps = int(120_000 * statistics_scale())
    betas = np.repeat([1.0, 2.0, 4.0, 8.0], 4)
    bias = Boltzmann(cv.Energy(Harmonic()), betas, ramp=1000)
    system = AnalyticSystem(4, start=0.3)
    run = Simulation(
        system, MonteCarlo(), bias=bias, observe=[cv.LogEnergy(Harmonic())], walkers=16, every=40, threads=1
    )
    run.run(steps, output=tmp_path / "run.zarr", progress=False)
    found = profile(Trajectory(tmp_path / "run.zarr"), "ln_energy", bins=16, between=(-1.5, 1.0), since=0.05)
    exact = 2 * found.centers[0]
    shift = np.average(found.entropy - exact, weights=1 / found.entropy_error**2)
    assert (np.abs(found.entropy - exact - shift) < 9 * found.entropy_error).all()
    assert np.abs(found.entropy - exact - shift).max() < 0.1 / np.sqrt(statistics_scale())
    f, error = found.weights.free_energies, found.weights.free_energy_errors
    assert (np.abs(f - 2 * np.log([1.0, 2.0, 4.0, 8.0]))[1:] < 7 * error[1:]).all()


def test_conditional_averages_of_replica_exchange() -> None:
    """y = ln E + noise at given ln E, from all rungs alike; the error is that of independent frames."""
    run = ladder(4000, ladders=2)
    noise = np.random.default_rng(9).standard_normal((4000, 8))
    given = run.columns["ln_loss_train"].values
    run.columns["y"] = type(run["re_beta"])(given + noise)
    run.observables = sorted(run.columns)
    table = equilibrium(run, "ln_loss_train", "y", width=0.5, since=0.0)
    enough = table.frames > 1000
    centers = 0.5 * (table.edges[1:] + table.edges[:-1])
    assert enough.sum() >= 4
    assert (np.abs(table.mean - centers)[enough] < 7 * table.error[enough] + 0.02).all()
    ratio = (table.error * np.sqrt(table.frames))[enough]
    assert (ratio > 0.4).all()
    assert (ratio < 1.5 * 2.2).all()  # noise of unit width, and a parabola through uneven frames


# ------------------------------------------------------------------------------------------------------------ bad input


def test_bad_input_is_named() -> None:
    x = np.random.default_rng(0).normal([-50.0, 50.0], 0.1, (200, 2))
    apart = Record({"u": umbrella([-50.0, 50.0], 100.0)}, x=x)
    with pytest.raises(InputError, match=r"the 2 states have no overlap.* put states between them"):
        frame_weights(apart)
    moving = umbrella([0.0], 1.0, velocity=[[0.1]])
    with pytest.raises(InputError, match="umbrella 'u' moves to the end of the run"):
        frame_weights(Record({"u": moving}, x=x))
    stopped = {**moving, "until": 150}
    weights = frame_weights(Record({"u": stopped}, x=x), since=0.0)
    assert weights.steps[0] == 151
    reduced = 0.5 * (x[150:] - 15.0) ** 2
    np.testing.assert_allclose(np.diff(weights.log_weights, axis=0), np.diff(reduced, axis=0))
    with pytest.raises(InputError, match="bias 'own' is of type Lure, whose weights are not known"):
        frame_weights(Record({"own": {"type": "Lure"}}, x=x))
    with pytest.raises(InputError, match="umbrella 'u' is for 3 walkers, but 2 were recorded"):
        frame_weights(Record({"u": umbrella([0.0, 1.0, 2.0], 1.0)}, x=x))
    with pytest.raises(InputError, match="frame_weights: blocks = 1 must be a whole number of at least 2"):
        frame_weights(Record({}, x=x), blocks=1)
    with pytest.raises(InputError, match="kT = 2 changes nothing in a system with U = 0"):
        frame_weights(Record({}, x=x, potential_energy=x), kT=2.0)
    with pytest.raises(InputError, match="neither loss_train nor ln_loss_train"):
        frame_weights(Record({}, x=x), beta=2.0)


def test_scipy_is_imported_late_and_nothing_is_said() -> None:
    code = """
import sys, numpy as np
import nnsim.analysis
assert not {"scipy", "torch"} & set(sys.modules), "imported too early"
from nnsim.analysis.averages.mbar import solve_mbar
x = np.random.default_rng(0).normal([[0.0], [1.0]], 1.0, (2, 50)).reshape(-1)
f = solve_mbar(0.5 * (x - np.array([[0.0], [1.0]])) ** 2, np.array([50, 50]))
assert abs(f[1]) < 1
assert "pymbar" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
