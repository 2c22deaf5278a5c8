"""Integrators against exact solutions: conservation, reversibility, discrete stationary laws, correlation functions."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from conftest import statistics_scale

from nnsim import Box, DivergedError, ForceField, Grid, InputError, Simulation, cv
from nnsim.bias import WangLandau
from nnsim.integrators import Langevin, VelocityVerlet, friction_from_fraction
from nnsim.precision import Precision
from nnsim.schedules import InverseTime
from nnsim.systems import AnalyticSystem, DoubleWell, GaussianPrior, Harmonic, LossPotential, NeuralNetwork
from nnsim.systems.modules import mlp

LOSS, ACCURACY = cv.LogLoss("train"), cv.SmoothedAccuracy("test")

# ---------------------------------------------------------------- Newton


def double_well():
    return AnalyticSystem(6, DoubleWell(2.0, 1.0, 0.5), start=0.4), (), (0.06, 0.03, 0.015)


def tanh_network():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    splits = [(torch.tensor(rng.normal(size=(15, 2))), torch.tensor(rng.integers(0, 2, 15))) for _ in range(2)]
    return NeuralNetwork(mlp((2, 5, 5, 2), "tanh"), *splits, potential=LossPotential(20.0) + GaussianPrior(1.0))


def network():
    return tanh_network(), (), (0.04, 0.02, 0.01)


def biased_network():
    bias = WangLandau((LOSS, ACCURACY), Grid((-4.0, -0.5), (3.0, 1.5), (35, 20)), InverseTime(1.0, 1.0), kernel=None)
    bias.potential = torch.tensor(np.random.default_rng(2).normal(0, 3, bias.grid.shape))
    bias.frozen = True
    return tanh_network(), (bias,), (0.02, 0.01, 0.005)


def energy(simulation):
    state = simulation.state
    return state.energy + state.bias_energy + state.integrator_state["kinetic_energy"]


@pytest.mark.parametrize("case", [double_well, network, biased_network])
def test_verlet_energy_error_is_of_second_order(case):
    """RMS over walkers and time of H(t) - H(0) over the same stretch of time, for three steps, in double precision."""
    _, _, steps = case()
    errors = []
    for dt in steps:
        system, biases, _ = case()
        simulation = Simulation(system, VelocityVerlet(dt), bias=biases, walkers=16, seed=3, precision="double")
        first, squares, bias_energies = energy(simulation), [], []
        per_sample = round(steps[0] / dt)
        for _ in range(60):
            simulation.advance(per_sample)
            squares.append((energy(simulation) - first).square().mean())
            bias_energies.append(simulation.state.bias_energy)
        errors.append(math.sqrt(np.mean(squares)))
    exponent = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert 1.9 < exponent < 2.1, (exponent, errors)
    assert errors[-1] > 1e-9  # an error to speak of
    if biases:
        assert torch.stack(bias_energies).std(0).mean() > 0.3  # kT: the walkers move over the bias's hills


@pytest.mark.parametrize("case", [double_well, network, biased_network])
def test_verlet_returns(case):
    system, biases, steps = case()
    simulation = Simulation(system, VelocityVerlet(steps[-1]), bias=biases, walkers=4, seed=4, precision="double")
    q, v = simulation.state.positions.clone(), simulation.state.velocities.clone()
    simulation.advance(1000)
    assert (simulation.state.positions - q).abs().max() > 0.5  # it went somewhere
    simulation.state.velocities.neg_()
    simulation.advance(1000)
    assert (simulation.state.positions - q).abs().max() < 1e-9
    assert (simulation.state.velocities + v).abs().max() < 1e-9


def test_verlet_returns_from_a_reflecting_box():
    system = AnalyticSystem(4, box=Box(1.0), start=0.2)
    simulation = Simulation(system, VelocityVerlet(0.23), walkers=8, seed=4, precision="double")
    q = simulation.state.positions.clone()
    simulation.advance(1000)
    simulation.state.velocities.neg_()
    simulation.advance(1000)
    assert (simulation.state.positions - q).abs().max() < 1e-9


def test_verlet_on_a_harmonic_well_follows_its_exact_discrete_solution():
    """q_n = q_0 cos(n phi) + v_0 / (omega sqrt(1 - (omega dt / 2)^2)) sin(n phi), cos(phi) = 1 - (omega dt)^2 / 2."""
    k, m, dt = 2.0, 0.5, 0.3
    omega = math.sqrt(k / m)
    simulation = Simulation(
        AnalyticSystem(1, Harmonic(k), start=0.7), VelocityVerlet(dt, masses=m), walkers=5, precision="double"
    )
    v = simulation.state.velocities.numpy().copy()
    phi = math.acos(1 - (omega * dt) ** 2 / 2)
    for n in range(1, 200):
        simulation.advance(1)
        expected = 0.7 * math.cos(n * phi) + v / (omega * math.sqrt(1 - (omega * dt / 2) ** 2)) * math.sin(n * phi)
        np.testing.assert_allclose(simulation.state.positions, expected, atol=1e-11)


def test_frictionless_langevin_is_verlet():
    system, biases, _ = biased_network()
    one, other = (
        Simulation(system, integrator, bias=biases, walkers=3, seed=1, precision="double").advance(50)
        for integrator in (VelocityVerlet(0.01), Langevin(0.01, 0.0, splitting="BAB"))
    )
    np.testing.assert_allclose(one.state.positions, other.state.positions, rtol=1e-12)
    np.testing.assert_allclose(one.state.velocities, other.state.velocities, rtol=1e-12)


# ---------------------------------------------------------------- Langevin on a harmonic well

SPLITTINGS = ["BAOAB", "OBABO", "BAOA", "BOA", "ABOBA", "OABAO"]


def update_map(splitting, k, m, dt, friction, kT):
    """One step on U = k q^2 / 2 as (q, v) <- M (q, v) + noise of covariance N; also those up to the last O."""
    part = {letter: dt / splitting.count(letter) for letter in splitting}
    M, N, after_O = np.eye(2), np.zeros((2, 2)), None
    last = splitting.rfind("O")
    for place, letter in enumerate(splitting):
        h, noise = part[letter], 0.0
        if letter == "A":
            step = np.array([[1, h], [0, 1]])
        elif letter == "B":
            step = np.array([[1, 0], [-h * k / m, 1]])
        else:
            c = math.exp(-friction * h)
            step, noise = np.diag([1, c]), (1 - c * c) * kT / m
        M, N = step @ M, step @ N @ step.T + np.diag([0, noise])
        if place == last:
            after_O = M.copy(), N.copy()
    return M, N, after_O


def discrete_law(splitting, k, m, dt, friction, kT):
    """Stationary covariance of (q, v) at the end of a step, and the variance of v after the last O."""
    M, N, (M_O, N_O) = update_map(splitting, k, m, dt, friction, kT)
    C = scipy.linalg.solve_discrete_lyapunov(M, N)
    return C, (M_O @ C @ M_O.T + N_O)[1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("splitting", SPLITTINGS)
def test_stationary_law_of_each_splitting(splitting):
    """At dt = 0.5 / omega the discrete laws differ by several per cent; walkers are the independent samples.

    Squares of a normal number have a relative standard deviation of sqrt(2): N of them give sqrt(2 / N).
    Each of N = walkers x 10 coordinates contributes 10 samples, friction and oscillation make samples 12 steps apart
    nearly independent; the standard error is taken from the spread over walkers all the same.
    """
    k, m, kT, friction, walkers = 4.0, 0.25, 1.7, 2.0, int(8_000 * statistics_scale())
    omega = math.sqrt(k / m)
    dt = 0.5 / omega
    C, after_O = discrete_law(splitting, k, m, dt, friction, kT)
    if splitting == "BAOAB":  # the textbook's forms
        assert C[0, 0] == pytest.approx(kT / k, rel=1e-12)
        assert C[1, 1] == pytest.approx(kT / m * (1 - (omega * dt) ** 2 / 4), rel=1e-12)
        assert after_O == pytest.approx(kT / m, rel=1e-12)
    integrator = Langevin(dt, friction, kT, splitting, masses=m)
    simulation = Simulation(
        AnalyticSystem(10, Harmonic(k), start=0.3), integrator, walkers=walkers, seed=11, precision="double"
    )
    simulation.advance(100)  # e^(-friction t / 2) = e^-12 of the start is left
    samples = []
    for _ in range(10):
        simulation.advance(12)
        q, v = simulation.state.positions, simulation.state.velocities
        kinetic = 2 * simulation.state.integrator_state["kinetic_energy"] / 10
        samples.append(torch.stack((q.square().mean(1), v.square().mean(1), (q * v).mean(1), kinetic / m)))
    walker_means = torch.stack(samples).mean(0).numpy()  # [4, W]
    mean, error = walker_means.mean(1), walker_means.std(1, ddof=1) / math.sqrt(walkers)
    expected = np.array([C[0, 0], C[1, 1], C[0, 1], after_O])
    assert (error[[0, 1, 3]] < 0.01 * expected[[0, 1, 3]]).all()
    assert (np.abs(mean - expected) < 5 * error).all(), (mean, expected, error)


def test_the_discrete_laws_can_be_told_apart():
    """The statistical test above has power: at 5 standard errors of less than 0.5 % these would be seen."""
    laws = {s: discrete_law(s, 4.0, 0.25, 0.125, 2.0, 1.7)[0] for s in SPLITTINGS}
    for one, other in [("BAOAB", "OBABO"), ("BAOAB", "ABOBA"), ("BAOAB", "BAOA"), ("BOA", "BAOAB")]:
        assert abs(np.diag(laws[one]) / np.diag(laws[other]) - 1).max() > 0.025, (one, other)


@pytest.mark.parametrize("splitting", [*SPLITTINGS, "BAB", "ABA", "BA", "OBAO", "BAOOAB"])
def test_one_step_is_the_product_of_its_letters(splitting):
    """At kT = 0 there is no noise: after n steps (q, v) = M^n (q, v), exactly."""
    friction = 0.9 if "O" in splitting else 0.0
    M, _, _ = update_map(splitting, 3.0, 0.7, 0.21, friction, 0.0)
    integrator = Langevin(0.21, friction, 0.0, splitting, masses=0.7)
    simulation = Simulation(AnalyticSystem(1, Harmonic(3.0), start=0.8), integrator, precision="double").advance(25)
    found = [float(simulation.state.positions), float(simulation.state.velocities)]
    np.testing.assert_allclose(found, np.linalg.matrix_power(M, 25) @ [0.8, 0.0], rtol=1e-10, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("friction", [0.6, 3.6, 12.0])
def test_velocity_correlation_of_the_damped_oscillator(friction):
    """<v(t) v(0)> = kT/m e^(-g t/2) (cos w t - g/(2 w) sin w t), w^2 = omega^2 - g^2/4.

    Under-damped, nearly critical (g = 2 omega = 4) and over-damped.

    Walkers x 10 coordinates start in equilibrium; a product of two normal numbers of unit variance has a standard
    deviation of at most sqrt(2). The time step's own error, O((omega dt)^2) < 2e-4 of the amplitude, is far below that.
    """
    k, m, kT, dt, walkers = 4.0, 1.0, 1.5, 0.02, int(16_000 * statistics_scale(0.25))
    start = math.sqrt(kT / k) * torch.randn(
        walkers, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    simulation = Simulation(
        AnalyticSystem(10, Harmonic(k), start=start), Langevin(dt, friction, kT, masses=m), walkers=walkers, seed=3,
        precision="double",
    )  # fmt: skip
    first = simulation.state.velocities.clone()
    w = np.sqrt(complex(k / m - friction**2 / 4))
    for _ in range(12):
        simulation.advance(10)
        t = simulation.state.step * dt
        products = (first * simulation.state.velocities).mean(1).numpy()
        exact = kT / m * np.exp(-friction * t / 2) * (np.cos(w * t) - friction / (2 * w) * np.sin(w * t)).real
        error = products.std(ddof=1) / math.sqrt(walkers)
        assert error < 0.01 * kT / m
        assert abs(products.mean() - exact) < 5 * error, (t, products.mean(), exact, error)


@pytest.mark.slow
def test_masses_of_each_parameter():
    """Every parameter has velocity variance kT / m after the O step, and position variance kT / k whatever its mass."""
    masses = torch.tensor([0.25, 1.0, 4.0, 16.0], dtype=torch.float64)
    walkers, kT = int(16_000 * statistics_scale(0.25)), 0.8
    system = AnalyticSystem(4, Harmonic(1.0), start=math.sqrt(kT) * torch.randn(
        walkers, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ))  # fmt: skip
    simulation = Simulation(
        system, Langevin(0.2, 2.0, kT, "BAO", masses=masses), walkers=walkers, seed=2, precision="double"
    )
    thermal = simulation.state.velocities.square()
    simulation.advance(100)
    for variance in (thermal, simulation.state.velocities.square()):
        error = (variance * masses).std(0) / math.sqrt(walkers)
        assert (((variance * masses).mean(0) - kT).abs() < 5 * error).all()
        assert (error < 0.03 * kT).all()
    kinetic = simulation.state.integrator_state["kinetic_energy"]
    np.testing.assert_allclose(kinetic, 0.5 * (masses * simulation.state.velocities.square()).sum(1), rtol=1e-12)
    light = Simulation(AnalyticSystem(4, Harmonic(1.0), start=1.0), VelocityVerlet(0.01, masses=masses, kT=0.0))
    light.advance(1)  # a kick of dt f / m
    np.testing.assert_allclose(light.state.velocities[0], -0.01 / masses, rtol=1e-3)


# ---------------------------------------------------------------- cost and bookkeeping


class CountingForceField(ForceField):
    calls = 0

    def __call__(self, positions, step):
        self.calls += 1
        return super().__call__(positions, step)


@pytest.mark.parametrize(
    ("splitting", "evaluations"),
    [("BAOAB", 1), ("OBABO", 1), ("BAOA", 1), ("BOA", 1), ("BAB", 1), ("ABOBA", 2), ("OABAO", 2), ("BABAB", 2)],
)
def test_force_evaluations_of_a_step(splitting, evaluations):
    system = AnalyticSystem(2, Harmonic(), start=0.5)
    system.prepare(Precision.named("double"), torch.device("cpu"))
    field, integrator = CountingForceField(system), Langevin(0.1, float("O" in splitting), splitting=splitting)
    state = integrator.init(torch.full((3, 2), 0.5, dtype=torch.float64), field, torch.Generator().manual_seed(0))
    assert field.calls == 1
    for step in range(1, 11):
        state = integrator.step(state, field)
        assert state.step == step
        # forces and energies belong to the positions on return
        np.testing.assert_allclose(state.forces, -state.positions, rtol=1e-14)
        np.testing.assert_allclose(state.energy, 0.5 * state.positions.square().sum(1), rtol=1e-14)
    assert field.calls == 1 + 10 * evaluations


def test_runs_are_reproducible_and_seeds_differ():
    def positions(seed):
        system = AnalyticSystem(3, DoubleWell(), start=0.1)
        return Simulation(system, Langevin(0.05, 1.0), walkers=4, seed=seed).advance(50).state.positions

    state = torch.random.get_rng_state()
    assert torch.equal(positions(1), positions(1))
    assert not torch.equal(positions(1), positions(2))
    assert len(torch.unique(positions(1))) == 12
    assert torch.equal(torch.random.get_rng_state(), state)  # randomness lives in the state


def test_time_step_and_kinetic_temperature():
    assert Langevin(0.25, 1.0).time_step == VelocityVerlet(0.25).time_step == 0.25
    simulation = Simulation(AnalyticSystem(3, Harmonic(), start=0.1), VelocityVerlet(0.1, masses=2.0), walkers=2)
    simulation.advance(3)
    np.testing.assert_allclose(
        simulation.kinetic_temperature(), 2 * simulation.state.velocities.square().mean(1), rtol=1e-13
    )


def test_friction_from_fraction_keeps_one_minus_g_of_a_velocity():
    dt, g = 3e-6, 1e-5
    assert math.exp(-friction_from_fraction(g, dt) * dt) == pytest.approx(1 - g, rel=1e-15)
    integrator = Langevin(0.1, friction_from_fraction(0.3, 0.1), 0.0, "BOA")
    simulation = Simulation(AnalyticSystem(1, start=0.0), integrator, walkers=1, precision="double")
    simulation.state.velocities.fill_(1.0)
    simulation.advance(2)
    assert float(simulation.state.velocities) == pytest.approx(0.49, rel=1e-14)
    assert float(simulation.state.positions) == pytest.approx(0.1 * (0.7 + 0.49), rel=1e-14)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Langevin(-0.1, 1.0), r"Langevin: dt = -0.1 must be a finite number above 0; change dt"),
        (lambda: Langevin(0.0, 1.0), r"dt = 0 must be"),
        (lambda: Langevin(math.nan, 1.0), r"dt = nan must be"),
        (lambda: Langevin(math.inf, 1.0), r"dt = inf must be"),
        (lambda: Langevin("fast", 1.0), r"dt = 'fast' must be"),
        (lambda: Langevin(0.1, -1.0), r"friction = -1 must be a finite number of at least 0"),
        (lambda: Langevin(0.1, math.nan), r"friction = nan"),
        (lambda: Langevin(0.1, 1.0, -1.0), r"kT = -1 must be"),
        (lambda: Langevin(0.1, 1.0, math.inf), r"kT = inf"),
        (lambda: Langevin(0.1, 1.0, 1.0, "BAOXB"), r"splitting = 'BAOXB' must be a string of the letters B, A and O"),
        (lambda: Langevin(0.1, 1.0, 1.0, "baoab"), r"splitting = 'baoab'"),
        (lambda: Langevin(0.1, 1.0, 1.0, "BO"), r"splitting = 'BO'"),
        (lambda: Langevin(0.1, 1.0, 1.0, "AOA"), r"splitting = 'AOA'"),
        (lambda: Langevin(0.1, 1.0, 1.0, ""), r"splitting = ''"),
        (lambda: Langevin(0.1, 1.0, 1.0, None), r"splitting = None"),
        (lambda: Langevin(0.1, 1.0, masses=0.0), r"masses must be .* above 0, but 1 are not, such as 0"),
        (lambda: Langevin(0.1, 1.0, masses="x"), r"Langevin: masses = 'x' must be one number, or one for each"),
        (lambda: VelocityVerlet(0.1, masses=None), r"VelocityVerlet: masses = None must be one number"),
        (
            lambda: Langevin(0.1, 1.0, masses=torch.ones(2, 2, 2)),
            r"masses of shape \(2, 2, 2\) must be .*; give them so",
        ),
        (lambda: Langevin(0.1, 1.0, 1.0, "BAB"), r"friction = 1 and kT .* no O; add an O, or set friction=0"),
        (lambda: Langevin(0.1, 1.0, masses=torch.tensor([1.0, math.nan])), r"masses must be"),
        (lambda: VelocityVerlet(-0.1), r"VelocityVerlet: dt = -0.1"),
        (lambda: VelocityVerlet(0.1, kT=-1.0), r"VelocityVerlet: kT = -1"),
        (lambda: VelocityVerlet(0.1, masses=-1.0), r"masses must be"),
        (lambda: friction_from_fraction(1.0, 0.1), r"g = 1 must be below 1"),
        (lambda: friction_from_fraction(-0.1, 0.1), r"g = -0.1"),
        (lambda: friction_from_fraction(0.1, 0.0), r"dt = 0"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    "integrator", [Langevin(0.1, 1.0, masses=torch.ones(3)), VelocityVerlet(0.1, masses=torch.ones(3))]
)
def test_masses_must_fit_the_parameters(integrator):
    with pytest.raises(InputError, match=r"3 masses for 2 parameters; give one for each"):
        Simulation(AnalyticSystem(2, start=0.0), integrator)


def test_nan_of_free_particles_is_found():
    simulation = Simulation(AnalyticSystem(2, start=0.0), Langevin(0.1, 1.0), walkers=3)
    simulation.state.velocities[1, 0] = math.nan
    with pytest.raises(DivergedError, match=r"step 1: positions of walker 1"):
        simulation.advance(3)


def test_nan_names_step_walker_and_quantity():
    simulation = Simulation(AnalyticSystem(2, Harmonic(), start=0.0), Langevin(0.1, 1.0), walkers=3).advance(4)
    simulation.state.velocities[1, 0] = math.inf
    with pytest.raises(DivergedError, match=r"step 5: positions of walker 1 became NaN or infinite; use a smaller"):
        simulation.advance(3)


def test_masses_survive_a_run_in_single_precision():
    integrator = Langevin(0.1, 1.0, masses=torch.tensor([1.1, 1.3], dtype=torch.float64))
    for precision in ("single", "double"):
        Simulation(AnalyticSystem(2, start=0.0), integrator, precision=precision)
    assert integrator.masses.tolist() == [1.1, 1.3]
