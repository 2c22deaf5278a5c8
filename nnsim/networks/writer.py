"""A program as it is written: operation by operation, with the shape of what each makes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from nnsim.errors import first_line
from nnsim.networks.layout import places_of
from nnsim.networks.operations import Operation, Place

POINTS = object()  # the number of points, where a size is asked for
TRIAL = 3  # points by which shapes are found


class Untraced(Exception):
    """A network, or a part of it, that has no operation; the message says what."""


@dataclass(frozen=True)
class Value:
    """A value of the program: 0 is the points, k + 1 what operation k makes."""

    number: int


def number_or_none(value: Any) -> float:
    """A number that a sum or product may have."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Untraced("a sum or product with something else than values, parameters and numbers")
    return value


class Writer:
    """Operations in their order.

    Args:
        module: whose tensors they take.
        shapes: of its parameters that move, by name, in the order of the flat positions.
        points: some points [N, ...], of which shape and type count; None leaves shapes unknown.
    """

    def __init__(self, module: nn.Module, shapes: Mapping[str, tuple[int, ...]], points: Tensor | None) -> None:
        at = places_of(shapes)
        self.places = {name: Place(name, tuple(shape), at[name]) for name, shape in shapes.items()}
        self.fixed: dict[str, Tensor] = {}
        self.operations: list[Operation] = []
        # The first name of a tensor that has several is the one that `named_parameters` gives.
        self._names = {id(one): name for name, one in [*module.named_buffers(), *module.named_parameters()]}
        self._values = None
        if points is not None:  # zeros on the CPU: the meta device takes seconds to be loaded
            kind = torch.float32 if points.is_floating_point() else points.dtype
            self._values = [torch.zeros((TRIAL, *points.shape[1:]), dtype=kind)]
        self.node: fx.Node | None = None  # of what is read
        self.layer = ""  # its name
        self.fresh: frozenset[fx.Node] = frozenset()  # nodes that make a tensor of their own

    def place(self, tensor: Tensor | None) -> Place | None:
        """Where a tensor of the module lies."""
        if tensor is None:
            return None
        name = self._names.get(id(tensor))
        if name is None:
            raise Untraced("a tensor that is neither parameter nor buffer")
        if name in self.places:
            return self.places[name]
        self.fixed[name] = tensor.detach()
        return Place(name, tuple(tensor.shape), None)

    def write(
        self, kind: str, reads: Sequence[Any], settings: Mapping[str, Any] | None = None, **parameters: Any
    ) -> Value:
        """The value that an operation makes."""
        for one in reads:
            if not isinstance(one, Value):
                raise Untraced("it computes with something else than values before it comes to the points")
        given = {key: one for key, one in parameters.items() if one is not None}
        if not all(isinstance(one, Place) for one in given.values()):
            raise Untraced("it computes its weights")
        operation = Operation(kind, tuple(one.number for one in reads), dict(settings or {}), given, self.layer)
        if self._values is not None:
            made = self._made(operation)
            self._values.append(made)
            operation = replace(operation, shape=tuple(made.shape[1:]))
        self.operations.append(operation)
        return Value(len(self.operations))

    def _made(self, operation: Operation) -> Tensor:
        """What an operation makes of zeros."""
        assert self._values is not None
        tensors = {key: torch.zeros(one.shape) for key, one in operation.parameters.items()}
        try:
            made = operation([self._values[number] for number in operation.reads], tensors)
        except Exception as error:  # torch refuses shapes by errors of many types
            raise Untraced(f"{operation.kind}: {first_line(error)}") from error
        if made.ndim == 0 or len(made) != TRIAL:
            raise Untraced("an operation that does not keep the points apart")
        return made

    # ------------------------------------------------------------------ what readers ask

    @property
    def knows_shapes(self) -> bool:
        """Whether there are points, which tell them."""
        return self._values is not None

    def sizes(self, value: Any) -> tuple[int, ...]:
        """Shape of one point of a value."""
        if not isinstance(value, Value):
            raise Untraced("the shape of something else than a value")
        if self._values is None:
            raise Untraced("a shape that only points tell")
        return tuple(self._values[value.number].shape[1:])

    def values_of_a_point(self, value: Any) -> int:
        """Numbers that a point of a value has."""
        return math.prod(self.sizes(value))

    def dimensions(self, value: Any, dims: Any) -> tuple[int, ...]:
        """Dimensions counted from the first, none of which is that of the points."""
        found = tuple(dims) if isinstance(dims, (tuple, list)) else (dims,)
        if any(d < 0 for d in found):
            rank = len(self.sizes(value)) + 1
            found = tuple(d % rank for d in found)
        if 0 in found:
            raise Untraced("an operation over the points")
        return found

    def dimensions_or_last(self, dims: Any) -> tuple[int, ...]:
        """Dimensions that are none of the points' as far as is known without points: the last, or above 0."""
        found = tuple(dims) if isinstance(dims, (tuple, list)) else (dims,)
        if not all(d == -1 or d > 0 for d in found):
            raise Untraced("dimensions that only points tell")
        return found

    def changes_input(self) -> None:
        """Refuse a change in place of what something else reads, too, itself or by another view."""
        node = self.node
        while node is not None and node.all_input_nodes:
            node = node.all_input_nodes[0]
            if len(node.users) > 1 or node.op in ("placeholder", "get_attr"):
                raise Untraced("a change in place of what is read elsewhere")
            if node in self.fresh:
                return
