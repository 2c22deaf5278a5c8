"""Umbrellas against exact answers: restrained Gaussians, the work of steering."""

import math

import numpy as np
import pytest
import torch

from nnsim import Bias, Box, Grid, InputError, Simulation, cv
from nnsim.bias import Metadynamics, Umbrella, Work
from nnsim.integrators import Brownian, HybridMonteCarlo, Langevin, MonteCarlo, NoseHoover
from nnsim.systems import AnalyticSystem, Harmonic

X, Y, Z = cv.Parameter(0), cv.Parameter(1), cv.Parameter(2)


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def points(number, k, low=-2.0, high=2.0, seed=0):
    return torch.tensor(np.random.default_rng(seed).uniform(low, high, (number, k)))


# ---------------------------------------------------------------- umbrella: the potential


def umbrellas():
    generator = np.random.default_rng(1)
    rows = lambda k, low=-1.0: generator.uniform(low, 1.0, (30, k)).tolist()  # noqa: E731
    yield "shared", Umbrella(X, 0.3, 2.5)
    yield "of each walker", Umbrella(X, [row[0] for row in rows(1)], 2.5)
    yield "moving", Umbrella((X, Y), (0.3, -0.2), (2.0, 5.0), velocity=(1e-3, -2e-3))
    yield "stopped", Umbrella((X, Y), rows(2), rows(2, low=0.1), velocity=rows(2), until=20)
    yield "periodic", Umbrella((X, Y, Z), rows(3), 3.0, velocity=0.01, periods=(1.5, None, 0.7))


@pytest.mark.parametrize(("kind", "bias"), list(umbrellas()), ids=[kind for kind, _ in umbrellas()])
def test_umbrella_energy_and_gradient(kind, bias):
    """The energy is that of the equation, and the gradient is the derivative that torch finds."""
    s = points(30, len(bias.cvs))
    for step in (0, 7, 100):
        value, gradient = bias.energy_and_gradient(s, step)
        assert gradient.shape == s.shape
        time = min(step, 20) if kind == "stopped" else step
        difference = (s - bias.center - bias.velocity * time).numpy()
        for d, period in enumerate(bias.periods):
            if period:
                images = difference[:, d, None] + period * np.arange(-20, 21)
                difference[:, d] = images[np.arange(30), np.abs(images).argmin(axis=1)]
        expected = 0.5 * (bias.stiffness.numpy() * difference**2).sum(axis=1)
        np.testing.assert_allclose(value, expected, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(bias.energy(s, step), value, rtol=1e-14)
        np.testing.assert_allclose(bias.gradient(s, step), gradient, rtol=1e-14)
        np.testing.assert_allclose(Bias.gradient(bias, s, step), gradient, rtol=1e-13)  # by automatic differentiation
        assert gradient.abs().max() > 0.5


def test_minimum_image():
    """Across the edge of a period of 6 the nearest image counts, wherever the centre has got to meanwhile."""
    bias = Umbrella(X, 2.5, 2.0, velocity=6.0, periods=6.0)
    for step in (0, 1, 1000):
        value, gradient = bias.energy_and_gradient(column(-2.5, 2.0, -0.4, -0.6), step)
        np.testing.assert_allclose(gradient[:, 0], [2.0, -1.0, 6.2 - 12.0, 5.8], atol=1e-11)
        np.testing.assert_allclose(value, [1.0, 0.25, 2.9**2, 2.9**2], atol=1e-11)


def test_center_moves_at_each_step_and_stops():
    bias = Umbrella((X, Y), (0.5, -1.0), 2.0, velocity=(0.25, 0.0), until=6)
    assert [bias.center_at(step).tolist() for step in (0, 2, 6, 100)] == [
        [[0.5, -1.0]], [[1.0, -1.0]], [[2.0, -1.0]], [[2.0, -1.0]],
    ]  # fmt: skip
    assert Umbrella(X, 0.5, 2.0, velocity=0.25).center_at(100).tolist() == [[25.5]]
    assert bias.describe()["velocity"] == [[0.25, 0.0]]


# ---------------------------------------------------------------- umbrella: exact answers


@pytest.mark.slow
def test_windows_on_a_harmonic_system_have_the_law_of_the_combined_gaussian():
    """U = a q^2 / 2 and V = k (q - c)^2 / 2: mean k c / (a + k), variance kT / (a + k); BAOAB is exact on it.

    5 windows of 400 walkers, 40 frames each, 4 correlation times and more apart; errors are those of the spread over
    the walkers. A second coordinate without a restraint keeps the law of U.
    """
    a, k, kT, each = 2.0, 6.0, 1.7, 400
    centers = np.repeat([-3.0, -1.0, 0.0, 0.5, 2.0], each)
    simulation = Simulation(
        AnalyticSystem(2, Harmonic(a), start=0.0), Langevin(dt=0.15, friction=2.0, kT=kT),
        bias=Umbrella(X, centers, k), observe=[Y], walkers=len(centers), seed=4, every=30, precision="double",
    )  # fmt: skip
    simulation.advance(45 * 30)
    q, other = (simulation.history[name][5:] for name in ("parameter_0", "parameter_1"))
    for window, center in enumerate(centers[::each]):
        mine = q[:, window * each : (window + 1) * each]
        mean, square = mine.mean(axis=0), ((mine - k * center / (a + k)) ** 2).mean(axis=0)
        for found, expected in ((mean, k * center / (a + k)), (square, kT / (a + k))):
            error = found.std(ddof=1) / math.sqrt(each)
            assert error < 0.01
            assert abs(found.mean() - expected) < 4.5 * error, center
    square = (other**2).mean(axis=0)
    assert abs(square.mean() - kT / a) < 4.5 * square.std(ddof=1) / math.sqrt(len(square))


def test_a_restraint_across_the_edge_of_a_periodic_box():
    """Free particles in [-pi, pi] held at pi: a Gaussian of variance kT / k, cut where it is 1e-15, around the edge."""
    k, kT, walkers = 8.0, 1.0, 1000
    simulation = Simulation(
        AnalyticSystem(1, box=Box(math.pi, kind="periodic"), start=3.0), Langevin(dt=0.1, friction=2.0, kT=kT),
        bias=Umbrella(X, math.pi, k, periods=2 * math.pi), walkers=walkers, seed=2, every=30, precision="double",
    )  # fmt: skip
    simulation.advance(30 * 24)
    q = simulation.history["parameter_0"][4:]
    assert 0.4 < (q > 0).mean() < 0.6
    away = np.remainder(q, 2 * math.pi) - math.pi
    for found, expected in ((away.mean(axis=0), 0.0), ((away**2).mean(axis=0), kT / k)):
        error = found.std(ddof=1) / math.sqrt(walkers)
        assert error < 0.005
        assert abs(found.mean() - expected) < 4.5 * error


def test_steered_walkers_lag_and_the_work_obeys_jarzynski():
    """A centre drawn from 0 to 3 through U = a q^2 / 2, 4000 walkers that start in equilibrium.

    The work is Gaussian, so Jarzynski's equality reads <W> - var(W) / (2 kT) = delta F = a k c^2 / (2 (a + k)). The
    lag at the end is that of the equation of motion m q'' = -a q - k (q - c) - m friction q'. The time step's error is
    of order dt^2, far below the standard errors.
    """
    a, k, kT, friction, dt, steps, end, walkers = 1.0, 4.0, 0.8, 3.0, 0.01, 400, 3.0, 4000
    start = torch.randn(walkers, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    bias = Umbrella(X, 0.0, k, velocity=end / steps, until=steps)
    simulation = Simulation(
        AnalyticSystem(1, Harmonic(a), start=start * math.sqrt(kT / (a + k))), Langevin(dt, friction, kT), bias=bias,
        observe=[Work(bias)], walkers=walkers, seed=5, every=100, precision="double",
    )  # fmt: skip
    simulation.advance(steps + 100)
    history = simulation.history
    work = history["umbrella_work"]
    assert work.shape == (5, walkers)
    np.testing.assert_array_equal(work[-1], work[-2])  # it stands still now
    np.testing.assert_array_equal(work[-1], bias.work)
    np.testing.assert_allclose(history["umbrella_mean_work"], work.mean(axis=1), rtol=1e-12)

    final = work[3]
    variance, change = final.var(ddof=1), a * k * end**2 / (2 * (a + k))
    error = math.sqrt(variance / walkers + variance**2 / (2 * walkers * kT**2))
    assert error < 0.1
    assert variance / (2 * kT) > 20 * error  # far from reversible
    assert abs(final.mean() - variance / (2 * kT) - change) < 4.5 * error

    q = p = 0.0
    for i in range(100 * steps):  # the mean of a linear equation obeys it without noise
        h = dt / 100
        p += h * (-a * q - k * (q - end * i / (100 * steps)) - friction * p)
        q += h * p
    found = history["parameter_0"][3]
    assert end * k / (a + k) - q > 0.2  # it lags
    assert abs(found.mean() - q) < 4.5 * found.std(ddof=1) / math.sqrt(walkers)


def test_work_is_the_sum_of_the_changes_of_the_restraint():
    """Half of a change is counted where a step of a dynamics begins and half where it ends; of Metropolis, all before.

    V = (s - c)^2, the centres of the two walkers at 0, 0.5, 1 and 1, 0, -1.
    """
    for integrator, first, second in (
        (Langevin(0.1, 1.0), [(0.25 - 0.75) / 2, (1.0 + 1.0) / 2], (-0.25 - 0.25) / 2),
        (MonteCarlo(0.1), [0.25, 1.0], -0.25),
        (HybridMonteCarlo(0.1, 2), [0.25, 1.0], -0.25),
    ):
        bias = Umbrella(X, [0.0, 1.0], 2.0, velocity=[0.5, -1.0], until=2)
        bias.attach(integrator, torch.Generator())
        bias.start(column(0.0, 1.0))
        bias.update(column(1.0, 1.0), step=1)
        assert bias.work.tolist() == first
        saved = bias.state_dict()
        bias.update(column(1.0, 3.0), step=2, mask=torch.tensor([True, False]))
        assert bias.work.tolist() == [first[0] + second, first[1]]
        assert bias.observables() == {"mean_work": sum(first) / 2 + second / 2}
        assert saved["work"].tolist() == first  # a copy
        bias.load_state_dict(saved)
        bias.update(column(1.0, 3.0), step=2, mask=torch.tensor([True, False]))
        assert bias.work.tolist() == [first[0] + second, first[1]]
    bias.work = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    bias.update(column(5.0, 5.0), step=3)  # the centres have stopped
    copied = Umbrella(X, [0.0, 1.0], 2.0, velocity=[0.5, -1.0], until=2)
    copied.load_state_dict(bias.state_dict())
    copied.work += 1
    assert bias.work.tolist() == [-1.0, 1.0]
    at_rest = Umbrella(X, 0.0, 2.0)
    at_rest.update(column(1.0), step=1)
    assert (at_rest.work.tolist(), at_rest.observables(), at_rest.state_dict()) == ([0.0], {}, {})


FAST = {
    "BAOAB": (lambda: Langevin(0.05, 3.0), 200),
    "OBABO": (lambda: Langevin(0.05, 3.0, splitting="OBABO"), 200),
    "Euler-Maruyama": (lambda: Brownian(0.005, 1.0, scheme="euler-maruyama"), 400),
    "Leimkuhler-Matthews": (lambda: Brownian(0.01, 1.0), 400),
    "Nose-Hoover": (lambda: NoseHoover(0.02, 0.5), 200),
    "HMC": (lambda: HybridMonteCarlo(0.05, 10), 50),
    "MC": (lambda: MonteCarlo(0.8), 400),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
def test_jarzynski_far_from_equilibrium(name):
    """A stiff centre drawn fast from 0 to 2 through U = q^2 / 2, 10,000 walkers that start in equilibrium."""
    (make, steps), k, walkers = FAST[name], 20.0, 10_000
    start = torch.randn(walkers, 1, generator=torch.Generator().manual_seed(11), dtype=torch.float64)
    bias = Umbrella(X, 0.0, k, velocity=2.0 / steps, until=steps)
    simulation = Simulation(
        AnalyticSystem(1, Harmonic(), start=start / math.sqrt(1 + k)), make(), bias=bias, walkers=walkers, seed=12,
        every=steps, precision="double",
    )  # fmt: skip
    simulation.advance(steps)
    weight = torch.exp(-bias.work).numpy()
    exact, error = 0.5 * k / (1 + k) * 2.0**2, weight.std() / weight.mean() / math.sqrt(walkers)
    assert error < 0.06
    assert abs(-math.log(weight.mean()) - exact) < 4.5 * error


def test_work_goes_on_after_a_resume(tmp_path):
    def build():
        bias = Umbrella(X, 0.0, 5.0, velocity=0.01)
        return Simulation(
            AnalyticSystem(1, Harmonic(), start=0.1),
            MonteCarlo(0.5),
            bias=bias,
            observe=[Work(bias)],
            walkers=3,
            every=5,
        )

    whole = build().run(40, output=tmp_path / "whole.zarr", progress=False)
    build().run(20, output=tmp_path / "parts.zarr", progress=False)
    parts = build().run(40, output=tmp_path / "parts.zarr", resume=True, progress=False)
    one, other = (run.force_field.biases[0].state_dict() for run in (whole, parts))
    assert one["work"].tolist() == other["work"].tolist()
    assert one["last"].tolist() == other["last"].tolist()


def test_the_work_of_an_umbrella_that_does_none_is_refused():
    other, own = Umbrella(X, 0.0, 1.0, velocity=0.1, name="other"), Umbrella(X, 0.0, 1.0)
    system = AnalyticSystem(1, start=0.0)
    for bias in ((), own):
        with pytest.raises(InputError, match="Work: the umbrella 'other' is none of the biases of this simulation"):
            Simulation(system, Langevin(0.1, 1.0), bias=bias, observe=[Work(other)])
    assert Simulation(system, Langevin(0.1, 1.0), bias=other, observe=[Work(other)]).advance(2).state.step == 2


def test_periods_may_be_arrays():
    for periods in (torch.tensor(6.28), np.array([6.28]), np.float32(6.28), [6.28]):
        assert Umbrella(X, 0.0, 1.0, periods=periods).periods == pytest.approx((6.28,))
    assert Umbrella((X, Y), 0.0, 1.0, periods=np.array([3.0, None])).periods == (3.0, None)


def test_umbrella_needs_as_many_walkers_as_rows():
    system, bias = AnalyticSystem(1, start=0.0), Umbrella(X, [0.0, 1.0, 2.0], 1.0)
    with pytest.raises(InputError, match=r"'umbrella' is for 3 walkers, but there are 2; give each walker a row"):
        Simulation(system, Langevin(0.1, 1.0), bias=bias, walkers=2)
    assert Simulation(system, Langevin(0.1, 1.0), bias=bias, walkers=3).advance(2).state.step == 2


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Umbrella("x", 0.0, 1.0), r"Umbrella: cvs = 'x' must be a collective variable"),
        (lambda: Umbrella([], 0.0, 1.0), r"Umbrella: 0 CVs; give 1 to 3"),
        (lambda: Umbrella([X, Y, Z, X], 0.0, 1.0), r"Umbrella: 4 CVs; give 1 to 3"),
        (lambda: Umbrella(X, "here", 1.0), r"center = 'here' must be finite: a number, 1 numbers"),
        (lambda: Umbrella(X, float("nan"), 1.0), r"center = nan must be finite.*; change center"),
        (lambda: Umbrella((X, Y), (0.0, 1.0, 2.0), 1.0), r"center = .* 2 numbers \(one for each CV\), or an array \[W"),
        (lambda: Umbrella((X, Y), [[0.0, 1.0, 2.0]], 1.0), r"center = \[\[0.0, 1.0, 2.0\]\] must be"),
        (lambda: Umbrella(X, 0.0, 0.0), r"stiffness = 0.0 must be above 0; change stiffness"),
        (lambda: Umbrella((X, Y), 0.0, (1.0, -1.0)), r"stiffness = \(1.0, -1.0\) must be above 0"),
        (lambda: Umbrella(X, 0.0, float("inf")), r"stiffness = inf must be finite"),
        (lambda: Umbrella(X, 0.0, 1.0, velocity="fast"), r"velocity = 'fast' must be"),
        (lambda: Umbrella(X, [0, 1], 1.0, velocity=[1, 2, 3]), r"center is for 2, .* velocity for 3 walkers; give as"),
        (lambda: Umbrella(X, 0.0, 1.0, velocity=1.0, until=0), r"until = 0 must be a whole number of at least 1"),
        (lambda: Umbrella(X, 0.0, 1.0, periods=0.0), r"periods = 0 must be a finite number above 0"),
        (lambda: Umbrella((X, Y), 0.0, 1.0, periods=3.0), r"1 values of periods for 2 CVs; give one for each"),
        (
            lambda: Work(Metadynamics(X, Grid(-2.0, 2.0, 100), height=0.1, sigma=0.1, pace=10)),
            r"Work: umbrella = .* must be an Umbrella; give that of the simulation",
        ),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
