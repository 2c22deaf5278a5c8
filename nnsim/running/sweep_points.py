"""The points of a sweep: every combination of the values of some settings, checked against the script."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nnsim.analysis.training.sweep_table import OWN_COLUMNS, label
from nnsim.errors import InputError, require_integer
from nnsim.running.script import Script


@dataclass(frozen=True)
class Point:
    """One point of a sweep.

    Attributes:
        name: of its folder, such as `width=10,depth=1,seed=0`.
        values: the swept settings.
        texts: the same as NAME=VALUE, for --set.
        settings: all settings of the script at this point.
    """

    name: str
    values: dict[str, Any]
    texts: tuple[str, ...]
    settings: dict[str, Any]


def grid_points(
    script: Script, grid: Sequence[str], seeds: int | None, overrides: Sequence[str], steps: int | None
) -> list[Point]:
    """Every combination of the values, the last setting varying fastest; names and values checked."""
    axes: dict[str, dict[str, Any]] = {}
    for text in grid:
        name, values = _axis(script, text)
        if name in axes:
            raise InputError(f"--grid {name}: given twice; put all its values into one --grid")
        axes[name] = values
    if seeds is not None:
        if "seed" in axes:
            raise InputError("--seeds and --grid seed=... exclude each other; choose one")
        axes["seed"] = _seeds(script, seeds)
    if not axes:
        raise InputError("nothing to sweep over; give --grid NAME=V1,V2,... or --seeds N")
    for text in overrides:
        name, equals, _ = text.partition("=")
        if not equals:
            raise InputError(f"--set {text}: write --set name=value")
        if name in axes:
            raise InputError(f"--set {name}: the sweep varies {name}; leave it out there or here")
    if steps is not None and "steps" in axes:
        raise InputError("--steps and --grid steps=... exclude each other; choose one")
    found: dict[str, Point] = {}
    for combination in itertools.product(*(values.items() for values in axes.values())):
        texts = tuple(f"{name}={text}" for name, (text, _) in zip(axes, combination, strict=True))
        values = {name: value for name, (_, value) in zip(axes, combination, strict=True)}
        point = Point(_folder_name(values), values, texts, script.settings([*overrides, *texts], steps=steps))
        found[point.name] = point
    return list(found.values())


def _axis(script: Script, text: str) -> tuple[str, dict[str, Any]]:
    """Name of a setting, and its values by their texts."""
    name, equals, rest = text.partition("=")
    if not equals or not name:
        raise InputError(f"--grid {text}: write --grid name=value,value,...")
    if name in OWN_COLUMNS:
        raise InputError(
            f"--grid {name}: the table of a sweep has a column {name!r} of its own; give the setting another name"
        )
    parts = [part.strip() for part in rest.split(";" if ";" in rest else ",")]
    if ";" in rest and not parts[-1]:
        parts.pop()  # `hidden=6,6;` is one value
    if not all(parts):
        raise InputError(f"--grid {text}: a value is empty; write --grid name=value,value,...")
    values: dict[str, Any] = {}
    for part in parts:
        value = script.value(name, part, option="--grid")
        if any(_key(value) == _key(other) for other in values.values()):
            raise InputError(f"--grid {name}: {label(value)} is given twice; give each value once")
        values[part] = value
    return name, values


def _seeds(script: Script, seeds: int) -> dict[str, Any]:
    require_integer("nnsim sweep", "seeds", seeds, least=1)
    if "seed" not in script.parameters and not script.takes_any:
        raise InputError(
            f"--seeds {seeds}: {script.path.name} has no setting seed; add it to build() and pass it to the Simulation"
        )
    return {str(seed): script.value("seed", str(seed), option="--seeds") for seed in range(seeds)}


def _folder_name(values: dict[str, Any]) -> str:
    """`width=10,depth=1`: only characters that are safe in names of files and in a shell."""
    exact = ",".join(f"{name}={label(value)}" for name, value in values.items())
    safe = ",".join(f"{_safe(name)}={_safe(label(value))}" for name, value in values.items())
    if safe == exact and len(safe) <= 200:
        return safe
    return f"{safe[:180]}~{digest(exact)[:8]}"  # different values never share a folder


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]", "-", text)


def _key(value: Any) -> str:
    return json.dumps(storable(value))


def storable(value: Any) -> Any:
    """A setting as JSON has it."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [storable(one) for one in value]
    return sorted(map(storable, value)) if isinstance(value, (set, frozenset)) else str(value)


def storables(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON has them."""
    return {name: storable(value) for name, value in settings.items()}


def shown(settings: dict[str, Any], name: str) -> str:
    """A setting for a message."""
    return label(settings[name]) if name in settings else "not set"


def digest(text: str) -> str:
    """Its SHA-256, 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()
