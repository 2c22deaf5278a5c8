"""Settings of any component as plain JSON values, to be recorded and to be compared on resume."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Mapping
from typing import Any


def describe(thing: Any) -> Any:
    """Numbers, text, lists and dictionaries that say how `thing` was set up.

    Objects give their own `describe()`, or else their public attributes; arrays give shape, type and a checksum.
    """
    if thing is None or isinstance(thing, (bool, int, str)):
        return thing
    if isinstance(thing, float):
        return thing if math.isfinite(thing) else repr(thing)
    if isinstance(thing, Mapping):
        return {str(key): describe(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [describe(value) for value in thing]
    if hasattr(thing, "detach") or hasattr(thing, "__array_interface__"):
        return _describe_array(thing)
    if isinstance(thing, os.PathLike):
        return os.fspath(thing)
    if isinstance(thing, type) or hasattr(thing, "__qualname__"):
        return f"{thing.__module__}.{thing.__qualname__}"
    return {"type": type(thing).__name__, **describe(_settings(thing))}


def _settings(thing: Any) -> Mapping[str, Any]:
    if hasattr(thing, "describe"):
        return thing.describe()
    if dataclasses.is_dataclass(thing):
        return {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
    return {name: value for name, value in getattr(thing, "__dict__", {}).items() if not name.startswith("_")}


def _describe_array(array: Any) -> Any:
    values = array.detach().cpu().numpy() if hasattr(array, "detach") else array
    if values.ndim == 0:
        return describe(values.item())
    digest = hashlib.sha256(values.tobytes()).hexdigest()[:16]
    return {"shape": list(values.shape), "dtype": str(values.dtype), "sha256": digest}


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Each place where two descriptions differ, as `place: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = []
        for key in {**old, **new}:
            inner = f"{path}.{key}" if path else str(key)
            found += differences(old.get(key, "(none)"), new.get(key, "(none)"), inner)
        return found
    return [] if old == new else [f"{path}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
