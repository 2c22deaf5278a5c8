"""MNIST: dense and convolutional networks whose width and depth are settings."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnsim.box import Box
from nnsim.errors import InputError, require_integer
from nnsim.systems.datasets import mnist_arrays
from nnsim.systems.modules import Activation, equal_sizes, mlp, mnist_pooled_cnn
from nnsim.systems.network import NeuralNetwork

Data = tuple[Tensor, Tensor]

COUNTS = {"train": 60_000, "test": 10_000}


def mnist_points(
    train_points: int = 1000, test_points: int = 1000, seed: int = 0, *, owner: str = "mnist_points"
) -> tuple[Data, Data]:
    """Train and test images of MNIST, drawn without replacement from the 60000 and the 10000, divided by 255.

    One generator `numpy.random.default_rng(seed)` gives first a permutation of the train images, then one of the test
    images; the first ones of each are taken, so that a smaller set is part of a larger one of the same seed.

    Args:
        train_points: 1 ... 60000.
        test_points: 1 ... 10000.
        seed: of the permutations, at least 0.
        owner: who asks, for messages.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: images [N, 1, 28, 28], float32, and labels [N], int64.

    Raises:
        InputError: a number out of its range, or the data are not at hand (see `mnist_arrays`).
    """
    counts = {
        split: require_integer(owner, f"{split}_points", number, least=1)
        for split, number in (("train", train_points), ("test", test_points))
    }
    for split, number in counts.items():
        if number > COUNTS[split]:
            raise InputError(
                f"{owner}: {split}_points = {number}, but MNIST has {COUNTS[split]} {split} images; take fewer"
            )
    generator = np.random.default_rng(require_integer(owner, "seed", seed, least=0))
    train, test = (_drawn(split, number, generator) for split, number in counts.items())
    return train, test


def _drawn(split: str, number: int, generator: np.random.Generator) -> Data:
    images, labels = mnist_arrays(split)
    chosen = generator.permutation(len(images))[:number]
    x = torch.from_numpy(images[chosen][:, None].astype(np.float32) / 255)
    return x, torch.from_numpy(labels[chosen].astype(np.int64))


def dense_mnist(
    width: int = 50,
    depth: int = 2,
    *,
    train_points: int = 1000,
    test_points: int = 1000,
    activation: Activation = "relu",
    seed: int = 0,
    box: Box | None = None,
    initial: str = "lecun_normal",
    **network: Any,
) -> NeuralNetwork:
    """Set up dense MNIST: a network 784-width-...-width-10 with cross-entropy loss, 42310 parameters by default.

    Args:
        width: of each hidden layer, at least 1.
        depth: number of hidden layers, at least 1.
        train_points: how many of the 60000 train images; see `mnist_points`.
        test_points: how many of the 10000 test images.
        activation: see `mlp`.
        seed: of the choice of images, and of the module's own values.
        box: where the parameters may live; None is an open box.
        initial: where walkers start; see `NeuralNetwork`.
        **network: further settings of `NeuralNetwork` (`potential`, `walkers`, ...).

    Raises:
        InputError: a number out of its range, or the data are not at hand (see `mnist_arrays`).

    Reference: arXiv 2410.07451, dense MNIST.
    """
    make = partial(mlp, (784, *equal_sizes("dense_mnist", width, depth), 10), activation)
    (x, y), (x_test, y_test) = mnist_points(train_points, test_points, seed, owner="dense_mnist")
    train, test = (x.flatten(1), y), (x_test.flatten(1), y_test)
    return NeuralNetwork(make, train, test, loss="cross_entropy", box=box, initial=initial, seed=seed, **network)


def convolutional_mnist(
    width: int = 32,
    depth: int = 3,
    *,
    train_points: int = 1000,
    test_points: int = 1000,
    activation: Activation = "relu",
    seed: int = 0,
    box: Box | None = None,
    initial: str = "lecun_normal",
    **network: Any,
) -> NeuralNetwork:
    """Set up convolutional MNIST: `mnist_pooled_cnn` with cross-entropy loss, 26218 parameters by default.

    Args:
        width: channels of each convolution, at least 1.
        depth: number of convolutions, 1 ... 3: each is followed by a pool, and a fourth would leave no pixels.
        train_points: how many of the 60000 train images; see `mnist_points`.
        test_points: how many of the 10000 test images.
        activation: see `mlp`.
        seed: of the choice of images, and of the module's own values.
        box: where the parameters may live; None is an open box.
        initial: where walkers start; see `NeuralNetwork`.
        **network: further settings of `NeuralNetwork` (`potential`, `walkers`, ...).

    Raises:
        InputError: a number out of its range, or the data are not at hand (see `mnist_arrays`).

    Reference: arXiv 2410.07451, convolutional MNIST.
    """
    make = partial(mnist_pooled_cnn, width, depth, activation, owner="convolutional_mnist")
    train, test = mnist_points(train_points, test_points, seed, owner="convolutional_mnist")
    return NeuralNetwork(make, train, test, loss="cross_entropy", box=box, initial=initial, seed=seed, **network)
