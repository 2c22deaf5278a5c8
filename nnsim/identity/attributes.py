"""What objects, functions and classes keep, and which of an object's attributes it had before anything ran."""

from __future__ import annotations

import ast
import collections
import dataclasses
import functools
import inspect
import re
import textwrap
import types
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from nnsim.identity import source_code
from nnsim.identity.source_code import Node, is_library, is_library_module, is_nnsim

# Methods that are called in the course of a run: what they set on their own object changes along it.
_RUNNING = (
    *("__call__", "forward", "loss", "batch_loss", "targets", "points", "initial_positions", "observe", "due"),
    *("attach", "start", "update", "energy", "gradient", "energy_and_gradient", "allows", "observables", "tables"),
    *("init", "program", "step", "sizes", "learn", "increment", "load_state_dict", "report"),
)
_BEFORE = ("__init__", "__post_init__", "__new__", "prepare")
_CONTAINERS = (list, dict, set, bytearray, collections.deque, torch.Tensor, np.ndarray)


def attributes(thing: Any) -> dict[str, Any]:
    """Every attribute that is stored in an object, but for those that are computed once when they are asked for."""
    kind = type(thing)
    slots = [name for one in kind.__mro__ for name in _slots(one)]
    found = {name: getattr(thing, name) for name in slots if _holds(thing, name)}
    found |= getattr(thing, "__dict__", {})
    lazy = functools.cached_property
    return {name: value for name, value in found.items() if not isinstance(_member(kind, name), lazy)}


def _member(kind: type, name: str) -> Any:
    return inspect.getattr_static(kind, name, None)


def _slots(kind: type) -> list[str]:
    own = vars(kind).get("__slots__", ())
    names = [own] if isinstance(own, str) else list(own)
    mangled = [f"_{kind.__name__.lstrip('_')}{one}" if _is_mangled(one) else one for one in names]
    return [name for name in mangled if name not in ("__dict__", "__weakref__")]


def _is_mangled(name: str) -> bool:
    return name.startswith("__") and not name.endswith("__")


def _holds(thing: Any, name: str) -> bool:
    return isinstance(_member(type(thing), name), types.MemberDescriptorType) and hasattr(thing, name)


def settled(values: Mapping[str, Any], mutated: set[str] | frozenset[str]) -> dict[str, Any]:
    """Values without the lists, dictionaries and arrays that are changed as something runs, such as a cache."""
    return {name: value for name, value in values.items() if not (name in mutated and isinstance(value, _CONTAINERS))}


# ------------------------------------------------------------------------------------------------ functions and classes


def functions_of(value: Any) -> list[types.FunctionType]:
    """The functions behind a member of a class."""
    if isinstance(value, property):
        inner = [value.fget, value.fset, value.fdel]
    elif isinstance(value, (staticmethod, classmethod)):
        inner = [value.__func__]
    else:
        inner = [value.func if isinstance(value, functools.cached_property) else value]
    return [one for one in inner if isinstance(one, types.FunctionType)]


def is_set(cell: types.CellType) -> bool:
    """Whether a variable of a function around it has a value."""
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def written_on(thing: types.FunctionType, node: ast.AST | None) -> dict[str, Any]:
    """Attributes of a function, without those that it sets itself."""
    inner = ast.walk(node) if node is not None else ()
    own = {one.attr for one in inner if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store)}
    return {name: value for name, value in vars(thing).items() if name not in own and name != "__wrapped__"}


def through_modules(values: Mapping[str, Any], taken: set[str], seen: frozenset[int] = frozenset()) -> dict[str, Any]:
    """The values, and in place of the user's own modules what a function takes from them."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if not isinstance(value, types.ModuleType) or is_library_module(value.__name__):
            found[name] = value
        elif id(value) not in seen:
            inner = {f"{name}.{one}": vars(value)[one] for one in sorted(taken) if one in vars(value)}
            found |= through_modules(inner, taken, seen | {id(value)})
    return found


def is_made_by_python(name: str, value: Any) -> bool:
    """Whether a class has a member of Python's making: a special name, an attribute's place, a tuple's field."""
    places = (types.MemberDescriptorType, types.GetSetDescriptorType)
    special = (name.startswith("_") and name.endswith("_")) or name.startswith("_abc")
    return special or isinstance(value, places) or type(value).__name__ == "_tuplegetter"


def inside(thing: Any) -> Any:
    """The Python function inside one that a library has cached or compiled, or None."""
    for name in ("__wrapped__", "py_func"):
        if is_library(type(thing)) and inspect.getattr_static(thing, name, None) is not None:
            inner = getattr(thing, name, None)
            if callable(inner):
                return inner
    return None


# ----------------------------------------------------------------------------------------- objects of a user's class


def own_settings(thing: Any) -> dict[str, Any]:
    """Attributes of an object of the user's own class, and the settings of the part of nnsim that it is made from.

    Left out are what its methods set as it runs, and what the classes of nnsim among its bases work out of settings.
    """
    kind: Any = type(thing)
    base = next((one for one in kind.__mro__ if is_nnsim(one) and one.__module__ != "nnsim.protocols"), None)
    found = {} if base is None else _settings_as(base, thing)
    internal = _set_by_nnsim(kind)
    assigned, mutated = _changed_along_the_run(kind)
    kept = {name: value for name, value in attributes(thing).items() if name not in internal}
    own = {name: value for name, value in kept.items() if _plain_name(name) not in assigned}
    changed = {name for name in own if _plain_name(name) in mutated}
    return {**found, **settled(own, changed)}


def _plain_name(name: str) -> str:
    """The name of an attribute as methods write it: `__x`, where the object has `_Class__x`."""
    return re.sub(r"^_\w+?(?=__)", "", name)


def _settings_as(base: Any, thing: Any) -> dict[str, Any]:
    """The settings that an object has as one of a class of nnsim."""
    own = getattr(base, "describe", None)
    if own is not None:
        try:
            return {name: value for name, value in own(thing).items() if name != "type"}
        except Exception:  # a method of its own may need more than there is yet
            return {}
    fields = [one.name for one in dataclasses.fields(base)] if dataclasses.is_dataclass(base) else []
    public = [name for name in _set_by_nnsim(base) if not name.startswith("_")]
    return {name: getattr(thing, name) for name in sorted({*fields, *public}) if hasattr(thing, name)}


@functools.lru_cache(maxsize=1024)
def _set_by_nnsim(kind: Any) -> frozenset[str]:
    """Names of the attributes that the classes of nnsim among the bases of a class set on their objects."""
    found: set[str] = set()
    for base in kind.__mro__:
        if is_nnsim(base):
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
            found |= source_code.changed_attributes(
                node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
            )[0]
    return frozenset(found)


def changes_itself(thing: Any) -> bool:
    """Whether an object of the user's own class sets attributes of its own as it runs."""
    kind: Any = type(thing)
    return not is_library(kind) and not issubclass(kind, type) and any(_changed_along_the_run(kind))


@functools.lru_cache(maxsize=1024)
def _changed_along_the_run(kind: Any) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the attributes that an object of the user's class sets, and that it changes in place, as it runs."""
    nodes: dict[str, Node] = {}
    for base in reversed(kind.__mro__):
        for name, value in () if is_library(base) else vars(base).items():
            for function in functions_of(value)[:1]:
                node = source_code.node_of(function.__code__, function.__globals__)
                if node is not None:
                    nodes[name] = node
    before = _reached(nodes, _BEFORE) - {*_RUNNING}
    running = _reached(nodes, _RUNNING) - before
    assigned, mutated = source_code.changed_attributes(nodes[name] for name in running)
    return frozenset(assigned), frozenset(mutated)


def _reached(nodes: Mapping[str, Node], names: Iterable[str]) -> set[str]:
    """These methods, and those that they call on their own object."""
    found: set[str] = set()
    waiting = [name for name in names if name in nodes]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [one for one in source_code.own_calls([nodes[name]]) if one in nodes]
    return found
