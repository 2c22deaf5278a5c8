"""All that makes a part what it is, to be compared when a run goes on: settings, data, fixed tensors, and code.

Of the user's own functions and classes this is their code, the values of their defaults, and what they take from around
them, followed from one to the next; of nnsim, torch and other libraries the name. Of objects it is every attribute,
private ones too, but for those that their own methods set as they run. It is JSON, the same in every process.
"""

from __future__ import annotations

import array
import ast
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import json
import operator
import os
import random
import re
import types
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

from nnsim.describe import Network, checksum, describe, dtype_of, in_order, is_opaque, on_host, settings_of
from nnsim.identity import modules as networks
from nnsim.identity import source_code
from nnsim.identity.attributes import (
    attributes,
    functions_of,
    inside,
    is_made_by_python,
    is_set,
    own_settings,
    settled,
    through_modules,
    written_on,
)
from nnsim.identity.source_code import has_name, is_library, is_nnsim, name_of, without_script
from nnsim.protocols import Reporter

FEW = 8  # elements of an array, up to which they are recorded themselves
MANY = 64  # plain values of a list, beyond which it is recorded by a checksum
LEAVES = 2000  # values of one object, beyond which it is recorded by a checksum
LETTERS = 400  # of a text, beyond which it is recorded by a checksum
DEEPEST = 40  # things inside things
UNSEEN = "(cannot be compared)"

_PLAIN = (type(None), bool, int, float, str)
_BY_TEXT = (
    complex, bytes, bytearray, array.array, range, slice, type(Ellipsis), type(NotImplemented), decimal.Decimal,
    fractions.Fraction, datetime.date, datetime.time, datetime.timedelta, datetime.timezone, uuid.UUID, torch.dtype,
    torch.device, torch.layout, torch.memory_format, torch.Size, np.dtype, types.GenericAlias, types.UnionType,
    operator.attrgetter, operator.itemgetter, operator.methodcaller,
)  # fmt: skip
_ARRAYS = (torch.Tensor, np.ndarray, np.generic)
_IN_C = (types.MethodWrapperType, types.WrapperDescriptorType, types.MethodDescriptorType)
_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
# Methods that dataclasses and named tuples make, from fields that are compared themselves.
_GENERATED = (
    *("__init__", "__new__", "__repr__", "__eq__", "__hash__", "__lt__", "__le__", "__gt__", "__ge__", "__setattr__"),
    *("__delattr__", "__replace__", "__getnewargs__", "__getstate__", "__setstate__", "_make", "_replace", "_asdict"),
)


def identity(thing: Any) -> dict[str, Any]:
    """What makes a thing what it is, as JSON: alike for things that are made alike, in every process."""
    walk = Walk()
    found = walk.of(thing)
    return {**(found if isinstance(found, dict) else {"is": found}), **_if_any("code", walk.named)}


def same(one: Any, other: Any) -> bool:
    """Whether two things are one, or made alike in all that can be seen, and say so of what cannot."""
    if one is other:
        return True
    first, second = identity(one), identity(other)
    if type(one) is not type(other) or first != second:
        return False
    return UNSEEN not in json.dumps(first) or _equal(one, other)


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # arrays and the like
        return False


class Walk:
    """One look at a thing and at all that it is made of.

    Attributes:
        named: what there is to know of functions and classes that have a name in their module, each once.
        known: what was found of the things that were looked at, which are kept, so that no other takes their id.
        moving: ids of the parameters of the network that is looked at, if they are what moves.
    """

    def __init__(self) -> None:
        self.named: dict[str, Any] = {}
        self._around: list[int] = []
        self.known: dict[int, tuple[Any, Any]] = {}
        self.moving: frozenset[int] = frozenset()

    def of(self, thing: Any) -> Any:
        """What makes a thing what it is."""
        if type(thing) in _PLAIN:
            return _plain(thing)
        if isinstance(thing, (types.FunctionType, type)) and not is_library(thing) and has_name(thing):
            return self._by_name(thing)
        if id(thing) in self.known:
            return self.known[id(thing)][1]
        if id(thing) in self._around:
            return f"(around this: {type(thing).__name__})"
        if len(self._around) > DEEPEST:
            return _unseen(thing)
        self._around.append(id(thing))
        try:
            found = self._look(thing)
            found = found if len(self._around) == 1 else _compact(found)
        except Exception:  # what an odd object raises when it is looked at may not stop a run
            found = _unseen(thing)
        finally:
            self._around.pop()
        self.known[id(thing)] = thing, found
        return found

    def _look(self, thing: Any) -> Any:
        kind = type(thing)
        look = next((look for kinds, look in _LOOKS if isinstance(thing, kinds)), None)
        if look in _COLLECTIONS and not is_library(kind):
            own = self.values(own_settings(thing))
            return {"type": kind.__name__, "class": self.of(kind), "holds": look(self, thing), **own}
        if look is not None:
            return look(self, thing)
        inner = inside(thing)
        if inner is not None:
            return {"type": name_of(kind), "function": self.of(inner)}
        if hasattr(kind, "__array_interface__") or (is_library(kind) and hasattr(thing, "__array__")):
            names = [str(one) for one in getattr(thing, "columns", ())]  # of a table of pandas
            return {"type": name_of(kind), "values": self.array(np.asarray(thing)), **_if_any("columns", names)}
        return self._object(thing)

    def values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What makes each of them what it is."""
        return {name: self.of(value) for name, value in values.items()}

    # ------------------------------------------------------------------ values

    def dictionary(self, thing: Mapping[Any, Any]) -> Any:
        """Values by their keys."""
        pairs = dict.items(thing) if isinstance(thing, dict) else thing.items()
        return {key if type(key) is str else self._key(key): self.of(value) for key, value in pairs}

    def _key(self, key: Any) -> str:
        return repr(key) if type(key) in _PLAIN else json.dumps(self.of(key), sort_keys=True)

    def several(self, thing: Iterable[Any]) -> Any:
        """Values in their order."""
        values = list(thing)
        count = _count_plain(values)
        if count is not None and count > MANY:
            return f"{count} values, sha256 {_digest(values)}"
        return [self.of(one) for one in values]

    def unordered(self, thing: Iterable[Any]) -> Any:
        """Values in an order that is always the same."""
        return {"set": in_order([self.of(one) for one in thing])}

    def array(self, numbers: Any) -> str:
        """Type, shape and numbers, or their checksum."""
        if id(numbers) in self.moving:
            return "a parameter that moves"
        values = on_host(numbers)
        kind = dtype_of(numbers, values)
        if values.dtype.hasobject:
            return f"{kind} {json.dumps(self.of(values.tolist()))}"
        if values.size <= FEW:
            return f"{kind} {values.tolist()}"
        return f"{kind} {list(values.shape)}, sha256 {checksum(numbers, values)}"

    # ------------------------------------------------------------------ code

    def function(self, thing: types.FunctionType) -> Any:
        """Name of a library's function; code of one's own."""
        if is_library(thing):
            if has_name(thing):
                return name_of(thing)
            inner = vars(thing).get("_torchdynamo_orig_callable")  # as it was before torch.compile
            return self.of(inner) if inner else {"function": name_of(thing), **self._closure(thing, set(), set())}
        return self._code(thing)

    def _by_name(self, thing: Any) -> str:
        """The name of a function or class, which is looked at once."""
        name = name_of(thing) + ("()" if isinstance(thing, types.FunctionType) else "")
        if name not in self.named:
            self.named[name] = "(being looked at)"
            self.named[name] = _compact(self._looked_at(thing))
        return name

    def _looked_at(self, thing: Any) -> Any:
        try:
            return self._members(thing) if isinstance(thing, type) else self._code(thing)
        except Exception:  # as in `of`
            return _unseen(thing)

    def _code(self, thing: types.FunctionType) -> dict[str, Any]:
        """Code, defaults, and the values that a function takes from around it."""
        code, node = thing.__code__, source_code.node_of(thing.__code__, thing.__globals__)
        mutated = source_code.mutated([node]) if node is not None else set()
        defaults = dict(zip(reversed(code.co_varnames[: code.co_argcount]), reversed(thing.__defaults__ or ())))  # noqa: B905
        return {
            "function": thing.__name__,
            **({"source": ast.unparse(node)} if node is not None else _bytecode(code)),
            **_if_any("defaults", self.values({**defaults, **(thing.__kwdefaults__ or {})})),
            **self._closure(thing, source_code.reassigned(code), mutated),
            **_if_any("globals", self._globals(thing, mutated)),
            **_if_any("attributes", self.values(written_on(thing, node))),
        }

    def _closure(self, thing: types.FunctionType, reassigned: set[str], mutated: set[str]) -> dict[str, Any]:
        cells = zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=False)
        kept = {name: cell for name, cell in cells if name not in reassigned and name != "__class__"}
        values = {name: cell.cell_contents for name, cell in kept.items() if is_set(cell)}
        return _if_any("closure", self.values(settled(values, mutated)))

    def _globals(self, thing: types.FunctionType, mutated: set[str]) -> dict[str, Any]:
        names, taken = source_code.global_names(thing.__code__)
        values = {name: thing.__globals__[name] for name in sorted(names) if name in thing.__globals__}
        return self.values(settled(through_modules(values, taken), mutated))

    def class_(self, thing: type) -> Any:
        """Name of a library's class; bases and members of one's own."""
        return name_of(thing) if is_library(thing) else self._members(thing)

    def _members(self, thing: type) -> dict[str, Any]:
        found: dict[str, Any] = {"class": without_script(thing.__qualname__)}
        found["bases"] = [self.of(base) for base in thing.__bases__ if base is not object]
        made = dataclasses.is_dataclass(thing) or issubclass(thing, tuple)
        for name, value in vars(thing).items():
            code = [self._code(one) for one in functions_of(value) if not is_library(one)]
            if code and not (made and name in _GENERATED and "source" not in code[0]):
                found[name] = code[0] if len(code) == 1 else code
            elif not functions_of(value) and not is_made_by_python(name, value):
                found[name] = self.of(value)
        return found

    def method(self, thing: types.MethodType) -> Any:
        """A method with its object."""
        return {"method": thing.__name__, "of": self.of(thing.__self__), "function": self.of(thing.__func__)}

    def builtin(self, thing: types.BuiltinFunctionType) -> Any:
        """Name of a function that was written in C."""
        owner = getattr(thing, "__self__", None)
        if owner is None or isinstance(owner, (types.ModuleType, type)):
            return name_of(thing)
        return {"method": thing.__name__, "of": self.of(owner)}

    def partial(self, thing: functools.partial[Any]) -> Any:
        """A function with some arguments."""
        given = {"arguments": [self.of(one) for one in thing.args], "keywords": self.values(thing.keywords)}
        return {"function": self.of(thing.func), **given}

    # ------------------------------------------------------------------ objects

    def _object(self, thing: Any) -> Any:
        kind = type(thing)
        if [one for one in kind.__mro__ if is_nnsim(one)] == [Reporter]:  # what only looks at a run does not make it
            return {"type": kind.__name__}
        if is_nnsim(kind):
            return {"type": kind.__name__, **self.values(settings_of(thing))}
        if not is_library(kind):
            return {"type": kind.__name__, "class": self.of(kind), **self.values(own_settings(thing))}
        kept = {} if is_opaque(kind) else attributes(thing)
        return {"type": name_of(kind), **self.values(kept)} if kept else _unseen(thing)


_LOOKS: tuple[tuple[Any, Callable[[Walk, Any], Any]], ...] = (
    (Network, networks.network),
    (enum.Enum, lambda walk, thing: f"{type(thing).__qualname__}.{thing.name} = {walk.of(thing._value_)}"),
    (_ARRAYS, Walk.array),
    (_BY_TEXT, lambda walk, thing: f"{type(thing).__name__} {_short(repr(thing))}"),
    (int, lambda walk, thing: int.__int__(thing)),
    (float, lambda walk, thing: _plain(float.__float__(thing))),
    (str, lambda walk, thing: _plain(str.__str__(thing))),
    (re.Pattern, lambda walk, thing: f"pattern {_short(repr(thing.pattern))}, flags {thing.flags}"),
    (os.PathLike, lambda walk, thing: os.fspath(thing)),
    (types.FunctionType, Walk.function),
    (types.MethodType, Walk.method),
    (functools.partial, Walk.partial),
    (np.ufunc, lambda walk, thing: f"numpy.{thing.__name__}"),
    (types.BuiltinFunctionType, Walk.builtin),
    (_IN_C, lambda walk, thing: f"{thing.__objclass__.__name__}.{thing.__name__}"),
    (types.ModuleType, lambda walk, thing: f"module {thing.__name__}"),
    (type, Walk.class_),
    (torch.nn.Module, networks.module),
    (torch.jit.ScriptFunction, lambda walk, thing: {"type": name_of(type(thing)), "script": thing.code}),
    (_GENERATORS, lambda walk, thing: f"{type(thing).__name__} in the state {_digest(_state_of(thing))}"),
    ((dict, types.MappingProxyType), Walk.dictionary),
    ((list, tuple, collections.deque), Walk.several),
    ((set, frozenset), Walk.unordered),
)
_COLLECTIONS = (Walk.dictionary, Walk.several, Walk.unordered)


# ------------------------------------------------------------------------------------------------------------- values


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return repr(value)
    return _short(value) if isinstance(value, str) else value


def _count_plain(values: Any, deepest: int = 4) -> int | None:
    """How many plain values there are in a list, also of lists; None if there is anything else."""
    if all(type(one) in _PLAIN for one in values):
        return len(values)
    if not deepest or not all(type(one) in (list, tuple) for one in values):
        return None
    counts = [_count_plain(one, deepest - 1) for one in values]
    return None if None in counts else sum(count for count in counts if count)


def _short(text: str) -> str:
    return text if len(text) <= LETTERS else f"{text[:40]}... ({len(text)} letters, sha256 {_digest(text)})"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=repr).encode()).hexdigest()[:16]


def _unseen(thing: Any) -> str:
    return f"{type(thing).__qualname__} {UNSEEN}"


def _compact(found: Any) -> Any:
    """A checksum in place of what would fill pages; of a network, whose tensors are named, never."""
    if not isinstance(found, (dict, list)) or (isinstance(found, dict) and "layers" in found):
        return found
    leaves = _leaves(found)
    return f"{leaves} values, sha256 {_digest(found)}" if leaves > LEAVES else found


def _leaves(found: Any) -> int:
    inner = found.values() if isinstance(found, dict) else found if isinstance(found, list) else None
    return 1 if inner is None else sum(map(_leaves, inner))


def _if_any(name: str, values: Any) -> dict[str, Any]:
    return {name: values} if values else {}


def _state_of(generator: Any) -> Any:
    """The present state of a source of random numbers; that of a global one, which any program moves on, is none."""
    if generator in (torch.default_generator, np.random.mtrand._rand, random._inst):
        return "global"
    if isinstance(generator, torch.Generator):
        return generator.get_state().tolist()
    if isinstance(generator, random.Random):
        return random.Random.getstate(generator)
    source = generator.bit_generator if isinstance(generator, np.random.Generator) else generator._bit_generator
    return describe(source.state)


# --------------------------------------------------------------------------------------------------------------- code


def _bytecode(code: types.CodeType) -> dict[str, str]:
    return {"bytecode": source_code.bytecode(code), "python": source_code.python()}
