"""What differs between a recorded run and one that shall go on with it: refused and named, or accepted and recorded.

The header of a trajectory holds the `identity` of the run's parts, from version 2 of the description on; older ones are
compared by their settings. Where the record is older than this nnsim, a part may tell more now than it did then: only
what both tell is compared.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnsim.describe import arrow
from nnsim.errors import InputError, NNSimWarning
from nnsim.identity.source_code import changed_lines, same_code, script_code, without_script

if TYPE_CHECKING:
    from nnsim.simulation import Simulation

DESCRIPTION = 2
"""Version of what the header tells of the parts; 1, of nnsim 0.1, has no `description` and no `identity`."""
LISTED = 12  # differences in a message
LINES = 3  # of one function or script
NONE = "(none)"

UNSEEDED = (
    "; fixed weights that are drawn anew in each process differ: call torch.manual_seed(...) before the module is "
    "made, or load them from a file"
)


@dataclass
class Differences:
    """Differences found so far.

    Attributes:
        changed: place -> `old -> new`.
        unseen: places that cannot be compared, with the reason.
    """

    known_only: bool = False
    changed: dict[str, str] = field(default_factory=dict)
    unseen: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """Each difference as `place: old -> new`."""
        return [f"{place}: {what}" for place, what in self.changed.items()]

    @property
    def has_weights(self) -> bool:
        """Whether weights of a network are among the differences."""
        return any(re.search(r"\.(frozen|(?<!^system\.)parameters)\b", place) for place in self.changed)

    def compare(self, old: Any, new: Any, place: str) -> None:
        """Add what differs between two descriptions or identities."""
        if old == new:
            return
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            self._mappings(old, new, place)
        elif _are_lists(old, new) and len(old) == len(new) and any(isinstance(one, dict) for one in old):
            for index, pair in enumerate(zip(old, new, strict=True)):
                self.compare(*pair, f"{place}[{index}]")
        else:
            self.changed[place] = arrow(_shown(old), _shown(new))

    def _mappings(self, old: Mapping[str, Any], new: Mapping[str, Any], place: str) -> None:
        if old.get("type") != new.get("type"):
            self.compare(old.get("type", NONE), new.get("type", NONE), _inside(place, "type"))
            return
        functions = _is_function(old) and _is_function(new)
        if functions:
            self._functions(old, new, place)
        if "layers" in old and "layers" in new:  # of a network, in one line
            layers = Differences(self.known_only)
            layers.compare(old["layers"], new["layers"], "layers")
            self.unseen += layers.unseen
            if layers.changed:
                self.changed[place] = _first(layers.lines)
        common_only = (self.known_only and "type" in old) or "." in str(old.get("type", ""))
        for key in old if common_only else {**old, **new}:
            if (functions and key in _CODE) or key == "layers" or (common_only and key not in new):
                continue
            self.compare(old.get(key, NONE), new.get(key, NONE), _inside(place, key))

    def _functions(self, old: Mapping[str, Any], new: Mapping[str, Any], place: str) -> None:
        if "source" in old and "source" in new:
            if not same_code(old["source"], new["source"]):
                self.changed[place] = _lines(old["source"], new["source"])
        elif "source" in old or "source" in new or old["python"] != new["python"]:
            self.unseen.append(f"{place} (a function without source, or of another Python)")
        elif old["bytecode"] != new["bytecode"]:
            self.changed[place] = f"the code of {new['function']} has changed"

    def scripts(self, old: str | None, new: str | None) -> None:
        """Add the lines in which two input scripts differ, but for comments, docstrings and the run's length."""
        if old is None or new is None or old == new:
            return
        before, now = script_code(old), script_code(new)
        if before is None or now is None:
            self.unseen.append("the script (it is not for this Python)")
        elif not same_code(before, now):
            self.changed["script line"] = _lines(before, now)


_CODE = ("source", "bytecode", "python", "function")


def _is_function(value: Mapping[str, Any]) -> bool:
    return "source" in value or "bytecode" in value


def _are_lists(old: Any, new: Any) -> bool:
    return isinstance(old, list) and isinstance(new, list)


def _inside(place: str, key: str) -> str:
    plain = key.isidentifier() or key.isdigit()
    return f"{place}.{key}".lstrip(".") if plain else f"{place} {key!r}".lstrip()


def _shown(value: Any) -> Any:
    """What stands for a value in a message: of a function its source, of an object its type and plain settings."""
    if not isinstance(value, Mapping):
        return value
    if "source" in value or "class" in value or "type" not in value:
        return next((value[key] for key in ("source", "class") if key in value), dict(value))
    plain = {key: one for key, one in value.items() if key != "type" and isinstance(one, (int, float, str))}
    settings = ", ".join(f"{key}: {one}" for key, one in list(plain.items())[:LINES])
    return f"{value['type']} ({settings})" if settings else value["type"]


def _lines(old: str, new: str) -> str:
    """The first lines in which two texts differ."""
    return _first([arrow(before or NONE, now or NONE) for before, now in changed_lines(old, new)])


def _first(lines: list[str]) -> str:
    more = [f"and {len(lines) - LINES} more lines"] if len(lines) > LINES else []
    return ", ".join([*lines[:LINES], *more])


# ------------------------------------------------------------------------------------------------------------- resume


def compared(recorded: Mapping[str, Any], simulation: Simulation) -> Differences:
    """What differs between the header of a run and a simulation that shall go on with it."""
    found = Differences(known_only=recorded.get("description", 1) < DESCRIPTION)
    if "identity" in recorded:
        old, new = dict(recorded["identity"]), simulation.identity()
        for name, one in old.pop("observe", {}).items():  # whether both have it, `recording` says
            found.compare(one, new["observe"].get(name, one), _inside("observe", name))
        del new["observe"]
    else:
        new = without_scripts(simulation.describe())
        old = without_scripts({key: recorded.get(key) for key in new})
    found.compare(old, new, "")
    found.scripts(recorded.get("script"), simulation.script)
    if "platform" in found.changed and simulation.platform_reason:
        found.changed["platform"] += f" ({simulation.platform_reason})"
    return found


def without_scripts(description: Any) -> Any:
    """A description in which functions of a script do not bear the name of its file."""
    if isinstance(description, Mapping):
        return {key: without_scripts(value) for key, value in description.items()}
    if isinstance(description, (list, tuple)):
        return [without_scripts(value) for value in description]
    return without_script(description) if isinstance(description, str) else description


def accepted_changes(recorded: Mapping[str, Any], simulation: Simulation, path: Path, accept: bool) -> list[str]:
    """The differences, if they are accepted, as `place: old -> new`; warns of what cannot be compared.

    Raises:
        InputError: anything differs and is not accepted, or the precision does.
    """
    found = compared(recorded, simulation)
    if found.changed and (not accept or "precision" in found.changed):
        lines = found.lines
        listed = "; ".join([*lines[:LISTED], *([f"and {len(lines) - LISTED} more"] if len(lines) > LISTED else [])])
        hint = UNSEEDED if found.has_weights else ""
        remedy = "" if accept else ", or go on with what has changed by --accept-changes (accept_changes=True)"
        raise InputError(
            f"{path} was made with other settings, so it cannot be resumed with these ({listed}); "
            f"restore them, or start a new run with --output or --overwrite{remedy}{hint}"
        )
    if found.unseen:
        warnings.warn(
            f"{path} is resumed with what cannot be compared with the recorded run ({'; '.join(found.unseen)}); make "
            "sure that it is the same",
            NNSimWarning,
            stacklevel=2,
        )
    return found.lines


_LATER = {"platform_name", "evaluation"}  # which version 0.2 did not save


def check_fit(saved: Any, own: Any, path: Path, place: str = "") -> None:
    """Refuse a saved state that lacks a part of the simulation's own, or has it in another shape."""
    if isinstance(own, Mapping) and isinstance(saved, Mapping) and own.keys() - _LATER <= saved.keys():
        for key in sorted(own.keys() - {"monitor", "step_error", *_LATER}):
            check_fit(saved[key], own[key], path, _inside(place, str(key)))
    elif isinstance(own, Mapping) or isinstance(saved, Mapping) or not _is_of_one_shape(saved, own):
        raise InputError(
            f"{path} cannot be resumed with these changes, since its checkpoint does not fit them ({place}); restore "
            "what they depend on, or start a new run with --output or --overwrite"
        )


def check_inside(simulation: Simulation, changed: list[str], path: Path) -> None:
    """Refuse another box than before where the walkers stand outside it."""
    box = simulation.system.box
    if any(line.startswith("system.box") for line in changed) and not box.contains(simulation.state.positions).all():
        raise InputError(
            f"{path} cannot be resumed with these changes, since walkers of its checkpoint lie outside the {box}; "
            "make the box larger, or start a new run with --output or --overwrite"
        )


def _is_of_one_shape(saved: Any, own: Any) -> bool:
    """Whether two tensors, arrays or lists have one shape and type; an empty one may become any other."""
    if isinstance(own, list):
        return isinstance(saved, list) and len(saved) == len(own)
    if not hasattr(own, "shape"):
        return not hasattr(saved, "shape")
    same = hasattr(saved, "shape") and saved.dtype == own.dtype and tuple(saved.shape) == tuple(own.shape)
    return same or 0 in (*getattr(saved, "shape", ()), *own.shape)


def record(changes: list[str], recorded: Mapping[str, Any], simulation: Simulation) -> dict[str, Any]:
    """What the header says of changes that were accepted at the present step, and the script before them."""
    if not changes:
        return {}
    before = {"script": recorded["script"]} if recorded.get("script") != simulation.script else {}
    entry = {"step": simulation.state.step, "changed": changes, **before}
    return {"changes": [*recorded.get("changes", []), entry]}
