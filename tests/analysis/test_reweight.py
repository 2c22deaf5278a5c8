"""Reweighting: averages of known distributions from biased samples, and errors that cover them."""

from typing import Any

import numpy as np
import pytest

from nnsim.analysis import (
    Axis,
    EntropyLandscape,
    average_bins,
    conditional_mean,
    conditional_mean_over_walkers,
    log_weights,
)
from nnsim.errors import InputError

EDGES = np.linspace(-2, 2, 9)


def biased_sample(rng: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x uniform in [-2, 2]; y has mean 0.5 x and unit width, but was sampled with exp(0.7 y) in front."""
    x = rng.uniform(-2, 2, frames)
    y = 0.5 * x + 0.7 + rng.standard_normal(frames)
    return x, y, -0.7 * y


def test_bias_is_taken_off() -> None:
    x, y, logs = biased_sample(np.random.default_rng(0), 400_000)  # 50000 frames a bin
    result = conditional_mean(x, y, logs + 900, EDGES)  # a constant that would overflow
    # the width of y in a bin: unit noise and 0.5 x over a bin 0.5 wide
    sigma = np.sqrt((1 + 0.25 * 0.25 / 12) / result.effective)
    assert (np.abs(result.mean - 0.5 * result.centers) < 5 * sigma).all()
    assert sigma.max() < 0.01
    biased = conditional_mean(x, y, 0 * logs, EDGES)
    assert (biased.mean - 0.5 * biased.centers > 0.6).all()  # 0.7 away without the weights
    # effective share for weights exp(-b y), y of unit width: exp(-b^2) up to the sampling of exp(-2 b y)
    np.testing.assert_allclose(result.effective / result.frames, np.exp(-0.49), rtol=0.1)
    np.testing.assert_array_equal(biased.effective, biased.frames)
    assert result.frames.sum() == 400_000


def test_bins_hand_made() -> None:
    x = np.array([0.1, 0.2, 1.0, 2.0, 5.0, np.nan])
    y = np.array([1.0, 4.0, 7.0, 9.0, np.nan, np.nan])
    logs = np.log([1.0, 2.0, 3.0, 1.0, 1.0, 1.0])
    result = conditional_mean(x, y, logs, [-1, 0, 1, 2])
    np.testing.assert_allclose(result.mean, [np.nan, 3.0, 7.5])  # 2.0, the upper edge, is in the last bin
    np.testing.assert_allclose(result.effective, [0, 9 / 5, 16 / 10])
    np.testing.assert_array_equal(result.frames, [0, 2, 2])
    none = conditional_mean([0.5], [1.0], [-np.inf], [0, 1])
    assert np.isnan(none.mean[0])


def test_error_over_walkers_covers_the_truth() -> None:
    """Walkers with an offset of their own and random weights: (estimate - truth)/error over 400 repetitions."""
    rng = np.random.default_rng(1)
    walkers, frames, repetitions = 24, 40, 400
    z = []
    for _ in range(repetitions):
        own = 0.5 * rng.standard_normal(walkers)
        x = rng.uniform(0, 1, (frames, walkers))
        y = own + 0.2 * rng.standard_normal((frames, walkers))
        logs = 0.5 * rng.standard_normal((frames, walkers)) + 0.3 * rng.standard_normal(walkers)
        result: Any = conditional_mean_over_walkers(x, y, logs, [0.0, 0.5, 1.0])
        z.append(result.mean[0] / result.error[0])
        naive = 0.54 / np.sqrt(result.effective[0])
    # about Student t with 23 degrees of freedom, variance 23/21; mean square of 400 of them: standard error 0.09
    assert abs(np.mean(np.square(z)) - 23 / 21) < 5 * 0.09
    assert naive < 0.5 * result.error[0]  # what the number of frames would have claimed


def test_error_of_equal_walkers_is_the_plain_standard_error() -> None:
    y = np.random.default_rng(2).standard_normal((50, 6))
    x = np.full(y.shape, 0.5)
    result: Any = conditional_mean_over_walkers(x, y, 0 * y, [0, 1, 2])
    means = y.mean(0)
    np.testing.assert_allclose(result.mean, [means.mean(), np.nan])
    np.testing.assert_allclose(result.error, [means.std(ddof=1) / np.sqrt(6), np.nan])
    np.testing.assert_array_equal(result.contributors, [6, 0])
    pairs = y.reshape(50, 3, 2).mean((0, 2))
    grouped: Any = conditional_mean_over_walkers(x, y, 0 * y, [0, 1], groups=3)
    np.testing.assert_allclose(grouped.error, [pairs.std(ddof=1) / np.sqrt(3)])
    pieces = y.reshape(5, 10, 6).mean(1)
    blocked: Any = conditional_mean_over_walkers(x, y, 0 * y, [0, 1], time_blocks=5)
    np.testing.assert_allclose(blocked.error, [pieces.std(ddof=1) / np.sqrt(30)])
    np.testing.assert_array_equal(blocked.contributors, [30])


def test_error_needs_two_walkers_in_the_bin() -> None:
    x = np.array([[0.5, 1.5], [0.5, 1.5]])
    result: Any = conditional_mean_over_walkers(x, x, 0 * x, [0, 1, 2])
    np.testing.assert_array_equal(result.contributors, [1, 1])
    assert np.isnan(result.error).all()
    np.testing.assert_array_equal(result.mean, [0.5, 1.5])


def test_weights_from_a_landscape_recover_the_equilibrium_mean() -> None:
    """A flat sample of (x, a) with weights exp S(x, a) gives the equilibrium curve of S."""
    edges_x, edges_a = np.linspace(-2, 2, 9), np.linspace(-5, 5, 101)
    axes = tuple(Axis(n, 0.5 * (e[1:] + e[:-1]), e) for n, e in (("x", edges_x), ("a", edges_a)))
    s = -0.5 * (axes[1].centers - 0.5 * axes[0].centers[:, None]) ** 2
    landscape = EntropyLandscape(s, np.ones_like(s, dtype=bool), axes)
    rng = np.random.default_rng(3)
    sample = rng.uniform((-2, -5), (2, 5), (200_000, 2))
    logs = log_weights(landscape, sample)
    result = conditional_mean(sample[:, 0], sample[:, 1], logs, edges_x)
    curve = landscape.equilibrium("x", "a")
    assert (np.abs(result.mean - curve.y) < 5 / np.sqrt(result.effective)).all()


def test_weights_outside_and_where_not_visited_are_none() -> None:
    edges = np.arange(4.0)
    landscape = EntropyLandscape(np.arange(3.0), np.array([True, False, True]), (Axis("x", edges[:-1] + 0.5, edges),))
    samples = np.array([-0.1, 0.5, 1.5, 3.0, 3.1, np.nan])
    none = -np.inf
    np.testing.assert_array_equal(log_weights(landscape, samples), [none, -2, none, 0, none, none])
    wrapped = EntropyLandscape(np.arange(3.0), np.ones(3, bool), (Axis("x", edges[:-1] + 0.5, edges, periodic=True),))
    # -0.1 is 2.9, which lies two fifths of the way from the last centre to the first
    np.testing.assert_allclose(log_weights(wrapped, samples), [-0.8, -2, -1, -1, -1.2, none])


def test_coarse_bins_are_flat_averages_of_fine_ones() -> None:
    fine = np.arange(-15, 10) * 0.1 + 0.05  # -1.5 to 1
    values = np.stack([fine, np.where(fine < 0, np.nan, 2.0)])
    curve = average_bins(fine, values, 0.5)
    np.testing.assert_allclose(curve.x, [-1.25, -0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(curve.y[0], curve.x, atol=1e-12)
    np.testing.assert_allclose(curve.y[1], [np.nan, np.nan, np.nan, 2, 2])
    partly = average_bins(fine[2:], fine[2:], 0.5)  # the first coarse bin has three of its five fine bins
    np.testing.assert_allclose(partly.y[0], fine[2:5].mean())
    with pytest.raises(InputError, match=r"width = 0.25 .* do not hold whole fine bins"):
        average_bins(fine, values, 0.25)
    with pytest.raises(InputError, match=r"origin = 0\.03"):
        average_bins(fine, values, 0.5, origin=0.03)


def test_bad_input_is_named() -> None:
    x = np.zeros((4, 2))
    with pytest.raises(InputError, match="shapes"):
        conditional_mean([0.0], [0.0, 1.0], [0.0], [0, 1])
    with pytest.raises(InputError, match="increasing"):
        conditional_mean([0.0], [0.0], [0.0], [1, 0])
    with pytest.raises(InputError, match="not finite in 1 frames"):
        conditional_mean([0.0, 0.5], [0.0, np.nan], [0.0, 0.0], [0, 1])
    with pytest.raises(InputError, match="one block"):
        conditional_mean_over_walkers(x[:, :1], x[:, :1], x[:, :1], [0, 1])
    with pytest.raises(InputError, match=r"must be \[T, W\]"):
        conditional_mean_over_walkers(x[0], x[0], x[0], [0, 1])
    with pytest.raises(InputError, match="3 groups"):
        conditional_mean_over_walkers(x, x, x, [0, 1], groups=3)
