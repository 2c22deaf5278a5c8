"""Torch modules that the built-in systems are made of, with the parameter counts of the papers.

Their own values, with which walkers start where `initial="module"`, are those of torch's default initialisation from a
seed: the same in every process, whatever torch's global generator has done, which stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

from nnsim.errors import InputError, require_choice, require_integer, shown
from nnsim.random.streams import RandomStreams, require_seed

Activation = str | Callable[[], nn.Module]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
}


@contextmanager
def seeded(owner: str, seed: int) -> Iterator[None]:
    """While it lasts, torch's global generator on the CPU gives the numbers of a seed; then it is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(RandomStreams(require_seed(owner, seed)).get_state())
        yield


def mlp(sizes: Sequence[int], activation: Activation = nn.ReLU, *, seed: int = 0) -> nn.Sequential:
    """Build a plain dense network: linear layers with biases, the activation between them, none after the last.

    Args:
        sizes: inputs, width of each hidden layer, outputs; at least two, each at least 1.
        activation: `"relu"`, `"tanh"`, `"silu"`, `"gelu"`, `"sigmoid"`, or anything that makes a module when called.
        seed: of the module's own values, at least 0 and below 2^64.

    Raises:
        InputError: fewer than two sizes, one below 1, an unknown activation, or a seed out of its range.

    >>> from nnsim.systems.modules import mlp
    >>> sum(p.numel() for p in mlp((2, 6, 6, 6, 2)).parameters())
    116
    """
    given = list(sizes) if isinstance(sizes, Sequence) and not isinstance(sizes, (str, bytes)) else []
    widths = [require_integer("mlp", f"sizes[{i}]", size, least=1) for i, size in enumerate(given)]
    if len(widths) < 2:
        raise InputError(
            f"mlp: sizes = {shown(sizes)} must be a list of at least the inputs and the outputs; give for example "
            "(2, 6, 2)"
        )
    make = _maker("mlp", activation)
    layers: list[nn.Module] = []
    with seeded("mlp", seed):
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), make()]
    return nn.Sequential(*layers[:-1])


def _maker(owner: str, activation: Activation) -> Callable[[], nn.Module]:
    if isinstance(activation, str):
        return ACTIVATIONS[require_choice(owner, "activation", activation, ACTIVATIONS)]
    if not callable(activation):
        raise InputError(
            f"{owner}: activation = {shown(activation)} must be one of {', '.join(map(repr, ACTIVATIONS))}, or make a "
            "module when it is called, such as torch.nn.Tanh; change activation"
        )

    def make() -> nn.Module:
        made = activation()
        if not isinstance(made, nn.Module):
            raise InputError(
                f"{owner}: activation = {shown(activation)} makes {shown(made)}, which is no module; give one that "
                "does, such as torch.nn.Tanh"
            )
        return made

    return make


def shapes_of(make: Callable[[], nn.Module]) -> list[tuple[int, ...]]:
    """Shapes of the parameters of the module that a function makes, without any numbers being drawn."""
    with torch.device("meta"):
        return [tuple(p.shape) for p in make().parameters()]


def hidden_sizes(owner: str, hidden: Sequence[int] | int) -> tuple[int, ...]:
    """Widths of the hidden layers; one number is one layer.

    Raises:
        InputError: no layer at all, or a width below 1; `owner` names the function that was called.
    """
    widths = tuple(hidden) if isinstance(hidden, Sequence) and not isinstance(hidden, (str, bytes)) else (hidden,)
    if not widths:
        raise InputError(f"{owner}: hidden = () must hold at least one width; give for example hidden=(6, 6, 6)")
    return tuple(require_integer(owner, "hidden", width, least=1) for width in widths)


def equal_sizes(owner: str, width: int, depth: int) -> tuple[int, ...]:
    """Widths of `depth` hidden layers that are all `width` wide.

    Raises:
        InputError: one of the two is below 1; `owner` names the function that was called.
    """
    width = require_integer(owner, "width", width, least=1)
    return (width,) * require_integer(owner, "depth", depth, least=1)


def mnist_pooled_cnn(
    width: int = 32,
    depth: int = 3,
    activation: Activation = nn.ReLU,
    *,
    seed: int = 0,
    owner: str = "mnist_pooled_cnn",
) -> nn.Sequential:
    """Build a convolutional network for MNIST whose size is set by width and depth: [N, 1, 28, 28] to logits [N, 10].

    `depth` times a 2x2 convolution (stride 1, no padding) with `width` channels, the activation and a 2x2 average pool,
    which leave 13, 6 and 2 pixels a side; then linear layers of 128 and 10 with the activation between them.

    Args:
        width: channels of each convolution, at least 1.
        depth: 1, 2 or 3.
        activation: see `mlp`.
        seed: see `mlp`.
        owner: who asks, for messages.

    Raises:
        InputError: a number out of its range, a depth that leaves no pixels, or an unknown activation.

    Reference: arXiv 2410.07451, convolutional MNIST.

    >>> from nnsim.systems.modules import mnist_pooled_cnn
    >>> sum(p.numel() for p in mnist_pooled_cnn(32, 3).parameters())
    26218
    """
    sizes, make = equal_sizes(owner, width, depth), _maker(owner, activation)
    layers: list[nn.Module] = []
    pixels, channels = 28, 1
    with seeded(owner, seed):
        for number, size in enumerate(sizes):
            pixels = (pixels - 1) // 2
            if not pixels:
                raise InputError(f"{owner}: depth = {depth} leaves no pixels of 28 x 28; take at most {number}")
            layers += [nn.Conv2d(channels, size, 2), make(), nn.AvgPool2d(2)]
            channels = size
        layers += [nn.Flatten(), nn.Linear(channels * pixels**2, 128), make(), nn.Linear(128, 10)]
    return nn.Sequential(*layers)


def mnist_cnn(*, seed: int = 0) -> nn.Sequential:
    """Build the convolutional network for selected MNIST: images [N, 1, 28, 28] to logits [N, 10], 362 parameters.

    Five 3x3 convolutions with padding 1 and two channels, each followed by ReLU; max-pooled to 14, 7 and 3 pixels after
    the first, third and fifth; then a linear layer from 2 x 3 x 3 = 18 to 10. For `seed` see `mlp`.

    Reference: arXiv 2503.13145, selected MNIST.
    """

    def convolution(channels: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, 2, 3, padding=1), nn.ReLU()]

    with seeded("mnist_cnn", seed):
        layers = [*convolution(1), nn.MaxPool2d(2)]
        for _ in range(2):
            layers += [*convolution(2), *convolution(2), nn.MaxPool2d(2)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(18, 10))


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel, for images [N, C, H, W].

    Unlike batch normalisation the output of an image does not depend on the other images.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W], each pixel with mean 0 and variance 1 over its channels, then scaled and shifted."""
        return super().forward(images.movedim(1, -1)).movedim(-1, 1)


class ResidualBlock(nn.Module):
    """ReLU(x' + norm(conv(ReLU(norm(conv(x)))))), where x' is x, or a 1x1 convolution of x where the shape changes.

    Args:
        channels: of the input [N, channels, H, W].
        width: channels of the output [N, width, H / stride, W / stride].
        stride: of the first convolution.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            ChannelNorm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            ChannelNorm(width),
        )
        same = stride == 1 and channels == width
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, width, 1, stride=stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Output [N, width, H / stride, W / stride] for images [N, channels, H, W]."""
        return nn.functional.relu(self.shortcut(images) + self.branch(images))


def resnet10(classes: int = 2, *, seed: int = 0) -> nn.Sequential:
    """Build ResNet-10 for selected CIFAR-10: images [N, 3, 32, 32] to logits [N, classes], 43604 parameters for 2.

    A convolution 3 -> 6 without bias and without norm, and ReLU; four blocks of 6, 12, 24 and 48 channels with strides
    1, 2, 2 and 2; average pool over the 4 x 4 pixels that are left; linear 48 -> classes. For `seed` see `mlp`.

    Reference: arXiv 2503.13145, selected CIFAR-10.
    """
    classes = require_integer("resnet10", "classes", classes, least=1)
    with seeded("resnet10", seed):
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, bias=False),
            nn.ReLU(),
            ResidualBlock(6, 6, 1),
            ResidualBlock(6, 12, 2),
            ResidualBlock(12, 24, 2),
            ResidualBlock(24, 48, 2),
            nn.AvgPool2d(4),
            nn.Flatten(),
            nn.Linear(48, classes),
        )
