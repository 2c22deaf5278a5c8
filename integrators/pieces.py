r"""The small steps that integrators are composed of.

| symbol | meaning | code |
|---|---|---|
| B | kick: v <- v + dt f / m | `kick_` |
| A | drift: q <- q + dt v, then back into the box | `drift_` |
| O | Ornstein-Uhlenbeck: v <- c v + sqrt((1 - c^2) kT / m) xi | `ornstein_uhlenbeck_` |

All of them change the tensors of the state in place. As operations of a program they are in `nnsim.program`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnsim.errors import InputError, first_line, require_number, require_numbers, shown
from nnsim.forcefield import ForceField
from nnsim.integrators.mini_batches import MiniBatches
from nnsim.program.dynamics import Masses, drift_, kick_, kinetic_energy, ornstein_uhlenbeck_, update_forces_
from nnsim.random.streams import Purpose, RandomStreams
from nnsim.schedules import Temperature
from nnsim.state import State

__all__ = [
    "Masses",
    "Temperature",
    "check_masses",
    "check_temperature",
    "drift_",
    "first_state",
    "kick_",
    "kinetic_energy",
    "masses_like",
    "ornstein_uhlenbeck_",
    "temperature",
    "thermal_velocities",
    "total_energy",
    "update_forces_",
]


def check_temperature(owner: str, kT: object, **limit: float) -> Temperature:
    """Return kT as a number, or the schedule as it is if its value of step 0 will do.

    Args:
        owner: the integrator, for messages.
        kT: a number, or a function from a step to one.
        limit: `above` or `least`, as in `require_number`.

    Raises:
        InputError: no number within the limit, or a schedule that cannot give one.
    """
    if isinstance(kT, type):
        raise InputError(
            f"{owner}: kT = {shown(kT)} is a class; give a number, or a schedule such as LinearRamp(1.0, 0.1, steps=9)"
        )
    if not callable(kT):
        return require_number(owner, "kT", kT, **limit)
    temperature(owner, kT, 0, **limit)
    return kT


def temperature(owner: str, kT: Temperature, step: int, **limit: float) -> float:
    """kT at a step; raises `InputError` where a schedule fails or leaves the limit."""
    if not callable(kT):
        return kT
    try:
        value = kT(step)
    except Exception as error:
        raise InputError(
            f"{owner}: the schedule kT = {shown(kT)} fails at step {step}: {type(error).__name__}: "
            f"{first_line(error)}; "
            "give a function from the step to a number, such as nnsim.schedules.LinearRamp(1.0, 0.1, steps=1000)"
        ) from error
    return require_number(owner, f"kT({step})", value, **limit)


def check_masses(owner: str, masses: object) -> Masses:
    """Return the masses as a number or a float64 tensor [n]; raise `InputError` unless all are finite and above 0."""
    rule = "one number, or one for each parameter, all finite and above 0"
    values = require_numbers(owner, "masses", masses, rule)
    if values.ndim > 1:
        raise InputError(f"{owner}: masses of shape {tuple(values.shape)} must be {rule}; give them as [n]")
    bad = values[~(torch.isfinite(values) & (values > 0))]
    if len(bad):
        raise InputError(f"{owner}: masses must be {rule}, but {len(bad)} are not, such as {bad[0]:g}; change them")
    return float(values) if values.ndim == 0 else values


def masses_like(owner: str, masses: Masses, positions: Tensor) -> Masses:
    """The masses in the type and on the device of positions [W, n]; raises `InputError` if their number differs."""
    if isinstance(masses, float):
        return masses
    if masses.shape != positions.shape[1:]:
        raise InputError(f"{owner}: {masses.numel()} masses for {positions.shape[1]} parameters; give one for each")
    return masses.to(positions)


def total_energy(state: State, masses: Masses, ahead: float = 0.0) -> Tensor:
    """H = K + U + V, [W], in double precision, of velocities that are kicked for a time `ahead`."""
    velocities = state.velocities + ahead * state.forces / masses if ahead else state.velocities
    return kinetic_energy(velocities, masses).double() + state.energy + state.bias_energy


def thermal_velocities(positions: Tensor, kT: float, masses: Masses, generator: torch.Generator) -> Tensor:
    """Velocities [W, n] from the Maxwell-Boltzmann distribution, variance kT / m."""
    drawn = RandomStreams.of(generator).normal(Purpose.VELOCITY, positions.shape, dtype=positions.dtype)
    return drawn.mul_((kT / masses) ** 0.5)


def first_state(
    positions: Tensor,
    velocities: Tensor,
    force_field: ForceField,
    generator: torch.Generator,
    batches: MiniBatches | None = None,
) -> State:
    """The state at step 0, with forces that belong to the positions."""
    nothing = positions.new_zeros(len(positions), dtype=torch.float64)
    streams = RandomStreams.of(generator)
    state = State(positions, velocities, torch.zeros_like(positions), nothing, nothing, nothing[:, None], streams)
    if batches:
        batches.shuffle_(state)
    update_forces_(state, force_field, batches)
    return state
