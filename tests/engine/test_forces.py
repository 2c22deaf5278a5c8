"""Forces are minus the gradient of the energy, or the dynamics is refused; what only looks odd is not."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import statistics_scale
from torch import Tensor, nn

from nnsim import Bias, Box, CollectiveVariable, Grid, InputError, NNSimWarning, Simulation, System, cv
from nnsim.bias import Boltzmann, ReplicaExchange, Umbrella, Wall, WangLandau
from nnsim.integrators import (
    Adam,
    Brownian,
    GradientDescent,
    HybridMonteCarlo,
    Langevin,
    MonteCarlo,
    NoseHoover,
    VelocityVerlet,
)  # fmt: skip
from nnsim.schedules import InverseTime
from nnsim.systems import AnalyticSystem, GaussianPrior, Harmonic, LossPotential, NeuralNetwork
from nnsim.systems.modules import mlp, mnist_cnn

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(50, 3, generator=GENERATOR)
Y = (X.sum(1) > 0).long()
TOKENS = torch.randint(0, 9, (50, 5), generator=GENERATOR)
IMAGES = torch.relu(torch.randn(20, 1, 28, 28, generator=GENERATOR) - 1)  # many pixels are exactly zero
DYNAMICS = Langevin(dt=0.01, friction=1.0)


def network(make: Callable[[], nn.Module] | None = None, points: Tensor = X, **settings: Any) -> NeuralNetwork:
    data = (points, Y[: len(points)])
    return NeuralNetwork(make or (lambda: mlp((3, 8, 2), "tanh")), data, data, **settings)


def relu(*sizes: int) -> Callable[[], nn.Module]:
    return lambda: mlp(sizes, "relu")


def simulation(system: System, integrator: Any = DYNAMICS, walkers: int = 3, **settings: Any) -> Simulation:
    return Simulation(system, integrator, walkers=walkers, **settings)


def squares_by_numpy(evaluation: Any) -> Tensor:
    return torch.as_tensor((evaluation.positions.detach().numpy() ** 2).sum(1))


def zero_one(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) != targets).float().mean()


@torch.no_grad()
def without_graph(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets)


def normed_relu() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 2))


def all_zero() -> nn.Module:
    module = normed_relu()
    for p in module.parameters():
        nn.init.zeros_(p)
    return module


# ---------------------------------------------------------------- what is right, however odd


class Largest(CollectiveVariable):
    name = "largest"

    def __call__(self, evaluation: Any) -> Tensor:
        return evaluation.positions.abs().amax(1)


class HalfPrecision(nn.Module):
    """Only for single precision."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.float())


class Masked(nn.Module):
    """The row of padding does not matter, so that it has no gradient rightly."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(9, 4, padding_idx=0), nn.Linear(4, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.embedding(tokens)
        return self.head((h * (tokens != 0)[..., None].to(h.dtype)).sum(1))


def analytic(function: Callable[[Tensor], Tensor], start: Any = "uniform", **settings: Any) -> AnalyticSystem:
    return AnalyticSystem(5, function, start=start, **settings)


RIGHT: dict[str, Callable[[], Simulation]] = {
    "ReLU in a box": lambda: simulation(network(relu(3, 8, 2), potential=LossPotential(9.0), box=Box(0.7))),
    "wide ReLU": lambda: simulation(network(relu(3, 200, 200, 2), potential=LossPotential(9.0)), walkers=1),
    "ReLU at its kink": lambda: simulation(network(all_zero, potential=LossPotential(9.0)), walkers=1),
    "max pooling of zeros": lambda: simulation(
        network(mnist_cnn, IMAGES, potential=LossPotential(9.0), initial="he_normal"), walkers=1
    ),
    "single": lambda: simulation(network(potential=LossPotential(100.0)), precision="single"),
    "factor zero": lambda: simulation(network(potential=LossPotential(0.0))),
    "constant": lambda: simulation(network(potential=lambda e: torch.full((len(e.positions),), 3.0))),
    "float32 on top of a large number": lambda: simulation(
        network(potential=lambda e: e.positions.float().square().sum(1) + 1e5), walkers=1
    ),
    "kink at the start": lambda: simulation(analytic(lambda q: q.abs().sum(1), 0.0)),
    "NaN outside": lambda: simulation(analytic(lambda q: -torch.log(1 - q**2).sum(1), 0.9999, box=Box(1.0))),
    "NaN outside an open box": lambda: simulation(analytic(lambda q: -torch.log(q).sum(1), 1e-6)),
    "infinite outside": lambda: simulation(analytic(lambda q: torch.where(q > 1, torch.inf, q**2).sum(1), 0.9999)),
    "fast oscillations": lambda: simulation(analytic(lambda q: torch.sin(1e6 * q).sum(1), 0.3), walkers=1),
    "stiff": lambda: simulation(AnalyticSystem(5, Harmonic(1e10), start=0.0), walkers=1),
    "small positions": lambda: simulation(AnalyticSystem(5, Harmonic(1e12), start=1e-6), walkers=1),
    "large positions": lambda: simulation(AnalyticSystem(5, Harmonic(1e-12), start=1e6), walkers=1),
    "random loss": lambda: simulation(
        network(loss=lambda o, t: F.cross_entropy(F.dropout(o, 0.5), t), potential=LossPotential(9.0)), walkers=1
    ),
    "steep accuracy": lambda: simulation(network(), bias=Wall(cv.SmoothedAccuracy("test", slope=1e3), upper=0.5)),
    "Wang-Landau and a wall": lambda: simulation(
        network(box=Box(2.0), initial="uniform"),
        bias=[
            WangLandau([cv.LogLoss("train")], Grid(-20, 20, spacing=0.1), InverseTime(0.1, 1e4)),
            Wall(cv.LogLoss("train"), upper=-1.0),
        ],
    ),
    "a kernel": lambda: simulation(
        network(normed_relu), bias=Wall(cv.NTKEntropy(split="train", points=20), upper=0.1), walkers=1
    ),
    "distance from the start": lambda: simulation(AnalyticSystem(5, start=0.0), bias=Wall(cv.Distance(0.0), upper=1.0)),
    "maximum": lambda: simulation(network(), bias=Wall(Largest(), upper=0.1, shape="linear")),
    "a slope for each walker": lambda: simulation(network(), bias=Boltzmann(cv.Loss("train"), [1.0, 2.0, 3.0])),
    "a ladder": lambda: simulation(network(), bias=ReplicaExchange(cv.Loss("train"), [1.0, 2.0, 3.0])),
    "the edge of a period": lambda: simulation(
        AnalyticSystem(2, box=Box(math.pi, kind="periodic")),
        bias=Umbrella(cv.Parameter(0), math.pi, stiffness=50.0, periods=2 * math.pi),
    ),
    "factors of the walkers": lambda: simulation(
        network(potential=lambda e: torch.arange(16.0) * e.loss("train")), walkers=16
    ),
    "weights of the points": lambda: simulation(
        network(
            loss=lambda o, t: (torch.linspace(0, 1, 50) * F.cross_entropy(o, t, reduction="none")).mean(),
            potential=LossPotential(9.0),
        )
    ),
    "float32 constant in the loss": lambda: simulation(
        network(loss=lambda o, t: F.cross_entropy(o, t, weight=torch.tensor([1.0, 2.0])), potential=LossPotential(9.0))
    ),
    "module for single precision": lambda: simulation(network(HalfPrecision, potential=LossPotential(9.0))),
    "padding that is masked": lambda: simulation(network(Masked, TOKENS, potential=LossPotential(9.0))),
    "a flat bottom": lambda: simulation(analytic(lambda q: torch.relu(q.norm(dim=1) - 1) ** 2, 0.45), walkers=1),
    "what is left of larger numbers": lambda: simulation(
        analytic(lambda q: 0.5 + 1e-9 * q.sin().sum(1) - 0.5, 0.45), walkers=1
    ),
    "training beside any potential": lambda: simulation(network(potential=squares_by_numpy), Adam(0.01)),
    "Monte Carlo of any potential": lambda: simulation(network(potential=squares_by_numpy), MonteCarlo()),
    "Monte Carlo of numpy alone": lambda: simulation(
        network(potential=lambda e: torch.as_tensor((e.positions.numpy() ** 2).sum(1))), MonteCarlo()
    ),
    "Monte Carlo of any loss": lambda: simulation(
        network(loss=lambda o, t: float(zero_one(o, t)), potential=LossPotential(9.0)), MonteCarlo()
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", RIGHT)
def test_nothing_that_is_right_is_refused(case: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isfinite(float(RIGHT[case]().state.energy.sum()))


@pytest.mark.slow
def test_a_hundred_starts_raise_no_false_alarm() -> None:
    """ReLU networks with 6 points, so that each kink is a large part of the slope; 100 starts (reduced: 40)."""
    for seed in range(round(100 * statistics_scale(0.4))):
        system = NeuralNetwork(lambda: mlp((3, 20, 20, 2), "relu"), (X[:6], Y[:6]), potential=LossPotential(1.0))
        system.initial = "reinitialise"
        Simulation(system, DYNAMICS, seed=seed)


# ---------------------------------------------------------------- what has no force, or a wrong one


class Straight(torch.autograd.Function):
    """The sign, with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class Binary(nn.Module):
    def __init__(self, width: int = 8, estimator: Callable[[Tensor], Tensor] = Straight.apply) -> None:
        super().__init__()
        self.first, self.head, self.estimator = nn.Linear(3, width), nn.Linear(width, 2), estimator

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(F.linear(x, self.estimator(self.first.weight), self.first.bias)))


def by_detaching(w: Tensor) -> Tensor:
    return w + (w.sign() - w).detach()


class Words(nn.Module):
    def __init__(self, number: int = 9, **settings: Any) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(number, 4, **settings), nn.Linear(4, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embedding(tokens).mean(1))


class Detached(CollectiveVariable):
    name = "partly_detached"

    def __call__(self, evaluation: Any) -> Tensor:
        return evaluation.loss("train") + evaluation.positions.detach().square().sum(1)


class WrongSlope(Bias):
    """V = (s - 1)^2, whose gradient lacks a factor of 2."""

    name = "wrong_slope"

    def __init__(self, beyond: float = -math.inf) -> None:
        self.cvs, self.beyond = [cv.Loss("train")], beyond

    def energy(self, s: Tensor, step: int) -> Tensor:
        return (s[:, 0] - max(self.beyond, 1)) ** 2 * (s[:, 0] > self.beyond)

    def gradient(self, s: Tensor, step: int) -> Tensor:
        return (s - max(self.beyond, 1)) * (s > self.beyond)


def potential(function: Any) -> Callable[[], NeuralNetwork]:
    return lambda: network(potential=function)


NO_GRADIENT: dict[str, tuple[Callable[[], NeuralNetwork], str]] = {
    "0-1 loss": (lambda: network(loss=zero_one, potential=LossPotential(9.0)), "the train loss has no gradient"),
    "0-1 loss and prior": (
        lambda: network(loss=zero_one, potential=LossPotential(9.0) + GaussianPrior(1.0)),
        "the train loss has no gradient",
    ),
    "@no_grad": (lambda: network(loss=without_graph, potential=LossPotential(9.0)), "the train loss has no gradient"),
    "numpy": (potential(squares_by_numpy), "the potential squares_by_numpy has no gradient"),
    "item": (
        potential(lambda e: torch.tensor([loss.item() for loss in e.loss("train")])),
        "the potential <lambda> has no gradient",
    ),
    "one term by numpy": (
        potential(LossPotential(9.0) + squares_by_numpy), "the potential squares_by_numpy has no gradient"
    ),
    "one term of a function": (
        potential(lambda e: 100 * e.loss("train") + 0.01 * squares_by_numpy(e)),
        "the gradient of the potential <lambda> is not its derivative",
    ),
    "detached factor": (
        potential(lambda e: e.loss("train") * e.loss("train").detach()),
        "the gradient of the potential <lambda> is not its derivative",
    ),
    "detached factor, in joules": (
        potential(lambda e: 4e-21 * e.loss("train") * e.loss("train").detach()),
        "the gradient of the potential <lambda> is not its derivative",
    ),
    "rounded": (
        potential(lambda e: torch.round(100 * e.loss("train"))), "the potential <lambda> is constant in pieces"
    ),
    "straight-through": (
        lambda: network(Binary, potential=LossPotential(9.0)), "mean output .* not its derivative .* by 'first.weight'"
    ),
    "straight-through by detaching": (
        lambda: network(lambda: Binary(8, by_detaching), potential=LossPotential(9.0)), "not its derivative"
    ),
    "many binary weights": (
        lambda: network(lambda: Binary(20_000, by_detaching), potential=LossPotential(9.0)), "not its derivative"
    ),
    "padding": (
        lambda: network(lambda: Words(padding_idx=0), TOKENS, potential=LossPotential(9.0)),
        "not its derivative .* by 'embedding.weight' .*padding_idx",
    ),
    "padding beside many words": (
        lambda: network(lambda: Words(2000, padding_idx=0), TOKENS, potential=LossPotential(9.0)),
        "by 'embedding.weight'",
    ),
    "gradients by frequency": (
        lambda: network(lambda: Words(scale_grad_by_freq=True), TOKENS, potential=LossPotential(9.0)),
        "by 'embedding.weight'",
    ),
    "argmax": (
        lambda: network(lambda: Ending(lambda z: F.one_hot(z.argmax(1), 2).float()), potential=LossPotential(9.0)),
        "the module's mean output on the train points has no gradient",
    ),
    "equal outputs": (
        lambda: network(lambda: Ending(lambda z: z[:, :1].expand(-1, 3)), potential=LossPotential(9.0)),
        r"the train loss is 1.099 wherever the walkers are",
    ),
}  # fmt: skip


class Ending(nn.Module):
    """A linear layer and a function of what it gives."""

    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.end = nn.Linear(3, 2), end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.layer(x))


@pytest.mark.slow
@pytest.mark.parametrize("case", NO_GRADIENT)
def test_wrong_forces_are_refused(case: str) -> None:
    make, words = NO_GRADIENT[case]
    with pytest.raises(InputError, match=rf"^Langevin needs forces, but .*{words}") as caught:
        simulation(make())
    assert "\n" not in str(caught.value)
    simulation(make(), MonteCarlo())  # needs none


@pytest.mark.parametrize(
    "integrator",
    [
        VelocityVerlet(0.01), NoseHoover(0.01, 1.0), Brownian(0.01, 1.0), HybridMonteCarlo(0.01, 5), Adam(0.01),
        GradientDescent(0.1, batch_size=5), Langevin(0.01, 1.0, batch_size=5),
    ],
    ids=lambda one: type(one).__name__,
)  # fmt: skip
def test_every_method_that_needs_a_gradient_refuses_a_loss_without_one(integrator: Any) -> None:
    for loss in (zero_one, without_graph, lambda o, t: float(F.cross_entropy(o.detach(), t))):
        system = network(loss=loss, potential=LossPotential(9.0))
        with pytest.raises(InputError, match=rf"^{type(integrator).__name__} needs forces, but the train loss has no"):
            simulation(system, integrator)


@pytest.mark.parametrize("integrator", [DYNAMICS, HybridMonteCarlo(0.1, 5), VelocityVerlet(0.1)])
def test_an_analytic_energy_by_numpy_is_refused(integrator: Any) -> None:
    system = AnalyticSystem(3, lambda q: torch.as_tensor((50 * q.detach().numpy() ** 2).sum(1)), start=0.5)
    with pytest.raises(InputError, match="the potential U has no gradient: numpy"):
        simulation(system, integrator)


class Springs(System):
    """A system of the user's own, with a force on half of the coordinates only."""

    def __init__(self) -> None:
        self.parameters, self.box = {"left": (2,), "right": (2,)}, Box(kind="open")

    def initial_positions(self, walkers: int, generator: torch.Generator) -> Tensor:
        return torch.ones(walkers, 4, dtype=torch.float64)

    def energy(self, evaluation: Any) -> Tensor:
        left, right = evaluation.positions.split(2, dim=1)
        return left.square().sum(1) + right.detach().square().sum(1)


def test_a_system_of_ones_own_is_checked_too() -> None:
    with pytest.raises(InputError, match=r"the gradient of the potential U is not its derivative .* by 'right'"):
        simulation(Springs())


def test_a_cv_that_is_partly_detached_is_refused() -> None:
    with pytest.raises(InputError, match="the gradient of the CV 'partly_detached' is not its derivative"):
        simulation(network(), bias=Wall(Detached(), upper=0.5))
    simulation(network(), observe=[Detached()])  # exerts no force


@pytest.mark.parametrize("beyond", [-math.inf, 0.5])
def test_a_bias_with_another_gradient_than_its_energys_is_refused(beyond: float) -> None:
    with pytest.raises(InputError, match=r"the gradient of the bias 'wrong_slope' is .* where that of its energy.* is"):
        simulation(network(), bias=WrongSlope(beyond))
    simulation(network(), MonteCarlo(), bias=WrongSlope(beyond))


@pytest.mark.parametrize("integrator", [Adam(0.1), Adam(0.1, batch_size=5), Langevin(0.01, 1.0, batch_size=5)])
@pytest.mark.parametrize("loss", [lambda o, t: torch.tensor(2.0), lambda o, t: torch.ones(1, requires_grad=True)])
def test_a_constant_loss_has_no_force(loss: Any, integrator: Any) -> None:
    run = simulation(network(loss=loss, potential=LossPotential(9.0)), integrator).advance(2)
    assert not run.state.forces.any()


def test_parts_that_move_the_walkers_are_refused() -> None:
    def clamping(evaluation: Any) -> Tensor:
        return evaluation.positions.clamp_(-0.1, 0.1).square().sum(1)

    with pytest.raises(InputError, match="a CV or the potential changes the positions in place, so that a look at"):
        simulation(network(potential=clamping), MonteCarlo())
    with pytest.raises(InputError, match=r"^the potential fails: RuntimeError: a leaf Variable that requires grad"):
        simulation(network(potential=clamping))


def test_training_with_a_straight_through_estimator_goes_on_with_a_warning() -> None:
    with pytest.warns(NNSimWarning, match=r"Adam follows the gradient that torch gives, but .* 'first.weight'"):
        run = simulation(network(Binary), Adam(0.05), every=100)
    before = run.force_field.evaluate(run.state.positions).loss("train").mean()
    run.advance(200)
    assert run.force_field.evaluate(run.state.positions).loss("train").mean() < 0.5 * before


def test_what_a_part_raises_is_told_in_one_line_with_its_name() -> None:
    def broken(_: Any) -> Tensor:
        raise KeyError("weights")

    class Broken(CollectiveVariable):
        name = "broken"

        def __call__(self, evaluation: Any) -> Tensor:
            return evaluation.positions @ np.ones(3)

    for make, words in (
        (lambda: simulation(network(potential=broken)), r"^the potential fails: KeyError: 'weights'; repair it$"),
        (
            lambda: simulation(network(), bias=Wall(Broken(), upper=1.0)),
            r"^the CV 'broken' fails: RuntimeError: .*numpy\(\)",
        ),
        (lambda: simulation(network(potential=lambda e: 1.0)), r"the energy has type float, but one number for each"),
        (lambda: network(potential=5.0), r"potential = 5.0 must be None, made of LossPotential"),
        (lambda: network(potential=LossPotential), r"must be None, made of LossPotential\(\.\.\.\)"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            make()
        assert "\n" not in str(caught.value)
