"""A histogram that reaches as far as anything was counted: its bins double in width when something lies outside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from nnsim.grid.grid import Grid
from nnsim.grid.values import edges_around

BINS = {1: 512, 2: 128, 3: 32}  # along each axis, by the number of CVs


class GrowingHistogram:
    """Counts on a grid of a constant number of bins, whose edges follow from what has been explored, and nothing else.

    Bins are 2^j wide, with edges at multiples of that, and the grid begins at a multiple of half its length: so narrow
    bins lie inside wider ones, and counts are exact whatever the grid was before. More than a quarter of an axis has
    been explored. A periodic axis is one period, centred at 0.

    Args:
        periods: of each axis; 0 for none.
        grid: one that stays as it is, instead; what lies outside it is not counted.

    Attributes:
        grid: at present.
        counts: int64, of the grid's shape.
        low, high: what has been explored, [k]; at first an empty interval.
    """

    def __init__(self, periods: Sequence[float], grid: Grid | None = None) -> None:
        k = len(periods)
        self.periods, self.fixed = tuple(periods), grid is not None
        self.low, self.high = np.full(k, math.inf), np.full(k, -math.inf)
        self.grid = self._around() if grid is None else grid
        self.counts = np.zeros(self.grid.shape, dtype=np.int64)

    @property
    def edges(self) -> np.ndarray:
        """Lower and upper edge of each axis, [k, 2]."""
        return np.array([self.grid.lower, self.grid.upper]).T

    def add(self, s: np.ndarray, margin: np.ndarray) -> None:
        """Count places s [W, k]; the grid reaches beyond them by a margin [k]."""
        self.low, self.high = np.minimum(self.low, (s - margin).min(0)), np.maximum(self.high, (s + margin).max(0))
        if not self.fixed:
            self._move()
        lower, upper = self.edges.T
        wraps, bins = np.array(self.grid.periodic), np.array(self.grid.shape)
        index = np.floor((s - lower) * (bins / (upper - lower))).astype(np.int64)
        inside = (((s >= lower) & (s <= upper)) | wraps).all(axis=1)
        index = np.where(wraps, index % bins, np.clip(index, 0, bins - 1))
        np.add.at(self.counts, tuple(index[inside].T), 1)

    def _move(self) -> None:
        """To the grid of what is explored now, with all counts."""
        before, grid = self.grid, self._around()
        if grid == before:
            return
        index = [
            np.clip(np.floor((before.centers(d) - grid.lower[d]) / grid.spacing[d]), 0, grid.shape[d] - 1).astype(int)
            for d in range(grid.dimensions)
        ]
        counts = np.zeros(grid.shape, dtype=np.int64)
        np.add.at(counts, np.ix_(*index), self.counts)
        self.grid, self.counts = grid, counts

    def _around(self) -> Grid:
        """The grid of what has been explored; of bins of width 1 if nothing has."""
        bins = BINS[len(self.periods)]
        edges = [
            (-period / 2, period / 2) if period else edges_around(float(low), float(high), bins)
            for low, high, period in zip(self.low, self.high, self.periods, strict=True)
        ]
        wraps = [period > 0 for period in self.periods]
        return Grid([low for low, _ in edges], [high for _, high in edges], bins, periodic=wraps)

    def state_dict(self) -> dict[str, Any]:
        """What it has counted, and how far it reaches."""
        explored = np.array([self.low, self.high])
        return {"explored": torch.from_numpy(explored), "counts": torch.from_numpy(self.counts.copy())}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.low, self.high = np.array(saved["explored"].tolist())
        if not self.fixed:
            self.grid = self._around()
        self.counts = saved["counts"].cpu().numpy().copy()
