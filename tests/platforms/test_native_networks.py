"""Forces of compiled networks against torch: each kind of layer, activation and loss, and random dense networks."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from conftest import statistics_scale
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import nnsim
from nnsim import cv
from nnsim.bias import Umbrella
from nnsim.integrators import Langevin
from nnsim.systems import NeuralNetwork
from nnsim.systems.modules import ChannelNorm, ResidualBlock
from nnsim.systems.potentials import GaussianPrior, LossPotential


def forces(system: NeuralNetwork, platform: str, precision: str) -> Tensor:
    """After a short step, [W, n]: of train loss and prior, and of springs on loss and accuracy of the test points."""
    bias = [Umbrella(cv.LogLoss("test"), -1.0, 2.0)]
    if system.data("test")[1].dtype == torch.int64:
        bias.append(Umbrella(cv.SmoothedAccuracy("test", coordinate="logit"), 0.5, 3.0, name="accuracy"))
    simulation = nnsim.Simulation(
        system, Langevin(1e-6, 1.0), bias=bias, walkers=2, seed=3, precision=precision, threads=1, platform=platform,
        every=10**6,
    )  # fmt: skip
    return simulation.advance(1).state.forces.double()


def check(system: NeuralNetwork) -> None:
    """To 1e-12 of their norm in double precision, and in single precision to 1e-5 of those in double."""
    exact = forces(system, "reference", "double")
    norm = exact.norm(dim=1).max()
    assert norm > 0
    assert (forces(system, "native", "double") - exact).norm(dim=1).max() < 1e-12 * norm
    assert (forces(system, "native", "single") - exact).norm(dim=1).max() < 1e-5 * norm


def with_data(module: nn.Module, x: Tensor, targets: Tensor | int, loss: object = "cross_entropy") -> NeuralNetwork:
    """The first two thirds of the points are for training; `targets` are labels or values, or how many classes."""
    if isinstance(targets, int):
        targets = torch.randint(0, targets, (len(x),), generator=torch.Generator().manual_seed(2))
    cut = 2 * len(x) // 3
    potential = LossPotential(3.0) + GaussianPrior(0.1)
    return NeuralNetwork(
        module, (x[:cut], targets[:cut]), (x[cut:], targets[cut:]), loss=loss, potential=potential, initial="normal",
        initial_scale=0.4,
    )  # fmt: skip


def points(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def one_hot(count: int, width: int) -> Tensor:
    """Mostly zero, beside two full columns."""
    hot = nn.functional.one_hot(torch.arange(count) * 7 % width, width).float()
    return torch.cat([points(count, 2), hot], dim=1)


class Gate(nn.Module):
    """Sums, differences, products and quotients of values, numbers and parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 6), nn.Linear(6, 6)
        self.scale, self.shift = nn.Parameter(torch.ones(6)), nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        a = torch.tanh(self.first(x))
        b = torch.sigmoid(self.second(a))
        return (2.0 * a * b + a - b / 3.0) * self.scale + self.shift


class ResidualSum(nn.Module):
    """x + tanh(W x), in which the gradient of x is a sum of two."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.layer(x))


def images(*layers: nn.Module, flat: int) -> nn.Module:
    """A network of images of 2 channels and 8 x 8 pixels, with such layers behind the first convolution."""
    begin = nn.Conv2d(2, 4, 3, padding=1), nn.Tanh()
    return nn.Sequential(*begin, *layers, nn.Flatten(), nn.Linear(flat, 3))


NETWORKS = {
    "linear, small": lambda: with_data(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)), points(31, 3), 3),
    "linear, small, many points": lambda: with_data(
        nn.Sequential(nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, 6, bias=False), nn.Tanh(), nn.Linear(6, 3)),
        points(700, 3), 3,
    ),
    "linear, small, no bias, read twice": lambda: with_data(
        nn.Sequential(nn.Linear(3, 5, bias=False), nn.Tanh(), ResidualSum(5), nn.Linear(5, 3, bias=False)),
        points(31, 3), 3,
    ),
    "linear, few outputs": lambda: with_data(
        nn.Sequential(nn.Linear(90, 13), nn.Tanh(), nn.Linear(13, 3)), points(150, 90), 3
    ),
    "linear, by the BLAS": lambda: with_data(
        nn.Sequential(nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, 33, bias=False), nn.Tanh(), nn.Linear(33, 3)),
        points(150, 30), 3,
    ),
    "points that are mostly zero": lambda: with_data(
        nn.Sequential(nn.Linear(42, 20), nn.Tanh(), nn.Linear(20, 3)), one_hot(90, 40), 3
    ),
    "convolution, of more than one block": lambda: with_data(images(flat=256), points(60, 2, 8, 8), 3),
    "convolution with stride and dilation": lambda: with_data(
        images(nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2), nn.Tanh(), flat=96), points(40, 2, 8, 8), 3
    ),
    "convolution in groups": lambda: with_data(
        images(nn.Conv2d(4, 8, (3, 2), groups=2, bias=False), nn.Tanh(), flat=336), points(20, 2, 8, 8), 3
    ),
    "convolution along a line": lambda: with_data(
        nn.Sequential(nn.Conv1d(2, 5, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(50, 3)), points(20, 2, 10), 3
    ),
    "convolutions of other kernels, to nine and seven channels": lambda: with_data(
        images(nn.Conv2d(4, 9, 1), nn.Tanh(), nn.Conv2d(9, 7, (4, 5), padding=(1, 2)), nn.Tanh(), flat=392),
        points(20, 2, 8, 8), 3,
    ),
    "wide convolution": lambda: with_data(
        images(nn.Conv2d(4, 40, 3), nn.Tanh(), nn.Conv2d(40, 30, 3), nn.Tanh(), flat=480), points(12, 2, 8, 8), 3
    ),
    "largest of windows": lambda: with_data(images(nn.MaxPool2d(2), flat=64), points(20, 2, 8, 8), 3),
    "overlapping windows": lambda: with_data(
        images(nn.MaxPool2d(3, stride=2, padding=1), flat=64), points(20, 2, 8, 8), 3
    ),
    "means of windows": lambda: with_data(
        images(nn.AvgPool2d(3, stride=2, padding=1), flat=64), points(20, 2, 8, 8), 3
    ),
    "means of all pixels": lambda: with_data(images(nn.AdaptiveAvgPool2d(1), flat=4), points(20, 2, 8, 8), 3),
    "layer norm": lambda: with_data(
        nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3)), points(31, 3), 3
    ),
    "group norm": lambda: with_data(images(nn.GroupNorm(2, 4), nn.Tanh(), flat=256), points(12, 2, 8, 8), 3),
    "channel norm": lambda: with_data(images(ChannelNorm(4), nn.Tanh(), flat=256), points(12, 2, 8, 8), 3),
    "residual block": lambda: with_data(images(ResidualBlock(4, 6, 2), flat=96), points(12, 2, 8, 8), 3),
    "residual block of one size": lambda: with_data(images(ResidualBlock(4, 4, 1), flat=256), points(12, 2, 8, 8), 3),
    "sums and products": lambda: with_data(Gate(), points(31, 3), 6),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_layers(name: str) -> None:
    torch.manual_seed(4)
    check(NETWORKS[name]())


@pytest.mark.parametrize("name", ["wide convolution", "residual block of one size"])
def test_convolutions_by_the_blas(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of many channels are, with strides of 1 too."""
    torch.manual_seed(4)
    monkeypatch.setattr("nnsim.platforms.dynamics.network.writers.DIRECT_CHANNELS", 0)
    check(NETWORKS[name]())


# ReLU and its like have kinks, which no point of these hits. Torch rounds 1 / alpha of CELU to single precision.
ACTIVATIONS = [
    nn.ReLU(), nn.LeakyReLU(0.2), nn.ELU(0.7), nn.SELU(), nn.CELU(0.5), nn.GELU(), nn.GELU("tanh"), nn.SiLU(),
    nn.Mish(), nn.Softplus(2.0), nn.Softsign(), nn.Tanh(), nn.Sigmoid(), nn.LogSigmoid(), nn.Hardtanh(-0.8, 0.9),
    nn.ReLU6(), nn.Tanhshrink(),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_activations(activation: nn.Module) -> None:
    torch.manual_seed(4)
    check(with_data(nn.Sequential(nn.Linear(3, 9), activation, nn.Linear(9, 3)), points(31, 3), 3))


WEIGHTS = torch.tensor([0.5, 2.0, 1.0])
LOSSES = {
    "weighted": (nn.CrossEntropyLoss(weight=WEIGHTS), 3, 3),
    "smoothed labels": (nn.CrossEntropyLoss(label_smoothing=0.2), 3, 3),
    "probabilities": ("cross_entropy", torch.softmax(points(31, 3, seed=5), dim=1), 3),
    "squares": ("mse", points(31, 2, seed=5), 2),
    "one number": ("mse", points(31, seed=5), 1),
    "no and yes": ("bce", (points(31, 2, seed=5) > 0).float(), 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    torch.manual_seed(4)
    loss, targets, outputs = LOSSES[name]
    check(with_data(nn.Sequential(nn.Linear(3, 9), nn.Tanh(), nn.Linear(9, outputs)), points(31, 3), targets, loss))


@pytest.mark.slow
@settings(deadline=None, max_examples=round(30 * statistics_scale(0.5)), derandomize=True)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=3),
    st.sampled_from([nn.Tanh, nn.SiLU, nn.Sigmoid, nn.Softplus]),
    st.booleans(),
    st.integers(4, 90),
    st.integers(2, 5),
)
def test_random_dense_networks(hidden: list[int], activation: type, bias: bool, count: int, classes: int) -> None:
    torch.manual_seed(4)
    sizes, layers = [4, *hidden, classes], []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, bias=bias), activation()]
    check(with_data(nn.Sequential(*layers[:-1]), points(count, 4), classes))


AFTER_EACH_OTHER = [
    (nn.Sigmoid, nn.Tanh), (nn.Tanh, nn.Sigmoid), (nn.Tanh, nn.ReLU), (nn.ReLU, nn.Sigmoid), (nn.SiLU, nn.Tanh),
    (nn.Tanh, nn.SiLU), (nn.Sigmoid, nn.Sigmoid, nn.Tanh), (nn.GELU, nn.Tanh, nn.Tanh),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["small", "by the BLAS", "a convolution"])
@pytest.mark.parametrize("kinds", AFTER_EACH_OTHER, ids=lambda kinds: "-".join(kind.__name__ for kind in kinds))
def test_activations_after_each_other(kinds: tuple[type, ...], layer: str) -> None:
    """Only the first of them may take the rows of what it is applied to."""
    torch.manual_seed(4)
    own = [kind() for kind in kinds]
    if layer == "a convolution":
        system = with_data(images(nn.Conv2d(4, 4, 3, padding=1), *own, flat=256), points(12, 2, 8, 8), 3)
    else:
        width = 9 if layer == "small" else 60
        system = with_data(nn.Sequential(nn.Linear(3, width), *own, nn.Linear(width, 3)), points(31, 3), 3)
    check(system)
