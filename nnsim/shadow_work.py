r"""What the work of a finite time step says about the averages of a run.

A step is made of parts that would keep H if they were exact, and of heat baths that are exact. What H + heat gains in
a step, the shadow work w, is the error of the step. Walkers that start in equilibrium obey <A_t exp(-W / kT)> = <A>,
with W the work of all steps on the way to t, so that to lowest order the error moves the mean of A = U + V by

    <A>_dt - <A> = Cov(A_t, W) / kT

| symbol | name in code | shape |
|---|---|---|
| A_t / kT | `potential` | [T, W] |
| w / kT of the step that leads to t | `work` | [T, W] |
| W of the last l steps, mean over l from lag/2 to lag | `past` | [T', W] |

The error is given relative to what a change of temperature would do, as (<A>_dt - <A>) kT / max(Var A, f kT^2 / 2), with
f the number of degrees of freedom: in a harmonic well that is the relative error of <q^2>.

Reference: D. A. Sivak, J. D. Chodera and G. E. Crooks, Phys. Rev. X 3, 011007 (2013), doi:10.1103/PhysRevX.3.011007;
the average along a driven path: G. E. Crooks, Phys. Rev. E 61, 2361 (2000), doi:10.1103/PhysRevE.61.2361.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST = 8  # windows, or walkers of one, that tell a standard error


class Window(NamedTuple):
    """Means over the frames and the walkers of a stretch of a run, energies in kT.

    Attributes:
        step: at its end.
        length: number of steps that were measured.
        potential, square, past, product: means of A, A^2, W and A W.
        variance: of the mean of A W about their means, from the spread of the walkers; NaN for few of them.
        size, gain: means of |w| and of w in a single step.
    """

    step: int
    length: int
    potential: float
    square: float
    past: float
    product: float
    variance: float
    size: float
    gain: float


class Estimate(NamedTuple):
    """Relative error of the mean potential energy, and its standard error; infinite where that is not known."""

    error: float
    standard_error: float


def window(step: int, potential: Floats, work: Floats, lag: int) -> Window:
    """Means of a stretch of T > lag steps.

    Args:
        step: at the end of it.
        potential: A_t / kT after each step, [T, W].
        work: w / kT of each step, [T, W].
        lag: number of steps over which the response is followed, from 2 to T.
    """
    total = np.concatenate([np.zeros_like(work[:1]), np.cumsum(work, axis=0)])  # before each step, and at the end
    summed = np.concatenate([np.zeros_like(work[:1]), np.cumsum(total, axis=0)])
    ends, nearest = np.arange(lag, len(total)), lag // 2
    before = (summed[ends - nearest + 1] - summed[ends - lag]) / (lag - nearest + 1)
    past, now = total[ends] - before, potential[ends - 1]
    about = (now - now.mean()) * (past - past.mean())
    walkers = work.shape[1]
    variance = float(about.mean(axis=0).var(ddof=1) / walkers) if walkers >= FEWEST else math.nan
    means = (float(one.mean()) for one in (now, now**2, past, now * past))
    return Window(step, len(work), *means, variance, float(np.abs(work).mean()), float(work.mean()))


def estimate(windows: Sequence[Window], freedom: int) -> Estimate:
    """Relative error of <A> from some windows of one run, with its standard error.

    Args:
        windows: at least one.
        freedom: number of degrees of freedom f.
    """
    rows = np.array([one[2:6] for one in windows])
    error = _relative(rows.mean(axis=0), freedom)
    count = len(rows)
    if count >= FEWEST:  # jackknife
        left_out = np.array([_relative(np.delete(rows, i, axis=0).mean(axis=0), freedom) for i in range(count)])
        return Estimate(error, float(np.sqrt((count - 1) * np.mean((left_out - left_out.mean()) ** 2))))
    scale = _scale(rows.mean(axis=0), freedom)
    spread = math.sqrt(sum(one.variance for one in windows)) / count / scale
    return Estimate(error, math.inf if math.isnan(spread) else spread)


def _relative(means: Floats, freedom: int) -> float:
    potential, _, past, product = means
    return float((product - potential * past) / _scale(means, freedom))


def _scale(means: Floats, freedom: int) -> float:
    return float(max(means[1] - means[0] ** 2, freedom / 2))
