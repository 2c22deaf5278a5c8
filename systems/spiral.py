"""Points on spirals: the smallest data sets of the papers, to classify or to fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnsim.box import Box, per_tensor_limits
from nnsim.errors import require_choice, require_integer, require_number
from nnsim.systems.modules import Activation, hidden_sizes, mlp, shapes_of
from nnsim.systems.network import NeuralNetwork

Data = tuple[Tensor, Tensor]
Seed = int | np.random.Generator

INNER, OUTER = 1.0, 5.0  # radii where the spirals begin and end


def spiral_points(
    rng: Seed, points_per_class: int = 20, classes: int = 2, kind: str = "random", noise: float = 0.1
) -> Data:
    r"""Points on one spiral for each class.

        x = r cos(2 r + 2 pi c / C) + noise xi,    y = r sin(2 r + 2 pi c / C) + noise xi'

    with c the class, C the number of classes, 1 <= r < 5, and xi, xi' normal of variance 1. For each class in turn the
    generator gives all radii (if random), then all xi, then all xi', so a seed gives the same points to the bit.

    Args:
        rng: a seed, or a generator, which is advanced.
        points_per_class: at least 1.
        classes: C, at least 1.
        kind: `"random"` radii, uniform in [1, 5), or `"even"` ones, 1 + 4 k / points_per_class (the papers' test set).
        noise: standard deviation on both coordinates, at least 0.

    Returns:
        Points [N, 2] float32 and labels [N] int64, N = classes x points_per_class, in the order of the classes.

    Raises:
        InputError: a number out of its range or an unknown kind.

    Reference: arXiv 2503.13145, public scripts.

    >>> from nnsim.systems.spiral import spiral_points
    >>> points, labels = spiral_points(0, points_per_class=2)
    >>> points.shape, labels.tolist()
    (torch.Size([4, 2]), [0, 0, 1, 1])
    """
    count = require_integer("spiral_points", "points_per_class", points_per_class, least=1)
    classes = require_integer("spiral_points", "classes", classes, least=1)
    noise = require_number("spiral_points", "noise", noise, least=0.0)
    require_choice("spiral_points", "kind", kind, ("random", "even"))
    generator = _generator("spiral_points", "rng", rng)
    points = [_arm(generator, count, 2 * np.pi * c / classes, kind, noise) for c in range(classes)]
    labels = np.repeat(np.arange(classes), count)
    return torch.from_numpy(np.concatenate(points).astype(np.float32)), torch.from_numpy(labels)


def _arm(generator: np.random.Generator, count: int, phase: float, kind: str, noise: float) -> np.ndarray:
    """Points [count, 2] of one class; the order of the draws is part of the data set."""
    if kind == "random":
        r = generator.uniform(INNER, OUTER, count)
    else:
        r = INNER + (OUTER - INNER) * np.arange(count) / count
    angle = 2 * r + phase
    x = r * np.cos(angle) + generator.normal(0.0, noise, count)
    y = r * np.sin(angle) + generator.normal(0.0, noise, count)
    return np.stack([x, y], axis=1)


def _generator(owner: str, name: str, seed: Seed) -> np.random.Generator:
    if isinstance(seed, np.random.Generator):
        return seed
    return np.random.default_rng(require_integer(owner, name, seed, least=0))


def spiral_classification(
    hidden: Sequence[int] = (6, 6, 6),
    *,
    points_per_class: int = 20,
    classes: int = 2,
    noise: float = 0.1,
    train_seed: int = 0,
    test_seed: int = 1,
    train: Data | None = None,
    test: Data | None = None,
    activation: Activation = "relu",
    box: Box | None = None,
    initial: str = "uniform",
    **network: Any,
) -> NeuralNetwork:
    """Set up the spiral classifier: a dense network 2-hidden-classes with cross-entropy loss.

    The default has 116 parameters in a reflecting box of +-2 / sqrt(hidden[0]) for all, and a flat prior on it.

    Args:
        hidden: width of each hidden layer.
        points_per_class: of each split; see `spiral_points`.
        classes: number of spirals and of outputs.
        noise: standard deviation on both coordinates; see `spiral_points`.
        train_seed: for the train points, random along the spirals.
        test_seed: for the noise of the test points, even along the spirals.
        train: own points [N, 2] and integer labels [N] instead; there is then a test set only if `test` is given too.
        test: own test points and labels.
        activation: see `mlp`.
        box: where the parameters may live, instead of the default box.
        initial: where walkers start; see `NeuralNetwork`.
        **network: further settings of `NeuralNetwork` (`potential`, `walkers`, ...).

    Raises:
        InputError: a number out of its range, or data that do not fit (see `NeuralNetwork`).

    Reference: arXiv 2503.13145, spiral classification.

    >>> from nnsim.systems.spiral import spiral_classification
    >>> spiral_classification().size
    116
    """
    widths = hidden_sizes("spiral_classification", hidden)
    if train is None:
        train = spiral_points(train_seed, points_per_class, classes, "random", noise)
        test = spiral_points(test_seed, points_per_class, classes, "even", noise) if test is None else test
    make = partial(mlp, (2, *widths, classes), activation)
    box = Box(2.0 / math.sqrt(widths[0])) if box is None else box
    return NeuralNetwork(make, train, test, loss="cross_entropy", box=box, initial=initial, **network)


def annulus_points(rng: Seed, points: int, noise: float = 0.0) -> Data:
    """Points uniform (in area) in the annulus 1 < r < 5 with the value sin(angle - 2 r) + noise xi.

    The level lines of the value are the spirals of `spiral_points`. The generator gives all radii, then all angles,
    then all xi (normal of variance 1).

    Args:
        rng: a seed, or a generator, which is advanced.
        points: N, at least 1.
        noise: standard deviation of the values, at least 0.

    Returns:
        Points [N, 2] and values [N, 1], float32.

    Raises:
        InputError: a number out of its range.
    """
    count = require_integer("annulus_points", "points", points, least=1)
    noise = require_number("annulus_points", "noise", noise, least=0.0)
    generator = _generator("annulus_points", "rng", rng)
    r = np.sqrt(generator.uniform(INNER**2, OUTER**2, count))
    angle = generator.uniform(0.0, 2 * np.pi, count)
    values = np.sin(angle - 2 * r) + generator.normal(0.0, noise, count)
    x = np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1)
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(values[:, None].astype(np.float32))


def spiral_regression(
    hidden: Sequence[int] = (30, 30),
    *,
    points: int = 500,
    seed: int = 0,
    noise: float = 0.0,
    activation: Activation = "relu",
    box: Box | None = None,
    initial: str = "uniform",
    **network: Any,
) -> NeuralNetwork:
    """Set up the regression of a spiral-shaped function: a dense network 2-hidden-1 with mean squared error.

    The points are those of `annulus_points`; the first half trains, the rest tests. The papers' own target function is
    not public; this one has the same spirals as level lines. The default box reflects and has one limit for each
    tensor, `per_tensor_limits` with scale 3; the prior on it is flat.

    Args:
        hidden: width of each hidden layer; the papers take (W, W) with W = 30, 100, 300, 1000.
        points: train and test points together, at least 2.
        seed: of the points, and of the module's own values.
        noise: standard deviation of the values, at least 0.
        activation: see `mlp`.
        box: where the parameters may live, instead of the default box.
        initial: where walkers start; see `NeuralNetwork`.
        **network: further settings of `NeuralNetwork` (`potential`, `walkers`, ...).

    Raises:
        InputError: a number out of its range.

    Reference: arXiv 2503.13145, spiral regression and width effect.
    """
    widths = hidden_sizes("spiral_regression", hidden)
    half = require_integer("spiral_regression", "points", points, least=2) // 2
    x, y = annulus_points(seed, points, noise)
    make = partial(mlp, (2, *widths, 1), activation)
    box = Box(per_tensor_limits(shapes_of(make), 3.0)) if box is None else box
    train, test = (x[:half], y[:half]), (x[half:], y[half:])
    return NeuralNetwork(make, train, test, loss="mse", box=box, initial=initial, seed=seed, **network)
