"""Where walkers start, if not where the system lets them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nnsim.describe import differences
from nnsim.errors import InputError, shown

if TYPE_CHECKING:
    from nnsim.protocols import System

ROUNDED = 1e-6  # of the width of a box: so far outside lies an edge that was stored in single precision


@dataclass(frozen=True, eq=False)
class States:
    """Positions that walkers can start from, made by `nnsim.states`.

    Attributes:
        positions: [S, n], float64.
        parameters: name and shape of each tensor, in the order of the positions.
        source: where they come from, for the record (JSON).
    """

    positions: Tensor
    parameters: Mapping[str, tuple[int, ...]]
    source: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.positions)

    def __repr__(self) -> str:
        told = ", ".join(f"{name} {value}" for name, value in self.source.items() if name != "walkers")
        return f"States({len(self)} x {self.positions.shape[1]} parameters; {told})"


def starting_positions(given: Any, walkers: int | None, system: System) -> tuple[Tensor, dict[str, Any]]:
    """Start of each walker, [W, n], float64 on the CPU, and what is recorded of it.

    Args:
        given: positions [W, n], or [n] for all walkers; or states.
        walkers: W; None is as many as are given.
        system: after its `prepare`.

    Raises:
        InputError: other parameters than the system's, another number of walkers, values that are not finite or lie
            outside the box.
    """
    if isinstance(given, States):
        refuse_others("Simulation: positions", "they", dict(system.parameters), dict(given.parameters))
        taken = torch.arange(len(given) if walkers is None else walkers) % len(given)
        positions, record = given.positions[taken], dict(given.source)
        known = record.get("walkers") or list(range(len(given)))
        record["walkers"] = [known[index] for index in taken.tolist()]
        if "sides" in record:
            record["sides"] = [record["sides"][index] for index in taken.tolist()]
    else:
        positions, record = numbers(given), {"positions": "given"}
        if positions.ndim == 1:
            positions = positions.repeat(walkers or 1, 1)
    size = sum(int(np.prod(shape)) for shape in system.parameters.values())
    if positions.ndim != 2 or positions.shape[1] != size or not len(positions):
        raise InputError(
            f"Simulation: positions have shape {list(positions.shape)}, but this system needs [walkers, {size}]; give "
            "a row of parameters for each walker"
        )
    if walkers is not None and len(positions) != walkers:
        raise InputError(
            f"Simulation: {len(positions)} rows of positions for {walkers} walkers; give a row for each, or leave "
            "walkers out"
        )
    return _inside(positions.clone(), system), record  # which the run is going to move


def numbers(given: Any) -> Tensor:
    """Positions as float64 on the CPU, or `InputError`."""
    try:
        array = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given)
        if array.dtype.kind not in "biuf":
            raise TypeError
        return torch.as_tensor(array).double()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"Simulation: positions = {shown(given)} must be numbers [walkers, parameters], or nnsim.states(...); "
            "give them"
        ) from None


def _inside(positions: Tensor, system: System) -> Tensor:
    """The positions, where rounding has taken them over an edge put back on it."""
    box = system.box
    if bad := (~positions.isfinite()).any(1).nonzero()[:, 0].tolist():
        raise InputError(f"Simulation: the positions of walker {bad[0]} are not finite; give finite numbers")
    if box.kind == "periodic":
        box.confine_(positions)
    if box.kind == "reflecting":
        nearest, width = box.project(positions), (box.upper - box.lower).to(positions)
        positions = torch.where((positions - nearest).abs() <= ROUNDED * width, nearest, positions)
        outside = (positions != nearest).any(1).nonzero()[:, 0]
    else:
        outside = (~box.contains(positions)).nonzero()[:, 0]
    if len(outside):
        raise InputError(
            f"Simulation: the positions of walker {int(outside[0])}, and of {len(outside) - 1} others, lie outside the "
            f"{box}; train inside it (confine=True), or let nnsim.minimise lead them into it"
        )
    return positions


def refuse_others(
    owner: str, what: str, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise `InputError` unless names, shapes and order of the parameters are the same."""
    changed = differences(
        {name: list(shape) for name, shape in expected.items()}, {name: list(shape) for name, shape in found.items()}
    )
    if changed or list(expected) != list(found):
        told = "; ".join(changed[:3]) or "the order of the tensors"
        raise InputError(f"{owner}: {what} are those of another network ({told}); give some of the same network")
