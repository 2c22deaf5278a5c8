"""dt, kT, friction and masses of each walker: each walker does what it does where all have its numbers."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import statistics_scale
from exact_laws import assert_same_bits
from own_parts import Brownian as OwnBrownian
from torch import Tensor

from nnsim import Box, Grid, InputError, Integrator, NNSimWarning, Simulation, Trajectory, cv
from nnsim.analysis import frame_weights, layer_temperatures, mean_squared_displacement, velocity_autocorrelation
from nnsim.bias import Boltzmann, ReplicaExchange, Umbrella, WangLandau
from nnsim.cli.info import describe_trajectory
from nnsim.integrators import Brownian, HybridMonteCarlo, Langevin, MonteCarlo, NoseHoover, VelocityVerlet
from nnsim.report.doubts import _wrong_temperature
from nnsim.running.progress import summary
from nnsim.schedules import InverseTime, LinearRamp, setting_at, temperature_at
from nnsim.systems import AnalyticSystem, DoubleWell, Harmonic, LossPotential, spiral_classification

W, N = 3, 4
DT, KT, FRICTION = [0.02, 0.05, 0.11], [0.3, 1.0, 2.5], [0.4, 1.0, 6.0]
MASS = torch.tensor([[1.0], [0.5], [3.0]], dtype=torch.float64)
MASSES = MASS * torch.tensor([1.0, 2.0, 0.7, 1.4], dtype=torch.float64)  # [W, n]

Make = Callable[..., Integrator]
MAKE: dict[str, Make] = {
    "verlet": lambda dt, kT, friction, masses: VelocityVerlet(dt, kT=kT, masses=masses),
    **{
        splitting: lambda dt, kT, friction, masses, splitting=splitting: Langevin(
            dt, friction, kT, splitting, masses=masses
        )
        for splitting in ("BAOAB", "OBABO", "ABOBA", "BAOA", "BOA", "AOB", "OBAO", "BAOOAB", "OABAO")
    },
    "BAB": lambda dt, kT, friction, masses: Langevin(dt, 0.0, kT, "BAB", masses=masses),
    "Leimkuhler-Matthews": lambda dt, kT, friction, masses: Brownian(dt, friction, kT, masses=masses),
    "Euler-Maruyama": lambda dt, kT, friction, masses: Brownian(dt, friction, kT, "euler-maruyama", masses=masses),
    "Nose-Hoover": lambda dt, kT, friction, masses: NoseHoover(dt, friction, kT, masses=masses, substeps=2),
    "massive": lambda dt, kT, friction, masses: NoseHoover(dt, friction, kT, masses=masses, massive=True, chain=2),
    "hybrid Monte Carlo": lambda dt, kT, friction, masses: HybridMonteCarlo(dt, 3, kT, masses=masses, refreshment=0.6),
    "Monte Carlo": lambda dt, kT, friction, masses: MonteCarlo(0.7, kT=kT, move="all"),
}


def simulation(integrator: Integrator, walkers: int = W, **more: Any) -> Simulation:
    """Walkers in a coupled double well and a box that they often reach the edges of."""
    start = torch.linspace(-0.8, 0.9, walkers * N, dtype=torch.float64).reshape(walkers, N)
    system = AnalyticSystem(N, DoubleWell(barrier=1.0, coupling=0.5), start=start, box=Box(1.4))
    return Simulation(system, integrator, **{"walkers": walkers, "seed": 5, "precision": "double"} | more)


def everything(made: Simulation) -> dict[str, Tensor]:
    """All that belongs to walkers, [W, ...]."""
    state = made.state
    conserved = made.integrator.conserved(state)
    return {
        **{name: getattr(state, name) for name in ("positions", "velocities", "forces", "energy", "bias_energy")},
        **state.integrator_state,
        **({} if state.heat is None else {"heat": state.heat}),
        **({} if conserved is None else {"conserved": conserved}),
    }


def assert_each_as_alone(mixed: Simulation, alone: Callable[[int], Simulation], steps: int = 40) -> None:
    """Walker w of the mixed run, and walker w of a run in which all have its numbers; while heat is counted too."""
    runs = [mixed, *(alone(w) for w in range(W))]
    for run in runs:
        run.state.heat = torch.zeros(W, dtype=torch.float64)
        run.advance(steps)
    own = everything(mixed)
    for w, run in enumerate(runs[1:]):
        found = everything(run)
        assert found.keys() == own.keys()
        for name, value in found.items():
            torch.testing.assert_close(
                own[name][w], value[w], rtol=1e-11, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}"
            )


# ----------------------------------------------------------------------------------------------- each walker as alone


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
def test_each_walker_does_what_it_does_alone(name: str) -> None:
    make = MAKE[name]
    assert_each_as_alone(
        simulation(make(DT, KT, FRICTION, MASS)),
        lambda w: simulation(make(DT[w], KT[w], FRICTION[w], float(MASS[w]))),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MAKE if name != "Monte Carlo"])
def test_masses_of_each_walker_and_parameter(name: str) -> None:
    make = MAKE[name]
    assert_each_as_alone(
        simulation(make(0.05, 1.0, 1.0, MASSES)), lambda w: simulation(make(0.05, 1.0, 1.0, MASSES[w]))
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
def test_functions_of_the_step(name: str) -> None:
    """That give a number for each walker: as tensors for dt, as lists for kT; Verlet's kT is no function."""
    make = MAKE[name]

    def dt(step: int) -> Tensor:
        return torch.tensor(DT, dtype=torch.float64) * (1 + 0.5 * (step % 3))

    def kT(step: int) -> list[float]:
        return [one * (1 + 0.1 * (step % 4)) for one in KT]

    ramp = KT if name in ("verlet", "BAB") else kT
    assert_each_as_alone(
        simulation(make(dt, ramp, FRICTION, MASS)),
        lambda w: simulation(
            make(
                lambda step: float(dt(step)[w]),
                KT[w] if ramp is KT else lambda step: kT(step)[w],
                FRICTION[w],
                float(MASS[w]),
            )
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
def test_equal_numbers_are_one_number(name: str) -> None:
    make = MAKE[name]
    assert_each_as_alone(
        simulation(make([0.05] * W, torch.ones(W), [1.0] * W, torch.ones(W, 1))),
        lambda w: simulation(make(0.05, 1.0, 1.0, 1.0)),
    )


@pytest.mark.parametrize("make", [Langevin, Brownian])
def test_walkers_on_mini_batches(make: Callable[..., Integrator]) -> None:
    def made(dt: Any, kT: Any) -> Simulation:
        system = spiral_classification(hidden=(3,), points_per_class=10, potential=LossPotential(10.0))
        return Simulation(system, make(dt, 1.0, kT, batch_size=7), walkers=W, precision="double")

    assert_each_as_alone(made(DT, KT), lambda w: made(DT[w], KT[w]))


@pytest.mark.slow
@pytest.mark.parametrize("make", [Langevin, NoseHoover])
def test_walkers_under_a_bias_of_every_third_step(make: Callable[..., Integrator]) -> None:
    def made(dt: Any, kT: Any) -> Simulation:
        return simulation(make(dt, 1.0, kT), bias=(Umbrella(cv.WeightNorm(), 1.0, stiffness=3.0), 3), every=3)

    assert_each_as_alone(made(DT, KT), lambda w: made(DT[w], KT[w]))


def test_few_digits_of_the_friction_are_enough_in_single_precision() -> None:
    """1 - c^2 of 2e-7 has no digits in float32."""
    scalar, each = (
        Simulation(AnalyticSystem(N, start=0.0), Langevin(dt, 1.0, splitting="OBA"), walkers=W, precision="single")
        for dt in (1e-7, [1e-7] * W)
    )
    for made in (scalar, each):
        made.state.velocities.zero_()
        made.advance(1)
    torch.testing.assert_close(each.state.velocities, scalar.state.velocities, rtol=1e-5, atol=0.0)
    assert each.state.velocities.dtype == torch.float32


@pytest.mark.parametrize("name", MAKE)
def test_types_stay_in_each_precision(name: str) -> None:
    for precision in ("single", "mixed", "double"):
        made = simulation(MAKE[name](DT, KT, FRICTION, MASSES), precision=precision)
        before = {key: value.dtype for key, value in everything(made).items()}
        assert {key: value.dtype for key, value in everything(made.advance(5)).items()} == before


# ------------------------------------------------------------------------------------------------------- their laws

SCALE = statistics_scale(0.25)
PARAMETERS, EACH, FRAMES = 6, 400, int(100 * SCALE)  # walkers at each of three temperatures


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "apart"),
    [
        (lambda dt, kT: Langevin(dt, 1.0, kT), 10),
        (lambda dt, kT: Brownian(dt, 1.0, kT), 10),
        (lambda dt, kT: NoseHoover(dt / 2, 1.0, kT, massive=True), 10),
        (lambda dt, kT: HybridMonteCarlo(dt, 8, kT), 2),
        (lambda dt, kT: MonteCarlo(1.0, kT=kT, move="all"), 10),
    ],
    ids=["Langevin", "Brownian", "Nose-Hoover", "hybrid", "Monte Carlo"],
)
def test_the_stationary_law_of_each_temperature(make: Callable[..., Integrator], apart: int) -> None:
    """<U> = n kT / 2 on a harmonic well; 400 walkers at each temperature, whose means over 100 frames are independent.

    Standard errors, of about 0.5 % in full, are those over walkers. On the well only Nose-Hoover has an error of its
    time step, of (dt/2)^2 / 8 at most, less than 0.3 %.
    """
    dt = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64).repeat(EACH)
    kT = torch.tensor([0.25, 1.0, 4.0], dtype=torch.float64).repeat(EACH)
    system = AnalyticSystem(PARAMETERS, Harmonic(), start=0.0)
    made = Simulation(system, make(dt, kT), walkers=3 * EACH, seed=11, precision="double").advance(30 * apart)
    total = torch.zeros(3 * EACH, dtype=torch.float64)
    for _ in range(FRAMES):
        total += made.advance(apart).state.energy
    means = (total / FRAMES).reshape(EACH, 3) / (0.5 * PARAMETERS * kT[:3])
    error = means.std(dim=0) / math.sqrt(EACH)
    assert bool((error < 0.0075 / math.sqrt(SCALE)).all()), error
    assert bool(((means.mean(dim=0) - 1).abs() < 5 * error).all()), (means.mean(dim=0), error)


# ------------------------------------------------------------------------------------------------- ladders


def ladder(dt: Any = None, values: tuple[float, ...] = (0.4, 0.2, 0.1), steps: int = 0) -> Simulation:
    exchange = ReplicaExchange(cv.Energy(Harmonic()), [1.0, 4.0, 16.0], every=10)
    integrator = Langevin(exchange.each(values) if dt is None else dt, 1.0)
    system = AnalyticSystem(N, start=0.2)
    return Simulation(system, integrator, bias=exchange, walkers=6, seed=3, every=1).advance(steps)


@pytest.mark.slow
def test_a_time_step_follows_the_rung() -> None:
    values = torch.tensor([0.4, 0.2, 0.1], dtype=torch.float64)
    made = ladder(steps=200)
    rung = torch.from_numpy(made.history["replica_exchange_rung"])  # after each step
    assert int((rung[1:] != rung[:-1]).sum()) > 10
    before = torch.cat([torch.arange(6)[None] % 3, rung])
    again = ladder(lambda step: values[before[step - 1]], steps=200)
    assert torch.equal(again.state.positions, made.state.positions)
    assert made.integrator.time_step == 1.0


@pytest.mark.slow
def test_the_laws_of_the_rungs() -> None:
    """<s> = n / 2 beta on each rung, of 400 ladders, every 20 of 1000 steps; errors are over ladders."""
    exchange = ReplicaExchange(cv.Energy(Harmonic()), [1.0, 4.0, 16.0], every=20)
    integrator = Langevin(exchange.each([0.4, 0.2, 0.1]), 1.0)
    made = Simulation(AnalyticSystem(N, start=0.2), integrator, bias=exchange, walkers=1200, seed=3, every=10**6)
    made.advance(200)
    total = torch.zeros(400, 3, dtype=torch.float64)
    for _ in range(50):  # in the middle between two rounds of swaps
        made.advance(10)
        rung = exchange.rung.view(400, 3)
        total += made.state.cvs.view(400, 3).gather(1, rung.argsort(dim=1))
        made.advance(10)
    means = total / 50 * 2 * exchange.ladder / N
    error = means.std(dim=0) / 20
    assert bool((error < 0.02).all()), error
    assert bool(((means.mean(dim=0) - 1).abs() < 5 * error).all()), (means.mean(dim=0), error)


def test_a_ladder_of_another_simulation_is_refused() -> None:
    other = ReplicaExchange(cv.Energy(Harmonic()), [1.0, 4.0, 16.0], every=10, name="other")
    with pytest.raises(
        InputError, match="Langevin: dt follows the bias 'other', which is none of this simulation's; gi"
    ):
        ladder(other.each([0.4, 0.2, 0.1]))
    with pytest.raises(InputError, match="ReplicaExchange: 2 values for 3 rungs; give each rung one"):
        other.each([0.4, 0.2])
    integrator = Langevin(other.each([0.4, 0.2, -0.1]), 1.0)
    with pytest.raises(InputError, match=r"Langevin: dt\(1\)\[2\] = -0.1 must be a finite number above 0"):
        Simulation(AnalyticSystem(N, start=0.2), integrator, bias=other, walkers=6)


# ------------------------------------------------------------------------------------------------- record and resume


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
def test_a_resumed_run_is_the_same_to_the_bit(name: str, tmp_path: Path) -> None:
    def build() -> Simulation:
        return simulation(MAKE[name](DT, KT, FRICTION, MASSES), every=5)

    whole = build().run(60, output=tmp_path / "whole", progress=False)
    build().run(35, output=tmp_path / "cut", progress=False)
    resumed = build().run(60, output=tmp_path / "cut", resume=True, progress=False)
    assert_same_bits(whole.state_dict(), resumed.state_dict())
    with pytest.raises(InputError, match=r"2\.5.* -> .*2\.6"):
        simulation(MAKE[name](DT, [*KT[:2], 2.6], FRICTION, MASSES), every=5).run(
            80, output=tmp_path / "cut", resume=True, progress=False
        )


@pytest.mark.slow
def test_a_resumed_ladder_is_the_same_to_the_bit(tmp_path: Path) -> None:
    whole = ladder().run(60, output=tmp_path / "whole", progress=False)
    ladder().run(35, output=tmp_path / "cut", progress=False)
    resumed = ladder().run(60, output=tmp_path / "cut", resume=True, progress=False)
    assert_same_bits(whole.state_dict(), resumed.state_dict())
    header = Trajectory(tmp_path / "cut").header
    assert header["integrator"]["dt"] == {"type": "OfRung", "bias": "replica_exchange", "values": [0.4, 0.2, 0.1]}
    with pytest.raises(InputError, match=r"dt\.values"):
        ladder(values=(0.4, 0.2, 0.2)).run(80, output=tmp_path / "cut", resume=True, progress=False)


def test_what_the_record_says(tmp_path: Path) -> None:
    simulation(Langevin(DT, FRICTION, KT, masses=MASS), every=5).run(20, output=tmp_path / "run", progress=False)
    run = Trajectory(tmp_path / "run")
    header = run.header
    assert (header["kT"], header["time_step"]) == (KT, 1.0)
    assert {name: header["integrator"][name] for name in ("dt", "kT", "friction")} == {
        "dt": DT, "kT": KT, "friction": FRICTION
    }  # fmt: skip
    assert run["potential_energy"].time.tolist() == [5.0, 10.0, 15.0, 20.0]  # steps
    assert "dt=[0.02, 0.05, 0.11]" in describe_trajectory(run)["integrator"]
    assert "kT" not in run.observables


def test_a_schedule_of_each_walker_is_recorded(tmp_path: Path) -> None:
    made = simulation(Langevin(0.05, 1.0, lambda step: [0.1 + 0.01 * step, 1.0, 2.0]), every=5)
    assert made.describe()["integrator"]["kT_at"]["10"] == [0.2, 1.0, 2.0]
    made.run(20, output=tmp_path / "run", progress=False)
    torch.testing.assert_close(
        torch.tensor(Trajectory(tmp_path / "run")["kT"][:]),
        torch.tensor([[0.15, 1.0, 2.0], [0.2, 1.0, 2.0], [0.25, 1.0, 2.0], [0.3, 1.0, 2.0]], dtype=torch.float64),
    )
    assert summary(made)["kinetic temperature"].endswith("(kT from 0.3 to 2, mean 1.1)")


def test_the_time_step_of_hybrid_monte_carlo_counts_trajectories() -> None:
    assert simulation(HybridMonteCarlo(DT, 20)).integrator.time_step == 1.0
    assert simulation(HybridMonteCarlo(0.1, 20)).integrator.time_step == pytest.approx(2.0)


# ------------------------------------------------------------------------------------------------- what looks at runs


@pytest.mark.slow
def test_what_is_said_of_the_error_of_the_time_step() -> None:
    for integrator, words in (
        (Langevin(DT, 1.0), "not measured: each walker has a dt of its own"),
        (Langevin(0.05, 1.0, KT), "not measured: each walker has a kT of its own"),
        (NoseHoover(DT, 1.0, KT), "not measured: each walker has a kT and dt of its own"),
        (VelocityVerlet(0.05, kT=KT), "not measured: each walker has a kT of its own"),
        (HybridMonteCarlo(DT, 5), "none in the law; each walker has a dt of its own"),
        (Langevin(0.05, 1.0, masses=MASS), "of the energy"),
        (Langevin(lambda step: 0.05, 1.0), "of the energy"),
        (HybridMonteCarlo(0.05, 5, KT), "of the trajectories were accepted"),
    ):
        made = simulation(integrator)
        made.run(120, progress=False)
        assert words in made.step_error.summary(made)


@pytest.mark.filterwarnings("ignore:.*the time step dt")
def test_each_kinetic_temperature_is_compared_with_its_own() -> None:
    """Nothing is said of walkers at their own kT; of one that is driven it is said which one, and of which kT."""

    def made(friction: float) -> Simulation:
        spring = Umbrella(cv.Parameter(0), [0.0] * 8, stiffness=1.0)
        system = AnalyticSystem(40, Harmonic(), start=0.0)
        return Simulation(system, Langevin(0.1, friction, [0.5, 2.0] * 4), bias=spring, walkers=8, every=2)

    quiet = made(2.0)
    quiet.run(400, progress=False)
    assert quiet.monitor.kinetic_temperature() == pytest.approx(1.25, rel=0.1)
    driven = made(1e-3)
    driven.state.velocities[3] *= 3.0
    with pytest.warns(NNSimWarning, match=r"kinetic temperature .* of walker 3 instead of kT = 2; "):
        driven.run(200, progress=False)


def test_the_report_compares_each_with_its_own(tmp_path: Path) -> None:
    system = AnalyticSystem(40, Harmonic(), start=0.0)
    made = Simulation(system, Langevin(0.1, 2.0, [0.5, 2.0] * 4), walkers=8, every=1)
    made.run(400, output=tmp_path / "run", progress=False)
    run = Trajectory(tmp_path / "run")
    assert _wrong_temperature(run, run.header, 40) is None
    told = _wrong_temperature(run, {"kT": [50.0, 2.0] * 4}, 40)
    assert told is not None
    assert re.match(
        r"the kinetic temperature of walker [0246] over the last tenth is .* instead of kT = 50: too cold", told
    )


def test_readers_that_need_one_temperature_or_time_step_refuse(tmp_path: Path) -> None:
    made = simulation(Langevin(DT, 1.0, KT, masses=MASS), every=1, velocities_every=1)
    made.run(40, output=tmp_path / "run", progress=False)
    run = Trajectory(tmp_path / "run")
    with pytest.raises(InputError, match="each of 3 walkers has a kT of its own, so their frames belong to no single"):
        frame_weights(run)
    for measure in (mean_squared_displacement, velocity_autocorrelation):
        with pytest.raises(InputError, match="dt was not one number in this run, so that a lag is no common time"):
            measure(run)
        measure(run.velocities[:, :1], interval=0.1)
    parameters = {"a": (N,)}
    with pytest.raises(InputError, match="masses of its own for each parameter or walker; give them as masses="):
        layer_temperatures(run, parameters=parameters)
    found = layer_temperatures(run, masses=MASS, parameters=parameters)
    expected = (MASS * torch.tensor(run.velocities[:]) ** 2).mean(dim=2)
    torch.testing.assert_close(torch.tensor(found.frames[:, :, 0]), expected.double(), rtol=1e-6, atol=1e-6)


def test_compiled_monte_carlo_has_one_temperature() -> None:
    made = Simulation(spiral_classification(box=Box(1.0)), MonteCarlo(0.1, kT=KT), walkers=W)
    assert made.platform_reason == "native: a kT for each walker has no native code"


def test_settings_at_a_step() -> None:
    assert setting_at(0.5, 3) == setting_at(torch.tensor(0.5), 3) == temperature_at(LinearRamp(1.0, 0.0, 4), 2) == 0.5
    assert setting_at(lambda step: [step, 1.0], 3).tolist() == [3.0, 1.0]  # type: ignore[union-attr]
    with pytest.raises(InputError, match="temperature_at: kT is that of each of 2 walkers; take setting_at"):
        temperature_at([1.0, 2.0], 0)


# ------------------------------------------------------------------------------------------------------- refusals

BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: Langevin([0.1, -0.1], 1.0), "Langevin: dt[1] = -0.1 must be a finite number above 0; change dt[1]"),
    (lambda: Langevin([[0.1], [0.2]], 1.0), "Langevin: dt of shape (2, 1) must be a number, or one for each walker"),
    (lambda: Langevin([], 1.0), "Langevin: dt = [] must be a number, or one for each walker, but is empty"),
    (lambda: Langevin(["a"], 1.0), "Langevin: dt = ['a'] must be a number, or one for each walker; give plain numbers"),
    (lambda: Langevin(LinearRamp, 1.0), "is a class; give a number, or a function from the step to a number"),
    (lambda: Langevin(0.1, [1.0, -1.0]), "Langevin: friction[1] = -1 must be a finite number of at least 0"),
    (lambda: Langevin(0.1, [0.0, 1.0], splitting="BAB"), "Langevin: friction = (0.0, 1.0) and kT would be ignored"),
    (lambda: Langevin(0.1, [0.0, 0.0], LinearRamp(1, 0, 5)), "Langevin: a schedule of kT would be ignored"),
    (lambda: Langevin(0.1, 1.0, lambda step: [1.0, -1.0]), "Langevin: kT(0)[1] = -1 must be a finite number of at lea"),
    (lambda: Brownian(0.1, [1.0, 0.0]), "Brownian: friction[1] = 0 must be a finite number above 0"),
    (lambda: HybridMonteCarlo(0.1, 3, [1.0, 0.0]), "HybridMonteCarlo: kT[1] = 0 must be a finite number above 0"),
    (lambda: NoseHoover(0.1, [1.0, math.nan]), "NoseHoover: tau[1] = nan must be a finite number above 0"),
    (lambda: VelocityVerlet(0.1, kT=[1.0, -1.0]), "VelocityVerlet: kT[1] = -1 must be a finite number of at least 0"),
    (lambda: VelocityVerlet(0.1, masses=torch.ones(1, 1, 1)), "VelocityVerlet: masses of shape (1, 1, 1) must be one"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_bad_numbers_are_refused_at_construction(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("integrator", "message"),
    [
        (
            Langevin([0.1, 0.2], 1.0),
            "Langevin: dt has 2 numbers for 3 walkers; give one number, or one for each walker",
        ),
        (Langevin(0.1, [1.0] * 4), "Langevin: friction has 4 numbers for 3 walkers; give one number, or one for each"),
        (
            Langevin(0.1, 1.0, [1.0]),
            "Langevin: kT has 1 numbers for 3 walkers; give one number, or one for each walker",
        ),
        (
            Langevin(0.1, 1.0, lambda step: [1.0]),
            "Langevin: kT(0) has 1 numbers for 3 walkers; give one number, or one",
        ),
        (Langevin(lambda step: [0.1], 1.0), "Langevin: dt(1) has 1 numbers for 3 walkers; give one number, or one for"),
        (Langevin(lambda step: 1 / 0, 1.0), "fails at step 1: ZeroDivisionError: division by zero; give a function fr"),
        (Brownian(lambda step: -1.0, 1.0), "Brownian: dt(1) = -1 must be a finite number above 0; change dt(1)"),
        (Brownian([0.1] * 4, 1.0), "Brownian: dt has 4 numbers for 3 walkers; give one number, or one for each walker"),
        (NoseHoover(0.1, [1.0] * 4), "NoseHoover: tau has 4 numbers for 3 walkers; give one number, or one for each"),
        (HybridMonteCarlo([0.1], 3), "HybridMonteCarlo: dt has 1 numbers for 3 walkers; give one number, or one for e"),
        (VelocityVerlet(0.1, kT=[1.0]), "VelocityVerlet: kT has 1 numbers for 3 walkers; give one number, or one for"),
        (MonteCarlo(kT=[1.0] * 2), "MonteCarlo: kT has 2 numbers for 3 walkers; give one number, or one for each walk"),
        (
            Langevin(0.1, 1.0, masses=torch.ones(2, 1)),
            "Langevin: masses of shape (2, 1) for 3 walkers with 4 parameters; give them as [4], [3, 1] or [3, 4]",
        ),
        (Langevin(0.1, 1.0, masses=torch.ones(3, 2)), "Langevin: masses of shape (3, 2) for 3 walkers with 4 paramete"),
        (OwnBrownian(0.1, [1.0, 2.0]), "Brownian: kT has 2 numbers for 3 walkers; give one, or one for each"),
    ],
)
def test_another_number_of_walkers_is_refused_when_the_simulation_is_made(integrator: Integrator, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Simulation(AnalyticSystem(N, Harmonic(), start=0.1), integrator, walkers=W)


def test_a_function_gives_the_same_kind_at_all_steps() -> None:
    made = simulation(Langevin(0.1, 1.0, lambda step: 1.0 if step < 3 else KT))
    with pytest.raises(
        InputError, match=r"Langevin: kT\(3\) is one for each walker, unlike before; let kT give either"
    ):
        made.advance(5)
    made = simulation(Langevin(lambda step: torch.tensor(DT) * (3 - step), 1.0))
    with pytest.raises(InputError, match=r"Langevin: dt\(3\)\[0\] = 0 must be a finite number above 0"):
        made.advance(5)


def test_biases_of_one_temperature_are_refused() -> None:
    q = cv.Parameter(0)
    for bias in (
        WangLandau(q, Grid(-1.0, 1.0, 8), InverseTime(0.1, 8.0)),
        Boltzmann(q, [1.0, 2.0, 3.0]),
        ReplicaExchange(q, [1.0, 2.0, 3.0]),
    ):
        with pytest.raises(
            InputError,
            match=r"has kT = 1 for all walkers, but Langevin has a kT for each of 3 walkers; give kT as one num",
        ):
            simulation(Langevin(0.1, 1.0, KT), bias=bias)
        # a time step of its own each walker may have
        fresh = simulation(Langevin(DT, 1.0), bias=Boltzmann(q, [1.0, 2.0, 3.0]))
        assert fresh.advance(3).state.step == 3
    assert simulation(Langevin(0.1, 1.0, KT), bias=Umbrella(q, [0.0, 0.1, 0.2], 3.0)).advance(3).state.step == 3


def test_own_integrators_may_have_numbers_for_each_walker() -> None:
    made = simulation(OwnBrownian(0.01, 1.0)).advance(1)
    assert made.integrator.time_step == 0.01
