"""Whom a part belongs to that changes along a run: two simulations that share it would each change the other's.

A bias that learns belongs to one simulation, a schedule with a state to one bias, and a step size of the user's own
that changes itself to one simulation. The newest owner has it as long as nobody has used it; then others are refused.
What stands still is shared freely.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from nnsim.errors import InputError
from nnsim.identity.attributes import changes_itself
from nnsim.protocols import Bias

if TYPE_CHECKING:
    from nnsim.simulation import Simulation


class _Part(NamedTuple):
    """A part that changes along a run, what it is called, whom it serves, and what to do if others want it too."""

    thing: Any
    name: str
    owner: Any
    remedy: str


@dataclass
class _Holding:
    thing: weakref.ref[Any]
    owner: weakref.ref[Any]
    used: bool = False


_HOLDINGS: dict[int, _Holding] = {}  # by id, since parts may compare as they like and need not have a hash


def refuse_used(simulation: Simulation) -> None:
    """Raise `InputError` if a part that changes along a run was used elsewhere, or is given twice."""
    seen: set[int] = set()
    for part in _parts(simulation):
        holding = _HOLDINGS.get(id(part.thing))
        if id(part.thing) in seen:
            raise InputError(
                f"Simulation: {part.name} serves another bias too, and would change for both; {part.remedy}"
            )
        if holding is not None and holding.used and holding.owner() is not part.owner:
            raise InputError(
                f"Simulation: {part.name} was used in another simulation, and has changed or would change there; "
                f"{part.remedy}"
            )
        seen.add(id(part.thing))


def take(simulation: Simulation) -> None:
    """Make the simulation the owner of its parts."""
    for part in _parts(simulation):
        _take(part)


def use(simulation: Simulation) -> None:
    """Note that the simulation uses its parts now; raise `InputError` if one was given to another since."""
    for part in _parts(simulation):
        holding = _HOLDINGS.get(id(part.thing)) or _take(part)  # it stood still when the simulation was made
        if holding is None:
            continue
        owner = holding.owner()
        if owner is not None and owner is not part.owner:
            raise InputError(
                f"Simulation: {part.name} was given to another simulation since, so that this one cannot go on with "
                f"it; {part.remedy}"
            )
        holding.owner, holding.used = weakref.ref(part.owner), True


def _take(part: _Part) -> _Holding | None:
    """None for a thing that cannot be watched, such as one with __slots__."""
    key = id(part.thing)
    with contextlib.suppress(TypeError):
        _HOLDINGS[key] = _Holding(weakref.ref(part.thing, lambda _: _HOLDINGS.pop(key, None)), weakref.ref(part.owner))
        return _HOLDINGS[key]
    return None


def _parts(simulation: Simulation) -> Iterator[_Part]:
    """Parts of a simulation that change along its run."""
    for bias in simulation.force_field.biases:
        if stands_still(bias):
            continue
        remedy = "make a new one for each simulation (inside build(), in the same cell), or go on from what it has "
        remedy += "learnt with a copy, copy.deepcopy(bias)"
        if "frozen" in getattr(bias, "__dict__", {}):
            remedy += ", or as a fixed potential with bias.frozen = True"
        yield _Part(bias, f"the bias {bias.name!r}", simulation, remedy)
        schedule = bias.schedule
        if _has_state(schedule):
            name = f"the schedule {type(schedule).__name__} of the bias {bias.name!r}"
            yield _Part(schedule, name, bias, "make a new one for each bias")
    for name, value in vars(simulation.integrator).items():
        if changes_itself(value):
            what = f"{name} = {type(value).__name__} of {type(simulation.integrator).__name__}"
            yield _Part(value, what, simulation, "make a new one for each simulation")


def stands_still(bias: Bias) -> bool:
    """Whether a bias neither learns nor keeps account of anything, so that simulations may share it."""
    return bias.frozen or type(bias).update is Bias.update


def _has_state(schedule: Any) -> bool:
    with contextlib.suppress(Exception):  # of a schedule of the user's own, which a run would say more clearly
        return bool(schedule.state_dict())
    return False
