"""Accuracy of a classifier, exact and smoothed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nnsim.cv.split import SplitCV
from nnsim.errors import require_choice, settle_number
from nnsim.evaluation import Evaluation
from nnsim.logit import EPSILON

SLOPE = 5.0  # of the smoothed accuracy, where the name does not say another


def _margins(evaluation: Evaluation, split: str) -> Tensor:
    """How surely the outputs are right, [W, M]: above 0 where they are (see `nnsim.networks.margins`)."""

    def compute() -> Tensor:
        return evaluation.system.margins(evaluation.outputs(split), split)

    return evaluation.keep(("margins", split), compute)


@dataclass(frozen=True)
class Accuracy(SplitCV):
    """Fraction of the points of a split whose right class has the highest output; a tie counts as wrong.

    Points that the loss ignores do not count. With the loss `"bce"` it is the fraction of right answers, to all
    questions of all points: a logit above 0 says yes.

    Not differentiable: for Monte Carlo, or to be recorded. Called `accuracy_train` or `accuracy_test`.

    Args:
        split: `"train"` or `"test"`.
    """

    split: str = "test"
    kind = "accuracy"
    differentiable = False
    discrete = True

    @property
    def native(self) -> tuple[str, str, float, float]:
        """Kind, split, slope and scale, for native platforms."""
        return "accuracy", self.split, 1.0, 1.0

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """Accuracy between 0 and 1, [W], float64."""
        return (_margins(evaluation, self.split) > 0).double().mean(-1)


@dataclass(frozen=True)
class SmoothedAccuracy(SplitCV):
    r"""A(q) = mean over points of sigmoid(slope x (logit of the right class - highest other logit)).

    With the loss `"bce"` it is the mean of sigmoid(slope x logit), or of its negative for a target of 0, over all
    answers. Points that the loss ignores do not count.

    With `coordinate="logit"` the CV is ln(a / (1 - a)) with a = epsilon + (1 - 2 epsilon) A and epsilon = 1e-4, which
    gives the ends of the scale room; it lies within +-9.21. `scale` multiplies the coordinate, so that one grid spacing
    and one kernel width can suit several CVs (the papers use 10 x accuracy on CIFAR-10).

    Args:
        split: `"train"` or `"test"`.
        slope: above 0; the larger, the closer to the exact accuracy and the stiffer the forces.
        coordinate: `"linear"` or `"logit"`.
        scale: above 0.

    Reference: arXiv 2503.13145, Methods and public scripts.
    """

    split: str = "test"
    slope: float = SLOPE
    coordinate: str = "linear"
    scale: float = 1.0
    kind = "smoothed_accuracy"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(type(self).__name__, "coordinate", self.coordinate, ("linear", "logit"))
        settle_number(self, "slope", above=0.0)
        settle_number(self, "scale", above=0.0)

    @property
    def name(self) -> str:  # type: ignore[override]
        """`smoothed_accuracy_test`, with what is not the default: `10x_logit_smoothed_accuracy_test_slope20`."""
        scale = "" if self.scale == 1 else f"{self.scale:g}x_"
        logit = "logit_" if self.coordinate == "logit" else ""
        slope = "" if self.slope == SLOPE else f"_slope{self.slope:g}"
        return f"{scale}{logit}{super().name}{slope}"

    @property
    def native(self) -> tuple[str, str, float, float]:
        """Kind, split, slope and scale, for native platforms."""
        kind = "smoothed" if self.coordinate == "linear" else "logit_smoothed"
        return kind, self.split, self.slope, self.scale

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """The coordinate, [W]."""
        accuracy = torch.sigmoid(self.slope * _margins(evaluation, self.split)).mean(-1)
        if self.coordinate == "linear":
            return self.scale * accuracy if self.scale != 1 else accuracy
        return self.scale * torch.logit(EPSILON + (1 - 2 * EPSILON) * accuracy)

    def accuracy(self, coordinate: Tensor) -> Tensor:
        """The smoothed accuracy between 0 and 1 that belongs to a value of the coordinate, [any]."""
        plain = coordinate / self.scale
        return plain if self.coordinate == "linear" else (torch.sigmoid(plain) - EPSILON) / (1 - 2 * EPSILON)
