"""How the increment of a Wang-Landau bias falls, and how the temperature of a thermostat changes.

An increment f is in units of kT and is the sum over the kernel of one deposit. The clock t of its schedule counts the
deposits of all walkers: W walkers advance it by W in a step.

A temperature is a function of the step: whatever takes a kT takes a `LinearRamp`, an `ExponentialRamp` or a function of
your own from the step t to kT(t), which then holds during step t: a number, or one for each walker, [W]. It must depend
on nothing but t, or a resumed run would differ. So may a time step, which may also be that of a `BiasFunction`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from nnsim.errors import InputError, require_integer, require_number, settle_number

NEVER = 2**62  # deposits
Numbers = float | Sequence[float] | Tensor | np.ndarray  # one, or one for each walker [W]
Setting = Numbers | Callable[[int], Any]  # or a function of the step that gives either


class IncrementSchedule(Protocol):
    """Gives the increment, and may watch the histogram of visits."""

    def increment(self, deposits: int) -> float:
        """Increment, in kT, after so many deposits of all walkers."""
        ...

    def increments(self, first: int, count: int) -> np.ndarray:
        """Those after `first`, `first` + 1, ... deposits, [count], to the bit; for many at once."""
        return np.array([self.increment(deposits) for deposits in range(first, first + count)], dtype=np.float64)

    def observe(self, deposits: int, visits: Tensor) -> None:
        """Look at the histogram of visits (int64, the grid's shape) after an update."""
        return

    def next_look(self, deposits: int) -> int:
        """Number of deposits, above `deposits`, at which `observe` may next have something to do."""
        return NEVER if type(self).observe is IncrementSchedule.observe else deposits + 1

    def state_dict(self) -> dict[str, Any]:
        """What changes along the run."""
        return {}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        return


@dataclass(frozen=True)
class RampHoldInverseTime(IncrementSchedule):
    """The papers' schedule: a linear ramp, a plateau, then 1/t.

    f(t) = maximum t / ramp                            t < ramp
           maximum                                     ramp <= t < hold
           maximum (hold - offset) / (t - offset)      t >= hold

    Args:
        maximum: increment on the plateau, in kT, above 0.
        ramp: deposits until the plateau is reached, at least 0.
        hold: deposits until the decay begins, at least `ramp` and above `offset`.
        offset: shift of the 1/t law, at least 0; the nearer to `hold`, the faster the decay.

    Reference: arXiv 2503.13145, public scripts, where t counts the steps of a single walker.
    """

    maximum: float
    ramp: float
    hold: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        settle_number(self, "maximum", above=0.0)
        settle_number(self, "ramp", least=0.0)
        settle_number(self, "hold", least=self.ramp)
        settle_number(self, "offset", least=0.0)
        if self.offset >= self.hold:
            raise InputError(
                f"{type(self).__name__}: offset = {self.offset:g} must be below hold = {self.hold:g}; lower offset"
            )

    def increment(self, deposits: int) -> float:
        """Increment, in kT, after so many deposits."""
        if deposits < self.ramp:
            # the first deposit counts as the end of its own interval, so that it is not zero
            return self.maximum * min(deposits + 1, self.ramp) / self.ramp
        if deposits < self.hold:
            return self.maximum
        return self.maximum * (self.hold - self.offset) / (deposits - self.offset)

    def increments(self, first: int, count: int) -> np.ndarray:
        """Those after `first`, `first` + 1, ... deposits, [count], to the bit; for many at once."""
        if type(self).increment is not RampHoldInverseTime.increment:
            return super().increments(first, count)
        deposits, found = np.arange(first, first + count, dtype=np.float64), np.full(count, self.maximum)
        rises, falls = deposits < self.ramp, deposits >= max(self.ramp, self.hold)
        found[rises] = self.maximum * np.minimum(deposits[rises] + 1, self.ramp) / self.ramp if self.ramp else 0.0
        found[falls] = self.maximum * (self.hold - self.offset) / (deposits[falls] - self.offset)
        return found


@dataclass(frozen=True)
class InverseTime(IncrementSchedule):
    """f(t) = min(maximum, scale / t).

    With `scale` equal to the number of bins the error of the entropy falls as t^(-1/2), as fast as that of any method.

    Args:
        maximum: largest increment, in kT, above 0.
        scale: deposits x kT, above 0; the number of bins of the grid is the usual choice.

    Reference: R. E. Belardinelli and V. D. Pereyra, J. Chem. Phys. 127, 184105 (2007), doi:10.1063/1.2803061.
    """

    maximum: float
    scale: float

    def __post_init__(self) -> None:
        settle_number(self, "maximum", above=0.0)
        settle_number(self, "scale", above=0.0)

    def increment(self, deposits: int) -> float:
        """Increment, in kT, after so many deposits."""
        return min(self.maximum, self.scale / max(deposits, 1))

    def increments(self, first: int, count: int) -> np.ndarray:
        """Those after `first`, `first` + 1, ... deposits, [count], to the bit; for many at once."""
        if type(self).increment is not InverseTime.increment:
            return super().increments(first, count)
        return np.minimum(self.maximum, self.scale / np.maximum(np.arange(first, first + count), 1))


@dataclass(frozen=True)
class CycleDecay(IncrementSchedule):
    """The papers' schedule for Monte Carlo: f = numerator / (cycle + offset), constant within a cycle.

    Args:
        numerator: in kT, above 0; the papers' scripts take 5.
        cycle: deposits of all walkers in a cycle, at least 1; the papers' cycle is 1e5 moves of one walker.
        offset: above 0; the papers' scripts take 10.

    Reference: arXiv 2503.13145, public scripts. It decays too fast to converge (Belardinelli and Pereyra 2007): use it
    to compare, and `InverseTime` to sample.
    """

    numerator: float = 5.0
    cycle: float = 1e5
    offset: float = 10.0

    def __post_init__(self) -> None:
        settle_number(self, "numerator", above=0.0)
        settle_number(self, "cycle", least=1.0)
        settle_number(self, "offset", above=0.0)

    def increment(self, deposits: int) -> float:
        """Increment, in kT, after so many deposits."""
        return self.numerator / (deposits // self.cycle + self.offset)


@dataclass(frozen=True)
class LinearRamp:
    """kT(t) = start + (end - start) t / steps, and `end` from t = steps on.

    Args:
        start: at step 0, in units of energy, at least 0.
        end: at step `steps`, at least 0; integrators that divide by kT need both above 0.
        steps: at least 1.

    Raises:
        InputError: a number out of its range.

    >>> from nnsim.schedules import LinearRamp
    >>> [LinearRamp(1.0, 0.2, steps=4)(step) for step in (0, 2, 4, 9)]
    [1.0, 0.6, 0.2, 0.2]
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        settle_number(self, "start", least=0.0)
        settle_number(self, "end", least=0.0)
        object.__setattr__(self, "steps", require_integer(type(self).__name__, "steps", self.steps, least=1))

    def __call__(self, step: int) -> float:
        """The temperature of a step."""
        if step >= self.steps:
            return self.end
        return self.start + (self.end - self.start) * step / self.steps


@dataclass(frozen=True)
class ExponentialRamp:
    """kT(t) = start (end / start)^(t / steps), and `end` from t = steps on: the same factor at every step.

    Args:
        start: at step 0, in units of energy, above 0.
        end: at step `steps`, above 0.
        steps: at least 1.

    Raises:
        InputError: a number out of its range.

    Reference: S. Kirkpatrick, C. D. Gelatt and M. P. Vecchi, Science 220, 671 (1983), doi:10.1126/science.220.4598.671,
    whose annealing schedule falls by one factor from level to level.

    >>> from nnsim.schedules import ExponentialRamp
    >>> [round(ExponentialRamp(1.0, 0.01, steps=4)(step), 3) for step in (0, 2, 4, 9)]
    [1.0, 0.1, 0.01, 0.01]
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        settle_number(self, "start", above=0.0)
        settle_number(self, "end", above=0.0)
        object.__setattr__(self, "steps", require_integer(type(self).__name__, "steps", self.steps, least=1))

    def __call__(self, step: int) -> float:
        """The temperature of a step."""
        return self.end if step >= self.steps else self.start * (self.end / self.start) ** (step / self.steps)


def setting_at(given: Setting, step: int) -> float | Tensor:
    """What an integrator's dt or kT is at a step: a number, or that of each walker, [W], float64 on the CPU.

    Args:
        given: a number, one for each walker, or a function of the step that gives either.
        step: number of the step.
    """
    found = torch.as_tensor(given(step) if callable(given) else given, dtype=torch.float64)
    return found.detach().cpu() if found.ndim else float(found)


def temperature_at(kT: Setting, step: int) -> float:
    """The temperature of a step, given an integrator's kT, which is one number or a schedule of one."""
    found = setting_at(kT, step)
    if not isinstance(found, float):
        raise InputError(f"temperature_at: kT is that of each of {len(found)} walkers; take setting_at(kT, step)")
    return found


class BiasFunction:
    """A function of the step that also depends on what a bias does, such as on which rung a walker is.

    Attributes:
        bias: one of those of the simulation, which saves what the function depends on.
        ramp: steps until it depends on nothing else.
    """

    bias: Any
    ramp: int = 0

    def __call__(self, step: int) -> Tensor:
        """A number for each walker, [W]."""
        raise NotImplementedError


class FlatnessHalving(IncrementSchedule):
    """The increment is halved each time the histogram since the last halving is flat.

    Flat means: the least visited of the bins seen so far has at least `flatness` times the mean number of visits.

    Args:
        initial: first increment, in kT, above 0.
        flatness: between 0 and 1.
        check_every: deposits between two looks at the histogram, at least 1.
        final: the increment is never halved below this value, at least 0.
        factor: what the increment is multiplied by, between 0 and 1.

    Reference: F. Wang and D. P. Landau, Phys. Rev. Lett. 86, 2050 (2001), doi:10.1103/PhysRevLett.86.2050.
    """

    def __init__(
        self,
        initial: float,
        *,
        flatness: float = 0.8,
        check_every: int = 10_000,
        final: float = 0.0,
        factor: float = 0.5,
    ) -> None:
        owner = type(self).__name__
        self.initial = require_number(owner, "initial", initial, above=0.0)
        self.flatness = require_number(owner, "flatness", flatness, above=0.0)
        self.factor = require_number(owner, "factor", factor, above=0.0)
        for name in ("flatness", "factor"):
            if getattr(self, name) >= 1:
                raise InputError(f"{owner}: {name} = {getattr(self, name):g} must be below 1; lower it")
        self.check_every = require_integer(owner, "check_every", check_every, least=1)
        self.final = require_number(owner, "final", final, least=0.0)
        self._current = self.initial
        self._next_check = self.check_every
        self._before: Tensor | None = None

    def increment(self, deposits: int) -> float:
        """Increment, in kT."""
        return self._current

    def next_look(self, deposits: int) -> int:
        """The next check of the histogram."""
        return max(self._next_check, deposits + 1)

    def observe(self, deposits: int, visits: Tensor) -> None:
        """Halve if the histogram since the last halving is flat."""
        if deposits < self._next_check:
            return
        self._next_check = deposits + self.check_every
        new = visits if self._before is None else visits - self._before
        seen = new[visits > 0].double()
        if len(seen) and seen.min() >= self.flatness * seen.mean() and self._current * self.factor >= self.final:
            self._current *= self.factor
            self._before = visits.clone()

    def state_dict(self) -> dict[str, Any]:
        """Increment, next check and the histogram at the last halving."""
        before = torch.zeros(0, dtype=torch.long) if self._before is None else self._before
        return {"increment": self._current, "next_check": self._next_check, "before": before}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self._current, self._next_check = float(saved["increment"]), int(saved["next_check"])
        self._before = saved["before"] if saved["before"].numel() else None
