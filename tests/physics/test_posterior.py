"""The posterior of a linear network: every sampler against the exact law of its own time step.

One linear layer with two inputs, squared loss and a Gaussian prior: U = (q - mu)^T K (q - mu) / 2 + const in the three
parameters, so that exp(-U / kT) has mean mu and covariance kT K^-1, and the law of a linear dynamics with a finite time
step is known too. The parameters are correlated and have different masses.

Statistics: walkers are independent, and every standard error is that of the mean over walkers of each walker's own mean
over time, so it accounts for autocorrelation. All start from a normal distribution about the origin, 4 times as wide
as the posterior.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import few
from scipy.linalg import solve_discrete_lyapunov

from nnsim import Integrator, Simulation
from nnsim.integrators import Acceptance, Brownian, HybridMonteCarlo, Langevin, MonteCarlo, NoseHoover
from nnsim.systems import GaussianPrior, LossPotential, NeuralNetwork
from nnsim.systems.modules import mlp

kT, FRICTION = 0.7, 2.0
MASSES = np.array([0.5, 1.0, 2.0])
BETA, PRIOR, POINTS = 4.0, 1.0, 24


def data() -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 2] whose coordinates are correlated and not centred, and noisy values [N] of a linear function."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=(POINTS, 2)) @ np.array([[0.7, 0.55], [0.0, 0.6]]) + np.array([0.5, -0.45])
    return x, x @ np.array([1.2, -0.9]) + 0.8 + 0.3 * generator.normal(size=POINTS)


def network() -> NeuralNetwork:
    x, y = (torch.from_numpy(values) for values in data())
    potential = LossPotential(BETA) + GaussianPrior(PRIOR)
    return NeuralNetwork(mlp((2, 1)), (x, y), loss="mse", potential=potential, initial="normal", initial_scale=1.5)


def posterior() -> tuple[np.ndarray, np.ndarray]:
    """mu and K."""
    x, y = data()
    design = np.column_stack((x, np.ones(POINTS)))
    K = 2 * BETA * design.T @ design / POINTS + np.eye(3) / PRIOR**2
    return np.linalg.solve(K, 2 * BETA * design.T @ y / POINTS), K


MU, K = posterior()
CONTINUOUS = kT * np.linalg.inv(K)

# ---------------------------------------------------------------- stationary laws at a finite time step

Law = tuple[np.ndarray, np.ndarray | None]  # covariance of q [3, 3], and the variances of v [3] where there are any


def langevin(splitting: str, dt: float) -> Law:
    """(q, v) <- M (q, v) + noise of covariance N, letter by letter; C = M C M^T + N."""
    one, zero = np.eye(3), np.zeros((3, 3))
    M, N = np.eye(6), np.zeros((6, 6))
    for letter in splitting:
        h = dt / splitting.count(letter)
        c = math.exp(-FRICTION * h)
        step = {
            "A": np.block([[one, h * one], [zero, one]]),
            "B": np.block([[one, zero], [-h * K / MASSES[:, None], one]]),
            "O": np.block([[one, zero], [zero, c * one]]),
        }[letter]
        noise = (1 - c * c) * kT / MASSES * (letter == "O")
        M, N = step @ M, step @ N @ step.T + np.diag([0, 0, 0, *noise])
    C = solve_discrete_lyapunov(M, N)
    return C[:3, :3], np.diag(C)[3:]


def brownian(scheme: str, dt: float) -> Law:
    """q' = (1 - D K) q + noise, D = dt / (m friction); with Leimkuhler-Matthews the state holds the noise too."""
    one, zero, D = np.eye(3), np.zeros((3, 3)), np.diag(dt / (FRICTION * MASSES))
    if scheme == "euler-maruyama":
        return solve_discrete_lyapunov(one - D @ K, 2 * kT * D), None
    b = np.sqrt(kT * D / 2)
    M = np.block([[one - D @ K, b], [zero, zero]])  # of (q, xi); xi' enters q' and is kept
    return solve_discrete_lyapunov(M, np.block([[b @ b, b], [b, one]]))[:3, :3], None


def nose_hoover(dt: float) -> Law:
    """Verlet conserves m v^2 / 2 + q^T (K - dt^2 K m^-1 K / 4) q / 2 of a linear system, exactly, and keeps volume.

    The thermostats keep exp(-m v^2 / 2 kT) and leave q alone, up to (dt / 10 tau)^4 of their factorisation. So the law
    is that of the conserved form, and the one that an ergodic dynamics has.
    """
    return kT * np.linalg.inv(K - dt**2 / 4 * (K / MASSES) @ K), kT / MASSES


def exact(dt: float) -> Law:
    """Metropolis' rule leaves no error of the step."""
    return CONTINUOUS, None


# ---------------------------------------------------------------- cases


@dataclass(frozen=True)
class Case:
    """A sampler, its law at a time step, and how long it takes to forget."""

    make: Callable[[float], Integrator]
    law: Callable[[float], Law]
    dt: float
    burn: int  # steps until the start is forgotten
    apart: int  # steps from sample to sample
    samples: int = 10
    walkers: int = 5000
    platform: str = "reference"


def langevin_case(splitting: str, dt: float = 0.35) -> Case:
    make = lambda h: Langevin(h, FRICTION, kT, splitting, masses=torch.from_numpy(MASSES))  # noqa: E731
    return Case(make, lambda h: langevin(splitting, h), dt, burn=60, apart=8)


def brownian_case(scheme: str, dt: float) -> Case:
    make = lambda h: Brownian(h, FRICTION, kT, scheme, masses=torch.from_numpy(MASSES))  # noqa: E731
    return Case(make, lambda h: brownian(scheme, h), dt, burn=60, apart=8)


def nose_hoover_case(dt: float, burn: int, apart: int) -> Case:
    make = lambda h: NoseHoover(h, 0.7, kT, massive=True, masses=torch.from_numpy(MASSES))  # noqa: E731
    return Case(make, nose_hoover, dt, burn, apart)


def hybrid_case(refreshment: float) -> Case:
    def make(h: float) -> Integrator:
        return HybridMonteCarlo(h, 3, kT, jitter=0.1, refreshment=refreshment, masses=torch.from_numpy(MASSES))

    return Case(make, exact, 0.42, burn=60, apart=6)


def monte_carlo_case(move: str, platform: str = "reference", step: float = 1.5) -> Case:
    return Case(
        lambda h: MonteCarlo(h, kT=kT, move=move), exact, step, burn=300, apart=40, samples=20, platform=platform
    )


CASES = {
    "langevin BAOAB": langevin_case("BAOAB"),
    "langevin OBABO": langevin_case("OBABO"),
    "langevin BOA": langevin_case("BOA"),
    "brownian leimkuhler-matthews": brownian_case("leimkuhler-matthews", 0.15),
    "brownian euler-maruyama": brownian_case("euler-maruyama", 0.05),
    "nose-hoover massive, short step": nose_hoover_case(0.1, burn=200, apart=20),
    "nose-hoover massive, long step": nose_hoover_case(0.3, burn=80, apart=8),
    "hybrid monte carlo": hybrid_case(1.0),
    "hybrid monte carlo, partial refreshment": hybrid_case(0.5),
    "monte carlo one": monte_carlo_case("one"),
    "monte carlo all": monte_carlo_case("all", step=0.8),
    "monte carlo one, native": monte_carlo_case("one", "native"),
}
METROPOLIS = [name for name in CASES if "monte carlo" in name]
PAIRS = np.triu_indices(3)


def moments(case: Case, simulation: Simulation) -> np.ndarray:
    """Means over time of q - mu, its products, and v^2, for each walker: [Q, W]."""
    simulation.advance(case.burn)
    total = np.zeros((12, case.walkers))
    for _ in range(case.samples):
        simulation.advance(case.apart)
        q, v = simulation.state.positions.numpy().T - MU[:, None], simulation.state.velocities.numpy().T
        total += np.concatenate((q, q[PAIRS[0]] * q[PAIRS[1]], v * v))
    return total / case.samples


@pytest.mark.slow
@pytest.mark.parametrize("name", few(CASES))
def test_law_of_the_time_step(name):
    """Mean and covariance, and the variances of velocities, to 2 % of each value or better, within 5 errors."""
    case = CASES[name]
    simulation = Simulation(
        network(), case.make(case.dt), walkers=case.walkers, seed=7, precision="double", platform=case.platform,
        every=10**9,
    )  # fmt: skip
    values = moments(case, simulation)
    C, velocities = case.law(case.dt)
    expected = np.concatenate((MU, C[PAIRS], [] if velocities is None else velocities))
    values = values[: len(expected)]
    values[:3] += MU[:, None]
    mean, error = values.mean(1), values.std(1, ddof=1) / math.sqrt(case.walkers)
    deviation = (mean - expected) / error
    print(name, "errors in %", (100 * error / np.abs(expected)).round(2), "deviations", deviation.round(2))
    assert (error < 0.02 * np.abs(expected)).all()
    assert (np.abs(deviation) < 5).all()
    if name in METROPOLIS:  # large steps, of which many are rejected
        acceptance = float(Acceptance().observe(simulation.state, None).mean())
        print("acceptance", acceptance)
        assert 0.2 < acceptance < 0.8
    elif ORDERS[name] and "short" not in name:  # the error of the step is seen
        assert (np.abs(C - CONTINUOUS)[PAIRS] / error[3:9]).max() > 10


# of the covariance of q; None: no error at all in a linear system
ORDERS = {
    "langevin BAOAB": None,
    "langevin OBABO": 2,
    "langevin BOA": 1,
    "brownian leimkuhler-matthews": None,
    "brownian euler-maruyama": 1,
    "nose-hoover massive, short step": 2,
    "nose-hoover massive, long step": 2,
}


@pytest.mark.parametrize("name", ORDERS)
def test_the_law_becomes_the_posterior_at_the_order_of_the_method(name):
    """Of the exact laws, which the test above finds in the code."""
    steps = CASES[name].dt * 0.25 ** np.arange(1, 5)
    errors = [np.abs(CASES[name].law(dt)[0] - CONTINUOUS).max() / CONTINUOUS.max() for dt in steps]
    print(name, errors)
    if ORDERS[name] is None:
        assert max(errors) < 1e-10
    else:
        exponents = np.diff(np.log(errors)) / np.diff(np.log(steps))
        assert abs(exponents[-1] - ORDERS[name]) < 0.05


def test_the_posterior_is_that_of_the_network():
    """U of the system is the quadratic form, up to a constant."""
    system = network()
    simulation = Simulation(system, MonteCarlo(0.1), walkers=50, seed=1, precision="double", platform="reference")
    z = simulation.state.positions.numpy() - MU
    difference = simulation.state.energy.numpy() - 0.5 * np.einsum("wi,ij,wj->w", z, K, z)
    np.testing.assert_allclose(difference, difference[0], rtol=1e-11)
    assert np.abs(CONTINUOUS / np.sqrt(np.outer(np.diag(CONTINUOUS), np.diag(CONTINUOUS)))).min() > 0.3
