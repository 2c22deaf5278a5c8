"""Shared by the tests of samplers: means over walkers against exact laws, and comparison to the last bit."""

import math

import numpy as np
import scipy.special
import torch

from nnsim import Box


def walker_means(simulation, measure, *, burn, samples, apart):
    """Mean over the samples of measure(state), a list of [W]: for each quantity the means of all walkers, [Q, W]."""
    simulation.advance(burn)
    total = 0.0
    for _ in range(samples):
        simulation.advance(apart)
        total = total + torch.stack(measure(simulation.state))
    return (total / samples).numpy()


def check(values, expected, scale=None):
    """Means over walkers of values [Q, W] against the exact ones [Q]; returns (mean, error)."""
    expected = np.asarray(expected, dtype=float)
    mean, error = values.mean(1), values.std(1, ddof=1) / math.sqrt(values.shape[1])
    print("mean", mean, "exact", expected, "error", error, "in errors", (mean - expected) / error)
    assert (error < 0.02 * np.abs(expected if scale is None else scale)).all(), (error, expected)
    assert (np.abs(mean - expected) < 5 * error).all(), (mean, expected, error)
    return mean, error


def assert_same_bits(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same_bits(one[key], other[key])
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    else:
        assert one == other


class Pendulum:
    """U = -barrier sum cos(q_i), periodic in 2 pi; <cos q> = I_1(barrier / kT) / I_0(barrier / kT)."""

    barrier = 1.5

    def __call__(self, positions):
        return -self.barrier * torch.cos(positions).sum(-1)

    @classmethod
    def mean_cosine(cls, kT):
        return scipy.special.i1(cls.barrier / kT) / scipy.special.i0(cls.barrier / kT)


CIRCLE = Box(math.pi, kind="periodic")
