"""A module called with other parameters than its own.

Some modules look at themselves again during the backward pass: activation checkpointing (`torch.utils.checkpoint`)
computes a part of the outputs once more, and the backward of an own `torch.autograd.Function` may read a parameter of
the module. So the parameters of a walker must be in place then, too. `Caller` keeps the outputs of a call as one node
of the graph, which puts them in once more before it goes back through the module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

Result = TypeVar("Result")


class _Inside(nn.Module):
    """Any work, done while the parameters of a module are others."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, work: Callable[[], Any]) -> Any:
        return work()


class Caller:
    """Calls of one module, whose structure must stay as it is, with tensors by name in place of its parameters.

    After each call, also one that fails, the module is as it was.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module, self._inside = module, _Inside(module)
        # `functional_call` by itself does not put everything back (torch 2.13) if a layer has two names in it: the
        # tensors are put in once for each name, and the second time those of the first are kept as what to put back.
        # So each layer gets them once, under its first name; what layers share has the name of the first of them.
        first = {id(p): name for name, p in module.named_parameters()}
        self._places: dict[str, list[str]] = {name: [] for name in first.values()}
        for prefix, layer in self._inside.named_modules():
            for key, p in layer._parameters.items():
                if p is not None:
                    self._places[first[id(p)]].append(f"{prefix}.{key}")

    def within(self, tensors: Mapping[str, Tensor], work: Callable[[], Result]) -> Result:
        """What `work` returns, which is done while the tensors are in place."""
        every = {place: tensor for name, tensor in tensors.items() for place in self._places[name]}
        found: Result = functional_call(self._inside, every, (work,), tie_weights=False)
        return found

    def plainly(self, tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Outputs at points x [N, ...]; a backward pass comes when the module has its own parameters again."""
        return self.within(tensors, lambda: outputs_of(self.module(x)))

    def __call__(self, tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Outputs at points x [N, ...]; the tensors are in place again in a backward pass, and a second one."""
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors.values()):
            found: Tensor = _Held.apply(self, tuple(tensors), x, *tensors.values())
            return found
        return self.plainly(tensors, x)


def outputs_of(returned: Any) -> Any:
    """The outputs among what a module returns: itself, or its `logits`, as models of Hugging Face have them."""
    if isinstance(returned, Tensor):
        return returned
    logits = getattr(returned, "logits", None)
    return logits if isinstance(logits, Tensor) else returned


class _Held(torch.autograd.Function):
    """Outputs of a module as one node of the graph, with the graph within kept apart."""

    @staticmethod
    def forward(ctx: Any, caller: Caller, names: tuple[str, ...], x: Tensor, *tensors: Tensor) -> Tensor:
        needed = ctx.needs_input_grad[3:]
        leaves = [one.detach().requires_grad_(needs) for one, needs in zip(tensors, needed, strict=True)]
        with torch.enable_grad():
            outputs = caller.plainly(dict(zip(names, leaves, strict=True)), x)
        ctx.caller, ctx.names = caller, names
        # Saved, not kept as attributes: so the graph within is freed together with the one around it.
        ctx.save_for_backward(outputs, *leaves, *tensors)
        result = outputs.detach()
        if not outputs.requires_grad:
            ctx.mark_non_differentiable(result)
        return result

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        outputs, *rest = ctx.saved_tensors
        leaves, tensors = rest[: len(ctx.names)], rest[len(ctx.names) :]
        if torch.is_grad_enabled():  # a gradient that is to be differentiated again
            found = iter(_HeldGradient.apply(ctx.caller, ctx.names, (outputs, leaves), g, *tensors))
        else:
            found = iter(_gradients(ctx.caller, ctx.names, leaves, [outputs], _wanted(leaves), [g]))
        return None, None, None, *(next(found) if leaf.requires_grad else None for leaf in leaves)


class _HeldGradient(torch.autograd.Function):
    """The gradients that `_Held` gives, as a node of the graph in turn."""

    @staticmethod
    def forward(
        ctx: Any, caller: Caller, names: tuple[str, ...], held: tuple[Tensor, Sequence[Tensor]], g: Tensor, *_: Tensor
    ) -> tuple[Tensor, ...]:
        outputs, leaves = held
        with torch.enable_grad():
            seed = g.detach().requires_grad_()
            found = _gradients(caller, names, leaves, [outputs], _wanted(leaves), [seed], create_graph=True)
        ctx.caller, ctx.names = caller, names
        ctx.save_for_backward(seed, *leaves, *found)
        return tuple(one.detach() for one in found)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *g: Tensor) -> tuple[Any, ...]:
        seed, *rest = ctx.saved_tensors
        leaves, values = rest[: len(ctx.names)], rest[len(ctx.names) :]
        graph = [(value, one) for value, one in zip(values, g, strict=True) if value.requires_grad]
        sources = [seed, *_wanted(leaves)]
        second = iter(
            _gradients(ctx.caller, ctx.names, leaves, [v for v, _ in graph], sources, [one for _, one in graph])
            if graph
            else [torch.zeros_like(one) for one in sources]
        )
        return None, None, None, next(second), *(next(second) if leaf.requires_grad else None for leaf in leaves)


def _wanted(leaves: Sequence[Tensor]) -> list[Tensor]:
    return [leaf for leaf in leaves if leaf.requires_grad]


def _gradients(
    caller: Caller,
    names: Sequence[str],
    leaves: Sequence[Tensor],
    values: Sequence[Tensor],
    sources: Sequence[Tensor],
    g: Sequence[Tensor],
    *,
    create_graph: bool = False,
) -> list[Tensor]:
    """Gradients of values by the sources, dense ones, with the leaves in place of the module's parameters."""
    found = caller.within(
        dict(zip(names, leaves, strict=True)),
        lambda: torch.autograd.grad(
            values, sources, g, retain_graph=True, create_graph=create_graph, materialize_grads=True
        ),
    )
    return [one.to_dense() if one.is_sparse else one for one in found]
