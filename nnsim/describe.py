"""Settings of any component as plain JSON values, to be recorded and to be compared on resume."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import os
from collections.abc import Mapping, Set
from contextvars import ContextVar
from typing import Any

# Objects that are being described now. Not an argument, since components call describe() inside their own describe().
_AROUND: ContextVar[frozenset[int]] = ContextVar("around", default=frozenset())


def describe(thing: Any) -> Any:
    """Numbers, text, lists and dictionaries that say how `thing` was set up.

    Objects give their own `describe()`, or else their public attributes; arrays give shape, type and a checksum; sets
    are sorted; what refers back to an object around it gives the type of that.
    """
    if thing is None or isinstance(thing, (bool, int, str)):
        return thing
    if isinstance(thing, float):
        return thing if math.isfinite(thing) else repr(thing)
    if hasattr(thing, "detach") or hasattr(thing, "__array_interface__"):
        return _describe_array(thing)
    if isinstance(thing, os.PathLike):
        return os.fspath(thing)
    if isinstance(thing, type) or hasattr(thing, "__qualname__"):
        return f"{thing.__module__}.{thing.__qualname__}"
    around = _AROUND.get()
    if id(thing) in around:
        return {"type": type(thing).__name__, "is": "around this"}
    token = _AROUND.set(around | {id(thing)})
    try:
        return _describe_parts(thing)
    finally:
        _AROUND.reset(token)


def _describe_parts(thing: Any) -> Any:
    """What is made of other things."""
    if isinstance(thing, Mapping):
        return {str(key): describe(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [describe(value) for value in thing]
    if isinstance(thing, Set):
        return _sorted([describe(value) for value in thing])
    return {"type": type(thing).__name__, **describe(_settings(thing))}


def _sorted(values: list[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:  # of different types, or dictionaries
        return sorted(values, key=repr)


def _settings(thing: Any) -> Mapping[str, Any]:
    own = thing.describe() if hasattr(thing, "describe") else None
    if isinstance(own, Mapping):  # a table of pandas has a describe() too, which gives another table
        return own
    if isinstance(thing, functools.partial):
        return {"func": thing.func, "args": thing.args, "keywords": thing.keywords}
    if dataclasses.is_dataclass(thing):
        return {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
    return {name: value for name, value in getattr(thing, "__dict__", {}).items() if not name.startswith("_")}


def _describe_array(array: Any) -> Any:
    values = _on_host(array) if hasattr(array, "detach") else array
    if values.ndim == 0:
        return describe(values.item())
    dtype = str(values.dtype)
    if hasattr(array, "detach") and dtype != str(array.dtype).removeprefix("torch."):
        dtype = str(array.dtype)
    return {"shape": list(values.shape), "dtype": dtype, "sha256": hashlib.sha256(values.tobytes()).hexdigest()[:16]}


def _on_host(tensor: Any) -> Any:
    """The numbers of a tensor as a numpy array; of bfloat16 and the like, which numpy does not have, as float32."""
    tensor = tensor.detach().cpu()
    if str(tensor.layout) != "torch.strided":
        tensor = tensor.to_dense()
    tensor = tensor.resolve_conj().resolve_neg()
    try:
        return tensor.numpy()
    except (TypeError, RuntimeError):
        return tensor.float().numpy()


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
