"""Functions that the compiler can take many of at once, against those of numpy in more digits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nnsim.jit import FAST, compiled
from nnsim.platforms.dynamics.network import elementary


@compiled(FAST, python=True)
def exponentials(x, y):
    for i in range(x.size):
        y[i] = elementary.exp(x[i])


@compiled(FAST, python=True)
def logarithms(x, y):
    for i in range(x.size):
        y[i] = elementary.log1p(x[i])


def points(kind: type, name: str) -> np.ndarray:
    draw = np.random.default_rng(1)
    if name == "exp":
        return draw.uniform(-86, 87, 200_000).astype(kind)
    tiny, one = 10 ** draw.uniform(-30, 7, 100_000), draw.uniform(0, 3, 100_000)
    return np.concatenate([tiny, one, [0.0, 1e-38, 0.5, 1.0, 3.0]]).astype(kind)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "ours", "right"), [("exp", exponentials, np.exp), ("log1p", logarithms, np.log1p)])
def test_to_two_units_in_the_last_place(kind: type, name: str, ours: Callable, right: Callable) -> None:
    x = points(kind, name)
    found, wide = np.zeros_like(x), right(x.astype(np.longdouble))
    ours(x, found)
    units = np.abs(found - wide) / np.where(wide == 0, 1, np.abs(wide)) / np.finfo(kind).eps
    assert units.max() < 2
    for odd in (np.nan, np.inf):
        ours(np.array([odd], dtype=kind), found[:1])
        assert not np.isfinite(found[0]) or (name == "exp" and odd == np.inf)
