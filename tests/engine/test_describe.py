"""Descriptions of components: JSON, the same every time, and an end to every one."""

import functools
import json
import math
from typing import Any

import pandas as pd
import torch

from nnsim.describe import describe, differences


class Part:
    def __init__(self, **settings: Any) -> None:
        self.__dict__.update(settings)


class Owner(Part):
    """Has a describe() of its own that asks for that of its part."""

    def describe(self) -> dict[str, Any]:
        return {"part": describe(self.part)}


def test_tensors_of_types_that_numpy_lacks() -> None:
    values = torch.tensor([1.0, 2.5, -3.0])
    found = describe(values.to(torch.bfloat16))
    assert found["dtype"] == "torch.bfloat16"
    assert found["sha256"] == describe(values)["sha256"]  # all three are exact in both types
    assert describe(values)["dtype"] == "float32"
    assert differences(found, describe(torch.tensor([1.0, 2.5, 3.0]).to(torch.bfloat16)))
    assert describe(torch.tensor(0.5, dtype=torch.bfloat16)) == 0.5
    assert describe(values.to_sparse())["sha256"] == describe(values)["sha256"]
    assert describe(torch.tensor([1j]).conj())["dtype"] == "complex64"


def test_what_refers_to_itself_ends() -> None:
    a, b = Part(size=3), Part()
    a.other, b.other = b, a
    assert describe(a) == {
        "type": "Part",
        "size": 3,
        "other": {"type": "Part", "other": {"type": "Part", "is": "around this"}},
    }
    owner = Owner(part=Part(n=1))
    owner.part.owner = owner
    assert describe(owner)["part"]["owner"] == {"type": "Owner", "is": "around this"}
    assert describe(pd.DataFrame({"a": [1, 2]}))["type"] == "DataFrame"  # gives another table for ever
    loop: list[Any] = [1]
    loop.append(loop)
    assert describe(loop) == [1, {"type": "list", "is": "around this"}]
    # twice is not around itself, and the second description is that of the first
    part = Part(x=1)
    assert describe([part, part]) == [{"type": "Part", "x": 1}] * 2
    assert describe(a) == describe(a)


def test_sets_are_sorted() -> None:
    assert describe({10, 9, 1}) == [1, 9, 10]
    assert describe(frozenset({"b", "a"})) == ["a", "b"]
    assert describe({1, "a", None}) == describe({None, "a", 1})


def test_partial_functions() -> None:
    found = describe(functools.partial(math.pow, 2, scale=3.0))
    assert found == {"type": "partial", "func": "math.pow", "args": [2], "keywords": {"scale": 3.0}}
    assert json.loads(json.dumps(found)) == found


def test_of_long_values_the_place_is_shown_where_they_differ() -> None:
    one, other = "a" * 100 + "walkers=2" + "b" * 100, "a" * 100 + "walkers=3" + "b" * 100
    (line,) = differences({"text": one}, {"text": other})
    assert line == f"text: ...{'a' * 12}walkers=2{'b' * 33}... -> ...{'a' * 12}walkers=3{'b' * 33}..."
    assert differences({"k": 1}, {"k": 7}) == ["k: 1 -> 7"]
