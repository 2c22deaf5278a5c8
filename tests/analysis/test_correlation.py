"""Autocorrelation times, effective sizes and block averages against emcee and the exact Ornstein-Uhlenbeck process."""

from typing import Any

import numpy as np
import pytest
from conftest import statistics_scale
from scipy.signal import lfilter

from nnsim.analysis import autocorrelation, autocorrelation_time, block_averages, effective_sample_size
from nnsim.errors import InputError


def ornstein_uhlenbeck(frames: int, walkers: int, decay: float, seed: int = 0) -> np.ndarray:
    """x' = a x + sqrt(1 - a^2) noise, [T, W], stationary, variance 1: rho(t) = a^t, tau = (1 + a) / (1 - a)."""
    rng = np.random.default_rng(seed)
    noise = np.sqrt(1 - decay**2) * rng.standard_normal((frames, walkers))
    start = decay * rng.standard_normal((1, walkers))
    return lfilter([1.0], [1.0, -decay], noise, axis=0, zi=start)[0]


class Column:
    """As much of a series of a trajectory as is asked for."""

    def __init__(self, values: np.ndarray, time: np.ndarray) -> None:
        self.values, self.time, self.shape = values, time, values.shape
        self.step = np.arange(len(values))

    def __getitem__(self, key: Any) -> np.ndarray:
        return self.values[key]


def test_the_function_is_that_of_the_definition():
    x = ornstein_uhlenbeck(50, 3, 0.7)
    for common in (True, False):
        y = x - (x.mean() if common else x.mean(axis=0))
        direct = np.array([(y[: 50 - t] * y[t:]).sum() for t in range(50)])
        assert np.allclose(autocorrelation(x, common_mean=common), direct / direct[0], atol=1e-13)
    assert autocorrelation(x, max_lag=5).shape == (6,)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.95, -0.4])
def test_the_same_as_emcee(decay):
    emcee = pytest.importorskip("emcee")
    for seed in range(3):
        x = ornstein_uhlenbeck(3000, 1, decay, seed)[:, 0]
        assert autocorrelation_time(x).tau == pytest.approx(emcee.autocorr.integrated_time(x, quiet=True)[0], rel=1e-10)
    x = ornstein_uhlenbeck(3000, 6, decay)  # walkers of emcee have means and variances of their own
    theirs = emcee.autocorr.integrated_time(x[:, :, None], quiet=True)[0]
    assert autocorrelation_time(x, common_mean=False).tau == pytest.approx(theirs, rel=0.05)


@pytest.mark.parametrize("decay", [0.3, 0.8, 0.95])
def test_time_effective_size_and_errors_of_a_known_process(decay):
    # 400 (1600) records of 200 tau: means of tau within 5 standard errors and 1.5 % (its bias, of order tau/T and
    # exp(-10)); errors as the spread, or a fifth above it; its own relative
    # error is 1/sqrt(2 records)
    exact, records = (1 + decay) / (1 - decay), int(1600 * statistics_scale())
    frames = int(200 * exact)
    found = [autocorrelation_time(x) for x in ornstein_uhlenbeck(frames, records, decay).T]
    tau = np.array([one.tau for one in found])
    assert abs(tau.mean() - exact) < 5 * tau.std() / np.sqrt(records) + 0.015 * exact
    error = np.sqrt(np.mean([one.error**2 for one in found]))
    noise = 5 / np.sqrt(2 * records)
    assert 1 - noise < error / tau.std() < 1.2 + noise
    means = np.array([one.mean for one in found])
    true_error = np.sqrt(exact / frames * (1 - 2 * decay * (1 - decay**frames) / frames / (1 - decay**2)))
    assert means.std() == pytest.approx(true_error, rel=5 / np.sqrt(2 * records))
    mean_error = np.sqrt(np.mean([one.mean_error**2 for one in found]))
    assert mean_error == pytest.approx(true_error, rel=0.04)
    assert all(one.reliable for one in found)


def test_walkers_together():
    # 40 walkers of 250 tau: its tau within 5 of its errors, which are 19 sqrt(2 (190 - 19) / 2e5) = 0.79
    x = ornstein_uhlenbeck(5000, 40, 0.9)
    one = autocorrelation_time(x, interval=0.1)
    assert abs(one.tau - 19) < 5 * one.error
    assert one.error == pytest.approx(0.79, rel=0.1)
    assert one.time == pytest.approx(0.1 * one.tau)
    assert one.effective == effective_sample_size(x) == pytest.approx(5000 * 40 / one.tau)
    assert abs(one.mean) < 5 * one.mean_error
    assert one.variance == pytest.approx(1, abs=5 * np.sqrt(2 * 9.5 / 2e5))
    # walkers that have not mixed are worth little, unless told that they need not
    apart = x + 10 * np.arange(40)
    assert autocorrelation_time(apart).effective < 200
    assert autocorrelation_time(apart, common_mean=False).tau == pytest.approx(one.tau, rel=0.05)


def test_short_constant_and_alternating_records():
    assert not autocorrelation_time(ornstein_uhlenbeck(100, 1, 0.95)).reliable
    still = autocorrelation_time(np.full((100, 2), 0.1))
    assert np.isnan(still.tau)
    assert still.mean_error == 0
    assert np.isnan(autocorrelation(np.ones(5))).all()
    alternating = autocorrelation_time(np.tile([1.0, -1.0], 500))
    assert alternating.tau == pytest.approx(1e-3)
    single = autocorrelation_time(np.array([[1.0, 2.0, 3.0]]))
    assert single.tau == 1
    assert single.mean_error == pytest.approx(np.sqrt(1 / 3))


def test_series_know_their_time():
    x = ornstein_uhlenbeck(1000, 2, 0.5)
    series = Column(x, 0.25 * np.arange(1, 1001))
    assert autocorrelation_time(series).time == pytest.approx(0.25 * autocorrelation_time(x).tau)
    assert block_averages(series).interval == pytest.approx(0.25)
    uneven = Column(x, np.arange(1000.0) ** 2)
    with pytest.raises(InputError, match="uneven times"):
        autocorrelation_time(uneven)
    assert autocorrelation_time(uneven, interval=2.0).interval == 2


def test_block_averages_of_a_known_process():
    # the error of blocks of length B is known: sqrt(variance of a block's mean / blocks); 16 walkers of 2^12 frames
    decay = 0.9
    x = ornstein_uhlenbeck(2**12, 16, decay, seed=3)
    found = block_averages(x)
    assert found.length.tolist() == [2**k for k in range(13)]
    assert found.blocks.tolist() == [2**16 // length for length in found.length]
    size = found.length
    variance = ((1 + decay) / (1 - decay) - 2 * decay * (1 - decay**size) / size / (1 - decay) ** 2) / size
    exact = np.sqrt(variance / found.blocks)
    correlated = np.sqrt(
        np.maximum(1, 19 / size)
    )  # short blocks are not independent, and their variance is worse known
    assert (np.abs(found.error - exact) < 5 * correlated * found.error_error).all()
    assert found.error[0] == pytest.approx(x.std() / np.sqrt(x.size - 1))
    assert found.plateau is not None
    assert 64 <= found.length[found.plateau] <= 512  # B^3 = 2 N tau^2 gives 362
    assert found.mean_error == found.error[found.plateau]
    assert found.mean_error == pytest.approx(autocorrelation_time(x).mean_error, rel=0.2)


def test_block_averages_without_a_plateau_and_without_correlation():
    short = block_averages(ornstein_uhlenbeck(100, 1, 0.99))
    assert short.plateau is None
    assert np.isnan(short.mean_error)
    white = block_averages(np.random.default_rng(0).standard_normal(10_001))
    assert abs(white.mean_error - 0.01) < 5 * white.error_error[white.plateau]
    assert (block_averages(np.ones((16, 2))).error == 0).all()


def test_bad_input_is_refused_by_name():
    x = ornstein_uhlenbeck(20, 2, 0.5)
    for measure in (autocorrelation, autocorrelation_time, block_averages):
        name = measure.__name__
        with pytest.raises(InputError, match=f"{name}: a series of shape"):
            measure(x[None])
        with pytest.raises(InputError, match=f"{name}: a series of shape"):
            measure(np.empty((0, 2)))
        with pytest.raises(InputError, match=f"{name}: a series with values that are not finite"):
            measure(np.where(x > 0, np.nan, x))
        with pytest.raises(InputError, match=f"{name}: series = .* must be real numbers"):
            measure(["a", "b"])
    with pytest.raises(InputError, match="window = 0"):
        autocorrelation_time(x, window=0)
    with pytest.raises(InputError, match="interval = -1"):
        block_averages(x, interval=-1)
    with pytest.raises(InputError, match="max_lag = 20 must be below the 20 frames"):
        autocorrelation(x, max_lag=20)
    with pytest.raises(InputError, match="1 frame cannot be cut"):
        block_averages(x[:1])


@pytest.mark.parametrize("shape", [(1000,), (1000, 3)])
def test_a_constant_whose_mean_is_rounded_has_no_correlation(shape: tuple[int, ...]) -> None:
    assert np.full(1000, 0.1).mean() != 0.1
    assert np.isnan(autocorrelation(np.full(shape, 0.1))).all()
    assert np.isnan(autocorrelation_time(np.full(shape, 0.1)).tau)
