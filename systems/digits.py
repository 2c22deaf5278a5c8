"""The digits of scikit-learn: a dense network on 8 x 8 images that need no download."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnsim.box import Box
from nnsim.errors import InputError, require_integer
from nnsim.installation import extra
from nnsim.random.streams import undisturbed
from nnsim.systems.modules import Activation, equal_sizes, mlp
from nnsim.systems.network import NeuralNetwork

Data = tuple[Tensor, Tensor]


def digit_points(train_points: int = 500) -> tuple[Data, Data]:
    """Images of 8 x 8 pixels, 0 ... 16, divided by 16, and their labels, shuffled once and for all.

    Args:
        train_points: how many of the 1797 train, 1 ... 1796; the first ones of
            `numpy.random.RandomState(0).permutation(1797)`. The rest tests.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: points [N, 64], float32, and labels [N], int64.

    Raises:
        InputError: a number out of its range; scikit-learn is missing.
    """
    with undisturbed():
        load_digits = extra("digits", "sklearn.datasets").load_digits
    train_points = require_integer("digits", "train_points", train_points, least=1)
    images, labels = load_digits(return_X_y=True)
    if train_points >= len(images):
        raise InputError(
            f"digits: train_points = {train_points} leaves none of the {len(images)} to test; take at most "
            f"{len(images) - 1}"
        )
    order = np.random.RandomState(0).permutation(len(images))
    x = torch.from_numpy((images / 16)[order].astype(np.float32))
    y = torch.from_numpy(labels[order].astype(np.int64))
    return (x[:train_points], y[:train_points]), (x[train_points:], y[train_points:])


def digits(
    width: int = 50,
    depth: int = 3,
    *,
    train_points: int = 500,
    activation: Activation = "relu",
    box: Box | None = None,
    initial: str = "lecun_truncated",
    **network: Any,
) -> NeuralNetwork:
    """Set up the digits of scikit-learn: a dense network 64-width-...-width-10 with cross-entropy loss.

    Small and always at hand: what the studies of arXiv 2410.07451 on MNIST look like can be seen here in minutes.

    Args:
        width: of each hidden layer, at least 1.
        depth: number of hidden layers, at least 1.
        train_points: how many of the 1797 images train; the others test. See `digit_points`.
        activation: see `mlp`.
        box: where the parameters may live; None is an open box.
        initial: where walkers start; see `NeuralNetwork`.
        **network: further settings of `NeuralNetwork` (`potential`, `walkers`, ...).

    Raises:
        InputError: a number out of its range.

    >>> from nnsim.systems import digits
    >>> digits(width=50, depth=3).size
    8860
    """
    widths = equal_sizes("digits", width, depth)
    train, test = digit_points(train_points)
    make = partial(mlp, (64, *widths, 10), activation)
    return NeuralNetwork(make, train, test, loss="cross_entropy", box=box, initial=initial, **network)
