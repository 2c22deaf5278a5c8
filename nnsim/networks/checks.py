"""What a module must fulfil: that the output of a point is a matter of this point and the parameters alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nnsim.errors import InputError
from nnsim.networks.call import outputs_of
from nnsim.networks.copies import copied
from nnsim.networks.modes import DispatchMode

LARGE = 10.0  # factor on the parameters, at which a forward that keeps them small must act


def refuse_unfit(owner: str, module: nn.Module, x: Tensor) -> None:
    """Raise `InputError` for a module whose output is NaN, random, or depends on the other points of the batch.

    Also for one that returns something else than outputs [N, C], or changes its input or its parameters.
    """
    advice = "call module.eval() first, so that its running statistics are fixed, or use LayerNorm or GroupNorm"
    for name, part in module.named_modules():
        what = f"{owner}: layer {name or 'module'!r} ({type(part).__name__})"
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and (part.training or part.running_mean is None):
            raise InputError(f"{what} makes outputs depend on the rest of the batch; {advice}")
        if isinstance(part, nn.modules.dropout._DropoutNd) and part.training and part.p > 0:
            raise InputError(f"{what} makes outputs random; call module.eval() first, or leave it out")
        if isinstance(part, (nn.Embedding, nn.EmbeddingBag)) and part.max_norm is not None:
            raise InputError(
                f"{what} has max_norm = {part.max_norm:g}, so its forward changes its parameters; leave max_norm out"
            )
    trial, few = copied(module, owner), some_of(x, 8)  # a copy: running statistics of unknown modules must not move
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # torch.manual_seed would seed other devices too
        first = _first_outputs(owner, trial, few)
        torch.default_generator.manual_seed(1)
        again, part_of_batch = (outputs_of(trial(part.clone())) for part in (few, few[: len(few) // 2]))
    if bool(torch.isnan(first).any()):  # which would look like randomness, since NaN differs from itself
        names = [name for name, buffer in module.named_buffers() if bool(torch.isnan(buffer).any())]
        reason = f"its buffer {names[0]!r} holds NaN" if names else "its parameters are finite"
        raise InputError(
            f"{owner}: the module's outputs for the first points are NaN ({reason}); repair the module, "
            "or scale the points"
        )
    if not torch.equal(first, again):
        raise InputError(
            f"{owner}: two calls with the same input differ: the module is random or changes itself; "
            "call module.eval() first, or remove the randomness"
        )
    if len(few) > 1 and not close(first[: len(part_of_batch)], part_of_batch):
        raise InputError(f"{owner}: the output of a point depends on the rest of the batch; {advice}")
    _refuse_changed_parameters(owner, copied(module, owner), few)


def some_of(x: Tensor, number: int) -> Tensor:
    """So many of the points x [N, ...], from all over them, since the first may be of one kind; all if they are few."""
    if len(x) <= number:
        return x
    return x[torch.linspace(0, len(x) - 1, number, device=x.device).round().long()]


def _first_outputs(owner: str, module: nn.Module, few: Tensor) -> Tensor:
    """Outputs at few points, after looking at what comes back and at what became of the points."""
    given = few.clone()
    returned = outputs_of(module(given))
    if not torch.equal(given, few):
        raise InputError(
            f"{owner}: the module's forward changes its input, as x /= 255, x[:, 0] = 0 or ReLU(inplace=True) on the "
            "points themselves do; compute something new instead, such as x = x / 255"
        )
    if not isinstance(returned, Tensor):
        raise InputError(
            f"{owner}: the module returns a {type(returned).__name__}; it must return a tensor [N, C], or an object "
            "with such logits"
        )
    if returned.ndim != 2 or len(returned) != len(few):
        raise InputError(
            f"{owner}: outputs have shape {tuple(returned.shape)} for {len(few)} points; a module must return [N, C]"
        )
    return returned


def refuse_rounding(owner: str, asked: torch.dtype, evaluate: Callable[[], Tensor]) -> None:
    """Raise `InputError` if outputs, or numbers on the way to them, are of a coarser type than was asked for."""
    with torch.no_grad(), _Rounding(asked) as rounding:
        outputs = evaluate()
    coarse = outputs.dtype if outputs.dtype != asked else rounding.found
    if coarse == asked:
        return
    found, wanted = (str(one).removeprefix("torch.") for one in (coarse, asked))
    single = coarse == torch.float32
    cause = "x.float()" if single else "torch.autocast, .half() or .bfloat16()"
    raise InputError(
        f"{owner}: the module computes in {found} where {wanted} is asked for, by {cause} in its forward for example; "
        f"remove the conversion{', or choose precision=' + repr('mixed') if single else ''}"
    )


class _Rounding(DispatchMode):
    """Notes whether numbers of the type that is asked for are rounded to a coarser one."""

    def __init__(self, asked: torch.dtype) -> None:
        super().__init__()
        self.asked, self.found = asked, asked

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            before = args[-1] if func is torch.ops.aten.copy_.default else args[0]
            if isinstance(before, Tensor) and before.dtype == self.asked and _coarser(result.dtype, self.asked):
                self.found = result.dtype
        return result


def _coarser(found: torch.dtype, asked: torch.dtype) -> bool:
    return found.is_floating_point and torch.finfo(found).eps > torch.finfo(asked).eps


def _refuse_changed_parameters(owner: str, module: nn.Module, few: Tensor) -> None:
    """Raise `InputError` for a forward that writes to its parameters: walkers would be moved by a look at them."""
    parameters = {name: p for name, p in module.named_parameters() if p.is_floating_point()}
    own = {name: p.detach().clone() for name, p in parameters.items()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for factor in (1.0, LARGE):
            for name, p in parameters.items():
                p.copy_(factor * own[name])
            with contextlib.suppress(Exception):  # not every value needs to be legal
                module(few.clone())
            for name, p in parameters.items():
                if not torch.equal(p, factor * own[name]):
                    raise InputError(
                        f"{owner}: the module's forward changes its parameter {name!r}; compute something new instead, "
                        "such as self.weight.clamp(-1, 1) for self.weight.clamp_(-1, 1)"
                    )


def close(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal to rounding in single precision."""
    # small values may be differences of large ones, with raw images of 0 ... 255 for example
    largest = max(1.0, float(b.detach().nan_to_num(0, 0, 0).abs().max()))
    return torch.allclose(a, b, rtol=1e-3, atol=1e-5 * largest, equal_nan=True)


def alike(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal to rounding in their own precision, measured by the largest number in them."""
    tolerance = torch.finfo(b.dtype).eps ** 0.5
    largest = float(b.detach().nan_to_num(0, 0, 0).abs().max())
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance * largest)


def has_hooks(module: nn.Module) -> bool:
    """Whether anything else happens where a module is called, or differentiated."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
