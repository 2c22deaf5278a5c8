"""A loss of the user's own: any function of outputs [N, C] and targets, called for one walker after the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nnsim.errors import InputError, NNSimError, first_line
from nnsim.networks.margins import Margins, class_margins
from nnsim.networks.modes import DispatchMode
from nnsim.systems.losses import Loss, built_in

LossFunction = Callable[[Tensor, Tensor], Tensor]


def loss_of(loss: str | Loss | LossFunction) -> Loss:
    """The loss that `NeuralNetwork(loss=...)` means."""
    return built_in(loss) or OwnLoss(loss)  # type: ignore[arg-type]


class OwnLoss(Loss):
    """The loss that a function gives for each walker.

    Args:
        function: of outputs [N, C] and targets [N, ...]; returns their mean loss.
    """

    nonnegative = False

    def __init__(self, function: LossFunction) -> None:
        self.function = function
        self._what = f"NeuralNetwork: the loss {getattr(function, '__name__', type(function).__name__)}"
        self._no_mean = False

    @property
    def recorded(self) -> Any:
        """The function."""
        return self.function

    @property
    def of_batches(self) -> str | None:
        """A mini-batch has a loss like that of all points only if it is a mean over points."""
        if self._no_mean:
            return "the loss of all points given twice is another, so it is no mean over the points; make it one"
        return None

    def try_on(self, outputs: Tensor, targets: Tensor) -> None:
        """Call the function once, and look at what it does with the targets."""
        with warnings.catch_warnings(), _Crossing(len(outputs)) as crossing, torch.no_grad():
            warnings.filterwarnings("error", message="Using a target size")  # torch goes on, with a wrong result
            given = outputs.clone(), targets.clone()
            once = self._of_one(*given)
        if not (torch.equal(given[0], outputs) and torch.equal(given[1], targets)):
            raise InputError(
                f"{self._what} changes its outputs or targets in place, which others look at too; compute something "
                "new instead, such as targets.clamp(min=0) for targets.clamp_(min=0)"
            )
        if crossing.found:
            n = len(outputs)
            raise InputError(
                f"{self._what} compares each of {n} outputs with each of {n} targets, since shapes [{n}, 1] and [{n}] "
                "are broadcast; give targets of the shape of the outputs, [N, 1], or take outputs[:, 0]"
            )
        try:
            twice = self._of_one(outputs.repeat(2, 1), targets.repeat(2, *[1] * (targets.ndim - 1)))
        except InputError:  # a function that takes this number of points only
            return
        self._no_mean = not torch.allclose(once, twice, rtol=1e-3, atol=1e-6, equal_nan=True)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """L, [W]."""
        return torch.stack([self._of_one(*pair) for pair in zip(outputs, targets, strict=True)])

    def _of_one(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of one walker, a tensor of no dimension."""
        try:
            found: Any = self.function(outputs, targets)
        except NNSimError:
            raise
        except Exception as error:
            shapes = f"[{', '.join(map(str, outputs.shape))}] and [{', '.join(map(str, targets.shape))}]"
            raise InputError(
                f"{self._what} fails with outputs and targets of shapes {shapes} and types {outputs.dtype} and "
                f"{targets.dtype}: {type(error).__name__}: {first_line(error)}; repair the loss, or give other targets"
            ) from error
        if not isinstance(found, Tensor):
            found = self._number(found)
        if found.numel() != 1:
            raise InputError(
                f"{self._what} returns a tensor of shape {tuple(found.shape)}, but one number is needed; return its "
                "mean, as reduction='mean' does"
            )
        found = found.reshape(())
        return found if found.is_floating_point() else found.to(outputs.dtype)

    def _number(self, found: Any) -> Tensor:
        """A plain number as a tensor: it has no gradient, but Monte Carlo needs none."""
        try:
            return torch.tensor(float(found))
        except (TypeError, ValueError):
            raise InputError(
                f"{self._what} returns a {type(found).__name__}, but one number is needed; return a tensor"
            ) from None

    def margins(self, targets: Tensor, outputs: Tensor, what: str) -> Margins:
        """Of the right class, where the targets are labels of classes."""
        return class_margins(targets, outputs, what)


class _Crossing(DispatchMode):
    """Notes whether something of shape [N, 1] meets something of shape [N], and [N, N] comes out."""

    def __init__(self, points: int) -> None:
        super().__init__()
        self.points, self.found = points, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        n = self.points
        shapes = {tuple(one.shape) for one in args if isinstance(one, Tensor)}
        if n > 1 and {(n,), (n, 1)} <= shapes and isinstance(result, Tensor) and result.shape == (n, n):
            self.found = True
        return result
