"""Ways to evaluate one network with the parameters of many walkers at once."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import vmap

from nnsim.errors import InputError
from nnsim.networks.call import Caller
from nnsim.networks.checks import close, first_line
from nnsim.networks.dense import is_dense
from nnsim.networks.layout import Layout
from nnsim.systems.dense import BatchedDense

logger = logging.getLogger("nnsim")


class VmapForward:
    """Any module that torch.func can vectorise over walkers."""

    kind = "vmap"

    def __init__(self, module: nn.Module, layout: Layout, dtype: torch.dtype) -> None:
        self.call, self.layout, self.dtype = Caller(module), layout, dtype

    def __call__(self, positions: Tensor, x: Tensor) -> Tensor:
        """Outputs [W, N, C] of positions [W, n] at points x [N, ...]."""
        return vmap(self.call.plainly, in_dims=(0, None))(self.layout.split(positions.to(self.dtype)), x)

    def of_own_points(self, positions: Tensor, x: Tensor) -> Tensor:
        """Outputs [W, B, C] of positions [W, n], each at points of its own, x [W, B, ...]."""
        return vmap(self.call.plainly)(self.layout.split(positions.to(self.dtype)), x)


class LoopForward:
    """Any module at all: one walker after the other."""

    kind = "loop"

    def __init__(self, module: nn.Module, layout: Layout, dtype: torch.dtype) -> None:
        self.call, self.layout, self.dtype = Caller(module), layout, dtype

    def __call__(self, positions: Tensor, x: Tensor) -> Tensor:
        """Outputs [W, N, C] of positions [W, n] at points x [N, ...]."""
        return torch.stack([self.call(tensors, x) for tensors in self._walkers(positions)])

    def of_own_points(self, positions: Tensor, x: Tensor) -> Tensor:
        """Outputs [W, B, C] of positions [W, n], each at points of its own, x [W, B, ...]."""
        pairs = zip(self._walkers(positions), x.unbind(), strict=True)
        return torch.stack([self.call(tensors, own) for tensors, own in pairs])

    def _walkers(self, positions: Tensor) -> Iterator[dict[str, Tensor]]:
        return (self.layout.split(row) for row in positions.to(self.dtype).unbind())


Forward = BatchedDense | VmapForward | LoopForward


FORWARDS: dict[str, type[Forward]] = {one.kind: one for one in (BatchedDense, VmapForward, LoopForward)}
ANNOUNCEMENTS = {
    "batched": "walkers are evaluated together, by batched matrix products",
    "vmap": "walkers are vectorised with torch.func.vmap",
    "loop": "walkers are evaluated one after the other",
}


def choose_kind(module: nn.Module, layout: Layout, x: Tensor, how: str) -> str:
    """The fastest of the ways that gives the right outputs for this module: `"batched"`, `"vmap"` or `"loop"`.

    Args:
        module: the network.
        layout: its parameters.
        x: some points [N, ...] to try it on, of the module's type.
        how: `"auto"`, or one of the three to insist; an `InputError` if that one cannot do it.
    """
    if how == "batched" and not is_dense(module):
        raise InputError(
            "NeuralNetwork: walkers = 'batched' needs a Sequential of Linear layers and elementwise activations; "
            "use 'auto'"
        )
    if how in ("batched", "loop"):
        return _announced(how)
    if how == "auto" and is_dense(module):
        return _announced("batched")
    problem = _vmap_problem(module, layout, x[:4])
    if problem is None:
        return _announced("vmap")
    if how == "vmap":
        raise InputError(
            f"NeuralNetwork: walkers = 'vmap', but torch.func.vmap cannot follow this module ({problem}); "
            "use 'auto' or 'loop'"
        )
    return _announced("loop", f": torch.func.vmap cannot follow this module ({problem})")


def _announced(kind: str, reason: str = "") -> str:
    logger.info("%s%s", ANNOUNCEMENTS[kind], reason)
    return kind


def _vmap_problem(module: nn.Module, layout: Layout, x: Tensor) -> str | None:
    """Why vmap cannot evaluate this module, or None if it gives the same outputs and gradients as a loop."""
    own = torch.cat([p.detach().flatten() for p in module.parameters() if p.requires_grad])
    results = []
    for forward in (LoopForward(module, layout, own.dtype), VmapForward(module, layout, own.dtype)):
        positions = torch.stack((own, -0.5 * own, 0.25 * own + 0.01)).requires_grad_()
        try:
            with warnings.catch_warnings():  # of layers that vmap must evaluate slowly: that is no news to the user
                warnings.simplefilter("ignore")
                outputs = forward(positions, x)
                (gradient,) = torch.autograd.grad(outputs.sum(), positions, allow_unused=True)
        except Exception as error:  # vmap raises errors of many types, all of which mean the same here
            if isinstance(forward, LoopForward):
                raise
            return first_line(error)
        results.append((outputs, torch.zeros_like(own) if gradient is None else gradient))
    same = all(close(a, b) for a, b in zip(*results, strict=True))
    return None if same else "its outputs differ from those of a loop"
