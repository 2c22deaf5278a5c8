"""What CVs of the network's outputs on one data split have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nnsim.errors import require_choice
from nnsim.protocols import CollectiveVariable

SPLITS = ("train", "test")


@dataclass(frozen=True)
class SplitCV(CollectiveVariable):
    """A CV of one split, checked at construction, whose name is `<kind>_<split>`.

    Args:
        split: `"train"` or `"test"`.

    Attributes:
        kind: what the CV is called.
    """

    split: str = "train"
    kind: ClassVar[str]

    def __post_init__(self) -> None:
        require_choice(type(self).__name__, "split", self.split, SPLITS)

    @property
    def name(self) -> str:  # type: ignore[override]
        """Kind and split, such as `loss_train`."""
        return f"{self.kind}_{self.split}"
