"""What the calls of torch mean as operations: those of modules, of functions and of methods of tensors.

A reader is a function with the arguments of what it reads, after the writer that it writes operations to. It returns
the value that the call makes, and raises `Untraced` where the call has no operation here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from nnsim.networks import layer_calls, shape_calls
from nnsim.networks.operations import Place
from nnsim.networks.writer import Untraced, Value, Writer, number_or_none

Reader = Callable[..., Any]


def _activation(function: str, defaults: dict[str, Any], w: Writer, input: Any, *numbers: Any, **named: Any) -> Value:
    """Numbers in the order of their defaults, then `inplace`."""
    settings = {**defaults, "inplace": False, **dict(zip([*defaults, "inplace"], numbers, strict=False)), **named}
    if set(settings) != {*defaults, "inplace"}:
        raise Untraced(f"{function} with other settings")
    if settings.pop("inplace"):
        w.changes_input()
    return w.write("activation", [input], {"function": function, **settings})


# Name of the activation -> its numbers.
_NUMBERS: dict[str, dict[str, Any]] = {
    "celu": {"alpha": 1.0},
    "elu": {"alpha": 1.0},
    "exp": {},
    "gelu": {"approximate": "none"},
    "hardsigmoid": {},
    "hardswish": {},
    "hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "leaky_relu": {"negative_slope": 0.01},
    "logsigmoid": {},
    "mish": {},
    "relu": {},
    "relu6": {},
    "selu": {},
    "sigmoid": {},
    "silu": {},
    "sin": {},
    "softplus": {"beta": 1.0, "threshold": 20.0},
    "softsign": {},
    "tanh": {},
    "tanhshrink": {},
}
_CLASSES = {
    nn.CELU: "celu", nn.ELU: "elu", nn.GELU: "gelu", nn.Hardsigmoid: "hardsigmoid", nn.Hardswish: "hardswish",
    nn.Hardtanh: "hardtanh", nn.LeakyReLU: "leaky_relu", nn.LogSigmoid: "logsigmoid", nn.Mish: "mish", nn.ReLU: "relu",
    nn.ReLU6: "relu6", nn.SELU: "selu", nn.Sigmoid: "sigmoid", nn.SiLU: "silu", nn.Softplus: "softplus",
    nn.Softsign: "softsign", nn.Tanh: "tanh", nn.Tanhshrink: "tanhshrink",
}  # fmt: skip


def _activation_module(function: str, w: Writer, module: Any, x: Any) -> Value:
    numbers = {} if function == "relu6" else {key: getattr(module, key) for key in _NUMBERS[function]}
    return _activation(function, _NUMBERS[function], w, x, inplace=getattr(module, "inplace", False), **numbers)


def _both(kind: str, w: Writer, input: Any, other: Any, *, alpha: Any = 1) -> Value:
    """A sum or product of two values, of a value and a number, or of a value and a parameter."""
    if alpha != 1:
        raise Untraced("add with alpha")
    if isinstance(other, Value) and not isinstance(input, Value):
        input, other = other, input
    if isinstance(other, Value):
        return w.write(kind, [input, other])
    if isinstance(other, Place):
        return w.write(kind, [input], other=other)
    return w.write(kind, [input], {"number": number_or_none(other)})


def _subtract(w: Writer, input: Any, other: Any, *, alpha: Any = 1) -> Value:
    if alpha == 1 and isinstance(other, Value) and isinstance(input, Value):
        return w.write("subtract", [input, other])
    if isinstance(other, Value):
        return _both("add", w, w.write("multiply", [other], {"number": -1.0}), input, alpha=alpha)
    return _both("add", w, input, -number_or_none(other), alpha=alpha)


def _divide(w: Writer, input: Any, other: Any, *, rounding_mode: Any = None) -> Value:
    if rounding_mode is not None or not isinstance(other, Value):
        return _both("multiply", w, input, 1 / number_or_none(other if rounding_mode is None else None))
    return w.write("divide", [input, other])


def _negative(w: Writer, input: Any) -> Value:
    return w.write("multiply", [input], {"number": -1.0})


def _in_place(reader: Reader) -> Reader:
    def read(w: Writer, *args: Any, **named: Any) -> Any:
        w.changes_input()
        return reader(w, *args, **named)

    return read


# ---------------------------------------------------------------------- the tables

MODULES: dict[type[nn.Module], Reader] = {
    nn.Linear: lambda w, m, x: layer_calls.linear(w, x, w.place(m.weight), w.place(m.bias)),
    nn.Conv1d: partial(layer_calls.convolution_module, 1),
    nn.Conv2d: partial(layer_calls.convolution_module, 2),
    nn.Conv3d: partial(layer_calls.convolution_module, 3),
    nn.MaxPool1d: partial(layer_calls.max_pool_module, 1),
    nn.MaxPool2d: partial(layer_calls.max_pool_module, 2),
    nn.MaxPool3d: partial(layer_calls.max_pool_module, 3),
    nn.AvgPool1d: partial(layer_calls.average_pool_module, 1),
    nn.AvgPool2d: partial(layer_calls.average_pool_module, 2),
    nn.AvgPool3d: partial(layer_calls.average_pool_module, 3),
    nn.AdaptiveAvgPool1d: partial(layer_calls.adaptive_pool_module, "adaptive_average_pool", 1),
    nn.AdaptiveAvgPool2d: partial(layer_calls.adaptive_pool_module, "adaptive_average_pool", 2),
    nn.AdaptiveAvgPool3d: partial(layer_calls.adaptive_pool_module, "adaptive_average_pool", 3),
    nn.AdaptiveMaxPool1d: partial(layer_calls.adaptive_pool_module, "adaptive_max_pool", 1),
    nn.AdaptiveMaxPool2d: partial(layer_calls.adaptive_pool_module, "adaptive_max_pool", 2),
    nn.Embedding: layer_calls.embedding_module,
    nn.LayerNorm: lambda w, m, x: layer_calls.layer_norm(
        w, x, m.normalized_shape, w.place(m.weight), w.place(m.bias), m.eps
    ),
    nn.GroupNorm: lambda w, m, x: layer_calls.group_norm(w, x, m.num_groups, w.place(m.weight), w.place(m.bias), m.eps),
    nn.Flatten: lambda w, m, x: shape_calls.flatten(w, x, m.start_dim, m.end_dim),
    nn.Identity: lambda w, m, x: w.write("activation", [x], {"function": "identity"}),
    nn.Softmax: lambda w, m, x: layer_calls.softmax("softmax", w, x, m.dim),
    nn.LogSoftmax: lambda w, m, x: layer_calls.softmax("log_softmax", w, x, m.dim),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), layer_calls.batch_norm),
    **dict.fromkeys(
        (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout),
        lambda w, m, x: layer_calls.rest(w, x, m.p, m.training),
    ),
    **{kind: partial(_activation_module, function) for kind, function in _CLASSES.items()},
}
FUNCTIONS: dict[Any, Reader] = {
    F.linear: layer_calls.linear,
    F.layer_norm: layer_calls.layer_norm,
    F.group_norm: layer_calls.group_norm,
    F.dropout: layer_calls.rest,
    torch.flatten: shape_calls.flatten,
    torch.permute: shape_calls.permute,
    torch.movedim: shape_calls.movedim,
    torch.transpose: shape_calls.transpose,
    torch.reshape: shape_calls.reshape,
    torch.unsqueeze: shape_calls.unsqueeze,
    torch.squeeze: shape_calls.squeeze,
    torch.relu_: _in_place(partial(_activation, "relu", {})),
    F.softmax: partial(layer_calls.softmax, "softmax"),
    F.log_softmax: partial(layer_calls.softmax, "log_softmax"),
    operator.neg: _negative,
    operator.add: partial(_both, "add"),
    operator.mul: partial(_both, "multiply"),
    operator.sub: _subtract,
    operator.truediv: _divide,
    operator.iadd: _in_place(partial(_both, "add")),
    operator.imul: _in_place(partial(_both, "multiply")),
    operator.isub: _in_place(_subtract),
    operator.itruediv: _in_place(_divide),
    operator.getitem: shape_calls.getitem,
    getattr: shape_calls.attribute,
}
METHODS: dict[str, Reader] = {
    "flatten": shape_calls.flatten,
    "view": shape_calls.reshape,
    "reshape": shape_calls.reshape,
    "permute": shape_calls.permute,
    "movedim": shape_calls.movedim,
    "transpose": shape_calls.transpose,
    "unsqueeze": shape_calls.unsqueeze,
    "squeeze": shape_calls.squeeze,
    "size": shape_calls.size,
    "dim": lambda w, x: len(w.sizes(x)) + 1,
    "contiguous": shape_calls.same,
    "add_": _in_place(partial(_both, "add")),
    "mul_": _in_place(partial(_both, "multiply")),
    "relu_": _in_place(partial(_activation, "relu", {})),
}
# What torch has as a function and as a method alike.
_ALIKE: dict[str, Reader] = {
    "add": partial(_both, "add"),
    "mul": partial(_both, "multiply"),
    "sub": _subtract,
    "div": _divide,
    "neg": _negative,
    "mean": partial(shape_calls.reduce, "mean"),
    "sum": partial(shape_calls.reduce, "sum"),
    "softmax": partial(layer_calls.softmax, "softmax"),
    "log_softmax": partial(layer_calls.softmax, "log_softmax"),
    **{name: partial(_activation, name, numbers) for name, numbers in _NUMBERS.items()},
}
# What it has once for each number of dimensions.
_EACH: dict[str, Reader] = {
    "conv{}d": layer_calls.convolution,
    "max_pool{}d": layer_calls.max_pool,
    "avg_pool{}d": layer_calls.average_pool,
    "adaptive_avg_pool{}d": partial(layer_calls.adaptive_pool, "adaptive_average_pool"),
    "adaptive_max_pool{}d": partial(layer_calls.adaptive_pool, "adaptive_max_pool"),
}
_BY_NAME = {
    **_ALIKE,
    **{name.format(d): partial(reader, d) for name, reader in _EACH.items() for d in (1, 2, 3)},
}
METHODS |= {name: reader for name, reader in _ALIKE.items() if hasattr(torch.Tensor, name)}
for _home in (torch, F):
    FUNCTIONS |= {getattr(_home, name): reader for name, reader in _BY_NAME.items() if hasattr(_home, name)}
