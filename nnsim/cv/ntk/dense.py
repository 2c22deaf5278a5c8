r"""The rule for plain dense networks: all walkers together, with the output gradients written out.

With h_0 = x, z_l = W_l h_{l-1} + b_l, h_l = phi_l(z_l) and f = h_L, the gradients g_l = df / dz_l follow from the last
layer backwards,

    g_L = 1 phi_L'(z_L),    g_l = (g_{l+1} W_{l+1}) phi_l'(z_l),

and layer l adds (h_{l-1} h_{l-1}'^T + 1) (g_l g_l'^T) to the kernel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnsim.cv.ntk.factors import Factor, Outer
from nnsim.networks.dense import DenseLayer, dense_layers, is_dense
from nnsim.networks.layout import Layout


def _silu_slope(z: Tensor, h: Tensor) -> Tensor:
    s = torch.sigmoid(z)
    return s + h * (1 - s)


# phi'(z) from z and h = phi(z), for all activations that the systems name; others are left to autograd.
SLOPES: dict[type[nn.Module], Callable[[Tensor, Tensor], Tensor]] = {
    nn.ReLU: lambda z, h: (z > 0).to(z.dtype),
    nn.Tanh: lambda z, h: 1 - h * h,
    nn.Sigmoid: lambda z, h: h * (1 - h),
    nn.SiLU: _silu_slope,
}
_FORWARD: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.ReLU: torch.relu,  # never in place, whatever the module is set to
    nn.Tanh: torch.tanh,
    nn.Sigmoid: torch.sigmoid,
    nn.SiLU: F.silu,
}


def fits(module: nn.Module) -> bool:
    """Whether a module is a plain dense network with activations that are known here."""
    if not is_dense(module) or any(isinstance(part, nn.Flatten) for part in list(module.children())[1:]):
        return False
    layers = dense_layers(module, Layout({name: tuple(p.shape) for name, p in module.named_parameters()}))
    return all(
        len(layer.activations) <= 1 and all(type(one) in SLOPES for one in layer.activations) for layer in layers
    )


class DenseFactors:
    """Factors of a dense network for many walkers together; see `fits` for which."""

    def __init__(self, module: nn.Module, layout: Layout) -> None:
        self.layers = dense_layers(module, layout)
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
        h = x.flatten(1).expand(len(positions), -1, -1)
        passed: list[tuple[DenseLayer, Tensor, Tensor | None]] = []
        for layer in self.layers:
            z, a = layer.linear(positions, h), h
            h, slope = z, None
            if layer.activations:
                kind = type(layer.activations[0])
                h = _FORWARD[kind](z)
                slope = SLOPES[kind](z, h)
            passed.append((layer, a, slope))
        found: list[Factor] = []
        g: Tensor | None = None  # the identity
        for place, (layer, a, slope) in enumerate(reversed(passed)):
            if place:
                above = passed[len(passed) - place][0].matrix(positions)
                g = above[:, None].expand(-1, a.shape[1], -1, -1) if g is None else _times(g, above)
            if slope is not None:
                g = torch.diag_embed(slope) if g is None else g * slope[:, :, None]
            inputs = x.flatten(1) if layer is self.layers[0] else a  # the same for all walkers
            found.append(Outer(inputs, g, self.outputs, bias=layer.bias is not None))
        return found


def _times(g: Tensor, matrix: Tensor) -> Tensor:
    """G W [W, N, O, in] for g [W, N, O, out] and W [W, out, in]."""
    return torch.bmm(g.flatten(1, 2), matrix).unflatten(1, g.shape[1:3])
