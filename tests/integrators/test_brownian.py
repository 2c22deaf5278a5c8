"""Brownian dynamics against exact laws, of the continuous and of the discrete dynamics.

Statistics: walkers are independent, so every standard error is that of the mean over walkers of each walker's own mean
over coordinates and time. Each comparison asserts that the error is below 2 % of a stated scale, mostly the value
itself, and that the deviation is below 5 errors.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import arrays_of
from exact_laws import CIRCLE, Pendulum, assert_same_bits, check, walker_means

from nnsim import Box, CollectiveVariable, Grid, InputError, Lattice, Simulation, cv
from nnsim.bias import Wall, WangLandau
from nnsim.integrators import Brownian
from nnsim.precision import Precision
from nnsim.schedules import RampHoldInverseTime
from nnsim.systems import AnalyticSystem, DoubleWell, Harmonic

SCHEMES = ("leimkuhler-matthews", "euler-maruyama")


# ---------------------------------------------------------------- Brownian: exact discrete laws


def harmonic_law(scheme, a, kT, k):
    """<q_n^2> and <q_n q_{n+1}> in the stationary state on U = k q^2 / 2, a = k dt / (m friction) < 2.

    Euler-Maruyama: q' = (1 - a) q + sqrt(2 a kT / k) xi, so V = (1 - a)^2 V + 2 a kT / k = kT / k / (1 - a / 2).
    Leimkuhler-Matthews: q' = (1 - a) q + b (xi + xi') with b^2 = a kT / (2 k). q holds b xi, so <q xi> = b and
    V = (1 - a)^2 V + 2 b^2 + 2 (1 - a) b^2, that is V a (2 - a) = 2 b^2 (2 - a): V = 2 b^2 / a = kT / k for any a.
    """
    if scheme == "euler-maruyama":
        variance = kT / k / (1 - a / 2)
        return variance, (1 - a) * variance
    return kT / k, (1 - a) * kT / k + a * kT / (2 * k)


@pytest.mark.parametrize("a", [0.4, 1.6])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_brownian_stationary_law_on_a_harmonic_well(scheme, a):
    """2000 walkers x 10 coordinates x 10 samples, 12 steps apart; 0.6^12 = 0.2 % of the memory is left."""
    k, m, friction, kT = 4.0, 0.25, 2.0, 1.7
    integrator = Brownian(a * m * friction / k, friction, kT, scheme, masses=m)
    simulation = Simulation(
        AnalyticSystem(10, Harmonic(k), start=0.3), integrator, walkers=2000, seed=1, precision="double"
    ).advance(40)
    total = 0.0
    for _ in range(10):
        simulation.advance(11)
        q = simulation.state.positions.clone()
        simulation.advance(1)
        total = total + torch.stack((q.square().mean(1), (q * simulation.state.positions).mean(1)))
    check((total / 10).numpy(), harmonic_law(scheme, a, kT, k))
    assert float(simulation.state.velocities.abs().max()) == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_free_particles_diffuse(scheme):
    """Each coordinate by its own D = kT / (m friction): 2 D dt n after n steps, with Leimkuhler-Matthews n - 1/2.

    10,000 walkers, whose squares have a relative standard deviation of sqrt(2): errors of 1.4 %.
    """
    masses, friction, kT, dt, walkers = torch.tensor([0.5, 1.0, 8.0]), 3.0, 0.7, 0.2, 10_000
    simulation = Simulation(
        AnalyticSystem(3, start=0.0), Brownian(dt, friction, kT, scheme, masses=masses), walkers=walkers, seed=2
    )
    for n in (1, 2, 10):
        simulation.advance(n - simulation.state.step)
        clock = n - 0.5 * (scheme == "leimkuhler-matthews")
        expected = 2 * kT / (masses.double() * friction) * dt * clock
        check(simulation.state.positions.square().T.numpy(), expected)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_brownian_without_noise_is_gradient_descent(scheme):
    masses = torch.tensor([0.5, 2.0], dtype=torch.float64)
    simulation = Simulation(
        AnalyticSystem(2, Harmonic(3.0), start=0.8), Brownian(0.1, 2.0, 0.0, scheme, masses=masses), precision="double"
    )
    simulation.advance(7)
    np.testing.assert_allclose(simulation.state.positions[0], 0.8 * (1 - 0.1 * 3.0 / (2.0 * masses)) ** 7, rtol=1e-13)


def test_leimkuhler_matthews_uses_each_noise_twice():
    """Free particles: from the noise of the state before and after follows the step, in every precision."""
    for precision, tolerance in (("single", 1e-6), ("mixed", 1e-14), ("double", 1e-14)):
        simulation = Simulation(
            AnalyticSystem(2, start=0.0), Brownian(0.1, 2.0, 3.0), walkers=4, precision=precision
        ).advance(3)
        q, xi = simulation.state.positions.clone(), simulation.state.integrator_state["noise"].clone()
        simulation.advance(1)
        step = math.sqrt(3.0 * 0.1 / (2 * 2.0)) * (xi + simulation.state.integrator_state["noise"])
        np.testing.assert_allclose(simulation.state.positions, q + step, rtol=tolerance, atol=tolerance)
        assert simulation.state.positions.dtype == Precision.named(precision).state


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", ["reflecting", "periodic"])
def test_free_brownian_particles_are_uniform_in_their_box(scheme, kind):
    """Steps of 0.8 of the half width, so that most of them meet an edge, from one point: the moments of [-1, 1].

    2000 walkers x 5 coordinates x 20 samples; a noise that were not mirrored would show (see the next test).
    """
    integrator = Brownian(0.32, 1.0, 1.0, scheme)
    simulation = Simulation(
        AnalyticSystem(5, box=Box(1.0, kind=kind), start=0.6), integrator, walkers=2000, seed=3, precision="double"
    )
    measure = lambda state: [(state.positions + 1).mean(1), *(state.positions.pow(p).mean(1) for p in (2, 4, 8))]  # noqa: E731
    check(walker_means(simulation, measure, burn=20, samples=20, apart=5), [1.0, 1 / 3, 1 / 5, 1 / 9])
    assert float(simulation.state.positions.abs().max()) <= 1


def test_the_noise_must_be_mirrored_with_the_position():
    """The test above has power: without the mirror the second moment is off by far more than its 5 errors."""

    class Unmirrored(Box):
        def confine_(self, positions, velocities=None):
            super().confine_(positions)

    simulation = Simulation(
        AnalyticSystem(5, box=Unmirrored(1.0), start=0.6), Brownian(0.32, 1.0), walkers=2000, seed=3, precision="double"
    )
    values = walker_means(simulation, lambda s: [s.positions.square().mean(1)], burn=20, samples=20, apart=5)
    assert abs(values.mean() - 1 / 3) > 20 * values.std() / math.sqrt(2000)


def pendulum_law(scheme, dt, kT):
    """<cos q> in the stationary state of the discrete dynamics of a pendulum with m friction = 1.

    With b = sqrt(kT dt / 2), x = q - b xi of Leimkuhler-Matthews is a Markov chain of one noise a step, and
    Euler-Maruyama is the same chain with b = 0:

        x' = x + sqrt(2 kT dt) xi + dt f(x + b xi),        q = x + b xi

    Its moments mu_k = <exp(i k x)> solve mu_k = sum_l P_lk mu_l, where E[exp(i k x')] = sum_l P_lk exp(i l x).
    """
    b = math.sqrt(kT * dt / 2) if scheme == "leimkuhler-matthews" else 0.0
    xi, x = np.linspace(-9, 9, 601), np.arange(61) * 2 * np.pi / 61
    k = np.arange(-30, 31)
    after = x[:, None] + math.sqrt(2 * kT * dt) * xi - dt * Pendulum.barrier * np.sin(x[:, None] + b * xi)
    gauss = np.exp(-xi * xi / 2) / np.exp(-xi * xi / 2).sum()
    P = np.exp(-1j * np.outer(k, x)) @ (np.exp(1j * k * after[..., None]) * gauss[:, None]).sum(1) / 61
    A = P.T - np.eye(61)
    A[30], right = np.eye(61)[30], np.eye(61)[30]  # the equation of k = 0 is empty: mu_0 = 1 instead
    return float((np.linalg.solve(A, right)[31] * math.exp(-b * b / 2)).real)


@pytest.mark.parametrize(("scheme", "order"), [("euler-maruyama", 1), ("leimkuhler-matthews", 2)])
def test_orders_of_the_stationary_error(scheme, order):
    """Of the discrete laws, which the next test finds again in the code."""
    steps = np.array([0.1, 0.05, 0.025])
    errors = [abs(pendulum_law(scheme, dt, 1.0) - Pendulum.mean_cosine(1.0)) for dt in steps]
    print(errors)
    exponents = np.diff(np.log(errors)) / np.diff(np.log(steps))
    np.testing.assert_allclose(exponents, order, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("dt", [0.4, 0.9])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_brownian_stationary_law_of_a_pendulum(scheme, dt):
    """Not harmonic, in a periodic box; 1000 walkers x 20 coordinates x 200 samples about a time unit apart."""
    kT = 1.0
    simulation = Simulation(
        AnalyticSystem(20, Pendulum(), box=CIRCLE, start=0.0), Brownian(dt, 1.0, kT, scheme), walkers=1000, seed=4,
        precision="double",
    )  # fmt: skip
    measure = lambda state: [torch.cos(state.positions).mean(1)]  # noqa: E731
    values = walker_means(simulation, measure, burn=round(8 / dt), samples=200, apart=math.ceil(1 / dt))
    exact = pendulum_law(scheme, dt, kT)
    mean, error = check(values, [exact])
    if dt > 0.8:  # the error of the time step is seen
        assert abs(mean[0] - Pendulum.mean_cosine(kT)) > 10 * error[0]
        assert abs(exact - pendulum_law(SCHEMES[scheme == SCHEMES[0]], dt, kT)) > 10 * error[0]


# ---------------------------------------------------------------- resume, settings


def resumable(kind):
    bias = WangLandau(cv.LogEnergy(Harmonic()), Grid(-5.0, 2.0, 35), RampHoldInverseTime(0.1, 50, 100), kernel=0.5)
    masses = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    integrators = {
        "leimkuhler-matthews": lambda: Brownian(0.05, 1.0, masses=masses),
        "euler-maruyama": lambda: Brownian(0.05, 1.0, 1.0, "euler-maruyama"),
    }
    return Simulation(
        AnalyticSystem(3, DoubleWell(), box=Box(1.5), start=0.8), integrators[kind](), bias=bias, walkers=3, every=5,
        checkpoint_every=37,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*the time step dt")  # which is rough here: bits are compared, no averages
@pytest.mark.parametrize("kind", ["leimkuhler-matthews", "euler-maruyama"])
def test_two_halves_equal_the_whole(tmp_path: Path, kind):
    whole = resumable(kind).run(74, output=tmp_path / "whole.zarr", progress=False)
    resumable(kind).run(37, output=tmp_path / "halves.zarr", progress=False)
    second = resumable(kind).run(74, output=tmp_path / "halves.zarr", resume=True, progress=False)
    assert_same_bits(second.state_dict(), whole.state_dict())
    assert arrays_of(tmp_path / "halves.zarr") == arrays_of(tmp_path / "whole.zarr")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Brownian(0.0, 1.0), r"Brownian: dt = 0 must be a finite number above 0; change dt"),
        (lambda: Brownian(math.nan, 1.0), r"Brownian: dt = nan must be"),
        (lambda: Brownian(0.1, 0.0), r"Brownian: friction = 0 must be a finite number above 0"),
        (lambda: Brownian(0.1, -1.0), r"Brownian: friction = -1 must be"),
        (lambda: Brownian(0.1, 1.0, -1.0), r"Brownian: kT = -1 must be a finite number of at least 0"),
        (lambda: Brownian(0.1, 1.0, 1.0, "milstein"), r"Brownian: scheme = 'milstein' is not known; choose one of 'l"),
        (lambda: Brownian(0.1, 1.0, masses=0.0), r"Brownian: masses must be .* above 0, but 1 are not, such as 0"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"3 masses for 2 parameters; give one for each"):
        Simulation(AnalyticSystem(2, start=0.0), Brownian(0.1, 1.0, masses=torch.ones(3)))
    system = AnalyticSystem(2, box=Lattice([-1, 1]))
    with pytest.raises(InputError, match=r"moves continuously, but the parameters live on a lattice; use MonteCarlo"):
        Simulation(system, Brownian(0.1, 1.0))

    class Step(CollectiveVariable):
        name, differentiable = "step", False

        def __call__(self, evaluation):
            return (evaluation.positions[:, 0] > 0).double()

    with pytest.raises(
        InputError, match=r"needs forces, but the CV 'step' of the bias 'wall_upper_step' has no gradient"
    ):
        Simulation(AnalyticSystem(2, start=0.0), Brownian(0.1, 1.0), bias=Wall(Step(), upper=2.0))


def test_every_precision():
    for precision in ("single", "mixed", "double"):
        make = Brownian(0.1, 1.0, masses=torch.ones(3))
        simulation = Simulation(
            AnalyticSystem(3, Harmonic(), box=Box(1.0), start=0.2), make, walkers=2, precision=precision
        ).advance(20)
        state = simulation.state
        kinds = {value.dtype for value in (state.positions, state.velocities, state.forces)}
        assert kinds == {Precision.named(precision).state}
