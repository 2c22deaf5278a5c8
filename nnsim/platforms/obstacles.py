"""What native code takes, and what it does not.

A part says of itself that native code knows it: `native`, with the kind of thing it is and its numbers, or None. A
subclass inherits that, and it holds as long as the subclass changes nothing that native code would leave out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nnsim.arithmetic import SIGNS
from nnsim.grid.deposits import NOW_AND_THEN
from nnsim.protocols import CollectiveVariable, System, said
from nnsim.schedules import BiasFunction

if TYPE_CHECKING:
    from nnsim.forcefield import ForceField
    from nnsim.protocols import Bias
    from nnsim.simulation import Simulation

# Called by the simulation or the recording, whatever the platform: own ones are no obstacle.
SHARED = {
    *("attach", "batch_loss", "describe", "doubts", "for_readers", "increment", "init", "initial_positions"),
    *("load_state_dict", "name", "observables", "observe", "start", "state_dict", "tables", "tangent", "time_step"),
}


KNOWN = (
    "native code knows walls and one bias: WangLandau, OPES, an Umbrella at rest, or Boltzmann or ReplicaExchange on "
    "the train loss"
)


def own_method(part: Any, claim: str = "native") -> str | None:
    """A method that a part has for itself, beyond the class that makes the claim about it; None if there is none."""
    classes = [vars(one) for one in type(part).__mro__]
    claimed = next(place for place, names in enumerate(classes) if claim in names)
    known = {name: thing for names in reversed(classes[claimed:]) for name, thing in names.items() if _is_method(thing)}
    for names in (getattr(part, "__dict__", {}), *classes[:claimed]):
        for name in names:
            if name in known and name not in SHARED and (name == "__call__" or not name.startswith("__")):
                return name
    return None


def _is_method(thing: object) -> bool:
    return callable(thing) or isinstance(thing, property)


def unknown(what: str, part: Any, native: Any) -> str | None:
    """Why native code does not know a part that says this of itself, called `what` in the message; None if it does."""
    return f"{what} has no native code" if native is None else changed(what, part)


def unknown_cv(cv: Any) -> str | None:
    """Why native code does not know a CV, or one of those that it is made of by arithmetic; None if it does."""
    for part in _made_of(cv):
        what = f"the CV {cv.name!r}" if part is cv else f"the CV {part.name!r}, a part of {cv.name!r},"
        found = unknown(what, part, said(part, CollectiveVariable, "native"))
        if found:
            return found
    return None


def _made_of(cv: Any) -> Iterator[Any]:
    """A CV, and all that it is made of by arithmetic."""
    yield cv
    native = said(cv, CollectiveVariable, "native")
    if native is not None and native[0] in SIGNS:
        for operand in native[1:]:
            if not isinstance(operand, float):
                yield from _made_of(operand)


def changed(what: str, part: Any, claim: str = "native") -> str | None:
    """Which method of a part, called `what` in the message, native code would leave out; None if there is none."""
    own = own_method(part, claim)
    return None if own is None else f"{what} has an own method {own}, which native code would leave out"


def follows_learning(integrator: Any) -> bool:
    """Whether a setting follows a bias at every step, so that it is known for one step only.

    One that changes at its exchanges, or with its kernels, is known until the next of them.
    """
    settings = [integrator.dt, integrator.friction, integrator.kT]
    return any(isinstance(one, BiasFunction) and one.bias.native not in NOW_AND_THEN for one in settings)


def is_wall(bias: Bias) -> bool:
    """Whether a bias is one of those that native code takes any number of."""
    return isinstance(bias.native, tuple)


def walls(force_field: ForceField) -> list[Any]:
    """The walls among the biases."""
    return [bias for bias in force_field.biases if is_wall(bias)]


def main_bias(force_field: ForceField) -> Any:
    """The one bias beside the walls, or None."""
    return next((bias for bias in force_field.biases if not is_wall(bias)), None)


def obstacle(simulation: Simulation) -> str | None:
    """Why compiled Monte Carlo cannot run a simulation, or None if it can."""
    integrator, force_field = simulation.integrator, simulation.force_field
    if simulation.device.type != "cpu":
        return f"native code runs on the CPU, not on {simulation.device}"
    found = unknown(type(integrator).__name__, integrator, integrator.native) or _of_moves(integrator)
    return found or _of_system(force_field.system) or _of_biases(force_field)


def _of_moves(integrator: Any) -> str | None:
    if callable(integrator.kT):
        return "a schedule of kT has no native code"
    if not isinstance(integrator.kT, float):
        return "a kT for each walker has no native code"
    if integrator.move != "one":
        return "only moves of one parameter have native code"
    return unknown(f"the step size {type(integrator.step_size).__name__}", integrator.step_size, integrator.native_step)


def _of_system(system: System) -> str | None:
    if type(system).dense_network is System.dense_network:
        return f"the system {type(system).__name__} has no native code"
    if system.dense_network() is None:
        return "the system is no dense network with one activation and a built-in loss and potential"
    return changed(f"the system {type(system).__name__}", system, "dense_network")


def _beyond_monte_carlo(what: str, bias: Any) -> str | None:
    """Why a bias that has native code has none for Monte Carlo moves."""
    if bias.native == "hills":
        return f"{what} has no native code"
    if bias.native == "springs" and bias.moving:
        return f"{what} has no native code while it moves"
    of_cv = said(bias.cvs[0], CollectiveVariable, "native") or ()
    if bias.native in ("slope", "exchange") and of_cv[:2] != ("loss", "train"):
        return f"{what} is on another CV than the train loss"
    return None


def _of_biases(force_field: ForceField) -> str | None:
    if force_field.slow:
        return "a bias that is evaluated every few steps has no native code"
    if len(force_field.biases) - len(walls(force_field)) > 1:
        return f"there are several biases; {KNOWN}"
    for bias in force_field.biases:
        what = f"the bias {bias.name!r} ({type(bias).__name__})"
        found = unknown(what, bias, bias.native) or _beyond_monte_carlo(what, bias)
        if found:
            return f"{found}; {KNOWN}"
        if len({cv.name for cv in bias.cvs}) < len(bias.cvs):
            return f"the bias {bias.name!r} has one CV on two axes"
    return next((found for cv in force_field.cvs if (found := unknown_cv(cv))), None)
