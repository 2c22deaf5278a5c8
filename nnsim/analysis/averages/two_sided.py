r"""The two-sided test of equilibrium: runs from two kinds of starts, at the same conditions, must meet.

Of an observable y, for each walker w of side A (such as trained networks) and of side B (such as random ones):

    m_w = mean of y over the frames after the part `since` of the run
    difference = <m_w>_A - <m_w>_B,    error^2 = s_A^2 / W_A + s_B^2 / W_B,    s^2 the variance of m_w over walkers

The walkers of a side are independent and know nothing of the other side, so that the error needs no correlation time
and holds also where each walker remembers its start for longer than the run: it then is too large a difference, or a
drift, that tells. Drift is the change from the first to the second half of the frames that are used, of each side.
Each p-value is that of a t-test (Welch's for the difference), and after Holm all differences together are doubted
wrongly once in twenty times at most, and so are all drifts.

That two sides agree shows something only if they began apart, and no more than their error: `began apart` says whether
the first frames differed by more than 3 standard errors and by more than three errors of the final difference.

References: dispersed starts: A. Gelman and D. B. Rubin, Stat. Sci. 7, 457 (1992), doi:10.1214/ss/1177011136; B. L.
Welch, Biometrika 34, 28 (1947), doi:10.1093/biomet/34.1-2.28; S. Holm, Scand. J. Stat. 6, 65 (1979).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.averages.common_frames import all_opened
from nnsim.analysis.averages.conditions import refuse_changing, refuse_other_conditions
from nnsim.analysis.averages.sides import Side, both_sides, one_side
from nnsim.analysis.checks import require_fraction
from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import InputError, listed, require_number, require_texts, shown

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

    Runs = Trajectory | Path | str | Side | Sequence[Trajectory | Path | str | Side]

LEVEL = 0.05  # probability of doubting what is right, of all differences together, and of all drifts
APART = 3.0  # standard errors
FEW_WALKERS = 8  # fewer tell their own spread badly
AGREE, DIFFER, DRIFTING, ALIKE = "agree", "DIFFER", "DRIFTING", "began alike"


@dataclass(frozen=True)
class Compared:
    """An observable on both sides.

    Attributes:
        name: of the observable, with the state of the walkers where there are several.
        mean: of side A and of side B.
        error: standard errors of these.
        began: means of the first frames.
        drift: change from the first to the second half of the frames that are used.
        drift_error: standard errors of these.
        p_difference: probability of so large a difference between sides that sample the same.
        p_drift: of so large a drift of a side that has none.
        apart: whether the sides began apart.
        verdict: `"agree"`, `"DIFFER"`, `"DRIFTING"`, or `"began alike"` of those that agree and never were apart.
    """

    name: str
    mean: tuple[float, float]
    error: tuple[float, float]
    began: tuple[float, float]
    drift: tuple[float, float]
    drift_error: tuple[float, float]
    p_difference: float
    p_drift: tuple[float, float]
    apart: bool
    verdict: str = ""

    @property
    def difference(self) -> float:
        """Side A less side B."""
        return self.mean[0] - self.mean[1]

    @property
    def standard_error(self) -> float:
        """Of the difference."""
        return math.hypot(*self.error)

    @property
    def base(self) -> str:
        """Name of the observable without the state."""
        return self.name.partition(" at ")[0]

    @property
    def is_constant(self) -> bool:
        """Whether it is one number everywhere."""
        return not any((*self.error, *self.drift_error, self.difference, *self.drift))

    @property
    def together(self) -> tuple[float, float]:
        """Mean over all walkers of both sides, each side with half of the weight, and its standard error."""
        return sum(self.mean) / 2, self.standard_error / 2


@dataclass(frozen=True)
class TwoSided:
    """What two sides say about equilibrium.

    Attributes:
        observables: one entry for each.
        walkers: of side A and of side B, of each state.
        since: part of each run that was left out.
        tolerance: the largest error of a difference that counts as known, by observable.
    """

    observables: tuple[Compared, ...]
    walkers: tuple[int, int]
    since: float
    tolerance: Mapping[str, float]

    @property
    def problems(self) -> list[str]:
        """What speaks against equilibrium, in words; empty if nothing does."""
        found = []
        for word, what in ((DIFFER, "the two sides differ in"), (DRIFTING, "there is a drift in")):
            names = [one.name for one in self.observables if one.verdict == word]
            if names:
                found.append(f"{what} {listed(names)}")
        for name, allowed in self.tolerance.items():
            coarse = [one for one in self.observables if one.base == name and one.standard_error > allowed]
            if coarse:
                worst = max(coarse, key=lambda one: one.standard_error)
                more = f", and in {len(coarse) - 1} more states," if len(coarse) > 1 else ""
                told = f"is known to {worst.standard_error:.2g} only, asked for {allowed:g}"
                found.append(f"the difference in {worst.name}{more} {told}")
        if not any(one.apart for one in self.observables):
            found.append("the two sides began alike, so that their agreement shows nothing")
        return found

    @property
    def at_equilibrium(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.problems

    @property
    def verdict(self) -> str:
        """In a sentence."""
        if self.problems:
            return "not at equilibrium: " + "; ".join(self.problems)
        apart = list(dict.fromkeys(one.base for one in self.observables if one.apart))
        states = len(self.observables) // len(dict.fromkeys(one.base for one in self.observables))
        few = min(self.walkers)
        doubt = f" ({few} walkers a side, {FEW_WALKERS} or more tell an error well)" if few < FEW_WALKERS else ""
        everywhere = f" in all {states} states" if states > 1 else ""
        return f"at equilibrium as far as seen: the two sides met in all of {listed(apart)}{everywhere}{doubt}"

    def rows(self) -> list[dict[str, float | str]]:
        """One dictionary for each observable."""
        return [
            {
                "observable": one.name,
                "mean_a": one.mean[0],
                "standard_error_a": one.error[0],
                "mean_b": one.mean[1],
                "standard_error_b": one.error[1],
                "difference": one.difference,
                "standard_error": one.standard_error,
                "p_difference": one.p_difference,
                "began_a": one.began[0],
                "began_b": one.began[1],
                "drift_a": one.drift[0],
                "drift_standard_error_a": one.drift_error[0],
                "drift_b": one.drift[1],
                "drift_standard_error_b": one.drift_error[1],
                "verdict": one.verdict,
            }
            for one in self.observables
        ]


def two_sided(
    a: Runs,
    b: Runs | None = None,
    *,
    of: str | Sequence[str] | None = None,
    since: float = 0.5,
    tolerance: Mapping[str, float] | None = None,
) -> TwoSided:
    """Compare runs from two kinds of starts at the same conditions, such as trained and random networks.

    Args:
        a: a run, or several, of one side; trajectories or their paths.
        b: of the other side; None where the walkers of `a` began on two recorded sides, as those of `nnsim.tempering`.
        of: which observables; None is every recorded one that has a number for each walker and no period, but for those
            that are the same number everywhere.
        since: part of each run that is left out at its beginning, from 0 to below 1.
        tolerance: standard error of the difference that is asked for, by observable; what is known less well is named.

    Walkers that sample different states (each its own kT or beta) are compared state by state. On a ladder, whose
    walkers swap, the rungs of independent ladders take the place of walkers.

    Returns:
        The comparison; `verdict` is a sentence, `at_equilibrium` whether nothing speaks against it.

    Raises:
        InputError: the same run twice, conditions that differ or change along the run, fewer than two walkers of a
            state, fewer than four frames after `since`, an observable that was not recorded.
        TrajectoryError: a run that cannot be read.
    """
    since = require_fraction("two_sided", since)
    sides = both_sides(a, "two_sided") if b is None else (one_side(a, "two_sided"), one_side(b, "two_sided"))
    parts = [*sides[0], *sides[1]]
    if b is not None:
        all_opened([part.run for part in parts if part.only is None], "two_sided")  # no run on both sides
    runs = [part.run for part in parts]
    for run in runs:
        refuse_changing(run)
        refuse_other_conditions(runs[0], run)
    names = _observables(runs, of)
    asked = _tolerance(tolerance, names)
    states = np.unique(parts[0].states)
    walkers = tuple(min(sum(int((part.states == k).sum()) for part in side) for k in states) for side in sides)
    if min(walkers) < 2:
        raise InputError(
            f"two_sided: {min(walkers)} walker of a state on a side does not tell its spread; give 2 or more, best "
            f"{FEW_WALKERS} (walkers=... of the run, or several runs)"
        )
    found = [one for name in names for one in _compared(sides, name, since)]
    found = [one for one in found if of is not None or not one.is_constant]
    return TwoSided(tuple(_judged(found)), (walkers[0], walkers[1]), since, asked)


# -------------------------------------------------------------------------------------------------- observables


def _observables(runs: Sequence[Trajectory], of: str | Sequence[str] | None) -> list[str]:
    periods = {name for run in runs for name, period in (run.header.get("periods") or {}).items() if period}
    there = [name for name in runs[0].observables if all(name in run for run in runs)]
    there = [name for name in there if all(run[name].shape[1:] == (run.header["walkers"],) for run in runs)]
    usable = [name for name in there if name not in periods]
    if of is None:
        if not usable:
            raise InputError("two_sided: no observable was recorded in all runs; run with observe=[...]")
        return usable
    names = require_texts("two_sided", "of", [of] if isinstance(of, str) else of)
    if not names:
        raise InputError("two_sided: of = [] must name an observable, or be None for all of them")
    for name in names:
        if name not in usable:
            raise InputError(
                f"two_sided: of = {name!r} must be a number for each walker that all runs have recorded and that does "
                f"not come round; there is {listed(usable) or 'none'}"
            )
    return list(dict.fromkeys(names))


def _tolerance(given: Mapping[str, float] | None, names: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    if given is None:
        return found
    if not isinstance(given, Mapping):
        raise InputError(
            f"two_sided: tolerance = {shown(given)} must give the error asked for by observable, such as "
            "{'ln_loss_test': 0.03}; change tolerance"
        )
    for name, value in given.items():
        if name not in names:
            raise InputError(f"two_sided: tolerance of {shown(name)}, which is not compared; there is {listed(names)}")
        found[name] = require_number("two_sided", f"tolerance of {name}", value, above=0.0)
    return found


def _compared(sides: tuple[list[Side], list[Side]], name: str, since: float) -> list[Compared]:
    """The observable in each state."""
    parts = [[_halves(part, name, since) for part in side] for side in sides]
    kinds = list(dict.fromkeys(sides[0][0].states.tolist()))
    found = []
    for kind in kinds:
        rows = [
            np.concatenate([one[:, each.states == kind] for one, each in zip(part, side, strict=True)], axis=1)
            for part, side in zip(parts, sides, strict=True)
        ]
        found.append(_welch(name if len(kinds) == 1 else f"{name} at {kind}", rows))
    return found


def _halves(part: Side, name: str, since: float) -> Floats:
    """Of each walker the first value, and the means of the two halves of what is used, [3, W]."""
    step, values = part.record(name)
    used = np.flatnonzero(step > max(since * step[-1], part.after))
    if len(used) < 4:
        raise InputError(
            f"two_sided: {part.run.path} has {len(used)} frames of {name} after the part since = {since:g} that is "
            "left out, but 4 or more are needed; run longer, or record more often"
        )
    halves = np.array_split(used, 2)
    return np.stack([values[0], *(values[half].mean(axis=0) for half in halves)])


def _welch(name: str, rows: Sequence[Floats]) -> Compared:
    means = [row[1:].mean(axis=0) for row in rows]
    drifts = [row[2] - row[1] for row in rows]
    (mean, error), (drift, drift_error), (began, began_error) = (
        ([float(one.mean()) for one in parts], [_error(one) for one in parts])
        for parts in (means, drifts, [row[0] for row in rows])
    )
    difference, spread = mean[0] - mean[1], math.hypot(*error)
    apart = abs(began[0] - began[1])
    return Compared(
        name,
        (mean[0], mean[1]),
        (error[0], error[1]),
        (began[0], began[1]),
        (drift[0], drift[1]),
        (drift_error[0], drift_error[1]),
        _p_value(difference, spread, _freedom(error, [len(one) for one in means])),
        (
            _p_value(drift[0], drift_error[0], len(drifts[0]) - 1),
            _p_value(drift[1], drift_error[1], len(drifts[1]) - 1),
        ),
        apart > APART * math.hypot(*began_error) and apart > APART * spread,
    )


def _error(values: Floats) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def _freedom(errors: Sequence[float], counts: Sequence[int]) -> float:
    """Degrees of freedom of the difference, after Welch and Satterthwaite."""
    total = sum(error**2 for error in errors)
    parts = sum(error**4 / (count - 1) for error, count in zip(errors, counts, strict=True))
    return total**2 / parts if parts else float(sum(counts) - 2)


def _p_value(value: float, error: float, freedom: float) -> float:
    """Of a t-test of 0; numbers without any spread are known exactly."""
    if not error:
        return float(value == 0)
    from scipy import stats  # half a second, for none but this

    return float(2 * stats.t.sf(abs(value) / error, freedom))


def _judged(found: Sequence[Compared]) -> list[Compared]:
    """With verdicts: the differences of all observables are one family of tests, their drifts another."""
    differ = _holm([one.p_difference for one in found])
    drifts = _holm([p for one in found for p in one.p_drift])
    judged = []
    for place, one in enumerate(found):
        if differ[place]:
            verdict = DIFFER
        elif drifts[2 * place] or drifts[2 * place + 1]:
            verdict = DRIFTING
        else:
            verdict = AGREE if one.apart else ALIKE
        judged.append(Compared(**{**vars(one), "verdict": verdict}))
    return judged


def _holm(p_values: Sequence[float]) -> NDArray[np.bool_]:
    """Which of several hypotheses are to be doubted, at a probability `LEVEL` of doubting any that is right."""
    p = np.array(p_values)
    order = np.argsort(p)
    doubted = np.zeros(len(p), dtype=bool)
    for place, index in enumerate(order):
        if p[index] > LEVEL / (len(p) - place):
            break
        doubted[index] = True
    return doubted
