"""Which platform runs a simulation."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nnsim.errors import InputError, require_choice
from nnsim.platforms.native import NativeMonteCarlo
from nnsim.platforms.reference import ReferencePlatform
from nnsim.protocols import Platform

if TYPE_CHECKING:
    from nnsim.simulation import Simulation

PLATFORMS: tuple[type[Platform], ...] = (NativeMonteCarlo, ReferencePlatform)  # the fastest first; the last takes all


def choose(simulation: Simulation, name: str) -> tuple[Platform, str | None]:
    """The platform of that name, or for `"auto"` the first one that has no obstacle.

    What `"auto"` passed over is logged and returned, as `name: obstacle`, where that costs speed: where the platform is
    made for such integrators. Otherwise there is None.

    Raises:
        InputError: an unknown name, or an obstacle to the platform that was asked for.
    """
    require_choice("Simulation", "platform", name, ("auto", *sorted((one.name for one in PLATFORMS), reverse=True)))
    passed_over: list[str] = []
    for platform in PLATFORMS:
        if name not in ("auto", platform.name):
            continue
        obstacle = platform.obstacle(simulation)
        if obstacle is None:
            reason = "; ".join(passed_over) or None
            if reason:
                logging.getLogger("nnsim").info(
                    f"{type(simulation.integrator).__name__} runs on the {platform.name} platform, which can be "
                    f"hundreds of times slower than another one ({reason})"
                )
            return platform(simulation), reason  # type: ignore[call-arg]
        if name != "auto":
            raise InputError(f"platform = {name!r}: {obstacle}; use platform='reference'")
        if platform.serves(simulation.integrator):
            passed_over.append(f"{platform.name}: {obstacle}")
    raise AssertionError("the reference platform has no obstacle")
