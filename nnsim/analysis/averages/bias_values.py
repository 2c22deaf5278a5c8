"""The biases of a recorded run, evaluated at its frames without torch.

| symbol | name in code | shape |
|---|---|---|
| V_k / kT | `reduced`: the bias of state k at a frame | [K, T, W] |
| V / kT of what all walkers share | `shared` | [T, W] |
| k(t, w) | `state`: under which state a frame was sampled | [T, W] |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.averages.kinds import Values, taught
from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import InputError
from nnsim.grid.values import grid_values

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory


@dataclass(frozen=True, eq=False)
class StateFamily:
    """A bias that acts on each walker, or frame, in one of K ways.

    Attributes:
        labels: what tells the K states apart, one dictionary each.
        state: index of the state of each frame, [T, W].
        reduced: maps a record of the frames to V_k / kT there, [K, T, W].
    """

    labels: list[dict[str, Any]]
    state: NDArray[np.int64]
    reduced: Callable[[Values], Floats]


def on_grid(trajectory: Trajectory, name: str, settings: Mapping[str, Any], values: Values, kT: float) -> Floats:
    """V / kT [T, W] of the newest recorded state of a bias on a grid.

    Raises:
        InputError: a bias that has not been saved yet.
    """
    tables = trajectory.bias(name).tables if name in trajectory.bias_names else {}
    if "potential" not in tables:
        raise InputError(f"{trajectory.path}: the bias {name!r} has not been saved yet; run longer")
    s = np.stack([values(cv) for cv in settings["cvs"]], axis=-1)
    return grid_values(tables["potential"], settings["grid"], s) / kT


def wall(settings: Mapping[str, Any], values: Values, kT: float) -> Floats:
    """V / kT [T, W] of a wall."""
    s = values(settings["cvs"][0])
    low, high = settings.get("lower"), settings.get("upper")
    beyond = np.abs(s - np.clip(s, -np.inf if low is None else low, np.inf if high is None else high))
    return settings["strength"] / kT * (0.5 * beyond**2 if settings["shape"] == "quadratic" else beyond)


def umbrella_rows(name: str, settings: Mapping[str, Any]) -> tuple[Floats, Floats]:
    """Centres and stiffnesses of an umbrella, [W, k] each, or [1, k] where all walkers have the same.

    Of one that has moved and stopped they are those at rest.

    Raises:
        InputError: a centre that never stops.
    """
    center, stiffness, velocity = (np.asarray(settings[key], np.float64) for key in ("center", "stiffness", "velocity"))
    if velocity.any():
        if settings.get("until") is None:
            raise InputError(
                f"the centre of the umbrella {name!r} moves to the end of the run, so its frames belong to no "
                "equilibrium; give the umbrella a step `until` at which it stops, or use its work (Jarzynski)"
            )
        center = center + velocity * settings["until"]
    rows = max(len(center), len(stiffness))
    return np.broadcast_to(center, (rows, center.shape[1])), np.broadcast_to(stiffness, (rows, center.shape[1]))


def harmonic(center: Floats, stiffness: Floats, settings: Mapping[str, Any], values: Values, kT: float) -> Floats:
    """V / kT [T, W] of one centre and stiffness, [k] each."""
    total: Floats = np.zeros(())
    for cv, c, k, period in zip(settings["cvs"], center, stiffness, settings["periods"], strict=True):
        difference = values(cv) - c
        if period is not None:
            difference = difference - period * np.round(difference / period)
        total = total + 0.5 * k / kT * difference**2
    return total


def restraint(settings: Mapping[str, Any]) -> Callable[[Values, float], Floats] | None:
    """V / kT as a function of the records that it is made of and kT, of a bias that is the same for all walkers.

    None for any other: one that is learnt, or with a state for each walker.
    """
    if settings["formula"] == "wall":
        return lambda values, kT: wall(settings, values, kT)
    if settings["formula"] == "harmonic":
        center, stiffness = umbrella_rows(settings["name"], settings)
        if len(center) == 1:
            return lambda values, kT: harmonic(center[0], stiffness[0], settings, values, kT)
    own = taught(settings)
    return None if own is None else lambda values, kT: own.potential(settings, values, kT)


def umbrella_windows(name: str, settings: Mapping[str, Any], shape: tuple[int, int], kT: float) -> StateFamily:
    """The windows of an umbrella with a row for each walker; equal rows are one window.

    Raises:
        InputError: more or fewer rows than walkers.
    """
    center, stiffness = umbrella_rows(name, settings)
    if len(center) != shape[1]:
        raise InputError(f"the umbrella {name!r} is for {len(center)} walkers, but {shape[1]} were recorded")
    k = center.shape[1]
    rows, window = np.unique(np.hstack((center, stiffness)), axis=0, return_inverse=True)

    def reduced(values: Values) -> Floats:
        return np.stack([harmonic(row[:k], row[k:], settings, values, kT) for row in rows])

    def plain(numbers: Floats) -> Any:
        return float(numbers[0]) if k == 1 else numbers.tolist()

    labels = [{"center": plain(row[:k]), "stiffness": plain(row[k:])} for row in rows]
    return StateFamily(labels, np.broadcast_to(window.reshape(-1), shape), reduced)


def boltzmann_states(cv: str, beta: Floats) -> StateFamily:
    """The values of beta [T, W] of walkers that sample exp(-beta s)."""
    betas, state = np.unique(beta, return_inverse=True)
    labels = [{"beta": float(one)} for one in betas]
    return StateFamily(labels, state.reshape(beta.shape), lambda values: betas[:, None, None] * values(cv))
