"""Copies of modules, and what is inside of those that only pass calls on."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from nnsim.errors import InputError, first_line
from nnsim.networks.call import outputs_of


class Plain(nn.Module):
    """One module under the name that it had in a wrapper, so that its parameters keep theirs.

    Args:
        name: of the attribute.
        module: what is called.
    """

    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__()
        self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of the one module."""
        (module,) = self._modules.values()
        assert module is not None
        outputs: Tensor = outputs_of(module(x))
        return outputs


def unwrapped(module: nn.Module) -> nn.Module:
    """A module that one process can call with other parameters: without a wrapper for devices or a compiler."""
    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return Plain("module", module.module)
    inner = getattr(module, "_orig_mod", None)  # of torch.compile
    return Plain("_orig_mod", inner) if isinstance(inner, nn.Module) else module


def copied(module: nn.Module, owner: str = "NeuralNetwork") -> nn.Module:
    """A deep copy; raises `InputError` for a module that cannot be copied."""
    try:
        return copy.deepcopy(module)
    except Exception as error:  # of any type: a module may hold anything
        raise InputError(
            f"{owner}: the module cannot be copied{_culprit(module)} ({type(error).__name__}: {first_line(error)}); "
            "leave what cannot be copied out of it, since each run evaluates a copy"
        ) from error


def _culprit(module: nn.Module) -> str:
    """The first tensor that a layer has computed and kept, in words; nothing if there is none."""
    for name, part in module.named_modules():
        for key, value in vars(part).items():
            if isinstance(value, Tensor) and not value.is_leaf:
                return (
                    f", since layer {name or 'module'!r} ({type(part).__name__}) keeps the computed tensor {key!r}, as "
                    "torch.nn.utils.weight_norm and prune do: take torch.nn.utils.parametrizations.weight_norm, or "
                    "prune.remove it"
                )
    return ""


def evaluated_copy(module: nn.Module, owner: str = "NeuralNetwork") -> nn.Module:
    """A deep copy for evaluations, in which embeddings give dense gradients of the same numbers."""
    found = copied(module, owner)
    for part in found.modules():
        if isinstance(part, (nn.Embedding, nn.EmbeddingBag)):
            part.sparse = False
    return found
