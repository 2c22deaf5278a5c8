"""Which layers have a rule, and what a layer adds to the kernel, from its inputs and output gradients.

A layer has one if its program is an operation with a rule, perhaps after others without parameters, such as a
scaling of the inputs, and before permutations of dimensions, as in a normalisation over channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnsim.cv.ntk.factors import Explicit, Factor, TokenPairs, same_token, tokens
from nnsim.networks.operations import Operation
from nnsim.networks.program import program_of

# From settings, inputs [N, ...], the gradients [N, O, ...] of its outputs, and which of its parameters count.
Formula = Callable[[Mapping[str, Any], Tensor, Tensor, frozenset[str]], Factor]


@dataclass(frozen=True)
class Rule:
    """The rule of one layer.

    Attributes:
        operation: the one that takes the parameters.
        before: what happens to the inputs first.
        after: permutations of its outputs.
    """

    operation: Operation
    before: tuple[Operation, ...]
    after: tuple[Operation, ...]

    def __call__(self, a: Tensor, g: Tensor, names: frozenset[str]) -> Factor:
        """The factor from inputs a [N, ...] and output gradients g [N, O, ...] of the layer; `names` count."""
        for one in self.before:
            a = one([a], {})
        for one in reversed(self.after):
            g = _permuted_back(g, one.settings)
        return FORMULAS[self.operation.kind](self.operation.settings, a, g, names)

    def work_bytes(self, a: Tensor, z: Tensor, outputs: int) -> int:
        """Bytes that the rule needs for each point, seen in a trial with inputs a and outputs z."""
        item, points = z.element_size(), len(z)
        own = a.numel() + outputs * z.numel()
        if self.operation.kind == "convolution":
            settings, weight = self.operation.settings, self.operation.parameters["weight"]
            channels = weight.shape[1] * settings["groups"]
            own += math.prod(settings["kernel_size"]) * channels * z[:, 0].numel() + outputs * z.numel()
        return own * item // max(points, 1)


def rule_of(layer: nn.Module) -> Rule | None:
    """The rule for a layer, or None: for other types, and for uncommon settings of known ones."""
    if next(layer.children(), None) is not None:
        return None
    program = program_of(layer, shapes={name: tuple(p.shape) for name, p in layer.named_parameters()})
    if isinstance(program, str) or program.result != len(program.operations):
        return None
    steps = program.operations
    chain = all(one.reads == (number,) for number, one in enumerate(steps))
    own = [number for number, one in enumerate(steps) if one.parameters]
    if not chain or len(own) != 1 or {place.name for place in steps[own[0]].parameters.values()} != {*program.places}:
        return None
    (number,) = own
    operation, before, after = steps[number], steps[:number], steps[number + 1 :]
    if any(one.kind not in ("permute", "movedim") for one in after):
        return None
    if any(key != place.name for key, place in operation.parameters.items()) or operation.kind not in FORMULAS:
        return None
    if operation.kind == "convolution" and len(operation.settings["kernel_size"]) != 2:
        return None
    return Rule(operation, before, after)


def _permuted_back(g: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """Gradients [N, O, ...] by what was permuted, from those by the result [N, ...]."""
    if "dims" in settings:
        order = (0, 1, *(d + 1 for d in settings["dims"][1:]))
        return g.permute([order.index(d) for d in range(len(order))])

    def shifted(dims: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(d + 1 if d > 0 else d for d in dims)

    return g.movedim(shifted(settings["destination"]), shifted(settings["source"]))


def _linear(settings: Mapping[str, Any], a: Tensor, g: Tensor, names: frozenset[str]) -> Factor:
    a, g = a.reshape(len(a), -1, a.shape[-1]), g.reshape(*g.shape[:2], -1, g.shape[-1])
    return tokens(a, g, weight="weight" in names, bias="bias" in names)


def _convolution(settings: Mapping[str, Any], a: Tensor, g: Tensor, names: frozenset[str]) -> Factor:
    a = F.pad(a, [edge for pair in reversed(settings["padding"]) for edge in pair])
    patches = F.unfold(a, settings["kernel_size"], settings["dilation"], 0, settings["stride"])  # [N, C kh kw, T]
    flat = g.flatten(3).transpose(2, 3)  # [N, O, T, channels]
    groups = settings["groups"]
    return tokens(patches.transpose(1, 2), flat, weight="weight" in names, bias="bias" in names, groups=groups)


def _normalisation(plain: Tensor, g: Tensor, names: frozenset[str], own: int) -> Factor:
    """The factor of w * plain + b, with w, b over the last `own` dimensions of plain [N, T, ...], g [N, O, T, ...]."""
    plain, g = plain.flatten(-own), g.flatten(-own)

    def rows(some: slice) -> Tensor:
        part = g[:, some]
        found = [(part * plain[:, None]).sum(2)] if "weight" in names else []
        found += [part.sum(2)] if "bias" in names else []
        return torch.cat(found, dim=-1)

    return Explicit(rows, g.shape[1], plain.numel() * plain.element_size())


def _layer_norm(settings: Mapping[str, Any], a: Tensor, g: Tensor, names: frozenset[str]) -> Factor:
    shape = settings["normalized_shape"]
    plain = F.layer_norm(a, shape, None, None, settings["eps"]).reshape(len(a), -1, *shape)
    return _normalisation(plain, g.reshape(*g.shape[:2], -1, *shape), names, len(shape))


def _group_norm(settings: Mapping[str, Any], a: Tensor, g: Tensor, names: frozenset[str]) -> Factor:
    plain = F.group_norm(a, settings["num_groups"], None, None, settings["eps"])
    plain = plain.flatten(2).transpose(1, 2) if a.ndim > 2 else plain[:, None]
    g = g.flatten(3).transpose(2, 3) if g.ndim > 3 else g[:, :, None]
    return _normalisation(plain, g, names, 1)


def _embedding(settings: Mapping[str, Any], a: Tensor, g: Tensor, names: frozenset[str]) -> Factor:
    flat = g.reshape(*g.shape[:2], -1, g.shape[-1])
    return TokenPairs(flat, same_token(settings["padding_idx"]), a.reshape(len(a), -1, 1))


FORMULAS: dict[str, Formula] = {
    "linear": _linear,
    "convolution": _convolution,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "embedding": _embedding,
}
