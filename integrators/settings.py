"""Settings that are one number, one for each walker, or a function of the step that gives either; and masses.

They are checked when an integrator is made, and again, against the number of walkers, when its simulation is. Then
operations get them as a float, as float64 [W, 1], or `Scheduled`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nnsim.errors import InputError, first_line, require_each, require_numbers, shown
from nnsim.program.dynamics import Masses
from nnsim.program.operation import Known, Scheduled, at_step
from nnsim.schedules import Setting

EXAMPLES = {
    "dt": "the step to a number, or to one for each walker, such as ReplicaExchange.each gives",
    "friction": "the step to a number, or to one for each walker, such as ReplicaExchange.each gives",
    "kT": "the step to a number, such as nnsim.schedules.LinearRamp(1.0, 0.1, steps=1000), or to one for each walker",
}


def check_time_step(owner: str, dt: object) -> Setting:
    """Return dt as `require_each` does, above 0; a function as it is, since it may not know the walkers yet."""
    return check_setting(owner, "dt", dt, above=0.0)


def check_setting(owner: str, name: str, given: object, **limit: float) -> Setting:
    """Return a setting as `require_each` does; a function as it is, since it may not know the walkers yet."""
    found = _function(name, owner, given)
    return require_each(owner, name, given, **limit) if found is None else found


def check_temperature(owner: str, kT: object, **limit: float) -> Setting:
    """Return kT as `require_each` does, within a limit; a schedule as it is, if its value of step 0 will do."""
    found = _function("kT", owner, kT)
    if found is None:
        return require_each(owner, "kT", kT, **limit)
    require_each(owner, "kT(0)", _value(owner, "kT", found, 0), **limit)
    return found


def _function(name: str, owner: str, given: object) -> Callable[[int], Any] | None:
    """What is given, if it is a function of the step."""
    if isinstance(given, type):
        raise InputError(
            f"{owner}: {name} = {shown(given)} is a class; give a number, or a function from {EXAMPLES[name]}"
        )
    return given if callable(given) else None


def _value(owner: str, name: str, function: Callable[[int], Any], step: int) -> Any:
    try:
        return function(step)
    except Exception as error:
        raise InputError(
            f"{owner}: the schedule {name} = {shown(function)} fails at step {step}: {type(error).__name__}: "
            f"{first_line(error)}; give a function from {EXAMPLES[name]}"
        ) from error


# ------------------------------------------------------------------------------------------------- what operations get


def time_step_of(dt: Setting) -> float:
    """Time that a step of dt advances; 1 where it is not the same for all walkers and steps: time then counts steps."""
    return dt if isinstance(dt, float) else 1.0


class Walkers:
    """The walkers of a simulation, whom settings are for.

    Args:
        owner: the integrator, for messages.
        positions: of the walkers, [W, n].
    """

    def __init__(self, owner: str, positions: Tensor) -> None:
        self.owner, self.count, self.device = owner, len(positions), positions.device
        self._columns: dict[str, bool] = {}  # whether a function gives one number for each walker, by its name

    def number(self, name: str, given: Setting, **limit: float) -> Known:
        """A setting, within a limit, as a number of operations.

        Raises:
            InputError: more or fewer numbers than walkers; at a step, what a function gives.
        """
        if callable(given):
            return Scheduled(partial(self._at, name, given, limit))
        if isinstance(given, float):
            return given
        numbers = torch.as_tensor(given, dtype=torch.float64)
        return self._column(name, numbers) if numbers.ndim else float(numbers)

    def _at(self, name: str, function: Callable[[int], Any], limit: dict[str, float], step: int) -> float | Tensor:
        """What a function gives at a step, of the same kind at all steps."""
        value, called = _value(self.owner, name, function, step), f"{name}({step})"
        found: float | Tensor
        if isinstance(value, Tensor) and value.ndim == 1:  # which may come at every step, and from a GPU
            found = value.detach().to(torch.float64)
            if not bool(_within(found, **limit).all()):
                require_each(self.owner, called, value, **limit)
        else:
            found = torch.as_tensor(require_each(self.owner, called, value, **limit), dtype=torch.float64)
            found = found if found.ndim else float(found)
        column = isinstance(found, Tensor)
        if self._columns.setdefault(name, column) != column:
            raise InputError(
                f"{self.owner}: {called} is {'one for each walker' if column else 'one number'}, unlike before; let "
                f"{name} give either at all steps"
            )
        return self._column(called, found) if isinstance(found, Tensor) else found

    def _column(self, name: str, numbers: Tensor) -> Tensor:
        if len(numbers) != self.count:
            raise InputError(
                f"{self.owner}: {name} has {len(numbers)} numbers for {self.count} walkers; give one number, or one "
                "for each walker"
            )
        return numbers.to(self.device)[:, None]


def _within(numbers: Tensor, above: float = -math.inf, least: float = -math.inf) -> Tensor:
    return torch.isfinite(numbers) & (numbers > above) & (numbers >= least)


def derived(make: Callable[..., float | Tensor], *numbers: Known) -> Known:
    """A number that is made of others; at each step anew if one of them is scheduled."""
    if any(isinstance(one, Scheduled) for one in numbers):
        return Scheduled(lambda step: make(*(at_step(one, step) for one in numbers)))
    return make(*numbers)


# -------------------------------------------------------------------------------------------------------------- masses


def check_masses(owner: str, masses: object) -> Masses:
    """Return the masses as a number or a float64 tensor [n], [W, 1] or [W, n].

    Raises `InputError` unless all are finite and above 0.
    """
    rule = "one number, or one for each parameter [n], walker [W, 1] or both [W, n], all finite and above 0"
    values = require_numbers(owner, "masses", masses, rule)
    if values.ndim > 2:
        raise InputError(f"{owner}: masses of shape {tuple(values.shape)} must be {rule}; give them so")
    bad = values[~(torch.isfinite(values) & (values > 0))]
    if len(bad):
        raise InputError(f"{owner}: masses must be {rule}, but {len(bad)} are not, such as {bad[0]:g}; change them")
    return float(values) if values.ndim == 0 else values


def masses_like(owner: str, masses: Masses, positions: Tensor) -> Masses:
    """The masses in the type and on the device of positions [W, n]; raises `InputError` if their number differs."""
    if isinstance(masses, float):
        return masses
    walkers, n = positions.shape
    if masses.ndim == 1 and len(masses) != n:
        raise InputError(f"{owner}: {len(masses)} masses for {n} parameters; give one for each")
    if masses.ndim == 2 and tuple(masses.shape) not in ((walkers, 1), (walkers, n)):
        raise InputError(
            f"{owner}: masses of shape {tuple(masses.shape)} for {walkers} walkers with {n} parameters; give them as "
            f"[{n}], [{walkers}, 1] or [{walkers}, {n}]"
        )
    return masses.to(positions)
