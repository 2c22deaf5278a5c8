"""Boxes: reflection, wrapping, limits, and the uniform density that a reflecting box keeps."""

import math

import numpy as np
import pytest
import torch
from conftest import statistics_scale
from hypothesis import given, settings
from hypothesis import strategies as st

from nnsim import Box, InputError, Simulation, per_tensor_limits
from nnsim.integrators import Langevin
from nnsim.systems import AnalyticSystem
from nnsim.systems.modules import mlp, mnist_cnn


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def bounce(x, low, high):
    """One wall after the other, and the number of reflections."""
    count = 0
    while not low <= x <= high:
        x = 2 * high - x if x > high else 2 * low - x
        count += 1
    return x, count


def test_reflection_mirrors_position_and_velocity():
    q, v = row(1.2, -1.5, 0.3, 1.0, -1.0), row(2.0, -3.0, 1.0, 1.0, -1.0)
    Box(1.0).confine_(q, v)
    np.testing.assert_allclose(q[0], [0.8, -0.5, 0.3, 1.0, -1.0], atol=1e-15)
    assert v[0].tolist() == [-2.0, 3.0, 1.0, 1.0, -1.0]


def test_reflection_across_several_widths_equals_one_wall_after_the_other():
    x = np.linspace(-20, 20, 401) + 0.0123
    q, v = torch.tensor(x)[None].clone(), torch.ones(1, len(x), dtype=torch.float64)
    Box(lower=-1.0, upper=0.5).confine_(q, v)
    expected = [bounce(value, -1.0, 0.5) for value in x]
    np.testing.assert_allclose(q[0], [place for place, _ in expected], atol=1e-13)
    assert v[0].tolist() == [(-1.0) ** count for _, count in expected]


@settings(max_examples=50, deadline=None)
@given(low=st.floats(-5, 5), width=st.floats(0.01, 10), u=st.floats(-30, 30))
def test_reflection_of_any_jump(low, width, u):
    high = low + width
    q, v = row(low + u * width), row(1.0)
    Box(lower=low, upper=high).confine_(q, v)
    place, count = bounce(low + u * width, low, high)
    assert float(q) == pytest.approx(place, abs=1e-11 * max(1, abs(u)))
    if min(abs(place - low), abs(place - high)) > 1e-9:
        assert float(v) == (-1.0) ** count


def test_limits_of_each_parameter():
    q, v = row(1.2, 1.2), row(1.0, 1.0)
    Box(torch.tensor([1.0, 2.0])).confine_(q, v)
    np.testing.assert_allclose(q[0], [0.8, 1.2])
    assert v[0].tolist() == [-1.0, 1.0]


def test_positions_without_velocities():
    q = row(1.2, -3.5)
    Box(1.0).confine_(q)
    np.testing.assert_allclose(q[0], [0.8, 0.5])


def test_periodic_wraps_and_keeps_the_velocity():
    q, v = row(1.2, -1.5, 9.3, 0.1), row(1.0, -2.0, 3.0, 4.0)
    Box(1.0, kind="periodic").confine_(q, v)
    np.testing.assert_allclose(q[0], [-0.8, 0.5, -0.7, 0.1], atol=1e-14)
    assert v[0].tolist() == [1.0, -2.0, 3.0, 4.0]


def test_open_box_leaves_everything():
    q, v = row(1e9, -1e9), row(1.0, 2.0)
    Box(kind="open").confine_(q, v)
    assert q[0].tolist() == [1e9, -1e9]
    assert bool(Box(kind="open").contains(q).all())


def test_contains_and_uniform():
    box = Box(lower=torch.tensor([-1.0, 2.0]), upper=torch.tensor([0.0, 5.0]))
    assert box.contains(torch.tensor([[-0.5, 3.0], [0.1, 3.0], [-0.5, 1.9], [0.0, 5.0]])).tolist() == [
        True,
        False,
        False,
        True,
    ]
    drawn = box.uniform(4000, 2, torch.Generator().manual_seed(0))
    assert drawn.dtype == torch.float64
    assert bool(box.contains(drawn).all())
    # the standard error of the mean of 4000 uniform numbers is width / sqrt(12 x 4000)
    error = np.array([1.0, 3.0]) / math.sqrt(12 * 4000)
    assert (np.abs(drawn.mean(0).numpy() - [-0.5, 3.5]) < 5 * error).all()


@pytest.mark.parametrize("kind", ["reflecting", "periodic"])
def test_confined_positions_are_inside_to_rounding(kind):
    box = Box(0.8, kind=kind)
    q = 50 * torch.randn(100, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    box.confine_(q)
    assert q.abs().max() <= 0.8 * (1 + 1e-14)


# ---------------------------------------------------------------- the papers' rule


def test_per_tensor_limits_of_the_spiral_classifier():
    """+-2 / sqrt(fan-out) for weights, +-2 / sqrt(numel) for biases, for 2-6-6-6-2."""
    shapes = [tuple(p.shape) for p in mlp((2, 6, 6, 6, 2)).parameters()]
    assert shapes == [(6, 2), (6,), (6, 6), (6,), (6, 6), (6,), (2, 6), (2,)]
    limits = per_tensor_limits(shapes, 2.0)
    assert limits.shape == (116,)
    expected = [2 / math.sqrt(6)] * (12 + 6 + 36 + 6 + 36 + 6) + [2 / math.sqrt(2)] * (12 + 2)
    np.testing.assert_allclose(limits, expected, rtol=1e-15)


def test_per_tensor_limits_of_convolutions():
    """numel / shape[1]: 2 channels x 3 x 3 = 18 for every convolution of the papers' MNIST network."""
    shapes = [tuple(p.shape) for p in mnist_cnn().parameters()]
    parts = per_tensor_limits(shapes, 2.0).split([math.prod(shape) for shape in shapes])
    for shape, limits in zip(shapes, parts, strict=True):
        fan = {(2, 1, 3, 3): 18, (2, 2, 3, 3): 18, (2,): 2, (10, 18): 10, (10,): 10}[shape]
        np.testing.assert_allclose(limits, 2 / math.sqrt(fan), rtol=1e-15)


def test_per_tensor_limits_scale():
    np.testing.assert_allclose(per_tensor_limits([(30, 2), (30,)], 3.0), 3 / math.sqrt(30), rtol=1e-15)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Box(-1.0), r"limit = -1 must be above 0: the box is \[-limit, limit\]; change limit"),
        (lambda: Box(0.0), r"limit = 0 must be above 0"),
        (lambda: Box(lower=2.0, upper=1.0), r"lower = 2 must be below upper = 1"),
        (lambda: Box(torch.tensor([1.0, -1.0])), r"limit = -1..1 must be above 0"),
        (lambda: Box("a"), r"Box: limit = 'a' must be a number or numbers; give plain numbers"),
        (lambda: Box([]), r"Box: limit = \[\] .* is empty; give at least one"),
        (lambda: Box(lower="a", upper=1.0), r"Box: lower = 'a' must be a number"),
        (lambda: Box(lower=[0.0, 0.0], upper=[1.0] * 3), r"lower has 2 values and upper 3; give as many of each"),
        (lambda: Box(math.nan), r"a limit is not finite; .* Box\(kind='open'\)"),
        (lambda: Box(math.inf), r"a limit is not finite"),
        (lambda: Box(), r"needs limit, or lower and upper"),
        (lambda: Box(lower=1.0), r"needs limit, or lower and upper"),
        (lambda: Box(1.0, lower=0.0), r"not both"),
        (lambda: Box(1.0, kind="open"), r"an open box has no limits"),
        (lambda: Box(1.0, kind="round"), r"choose one of 'reflecting', 'periodic', 'open'"),
        (lambda: Box(torch.ones(3)).check_size(4), r"3 limits for 4 parameters"),
        (lambda: Box(kind="open").uniform(1, 1, torch.Generator()), r"no uniform distribution"),
        (lambda: per_tensor_limits([(2,)], 0.0), r"scale = 0 must be"),
    ],
)
def test_bad_boxes_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor])
def test_limits_of_any_kind_of_sequence(make):
    limits = make([1.0, 2.0])
    for box in (Box(limits), Box(lower=make([-1.0, -2.0]), upper=limits)):
        assert box.lower.tolist() == [-1.0, -2.0]
        assert box.upper.tolist() == [1.0, 2.0]
    if make is np.array:
        limits[0] = 9.0  # the box has a copy
        assert box.upper.tolist() == [1.0, 2.0]


# ---------------------------------------------------------------- dynamics


@pytest.mark.slow
@pytest.mark.parametrize("splitting", ["BAOAB", "BOA"])
def test_reflecting_box_keeps_a_uniform_density(splitting):
    """Free particles: all coordinates of all walkers are independent samples (x 4 times far apart).

    From a uniform start the density must stay uniform; from one side it must become uniform. The box is [-1, 1], the
    step up to a third of it, so that there are many and multiple reflections. Relaxation time of the slowest mode:
    with friction 1 at most (2/pi)^2 friction ~ 1/2 a unit of time, a sample every 3.
    """
    walkers = int(20_000 * statistics_scale())
    for start in ("uniform", 0.9):
        system = AnalyticSystem(4, box=Box(1.0), start=start)
        simulation = Simulation(system, Langevin(0.15, 1.0, splitting=splitting), walkers=walkers, seed=5)
        if start != "uniform":
            simulation.advance(60)
        counts, bins = np.zeros(20), np.linspace(-1, 1, 21)
        moments = []
        for _ in range(4):
            simulation.advance(20)
            q = simulation.state.positions.numpy()
            assert np.abs(q).max() <= 1
            counts += np.histogram(q, bins)[0]
            moments.append((q.mean(), (q**2).mean()))
        samples = 4 * 4 * walkers
        chi2 = ((counts - samples / 20) ** 2).sum() / (samples / 20)
        # 19 degrees of freedom: mean 19, standard deviation sqrt(38); samples 3 time units apart correlate weakly
        assert chi2 < 19 + 5 * math.sqrt(38) * 1.2
        mean, square = np.mean(moments, axis=0)
        assert abs(mean) < 5 * math.sqrt(1 / 3 / samples)
        assert abs(square - 1 / 3) < 5 * math.sqrt(4 / 45 / samples)
        assert 5 * math.sqrt(1 / 3 / samples) < 0.02  # the test has power: a density tilted by 6 % would fail


def test_newton_in_a_box_returns_on_the_triangle_wave():
    """Without friction and noise a free particle's position is known at all times."""
    simulation = Simulation(
        AnalyticSystem(1, box=Box(1.0), start=0.25), Langevin(0.37, 0.0), walkers=3, seed=2, precision="double"
    )
    v = simulation.state.velocities.clone()
    simulation.advance(500)
    along = np.mod(0.25 + 1 + 500 * 0.37 * v.numpy(), 4)
    np.testing.assert_allclose(simulation.state.positions, np.where(along > 2, 4 - along, along) - 1, atol=1e-11)
    np.testing.assert_allclose(simulation.state.velocities.abs(), v.abs(), rtol=1e-15)


@pytest.mark.slow
def test_limits_survive_a_run_in_single_precision():
    """A system may be used for a run in single precision and then for one in double."""
    box = Box(0.1)
    for precision in ("single", "double"):
        Simulation(AnalyticSystem(2, box=box, start=0.0), Langevin(0.1, 1.0), precision=precision)
    assert float(box.upper) == 0.1
