"""Metropolis Monte Carlo."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from nnsim.errors import InputError, require_choice, require_integer, require_number, shown
from nnsim.evaluation import Evaluation
from nnsim.forcefield import ForceField
from nnsim.integrators import settings
from nnsim.lattice import Lattice
from nnsim.program.metropolis import of_walkers
from nnsim.program.operation import Known, at_step
from nnsim.protocols import Integrator, Observable, said
from nnsim.random.streams import Purpose, RandomStreams, below, unit
from nnsim.schedules import Setting
from nnsim.state import State

SMALLEST = 1e-6  # of the largest size, to which a tuned one may fall
# Each move of a walker takes one block of four random words: which parameter, where to, the size, and the acceptance.
WHICH, WHERE, SIZE, ACCEPTANCE = range(4)


class StepSize(Protocol):
    """How far a parameter may move: uniformly within +-size, with the size of each walker and move from here.

    Attributes:
        native: kind and numbers, for native platforms; None if they do not know it.
    """

    native: Any = None

    def sizes(self, state: State) -> Tensor:
        """Largest displacement of each walker for the next move, [W]."""
        ...

    def learn(self, state: State, accepted: Tensor) -> None:
        """See which moves [W] were accepted."""
        return


@dataclass(frozen=True)
class FixedStep(StepSize):
    """One size for all moves.

    Args:
        size: above 0, in units of the parameters.
    """

    size: float

    def __post_init__(self) -> None:
        require_number("FixedStep", "size", self.size, above=0.0)

    @property
    def native(self) -> dict[str, float | str]:
        """Kind and numbers, for native platforms."""
        return {"kind": "fixed", "low": self.size}

    def sizes(self, state: State) -> Tensor:
        """The size, [W]."""
        return torch.full((state.walkers,), self.size, dtype=torch.float64, device=state.positions.device)


@dataclass(frozen=True)
class MixedStep(StepSize):
    """Each move draws its size, uniform in ln(size), from a range of decades.

    The draw does not depend on where the walker is, so detailed balance is exact everywhere, and at every loss some of
    the moves have the right size.

    Args:
        smallest, largest: ends of the range, above 0.
    """

    smallest: float = 1e-3
    largest: float = 1.0

    def __post_init__(self) -> None:
        require_number("MixedStep", "smallest", self.smallest, above=0.0)
        require_number("MixedStep", "largest", self.largest, least=self.smallest)

    @property
    def native(self) -> dict[str, float | str]:
        """Kind and numbers, for native platforms."""
        return {"kind": "mixed", "low": math.log(self.smallest), "high": math.log(self.largest)}

    def sizes(self, state: State) -> Tensor:
        """A size for each walker, [W]."""
        low, high = math.log(self.smallest), math.log(self.largest)
        return torch.exp(low + (high - low) * unit(_words(state)[:, SIZE]))


@dataclass(frozen=True)
class TunedStep(StepSize):
    r"""The size of each walker follows its acceptance during a warm-up, and is frozen then.

        ln size <- ln size + gain (accepted - target),    gain = 1 / (1 + move / 100)^0.6

    During the warm-up detailed balance does not hold; afterwards it does. The size stays within [1e-6, 1] x largest: a
    walker that all moves are refused for a while, as outside the grid of a bias, must not be frozen for good.

    Args:
        initial: first size, above 0.
        target: acceptance to be reached, between 0 and 1; the papers' scripts aim at 0.3 to 0.7.
        warmup: moves until the size is frozen, at least 0.
        largest: the size never exceeds this, above 0; the papers' scripts use 0.5.
    """

    initial: float = 0.1
    target: float = 0.5
    warmup: int = 100_000
    largest: float = 0.5

    def __post_init__(self) -> None:
        require_number("TunedStep", "initial", self.initial, above=0.0)
        require_number("TunedStep", "target", self.target, above=0.0)
        if self.target >= 1:
            raise InputError(f"TunedStep: target = {self.target:g} must be below 1; lower target")
        require_integer("TunedStep", "warmup", self.warmup, least=0)
        require_number("TunedStep", "largest", self.largest, above=0.0)

    @property
    def native(self) -> dict[str, float | str]:
        """Kind and numbers, for native platforms."""
        limits = {"smallest": SMALLEST * self.largest, "largest": self.largest}
        return {"kind": "tuned", "target": self.target, "warmup": self.warmup, **limits}

    def sizes(self, state: State) -> Tensor:
        """The present size of each walker, [W]."""
        if "step_size" not in state.integrator_state:
            state.integrator_state["step_size"] = FixedStep(min(self.initial, self.largest)).sizes(state)
        return state.integrator_state["step_size"]

    def learn(self, state: State, accepted: Tensor) -> None:
        """Adapt until the warm-up is over."""
        if state.step <= self.warmup:
            gain = (1 + state.step / 100) ** -0.6
            factor = torch.exp(gain * (accepted.double() - self.target))
            self.sizes(state).mul_(factor).clamp_(SMALLEST * self.largest, self.largest)


class MonteCarlo(Integrator):
    r"""Metropolis moves: no gradients, so that any collective variable and any lattice will do.

        accept with probability min(1, exp(-(U' + V' - U - V) / kT))

    A move displaces one parameter, chosen at random, or all of them, uniformly within +-size. On a `Lattice` a move of
    one gives it another value, each as likely; with probability 1 / (n + 1) nothing is changed, or else, of two values,
    half of the states could come at even steps only. A move of all gives each parameter any of the values, its present
    one too. Moves that leave the box, or the grid of a Wang-Landau bias, are rejected, and the old state counts once
    more; a periodic box has no outside. One step is one move of each walker; the time of the trajectory counts sweeps
    (n moves of one parameter).

    Args:
        step: a `MixedStep`, `TunedStep` or `FixedStep`, or a number for the last.
        kT: temperature, above 0: one number, or one for each walker [W]; or a schedule of either, such as
            `nnsim.schedules.LinearRamp`, whose kT(t) is that of move t = 1, 2, ... of each walker: simulated annealing.
        move: `"one"` parameter or `"all"` of them.

    Raises:
        InputError: a number out of its range or another kind of move; at the step where a schedule gives one; when the
            simulation is made, numbers for more or fewer walkers.

    `integrator_state["accepted"]` [W] counts the accepted moves; see `Acceptance`.

    Reference: N. Metropolis et al., J. Chem. Phys. 21, 1087 (1953), doi:10.1063/1.1699114; with a Wang-Landau bias:
    F. Wang and D. P. Landau, Phys. Rev. Lett. 86, 2050 (2001), doi:10.1103/PhysRevLett.86.2050; annealing:
    S. Kirkpatrick, C. D. Gelatt and M. P. Vecchi, Science 220, 671 (1983), doi:10.1126/science.220.4598.671.
    """

    needs_gradients = False
    kT: Setting
    metropolis = True
    native = "moves"  # for native platforms

    def __init__(self, step: StepSize | float | None = None, *, kT: Setting = 1.0, move: str = "one") -> None:
        self.step_size = _step_size(step)
        self.kT = settings.check_temperature("MonteCarlo", kT, above=0.0)
        self.move = require_choice("MonteCarlo", "move", move, ("one", "all"))
        self._moves_a_sweep = 1

    @property
    def native_step(self) -> Any:
        """What native platforms must know of the sizes of moves; None if they do not know them."""
        return said(self.step_size, StepSize, "native")

    @property
    def time_step(self) -> float:
        """Sweeps that one move makes."""
        return 1 / self._moves_a_sweep

    def init(self, positions: Tensor, force_field: ForceField, generator: torch.Generator) -> State:
        """The state at positions [W, n]; velocities and forces stay zero."""
        self._moves_a_sweep = positions.shape[1] if self.move == "one" else 1
        self._walkers = settings.Walkers("MonteCarlo", positions)
        at_step(self._kT, 0)  # refuses now what it would refuse later
        energy, bias_energy, cvs = force_field.energies(positions, 0)
        zeros = torch.zeros_like(positions)
        state = State(positions, zeros, zeros, energy, bias_energy, cvs, RandomStreams.of(generator))
        state.integrator_state["accepted"] = torch.zeros(len(positions), dtype=torch.long, device=positions.device)
        return state

    @torch.no_grad()
    def step(self, state: State, force_field: ForceField) -> State:
        """One move of each walker."""
        state.step += 1
        kT = of_walkers(at_step(self._kT, state.step))
        trial = self._trial(state, force_field)
        inside = force_field.system.box.contains(trial)
        energy, bias_energy, cvs = force_field.energies(trial, state.step)
        # The bias may have grown since the last move, also where the walker stands.
        state.bias_energy = force_field.bias_energy(state.cvs, state.step)
        climb = (energy + bias_energy - state.energy - state.bias_energy) / kT
        drawn = unit(_words(state)[:, ACCEPTANCE])
        accepted = inside & force_field.allows(cvs) & (drawn < torch.exp(-climb))  # a NaN is not accepted
        state.positions[accepted] = trial[accepted]
        state.energy = torch.where(accepted, energy, state.energy)
        state.bias_energy = torch.where(accepted, bias_energy, state.bias_energy)
        state.cvs = torch.where(accepted[:, None], cvs, state.cvs)
        state.integrator_state["accepted"] += accepted
        self.step_size.learn(state, accepted)
        return state

    @property
    def _kT(self) -> Known:
        return self._walkers.number("kT", self.kT, above=0.0)

    def _trial(self, state: State, force_field: ForceField) -> Tensor:
        """Positions [W, n] that the move proposes."""
        box, trial = force_field.system.box, state.positions.clone()
        if self.move == "one":
            words = _words(state)
            columns, where = words[:, WHICH, None], words[:, WHERE, None]
        else:
            where = state.generator.words(Purpose.MOVE, trial.shape, step=state.step, draw=1)
        if isinstance(box, Lattice):
            if self.move == "all":
                return box.values[below(where, len(box.values))].to(trial)
            columns = below(columns, trial.shape[1] + 1)
            moves = columns < trial.shape[1]  # or all stay
            columns = torch.where(moves, columns, 0)
            shift = torch.where(moves, 1 + below(where, len(box.values) - 1), 0)
            return trial.scatter_(1, columns, box.shifted(trial.gather(1, columns), shift))
        shift = (2 * unit(where) - 1) * self.step_size.sizes(state)[:, None]
        if self.move == "all":
            trial += shift
        else:
            columns = below(columns, trial.shape[1])
            trial.scatter_(1, columns, (trial.gather(1, columns) + shift).to(trial))
        if box.kind == "periodic":
            box.confine_(trial)
        return trial


def _words(state: State) -> Tensor:
    """The random words of the present move of each walker, [W, 4]."""
    return state.generator.words(Purpose.MOVE, (state.walkers, 4), step=state.step, draw=0)


def _step_size(step: StepSize | float | None) -> StepSize:
    """The sizes of moves; raises `InputError` unless they are a `StepSize`, a number or None."""
    if step is None:
        return MixedStep()
    if not isinstance(step, (int, float, type)) and hasattr(step, "sizes"):
        return step
    if getattr(step, "ndim", 0) or type(step).__name__ in ("bool", "bool_"):  # float() would take them
        raise InputError(
            f"MonteCarlo: step = {shown(step)} must be a finite number above 0, or a MixedStep, TunedStep or "
            "FixedStep; change step"
        )
    return FixedStep(require_number("MonteCarlo", "step", step, above=0.0))


class Acceptance(Observable):
    """Fraction of the moves so far that each walker accepted, [W]."""

    name = "acceptance"

    def observe(self, state: State, evaluation: Evaluation) -> Tensor:
        """Between 0 and 1, [W]."""
        return state.integrator_state["accepted"] / max(state.step, 1)
