"""What calls mean that ask for shapes, change them, or sum over dimensions; see `nnsim.networks.vocabulary`."""

from __future__ import annotations

import math
from typing import Any

import torch

from nnsim.networks.writer import POINTS, Untraced, Value, Writer


def flatten(w: Writer, input: Any, start_dim: int = 0, end_dim: int = -1) -> Value:
    """Dimensions of a point made one."""
    (first,) = w.dimensions(input, start_dim)
    return w.write("flatten", [input], {"start_dim": first, "end_dim": end_dim})


def reshape(w: Writer, input: Any, *sizes: Any) -> Value:
    """Other sizes of a point."""
    wanted = list(sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes)
    first, rest = wanted[0], tuple(wanted[1:])
    whole = first == -1 and -1 not in rest and w.values_of_a_point(input) == math.prod(rest)
    if (first is not POINTS and not whole) or not all(isinstance(one, int) for one in rest):
        raise Untraced("a reshaping that may mix points")
    return w.write("reshape", [input], {"shape": rest})


def permute(w: Writer, input: Any, *dims: Any) -> Value:
    """Dimensions of a point in another order."""
    wanted = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    count = len(wanted)
    order = tuple(d % count for d in wanted)
    if order[0] != 0:
        raise Untraced("a permutation that moves the points")
    return w.write("permute", [input], {"dims": order})


def movedim(w: Writer, input: Any, source: Any, destination: Any) -> Value:
    """As a permutation."""
    if not w.knows_shapes:
        ends = {"source": w.dimensions_or_last(source), "destination": w.dimensions_or_last(destination)}
        return w.write("movedim", [input], ends)
    rank = len(w.sizes(input)) + 1
    # Sizes that are the numbers of the dimensions: of an empty tensor, as that of the points is 0.
    return permute(w, input, tuple(torch.empty(tuple(range(rank))).movedim(source, destination).shape))


def transpose(w: Writer, input: Any, dim0: int, dim1: int) -> Value:
    """As a permutation."""
    rank = len(w.sizes(input)) + 1
    order = list(range(rank))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return permute(w, input, order)


def unsqueeze(w: Writer, input: Any, dim: int) -> Value:
    """A dimension of size 1 put in."""
    sizes = list(w.sizes(input))
    place = dim if dim >= 0 else dim + len(sizes) + 2
    if place < 1:
        raise Untraced("a dimension before that of the points")
    sizes.insert(place - 1, 1)
    return w.write("reshape", [input], {"shape": tuple(sizes)})


def squeeze(w: Writer, input: Any, dim: int) -> Value:
    """A dimension left out if its size is 1."""
    sizes, (place,) = list(w.sizes(input)), w.dimensions(input, dim)
    if sizes[place - 1] == 1:
        del sizes[place - 1]
    return w.write("reshape", [input], {"shape": tuple(sizes)})


def reduce(kind: str, w: Writer, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    """A sum or mean over dimensions of a point."""
    if dim is None or dtype is not None:
        raise Untraced(f"a {kind} over the points, or to another type")
    return w.write(kind, [input], {"dims": w.dimensions(input, dim), "keepdim": keepdim})


def size(w: Writer, input: Any, dim: int | None = None) -> Any:
    """All sizes, or one; that of the points is not a number."""
    if dim == 0:
        return POINTS
    return (POINTS, *w.sizes(input)) if dim is None else (POINTS, *w.sizes(input))[dim]


def attribute(w: Writer, input: Any, name: str) -> Any:
    """What is asked of a tensor beside its methods."""
    if name == "shape":
        return _Shape(w, input)
    if name == "ndim":
        return len(w.sizes(input)) + 1
    raise Untraced(f"the attribute {name}")


class _Shape:
    """Sizes that are asked for one by one, of which that of the points is known without the others."""

    def __init__(self, w: Writer, value: Any) -> None:
        self.writer, self.value = w, value

    def __getitem__(self, index: Any) -> Any:
        return POINTS if isinstance(index, int) and index == 0 else size(self.writer, self.value)[index]


def getitem(w: Writer, sizes: Any, index: Any) -> Any:
    """One of several sizes."""
    if isinstance(sizes, (tuple, _Shape)):
        return sizes[index]
    raise Untraced("a part of a tensor")


def same(w: Writer, input: Any) -> Any:
    """What changes no number."""
    return input
