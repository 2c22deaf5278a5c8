"""What a simulation is made of: for the record, for people, and for a resume to compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nnsim.describe import describe
from nnsim.identity.parts import identity
from nnsim.schedules import BiasFunction, Setting, setting_at

if TYPE_CHECKING:
    from nnsim.forcefield import ForceField
    from nnsim.protocols import Integrator
    from nnsim.simulation import Simulation


def identify_parts(simulation: Simulation) -> dict[str, Any]:
    """What makes each part what it is, before anything has run; a resume compares it."""
    return {
        "system": identity(simulation.system),
        "integrator": identity(simulation.integrator),
        "bias": _each_bias(simulation.force_field, identity),
        "observe": {thing.name: identity(thing) for thing, _ in simulation.recording.observables},
    }


def _each_bias(force_field: ForceField, look: Callable[[Any], Any]) -> dict[str, Any]:
    """What `look` gives of each bias, with its interval where it has one."""
    found = {}
    for bias, interval in zip(force_field.biases, force_field.intervals, strict=True):
        stepping = {"multiple_time_stepping": interval} if interval > 1 else {}
        found[bias.name] = {**look(bias), **stepping}
    return found


def describe_parts(simulation: Simulation) -> dict[str, Any]:
    """How the simulation was set up, for people and analyses."""
    plan = simulation.recording
    return {
        "seed": simulation.seed,
        "walkers": simulation.walkers,
        "precision": simulation.precision.name,
        "platform": simulation.platform.name,
        "system": {"flat": simulation.force_field.flat, **describe(simulation.system)},
        "integrator": {**describe(simulation.integrator), **_schedule_values(simulation.integrator)},
        "bias": _each_bias(simulation.force_field, describe),
        "recording": {
            "every": plan.every,
            **({"start": True} if plan.start else {}),
            "positions_every": plan.positions_every,
            "velocities_every": plan.velocities_every,
            "snapshot_every": plan.snapshot_every,
            "observables": {thing.name: every for thing, every in plan.observables},
        },
    }


def _schedule_values(integrator: Integrator) -> dict[str, Any]:
    """The values at some steps of functions that do not say how they were set up, such as a lambda for kT."""
    given = {"dt": integrator.dt, "friction": integrator.friction, "kT": integrator.kT}
    steps = (0, *(10**power for power in range(7)))
    return {
        f"{name}_at": {str(step): _value_of(function, step) for step in steps}
        for name, function in given.items()
        if callable(function) and not isinstance(function, BiasFunction) and not dataclasses.is_dataclass(function)
    }


def _value_of(function: Setting, step: int) -> Any:
    try:
        found = setting_at(function, step)
    except Exception as error:  # beyond its end, where the run may never come
        return type(error).__name__
    return found if isinstance(found, float) else found.tolist()
