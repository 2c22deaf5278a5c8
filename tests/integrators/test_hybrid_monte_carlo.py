"""Hybrid Monte Carlo against exact laws, which it samples at any time step.

Statistics: walkers are independent, so every standard error is that of the mean over walkers of each walker's own mean
over coordinates and time. Each comparison asserts that the error is below 2 % of a stated scale, mostly the value
itself, and that the deviation is below 5 errors.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import torch
from command_line import arrays_of
from conftest import few
from exact_laws import CIRCLE, Pendulum, assert_same_bits, check, walker_means

from nnsim import Box, CollectiveVariable, ForceField, Grid, InputError, Lattice, Simulation, cv
from nnsim.bias import Wall, WangLandau
from nnsim.integrators import Acceptance, HybridMonteCarlo, VelocityVerlet
from nnsim.precision import Precision
from nnsim.protocols import Bias
from nnsim.schedules import RampHoldInverseTime
from nnsim.systems import AnalyticSystem, DoubleWell, Harmonic


def acceptance(simulation):
    return float(Acceptance().observe(simulation.state, None).mean())


# ---------------------------------------------------------------- hybrid Monte Carlo: exact laws at large steps


@pytest.mark.parametrize("refreshment", [1.0, 0.3])
def test_hmc_is_exact_on_a_harmonic_well(refreshment):
    """omega dt = 1.4 to 1.8, near the limit of 2; 2000 walkers x 10 coordinates x 20 samples.

    At this step velocity Verlet alone would sample kT / k / (1 - (omega dt)^2 / 4), 2.8 times too wide. The masses
    differ, stiffness and mass together make one frequency of them.
    """
    kT, stiffness = 1.3, torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0], dtype=torch.float64).repeat(2)
    masses = stiffness / 4
    integrator = HybridMonteCarlo(0.8, 4, kT, jitter=0.1, refreshment=refreshment, masses=masses)
    system = AnalyticSystem(10, lambda q: 0.5 * (stiffness * q.square()).sum(-1), start=0.1)
    simulation = Simulation(system, integrator, walkers=2000, seed=5, precision="double")

    def measure(state):
        q, v = state.positions, state.velocities
        return [
            (stiffness * q.square()).mean(1),
            (masses * v.square()).mean(1),
            2 * state.integrator_state["kinetic_energy"] / 10,
            kT + ((masses * stiffness).sqrt() * q * v).mean(1),
        ]

    check(walker_means(simulation, measure, burn=100, samples=40, apart=4), [kT] * 4)
    print("acceptance", acceptance(simulation))
    assert 0.2 < acceptance(simulation) < 0.8
    assert simulation.state.step == 260
    assert integrator.time_step == pytest.approx(3.2)


@pytest.mark.slow
@pytest.mark.parametrize("refreshment", [1.0, 0.5])
def test_hmc_is_exact_on_a_coupled_double_well(refreshment):
    """Two coordinates, barrier 2 kT; 4000 walkers x 20 samples, against quadrature."""
    well, kT = DoubleWell(2.0, 1.0, 0.5), 1.0
    x = torch.linspace(-3, 3, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(x, x)
    weight = torch.exp(-well(grid) / kT)
    weight /= weight.sum()
    exact = [float((weight * f).sum()) for f in (grid.square().mean(1), grid.prod(1), well(grid))]
    integrator = HybridMonteCarlo(0.3, 5, kT, refreshment=refreshment)
    simulation = Simulation(
        AnalyticSystem(2, well, start=0.9), integrator, walkers=4000, seed=6, precision="double"
    )  # fmt: skip
    measure = lambda state: [state.positions.square().mean(1), state.positions.prod(1), state.energy]  # noqa: E731
    check(walker_means(simulation, measure, burn=80, samples=20, apart=5), exact)
    print("acceptance", acceptance(simulation))
    assert acceptance(simulation) < 0.85


def test_hmc_needs_the_reversal_after_a_rejection():
    """The tests of partial refreshment have power: without the reversal the law is off by many errors."""

    class Careless(HybridMonteCarlo):
        def step(self, state, force_field):
            before = state.integrator_state["accepted"].clone()
            state = super().step(state, force_field)
            rejected = state.integrator_state["accepted"] == before
            state.velocities[rejected] *= -1
            return state

    system = AnalyticSystem(10, Harmonic(4.0), start=0.1)
    found = []
    for kind in (HybridMonteCarlo, Careless):
        integrator = kind(0.8, 4, jitter=0.1, refreshment=0.3)
        simulation = Simulation(system, integrator, walkers=2000, seed=5, precision="double")
        values = walker_means(simulation, lambda s: [s.positions.square().mean(1)], burn=60, samples=20, apart=4)
        found.append(abs(values.mean() - 0.25) / (values.std() / math.sqrt(2000)))
    print(found)
    assert found[0] < 5
    assert found[1] > 20


def test_free_hmc_particles_are_uniform_in_a_reflecting_box():
    """Each trajectory crosses the box several times, some steps too; nothing is rejected where H is constant."""
    simulation = Simulation(
        AnalyticSystem(5, box=Box(lower=-1.0, upper=1.0), start=0.6), HybridMonteCarlo(1.5, 3), walkers=2000, seed=7,
        precision="double",
    )  # fmt: skip
    measure = lambda state: [(state.positions + 1).mean(1), *(state.positions.pow(p).mean(1) for p in (2, 4, 8))]  # noqa: E731
    check(walker_means(simulation, measure, burn=10, samples=20, apart=1), [1.0, 1 / 3, 1 / 5, 1 / 9])
    assert acceptance(simulation) == 1


@pytest.mark.parametrize("refreshment", [1.0, 0.3])
def test_hmc_is_exact_in_a_reflecting_box_with_a_potential(refreshment):
    """exp(-q^2 / 2) on [-0.5, 1]: mirrors at two different forces; 2000 walkers x 6 coordinates x 20 samples."""
    simulation = Simulation(
        AnalyticSystem(6, Harmonic(), box=Box(lower=-0.5, upper=1.0), start=0.0),
        HybridMonteCarlo(1.3, 3, refreshment=refreshment),
        walkers=2000,
        seed=8,
        precision="double",
    )
    integral = lambda p: scipy.integrate.quad(lambda q: q**p * math.exp(-q * q / 2), -0.5, 1.0)[0]  # noqa: E731
    exact = [integral(p) / integral(0) for p in (1, 2, 4)]
    measure = lambda state: [state.positions.pow(p).mean(1) for p in (1, 2, 4)]  # noqa: E731
    check(walker_means(simulation, measure, burn=40, samples=20, apart=3), exact)
    print("acceptance", acceptance(simulation))
    assert 0.2 < acceptance(simulation) < 0.8


def test_hmc_is_exact_in_a_periodic_box():
    kT = 0.8
    simulation = Simulation(
        AnalyticSystem(10, Pendulum(), box=CIRCLE, start=0.0), HybridMonteCarlo(1.2, 4, kT), walkers=2000, seed=9,
        precision="double",
    )  # fmt: skip
    values = walker_means(
        simulation, lambda state: [torch.cos(state.positions).mean(1)], burn=100, samples=60, apart=3
    )  # fmt: skip
    check(values, [Pendulum.mean_cosine(kT)])
    print("acceptance", acceptance(simulation))
    assert 0.1 < acceptance(simulation) < 0.8


def test_a_nan_is_never_accepted():
    """U = q^2 / 2 for q < 0.5 and NaN beyond: a wall by rejection, and only for the walkers concerned."""
    system = AnalyticSystem(1, lambda q: torch.where(q < 0.5, q.square() / 2, torch.nan).sum(-1), start=0.0)
    simulation = Simulation(system, HybridMonteCarlo(0.7, 3), walkers=5000, seed=10, precision="double")
    integral = lambda p: scipy.integrate.quad(lambda q: q**p * math.exp(-q * q / 2), -9, 0.5)[0]  # noqa: E731
    measure = lambda state: [state.positions[:, 0], state.positions[:, 0].square()]  # noqa: E731
    values = walker_means(simulation, measure, burn=40, samples=20, apart=4)
    check(values, [integral(p) / integral(0) for p in (1, 2)])
    assert float(simulation.state.positions.max()) < 0.5
    # what overflows is rejected as well, and nothing is lost
    wild = Simulation(AnalyticSystem(2, DoubleWell(), start=1.1), HybridMonteCarlo(1e3, 30), walkers=3).advance(5)
    assert acceptance(wild) == 0
    assert bool((wild.state.positions == 1.1).all())


# ---------------------------------------------------------------- hybrid Monte Carlo: the trajectory and the biases


@pytest.mark.parametrize("box", [None, Box(1.0), Box(1.0, kind="periodic")], ids=["open", "reflecting", "periodic"])
def test_a_trajectory_is_velocity_verlet(box):
    """From the end of an accepted one, with the velocity reversed, Verlet leads back to the start."""
    masses = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    system = AnalyticSystem(3, lambda q: torch.cos(math.pi * q).sum(-1), box=box, start=0.4)
    there = Simulation(
        system, HybridMonteCarlo(0.05, 40, jitter=0.0, masses=masses), walkers=5, seed=11, precision="double"
    ).advance(1)
    assert int(there.state.integrator_state["accepted"].sum()) >= 4
    start = torch.where(there.state.integrator_state["accepted"][:, None] > 0, 0.4, there.state.positions)
    back = Simulation(system, VelocityVerlet(0.05, masses=masses), walkers=5, precision="double")
    back.state.positions.copy_(there.state.positions)
    back.state.velocities.copy_(there.state.velocities).neg_()
    back.state.forces.copy_(there.state.forces)
    back.advance(40)
    accepted = there.state.integrator_state["accepted"] > 0
    assert float((there.state.positions[accepted] - 0.4).abs().min()) > 1e-3  # it went somewhere
    assert float((back.state.positions - start)[accepted].abs().max()) < 1e-11


def test_time_steps_are_uniform_within_the_jitter_and_differ_between_walkers():
    """Free particles: |q' - q| / |v| is the duration. 3000 values x 4: mean and variance of a uniform number."""
    simulation = Simulation(
        AnalyticSystem(1, start=0.0), HybridMonteCarlo(0.5, 3, jitter=0.4), walkers=3000, seed=12, precision="double"
    )
    durations = []
    for _ in range(4):
        q = simulation.state.positions.clone()
        simulation.advance(1)
        durations.append(((simulation.state.positions - q) / simulation.state.velocities)[:, 0] / 1.5)
    found = torch.stack(durations)
    assert float(found.min()) > 0.6 - 1e-9
    assert float(found.max()) < 1.4 + 1e-9
    check(torch.stack((found.mean(0), (found - 1).square().mean(0))).numpy(), [1.0, 0.4**2 / 3])


class CountingForceField(ForceField):
    calls = 0

    def __call__(self, positions, step):
        self.calls += 1
        return super().__call__(positions, step)


@pytest.mark.parametrize(("biases", "evaluations"), [((), 7), ((Wall(cv.WeightNorm(), upper=0.5, strength=2.0),), 8)])
def test_gradients_and_bookkeeping_of_a_trajectory(biases, evaluations):
    system = AnalyticSystem(2, Harmonic(), start=0.5)
    system.prepare(Precision.named("double"), torch.device("cpu"))
    field, integrator = CountingForceField(system, biases), HybridMonteCarlo(0.7, 7)
    positions = torch.full((50, 2), 0.5, dtype=torch.float64)
    state = integrator.init(positions, field, torch.Generator().manual_seed(0))
    for step in range(1, 11):
        state = integrator.step(state, field)
        assert state.step == step
        fresh = ForceField(system, biases)(state.positions, step)
        for name, value in fresh._asdict().items():
            np.testing.assert_allclose(getattr(state, name), value, rtol=1e-13, err_msg=name)
    assert field.calls == 1 + 10 * evaluations
    accepted = state.integrator_state["accepted"]
    assert accepted.shape == (50,)
    assert 0 < int(accepted.sum()) < 500


def test_acceptance_is_observed():
    simulation = Simulation(
        AnalyticSystem(2, Harmonic(), start=0.5), HybridMonteCarlo(1.0, 5), observe=[Acceptance()], walkers=4, every=10
    ).advance(30)
    recorded = simulation.history["acceptance"]
    np.testing.assert_allclose(recorded[-1], simulation.state.integrator_state["accepted"] / 30)


class SpyBias(Bias):
    """Grows by a slope at each update; keeps at which step it was asked and how many updates it had had by then."""

    name = "spy"

    def __init__(self):
        self.cvs, self.updates, self.asked = (cv.WeightNorm(),), 0, []

    def energy(self, s, step):
        self.asked.append((step, self.updates))
        return self.updates * s[:, 0]

    def update(self, s, step, mask=None):
        self.updates += 1


def test_biases_stand_still_along_a_trajectory():
    """And the energies that a trajectory is judged by are all of the bias as it is at that trajectory."""
    bias = SpyBias()
    simulation = Simulation(AnalyticSystem(2, start=0.3), HybridMonteCarlo(0.3, 6), bias=bias, walkers=3).advance(5)
    assert bias.updates == 5
    assert set(bias.asked) == {(0, 0), *((step, step - 1) for step in range(1, 6))}
    np.testing.assert_allclose(simulation.state.bias_energy, 4 * simulation.state.cvs[:, 0], rtol=1e-12)


@pytest.mark.slow
def test_hmc_samples_a_frozen_bias_and_stays_on_its_grid():
    """With V = S the CV is uniform on the grid: three dimensions, S(ln E) = 1.5 ln E, no wall; 2000 walkers x 10.

    The spline of a linear function is exact but in the two bins at an edge, where the CV density is compared too:
    its exact value there is exp(S - V), by quadrature.
    """
    system, grid, bias = wang_landau(3, RampHoldInverseTime(1.0, 0, 1))
    bias.potential = torch.from_numpy(1.5 * grid.centers())
    bias.frozen = True
    x = np.linspace(-4.0, -0.8, 3201)
    weight = np.exp(1.5 * x - grid.evaluate(bias.potential, torch.from_numpy(x)[:, None])[0].numpy())
    exact = [np.trapezoid(weight * f, x) / np.trapezoid(weight, x) for f in (x, (x + 2.4) ** 2, (x + 2.4) ** 4)]
    simulation = Simulation(
        system, HybridMonteCarlo(0.12, 5), bias=bias, walkers=2000, seed=13, precision="double"
    )  # fmt: skip
    measure = lambda state: [state.cvs[:, 0], *((state.cvs[:, 0] + 2.4) ** p for p in (2, 4))]  # noqa: E731
    check(walker_means(simulation, measure, burn=150, samples=10, apart=15), exact)
    print("acceptance", acceptance(simulation))
    assert acceptance(simulation) < 0.95
    assert bool(bias.allows(simulation.state.cvs).all())


def wang_landau(n, schedule):
    """U = 0 in a box that holds the sphere of the grid's upper edge, ln E = -0.8: S(ln E) = (n / 2) ln E."""
    grid = Grid(-4.0, -0.8, spacing=0.1)
    bias = WangLandau(cv.LogEnergy(Harmonic()), grid, schedule)
    return AnalyticSystem(n, box=Box(1.0), start=0.4), grid, bias


@pytest.mark.slow
def test_wang_landau_hybrid_monte_carlo_finds_the_entropy():
    """S = 1.5 ln E over 3 units of ln E, from zero bias and one point, 8 (reduced: 4) runs of 200 walkers."""
    maximum, trajectories, runs = 0.003, 500, []
    for seed in few(range(8)):
        hold = 0.3 * trajectories * 200
        system, grid, bias = wang_landau(3, RampHoldInverseTime(maximum, 0, hold, max(0.0, hold - 2 * 32 / maximum)))
        simulation = Simulation(
            system, HybridMonteCarlo(0.12, 4), bias=bias, walkers=200, seed=seed, precision="double", every=10**9
        ).advance(trajectories)
        assert bias.outside == 0
        assert bias.increment < maximum / 4
        assert bias.deposits == 200 * trajectories
        runs.append(grid.on_nodes(bias.potential).numpy()[1:-1])
    S, expected = np.array(runs), 1.5 * grid.centers()[1:-1]
    S -= S.mean(1, keepdims=True)
    expected = expected - expected.mean()
    error = np.full_like(expected, math.sqrt(S.var(0, ddof=1).mean() / len(S)))  # of so few runs: nodes share it
    deviation = S.mean(0) - expected
    print("range", np.ptp(expected), "max deviation", np.abs(deviation).max(), "error", error[0])
    print("acceptance", acceptance(simulation))
    assert error[0] < 0.02 * np.ptp(expected)
    assert (np.abs(deviation) < 5 * error).all(), deviation / error


# ---------------------------------------------------------------- resume, settings


def resumable(kind):
    bias = WangLandau(cv.LogEnergy(Harmonic()), Grid(-5.0, 2.0, 35), RampHoldInverseTime(0.1, 50, 100), kernel=0.5)
    masses = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    integrators = {
        "hmc": lambda: HybridMonteCarlo(0.2, 4, masses=masses),
        "hmc, partial": lambda: HybridMonteCarlo(0.2, 4, refreshment=0.3),
    }
    return Simulation(
        AnalyticSystem(3, DoubleWell(), box=Box(1.5), start=0.8), integrators[kind](), bias=bias, walkers=3, every=5,
        checkpoint_every=37, observe=[Acceptance()],
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hmc", "hmc, partial"])
def test_two_halves_equal_the_whole(tmp_path: Path, kind):
    whole = resumable(kind).run(74, output=tmp_path / "whole.zarr", progress=False)
    resumable(kind).run(37, output=tmp_path / "halves.zarr", progress=False)
    second = resumable(kind).run(74, output=tmp_path / "halves.zarr", resume=True, progress=False)
    assert_same_bits(second.state_dict(), whole.state_dict())
    assert arrays_of(tmp_path / "halves.zarr") == arrays_of(tmp_path / "whole.zarr")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HybridMonteCarlo(-0.1, 5), r"HybridMonteCarlo: dt = -0.1 must be a finite number above 0"),
        (lambda: HybridMonteCarlo(0.1, 0), r"HybridMonteCarlo: steps = 0 must be a whole number of at least 1"),
        (lambda: HybridMonteCarlo(0.1, 2.5), r"HybridMonteCarlo: steps = 2.5 must be a whole number"),
        (lambda: HybridMonteCarlo(0.1, 5, 0.0), r"HybridMonteCarlo: kT = 0 must be a finite number above 0"),
        (lambda: HybridMonteCarlo(0.1, 5, jitter=-0.1), r"HybridMonteCarlo: jitter = -0.1 must be .* at least 0"),
        (lambda: HybridMonteCarlo(0.1, 5, jitter=1.0), r"HybridMonteCarlo: jitter = 1 must be below 1, .*lower jitter"),
        (lambda: HybridMonteCarlo(0.1, 5, refreshment=0.0), r"HybridMonteCarlo: refreshment = 0 must be .* above 0"),
        (lambda: HybridMonteCarlo(0.1, 5, refreshment=1.1), r"HybridMonteCarlo: refreshment = 1.1 must be at most 1"),
        (lambda: HybridMonteCarlo(0.1, 5, masses=[1.0, -1.0]), r"HybridMonteCarlo: masses must be .* such as -1"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"3 masses for 2 parameters; give one for each"):
        Simulation(AnalyticSystem(2, start=0.0), HybridMonteCarlo(0.1, 5, masses=torch.ones(3)))
    system = AnalyticSystem(2, box=Lattice([-1, 1]))
    with pytest.raises(InputError, match=r"moves continuously, but the parameters live on a lattice; use MonteCarlo"):
        Simulation(system, HybridMonteCarlo(0.1, 5))

    class Step(CollectiveVariable):
        name, differentiable = "step", False

        def __call__(self, evaluation):
            return (evaluation.positions[:, 0] > 0).double()

    with pytest.raises(
        InputError, match=r"needs forces, but the CV 'step' of the bias 'wall_upper_step' has no gradient"
    ):
        Simulation(AnalyticSystem(2, start=0.0), HybridMonteCarlo(0.1, 5), bias=Wall(Step(), upper=2.0))


def test_every_precision():
    for precision in ("single", "mixed", "double"):
        make = HybridMonteCarlo(0.3, 3, masses=torch.ones(3))
        simulation = Simulation(
            AnalyticSystem(3, Harmonic(), box=Box(1.0), start=0.2), make, walkers=2, precision=precision
        ).advance(20)
        state = simulation.state
        kinds = {value.dtype for value in (state.positions, state.velocities, state.forces)}
        assert kinds == {Precision.named(precision).state}
