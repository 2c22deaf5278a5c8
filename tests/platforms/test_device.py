"""The platform for GPUs, on the CPU: all of it but the graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_frames import CASES, EachStep, OwnNumbers, assert_same_record, follows, history
from test_native_dynamics import BIASES, INTEGRATORS, LN_LOSS, TRAINING, classifier, wang_landau
from torch.utils._python_dispatch import TorchDispatchMode

import nnsim
from nnsim import Box, DivergedError, Grid, InputError
from nnsim.bias import Metadynamics, Wall
from nnsim.integrators import Langevin
from nnsim.platforms.device import DevicePlatform, _Steps, obstacle
from nnsim.schedules import InverseTime
from nnsim.systems import AnalyticSystem, Harmonic
from nnsim.systems.potentials import LossPotential


class Blocks(DevicePlatform):
    """The same on a CPU."""

    name = "blocks"

    @classmethod
    def obstacle(cls, simulation: nnsim.Simulation) -> str | None:
        return obstacle(simulation)


def both(steps: int = 120, **settings):
    return history("reference", steps, **settings), history(Blocks, steps, **settings)


MANY = {
    **{
        f"integrator {name}": {"integrator": one, "bias": wang_landau, "steps": 60} for name, one in INTEGRATORS.items()
    },
    **{f"training {name}": {"integrator": one, "steps": 60} for name, one in TRAINING.items()},
    **{name: case for name, case in CASES.items() if "kernels" not in name},  # which it leaves to the reference
}


@pytest.mark.slow
@pytest.mark.parametrize("case", MANY)
def test_the_record_is_that_of_the_reference_platform(case: str) -> None:
    one, other = both(**MANY[case])
    assert_same_record(one, other, 1e-9)
    torch.testing.assert_close(other.state.velocities, one.state.velocities, rtol=1e-7, atol=1e-9)


def test_a_bias_of_kernels_is_left_to_the_reference_platform() -> None:
    with pytest.raises(nnsim.InputError, match="opes"):
        history(Blocks, 2, bias=BIASES["kernels"])


@pytest.mark.parametrize("kind", ["reflecting", "periodic"])
def test_walls_of_the_box_everywhere(kind: str) -> None:
    """Also where a step crosses the box several times, and where it is another one for each parameter."""
    box = Box(lower=[-1.0, 0.0, -2.0], upper=[1.0, 0.5, 3.0], kind=kind)
    positions = 4 * torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = []
    for everywhere in (False, True):
        q, v = positions.clone(), torch.ones_like(positions)
        box.prepare(torch.float64, torch.device("cpu"))
        if everywhere:
            box.everywhere()
        box.confine_(q, v)
        found.append((q, v))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


class Waits(TorchDispatchMode):
    """Counts for what a host would have to wait: numbers that it asks for, and sizes that depend on them."""

    ASKED = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique", "bincount")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += any(function.__name__.startswith(name) for name in self.ASKED)
        return function(*args, **(kwargs or {}))


WAITLESS = {
    **{name: {"integrator": one, "bias": wang_landau} for name, one in INTEGRATORS.items()},
    # Blocks end where temperatures are swapped, and where a schedule looks at the histogram.
    **{
        f"bias {name}": {"bias": make}
        for name, make in BIASES.items()
        if not any(part in name for part in ("exchange", "flatness", "kernels"))
    },
    "adam": {"integrator": TRAINING["adam"]},
    "descent": {"integrator": TRAINING["descent"]},
    "box": {"system": classifier(LossPotential(9.0), box=Box(0.6)), "integrator": Langevin(0.05, 1.0)},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", WAITLESS)
def test_the_host_waits_once_a_block(case: str) -> None:
    simulation = history(Blocks, 6, snapshot_every=10**6, **WAITLESS[case])
    counts = []
    for steps in (6, 18):
        simulation._slice_steps = 10**6
        with Waits() as waits:
            simulation.platform.advance(simulation.state, steps)
        counts.append(waits.count)
    assert counts[0] == counts[1] < 40


def test_neither_blocks_nor_cuts_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    def make():
        return [*wang_landau(), Metadynamics(LN_LOSS, Grid(-4, 3, 70), height=0.3, sigma=0.2, pace=7, bias_factor=5.0)]

    whole = history(Blocks, bias=make)
    assert_same_record(whole, history(Blocks, bias=make, reporters=[EachStep()]), 0.0)
    monkeypatch.setattr("nnsim.platforms.device.MOST_STEPS", 13)
    assert_same_record(whole, history(Blocks, bias=make), 0.0)


def test_numbers_of_an_own_bias_are_those_of_the_frame() -> None:
    def make():
        return OwnNumbers(LN_LOSS, Grid(-4, 3, 70), InverseTime(0.5, 1e3), kernel=0.2)

    assert_same_record(*both(bias=make), 1e-9)


def test_any_system(tmp_path: Path) -> None:
    """Also such as no native code knows, with a wall that some walkers meet; stopped and resumed to the bit."""

    def run(name: str, steps: int, **more) -> nnsim.Simulation:
        coordinate = nnsim.cv.Parameter(0)
        bias = [
            Metadynamics(coordinate, Grid(-3, 3, 60), height=0.1, sigma=0.2, pace=3, bias_factor=4.0),
            Wall(coordinate, upper=1.0, strength=50.0),
        ]
        simulation = nnsim.Simulation(
            AnalyticSystem(3, Harmonic(), start=0.0), Langevin(0.1, 1.0), bias=bias, walkers=5, seed=3, every=7,
            platform=Blocks,
        )  # fmt: skip
        return simulation.run(steps, output=tmp_path / name, progress=False, **more)

    whole = run("whole.zarr", 200)
    run("parts.zarr", 90)
    parts = run("parts.zarr", 200, resume=True)
    assert torch.equal(parts.state.positions, whole.state.positions)
    assert torch.equal(parts.force_field.biases[0].potential, whole.force_field.biases[0].potential)


def test_what_was_made_before_something_became_infinite_is_recorded() -> None:
    """And the step at which it did is told."""

    def diverging(platform):
        return nnsim.Simulation(
            classifier(LossPotential(1e4), box=Box(kind="open")), Langevin(0.5, 1e-6), walkers=3, every=1, seed=1,
            threads=1, platform=platform, precision="single",
        )  # fmt: skip

    steps = []
    for platform in ("reference", Blocks):
        simulation = diverging(platform)
        with pytest.raises(DivergedError, match="became NaN or infinite") as caught:
            simulation.advance(100_000)
        failed = int(str(caught.value).split(":")[0].removeprefix("step "))
        assert np.array_equal(simulation.history.steps("potential_energy"), np.arange(1, failed))
        steps.append(failed)
    assert steps[0] == steps[1]


def test_it_is_not_taken_on_a_cpu() -> None:
    settings = {"system": AnalyticSystem(3, Harmonic(), start=0.0), "integrator": Langevin(0.1, 1.0)}
    assert nnsim.Simulation(**settings).platform.name == "reference"
    with pytest.raises(InputError, match="for GPUs"):
        nnsim.Simulation(**settings, platform="device")


class Deposits:
    """Asks a bias how many deposits it has made."""

    name = "deposits"

    def __init__(self, bias: Metadynamics) -> None:
        self.bias = bias

    def observe(self, state: nnsim.State, evaluation: object) -> torch.Tensor:
        return torch.full((state.walkers,), float(self.bias.deposits))


def test_an_observable_that_asks_a_bias_sees_it_as_it_is() -> None:
    bias = Metadynamics(LN_LOSS, Grid(-4, 3, 70), height=0.3, sigma=0.2, pace=7)
    found = history(Blocks, 100, bias=lambda: [bias], observe=[Deposits(bias)])
    assert found.history["deposits"][:, 0].tolist() == [3.0 * (step // 7) for step in range(10, 101, 10)]


def test_a_time_step_that_follows_what_is_learnt_is_that_of_each_step() -> None:
    assert_same_record(follows("reference"), follows(Blocks), 1e-9)


def test_a_graph_serves_where_all_is_as_it_was() -> None:
    """Tensors and tables in their places, and numbers the same to the bit."""
    found = history(Blocks, 20, bias=wang_landau, integrator=Langevin(torch.full((3,), 0.002), 1.0))
    state, force_field, integrator = found.state, found.force_field, found.integrator

    def steps() -> _Steps:
        return _Steps(tuple(integrator.program(force_field)), force_field, state, None)

    first = steps()
    assert first._serves(steps())
    other = history(Blocks, 20, bias=wang_landau, integrator=Langevin(torch.tensor([0.002, 0.002, 0.00200001]), 1.0))
    changed = _Steps(tuple(other.integrator.program(force_field)), force_field, state, None)
    assert not first._serves(changed)
    force_field.biases[0].load_state_dict(force_field.biases[0].state_dict())
    assert not first._serves(steps())
