"""Biases that are evaluated every k steps: the impulse scheme to the bit, its order, its law, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import arrays_of
from conftest import statistics_scale
from torch import Tensor

from nnsim import (
    Bias,
    Box,
    CollectiveVariable,
    Evaluation,
    ForceField,
    Grid,
    InputError,
    Integrator,
    Simulation,
    Trajectory,
    cv,
)
from nnsim.bias import Boltzmann, Metadynamics, ReplicaExchange, Umbrella, Wall, WangLandau
from nnsim.integrators import (
    Brownian,
    ConservedQuantity,
    GradientDescent,
    HybridMonteCarlo,
    Langevin,
    MonteCarlo,
    NoseHoover,
    VelocityVerlet,
)
from nnsim.precision import Precision
from nnsim.schedules import InverseTime
from nnsim.systems import AnalyticSystem, DoubleWell, Harmonic, spiral_classification

POTENTIAL, CENTRE, STIFFNESS = DoubleWell(barrier=1.0, coupling=0.5), 0.4, 2.0


def curved(q: Tensor) -> Tensor:
    """A smooth function [W] of q [W, 2], linear in neither."""
    return torch.sin(q[:, 0]) + 0.5 * q[:, 1] ** 2


class Curved(CollectiveVariable):
    """It as a CV, which counts how often it is computed."""

    def __init__(self, name: str = "curved") -> None:
        self.name = name
        self._calls = 0

    def __call__(self, evaluation: Evaluation) -> Tensor:
        self._calls += 1
        return curved(evaluation.positions)


def spring() -> Umbrella:
    return Umbrella(Curved(), CENTRE, STIFFNESS)


def hills() -> Metadynamics:
    """A frozen landscape of hills."""
    bias = Metadynamics(Curved(), Grid(-2.0, 4.0, 60), height=1.0, sigma=0.4, pace=4)
    for place in (-0.5, 0.6, 0.9, 1.8):
        bias.update(torch.tensor([[place]], dtype=torch.float64), 4)
    bias.frozen = True
    return bias


def simulation(integrator: Integrator, bias: Any, walkers: int = 16, **settings: Any) -> Simulation:
    start = torch.randn(walkers, 2, generator=torch.Generator().manual_seed(4)) * 0.5
    system = AnalyticSystem(2, POTENTIAL, start=start.double())
    return Simulation(system, integrator, bias=bias, walkers=walkers, seed=3, precision="double", **settings)


# ---------------------------------------------------------------------------------------------------------- the scheme


@pytest.mark.parametrize("integrator", [VelocityVerlet(0.1), Langevin(0.1, 1.0), NoseHoover(0.1, 1.0)])
def test_an_interval_of_one_is_none(integrator: Integrator) -> None:
    """To the bit, in every form in which biases may be given, while the bias learns."""

    def bias() -> WangLandau:
        return WangLandau(Curved(), Grid(-2.0, 4.0, 60), InverseTime(0.1, 100.0), kernel=0.2)

    runs = [simulation(integrator, given).advance(50) for given in (bias(), (bias(), 1), [(bias(), 1)], [bias()])]
    for run in runs[1:]:
        assert torch.equal(run.state.positions, runs[0].state.positions)
        assert torch.equal(run.state.forces, runs[0].state.forces)
        assert run.describe() == runs[0].describe()
    assert "multiple_time_stepping" not in runs[0].describe()["bias"]["wang_landau"]


def impulses(q: Tensor, v: Tensor, dt: float, k: int, outer: int) -> list[Tensor]:
    """Positions after each of `outer` times k steps of r-RESPA, as its authors write it: U fast, the spring slow."""

    def force(function: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = q.clone().requires_grad_()
        return -torch.autograd.grad(function(leaf).sum(), leaf)[0]

    found = []
    for _ in range(outer):
        v = v + k * dt / 2 * force(lambda x: STIFFNESS / 2 * (curved(x) - CENTRE) ** 2)
        for _ in range(k):
            v = v + dt / 2 * force(POTENTIAL)
            q = q + dt * v
            v = v + dt / 2 * force(POTENTIAL)
            found.append(q)
        v = v + k * dt / 2 * force(lambda x: STIFFNESS / 2 * (curved(x) - CENTRE) ** 2)
    return found


@pytest.mark.parametrize("k", [1, 2, 4, 7])
def test_trajectories_are_those_of_an_explicit_impulse_scheme(k: int) -> None:
    run = simulation(VelocityVerlet(0.05), (spring(), k), every=k, positions_every=1)
    expected = impulses(run.state.positions.clone(), run.state.velocities.clone(), 0.05, k, outer=10)
    run.advance(10 * k)
    np.testing.assert_allclose(run.history["position"], torch.stack(expected), rtol=0, atol=1e-12)


def energies(run: Simulation) -> np.ndarray:
    """H [T, W] at the recorded steps."""
    history = run.history
    return history["potential_energy"] + history["bias_energy"] + history["kinetic_temperature"]  # n / 2 = 1


@pytest.mark.parametrize("bias", [spring, hills])
@pytest.mark.parametrize("k", [1, 4])
def test_the_energy_error_is_of_second_order(bias: Callable[[], Bias], k: int) -> None:
    """At the multiples of k, for 1.6 time units: rms over 16 walkers and 20 frames or more, at four time steps."""
    steps, errors = np.array([0.04, 0.02, 0.01, 0.005]), []
    for dt in steps:
        run = simulation(VelocityVerlet(dt), (bias(), k), every=4, record_start=True).advance(round(1.6 / dt))
        change = energies(run)[1:] - energies(run)[0]
        errors.append(np.sqrt(np.mean(change[:: len(change) // 10] ** 2)))
    order = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert 1.9 < order < 2.1
    assert errors[-1] > 1e-8  # truncation, not rounding


@pytest.mark.slow
def test_the_conserved_quantity_of_nose_hoover_too() -> None:
    steps, errors = np.array([0.04, 0.02, 0.01]), []
    for dt in steps:
        run = simulation(
            NoseHoover(dt, 1.0, massive=True), (spring(), 4), every=4, observe=[ConservedQuantity()], record_start=True
        ).advance(round(1.6 / dt))
        conserved = run.history["conserved_quantity"]
        errors.append(np.sqrt(np.mean((conserved - conserved[0]) ** 2)))
    assert 1.9 < np.polyfit(np.log(steps), np.log(errors), 1)[0] < 2.1


def test_time_is_reversible() -> None:
    run = simulation(VelocityVerlet(0.05), [(hills(), 4), Wall(Curved("fast"), upper=1.0, strength=5.0)], every=4)
    before = run.state.positions.clone(), run.state.velocities.clone()
    run.advance(200)
    assert (run.state.positions - before[0]).abs().max() > 0.1
    run.state.velocities.neg_()
    run.advance(200)
    np.testing.assert_allclose(run.state.positions, before[0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(run.state.velocities, -before[1], rtol=0, atol=1e-10)


# ----------------------------------------------------------------------------------------------------- Langevin's law


def exact_covariance(splitting: str, dt: float, friction: float, k: int, fast: float, slow: float) -> np.ndarray:
    """Stationary covariance of (q, v) at the multiples of k, of linear forces and kT = m = 1, by matrices alone."""
    kick = lambda h, stiffness: np.array([[1.0, 0.0], [-h * stiffness, 1.0]])  # noqa: E731
    h = {letter: dt / splitting.count(letter) for letter in splitting}
    drift, decay = np.array([[1.0, h["A"]], [0.0, 1.0]]), np.exp(-friction * h["O"])
    covariance = np.eye(2)
    for _ in range(4000):
        for step in range(k):
            for place, letter in enumerate(splitting):
                begins = place < splitting.find("A")  # kicks before the drifts are by the forces of the last step
                due = (step if begins else step + 1) % k == 0
                matrix = {"A": drift, "B": kick(h["B"], fast + k * slow * due), "O": np.diag([1.0, decay])}[letter]
                covariance = matrix @ covariance @ matrix.T
                if letter == "O":
                    covariance[1, 1] += 1 - decay**2
    return covariance


@pytest.mark.slow
@pytest.mark.parametrize(("splitting", "k"), [("BAOAB", 2), ("BAOAB", 4), ("OBABO", 3), ("BOA", 2), ("AOB", 3)])
def test_langevin_samples_the_law_of_the_scheme(splitting: str, k: int) -> None:
    """A spring under a spring every k steps, at a time step at which the law differs from Boltzmann's.

    48,000 independent walkers (a quarter on CI); a squared coordinate has a relative error of sqrt(2 / W), 4.5 of which
    are allowed, after 10 relaxation times.
    """
    dt, friction, fast, slow = 0.3, 2.0, 1.0, 0.5
    walkers = int(48_000 * statistics_scale())
    run = Simulation(
        AnalyticSystem(1, Harmonic(fast), start=0.0),
        Langevin(dt, friction, splitting=splitting),
        bias=(Umbrella(cv.Parameter(0), 0.0, slow), k),
        walkers=walkers,
        seed=8,
        precision="double",
        every=k,
    ).advance(96)
    expected = exact_covariance(splitting, dt, friction, k, fast, slow)
    q, v = run.state.positions[:, 0].numpy(), run.state.velocities[:, 0].numpy()
    for found, exact in ((q * q, expected[0, 0]), (v * v, expected[1, 1])):
        assert abs(found.mean() / exact - 1) < 4.5 * np.sqrt(2 / walkers)
    error = np.sqrt((expected[0, 0] * expected[1, 1] + expected[0, 1] ** 2) / walkers)
    assert abs((q * v).mean() - expected[0, 1]) < 4.5 * error


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_law_becomes_that_of_boltzmann(k: int) -> None:
    """Of the scheme that the test above has found to be the right one: an error of second order in k dt."""
    errors = [abs(exact_covariance("BAOAB", dt, 2.0, k, 1.0, 0.5)[0, 0] * 1.5 - 1) for dt in (0.1, 0.05)]
    assert 3.5 < errors[0] / errors[1] < 4.5
    assert errors[1] < 0.002 * k**2


def test_langevin_samples_boltzmann_at_a_small_time_step() -> None:
    """Variance 1 / (1 + 0.5) within 4.5 standard errors of walkers that are independent: 40,000, a quarter on CI."""
    walkers = int(40_000 * statistics_scale())
    run = Simulation(
        AnalyticSystem(1, Harmonic(1.0), start=torch.randn(walkers, 1, generator=torch.Generator().manual_seed(1))),
        Langevin(0.05, 2.0),
        bias=(Umbrella(cv.Parameter(0), 0.0, 0.5), 4),
        walkers=walkers,
        precision="double",
        every=4,
    ).advance(160)
    assert abs(1.5 * float(run.state.positions.square().mean()) - 1) < 4.5 * np.sqrt(2 / walkers) + 0.003


# ---------------------------------------------------------------------------------------- what is computed, and when


class Watched(Metadynamics):
    """Keeps what it was asked to learn."""

    def attach(self, integrator: Integrator, generator: torch.Generator) -> None:
        super().attach(integrator, generator)
        self._learnt: list[tuple[int, Tensor]] = []

    def update(self, s: Tensor, step: int, mask: Tensor | None = None) -> None:
        self._learnt.append((step, s.clone()))
        super().update(s, step, mask)


def test_a_slow_bias_is_evaluated_and_learns_when_it_is_due() -> None:
    variable, fast = Curved(), Curved("fast")
    bias = Watched(variable, Grid(-2.0, 4.0, 60), height=0.1, sigma=0.3, pace=10, name="slow")
    run = simulation(
        Langevin(0.05, 1.0), [(bias, 5), Wall(fast, upper=0.5, strength=5.0)], every=5, positions_every=5,
        observe=[(fast, 1)],
    )  # fmt: skip
    slow_before, fast_before = variable._calls, fast._calls
    run.advance(43)
    assert (variable._calls - slow_before, fast._calls - fast_before) == (8, 43)
    steps = [step for step, _ in bias._learnt]
    assert steps == [5, 10, 15, 20, 25, 30, 35, 40]
    assert bias.deposits == 4 * run.walkers
    again = Metadynamics(variable, Grid(-2.0, 4.0, 60), height=0.1, sigma=0.3, pace=10)
    for (step, s), q, recorded in zip(bias._learnt, run.history["position"], run.history["curved"], strict=True):
        fresh = curved(torch.from_numpy(q))
        assert torch.equal(s[:, 0], fresh)
        np.testing.assert_array_equal(recorded, fresh)
        again.update(fresh[:, None], step)
    assert torch.equal(again.potential, bias.potential)
    # between: the CV of the last step that was due, and the biases' energies there
    assert torch.equal(run.state.cvs[:, 0], bias._learnt[-1][1][:, 0])
    expected = run.force_field.bias_energy(run.state.cvs, 43)
    assert torch.equal(run.state.bias_energy, expected)


def test_a_cv_of_a_fast_bias_too_is_always_up_to_date() -> None:
    variable = Curved()
    biases = [(Umbrella(variable, 0.0, 1.0, name="slow"), 4), Wall(variable, upper=0.2, strength=5.0)]
    run = simulation(VelocityVerlet(0.05), biases, every=1, positions_every=1).advance(10)
    np.testing.assert_array_equal(run.history["curved"].reshape(-1), curved(torch.from_numpy(
        run.history["position"].reshape(-1, 2)
    )))  # fmt: skip
    # the force between is that of the wall alone
    alone = ForceField(run.system, [biases[1]])(run.state.positions, 0).forces
    assert torch.equal(run.state.forces, alone)


def test_forces_at_each_step_without_what_went_before() -> None:
    """Several intervals; an integrator of one's own need not know of them."""
    fast, slow, slower = (
        Wall(Curved("a"), upper=0.0),
        Umbrella(Curved("b"), 1.0, 2.0),
        Boltzmann(Curved("c"), [3.0] * 3),
    )
    system = AnalyticSystem(2, POTENTIAL)
    field = ForceField(system, [fast, slow, slower], [1, 2, 3])
    q = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    part = [ForceField(system, [one])(q, 0).forces - ForceField(system)(q, 0).forces for one in field.biases]
    plain = ForceField(system)(q, 0).forces
    stale = torch.full((3, 3), 0.3, dtype=torch.float64)
    for step in range(7):
        due = [1, 2 * (step % 2 == 0), 3 * (step % 3 == 0)]
        expected = plain + sum(factor * one for factor, one in zip(due, part, strict=True))
        alone, going_on = field(q, step), field(q, step, stale)
        for found in (alone, going_on):
            torch.testing.assert_close(found.forces, expected, rtol=1e-13, atol=1e-13)
        assert torch.equal(alone.cvs, curved(q)[:, None].expand(3, 3))
        for j in range(3):
            assert torch.equal(going_on.cvs[:, j], alone.cvs[:, j] if due[j] else stale[:, j])
        assert torch.equal(going_on.bias_energy, field.bias_energy(going_on.cvs, step))


def test_data_that_only_a_slow_bias_needs_are_left_out_between() -> None:
    system = spiral_classification(hidden=(4,), points_per_class=5)
    system.prepare(Precision.named("double"), torch.device("cpu"))
    q = system.initial_positions(2, torch.Generator().manual_seed(0))
    seen: list[int] = []
    inner = system._forward

    def forward(positions: Tensor, x: Tensor) -> Tensor:
        seen.append(len(x))
        return inner(positions, x)

    system._forward = forward  # type: ignore[method-assign]
    biases = [Wall(cv.Loss("train"), upper=0.0), Wall(cv.Loss("test"), upper=0.0)]
    field = ForceField(system, biases, [1, 3])
    field.probe(q)
    full = field(q, 0)
    seen.clear()
    field(q, 3, full.cvs)
    train, test = len(system.targets("train")), len(system.targets("test"))
    assert sum(seen) == train + test
    seen.clear()
    field(q, 4, full.cvs)
    assert seen == [train]


def test_on_a_flat_system_walkers_are_free_between() -> None:
    variable = Curved()
    run = Simulation(
        AnalyticSystem(2, start=0.3), VelocityVerlet(0.1), bias=(Umbrella(variable, 2.0, 1.0), 3), precision="double",
        every=3, velocities_every=1, positions_every=0,
    )  # fmt: skip
    before = variable._calls
    run.advance(12)
    assert variable._calls - before == 4
    velocities = run.history["velocity"][:, 0, 0]
    changed = np.flatnonzero(np.diff(velocities)) + 1  # from the frame of step t to that of step t + 1
    assert changed.tolist() == [2, 3, 5, 6, 8, 9, 11]  # half a kick at the end of a due step, half at the next begin


# ---------------------------------------------------------------------------------------------------------- resume


def spiral(bias: Callable[[], Any], integrator: Integrator, walkers: int = 2) -> Simulation:
    return Simulation(
        spiral_classification(hidden=(4, 4), points_per_class=5), integrator, bias=bias(), walkers=walkers, seed=5,
        every=15, positions_every=4, snapshot_every=30, checkpoint_every=33, threads=1, precision="double",
    )  # fmt: skip


def learning() -> list[Any]:
    train, test = cv.LogLoss("train"), cv.LogLoss("test")
    grid = lambda: Grid(-4.0, 2.0, 60)  # noqa: E731
    return [
        (WangLandau(train, grid(), InverseTime(0.1, 100.0), kernel=0.2), 3),
        (Metadynamics(test, grid(), height=0.1, sigma=0.3, pace=10, bias_factor=5.0), 5),
        Wall(cv.WeightNorm(), upper=2.0, strength=5.0),
    ]


RUNS = {
    "langevin": lambda: spiral(learning, Langevin(0.02, 5.0)),
    "nose-hoover": lambda: spiral(learning, NoseHoover(0.02, 1.0)),
    "verlet": lambda: spiral(learning, VelocityVerlet(0.02)),
    "exchange": lambda: spiral(
        lambda: [(ReplicaExchange(cv.Loss("train"), [1.0, 3.0], every=15), 5), Wall(cv.WeightNorm(), upper=2.0)],
        Langevin(0.02, 5.0),
    ),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*the time step dt")  # which is rough here: bits are compared, no averages
@pytest.mark.parametrize("build", RUNS.values(), ids=RUNS.keys())
@pytest.mark.parametrize("stop", [31])
def test_resume_between_two_evaluations_is_bitwise(tmp_path: Path, build: Callable[[], Simulation], stop: int) -> None:
    whole = build().run(90, output=tmp_path / "whole.zarr", progress=False)
    build().run(stop, output=tmp_path / "parts.zarr", progress=False)
    parts = build().run(90, output=tmp_path / "parts.zarr", resume=True, progress=False)
    assert arrays_of(tmp_path / "parts.zarr") == arrays_of(tmp_path / "whole.zarr")
    for name in ("positions", "velocities", "forces", "cvs", "bias_energy"):
        assert torch.equal(getattr(parts.state, name), getattr(whole.state, name)), name


def test_after_a_swap_forces_are_those_of_the_new_rung() -> None:
    run = RUNS["exchange"]()
    exchange = run.force_field.biases[0]
    while not int(exchange.swaps.sum()):  # type: ignore[attr-defined]
        run.advance(15)
        assert run.state.step < 3000
    fresh = run.force_field(run.state.positions, run.state.step)
    assert torch.equal(run.state.forces, fresh.forces)
    plain = run.force_field(run.state.positions, run.state.step + 1).forces  # without the slow one
    alone = ForceField(run.system, [exchange])(run.state.positions, 0).forces
    torch.testing.assert_close(run.state.forces, plain + 5 * alone, rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*the time step dt")  # which is rough here: bits are compared, no averages
def test_another_interval_is_another_run(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    simulation(VelocityVerlet(0.05), (spring(), 4), every=4).run(8, output=path, progress=False)
    assert Trajectory(path).header["bias"]["umbrella"]["multiple_time_stepping"] == 4
    for other, was in (((spring(), 2), "4 -> 2"), (spring(), r"4 -> \(none\)")):
        with pytest.raises(InputError, match=f"bias.umbrella.multiple_time_stepping: {was}"):
            simulation(VelocityVerlet(0.05), other, every=4).run(16, output=path, resume=True, progress=False)


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "integrator",
    [
        MonteCarlo(0.1),
        HybridMonteCarlo(0.1, 5),
        Brownian(0.1, 1.0),
        GradientDescent(0.1),
        Langevin(0.1, 1.0, splitting="ABOBA"),
        Langevin(0.1, 1.0, splitting="OABAO"),
        Langevin(0.1, 1.0, splitting="BABAOB"),
    ],
    ids=lambda one: getattr(one, "splitting", type(one).__name__),
)
def test_integrators_that_cannot(integrator: Integrator) -> None:
    message = f"{type(integrator).__name__} cannot evaluate the bias 'umbrella' every 4 steps only; use VelocityVerlet"
    with pytest.raises(InputError, match=message):
        simulation(integrator, (spring(), 4), every=4)


@pytest.mark.parametrize("splitting", ["BAOAB", "OBABO", "BAOA", "BOA", "AOB", "BAAOB", "OBAB"])
def test_splittings_that_can(splitting: str) -> None:
    simulation(Langevin(0.1, 1.0, splitting=splitting), (spring(), 4), every=4).advance(5)


class OwnPace(Umbrella):
    every = 6


@pytest.mark.parametrize(
    ("bias", "settings", "message"),
    [
        (lambda: (spring(), 0), {}, "interval of umbrella = 0 must be a whole number of at least 1"),
        (lambda: [(spring(), 1.5)], {}, "interval of umbrella = 1.5 must be a whole number"),
        (lambda: [(spring(), True)], {}, "interval of umbrella = True must be a whole number"),
        (lambda: [(spring(), Wall(Curved(), upper=1.0))], {}, "interval of umbrella = .* must be a whole number"),
        (lambda: (Umbrella(Curved(), 0.0, 1.0, velocity=0.1), 4), {}, "the bias 'umbrella' moves and keeps account"),
        (
            lambda: (Metadynamics(Curved(), Grid(-2.0, 4.0, 60), height=0.1, sigma=0.3, pace=10), 4),
            {},
            "the bias 'metadynamics' has pace = 10, but is evaluated every 4 steps; make pace a multiple of 4",
        ),
        (
            lambda: (ReplicaExchange(Curved(), [1.0, 2.0], every=10), 4),
            {},
            "the bias 'replica_exchange' has every = 10, but is evaluated every 4 steps",
        ),
        (lambda: (OwnPace(Curved(), 0.0, 1.0), 4), {}, "the bias 'umbrella' has every = 6, but is evaluated every 4"),
        (lambda: (spring(), 3), {}, "bias_energy is recorded every 4 steps, but the CV 'curved', of which bias_energy"),
        (
            lambda: (spring(), 4),
            {"observe": [(Curved(), 6)]},
            r"curved is recorded every 6 steps, but the CV 'curved' is computed every 4 steps only; record it at a",
        ),
        (
            lambda: [(Umbrella(cv.WeightNorm(), 0.0, 1.0, name=str(k)), k) for k in (2, 3)],
            {"every": 6, "observe": [(cv.WeightNorm(), 5)]},
            "computed every 2 or 3 steps only",
        ),
    ],
)
def test_what_does_not_go_together(bias: Callable[[], Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        simulation(VelocityVerlet(0.1), bias(), **{"every": 4, **settings})


def test_the_conserved_quantity_between_is_refused() -> None:
    with pytest.raises(InputError, match="conserved_quantity is recorded every 2 steps, but the CV 'curved', of which"):
        simulation(NoseHoover(0.1, 1.0), (spring(), 4), every=4, observe=[(ConservedQuantity(), 2)])


def test_an_integrator_of_ones_own_must_say_that_it_can() -> None:
    class Own(VelocityVerlet):
        multiple_time_stepping = False

    with pytest.raises(InputError, match="Own cannot evaluate the bias"):
        simulation(Own(0.1), (spring(), 4), every=4)


def test_the_native_platform_is_not_chosen() -> None:
    class Patient(MonteCarlo):
        multiple_time_stepping = True

    slow = Simulation(spiral_classification(), Patient(0.1), bias=(Boltzmann(cv.Loss("train"), [1.0]), 2), every=2)
    assert slow.platform_reason == "native: a bias that is evaluated every few steps has no native code"
    field = ForceField(spiral_classification(box=Box(3.0)), [Boltzmann(cv.Loss("train"), [1.0])], [2])
    assert not ForceField(field.system, field.biases).slow
    with pytest.raises(InputError, match="ForceField: interval of boltzmann = 0"):
        ForceField(field.system, field.biases, [0])
