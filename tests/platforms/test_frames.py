"""What is recorded of compiled steps while they are made is what is recorded step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_native_dynamics import BIASES, LN_LOSS, TRAINING, classifier, wang_landau

import nnsim
from nnsim import DivergedError, Grid, cv
from nnsim.bias import Wall, WangLandau
from nnsim.integrators import HybridMonteCarlo, Langevin
from nnsim.platforms.dynamics.platform import NativeDynamics
from nnsim.protocols import Reporter
from nnsim.schedules import BiasFunction, ExponentialRamp, FlatnessHalving, InverseTime
from nnsim.systems.potentials import LossPotential

OBSERVED = [cv.Accuracy("test"), (cv.Loss("test"), 20), (cv.Accuracy("train"), 15)]


class EachStep(Reporter):
    """Ends every call of the platform after a step."""

    def due(self, step: int) -> int:
        return step + 1

    def report(self, simulation: nnsim.Simulation) -> None:
        return


def history(platform: str, steps: int = 200, reporters=(), threads: int = 1, **settings):
    settings = {"observe": OBSERVED, "integrator": Langevin(0.002, 1.0), "system": classifier(), **settings}
    make = settings.pop("bias", lambda: [])
    simulation = nnsim.Simulation(
        settings.pop("system"), settings.pop("integrator"), bias=make(), walkers=3, seed=5, every=10, threads=threads,
        positions_every=30, velocities_every=20, precision="double", platform=platform, reporters=reporters, **settings,
    )  # fmt: skip
    simulation.advance(steps)
    return simulation


def assert_same_record(one, other, tolerance: float) -> None:
    assert one.history.names == other.history.names
    for name in one.history.names:
        first, second = one.history[name], other.history[name]
        assert (first.dtype, first.shape) == (second.dtype, second.shape), name
        assert np.array_equal(one.history.steps(name), other.history.steps(name)), name
        scale = 1 + np.abs(first).max()
        assert np.abs(first - second).max() <= tolerance * scale, name


CASES = {
    **{f"bias {name}": {"bias": make} for name, make in BIASES.items()},
    "wang_landau": {"bias": wang_landau},
    "training": {"integrator": TRAINING["adam_batches"]},
    "hybrid": {"integrator": HybridMonteCarlo(0.004, steps=3), "bias": wang_landau},
    "ramp": {"integrator": Langevin(0.002, 1.0, ExponentialRamp(2.0, 0.5, 99)), "system": classifier(LossPotential(9))},
    "own interval of a CV": {"bias": wang_landau, "observe": [(LN_LOSS, 7), *OBSERVED]},
    "start": {"bias": wang_landau, "record_start": True},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_record_is_that_of_the_reference_platform(case: str) -> None:
    assert_same_record(history("reference", **CASES[case]), history("native", **CASES[case]), 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["wang_landau", "bias tempered", "bias steered", "bias exchange_beside_others"])
def test_neither_cuts_nor_threads_change_a_bit_of_the_record(case: str) -> None:
    whole = history("native", **CASES[case])
    for other in (
        history("native", reporters=[EachStep()], **CASES[case]),
        history("native", threads=2, **CASES[case]),
    ):
        assert_same_record(whole, other, 0.0)


def test_many_frames_are_made_in_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where what the biases say follows from their tables, and where frames are too large to hold many of them."""
    calls = []
    simulation = history("native", 10, bias=BIASES["tempered"], observe=OBSERVED[:1], snapshot_every=10**6)
    team = simulation.platform.team
    call = team._call
    monkeypatch.setattr(team, "_call", lambda *arguments: calls.append(1) or call(*arguments))
    simulation._slice_steps = 10**6
    simulation.advance(2000)
    assert len(calls) == 1
    assert len(simulation.history["loss_train"]) == 201
    monkeypatch.setattr("nnsim.running.film.MOST_BYTES", 1)
    before = simulation.history["metadynamics_offset"].copy()
    simulation.advance(100)
    assert len(calls) == 11
    assert np.array_equal(simulation.history["metadynamics_offset"][:201], before)


def test_what_was_made_before_something_became_infinite_is_recorded(tmp_path: Path) -> None:
    """To the last frame, in memory and on disk."""

    def diverging(**settings):
        return nnsim.Simulation(
            classifier(LossPotential(1e4), box=nnsim.Box(kind="open")), Langevin(0.5, 1e-6), walkers=3, every=1,
            threads=1, platform="native", precision="single", seed=1, **settings,
        )  # fmt: skip

    simulation = diverging()
    with pytest.raises(DivergedError, match="step") as caught:
        simulation.advance(100_000)
    failed = int(str(caught.value).split(":")[0].removeprefix("step "))
    steps = simulation.history.steps("potential_energy")
    assert failed > 5
    assert np.array_equal(steps, np.arange(1, failed))
    with pytest.raises(DivergedError):
        diverging().run(100_000, output=tmp_path / "run.zarr", progress=False)
    on_disk = nnsim.Trajectory(tmp_path / "run.zarr")["potential_energy"]
    assert np.array_equal(on_disk.step, steps)
    assert np.array_equal(np.array(on_disk), simulation.history["potential_energy"])


class OwnNumbers(WangLandau):
    """What it says follows from its tables, which its class has not promised otherwise."""

    def observables(self) -> dict[str, float]:
        return {**super().observables(), "highest": float(self.potential.max()), "seen": float((self.visits > 0).sum())}


def test_numbers_of_an_own_bias_are_those_of_the_frame() -> None:
    def make():
        return learnt(OwnNumbers)

    whole, pieces = history("native", bias=make), history("native", bias=make, reporters=[EachStep()])
    assert_same_record(whole, pieces, 0.0)
    highest = whole.history["wang_landau_highest"]
    assert len(highest) == 20
    assert np.all(np.diff(highest) > 0)


def test_a_schedule_of_a_bias_that_looks_at_the_histogram_is_recorded_as_it_was() -> None:
    def make():
        return WangLandau(LN_LOSS, Grid(-4, 3, 14), FlatnessHalving(0.5, flatness=0.1, check_every=50), kernel=0.5)

    settings = {"bias": make, "integrator": Langevin(0.1, 1.0)}
    whole, pieces = (history("native", 1000, reporters=more, **settings) for more in ([], [EachStep()]))
    assert_same_record(whole, pieces, 0.0)
    assert len(set(whole.history["wang_landau_increment"])) > 3


def test_positions_are_those_of_the_network(tmp_path: Path) -> None:
    """In the type that the record has, and on disk as in memory."""
    found = []
    for output in (None, tmp_path / "run.zarr"):
        simulation = nnsim.Simulation(
            classifier(), Langevin(0.02, 1.0), walkers=2, every=5, positions_every=5, threads=1, platform="native"
        )
        simulation.run(50, output=output, progress=False)
        found.append(simulation.history["position"] if output is None else np.array(nnsim.Trajectory(output).positions))
    assert found[0].dtype == np.float32
    assert np.array_equal(*found)
    assert np.array_equal(found[0][-1], simulation.state.positions.to(torch.float32).numpy())


class Counting(NativeDynamics):
    """A compiled platform with an own way to advance."""

    name = "counting"
    counted = 0

    def advance(self, state: nnsim.State, steps: int) -> nnsim.State:
        Counting.counted += steps
        return super().advance(state, steps)


def test_a_platform_with_an_own_advance_is_not_gone_round() -> None:
    """Though the class that it is derived from can keep frames."""
    Counting.counted = 0
    found = history(Counting, 50, bias=wang_landau)
    assert Counting.counted == 50
    assert_same_record(found, history("native", 50, bias=wang_landau), 1e-12)


class Shrinking(BiasFunction):
    """A time step that follows what a bias has learnt."""

    def __init__(self, bias: WangLandau) -> None:
        self.bias = bias

    def __call__(self, step: int) -> torch.Tensor:
        return torch.full((3,), 0.01 / (1 + 1e-2 * self.bias.deposits))


def learnt(kind: type = WangLandau) -> WangLandau:
    return kind(LN_LOSS, Grid(-4, 3, 70), InverseTime(0.5, 1e3), kernel=0.2)


def follows(platform, reporters=()):
    bias = learnt()
    return history(platform, 100, bias=lambda: [bias], integrator=Langevin(Shrinking(bias), 1.0), reporters=reporters)


def test_a_time_step_that_follows_what_is_learnt_is_that_of_each_step() -> None:
    whole = follows("native")
    assert_same_record(whole, follows("native", [EachStep()]), 0.0)
    assert_same_record(whole, follows("reference"), 1e-9)


class Curious(Wall):
    """A wall that says how high another bias is."""

    other: WangLandau

    def observables(self) -> dict[str, float]:
        return {"highest": float(self.other.potential.max()), "deposits": float(self.other.deposits)}


def test_numbers_that_ask_another_bias_are_those_of_the_frame() -> None:
    def make():
        wall = Curious(LN_LOSS, upper=2.0, strength=9.0)
        wall.name, wall.other = "curious", learnt(OwnNumbers)
        return [wall.other, wall]

    found = history("native", 100, bias=make)
    assert found.history["curious_deposits"].tolist() == [30.0 * (k + 1) for k in range(10)]
    assert np.array_equal(found.history["curious_highest"], found.history["wang_landau_highest"])


class Warming(BiasFunction):
    """A temperature that follows what a bias has learnt."""

    def __init__(self, bias: Wall) -> None:
        self.bias = bias

    def __call__(self, step: int) -> float:
        return 1.0 + 1e-3 * step


def test_a_temperature_that_follows_a_bias_is_recorded_from_the_start_on() -> None:
    wall = Wall(LN_LOSS, upper=2.0, strength=9.0)
    integrator = Langevin(0.01, 1.0, kT=Warming(wall))
    found = history("native", 30, bias=lambda: [wall], integrator=integrator, record_start=True)
    assert found.history.steps("kT").tolist() == found.history.steps("potential_energy").tolist() == [0, 10, 20, 30]
    assert found.history["kT"].tolist() == [1.0, 1.01, 1.02, 1.03]
