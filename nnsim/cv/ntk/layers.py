"""Which layers of torch have a rule, and what a layer adds to the kernel, from its inputs and output gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnsim.cv.ntk.factors import Explicit, Factor, TokenPairs, same_token, tokens
from nnsim.networks.checks import has_hooks
from nnsim.networks.scaled import ScaledConv2d, ScaledLinear

# From a layer, its inputs [N, ...], the gradients [N, O, ...] of its outputs, and which of its parameters count.
Rule = Callable[[nn.Module, Tensor, Tensor, frozenset[str]], Factor]


def rule_of(layer: nn.Module) -> Rule | None:
    """The rule for a layer, or None: for other types, and for uncommon settings of known ones."""
    if has_hooks(layer):  # which may change what goes in or comes out
        return None
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        return None
    if isinstance(layer, nn.Embedding) and (layer.max_norm is not None or layer.scale_grad_by_freq):
        return None
    return RULES.get(type(layer))


def _linear(layer: nn.Module, a: Tensor, g: Tensor, names: frozenset[str]) -> Factor:
    assert isinstance(layer, nn.Linear)
    a = a * getattr(layer, "input_scale", 1.0)
    a, g = a.reshape(len(a), -1, a.shape[-1]), g.reshape(*g.shape[:2], -1, g.shape[-1])
    return tokens(a, g, weight="weight" in names, bias="bias" in names)


def _conv2d(layer: nn.Module, a: Tensor, g: Tensor, names: frozenset[str]) -> Factor:
    assert isinstance(layer, nn.Conv2d)
    a = F.pad(a * getattr(layer, "input_scale", 1.0), _padding(layer))
    patches = F.unfold(a, layer.kernel_size, layer.dilation, 0, layer.stride)  # [N, C kh kw, T]
    flat = g.flatten(3).transpose(2, 3)  # [N, O, T, channels]
    return tokens(patches.transpose(1, 2), flat, weight="weight" in names, bias="bias" in names, groups=layer.groups)


def _padding(layer: nn.Conv2d) -> list[int]:
    """Zeros to the left, right, top and bottom; `"same"` puts the odd one after."""
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    if layer.padding == "same":
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2]
    assert not isinstance(layer.padding, str)
    high, wide = layer.padding
    return [wide, wide, high, high]


def _normalisation(layer: nn.Module, plain: Tensor, g: Tensor, names: frozenset[str], own: int) -> Factor:
    """The factor of w * plain + b, with w, b over the last `own` dimensions of plain [N, T, ...], g [N, O, T, ...]."""
    plain, g = plain.flatten(-own), g.flatten(-own)

    def rows(some: slice) -> Tensor:
        part = g[:, some]
        found = [(part * plain[:, None]).sum(2)] if "weight" in names else []
        found += [part.sum(2)] if "bias" in names else []
        return torch.cat(found, dim=-1)

    return Explicit(rows, g.shape[1], plain.numel() * plain.element_size())


def _layer_norm(layer: nn.Module, a: Tensor, g: Tensor, names: frozenset[str]) -> Factor:
    assert isinstance(layer, nn.LayerNorm)
    own = len(layer.normalized_shape)
    plain = F.layer_norm(a, layer.normalized_shape, None, None, layer.eps)
    plain = plain.reshape(len(a), -1, *layer.normalized_shape)
    return _normalisation(layer, plain, g.reshape(*g.shape[:2], -1, *layer.normalized_shape), names, own)


def _group_norm(layer: nn.Module, a: Tensor, g: Tensor, names: frozenset[str]) -> Factor:
    assert isinstance(layer, nn.GroupNorm)
    plain = F.group_norm(a, layer.num_groups, None, None, layer.eps)
    plain = plain.flatten(2).transpose(1, 2) if a.ndim > 2 else plain[:, None]
    g = g.flatten(3).transpose(2, 3) if g.ndim > 3 else g[:, :, None]
    return _normalisation(layer, plain, g, names, 1)


def _embedding(layer: nn.Module, a: Tensor, g: Tensor, names: frozenset[str]) -> Factor:
    assert isinstance(layer, nn.Embedding)
    flat = g.reshape(*g.shape[:2], -1, g.shape[-1])
    return TokenPairs(flat, same_token(layer.padding_idx), a.reshape(len(a), -1, 1))


RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    ScaledLinear: _linear,
    nn.Conv2d: _conv2d,
    ScaledConv2d: _conv2d,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.Embedding: _embedding,
}


def work_bytes(layer: nn.Module, a: Tensor, z: Tensor, outputs: int) -> int:
    """Bytes that the rule needs for each point, seen in a trial with inputs a and outputs z."""
    item, points = z.element_size(), len(z)
    own = a.numel() + outputs * z.numel()
    if isinstance(layer, nn.Conv2d):
        own += math.prod(layer.kernel_size) * layer.in_channels * z[:, 0].numel() + outputs * z.numel()
    return own * item // max(points, 1)
