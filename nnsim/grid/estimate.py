r"""A density that is estimated by Gaussian kernels, which come one after the other, weighted, and are merged.

    P(s) = sum_j h_j G_j(s) / sum_j w_j          Z = (1 / K) sum_i P(c_i) over the centres of the K kernels

G is cut off, see `nnsim.grid.density`. With `plain`, all kernels weigh the same and the divisor is their number.

Reference: M. Invernizzi and M. Parrinello, J. Phys. Chem. Lett. 11, 2731 (2020), doi:10.1021/acs.jpclett.0c00497.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnsim.grid import density


class KernelEstimate:
    r"""The kernels, and the sums that follow them.

    Kernels have sigma = sigma_0 [n (k + 2) / 4]^(-1 / (k + 4)), by Silverman's rule in k dimensions, with the effective
    number n = (1 + sum w)^2 / (1 + sum w^2), or that of all with `plain`; their height is in proportion to w / sigma^k.

    Args:
        periods: of each CV, [k]; 0 for none.
        cutoff: distance in sigmas from which on a kernel is 0.
        threshold: distance in sigmas below which two are merged; 0 merges none.
        plain: whether they all weigh the same.
        first: weight of what is there before the first, which keeps all numbers finite.

    Attributes:
        kernels: [K, 2 k + 1], float64: centre, sigma and height of each.
        deposits: number of kernels so far, those that were merged too.
    """

    def __init__(self, periods: Sequence[float], *, cutoff: float, threshold: float, plain: bool, first: float) -> None:
        self.periods, self.plain = np.array(periods, dtype=np.float64), plain
        self.cutoff, self.threshold = cutoff, threshold
        self.kernels = torch.zeros((0, 2 * len(self.periods) + 1), dtype=torch.float64)
        self.deposits = 0
        self._sums = [first, first * first, 0.0]  # of w, of w^2, and of P over the centres
        self._marks = torch.full((2, 3), math.nan, dtype=torch.float64)  # at two earlier times: deposits, c, ln Z

    def add(self, s: np.ndarray, weights: np.ndarray, sigma: Sequence[float]) -> np.ndarray:
        """Add kernels of the given weights [W] at s [W, k], for a sigma_0 [k]; the sigma that they have got, [k]."""
        k, known = len(self.periods), len(self.kernels)
        self.deposits += len(s)
        self._sums[0] += float(weights.sum())
        self._sums[1] += float((weights * weights).sum())
        narrower = (self.effective * (k + 2) / 4) ** (-1 / (k + 4))
        widths = narrower * np.array(sigma)
        heights = (np.ones(len(s)) if self.plain else weights) * narrower**-k
        room, total = np.empty((known + len(s), 2 * k + 1)), self._sums[2]
        room[:known] = self.kernels.numpy()
        for place, height in zip(s, heights, strict=True):
            kernel = np.array([*place, *widths, height])
            known, total = density.add(room, known, kernel, self.periods, self.cutoff**2, self.threshold**2, total)
        self.kernels, self._sums[2] = torch.from_numpy(room[:known].copy()), float(total)
        if not self.deposits < 2 * self._marks[1, 0]:
            self._marks = torch.stack([self._marks[1], torch.tensor(self._mark(), dtype=torch.float64)])
        return widths

    @property
    def norm(self) -> float:
        """What the sum over kernels is divided by to give P."""
        return float(self.deposits + 1) if self.plain else self._sums[0]

    @property
    def zed(self) -> float:
        """Z, the mean of P over the centres of all kernels, in units of the height of a kernel; 1 without any."""
        return self._sums[2] / (self.norm * len(self.kernels)) if len(self.kernels) else 1.0

    @property
    def scale(self) -> float:
        """What the sum over kernels is multiplied by to give P / Z."""
        return 1 / (self.norm * self.zed) if len(self.kernels) else 0.0

    @property
    def effective(self) -> float:
        """Effective number of kernels, by their weights."""
        return float(self.deposits + 1) if self.plain else (1 + self._sums[0]) ** 2 / (1 + self._sums[1])

    @property
    def log_mean_weight(self) -> float:
        """Ln of the mean weight of the kernels."""
        return math.log(self._sums[0] / (self.deposits + 1))

    def _mark(self) -> tuple[float, float, float]:
        return float(self.deposits), self.log_mean_weight, math.log(self.zed)

    def drift(self) -> tuple[int, float, float] | None:
        """How ln of the mean weight and ln Z have changed since a half to a quarter of the kernels, and since when."""
        if not bool(self._marks[0].isfinite().all()):
            return None
        then = self._marks[0].tolist()
        _, weight, zed = self._mark()
        return int(then[0]), weight - then[1], zed - then[2]

    def state_dict(self) -> dict[str, Any]:
        """A copy of kernels and sums."""
        sums = torch.tensor(self._sums, dtype=torch.float64)
        return {
            "kernels": self.kernels.clone(), "deposits": self.deposits, "sums": sums, "marks": self._marks.clone()
        }  # fmt: skip

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.kernels = saved["kernels"].cpu().clone().contiguous()
        self.deposits, self._sums, self._marks = int(saved["deposits"]), saved["sums"].tolist(), saved["marks"].clone()


def in_torch(kernels: Tensor, s: Tensor, periods: np.ndarray, numbers: np.ndarray) -> tuple[Tensor, Tensor]:
    """As `density.potentials`, on any device: V [W] and its slope [W, k] at s [W, k]."""
    k, kernels = s.shape[1], kernels.to(s.device)
    square, floor, scale, epsilon, factor = numbers.tolist()
    center, sigma, height = kernels[:, :k], kernels[:, k : 2 * k], kernels[:, 2 * k]
    lengths = torch.as_tensor(periods, device=s.device)
    inverse = torch.where(lengths > 0, 1 / lengths, 0.0)
    away = s[:, None] - center
    away = (away - lengths * torch.round(away * inverse)) / sigma
    distance = away.square().sum(-1)
    near = distance < square
    gaussian = torch.where(near, height * torch.exp(-0.5 * distance), 0.0)
    within = scale * (gaussian - torch.where(near, height * floor, 0.0)).sum(-1) + epsilon
    slope = -(gaussian[..., None] * away / sigma).sum(1) * (factor * scale / within)[:, None]
    return torch.where(torch.isfinite(s).all(-1), factor * torch.log(within), math.nan), slope


def spread(looks: Sequence[Tensor], periods: np.ndarray, windows: int) -> list[float]:
    """Standard deviation of each CV [k] within a window of time: the median over windows and walkers.

    So neither those that meanwhile go from one minimum to another make it too large, nor slow drifts. `looks` are the
    CVs [W, k] at several times, close enough that a periodic one has moved by less than half a period.
    """
    count = min(len(one) for one in looks)
    seen = torch.stack([one[:count] for one in looks]).numpy()  # [T, W, k]
    moved, lengths = np.diff(seen, axis=0), np.where(periods > 0, periods, 1.0)
    moved = np.where(periods > 0, moved - lengths * np.round(moved / lengths), moved)
    path = np.concatenate([np.zeros_like(seen[:1]), np.cumsum(moved, axis=0)])
    within = path.reshape(windows, -1, *path.shape[1:]).var(axis=1)
    return [float(width) for width in np.sqrt(np.median(within, axis=(0, 1)))]
