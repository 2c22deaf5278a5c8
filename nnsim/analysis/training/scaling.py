r"""How a quantity grows with another: power laws and logarithmic laws fitted to means with errors.

| symbol | meaning | code |
|---|---|---|
| x_i, y_i | abscissa and mean of point i | `x`, `y` [n] |
| e_i | standard error of y_i | `error` [n] |
| a, b | y = b x^a (power law), or y = b + a ln x (logarithmic law) | `exponent` (`slope`), `prefactor` (`intercept`) |

Both are straight lines in u = ln x, with v = ln y of error s_i = e_i / y_i, or v = y of error s_i = e_i.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nnsim.analysis.landscape.axes import Floats
from nnsim.analysis.training.sweep_table import Conditions, SweepTable, is_numeric, label, pairs_of
from nnsim.errors import InputError, NNSimWarning, require_choice, require_flag, shown

LAWS = ("power", "log")


@dataclass(frozen=True)
class PowerLaw:
    """y = prefactor x^exponent.

    Attributes:
        exponent, prefactor: of the fit, each with its standard error.
        chi2: how far the points are from the line in units of their errors, see `fit_power`; about n - 2 where the
            law holds and the errors are right. NaN if no errors were given.
        n: number of points.
    """

    exponent: float
    exponent_error: float
    prefactor: float
    prefactor_error: float
    chi2: float
    n: int

    def __call__(self, x: ArrayLike) -> Floats:
        """The law at x."""
        return np.asarray(self.prefactor * np.asarray(x, dtype=np.float64) ** self.exponent)


@dataclass(frozen=True)
class LogarithmicLaw:
    """y = intercept + slope ln x: y grows by `slope` with each factor of e in x.

    Attributes:
        slope, intercept: of the fit, each with its standard error; the intercept is y at x = 1.
        chi2, n: as in `PowerLaw`.
    """

    slope: float
    slope_error: float
    intercept: float
    intercept_error: float
    chi2: float
    n: int

    def __call__(self, x: ArrayLike) -> Floats:
        """The law at x."""
        return np.asarray(self.intercept + self.slope * np.log(np.asarray(x, dtype=np.float64)))


@dataclass(frozen=True, eq=False)
class Scaling:
    """The law of one set of the other settings of a sweep.

    Attributes:
        given: the other swept settings and their values, such as {"depth": 3}.
        x_name, value: names of the setting and of the column.
        x, mean, error: the points of the fit, [n]; the error is the standard error over the seeds, NaN if not known.
        seeds: number of seeds in each mean, [n].
        law: the fit.
    """

    given: dict[str, Any]
    x_name: str
    value: str
    x: Floats
    mean: Floats
    error: Floats
    seeds: tuple[int, ...]
    law: PowerLaw | LogarithmicLaw

    def row(self) -> dict[str, Any]:
        """One row of a table: the other settings, and the numbers of the law."""
        law = self.law
        numbers = {name: getattr(law, name) for name in law.__dataclass_fields__ if name not in ("chi2", "n")}
        settings = {name: label(value) for name, value in self.given.items()}
        degrees = law.n - 2
        reduced = law.chi2 / degrees if degrees else math.nan
        return {**settings, **numbers, "chi2": law.chi2, "chi2_per_degree": reduced, "points": law.n}


def fit_power(x: ArrayLike, y: ArrayLike, error: ArrayLike | None = None, *, weighted: bool = True) -> PowerLaw:
    r"""Fit y = b x^a by least squares of ln y on ln x.

        minimise \sum_i w_i (ln y_i - ln b - a ln x_i)^2,    w_i = 1 / s_i^2 or 1,    s_i = e_i / y_i
        a = \sum_i c_i ln y_i,    c_i = w_i (u_i - <u>) / \sum_j w_j (u_j - <u>)^2
        error of a:  sqrt(\sum_i c_i^2 s_i^2);    error of b:  b times that of ln b

    with <u> the mean of u = ln x with the weights w. Without errors all weights are 1, and s^2 is that of the residuals
    r_i, \sum_i r_i^2 / (n - 2). chi2 = \sum_i r_i^2 / s_i^2 with weights; with equal weights
    \sum_i r_i^2 / (mean of s_i^2).

    Args:
        x: [n], above 0; at least two different ones, and three points if there are no errors.
        y: [n], above 0.
        error: standard errors of y, [n], above 0; None takes the scatter around the line.
        weighted: weights 1 / s_i^2, which are best where the errors are known well. False weighs all points alike, with
            the same propagation of errors: better where each error is itself an estimate from a few seeds, as weights
            would favour the points whose error is small by chance. Measured on six points with the same noise, the
            deviations of the exponent are then 2.4 times as large as its error says (three seeds) or 1.17 times (ten),
            and with equal weights 1.17 and 1.04 times.

    Raises:
        InputError: numbers that are not finite or not above 0, arrays of different length, too few points.

    >>> law = fit_power([10.0, 100.0, 1000.0], [2.0, 20.0, 200.0])
    >>> round(law.exponent, 12), round(law.prefactor, 12)
    (1.0, 0.2)
    """
    require_flag("fit_power", "weighted", weighted)
    x, y, error = _checked("fit_power", x, y, error)
    _require_positive("fit_power", "y", y)
    line = _line(np.log(x), np.log(y), None if error is None else error / y, weighted)
    prefactor = math.exp(line.intercept)
    return PowerLaw(line.slope, line.slope_error, prefactor, prefactor * line.intercept_error, line.chi2, len(x))


def fit_logarithm(
    x: ArrayLike, y: ArrayLike, error: ArrayLike | None = None, *, weighted: bool = True
) -> LogarithmicLaw:
    """Fit y = b + a ln x by least squares; arguments, errors and chi2 as in `fit_power`, but y may have any sign.

    >>> law = fit_logarithm([1.0, 10.0, 100.0], [0.5, 0.5 + np.log(10), 0.5 + np.log(100)])
    >>> round(law.slope, 12), round(law.intercept, 12)
    (1.0, 0.5)
    """
    require_flag("fit_logarithm", "weighted", weighted)
    x, y, error = _checked("fit_logarithm", x, y, error)
    line = _line(np.log(x), y, error, weighted)
    return LogarithmicLaw(line.slope, line.slope_error, line.intercept, line.intercept_error, line.chi2, len(x))


def scaling(
    table: SweepTable,
    x: str,
    value: str,
    *,
    law: str = "power",
    given: Conditions | None = None,
    weighted: bool = False,
) -> list[Scaling]:
    """How a column of a sweep's table grows with a setting, for each set of values of the other swept settings.

    The points of a fit are means over the seeds with their standard errors (of a single seed, over its walkers). They
    weigh the same unless `weighted`, see `fit_power`. Where an error is not known or 0, the scatter around the line
    gives the errors of that fit.

    Args:
        table: from `read_sweep`.
        x: a swept setting, numbers above 0.
        value: a column, such as `ntk_trace_train_first`.
        law: `"power"`, y = b x^a, or `"log"`, y = b + a ln x.
        given: only points with these values of other settings, such as {"depth": 3}; a mapping or pairs.
        weighted: weights from the standard errors.

    Returns:
        One fit for each set, in the order of the sweep. Sets with too few results are left out with a warning.

    Raises:
        InputError: an unknown law, setting or column, a setting that is not a number above 0, values that have no
            logarithm, or no set with enough results.
    """
    require_choice("scaling", "law", law, LAWS)
    require_flag("scaling", "weighted", weighted)
    if not isinstance(table, SweepTable):
        raise InputError(f"scaling: table = {shown(table)} must be a SweepTable; give what read_sweep gives")
    table = table.where(pairs_of("scaling: given", given or ()))
    if x not in table.swept or not is_numeric(table[x].tolist()):
        numbers = [name for name in table.swept if name != "seed" and is_numeric(table[name].tolist())]
        raise InputError(
            f"scaling: x = {x!r} must be a swept setting of numbers; choose one of {', '.join(numbers) or '(none)'}"
        )
    others = [name for name in table.swept if name not in (x, "seed")]
    columns = [table[name].tolist() for name in others]
    sets = dict.fromkeys(zip(*columns, strict=True)) if others else {(): None}
    found, poor = [], []
    for values in sets:
        chosen = dict(zip(others, values, strict=True))
        points = _points(table, chosen, x, value)
        least = 2 if _known(points[2]) else 3
        if len(points[0]) < least:
            poor.append(f"{_named(chosen)}: {len(points[0])} of at least {least} points")
            continue
        found.append(_fit(chosen, x, value, points, law, weighted))
    if not found:
        raise InputError(f"scaling: too few results of {value} ({'; '.join(poor)}); run more of the sweep")
    if poor:
        warnings.warn(f"scaling: not fitted, for want of results: {'; '.join(poor)}", NNSimWarning, stacklevel=2)
    return found


_Points = tuple[Floats, Floats, Floats, tuple[int, ...]]


def _points(table: SweepTable, given: dict[str, Any], x: str, value: str) -> _Points:
    """Those with a result: x, means, standard errors and numbers of seeds."""
    grid = table.where(given).mean_over_seeds(x, None, value)
    known = np.isfinite(grid.mean)
    seeds = tuple(grid.seeds[known].tolist())
    return np.array(grid.x_values, dtype=np.float64)[known], grid.mean[known], grid.error[known], seeds


def _known(error: Floats) -> bool:
    return bool(np.all(np.isfinite(error) & (error > 0)))


def _named(given: dict[str, Any]) -> str:
    return ", ".join(f"{name}={label(one)}" for name, one in given.items()) or "all points"


def _fit(given: dict[str, Any], x: str, value: str, points: _Points, law: str, weighted: bool) -> Scaling:
    places, mean, error, seeds = points
    if law == "power" and mean.min() <= 0:
        raise InputError(
            f"scaling: {value} = {mean.min():.4g} at {_named({**given, x: places[mean.argmin()].item()})} has no "
            "logarithm; take law='log' (--law log)"
        )
    fit = fit_power if law == "power" else fit_logarithm
    known = error if _known(error) else None
    return Scaling(given, x, value, places, mean, error, seeds, fit(places, mean, known, weighted=weighted))


# -------------------------------------------------------------------------------------------------------- the line


@dataclass(frozen=True)
class _Line:
    slope: float
    slope_error: float
    intercept: float
    intercept_error: float
    chi2: float


def _line(u: Floats, v: Floats, s: Floats | None, weighted: bool) -> _Line:
    """Least squares of v = intercept + slope u, with errors s of v."""
    w = 1 / s**2 if s is not None and weighted else np.ones_like(u)
    w = w / w.sum()
    middle = w @ u
    c = w * (u - middle)
    c = c / (c @ (u - middle))
    slope = float(c @ v)
    intercept = float(w @ v) - slope * middle
    residuals = v - intercept - slope * u
    if s is None:
        variance, chi2 = np.full(len(u), residuals @ residuals / (len(u) - 2)), math.nan
    else:
        variance = s**2
        chi2 = float(np.sum(residuals**2 / (variance if weighted else variance.mean())))
    to_intercept = w - middle * c
    slope_error, intercept_error = (math.sqrt(of**2 @ variance) for of in (c, to_intercept))
    return _Line(slope, slope_error, float(intercept), intercept_error, chi2)


def _checked(owner: str, x: ArrayLike, y: ArrayLike, error: ArrayLike | None) -> tuple[Floats, Floats, Floats | None]:
    arrays = {
        name: _numbers(owner, name, one)  # None is no list of numbers, which is said
        for name, one in (("x", x), ("y", y), ("error", error))
        if name != "error" or one is not None
    }
    x, y, error = arrays["x"], arrays["y"], arrays.get("error")
    if len({len(one) for one in arrays.values()}) > 1:
        lengths = ", ".join(f"{name}: {len(one)}" for name, one in arrays.items())
        raise InputError(f"{owner}: arrays of different length ({lengths}); give one number for each point")
    least = 2 if error is not None else 3
    if len(x) < least:
        with_out = "with" if error is not None else "without"
        raise InputError(f"{owner}: {len(x)} points; a line {with_out} errors needs at least {least}")
    _require_positive(owner, "x", x)
    if error is not None:
        _require_positive(owner, "error", error)
    if len(set(x.tolist())) < 2:
        raise InputError(f"{owner}: all points have x = {x[0]:g}; give at least two different x")
    return x, y, error


def _numbers(owner: str, name: str, given: ArrayLike | None) -> Floats:
    try:
        found = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{owner}: {name} must be a list of numbers; change {name}") from None
    if found.ndim != 1 or not np.isfinite(found).all():
        raise InputError(f"{owner}: {name} must be a list of finite numbers; change {name}, or leave points out")
    return found


def _require_positive(owner: str, name: str, values: Floats) -> None:
    if len(values) and values.min() <= 0:
        raise InputError(f"{owner}: {name} = {values.min():g} must be above 0; change {name}, or leave the point out")
