"""Under which conditions a run samples, and from where it started: which runs are sides of one test of equilibrium."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.averages.common_frames import opened
from nnsim.analysis.averages.kinds import bias_settings
from nnsim.describe import differences
from nnsim.errors import InputError, shown

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

# Their walkers do not stay at one condition, or not at the same as those of another run.
CHANGING = {"flat_histogram": "learns", "hills": "learns", "kernels": "learns"}
# Of a system's settings, those that say where walkers start and how they are evaluated.
OF_STARTS = ("initial", "start", "walkers")


def start_of(run: Trajectory | str | Path) -> str:
    """From what kind of start a run went out, in a few words; runs of one kind are of one side."""
    header = opened(run, "start_of").header
    start = header.get("start") or {}
    if "trajectory" in start:
        return (
            f"from {Path(str(start['trajectory'])).name} (run {str(start.get('run'))[:8]}, frame {start.get('frame')})"
        )
    if "sides" in start:
        return f"from {' and '.join(dict.fromkeys(start['sides']))} networks"
    if "networks" in start or "positions" in start:
        return "from given networks" if "networks" in start else "from given positions"
    initial = (header.get("system") or {}).get("initial") or (header.get("system") or {}).get("start")
    return f"from its own start ({initial[0] if isinstance(initial, list) else initial})"


def refuse_changing(run: Trajectory) -> None:
    """Raise `InputError` unless all frames of each walker belong to one condition."""
    header = run.header
    kT = header.get("kT")
    if kT is None:
        raise InputError(
            f"two_sided: {run.path} has no temperature, so there is no equilibrium to be at; give runs with a kT"
        )
    if not isinstance(kT, (int, float, list)):
        raise InputError(
            f"two_sided: kT of {run.path} changes along the run ({shown(kT)}); give runs at a constant temperature"
        )
    for name, settings in bias_settings(run).items():
        if how := CHANGING.get(str(settings["formula"])):
            raise InputError(
                f"two_sided: the bias {name!r} of {run.path} {how}, so its frames do not belong to one condition; give "
                "runs under biases that stand still"
            )
        if settings.get("ramp"):
            raise InputError(
                f"two_sided: the bias {name!r} of {run.path} is turned on along the run (ramp = {settings['ramp']}); "
                "give runs without a ramp"
            )


def refuse_other_conditions(first: Trajectory, other: Trajectory) -> None:
    """Raise `InputError` unless two runs differ in their starts and random numbers only."""
    changed = differences(_conditions(first), _conditions(other))
    if changed:
        raise InputError(
            f"two_sided: {first.path} and {other.path} were run at different conditions ({'; '.join(changed[:3])}); "
            "give runs that differ in their starts only"
        )


def _conditions(run: Trajectory) -> dict[str, Any]:
    header = run.header
    system = {name: value for name, value in (header.get("system") or {}).items() if name not in OF_STARTS}
    states = sorted(set(map(str, _labels(run))))
    biases = {name: {**one, "beta": None, "kT": None} for name, one in (header.get("bias") or {}).items()}
    moves = {**(header.get("integrator") or {}), "kT": None}
    return {"parameters": header.get("parameters"), "system": system, "integrator": moves, "bias": biases, "at": states}


def _labels(run: Trajectory) -> list[str]:
    """The state of each walker, in words."""
    header = run.header
    walkers = int(header.get("walkers") or 1)
    parts = {"kT": header.get("kT")}
    parts |= {f"beta of {name}": beta_of(run, name, one) for name, one in bias_settings(run).items() if "beta" in one}
    lists = {name: value if isinstance(value, list) else [value] * walkers for name, value in parts.items()}
    told = [name for name, values in lists.items() if len(set(values)) > 1] or list(lists)
    return [", ".join(f"{name} = {lists[name][w]:g}" for name in told) for w in range(walkers)]


def beta_of(run: Trajectory, name: str, settings: dict[str, Any]) -> list[float]:
    """Of each walker; on a ladder of each rung, one ladder after the other."""
    if settings["formula"] != "ladder":
        return list(settings["beta"])
    ladders = int(run.header["walkers"]) // int(settings["rungs"])
    if settings.get("pilot"):  # which has spaced the rungs anew
        return [float(one) for row in run[f"{name}_beta"][-1].reshape(ladders, -1) for one in sorted(row)]
    return list(settings["beta"]) * ladders


def states_of(run: Trajectory) -> NDArray[Any]:
    """The state of each walker, [W], or of each rung of each ladder, in words; those of one state sample the same."""
    return np.array(_labels(run))
