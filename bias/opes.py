"""OPES: a bias from the probability density of the CVs, which is estimated while the walkers move."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnsim.bias.opes_settings import Shape, require_periods, require_widths
from nnsim.criteria import CONVERGED_DRIFT, FEWEST_EFFECTIVE, MOST_OUTSIDE
from nnsim.errors import InputError, require_cv, require_flag, require_integer, require_number
from nnsim.grid import density
from nnsim.grid.estimate import KernelEstimate, in_torch, spread
from nnsim.grid.grid import Grid
from nnsim.grid.growing import GrowingHistogram
from nnsim.grid.values import coefficients_of
from nnsim.protocols import Bias, CollectiveVariable

NEWEST = 500  # kernels, of which it is told whether V was known where they were left
WINDOWS, LOOKS = 10, 50  # in which sigma is measured, and how often each walker is looked at in one


class OPES(Bias):
    r"""On-the-fly probability enhanced sampling: V follows from an estimate of the density P(s) of the CVs.

        V(s) = kT (1 - 1 / gamma) ln[P(s) / Z + epsilon]          epsilon = exp(-barrier / (kT (1 - 1 / gamma)))
        P(s) = sum_j w_j G(s, s_j) / sum_j w_j                    w_j = exp(V(s_j) / kT) when kernel j was left

    Every `pace` steps each walker leaves a Gaussian kernel G, whose weight w takes the bias away again: P is the
    density without V, which then makes the walkers sample P^(1 / gamma). V has the whole shape of what is known of the
    free energy F = -kT ln P from the first kernels on, fills no more than `barrier`, and soon hardly changes: frames
    weigh exp(V(s, t) / kT), V as it was then (recorded as `bias_energy`), in averages without it. Z is the mean of P
    over what has been explored, taken over the centres of the kernels.

    With `explore`, P is the density with V on, of kernels that all weigh the same, and V = kT (gamma - 1) ln[P / Z +
    epsilon]. V then changes more and longer: it explores faster and converges later.

    Kernels become narrower with their effective number, by Silverman's rule (`nnsim.grid.estimate`). One that is nearer
    than `threshold` to another, in sigmas of that, is merged with it, which keeps integral, mean and variance of both.
    All walkers take their weights from V as it was before any of them left a kernel, so their order does not matter, up
    to which kernels are merged first.

    Args:
        cvs: the collective variables, 1 to 3 (or a single one).
        barrier: height of free energy that shall be overcome, in units of energy, above kT: the largest difference of F
            from its minimum to anything that shall be seen. Too low, it is not crossed; too high, V takes longer.
        pace: steps from one kernel of a walker to the next, at least 1; at steps pace, 2 pace, ...
        sigma: sigma_0, the standard deviation of the CVs in the minimum where the walkers start (or a number for all);
            None measures it in the first 10 x `pace` steps (500, if those are more), in which no kernel is left: the
            median of that of each walker in a tenth of them.
        bias_factor: gamma, above 1; None is barrier / kT, `math.inf` aims at a uniform density of the CVs.
        explore: whether to estimate the density with V on.
        kT: the temperature of the dynamics, above 0.
        epsilon: epsilon, above 0; None is the value above, with which V is -barrier where no kernel reaches.
        cutoff: distance in sigmas from which on a kernel is 0; None is sqrt(2 barrier / (kT (1 - 1 / gamma))), where it
            has fallen to epsilon, and sqrt(2 barrier / kT) with `explore`.
        threshold: of the merging of kernels, in sigmas, below `cutoff`; 0 merges none.
        periods: length of the period of each CV, or None for one that is not periodic; a single value for a single CV.
        grid: on which V and the histogram of kernels are recorded; V itself does not depend on it. None is one that
            grows with what is explored. Give one to compare independent runs.
        name: name of the bias.

    Attributes:
        kernels: [K, 2 k + 1], float64: centre, sigma and height of each.
        deposits: number of kernels left so far, those that were merged too.
        sigma: sigma_0 for each CV; None while it is being measured.
        bias_factor: gamma.
        frozen: set to True to stop learning (the bias then is a fixed potential); saved and resumed.

    Raises:
        InputError: CVs or grid of another type, more than 3 CVs, or a number out of its range; along the run, a CV that
            has not moved at all while sigma was measured.

    Reference: M. Invernizzi and M. Parrinello, J. Phys. Chem. Lett. 11, 2731 (2020), doi:10.1021/acs.jpclett.0c00497,
    eqs. 5 to 9; `explore` and the measured sigma: J. Chem. Theory Comput. 18, 3988 (2022),
    doi:10.1021/acs.jctc.2c00152. There heights of merged kernels are added; here their integrals.

    >>> from nnsim import cv
    >>> from nnsim.bias import OPES
    >>> bias = OPES(cv.Parameter(0), barrier=10.0)
    """

    kind = "grid"
    formula = "kernels"
    native = "kernels"  # for native platforms
    kT: float
    pace: int

    def __init__(
        self,
        cvs: CollectiveVariable | Sequence[CollectiveVariable],
        barrier: float,
        *,
        pace: int = 500,
        sigma: float | Sequence[float] | None = None,
        bias_factor: float | None = None,
        explore: bool = False,
        kT: float = 1.0,
        epsilon: float | None = None,
        cutoff: float | None = None,
        threshold: float = 1.0,
        periods: float | Sequence[float | None] | None = None,
        grid: Grid | None = None,
        name: str = "opes",
    ) -> None:
        self.cvs = tuple(cvs) if isinstance(cvs, Sequence) and not isinstance(cvs, str) else (cvs,)
        if not 1 <= len(self.cvs) <= 3:
            raise InputError(f"OPES: {len(self.cvs)} CVs; give 1 to 3")
        for cv in self.cvs:
            require_cv("OPES", "cvs", cv)
        self.kT, self.name = require_number("OPES", "kT", kT, above=0.0), name
        self.barrier = require_number("OPES", "barrier", barrier, above=self.kT)
        self.pace = require_integer("OPES", "pace", pace, least=1)
        self.explore = require_flag("OPES", "explore", explore)
        self._shape = Shape(self.barrier / self.kT, bias_factor, self.explore, epsilon, cutoff, threshold)
        self.bias_factor = self._shape.bias_factor
        self.periods = require_periods(periods, len(self.cvs), grid)
        self._given = None if sigma is None else require_widths(sigma, len(self.cvs))
        self.sigma = self._given
        self._estimate = KernelEstimate(
            [period or 0.0 for period in self.periods],
            cutoff=self._shape.cutoff,
            threshold=self._shape.threshold,
            plain=self.explore,
            first=math.exp(-self.barrier / self.kT),
        )
        self._histogram = GrowingHistogram(self.wraps.tolist(), grid)
        self.frozen = False
        self._unknown = torch.zeros(0, dtype=torch.int64)  # of the newest kernels: 1 where V was at its lowest
        self._looks: list[Tensor] = []  # the CVs [W, k], while sigma is being measured
        self._merged: dict[str, Any] | None = None  # while it is shared: as it was at the last merge
        self._rows: list[Tensor] = []  # since then, rows (step, s, V / kT); the last NaN where s was looked at only
        self._table: tuple[int, Tensor] | None = None  # the potential on the grid, after so many deposits

    # ------------------------------------------------------------------ the potential

    @property
    def kernels(self) -> Tensor:
        """Centre, sigma and height of each, [K, 2 k + 1]."""
        return self._estimate.kernels

    @property
    def deposits(self) -> int:  # type: ignore[override]
        """Number of kernels left so far."""
        return self._estimate.deposits

    @property
    def wraps(self) -> np.ndarray:
        """The period of each CV, [k]; 0 for none."""
        return self._estimate.periods

    def numbers(self) -> np.ndarray:
        """Those of V beside the kernels and periods, see `nnsim.grid.density`."""
        shape, square = self._shape, self._shape.cutoff**2
        floor = math.exp(-0.5 * square)
        return np.array([square, floor, self._estimate.scale, shape.epsilon, self.kT * shape.amplitude])

    def energy(self, s: Tensor, step: int) -> Tensor:
        """V [W] at s [W, k]."""
        return self.energy_and_gradient(s, step)[0]

    def gradient(self, s: Tensor, step: int) -> Tensor:
        """dV/ds [W, k] at s [W, k]."""
        return self.energy_and_gradient(s, step)[1]

    def energy_and_gradient(self, s: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """V [W] and its exact gradient [W, k] at s [W, k]."""
        s = s.to(torch.float64)
        if s.device.type == "cpu":
            energy, slopes = np.empty(len(s)), np.empty(tuple(s.shape))
            places = s.detach().contiguous().numpy()
            density.potentials(self.kernels.numpy(), places, self.wraps, self.numbers(), energy, slopes)
            return torch.from_numpy(energy), torch.from_numpy(slopes)
        return in_torch(self.kernels, s, self.wraps, self.numbers())

    # ------------------------------------------------------------------ learning

    def next_update(self, step: int) -> int:
        """The next step after this one at which it learns, or looks at the CVs."""
        every = self._every if self.sigma is None else self.pace
        return sys.maxsize if self.frozen else step - step % every + every

    @property
    def _every(self) -> int:
        """Steps between two looks at the CVs."""
        return max(1, self.pace // LOOKS)

    def update(self, s: Tensor, step: int, mask: Tensor | None = None) -> None:
        """At every `pace`-th step, a kernel at each walker's s [W, k] (those with `mask` [W], if given)."""
        if self.frozen or step % (self._every if self.sigma is None else self.pace):
            return
        weights = torch.full((len(s),), math.nan, dtype=torch.float64)
        if self.sigma is not None:
            weights = self.energy(s, step).cpu() / self.kT  # before any of them changes V
        rows = torch.cat([torch.full((len(s), 1), float(step)), s.cpu(), weights[:, None]], dim=1).double()
        rows = rows if mask is None else rows[mask.cpu()]
        if self._merged is not None:
            self._rows.append(rows)
        self._take(rows)

    def _take(self, rows: Tensor) -> None:
        """Learn from the walkers of one step: rows (step, s, V / kT), the last NaN while sigma is being measured."""
        s, weights = rows[:, 1:-1], rows[:, -1]
        if not len(rows):
            return
        if self.sigma is not None:
            weights = torch.where(weights.isnan(), -self.barrier / self.kT, weights)
            low = (weights < 1 - self.barrier / self.kT).long()
            self._unknown = torch.cat([self._unknown, low])[-NEWEST:]
            # the density with V on is as much broader
            broader = math.sqrt(self.bias_factor) if self.explore else 1.0
            widths = self._estimate.add(s.numpy(), weights.exp().numpy(), [broader * width for width in self.sigma])
            self._histogram.add(s.numpy(), 3 * widths)
            return
        self._looks.append(s)
        if len(self._looks) == WINDOWS * LOOKS:
            self.sigma, self._looks = self._measured(), []

    def _measured(self) -> tuple[float, ...]:
        widths = spread(self._looks, self.wraps, WINDOWS)
        for cv, width in zip(self.cvs, widths, strict=True):
            if not width > 0:
                raise InputError(
                    f"OPES: the CV {cv.name} has not moved in the first {WINDOWS * LOOKS * self._every} steps, so that "
                    "no sigma can be measured; give sigma, or change the start"
                )
        return tuple(widths)

    # ------------------------------------------------------------------ shared among threads, ranks and windows

    def share(self) -> None:
        """From here on list kernels apart."""
        self._merged, self._rows = self._content(), []

    @property
    def shared(self) -> bool:
        """Whether what is learnt is kept apart, to be merged."""
        return self._merged is not None

    def learnt(self) -> dict[str, Tensor]:
        """Since the last merge, what was seen of each walker, in its order, as rows (step, s, V / kT) [H, k + 2].

        The last is NaN of what was seen before there was a sigma.
        """
        if self._merged is None:
            raise InputError(f"OPES: {self.name!r} is not shared, so that nothing is kept apart; call share()")
        nothing = torch.zeros((0, len(self.cvs) + 2), dtype=torch.float64)
        return {"rows": torch.cat([nothing, *self._rows])}

    def merge(self, parts: Sequence[Mapping[str, Tensor]]) -> None:
        """V <- V of the last merge + the kernels of all parts, step by step, in a step one part after the other.

        Each has the weight that it was left with. Of those from when one part had a sigma and all together not yet, V
        was -barrier.
        """
        shared = self._merged is not None
        if self._merged is not None:
            self._restore(self._merged)
        rows = torch.cat([part["rows"].cpu() for part in parts])
        for step in torch.unique(rows[:, 0]):  # in order
            self._take(rows[rows[:, 0] == step])
        if shared:
            self.share()

    # ------------------------------------------------------------------ for the record

    @property
    def grid(self) -> Grid:
        """The grid on which V is recorded."""
        return self._histogram.grid

    @property
    def visits(self) -> Tensor:
        """Histogram of kernels left so far, int64, on the grid."""
        return torch.from_numpy(self._histogram.counts)

    @property
    def potential(self) -> Tensor:
        """Coefficients of V on the grid, in units of energy: the spline that has its values at the centres of bins."""
        if self._table is None or self._table[0] != self.deposits:
            centers = [torch.from_numpy(self.grid.centers(d)) for d in range(len(self.cvs))]
            places = torch.cartesian_prod(*centers).reshape(-1, len(centers))
            values = self.energy(places, 0).reshape(self.grid.shape).numpy()
            self._table = self.deposits, torch.from_numpy(coefficients_of(values, self.grid.periodic))
        return self._table[1]

    def free_energy(self) -> Tensor:
        r"""F(s) at the centres of all bins of `grid`, in the grid's shape and in units of energy, its minimum at 0.

            F = -gamma / (gamma - 1) V

        It is that of P, smoothed by the kernels: frames weighted with exp(V / kT) know it better. Where no kernel has
        been it is only a lower bound.
        """
        factor = 1.0 if self.bias_factor == math.inf else self.bias_factor / (self.bias_factor - 1)
        values = -factor * self.grid.on_nodes(self.potential)
        return values - values.min()

    def observables(self) -> dict[str, float]:
        """Number of kernels after merging, the effective number of all, Z, and c(t) = kT ln of the mean weight.

        With `explore` all kernels count, whatever they would weigh.
        """
        known = self._estimate
        counts = {"kernels": float(len(self.kernels)), "neff": known.effective}
        return {**counts, "zed": known.zed, "rct": self.kT * known.log_mean_weight}

    def doubts(self) -> list[str]:
        """No kernel yet, few that count, many where V is not known yet, or a normalisation that still drifts."""
        if not self.deposits:
            return ["it has left no kernel yet"]
        found, effective = [], self._estimate.effective
        if effective < FEWEST_EFFECTIVE:
            found.append(f"its kernels count as {effective:.0f} only, by their weights (enough: {FEWEST_EFFECTIVE})")
        if (share := float(self._unknown.double().mean())) > MOST_OUTSIDE:
            found.append(
                f"{100 * share:.0f} % of its newest kernels were left where V was within kT of -barrier: F is unknown "
                "there, or not overcome"
            )
        if (drift := self._estimate.drift()) is not None and not self.frozen:
            for name, change in zip(("c(t) / kT", "ln Z"), drift[1:], strict=True):
                # V moves much in the beginning with `explore`, and so does the mean weight, which V does not follow
                if abs(change) > CONVERGED_DRIFT and not (self.explore and name != "ln Z"):
                    found.append(f"{name} has changed by {change:+.2g} since the first {drift[0]} kernels")
        return found

    def tables(self) -> dict[str, Tensor]:
        """V and the histogram of kernels on the grid; and the edges of the grid, [k, 2], if it grows."""
        edges = {} if self._histogram.fixed else {"edges": torch.from_numpy(self._histogram.edges)}
        return {"potential": self.potential, "visits": self.visits, **edges}

    def describe(self) -> dict[str, Any]:
        """Settings, for the record."""
        return {
            "cvs": [cv.name for cv in self.cvs],
            "cv_settings": self.cvs,
            "barrier": self.barrier,
            "pace": self.pace,
            "sigma": self._given,
            "explore": self.explore,
            "kT": self.kT,
            **{name: value for name, value in vars(self._shape).items() if name != "amplitude"},
            "periods": self.periods,
            "grid": self.grid.describe() if self._histogram.fixed else None,
        }

    def for_readers(self) -> dict[str, Any]:
        """Kind and formula, and the grid, temperature and factor by which the tables are read."""
        factor = None if self.bias_factor == math.inf else self.bias_factor
        return {**super().for_readers(), "grid": self.grid.describe(), "kT": self.kT, "bias_factor": factor}

    def _content(self) -> dict[str, Any]:
        """A copy of all that it has learnt."""
        return {
            "estimate": self._estimate.state_dict(),
            "histogram": self._histogram.state_dict(),
            "sigma": None if self.sigma is None else list(self.sigma),
            "unknown": self._unknown.clone(),
            "looks": {str(number): one.clone() for number, one in enumerate(self._looks)},
        }

    def _restore(self, content: dict[str, Any]) -> None:
        self._estimate.load_state_dict(content["estimate"])
        self._histogram.load_state_dict(content["histogram"])
        self.sigma = None if content["sigma"] is None else tuple(content["sigma"])
        self._unknown = content["unknown"].cpu().clone()
        self._looks = [content["looks"][str(number)].clone() for number in range(len(content["looks"]))]
        self._table = None

    def state_dict(self) -> dict[str, Any]:
        """A copy of the kernels, sums and counters, and whether it is frozen."""
        shared = {} if self._merged is None else {"merged": copy.deepcopy(self._merged), **self.learnt()}
        return {**self._content(), "frozen": self.frozen, **shared}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self._restore(saved)
        self.frozen = bool(saved["frozen"])
        self._merged = copy.deepcopy(saved.get("merged"))
        self._rows = [saved["rows"].clone()] if "rows" in saved else []
