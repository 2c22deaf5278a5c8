"""Networks that are evaluated in pieces of walkers and points."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import nnsim
from nnsim import InputError, cv
from nnsim.bias import Umbrella
from nnsim.evaluation import Evaluation
from nnsim.integrators import GradientDescent, Langevin
from nnsim.precision import Precision
from nnsim.systems import NeuralNetwork, pieces
from nnsim.systems.pieces import Plan
from nnsim.systems.potentials import LossPotential


class Odd(nn.Module):
    """Nothing that could be traced: it looks at its numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.first(x))
        return self.second(h if h.shape[-1] == 7 else h + 1) * (1 + h.square().mean(1, keepdim=True))


def system(way: str = "auto", module: type = Odd, **settings) -> NeuralNetwork:
    generator = torch.Generator().manual_seed(2)
    x, test = torch.randn(23, 5, generator=generator), torch.randn(11, 5, generator=generator)
    y, y_test = (torch.randint(0, 3, (len(one),), generator=generator) for one in (x, test))
    make = module if module is Odd else lambda: nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    return NeuralNetwork(
        make, (x, y), (test, y_test), walkers=way, initial="normal", initial_scale=0.5,
        potential=LossPotential(10.0), **settings,
    )  # fmt: skip


def prepared(way: str, module: type) -> NeuralNetwork:
    found = system(way, module)
    found.prepare(Precision.named("double"), torch.device("cpu"))
    return found


@pytest.mark.parametrize(("way", "module"), [("loop", Odd), ("vmap", Odd), ("batched", nn.Sequential)])
@pytest.mark.parametrize(("walkers", "points"), [(1, 1), (2, 8), (5, 10), (3, 100), (100, 16)])
def test_outputs_and_gradients_are_those_of_the_whole(way: str, module: type, walkers: int, points: int) -> None:
    whole, parts = prepared(way, module), prepared(way, module)
    parts.follow_plan(Plan(way, walkers, points).record())
    positions = 0.5 * torch.randn(5, whole.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    index = torch.randint(0, 23, (5, 6), generator=torch.Generator().manual_seed(3))
    found = []
    for one in (whole, parts):
        leaf = positions.clone().requires_grad_()
        evaluation = Evaluation(one, leaf, ("train", "test"))
        total = evaluation.loss("train").sin().sum() + evaluation.outputs("test").square().sum()
        of_batch = one.batch_loss(leaf, index)
        gradients = [torch.autograd.grad(value, leaf)[0] for value in (total, of_batch.sum())]
        with torch.no_grad():
            plain = one.forward(leaf, ["test"])["test"]
        found.append([evaluation.outputs("train").detach(), of_batch.detach(), plain, *gradients])
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(second, first, rtol=1e-12, atol=1e-12)


def test_a_gradient_of_a_gradient() -> None:
    whole, parts = prepared("loop", Odd), prepared("loop", Odd)
    parts.follow_plan(Plan("loop", 1, 4).record())
    found = []
    for one in (whole, parts):
        leaf = torch.linspace(-1, 1, 2 * one.size, dtype=torch.float64).view(2, -1).requires_grad_()
        (gradient,) = torch.autograd.grad(one.forward(leaf, ["train"])["train"].square().sum(), leaf, create_graph=True)
        found.append(torch.autograd.grad(gradient.square().sum(), leaf)[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-11, atol=1e-11)


def simulation(walkers: int = 4, **settings) -> nnsim.Simulation:
    return nnsim.Simulation(
        system(), Langevin(0.01, 1.0), bias=Umbrella(cv.LogLoss("test"), 0.0, 3.0), walkers=walkers, seed=4, threads=1,
        platform="reference", precision="double", **settings,
    )  # fmt: skip


def test_pieces_are_as_large_as_fit(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    whole = simulation()
    whole.advance(20)
    assert (whole.evaluation["walkers"], whole.evaluation["points"]) == (4, 34)
    sizes = []
    for most in (20_000, 10_000, 5_000, 1):
        monkeypatch.setattr(pieces, "MOST_BYTES", most)
        with caplog.at_level(logging.INFO, logger="nnsim"):
            parts = simulation()
        assert "evaluated in pieces" in caplog.text
        sizes.append(parts.evaluation["walkers"] * parts.evaluation["points"])
        parts.advance(20)
        torch.testing.assert_close(parts.state.positions, whole.state.positions, rtol=1e-10, atol=1e-10)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1] == 1


def test_a_resume_goes_on_with_the_plan_of_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """To the bit, also where another would be chosen now; the header tells it."""
    plans = [Plan("loop", 1, 5), Plan("vmap", 4, 100)]

    def run(name: str, steps: int, plan: Plan, **settings) -> nnsim.Simulation:
        monkeypatch.setattr("nnsim.systems.network.plan_of", lambda *_: plan)
        return simulation(every=5).run(steps, output=tmp_path / name, progress=False, **settings)

    whole = run("whole.zarr", 40, plans[0])
    run("parts.zarr", 20, plans[0])
    parts = run("parts.zarr", 40, plans[1], resume=True)
    assert parts.evaluation == plans[0].record()
    assert torch.equal(parts.state.positions, whole.state.positions)
    assert nnsim.Trajectory(tmp_path / "parts.zarr").header["evaluation"] == plans[0].record()


def test_a_plan_for_another_module_is_left() -> None:
    one = prepared("loop", Odd)
    one.follow_plan(Plan("batched", 1, 1).record())
    one.follow_plan({})
    assert one._forward.plan.way == "loop"


def test_the_clock_decides_only_where_there_is_much_to_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(np.cumsum([x for gain in (1.4, 1.6) for cost in (gain, 1.0) for x in 3 * (0.0, cost)]))
    monkeypatch.setattr("nnsim.systems.pieces.time.perf_counter", lambda: next(times))
    one = prepared("auto", Odd)
    start = torch.zeros(3, one.size, dtype=torch.float64)
    assert [one.plan_evaluation(start, None, True)["way"] for _ in range(2)] == ["vmap", "loop"]
    assert prepared("vmap", Odd).plan_evaluation(start, None, True)["way"] == "vmap"  # which was asked for


def test_what_is_quick_is_not_decided_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(np.cumsum([x for cost in (0.009, 0.001) for x in 3 * (0.0, cost)]))
    monkeypatch.setattr("nnsim.systems.pieces.time.perf_counter", lambda: next(times))
    one = prepared("auto", Odd)
    assert one.plan_evaluation(torch.zeros(3, one.size, dtype=torch.float64), None, True)["way"] == "vmap"


def test_walkers_that_cannot_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "free_bytes", lambda device: 100_000)
    with pytest.raises(InputError, match=r"500 walkers of 66 parameters take about 2.1\d MB, and 100 kB of memory are"):
        simulation(walkers=500)
    nnsim.Simulation(system(), GradientDescent(0.1, batch_size=4), walkers=4, platform="reference")


SCRIPT = """
import sys, torch, nnsim
from torch import nn
from nnsim.systems import NeuralNetwork, pieces
pieces.MOST_BYTES = int(sys.argv[1])
class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution, self.last = nn.Conv2d(1, 16, 3, padding=1), nn.Linear(16, 2)
    def forward(self, x):
        h = self.convolution(x)
        for _ in range(4):
            h = torch.tanh(h) * (1.0 if h.shape[1] == 16 else 2.0)
        return self.last(h.mean((2, 3)))
x = torch.randn(200, 1, 32, 32)
system = NeuralNetwork(Wide, (x, torch.arange(200) % 2), potential=lambda e: e.loss("train"))
run = nnsim.Simulation(system, nnsim.integrators.Langevin(0.01, 1.0), walkers=8, platform="reference", threads=1)
run.advance(1)
# Of this program alone: that of `resource` counts the process from which it was started.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_the_memory_of_a_run_is_bounded() -> None:
    """8 walkers on 200 images would take 1 GB; with pieces of 50 MB it is little more than what torch takes itself."""
    peak = {}
    for most in (5 * 10**7, 10**12):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(most)], capture_output=True, text=True, check=True, timeout=300
        )
        peak[most] = float(run.stdout) / 1e3  # MB
    assert peak[5 * 10**7] < 900
    assert peak[10**12] > peak[5 * 10**7] + 300
