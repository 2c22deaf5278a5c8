"""What a module must fulfil: that the output of a point is a matter of this point and the parameters alone."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from nnsim.errors import InputError


def refuse_unfit(owner: str, module: nn.Module, x: Tensor) -> None:
    """Raise `InputError` for a module whose output is NaN, random, or depends on the other points of the batch."""
    advice = "call module.eval() first, so that its running statistics are fixed, or use LayerNorm or GroupNorm"
    for name, part in module.named_modules():
        what = f"{owner}: layer {name or 'module'!r} ({type(part).__name__})"
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and (part.training or part.running_mean is None):
            raise InputError(f"{what} makes outputs depend on the rest of the batch; {advice}")
        if isinstance(part, nn.modules.dropout._DropoutNd) and part.training and part.p > 0:
            raise InputError(f"{what} makes outputs random; call module.eval() first, or leave it out")
    trial = copy.deepcopy(module)  # running statistics of unknown modules must not move
    few = x[: max(2, min(8, len(x)))]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # torch.manual_seed would seed those of GPUs too
        first = trial(few)
        torch.default_generator.manual_seed(1)
        again, part_of_batch = trial(few), trial(few[: len(few) // 2])
    if not isinstance(first, Tensor):
        raise InputError(f"{owner}: the module returns a {type(first).__name__}; it must return a tensor [N, C]")
    if first.ndim != 2 or len(first) != len(few):
        raise InputError(
            f"{owner}: outputs have shape {tuple(first.shape)} for {len(few)} points; a module must return [N, C]"
        )
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


def close(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal to rounding in single precision."""
    # small values may be differences of large ones, with raw images of 0 ... 255 for example
    largest = max(1.0, float(b.detach().nan_to_num(0, 0, 0).abs().max()))
    return torch.allclose(a, b, rtol=1e-3, atol=1e-5 * largest)


def alike(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal to rounding in their own precision, measured by the largest number in them."""
    tolerance = torch.finfo(b.dtype).eps ** 0.5
    largest = float(b.detach().nan_to_num(0, 0, 0).abs().max())
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance * largest)


def first_line(error: Exception) -> str:
    """What an error of torch says, in one line of bounded length."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:120]
