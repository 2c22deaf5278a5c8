r"""Samples of several states combined: the multistate Bennett acceptance ratio (MBAR).

    exp(-f_k) = sum_n exp(-u_k(x_n)) w_n        1 / w_n = sum_k N_k exp(f_k - u_k(x_n))

w_n is the weight of frame n in the state u = 0. Frames of one state are taken as if they were independent; if they are
correlated the estimate is still consistent, but its error must come from blocks of the record and not from the formula
of the paper.

| symbol | name in code | shape |
|---|---|---|
| u_k(x_n) | `reduced`: reduced potential of state k at frame n | [K, N] |
| N_k | `counts`: number of frames of each state | [K] |
| f_k | `free_energies`: -ln Z_k, that of the first state 0 | [K] |

Reference: M. R. Shirts and J. D. Chodera, J. Chem. Phys. 129, 124105 (2008), doi:10.1063/1.2978177, eqs. 11 and 13;
the minimum of a convex function, found by a trust region and Newton's steps to the limit of rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import InputError

Counts = NDArray[np.int64]
CONVERGED = 1e-6  # change of f_k in one more iteration
LAST_STEP = 1e-9  # of Newton's method, after which the error is its square, far below rounding
LEAST_OVERLAP = 1e-9  # below which f_k are lost in rounding


def solve_mbar(reduced: Floats, counts: Counts, initial: Floats | None = None) -> Floats:
    """Free energies f_k [K] of the states, that of the first one 0.

    Args:
        reduced: u_k(x_n), [K, N], finite, the frames sorted by the state they were sampled from.
        counts: N_k, [K].
        initial: f_k close to the solution, [K], such as that of nearly the same frames, or None.

    Raises:
        InputError: states that have no overlap, so that no solution is found.
    """
    if len(counts) == 1:
        return np.zeros(1)
    found = _minimised(reduced, counts, chained(reduced, counts) if initial is None else initial)
    apart = overlap(reduced, counts, found) < LEAST_OVERLAP
    if apart or not np.abs(_iterated(reduced, counts, found) - found).max() < CONVERGED:
        raise InputError(
            f"MBAR: the {len(counts)} states have no overlap, so that their free energies are not known: some have no "
            "frames in common with the others; put states between them, or run longer"
        )
    return found


def _minimised(reduced: Floats, counts: Counts, initial: Floats) -> Floats:
    """The minimum of the convex function sum_n ln sum_k N_k exp(f_k - u_k(x_n)) - sum_k N_k f_k, which f_k are.

    States without frames do not enter; their f_k follow from those of the others.
    """
    seen = np.flatnonzero(counts)
    u, frames = reduced[seen], counts[seen]
    total, logs = frames.sum(), np.log(frames)[:, None]
    newest: dict[str, Any] = {}  # value, gradient and Hessian share nearly all their work

    def at(f: Floats) -> dict[str, Any]:
        if newest.get("at") is None or not np.array_equal(newest["at"], f):
            full = np.concatenate(([0.0], f))
            mixture = log_mixture(u, frames, full)
            share = np.exp(full[:, None] + logs - u - mixture)  # probability that a frame is of state k, [K, N]
            each = share.sum(axis=1)
            hessian = np.diag(each) - share @ share.T
            value = (mixture.sum() - frames @ full) / total
            newest.update(at=f.copy(), value=value, slope=(each - frames)[1:] / total, hessian=hessian[1:, 1:] / total)
        return newest

    from scipy import optimize

    start = initial[seen] - initial[seen[0]]
    found = optimize.minimize(
        lambda f: at(f)["value"], start[1:], jac=lambda f: at(f)["slope"], hess=lambda f: at(f)["hessian"],
        method="trust-exact", options={"gtol": 1e-12, "max_trust_radius": 100.0},
    )  # fmt: skip
    f = np.zeros(len(counts))
    f[seen[1:]] = _polished(at, found.x)
    if len(seen) < len(counts):
        f = _iterated(reduced, counts, f)
    return f - f[0]


def _polished(at: Callable[[Floats], dict[str, Any]], f: Floats) -> Floats:
    """The minimum to the last digits, from close to it: each of Newton's steps squares the error."""
    last = 1.0
    while True:
        here = at(f)
        try:
            step = np.linalg.solve(here["hessian"], here["slope"])
        except np.linalg.LinAlgError:  # states that are all but apart
            return f
        size = float(np.abs(step).max(initial=0.0))
        if not size < 0.5 * last:  # rounding, or too far for these steps to close in
            return f
        f, last = f - step, size
        if size < LAST_STEP:
            return f


def log_mixture(reduced: Floats, counts: Counts, free_energies: Floats) -> Floats:
    """Ln of sum_k N_k exp(f_k - u_k(x_n)), [N]: minus ln of the weight of each frame in the state u = 0."""
    seen = counts > 0
    exponent = (free_energies[seen] + np.log(counts[seen]))[:, None] - reduced[seen]
    top = exponent.max(axis=0)
    exponent -= top
    return top + np.log(np.exp(exponent, out=exponent).sum(axis=0))


def overlap(reduced: Floats, counts: Counts, free_energies: Floats) -> float:
    """Overlap of the states, from 0 (some cannot be compared with others) to 1 (they are all the same).

    It is 1 - the second largest eigenvalue of `overlap_matrix`; its inverse is about the number of independent frames
    of each state that make f_k known to order one.

    Reference: P. V. Klimovich, M. R. Shirts and D. L. Mobley, J. Comput.-Aided Mol. Des. 29, 397 (2015),
    doi:10.1007/s10822-015-9840-9.
    """
    if len(counts) < 2:
        return 1.0
    gram, root = _gram(reduced, counts, free_energies), np.sqrt(counts)
    eigenvalues = np.linalg.eigvalsh(root[:, None] * gram * root)  # similar to O, symmetric
    return float(max(0.0, 1.0 - eigenvalues[-2]))


def overlap_matrix(reduced: Floats, counts: Counts, free_energies: Floats) -> Floats:
    r"""Probability O_kl that a frame of state k could as well be one of state l, [K, K]; its rows add up to 1.

        O_kl = N_l sum_n w_nk w_nl        w_nk = w_n exp(f_k - u_k(x_n))

    Neighbours below 0.03 overlap too little for MBAR. Reference: as of `overlap`.
    """
    return _gram(reduced, counts, free_energies) * counts


def _gram(reduced: Floats, counts: Counts, free_energies: Floats) -> Floats:
    weights = np.exp(free_energies[:, None] - reduced - log_mixture(reduced, counts, free_energies))
    return np.asarray(weights @ weights.T)


def chained(reduced: Floats, counts: Counts) -> Floats:
    """f_k from each state to the next one by Bennett's acceptance ratio, which is MBAR of two states."""
    ends, steps = np.cumsum(counts), [0.0]
    for k in range(len(counts) - 1):
        both = slice(ends[k] - counts[k], ends[k + 1])  # frames are sorted by state
        steps.append(_bennett(reduced[k + 1, both] - reduced[k, both], int(counts[k]), int(counts[k + 1])))
    return np.cumsum(steps)


def _bennett(work: Floats, first: int, second: int) -> float:
    """f of the second state minus that of the first; `work` [N] is u of the second minus u of the first."""
    from scipy import optimize, special

    if not first or not second:
        return float(work.mean()) if len(work) else 0.0
    ratio = math.log(second / first)
    low, high = work.min() - abs(ratio) - 50.0, work.max() + abs(ratio) + 50.0
    return float(optimize.brentq(lambda f: special.expit(ratio + f - work).sum() - second, low, high))


def _iterated(reduced: Floats, counts: Counts, free_energies: Floats) -> Floats:
    """The right-hand side of the equations for f_k."""
    exponent = -reduced - log_mixture(reduced, counts, free_energies)
    top = exponent.max(axis=1)
    exponent -= top[:, None]
    found = -(top + np.log(np.exp(exponent, out=exponent).sum(axis=1)))
    return found - found[0]
