"""Measures how fast a simulation runs on each platform, with so many walkers and threads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from nnsim.errors import DivergedError, InputError, NNSimError, require_integer, require_number
from nnsim.platforms.choose import PLATFORMS

if TYPE_CHECKING:
    from nnsim.simulation import Simulation

LONGEST = 600.0  # seconds of one measurement


@dataclass(frozen=True)
class Speed:
    """One measurement.

    Attributes:
        platform, walkers, threads: what was tried.
        rate: steps of all walkers together in a second; 0 where there is none.
        note: why there is none.
    """

    platform: str
    walkers: int
    threads: int
    rate: float
    note: str = ""

    @property
    def setting(self) -> str:
        """The arguments of `nnsim.Simulation` by which it is chosen."""
        return f"walkers={self.walkers}, platform={self.platform!r}, threads={self.threads}"


def tune(
    build: Callable[[int | None], Simulation], walkers: Sequence[int | None] = (None,), *, seconds: float = 3.0
) -> Iterator[Speed]:
    """Measure every platform that can run a simulation, with 1, 2, 4, ... threads.

    Args:
        build: makes the simulation with so many walkers; None is as many as it has by itself.
        walkers: to be tried.
        seconds: for each measurement, above 0 and at most 600; compiling is not counted.

    Raises:
        InputError: a number out of its range.
    """
    seconds = require_number("tune", "seconds", seconds, above=0.0)
    if seconds > LONGEST:
        raise InputError(f"tune: seconds = {seconds:g} must be at most {LONGEST:g}, for each measurement; lower it")
    for count in walkers:
        simulation = build(None if count is None else require_integer("tune", "walkers", count, least=1))
        for kind in PLATFORMS:
            if kind.obstacle(simulation) is None:
                for threads in _threads():
                    yield _measured(simulation, kind.name, kind, threads, seconds)


def _threads() -> list[int]:
    """1, 2, 4, ... and as many as there are processors."""
    most = os.cpu_count() or 1
    return sorted({*(2**power for power in range(most.bit_length())), most})


def _measured(simulation: Simulation, name: str, kind: type, threads: int, seconds: float) -> Speed:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    simulation.threads = threads
    try:
        platform = kind(simulation)
        platform.advance(simulation.state, 1)  # compiled, if need be
        steps, done, begin = 1, 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            platform.advance(simulation.state, steps)
            done += steps
            steps = min(2 * steps, 10_000)
        rate = done * simulation.walkers / (time.perf_counter() - begin)
        return Speed(name, simulation.walkers, threads, rate)
    except DivergedError:
        return Speed(name, simulation.walkers, threads, 0.0, "diverged: use a smaller time step")
    except NNSimError as error:
        return Speed(name, simulation.walkers, threads, 0.0, str(error))
    finally:
        torch.set_num_threads(before)
