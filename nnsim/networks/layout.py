"""Where each parameter tensor lies in the flat positions; without torch, for readers of trajectories."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def places_of(shapes: Mapping[str, Sequence[int]]) -> dict[str, slice]:
    """Place of each tensor in the flat positions, from names and shapes in their order.

    >>> places_of({"0.weight": (2, 3), "0.bias": (2,)})
    {'0.weight': slice(0, 6, None), '0.bias': slice(6, 8, None)}
    """
    found, first = {}, 0
    for name, shape in shapes.items():
        found[name] = slice(first, first + math.prod(int(side) for side in shape))
        first = found[name].stop
    return found


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the parameter tensors, in the order of the flat positions."""

    shapes: Mapping[str, tuple[int, ...]]

    @property
    def sizes(self) -> list[int]:
        """Number of values of each tensor."""
        return [math.prod(shape) for shape in self.shapes.values()]

    def slices(self) -> dict[str, slice]:
        """Place of each tensor in the flat positions."""
        return places_of(self.shapes)

    def split(self, positions: Tensor) -> dict[str, Tensor]:
        """Positions [..., n] as tensors [..., *shape] by name.

        One split, rather than a slice for each tensor, so that the backward pass is one concatenation.
        """
        parts = positions.split(self.sizes, dim=-1)
        lead = positions.shape[:-1]
        return {name: p.reshape((*lead, *s)) for (name, s), p in zip(self.shapes.items(), parts, strict=True)}
