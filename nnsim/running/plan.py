"""Which quantities a run records, and how often."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nnsim.errors import require_flag, require_integer
from nnsim.forcefield import ForceField
from nnsim.protocols import Observable, said
from nnsim.running.checks.parts import check_recorded, with_intervals


@dataclass(frozen=True)
class Recording:
    """Which quantities are recorded at which interval, in steps."""

    every: int
    positions_every: int | None
    velocities_every: int | None
    snapshot_every: int  # 0 is not decided yet
    observables: tuple[tuple[Observable, int], ...]
    start: bool = False


def recording_plan(
    every: int,
    positions_every: int | None,
    velocities_every: int | None,
    snapshot_every: int | None,
    observe: Sequence[Observable | tuple[Observable, int]],
    start: bool,
) -> Recording:
    """The plan of what is recorded, with defaults filled in and intervals checked."""

    def interval(name: str, value: int | None) -> int | None:
        return None if value is None else require_integer("Simulation", name, value, least=0)

    every = require_integer("Simulation", "every", every, least=1)
    start = require_flag("Simulation", "record_start", start)
    pairs = with_intervals("observable", observe, Observable, default=every)
    return Recording(
        every=every,
        positions_every=interval("positions_every", positions_every),
        velocities_every=interval("velocities_every", velocities_every),
        snapshot_every=interval("snapshot_every", snapshot_every) or 0,
        observables=tuple(pairs),
        start=start,
    )


def with_snapshots(plan: Recording, table_bytes: int, numbers: int) -> Recording:
    """The plan with an interval of snapshots that takes little of a run's time and place, where none was asked for.

    It is 100 frames and, for tables of so many bytes, at least a step for each byte per number that a step moves: else
    a table of a million cells, written for every hundred frames of a small network, would take longer than its steps.

    Args:
        plan: what was asked for.
        table_bytes: of the tables of all biases.
        numbers: positions of all walkers, n W.
    """
    if plan.snapshot_every:
        return plan
    interval = 100 * plan.every
    return replace(plan, snapshot_every=interval * max(1, math.ceil(table_bytes / max(numbers, 100) / interval)))


def check_recording(plan: Recording, force_field: ForceField) -> None:
    """Refuse to record what is not known at its steps, because a bias is evaluated at others."""
    own = {thing.name: every for thing, every in plan.observables}
    of_all = [thing.name for thing, _ in plan.observables if said(thing, Observable, "needs_bias_energy")]
    cvs = {cv.name: plan.every for cv in force_field.cvs}
    check_recorded(force_field, {"bias_energy": plan.every, **cvs, **own}, ["bias_energy", *of_all])
