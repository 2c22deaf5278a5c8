"""To the nearest minimum, inside the box."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnsim.evaluation import Evaluation
from nnsim.integrators.lbfgs import CONVERGED, LBFGS
from nnsim.precision import Precision
from nnsim.protocols import Observable, System
from nnsim.running.checks.contract import check_contract
from nnsim.running.starts import States, numbers
from nnsim.simulation import Simulation


@dataclass(frozen=True, eq=False)
class Minimum:
    """Where a minimisation has led each walker.

    Attributes:
        positions: [W, n].
        value: of what was minimised, the train loss or U, [W].
        gradient_norm: Euclidean norm of the gradient without what presses against the box, [W].
        converged: whether that is as small as asked for, [W].
        iterations: searches along a line that were made, [W].
    """

    positions: Tensor
    value: Tensor
    gradient_norm: Tensor
    converged: Tensor
    iterations: Tensor

    def __repr__(self) -> str:
        low, high = float(self.value.min()), float(self.value.max())
        return f"Minimum({int(self.converged.sum())} of {len(self.converged)} converged, value {low:.4g} to {high:.4g})"


def minimise(
    system: System,
    positions: Any = None,
    *,
    of: str | None = None,
    gradient_norm: float = 1e-6,
    steps: int = 1000,
    memory: int = 20,
    observe: Sequence[Observable] = (),
    walkers: int | None = None,
    seed: int = 0,
    precision: str = "double",
    device: str = "cpu",
    threads: int | None = None,
    every: int = 10,
    output: Path | str | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> Minimum:
    """Minimise the potential, or the train loss, of all walkers together, inside the system's box, by `LBFGS`.

    Args:
        system: what is minimised.
        positions: where to begin, [W, n], [n] or `nnsim.states(...)`; what lies outside the box begins at the nearest
            place inside. None is where the system lets its walkers start.
        of: `"potential"` or `"loss"`; None is the potential U, or the train loss where U is 0 everywhere.
        gradient_norm: at which a walker has converged, at least 0.
        steps: at most so many searches along a line for each walker.
        memory: pairs that L-BFGS keeps.
        observe: what else is recorded.
        walkers: how many; None is as many as there are positions, or 1.
        seed: of the system's start.
        precision: as in `Simulation`.
        device: as in `Simulation`.
        threads: as in `Simulation`.
        every: steps from one frame to the next; the last is that of the end.
        output: a trajectory to write; None writes none.
        overwrite: replace an existing `output`.
        progress: show a progress bar and a summary; None shows them with an output only.

    Raises:
        InputError: as `LBFGS` and `Simulation` do.

    >>> import nnsim
    >>> from nnsim.systems import AnalyticSystem, DoubleWell
    >>> found = nnsim.minimise(AnalyticSystem(2, DoubleWell(), start=[0.5, 0.3]))
    >>> found.converged.tolist()
    [True]
    """
    one = minimisation(
        system,
        positions,
        of,
        gradient_norm=gradient_norm,
        memory=memory,
        observe=observe,
        walkers=walkers,
        seed=seed,
        precision=precision,
        device=device,
        threads=threads,
        every=every,
    )
    one.run(steps, output=output, overwrite=overwrite, progress=progress)
    own = one.state.integrator_state
    return Minimum(
        one.state.positions, own["minimised"], own["gradient_norm"], own["ended"] == CONVERGED, own["iterations"]
    )


def minimisation(
    system: System, positions: Any, of: str | None, *, gradient_norm: float, memory: int, **settings: Any
) -> Simulation:
    """The simulation that `minimise` runs; the settings are those of `Simulation`."""
    check_contract("system", system, System)
    what = _of(system) if of is None else of
    kept = LBFGS(what, gradient_norm=gradient_norm, memory=memory)  # type: ignore[abstract]  # it has a step
    return Simulation(system, kept, positions=_inside(positions, system), record_start=True, **settings)


def _of(system: System) -> str:
    """The potential, or the train loss where there is none."""
    one = copy.copy(system)
    one.prepare(Precision.named("double"), torch.device("cpu"))
    anywhere = torch.zeros(1, sum(map(math.prod, system.parameters.values())), dtype=torch.float64)
    one.box.confine_(anywhere)
    return "loss" if one.energy(Evaluation(one, anywhere)) is None else "potential"


def _inside(given: Any, system: System) -> Any:
    """What is given, each at the nearest place in the box."""
    if given is None:
        return None
    if isinstance(given, States):
        return replace(given, positions=system.box.project(given.positions))
    return system.box.project(numbers(given))
