r"""Classical training against equilibrium: what an ensemble of training runs has at the same train loss.

Each run r is followed from its first recorded frame to the first one at or below a level l of the given CV x (ln L):

    y_r(l) = y_(f-1) + (x_(f-1) - l) / (x_(f-1) - x_f) (y_f - y_(f-1)),      f the first frame with x_f <= l

    <y>(l) = mean of y_r(l) over the R(l) runs that got there, standard error = standard deviation / sqrt(R(l))

and the entropy advantage is the equilibrium mean at x = l minus <y>(l). R falls with the level, because not every run
trains to the end: what remains are the successful runs, so R belongs beside each mean. Every run counts once. A mean
over all frames near a level would be ruled by the runs that are stuck there: on the spiral of 116 parameters it is 0.74
at ln L = -2.5, instead of 0.78.

Reference: arXiv 2503.13145.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnsim.analysis.averages.common_frames import all_opened, common_frames, opened, require_one_network
from nnsim.analysis.averages.equilibrium import EquilibriumTable, mean_curve
from nnsim.analysis.averages.kinds import bias_settings
from nnsim.analysis.checks import as_floats
from nnsim.analysis.landscape.axes import Curve, Floats
from nnsim.errors import InputError, require_integer, require_number, require_several, shown

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

MOST_LEVELS = 100_000


@dataclass(frozen=True, eq=False)
class TrainingCurve:
    """Mean of an observable over training runs when they first reach a level of a CV.

    Attributes:
        given, of: names of the CV and of the observable.
        levels: of the CV, [K], from the highest down.
        mean: over the runs that reached the level, [K]; NaN where none has.
        error: its standard error, [K]; NaN with fewer than two runs.
        runs: how many runs reached the level, [K].
        total: how many runs there are.
    """

    given: str
    of: str
    levels: Floats
    mean: Floats
    error: Floats
    runs: NDArray[np.int64]
    total: int

    def curve(self) -> Curve:
        """Return the mean with its standard error, for a plot, in the order of rising levels."""
        return Curve(self.levels[::-1], self.mean[::-1], self.error[::-1], self.given, self.of)

    def rows(self) -> list[dict[str, float | int]]:
        """One dictionary for each level that a run has reached, from the highest level down."""
        return [
            {
                self.given: float(self.levels[k]),
                f"mean_{self.of}": float(self.mean[k]),
                "standard_error": float(self.error[k]),
                "runs": int(self.runs[k]),
                "of_runs": self.total,
            }
            for k in range(len(self.levels))
            if self.runs[k]
        ]


def training_curve(
    trajectory: Trajectory | str | Path | Iterable[Trajectory | str | Path],
    given: str = "ln_loss_train",
    of: str = "accuracy_test",
    *,
    levels: ArrayLike | None = None,
    spacing: float = 0.25,
) -> TrainingCurve:
    """Mean of the observable `of` over independent training runs when they first reach given values of a CV.

    Args:
        trajectory: of a simulation whose walkers are the runs, or several, whose runs are taken together; or paths.
        given: a recorded CV that training brings down.
        of: a recorded observable with one number for each walker.
        levels: values of the CV, at least one; None takes the multiples of `spacing` that a run has crossed.
        spacing: in units of the CV, above 0.

    Raises:
        InputError: the same run twice, runs of different networks or of a bias that learns, quantities that were not
            recorded or never at the same step, no level, or one that is not finite, a spacing that is not above 0, or
            that makes more than 100000 levels.
    """
    trajectories = all_opened(trajectory, "training_curve")
    require_one_network(trajectories, "training_curve")
    pairs = [_recorded(one, given, of) for one in trajectories]
    wanted = _crossed_levels([x for x, _ in pairs], given, spacing) if levels is None else _checked_levels(levels)
    values = np.concatenate([first_passage(x, y, wanted) for x, y in pairs], axis=1)
    mean, error, runs = _over_runs(values)
    return TrainingCurve(given, of, wanted, mean, error, runs, values.shape[1])


def first_passage(x: ArrayLike, y: ArrayLike, levels: ArrayLike) -> Floats:
    """Value of y when x first comes down to each level, between two frames on a straight line; NaN where it does not.

    A run that is below a level in its first frame already was not seen to cross it, and counts as NaN there too.

    Args:
        x: the CV, [T, W]; frames where it or y is not finite are passed over.
        y: the observable, [T, W].
        levels: [K].

    Returns:
        [K, W].

    Raises:
        InputError: arrays of other shapes, or something that is no number.

    >>> first_passage([[0.0], [-2.0], [-1.0], [-4.0]], [[0.5], [0.7], [0.0], [0.9]], [-1.0, -2.0, -3.0, -5.0])[:, 0]
    array([0.6, 0.7, 0.6, nan])
    """
    owner = "first_passage"
    x, y, levels = as_floats(owner, "x", x, 2), as_floats(owner, "y", y, 2), as_floats(owner, "levels", levels, 1)
    if x.shape != y.shape:
        raise InputError(f"{owner}: x {x.shape} and y {y.shape} differ; give both [T, W]")
    found = np.full((len(levels), x.shape[1]), np.nan)
    for w in range(x.shape[1]):
        known = np.isfinite(x[:, w]) & np.isfinite(y[:, w])
        if known.any():
            found[:, w] = _passage(x[known, w], y[known, w], levels)
    return found


def _passage(x: Floats, y: Floats, levels: Floats) -> Floats:
    """The same for one run, x and y [T]."""
    lowest = np.minimum.accumulate(x)
    after = np.searchsorted(-lowest, -levels)  # the first frame at or below the level
    reached = after < len(x)
    after = after.clip(max=len(x) - 1)
    before = (after - 1).clip(min=0)
    drop = x[before] - x[after]
    share = np.divide(x[before] - levels, drop, out=np.ones_like(levels), where=drop > 0)
    seen = reached & ((after > 0) | (x[0] == levels))
    return np.where(seen, y[before] + share * (y[after] - y[before]), np.nan)


def _recorded(trajectory: Trajectory, given: str, of: str) -> tuple[Floats, Floats]:
    missing = [name for name in (given, of) if name not in trajectory.observables]
    if missing:
        listed = ", ".join(trajectory.observables) or "none yet"
        raise InputError(f"training_curve: {', '.join(map(str, missing))} was not recorded; there is {listed}")
    for name, one in bias_settings(trajectory).items():
        if one["kind"] == "grid" or one["formula"] == "ladder":  # which no training has
            raise InputError(
                f"training_curve: {trajectory.path} is no training: the bias {name!r} drives its walkers; "
                "give a run without one"
            )
    x, y = common_frames(trajectory, [given, of], -1.0)
    return x, y


def _crossed_levels(series: list[Floats], given: str, spacing: float) -> Floats:
    """The multiples of `spacing` between the highest first value and the lowest value of all runs, descending."""
    spacing = require_number("training_curve", "spacing", spacing, above=0.0)
    first = np.concatenate([x[0] for x in series])
    low = min(float(np.nanmin(x)) for x in series)
    if (np.nanmax(first) - low) / spacing > MOST_LEVELS:
        raise InputError(
            f"training_curve: spacing = {spacing:g} makes more than {MOST_LEVELS} levels of {given}; widen it"
        )
    count = np.arange(np.floor(np.nanmax(first) / spacing), np.ceil(low / spacing) - 1, -1)
    if not len(count):
        raise InputError(
            f"training_curve: {given} crosses no multiple of {spacing:g} in the whole record; train longer, or give "
            "levels or a smaller spacing"
        )
    return count * spacing


def _checked_levels(levels: ArrayLike) -> Floats:
    values = np.unique(as_floats("training_curve", "levels", levels))[::-1]
    if not len(values) or not np.isfinite(values).all():
        raise InputError("training_curve: levels must be one or more finite numbers; change levels")
    return values


def _over_runs(values: Floats) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Mean, standard error and number of the finite values of each row, [K, W]."""
    known = np.isfinite(values)
    runs = known.sum(axis=1)
    nan = np.full(len(values), np.nan)
    mean = np.divide(np.where(known, values, 0).sum(axis=1), runs, out=nan.copy(), where=runs > 0)
    squares = np.where(known, values - mean[:, None], 0) ** 2
    error = np.sqrt(np.divide(squares.sum(axis=1), runs * (runs - 1.0), out=nan.copy(), where=runs > 1))
    return mean, error, runs.astype(np.int64)


def entropy_advantage(
    equilibrium: EquilibriumTable | Sequence[EquilibriumTable] | Curve, training: TrainingCurve
) -> list[dict[str, Any]]:
    """Equilibrium mean minus mean over training runs at each common level, with its standard error.

    Of an accuracy, a positive number is an advantage of the equilibrium; of a loss, a negative one. The standard errors
    of both are added in quadrature, and the result is NaN where one of them is not known.

    Args:
        equilibrium: a table, several of independent runs, or a curve such as `EntropyLandscape.equilibrium` gives. The
            centres of its bins are its levels; `training_curve(..., levels=mean_curve([table]).x)` takes the same.
        training: the training runs.

    Returns:
        Rows for a table, from the highest level down: level, both means with their standard errors, their difference
        with its own, and the number of runs that reached the level.

    Raises:
        InputError: quantities of different names, or no common level.
    """
    if not isinstance(training, TrainingCurve):
        raise InputError(
            f"entropy_advantage: training = {shown(training)} must be a TrainingCurve; give what training_curve gives"
        )
    curve = equilibrium if isinstance(equilibrium, Curve) else mean_curve(equilibrium)
    names = {(curve.x_name or training.given, curve.y_name or training.of), (training.given, training.of)}
    if len(names) > 1:
        raise InputError(
            f"entropy_advantage: equilibrium has {curve.y_name} at given {curve.x_name}, but training has "
            f"{training.of} at given {training.given}; take the same of both"
        )
    unknown = np.full(len(curve.x), np.nan)
    points = list(zip(curve.x, curve.y, unknown if curve.error is None else curve.error, strict=True))
    rows = []
    for k, level in enumerate(training.levels):
        for x, mean, error in points:
            if abs(x - level) < 1e-9 and np.isfinite(mean) and training.runs[k]:
                rows.append(_advantage(training, k, float(mean), float(error)))
    if not rows:
        raise InputError(
            "entropy_advantage: equilibrium and training have no level in common where both are known; "
            "make the training curve at the centres of the equilibrium's bins, or train or sample longer"
        )
    return rows


def _advantage(training: TrainingCurve, k: int, mean: float, error: float) -> dict[str, Any]:
    own, own_error = float(training.mean[k]), float(training.error[k])
    return {
        training.given: float(training.levels[k]),
        f"equilibrium_{training.of}": mean,
        "equilibrium_error": error,
        f"training_{training.of}": own,
        "training_error": own_error,
        "advantage": mean - own,
        "standard_error": float(np.hypot(error, own_error)),
        "runs": int(training.runs[k]),
        "of_runs": training.total,
    }


@dataclass(frozen=True)
class FinalAdvantage:
    """Equilibrium against training at the loss at which each training run ends.

    Attributes:
        given, of: names of the CV and of the observable.
        level: mean of the CV over the runs that count.
        equilibrium: mean of the equilibrium curve at the runs' values of the CV.
        equilibrium_error: its standard error, from the spread over independent equilibrium runs; NaN for one.
        training: mean of the observable over the training runs.
        training_error: standard error of the difference at fixed equilibrium curve, from the spread over training runs.
        runs: how many training runs count, for which an equilibrium value is known.
        total: how many there are.
    """

    given: str
    of: str
    level: float
    equilibrium: float
    equilibrium_error: float
    training: float
    training_error: float
    runs: int
    total: int

    @property
    def advantage(self) -> float:
        """Equilibrium minus training."""
        return self.equilibrium - self.training

    @property
    def standard_error(self) -> float:
        """Of the advantage."""
        return float(np.hypot(self.equilibrium_error, self.training_error))


def final_advantage(
    equilibrium: Curve | Sequence[Curve],
    trajectory: Trajectory | str | Path,
    *,
    at: int | None = None,
    last: float = 0.02,
    lowest: float | None = None,
) -> FinalAdvantage:
    r"""Equilibrium minus training at the losses at which training ends, run by run.

        A = mean over r of e(x_r) - y_r

    with x_r and y_r the CV and the observable of training run r, averaged over the end of its training, and e the
    equilibrium curve, between its points on a straight line. A run that ends where no equilibrium is known does not
    count.

    Args:
        equilibrium: the curve of each independent equilibrium run, such as `EntropyLandscape.equilibrium` or
            `EquilibriumTable.fine`; their names say which CV and observable are compared.
        trajectory: of the training runs; or its path.
        at: step at which training ends; None is the last one recorded.
        last: fraction of the steps up to `at` over which a run's values are averaged, above 0.
        lowest: a run that ends below this value of the CV counts with it, and with the observable when it first came
            down to it; for training that goes on to losses at which the equilibrium is not known.

    Raises:
        InputError: no curve, curves of different quantities, no frame in the end of training, or no run with a known
            equilibrium.
    """
    trajectory = opened(trajectory, "final_advantage")
    source = "EntropyLandscape.equilibrium, or EquilibriumTable.fine,"
    equilibrium = require_several("final_advantage", "equilibrium", equilibrium, Curve, source)
    names = {(curve.x_name, curve.y_name) for curve in equilibrium}
    if len(names) != 1:
        raise InputError(f"final_advantage: curves of {len(names)} kinds; give one or more of the same quantities")
    given, of = next(iter(names))
    end = trajectory.steps if at is None else require_integer("final_advantage", "at", at, least=1)
    if end > trajectory.steps:
        raise InputError(f"final_advantage: at = {end} is after the last step, {trajectory.steps}; lower at")
    share = min(require_number("final_advantage", "last", last, above=0.0), 1.0)
    x, y = _ends_of_training(trajectory, given, of, end, share, lowest)
    expected = np.stack([_interpolated(curve, x) for curve in equilibrium])
    known = np.isfinite(expected).all(axis=0)
    runs = int(known.sum())
    if not runs:
        raise InputError(
            f"final_advantage: no training run ends where the equilibrium is known, {given} = {x.min():.3g} to "
            f"{x.max():.3g}; sample equilibrium there"
        )
    curves = expected[:, known].mean(axis=1)  # one number for each equilibrium run
    difference = expected[:, known].mean(axis=0) - y[known]
    return FinalAdvantage(
        given=given,
        of=of,
        level=float(x[known].mean()),
        equilibrium=float(curves.mean()),
        equilibrium_error=float(curves.std(ddof=1) / np.sqrt(len(curves))) if len(curves) > 1 else float("nan"),
        training=float(y[known].mean()),
        training_error=float(difference.std(ddof=1) / np.sqrt(runs)) if runs > 1 else float("nan"),
        runs=runs,
        total=len(x),
    )


def _ends_of_training(
    trajectory: Trajectory, given: str, of: str, end: int, share: float, lowest: float | None
) -> tuple[Floats, Floats]:
    """The CV and the observable of each run, [W], at the end of its training or at `lowest`."""
    whole = _recorded(trajectory, given, of)
    total = max(trajectory.steps, 1)
    until = (end + 0.5) / total  # half a step more, because of rounding
    x, y = (values.mean(axis=0) for values in common_frames(trajectory, [given, of], (1 - share) * end / total, until))
    if lowest is None:
        return x, y
    level = require_number("final_advantage", "lowest", lowest)
    passing = first_passage(*whole, [level])[0]
    below = (x < level) & np.isfinite(passing)
    return np.where(below, level, x), np.where(below, passing, y)


def _interpolated(curve: Curve, x: Floats) -> Floats:
    """The curve at x, NaN beyond its known points."""
    known = np.isfinite(curve.y)
    if not known.any():
        return np.full_like(x, np.nan)
    order = np.argsort(curve.x[known])  # of any order, but np.interp wants it rising
    return np.interp(x, curve.x[known][order], curve.y[known][order], left=np.nan, right=np.nan)
