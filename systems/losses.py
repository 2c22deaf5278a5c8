r"""The built-in losses, of all walkers at once, and what each takes as targets.

| name | class | loss of a point with outputs f and target y |
|---|---|---|
| `"cross_entropy"` | `CrossEntropy` | -ln softmax(f)_y, or -sum_c y_c ln softmax(f)_c for probabilities y |
| `"mse"` | `MeanSquaredError` | (f - y)^2, mean over the outputs |
| `"bce"` | `BinaryCrossEntropy` | -y ln s(f) - (1 - y) ln s(-f) with s(f) = 1 / (1 + exp(-f)), mean over the outputs |

Their numbers are those of torch's functions and classes of the same settings, which `loss_of` knows as well.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnsim.errors import InputError, require_choice, require_integer, require_number, require_numbers, shown
from nnsim.networks.checks import has_hooks
from nnsim.networks.margins import NO_CLASSIFIER, Margins, class_margins, logit_margins
from nnsim.platforms.native import LossTable

REDUCTIONS = ("mean", "sum")


class Loss:
    """A loss L [W] of outputs [W, N, C] and targets [W, N, ...]: the mean over the points, or their sum.

    Attributes:
        name: of the built-in loss whose settings are the default ones, or None.
        native: gives the `LossTable` of fitted targets and the number of outputs, or None where there is none.
        nonnegative: whether it cannot be below 0.
        reduction: `"mean"` or `"sum"` over the points.
    """

    name: str | None = None
    native: Callable[[Tensor, int], LossTable] | None = None
    nonnegative: bool = True
    reduction: str = "mean"

    @property
    def of_batches(self) -> str | None:
        """Why it cannot be estimated on mini-batches, or None."""
        if self.reduction == "mean":
            return None
        return "reduction = 'sum' would add up the points of the mini-batch only; choose reduction='mean'"

    @property
    def recorded(self) -> Any:
        """What is described in the record: the name, where that says it all."""
        return self.name or self

    def fitted(self, what: str, targets: Tensor, classes: int) -> Tensor:
        """The targets [N, ...] in the form that the loss takes; raises `InputError` for others.

        Args:
            what: which targets they are, for messages.
            targets: as the user gave them.
            classes: number of outputs of the module, C.
        """
        return targets

    def try_on(self, outputs: Tensor, targets: Tensor) -> None:
        """Refuse, with an `InputError`, what cannot work with outputs [N, C] and the fitted targets [N, ...]."""

    def settled(self, targets: Sequence[Tensor]) -> Loss:
        """The same loss in its fastest form for the fitted targets of all splits."""
        return self

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """L, [W]."""
        raise NotImplementedError

    def margins(self, targets: Tensor, outputs: Tensor, what: str) -> Margins:
        """Margins of a classifier (`nnsim.networks.margins`); raises `InputError` where there is no right answer."""
        raise InputError(NO_CLASSIFIER)


def _settle(loss: Any, *weights: str) -> None:
    """Check the reduction of a built-in loss, and keep copies of its weights."""
    owner = type(loss).__name__
    if loss.reduction == "none":
        raise InputError(
            f"{owner}: reduction = 'none' gives a loss for each point, but one number is needed; choose 'mean'"
        )
    require_choice(owner, "reduction", loss.reduction, REDUCTIONS)
    for name in weights:
        value = getattr(loss, name)
        if value is None:
            continue
        rule = "finite numbers of at least 0, one for each output"
        numbers = require_numbers(owner, name, value, rule)
        if numbers.ndim > 1 or not bool((torch.isfinite(numbers) & (numbers >= 0)).all()):
            raise InputError(f"{owner}: {name} must be {rule}; change {name}")
        if name == "weight" and not bool((numbers > 0).any()):
            raise InputError(f"{owner}: {name} = {shown(value)} makes a loss that is always 0; give one above 0")
        object.__setattr__(loss, name, numbers)


def _check_length(loss: Any, name: str, classes: int) -> None:
    """Refuse weights that are not one for each output."""
    weights = getattr(loss, name)
    if weights is not None and weights.ndim and len(weights) != classes:
        raise InputError(
            f"{type(loss).__name__}: {name} has {len(weights)} values, but the module has {classes} outputs; "
            "give one for each"
        )


def _like(outputs: Tensor, weights: Tensor | None) -> Tensor | None:
    return None if weights is None else weights.to(outputs)


@dataclass(frozen=True, eq=False)
class CrossEntropy(Loss):
    r"""Cross-entropy of logits [N, C], as `torch.nn.CrossEntropyLoss` has it.

    The mean is that of torch: sum_i w_{y_i} l_i / sum_i w_{y_i} over the points that are not ignored, also over those
    of a mini-batch (one without any has loss 0); over probabilities it is the plain mean.

    Args:
        weight: of each class, [C], at least 0; None is 1.
        label_smoothing: epsilon from 0 to 1: targets become (1 - epsilon) y + epsilon / C.
        ignore_index: label of points that do not count, in the accuracy neither; None is none.
        reduction: `"mean"` or `"sum"` over the points.

    Targets are integers 0 ... C-1, [N] or [N, 1], or probabilities [N, C].
    """

    weight: Any = None
    label_smoothing: float = 0.0
    ignore_index: int | None = None
    reduction: str = "mean"

    def __post_init__(self) -> None:
        _settle(self, "weight")
        smoothing = require_number("CrossEntropy", "label_smoothing", self.label_smoothing, least=0.0)
        if smoothing > 1:
            raise InputError(f"CrossEntropy: label_smoothing = {smoothing:g} must be at most 1; lower it")
        object.__setattr__(self, "label_smoothing", smoothing)
        if self.weight is not None and not self.weight.ndim:
            raise InputError("CrossEntropy: weight is one number; give one for each class, [C]")
        if self.ignore_index is not None:
            least = -(2**63)
            object.__setattr__(
                self, "ignore_index", require_integer("CrossEntropy", "ignore_index", self.ignore_index, least=least)
            )

    @property
    def _plain(self) -> bool:
        return self.weight is None and not self.label_smoothing and self.reduction == "mean"

    @property
    def name(self) -> str | None:  # type: ignore[override]
        """Name, if the settings are those of torch."""
        return "cross_entropy" if self._plain and self.ignore_index in (None, -100) else None

    def fitted(self, what: str, targets: Tensor, classes: int) -> Tensor:
        """Labels [N], int64, or probabilities [N, C], float64."""
        _check_length(self, "weight", classes)
        if classes < 2:
            raise InputError("NeuralNetwork: the cross-entropy of a single output is always 0; use loss='bce' for it")
        if targets.ndim == 2 and targets.shape[1] == classes:
            return self._fitted_probabilities(what, targets.double())
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = targets[:, 0]
        if targets.is_floating_point() or targets.ndim != 1:
            raise InputError(
                f"{what} must be integer labels [N] for cross-entropy; use loss='mse' for values, targets.long() for "
                f"labels that are floats, or give probabilities [N, {classes}]"
            )
        labels = targets.long()
        counted = labels if self.ignore_index is None else labels[labels != self.ignore_index]
        if not len(counted):
            raise InputError(f"{what} all have the label {self.ignore_index}, which is ignored; give some others")
        low, high = int(counted.min()), int(counted.max())
        if low < 0 or high >= classes:
            raise InputError(
                f"{what} reach from {low} to {high}, but the module has {classes} outputs: labels must lie in "
                f"0 ... {classes - 1}; number the classes so, and for points that do not count give "
                "loss=torch.nn.CrossEntropyLoss(ignore_index=...)"
            )
        return labels

    def _fitted_probabilities(self, what: str, targets: Tensor) -> Tensor:
        if bool((targets < 0).any()) or not torch.allclose(targets.sum(1), targets.new_ones(()), rtol=0, atol=1e-3):
            raise InputError(
                f"{what} of shape {tuple(targets.shape)} must be probabilities, at least 0 and of sum 1, for "
                "cross-entropy; use integer labels [N], or loss='bce' for several answers that may be yes"
            )
        one_hot = bool(((targets == 0) | (targets == 1)).all())
        # With weights torch divides by their sum for labels, but by the number of points for probabilities.
        return targets.argmax(1) if one_hot and self.weight is None else targets

    def settled(self, targets: Sequence[Tensor]) -> Loss:
        """Without the ignored label, if no point has it."""
        found = self.ignore_index is not None and any(bool((one == self.ignore_index).any()) for one in targets)
        return self if found else replace(self, ignore_index=None)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """L, [W]."""
        walkers, points, classes = outputs.shape
        soft = targets.is_floating_point()
        ignored = -100 if self.ignore_index is None or soft else self.ignore_index  # -100 is torch's word for none
        each = F.cross_entropy(
            outputs.reshape(-1, classes),
            targets.reshape(-1, classes) if soft else targets.reshape(-1),
            weight=_like(outputs, self.weight),
            reduction="none",
            label_smoothing=self.label_smoothing,
            ignore_index=ignored,
        ).view(walkers, points)
        if self.reduction == "sum":
            return each.sum(1)
        if soft or (self.weight is None and self.ignore_index is None):
            return each.mean(1)
        return each.sum(1) / self._shares(outputs, targets).sum(1).clamp_min(torch.finfo(outputs.dtype).tiny)

    def _shares(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """How much each point counts, [W, N]."""
        counts = torch.ones_like(labels, dtype=torch.bool) if self.ignore_index is None else labels != self.ignore_index
        if self.weight is None:
            return counts.to(outputs.dtype)
        return counts * self.weight.to(outputs)[torch.where(counts, labels, 0)]

    def native(self, targets: Tensor, classes: int) -> LossTable:
        """Shares are the targets after smoothing, times the weights of the classes."""
        soft, points = targets.is_floating_point(), len(targets)
        labels = torch.zeros(points, dtype=torch.int64) if soft else targets.clone()
        counts = labels != self.ignore_index if self.ignore_index is not None and not soft else labels >= 0
        labels[~counts] = -1
        wanted = targets.double() if soft else F.one_hot(labels.clamp_min(0), classes).double()
        weights = torch.ones(classes, dtype=torch.float64) if self.weight is None else self.weight.double()
        shares = weights * ((1 - self.label_smoothing) * wanted + self.label_smoothing / classes) * counts[:, None]
        each = torch.ones(points) if soft else (wanted @ weights) * counts
        return LossTable(
            "cross_entropy",
            soft or not self._plain or not bool(counts.all()),
            np.zeros((points, classes)),
            labels.numpy(),
            shares.numpy(),
            1.0 if self.reduction == "sum" else max(float(each.sum()), torch.finfo(torch.float64).tiny),
            each.double().numpy(),
            float(counts.sum()),
        )

    def margins(self, targets: Tensor, outputs: Tensor, what: str) -> Margins:
        """Of the right class over the others; ignored points do not count."""
        if targets.is_floating_point():
            raise InputError(f"accuracy needs one right class for each point, but {what} targets are probabilities")
        return class_margins(targets, outputs, what, self.ignore_index)


@dataclass(frozen=True, eq=False)
class MeanSquaredError(Loss):
    """Squared error of outputs [N, C], the mean (or sum) over points and outputs; targets are values [N] or [N, C].

    Args:
        reduction: `"mean"` or `"sum"`.
    """

    reduction: str = "mean"

    def __post_init__(self) -> None:
        _settle(self)

    @property
    def name(self) -> str | None:  # type: ignore[override]
        """Name, if the settings are those of torch."""
        return "mse" if self.reduction == "mean" else None

    def fitted(self, what: str, targets: Tensor, classes: int) -> Tensor:
        """Values [N, C], float64."""
        return _values(what, targets, classes).double()

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """L, [W]."""
        squares = (outputs - targets).square()
        return squares.mean(dim=(1, 2)) if self.reduction == "mean" else squares.sum(dim=(1, 2))

    def native(self, targets: Tensor, classes: int) -> LossTable:
        """Its targets are values."""
        return _table("mse", False, targets, torch.ones_like(targets), self.reduction)


@dataclass(frozen=True, eq=False)
class BinaryCrossEntropy(Loss):
    """Binary cross-entropy of one logit or several, as `torch.nn.BCEWithLogitsLoss` has it: the mean over all of them.

    Args:
        weight: of each output, [C] or a number, at least 0; None is 1.
        pos_weight: factor on the terms with y, [C] or a number, at least 0; None is 1.
        reduction: `"mean"` or `"sum"` over points and outputs.

    Targets are answers from 0 (no) to 1 (yes), [N] or [N, 1] for one output, [N, C] for several.
    """

    weight: Any = None
    pos_weight: Any = None
    reduction: str = "mean"

    def __post_init__(self) -> None:
        _settle(self, "weight", "pos_weight")

    @property
    def name(self) -> str | None:  # type: ignore[override]
        """Name, if the settings are those of torch."""
        return "bce" if self.weight is None and self.pos_weight is None and self.reduction == "mean" else None

    def fitted(self, what: str, targets: Tensor, classes: int) -> Tensor:
        """Answers [N, C], float64."""
        for name in ("weight", "pos_weight"):
            _check_length(self, name, classes)
        values = _values(what, targets, classes).double()
        low, high = float(values.min()), float(values.max())
        if low < 0 or high > 1:
            raise InputError(
                f"{what} reach from {low:g} to {high:g}, but must lie in 0 ... 1 for loss='bce'; "
                "give (y + 1) / 2 for labels -1 and +1"
            )
        return values

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """L, [W]."""
        weight, pos_weight = _like(outputs, self.weight), _like(outputs, self.pos_weight)
        each = F.binary_cross_entropy_with_logits(outputs, targets, weight, reduction="none", pos_weight=pos_weight)
        return each.mean(dim=(1, 2)) if self.reduction == "mean" else each.sum(dim=(1, 2))

    def native(self, targets: Tensor, classes: int) -> LossTable:
        """Both terms of a point share the larger factor, at an answer that is changed accordingly."""
        weight, factor = (1.0 if one is None else one.double() for one in (self.weight, self.pos_weight))
        yes = weight * factor * targets
        shares = yes + weight * (1 - targets)
        weighted = self.weight is not None or self.pos_weight is not None
        return _table("bce", weighted, torch.where(shares > 0, yes / shares, targets), shares, self.reduction)

    def margins(self, targets: Tensor, outputs: Tensor, what: str) -> Margins:
        """Of the right answer to each of the questions."""
        return logit_margins(targets, what)


def _table(kind: str, weighted: bool, values: Tensor, shares: Tensor, reduction: str) -> LossTable:
    """Of a loss whose every output is a term of its own."""
    terms, labels = float(values.numel()), np.zeros(len(values), dtype=np.int64)
    norm = terms if reduction == "mean" else 1.0
    each = np.full(len(values), float(values.shape[1]))
    return LossTable(kind, weighted, values.numpy(), labels, shares.numpy(), norm, each, terms)


def _values(what: str, targets: Tensor, classes: int) -> Tensor:
    """Values [N, C]."""
    targets = targets[:, None] if targets.ndim == 1 else targets
    if targets.shape[1:] != (classes,):
        raise InputError(f"{what} have shape {tuple(targets.shape)} for {classes} outputs; give [N, {classes}] values")
    return targets


BUILT_IN: dict[str, type[Loss]] = {"cross_entropy": CrossEntropy, "mse": MeanSquaredError, "bce": BinaryCrossEntropy}

# Torch's own, with the settings that are taken over.
_FUNCTIONS: list[tuple[Callable[..., Any], type[Loss], dict[str, Any]]] = [
    (F.cross_entropy, CrossEntropy, {"ignore_index": -100}),
    (F.mse_loss, MeanSquaredError, {}),
    (F.binary_cross_entropy_with_logits, BinaryCrossEntropy, {}),
]
_CLASSES: dict[type, tuple[type[Loss], tuple[str, ...]]] = {
    nn.CrossEntropyLoss: (CrossEntropy, ("weight", "label_smoothing", "ignore_index", "reduction")),
    nn.MSELoss: (MeanSquaredError, ("reduction",)),
    nn.BCEWithLogitsLoss: (BinaryCrossEntropy, ("weight", "pos_weight", "reduction")),
}


def built_in(loss: Any) -> Loss | None:
    """The built-in loss that is meant by a name, an object of this module or one of torch; None for any other."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, type):
        raise InputError(f"NeuralNetwork: loss is the class {loss.__name__}; give an object, {loss.__name__}()")
    if isinstance(loss, str) or not callable(loss):
        return BUILT_IN[require_choice("NeuralNetwork", "loss", loss, BUILT_IN)]()
    if type(loss) in _CLASSES and not has_hooks(loss):
        kind, names = _CLASSES[type(loss)]
        return kind(**{name: getattr(loss, name) for name in names})
    partial = isinstance(loss, functools.partial) and not loss.args
    function, settings = (loss.func, loss.keywords) if partial else (loss, {})
    for known, kind, defaults in _FUNCTIONS:
        if function is known and settings.keys() <= {field.name for field in fields(kind)}:  # type: ignore[arg-type]
            return kind(**{**defaults, **settings})
    return None
