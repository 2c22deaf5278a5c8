"""Things that a user may hang on a part, the odd ones too; run as a program it prints the identity of each as JSON.

`test_identity.py` does that in two processes, in which hashes and addresses differ.
"""

import argparse
import array
import collections
import collections.abc
import contextlib
import dataclasses
import datetime
import decimal
import enum
import functools
import io
import itertools
import json
import logging
import operator
import os
import pathlib
import queue
import random
import re
import sys
import threading
import types
import typing
import uuid
import weakref
from typing import Any

import numpy as np
import pandas as pd
import scipy.interpolate
import scipy.sparse
import scipy.stats
import torch
from torch import nn

K = 3
COUNT = 0
CACHE: dict[Any, Any] = {}


class Slots:
    __slots__ = ("__hidden", "a")

    def __init__(self) -> None:
        self.a, self.__hidden = 1, 2


class Angry:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class Everything:
    def __getattr__(self, name: str) -> Any:
        return Everything()


class Properties:
    @property
    def describe(self) -> Any:
        raise RuntimeError

    @property
    def detach(self) -> Any:
        raise RuntimeError


class NeedsAnArgument:
    def describe(self, x: int) -> int:
        return x


class NoHash:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


class NoRepr:
    def __repr__(self) -> str:
        raise RuntimeError


class Colour(enum.Enum):
    RED, BLUE = 1, "b"


class Flags(enum.Flag):
    A, B = 1, 2


@dataclasses.dataclass
class Data:
    x: float = 1.0
    y: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: float = 1.0


class Pair(typing.NamedTuple):
    a: int = 1

    def twice(self) -> int:
        return 2 * self.a


class OwnDict(dict):
    def items(self) -> Any:
        raise RuntimeError


class OwnMapping(collections.abc.Mapping):
    def __getitem__(self, key: Any) -> Any:
        raise RuntimeError

    def __iter__(self) -> Any:
        raise RuntimeError

    def __len__(self) -> int:
        return 1


class Lazy:
    @functools.cached_property
    def table(self) -> list[int]:
        return [1]


class Node:
    other: Any


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.factor = K
        self.register_buffer("shift", torch.arange(3), persistent=False)
        self.linear.register_forward_hook(lambda module, inputs, output: output * 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


class OwnGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
        return g


def generator() -> Any:
    yield 1


def even(n: int) -> bool:
    return n == 0 or odd(n - 1)


def odd(n: int) -> bool:
    return n != 0 and even(n - 1)


@functools.lru_cache
def cached(x: int) -> int:
    return x * K


@functools.singledispatch
def single(x: int) -> int:
    return x


@torch.no_grad()
def without_gradient(x: torch.Tensor) -> torch.Tensor:
    return x * K


def scripted(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def unset() -> Any:
    def inner() -> Any:
        return later

    if COUNT:
        later = 1
    return inner


def recursive() -> Any:
    def inner(n: int) -> int:
        return n and inner(n - 1)

    return inner


def circles() -> dict[str, Any]:
    ring: list[Any] = [1]
    ring.append(ring)
    table: dict[str, Any] = {}
    table["me"] = table
    a, b = Node(), Node()
    a.other, b.other = b, a
    chain: Any = None
    for _ in range(3000):
        chain = [chain]
    shared: Any = [1]
    for _ in range(200):
        shared = [shared, shared]
    return {"ring": ring, "table": table, "nodes": a, "chain": chain, "shared": shared}


def things() -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        **circles(),
        "objects": [Slots(), Angry(), Everything(), Properties(), NeedsAnArgument(), NoHash(), NoRepr(), object()],
        "enums": [Colour.RED, Flags.A | Flags.B, Colour],
        "data": [Data(), Frozen(), Pair(2), OwnDict(b=2), OwnMapping(), Lazy(), types.SimpleNamespace(a=1), Data],
        "parsed": argparse.Namespace(x=2),
        "opaque": [open(os.devnull), io.BytesIO(b"x"), threading.Lock(), threading.current_thread(), queue.Queue()],
        "logger": logging.getLogger("nnsim"),
        "streams": [generator(), iter([1]), itertools.count(), zip([1], [2], strict=True), map(str, [1])],
        "weak": [weakref.ref(Colour.RED), weakref.WeakKeyDictionary(), contextlib.nullcontext(), memoryview(b"abc")],
        "functions": [generator, even, cached, single, without_gradient, unset(), recursive(), lambda x: x],
        "two": (lambda x: x + 1, lambda x: x + K),
        "executed": eval("lambda x: x + z", {"z": 7}),
        "made": [functools.partial(even, 3), functools.partialmethod(even), even.__get__(1)],
        "of numpy": [np.sin, np.frompyfunc(even, 1, 1), np.vectorize(even)],
        "of torch": [torch.sum, torch.ones(3).sum, torch.vmap(even), torch.compile(even), torch.jit.script(scripted)],
        "of Python": [len, [].append, (1).__add__, int.__add__, str.upper, property(len), staticmethod(even)],
        "operators": [operator.attrgetter("x"), operator.itemgetter(1), operator.add],
        "types": [list[int], int | str, typing.TypeVar("T"), typing.Any, np, Data],
        "plain": [..., NotImplemented, 1j, b"x" * 1000, bytearray(b"a"), range(3), slice(1, 2), float("nan"), 10**400],
        "library": [decimal.Decimal("1.1"), datetime.date(2020, 1, 1), uuid.UUID(int=3), re.compile("a", re.I)],
        "more": [pathlib.Path("a/b"), array.array("d", [1.0]), ValueError("x"), even.__code__],
        "long": ["x" * 10_000, list(range(100_000)), [{"a": i} for i in range(3000)]],
        "containers": [
            *(collections.OrderedDict(a=1), collections.Counter("aab"), collections.deque([1, 2])),
            types.MappingProxyType({"a": 1}),
        ],
        "unordered": [frozenset({"a", "b", "c", "d", 1, None}), {"x", "y", "z"}],
        "keys": {even: 1, (1, 2): 2, None: 3, 1.5: 4, Colour.RED: 5},
        "tensors": [
            *(torch.arange(20.0), torch.ones(9, dtype=torch.bfloat16), torch.ones(20, device="meta")),
            *(torch.eye(4).to_sparse(), torch.tensor([1j]).conj(), torch.zeros(0, 3), nn.Parameter(torch.ones(2))),
        ],
        "arrays": [
            *(np.array([even, "a", None], dtype=object), np.zeros(3, dtype=[("a", "i4"), ("b", "f8")])),
            *(np.array(["2020-01-01"] * 10, dtype="datetime64[D]"), np.array(["a", "bb"] * 10), np.float32(0.1)),
            *(np.ones(12, dtype=np.longdouble), np.longdouble(1), np.asfortranarray(np.arange(12.0).reshape(3, 4))),
        ],
        "tables": [pd.DataFrame({"a": [1, 2]}), pd.Series([1]), scipy.sparse.eye(3)],
        "curves": [scipy.interpolate.CubicSpline([0, 1, 2], [0, 1, 4]), scipy.stats.norm(0, 2)],
        "modules": [Network(), nn.MultiheadAttention(4, 2), nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))],
        "compiled": [torch.compile(nn.Linear(1, 1)), torch.jit.script(nn.Linear(2, 2))],
        "losses": [nn.CrossEntropyLoss(weight=torch.ones(3)), OwnGradient.apply],
        "random": [torch.Generator().manual_seed(3), np.random.default_rng(1), random.Random(2)],
        "global": [np.random.mtrand._rand, torch.default_generator],
        "of its kind": [torch.float32, torch.device("cpu"), torch.Size([1]), np.dtype("f4")],
    }  # fmt: skip


if __name__ == "__main__":
    from nnsim.describe import describe
    from nnsim.identity.parts import identity

    found = {}
    for name, thing in things().items():
        found[name] = identity(thing)
        assert json.dumps(found[name]) == json.dumps(identity(thing)), name
        json.dumps(describe(thing))
    json.dump(found, sys.stdout, sort_keys=True, indent=0)
