"""How well a run has covered its collective variables."""

from __future__ import annotations

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
        raise InputError(f"crossings: low = {low:g} must be below high = {high:g}; swap them")
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
        kinetic_temperature: mean over walkers and the last tenth of the run; NaN if it was not recorded.
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
        if abs(self.kinetic_temperature - self.kT) > 0.03 * self.kT:
            found.append(f"the kinetic temperature is {self.kinetic_temperature:.3g}, not kT = {self.kT:g}")
        if self.outside > 0.05:
            found.append(f"{100 * self.outside:.0f} % of the steps were outside the grid")
        return found

    def __str__(self) -> str:
        return (
            f"increment {self.increment:.2g} kT, {self.round_trips} round trips, "
            f"T = {self.kinetic_temperature / self.kT:.3f} kT, {100 * self.outside:.2g} % outside"
        )


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
    """
    name = wang_landau_name(trajectory, bias)
    recorded = trajectory.bias(name).attrs
    cv = cv or str(recorded["cvs"][0])
    values = np.asarray(trajectory[cv][:], dtype=np.float64)
    low, high = sorted(between) if between else tuple(np.quantile(values, (0.1, 0.9)))
    temperature = float("nan")
    if "kinetic_temperature" in trajectory.observables:
        series = trajectory["kinetic_temperature"]
        temperature = float(np.mean(series[:][series.step > 0.9 * trajectory.steps]))
    increments = np.asarray(trajectory[f"{name}_increment"][:])
    return Diagnosis(
        cv=cv,
        low=float(low),
        high=float(high),
        round_trips=int(round_trips(values, float(low), float(high)).sum()),
        walkers=values.shape[1],
        increment=float(recorded["increment"]),
        largest_increment=float(increments.max()),
        outside=float(recorded["outside"]),
        kinetic_temperature=temperature,
        kT=float(recorded["kT"]),
    )
