"""Any function of collective variables as another one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from nnsim.box import Box
from nnsim.errors import InputError, require_cv, require_number, require_text, shown
from nnsim.evaluation import Evaluation
from nnsim.protocols import CollectiveVariable, said


class Function(CollectiveVariable):
    r"""A function of the values of other CVs.

        s(q) = f(a(q), b(q), ...)

    For what arithmetic (`a - b`, `2 * a / b`, see `nnsim.protocols.Combination`) does not say. Forces follow by the
    chain rule, which torch applies to f. A resume compares the code of f and the values that it takes from around it.

    >>> import torch
    >>> from nnsim import cv
    >>> cv.Function(torch.maximum, cv.Loss("train"), cv.Loss("test")).name
    'maximum_of_loss_train_and_loss_test'

    Args:
        function: f; maps a tensor [W] for each part to one tensor [W], by operations of torch.
        parts: the CVs a, b, ..., at least one; each is evaluated once, however many CVs are made of it.
        name: of the CV; None makes one of the names of f and the parts, if f has a name.
        period: by how much two values of f differ that are the same, as 2 pi of an angle, above 0; `math.inf` if none
            are; None says nothing: biases are taken as they are.

    Raises:
        InputError: no part, or one that is no CV; a function that cannot be called, or has no name; a period not above
            0; when the simulation is made: a result that is no floating-point tensor [W], and, where forces are
            needed, one without a gradient, or with one that is not its derivative.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        *parts: CollectiveVariable,
        name: str | None = None,
        period: float | None = None,
    ) -> None:
        if not callable(function) or CollectiveVariable in type(function).__mro__:
            raise InputError(f"Function: function = {shown(function)} must be a function; give it before its CVs")
        if not parts:
            raise InputError("Function: there are no CVs that it is a function of; give one or more")
        for part in parts:
            require_cv("Function", "part", part)
        self.function, self.cvs = function, parts
        self.name = self._own_name() if name is None else require_text("Function", "name", name)
        self._period = period
        if period is not None and period != math.inf:
            self._period = require_number("Function", "period", period, above=0.0)

    def _own_name(self) -> str:
        called = getattr(self.function, "__name__", "<unnamed>")
        if not called.isidentifier():
            raise InputError("Function: the function has no name of its own; give name=, such as name='gap'")
        return f"{called}_of_{'_and_'.join(one.name for one in self.cvs)}"

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        """Whether all parts are."""
        return all(said(one, CollectiveVariable, "differentiable") for one in self.cvs)

    @property
    def discrete(self) -> bool:  # type: ignore[override]
        """Whether all parts are."""
        return all(said(one, CollectiveVariable, "discrete") for one in self.cvs)

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """F of the values of the parts, [W]."""
        value = self.function(*(evaluation.part(one, self.name) for one in self.cvs))
        walkers = len(evaluation.positions)
        if not isinstance(value, Tensor):
            found = f"{shown(value)} of type {type(value).__name__}"
        elif value.shape != (walkers,):
            found = f"a tensor of shape {tuple(value.shape)}"
        elif not value.is_floating_point():
            found = f"numbers of type {value.dtype}"
        else:
            return value
        raise InputError(
            f"Function: {self.name!r} gives {found}, but one number for each of {walkers} walkers is needed; return a "
            "floating-point tensor [W]"
        )

    def period(self, box: Box) -> float | None:
        """As it was given."""
        return self._period

    def describe(self) -> dict[str, Any]:
        """Function and parts, for the record and for resume."""
        return {"name": self.name, "function": self.function, "cvs": self.cvs, "period": self._period}
