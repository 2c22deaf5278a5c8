"""Wang-Landau sampling: a bias that grows until the histogram is flat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nnsim.errors import InputError, require_cv, require_number, shown
from nnsim.grid import Grid, Kernel
from nnsim.protocols import Bias, CollectiveVariable
from nnsim.schedules import IncrementSchedule


class WangLandau(Bias):
    r"""V(s) grows by kT f wherever a walker is, until every s is visited equally often.

        V(s) <- V(s) + kT f(t) K(s, s_w)        for each walker w after each step

    Where U = 0, V / kT converges to the entropy S(s) = ln of the integral of delta(s(q') - s) over the box, up to a
    constant; with a potential U it converges to the logarithm of the integral of delta(s(q') - s) exp(-U / kT), minus
    a free energy. It is a density in the CV itself: for a CV ln L, per unit of ln L.

    Args:
        cvs: the collective variables, 1 to 3, in the order of the grid's axes (or a single one).
        grid: the grid; steps outside it deposit nothing and are counted in `outside`.
        schedule: gives the increment f in units of kT, summed over the kernel.
        kT: the temperature of the dynamics, above 0.
        kernel: sigma of the Gaussian kernel for each CV, in its units, or None for a single bin; see
            `nnsim.grid.Kernel`.
        name: name of the bias.

    Attributes:
        potential: coefficients of V on the grid, in units of energy.
        visits: histogram of deposits, int64, on the grid.
        deposits: number of deposits so far, the clock of the schedule.
        outside: number of walker-steps outside the grid.
        frozen: set to True to stop learning (the bias then is a fixed potential); saved and resumed.

    Raises:
        InputError: CVs, grid or schedule of another type, more or fewer CVs than axes, or a bad kT or kernel.

    Reference: F. Wang and D. P. Landau, Phys. Rev. Lett. 86, 2050 (2001), doi:10.1103/PhysRevLett.86.2050; as dynamics:
    C. Junghans, D. Perez and T. Vogel, J. Chem. Theory Comput. 10, 1843 (2014), doi:10.1021/ct500077d; on neural
    networks: arXiv 2503.13145.
    """

    def __init__(
        self,
        cvs: CollectiveVariable | Sequence[CollectiveVariable],
        grid: Grid,
        schedule: IncrementSchedule,
        *,
        kT: float = 1.0,
        kernel: float | Sequence[float] | None = None,
        name: str = "wang_landau",
    ) -> None:
        self.cvs = tuple(cvs) if isinstance(cvs, Sequence) and not isinstance(cvs, str) else (cvs,)
        for cv in self.cvs:
            require_cv("WangLandau", "cvs", cv)
        if not isinstance(grid, Grid):
            raise InputError(f"WangLandau: grid = {shown(grid)} must be a grid; give nnsim.Grid(lower, upper, bins)")
        if isinstance(schedule, type) or not callable(getattr(schedule, "increment", None)):
            raise InputError(
                f"WangLandau: schedule = {shown(schedule)} must be a schedule, which gives the increment; "
                "give an object such as nnsim.schedules.InverseTime(maximum, scale)"
            )
        if len(self.cvs) != grid.dimensions:
            raise InputError(
                f"WangLandau: {len(self.cvs)} CVs on a grid of {grid.dimensions} dimensions; give one axis each"
            )
        self.grid, self.schedule, self.name = grid, schedule, name
        self.kT = require_number("WangLandau", "kT", kT, above=0.0)
        self.kernel = Kernel(grid, kernel)
        self.frozen = False
        self.potential = torch.zeros(grid.shape, dtype=torch.float64)
        self.visits = torch.zeros(grid.shape, dtype=torch.int64)
        self.deposits = 0
        self.outside = 0

    @property
    def differentiable(self) -> bool:
        """Whether V(s) has a useful gradient: a potential that is constant in each bin exerts no force."""
        return self.grid.kind != "bins"

    @property
    def increment(self) -> float:
        """The increment f of the next deposit, in kT."""
        return self.schedule.increment(self.deposits)

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

    def update(self, s: Tensor, step: int, mask: Tensor | None = None) -> None:
        """Deposit kT f at each walker's s [W, k] (those with `mask` [W], if given); outside the grid only count."""
        if self.frozen:
            return
        s = s if mask is None else s[mask]
        inside = self.kernel.deposit_(self.potential, self.visits, s, self.kT * self.increment)
        self.outside += len(s) - inside
        self.deposits += inside
        self.schedule.observe(self.deposits, self.visits)

    def add(self, visits: Tensor, outside: int, height: float) -> None:
        """Deposit at many bins at once: `visits` counts (int64, the grid's shape), each `height` x kernel."""
        self.potential += height * self.kernel.convolve(visits.double())
        self.visits += visits
        self.deposits += int(visits.sum())
        self.outside += outside
        self.schedule.observe(self.deposits, self.visits)

    def allows(self, s: Tensor) -> Tensor:
        """Whether each s [W, k] lies on the grid, [W]: Monte Carlo moves that leave it are rejected."""
        return self.grid.inside(s)

    def start(self, s: Tensor) -> None:
        """Refuse a start with every walker outside the grid: nothing would ever be deposited."""
        if bool(self.grid.inside(s).any()):
            return
        names = [cv.name for cv in self.cvs]
        low, high = self.grid.lower, self.grid.upper
        values = "; ".join(
            f"{name} from {s[:, d].min():.4g} to {s[:, d].max():.4g}, grid {low[d]:g} to {high[d]:g}"
            for d, name in enumerate(names)
        )
        raise InputError(
            f"WangLandau: all {len(s)} walkers start outside the grid ({values}); widen the grid or change the start"
        )

    def observables(self) -> dict[str, float]:
        """Increment and the fraction of walker-steps outside the grid so far."""
        total = self.deposits + self.outside
        return {"increment": self.increment, "outside": self.outside / total if total else 0.0}

    def tables(self) -> dict[str, Tensor]:
        """Coefficients of V and the histogram."""
        return {"potential": self.potential, "visits": self.visits}

    def describe(self) -> dict[str, Any]:
        """Settings, for the record."""
        return {
            "cvs": [cv.name for cv in self.cvs],
            "cv_settings": self.cvs,
            "grid": self.grid.describe(),
            "schedule": self.schedule,
            "kT": self.kT,
            "kernel": self.kernel.sigma,
        }

    def state_dict(self) -> dict[str, Any]:
        """A copy of potential, histogram and counters, whether it is frozen, and the schedule's state."""
        return {
            "potential": self.potential.clone(),
            "visits": self.visits.clone(),
            "deposits": self.deposits,
            "outside": self.outside,
            "frozen": self.frozen,
            "schedule": self.schedule.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.potential = saved["potential"].to(self.potential.device, copy=True).contiguous()
        self.visits = saved["visits"].to(self.visits.device, copy=True).contiguous()
        self.deposits, self.outside = int(saved["deposits"]), int(saved["outside"])
        self.frozen = bool(saved["frozen"])
        self.schedule.load_state_dict(saved["schedule"])
