"""Modes of torch that are set around a run do not reach into it; random generators and the user's tensors stay."""

import logging
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import nnsim
from torch import Tensor, nn

from nnsim import Box, InputError, Simulation, Trajectory, cv
from nnsim.bias import Umbrella
from nnsim.cv import ntk
from nnsim.integrators import Adam, Langevin, MonteCarlo
from nnsim.systems import LossPotential, NeuralNetwork, digits, spiral_classification, spiral_regression

X = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
Y = (X.sum(1) > 0).long()


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.norm(self.first(x))))


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


MODES: dict[str, Callable[[], AbstractContextManager]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
}
KINDS = {"batched": dense, "vmap": Deep, "loop": Deep}


def matrix_potential(evaluation: Any) -> Tensor:
    """Of a matrix product, which autocast would do in bfloat16."""
    q = evaluation.positions
    return (q @ torch.eye(q.shape[1], dtype=q.dtype) * q).sum(1)


def run(kind: str, precision: str, integrator: Any = None, **settings: Any) -> Simulation:
    potential = LossPotential(50.0) + matrix_potential
    # between the last two "auto" chooses by the clock
    system = NeuralNetwork(KINDS[kind], (X, Y), (X[:9], Y[:9]), potential=potential, walkers=kind)
    settings = {"observe": [cv.Loss("test"), cv.Accuracy("test"), cv.NTKTrace(split="test")], "every": 1, **settings}
    return Simulation(system, integrator or Langevin(0.01, 1.0), walkers=2, precision=precision, **settings)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("precision", ["mixed", "double", "single"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_inside_is_the_run_outside_to_the_bit(kind: str, precision: str, mode: str) -> None:
    spring = Umbrella(cv.NTKTrace(split="train", points=5), 0.0, stiffness=1e-3)
    outside = run(kind, precision, bias=spring).advance(4)
    with MODES[mode]():
        inside = run(kind, precision, bias=spring).advance(2)
        q = inside.state.positions + 0.0  # an inference tensor, under that mode
        forces = inside.force_field(q, 2).forces
        loss = inside.force_field.evaluate(q).loss("train")
    assert torch.equal(forces, inside.force_field(inside.state.positions, 2).forces)
    assert torch.equal(loss, inside.force_field.evaluate(inside.state.positions).loss("train"))
    with MODES[mode]():
        inside.advance(1)
    inside.advance(1)
    for name in ("positions", "forces", "energy", "cvs"):
        assert torch.equal(getattr(inside.state, name), getattr(outside.state, name))
    for name in outside.history.names:
        assert np.array_equal(inside.history[name], outside.history[name])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "integrator", [Adam(0.01), Adam(0.01, batch_size=7), MonteCarlo(0.1)], ids=["Adam", "Adam of batches", "MonteCarlo"]
)
def test_training_and_monte_carlo_inside_are_those_outside(integrator: Any, mode: str) -> None:
    outside = run("vmap", "mixed", integrator).advance(5)
    with MODES[mode]():
        inside = run("vmap", "mixed", integrator).advance(5)
    assert torch.equal(inside.state.positions, outside.state.positions)


@pytest.mark.parametrize("mode", MODES)
def test_the_tangent_kernel_inside_is_that_outside(mode: str) -> None:
    torch.manual_seed(0)
    module = Deep()
    expected = ntk.kernel(module, X), ntk.diagonal(module, X, outputs="all")
    with MODES[mode]():
        found = ntk.kernel(module, X), ntk.diagonal(module, X, outputs="all")
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_a_module_and_data_made_under_inference_mode() -> None:
    with torch.inference_mode():
        torch.manual_seed(0)
        module, x = Deep(), X.clone()
        simulation = Simulation(NeuralNetwork(module, (x, Y), potential=LossPotential(9.0)), Langevin(0.01, 1.0))
    simulation.advance(3)
    assert simulation.state.forces.abs().max() > 0


class Inside(nn.Module):
    """Rounds on the way."""

    def __init__(self, round_: Callable[[Tensor, nn.Linear], Tensor]) -> None:
        super().__init__()
        self.first, self.head, self.round = nn.Linear(4, 8), nn.Linear(8, 2), round_

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.round(x, self.first)))


def autocast(x: Tensor, layer: nn.Linear) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return layer(x).to(x.dtype)


def to_half(x: Tensor, layer: nn.Linear) -> Tensor:
    return layer(x.half().to(x.dtype))


def to_float(x: Tensor, layer: nn.Linear) -> Tensor:
    return layer(x.float().to(layer.weight.dtype))


@pytest.mark.parametrize(("round_", "name"), [(autocast, "bfloat16"), (to_half, "float16")])
def test_a_module_that_rounds_inside_is_refused(round_: Any, name: str) -> None:
    """Its energy is constant in pieces, whatever type the outputs have in the end."""
    with pytest.raises(InputError, match=rf"the module computes in {name} where float32 is asked for, by torch.autoc"):
        NeuralNetwork(lambda: Inside(round_), (X, Y))


def test_a_module_for_single_precision_is_refused_in_double() -> None:
    system = NeuralNetwork(lambda: Inside(to_float), (X, Y), potential=LossPotential(1.0))
    Simulation(system, Langevin(0.01, 1.0)).advance(1)
    with pytest.raises(InputError, match=r"computes in float32 where float64 is asked for, by x.float\(\).*'mixed'"):
        Simulation(system, Langevin(0.01, 1.0), precision="double")
    constant = NeuralNetwork(lambda: Inside(lambda x, layer: layer(x) @ torch.eye(8)), (X, Y))
    with pytest.raises(InputError, match=r"cannot be evaluated in float64 \(.*; let its forward make constants of the"):
        Simulation(constant, MonteCarlo(), precision="double")


# ---------------------------------------------------------------- random generators


def states() -> tuple[Any, ...]:
    return torch.random.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002


def drawing_from_all() -> nn.Module:
    module = Deep()
    with torch.no_grad():
        module.first.bias[0] = random.random()
        module.first.bias[1] = np.random.rand()  # noqa: NPY002
    return module


def test_a_module_that_is_made_from_a_seed() -> None:
    before = states()
    runs = [
        Simulation(NeuralNetwork(drawing_from_all, (X, Y), seed=seed), MonteCarlo(), walkers=2) for seed in (0, 0, 1)
    ]
    assert states() == before
    starts = [one.state.positions for one in runs]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    torch.manual_seed(1)
    assert torch.equal(runs[2].system.module.head.weight, expected_head(seed=1))


def expected_head(seed: int) -> Tensor:
    """As `torch.manual_seed(seed)` before the module is made has it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Deep().head.weight


@pytest.mark.parametrize(
    "build", [spiral_classification, spiral_regression, digits, lambda: NeuralNetwork(Deep, (X, Y))]
)
def test_building_a_system_leaves_all_generators_alone(build: Callable[[], NeuralNetwork]) -> None:
    build()  # scikit-learn draws a number when it is imported
    before = states()
    Simulation(build(), MonteCarlo())
    assert states() == before


def test_a_start_that_no_seed_determines_is_said_and_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said: list[int] = []

    def header(module: Any, name: str, **settings: Any) -> dict[str, Any]:
        with caplog.at_level(logging.INFO, logger="nnsim"):
            caplog.clear()
            simulation = Simulation(NeuralNetwork(module, (X, Y), **settings), MonteCarlo(0.1))
            said.append(sum("which no seed determines" in message for message in caplog.messages))
        simulation.run(2, output=tmp_path / f"{name}.zarr", progress=False)
        Simulation(NeuralNetwork(module, (X, Y), **settings), MonteCarlo(0.1)).run(
            4, output=tmp_path / f"{name}.zarr", resume=True, progress=False
        )
        return Trajectory(tmp_path / f"{name}.zarr").header

    assert header(Deep(), "ready")["start"]["unseeded"].startswith("walkers start at the module's own values, which no")
    assert header(Deep, "made", seed=5)["start"] == {"module_seed": 5}
    assert header(Deep(), "drawn", initial="normal")["start"] == {}
    assert said == [1, 0, 0]


def test_the_same_seed_gives_the_same_run_in_each_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "input.py").write_text(
        "import torch, nnsim\n"
        "from nnsim.integrators import Langevin\n"
        "from nnsim.systems import LossPotential, NeuralNetwork\n"
        "def build(output=None):\n"
        "    x, y = torch.linspace(-1, 1, 40).view(10, 4), torch.arange(10) % 2\n"
        "    system = NeuralNetwork(lambda: torch.nn.Linear(4, 2), train=(x, y), potential=LossPotential(9.0))\n"
        "    return nnsim.Simulation(system, Langevin(0.01, 1.0), steps=5, every=5, threads=1)\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("a.zarr", "b.zarr"):
        assert nnsim("run", "input.py", "--no-progress", "-o", name).status == 0
    a, b = (Trajectory(tmp_path / name).positions for name in ("a.zarr", "b.zarr"))
    assert a is not None
    assert b is not None
    assert np.array_equal(a[:], b[:])


# ---------------------------------------------------------------- the user's tensors


class InPlace(nn.Module):
    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.change = nn.Linear(4, 2), change

    def forward(self, x: Tensor) -> Tensor:
        self.change(x)
        return self.layer(x)


def halve_a_slice(x: Tensor) -> None:
    x[:, 1] *= 0.5


def by_numpy(x: Tensor) -> None:
    x.numpy()[:] += 1


@pytest.mark.parametrize(
    "change", [lambda x: x.div_(255), lambda x: x.view(-1).sub_(0.5), halve_a_slice, by_numpy, torch.relu_]
)
@pytest.mark.parametrize("given", [lambda x: x, lambda x: x.numpy(), lambda x: torch.as_tensor(x.numpy())])
def test_a_forward_that_changes_its_input_is_refused(change: Any, given: Any) -> None:
    x = X.clone()
    with pytest.raises(InputError, match=r"the module's forward changes its input, as x /= 255.* such as x = x / 255"):
        NeuralNetwork(InPlace(change), (given(x), Y))
    assert torch.equal(x, X)
    with pytest.raises(InputError, match="forward changes its input"):
        ntk.kernel(InPlace(change), x)
    assert torch.equal(x, X)


def test_one_that_does_so_at_some_points_only_is_found_at_the_first_look() -> None:
    x = X.clone()
    x[18, 0] = 99.0  # not among those that are tried
    module = InPlace(lambda x: x.clamp_(max=50.0) if x.amax() > 50 else x)
    system = NeuralNetwork(module, (x, Y), walkers="loop")
    with pytest.raises(InputError, match="forward changes its input or its parameters in place"):
        Simulation(system, Langevin(0.01, 1.0), bias=Umbrella(cv.Loss("train"), 0.0, stiffness=1.0))
    assert x[18, 0] == 99.0


class Clamped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.layer.weight.clamp_(-1, 1)
        return self.layer(x)


def test_a_forward_that_changes_its_parameters_is_refused() -> None:
    module = Clamped()
    before = module.layer.weight.clone()
    with pytest.raises(InputError, match=r"the module's forward changes its parameter 'layer.weight'; compute someth"):
        NeuralNetwork(module, (X, Y))
    assert torch.equal(module.layer.weight, before)
    words = nn.Sequential(nn.Embedding(9, 4, max_norm=1.0), nn.Flatten(), nn.Linear(20, 2))
    with pytest.raises(InputError, match=r"layer '0' \(Embedding\) has max_norm = 1, so its forward changes its par"):
        NeuralNetwork(words, (torch.randint(0, 9, (30, 5)), Y))


class Counting(nn.Module):
    """Changes a buffer each time, which its outputs do not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x)


@pytest.mark.slow
def test_nothing_of_the_users_is_changed_by_a_run() -> None:
    module, x, y, masses, weight = Counting(), X.clone(), Y.clone(), torch.ones(10), torch.tensor([1.0, 2.0])
    limits = torch.full((10,), 3.0)
    given = {"x": x, "y": y, "masses": masses, "weight": weight, "limits": limits, **module.state_dict()}
    before = {name: value.clone() for name, value in given.items()}
    system = NeuralNetwork(
        module, (x, y), loss=nn.CrossEntropyLoss(weight=weight), potential=LossPotential(9.0), box=Box(limits)
    )
    Simulation(system, Langevin(0.01, 1.0, masses=masses), walkers=2, precision="double").advance(5)
    ntk.kernel(module, x)
    assert all(torch.equal(value, before[name]) for name, value in given.items())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed", "double"])
@pytest.mark.parametrize("as_given", [lambda x: x, lambda x: x.numpy(), lambda x: memoryview(x.numpy())])
def test_what_the_user_does_to_the_data_later_does_not_matter(as_given: Any, precision: str) -> None:
    runs = []
    for spoil in (False, True):
        x, y, weight = X.clone(), Y.clone(), torch.tensor([1.0, 2.0])
        system = NeuralNetwork(
            Deep, (as_given(x), as_given(y)), loss=nn.CrossEntropyLoss(weight=weight), potential=LossPotential(9.0)
        )
        if spoil:
            x.zero_()
        simulation = Simulation(system, Langevin(0.01, 1.0), precision=precision)
        if spoil:
            y.zero_()
            weight.zero_()
        runs.append(simulation.advance(5).state.positions)
    assert torch.equal(*runs)
