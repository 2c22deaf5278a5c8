"""What the biases that learn a potential on a grid have in common."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nnsim.criteria import MOST_OUTSIDE
from nnsim.errors import InputError, require_cv, require_number, shown
from nnsim.grid.grid import Grid, Kernel
from nnsim.protocols import Bias, CollectiveVariable


class GridBias(Bias):
    r"""V(s) as a function on a grid, which grows where the walkers are.

        V(s) = sum_i c_i B((s - s_i) / h)          a spline, or constant in each bin (see `nnsim.grid`)

    A subclass gives `update`, which adds deposits to V, and sets `kernel`, the shape of one.

    Args:
        cvs: the collective variables, 1 to 3, in the order of the grid's axes (or a single one).
        grid: the grid.
        kT: the temperature of the dynamics, above 0.
        name: name of the bias.

    Attributes:
        potential: coefficients c of V on the grid, in units of energy.
        visits: histogram of deposits, int64, on the grid.
        deposits: number of deposits so far.
        outside: number of deposits left out because the walker was outside the grid.
        frozen: set to True to stop learning (the bias then is a fixed potential); saved and resumed.
        kernel: what one deposit adds to V.
        numbers_of_counts: whether `observables`, as the same class gives it, follows from deposits, outside and
            settings, so that platforms need not keep the tables of a step for it.

    Raises:
        InputError: CVs or grid of another type, more or fewer CVs than axes, or a bad kT; it names the subclass.
    """

    kind = "grid"
    kT: float
    kernel: Kernel
    deposits: int
    numbers_of_counts = False

    def __init__(
        self, cvs: CollectiveVariable | Sequence[CollectiveVariable], grid: Grid, *, kT: float, name: str
    ) -> None:
        owner = type(self).__name__
        self.cvs = tuple(cvs) if isinstance(cvs, Sequence) and not isinstance(cvs, str) else (cvs,)
        for cv in self.cvs:
            require_cv(owner, "cvs", cv)
        if not isinstance(grid, Grid):
            raise InputError(f"{owner}: grid = {shown(grid)} must be a grid; give nnsim.Grid(lower, upper, bins)")
        if len(self.cvs) != grid.dimensions:
            raise InputError(
                f"{owner}: {len(self.cvs)} CVs on a grid of {grid.dimensions} dimensions; give one axis each"
            )
        self.grid, self.name = grid, name
        edges = zip(grid.lower, grid.upper, grid.periodic, strict=True)
        self.periods = tuple(high - low if wraps else None for low, high, wraps in edges)
        self.kT = require_number(owner, "kT", kT, above=0.0)
        self.frozen = False
        self.potential = torch.zeros(grid.shape, dtype=torch.float64)
        self.visits = torch.zeros(grid.shape, dtype=torch.int64)
        self.deposits = 0
        self.outside = 0
        self._merged: dict[str, Any] | None = None  # while it is shared: as it was at the last merge

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        """Whether V(s) has a useful gradient: a potential that is constant in each bin exerts no force."""
        return self.grid.kind != "bins"

    def prepare(self, device: torch.device) -> None:
        """Bring the tables to a device."""
        self.grid.prepare(device)
        self.kernel.prepare(device)
        self.potential, self.visits = self.potential.to(device), self.visits.to(device)

    # ------------------------------------------------------------------ the potential

    def energy(self, s: Tensor, step: int) -> Tensor:
        """V [W] at s [W, k]."""
        return self.energy_and_gradient(s, step)[0]

    def gradient(self, s: Tensor, step: int) -> Tensor:
        """dV/ds [W, k] at s [W, k]."""
        return self.energy_and_gradient(s, step)[1]

    def energy_and_gradient(self, s: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """V [W] and its exact gradient [W, k] at s [W, k]."""
        return self.grid.evaluate(self.potential, s)

    # ------------------------------------------------------------------ the edges of the grid

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
            f"{type(self).__name__}: all {len(s)} walkers start outside the grid ({values}); "
            "widen the grid or change the start"
        )

    # ------------------------------------------------------------------ shared among threads, ranks and windows

    def share(self) -> None:
        """From here on keep apart what is learnt, to be merged with what others learn from the same V."""
        self._merged = {
            "potential": self.potential.clone(),
            "visits": self.visits.clone(),
            "deposits": self.deposits,
            "outside": self.outside,
        }

    @property
    def shared(self) -> bool:
        """Whether what is learnt is kept apart, to be merged."""
        return self._merged is not None

    def _back(self) -> bool:
        """Go back to the last merge; whether it is shared at all."""
        if self._merged is None:
            return False
        self.potential, self.visits = self._merged["potential"], self._merged["visits"]
        self.deposits, self.outside = self._merged["deposits"], self._merged["outside"]
        return True

    # ------------------------------------------------------------------ for the record

    def observables(self) -> dict[str, float]:
        """The fraction of deposits left out so far because they were outside the grid."""
        total = self.deposits + self.outside
        return {"outside": self.outside / total if total else 0.0}

    def doubts(self) -> list[str]:
        """Steps outside the grid, if they are many."""
        share = self.observables()["outside"]
        return [f"{100 * share:.0f} % of the deposits were outside the grid"] if share > MOST_OUTSIDE else []

    def tables(self) -> dict[str, Tensor]:
        """Coefficients of V and the histogram of deposits."""
        return {"potential": self.potential, "visits": self.visits}

    def describe(self) -> dict[str, Any]:
        """CVs and grid, for the record."""
        return {"cvs": [cv.name for cv in self.cvs], "cv_settings": self.cvs, "grid": self.grid.describe()}

    def for_readers(self) -> dict[str, Any]:
        """Kind and formula, and the grid and temperature by which the tables are read."""
        return {**super().for_readers(), "grid": self.grid.describe(), "kT": self.kT}

    def state_dict(self) -> dict[str, Any]:
        """A copy of potential, histogram and counters, and whether it is frozen."""
        return {
            "potential": self.potential.clone(),
            "visits": self.visits.clone(),
            "deposits": self.deposits,
            "outside": self.outside,
            "frozen": self.frozen,
            **({} if self._merged is None else {"merged": copy.deepcopy(self._merged)}),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.potential = saved["potential"].to(self.potential.device, copy=True).contiguous()
        self.visits = saved["visits"].to(self.visits.device, copy=True).contiguous()
        self.deposits, self.outside = int(saved["deposits"]), int(saved["outside"])
        self.frozen = bool(saved["frozen"])
        self._merged = copy.deepcopy(saved.get("merged"))
