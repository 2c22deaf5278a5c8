"""Tempering of networks that only gradients get through: a ladder of temperatures, from trained and random starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nnsim import cv
from nnsim.bias import ReplicaExchange
from nnsim.errors import InputError, require_cv, require_integer, require_number, shown
from nnsim.integrators import Langevin
from nnsim.integrators.minimise import minimise
from nnsim.methods.pilot import CAREFUL, QUENCH, Pilot
from nnsim.protocols import CollectiveVariable, Observable, System
from nnsim.random.streams import RandomStreams
from nnsim.running.checks.contract import check_contract
from nnsim.running.checks.parts import several
from nnsim.running.starts import States, starting_positions
from nnsim.simulation import Simulation

RANDOM, TRAINED = "random", "trained"
MINIMISATION = 200  # searches along a line


def tempering(
    system: System,
    between: tuple[float, float] = (-2.5, -0.5),
    *,
    along: CollectiveVariable | None = None,
    of: Observable | None = None,
    rungs: int = 16,
    ladders: int = 16,
    trained: Any = None,
    observe: Sequence[Observable | tuple[Observable, int]] = (),
    swap_every: int = 20,
    warmup: int = 1000,
    pilot: int = 2000,
    steps: int | None = None,
    every: int = 50,
    seed: int = 0,
    precision: str = "mixed",
    device: str = "cpu",
    threads: int | None = None,
    platform: str = "auto",
    **recording: Any,
) -> Simulation:
    r"""Langevin dynamics on a ladder of beta, with V = kT beta L of a loss L, between two values of ln L.

    Each ladder holds one walker on each rung; neighbours swap (`ReplicaExchange`). Half of the ladders begin at random,
    where the system lets its walkers start, the other half at trained networks, and they never meet: that both sides
    come to the same averages is what `nnsim.analysis.tempering` goes by.

    Nothing has to be known beforehand. Before the first step, networks are trained by L-BFGS inside the box, and a
    pilot run finds beta at both ends, a time step for each rung from the curvature of L, confirmed by its shadow work,
    the friction under which the test loss is forgotten fastest, and rungs that all swap alike. In the first `warmup`
    steps the time step grows from one that random networks bear, and the friction falls. All of that is in the record,
    and nothing is repeated when a run goes on.

    Args:
        system: on a box, with U = 0 or with a prior U / kT, kT = 1.
        between: lowest and highest ln L, the means of ln L on the last rung and on the first.
        along: L, a differentiable CV that is nowhere below 0; None is the train loss.
        of: what walkers have to forget, and what is recorded beside ln L; None is ln of the test loss, or L itself if
            `along` is given.
        rungs: number of temperatures K, at least 2.
        ladders: independent ladders, an even number of at least 4; 16 are 8 a side.
        trained: where half of the ladders begin, one network each or fewer: [S, n] or `nnsim.states(...)`; None is to
            train them by L-BFGS or, if `along` is given, to quench them.
        observe: what else is recorded.
        swap_every: steps from one round of swaps to the next, at least 1.
        warmup: steps, at least 0, from the short time steps of the beginning to those of the ladder.
        pilot: steps of the longest of the pilot runs, at least 100.
        steps: as in `Simulation`.
        every: as in `Simulation`.
        seed: as in `Simulation`.
        precision: as in `Simulation`.
        device: as in `Simulation`.
        threads: as in `Simulation`.
        platform: as in `Simulation`.
        **recording: further settings of `Simulation`, such as `positions_every` or `output`.

    Returns:
        The simulation, with K x `ladders` walkers.

    Raises:
        InputError: a number out of its range; before the first step, a loss that is not reached.

    Reference: replica exchange: R. H. Swendsen and J.-S. Wang, Phys. Rev. Lett. 57, 2607 (1986),
    doi:10.1103/PhysRevLett.57.2607; two kinds of starts: A. Gelman and D. B. Rubin, Stat. Sci. 7, 457 (1992),
    doi:10.1214/ss/1177011136.

    >>> import nnsim
    >>> from nnsim.systems import spiral_regression
    >>> simulation = nnsim.tempering(spiral_regression((8, 8)), between=(-2.0, -0.5), rungs=4, ladders=4)
    >>> simulation.walkers
    16
    """
    owner = "tempering"
    check_contract("system", system, System)
    low, high = _between(between)
    count = require_integer(owner, "rungs", rungs, least=2)
    ladders = require_integer(owner, "ladders", ladders, least=4)
    if ladders % 2:
        raise InputError(f"tempering: ladders = {ladders} must be even, half of them for each side; add one")
    require_integer(owner, "warmup", warmup, least=0)
    pilot = require_integer(owner, "pilot", pilot, least=100)
    loss: CollectiveVariable
    recorded: list[Observable]
    if along is None:
        loss, recorded = cv.Loss("train"), [cv.LogLoss("train"), cv.LogLoss("test") if of is None else of]
    else:
        require_cv(owner, "along", along)
        logarithm = cv.Function(torch.log, along, name=f"ln_{along.name}")
        loss, recorded = along, [logarithm, along if of is None else of]
    exchange = ReplicaExchange(loss, [float(k) for k in range(count)], every=swap_every, name="tempering")
    ones = [1.0] * count  # until the pilot run knows better
    integrator = Langevin(dt=exchange.each(ones, ones, warmup), friction=exchange.each(ones, ones, warmup), kT=1.0)
    settings: dict[str, Any] = {"precision": precision, "device": device, "threads": threads, "platform": platform}
    parts = system, loss, recorded[-1], along is None
    preparation = Preparation(*parts, None, (low, high), count, ladders, pilot, seed, settings)
    simulation = Simulation(
        system,
        integrator,
        bias=exchange,
        observe=[*recorded, *several(observe)],
        preparation=preparation,
        walkers=count * ladders,
        steps=steps,
        every=every,
        record_start=True,
        seed=seed,
        **settings,
        **recording,
    )
    if trained is not None:
        preparation.trained, _ = starting_positions(trained, None, simulation.system)
    return simulation


def _between(given: Any) -> tuple[float, float]:
    try:
        low, high = (require_number("tempering", "between", one) for one in given)
    except (TypeError, ValueError):
        raise InputError(
            f"tempering: between = {shown(given)} must be the lowest and the highest ln L_train, such as (-2.5, -0.5)"
        ) from None
    if low >= high:
        raise InputError(f"tempering: between = {low:g} to {high:g} must rise; swap or widen them")
    return low, high


@dataclass
class Preparation:
    """What is done before the first step: training, the pilot run, and the places of the walkers."""

    system: System
    along: CollectiveVariable
    of: Observable
    trains: bool
    trained: Tensor | None
    between: tuple[float, float]
    rungs: int
    ladders: int
    pilot: int
    seed: int
    settings: dict[str, Any]

    def __call__(self, simulation: Simulation) -> None:
        """Settle ladder, time steps and starts of a simulation of `tempering`."""
        half = self.ladders // 2
        trained = self._trained(simulation, half)
        pilot = self._pilot(trained)
        plan = pilot.plan(*self.between, self.rungs, self.pilot)
        random = self._random(simulation, half * self.rungs)
        of_side = trained[torch.arange(half) % len(trained)].repeat_interleave(self.rungs, dim=0)
        begin = CAREFUL / pilot.frequency(torch.tensor(plan.beta).repeat(half).numpy(), random).reshape(half, -1).max(0)
        begin = [min(pair) for pair in zip(begin.tolist(), plan.dt, strict=True)]
        exchange, dt, friction = (
            simulation.force_field.biases[0],
            simulation.integrator.dt,
            simulation.integrator.friction,
        )
        exchange.respace(plan.beta)
        dt.set(plan.dt, begin)
        friction.set(plan.friction, [QUENCH / one for one in begin])
        sides = [RANDOM] * len(random) + [TRAINED] * len(of_side)
        source = {"positions": "of both sides", "sides": sides, "step_error_of_pilot": list(plan.step_error)}
        simulation.set_positions(States(torch.cat([random, of_side]), dict(self.system.parameters), source))

    def _pilot(self, trained: Tensor) -> Pilot:
        return Pilot(self.system, self.along, trained, self.of, self.seed + 1, self.settings)

    def _trained(self, simulation: Simulation, count: int) -> Tensor:
        """Networks that have been given, or trained or quenched from the system's own start, [S, n]."""
        if self.trained is not None:
            return self.trained
        if not self.trains:
            start = self._random(simulation, count)
            return self._pilot(start).quench(start, self.between[0])
        settings = {name: value for name, value in self.settings.items() if name != "platform"}
        found = minimise(self.system, of="loss", steps=MINIMISATION, walkers=count, seed=self.seed, **settings)
        logs = found.value.log()
        logging.getLogger("nnsim").info(
            f"tempering: trained {count} networks to ln L_train from {float(logs.min()):.3g} to {float(logs.max()):.3g}"
        )
        return found.positions.double().cpu()

    def _random(self, simulation: Simulation, count: int) -> Tensor:
        """Where the system lets its walkers start, [count, n]."""
        streams = RandomStreams(self.seed, simulation.device)
        return simulation.system.initial_positions(count, streams).double().cpu()
