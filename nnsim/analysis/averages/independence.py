"""How much independent information stands behind the weights of a run, and what is doubtful about its errors.

Blocks of a record, left out one by one, tell the error of what is made of it if they are independent and see all that
is slow. They are not where a state has fewer than about eight independent frames, and they cannot see what takes longer
than the whole record: a replica exchange whose walkers never went from one end of the ladder to the other and back has
not shown that its high rungs have anything to do with its low ones. Then no error is given, and it is said why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.averages.biased_run import BiasedRun
from nnsim.analysis.landscape.axes import Floats
from nnsim.analysis.motion.correlation import autocorrelation_time
from nnsim.criteria import FEWEST_FRAMES, FEWEST_TRIPS


@dataclass(frozen=True)
class Doubts:
    """What speaks against the errors, or the numbers, of a run.

    Attributes:
        problems: in words, one each; empty if nothing is known to.
        withheld: whether no error is given.
    """

    problems: tuple[str, ...] = ()
    withheld: bool = False

    def and_of(self, other: Doubts) -> Doubts:
        """Both together."""
        return Doubts((*self.problems, *other.problems), self.withheld or other.withheld)


def doubts_of_frames(series: Sequence[Floats], state: NDArray[np.int64], states: int) -> Doubts:
    """Doubts about a number of frames.

    Args:
        series: records [T, W] of what the states act on, or, without states, of what is averaged.
        state: of each frame, [T, W]; unused for a single state.
        states: how many there are, K.
    """
    fewest = min((independent_frames(one, state, states) for one in series), default=np.inf)
    if fewest >= FEWEST_FRAMES:
        return Doubts()
    of = "a state" if states > 1 else "the record"
    return Doubts(
        (f"{of} has {fewest:.2g} independent frames, too few to tell an error ({FEWEST_FRAMES} are needed)",), True
    )


def independent_frames(values: Floats, state: NDArray[np.int64], states: int) -> float:
    r"""Fewest independent frames of a state: its number of frames over their autocorrelation time.

    All walkers that are in one state sample the same, and share its mean: walkers that have not mixed count as
    correlated.
    """
    if states == 1:
        return _independent(values)
    fewest = np.inf
    for k in range(states):
        mine = state == k
        of_frame = mine.sum(axis=1)
        if len(of_frame) and of_frame[0] and (of_frame == of_frame[0]).all():
            found = _independent(values[mine].reshape(len(values), -1))
        else:  # as many as there are, if walkers come and go
            found = float(mine.sum())
        fewest = min(fewest, found)
    return float(fewest)


def _independent(values: Floats) -> float:
    if not np.isfinite(values).all():
        values = np.where(np.isfinite(values), values, np.nanmean(np.where(np.isfinite(values), values, np.nan)))
    found = autocorrelation_time(values, interval=1.0)
    return values.size / max(found.tau, 1.0) if np.isfinite(found.tau) else float(values.size)


def doubts_of_trips(run: BiasedRun, after: float, sets: int) -> Doubts:
    """Doubts about the round trips of replica exchange after a step; `sets` is the number of independent ladders."""
    problems = []
    for name, trips in run.round_trips(after).items():
        if trips < FEWEST_TRIPS:
            problems.append(
                f"the walkers of {name!r} made {trips} round trips of the ladder (converged: {FEWEST_TRIPS} or more)"
            )
    # ladders that never mixed still tell an error by their spread, if there are enough of them
    return Doubts(tuple(problems), bool(problems) and sets < FEWEST_FRAMES)
