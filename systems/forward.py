"""Ways to evaluate one network with the parameters of many walkers at once."""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from nnsim.errors import InputError
from nnsim.systems.dense import BatchedDense
from nnsim.systems.layout import Layout

logger = logging.getLogger("nnsim")


class VmapForward:
    """Any module that torch.func can vectorise over walkers."""

    kind = "vmap"

    def __init__(self, module: nn.Module, layout: Layout, dtype: torch.dtype) -> None:
        self.module, self.layout, self.dtype = module, layout, dtype

    def __call__(self, positions: Tensor, x: Tensor) -> Tensor:
        """Outputs [W, N, C] of positions [W, n] at points x [N, ...]."""

        def one(tensors: dict[str, Tensor]) -> Tensor:
            return functional_call(self.module, tensors, (x,))

        return vmap(one)(self.layout.split(positions.to(self.dtype)))


class LoopForward:
    """Any module at all: one walker after the other."""

    kind = "loop"

    def __init__(self, module: nn.Module, layout: Layout, dtype: torch.dtype) -> None:
        self.module, self.layout, self.dtype = module, layout, dtype

    def __call__(self, positions: Tensor, x: Tensor) -> Tensor:
        """Outputs [W, N, C] of positions [W, n] at points x [N, ...]."""
        walkers = (self.layout.split(row) for row in positions.to(self.dtype).unbind())
        return torch.stack([functional_call(self.module, tensors, (x,)) for tensors in walkers])


Forward = BatchedDense | VmapForward | LoopForward


def choose_forward(module: nn.Module, layout: Layout, x: Tensor, how: str, dtype: torch.dtype) -> Forward:
    """The fastest of the ways that gives the right outputs for this module.

    Args:
        module: the network, in the precision of the run.
        layout: its parameters.
        x: some points [N, ...] to try it on.
        how: `"auto"`, or `"batched"`, `"vmap"` or `"loop"` to insist.
        dtype: in which the network is evaluated; positions may come in another.
    """
    if how == "batched" and not BatchedDense.fits(module):
        raise InputError(
            "NeuralNetwork: walkers = 'batched' needs a Sequential of Linear layers and elementwise activations; "
            "use 'auto'"
        )
    if how == "batched" or (how == "auto" and BatchedDense.fits(module)):
        return BatchedDense(module, layout, dtype)
    if how == "vmap":
        return VmapForward(module, layout, dtype)
    if how == "auto":
        problem = _vmap_problem(module, layout, x[:4], dtype)
        if problem is None:
            return VmapForward(module, layout, dtype)
        logger.info(
            "walkers are evaluated one after the other: torch.func.vmap cannot follow this module (%s)", problem
        )
    return LoopForward(module, layout, dtype)


def _vmap_problem(module: nn.Module, layout: Layout, x: Tensor, dtype: torch.dtype) -> str | None:
    """Why vmap cannot evaluate this module, or None if it gives the same outputs and gradients as a loop."""
    own = torch.cat([p.detach().flatten() for p in module.parameters() if p.requires_grad])
    results = []
    for forward in (LoopForward(module, layout, dtype), VmapForward(module, layout, dtype)):
        positions = torch.stack((own, -0.5 * own, 0.25 * own + 0.01)).requires_grad_()
        try:
            outputs = forward(positions, x)
            (gradient,) = torch.autograd.grad(outputs.sum(), positions, allow_unused=True)
        except Exception as error:  # vmap raises errors of many types, all of which mean the same here
            if isinstance(forward, LoopForward):
                raise
            return str(error).splitlines()[0][:120]
        results.append((outputs, torch.zeros_like(own) if gradient is None else gradient))
    same = all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(*results, strict=True))
    return None if same else "its outputs differ from those of a loop"


def refuse_unfit(module: nn.Module, x: Tensor) -> None:
    """Raise `InputError` for a module whose output is random or depends on the other points of the batch."""
    advice = "call module.eval() first, so that its running statistics are fixed, or use LayerNorm or GroupNorm"
    for name, part in module.named_modules():
        what = f"NeuralNetwork: layer {name or 'module'!r} ({type(part).__name__})"
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and (part.training or part.running_mean is None):
            raise InputError(f"{what} makes outputs depend on the rest of the batch; {advice}")
        if isinstance(part, nn.modules.dropout._DropoutNd) and part.training and part.p > 0:
            raise InputError(f"{what} makes outputs random; call module.eval() first, or leave it out")
    trial = copy.deepcopy(module)  # running statistics of unknown modules must not move
    few = x[: max(2, min(8, len(x)))]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = trial(few)
        torch.manual_seed(1)
        again, part_of_batch = trial(few), trial(few[: len(few) // 2])
    if first.ndim != 2 or len(first) != len(few):
        raise InputError(
            f"NeuralNetwork: outputs have shape {tuple(first.shape)} for {len(few)} points; a module must return [N, C]"
        )
    if not torch.equal(first, again):
        raise InputError(
            "NeuralNetwork: two calls with the same input differ: the module is random or changes itself; "
            "call module.eval() first, or remove the randomness"
        )
    if len(few) > 1 and not torch.allclose(first[: len(part_of_batch)], part_of_batch, rtol=1e-3, atol=1e-5):
        raise InputError(f"NeuralNetwork: the output of a point depends on the rest of the batch; {advice}")
