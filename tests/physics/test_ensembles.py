"""A coupled anharmonic system: every sampler against quadrature, and the ensemble with physical_validation.

The system is a chain of double wells with springs between neighbours. It is here that one Nose-Hoover chain for all
parameters is tested, since it is not ergodic on harmonic and on free systems (see `test_nose_hoover`, which shows it);
massive chains are tested on both.

Statistics: walkers are independent; standard errors are those over the walkers' own means over time, so they account
for autocorrelation. What physical_validation is given are frames far enough apart to be independent.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from conftest import few, statistics_scale
from physical_validation import ensemble, kinetic_energy
from physical_validation.data import EnsembleData, ObservableData, SimulationData, SystemData, UnitData

from nnsim import Integrator, Simulation
from nnsim.integrators import Acceptance, Brownian, HybridMonteCarlo, Langevin, MonteCarlo, NoseHoover
from nnsim.systems import AnalyticSystem, DoubleWell

# ---------------------------------------------------------------- averages, extrapolated to a time step of zero

SCALE = statistics_scale(0.25)


def turns(names: Iterable[str], two: tuple[Any, Any]) -> list[tuple[str, Any]]:
    """Each name with both, so that every second pair has all names, and each of the two about as often."""
    return [(name, one) for place, name in enumerate(names) for one in (two if place % 2 else two[::-1])]


PAIR, PAIR_KT = DoubleWell(barrier=1.5, coupling=2.0), 0.9


def observables(q: torch.Tensor) -> torch.Tensor:
    """q_0 q_1, |q|^2 and U at q [W, 2]: [3, W]."""
    return torch.stack((q[:, 0] * q[:, 1], q.square().sum(1), PAIR(q)))


def quadrature() -> np.ndarray:
    line = torch.linspace(-3, 3, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    return (observables(grid) @ torch.softmax(-PAIR(grid) / PAIR_KT, 0)).numpy()


@dataclass(frozen=True)
class Dynamics:
    """An integrator of a time step, the order of its stationary law, and a step whose error is seen and is small."""

    make: Callable[[float], Integrator]
    order: int
    dt: float
    seen: bool = True


def langevin(splitting: str, order: int, dt: float, friction: float = 1.0, seen: bool = True) -> Dynamics:
    return Dynamics(lambda h: Langevin(h, friction, PAIR_KT, splitting), order, dt, seen)


DYNAMICS = {
    "langevin BAOAB": langevin("BAOAB", 2, 0.2, seen=False),  # a small error, for which it was made
    "langevin OBABO": langevin("OBABO", 2, 0.2),
    "langevin BOA": langevin("BOA", 1, 0.03, friction=4.0),
    "brownian leimkuhler-matthews": Dynamics(lambda h: Brownian(h, 1.0, PAIR_KT), 2, 0.05, seen=False),
    "brownian euler-maruyama": Dynamics(lambda h: Brownian(h, 1.0, PAIR_KT, "euler-maruyama"), 1, 0.016),
    "nose-hoover": Dynamics(lambda h: NoseHoover(h, 0.7, PAIR_KT), 2, 0.16),
    "nose-hoover massive": Dynamics(lambda h: NoseHoover(h, 0.7, PAIR_KT, massive=True), 2, 0.2),
}
METROPOLIS = {
    "hybrid monte carlo": HybridMonteCarlo(0.45, 3, PAIR_KT),
    "hybrid monte carlo, partial refreshment": HybridMonteCarlo(0.45, 3, PAIR_KT, refreshment=0.4),
    "monte carlo one": MonteCarlo(2.0, kT=PAIR_KT),
    "monte carlo all": MonteCarlo(1.2, kT=PAIR_KT, move="all"),
}


def pair(integrator: Integrator, walkers: int, seed: int) -> Simulation:
    """Walkers that start in all four combinations of wells alike."""
    start = torch.cartesian_prod(torch.tensor([-1.0, 1.0]), torch.tensor([-1.0, 1.0])).repeat(walkers // 4, 1)
    return Simulation(
        AnalyticSystem(2, PAIR, start=start), integrator, walkers=walkers, seed=seed, precision="double", every=10**9
    )


def averages(running: Simulation, burn: int, apart: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Means [3] and their standard errors [3]."""
    running.advance(burn)
    total = torch.zeros(3, running.walkers, dtype=torch.float64)
    for _ in range(samples):
        running.advance(apart)
        total += observables(running.state.positions)
    each = (total / samples).numpy()
    return each.mean(1), each.std(1, ddof=1) / math.sqrt(running.walkers)


@pytest.mark.slow
@pytest.mark.parametrize("name", DYNAMICS)
def test_averages_at_the_order_of_the_method(name):
    """With the errors c dt^p at dt and c (dt/2)^p at half of it, (2^p a(dt/2) - a(dt)) / (2^p - 1) has none.

    12 000 walkers in full, for 10 units of time to forget the start, and 12 samples 1.5 units apart.
    """
    case, walkers, found = DYNAMICS[name], int(12_000 * SCALE), []
    for dt in (case.dt, case.dt / 2):
        steps = math.ceil(1.5 / dt)
        found.append(averages(pair(case.make(dt), walkers, seed=3), 7 * steps, steps, 12))
    (coarse, coarse_error), (fine, fine_error) = found
    factor, exact = 2.0**case.order, quadrature()
    mean = (factor * fine - coarse) / (factor - 1)
    error = np.hypot(factor * fine_error, coarse_error) / (factor - 1)
    print(name, "in %:", *((100 * a / exact).round(2) for a in (coarse - exact, fine - exact, mean - exact, error)))
    assert (error < 0.02 * np.abs(exact)).all()
    assert (np.abs(mean - exact) < 4.5 * error).all()
    if case.seen:
        assert (np.abs(coarse - exact) / coarse_error).max() > 8


@pytest.mark.slow
@pytest.mark.parametrize("name", METROPOLIS)
def test_metropolis_methods_are_exact_at_a_large_step(name):
    """4000 walkers x 20 samples."""
    running = pair(METROPOLIS[name], 4000, seed=4)
    mean, error = averages(running, 100, 12, 20)
    exact, acceptance = quadrature(), float(Acceptance().observe(running.state, torch.empty(0)).mean())
    print(name, "in %:", (100 * (mean - exact) / exact).round(2), (100 * error / exact).round(2), acceptance)
    assert (error < 0.02 * np.abs(exact)).all()
    assert (np.abs(mean - exact) < 4.5 * error).all()
    assert 0.2 < acceptance < 0.8


# ---------------------------------------------------------------- physical_validation

N, CHAIN, WALKERS = 8, DoubleWell(barrier=1.0, coupling=1.0), int(6000 * SCALE)
COLD, HOT = 1.0, 1.7

# The steps are short, so that their error is far below the 1 % that the samples resolve.
THERMOSTATS: dict[str, tuple[Callable[[float], Integrator], int]] = {
    "langevin BAOAB": (lambda kT: Langevin(0.06, 1.0, kT), 40),
    "langevin OBABO": (lambda kT: Langevin(0.06, 1.0, kT, "OBABO"), 40),
    "nose-hoover": (lambda kT: NoseHoover(0.06, 0.5, kT), 40),
    "nose-hoover massive": (lambda kT: NoseHoover(0.06, 0.5, kT, massive=True), 40),
    "hybrid monte carlo": (lambda kT: HybridMonteCarlo(0.35, 4, kT), 4),
}
UNITS = UnitData(
    kb=1.0, energy_conversion=1.0, length_conversion=1.0, volume_conversion=1.0, temperature_conversion=1.0,
    pressure_conversion=1.0, time_conversion=1.0,
)  # fmt: skip


@cache
def frames(name: str, kT: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kinetic energy where the integrator takes it, kinetic and potential energy at the end of a step; [T W] each."""
    make, apart = THERMOSTATS[name]
    start = 2.0 * torch.randint(2, (WALKERS, N), generator=torch.Generator().manual_seed(1)) - 1  # wells at random
    running = Simulation(
        AnalyticSystem(N, CHAIN, start=start), make(kT), walkers=WALKERS, seed=5, precision="double", every=10**9
    ).advance(6 * apart)
    taken = []
    for _ in range(10):
        running.advance(apart)
        state = running.state
        end = 0.5 * state.velocities.square().sum(1)
        taken.append(torch.stack((state.integrator_state["kinetic_energy"], end, state.energy)))
    kinetic, end, potential = torch.cat(taken, dim=1).numpy()
    return kinetic, end, potential


def record(name: str, kT: float, stated: float | None = None, kinetic: int = 0) -> SimulationData:
    """The frames of a run at kT, stated to be at another temperature perhaps."""
    values = frames(name, kT)
    # a particle has three degrees of freedom for physical_validation, and a parameter of nnsim one
    system = SystemData(natoms=N, nconstraints=2 * N, ndof_reduction_tra=0, ndof_reduction_rot=0)
    energies = ObservableData(
        kinetic_energy=values[kinetic], potential_energy=values[2], total_energy=values[kinetic] + values[2]
    )
    state_point = EnsembleData("NVT", natoms=N, volume=1.0, temperature=stated or kT)
    return SimulationData(units=UNITS, dt=1.0, system=system, ensemble=state_point, observables=energies)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kT"), few(turns(THERMOSTATS, (COLD, HOT))))
def test_kinetic_energies_have_the_maxwell_boltzmann_distribution(name, kT):
    """Kolmogorov-Smirnov on 10 frames of each walker: p of 5e-5 is that of 4 standard errors; 10 % in kT are found out.

    Of Langevin dynamics after the last O, where the velocities have no error of the time step on a harmonic well.
    """
    p, wrong = (
        kinetic_energy.distribution(one, strict=True, verbosity=0, data_is_uncorrelated=True)
        for one in (record(name, kT), record(name, kT, 1.1 * kT))
    )
    values = frames(name, kT)[0].reshape(-1, WALKERS).mean(axis=0)
    mean, error = values.mean(), values.std(ddof=1) / math.sqrt(WALKERS)
    print(name, kT, "p", p, "wrong", wrong, "mean", mean / (N * kT / 2), "+-", error / (N * kT / 2))
    assert error < 0.02 * N * kT / 2
    assert abs(mean - N * kT / 2) < 4.5 * error
    assert p > 5e-5
    assert wrong < 1e-7


@pytest.fixture
def whole_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """physical_validation calls functions that take arrays once for each number; overflows raise in either way."""
    monkeypatch.setattr(np, "vectorize", lambda function: function)


@pytest.mark.slow
@pytest.mark.usefixtures("whole_arrays")
@pytest.mark.parametrize(("name", "energy"), few(turns(THERMOSTATS, ("potential", "total"))))
def test_ensembles_at_two_temperatures_have_the_right_ratio(name, energy):
    """ln(P_hot(E) / P_cold(E)) is linear in E with the slope 1 / kT_cold - 1 / kT_hot, to 4.5 of its standard errors.

    A slope that is 9 % off, from both temperatures stated 10 % too high or too low, is found out by more than 7 in
    full, which is to say that the standard error is below 1.3 % of the slope (in reduced form 3.5 and 2.6 %). The total
    energy is that of the end of a step, where both parts belong together.
    """

    def quantiles(factor: float) -> float:
        cold, hot = (record(name, kT, factor * kT, kinetic=1) for kT in (COLD, HOT))
        (found,) = ensemble.check(cold, hot, energy == "total", verbosity=0, data_is_uncorrelated=True)
        return found

    right, wrong = quantiles(1.0), 0.5 * (quantiles(1.1) + quantiles(1 / 1.1))  # chance adds to one as it takes off one
    print(name, energy, "standard errors off:", right, "stated 10 % wrong:", wrong)
    assert right < 4.5
    assert wrong > 7 * math.sqrt(SCALE)


@pytest.mark.slow
def test_the_two_temperatures_are_well_chosen():
    """The rule of thumb of physical_validation: they differ by about 2 kT^2 / (standard deviation of the energy)."""
    for total in (False, True):
        best = ensemble.estimate_interval(record("langevin BAOAB", COLD, kinetic=1), 0, total, True)["dT"]
        assert 0.2 < (HOT - COLD) / best < 2
