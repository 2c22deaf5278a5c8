"""What plain dense networks look like: which modules are such, and their layers one by one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nnsim.networks.layout import Layout
from nnsim.networks.operations import Operation
from nnsim.networks.program import program_of
from nnsim.networks.vocabulary import MODULES

# Activations on each number alone, so that they may act on [W, N, C] as well as on [N, C].
ELEMENTWISE = (
    "relu", "tanh", "silu", "gelu", "sigmoid", "elu", "leaky_relu", "softplus", "identity", "hardtanh", "selu", "celu",
    "mish", "relu6", "softsign", "logsigmoid",
)  # fmt: skip


@dataclass(frozen=True)
class DenseLayer:
    """A linear layer, where it lies in the positions, and the activations that follow it."""

    weight: slice
    bias: slice | None
    shape: tuple[int, int]  # out, in
    activations: tuple[Operation, ...]

    @property
    def function(self) -> str | None:
        """Name of the first activation."""
        return self.activations[0].settings["function"] if self.activations else None

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
    """Whether a module is a `Sequential` of layers that make a dense network: what is dealt with as such unasked.

    Others are as dense by their programs; how they were evaluated is recorded, and a resume does the same.
    """
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    if type(module) is not nn.Sequential or not all(type(layer) in MODULES for layer in module):
        return False
    return all(p.requires_grad for p in module.parameters()) and dense_layers(module, Layout(shapes)) is not None


def dense_layers(module: nn.Module, layout: Layout) -> list[DenseLayer] | None:
    """The layers of a dense network in order, each with the activations that follow it; None for other modules.

    Dense is a program in which linear layers and elementwise activations follow each other, perhaps after a flattening,
    and that takes each tensor once.
    """
    program = program_of(module, shapes=layout.shapes)
    if isinstance(program, str) or program.fixed or program.result != len(program.operations):
        return None
    layers: list[DenseLayer] = []
    for number, one in enumerate(program.operations):
        flattens = number == 0 and one.kind == "flatten" and tuple(one.settings.values()) == (1, -1)
        if one.reads != (number,):
            return None
        if one.kind == "linear":
            places = {key: place.at for key, place in one.parameters.items()}
            weight, bias = places["weight"], places.get("bias")
            assert weight is not None  # as nothing is fixed
            rows, columns = one.parameters["weight"].shape
            layers.append(DenseLayer(weight, bias, (rows, columns), ()))
        elif layers and one.kind == "activation" and one.settings["function"] in ELEMENTWISE:
            layers[-1] = replace(layers[-1], activations=(*layers[-1].activations, one))
        elif not flattens:
            return None
    return layers if layers and all(len(program.users(name)) == 1 for name in program.places) else None
