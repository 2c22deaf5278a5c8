"""One look at the system at given positions, shared by the potential and all collective variables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from torch import Tensor

from nnsim.errors import InputError

if TYPE_CHECKING:
    from nnsim.protocols import CollectiveVariable, System


class Evaluation:
    """Positions and, computed when first asked for and then kept, the outputs and losses of each data split.

    With an `index` the train split is a mini-batch: `loss("train")` is the mean loss of each walker's own points, which
    over random batches has the whole split's loss as its mean. Other splits stay whole.

    Args:
        system: the system.
        positions: [W, n].
        prefetch: splits that will be asked for; small networks evaluate them in one pass.
        index: numbers of the train points of each walker's mini-batch, [W, B]; None is all points. The system must
            have a `batch_loss(positions, index)`.

    Attributes:
        system: the system.
        positions: [W, n], in the precision of the state.
        index: [W, B], or None.
        requested: the splits that were asked for so far.
    """

    def __init__(
        self, system: System, positions: Tensor, prefetch: Iterable[str] = (), index: Tensor | None = None
    ) -> None:
        self.system = system
        self.positions = positions
        self.index = index
        self.requested: set[str] = set()
        self._prefetch = tuple(split for split in prefetch if not self._is_batch(split))
        self._outputs: dict[str, Tensor] = {}
        self._kept: dict[object, Tensor] = {}
        self._values: dict[int, tuple[CollectiveVariable, Tensor]] = {}  # by id, with the CVs, so that those stay alive

    def difference(self, reference: Tensor | float) -> Tensor:
        """Positions minus a reference, a number or [n], [W, n]; in a periodic box that to its nearest image."""
        return self.system.box.nearest(self.positions - reference)

    def outputs(self, split: str) -> Tensor:
        """Outputs of the network on a split, [W, N, C]; raises `InputError` for the train split of a mini-batch."""
        self._refuse_batch("outputs", split)
        self.requested.add(split)
        if split not in self._outputs:
            wanted = self._prefetch if split in self._prefetch else (split,)
            self._outputs.update(self.system.forward(self.positions, wanted))
        return self._outputs[split]

    def targets(self, split: str) -> Tensor:
        """Labels [N] or values [N, C] of a split; raises `InputError` for the train split of a mini-batch."""
        self._refuse_batch("targets", split)
        return self.system.targets(split)

    def loss(self, split: str) -> Tensor:
        """Mean loss of a split, or of each walker's mini-batch of it, [W]."""
        return self.keep(("loss", split), lambda: self._loss(split))

    def value(self, cv: CollectiveVariable) -> Tensor:
        """The value of a CV, [W], computed the first time that it is asked for."""
        if id(cv) not in self._values:
            self._values[id(cv)] = cv, cv(self)
        return self._values[id(cv)][1]

    def part(self, cv: CollectiveVariable, of: str) -> Tensor:
        """The value of a CV that the CV called `of` is made of, [W]; raises `InputError` if it has another shape."""
        value = self.value(cv)
        if not isinstance(value, Tensor) or value.shape != self.positions.shape[:1]:
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"type {type(value).__name__}"
            raise InputError(
                f"the CV {of!r}: its part {cv.name!r} has {found}, but one number for each of {len(self.positions)} "
                "walkers is needed; return a tensor of shape [W]"
            )
        return value

    def keep(self, key: object, compute: Callable[[], Tensor]) -> Tensor:
        """The value of `compute`, called only the first time that `key` is asked for (CVs share work through it)."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def has(self, key: object) -> bool:
        """Whether `keep` has a value for the key."""
        return key in self._kept

    def tangent_kernel(self, split: str, index: Tensor | None = None, outputs: str = "mean") -> Tensor:
        """The tangent kernel [W, size, size] of all points of a split, or of those numbered `index` [N]."""
        points = self._points(split, index)
        return self.system.tangent().kernel(self.positions, points, outputs=outputs)

    def tangent_diagonal(self, split: str, index: Tensor | None = None, outputs: str = "mean") -> Tensor:
        """The diagonal [W, size] of the tangent kernel, which is much cheaper than the whole."""
        points = self._points(split, index)
        return self.system.tangent().diagonal(self.positions, points, outputs=outputs)

    def _points(self, split: str, index: Tensor | None) -> Tensor:
        self._refuse_batch("tangent kernel", split)
        points = self.system.points(split)
        return points if index is None else points[index]

    def _loss(self, split: str) -> Tensor:
        if self.index is None or split != "train":
            return self.system.loss(self.outputs(split), split)
        self.requested.add(split)
        return self.system.batch_loss(self.positions, self.index)

    def _is_batch(self, split: str) -> bool:
        return self.index is not None and split == "train"

    def _refuse_batch(self, what: str, split: str) -> None:
        if self._is_batch(split):
            raise InputError(
                f"Evaluation: {what}('train') were asked of a mini-batch, which only has loss('train'); "
                "make the potential of evaluation.loss('train'), or leave batch_size out"
            )
