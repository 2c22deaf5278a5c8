"""Schedules of kT: the discrete dynamics under a ramp against its exact moments, and what every thermostat makes of it.

Statistics: walkers are independent, so every standard error is that of the mean over walkers. Each comparison asserts
that the error is below 2 % of the value, and that the deviation is below 5 errors.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import arrays_of
from conftest import statistics_scale
from exact_laws import assert_same_bits, check

from nnsim import Box, InputError, Simulation, cv
from nnsim.bias import Wall, WangLandau
from nnsim.describe import describe
from nnsim.grid.grid import Grid
from nnsim.integrators import Brownian, HybridMonteCarlo, Langevin, MonteCarlo, NoseHoover
from nnsim.platforms.reference import ReferencePlatform
from nnsim.running.progress import summary
from nnsim.schedules import ExponentialRamp, InverseTime, LinearRamp, temperature_at
from nnsim.systems import AnalyticSystem, Harmonic, spiral_classification

MAKE = {
    "Langevin": lambda kT: Langevin(0.2, 1.0, kT),
    "Brownian": lambda kT: Brownian(0.2, 1.0, kT),
    "NoseHoover": lambda kT: NoseHoover(0.1, 1.0, kT),
    "HybridMonteCarlo": lambda kT: HybridMonteCarlo(0.4, 3, kT),
    "MonteCarlo": lambda kT: MonteCarlo(0.5, kT=kT),
}


def quench(step):
    """2 up to step 100, and 1/2 from step 101 on."""
    return 2.0 if step <= 100 else 0.5


# ---------------------------------------------------------------- the ramps


def test_ramps():
    linear, exponential = LinearRamp(2.0, 0.5, steps=3), ExponentialRamp(2.0, 0.25, steps=3)
    np.testing.assert_allclose([linear(t) for t in range(6)], [2.0, 1.5, 1.0, 0.5, 0.5, 0.5], rtol=1e-15)
    np.testing.assert_allclose([exponential(t) for t in range(6)], [2.0, 1.0, 0.5, 0.25, 0.25, 0.25], rtol=1e-15)
    assert linear(10**9) == 0.5  # to the last bit
    assert LinearRamp(0.0, 1.0, 1)(0) == 0
    assert describe(MAKE["Langevin"](linear))["kT"] == {"type": "LinearRamp", "start": 2.0, "end": 0.5, "steps": 3}
    assert temperature_at(linear, 1) == 1.5
    assert temperature_at(0.7, 1) == 0.7


# ---------------------------------------------------------------- exact moments under a ramp


def brownian_variances(scheme, a, stiffness, kT, steps):
    """<q^2> after 1 ... steps from q = 0, with a = k dt / (m friction).

    Euler-Maruyama: q' = (1 - a) q + sqrt(2 a kT_t / k) xi_t. Leimkuhler-Matthews: q' = (1 - a) q + b_{t-1} xi_{t-1} +
    b_t xi_t with b_t^2 = a kT_t / (2 k); q holds b_{t-1} xi_{t-1} already, except at the start.
    """
    found, variance = [], 0.0
    for t in range(1, steps + 1):
        if scheme == "euler-maruyama":
            variance = (1 - a) ** 2 * variance + 2 * a * kT(t) / stiffness
        else:
            before, now = (a * kT(s) / (2 * stiffness) for s in (t - 1, t))
            shared = before if t > 1 else 0.0
            variance = (1 - a) ** 2 * variance + before + now + 2 * (1 - a) * shared
        found.append(variance)
    return found


@pytest.mark.parametrize(
    "ramp", [LinearRamp(2.0, 0.2, 12), ExponentialRamp(0.1, 3.0, 12), quench], ids=["linear", "exponential", "quench"]
)
@pytest.mark.parametrize("scheme", ["leimkuhler-matthews", "euler-maruyama"])
def test_brownian_variance_under_a_ramp(scheme, ramp):
    """10,000 walkers x 3 coordinates from one point, at several steps on the way and after the ramp."""
    k, m, friction = 4.0, 0.5, 2.0
    exact = brownian_variances(scheme, 0.3, k, ramp, 20)
    integrator = Brownian(0.3 * m * friction / k, friction, ramp, scheme, masses=m)
    simulation = Simulation(
        AnalyticSystem(3, Harmonic(k), start=0.0), integrator, walkers=10_000, seed=1, precision="double"
    )
    for t in (1, 2, 5, 9, 13, 20):
        simulation.advance(t - simulation.state.step)
        check(simulation.state.positions.square().mean(1)[None].numpy(), [exact[t - 1]])


def langevin_moments(splitting, dt, friction, stiffness, mass, kT, steps):
    """<(q, v) (q, v)^T> after each step, [steps, 2, 2], from q = 0 and velocities of kT(0)."""
    second, found = np.diag([0.0, kT(0) / mass]), []
    for t in range(1, steps + 1):
        for letter in splitting:
            h, M, noise = dt / splitting.count(letter), np.eye(2), 0.0
            if letter == "A":
                M[0, 1] = h
            elif letter == "B":
                M[1, 0] = -h * stiffness / mass
            else:
                M[1, 1] = math.exp(-friction * h)
                noise = (1 - M[1, 1] ** 2) * kT(t) / mass
            second = M @ second @ M.T
            second[1, 1] += noise
        found.append(second)
    return np.array(found)


@pytest.mark.parametrize("ramp", [LinearRamp(2.0, 0.2, 12), ExponentialRamp(0.1, 3.0, 12)], ids=str)
@pytest.mark.parametrize("splitting", ["BAOAB", "OBABO", "BOA"])
def test_langevin_moments_under_a_ramp(splitting, ramp):
    """10,000 walkers x 3 coordinates from one point: <q^2>, <v^2>, and <q v> in units of the two."""
    k, m, friction, dt = 4.0, 0.5, 3.0, 0.2
    exact = langevin_moments(splitting, dt, friction, k, m, ramp, 20)
    simulation = Simulation(
        AnalyticSystem(3, Harmonic(k), start=0.0), Langevin(dt, friction, ramp, splitting, masses=m), walkers=10_000,
        seed=2, precision="double",
    )  # fmt: skip
    for t in (1, 2, 5, 9, 13, 20):
        q, v = (
            getattr(simulation.advance(t - simulation.state.step).state, name) for name in ("positions", "velocities")
        )
        moments = exact[t - 1]
        expected = np.array([moments[0, 0], moments[1, 1], moments[0, 1]])
        scale = [moments[0, 0], moments[1, 1], math.sqrt(moments[0, 0] * moments[1, 1])]
        check(torch.stack([q.square().mean(1), v.square().mean(1), (q * v).mean(1)]).numpy(), expected, scale)


def test_free_velocities_are_an_ornstein_uhlenbeck_process():
    """<m v^2> relaxes to each kT(t) by the factor exp(-2 friction dt) a step; 10,000 walkers x 3 coordinates."""
    ramp, decay = LinearRamp(1.0, 4.0, 10), math.exp(-2 * 0.5 * 0.4)
    simulation = Simulation(
        AnalyticSystem(3, box=Box(1.0)),
        Langevin(0.4, 0.5, ramp, masses=2.0),
        walkers=10_000,
        seed=3,
        precision="double",
    )
    exact = ramp(0)
    for t in range(1, 15):
        exact = decay * exact + (1 - decay) * ramp(t)
        found = 2 * simulation.advance(1).state.velocities.square().mean(1)[None].numpy()
        check(found, [exact])
        np.testing.assert_allclose(simulation.kinetic_temperature(), found[0], rtol=1e-12)


# ---------------------------------------------------------------- every thermostat


@pytest.mark.slow
@pytest.mark.parametrize("name", ["HybridMonteCarlo", "MonteCarlo"])
def test_monte_carlo_samples_the_temperature_of_the_step(name):
    """Two coordinates, 4000 walkers x 10 samples 10 steps apart, up to step 100 and from step 300 on."""
    make = {
        "HybridMonteCarlo": lambda kT: HybridMonteCarlo(0.5, 3, kT),
        "MonteCarlo": lambda kT: MonteCarlo(2.0, kT=kT, move="all"),
    }[name]
    simulation = Simulation(
        AnalyticSystem(2, Harmonic(3.0), start=0.5), make(lambda t: 2.0 if t <= 200 else 0.5), walkers=4000, seed=4,
        precision="double",
    )  # fmt: skip
    for until, kT in ((200, 2.0), (400, 0.5)):
        simulation.advance(until - 90 - simulation.state.step)
        total = simulation.state.positions.square().mean(1)
        for _ in range(9):
            total = total + simulation.advance(10).state.positions.square().mean(1)
        assert simulation.state.step == until
        check(total[None].numpy() / 10, [kT / 3.0])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MAKE, "euler-maruyama"])
def test_a_step_uses_the_temperature_of_its_number(name):
    """A jump of the schedule after step 100 is a change of integrators there, to the last bit.

    But for Nose-Hoover, whose thermostats keep their inertia kT(0) tau^2, and for the noise of Leimkuhler-Matthews,
    whose next step still holds a noise of the old temperature.
    """
    make = {**MAKE, "euler-maruyama": lambda kT: Brownian(0.2, 1.0, kT, "euler-maruyama")}[name]
    system = AnalyticSystem(3, Harmonic(2.0), box=Box(5.0), start=0.3)
    jump = Simulation(system, make(quench), walkers=4, seed=5, precision="double").advance(150).state
    first = Simulation(system, make(2.0), walkers=4, seed=5, precision="double").advance(100)
    cold = NoseHoover(0.1, 2.0, 0.5) if name == "NoseHoover" else make(0.5)
    second = Simulation(system, cold, walkers=4, precision="double")
    second.state.load_state_dict(first.state.state_dict())
    if name == "Brownian":
        second.state.integrator_state["noise"] *= 2.0  # sqrt(2 / 0.5)
    state = second.advance(50).state
    tolerance = 1e-12 if name in ("NoseHoover", "Brownian") else 0.0
    torch.testing.assert_close(jump.positions, state.positions, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(jump.velocities, state.velocities, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", MAKE)
def test_a_constant_schedule_is_a_number(name):
    system = AnalyticSystem(3, Harmonic(2.0), start=0.3)
    one, other = (
        Simulation(system, MAKE[name](kT), walkers=4, seed=6).advance(50).state.state_dict()
        for kT in (0.7, lambda step: 0.7)
    )
    assert_same_bits(one, other)


def tilted(q):
    """Two wells near -1 and +1, a barrier of 3 between them; the one near -1 is lower by 1."""
    return (3.0 * (q.square() - 1).square() + 0.5 * q).sum(-1)


@pytest.mark.slow
def test_slow_annealing_finds_the_lower_well():
    """2000 walkers from both sides of the barrier: the slower, the more of them end in the lower well."""
    start = torch.linspace(-1.5, 1.5, 2000, dtype=torch.float64)[:, None]
    found, errors = [], []
    for steps in (1, round(1000 * statistics_scale(0.4)), round(10_000 * statistics_scale(0.4))):
        simulation = Simulation(
            AnalyticSystem(1, tilted, start=start), Langevin(0.1, 1.0, ExponentialRamp(3.0, 0.02, steps)), walkers=2000,
            seed=7, every=10**9,
        ).advance(max(steps, 200))  # fmt: skip
        share = float((simulation.state.positions < 0).double().mean())
        found.append(share)
        errors.append(math.sqrt(share * (1 - share) / 2000))
    print(found, errors)
    for i in range(2):
        assert found[i + 1] - found[i] > 5 * math.hypot(errors[i], errors[i + 1])


# ---------------------------------------------------------------- resume, record


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
def test_two_halves_equal_the_whole_in_the_middle_of_a_ramp(tmp_path: Path, name):
    def build():
        return Simulation(
            AnalyticSystem(3, Harmonic(2.0), box=Box(1.5), start=0.3), MAKE[name](ExponentialRamp(2.0, 0.1, 60)),
            bias=Wall(cv.WeightNorm(), upper=0.8, strength=2.0), walkers=3, every=5, checkpoint_every=37,
        )  # fmt: skip

    whole = build().run(74, output=tmp_path / "whole.zarr", progress=False)
    build().run(37, output=tmp_path / "halves.zarr", progress=False)
    second = build().run(74, output=tmp_path / "halves.zarr", resume=True, progress=False)
    assert_same_bits(second.state_dict(), whole.state_dict())
    assert arrays_of(tmp_path / "halves.zarr") == arrays_of(tmp_path / "whole.zarr")


def test_another_ramp_is_not_resumed(tmp_path: Path):
    path, system = tmp_path / "run.zarr", AnalyticSystem(3, Harmonic(), start=0.0)
    Simulation(system, Langevin(0.1, 1.0, LinearRamp(1.0, 0.5, 10))).run(3, output=path, progress=False)
    with pytest.raises(InputError, match=r"integrator.kT.steps: 10 -> 20"):
        Simulation(system, Langevin(0.1, 1.0, LinearRamp(1.0, 0.5, 20))).run(
            9, output=path, resume=True, progress=False
        )


def test_another_function_of_the_same_name_is_not_resumed(tmp_path: Path):
    path, system = tmp_path / "run.zarr", AnalyticSystem(3, Harmonic(), start=0.0)

    def build(factor, length=10**7):
        return Simulation(system, Langevin(0.1, 1.0, lambda step: [factor / (1 + step)][step // length]))

    build(1.0).run(3, output=path, progress=False)
    with pytest.raises(InputError, match=r"integrator.kT_at.0: 1.0 -> 2.0"):
        build(2.0).run(9, output=path, resume=True, progress=False)
    with pytest.raises(InputError, match=r"integrator.kT_at.1000000: .* -> IndexError"):
        build(1.0, 5000).run(9, output=path, resume=True, progress=False)
    assert build(1.0).run(9, output=path, resume=True, progress=False).state.step == 9


@pytest.mark.parametrize("name", MAKE)
def test_the_temperature_is_recorded_and_shown(name):
    ramp = LinearRamp(2.0, 1.0, 100)
    simulation = Simulation(
        AnalyticSystem(3, Harmonic(), start=0.1), MAKE[name](ramp), walkers=2, every=1,
        bias=Wall(cv.WeightNorm(), upper=1.0, strength=2.0),
    )  # fmt: skip
    simulation.run(120, progress=True)
    np.testing.assert_allclose(simulation.history["kT"], [ramp(t) for t in range(1, 121)])
    if name in ("Langevin", "NoseHoover", "HybridMonteCarlo"):
        assert "(kT = 1)" in summary(simulation)["kinetic temperature"]
    constant = Simulation(AnalyticSystem(3, Harmonic(), start=0.1), MAKE[name](1.0), every=1).advance(2)
    assert "kT" not in constant.history.names


def test_native_code_leaves_schedules_to_the_reference():
    simulation = Simulation(spiral_classification((3,), points_per_class=5), MonteCarlo(0.1, kT=LinearRamp(1, 0.1, 10)))
    assert isinstance(simulation.platform, ReferencePlatform)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearRamp(-1.0, 1.0, 10), "LinearRamp: start = -1 must be a finite number of at least 0"),
        (lambda: LinearRamp(1.0, math.nan, 10), "LinearRamp: end = nan must be"),
        (lambda: LinearRamp(1.0, 0.5, 0), "LinearRamp: steps = 0 must be a whole number of at least 1"),
        (lambda: ExponentialRamp(0.0, 1.0, 10), "ExponentialRamp: start = 0 must be a finite number above 0"),
        (lambda: ExponentialRamp(1.0, 0.0, 10), "ExponentialRamp: end = 0 must be a finite number above 0"),
        (lambda: ExponentialRamp(1.0, 0.5, 2.5), "ExponentialRamp: steps = 2.5 must be a whole number"),
        (lambda: Langevin(0.1, 0.0, LinearRamp(1, 0, 5)), "Langevin: a schedule of kT would be ignored"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("name", MAKE)
def test_bad_schedules_are_refused_by_integrator_and_step(name):
    make = MAKE[name]
    with pytest.raises(InputError, match=rf"{name}: kT\(0\) = -1(\.0)? must be a finite number"):
        make(lambda step: -1.0)
    with pytest.raises(InputError, match=rf"{name}: kT\(0\) = None must be a finite number"):
        make(lambda step: None)
    with pytest.raises(InputError, match=rf"{name}: kT = .*LinearRamp.* is a class; give .*LinearRamp\(1.0"):
        make(LinearRamp)  # the class instead of one
    with pytest.raises(InputError, match=rf"{name}: kT = 'hot' must be"):
        make("hot")
    system = AnalyticSystem(2, Harmonic(), start=0.1)
    for bad in (math.nan, -0.5, math.inf):
        simulation = Simulation(system, make(lambda step, bad=bad: bad if step == 7 else 1.0), walkers=2).advance(6)
        with pytest.raises(InputError, match=rf"{name}: kT\(7\) = .* must be a finite number"):
            simulation.advance(1)
    simulation = Simulation(system, make(lambda step: [1.0, 1.0, 1.0][step]), walkers=2).advance(2)
    with pytest.raises(InputError, match=rf"{name}: the schedule kT = .* fails at step 3: IndexError"):
        simulation.advance(1)


@pytest.mark.parametrize("name", MAKE)
def test_zero(name):
    """Dynamics with friction may freeze; what divides by kT may not."""
    simulation = Simulation(AnalyticSystem(2, Harmonic(), start=0.5), MAKE[name](LinearRamp(1.0, 0.0, 5)), walkers=2)
    if name in ("Langevin", "Brownian"):
        simulation.advance(400)
        assert float(simulation.state.positions.abs().max()) < 1e-8
    else:
        with pytest.raises(InputError, match=rf"{name}: kT\(5\) = 0(\.0)? must be a finite number above 0"):
            simulation.advance(10)


@pytest.mark.parametrize("name", MAKE)
def test_a_bias_with_a_temperature_is_refused(name):
    bias = WangLandau(cv.LogEnergy(Harmonic()), Grid(-5.0, 2.0, 35), InverseTime(0.1, 35))
    with pytest.raises(
        InputError, match=rf"has kT = 1, so it assumes a constant temperature, but {name} has a schedule"
    ):
        Simulation(AnalyticSystem(2, start=0.1), MAKE[name](LinearRamp(1.0, 0.5, 10)), bias=bias)
