"""What is asked of an integrator, also of a user's own, before and after a simulation has made its first state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nnsim.errors import (
    InputError,
    NNSimError,
    first_line,
    require_each,
    require_flag,
    require_integer,
    require_number,
    shown,
)
from nnsim.forcefield import ForceField
from nnsim.program.operation import Operation
from nnsim.protocols import Integrator
from nnsim.random.streams import RandomStreams
from nnsim.running.checks.contract import takes
from nnsim.schedules import setting_at
from nnsim.state import State

FLAGS = ("follows_loss", "metropolis", "multiple_time_stepping", "needs_gradients", "symmetric")


def check_integrator(integrator: Integrator) -> None:
    """Refuse one that says of itself what cannot be."""
    owner = type(integrator).__name__
    own = type(integrator).program is not Integrator.program and takes(integrator.program, ["force_field"])
    if (integrator.is_program and not own) or not takes(integrator.step, ["state", "force_field"]):
        raise InputError(
            f"{owner}: the method step is missing, or takes other arguments; define step(state, force_field), or "
            "program(force_field) in its place"
        )
    for name in FLAGS:
        require_flag(owner, name, getattr(integrator, name))
    require_integer(owner, "order", integrator.order, least=1)
    kT = integrator.kT
    if kT is not None and not callable(kT):
        require_each(owner, "kT", kT, least=0.0)


def started(integrator: Integrator, positions: Tensor, force_field: ForceField, streams: RandomStreams) -> State:
    """The state at step 0, after checking it and the time that a step then takes."""
    owner = type(integrator).__name__
    state = _answer(f"{owner}: init()", lambda: integrator.init(positions, force_field, streams))
    require_state(f"{owner}: init()", state)
    require_number(owner, "time_step", integrator.time_step, above=0.0)
    for name, given in (("dt", integrator.dt), ("friction", integrator.friction), ("kT", integrator.kT)):
        if given is not None and not callable(given):
            _require_walkers(owner, name, setting_at(given, 0), state.walkers)
    if integrator.is_program:
        _check_program(owner, integrator, force_field)
    return state


def _require_walkers(owner: str, name: str, found: float | Tensor, walkers: int) -> None:
    """Raise `InputError` for more or fewer numbers than walkers."""
    if isinstance(found, Tensor) and len(found) != walkers:
        raise InputError(f"{owner}: {name} has {len(found)} numbers for {walkers} walkers; give one, or one for each")


def _check_program(owner: str, integrator: Integrator, force_field: ForceField) -> None:
    """Raise `InputError` unless a program is a sequence of operations."""
    program = _answer(f"{owner}: program()", lambda: tuple(integrator.program(force_field)))
    wrong = next((one for one in program if not isinstance(one, Operation)), None)
    if wrong is not None or not program:
        given = "nothing" if wrong is None else shown(wrong)
        raise InputError(f"{owner}: program() returned {given}; it must return operations, as of nnsim.program")


def _conserves_nothing(integrator: Integrator) -> bool:
    """Whether nobody will ask what its steps conserve: of Metropolis methods, and where forces are of mini-batches."""
    return integrator.metropolis or integrator.batch_size is not None


def require_state(what: str, state: object) -> None:
    """Raise `InputError` unless it is a state."""
    if not isinstance(state, State):
        raise InputError(f"{what} returned a {type(state).__name__}; it must return the nnsim.state.State")


@torch.no_grad()
def check_conserved(integrator: Integrator, state: State) -> None:
    """Refuse one that tells of a finite state at step 0 what cannot be conserved."""
    owner = type(integrator).__name__
    if _conserves_nothing(integrator):
        return
    found = _answer(f"{owner}: conserved()", lambda: integrator.conserved(state))
    if found is None:
        return
    right = isinstance(found, Tensor) and found.shape == (state.walkers,) and bool(torch.isfinite(found).all())
    if not right:
        given = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else shown(found)
        raise InputError(
            f"{owner}: conserved() returned {given}; it must return one finite number for each of {state.walkers} "
            "walkers, [W], or None where nothing is known"
        )


def _answer(what: str, ask: Callable[[], Any]) -> Any:
    """What a method gives, or an `InputError` that names it: methods of the user's own may raise anything."""
    try:
        return ask()
    except NNSimError:
        raise
    except Exception as error:
        raise InputError(f"{what} fails: {type(error).__name__}: {first_line(error)}; repair it") from error
