"""Metadynamics: a bias made of hills where the walkers have been, of one height or well-tempered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nnsim.errors import InputError, require_cv, require_integer, require_number, require_numbers, shown
from nnsim.grid import Grid, Kernel
from nnsim.protocols import Bias, CollectiveVariable


class Metadynamics(Bias):
    r"""Every `pace` steps each walker leaves a hill, which all of them feel.

        V(s) <- V(s) + w_w exp(-sum_d (s_d - s_wd)^2 / (2 sigma_d^2))      for each walker w

        w_w = height                                                       standard
        w_w = height exp(-V(s_w) / (kT (gamma - 1)))                       well-tempered, with a bias factor gamma

    Standard hills fill the free energy F(s) = -kT ln of the integral of delta(s(q') - s) exp(-U / kT) and then go on:
    V fluctuates around -F, the more the higher the hills, so average `free_energy()` over the last part of a run. The
    hills of well-tempered metadynamics shrink as 1 / t, and V converges to -(1 - 1 / gamma) F: the walkers then sample
    F / gamma instead of F. Both up to a constant. With U = 0, -F / kT is the entropy S(s).

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
        self.cvs = tuple(cvs) if isinstance(cvs, Sequence) and not isinstance(cvs, str) else (cvs,)
        for cv in self.cvs:
            require_cv("Metadynamics", "cvs", cv)
        if not isinstance(grid, Grid):
            raise InputError(f"Metadynamics: grid = {shown(grid)} must be a grid; give nnsim.Grid(lower, upper, bins)")
        if len(self.cvs) != grid.dimensions:
            raise InputError(
                f"Metadynamics: {len(self.cvs)} CVs on a grid of {grid.dimensions} dimensions; give one axis each"
            )
        self.grid, self.name = grid, name
        self.height = require_number("Metadynamics", "height", height, above=0.0)
        self.sigma = _widths(grid, sigma)
        self.pace = require_integer("Metadynamics", "pace", pace, least=1)
        self.bias_factor = (
            None if bias_factor is None else require_number("Metadynamics", "bias_factor", bias_factor, above=1.0)
        )
        self.kT = require_number("Metadynamics", "kT", kT, above=0.0)
        # A spline is wider than its coefficients by the variance h^2 / 3 of a B-spline, so those get a narrower kernel.
        spread = 1 / 3 if grid.kind == "spline" else 0.0
        pairs = zip(self.sigma, grid.spacing, strict=True)
        self.kernel = Kernel(grid, [math.sqrt(width**2 - spread * h**2) for width, h in pairs])
        self._volume = 1 / _peak(self.kernel)  # sum of the coefficients of a hill of height one
        self.frozen = False
        self.potential = torch.zeros(grid.shape, dtype=torch.float64)
        self.visits = torch.zeros(grid.shape, dtype=torch.int64)
        self.deposits = 0
        self.outside = 0
        self.last_height = 0.0

    @property
    def differentiable(self) -> bool:
        """Whether V(s) has a useful gradient: a potential that is constant in each bin exerts no force."""
        return self.grid.kind != "bins"

    def prepare(self, device: torch.device) -> None:
        """Bring the tables to a device."""
        self.grid.prepare(device)
        self.kernel.prepare(device)
        self.potential, self.visits = self.potential.to(device), self.visits.to(device)

    def energy(self, s: Tensor, step: int) -> Tensor:
        """V [W] at s [W, k]."""
        return self.energy_and_gradient(s, step)[0]

    def gradient(self, s: Tensor, step: int) -> Tensor:
        """dV/ds [W, k] at s [W, k]."""
        return self.energy_and_gradient(s, step)[1]

    def energy_and_gradient(self, s: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """V [W] and its exact gradient [W, k] at s [W, k]."""
        return self.grid.evaluate(self.potential, s)

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
        self._deposit(here, heights)
        self.deposits += len(here)
        self.last_height = float(heights.mean())

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

    def allows(self, s: Tensor) -> Tensor:
        """Whether each s [W, k] lies on the grid, [W]: Monte Carlo moves that leave it are rejected."""
        return self.grid.inside(s)

    def start(self, s: Tensor) -> None:
        """Refuse a start with every walker outside the grid: nothing would ever be deposited."""
        if bool(self.grid.inside(s).any()):
            return
        low, high = self.grid.lower, self.grid.upper
        values = "; ".join(
            f"{cv.name} from {s[:, d].min():.4g} to {s[:, d].max():.4g}, grid {low[d]:g} to {high[d]:g}"
            for d, cv in enumerate(self.cvs)
        )
        raise InputError(
            f"Metadynamics: all {len(s)} walkers start outside the grid ({values}); widen the grid or change the start"
        )

    def observables(self) -> dict[str, float]:
        """Number of hills, mean height of the latest ones, and the fraction left out for lying outside the grid."""
        total = self.deposits + self.outside
        outside = self.outside / total if total else 0.0
        return {"hills": float(self.deposits), "mean_height": self.last_height, "outside": outside}

    def tables(self) -> dict[str, Tensor]:
        """Coefficients of V and the histogram of hills."""
        return {"potential": self.potential, "visits": self.visits}

    def describe(self) -> dict[str, Any]:
        """Settings, for the record."""
        return {
            "cvs": [cv.name for cv in self.cvs],
            "cv_settings": self.cvs,
            "grid": self.grid.describe(),
            "height": self.height,
            "sigma": self.sigma,
            "pace": self.pace,
            "bias_factor": self.bias_factor,
            "kT": self.kT,
        }

    def state_dict(self) -> dict[str, Any]:
        """A copy of potential, histogram and counters, and whether it is frozen."""
        return {
            "potential": self.potential.clone(),
            "visits": self.visits.clone(),
            "deposits": self.deposits,
            "outside": self.outside,
            "last_height": self.last_height,
            "frozen": self.frozen,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.potential = saved["potential"].to(self.potential.device, copy=True).contiguous()
        self.visits = saved["visits"].to(self.visits.device, copy=True).contiguous()
        self.deposits, self.outside = int(saved["deposits"]), int(saved["outside"])
        self.last_height = float(saved["last_height"])
        self.frozen = bool(saved["frozen"])


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
