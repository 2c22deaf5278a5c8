"""What stays of a torch module in a run: layers with their code and settings, buffers, and what does not move."""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from nnsim.identity.attributes import attributes
from nnsim.identity.source_code import is_library, name_of

if TYPE_CHECKING:
    from nnsim.describe import Network
    from nnsim.identity.parts import Walk

_DATA = (
    *(type(None), bool, int, float, complex, str, list, tuple, dict, set, Tensor, np.ndarray, type),
    *(types.FunctionType, types.BuiltinFunctionType, functools.partial),
)


def network(walk: Walk, text: Network) -> dict[str, Any]:
    """The identity of a module whose trainable parameters are what moves."""
    before, parameters = walk.known, nn.Module.parameters(text.module)
    walk.known, walk.moving = {}, frozenset(id(p) for p in parameters if p.requires_grad)
    try:
        return module(walk, text.module)
    finally:  # elsewhere a parameter is a number like any other
        walk.known, walk.moving = before, frozenset()


def module(walk: Walk, thing: nn.Module) -> dict[str, Any]:
    """The identity of a module: layers, parameters, buffers, and which layers are in training."""
    if type(thing).__name__ == "OptimizedModule" and is_library(type(thing)):  # by torch.compile
        thing = thing._orig_mod  # type: ignore[assignment]
    fixed = {name: p for name, p in nn.Module.named_parameters(thing) if id(p) not in walk.moving}
    layers = {name or "(itself)": layer for name, layer in nn.Module.named_modules(thing)}
    in_training = [name for name, layer in layers.items() if layer.training]
    return {
        "type": type(thing).__name__,
        "layers": {name: _layer(walk, layer) for name, layer in layers.items()},
        "frozen" if walk.moving else "parameters": walk.values(fixed),
        "buffers": walk.values(dict(nn.Module.named_buffers(thing))),
        "training": "all" if len(in_training) == len(layers) else in_training,
        **({"script": thing.code} if is_library(type(thing)) and hasattr(thing, "code") else {}),  # by TorchScript
    }


def _layer(walk: Walk, layer: nn.Module) -> dict[str, Any]:
    """Type, code, attributes and hooks of one layer, without the layers that it is made of."""
    kind, internal = type(layer), vars(nn.Module())
    kept = {name: value for name, value in attributes(layer).items() if name not in internal}
    kept = {name: value for name, value in kept.items() if getattr(value, "grad_fn", None) is None}
    if is_library(kind):  # what it keeps of torch's own objects is of no matter to what it computes
        kept = {name: value for name, value in kept.items() if isinstance(value, _DATA) or not is_library(type(value))}
    own = [walk.of(one) for one in kind.__mro__ if not is_library(one)][:1]
    hooks = [walk.of(one) for one in (*layer._forward_pre_hooks.values(), *layer._forward_hooks.values())]
    name = name_of(kind) if is_library(kind) else kind.__name__
    return {"type": name, **({"class": own} if own else {}), **walk.values(kept), "hooks": hooks}
