r"""What a ladder of temperatures with two sides says: S(ln L), and another observable at given ln L, rung by rung.

With x = ln L and S(x) = ln of the integral of delta(x(q) - x) over the box, so that the Jacobian of the logarithm is in
S, rung k samples exp(S(x) - beta_k L(x)), and

    <dS/dx>_k = beta_k <L>_k                           by parts, where no edge of x is near
    S(x_k) - S(x_1) = integral of dS/dx dx             through the means x_k = <x>_k, by monotone cubics

whether or not the rungs overlap (thermodynamic integration). The curvature of dS/dx over the width of a rung, by which
its mean differs from its value at the mean, is taken off. Where all neighbours overlap by 0.03, MBAR gives S from the
same frames in another way, and the two are held against each other; where they do not, MBAR is refused.

Given x all rungs sample alike, so the observable y at x_k is the constant of a fit of a parabola in x - x_k to the
frames of rung k, and its most probable value the highest point of a Gaussian kernel estimate of the residuals.

| symbol | name in code | shape |
|---|---|---|
| x, y of each frame | `x`, `y` | [T, ladders, K] |
| beta_k <L>_k | `force` | [K] |

All errors leave out one ladder at a time, which are independent, and know nothing of rungs.

References: thermodynamic integration: J. G. Kirkwood, J. Chem. Phys. 3, 300 (1935), doi:10.1063/1.1749657; overlap:
P. V. Klimovich, M. R. Shirts and D. L. Mobley, J. Comput.-Aided Mol. Des. 29, 397 (2015),
doi:10.1007/s10822-015-9840-9.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnsim.analysis.averages.bins import jackknife
from nnsim.analysis.averages.common_frames import opened
from nnsim.analysis.averages.conditions import beta_of
from nnsim.analysis.averages.kinds import bias_settings
from nnsim.analysis.averages.mbar import chained, overlap_matrix, solve_mbar
from nnsim.analysis.averages.profile import profile
from nnsim.analysis.averages.sides import Side, has_sides, ladder_of
from nnsim.analysis.averages.two_sided import TwoSided, two_sided
from nnsim.analysis.checks import require_fraction
from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import InputError, require_number, shown

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

LEAST_OVERLAP = 0.03  # of neighbours, for MBAR
TOLERANCE = 0.03  # of the difference between the sides in a logarithm, by default
MOST_FRAMES = 4000  # of each rung, that MBAR is given
DEGREE = 5  # of the polynomial by which dS/dx is freed of the width of the rungs
BINS = 40  # of ln L, from which MBAR's S is interpolated
SURE = 4.0  # standard errors
NOT = "not at equilibrium"


@dataclass(frozen=True, eq=False)
class Tempering:
    """A ladder, rung by rung from the lowest beta.

    Attributes:
        along: name of ln L, `"ln_loss_train"` for the train loss.
        of: the observable y beside it.
        beta: [K].
        x, x_error: mean of ln L_train on each rung, [K].
        y, y_error: mean of y at that ln L_train, [K].
        mode, mode_error: the most probable y there, [K].
        integral, integral_error: S, 0 at the first rung, by thermodynamic integration, [K].
        integration: what that changes by at the last rung if every other rung is left out, over 3: about its error, or
            more; NaN for fewer than 5 rungs.
        mbar, mbar_error: S by MBAR, [K]; NaN where it is refused.
        refused: why it is, in words; empty if it is not.
        overlap: overlap matrix of the rungs, [K, K].
        swap_rate: of neighbours, [K - 1].
        trips: round trips of all walkers along the ladder.
        sides: the two sides, or None where there is one only.
        ladders: number of independent ladders.
    """

    along: str
    of: str
    beta: Floats
    x: Floats
    x_error: Floats
    y: Floats
    y_error: Floats
    mode: Floats
    mode_error: Floats
    integral: Floats
    integral_error: Floats
    integration: float
    mbar: Floats
    mbar_error: Floats
    refused: str
    overlap: Floats
    swap_rate: Floats
    trips: int
    sides: TwoSided | None
    ladders: int

    @property
    def entropy(self) -> Floats:
        """S, 0 at the first rung, [K]: that of MBAR or, where it is refused, of thermodynamic integration."""
        return self.integral if self.refused else self.mbar

    @property
    def entropy_error(self) -> Floats:
        """Its standard error, [K]."""
        return self.integral_error if self.refused else self.mbar_error

    @property
    def neighbour_overlap(self) -> Floats:
        """Overlap of each rung with the next, [K - 1]."""
        return np.minimum(np.diag(self.overlap, 1), np.diag(self.overlap, -1))

    @property
    def problems(self) -> list[str]:
        """What speaks against equilibrium, in words; empty if nothing does."""
        found = ["all ladders began alike, so that nothing tells equilibrium"] if self.sides is None else []
        found += [] if self.sides is None else self.sides.problems
        if not self.refused and not self.trips:
            found.append("no walker made a round trip along the ladder, though its rungs overlap")
        apart = np.abs(self.mbar - self.integral)
        spread = SURE * np.hypot(self.mbar_error, self.integral_error) + np.nan_to_num(abs(self.integration), nan=0.0)
        if bool((apart > np.maximum(spread, 0.05)).any()):
            found.append(f"S by MBAR and by thermodynamic integration differ by {np.nanmax(apart):.2g}")
        return found

    @property
    def at_equilibrium(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.problems

    @property
    def verdict(self) -> str:
        """In a sentence."""
        if self.problems:
            return f"{NOT}: {'; '.join(self.problems)}"
        assert self.sides is not None
        return self.sides.verdict

    def rows(self) -> list[dict[str, float | str]]:
        """One dictionary for each rung; `equilibrium` says where the numbers are none of equilibrium."""
        word = "at equilibrium" if self.at_equilibrium else NOT
        found: list[dict[str, float | str]] = []
        for k, beta in enumerate(self.beta):
            row: dict[str, float | str] = {"beta": float(beta)}
            for name, value in (
                (self.along, self.x), (f"{self.along}_error", self.x_error),
                (self.of, self.y), (f"{self.of}_error", self.y_error),
                (f"{self.of}_most_probable", self.mode), (f"{self.of}_most_probable_error", self.mode_error),
                ("entropy", self.entropy), ("entropy_error", self.entropy_error),
                ("entropy_by_integration", self.integral), ("entropy_by_integration_error", self.integral_error),
            ):  # fmt: skip
                row[name] = float(value[k])
            last = k == len(self.beta) - 1
            row["overlap_with_next"] = math.nan if last else float(self.neighbour_overlap[k])
            row["swap_rate_with_next"] = math.nan if last else float(self.swap_rate[k])
            if self.sides is not None:
                row |= self._difference(k)
            found.append({**row, "equilibrium": word})
        return found

    def _difference(self, k: int) -> dict[str, float | str]:
        """Of the sides in y on a rung."""
        assert self.sides is not None
        one = [each for each in self.sides.observables if each.base == self.of][k]
        return {"side_a": one.mean[0], "side_b": one.mean[1], "difference": one.difference,
                "difference_error": one.standard_error, "sides": one.verdict}  # fmt: skip


def tempering(
    run: Trajectory | Path | str, of: str | None = None, *, since: float = 0.5, tolerance: float | None = None
) -> Tempering:
    """S(ln L_train), and another observable at given ln L_train, from a ladder of `nnsim.tempering`.

    Args:
        run: a run on a ladder of beta along L, U = 0; best one whose walkers began on two sides.
        of: the observable y that is averaged at given ln L; None is ln_loss_test or, without one, L itself.
        since: fraction of the run that is left out at its beginning, from 0 to below 1.
        tolerance: standard error of the difference between the sides that is asked of y, above 0; None is 0.03 where y
            is a logarithm, and no limit of others.

    Raises:
        InputError: a run without such a ladder, or with fewer than 3 ladders or frames; a number out of its range.
        TrajectoryError: a run that cannot be read, or has not recorded ln L or y.
    """
    owner = "tempering"
    since = require_fraction(owner, since)
    if tolerance is not None:
        tolerance = require_number(owner, "tolerance", tolerance, above=0.0)
    run = opened(run, owner)
    name, rungs = _ladder(run)
    whole = Side(run, "")
    cv = bias_settings(run)[name]["cvs"][0]
    along = f"ln_{cv}"
    step, x = whole.record(along)
    of = ("ln_loss_test" if "ln_loss_test" in run else cv) if of is None else of
    used = step > max(since * step[-1], whole.after)
    ladders = x.shape[1] // rungs
    if ladders < 3 or used.sum() < 8:
        raise InputError(
            f"tempering: {run.path} has {int(used.sum())} frames of {ladders} ladders to tell errors from; give "
            "8 frames and 3 ladders or more"
        )
    if not isinstance(of, str) or of == along or of not in run or run[of].shape[1:] != (x.shape[1],):
        raise InputError(
            f"tempering: of = {shown(of)} must be a recorded observable with a number for each walker, other than "
            f"{along}; there is {', '.join(one for one in run.observables if one != along)}"
        )
    at, y = whole.record(of)
    if not np.array_equal(at, step):
        raise InputError(f"tempering: {of} was not recorded with {along}; record both at one interval")
    shape = (int(used.sum()), ladders, rungs)
    x, y = x[used].reshape(shape), y[used].reshape(shape)
    beta = np.array(beta_of(run, name, bias_settings(run)[name])[:rungs])
    sides = None
    if has_sides(run):
        limit = TOLERANCE if of.startswith("ln_") else math.inf
        asked = limit if tolerance is None else tolerance
        sides = two_sided(run, of=[along, of], since=since, tolerance={of: asked} if math.isfinite(asked) else None)
    matrix = _overlaps(x, beta)
    found: dict[str, Any] = {"overlap": matrix, "sides": sides, "ladders": ladders}
    found |= _by_ladders(x, y, beta)
    found |= _by_mbar(run, along, found["x"], matrix, since)
    rates = run[f"{name}_swap_rate"][-1]
    trips = int(run[f"{name}_round_trips"][-1])
    return Tempering(along=along, of=of, beta=beta, swap_rate=np.asarray(rates, dtype=float), trips=trips, **found)


def _ladder(run: Trajectory) -> tuple[str, int]:
    ladder = ladder_of(run)
    settings = bias_settings(run)
    cvs = None if ladder is None else settings[ladder[0]].get("cvs")
    flat = bool((run.header.get("system") or {}).get("flat"))
    if ladder is None or not cvs or len(settings) > 1 or not flat:
        raise InputError(
            f"tempering: {run.path} has no ladder of beta as its only bias, with U = 0; give a run of nnsim.tempering, "
            "or of ReplicaExchange(cv.Loss('train'), ...)"
        )
    return ladder


def _by_ladders(x: Floats, y: Floats, beta: Floats) -> dict[str, Any]:
    """All that the ladders [T, ladders, K] tell one by one, with errors that leave out one of them at a time."""
    ladders = x.shape[1]
    centre = x.mean(axis=(0, 1))
    at_centre, residual = _fitted(x - centre, y)
    keep = [np.arange(ladders) != one for one in range(ladders)]

    def along(rows: Any) -> tuple[Floats, ...]:
        mean, y_there = x[:, rows].mean(axis=(0, 1)), at_centre[rows].mean(axis=0)
        return mean, y_there, y_there + _modes(residual[:, rows]), _integral(mean, _slopes(x[:, rows], beta), centre)

    found, left_out = along(slice(None)), [along(rows) for rows in keep]
    names = ("x", "y", "mode", "integral")
    errors = [jackknife(np.stack([one[place] for one in left_out])) for place in range(len(names))]
    rows = dict(zip(names, found, strict=True))
    rows |= {f"{name}_error": error for name, error in zip(names, errors, strict=True)}
    return {**rows, "integration": _integration_error(centre, _slopes(x, beta))}


def _fitted(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """y at x = 0 of each ladder, [ladders, K], by one parabola for each rung, and what is left of each frame."""
    found, residual = np.empty(x.shape[1:]), np.empty(y.shape)
    for k in range(x.shape[2]):
        powers = np.stack([x[..., k], x[..., k] ** 2], axis=-1)
        about = powers - powers.mean(axis=(0, 1))
        slopes = np.linalg.lstsq(about.reshape(-1, 2), (y[..., k] - y[..., k].mean()).reshape(-1), rcond=None)[0]
        flat = y[..., k] - powers @ slopes
        found[:, k] = flat.mean(axis=0)
        residual[..., k] = flat - flat.mean()
    return found, residual


def _modes(residual: Floats) -> Floats:
    """Most probable residual of each rung, [K]: the highest point of a kernel estimate of Silverman's width."""
    found = np.zeros(residual.shape[-1])
    for k in range(len(found)):
        values = residual[..., k].reshape(-1)
        spread = min(values.std(), float(np.subtract(*np.percentile(values, [75, 25]))) / 1.349) or values.std()
        if not spread:
            continue
        width = 0.9 * spread * len(values) ** -0.2
        low, high = np.percentile(values, [1, 99])
        edges = np.linspace(low, high, 401)
        counts, _ = np.histogram(values, edges)
        centers = (edges[1:] + edges[:-1]) / 2
        density = np.exp(-0.5 * ((centers[:, None] - centers) / width) ** 2) @ counts
        found[k] = centers[density.argmax()]
    return found


def _slopes(x: Floats, beta: Floats) -> Floats:
    """dS/dx at the mean x of each rung, [K], from x of frames [T, ladders, K].

    beta <L> is the mean of dS/dx over the rung, not its value at the mean. For the polynomial of a low degree whose
    means over the rungs are nearest to them the difference is known; what the polynomial leaves is taken as it is.
    """
    centre, scale = float(x.mean()), float(x.std()) or 1.0
    powers = np.arange(min(DEGREE, x.shape[2] - 2) + 1)
    scaled = (x - centre) / scale
    means = np.stack([(scaled**power).mean(axis=(0, 1)) for power in powers], axis=1)  # [K, powers]
    each = beta * np.exp(x).mean(axis=0)  # of each ladder
    force, sure = each.mean(axis=0), 1 / np.maximum(each.std(axis=0), 1e-12)
    found = np.linalg.lstsq(sure[:, None] * means, sure * force, rcond=None)[0]
    there = scaled.mean(axis=(0, 1))[:, None] ** powers
    return np.asarray(force + (there - means) @ found)


def _curve(x: Floats, slopes: Floats) -> Any:
    """Monotone cubics through values [K] at x [K], which must fall with beta; None if they do not."""
    from scipy.interpolate import PchipInterpolator

    order = np.argsort(x)
    return PchipInterpolator(x[order], slopes[order]) if (np.diff(x[order]) > 0).all() else None


def _integral(x: Floats, slopes: Floats, at: Floats) -> Floats:
    """S at some x, [K], 0 at the first of them, from dS/dx at the means of the rungs."""
    curve = _curve(x, slopes)
    if curve is None:
        return np.full(len(at), np.nan)
    whole = curve.antiderivative()(np.clip(at, x.min(), x.max()))
    return np.asarray(whole - whole[0])


def _integration_error(x: Floats, force: Floats) -> float:
    """Error of the integral over all rungs: that of every other rung is 4 times as large, or more."""
    if len(x) < 5:
        return math.nan
    some = np.unique([*range(0, len(x), 2), len(x) - 1])
    ends = x[[0, -1]]
    return float(abs(_integral(x, force, ends)[1] - _integral(x[some], force[some], ends)[1]) / 3)


# ----------------------------------------------------------------------------------------------------------------- MBAR


def _overlaps(x: Floats, beta: Floats) -> Floats:
    """Overlap matrix of the rungs, [K, K]."""
    stride = -(-x.shape[0] * x.shape[1] // MOST_FRAMES)
    values = x[::stride].reshape(-1, x.shape[2]).T  # of each rung, [K, frames]
    reduced = beta[:, None] * np.exp(values.reshape(-1))
    counts = np.full(len(beta), values.shape[1])
    first = chained(reduced, counts)
    with contextlib.suppress(InputError):  # of rungs too far apart: from neighbour to neighbour is as good then
        first = solve_mbar(reduced, counts, first)
    return overlap_matrix(reduced, counts, first)


def _by_mbar(run: Trajectory, along: str, at: Floats, matrix: Floats, since: float) -> dict[str, Any]:
    """S at some ln L, 0 at the first, or why not."""
    nothing = np.full(len(at), np.nan)
    neighbours = np.minimum(np.diag(matrix, 1), np.diag(matrix, -1))
    worst = int(neighbours.argmin())
    if neighbours[worst] < LEAST_OVERLAP:
        told = f"rungs {worst} and {worst + 1} overlap by {neighbours[worst]:.2g}, less than {LEAST_OVERLAP:g}"
        return {"mbar": nothing, "mbar_error": nothing, "refused": told}
    low, high = float(at.min()), float(at.max())
    margin = 2 * (high - low) / BINS
    found = profile(run, along, bins=BINS, between=(low - margin, high + margin), since=since).landscape()
    values = np.array([found.at(**{along: float(one)}) for one in at])
    errors = np.interp(at, found.axes[0].centers, np.nan_to_num(np.asarray(found.error, dtype=np.float64), nan=0.0))
    return {"mbar": values - values[0], "mbar_error": np.hypot(errors, errors[0]), "refused": ""}
