"""How surely the outputs of a classifier are right: what accuracies are made of.

The margin of a point is above 0 exactly where its right class, or answer, has the highest output.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nnsim.errors import InputError

Margins = Callable[[Tensor], Tensor]  # of outputs [W, N, C], [W, M]

NO_CLASSIFIER = (
    "accuracy needs a classifier: two or more outputs and integer labels, or the loss 'bce'; use a loss instead"
)


def class_margins(labels: Tensor, outputs: Tensor, what: str, ignored: int | None = None) -> Margins:
    """Logit of the right class minus the highest other logit, of those points that have a label.

    Args:
        labels: right classes, integers 0 ... C-1, [N].
        outputs: a logit for each class, [W, N, C], as they will come; C at least 2.
        what: whose labels they are, for messages.
        ignored: the label of points that do not count, or None.

    Raises:
        InputError: no such outputs, or labels of another form.
    """
    if outputs.ndim != 3 or labels.ndim != 1 or labels.is_floating_point() or outputs.shape[-1] < 2:
        raise InputError(NO_CLASSIFIER)
    counted = None if ignored is None else (labels != ignored).nonzero()[:, 0]
    labels = labels if counted is None else labels[counted]
    classes = outputs.shape[-1]
    low, high = (int(bound) for bound in torch.aminmax(labels))
    if low < 0 or high >= classes:
        raise InputError(
            f"accuracy needs labels 0 ... {classes - 1}, but {what} labels reach from {low} to {high}; number the "
            "classes from 0, and for points that do not count give loss=torch.nn.CrossEntropyLoss(ignore_index=...)"
        )
    of_all = _of_two(labels, outputs.dtype) if classes == 2 else _of_many(labels)
    return of_all if counted is None else lambda outputs: of_all(outputs[:, counted])


def _of_two(labels: Tensor, dtype: torch.dtype) -> Margins:
    """The other of two classes needs no maximum."""
    sign = (2 * labels - 1).to(dtype)
    return lambda outputs: (outputs[..., 1] - outputs[..., 0]) * sign


def _of_many(labels: Tensor) -> Margins:
    def margins(outputs: Tensor) -> Tensor:
        index = labels.expand(len(outputs), -1)[..., None]
        own = outputs.gather(-1, index)[..., 0]
        return own - outputs.scatter(-1, index, -math.inf).amax(-1)

    return margins


def logit_margins(targets: Tensor, what: str) -> Margins:
    """(2 y - 1) z of logits z [W, N, C] that each say yes or no, for answers y [N, C] that are 1 or 0."""
    if not bool(((targets == 0) | (targets == 1)).all()):
        raise InputError(f"accuracy needs targets that are 0 or 1, but some {what} targets lie between; use a loss")
    sign = 2 * targets - 1
    return lambda outputs: (outputs * sign).flatten(1)
