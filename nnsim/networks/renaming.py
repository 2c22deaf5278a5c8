r"""Whether a network computes the same under other names of its hidden neurons: tried on points.

For each hidden layer, at the given parameters and at random ones,

    f(x; q) = f(x; rename(q))        for the permutations (1 2 ... h) and (1 2), and a change of sign of one neuron

A permutation is a product of these two, and a change of signs one of those and of permutations, so that no other names
need be tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nnsim.errors import InputError, first_line, shown
from nnsim.networks.call import Caller
from nnsim.networks.copies import copied
from nnsim.networks.layout import Layout

POINTS = 16  # of the data, that are tried


class Renaming(Protocol):
    """Other names of the neurons of one hidden layer, and what of them is carried out."""

    def __call__(self, q: np.ndarray) -> np.ndarray:
        """Parameters [n] under these names."""
        ...


class Network:
    """A module whose outputs on some points are asked for at other parameters.

    Args:
        owner: who asks, for messages.
        module: the network; it is not changed.
        shapes: names and shapes of its trainable parameters, in the order of the flat ones.
        points: some points [N, ...], of which the first 16 are taken.

    Raises:
        InputError: something else than a module, one with other parameters, or points that it cannot take.
    """

    def __init__(self, owner: str, module: object, shapes: Mapping[str, Sequence[int]], points: Any) -> None:
        if not isinstance(module, nn.Module):
            raise InputError(f"{owner}: module = {type(module).__name__} must be a torch.nn.Module; give the network")
        own = {name: tuple(p.shape) for name, p in module.named_parameters() if p.requires_grad}
        if list(own.items()) != [(name, tuple(shape)) for name, shape in shapes.items()]:
            raise InputError(f"{owner}: the module has other parameters than the run; give the network of the run")
        kinds = {p.dtype for p in module.parameters()}
        self.dtype = torch.float64 if torch.float64 in kinds else torch.float32
        self.owner, self.layout = owner, Layout(own)
        self.module = Caller(copied(module, owner).to("cpu", self.dtype).eval())
        try:
            x = torch.as_tensor(points)[:POINTS].cpu()
        except (TypeError, ValueError, RuntimeError, IndexError):
            raise InputError(
                f"{owner}: points = {shown(points)} must be inputs of the network, [N, ...]; give an array of them"
            ) from None
        self.points = x.to(self.dtype) if x.is_floating_point() else x

    @torch.no_grad()
    def outputs(self, q: np.ndarray) -> Tensor:
        """All numbers that come out at parameters q [n]."""
        tensors = self.layout.split(torch.as_tensor(q).to(self.dtype))
        try:
            found = self.module.plainly(tensors, self.points)
        except Exception as error:
            raise InputError(
                f"{self.owner}: the module cannot evaluate points of shape {tuple(self.points.shape)}: "
                f"{first_line(error)}; change points"
            ) from error
        return torch.cat([one.flatten().double() for one in tree_leaves(found) if isinstance(one, Tensor)])

    def differs(self, one: Tensor, two: Tensor) -> bool:
        """Whether outputs differ by more than rounding."""
        rounding = torch.finfo(self.dtype).eps ** 0.5
        return bool((one - two).abs().max() > rounding * one.abs().max())

    def trials(self, q: np.ndarray) -> Iterator[np.ndarray]:
        """The parameters q [n], and random ones, at which no unit should be idle."""
        yield np.asarray(q, dtype=np.float64)
        generator = torch.Generator().manual_seed(0)
        parts = []
        for shape in self.layout.shapes.values():
            fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 4
            parts.append(torch.randn(shape, generator=generator, dtype=torch.float64).flatten() / fan_in**0.5)
        yield torch.cat(parts).numpy()

    def changed_by(self, q: np.ndarray, renaming: Renaming) -> bool:
        """Whether the function is another under other names, at q or at random parameters."""
        return any(self.differs(self.outputs(at), self.outputs(renaming(at))) for at in self.trials(q))
