"""Auto MPG: a dense network that tells the fuel consumption of a car."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nnsim.box import Box
from nnsim.errors import InputError, require_integer, require_number
from nnsim.systems.datasets import auto_mpg_frame
from nnsim.systems.modules import Activation, equal_sizes, mlp
from nnsim.systems.network import NeuralNetwork

if TYPE_CHECKING:
    import pandas as pd

Data = tuple[Tensor, Tensor]

NUMERIC = ("cylinders", "displacement", "horsepower", "weight", "acceleration", "model_year")
ORIGINS = (1, 2, 3)


def prepare(frame: pd.DataFrame, seed: int = 0, test_fraction: float = 0.2) -> tuple[Data, Data]:
    """Train and test points and targets from the table of cars.

    Rows with a missing number are left out: 392 of 398 stay. The features are six numbers (cylinders, displacement,
    horsepower, weight, acceleration, model year) and the origin as one of three; they and the target, miles per gallon,
    are standardised with the mean and the (population) standard deviation of the train rows, where a column that is
    constant there is only shifted.

    Args:
        frame: the table of `auto_mpg_frame`.
        seed: of the permutation, `numpy.random.default_rng(seed).permutation(392)`; its first rows test.
        test_fraction: of the rows, rounded to a whole number of them; above 0 and below 1.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: points [N, 9] and targets [N, 1], float32.

    Raises:
        InputError: a number out of its range, or a fraction that leaves fewer than 2 rows to train or none to test.
    """
    fraction = require_number("auto_mpg", "test_fraction", test_fraction, above=0.0)
    seed = require_integer("auto_mpg", "seed", seed, least=0)
    complete = frame.dropna(subset=["mpg", *NUMERIC, "origin"])
    tests = round(fraction * len(complete))
    if not 1 <= tests <= len(complete) - 2:
        raise InputError(
            f"auto_mpg: test_fraction = {fraction:g} of {len(complete)} cars are {tests} to test, but 1 must test and "
            "2 train at least; change test_fraction"
        )
    order = np.random.default_rng(seed).permutation(len(complete))
    test, train = order[:tests], order[tests:]
    origin = complete["origin"].to_numpy()
    columns = [*(complete[name].to_numpy() for name in NUMERIC), *(origin == one for one in ORIGINS), complete["mpg"]]
    values = _standardised(np.stack(columns, axis=1).astype(np.float64), train)
    x, y = (torch.from_numpy(part.astype(np.float32)) for part in (values[:, :-1], values[:, -1:]))
    return (x[train], y[train]), (x[test], y[test])


def _standardised(columns: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Columns [N, k] with mean 0 and variance 1 over the rows `train`."""
    mean, deviation = columns[train].mean(0), columns[train].std(0)
    constant = deviation <= 1e-12 * np.abs(mean)  # zero up to rounding, and not to be divided by
    return (columns - mean) / np.where(constant, 1.0, deviation)


def auto_mpg(
    width: int = 100,
    depth: int = 2,
    *,
    seed: int = 0,
    test_fraction: float = 0.2,
    activation: Activation = "relu",
    box: Box | None = None,
    initial: str = "lecun_normal",
    **network: Any,
) -> NeuralNetwork:
    """Set up Auto MPG: a dense network 9-width-...-width-1 with mean squared error on the standardised consumption.

    The default has 11201 parameters, 314 cars to train and 78 to test; see `prepare`.

    Args:
        width: of each hidden layer, at least 1.
        depth: number of hidden layers, at least 1.
        seed: of the split into train and test, and of the module's own values.
        test_fraction: of the 392 cars; above 0 and below 1.
        activation: see `mlp`.
        box: where the parameters may live; None is an open box.
        initial: where walkers start; see `NeuralNetwork`.
        **network: further settings of `NeuralNetwork` (`potential`, `walkers`, ...).

    Raises:
        InputError: a number out of its range, or the data are not at hand (see `auto_mpg_frame`).

    Reference: arXiv 2410.07451, MPG regression.
    """
    widths = equal_sizes("auto_mpg", width, depth)
    train, test = prepare(auto_mpg_frame(), seed, test_fraction)
    make = partial(mlp, (9, *widths, 1), activation)
    return NeuralNetwork(make, train, test, loss="mse", box=box, initial=initial, seed=seed, **network)
