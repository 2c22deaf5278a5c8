"""What compiled dynamics takes, and what it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnsim.grid.deposits import LEARNT
from nnsim.platforms.obstacles import changed, unknown, unknown_cv

if TYPE_CHECKING:
    from nnsim.forcefield import ForceField
    from nnsim.simulation import Simulation


def obstacle(simulation: Simulation) -> str | None:
    """Why compiled dynamics cannot run a simulation, or None if it can."""
    integrator, force_field = simulation.integrator, simulation.force_field
    if simulation.device.type != "cpu":
        return f"native code runs on the CPU, not on {simulation.device}"
    name = type(integrator).__name__
    if not integrator.needs_gradients:
        return f"{name} is no dynamics"
    if not integrator.is_program:
        return f"{name} has a step of its own, and no program"
    return _of_biases(force_field) or _of_step(simulation) or _of_network(simulation)


def _of_biases(force_field: ForceField) -> str | None:
    if force_field.slow:
        return "a bias that is evaluated every few steps has no native code"
    biases: list[Any] = list(force_field.biases)
    for bias in biases:
        found = unknown(f"the bias {bias.name!r} ({type(bias).__name__})", bias, bias.native)
        if found:
            return found
        if bias.native in LEARNT and bias.shared:
            return f"the bias {bias.name!r} is shared with others"
    return next((found for cv in force_field.cvs if (found := unknown_cv(cv))), None)


def _of_step(simulation: Simulation) -> str | None:
    from nnsim.platforms.dynamics.integrate import unknown_operation

    found = unknown_operation(simulation.integrator.program(simulation.force_field))
    return (
        None if found is None else f"the operation {found} of {type(simulation.integrator).__name__} has no native code"
    )


def _of_network(simulation: Simulation) -> str | None:
    from nnsim.platforms.dynamics import assemble
    from nnsim.platforms.dynamics.network.builder import Unknown

    system = simulation.system
    traced = system.traced_network()
    if isinstance(traced, str):
        return traced
    if found := changed(f"the system {type(system).__name__}", system, "traced_network"):
        return found
    try:
        assemble.network_of(traced, simulation.state.positions.shape[1])
    except Unknown as what:
        return f"{what} has no native code"
    return None
