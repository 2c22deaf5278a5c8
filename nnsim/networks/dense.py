"""What plain dense networks look like: which modules are such, and their layers one by one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnsim.networks.checks import has_hooks
from nnsim.networks.layout import Layout

# Modules that act on each number alone, so that they may act on [W, N, C] as well as on [N, C].
ELEMENTWISE = (
    nn.ReLU, nn.Tanh, nn.SiLU, nn.GELU, nn.Sigmoid, nn.ELU, nn.LeakyReLU, nn.Softplus, nn.Identity, nn.Hardtanh,
    nn.SELU, nn.CELU, nn.Mish, nn.ReLU6, nn.Softsign, nn.LogSigmoid,
)  # fmt: skip


@dataclass(frozen=True)
class DenseLayer:
    """A linear layer, where it lies in the positions, and the activations that follow it."""

    weight: slice
    bias: slice | None
    shape: tuple[int, int]  # out, in
    activations: tuple[nn.Module, ...]

    def matrix(self, positions: Tensor) -> Tensor:
        """Weights [W, out, in]."""
        return positions[:, self.weight].view(-1, *self.shape)

    def linear(self, positions: Tensor, h: Tensor) -> Tensor:
        """W h + b, [W, N, out], for h [W, N, in]."""
        weight = self.matrix(positions).transpose(1, 2)
        if self.bias is None:
            return torch.bmm(h, weight)
        return torch.baddbmm(positions[:, self.bias].unsqueeze(1), h, weight)


def is_dense(module: nn.Module) -> bool:
    """Whether a module is a `Sequential` of trainable linear layers and elementwise activations."""
    if type(module) is not nn.Sequential or not all(p.requires_grad for p in module.parameters()):
        return False
    layers = list(module)
    if layers and isinstance(layers[0], nn.Flatten) and (layers[0].start_dim, layers[0].end_dim) == (1, -1):
        layers = layers[1:]
    plain = all(type(layer) is nn.Linear or type(layer) in ELEMENTWISE for layer in layers)
    hooked = any(has_hooks(part) for part in (module, *layers))
    parameters = [id(p) for layer in layers for p in layer.parameters()]
    starts_linear = bool(layers) and type(layers[0]) is nn.Linear
    return plain and starts_linear and not hooked and len(parameters) == len(set(parameters)) > 0


def dense_layers(module: nn.Module, layout: Layout) -> list[DenseLayer]:
    """The layers in order, each with the activations that follow it."""
    offsets = layout.slices()
    layers: list[DenseLayer] = []
    for name, part in module._modules.items():  # named_children would leave out an activation that comes again
        if isinstance(part, nn.Linear):
            bias = None if part.bias is None else offsets[f"{name}.bias"]
            shape = (part.out_features, part.in_features)
            layers.append(DenseLayer(offsets[f"{name}.weight"], bias, shape, ()))
        elif part is not None and not isinstance(part, nn.Flatten):
            last = layers.pop()
            layers.append(DenseLayer(last.weight, last.bias, last.shape, (*last.activations, part)))
    return layers
