"""Precision modes, as in OpenMM: which numbers are kept in which type."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nnsim.errors import require_choice


@dataclass(frozen=True)
class Precision:
    """Types of the two kinds of numbers.

    Attributes:
        name: `"single"`, `"mixed"` or `"double"`.
        state: type of positions, velocities, forces and energies, and so of the integration.
        network: type in which the network is evaluated.

    With time steps of 3e-6 a float32 velocity loses every kick below 6e-8 of its value, so `mixed` (network in
    float32, integration in float64) is the default. Biases and their grids are float64 in every mode.
    """

    name: str
    state: torch.dtype
    network: torch.dtype

    @classmethod
    def named(cls, name: str) -> Precision:
        """The mode called `name`; raises `InputError` for another name."""
        return _MODES[require_choice("Precision", "precision", name, _MODES)]


_MODES = {
    "single": Precision("single", torch.float32, torch.float32),
    "mixed": Precision("mixed", torch.float64, torch.float32),
    "double": Precision("double", torch.float64, torch.float64),
}
