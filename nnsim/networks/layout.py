"""Where each parameter tensor lies in the flat positions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

from torch import Tensor


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
        edges = pairwise(accumulate(self.sizes, initial=0))
        return {name: slice(*pair) for name, pair in zip(self.shapes, edges, strict=True)}

    def split(self, positions: Tensor) -> dict[str, Tensor]:
        """Positions [..., n] as tensors [..., *shape] by name.

        One split, rather than a slice for each tensor, so that the backward pass is one concatenation.
        """
        parts = positions.split(self.sizes, dim=-1)
        lead = positions.shape[:-1]
        return {name: p.reshape((*lead, *s)) for (name, s), p in zip(self.shapes.items(), parts, strict=True)}
