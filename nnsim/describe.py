"""Settings of any component as plain JSON values, to be recorded and to be read by people and analyses.

What a resume compares goes deeper: see `nnsim.identity`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import math
import os
import sys
import types
from collections.abc import Iterator, Mapping, Set
from contextvars import ContextVar
from typing import Any

import numpy as np

from nnsim.errors import InputError

# Objects that are being described now. Not an argument, since components call describe() inside their own describe().
_AROUND: ContextVar[frozenset[int]] = ContextVar("around", default=frozenset())
# How many things that are made of others may still be described: what refers to half of a program has no end.
_LEFT: ContextVar[list[int] | None] = ContextVar("left", default=None)
MOST = 50_000
# Checksums of arrays, so that large data are read once; each with its array, which keeps the id from being given anew.
_KNOWN: ContextVar[dict[int, tuple[Any, str]] | None] = ContextVar("known", default=None)


class Network(str):
    """The text of a torch module whose trainable parameters move, for people; identified by all that stays of it."""

    module: Any

    def __new__(cls, module: Any) -> Network:
        """Take the module's own text."""
        text = super().__new__(cls, str(module))
        text.module = module
        return text


def describe(thing: Any) -> Any:
    """Numbers, text, lists and dictionaries that say how `thing` was set up.

    Objects give their own `describe()`, or else their public attributes; arrays give shape, type and a checksum; sets
    are sorted; what refers back to an object around it gives the type of that, and so does what cannot be described.
    """
    if thing is None or isinstance(thing, (bool, int, str)):
        return str(thing) if isinstance(thing, Network) else thing
    if isinstance(thing, float):
        return thing if math.isfinite(thing) else repr(thing)
    around, left = _AROUND.get(), _LEFT.get() or [MOST]
    left[0] -= 1
    if id(thing) in around:
        return {"type": type(thing).__name__, "is": "around this"}
    if left[0] < 0:
        return {"type": type(thing).__name__}
    tokens = _AROUND.set(around | {id(thing)}), _LEFT.set(left)
    try:
        return _describe_parts(thing)
    except Exception:  # what an odd object raises when it is looked at may not stop a run
        return {"type": type(thing).__name__}
    finally:
        _AROUND.reset(tokens[0])
        _LEFT.reset(tokens[1])


def _describe_parts(thing: Any) -> Any:
    """What is made of other things."""
    if is_tensor(thing) or hasattr(type(thing), "__array_interface__"):
        return _describe_array(thing)
    if isinstance(thing, os.PathLike):
        return os.fspath(thing)
    if isinstance(thing, type) or hasattr(thing, "__qualname__"):
        return f"{thing.__module__}.{thing.__qualname__}"
    if isinstance(thing, Mapping):
        return {str(key): describe(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [describe(value) for value in thing]
    if isinstance(thing, Set):
        return in_order([describe(value) for value in thing])
    return {"type": type(thing).__name__, **describe(settings_of(thing))}


def in_order(values: list[Any]) -> list[Any]:
    """The values sorted, of different types and dictionaries too."""
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=repr)


def settings_of(thing: Any) -> Mapping[str, Any]:
    """What an object says of itself, or else its public attributes."""
    own = thing.describe() if hasattr(thing, "describe") else None
    if isinstance(own, Mapping):  # a table of pandas has a describe() too, which gives another table
        return own
    if isinstance(thing, functools.partial):
        return {"func": thing.func, "args": thing.args, "keywords": thing.keywords}
    if dataclasses.is_dataclass(thing):
        return {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
    if is_opaque(type(thing)):
        return {}
    return {name: value for name, value in getattr(thing, "__dict__", {}).items() if not name.startswith("_")}


def is_opaque(kind: type) -> bool:
    """Whether objects of a class of Python's own, such as files, locks and loggers, say nothing of how they were made.

    A logger leads to all others.
    """
    known = issubclass(kind, (types.SimpleNamespace, BaseException)) or dataclasses.is_dataclass(kind)
    return kind.__module__.partition(".")[0] in sys.stdlib_module_names and not known and kind.__name__ != "Namespace"


# ------------------------------------------------------------------------------------------------------------- arrays


def is_tensor(thing: Any) -> bool:
    """Whether it is a tensor of torch, which need not be there. Files have a detach() too, which would ruin them."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(thing, torch.Tensor)


def _describe_array(array: Any) -> Any:
    values = on_host(array)
    if values.ndim == 0:
        value = values.item()
        return describe(value) if type(value) is not type(values) else repr(value)
    return {"shape": list(values.shape), "dtype": dtype_of(array, values), "sha256": checksum(array, values)}


def dtype_of(array: Any, values: np.ndarray) -> str:
    """Name of the type of an array, given its numbers on the host, which may have another."""
    dtype = str(values.dtype)
    own = str(getattr(array, "dtype", dtype))
    return own if is_tensor(array) and dtype != own.removeprefix("torch.") else dtype


def on_host(array: Any) -> np.ndarray:
    """The numbers of an array or a tensor; of bfloat16 and the like, which numpy does not have, as float32."""
    if not is_tensor(array):
        return np.asarray(array)
    tensor = array.detach().cpu()
    if str(tensor.layout) != "torch.strided":
        tensor = tensor.to_dense()
    tensor = tensor.resolve_conj().resolve_neg()
    try:
        return tensor.numpy()
    except (TypeError, RuntimeError):
        return tensor.float().numpy()


@contextlib.contextmanager
def remembering(checksums: dict[int, tuple[Any, str]]) -> Iterator[None]:
    """While it lasts, checksums of arrays are kept in a dictionary, and taken from it."""
    token = _KNOWN.set(checksums)
    try:
        yield
    finally:
        _KNOWN.reset(token)


def checksum(array: Any, values: np.ndarray) -> str:
    """Of the numbers of an array, in C order."""
    known = _KNOWN.get()
    if known is not None and id(array) in known:
        return known[id(array)][1]
    if values.dtype.hasobject or values.dtype.names or values.dtype.char in "gG":  # with addresses, or unused bytes
        data: Any = repr(describe(values.tolist())).encode()
    else:
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8) if values.size else b""
    found = hashlib.sha256(data).hexdigest()[:16]
    if known is not None:
        known[id(array)] = array, found
    return found


# -------------------------------------------------------------------------------------------------------- differences


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Each place where two descriptions differ, as `place: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = []
        for key in {**old, **new}:
            inner = f"{path}.{key}" if path else str(key)
            found += differences(old.get(key, "(none)"), new.get(key, "(none)"), inner)
        return found
    return [] if old == new else [f"{path}: {arrow(old, new)}"]


def short(value: Any) -> str:
    """A value as a text of at most 60 letters."""
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def arrow(old: Any, new: Any) -> str:
    """Two values as `old -> new`; of long ones the parts from shortly before the place where they differ."""
    texts = [" ".join(str(value).split()) for value in (old, new)]
    if max(map(len, texts)) > 60:
        pairs = enumerate(zip(*texts, strict=False))
        start = max(0, next((place for place, (a, b) in pairs if a != b), 0) - 20)
        texts = [("..." if start else "") + text[start:] for text in texts]
    return " -> ".join(map(short, texts))


# ----------------------------------------------------------------------------------------------- names and environment


def check_name(name: str) -> str:
    """Return the name of an observable, bias or table, or raise `InputError` if it is no safe file name."""
    unsafe = (
        not name
        or not name.isprintable()
        or any(character in '/\\<>:"|?*' for character in name)
        or name.startswith((".", " "))
        or name.endswith((".", " "))
        or len(name.encode()) > 200
    )
    if unsafe:
        raise InputError(
            f"name {name!r} cannot be stored; use letters, digits, spaces and _-+=,.()[] only, no / and no leading "
            "dot, and at most 200 letters"
        )
    return name


def environment() -> dict[str, Any]:
    """Versions, threads and device names that bits may depend on."""
    import platform

    import torch

    from nnsim import __version__

    return {
        "versions": {
            "nnsim": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
