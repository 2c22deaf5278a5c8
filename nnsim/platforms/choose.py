"""Which platform runs a simulation: the list of them, and how one is chosen, at the start and when a run goes on."""

from __future__ import annotations

import copy
import inspect
import logging
from typing import TYPE_CHECKING, Any

from nnsim.describe import check_name
from nnsim.errors import InputError, require_text, shown
from nnsim.platforms.device import DevicePlatform
from nnsim.platforms.dynamics.platform import NativeDynamics
from nnsim.platforms.native import NativeMonteCarlo
from nnsim.platforms.reference import ReferencePlatform
from nnsim.protocols import Platform
from nnsim.running.checks.contract import attributes_of, defaults_of, forgotten, form, methods_of

if TYPE_CHECKING:
    from nnsim.simulation import Simulation

# The fastest first; the last takes all. Two may have one name, if no integrator is served by both.
PLATFORMS: tuple[type[Platform], ...] = (NativeMonteCarlo, NativeDynamics, DevicePlatform, ReferencePlatform)
AUTO = "auto"


def asked_for(platform: Any) -> list[Platform]:
    """The platforms that may run a simulation, the fastest first.

    Args:
        platform: `"auto"` for all of the list, the name of one of them, or one of the user's own: its class, or an
            object, of which a copy is taken, so that it serves several simulations.

    Raises:
        InputError: an unknown name, or an own platform that lacks something.
    """
    kind = platform if isinstance(platform, type) else type(platform)
    names = list(dict.fromkeys([AUTO, *(one.name for one in reversed(PLATFORMS))]))
    if platform not in names if isinstance(platform, str) else not any(hasattr(kind, name) for name in _methods()):
        raise InputError(
            f"Simulation: platform = {shown(platform)} is not known; choose one of {', '.join(map(repr, names))}, or "
            "give a platform of your own, derived from nnsim.protocols.Platform"
        )
    if isinstance(platform, str):
        return [one() for one in PLATFORMS if platform in (AUTO, one.name)]
    _require_methods(kind)
    one = _made(kind) if isinstance(platform, type) else copy.copy(platform)
    if any(not hasattr(one, name) for name in attributes_of(Platform)):  # there is one
        raise InputError(f"{kind.__name__}: the attribute name is missing; set it, such as name = 'mine'")
    if check_name(require_text(kind.__name__, "name", one.name)) in names and not is_listed(one):
        raise InputError(f"{kind.__name__}: name = {one.name!r} is that of another platform; give it a name of its own")
    return [one]


def _methods() -> list[str]:
    """Names of all methods that a platform has; those that it must define itself come first."""
    return [*methods_of(Platform), *(name for name in defaults_of(Platform) if callable(getattr(Platform, name)))]


def _require_methods(kind: type) -> None:
    own = forgotten(kind, Platform)
    missing = own + [name for name in _methods() if name not in own and not callable(getattr(kind, name, None))]
    if missing:
        define = "".join(f"{form(Platform, name)}, which returns the state after these steps, and " for name in own)
        raise InputError(
            f"{kind.__name__}: the method {', '.join(missing)} is missing; define {define}"
            "what else it lacks by deriving the class from nnsim.protocols.Platform"
        )


def _made(kind: type) -> Any:
    try:
        inspect.signature(kind).bind()
    except TypeError as error:
        raise InputError(
            f"{kind.__name__}: the platform is not made without arguments ({error}); give an object in place of the "
            f"class, platform={kind.__name__}(...)"
        ) from None
    return kind()


def choose(simulation: Simulation, platforms: list[Platform]) -> tuple[Platform, str | None]:
    """The first of `asked_for` that has no obstacle; it takes over the simulation.

    What was passed over is logged and returned, as `name: obstacle`, where that costs speed: where the platform is made
    for such integrators. Otherwise there is None.

    Raises:
        InputError: an obstacle to the platform that was asked for.
    """
    passed_over: list[str] = []
    obstacles: list[str] = []
    for platform in platforms:
        obstacle = platform.obstacle(simulation)
        if obstacle is None:
            reason = "; ".join(passed_over) or None
            if reason:
                _log(
                    f"{type(simulation.integrator).__name__} runs on the {platform.name} platform, which can be "
                    f"hundreds of times slower than another one ({reason})"
                )
            platform.attach(simulation)
            return platform, reason
        obstacles.append(obstacle)
        if platform.concerns(simulation):
            passed_over.append(f"{platform.name}: {obstacle}")
            obstacles.insert(0, obstacle)
    raise InputError(f"platform = {platforms[0].name!r}: {obstacles[0]}; use platform={PLATFORMS[-1].name!r}")


def choose_again(simulation: Simulation, recorded: str | None, automatic: bool) -> tuple[Platform, str | None]:
    """The platform on which a run goes on, and the reason for it as in `choose`.

    Where none was asked for, it is the recorded one: so a run that an older version could not take to a faster platform
    goes on as it was begun. One that was asked for stays, and so does that of today where the recorded one cannot run
    it any more; whether it may differ is decided in `nnsim.identity.changes`.

    Raises:
        InputError: the run so far is from a platform of the user's own that was not given again.
    """
    present, reason, name = simulation.platform, simulation.platform_reason, recorded_name(recorded)
    if name is None or name == present.name:
        return present, reason
    kind = _named(name, simulation)
    if kind is None:
        raise InputError(
            f"the run so far is from the platform {shown(name)}, which is none of nnsim's; give it again by "
            "Simulation(platform=...), or start a new run with --output or --overwrite"
        )
    found = kind()
    if not automatic or found.obstacle(simulation) is not None:
        return present, reason
    reason = f"{present.name}: the run so far is not from there"
    _log(f"the run goes on on the {found.name} platform ({reason})")
    found.attach(simulation)
    return found, reason


def take_over(simulation: Simulation, saved: dict[str, Any], name: str) -> None:
    """Let the platform of a simulation go on from what one of some name has saved: itself, or another of the list."""
    platform = simulation.platform
    other = None if name == platform.name else _named(name, simulation)
    if other is None:
        platform.load_state_dict(saved)
        return
    other.hand_over(saved, simulation.force_field.biases)
    platform.attach(simulation)  # whose biases know more now


def _named(name: str, simulation: Simulation) -> type[Platform] | None:
    """The platform of the list of that name, for integrators of this kind where there are several; None if unknown."""
    found = [one for one in PLATFORMS if one.name == name]
    return next((one for one in found if one.serves(simulation.integrator)), found[0] if found else None)


def recorded_name(recorded: str | None) -> str | None:
    """The name of the platform that a header tells of, which up to version 0.2 was the name of its class."""
    return next((one.name for one in PLATFORMS if one.__name__ == recorded), recorded)


def is_listed(platform: Platform) -> bool:
    """Whether a platform is one of the list, and not of the user's own."""
    return type(platform) in PLATFORMS


def _log(line: str) -> None:
    logging.getLogger("nnsim").info(line)
