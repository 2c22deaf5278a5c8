"""MNIST, Auto MPG and digits: sizes, shapes, which points are drawn, refusals."""

import doctest
import importlib
import math
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from nnsim import Box, ForceField, InputError
from nnsim.networks.scaled import ScaledConv2d
from nnsim.systems import LossPotential, NeuralNetwork, auto_mpg, convolutional_mnist, dense_mnist, digits
from nnsim.systems.auto_mpg import prepare
from nnsim.systems.datasets import AUTO_MPG_COLUMNS, auto_mpg_frame, mnist_arrays
from nnsim.systems.digits import digit_points
from nnsim.systems.mnist import mnist_points
from nnsim.systems.modules import mnist_pooled_cnn


@pytest.fixture(autouse=True)
def data_folder(monkeypatch):
    """The folder with the real files; its absence is a failure, because a skipped test would hide it."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("NNSIM_DATA") or beside).absolute()
    if not (folder / "mnist_train.npz").is_file():
        pytest.fail(f"no mnist_train.npz in {folder}; set NNSIM_DATA to the folder that holds it")
    monkeypatch.setenv("NNSIM_DATA", str(folder))


def shapes(system):
    return {split: tuple(tuple(values.shape) for values in system.data(split)) for split in system.splits}


def dense_size(*sizes):
    return sum(a * b + b for a, b in pairwise(sizes))


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("make", "size", "points"),
    [
        (digits, 8860, {"train": ((500, 64), (500,)), "test": ((1297, 64), (1297,))}),
        (
            lambda: digits(7, 1, train_points=1796),
            dense_size(64, 7, 10),
            {"train": ((1796, 64), (1796,)), "test": ((1, 64), (1,))},
        ),
        (auto_mpg, 11201, {"train": ((314, 9), (314, 1)), "test": ((78, 9), (78, 1))}),
        (
            lambda: auto_mpg(5, 3, test_fraction=0.5),
            dense_size(9, 5, 5, 5, 1),
            {"train": ((196, 9), (196, 1)), "test": ((196, 9), (196, 1))},
        ),
        (dense_mnist, 42310, {"train": ((1000, 784), (1000,)), "test": ((1000, 784), (1000,))}),
        (
            lambda: dense_mnist(12, 3, train_points=30, test_points=40),
            dense_size(784, 12, 12, 12, 10),
            {"train": ((30, 784), (30,)), "test": ((40, 784), (40,))},
        ),
        (
            convolutional_mnist,
            26218,
            {"train": ((1000, 1, 28, 28), (1000,)), "test": ((1000, 1, 28, 28), (1000,))},
        ),
    ],
)
def test_sizes_and_shapes(make, size, points):
    system = make()
    assert isinstance(system, NeuralNetwork)
    assert system.size == size
    assert shapes(system) == points
    assert system.data("train")[0].dtype == torch.float32
    assert system.box.kind == "open"
    assert system.loss_function == ("mse" if points["train"][0][1] == 9 else "cross_entropy")


@pytest.mark.parametrize(("depth", "pixels"), [(1, 13), (2, 6), (3, 2)])
def test_convolutions_and_pools_leave_the_pixels_they_should(depth, pixels):
    module = mnist_pooled_cnn(4, depth, "tanh")
    body = nn.Sequential(*list(module)[: 3 * depth])
    assert [type(layer) for layer in body] == [nn.Conv2d, nn.Tanh, nn.AvgPool2d] * depth
    assert body(torch.zeros(2, 1, 28, 28)).shape == (2, 4, pixels, pixels)
    count = 4 * 4 + 4 + (depth - 1) * (16 * 4 + 4) + dense_size(4 * pixels**2, 128, 10)
    assert sum(p.numel() for p in module.parameters()) == count


def test_a_pixel_of_a_pool_by_hand():
    """One channel: mean over 2 x 2 of relu(b + sum of w x)."""
    module = mnist_pooled_cnn(1, 1).double()
    x = torch.rand(1, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    w, b = module[0].weight.detach()[0, 0], module[0].bias.item()
    own = [
        max(0.0, b + float((w * x[0, 0, i : i + 2, j : j + 2]).sum())) for i, j in ((24, 2), (24, 3), (25, 2), (25, 3))
    ]
    found = module[2](module[1](module[0](x)))
    assert found[0, 0, 12, 1].item() == pytest.approx(sum(own) / 4, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "tanh", nn.SiLU])
def test_activations(activation):
    kind = {"relu": nn.ReLU, "tanh": nn.Tanh}.get(activation, nn.SiLU)
    few = {"train_points": 4, "test_points": 4}
    systems = (
        (digits(3, 2, activation=activation), 2),
        (auto_mpg(3, 2, activation=activation), 2),
        (dense_mnist(3, 2, activation=activation, **few), 2),
        (convolutional_mnist(3, 2, activation=activation, **few), 3),  # and one between the two linear layers
    )
    for system, number in systems:
        assert sum(isinstance(layer, kind) for layer in system.module) == number


# ---------------------------------------------------------------- points


def test_digits_are_those_of_the_stand_in_study():
    images, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(1797)
    (x, y), (x_test, y_test) = digit_points()
    for (ours, own), chosen in (((x, y), order[:500]), ((x_test, y_test), order[500:])):
        np.testing.assert_array_equal(ours, (images[chosen] / 16).astype(np.float32))
        np.testing.assert_array_equal(own, labels[chosen])
    assert (float(x.min()), float(x.max()), y.dtype) == (0.0, 1.0, torch.int64)
    assert digits().initial == "lecun_truncated"


def test_mnist_points_are_drawn_without_replacement_by_the_seed():
    (x, y), (x_test, y_test) = mnist_points(300, 200, seed=5)
    generator = np.random.default_rng(5)
    for split, count, points, labels in (("train", 60_000, x, y), ("test", 10_000, x_test, y_test)):
        images, own = mnist_arrays(split)
        chosen = generator.permutation(count)[: len(points)]
        assert len(set(chosen)) == len(points)
        np.testing.assert_array_equal(points[:, 0], (images[chosen] / np.float32(255)))
        np.testing.assert_array_equal(labels, own[chosen])
    assert (points.dtype, labels.dtype) == (torch.float32, torch.int64)
    (more, _), _ = mnist_points(400, 10, seed=5)
    assert torch.equal(more[:300], x)
    assert not torch.equal(mnist_points(300, 10, seed=6)[0][0], x)


def test_dense_and_convolutional_networks_see_the_same_images():
    few = {"train_points": 20, "test_points": 30, "seed": 3}
    dense, convolutional = dense_mnist(2, 1, **few), convolutional_mnist(2, 1, **few)
    for split in ("train", "test"):
        assert torch.equal(dense._data[split][0], convolutional._data[split][0].flatten(1))
        assert torch.equal(dense._data[split][1], convolutional._data[split][1])


def test_auto_mpg_features_are_standardised_on_the_train_cars():
    frame = auto_mpg_frame().dropna().reset_index(drop=True)
    order = np.random.default_rng(3).permutation(392)
    (x, y), (x_test, y_test) = prepare(auto_mpg_frame(), seed=3)
    assert (x.dtype, y.dtype) == (torch.float32, torch.float32)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(x.square().mean(0), 1, atol=1e-5)
    assert (float(y.mean()), float(y.square().mean())) == pytest.approx((0, 1), abs=1e-5)
    train = frame.iloc[order[78:]]
    for column, name in enumerate(AUTO_MPG_COLUMNS[1:7]):
        values = frame[name].to_numpy()
        expected = (values - train[name].mean()) / train[name].std(ddof=0)
        np.testing.assert_allclose(torch.cat([x_test, x])[:, column], expected[order], rtol=1e-5, atol=1e-6)
    mpg = (frame["mpg"] - train["mpg"].mean()) / train["mpg"].std(ddof=0)
    np.testing.assert_allclose(torch.cat([y_test, y])[:, 0], mpg[order], rtol=1e-5, atol=1e-6)
    for column, origin in enumerate((1, 2, 3), start=6):
        here = frame["origin"].to_numpy()[order[78:]] == origin
        p = here.mean()
        np.testing.assert_allclose(x[:, column], (here - p) / math.sqrt(p * (1 - p)), rtol=1e-5, atol=1e-6)


def test_a_column_that_is_constant_among_the_train_cars_is_only_shifted():
    frame = pd.DataFrame({name: [1.0, 2.0, 4.0, 8.0] for name in AUTO_MPG_COLUMNS[:8]}).assign(origin=[1, 1, 1, 1])
    (x, _), (x_test, _) = prepare(frame, test_fraction=0.25)
    assert bool(torch.isfinite(torch.cat([x, x_test])).all())
    assert not x[:, 6:].any()


def test_the_test_cars_do_not_touch_the_statistics():
    frame = auto_mpg_frame()
    row = frame.dropna().index[np.random.default_rng(0).permutation(392)[0]]
    changed = frame.copy()
    changed.loc[row, "weight"] = 1e6
    ours, theirs = prepare(frame), prepare(changed)
    assert torch.equal(ours[0][0], theirs[0][0])
    assert not torch.equal(ours[1][0], theirs[1][0])


# ---------------------------------------------------------------- settings go through


def test_settings_reach_the_network():
    few = {"train_points": 4, "test_points": 4}
    for system in (
        digits(3, 1, box=Box(0.5), initial="he_uniform", walkers="loop"),
        auto_mpg(3, 1, box=Box(0.5), initial="he_uniform", walkers="loop"),
        dense_mnist(3, 1, box=Box(0.5), initial="he_uniform", walkers="loop", **few),
        convolutional_mnist(3, 1, box=Box(0.5), initial="he_uniform", walkers="loop", **few),
    ):
        assert (system.box.kind, system.initial, system.kind) == ("reflecting", "he_uniform", "loop")
        positions = system.initial_positions(2, torch.Generator().manual_seed(0))
        assert float(positions.abs().max()) <= 0.5


@pytest.mark.parametrize("initial", ["lecun_normal", "ntk"])
def test_convolutional_mnist_has_forces_in_both_parametrisations(initial):
    system = convolutional_mnist(3, 2, train_points=6, test_points=4, initial=initial, potential=LossPotential(1.0))
    assert any(isinstance(layer, ScaledConv2d) for layer in system.module) == (initial == "ntk")
    positions = system.initial_positions(2, torch.Generator().manual_seed(0))
    forces = ForceField(system)(positions, 0).forces
    assert bool(torch.isfinite(forces).all())
    assert bool(forces.any(1).all())


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: digits(0), r"digits: width = 0 must be a whole number of at least 1"),
        (lambda: digits(5, 0), r"digits: depth = 0"),
        (lambda: digits(5, 1.5), r"digits: depth = 1.5"),
        (lambda: digits(train_points=0), r"digits: train_points = 0"),
        (lambda: digits(train_points=1797), r"train_points = 1797 leaves none of the 1797 to test; take at most 1796"),
        (lambda: digits(activation="swish"), r"activation = 'swish' is not known"),
        (lambda: digits(initial="glorot"), r"initial = 'glorot' is not known"),
        (lambda: dense_mnist(0), r"dense_mnist: width = 0"),
        (lambda: dense_mnist(5, -1), r"dense_mnist: depth = -1"),
        (lambda: dense_mnist(train_points=0), r"dense_mnist: train_points = 0"),
        (lambda: dense_mnist(test_points=0), r"dense_mnist: test_points = 0"),
        (
            lambda: dense_mnist(train_points=60_001),
            r"train_points = 60001, but MNIST has 60000 train images; take fewer",
        ),
        (lambda: dense_mnist(test_points=10_001), r"test_points = 10001, but MNIST has 10000 test images"),
        (lambda: dense_mnist(seed=-1), r"dense_mnist: seed = -1"),
        (lambda: convolutional_mnist(0), r"convolutional_mnist: width = 0"),
        (lambda: convolutional_mnist(4, 0), r"convolutional_mnist: depth = 0"),
        (
            lambda: convolutional_mnist(4, 4),
            r"depth = 4 leaves no pixels of 28 x 28; take at most 3",
        ),
        (lambda: convolutional_mnist(activation="swish"), r"convolutional_mnist: activation = 'swish' is not known"),
        (lambda: convolutional_mnist(train_points=0), r"convolutional_mnist: train_points = 0"),
        (lambda: auto_mpg(0), r"auto_mpg: width = 0"),
        (lambda: auto_mpg(4, 0), r"auto_mpg: depth = 0"),
        (lambda: auto_mpg(test_fraction=0), r"auto_mpg: test_fraction = 0 must be a finite number above 0"),
        (lambda: auto_mpg(test_fraction=1e-4), r"test_fraction = 0.0001 of 392 cars are 0 to test"),
        (lambda: auto_mpg(test_fraction=1), r"test_fraction = 1 of 392 cars are 392 to test"),
        (lambda: auto_mpg(test_fraction=math.nan), r"test_fraction = nan"),
        (lambda: auto_mpg(seed=-1), r"auto_mpg: seed = -1"),
    ],
)
def test_bad_settings_are_refused_by_name(make, words):
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.parametrize("name", ["digits", "modules"])
def test_examples_in_the_docs(name):
    found = doctest.testmod(importlib.import_module(f"nnsim.systems.{name}"))
    assert found.attempted > 0
    assert found.failed == 0
