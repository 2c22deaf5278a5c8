"""Ways to evaluate one network with the parameters of many walkers at once."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import vmap

from nnsim.errors import InputError, first_line
from nnsim.networks.call import Caller, outputs_of
from nnsim.networks.checks import close
from nnsim.networks.dense import dense_layers, is_dense
from nnsim.networks.layout import Layout
from nnsim.networks.program import program_of
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


def choose_kind(module: nn.Module, fresh: nn.Module, layout: Layout, x: Tensor, how: str) -> str:
    """The fastest of the ways that gives the right outputs for this module: `"batched"`, `"vmap"` or `"loop"`.

    Args:
        module: the network.
        fresh: a copy that was never called; its parameters are changed.
        layout: its parameters.
        x: some points [N, ...] to try it on, of the module's type.
        how: `"auto"`, or one of the three to insist; an `InputError` if that one cannot do it.
    """
    if how == "batched" and (dense_layers(module, layout) is None or isinstance(program_of(module, x), str)):
        raise InputError(
            "NeuralNetwork: walkers = 'batched' needs a Sequential of Linear layers and elementwise activations, or "
            "another module that does the same; use 'auto'"
        )
    dense = how == "batched" or (how == "auto" and is_dense(module))
    if not dense:
        _refuse_hidden_parameters(module, fresh, layout, x)
    if dense or how == "loop":
        return _announced("batched" if dense else "loop")
    problem = _vmap_problem(module, layout, x)
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


def _trial_positions(module: nn.Module) -> Tensor:
    """The module's own values and two others, [3, n]."""
    own = torch.cat([p.detach().flatten() for p in module.parameters() if p.requires_grad])
    return torch.stack((own, -0.5 * own, 0.25 * own + 0.01))


def _refuse_hidden_parameters(module: nn.Module, fresh: nn.Module, layout: Layout, x: Tensor) -> None:
    """Raise `InputError` for a module that goes on using its own values where it is called with others."""
    positions, own = _trial_positions(module)[1:2], dict(fresh.named_parameters())
    with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the user saw them where the module was tried first
        for name, value in layout.split(positions[0]).items():
            own[name].copy_(value)
        found = LoopForward(module, layout, positions.dtype)(positions, x)
        if not close(found[0], outputs_of(fresh(x.clone()))):
            raise InputError(
                "NeuralNetwork: the module computes with parameters that it keeps outside of its own attributes (in a "
                "list, a cache or a hook), so it cannot be called with those of other walkers; use "
                "torch.nn.ParameterList, and compute in forward what depends on them"
            )


def _vmap_problem(module: nn.Module, layout: Layout, x: Tensor) -> str | None:
    """Why vmap cannot evaluate this module, or None if it gives the same outputs and gradients as a loop."""
    results = []
    for kind in (LoopForward, VmapForward):
        positions = _trial_positions(module).requires_grad_()
        forward = kind(module, layout, positions.dtype)
        try:
            with warnings.catch_warnings(), torch.enable_grad():
                warnings.simplefilter("ignore")  # of layers that vmap must evaluate slowly: that is no news to the user
                outputs = forward(positions, x)
                # Not their sum, which may have no gradient, as that of probabilities.
                weights = torch.linspace(1, 2, outputs[0].numel(), dtype=outputs.dtype).view(outputs[0].shape)
                total = (outputs * weights).sum() + 0 * positions.sum()  # a gradient, even if the outputs have none
                (gradient,) = torch.autograd.grad(total, positions)
        except Exception as error:  # vmap raises errors of many types, all of which mean the same here
            return first_line(error)
        results.append((outputs.detach(), gradient))
    same = all(a.dtype == b.dtype and close(a, b) for a, b in zip(*results, strict=True))
    return None if same else "its outputs or gradients differ from those of a loop"
