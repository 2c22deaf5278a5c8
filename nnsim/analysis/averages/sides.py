"""Walkers of one side of a test of equilibrium: whole runs, or those of a run that began at one kind of start.

On a ladder it is not walkers that stay at one condition but rungs: their columns are rungs of ladders, each filled by
whichever walker is on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.averages.common_frames import all_opened, frames_at, opened
from nnsim.analysis.averages.conditions import refuse_changing, refuse_other_conditions, start_of, states_of
from nnsim.analysis.averages.kinds import bias_settings
from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import InputError, listed

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory


@dataclass(frozen=True, eq=False)
class Side:
    """Some walkers of a run, or the rungs of some ladders.

    Attributes:
        run: the trajectory.
        label: from which kind of start they are, in words.
        only: their recorded side, or None for all walkers.
    """

    run: Trajectory
    label: str
    only: str | None = None

    @cached_property
    def _columns(self) -> NDArray[np.int64]:
        walkers = np.arange(int(self.run.header["walkers"]))
        return walkers if self.only is None else walkers[np.array(self.run.header["start"]["sides"]) == self.only]

    @cached_property
    def states(self) -> NDArray[Any]:
        """The state of each column in words, [C]."""
        return states_of(self.run)[self._columns]

    @property
    def after(self) -> int:
        """Step up to which the ladder was spaced anew, so that its frames do not count."""
        return max([int(one.get("pilot") or 0) for one in bias_settings(self.run).values()], default=0)

    def record(self, name: str) -> tuple[NDArray[np.int64], Floats]:
        """Steps [T] and values [T, C] of an observable."""
        series = self.run[name]
        step, values = series.step, np.asarray(series[:], dtype=np.float64)
        if (ladder := ladder_of(self.run)) is not None:
            values = in_order(values, frames_at(self.run, f"{ladder[0]}_rung", step), ladder[1])
        return step, values[:, self._columns]


def ladder_of(run: Trajectory) -> tuple[str, int] | None:
    """Name and number of rungs of the ladder that the walkers of a run move along, if there is one."""
    found = [name for name, one in bias_settings(run).items() if one["formula"] == "ladder"]
    return (found[0], int(bias_settings(run)[found[0]]["rungs"])) if found else None


def in_order(values: Floats, rung: Floats, rungs: int) -> Floats:
    """Values [T, W] of walkers, K to a ladder, as those of its rungs: column l K + k is rung k of ladder l."""
    ladders = values.shape[1] // rungs
    order = rung.reshape(len(rung), ladders, rungs).argsort(axis=2, kind="stable")
    return np.take_along_axis(values.reshape(len(values), ladders, rungs), order, axis=2).reshape(values.shape)


def one_side(given: Any, owner: str) -> list[Side]:
    """All walkers of some runs; sides are taken as they are."""
    if isinstance(given, Side) or (isinstance(given, list) and given and isinstance(given[0], Side)):
        return [given] if isinstance(given, Side) else given
    return [Side(run, start_of(run)) for run in all_opened(given, owner)]


def both_sides(given: Any, owner: str) -> tuple[list[Side], list[Side]]:
    """The walkers of runs that began on two recorded sides, as those of `nnsim.tempering` do.

    Raises:
        InputError: a run whose walkers did not.
    """
    found: dict[str, list[Side]] = {}
    for run in all_opened(given, owner):
        names = list(dict.fromkeys(_recorded_sides(run)))
        if len(names) != 2:
            raise InputError(
                f"{owner}: the walkers of {run.path} are of {listed(names) or 'no recorded side'}, not of two sides; "
                "give runs of both sides, or one of nnsim.tempering"
            )
        for name in names:
            found.setdefault(name, []).append(Side(run, f"from {name} networks", name))
    if len(found) != 2:
        raise InputError(f"{owner}: these runs began on {listed(list(found))}; give runs with the same two sides")
    one, two = found.values()
    return one, two


def _recorded_sides(run: Trajectory) -> Sequence[str]:
    return (run.header.get("start") or {}).get("sides") or ()


def has_sides(run: Trajectory | str | Path) -> bool:
    """Whether the walkers of a run began on two recorded sides."""
    return len(set(_recorded_sides(opened(run, "has_sides")))) == 2


def sides_of(given: Sequence[Trajectory | str | Path]) -> tuple[list[Side], list[Side]] | None:
    """Runs sorted by their kinds of starts, if there are two kinds and the runs can be compared.

    Raises:
        InputError: no runs, the same one twice, or what is none.
        TrajectoryError: one that cannot be read.
    """
    runs = all_opened(given, "sides_of")
    kinds: dict[str, list[Side]] = {}
    for run in runs:
        kinds.setdefault(start_of(run), []).append(Side(run, start_of(run)))
    try:
        for run in runs:
            refuse_changing(run)
            refuse_other_conditions(runs[0], run)
    except InputError:
        return None
    found = list(kinds.values())
    return (found[0], found[1]) if len(found) == 2 else None
