"""The operations that a network is made of, with all that is needed to carry them out.

| kind | settings | parameters |
|---|---|---|
| `linear` | | weight [out, in], bias [out] |
| `convolution` | kernel_size, stride, dilation, padding (before, after) along each dimension, groups | weight, bias |
| `embedding` | padding_idx | weight [tokens, out] |
| `max_pool` | kernel_size, stride, padding, dilation, ceil_mode | |
| `average_pool` | kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override | |
| `adaptive_average_pool`, `adaptive_max_pool` | output_size | |
| `activation` | function, one of `ACTIVATIONS`, and its numbers | |
| `softmax`, `log_softmax` | dim | |
| `layer_norm` | normalized_shape, eps | weight, bias |
| `group_norm` | num_groups, eps | weight, bias |
| `batch_norm` (at rest) | eps | weight, bias, mean, variance |
| `add`, `multiply` | number, where it reads one value and `other` is no parameter | other |
| `subtract`, `divide` | of two values | |
| `flatten` | start_dim, end_dim | |
| `reshape` | shape of a point | |
| `permute` | dims, the first of which is 0 | |
| `movedim` (without points) | source, destination | |
| `mean`, `sum` | dims, keepdim | |
| `rest` (of a dropout) | | |

Dimensions are counted with that of the points, which is 0 and stays. Where a parameter is absent there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Place:
    """One tensor of the module.

    Attributes:
        name: in the module; of a tensor with several names the first.
        shape: its shape.
        at: where it lies in the flat positions; None if it stays as it is.
    """

    name: str
    shape: tuple[int, ...]
    at: slice | None


@dataclass(frozen=True)
class Operation:
    """One step of a network.

    Attributes:
        kind: what is done; see the table above.
        reads: numbers of the values that go in: 0 is the points, k + 1 what operation k makes.
        settings: the numbers it needs.
        parameters: the tensors it needs.
        layer: name of the module, or of the function, that it stands for.
        shape: of one point, of what it makes; None if the network was traced without points.
    """

    kind: str
    reads: tuple[int, ...]
    settings: Mapping[str, Any]
    parameters: Mapping[str, Place]
    layer: str
    shape: tuple[int, ...] | None = None

    def __call__(self, values: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        """What it makes [N, ...] of the values that it reads, with tensors by the names of `parameters`."""
        return _CARRY_OUT[self.kind](*values, **tensors, **self.settings)


ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "celu": F.celu,
    "elu": F.elu,
    "exp": torch.exp,
    "gelu": F.gelu,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "hardtanh": F.hardtanh,
    "identity": lambda x: x,
    "leaky_relu": F.leaky_relu,
    "logsigmoid": F.logsigmoid,
    "mish": F.mish,
    "relu": torch.relu,
    "relu6": F.relu6,
    "selu": F.selu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "sin": torch.sin,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "tanh": torch.tanh,
    "tanhshrink": F.tanhshrink,
}


def activate(x: Tensor, function: str, **numbers: Any) -> Tensor:
    """An activation by its name."""
    return ACTIVATIONS[function](x, **numbers)


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    kernel_size: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    **settings: Any,
) -> Tensor:
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(kernel_size)]
    if all(before == after for before, after in padding):
        return convolve(x, weight, bias, padding=tuple(before for before, _ in padding), **settings)
    return convolve(F.pad(x, [edge for pair in reversed(padding) for edge in pair]), weight, bias, **settings)


def _pool(functions: Sequence[Callable[..., Tensor]]) -> Callable[..., Tensor]:
    """Pooling over as many dimensions as its sizes have."""

    def pool(x: Tensor, **settings: Any) -> Tensor:
        # torch pools along one dimension by other names, and then knows no divisor
        sizes = settings["kernel_size"] if "kernel_size" in settings else settings["output_size"]
        known = {key: value for key, value in settings.items() if key != "divisor_override" or len(sizes) > 1}
        return functions[len(sizes) - 1](x, **known)

    return pool


def _batch_norm(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, *, eps: float
) -> Tensor:
    return F.batch_norm(x, mean, variance, weight, bias, eps=eps)


def _add(*values: Tensor, other: Tensor | None = None, number: float = 0.0) -> Tensor:
    first, second = values if len(values) == 2 else (values[0], number if other is None else other)
    return torch.add(first, second)


def _multiply(*values: Tensor, other: Tensor | None = None, number: float = 1.0) -> Tensor:
    first, second = values if len(values) == 2 else (values[0], number if other is None else other)
    return torch.mul(first, second)


_CARRY_OUT: dict[str, Callable[..., Tensor]] = {
    "linear": F.linear,
    "convolution": _convolution,
    "embedding": lambda x, weight, padding_idx: F.embedding(x, weight, padding_idx),
    "max_pool": _pool((F.max_pool1d, F.max_pool2d, F.max_pool3d)),
    "average_pool": _pool((F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)),
    "adaptive_average_pool": _pool((F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)),
    "adaptive_max_pool": _pool((F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)),
    "activation": activate,
    "softmax": F.softmax,
    "log_softmax": F.log_softmax,
    "layer_norm": F.layer_norm,
    "group_norm": F.group_norm,
    "batch_norm": _batch_norm,
    "add": _add,
    "multiply": _multiply,
    "subtract": torch.sub,
    "divide": torch.div,
    "flatten": torch.flatten,
    "reshape": lambda x, shape: x.reshape(len(x), *shape),
    "permute": torch.permute,
    "movedim": torch.movedim,
    "mean": lambda x, dims, keepdim: x.mean(dims, keepdim),
    "sum": lambda x, dims, keepdim: x.sum(dims, keepdim),
    "rest": lambda x: x,
}
