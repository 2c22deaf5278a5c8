"""Wang-Landau sampling: a bias that grows until the histogram is flat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnsim.bias.grid_bias import GridBias
from nnsim.criteria import CONVERGED_INCREMENT
from nnsim.errors import InputError, shown
from nnsim.grid.deposits import DepositPlan
from nnsim.grid.grid import Grid, Kernel
from nnsim.protocols import CollectiveVariable
from nnsim.schedules import IncrementSchedule


class WangLandau(GridBias):
    r"""V(s) grows by kT f wherever a walker is, until every s is visited equally often.

        V(s) <- V(s) + kT f(t) K(s, s_w)        for each walker w after each step

    Where U = 0, V / kT converges to the entropy S(s) = ln of the integral of delta(s(q') - s) over the box, up to a
    constant; with a potential U it converges to the logarithm of the integral of delta(s(q') - s) exp(-U / kT), minus
    a free energy. It is a density in the CV itself: for a CV ln L, per unit of ln L.

    On a spline grid V has zero slope at an edge. Where S is steep there the histogram cannot become flat, and V goes on
    to grow beside the edge: put a wall well inside it, or the edge where the walkers hardly come.

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

    formula = "flat_histogram"
    native = "grid"  # for native platforms
    numbers_of_counts = True

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
        super().__init__(cvs, grid, kT=kT, name=name)
        if isinstance(schedule, type) or not callable(getattr(schedule, "increment", None)):
            raise InputError(
                f"WangLandau: schedule = {shown(schedule)} must be a schedule, which gives the increment; "
                "give an object such as nnsim.schedules.InverseTime(maximum, scale)"
            )
        self.schedule = schedule
        self._height = 0.0  # of a deposit until the next merge, while it is shared
        self.kernel = Kernel(grid, kernel)

    @property
    def increment(self) -> float:
        """The increment f of the next deposit, in kT."""
        return self.schedule.increment(self.deposits)

    def update(self, s: Tensor, step: int, mask: Tensor | None = None) -> None:
        """Deposit kT f at each walker's s [W, k] (those with `mask` [W], if given); outside the grid only count."""
        if self.frozen:
            return
        s = s if mask is None else s[mask]
        height = self.kT * self.increment if self._merged is None else self._height
        inside = self.kernel.deposit_(self.potential, self.visits, s, height)
        self.outside += len(s) - inside
        self.deposits += inside
        if self._merged is None:
            self.schedule.observe(self.deposits, self.visits)

    def deposit_plan(self, steps: int, walkers: int) -> DepositPlan:
        """What will be deposited in the next steps, at most up to the schedule's next look at the histogram."""
        if self.frozen:
            return DepositPlan(0, np.zeros(1), 0.0, steps)
        if type(self).increment is not WangLandau.increment:  # which may depend on anything
            return DepositPlan(1, np.array([self.kT * self.increment]), 0.0, 1)
        known = (_next_look(self.schedule, self.deposits) - self.deposits - 1) // walkers + 1
        steps = min(steps, known)
        heights = _increments(self.schedule, self.deposits, steps * walkers)
        return DepositPlan(1, self.kT * heights, 0.0, steps)

    def take_account(self, deposits: int, outside: int, last_height: float) -> None:
        """Of what a platform has deposited, by the last plan."""
        self.deposits += deposits
        self.outside += outside
        self.schedule.observe(self.deposits, self.visits)

    def share(self) -> None:
        """From here on count visits apart, at a constant increment; the schedule looks at merges only."""
        super().share()
        self._height = 0.0 if self.frozen else self.kT * self.increment

    def learnt(self) -> dict[str, Tensor]:
        """Visits since the last merge, int64 on the grid, those outside it, and what each adds to V, in energy."""
        if self._merged is None:
            raise InputError(f"WangLandau: {self.name!r} is not shared, so that nothing is kept apart; call share()")
        return {
            "visits": self.visits - self._merged["visits"],
            "outside": torch.tensor(self.outside - self._merged["outside"]),
            "height": torch.tensor(self._height, dtype=torch.float64),
        }

    def merge(self, parts: Sequence[Mapping[str, Tensor]]) -> None:
        """V <- V of the last merge + height x (the visits of all parts * kernel).

        Raises:
            InputError: no parts, or parts of different heights, which did not begin from the same V.
        """
        heights = {float(part["height"]) for part in parts}
        if len(heights) != 1:
            raise InputError(
                f"WangLandau: parts with heights {sorted(heights)} of a deposit were not learnt from one V; share() "
                "all copies at the same state, and merge at least one part"
            )
        shared = self._back()
        self.add(
            torch.stack([part["visits"] for part in parts]).sum(dim=0),
            sum(int(part["outside"]) for part in parts),
            *heights,
        )
        if shared:
            self.share()

    def add(self, visits: Tensor, outside: int, height: float) -> None:
        """Deposit at many bins at once: `visits` counts (int64, the grid's shape), each `height` x kernel."""
        self.potential += height * self.kernel.convolve(visits.double())
        self.visits += visits
        self.deposits += int(visits.sum())
        self.outside += outside
        self.schedule.observe(self.deposits, self.visits)

    def observables(self) -> dict[str, float]:
        """Increment and the fraction of walker-steps outside the grid so far."""
        return {"increment": self.increment, **super().observables()}

    def doubts(self) -> list[str]:
        """An increment that is still high, and steps outside the grid."""
        increment, found = self.increment, super().doubts()
        if increment > CONVERGED_INCREMENT and not self.frozen:
            found.append(f"the increment is still {increment:.2g} kT (converged: below {CONVERGED_INCREMENT:g})")
        return found

    def describe(self) -> dict[str, Any]:
        """Settings, for the record."""
        return {**super().describe(), "schedule": self.schedule, "kT": self.kT, "kernel": self.kernel.sigma}

    def state_dict(self) -> dict[str, Any]:
        """A copy of potential, histogram and counters, whether it is frozen, and the schedule's state."""
        held = {} if self._merged is None else {"height": self._height}
        return {**super().state_dict(), "schedule": self.schedule.state_dict(), **held}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        super().load_state_dict(saved)
        self._height = float(saved.get("height", 0.0))
        self.schedule.load_state_dict(saved["schedule"])


def _next_look(schedule: IncrementSchedule, deposits: int) -> int:
    """As `IncrementSchedule.next_look`, also of a schedule that does not inherit: that may look at any time."""
    return schedule.next_look(deposits) if IncrementSchedule in type(schedule).__mro__ else deposits + 1


def _increments(schedule: IncrementSchedule, first: int, count: int) -> np.ndarray:
    """As `IncrementSchedule.increments`, also of a schedule that does not inherit."""
    inherits = IncrementSchedule in type(schedule).__mro__
    return schedule.increments(first, count) if inherits else IncrementSchedule.increments(schedule, first, count)
