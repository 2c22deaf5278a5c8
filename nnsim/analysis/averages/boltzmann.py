r"""Averages from walkers that sample exp(-beta s), each at a beta of its own (`nnsim.bias.Boltzmann`).

At a given beta the chains are independent, and so their spread gives the standard error:

    <y>_beta = mean over the chains c of <y>_c,      standard error = standard deviation of <y>_c / sqrt(C)

with <y>_c the mean over the frames of a chain, from which other biases, such as walls, are taken off by their weights
exp(V / kT), as everywhere in `nnsim.analysis`.

Given s the weight exp(-beta s) is the same for all states, so that averages at a given s need no weights and may use
the frames of all chains: `nnsim.analysis.equilibrium` does that.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnsim.analysis.averages.biased_run import BiasedRun, Values, joint_states
from nnsim.analysis.averages.common_frames import common_steps, opened
from nnsim.analysis.averages.kinds import of_formula
from nnsim.analysis.checks import require_fraction
from nnsim.analysis.images import refuse_mean
from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import InputError

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory


def boltzmann_settings(trajectory: Trajectory | str | Path) -> dict[str, Any] | None:
    """Settings, and the name, of the (first) Boltzmann bias of a run, or None if there is none."""
    return next(iter(of_formula(opened(trajectory, "boltzmann_settings"), "slope").values()), None)


def boltzmann_averages(
    trajectory: Trajectory | str | Path, of: str, *, given: str = "ln_loss_train", since: float = 0.5
) -> list[dict[str, float | int]]:
    """Mean of two observables at each beta, with standard errors from the spread over the chains.

    Args:
        trajectory: of a run with a `Boltzmann` bias; or its path.
        of: a recorded observable with one number for each walker.
        given: another one, by which the rows are told apart, such as ln L.
        since: fraction of the run that is left out at the beginning, from 0 to below 1; the ramp is always left out.

    Returns:
        A row for each value of beta, ascending: beta, both means with their standard errors (NaN for a single chain)
        and the number of chains.

    Raises:
        InputError: a run without such a bias, with another one that has states for its walkers, or shorter than its
            ramp, `of` and `given` the same, one that comes round (a parameter in a periodic box), or `since` out of its
            range.
        TrajectoryError: an observable that was not recorded.
    """
    trajectory = opened(trajectory, "boltzmann_averages")
    since = require_fraction("boltzmann_averages", since)
    if of == given:
        raise InputError(f"boltzmann_averages: of and given are both {of!r}; name two observables")
    for name in (of, given):
        refuse_mean("boltzmann_averages", trajectory, name)
    settings = boltzmann_settings(trajectory)
    if settings is None:
        raise InputError(f"{trajectory.path} has no Boltzmann bias; give the trajectory of a run with one")
    x, y, weights = _weighted(trajectory, given, of, max(since, _ramp(trajectory, settings)))
    betas = np.asarray(settings["beta"], dtype=np.float64)
    rows = []
    for beta in np.unique(betas):
        chains = betas == beta
        mine = weights[:, chains]
        (s, s_error), (mean, error) = (
            _over_chains((mine * values[:, chains]).sum(axis=0) / mine.sum(axis=0)) for values in (x, y)
        )
        named = {given: s, f"{given}_error": s_error, of: mean, f"{of}_error": error}
        rows.append({"beta": float(beta), **named, "chains": int(chains.sum())})
    return rows


def _ramp(trajectory: Trajectory, settings: dict[str, Any]) -> float:
    """The fraction of the run that the ramp of beta took."""
    ramp, steps = settings["ramp"], trajectory.steps
    if 0 < steps <= ramp:
        raise InputError(f"{trajectory.path} ends at step {steps}, before beta has risen for {ramp} steps; run longer")
    return float(ramp / max(steps, 1))


def _weighted(trajectory: Trajectory, given: str, of: str, since: float) -> tuple[Floats, Floats, Floats]:
    """Frames [T, W] of both observables, and their weights in each chain without the biases that all chains share."""
    run = BiasedRun(trajectory, final_bias=False)
    several = [*run.windows, *run.ladders]
    if len(several) > 1:
        raise InputError(
            f"{trajectory.path} has the biases {', '.join(several)}, each with states of its own for the walkers; "
            "averages at a beta need a Boltzmann bias alone among such"
        )
    names = list(dict.fromkeys([given, of, *run.names]))
    steps = common_steps(trajectory, names, since * trajectory.steps)
    values, families = Values(trajectory, steps), run.families(steps)
    state, picks = joint_states(families)
    logs = run.shared(values, families, state, picks)
    return values(given), values(of), np.exp(logs - logs.max(axis=0))


def _over_chains(means: Floats) -> tuple[float, float]:
    """Mean of the chains' means, and its standard error."""
    error = means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else np.nan
    return float(means.mean()), float(error)
