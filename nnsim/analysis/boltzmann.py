r"""Averages from walkers that sample exp(-beta s), each at a beta of its own (`nnsim.bias.Boltzmann`).

At a given beta the chains are independent, and so their spread gives the standard error:

    <y>_beta = mean over the chains c of <y>_c,      standard error = standard deviation of <y>_c / sqrt(C)

Given s the weight exp(-beta s) is the same for all states, so that averages at a given s need no weights and may use
the frames of all chains: `nnsim.analysis.equilibrium` does that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnsim.analysis.axes import Floats
from nnsim.analysis.frames import common_frames
from nnsim.analysis.images import refuse_mean
from nnsim.errors import InputError

if TYPE_CHECKING:
    from nnsim.trajectory import Trajectory


def boltzmann_settings(trajectory: Trajectory) -> dict[str, Any] | None:
    """Settings, and the name, of the Boltzmann bias of a run, or None if there is none.

    Raises:
        InputError: one beside another bias that weights states, whose frames of one s do not have the same weight.
    """
    biases = trajectory.header.get("bias", {})
    known = {name: one for name, one in biases.items() if one.get("type") in ("Boltzmann", "WangLandau")}
    found = [{**settings, "name": name} for name, settings in known.items() if settings["type"] == "Boltzmann"]
    if found and len(known) > 1:
        raise InputError(
            f"{trajectory.path} has the biases {', '.join(known)}; averages of a Boltzmann bias need it alone"
        )
    return found[0] if found else None


def boltzmann_averages(
    trajectory: Trajectory, of: str, *, given: str = "ln_loss_train", since: float = 0.5
) -> list[dict[str, float | int]]:
    """Mean of two observables at each beta, with standard errors from the spread over the chains.

    Args:
        trajectory: of a run with a `Boltzmann` bias.
        of: a recorded observable with one number for each walker.
        given: another one, by which the rows are told apart, such as ln L.
        since: fraction of the run that is left out at the beginning, from 0 to below 1; the ramp is always left out.

    Returns:
        A row for each value of beta, ascending: beta, both means with their standard errors (NaN for a single chain)
        and the number of chains.

    Raises:
        InputError: a run without such a bias or shorter than its ramp, `of` and `given` the same, one that comes round
            (a parameter in a periodic box), or `since` out of its range.
        TrajectoryError: an observable that was not recorded.
    """
    require_fraction("boltzmann_averages", since)
    if of == given:
        raise InputError(f"boltzmann_averages: of and given are both {of!r}; name two observables")
    for name in (of, given):
        refuse_mean("boltzmann_averages", trajectory, name)
    settings = boltzmann_settings(trajectory)
    if settings is None:
        raise InputError(f"{trajectory.path} has no Boltzmann bias; give the trajectory of a run with one")
    x, y = common_frames(trajectory, [given, of], since_ramp(trajectory, settings, since))
    betas = np.asarray(settings["beta"], dtype=np.float64)
    rows = []
    for beta in np.unique(betas):
        chains = betas == beta
        (s, s_error), (mean, error) = (_over_chains(values[:, chains].mean(axis=0)) for values in (x, y))
        named = {given: s, f"{given}_error": s_error, of: mean, f"{of}_error": error}
        rows.append({"beta": float(beta), **named, "chains": int(chains.sum())})
    return rows


def since_ramp(trajectory: Trajectory, settings: dict[str, Any], since: float) -> float:
    """`since`, or the fraction of the run that the ramp of beta took, if that is more."""
    ramp, steps = settings["ramp"], trajectory.steps
    if 0 < steps <= ramp:
        raise InputError(f"{trajectory.path} ends at step {steps}, before beta has risen for {ramp} steps; run longer")
    return max(since, ramp / max(steps, 1))


def require_fraction(owner: str, since: float) -> None:
    """Raise `InputError` unless `since` is from 0 to below 1."""
    if not 0 <= since < 1:
        raise InputError(f"{owner}: since = {since:g} must be at least 0 and below 1; change since")


def _over_chains(means: Floats) -> tuple[float, float]:
    """Mean of the chains' means, and its standard error."""
    error = means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else np.nan
    return float(means.mean()), float(error)
