"""A module called with other parameters than its own."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.func import functional_call


def call_with(module: nn.Module, tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Outputs at points x [N, ...] with `tensors`, by name, in place of parameters; the module stays as it was.

    `functional_call` by itself does not leave it so (torch 2.13) if a layer has two names in it: the tensors are put in
    once for each name, and the second time those of the first are kept as what to put back.
    """
    names = {id(p): name for name, p in module.named_parameters()}
    every = dict(tensors)
    for prefix, layer in module.named_modules():  # each layer once, under its first name
        for key, p in layer._parameters.items():
            if p is not None and names[id(p)] in tensors:  # parameters that layers share have the name of the first
                every[f"{prefix}.{key}" if prefix else key] = tensors[names[id(p)]]
    found: Tensor = functional_call(module, every, (x,), tie_weights=False)
    return found
