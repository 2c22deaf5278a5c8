"""The tables of a report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from nnsim import analysis
from nnsim.analysis.landscape.axes import Axis, Floats
from nnsim.analysis.landscape.passages import ends_of
from nnsim.criteria import CONVERGED_CHANGE, CONVERGED_FLATNESS, CONVERGED_INCREMENT, CONVERGED_ROUND_TRIPS
from nnsim.errors import InputError, NNSimError
from nnsim.report.blocks import WARNING, Block, Notice, Table, nice, number, short, with_error
from nnsim.report.doubts import Doubts
from nnsim.report.rungs import rung_heading, rung_rows
from nnsim.report.runs import Runs

LEVELS = 10  # rows of a table along a CV, about
AVERAGED = 3  # observables with an equilibrium table
STATES_SHOWN = 4  # of several runs of umbrella windows and the like, so many have tables
POOR_OVERLAP = 0.03  # of neighbouring states: Klimovich et al. 2015, doi:10.1007/s10822-015-9840-9
LISTED = 12  # quantities in the table of recorded values

Maker = tuple[str, Callable[[], Iterable[Block]]]


class Numbers:
    """Tables with error bars; what is noticed on the way is in `notices`."""

    def __init__(self, runs: Runs, doubts: Doubts, between: tuple[float, float] | None = None) -> None:
        self.runs, self.doubts, self.between = runs, doubts, between
        self.notices: list[Notice] = []

    def makers(self) -> list[Maker]:
        """What tables there are to make, with their names."""
        runs = self.runs
        found: list[Maker] = []
        if runs.sides is not None:
            found.append(("the two-sided test", self.two_sided))
        if runs.is_tempering:
            return [("the rungs", self.rungs), ("the table of recorded values", self.recorded)]
        if runs.is_training or not (runs.has_landscape or runs.has_states):
            found.append(("the table of recorded values", self.recorded))
        if runs.has_landscape:
            found.append(("the table of S", self.entropy))
        if runs.has_states:
            found.append(("the table of S", self.profiles))
        if runs.has_landscape or runs.has_states:
            found += [(f"the equilibrium of {of}", partial(self.equilibrium, of)) for of in self._averaged()]
        if "slope" in runs.formulas:
            found += [(f"the averages of {of}", partial(self.boltzmann, of)) for of in self._averaged()[:1]]
        if self.doubts.diagnoses:
            found.append(("the table of convergence", self.convergence))
        if found[0][1] != self.recorded:
            found.append(("the table of recorded values", self.recorded))
        return found

    def two_sided(self) -> list[Table]:
        """Each observable on both sides."""
        assert self.runs.sides is not None
        found, sides = self.runs.two_sided, self.runs.sides
        rows = [
            [
                one.name,
                *(with_error(mean, error) for mean, error in zip(one.mean, one.error, strict=True)),
                with_error(one.difference, one.standard_error),
                one.verdict,
            ]
            for one in found.observables
        ]
        names = [side[0].label for side in sides]
        note = f"Means after {100 * found.since:g} % of the runs, errors by the spread of walkers. {found.verdict}."
        return [Table("Two kinds of starts", ("Observable", *names, "Difference", "Verdict"), rows, note)]

    def rungs(self) -> list[Table]:
        """Averages and S along a ladder of temperatures."""
        found = self.runs.tempering
        by = (
            f"by thermodynamic integration; MBAR is refused, since {found.refused}"
            if found.refused
            else "by MBAR and an integral"
        )
        note = (
            f"Averages at the mean ln L_train of each rung, from {found.ladders} independent ladders, whose spread "
            f"gives the errors; S {by}. {found.trips} round trips along the ladder. {found.verdict}."
        )
        return [Table("Rungs of the ladder", rung_heading(found), list(map(list, rung_rows(found))), note)]

    # ------------------------------------------------------------------ landscapes

    def entropy(self) -> list[Table]:
        """S along each CV with one value in each of about ten bins, and the difference between two ends."""
        landscape, tables = self.runs.landscape, []
        for axis in landscape.axes[:2]:
            along = landscape.marginal(axis.name)
            seen = np.flatnonzero(along.visited)
            chosen = seen[np.unique(np.linspace(0, len(seen) - 1, min(LEVELS, len(seen))).round().astype(int))]
            errors = np.full(len(along.entropy), np.nan) if along.error is None else along.error
            rows = [[_place(axis, b), with_error(float(along.entropy[b]), float(errors[b]))] for b in reversed(chosen)]
            what = "S (nats)" if landscape.flat else "−F/kT"
            note = [self._difference(axis.name), self._error_of_runs()]
            caption = f"{'Entropy' if landscape.flat else 'Minus free energy over kT'} along {axis.name}"
            tables.append(Table(caption, (axis.name, what), rows, " ".join(filter(None, note))))
        return tables

    def _difference(self, cv: str) -> str:
        """S(low) - S(high) in words."""
        if cv not in self.runs.first:
            return ""
        axis = self.runs.landscape.axes[self.runs.landscape.axis_index(cv)]
        values = np.concatenate([np.asarray(run[cv][:], dtype=np.float64).reshape(-1) for run in self.runs.light])
        values = values[(values >= axis.edges[0]) & (values <= axis.edges[-1])]  # beyond the grid S is not known
        if not len(values):
            return ""
        first = cv == self.runs.landscape.names[0]
        low, high = ends_of(values, self.between if first else None)
        if axis.bin_of(low) == axis.bin_of(high):
            return ""
        found = analysis.entropy_difference(self.runs.landscape, low, high, cv)
        if math.isnan(found.value):
            return f"S({short(low)}) − S({short(high)}) is not known: not yet visited by every run."
        return f"S({short(low)}) − S({short(high)}) = {with_error(found.value, found.error)} nats."

    def _error_of_runs(self) -> str:
        count = len(self.runs.all)
        if count == 1:
            return "The largest value is set to 0. One run: the error is not known."
        doubt = 100 / math.sqrt(2 * (count - 1))  # of a standard deviation of so many normal numbers
        few = f" (an error that so few tell to about {doubt:.0f} % only)" if count < 6 else ""
        return f"The largest value is set to 0. Mean and standard error over {count} independent runs{few}."

    def profiles(self) -> list[Table]:
        """S along the biased quantity from frames weighted by MBAR."""
        along = analysis.biased_quantity(self.runs.first, self.runs.bias)
        low, high, bins = self._even(along)
        found = []
        for name, run in list(zip(self.runs.names, self.runs.light, strict=True))[:STATES_SHOWN]:
            one = analysis.profile(run, along, bins=bins, between=(low, high))
            weights = one.weights
            of = f", {name}" if len(self.runs.all) > 1 else ""
            for problem in weights.doubts.problems:
                self.notices.append(Notice(WARNING, "Not converged", f"{problem}{of}."))
            if weights.states and weights.neighbour_overlap < POOR_OVERLAP:
                text = f"that of neighbouring states is about {weights.neighbour_overlap:.2g}{of} (good: above "
                text += f"{POOR_OVERLAP}); some free energies are hardly known. Put states between them, or run longer."
                self.notices.append(Notice(WARNING, "Poor overlap", text))
            rows = [
                [
                    number(row[along]),
                    with_error(row["entropy"], row["entropy_error"]),
                    number(round(row["effective_frames"], 1)),
                ]
                for row in reversed(one.rows())
            ]
            note = "Frames of the last half of the run, weighted by MBAR; effective number of frames in all: "
            note += f"{weights.effective:.4g}. Standard errors by the jackknife over blocks."
            what = "S (nats)" if one.flat else "−F/kT"
            found.append(Table(f"S along {along}{of}", (along, what, "effective frames"), rows, note))
        return found

    # ------------------------------------------------------------------ averages

    def _averaged(self) -> list[str]:
        """Observables with an equilibrium table: accuracies and losses first."""
        try:
            given = analysis.biased_quantity(self.runs.first, self.runs.bias)
        except NNSimError:  # what is wrong is said where S is asked for
            return []
        names = [name for name in self.runs.quantities if name not in (given, given.removeprefix("ln_"))]
        names = [name for name in names if not any(name.startswith(f"{bias}_") for bias in self.runs.biases)]
        names = [name for name in names if name not in self.runs.first.header.get("periods", {})]
        ranked = sorted(names, key=lambda name: ("accuracy" not in name, "loss" not in name))  # stable
        return ranked[:AVERAGED]

    def equilibrium(self, of: str) -> list[Table]:
        """Mean of an observable at given values of the biased CV, with its standard error."""
        runs = self.runs
        given = analysis.biased_quantity(runs.first, runs.bias)
        width = self._width(given)
        tables = [analysis.equilibrium(run, given, of, width=width, bias=runs.bias) for run in runs.light]
        curve = analysis.mean_curve(tables)
        errors = np.full(len(curve.x), np.nan) if curve.error is None else curve.error
        shown = [
            [number(float(x)), with_error(float(y), float(error))]
            for x, y, error in zip(curve.x[::-1], curve.y[::-1], errors[::-1], strict=True)
        ]
        spread = f"the spread over {len(tables)} runs" if len(tables) > 1 else "groups of walkers of the one run"
        note = f"Frames of the last half, reweighted, within {number(width / 2)} of each value. Standard errors from "
        note += f"{spread}."
        return [Table(f"Equilibrium mean of {of} at given {given}", (given, of), shown, note)]

    def _width(self, given: str) -> float:
        """Of the bins, such that there are about ten."""
        runs = self.runs
        if runs.has_landscape and given in runs.landscape.names:
            along = runs.landscape.marginal(given)
            spacing = float(along.axes[0].width)
            return spacing * max(1, round(int(along.visited.sum()) / LEVELS))
        low, high, bins = self._even(given)
        return (high - low) / bins

    def _even(self, name: str) -> tuple[float, float, int]:
        """About ten bins that begin at round numbers and hold what all runs visited in their last half."""
        values = self._values(name, end=False)
        values = values[np.isfinite(values)]
        if not len(values):
            raise InputError(f"{name} is nowhere finite in the last half of the run; it has diverged")
        width = nice(float(values.max() - values.min()) / LEVELS)
        first, last = math.floor(values.min() / width), math.floor(values.max() / width) + 1
        return first * width, last * width, last - first

    def boltzmann(self, of: str) -> list[Table]:
        """Means at each beta."""
        given = analysis.biased_quantity(self.runs.first)
        found = []
        for name, run in list(zip(self.runs.names, self.runs.light, strict=True))[:STATES_SHOWN]:
            rows = [
                [number(row["beta"]), with_error(row[given], row[f"{given}_error"]),
                 with_error(row[of], row[f"{of}_error"]), number(row["chains"])]
                for row in analysis.boltzmann_averages(run, of, given=given)
            ]  # fmt: skip
            suffix = f", {name}" if len(self.runs.all) > 1 else ""
            note = "Standard errors from the spread over the chains."
            found.append(Table(f"Means at each beta{suffix}", ("beta", given, of, "chains"), rows, note))
        return found

    # ------------------------------------------------------------------ convergence

    def convergence(self) -> list[Table]:
        """The criteria of convergence, a row for each run."""
        columns = ("run", "increment (kT)", "round trips", "flatness", "late change of S (nats)", "outside the grid")
        rows = [
            [name, f"{one.increment:.2g}", str(one.round_trips), short(one.flatness.late), short(one.late_change.rms),
             f"{100 * one.outside:.2g} %"]
            for name, one in zip(self.runs.names, self.doubts.diagnoses, strict=True)
        ]  # fmt: skip
        rows.append(["converged", f"≤ {CONVERGED_INCREMENT:g}", f"≥ {CONVERGED_ROUND_TRIPS}",
                     f"≥ {CONVERGED_FLATNESS:g}", f"≤ {CONVERGED_CHANGE:g}", "≤ 5 %"])  # fmt: skip
        ends = self.doubts.diagnoses[0]
        own = "" if len({(one.low, one.high) for one in self.doubts.diagnoses}) == 1 else " in the first run"
        note = f"Round trips between {ends.cv} = {short(ends.low)} and {short(ends.high)}{own}, of all walkers together"
        note += "; the ends are the 10 % and 90 % points of what each run visited." if own else "."
        if any(one.knows_temperature for one in self.doubts.diagnoses):
            listed = ", ".join(f"{one.kinetic_temperature:.4g}" for one in self.doubts.diagnoses)
            note += f" Kinetic temperature over the last tenth: {listed} (kT = {ends.kT:g})."
        return [Table("Convergence", columns, rows, note)]

    # ------------------------------------------------------------------ what was recorded

    def recorded(self) -> list[Table]:
        """Mean and spread of every scalar: at the end of a training, else over the last half."""
        names = [name for name in self.runs.scalars if not _constant_zero(self.runs, name)]
        end = self.runs.is_training
        biased = bool(self.runs.biases)
        rows = []
        for name in names[:LISTED]:
            values = self._values(name, end)
            finite = values[np.isfinite(values)]
            if not finite.size:
                rows.append([name, "not finite", "", "", ""])
                continue
            period = self.runs.first.header.get("periods", {}).get(name)
            if period is not None:
                low, high = number(float(finite.min())), number(float(finite.max()))
                rows.append([name, f"comes round after {number(period)}", "", low, high])
                continue
            error = math.nan if biased else self._error(name, values, end)
            spread = float(finite.std(ddof=1)) if finite.size > 1 else math.nan
            numbers = [number(float(one)) for one in (spread, finite.min(), finite.max())]
            rows.append([name, with_error(float(finite.mean()), error), *numbers])
        columns = ("observable", "mean", "standard deviation", "lowest", "highest")
        of_runs = f" of {len(self.runs.all)} runs" if len(self.runs.all) > 1 else ""
        if end:
            caption = f"At the end of the training, over {self.runs.walkers * len(self.runs.all)} walkers{of_runs}"
            note = f"Last recorded frame (step {self.runs.steps}). Standard errors from the spread over the walkers."
        else:
            caption = f"Recorded values in the last half{of_runs}"
            note = (
                "In the biased ensemble: what was visited, not an equilibrium mean of the unbiased system."
                if biased
                else "Standard errors by the autocorrelation time, or the spread over the walkers where it is too long."
            )
        if len(names) > LISTED:
            note += f" {len(names) - LISTED} more observables are in the trajectory: {', '.join(names[LISTED:])}."
        return [Table(caption, columns, rows, note)]

    def _values(self, name: str, end: bool) -> Floats:
        """The last frame, or the last half, of all runs and walkers, [T, W]."""
        parts = []
        for run in self.runs.light:
            series = run[name]
            first = len(series) - 1 if end else int(np.sum(series.step <= 0.5 * run.steps))
            parts.append(np.asarray(series[min(first, len(series) - 1) :], dtype=np.float64))
        shortest = min(len(part) for part in parts)
        return np.concatenate([part[-shortest:] for part in parts], axis=1)

    @staticmethod
    def _error(name: str, values: Floats, end: bool) -> float:
        """Standard error of the mean; NaN where it is not known."""
        frames, walkers = values.shape
        if not np.isfinite(values).all():
            return math.nan
        if not end and frames > 1:
            found = analysis.autocorrelation_time(values, interval=1.0)
            if found.reliable or walkers == 1:
                return float(found.mean_error) if found.reliable else math.nan
        means = values.mean(axis=0)
        return float(means.std(ddof=1) / math.sqrt(walkers)) if walkers > 1 else math.nan


def _place(axis: Axis, index: int) -> str:
    """Centre of a bin, without the last digits of sums, which make 1.7e-18 of what is 0."""
    return number(round(float(axis.centers[index]), 6 - math.floor(math.log10(axis.width))) + 0.0)


def _constant_zero(runs: Runs, name: str) -> bool:
    """Whether an energy that the run does not have was recorded as zeros."""
    return name in ("potential_energy", "bias_energy") and not np.asarray(runs.light[0][name][-1:]).any()
