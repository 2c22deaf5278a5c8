"""Mean squared displacements, velocity autocorrelations and temperatures against processes with a known diffusion."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import statistics_scale
from test_correlation import Column, ornstein_uhlenbeck
from test_distances import SHAPES, written

from nnsim.analysis import (
    diffusion_coefficient,
    layer_temperatures,
    mean_squared_displacement,
    velocity_autocorrelation,
)
from nnsim.analysis.motion import blocks, diffusion
from nnsim.errors import InputError
from nnsim.trajectory.reader import Trajectory
from nnsim.trajectory.writer import TrajectoryWriter


def brownian(frames: int, walkers: int, size: int, step: float = 1.0, seed: int = 0) -> np.ndarray:
    """Free walks with q(t) - q(0) of variance step^2 t: D = step^2 / 2 for an interval of 1."""
    return step * np.random.default_rng(seed).standard_normal((frames, walkers, size)).cumsum(axis=0)


def process(frames: int, walkers: int, size: int, decay: float, seed: int = 0) -> np.ndarray:
    return ornstein_uhlenbeck(frames, walkers * size, decay, seed).reshape(frames, walkers, size)


@pytest.mark.parametrize("walkers", [1, 3, 9])
def test_the_fast_way_is_the_definition(walkers, monkeypatch):
    q = brownian(70, walkers, 5) + 1e6  # large numbers must not cancel the digits of small steps
    found = mean_squared_displacement(q, max_lag=60)
    direct = np.array([((q[t:] - q[: 70 - t]) ** 2).mean(axis=(0, 2)) for t in range(61)])
    assert np.allclose(found.walkers, direct, rtol=1e-9)
    assert np.allclose(found.values, direct.mean(axis=1), rtol=1e-9)
    monkeypatch.setattr(blocks, "BATCH_BYTES", 8 * 70 * 3)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 8 * 5 * walkers * 11)
    assert np.allclose(mean_squared_displacement(q, max_lag=60).walkers, direct, rtol=1e-9)
    v = velocity_autocorrelation(q - 1e6, max_lag=60)
    products = np.array([((q - 1e6)[t:] * (q - 1e6)[: 70 - t]).mean() for t in range(61)])
    assert np.allclose(v.values, products / products[0], rtol=1e-9, atol=1e-12)
    assert v.mean_square == pytest.approx(products[0])


@pytest.mark.parametrize("walkers", [1, 12])
def test_diffusion_of_free_walks_and_its_error(walkers):
    # 100 (400) records of 400 frames; the mean of D within 5 standard errors, and the error as the spread within 5 of
    # its relative errors 1/sqrt(2 records), to which 1/sqrt(2 (groups - 1)) of each adds nothing on average
    records = int(400 * statistics_scale())
    found = [
        diffusion_coefficient(brownian(400, walkers, 4, 0.3, seed), interval=0.1, max_lag=10) for seed in range(records)
    ]
    value = np.array([one.value for one in found])
    exact = 0.3**2 / 2 / 0.1
    assert abs(value.mean() - exact) < 5 * value.std() / np.sqrt(records)
    error = np.sqrt(np.mean([one.error**2 for one in found]))
    assert error == pytest.approx(value.std(), rel=5 / np.sqrt(2 * records))
    exponent = np.array([one.exponent for one in found])
    assert abs(exponent.mean() - 1) < 5 * exponent.std() / np.sqrt(records) + 0.02  # ln of a noisy number
    assert found[0].groups == (8 if walkers == 1 else 12)
    assert found[0].between == pytest.approx((0.1, 1.0))


def test_confined_walkers_have_the_plateau_of_their_well():
    # MSD(t) = 2 (1 - a^t); 10 walkers of 8 parameters and 4000 frames
    found = mean_squared_displacement(process(4000, 10, 8, 0.9), max_lag=200)
    exact = 2 * (1 - 0.9 ** np.arange(201))
    assert (np.abs(found.values - exact)[1:] < 5 * found.error[1:]).all()
    assert found.error.max() < 0.05
    assert found.values[0] == found.error[0] == 0
    assert abs(found.diffusion((100, 200)).exponent) < 0.1
    straight = np.arange(400.0)[:, None, None] * np.ones((1, 8, 3))
    flight = mean_squared_displacement(straight).diffusion()
    assert flight.exponent == pytest.approx(2)


def test_selections_trajectories_and_periodic_boxes(tmp_path):
    q = brownian(200, 2, 17, 0.1)
    whole = mean_squared_displacement(q)
    wrapped = (q + 0.5) % 1 - 0.5
    assert np.allclose(mean_squared_displacement(wrapped, period=1.0).values, whole.values)
    assert np.allclose(mean_squared_displacement(wrapped, period=np.ones(17), selection=[3]).walkers[1].mean(),
                       mean_squared_displacement(q[:, :, 3:4]).walkers[1].mean())  # fmt: skip
    trajectory = written(tmp_path / "a.zarr", wrapped, system={"box": {"kind": "periodic"}})
    with pytest.raises(InputError, match="box of this run is periodic; give its width as period="):
        mean_squared_displacement(trajectory)
    found = mean_squared_displacement(trajectory, period=1.0, selection="layer 1")
    assert np.allclose(found.values, mean_squared_displacement(q[..., 9:]).values)
    assert found.lag[1] == pytest.approx(0.5)


def test_velocities_of_a_thermostat():
    # v' = a v + noise with kT/m = 2: C(t) = 2 a^t; the trapezoid rule gives 2 (1/2 + a/(1 - a)) dt exactly; 16 walkers
    # of 20 parameters and 3000 (12000) frames. For small steps this is kT / (m gamma), gamma = -ln(a) / dt.
    decay, interval = 0.8, 0.01
    v = np.sqrt(2) * process(int(12_000 * statistics_scale(0.25)), 16, 20, decay, seed=5)
    found = velocity_autocorrelation(v, max_lag=80, interval=interval)
    lags = np.arange(81)
    assert (np.abs(found.values - decay**lags)[1:] < 5 * found.error[1:]).all()
    assert found.values[0] == 1
    assert found.mean_square == pytest.approx(2, abs=5 * 2 * np.sqrt(2 * 4.6 / v.size))
    exact = 2 * interval * (0.5 + decay / (1 - decay))
    assert exact == pytest.approx(2 * interval / -np.log(decay), rel=0.01)
    by_plateau, given = found.diffusion(), found.diffusion(until=0.5)
    for one in (by_plateau, given):
        assert abs(one.value - exact) < 5 * one.error
        assert one.error < 0.02 * exact
    assert given.between[1] == pytest.approx(0.5)
    # the paths of these velocities diffuse at the same rate
    paths = interval * np.cumsum(v, axis=0)
    einstein = diffusion_coefficient(paths, interval=interval, max_lag=200, between=(1.0, 2.0))
    assert abs(einstein.value - exact) < 5 * einstein.error


def test_errors_cover_the_truth_with_one_walker():
    # C(t) of a single walker: errors from 8 pieces; 60 lags of 200 parameters, 4000 frames
    found = velocity_autocorrelation(process(4000, 1, 200, 0.7, seed=2))
    off = (found.values - 0.7 ** np.arange(len(found.lag)))[1:] / found.error[1:]
    assert found.groups == 8
    assert np.sqrt(np.mean(off**2)) < 2  # 1.2 for errors from 8 groups
    one = found.diffusion()
    assert abs(one.value - (0.5 + 0.7 / 0.3)) < 7 * one.error  # Student's t of 7 degrees at 4 sigma


def test_temperature_of_each_layer(tmp_path):
    # m v^2 = kT chi^2_1 with masses from 0.5 to 2; layer 0 at 1, layer 2 at 1.5; 2000 correlated frames, 3 walkers
    masses, kT = np.linspace(0.5, 2.0, 17), np.where(np.arange(17) < 9, 1.0, 1.5)
    v = process(2000, 3, 17, 0.6) * np.sqrt(kT / masses)
    found = layer_temperatures(v, masses=masses, parameters=SHAPES)
    assert found.layers == ("0", "2")
    assert found.sizes.tolist() == [9, 8]
    assert (np.abs(found.values - [1.0, 1.5]) < 5 * found.error).all()
    # m v^2 of an Ornstein-Uhlenbeck process: variance 2 kT^2, correlation a^(2 t)
    exact = np.array([1.0, 1.5]) * np.sqrt(2 * (1.36 / 0.64) / (np.array([9, 8]) * 6000))
    assert found.error == pytest.approx(exact, rel=0.2)
    assert found.rows()[1]["kT"] == found.values[1]
    trajectory = written(tmp_path / "v.zarr", v, what="velocity", integrator={"masses": 2.0})
    assert np.allclose(layer_temperatures(trajectory).values, layer_temperatures(2**0.5 * v, parameters=SHAPES).values)
    listed = written(tmp_path / "w.zarr", v, what="velocity", integrator={"masses": {"shape": [17]}})
    with pytest.raises(InputError, match="had masses of its own"):
        layer_temperatures(listed)
    assert np.allclose(layer_temperatures(listed, masses=masses).values, found.values)


def test_bad_input_is_refused_by_name():
    q = brownian(40, 2, 3)
    for measure in (mean_squared_displacement, velocity_autocorrelation):
        name: Any = measure.__name__
        with pytest.raises(InputError, match=f"{name}: max_lag = 40 must be below the 40 frames"):
            measure(q, max_lag=40)
        with pytest.raises(InputError, match=f"{name}: max_lag = 0"):
            measure(q, max_lag=0)
        with pytest.raises(InputError, match=f"{name}: 1 frame has no motion"):
            measure(q[:1])
        with pytest.raises(InputError, match=f"{name}: interval = 0"):
            measure(q, interval=0)
        with pytest.raises(InputError, match=f"{name}: frames at uneven times"):
            measure(Column3(q, np.arange(40.0) ** 2))
    with pytest.raises(InputError, match="period must be a number above 0"):
        mean_squared_displacement(q, period=-1)
    with pytest.raises(InputError, match=r"between = \(100, 200\) must hold two or more"):
        diffusion_coefficient(q, between=(100, 200))
    with pytest.raises(InputError, match="velocities are all zero"):
        velocity_autocorrelation(0 * q)
    with pytest.raises(InputError, match="until = 100 must be "):
        velocity_autocorrelation(q).diffusion(until=100)
    with pytest.raises(InputError, match=r"until = 0\.5 must be 1 to"):  # no integral yet: not 0 without error
        velocity_autocorrelation(q).diffusion(until=0.5)
    with pytest.raises(InputError, match="masses must be a number above 0"):
        layer_temperatures(q, masses=[1, 2], parameters={"w": (3,)})
    with pytest.raises(InputError, match="must be names and shapes"):
        layer_temperatures(q)
    still = mean_squared_displacement(0 * q).diffusion()
    assert still.value == still.error == 0
    assert np.isnan(still.exponent)
    assert still.groups == diffusion.FEWEST_GROUPS


class Column3(Column):
    dtype = np.dtype(np.float64)


def test_series_know_the_box_and_masses_of_their_trajectory(tmp_path: Path) -> None:
    header = {"parameters": {"w": [3]}, "walkers": 2, "system": {"box": {"kind": "periodic"}},
              "integrator": {"masses": 4.0}}  # fmt: skip
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", header)
    for step in range(100):
        for name in ("position", "velocity"):
            writer.append(f"particles/parameters/{name}", step, 1.0 * step, np.full((2, 3), 0.1 * step))
    writer.close()
    trajectory = Trajectory(tmp_path / "run.zarr")
    for frames in (trajectory, trajectory.positions, trajectory.slice(parameters=[0, 1]), trajectory.slice()[:]):
        if isinstance(frames, np.ndarray):
            assert diffusion_coefficient(frames).value > 0
        else:
            with pytest.raises(InputError, match="the box of this run is periodic"):
                diffusion_coefficient(frames)
    kT = layer_temperatures(trajectory).values
    np.testing.assert_array_equal(layer_temperatures(trajectory.velocities).values, kT)
    np.testing.assert_array_equal(layer_temperatures(trajectory.slice(of="velocity")).values, kT)
    with pytest.raises(InputError, match="parameters = None must be names and shapes"):
        layer_temperatures(trajectory.slice(of="velocity", parameters=[2, 1, 0]))
