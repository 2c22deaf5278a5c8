"""House prices: a small dense network on a real table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nnsim.box import Box, per_tensor_limits
from nnsim.errors import InputError, require_integer
from nnsim.systems.datasets import house_prices_frame
from nnsim.systems.modules import Activation, hidden_sizes, mlp, shapes_of
from nnsim.systems.network import NeuralNetwork

if TYPE_CHECKING:
    import pandas as pd

Data = tuple[Tensor, Tensor]

IDENTIFIER, TARGET = "Id", "SalePrice"


def prepare(frame: pd.DataFrame, seed: int = 0) -> tuple[Data, Data, list[str]]:
    """Train and test points and targets from the table of houses.

    A seeded permutation of the rows gives the halves. Numeric columns are standardised with the mean and the
    (population) standard deviation of the train half, a column that is constant there only shifted; missing numbers are
    then 0. Every other column is one-hot encoded: its categories in alphabetical order, and one more for missing. The
    target is ln(SalePrice), standardised likewise. The table of `house_prices_frame` gives 331 features.

    Args:
        frame: a table [N, ...] with `SalePrice` in dollars; `Id` is left out, all else are descriptors.
        seed: of the permutation, `numpy.random.default_rng(seed).permutation(N)`; its first N // 2 rows train.

    Returns:
        `(x_train, y_train), (x_test, y_test), names`: points [N / 2, F] and targets [N / 2, 1], float32, and the
        names of the F features, the numeric columns first, then `column=category` and `column=missing`.

    Raises:
        InputError: no `SalePrice` column, a price that is missing or not above 0, or fewer than 2 rows.
    """
    log_price = _log_price(frame)
    if len(frame) < 2:
        raise InputError(f"house_prices: the table has {len(frame)} rows, but two halves need at least 2; give more")
    order = np.random.default_rng(require_integer("house_prices", "seed", seed, least=0)).permutation(len(frame))
    half = len(frame) // 2
    train, test = order[:half], order[half:]
    features, names = _features(frame.drop(columns=[IDENTIFIER, TARGET], errors="ignore"), train)
    targets = _standardised(log_price[:, None], train)
    x, y = (torch.from_numpy(values.astype(np.float32)) for values in (features, targets))
    return (x[train], y[train]), (x[test], y[test]), names


def _log_price(frame: pd.DataFrame) -> np.ndarray:
    """ln(SalePrice) [N]."""
    if TARGET not in frame:
        raise InputError(f"house_prices: the table has no {TARGET} column; give the table of house_prices_frame()")
    price = frame[TARGET].to_numpy(dtype=np.float64, na_value=np.nan)
    bad = int((~(np.isfinite(price) & (price > 0))).sum())
    if bad:
        raise InputError(f"house_prices: {bad} values of {TARGET} are missing or not above 0; remove those rows")
    return np.log(price)


def _features(descriptors: pd.DataFrame, train: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Features [N, F] and their names; `train` are the rows that give the statistics."""
    numeric = list(descriptors.select_dtypes("number").columns)
    numbers = descriptors[numeric].to_numpy(dtype=np.float64, na_value=np.nan)
    blocks, names = [np.nan_to_num(_standardised(numbers, train), nan=0.0)], list(numeric)
    for column in (name for name in descriptors.columns if name not in numeric):
        present = descriptors[column].notna().to_numpy()
        values = descriptors[column].astype(object).to_numpy()
        # Categories of all rows, not only of the train half: the width of the network must not depend on the seed.
        categories = sorted(set(values[present]))
        blocks.append(np.stack([*(values == category for category in categories), ~present], axis=1))
        names += [*(f"{column}={category}" for category in categories), f"{column}=missing"]
    return np.concatenate(blocks, axis=1, dtype=np.float64), names


def _standardised(columns: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Columns [N, k] with mean 0 and variance 1 over the rows `train`, where NaN stays and does not count."""
    known = ~np.isnan(columns[train])
    counts = np.maximum(known.sum(0), 1)
    mean = np.where(known, columns[train], 0.0).sum(0) / counts
    centred = columns - mean
    deviation = np.sqrt(np.square(np.where(known, centred[train], 0.0)).sum(0) / counts)
    # The deviation of a constant column is zero up to rounding; dividing by it would blow up the test half.
    constant = deviation <= 1e-12 * np.abs(mean)
    return centred / np.where(constant, 1.0, deviation)


def house_prices(
    hidden: Sequence[int] = (20,),
    seed: int = 0,
    *,
    activation: Activation = "relu",
    box: Box | None = None,
    initial: str = "uniform",
    **network: Any,
) -> NeuralNetwork:
    """Set up house prices: a dense network 331-hidden-1 with mean squared error on the standardised ln(SalePrice).

    The default has 6661 parameters in a reflecting box with one limit for each tensor, `per_tensor_limits` with scale
    3, and a flat prior on it. Half of the 1460 houses train, half test; see `prepare`.

    Args:
        hidden: width of each hidden layer.
        seed: of the split into halves, and of the module's own values.
        activation: see `mlp`.
        box: where the parameters may live, instead of the default box.
        initial: where walkers start; see `NeuralNetwork`.
        **network: further settings of `NeuralNetwork` (`potential`, `walkers`, ...).

    Raises:
        InputError: a number out of its range, or the data are not at hand (see `house_prices_frame`).

    Reference: arXiv 2503.13145, house prices.
    """
    widths = hidden_sizes("house_prices", hidden)
    train, test, names = prepare(house_prices_frame(), seed)
    make = partial(mlp, (len(names), *widths, 1), activation)
    box = Box(per_tensor_limits(shapes_of(make), 3.0)) if box is None else box
    return NeuralNetwork(make, train, test, loss="mse", box=box, initial=initial, seed=seed, **network)
