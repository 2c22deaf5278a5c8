"""The loss of the network as a collective variable."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nnsim.cv.split import SplitCV
from nnsim.evaluation import Evaluation


@dataclass(frozen=True)
class Loss(SplitCV):
    """Mean loss L of a split, called `loss_train` or `loss_test`.

    Args:
        split: `"train"` or `"test"`.
    """

    kind = "loss"

    @property
    def native(self) -> tuple[str, str, float, float]:
        """Kind, split, slope and scale, for native platforms."""
        return "loss", self.split, 1.0, 1.0

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """L, [W]."""
        return evaluation.loss(self.split)


@dataclass(frozen=True)
class LogLoss(SplitCV):
    """ln of the mean loss of a split, called `ln_loss_train` or `ln_loss_test`.

    A loss that rounds to zero counts as the smallest normal number of its type (ln L = -87 in float32), with no force.

    Args:
        split: `"train"` or `"test"`.
    """

    kind = "ln_loss"

    @property
    def native(self) -> tuple[str, str, float, float]:
        """Kind, split, slope and scale, for native platforms."""
        return "ln_loss", self.split, 1.0, 1.0

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """Ln L, [W]."""
        loss = evaluation.loss(self.split)
        return torch.log(loss.clamp_min(torch.finfo(loss.dtype).tiny))
