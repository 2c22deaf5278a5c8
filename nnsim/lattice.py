"""Parameters that may take a few values only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnsim.errors import InputError, require_numbers, shown
from nnsim.random.streams import Purpose, RandomStreams


class Lattice:
    """Every parameter takes one of a few values, such as -1 and +1; it stands in the place of a `Box`.

    Only Monte Carlo can move on a lattice; see `nnsim.integrators.MonteCarlo`.

    Args:
        values: at least two different finite numbers.

    Raises:
        InputError: fewer than two different values, or one that is not finite.

    Reference: binary networks as in arXiv 2409.18683.

    >>> from nnsim import Lattice
    >>> Lattice([1, -1])
    Lattice([-1.0, 1.0])
    """

    kind = "lattice"
    period = None

    def __init__(self, values: Sequence[float]) -> None:
        rule = "two or more different finite numbers"
        self.values = self._given = torch.unique(require_numbers("Lattice", "values", values, rule))
        if len(self.values) < 2 or not bool(torch.isfinite(self.values).all()):
            raise InputError(f"Lattice: values = {shown(values)} must be {rule}; change values")

    def prepare(self, dtype: torch.dtype, device: torch.device) -> None:
        """Bring the values to a device, and round them as positions of this type are; they stay float64."""
        self.values = self._given.to(dtype).double().to(device)

    def check_size(self, n: int) -> None:
        """Fits any number of parameters."""

    def contains(self, positions: Tensor) -> Tensor:
        """Whether all parameters of each walker [W] are on the lattice, for positions [W, n]."""
        return (positions[..., None] == self.values.to(positions)).any(-1).all(-1)

    def confine_(self, positions: Tensor, velocities: Tensor | None = None) -> None:
        """Move each of the positions [W, n] to the nearest lattice value, in place."""
        nearest = (positions[..., None] - self.values.to(positions)).abs().argmin(-1)
        positions.copy_(self.values.to(positions)[nearest])

    def uniform(self, walkers: int, n: int, generator: torch.Generator) -> Tensor:
        """Positions [walkers, n], each value as likely."""
        index = RandomStreams.of(generator).integers(Purpose.START, len(self.values), (walkers, n))
        return self.values.to(generator.device)[index]

    def shifted(self, positions: Tensor, shift: Tensor) -> Tensor:
        """The values so many places further on, for each of the positions [any], beginning anew after the last."""
        here = torch.searchsorted(self.values, positions.to(self.values))
        return self.values[(here + shift) % len(self.values)].to(positions)

    def nearest(self, difference: Tensor) -> Tensor:
        """Differences of positions [..., n] as they are: a lattice does not come round."""
        return difference

    def record(self) -> dict[str, object]:
        """The same as `describe`, for the head of a trajectory."""
        return self.describe()

    def describe(self) -> dict[str, object]:
        """The values, for the record."""
        return {"kind": self.kind, "values": self._given.tolist()}

    def __repr__(self) -> str:
        return f"Lattice({self._given.tolist()})"
