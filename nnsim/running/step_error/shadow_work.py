r"""What the work of a finite time step says about the averages of a run.

A step is made of parts that would keep H if they were exact, and of heat baths that are exact. What H + heat gains in
a step, the shadow work w, is the error of the step: a chain that takes it with the probability 1 / (1 + exp(w / kT)),
and else turns back (Barker's test), has no error at all, and moves half as fast as the run for w = 0. The two differ by
the steps that are refused too often or too seldom, (1 + r) / 2 of them with

    r = tanh(w / 2 kT)

each of which leads to the past of the step, seen backwards, instead of its future. So, A followed along the run,

    <A>_dt - <A> = sum over k of <r_t (A_{t+k} - A_{t-1-k})>

Where a step is not its own reverse, as of the splitting BOA, past and future tell different things, and the response of
first order is taken, which follows from <A_t exp(-(w_1 + ... + w_t) / kT)> = <A>:

    <A>_dt - <A> = Cov(A_t, w_1 + ... + w_t) / kT

Without a heat bath there is no stationary state to compare with, but H wanders: sqrt(8 <var_t H> / f) / kT is the same
relative error of <q^2>, (omega dt / 2)^2, of velocity Verlet in f harmonic wells.

| symbol | name in code | shape |
|---|---|---|
| A_t, one or more quantities | `observables` | [K, S, W] |
| w / kT of each step | `work` | [T, W] |
| sum over the last (minus: the next) l steps, mean over l from lag/2 to lag | `_around` | [S, W] |

Reference: D. A. Sivak, J. D. Chodera and G. E. Crooks, Phys. Rev. X 3, 011007 (2013), doi:10.1103/PhysRevX.3.011007
(shadow work); A. A. Barker, Aust. J. Phys. 18, 119 (1965), doi:10.1071/PH650119 (the test); G. E. Crooks, Phys. Rev. E
61, 2361 (2000), doi:10.1103/PhysRevE.61.2361 (averages of a driven path).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST, FEWEST_WALKERS = 8, 16  # windows, or walkers of one, that tell a standard error


class Window(NamedTuple):
    """A stretch of a run, energies in kT.

    Attributes:
        step: at its end.
        moments: means of A, A^2, D and A D over frames and walkers, D being the response, [K, 4].
        variance: of the mean of A D about their means, from the spread of the walkers, [K]; NaN for few of them.
        size, gain: means of |w| and of w in a single step.
        wander: variance of w_1 + ... + w_t in time, mean over the walkers.
    """

    step: int
    moments: Floats
    variance: Floats
    size: float
    gain: float
    wander: float

    def saved(self) -> dict[str, Any]:
        """All of it for a checkpoint, what is not known as None, which equals itself."""
        variance = [None if math.isnan(one) else one for one in self.variance.tolist()]
        return {**self._asdict(), "moments": self.moments.tolist(), "variance": variance}

    @classmethod
    def load(cls, saved: Mapping[str, Any]) -> Window:
        """The window that `saved` told of."""
        moments, variance = (np.array(saved[name], dtype=np.float64) for name in ("moments", "variance"))
        return cls(**{**saved, "moments": moments, "variance": variance})


class Estimate(NamedTuple):
    """Errors [K] and standard errors [K] of the means [K] of A, whose variances are [K]; infinite where not known."""

    error: Floats
    standard_error: Floats
    mean: Floats
    variance: Floats


def window(step: int, lag: int, at: Sequence[int], observables: Floats, work: Floats, symmetric: bool) -> Window:
    """Means of a stretch of T steps.

    Args:
        step: at the end of it.
        lag: number of steps over which the response is followed, at least 2.
        at: after how many steps of it the observables were taken, from `lag` to T - `lag`, [S].
        observables: A, [K, S, W].
        work: w / kT of each step, [T, W].
        symmetric: whether a step is its own reverse.
    """
    total = np.concatenate([np.zeros_like(work[:1]), np.cumsum(np.tanh(work / 2) if symmetric else work, axis=0)])
    times = np.asarray(at)
    past = total[times] - _around(total, times - lag, lag - lag // 2)
    future = _around(total, times + lag // 2, lag - lag // 2) - total[times]
    response = past - future if symmetric else past
    mean = response.mean()
    about = (observables - observables.mean(axis=(1, 2), keepdims=True)) * (response - mean)
    walkers = work.shape[1]
    of_walkers = about.mean(axis=1)
    variance = of_walkers.var(axis=1, ddof=1) / walkers if walkers >= FEWEST_WALKERS else np.full(len(about), math.nan)
    moments = [observables, observables**2, np.broadcast_to(response, observables.shape), observables * response]
    means = np.stack([one.mean(axis=(1, 2)) for one in moments], axis=1)
    wander = float(np.cumsum(work, axis=0).var(axis=0).mean())
    return Window(step, means, variance, float(np.abs(work).mean()), float(work.mean()), wander)


def _around(total: Floats, first: NDArray[np.int64], span: int) -> Floats:
    """Mean of the sums from each of some times to `span` steps later, [S, W]."""
    summed = np.concatenate([np.zeros_like(total[:1]), np.cumsum(total, axis=0)])
    return np.asarray((summed[first + span + 1] - summed[first]) / (span + 1))


def estimate(windows: Sequence[Window]) -> Estimate:
    """Errors of the means of A from some windows of one run, at least one."""
    moments = np.stack([one.moments for one in windows])  # [windows, K, 4]
    count, mean = len(moments), moments.mean(axis=0)
    error = _covariance(mean)
    if count >= FEWEST:  # jackknife
        left_out = _covariance((moments.sum(axis=0) - moments) / (count - 1))
        spread = np.sqrt((count - 1) * left_out.var(axis=0))
    else:
        spread = np.sqrt(np.sum([one.variance for one in windows], axis=0)) / count
    return Estimate(error, np.where(np.isnan(spread), np.inf, spread), mean[:, 0], mean[:, 1] - mean[:, 0] ** 2)


def _covariance(moments: Floats) -> Floats:
    return np.asarray(moments[..., 3] - moments[..., 0] * moments[..., 2])
