"""From a trajectory back to networks: torch modules with recorded parameters, and the simulation of a recorded script.

Here, in contrast to the rest of the trajectory, torch is imported.
"""

from __future__ import annotations

import contextlib
import copy
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nnsim.describe import Network, describe, differences
from nnsim.errors import InputError, NNSimWarning, shown
from nnsim.identity.changes import DESCRIPTION, UNSEEDED, Differences, without_scripts
from nnsim.identity.parts import identity
from nnsim.running.script import Script

if TYPE_CHECKING:
    from nnsim.simulation import Simulation
    from nnsim.trajectory.reader import Trajectory


def network_with(
    trajectory: Trajectory, tensors: Mapping[str, torch.Tensor], system: Any, module: torch.nn.Module | None
) -> torch.nn.Module:
    """A copy of the module of `system`, or of `module`, with these parameters."""
    if system is not None and module is not None:
        raise InputError("Trajectory.module: give system or module, not both")
    header = trajectory.header
    if module is None:
        module = getattr(getattr(system, "system", system), "module", None)  # a simulation has a system
        if not isinstance(module, torch.nn.Module):
            kind = header.get("system", {}).get("type", type(system).__name__)
            raise InputError(
                f"Trajectory.module: the system, {kind}, has no torch module; take parameters_at or state_dict"
            )
    elif not isinstance(module, torch.nn.Module):
        raise InputError(f"Trajectory.module: module = {shown(module)} must be a torch.nn.Module; give the network")
    dtype = torch.float64 if header.get("precision") == "double" else torch.float32
    found = copy.deepcopy(module).to("cpu", dtype)
    own = {name: p for name, p in found.named_parameters() if p.requires_grad}
    _refuse_other_network(trajectory, module, {name: tuple(p.shape) for name, p in own.items()}, tensors)
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
    found.zero_grad(set_to_none=True)
    return found


def _refuse_other_network(
    trajectory: Trajectory,
    module: torch.nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Mapping[str, torch.Tensor],
) -> None:
    """Raise `InputError` where parameters differ; warn where the module reads otherwise than the recorded one."""
    recorded = {name: list(tensor.shape) for name, tensor in tensors.items()}
    changed = differences(recorded, {name: list(shape) for name, shape in shapes.items()})
    if changed:
        raise InputError(
            f"{trajectory.path} was made with another network ({'; '.join(changed[:4])}); give the module of that run"
        )
    changed = _changes_of_network(trajectory.header, module)
    if changed:
        warnings.warn(
            f"{trajectory.path}: its network had the same parameters as this module but reads otherwise (recorded -> "
            f"given: {'; '.join(changed[:4])}); it may compute something else",
            NNSimWarning,
            stacklevel=4,
        )


def _changes_of_network(header: Mapping[str, Any], module: torch.nn.Module) -> list[str]:
    """What differs between the recorded network and a module, but for the values of what moves."""
    recorded = header.get("identity", {}).get("system", {})
    found = Differences()
    if isinstance(recorded.get("module"), dict):
        given = identity({"module": Network(module)})
        code = {name: one for name, one in recorded.get("code", {}).items() if name in given.get("code", {})}
        found.compare({"module": recorded["module"], "code": code}, {"code": {}, **given}, "")
    elif isinstance(text := header.get("system", {}).get("module"), str) and text != str(module):
        found.changed["module"] = f"{shown(text, 200)} -> {shown(str(module), 200)}"
    return [line for line in found.lines if not line.startswith("module.training")]


def rebuilt(trajectory: Trajectory, folder: Path | None, changes: Mapping[str, Any]) -> Simulation:
    """The simulation of the recorded script; the system must be the recorded one."""
    header = trajectory.header
    text = header.get("script")
    if not isinstance(text, str):
        raise InputError(
            f"{trajectory.path} holds no input script, since it was not made by nnsim run; give the network to "
            "module(system=...) or module(module=...), or take state_dict"
        )
    before = list(sys.path)
    try:
        if folder is not None:
            if not folder.is_dir():
                raise InputError(f"Trajectory.simulation: folder = {folder} is no folder; give the one of the script")
            sys.path.insert(0, str(folder.resolve()))
            _forget_namesakes(folder.resolve())
        with tempfile.TemporaryDirectory(prefix="nnsim_") as place:
            path = Path(place) / f"{trajectory.path.name.removesuffix('.zarr')}.py"
            path.write_text(text, encoding="utf-8")
            script = _loaded(trajectory, path, folder)
            simulation = script.simulation(_settings(trajectory, script, changes))
    finally:
        sys.path[:] = before  # the temporary folder is gone, and a script may not change the path for all
    _refuse_other_system(trajectory, header, simulation)
    return simulation


def _forget_namesakes(folder: Path) -> None:
    """Modules imported from elsewhere that have a namesake in the folder, such as those of another run's script.

    Python would take them for those of this script.
    """
    own = {file.stem: file for file in folder.glob("*.py")}
    own |= {file.parent.name: file for file in folder.glob("*/__init__.py")}
    for top in own.keys() & sys.modules.keys() - _KEPT:
        file = Path(getattr(sys.modules[top], "__file__", None) or "")
        if file.resolve() != own[top] and "site-packages" not in file.parts:
            for name in [name for name in sys.modules if name.partition(".")[0] == top]:
                del sys.modules[name]


_KEPT = {*sys.stdlib_module_names, "nnsim"}


def _loaded(trajectory: Trajectory, path: Path, folder: Path | None) -> Script:
    """The script; says what to do where it does not find a module."""
    try:
        return Script(path)
    except InputError as error:
        if folder is None and isinstance(error.__cause__, ImportError):
            raise InputError(
                f"{trajectory.path}: the recorded script does not find a module ({error.__cause__}); give the folder "
                "where it lies: module(system=trajectory.simulation(folder=...))"
            ) from error
        raise


def _settings(trajectory: Trajectory, script: Script, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for `build`: the recorded ones in the types that the script has, and the changes."""
    known = ", ".join(script.parameters) or "none"
    for name in changes:
        if name not in script.parameters and not script.takes_any:
            raise InputError(f"Trajectory.simulation: the recorded script has no setting {name!r}; it has {known}")
    recorded = trajectory.header.get("settings", {})
    restored = {
        name: _restored(trajectory, script, name, value) for name, value in recorded.items() if name not in changes
    }
    # the length and the like are not recorded: they have their defaults
    found = {"steps": trajectory.steps, **_defaults(script), **restored, **changes}
    if "steps" not in script.parameters and "steps" not in changes:
        del found["steps"]
    missing = [name for name in script.parameters if name not in found]
    if missing:
        raise InputError(
            f"Trajectory.simulation: the recorded script needs a value for {', '.join(missing)}, which is not "
            f"recorded; give {missing[0]}=..."
        )
    return found


def _defaults(script: Script) -> dict[str, Any]:
    return {name: one.default for name, one in script.parameters.items() if one.default is not one.empty}


def _restored(trajectory: Trajectory, script: Script, name: str, recorded: Any) -> Any:
    """The value that was recorded as JSON, in the type that the script wants.

    It is the first of these that would be recorded in the same way: the default itself, what the text stands for on the
    command line, several values as a tuple, and the value as it stands.
    """
    candidates: list[Callable[[], Any]] = [
        lambda: _defaults(script)[name],
        lambda: script.value(name, _text(recorded)),
        lambda: _nested_tuple(recorded),
    ]
    if not isinstance(recorded, dict):  # nor does a dictionary tell an object from a dictionary
        candidates.append(lambda: recorded)
    for candidate in candidates:
        with contextlib.suppress(InputError, KeyError):
            value = candidate()
            if describe(value) == recorded:
                return value
    raise InputError(
        f"{trajectory.path}: the setting {name!r} was recorded as {shown(recorded)}, from which its value cannot be "
        f"made; give {name}=..."
    )


def _nested_tuple(value: Any) -> Any:
    return tuple(map(_nested_tuple, value)) if isinstance(value, list) else value


def _text(recorded: Any) -> str:
    return ",".join(map(_text, recorded)) if isinstance(recorded, list) else str(recorded)


def _refuse_other_system(trajectory: Trajectory, header: Mapping[str, Any], simulation: Simulation) -> None:
    """Raise `InputError` if the script builds another system now than the one recorded."""
    found = Differences(known_only=header.get("description", 1) < DESCRIPTION)
    if "identity" in header:
        found.compare(header["identity"]["system"], simulation.identity()["system"], "")
    else:
        old, new = without_scripts(header.get("system", {})), without_scripts(simulation.describe()["system"])
        found.compare(old, new, "")
    if found.changed:
        listed = " ".join("; ".join(found.lines[:4]).split())  # the text of a module has many lines
        hint = UNSEEDED if found.has_weights else ""
        raise InputError(
            f"{trajectory.path}: the recorded script builds another system now ({listed}); restore "
            f"its data and modules (folder=...), or give the network to module(system=...){hint}"
        )
