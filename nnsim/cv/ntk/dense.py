r"""The rule for plain dense networks: all walkers together, with the output gradients written out.

With h_0 = x, z_l = W_l h_{l-1} + b_l, h_l = phi_l(z_l) and f = h_L, the gradients g_l = df / dz_l follow from the last
layer backwards,

    g_L = 1 phi_L'(z_L),    g_l = (g_{l+1} W_{l+1}) phi_l'(z_l),

and layer l adds (h_{l-1} h_{l-1}'^T + 1) (g_l g_l'^T) to the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nnsim.cv.ntk.factors import Factor, Outer
from nnsim.networks.dense import DenseLayer, dense_layers, is_dense
from nnsim.networks.layout import Layout
from nnsim.networks.operations import ACTIVATIONS


def _silu_slope(z: Tensor, h: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return s + h * (1 - s)


def _silu_curvature(z: Tensor, h: Tensor, slope: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return s * (1 - s) * (2 + z * (1 - 2 * s))


# phi'(z) from z and h = phi(z), for all activations that the systems name; others are left to autograd.
SLOPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relu": lambda z, h: (z > 0).to(z.dtype),
    "tanh": lambda z, h: 1 - h * h,
    "sigmoid": lambda z, h: h * (1 - h),
    "silu": _silu_slope,
}
# phi''(z) from z, h and phi'(z), None where it is zero.
CURVATURES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor] | None] = {
    "relu": None,
    "tanh": lambda z, h, slope: -2 * h * slope,
    "sigmoid": lambda z, h, slope: slope * (1 - 2 * h),
    "silu": _silu_curvature,
}


def fits(module: nn.Module) -> bool:
    """Whether a module is a plain dense network with activations that are known here."""
    if not is_dense(module):
        return False
    layers = dense_layers(module, Layout({name: tuple(p.shape) for name, p in module.named_parameters()}))
    return all(
        len(layer.activations) <= 1 and all(one.settings["function"] in SLOPES for one in layer.activations)
        for layer in layers or ()
    )


class DenseFactors:
    """Factors of a dense network for many walkers together; see `fits` for which."""

    def __init__(self, module: nn.Module, layout: Layout) -> None:
        layers = dense_layers(module, layout)
        assert layers is not None
        self.layers = layers
        self.outputs = self.layers[-1].shape[0]
        self.features = self.layers[0].shape[1]

    def point_bytes(self, item: int) -> int:
        """Bytes for each point and walker: inputs, and gradients of all outputs."""
        return item * sum(fan_in + 2 * self.outputs * fan_out for fan_out, fan_in in (one.shape for one in self.layers))

    def factors(self, positions: Tensor, x: Tensor) -> list[Factor]:
        """One factor for each layer, last layer first.

        Args:
            positions: [W, n], in the type of the network.
            x: points [N, ...].
        """
        passes = _forward(self.layers, positions, x)
        _output_gradients(passes, positions)
        found: list[Factor] = []
        for place, one in enumerate(reversed(passes)):
            product = None
            if place == 1 and passes[-1].g is None and one.slope is not None:
                product = one.slope, passes[-1].layer.matrix(positions).square().sum(1)
            found.append(Outer(one.a, one.g, self.outputs, bias=one.layer.bias is not None, product=product))
        return found

    def mean_kernel(self, positions: Tensor, x: Tensor) -> Tensor:
        """The mean kernel [W, N, N], as one node of the graph with its gradient written out."""
        found: Tensor = _MeanKernel.apply(positions, x, self)
        return found

    def reference(self, positions: Tensor, x: Tensor) -> Tensor:
        """The same, left to autograd."""
        factors = self.factors(positions, x)
        total = factors[0].mean(factors[0]).expand(len(positions), -1, -1)
        for factor in factors[1:]:
            total = total + factor.mean(factor)
        return total / self.outputs


@dataclass
class _Pass:
    """What the forward pass of one layer leaves: its inputs a, outputs z and h = phi(z), and phi'(z)."""

    layer: DenseLayer
    a: Tensor
    z: Tensor
    h: Tensor
    slope: Tensor | None
    # and the backward pass: df/dh [W, N, O, out], df/dz, None for the identity; the two factors of the kernel
    t: Tensor = field(init=False)
    g: Tensor | None = None
    inner: Tensor = field(init=False)
    outer: Tensor | None = None


class _MeanKernel(torch.autograd.Function):
    """The mean kernel of a dense network: small networks spend their time on the nodes of a graph, not on numbers."""

    @staticmethod
    def forward(ctx: Any, positions: Tensor, x: Tensor, network: DenseFactors) -> Tensor:
        passes = _forward(network.layers, positions, x)
        _output_gradients(passes, positions)
        total: Tensor | None = None
        for one in passes:
            one.inner = one.a @ one.a.mT
            one.inner = one.inner.add_(1) if one.layer.bias is not None else one.inner
            if one.g is not None:
                flat = one.g.flatten(-2)
                one.outer = flat @ flat.mT
            product = one.inner * (network.outputs if one.outer is None else one.outer)
            total = product if total is None else total + product
        assert total is not None
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(positions, x)
            ctx.network, ctx.passes = network, passes
        return total.div_(network.outputs).expand(len(positions), -1, -1)

    @staticmethod
    def backward(ctx: Any, m: Tensor) -> tuple[Tensor, None, None]:
        positions, x = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again: leave it all to autograd
            kernel = ctx.network.reference(positions, x)
            return torch.autograd.grad(kernel, positions, m, create_graph=True)[0], None, None
        both = (m + m.mT).div_(ctx.network.outputs)
        return _gradient(ctx.passes, positions, both, ctx.network.outputs), None, None


def _forward(layers: list[DenseLayer], positions: Tensor, x: Tensor) -> list[_Pass]:
    passes, h = [], x.flatten(1).expand(len(positions), -1, -1)
    for layer in layers:
        z, a = layer.linear(positions, h), h
        h, slope = z, None
        if layer.function:
            h = ACTIVATIONS[layer.function](z)
            slope = SLOPES[layer.function](z, h)
        passes.append(_Pass(layer, a, z, h, slope))
    passes[0].a = x.flatten(1)  # the same for all walkers
    return passes


def _output_gradients(passes: list[_Pass], positions: Tensor) -> None:
    """The output gradients t and g of each layer, from the last one down."""
    above: _Pass | None = None
    for one in reversed(passes):
        if above is not None:
            matrix = above.layer.matrix(positions)
            one.t = matrix[:, None] if above.g is None else _times(above.g, matrix)
            one.g = one.t if one.slope is None else one.t * one.slope[:, :, None]
            one.g = one.g.expand(-1, one.z.shape[1], -1, -1)
        elif one.slope is not None:
            one.g = torch.diag_embed(one.slope)
        above = one


def _gradient(passes: list[_Pass], positions: Tensor, both: Tensor, outputs: int) -> Tensor:
    """Derivative [W, n] of sum(M K) by the positions, from M + M^T over O."""
    gradient = torch.zeros_like(positions)
    by_weight: list[Tensor | None] = [None] * len(passes)
    by_slope: list[Tensor | None] = [None] * len(passes)
    work, carried = torch.empty_like(both), None
    # Through the output gradients, which were made from the last layer down: from the first one up.
    for place, one in enumerate(passes):
        if one.g is None:
            break
        by_g = (torch.mul(both, one.inner, out=work) @ one.g.flatten(-2)).view(one.g.shape)
        by_g = by_g if carried is None else by_g.add_(carried)
        if place + 1 == len(passes):
            by_slope[place] = by_g.diagonal(dim1=2, dim2=3)
            break
        by_t = by_g
        if one.slope is not None:
            by_slope[place] = (by_g * one.t).sum(2)
            by_t = by_g * one.slope[:, :, None]
        above = passes[place + 1]
        if above.g is None:
            by_weight[place + 1] = by_t.sum(1)
        else:
            flat = by_t.flatten(1, 2)
            by_weight[place + 1] = torch.bmm(above.g.flatten(1, 2).mT, flat)
            carried = torch.bmm(flat, above.layer.matrix(positions).mT).view(above.g.shape)
    # Through the forward pass: from the last layer down.
    by_h: Tensor | None = None
    for place in reversed(range(len(passes))):
        one, by_z = passes[place], None
        if by_h is not None:
            by_z = by_h if one.slope is None else by_h * one.slope
        curved = CURVATURES[one.layer.function] if one.layer.function else None
        turned = by_slope[place]
        if curved is not None and turned is not None and one.slope is not None:
            bend = turned * curved(one.z, one.h, one.slope)
            by_z = bend if by_z is None else by_z + bend
        _put(gradient, one, by_weight[place], by_z)
        if place:
            factor = both * outputs if one.outer is None else torch.mul(both, one.outer, out=work)
            by_h = factor @ one.a
            by_h = by_h if by_z is None else by_h + torch.bmm(by_z, one.layer.matrix(positions))
    return gradient


def _put(gradient: Tensor, one: _Pass, by_weight: Tensor | None, by_z: Tensor | None) -> None:
    """Enter the derivatives by weights and bias of one layer."""
    weights = gradient[:, one.layer.weight]
    if by_weight is not None:
        weights += by_weight.flatten(1)
    if by_z is not None:
        weights += (by_z.mT @ one.a).flatten(1)
        if one.layer.bias is not None:
            gradient[:, one.layer.bias] = by_z.sum(1)


def _times(g: Tensor, matrix: Tensor) -> Tensor:
    """G W [W, N, O, in] for g [W, N, O, out] and W [W, out, in]."""
    return torch.bmm(g.flatten(1, 2), matrix).unflatten(1, g.shape[1:3])
