"""What is refused when a simulation is put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nnsim.errors import InputError, NNSimError, require_integer
from nnsim.forcefield import ForceField
from nnsim.protocols import Integrator, Observable
from nnsim.state import State
from nnsim.trajectory import check_name


def several(things: Any) -> list[Any]:
    """A list of parts, from one part, several, or None."""
    if things is None:
        return []
    return list(things) if isinstance(things, (list, tuple)) else [things]


def with_intervals(what: str, things: Any, needs: Sequence[str], default: int) -> list[tuple[Any, int]]:
    """(part, interval in steps) of each: from parts, pairs of a part and an interval, a single one of them, or None."""
    one_pair = isinstance(things, tuple) and len(things) == 2 and isinstance(things[1], int)
    found = []
    for entry in [things] if one_pair else several(things):
        thing, interval = entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, default)
        part(what, thing, needs)
        found.append((thing, require_integer("Simulation", f"interval of {thing.name}", interval, least=1)))
    return found


def part(what: str, thing: Any, needs: Sequence[str]) -> Any:
    """The part, after checking that it is an object that has what such a part needs."""
    missing = [name for name in needs if not hasattr(thing, name)]
    if missing or isinstance(thing, type):
        shown = f"the class {thing.__name__}" if isinstance(thing, type) else repr(thing)
        raise InputError(
            f"Simulation: {shown[:80]} is no {what}; give an object with {', '.join(needs)}, "
            f"such as a subclass of nnsim's protocols"
        )
    return thing


def torch_device(name: str) -> torch.device:
    """The device, after trying it."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError):
        there = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        raise InputError(
            f"Simulation: device = {name!r} is not there; on this machine there is {', '.join(there)}"
        ) from None
    return device


def needs_gradients(integrator: Integrator) -> bool:
    """Whether an integrator is a dynamics, which needs forces."""
    return getattr(integrator, "needs_gradients", True)


def check_parts(integrator: Integrator, force_field: ForceField, observed: Sequence[Observable]) -> None:
    """Refuse combinations that cannot work."""
    for named in (*force_field.biases, *force_field.cvs, *observed):
        check_name(named.name)
    who, dynamics = type(integrator).__name__, needs_gradients(integrator)
    if force_field.system.box.kind == "lattice" and dynamics:
        raise InputError(f"{who} moves continuously, but the parameters live on a lattice; use MonteCarlo")
    kT = getattr(integrator, "kT", None)
    for bias in force_field.biases:
        for cv in bias.cvs:
            if dynamics and not getattr(cv, "differentiable", True):
                raise InputError(
                    f"{who} needs forces, but the CV {cv.name!r} of the bias {bias.name!r} has no gradient; "
                    "use a smooth CV (SmoothedAccuracy instead of Accuracy) or a Monte Carlo integrator"
                )
        own = getattr(bias, "kT", None)
        if callable(kT) and own is not None:
            raise InputError(
                f"the bias {bias.name!r} has kT = {own:g}, so it assumes a constant temperature, but {who} has a "
                "schedule of kT; give kT as a number, or leave the bias out"
            )
        if kT is not None and own is not None and abs(own - kT) > 1e-12 * abs(kT):
            raise InputError(f"the bias {bias.name!r} has kT = {own:g} but {who} has kT = {kT:g}; make them equal")


def check_intervals(integrator: Integrator, force_field: ForceField) -> None:
    """Refuse biases that cannot be evaluated at their intervals."""
    who = type(integrator).__name__
    for bias, k in zip(force_field.biases, force_field.intervals, strict=True):
        if k == 1:
            continue
        if not getattr(integrator, "multiple_time_stepping", False):
            raise InputError(
                f"{who} cannot evaluate the bias {bias.name!r} every {k} steps only; use VelocityVerlet, NoseHoover or "
                "Langevin with a splitting in which no B stands between two A, such as 'BAOAB', or give the bias "
                "without an interval"
            )
        if getattr(bias, "moving", False):
            raise InputError(
                f"the bias {bias.name!r} moves and keeps account of it at every step, so it cannot be evaluated every "
                f"{k} steps only; give it without an interval, or let it rest"
            )
        for name in ("pace", "every"):
            own = getattr(bias, name, k)
            if isinstance(own, int) and own % k:
                raise InputError(
                    f"the bias {bias.name!r} has {name} = {own}, but is evaluated every {k} steps; "
                    f"make {name} a multiple of {k}, or change the interval"
                )


def check_recorded(force_field: ForceField, recorded: Mapping[str, int], of_all: Sequence[str]) -> None:
    """Refuse to record what is not known at its steps, because a bias is evaluated at others.

    Args:
        force_field: has the biases and their intervals.
        recorded: name and interval of what is recorded.
        of_all: those that are made of the energies of all biases.
    """
    for name, every in recorded.items():
        for cv in force_field.cvs:
            intervals = force_field.intervals_of(cv)
            if name not in (cv.name, *of_all) or any(every % k == 0 for k in intervals):
                continue
            why = "" if name == cv.name else f", of which {name} is made,"
            known = " or ".join(map(str, sorted(set(intervals))))
            raise InputError(
                f"Simulation: {name} is recorded every {every} steps, but the CV {cv.name!r}{why} is computed every "
                f"{known} steps only; record it at a multiple of that (every=..., or observe=[(..., interval)]), or "
                "change the interval of the bias"
            )


@torch.no_grad()
def check_observables(state: State, force_field: ForceField, observed: Sequence[Observable]) -> None:
    """Observe everything once, so that what cannot work is found before the run and not at its first frame."""
    evaluation = force_field.evaluate(state.positions)
    for thing in observed:
        try:
            value = thing.observe(state, evaluation)
        except InputError:
            raise
        except NNSimError as error:  # what would end a run is refused at its start
            raise InputError(str(error)) from error
        except Exception as error:
            raise InputError(f"observable {thing.name!r} fails: {type(error).__name__}: {error}") from error
        if tuple(value.shape[:1]) != (state.walkers,):
            raise InputError(
                f"observable {thing.name!r} has shape {tuple(value.shape)}; "
                f"it must begin with the number of walkers, {state.walkers}"
            )
