"""Plain dense networks: many walkers by batched matrix products, with the backward pass written out.

Small networks spend their time not in arithmetic but in the bookkeeping of automatic differentiation, node by node. The
whole network as one node takes that away; `BatchedDense.reference` is the same network left to autograd, and the two
are tested against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from nnsim.networks.call import Caller
from nnsim.networks.dense import DenseLayer, dense_layers
from nnsim.networks.layout import Layout
from nnsim.networks.operations import ACTIVATIONS

# d(activation)/dz times g, from g, the input z and the output h of the activation.
_BACKWARD: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "relu": lambda g, z, h: torch.ops.aten.threshold_backward(g, h, 0),
    "tanh": lambda g, z, h: torch.ops.aten.tanh_backward(g, h),
    "sigmoid": lambda g, z, h: torch.ops.aten.sigmoid_backward(g, h),
    "silu": lambda g, z, h: torch.ops.aten.silu_backward(g, z),
}


class BatchedDense:
    """Outputs of a dense network for many walkers; see `dense_layers` for which modules."""

    kind = "batched"

    def __init__(self, module: nn.Module, layout: Layout, dtype: torch.dtype) -> None:
        self.layout, self.dtype = layout, dtype
        self._call = Caller(module)
        layers = dense_layers(module, layout)
        assert layers is not None
        self.layers = layers
        places = list(layout.slices().values())
        # Numbers of the tensors of each layer, which need not be defined in the order in which they act.
        self._tensors = [(places.index(one.weight), one.bias and places.index(one.bias)) for one in layers]
        # Between linear layers without activation there is nothing to gain.
        self.written_out = all(_written_out(layer) for layer in self.layers)

    def plain(self) -> tuple[list[int], list[int], list[int], str] | None:
        """Widths, places of weights and of biases (-1: none), and the one hidden activation; None if less regular."""
        names = {one.settings["function"] for layer in self.layers[:-1] for one in layer.activations}
        regular = self.written_out and all(len(layer.activations) == 1 for layer in self.layers[:-1])
        biases = [-1 if layer.bias is None else layer.bias.start for layer in self.layers]
        if not regular or self.layers[-1].activations or len(names) > 1:
            return None
        sizes = [self.layers[0].shape[1], *(layer.shape[0] for layer in self.layers)]
        return sizes, [layer.weight.start for layer in self.layers], biases, names.pop() if names else "relu"

    def bytes_of(self, points: int) -> float:
        """What the evaluation of so many points takes for a walker at most, forward and backward."""
        rows = 4 * sum(layer.shape[0] for layer in self.layers) + max(max(layer.shape) for layer in self.layers)
        return float(self.dtype.itemsize * (points * rows + 3 * sum(self.layout.sizes)))

    def __call__(self, positions: Tensor, x: Tensor) -> Tensor:
        """Outputs [W, N, C] of positions [W, n] at points x [N, ...]."""
        if self.written_out:
            return _Dense.apply(positions, x, self)
        return self.reference(positions, x)

    def of_own_points(self, positions: Tensor, x: Tensor) -> Tensor:
        """Outputs [W, B, C] of positions [W, n], each at points of its own, x [W, B, ...]."""
        return vmap(self._call.plainly)(self.layout.split(positions.to(self.dtype)), x)

    def reference(self, positions: Tensor, x: Tensor) -> Tensor:
        """The same, differentiated by autograd."""
        flat = list(self.layout.split(positions.to(self.dtype)).values())
        h = x.flatten(1).expand(len(positions), -1, -1)
        for layer, (own, bias) in zip(self.layers, self._tensors, strict=True):
            weight = flat[own].transpose(1, 2)
            h = torch.bmm(h, weight) if bias is None else torch.baddbmm(flat[bias][:, None], h, weight)
            for activation in layer.activations:
                h = activation([h], {})
        return h


def _written_out(layer: DenseLayer) -> bool:
    return len(layer.activations) <= 1 and all(one.settings["function"] in _BACKWARD for one in layer.activations)


class _Dense(torch.autograd.Function):
    """The network as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, positions: Tensor, x: Tensor, network: BatchedDense) -> Tensor:
        numbers = positions.to(network.dtype)
        h = x.flatten(1).expand(len(positions), -1, -1)
        passed: list[tuple[Tensor, Tensor | None, Tensor | None]] = []
        for layer in network.layers:
            z = layer.linear(numbers, h)
            out = ACTIVATIONS[layer.function](z) if layer.function else z
            passed.append((h, z, out))
            h = out
        if ctx.needs_input_grad[0]:
            # The output is saved, not kept in `passed`: a node that holds its own output is freed by the garbage
            # collector only.
            ctx.save_for_backward(positions, x, h)
            inputs, last, _ = passed[-1]
            passed[-1] = inputs, (last if network.layers[-1].activations else None), None
            ctx.network, ctx.numbers, ctx.passed = network, numbers, passed
        return h

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        positions, x, last = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient that is to be differentiated again: leave it all to autograd
            outputs = ctx.network.reference(positions, x)
            return torch.autograd.grad(outputs, positions, g, create_graph=True)[0], None, None
        gradient = torch.empty_like(ctx.numbers)
        for layer, (h, z, out) in zip(reversed(ctx.network.layers), reversed(ctx.passed), strict=True):
            if layer.function:
                g = _BACKWARD[layer.function](g, z, last if out is None else out)
            gradient[:, layer.weight] = torch.bmm(g.transpose(1, 2), h).flatten(1)
            if layer.bias is not None:
                gradient[:, layer.bias] = g.sum(1)
            if layer is not ctx.network.layers[0]:
                g = torch.bmm(g, layer.matrix(ctx.numbers))
        return gradient.to(positions.dtype), None, None
