"""Metadynamics: a bias made of hills where the walkers have been, of one height or well-tempered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnsim.bias.grid_bias import GridBias
from nnsim.errors import InputError, require_integer, require_number, require_numbers
from nnsim.grid.deposits import DepositPlan
from nnsim.grid.grid import Grid, Kernel
from nnsim.protocols import CollectiveVariable


class Metadynamics(GridBias):
    r"""Every `pace` steps each walker leaves a hill, which all of them feel.

        V(s) <- V(s) + w_w exp(-sum_d (s_d - s_wd)^2 / (2 sigma_d^2))      for each walker w

        w_w = height                                                       standard
        w_w = height exp(-V(s_w) / (kT (gamma - 1)))                       well-tempered, with a bias factor gamma

    Standard hills fill the free energy F(s) = -kT ln of the integral of delta(s(q') - s) exp(-U / kT) and then go on:
    V fluctuates around -F, the more the higher the hills, so average `free_energy()` over the last part of a run. The
    hills of well-tempered metadynamics shrink as 1 / t, and V converges to -(1 - 1 / gamma) F: the walkers then sample
    F / gamma instead of F. Both up to a constant. With U = 0, -F / kT is the entropy S(s). Averages without the bias,
    from frames recorded while V still grows, take weights from `offset()`.

    All walkers of one update take their heights from V as it was before any of them deposited, so their order does not
    matter; W walkers fill W times as fast, so lower the height as you take more of them.

    V is a function on the grid: a hill is centred on the node nearest to the walker, cut off at about 4 sigma, and
    mirrored at an edge, which keeps its volume (see `nnsim.grid.Kernel`); within 4 sigma of an edge it is therefore
    higher than `height`, up to twice, and V is flat at the edge itself. Put edges where the walkers hardly come.

    Args:
        cvs: the collective variables, 1 to 3, in the order of the grid's axes (or a single one).
        grid: the grid, of bins at most sigma wide; deposits outside it are left out and counted in `outside`.
        height: height w of a hill at its maximum (as HEIGHT in PLUMED), in units of energy, above 0.
        sigma: standard deviation of a hill for each CV (or a number for all), in its units; from a bin of a spline grid
            to an eighth of the grid.
        pace: steps from one hill of a walker to the next, at least 1; at steps pace, 2 pace, ...
        bias_factor: gamma, above 1; None is standard metadynamics. The barriers that walkers still see at the end are
            those of F / gamma: gamma of about (highest barrier) / (2 kT) lets them cross.
        kT: the temperature of the dynamics, above 0.
        name: name of the bias.

    Attributes:
        potential: coefficients of V on the grid, in units of energy.
        visits: histogram of hills, int64, on the grid.
        deposits: number of hills so far.
        outside: number of hills left out because the walker was outside the grid.
        last_height: mean height over the hills of the last update, in units of energy; 0 before the first.
        frozen: set to True to stop learning (the bias then is a fixed potential); saved and resumed.

    Raises:
        InputError: CVs or grid of another type, more or fewer CVs than axes, or a number out of its range.

    Reference: A. Laio and M. Parrinello, PNAS 99, 12562 (2002), doi:10.1073/pnas.202427399; well-tempered: A. Barducci,
    G. Bussi and M. Parrinello, Phys. Rev. Lett. 100, 020603 (2008), doi:10.1103/PhysRevLett.100.020603, where gamma =
    (T + Delta T) / T; many walkers: P. Raiteri et al., J. Phys. Chem. B 110, 3533 (2006), doi:10.1021/jp054359r.

    >>> from nnsim import Grid, cv
    >>> from nnsim.bias import Metadynamics
    >>> bias = Metadynamics(cv.Parameter(0), Grid(-2.0, 2.0, 100), height=0.1, sigma=0.1, pace=100, bias_factor=8.0)
    """

    formula = "hills"
    native = "hills"  # for native platforms
    pace: int

    def __init__(
        self,
        cvs: CollectiveVariable | Sequence[CollectiveVariable],
        grid: Grid,
        height: float,
        sigma: float | Sequence[float],
        pace: int,
        *,
        bias_factor: float | None = None,
        kT: float = 1.0,
        name: str = "metadynamics",
    ) -> None:
        super().__init__(cvs, grid, kT=kT, name=name)
        self.height = require_number("Metadynamics", "height", height, above=0.0)
        self.sigma = _widths(grid, sigma)
        self.pace = require_integer("Metadynamics", "pace", pace, least=1)
        self.bias_factor = (
            None if bias_factor is None else require_number("Metadynamics", "bias_factor", bias_factor, above=1.0)
        )
        # A spline is wider than its coefficients by the variance h^2 / 3 of a B-spline, so those get a narrower kernel.
        spread = 1 / 3 if grid.kind == "spline" else 0.0
        pairs = zip(self.sigma, grid.spacing, strict=True)
        self.kernel = Kernel(grid, [math.sqrt(width**2 - spread * h**2) for width, h in pairs])
        self._volume = 1 / _peak(self.kernel)  # sum of the coefficients of a hill of height one
        self.last_height = 0.0
        self._hills: list[Tensor] = []  # since the last merge, while it is shared: rows (s, height), [*, k + 1]

    def heights(self, s: Tensor) -> Tensor:
        """Height [W] that hills at s [W, k] would have now, in units of energy."""
        if self.bias_factor is None:
            return torch.full((len(s),), self.height, dtype=torch.float64, device=s.device)
        return self.height * torch.exp(-self.energy(s, 0) / (self.kT * (self.bias_factor - 1)))

    def update(self, s: Tensor, step: int, mask: Tensor | None = None) -> None:
        """At every `pace`-th step, a hill at each walker's s [W, k] (those with `mask` [W], if given) on the grid."""
        if self.frozen or step % self.pace:
            return
        s = s if mask is None else s[mask]
        inside = self.grid.inside(s)
        here = s[inside]
        self.outside += len(s) - len(here)
        if not len(here):
            return
        heights = self.heights(here)  # before any of them changes V
        if self._merged is not None:
            self._hills.append(torch.cat([here.double(), heights[:, None]], dim=1))
        self._add(here, heights)

    def deposit_plan(self, steps: int, walkers: int) -> DepositPlan:
        """What will be deposited in the next steps."""
        tempering = 0.0 if self.bias_factor is None else self.kT * (self.bias_factor - 1)
        return DepositPlan(0 if self.frozen else self.pace, np.array([self.height * self._volume]), tempering, steps)

    def take_account(self, deposits: int, outside: int, last_height: float) -> None:
        """Of what a platform has deposited, by the last plan."""
        self.deposits += deposits
        self.outside += outside
        if deposits:
            self.last_height = last_height / self._volume

    def _add(self, s: Tensor, heights: Tensor) -> None:
        """Add hills of the given heights [W] at s [W, k], all on the grid, and count them."""
        self._deposit(s, heights)
        self.deposits += len(s)
        self.last_height = float(heights.mean())

    def share(self) -> None:
        """From here on list hills apart."""
        super().share()
        self._hills = []

    def learnt(self) -> dict[str, Tensor]:
        """Hills since the last merge, in their order, as rows (s, height) [H, k + 1], and how many were outside."""
        if self._merged is None:
            raise InputError(f"Metadynamics: {self.name!r} is not shared, so that nothing is kept apart; call share()")
        nothing = self.potential.new_zeros((0, len(self.cvs) + 1))
        return {
            "hills": torch.cat([nothing, *self._hills]),
            "outside": torch.tensor(self.outside - self._merged["outside"]),
        }

    def merge(self, parts: Sequence[Mapping[str, Tensor]]) -> None:
        """V <- V of the last merge + the hills of all parts, one part after the other, each as high as it was made."""
        shared = self._back()
        for part in parts:
            if len(part["hills"]):
                self._add(part["hills"][:, :-1], part["hills"][:, -1])
            self.outside += int(part["outside"])
        if shared:
            self.share()

    def _deposit(self, s: Tensor, heights: Tensor) -> None:
        """Add hills of the given heights [W] at s [W, k], all on the grid."""
        if self.bias_factor is None:
            self.kernel.deposit_(self.potential, self.visits, s, self.height * self._volume)
        elif s.device.type == "cpu":
            for place, volume in zip(s.split(1), (heights * self._volume).tolist(), strict=True):
                self.kernel.deposit_(self.potential, self.visits, place, volume)
        else:  # a launch for each walker would cost more than the whole grid
            self._deposit_at_once(s, heights)

    def _deposit_at_once(self, s: Tensor, heights: Tensor) -> None:
        """The same by one sum over the whole grid."""
        where = self.grid.flat(self.grid.bin_indices(s))
        volumes = torch.zeros_like(self.potential)
        volumes.view(-1).index_add_(0, where, heights * self._volume)
        self.potential += self.kernel.convolve(volumes)
        self.visits.view(-1).index_add_(0, where, torch.ones_like(where))

    def free_energy(self) -> Tensor:
        r"""F(s) at the centres of all bins, in the grid's shape and in units of energy, with its minimum at 0.

            F = -V                                  standard
            F = -gamma / (gamma - 1) V              well-tempered

        Where no hill has ever been (`visits` is 0 there and around) it is only a lower bound of F.
        """
        factor = 1.0 if self.bias_factor is None else self.bias_factor / (self.bias_factor - 1)
        values = -factor * self.grid.on_nodes(self.potential)
        return values - values.min()

    def offset(self) -> float:
        r"""The offset c(t) of V at the present time, in units of energy, which makes weights of frames comparable.

            c(t) = kT ln [ integral of exp(gamma / (gamma - 1) V(s, t) / kT) ds
                           / integral of exp(V(s, t) / ((gamma - 1) kT)) ds ]             well-tempered
            c(t) = kT ln [ integral of exp(V(s, t) / kT) ds / integral of ds ]            standard (gamma -> infinity)

        V rises without end, also where its shape has settled; V - c(t) does not. A frame at time t therefore has the
        weight exp((V(s_t, t) - c(t)) / kT) in averages without the bias, of any quantity, from when V has filled the
        minima on; the mean weight of the walkers is then about 1 at all times.

        The integrals run over the whole grid, as sums over V at the centres of the bins. As in the paper, bins that
        cannot be reached, where V stays 0, count too. In the standard form they add a constant to c, which drops out.
        In the well-tempered form they lower c until V is far above (gamma - 1) kT, so that frames before then weigh too
        much beside later ones (but not beside each other at one time). So let the grid end where the walkers do.

        It is recorded as `offset` after the hills of that step, which `bias_energy` is still without. That lowers the
        weights of all walkers in a frame by a common factor, which approaches 1 as the hills shrink.

        Reference: P. Tiwary and M. Parrinello, J. Phys. Chem. B 119, 736 (2015), doi:10.1021/jp504920s, where V(s, t)
        is added to U, as here.
        """
        v = self.grid.on_nodes(self.potential).flatten() / self.kT  # bins are equally wide, so ds cancels
        if self.bias_factor is None:
            return self.kT * (float(torch.logsumexp(v, 0)) - math.log(len(v)))
        over, under = self.bias_factor / (self.bias_factor - 1), 1 / (self.bias_factor - 1)
        return self.kT * float(torch.logsumexp(over * v, 0) - torch.logsumexp(under * v, 0))

    def observables(self) -> dict[str, float]:
        """Number of hills, mean height of the latest, the fraction left out for lying outside the grid, and c(t)."""
        hills = {"hills": float(self.deposits), "mean_height": self.last_height}
        return {**hills, **super().observables(), "offset": self.offset()}

    def describe(self) -> dict[str, Any]:
        """Settings, for the record."""
        return {
            **super().describe(),
            "height": self.height,
            "sigma": self.sigma,
            "pace": self.pace,
            "bias_factor": self.bias_factor,
            "kT": self.kT,
        }

    def state_dict(self) -> dict[str, Any]:
        """A copy of potential, histogram and counters, the last height, and whether it is frozen."""
        held = {} if self._merged is None else {"hills": self.learnt()["hills"]}
        return {**super().state_dict(), "last_height": self.last_height, **held}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        super().load_state_dict(saved)
        self.last_height = float(saved["last_height"])
        self._hills = [saved["hills"].clone()] if "hills" in saved else []


def _widths(grid: Grid, sigma: float | Sequence[float]) -> tuple[float, ...]:
    """Sigma for each CV, after checking that such hills fit the grid and can be resolved by it."""
    k = grid.dimensions
    numbers = require_numbers("Metadynamics", "sigma", sigma).reshape(-1).tolist()
    if len(numbers) not in (1, k):
        raise InputError(f"Metadynamics: {len(numbers)} values of sigma for {k} CVs; give one, or one for each CV")
    widths = tuple(require_number("Metadynamics", "sigma", value, above=0.0) for value in numbers)
    widths = widths * k if len(widths) == 1 else widths
    for width, h, low, high in zip(widths, grid.spacing, grid.lower, grid.upper, strict=True):
        if grid.kind == "spline" and width < h * (1 - 1e-9):
            raise InputError(
                f"Metadynamics: sigma = {width:g} is less than the width {h:g} of a bin, too narrow for a spline; "
                "take a larger sigma or more bins"
            )
        if 8 * width > (high - low) * (1 + 1e-9):
            raise InputError(
                f"Metadynamics: sigma = {width:g} makes a hill wider than the grid, {low:g} to {high:g} (4 sigma to "
                "either side); take a smaller sigma or a larger grid"
            )
    return widths


def _peak(kernel: Kernel) -> float:
    """Height at its maximum, far from edges, of the function that one deposit of weight one makes."""
    peak = 1.0
    for weights in kernel.weights:
        row = weights[len(weights) // 2]  # in the middle nothing is mirrored
        reach = len(row) // 2
        side = float(row[reach + 1]) if reach else 0.0
        # at a node a cubic B-spline is 4/6 of its own coefficient and 1/6 of each neighbour's
        peak *= float(row[reach]) if kernel.grid.kind == "bins" else (4 * float(row[reach]) + 2 * side) / 6
    return peak
