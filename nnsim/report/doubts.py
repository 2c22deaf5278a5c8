"""What speaks against the numbers of a run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import numpy as np

from nnsim.analysis.landscape.convergence import Diagnosis, diagnose
from nnsim.analysis.landscape.snapshots import has_record
from nnsim.criteria import MOST_OUTSIDE
from nnsim.errors import TrajectoryError, listed
from nnsim.report.blocks import NOTE, WARNING, Attempts, Notice
from nnsim.report.runs import Runs
from nnsim.trajectory.reader import Trajectory

# As in nnsim.running.monitor, which warns during the run; that module imports torch.
TOLERANCE = 0.05
HOT = "the kinetic temperature is"


class Doubts:
    """Notices about the runs, and the diagnoses they come from.

    Attributes:
        diagnoses: of each Wang-Landau run; empty for others, or where no frame was recorded.
    """

    def __init__(self, runs: Runs, attempts: Attempts, between: tuple[float, float] | None = None) -> None:
        self.runs, self._attempts = runs, attempts
        self.diagnoses: list[Diagnosis] = []
        self._recorded = True
        with attempts.of("the diagnosis of convergence", WARNING):
            if runs.is_wang_landau:
                self._recorded = all(has_record(run, runs.bias) for run in runs.all)
                if self._recorded:
                    found = [diagnose(run, between=between, bias=runs.bias) for run in runs.light]
                    self.diagnoses = found

    def notices(self) -> list[Notice]:
        """All of them, the gravest first; a check that cannot be made is named in `attempts`."""
        checks: dict[str, Callable[[], list[Notice]]] = {
            "lost files": self._missing,
            "convergence": self._unconverged,
            "the two sides": self._two_sides,
            "the ladder": self._ladder,
            "the time step": self._time_step,
            "the temperature": self._temperature,
            "the edges of the grid": self._outside,
            "walkers that diverged": self._diverged,
            "the length": self._length,
            "changes along the way": self._changed,
            "whether it is long enough": self._not_judged,
            "how many runs there are": self._one_run,
            "how many frames are read": self._thinned,
            "files of other programs": self._foreign,
        }
        found: list[Notice] = []
        for what, check in checks.items():
            with self._attempts.of(f"the check of {what}", WARNING):
                found += check()
        return sorted(found, key=lambda notice: notice.kind != WARNING)

    def _of(self, place: int) -> str:
        return f"{self.runs.names[place]}: " if len(self.runs.all) > 1 else ""

    def _missing(self) -> list[Notice]:
        found = []
        for place, run in enumerate(self.runs.all):
            if lost := run.missing():
                text = (
                    f"{self._of(place)}missing: {listed(lost)}; what needs them is left out: restore them from a copy."
                )
                found.append(Notice(WARNING, "Data lost", text))
        return found

    def _foreign(self) -> list[Notice]:
        found = []
        for place, run in enumerate(self.runs.all):
            if strange := run.foreign():
                text = f"{self._of(place)}{listed(strange)}; they were not looked at."
                found.append(Notice(NOTE, "Files of other programs", text))
        return found

    def _unconverged(self) -> list[Notice]:
        if not self._recorded:
            text = "the run is shorter than the interval of its record."
            return [Notice(WARNING, "Not known to be converged", text)]
        doubtful = [(place, one) for place, one in enumerate(self.diagnoses) if one.problems()]
        if not doubtful:
            return []
        worst = min((one for _, one in doubtful), key=lambda one: one.round_trips)
        details = tuple(f"{self._of(place)}{problem}" for place, one in doubtful for problem in one.problems())
        worst_of = "the worst run has " if len(self.runs.all) > 1 else ""
        return [Notice(WARNING, "Not converged", f"{worst_of}{worst}.", details)]

    def _two_sides(self) -> list[Notice]:
        if self.runs.sides is None:
            return []
        found = self.runs.two_sided
        if not found.problems:
            return [Notice(NOTE, "Two-sided test", f"{found.verdict}.")]
        return [Notice(WARNING, "Not at equilibrium", "runs from two kinds of starts disagree.", tuple(found.problems))]

    def _ladder(self) -> list[Notice]:
        if not self.runs.is_tempering:
            return []
        found = self.runs.tempering
        if not found.problems:
            return [Notice(NOTE, "Two-sided test", f"{found.verdict}.")]
        return [
            Notice(WARNING, "Not at equilibrium", "the numbers of this page are none of it.", tuple(found.problems))
        ]

    def _temperature(self) -> list[Notice]:
        found = []
        for place, run in enumerate(self.runs.light):
            said = place < len(self.diagnoses) and any(HOT in one for one in self.diagnoses[place].problems())
            text = None if said else _wrong_temperature(run, self.runs.headers[place], self.runs.size)
            if text:
                found.append(Notice(WARNING, "Wrong temperature", self._of(place) + text))
        return found

    def _time_step(self) -> list[Notice]:
        found = []
        for place, header in enumerate(self.runs.headers):
            known = header.get("step_error") or {}  # not in runs of version 0.1
            if known.get("too_large"):
                advice = f"; try dt = {known['try']:.2g}" if known.get("try") else ""
                text = f"what it does to the averages: {known['words']}{advice}."
                found.append(Notice(WARNING, "Time step too large", self._of(place) + text))
        return found

    def _outside(self) -> list[Notice]:
        found = []
        for place, run in enumerate(self.runs.all):
            for name in run.bias_names:
                share = float(run.bias(name).attrs.get("outside") or 0.0)
                if share > 0:
                    many = share > MOST_OUTSIDE
                    text = f"{100 * share:.2g} % of the walkers' steps were outside the grid of the bias {name}"
                    remedy = "; nothing is learnt there: widen the grid, or put up a wall" if many else ""
                    kind = WARNING if many else NOTE
                    found.append(Notice(kind, "Outside the grid", f"{self._of(place)}{text}{remedy}."))
        return found

    def _diverged(self) -> list[Notice]:
        found = []
        for place, run in enumerate(self.runs.all):
            lost: set[int] = set()
            for name in self.runs.scalars:
                for block in _there(run, name):
                    # ln of a loss of 0 is -inf, which is a value and no divergence
                    wrong = np.isnan(block) | (block == np.inf)
                    lost |= set(np.flatnonzero(wrong.any(axis=0)).tolist())
            if lost:
                listed = ", ".join(map(str, sorted(lost)[:12])) + (", ..." if len(lost) > 12 else "")
                text = f"{len(lost)} of {self.runs.walkers} walkers have numbers that are not finite: {listed}."
                found.append(Notice(WARNING, "Diverged", self._of(place) + text))
        return found

    def _length(self) -> list[Notice]:
        found = []
        for place, (run, header) in enumerate(zip(self.runs.all, self.runs.headers, strict=True)):
            target, every = header.get("target"), (header.get("recording") or {}).get("every") or 1
            if target is not None and run.steps + int(every) <= int(target):
                text = f"recorded up to step {run.steps:,} of {int(target):,}; it was stopped, or is still running"
                found.append(Notice(WARNING, "Not complete", f"{self._of(place)}{text}."))
        lengths = {run.steps for run in self.runs.all}
        if len(lengths) > 1:
            listed = ", ".join(
                f"{name}: {run.steps:,}" for name, run in zip(self.runs.names, self.runs.all, strict=True)
            )
            text = f"the runs end at different steps ({listed}), but count alike."
            found.append(Notice(WARNING, "Different lengths", text))
        return found

    def _changed(self) -> list[Notice]:
        found = []
        for place, header in enumerate(self.runs.headers):
            for change in header.get("changes") or ():
                text = f"{self._of(place)}after step {change['step']:,} the run went on as another than it was begun as"
                found.append(Notice(WARNING, "Changed along the way", f"{text}.", tuple(change["changed"])))
        return found

    def _one_run(self) -> list[Notice]:
        if len(self.runs.all) > 1 or not self.runs.has_landscape:
            return []
        text = "its walkers share one bias, whose own error only independent runs (other seeds) tell: give several."
        return [Notice(NOTE, "One run", text)]

    def _not_judged(self) -> list[Notice]:
        if self.runs.is_wang_landau or self.runs.is_tempering or not (self.runs.has_landscape or self.runs.has_states):
            return []
        text = "whether this run is long enough is not checked here, as it is for a Wang-Landau bias: "
        return [Notice(WARNING, "Convergence not judged", text + "compare independent runs, or the halves of one.")]

    def _thinned(self) -> list[Notice]:
        stride = self.runs.stride
        if stride == 1:
            return []
        text = f"only about one frame in {stride} was read for this page; round trips between them are not counted."
        return [Notice(NOTE, "Long record", text)]


def _there(run: Trajectory, name: str) -> Iterator[np.ndarray]:
    """The blocks of an observable up to the first that is lost, which is told of elsewhere."""
    with contextlib.suppress(TrajectoryError):
        yield from run[name].blocks()


def _wrong_temperature(run: Trajectory, header: dict[str, object], size: int) -> str | None:
    """The mean kinetic temperature of the last tenth of a run where it is off, as `nnsim.running.monitor` judges it.

    Of walkers with a kT each it is that of the walker that is farthest off.
    """
    given = header.get("kT")
    if not isinstance(given, (int, float, list)) or isinstance(given, bool) or "kinetic_temperature" not in run:
        return None
    kT = np.atleast_1d(np.asarray(given, dtype=np.float64))
    series = run["kinetic_temperature"]
    rows = np.flatnonzero(series.step > 0.9 * run.steps)
    if not len(rows) or not (kT > 0).all():
        return None
    values = np.asarray(series[rows[0] :], dtype=np.float64)
    means = values.mean(axis=0) if isinstance(given, list) else values.mean(keepdims=True).reshape(1)
    # velocities of neighbouring frames are correlated: only a tenth of the frames counts as independent
    velocities = max(size, 1) * values.size // len(values) // len(kT) * max(len(values) / 10, 1)
    excess = np.abs(means - kT) - kT * (TOLERANCE + 5 * math.sqrt(2 / velocities))
    worst = int(excess.argmax())
    if excess[worst] <= 0:
        return None
    of, cause = f" of walker {worst}" if isinstance(given, list) else "", "hot" if means[worst] > kT[worst] else "cold"
    return (
        f"the kinetic temperature{of} over the last tenth is {means[worst]:.3g} instead of kT = {kT[worst]:.3g}: too "
        f"{cause}."
    )
