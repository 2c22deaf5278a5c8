"""Boltzmann sampling of a collective variable, at one inverse temperature for each walker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nnsim.errors import InputError, require_cv, require_integer, require_number, require_numbers, shown
from nnsim.protocols import Bias, CollectiveVariable


class Boltzmann(Bias):
    r"""V = kT beta s, with a beta of its own for each walker, reached by annealing.

        V_w(s, t) / kT = beta_w min(1, t / ramp) s        t steps

    For s the train loss L the walkers sample exp(-beta L) on the box: the loss temperature is 1 / beta. Given s, all
    beta have the same distribution, so averages at a given loss may use all walkers (`nnsim.analysis.equilibrium`);
    those at a given beta are in `nnsim.analysis.boltzmann_averages`. It is an independent check of every landscape.

    Args:
        cv: the collective variable s, such as `cv.Loss("train")`.
        beta: one for each walker, per unit of the CV, finite.
        ramp: steps until the full beta is reached, at least 0. A start at full beta is a quench, from which walkers
            hardly return; leave the ramp out of averages.
        kT: the temperature of the dynamics, above 0.
        name: name of the bias.

    Raises:
        InputError: no CV, a beta or kT out of its range, or more or fewer walkers than beta; when the simulation is
            made, a periodic CV, at whose edge V would jump.
    """

    kind, formula = "states", "slope"
    periods = (None,)
    native = "slope"  # for native platforms
    kT: float

    def __init__(
        self,
        cv: CollectiveVariable,
        beta: Sequence[float],
        *,
        ramp: int = 0,
        kT: float = 1.0,
        name: str = "boltzmann",
    ) -> None:
        owner = type(self).__name__
        require_cv(owner, "cv", cv)
        self.cvs = (cv,)
        rule = "a list of numbers"
        numbers = require_numbers(owner, "beta", beta, rule)
        if numbers.ndim != 1:
            raise InputError(f"{owner}: beta = {shown(beta)} must be {rule}; for a single one give [beta]")
        self.beta = [require_number(owner, "beta", value) for value in numbers.tolist()]
        self.ramp = require_integer(owner, "ramp", ramp, least=0)
        self.kT = require_number(owner, "kT", kT, above=0.0)
        self.name = name
        self._slope = self.kT * torch.tensor(self.beta, dtype=torch.float64)

    def prepare(self, device: torch.device) -> None:
        """Bring beta to a device."""
        self._slope = self._slope.to(device)

    def full_slope(self, walkers: int) -> Tensor:
        """Slope kT beta of each walker, [W]; raises `InputError` for another number of walkers than of beta."""
        if walkers != len(self.beta):
            raise InputError(f"Boltzmann: {len(self.beta)} values of beta for {walkers} walkers; give each walker one")
        return self._slope

    def slope(self, walkers: int, step: int) -> Tensor:
        """Slope dV/ds of each walker at a step, [W]."""
        return self.full_slope(walkers) * (min(1.0, step / self.ramp) if self.ramp else 1.0)

    def still(self, step: int) -> bool:
        """Whether V stays as it is from a step on."""
        return step >= self.ramp

    def energy(self, s: Tensor, step: int) -> Tensor:
        """V [W] at s [W, 1]."""
        return self.slope(len(s), step) * s[:, 0]

    def gradient(self, s: Tensor, step: int) -> Tensor:
        """dV/ds [W, 1] at s [W, 1]."""
        return self.slope(len(s), step)[:, None]

    def describe(self) -> dict[str, Any]:
        """Settings, for the record."""
        return {"cvs": [self.cvs[0].name], "cv_settings": self.cvs, "beta": self.beta, "ramp": self.ramp, "kT": self.kT}
