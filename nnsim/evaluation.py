"""One look at the system at given positions, shared by the potential and all collective variables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from nnsim.protocols import System


class Evaluation:
    """Positions and, computed when first asked for and then kept, the outputs and losses of each data split.

    Args:
        system: the system.
        positions: [W, n].
        prefetch: splits that will be asked for; small networks evaluate them in one pass.

    Attributes:
        system: the system.
        positions: [W, n], in the precision of the state.
        requested: the splits that were asked for so far.
    """

    def __init__(self, system: System, positions: Tensor, prefetch: Iterable[str] = ()) -> None:
        self.system = system
        self.positions = positions
        self.requested: set[str] = set()
        self._prefetch = tuple(prefetch)
        self._outputs: dict[str, Tensor] = {}
        self._kept: dict[object, Tensor] = {}

    def outputs(self, split: str) -> Tensor:
        """Outputs of the network on a split, [W, N, C]."""
        self.requested.add(split)
        if split not in self._outputs:
            wanted = self._prefetch if split in self._prefetch else (split,)
            self._outputs.update(self.system.forward(self.positions, wanted))
        return self._outputs[split]

    def targets(self, split: str) -> Tensor:
        """Labels [N] or values [N, C] of a split."""
        return self.system.targets(split)

    def loss(self, split: str) -> Tensor:
        """Mean loss of a split, [W]."""
        return self.keep(("loss", split), lambda: self.system.loss(self.outputs(split), split))

    def keep(self, key: object, compute: Callable[[], Tensor]) -> Tensor:
        """The value of `compute`, called only the first time that `key` is asked for (CVs share work through it)."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]
