"""One forward pass and O backward passes of any module, in which the layers with a rule note what they need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nnsim.cv.ntk.factors import Factor
from nnsim.cv.ntk.layers import Rule
from nnsim.networks.call import Caller, outputs_of

Call = tuple[Tensor, Tensor]  # inputs and outputs of one call of a layer


@contextmanager
def _noting(module: nn.Module, names: Mapping[str, object], calls: dict[str, list[Call]]) -> Iterator[None]:
    """While it lasts, every call of the named layers is noted."""

    def note_for(name: str) -> Any:
        def note(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor:
            probe = output if output.requires_grad else output.detach().requires_grad_()
            calls.setdefault(name, []).append((inputs[0] if inputs else output.new_zeros(0), probe))
            return probe.clone()  # which an activation may change in place

        return note

    handles = [module.get_submodule(name).register_forward_hook(note_for(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def called_once(calls: Sequence[Call], points: int) -> bool:
    """Whether a layer was called once, with one row for each point."""
    return len(calls) == 1 and all(t.ndim > 0 and len(t) == points for t in calls[0])


def record(module: nn.Module, names: Mapping[str, object], x: Tensor) -> tuple[Tensor, dict[str, list[Call]]]:
    """Outputs [N, O] at points x [N, ...], and every call of the named layers."""
    calls: dict[str, list[Call]] = {}
    with torch.enable_grad(), _noting(module, names, calls):
        outputs = outputs_of(module(x))
    return outputs, calls


class OtherCalls(Exception):
    """Some layers were not called once, with all points, as they were in the trial: `layers`."""

    def __init__(self, layers: frozenset[str]) -> None:
        super().__init__(layers)
        self.layers = layers


class LayerwiseFactors:
    """Factors of layers with a rule.

    Args:
        module: the network.
        rules: of layers by their names.
        layers: names of the layers that are asked for, each with the names of its parameters that count, such as
            `"weight"`.
    """

    def __init__(self, module: nn.Module, rules: Mapping[str, Rule], layers: Mapping[str, frozenset[str]]) -> None:
        self.module, self.rules, self.layers = module, rules, dict(layers)
        self._caller = Caller(module)

    def factors(self, tensors: Mapping[str, Tensor], x: Tensor, covectors: Tensor) -> dict[str, Factor]:
        """The factor of each layer at points x [N, ...], of the combinations `covectors` [C, O] of the outputs.

        A graph is kept if grad mode is on and the parameters need one.

        Raises:
            OtherCalls: a layer was called more than once, or not with every point.
        """
        if not self.layers:
            return {}
        keep = torch.is_grad_enabled() and any(value.requires_grad for value in tensors.values())
        plain = tensors if keep else {name: value.detach() for name, value in tensors.items()}
        # The backward passes too: some modules look at their parameters again in them.
        inputs, gradients = self._caller.within(plain, lambda: self._passes(x, covectors, keep))
        factors = {}
        for (name, a), g in zip(inputs.items(), gradients, strict=True):
            factors[name] = self.rules[name](a if keep else a.detach(), g, self.layers[name])
        return factors

    def _passes(self, x: Tensor, covectors: Tensor, keep: bool) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Inputs of each layer [N, ...], and gradients of the combinations by its outputs [N, C, ...]."""
        outputs, calls = record(self.module, self.layers, x)
        other = [name for name in self.layers if not called_once(calls.get(name, ()), len(x))]
        if other:
            raise OtherCalls(frozenset(other))
        inputs = {name: calls[name][0][0] for name in self.layers}
        probes = {name: calls[name][0][1] for name in self.layers}
        rows = []
        for one in covectors:
            found = torch.autograd.grad(
                outputs,
                list(probes.values()),
                one.expand_as(outputs),
                retain_graph=True,
                create_graph=keep,
                materialize_grads=True,
            )
            rows.append(found)
        return inputs, [torch.stack(column, dim=1) for column in zip(*rows, strict=True)]
