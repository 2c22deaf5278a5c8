"""A part that changes along a run belongs to one simulation: sharing it is refused, or changes nothing."""

import copy
import gc
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import nnsim
from torch import Tensor

from nnsim import Bias, Box, Grid, InputError, Integrator, NNSimWarning, Simulation, State, Trajectory, cv
from nnsim.bias import Boltzmann, Metadynamics, ReplicaExchange, Umbrella, Wall, WangLandau
from nnsim.bias.umbrella import Work
from nnsim.integrators import Adam, HybridMonteCarlo, Langevin, MonteCarlo, NoseHoover, TunedStep
from nnsim.running.script import Script
from nnsim.schedules import FlatnessHalving, InverseTime, RampHoldInverseTime
from nnsim.systems import AnalyticSystem, Harmonic, spiral_classification

LOSS, X = cv.LogLoss("train"), cv.Parameter(0)
WHY = "was used in another simulation"


def hills() -> Metadynamics:
    return Metadynamics(LOSS, Grid(-7, 2, 90), height=0.5, sigma=0.2, pace=5)


def growing(schedule: Any = None) -> WangLandau:
    chosen = schedule or RampHoldInverseTime(maximum=0.1, ramp=10, hold=1e5)
    return WangLandau([LOSS], Grid(lower=-7, upper=2, spacing=0.1), chosen, kernel=0.2)


SPIRAL = spiral_classification(hidden=(6, 6), points_per_class=10)


def cell(bias: Any, monte_carlo: bool = False, **more: Any) -> Simulation:
    """What a notebook's cell makes."""
    integrator = MonteCarlo(0.05) if monte_carlo else Langevin(dt=0.01, friction=1.0)
    return Simulation(SPIRAL, integrator, bias=bias, walkers=2, every=10, threads=1, **more)


class Grows(Bias):
    """Keeps how often it was called, and says nothing of it."""

    name = "grows"

    def __init__(self) -> None:
        self.cvs, self.calls = (LOSS,), 0

    def energy(self, s: Tensor, step: int) -> Tensor:
        return self.calls * s[:, 0]

    def update(self, s: Tensor, step: int, mask: Tensor | None = None) -> None:
        self.calls += 1


LEARNING: dict[str, tuple[Callable[[], Bias], bool]] = {
    "metadynamics": (hills, False),
    "Wang-Landau": (growing, False),
    "Wang-Landau, compiled": (growing, True),
    "replica exchange": (lambda: ReplicaExchange(cv.Loss("train"), [0.0, 5.0], every=10), True),
    "moving umbrella": (lambda: Umbrella(LOSS, 0.0, stiffness=1.0, velocity=1e-3), False),
    "own": (Grows, False),
}


@pytest.mark.parametrize("name", LEARNING)
def test_a_bias_that_learns_serves_one_simulation(name: str) -> None:
    """Case 13: the second is refused, and the first has what it had; a new bias gives the same run again."""
    make, monte_carlo = LEARNING[name]
    bias = make()
    first = cell(bias, monte_carlo).advance(60)
    before = copy.deepcopy(bias.state_dict())
    with pytest.raises(InputError, match=f"the bias '{bias.name}' {WHY}.*make a new one.*copy.deepcopy"):
        cell(bias, monte_carlo)
    for key, value in before.items():
        now = bias.state_dict()[key]
        assert torch.equal(now, value) if isinstance(value, Tensor) else now == value
    again = cell(make(), monte_carlo).advance(60)
    assert torch.equal(again.state.positions, first.state.positions)
    first.advance(20)  # goes on all the same


@pytest.mark.slow
def test_it_has_learnt_also_where_the_first_simulation_is_gone() -> None:
    bias = hills()
    cell(bias).advance(60)
    gc.collect()
    with pytest.raises(InputError, match=WHY):
        cell(bias)


def test_a_copy_goes_on_from_what_was_learnt() -> None:
    for make in (hills, lambda: growing(FlatnessHalving(0.2, flatness=0.1, check_every=50))):
        bias = make()
        cell(bias).advance(60)
        other = copy.deepcopy(bias)
        deposits = bias.deposits
        cell(other).advance(60)
        assert other.deposits > deposits == bias.deposits


def test_a_frozen_bias_is_a_potential_like_any_other() -> None:
    bias = hills()
    first = cell(bias).advance(60)
    bias.frozen = True
    deposits = bias.deposits
    runs = [cell(bias).advance(20), cell(bias).advance(20)]
    assert torch.equal(runs[0].state.positions, runs[1].state.positions)
    assert bias.deposits == deposits
    bias.frozen = False
    with pytest.raises(InputError, match="was given to another simulation since"):
        runs[0].advance(10)
    first.advance(10)  # whose bias it is
    assert bias.deposits > deposits


def test_what_was_not_used_yet_goes_to_the_newest_simulation() -> None:
    """As where a cell is run again before its simulation was."""
    bias = hills()
    first, second = cell(bias), cell(bias)
    second.advance(60)
    with pytest.raises(InputError, match="the bias 'metadynamics' was given to another simulation since"):
        first.advance(1)
    with pytest.raises(InputError):
        cell(bias)
    second.advance(10)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Wall(LOSS, upper=1.0),
        lambda: Umbrella(LOSS, 0.0, stiffness=10.0),
        lambda: Boltzmann(cv.Loss("train"), [1.0, 5.0]),
    ],
)
def test_biases_that_stand_still_are_shared(make: Callable[[], Bias]) -> None:
    bias = make()
    runs = [cell(bias), cell(bias), cell(make())]
    for _ in range(2):
        for run in runs:
            run.advance(10)
    assert all(torch.equal(run.state.positions, runs[0].state.positions) for run in runs)


def test_a_schedule_with_a_state_serves_one_bias() -> None:
    schedule = FlatnessHalving(0.2, flatness=0.1, check_every=50)
    cell(growing(schedule)).advance(200)
    with pytest.raises(InputError, match=r"the schedule FlatnessHalving of the bias 'wang_landau' was used"):
        cell(growing(schedule))
    fresh, one, other = FlatnessHalving(0.2), growing(), growing()
    one.schedule = other.schedule = fresh
    other.name = "other"
    with pytest.raises(InputError, match="serves another bias too"):
        cell([one, other])
    plain = InverseTime(0.1, 100)  # knows nothing of a run
    cell(growing(plain)).advance(20)
    cell(growing(plain)).advance(20)


class Learns:
    """A step size that keeps what it learns to itself."""

    def __init__(self) -> None:
        self.size = 0.1

    def sizes(self, state: State) -> Tensor:
        return torch.full((state.walkers,), self.size, dtype=torch.float64)

    def learn(self, state: State, accepted: Tensor) -> None:
        self.size *= 1.01


def moving(integrator: Integrator, system: Any = None, **more: Any) -> Simulation:
    system = system or AnalyticSystem(3, Harmonic(), start=0.5)
    return Simulation(system, integrator, walkers=2, every=5, **more)


def test_a_step_size_that_keeps_what_it_learns_serves_one_simulation() -> None:
    step: Any = Learns()
    moving(MonteCarlo(step)).advance(5)
    with pytest.raises(InputError, match="step_size = Learns of MonteCarlo was used in another simulation"):
        moving(MonteCarlo(step))


INTEGRATORS: dict[str, Callable[[], Integrator]] = {
    "Langevin": lambda: Langevin(0.05, 1.0, masses=torch.tensor([1.0, 2.0, 3.0])),
    "Nose-Hoover": lambda: NoseHoover(0.05, 0.5),
    "tuned": lambda: MonteCarlo(TunedStep(warmup=20)),
    "hybrid": lambda: HybridMonteCarlo(0.1, 5),
}


@pytest.mark.parametrize("name", INTEGRATORS)
def test_an_integrator_and_a_system_are_shared(name: str) -> None:
    """Two simulations of the same parts, taken in turns and in other precisions, go as if each had its own."""
    make = INTEGRATORS[name]
    integrator, system = make(), AnalyticSystem(3, Harmonic(), box=Box(3.0), start=0.5)
    shared = [moving(integrator, system, seed=seed, precision=p) for seed, p in ((1, "mixed"), (2, "single"))]
    own = [
        moving(make(), AnalyticSystem(3, Harmonic(), box=Box(3.0), start=0.5), seed=seed, precision=p)
        for seed, p in ((1, "mixed"), (2, "single"))
    ]
    for runs in (shared, own):
        for _ in range(3):
            for run in runs:
                run.advance(7)
    for one, other in zip(shared, own, strict=True):
        assert torch.equal(one.state.positions, other.state.positions)


def test_training_in_mini_batches_is_shared() -> None:
    integrator = Adam(0.01, batch_size=8)
    shared = [moving(integrator, SPIRAL, seed=seed) for seed in (1, 2)]
    own = [moving(Adam(0.01, batch_size=8), SPIRAL, seed=seed) for seed in (1, 2)]
    for runs in (shared, own):
        for _ in range(3):
            for run in runs:
                run.advance(4)
    for one, other in zip(shared, own, strict=True):
        assert torch.equal(one.state.positions, other.state.positions)


def test_work_belongs_to_the_simulation_of_its_umbrella() -> None:
    steered = Umbrella(X, 0.0, stiffness=1.0, velocity=1e-3)
    moving(Langevin(0.05, 1.0), bias=steered, observe=[Work(steered)]).advance(10)
    with pytest.raises(InputError, match=WHY):
        moving(Langevin(0.05, 1.0), bias=steered, observe=[Work(steered)])


SCRIPT = """
import nnsim
from nnsim import Grid, cv
from nnsim.bias import Metadynamics
BIAS = Metadynamics(cv.Parameter(0), Grid(-5, 5, 50), height=0.1, sigma=0.3, pace=2)
def build(own: bool = True):
    bias = Metadynamics(cv.Parameter(0), Grid(-5, 5, 50), height=0.1, sigma=0.3, pace=2) if own else BIAS
    system = nnsim.systems.AnalyticSystem(2, start=0.5)
    return nnsim.Simulation(system, nnsim.integrators.Langevin(0.05, 1.0), bias=bias, every=2, steps=8)
"""


def test_a_script_builds_as_often_as_it_is_asked(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(SCRIPT)
    script = Script(tmp_path / "s.py")
    runs = [script.simulation({"own": True}).run(8) for _ in range(2)]
    assert torch.equal(runs[0].state.positions, runs[1].state.positions)
    script.simulation({"own": False}).run(8)
    with pytest.raises(InputError, match=r"make a new one for each simulation \(inside build\(\)"):
        script.simulation({"own": False})


@pytest.mark.slow
def test_a_resume_in_the_same_session_needs_a_new_bias(tmp_path: Path) -> None:
    bias = hills()
    cell(bias).run(20, output=tmp_path / "run.zarr", progress=False)
    with pytest.raises(InputError, match=WHY):
        cell(bias)
    cell(hills()).run(40, output=tmp_path / "run.zarr", resume=True, progress=False)


# ------------------------------------------------------------------------------------------------- run a second time


def test_a_second_run_to_the_same_step_says_that_it_does_nothing(tmp_path: Path) -> None:
    simulation = moving(Langevin(0.05, 1.0)).run(10)
    for steps in (10, 4):
        said = rf"run\({steps}\) does nothing.* at step 10 already.*a larger total, or advance\({steps}\)"
        with pytest.warns(NNSimWarning, match=said):
            simulation.run(steps)
        with pytest.warns(NNSimWarning, match="does nothing"):
            simulation.run(steps, output=tmp_path / f"{steps}.zarr", progress=False)
    assert simulation.state.step == 10
    assert simulation.run(12).advance(3).state.step == 15
    moving(Langevin(0.05, 1.0)).run(0)  # asked for nothing, did nothing


def test_a_finished_run_says_so_when_it_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.py").write_text(SCRIPT)
    logging.getLogger("nnsim").setLevel(logging.WARNING)
    assert nnsim("run", "s.py", "--no-progress").status == 0
    again = nnsim("run", "s.py", "--resume")
    assert again.status == 0
    shown = " ".join(again.out.replace("│", " ").split())  # a table of some width
    assert "nothing was left to do up to step 8; a larger --steps goes on" in shown
    assert Trajectory("s.zarr").steps == 8
