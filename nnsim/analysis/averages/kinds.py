"""Of what kind the biases of a run are, by which every reader goes, and how to teach readers another formula.

| kind | formula | bias | V |
|---|---|---|---|
| grid | flat_histogram | WangLandau | on the grid, the final one |
| grid | hills | Metadynamics | on the grid, as recorded at each time, less c(t) |
| grid | kernels | OPES | as recorded at each time |
| states | slope | Boltzmann | kT beta_w s |
| states | ladder | ReplicaExchange | kT beta s on the rungs |
| states, restraint | harmonic | Umbrella | springs, of each walker or of all |
| restraint | wall | Wall | beyond its edges |

A bias says its kind and formula itself (`nnsim.protocols.Bias`), and the record keeps them, so that the name of its
class tells a reader nothing. No torch is needed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nnsim.analysis.landscape.axes import Floats
from nnsim.errors import InputError, require_text, require_texts, shown

if TYPE_CHECKING:
    from nnsim.trajectory.reader import Trajectory

Values = Callable[[str], Floats]  # the record [T, W] of an observable at the frames that are looked at
Potential = Callable[[Mapping[str, Any], Values, float], Floats]

# What files say that were written before biases told their kind: the one place where readers go by a type.
_BY_TYPE = {
    "WangLandau": ("grid", "flat_histogram"),
    "Metadynamics": ("grid", "hills"),
    "Boltzmann": ("states", "slope"),
    "ReplicaExchange": ("states", "ladder"),
    "Umbrella": ("restraint", "harmonic"),
    "Wall": ("restraint", "wall"),
}
FORMULAS = (*(formula for _, formula in _BY_TYPE.values()), "kernels")  # those that nnsim knows itself
# How each is called in a sentence; others go by the type of the bias.
WORDS = {
    "flat_histogram": "Wang-Landau",
    "ladder": "replica exchange",
    "hills": "metadynamics",
    "kernels": "OPES",
    "harmonic": "umbrella sampling",
    "wall": "a wall",
}


class Taught(NamedTuple):
    """A formula of somebody's own: V / kT [T, W], and the numbers of the bias that it reads beside its CVs."""

    potential: Potential
    reads: tuple[str, ...]


_TAUGHT: dict[str, Taught] = {}


def teach(formula: str, potential: Potential, *, reads: Sequence[str] = ()) -> None:
    r"""Teach all readers of this process how to evaluate biases of another formula.

    V / kT = potential(settings, values, kT)

    Frames then weigh exp(V / kT), in `frame_weights` and all that is made of it. Where V is a function of the CVs of a
    learnt bias alone, landscapes have it taken off, too.

    Args:
        formula: as `Bias.formula` has it, such as "sine"; none of nnsim's own.
        potential: gives V / kT [T, W] from the recorded settings of the bias (what its `describe` and `for_readers`
            give, and its `name`), `values`, which maps the name of an observable to its record [T, W], and kT.
        reads: which of the bias's own `observables`, of one number for each walker, it needs beside the CVs; they are
            recorded as "<name of the bias>_<name>".

    Raises:
        InputError: a formula of nnsim's own, or what is no function.

    >>> import numpy as np
    >>> from nnsim.analysis.averages.kinds import teach
    >>> teach("sine", lambda settings, values, kT: settings["height"] / kT * np.sin(values(settings["cvs"][0])))
    """
    require_text("teach", "formula", formula)
    if formula in FORMULAS:
        raise InputError(f"teach: formula = {formula!r} is one of nnsim's own; give yours another name")
    if not callable(potential):
        raise InputError(f"teach: potential = {shown(potential)} must be a function (settings, values, kT) -> V / kT")
    _TAUGHT[formula] = Taught(potential, tuple(require_texts("teach", "reads", reads)))


def taught(settings: Mapping[str, Any]) -> Taught | None:
    """What was taught of the formula of a bias, if it was."""
    return _TAUGHT.get(str(settings.get("formula")))


def is_known(settings: Mapping[str, Any]) -> bool:
    """Whether V of a bias can be evaluated here; of one on a grid it always can, from its table."""
    return settings.get("formula") in FORMULAS or settings.get("kind") == "grid" or taught(settings) is not None


def reads(settings: Mapping[str, Any]) -> list[str]:
    """Observables that V of a bias is a function of: its CVs, and what its formula reads beside them."""
    own = taught(settings)
    return [*settings["cvs"], *(f"{settings['name']}_{key}" for key in (own.reads if own else ()))]


def bias_settings(trajectory: Trajectory) -> dict[str, dict[str, Any]]:
    """Settings of all biases of a run by name: those of its header, and the newest record where there is one.

    Each has its `name`, `kind` and `formula`; these are None where nobody knows them.
    """
    said = trajectory.header.get("bias") or {}
    found = {name: dict(settings) for name, settings in said.items() if isinstance(settings, Mapping)}
    for name in trajectory.bias_names:
        found[name] = {**found.get(name, {}), **trajectory.bias(name).attrs}
    return {name: _with_kind(name, settings) for name, settings in found.items()}


def _with_kind(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    if "kind" not in settings:
        kind, formula = _BY_TYPE.get(str(settings.get("type")), (None, None))
        if formula == "harmonic" and max(map(len, (settings.get("center", ()), settings.get("stiffness", ())))) > 1:
            kind = "states"
        settings = {**settings, "kind": kind, "formula": formula}
    return {"formula": None, **settings, "name": name}


def of_kind(trajectory: Trajectory, *kinds: str) -> dict[str, dict[str, Any]]:
    """Settings, by name, of the biases of the given kinds."""
    return {name: one for name, one in bias_settings(trajectory).items() if one["kind"] in kinds}


def of_formula(trajectory: Trajectory, *formulas: str) -> dict[str, dict[str, Any]]:
    """Settings, by name, of the biases of the given formulas."""
    return {name: one for name, one in bias_settings(trajectory).items() if one["formula"] in formulas}


def word(settings: Mapping[str, Any]) -> str:
    """How a bias is called in a sentence."""
    return WORDS.get(str(settings.get("formula")), str(settings.get("type")))
