"""The Jacobian itself, for parameters that no rule knows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap

from nnsim.cv.ntk.factors import Explicit
from nnsim.networks.call import Caller
from nnsim.networks.checks import alike

Way = Callable[[Mapping[str, Tensor], Tensor, Tensor], Tensor]


class JacobianRows:
    """Derivatives of the outputs by some of the parameters, point by point.

    Args:
        module: the network.
        names: the parameters.

    Attributes:
        vectorised: take all points at once with `torch.func`; otherwise one after the other with autograd, which
            follows any module. See `vectorise`.
        vectorised_graph: the same where the result is to be differentiated.
    """

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        self.call, self.names = Caller(module), tuple(names)
        self.vectorised = self.vectorised_graph = False

    def vectorise(self, tensors: Mapping[str, Tensor], x: Tensor, covectors: Tensor) -> None:
        """Use `torch.func` from now on as far as it gives the right result at some points x."""
        self.vectorised = self._agree(lambda way: way(tensors, x, covectors))
        leaves = {name: value.detach().requires_grad_() for name, value in tensors.items()}

        def second(way: Way) -> Tensor:
            # Not all of torch's layers are right here: LayerNorm's second derivative under vmap was not, in torch 2.13.
            with torch.enable_grad():
                total = way(leaves, x, covectors).square().sum()
                parts = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
            return torch.cat([part.flatten() for part in parts])

        self.vectorised_graph = self.vectorised and self._agree(second)

    def _agree(self, compute: Callable[[Way], Tensor]) -> bool:
        try:
            fast = compute(self._vectorised)
        except Exception:  # torch.func raises errors of many types, all of which mean the same here
            return False
        return alike(fast, compute(self._one_by_one))

    def factor(self, tensors: Mapping[str, Tensor], x: Tensor, covectors: Tensor) -> Explicit:
        """The factor at points x [N, ...] of the combinations `covectors` [C, O] of the outputs."""
        size = sum(tensors[name].numel() for name in self.names)
        row_bytes = size * len(x) * covectors.element_size()
        return Explicit(lambda some: self.rows(tensors, x, covectors[some]), len(covectors), row_bytes)

    def rows(self, tensors: Mapping[str, Tensor], x: Tensor, covectors: Tensor) -> Tensor:
        """Derivatives [N, C, p], of which a graph is kept if grad mode is on and the parameters need one."""
        keep = torch.is_grad_enabled() and any(value.requires_grad for value in tensors.values())
        fast = self.vectorised_graph if keep else self.vectorised
        return (self._vectorised if fast else self._one_by_one)(tensors, x, covectors)

    def _one_by_one(self, tensors: Mapping[str, Tensor], x: Tensor, covectors: Tensor) -> Tensor:
        return torch.stack([self._of_point(tensors, point[None], covectors) for point in x.unbind()])

    def _vectorised(self, tensors: Mapping[str, Tensor], x: Tensor, covectors: Tensor) -> Tensor:
        own = {name: tensors[name] for name in self.names}
        others = {name: value for name, value in tensors.items() if name not in own}

        def of_point(point: Tensor) -> Tensor:
            def outputs(chosen: dict[str, Tensor]) -> Tensor:
                return self.call.plainly({**others, **chosen}, point[None])[0]

            pull = vjp(outputs, own)[1]
            (found,) = vmap(pull)(covectors)
            return torch.cat([found[name].reshape(len(covectors), -1) for name in self.names], dim=1)

        with warnings.catch_warnings():  # of operations that vmap does one by one
            warnings.simplefilter("ignore")
            return vmap(of_point)(x)

    def _of_point(self, tensors: Mapping[str, Tensor], point: Tensor, covectors: Tensor) -> Tensor:
        keep = torch.is_grad_enabled() and any(value.requires_grad for value in tensors.values())
        with torch.enable_grad():
            own = {name: tensors[name] if keep else tensors[name].detach().requires_grad_() for name in self.names}
            # A constant stays one; a parameter that needs no gradient, beside one that does, gets a leaf of its own.
            own = {name: value if value.requires_grad else value.requires_grad_() for name, value in own.items()}
            outputs = self.call({**tensors, **own}, point)[0]
            found = [
                torch.autograd.grad(
                    outputs, list(own.values()), one, retain_graph=True, create_graph=keep, materialize_grads=True
                )
                if outputs.requires_grad
                else [torch.zeros_like(value) for value in own.values()]
                for one in covectors
            ]
        return torch.stack([torch.cat([part.flatten() for part in row]) for row in found])
