"""An integrator's step as a program: what is in it, that it is the step, and that it says what it reads and writes."""

from pathlib import Path

import numpy as np
import own_parts
import own_program
import pytest
import torch

from nnsim import Box, InputError, Integrator, Simulation, State, Trajectory
from nnsim.integrators import (
    Adam,
    Brownian,
    GradientDescent,
    HybridMonteCarlo,
    Langevin,
    MonteCarlo,
    NoseHoover,
    StepDecay,
    VelocityVerlet,
)
from nnsim.program import Kick
from nnsim.schedules import LinearRamp
from nnsim.systems import AnalyticSystem, Harmonic, LossPotential, spiral_classification

Q, V, F = "positions", "velocities", "forces"
CHAIN = (V, "thermostat_velocities", "thermostat_positions")
ENERGIES = ("energy", "bias_energy")
MOVED = (Q, V, F, *ENERGIES, "cvs")
SAVED = tuple(f"saved_{name}" for name in MOVED)
LEFT = ("displacement", "turned", "earlier_forces")

KICK = ("Kick", (V, F), (V,))
KICK_H = ("Kick", (V, F, "time_step"), (V,))
DRIFT = ("Drift", (Q, V), (Q, V))
DRIFT_H = ("Drift", (Q, V, "time_step"), (Q, V))
BATH = ("OrnsteinUhlenbeck", (V, "heat"), (V, "heat"))
FORCES = ("Forces", (Q, "cvs"), (*ENERGIES, "cvs", F))
BATCH_FORCES = ("Forces", (Q, "order"), (*ENERGIES, "cvs", F))
SHUFFLE = ("Shuffle", ("order",), ("order",))
KINETIC = ("KineticEnergy", (V,), ("kinetic_energy",))
CHAINS = ("Chain", CHAIN, CHAIN)
RAMP = LinearRamp(1.0, 0.5, steps=20)

TABLE = {
    "verlet": (VelocityVerlet(dt=0.1), [KICK, DRIFT, FORCES, KICK, KINETIC]),
    "BAOAB": (Langevin(dt=0.1, friction=1.0, kT=RAMP), [KICK, DRIFT, BATH, KINETIC, DRIFT, FORCES, KICK]),
    "ABOBA": (
        Langevin(dt=0.1, friction=1.0, splitting="ABOBA", masses=torch.tensor([1.0, 2.0, 4.0])),
        [DRIFT, FORCES, KICK, BATH, KINETIC, KICK, DRIFT, FORCES],
    ),
    "BA": (Langevin(dt=0.1, friction=0.0, splitting="BA"), [KICK, DRIFT, FORCES, KINETIC]),
    "SGHMC": (
        Langevin(dt=0.01, friction=1.0, splitting="BOA", batch_size=7),
        [SHUFFLE, KICK, BATH, KINETIC, DRIFT, BATCH_FORCES],
    ),
    "Leimkuhler-Matthews": (
        Brownian(dt=0.1, friction=1.0, kT=RAMP),
        [("DiffuseWithMemory", (Q, F, "noise", "heat"), (Q, "noise", "heat")), FORCES],
    ),
    "Euler-Maruyama": (
        Brownian(dt=0.1, friction=1.0, scheme="euler-maruyama"),
        [("Diffuse", (Q, F, "heat"), (Q, *LEFT)), FORCES, ("DiffusionHeat", (F, "heat", *LEFT), ("heat", *LEFT))],
    ),
    "Nose-Hoover": (
        NoseHoover(dt=0.1, tau=1.0),
        [
            *(CHAINS, KICK, DRIFT, FORCES, KICK, CHAINS),
            ("ExtendedEnergy", (V, *ENERGIES, *CHAIN[1:]), ("kinetic_energy", "conserved_quantity")),
        ],
    ),
    "massive": (
        NoseHoover(dt=0.1, tau=1.0, massive=True, kT=RAMP),
        [
            *(CHAINS, KICK, DRIFT, FORCES, KICK, CHAINS),
            ("ExtendedEnergy", (V, *ENERGIES, *CHAIN[1:]), ("kinetic_energy", "conserved_quantity")),
        ],
    ),
    "hybrid Monte Carlo": (
        HybridMonteCarlo(dt=1.0, steps=3, refreshment=0.5),
        [
            *(BATH, KINETIC, ("Save", MOVED, SAVED), ("DrawMove", (), ("time_step", "threshold")), KICK_H),
            (
                "Repeat",
                (Q, V, "time_step", "cvs", F),
                (Q, V, *ENERGIES, "cvs", F),
            ),
            *(DRIFT_H, FORCES, KICK_H),
            (
                "Accept",
                (*MOVED, *SAVED, "kinetic_energy", "threshold", "accepted"),
                (*MOVED, *SAVED, "time_step", "threshold", "accepted"),
            ),
        ],
    ),
    "gradient descent": (
        GradientDescent(0.1, momentum=0.9, nesterov=True, weight_decay=0.1, schedule=StepDecay(every=2)),
        [("Momentum", (Q, V, F), (Q, V)), ("LossForces", (Q,), ("energy", F))],
    ),
    "Adam": (
        Adam(0.1, batch_size=7, confine=True),
        [
            ("Moments", (Q, V, F, "second_moment"), (Q, V, "second_moment")),
            ("Confine", (Q, V), (Q, V)),
            SHUFFLE,
            ("LossForces", (Q, "order"), ("energy", F)),
        ],
    ),
}


def simulation(integrator: Integrator) -> Simulation:
    """Four walkers in a box that they often leave, or a small network for what needs data."""
    if integrator.follows_loss or getattr(integrator, "batch_size", None):
        system = spiral_classification(
            hidden=(3,), points_per_class=10, box=Box(0.5), initial="uniform", potential=LossPotential(10.0)
        )
        return Simulation(system, integrator, walkers=4, platform="reference")
    return Simulation(AnalyticSystem(3, Harmonic(), start=0.3, box=Box(1.2)), integrator, walkers=4)


def fields(state: State) -> dict[str, torch.Tensor]:
    """All tensors of a state by name."""
    own = {name: getattr(state, name) for name in MOVED}
    return own | state.integrator_state | ({} if state.heat is None else {"heat": state.heat})


@pytest.mark.parametrize("name", TABLE)
def test_what_a_program_is_made_of(name: str) -> None:
    made = simulation(TABLE[name][0])
    program = made.integrator.program(made.force_field)
    assert [(type(one).__name__, one.reads, one.writes) for one in program] == TABLE[name][1]
    assert made.integrator.is_program


@pytest.mark.parametrize("name", TABLE)
def test_a_program_carried_out_by_hand_is_the_step(name: str) -> None:
    one, other, third = (simulation(TABLE[name][0]) for _ in range(3))
    one.advance(12)
    operations = list(other.integrator.program(other.force_field))
    for _ in range(12):
        other.state.step += 1
        for operation in operations:
            operation.apply(other.state, other.force_field)
        third.state = third.integrator.step(third.state, third.force_field)
    for copy in (other, third):
        assert copy.state.step == 12
        assert list(fields(copy.state)) == list(fields(one.state))
        assert all(torch.equal(value, fields(copy.state)[key]) for key, value in fields(one.state).items())


@pytest.mark.parametrize("counts_heat", [False, True])
@pytest.mark.parametrize("name", TABLE)
def test_operations_read_and_write_what_they_say(name: str, counts_heat: bool) -> None:
    """With all else NaN an operation writes the same, and nothing beside; over 30 steps each of them does write."""
    made = simulation(TABLE[name][0])
    state, force_field = made.state, made.force_field
    state.heat = torch.zeros(4, dtype=torch.float64) if counts_heat else None
    changed = set()
    operations = made.integrator.program(force_field)
    for _ in range(30):
        state.step += 1
        for place, operation in enumerate(operations):
            spoilt, before = (
                _spoilt(state, operation.reads),
                {key: value.clone() for key, value in fields(state).items()},
            )
            operation.apply(state, force_field)
            operation.apply(spoilt, force_field)
            after, same = fields(state), fields(spoilt)
            assert all(torch.equal(after[key], same[key]) for key in operation.writes if key in after)
            assert set(after) == set(same)
            for key in {*before, *after} - {*operation.writes}:
                assert torch.equal(before[key], after[key]), (operation, key)
            if any(_differ(before.get(key), after.get(key)) for key in operation.writes):
                changed.add(place)
    idle = {place for place, one in enumerate(operations) if type(one).__name__ == "DiffusionHeat"}
    assert changed == set(range(len(operations))) - (set() if counts_heat else idle)


def _differ(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    if one is None or other is None:
        return one is not other
    return not torch.equal(one, other)


def _spoilt(state: State, kept: tuple[str, ...]) -> State:
    """A copy in which all but the fields that are kept is NaN, or a number that no index may have."""
    copy = state.clone()
    copy.heat = None if state.heat is None else state.heat.clone()
    for key, value in fields(copy).items():
        if key not in kept:
            value.fill_(torch.nan if value.is_floating_point() else 10**6)
    return copy


def test_an_integrator_that_is_only_a_program_runs_records_and_resumes(tmp_path: Path) -> None:
    def build() -> Simulation:
        system = AnalyticSystem(3, Harmonic(), start=0.5)
        return Simulation(system, own_program.Damped(dt=0.1, drag=0.9), walkers=2, every=5, positions_every=5)

    whole = build().run(40, output=tmp_path / "whole.zarr", progress=False)
    build().run(20, output=tmp_path / "parts.zarr", progress=False)
    parts = build().run(40, output=tmp_path / "parts.zarr", resume=True, progress=False)
    assert torch.equal(whole.state.positions, parts.state.positions)
    recorded = [Trajectory(tmp_path / f"{name}.zarr").positions[:] for name in ("whole", "parts")]
    assert np.array_equal(recorded[0], recorded[1])
    assert len(recorded[0]) == 8
    matrix = _damped_step(0.1, 0.9)
    start = build().state
    expected = torch.stack([start.positions, start.velocities])
    for _ in range(40):
        expected = torch.einsum("ij,jwn->iwn", torch.from_numpy(matrix), expected)
    torch.testing.assert_close(whole.state.positions, expected[0], rtol=1e-12, atol=1e-12)


def _damped_step(h: float, c: float) -> np.ndarray:
    """What a step of `Damped` does to (q, v) in a harmonic well of stiffness 1, [2, 2]."""
    kick, drift = np.array([[1, 0], [-h / 2, 1]]), np.array([[1, h], [0, 1]])
    return kick @ np.diag([1, c]) @ drift @ kick


def test_an_integrator_that_has_only_a_step_runs() -> None:
    made = Simulation(own_parts.Springs(2, 1.0), own_parts.Brownian(0.1), walkers=3)
    assert not made.integrator.is_program
    assert not MonteCarlo(0.1).is_program
    assert made.advance(5).state.step == 5


def test_an_own_step_goes_before_the_program() -> None:
    class Counting(VelocityVerlet):
        calls = 0

        def step(self, state, force_field):
            self.calls += 1
            return super().step(state, force_field)

    system = AnalyticSystem(3, Harmonic(), start=0.3)
    made = Simulation(system, Counting(dt=0.1), walkers=2).advance(7)
    assert not made.integrator.is_program
    assert made.integrator.calls == 7
    assert torch.equal(
        made.state.positions, Simulation(system, VelocityVerlet(dt=0.1), walkers=2).advance(7).state.positions
    )


def test_a_setting_that_changes_between_two_runs_is_followed() -> None:
    made = Simulation(AnalyticSystem(3, Harmonic(), start=0.3), Langevin(dt=0.1, friction=100.0, kT=1.0)).advance(5)
    made.integrator.kT = 0.0
    assert float(made.advance(5).state.velocities.abs().max()) < 0.2


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (lambda self, force_field: (), r"Own: program\(\) returned nothing; it must return operations"),
        (lambda self, force_field: (Kick(0.1), 3), r"Own: program\(\) returned 3; it must return operations"),
        (lambda self, force_field: 1 / 0, r"Own: program\(\) fails: ZeroDivisionError"),
        (lambda self: (), "Own: the method step is missing"),
    ],
)
def test_what_is_no_program(program, message: str) -> None:
    own = type("Own", (own_program.Damped,), {"program": program})
    with pytest.raises(InputError, match=message):
        Simulation(AnalyticSystem(3, Harmonic(), start=0.3), own(0.1, 0.9))
