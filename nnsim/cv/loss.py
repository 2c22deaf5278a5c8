"""The loss of the network as a collective variable."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nnsim.errors import require_choice
from nnsim.evaluation import Evaluation
from nnsim.protocols import CollectiveVariable

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Loss(CollectiveVariable):
    """Mean loss L of a split.

    Args:
        split: `"train"` or `"test"`.
    """

    split: str = "train"

    def __post_init__(self) -> None:
        require_choice(type(self).__name__, "split", self.split, SPLITS)

    @property
    def name(self) -> str:  # type: ignore[override]
        """`loss_train` or `loss_test`."""
        return f"loss_{self.split}"

    @property
    def native(self) -> tuple[str, str, float, float]:
        """Kind, split, slope and scale, for native platforms."""
        return "loss", self.split, 1.0, 1.0

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """L, [W]."""
        return evaluation.loss(self.split)


@dataclass(frozen=True)
class LogLoss(CollectiveVariable):
    """ln of the mean loss of a split.

    A loss that rounds to zero counts as the smallest normal number of its type (ln L = -87 in float32), with no force.

    Args:
        split: `"train"` or `"test"`.
    """

    split: str = "train"

    def __post_init__(self) -> None:
        require_choice(type(self).__name__, "split", self.split, SPLITS)

    @property
    def name(self) -> str:  # type: ignore[override]
        """`ln_loss_train` or `ln_loss_test`."""
        return f"ln_loss_{self.split}"

    @property
    def native(self) -> tuple[str, str, float, float]:
        """Kind, split, slope and scale, for native platforms."""
        return "ln_loss", self.split, 1.0, 1.0

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """Ln L, [W]."""
        loss = evaluation.loss(self.split)
        return torch.log(loss.clamp_min(torch.finfo(loss.dtype).tiny))
