"""How well a run has covered its collective variables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.landscape import wang_landau_name
from nnsim.errors import InputError

if TYPE_CHECKING:
    from nnsim.trajectory import Trajectory

# An increment of 0.1 kT still leaves the equilibrium accuracy of the 116-parameter spiral wrong by up to 0.13.
CONVERGED_INCREMENT = 1e-3
CONVERGED_ROUND_TRIPS = 20


def crossings(series: Any, low: float, high: float) -> NDArray[np.int64]:
    r"""Count the passages of each walker from one end of a CV to the other, in either direction.

    A walker is at the lower end when s <= low and at the upper end when s >= high. Counted is how often the end it was
    at last changes; wandering in between, or leaving an end and coming back to it, does not count. The series must be
    recorded often enough to see every visit of an end: passages that fall between two frames are lost.

    Args:
        series: the CV in time, [T, W] (or [T] for one walker); NaN counts as in between.
        low: the lower end, in units of the CV.
        high: the upper end, above `low`.

    Returns:
        [W] int64.

    Raises:
        InputError: low not below high, or an array of other dimensions.
    """
    values = np.asarray(series[...] if hasattr(series, "step") else series, dtype=np.float64)
    if not low < high:
        remedy = "swap them" if low > high else "change one"
        raise InputError(f"crossings: low = {low:g} must be below high = {high:g}; {remedy}")
    if values.ndim not in (1, 2):
        raise InputError(f"crossings: a series of shape {values.shape} must be [T, W] or [T]; take one scalar CV")
    ends = (values >= high).astype(np.int8) - (values <= low).astype(np.int8)
    walkers = ends.reshape(len(ends), -1).T
    return np.array([np.count_nonzero(np.diff(walker[walker != 0])) for walker in walkers], dtype=np.int64)


def round_trips(series: Any, low: float, high: float) -> NDArray[np.int64]:
    """Count the completed round trips of each walker, from one end to the other and back.

    Half of `crossings`, rounded down; the arguments are the same. A Wang-Landau run has not converged before its
    walkers have made several.
    """
    return crossings(series, low, high) // 2


@dataclass(frozen=True)
class Diagnosis:
    """What tells whether a Wang-Landau run may be trusted.

    Attributes:
        cv: the CV along which round trips are counted.
        low, high: the two values between which they are counted.
        round_trips: of all walkers together.
        walkers: how many there are.
        increment: at the end, in kT.
        largest_increment: of the run, in kT.
        outside: fraction of the walker-steps outside the grid.
        kinetic_temperature: mean over walkers and the last tenth of the run; NaN if it was not recorded, which is left
            out of every judgement.
        kT: of the bias.
    """

    cv: str
    low: float
    high: float
    round_trips: int
    walkers: int
    increment: float
    largest_increment: float
    outside: float
    kinetic_temperature: float
    kT: float

    def problems(self) -> list[str]:
        """What is not as it should be, in words; empty for a converged run."""
        found = []
        if self.increment > CONVERGED_INCREMENT:
            found.append(f"the increment is still {self.increment:.2g} kT (converged: below {CONVERGED_INCREMENT:g})")
        if self.round_trips < CONVERGED_ROUND_TRIPS:
            trips = f"{self.round_trips} round trips between {self.cv} = {self.low:g} and {self.high:g}"
            found.append(f"only {trips} (converged: {CONVERGED_ROUND_TRIPS} or more)")
        if self.knows_temperature and abs(self.kinetic_temperature - self.kT) > 0.03 * self.kT:
            found.append(f"the kinetic temperature is {self.kinetic_temperature:.3g}, not kT = {self.kT:g}")
        if self.outside > 0.05:
            found.append(f"{100 * self.outside:.0f} % of the steps were outside the grid")
        return found

    @property
    def knows_temperature(self) -> bool:
        """Whether the kinetic temperature was recorded; without it nothing is said about heating."""
        return not math.isnan(self.kinetic_temperature)

    def __str__(self) -> str:
        parts = [f"increment {self.increment:.2g} kT", f"{self.round_trips} round trips"]
        if self.knows_temperature:
            parts.append(f"T = {self.kinetic_temperature / self.kT:.3f} kT")
        return ", ".join([*parts, f"{100 * self.outside:.2g} % outside"])


def has_record(trajectory: Trajectory, bias: str | None = None) -> bool:
    """Whether a Wang-Landau run was long enough to record what `diagnose` looks at."""
    name = wang_landau_name(trajectory, bias)
    return f"{name}_increment" in trajectory and str(trajectory.bias(name).attrs["cvs"][0]) in trajectory


def diagnose(
    trajectory: Trajectory,
    *,
    between: tuple[float, float] | None = None,
    cv: str | None = None,
    bias: str | None = None,
) -> Diagnosis:
    """Look at the convergence of a Wang-Landau run.

    Args:
        trajectory: of the run.
        between: the two values of the CV for round trips; None takes the 10 % and 90 % points of what was visited.
        cv: the CV for round trips; None is the first of the bias.
        bias: its name, if there are several.

    Raises:
        InputError: no such bias, a run too short for a frame, or two values that are equal or not finite.
    """
    name = wang_landau_name(trajectory, bias)
    if not has_record(trajectory, bias):
        raise InputError(f"{trajectory.path} has no frame yet, since it is shorter than one interval; run longer")
    recorded = trajectory.bias(name).attrs
    cv = cv or str(recorded["cvs"][0])
    values = np.asarray(trajectory[cv][:], dtype=np.float64)
    low, high = _ends(values, between)
    increments = np.asarray(trajectory[f"{name}_increment"][:])
    return Diagnosis(
        cv=cv,
        low=low,
        high=high,
        round_trips=int(round_trips(values, low, high).sum()) if low < high else 0,
        walkers=values.shape[1],
        increment=float(recorded["increment"]),
        largest_increment=float(increments.max()),
        outside=float(recorded["outside"]),
        kinetic_temperature=_late_temperature(trajectory),
        kT=float(recorded["kT"]),
    )


def _ends(values: NDArray[np.float64], between: tuple[float, float] | None) -> tuple[float, float]:
    """The lower and the upper end for round trips; equal where nothing has moved."""
    if between is None:
        low, high = np.quantile(values, (0.1, 0.9))
        return float(low), float(high)
    low, high = sorted(between)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(
            f"round trips between {between[0]:g} and {between[1]:g}: must be two different finite numbers, "
            "the ends of the way; change one (--between)"
        )
    return low, high


def _late_temperature(trajectory: Trajectory) -> float:
    """Mean kinetic temperature over walkers and the last tenth of the run; NaN if none was recorded there."""
    if "kinetic_temperature" not in trajectory:
        return math.nan
    series = trajectory["kinetic_temperature"]
    late = series[:][series.step > 0.9 * trajectory.steps]
    return float(np.mean(late)) if len(late) else math.nan
