"""Modules that look at themselves again in the backward pass: there, too, they find the values of the walker."""

import gc
import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from conftest import statistics_scale
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from nnsim import InputError, Simulation, cv
from nnsim.bias import Umbrella
from nnsim.cv import ntk
from nnsim.integrators import Adam, GradientDescent, Langevin, VelocityVerlet
from nnsim.networks.call import Caller
from nnsim.systems import LossPotential, NeuralNetwork

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(12) % 2


class Looks(torch.autograd.Function):
    """y = x w^T, whose backward reads w from the layer itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, layer: nn.Linear) -> Tensor:
        ctx.save_for_backward(x)
        ctx.layer = layer
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None]:
        (x,) = ctx.saved_tensors
        return g @ ctx.layer.weight, g.T @ x, None


class Net(nn.Module):
    """3-6-6-2 with tanh, the inner layers evaluated in one of several ways that compute the same."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.first, self.head, self.how = nn.Linear(3, 6), nn.Linear(6, 2), how
        self.middle = nn.Sequential(nn.Tanh(), nn.Linear(6, 6), nn.Tanh())
        if how == "tied":
            self.middle.append(self.middle[1])
        if how == "frozen":
            self.middle[1].requires_grad_(False)
        self.register_buffer("shift", torch.linspace(-0.1, 0.1, 6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x) + self.shift
        if self.how == "function":
            layer = self.middle[1]
            h = torch.tanh(Looks.apply(torch.tanh(h), layer.weight, layer) + layer.bias)
        elif self.how == "sequential":
            h = checkpoint_sequential(self.middle, 2, h, use_reentrant=False)
        elif self.how == "plain":
            h = self.middle(h)
        else:
            h = checkpoint(self.middle, h, use_reentrant=False)
        return self.head(h)


VALUES = torch.randn(2, 80, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
WAYS = ("checkpoint", "sequential", "function", "tied", "frozen")


def net(how: str) -> Net:
    torch.manual_seed(3)
    return Net(how)


def plain_twin(how: str) -> Net:
    """The same function without looking back."""
    twin = net(how)
    twin.how = "plain"
    return twin


def system(module: nn.Module, **settings: Any) -> NeuralNetwork:
    settings = {"potential": LossPotential(30.0), "initial": "normal", "initial_scale": 0.7, **settings}
    return NeuralNetwork(module, (X, Y), **settings)


def other_values(module: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: (p.detach() + 0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype)).requires_grad_()
        for name, p in module.named_parameters()
        if p.requires_grad
    }


@pytest.mark.parametrize("how", WAYS)
def test_first_and_second_derivatives_are_those_of_finite_differences(how: str) -> None:
    module = net(how).double()
    call, tensors = Caller(module), other_values(module)

    def outputs(*values: Tensor) -> Tensor:
        return call(dict(zip(tensors, values, strict=True)), X[:2])

    assert gradcheck(outputs, tuple(tensors.values()))
    if how != "function":  # its backward reads a tensor that is not among its inputs, which has no graph there
        assert gradgradcheck(outputs, tuple(tensors.values()))


@pytest.mark.slow
@pytest.mark.parametrize("how", WAYS)
def test_forces_are_those_of_the_plain_module(how: str) -> None:
    systems = [system(module) for module in (net(how), plain_twin(how))]
    assert systems[0].kind == "loop"
    pair = [Simulation(one, VelocityVerlet(0.01), walkers=3, precision="double") for one in systems]
    torch.testing.assert_close(pair[0].state.forces, pair[1].state.forces, rtol=1e-12, atol=1e-12)
    assert pair[0].state.forces.abs().max() > 1


@pytest.mark.slow
def test_the_energy_is_conserved() -> None:
    """At a fixed time the error of velocity Verlet falls as dt^2, with the exact forces only."""

    def drift(dt: float) -> float:
        run = Simulation(system(net("checkpoint")), VelocityVerlet(dt, kT=1.0), walkers=2, precision="double")

        def total() -> Tensor:
            return run.state.energy + 0.5 * run.state.velocities.square().sum(1)

        start = total()
        run.advance(round(2 * statistics_scale(0.5) / dt))
        return float((total() - start).abs().max())

    assert drift(0.005) < 0.3 * drift(0.01) < 0.03


@pytest.mark.parametrize("batch_size", [None, 5])
@pytest.mark.parametrize("optimiser", [Adam, GradientDescent])
def test_training_follows_the_same_path(optimiser: Callable[..., Any], batch_size: int | None) -> None:
    runs = [
        Simulation(system(module), optimiser(0.02, batch_size=batch_size), walkers=2, precision="double").advance(60)
        for module in (net("checkpoint"), plain_twin("checkpoint"))
    ]
    torch.testing.assert_close(runs[0].state.positions, runs[1].state.positions, rtol=1e-9, atol=1e-9)


def test_mini_batches_have_the_gradient_of_their_points() -> None:
    """Of each walker's own points; all points in one batch have the gradient of the whole."""
    for how in ("checkpoint", "plain"):  # a loop, and torch.func.vmap
        one = system(net(how))
        positions = one.initial_positions(3, torch.Generator().manual_seed(2)).requires_grad_()
        order = torch.stack([torch.randperm(12, generator=torch.Generator().manual_seed(w)) for w in range(3)])
        whole = one.loss(one.forward(positions, ("train",))["train"], "train")
        (expected,) = torch.autograd.grad(whole.sum(), positions)
        (found,) = torch.autograd.grad(one.batch_loss(positions, order).sum(), positions)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("how", ["checkpoint", "sequential", "function", "tied"])
def test_the_tangent_kernel_is_that_of_the_plain_module(how: str) -> None:
    positions = torch.randn(2, sum(p.numel() for p in net(how).parameters()), dtype=torch.float64)
    found, expected = (ntk.kernel(one.double(), X, positions=positions) for one in (net(how), plain_twin(how)))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_the_kernel_is_recorded_but_a_bias_on_it_is_refused() -> None:
    """Its force is a second derivative, through layers that have the walker's values in the first only."""
    trace = cv.NTKTrace(split="train", points=6)
    found, expected = (
        trace(Simulation(system(one), Langevin(0.01, 1.0), precision="double").force_field.evaluate(VALUES))
        for one in (net("checkpoint"), plain_twin("checkpoint"))
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    with pytest.raises(InputError, match=r"the gradient of the CV 'ntk_trace_train_6points' is not its derivative"):
        Simulation(system(net("checkpoint")), Langevin(0.01, 1.0), bias=Umbrella(trace, 0.0, stiffness=0.1))


class Failing(nn.Module):
    """Fails in its backward pass, if told so."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.fails = nn.Linear(3, 2), False

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + checkpoint(self._again, x, use_reentrant=False)

    def _again(self, x: Tensor) -> Tensor:
        if self.fails:
            raise ValueError("again")
        return torch.tanh(self.layer(x))


def test_the_module_has_its_own_parameters_again_whatever_happens() -> None:
    module = Failing().double()
    own = dict(module.named_parameters())
    outputs = Caller(module)(other_values(module), X)
    assert dict(module.named_parameters()).items() == own.items()
    module.fails = True
    with pytest.raises(ValueError, match="again"):
        outputs.sum().backward()
    assert all(p is own[name] for name, p in module.named_parameters())
    with pytest.raises(ValueError, match="again"):
        Caller(module)(other_values(module), X)
    assert all(p is own[name] for name, p in module.named_parameters())


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def test_the_graph_within_is_freed_with_the_one_around(no_collector: None) -> None:
    seen: list[Any] = []

    class Noting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.layer(x)
            seen.append(weakref.ref(h))
            return h * h

    module = Noting().double()
    call, tensors = Caller(module), other_values(module)
    outputs = call(tensors, X)
    torch.autograd.grad(outputs.sum(), list(tensors.values()), retain_graph=True)
    assert seen[-1]() is not None
    torch.autograd.grad(outputs.sum(), list(tensors.values()))
    assert seen[-1]() is None
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(outputs.sum(), list(tensors.values()))
    call(tensors, X)  # without a backward pass
    assert seen[-1]() is None


class Listed(nn.Module):
    """Keeps a second hold of its parameter, out of reach of whoever calls it with another."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.all = [self.layer.weight]

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.all[0].T + self.layer.bias


class Cached(nn.Module):
    """Normalises its weights once and for all."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.ready = nn.Linear(3, 2), None

    def forward(self, x: Tensor) -> Tensor:
        if self.ready is None:
            self.ready = (self.layer.weight / self.layer.weight.norm()).detach()
        return x @ self.ready.T + self.layer.bias


@pytest.mark.parametrize("make", [Listed, Cached])
def test_hidden_parameters_are_refused(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(InputError, match=r"parameters that it keeps outside of its own attributes .*ParameterList"):
        system(make())


def test_probabilities_do_not_hide_a_wrong_gradient_from_the_choice() -> None:
    """Their sum has none."""

    class Softmax(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(dim=1)

    torch.manual_seed(3)
    one, other = system(Softmax("function")), system(Softmax("plain"))
    other.module.load_state_dict(one.module.state_dict())
    forces = [
        Simulation(each, VelocityVerlet(0.01), walkers=2, precision="double").state.forces for each in (one, other)
    ]
    torch.testing.assert_close(*forces, rtol=1e-12, atol=1e-12)
    assert math.isfinite(float(forces[0].sum()))
