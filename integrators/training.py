r"""Classical training as dynamics: gradient descent and Adam, walkers = independent runs advanced together.

| symbol | meaning | code | shape |
|---|---|---|---|
| q | parameters | `state.positions` | [W, n] |
| g | gradient of the train loss, or of its mini-batch | `-state.forces` | [W, n] |
| b, m | momentum buffer of SGD, first moment of Adam | `-state.velocities` | [W, n] |
| u | second moment of Adam | `state.integrator_state["second_moment"]` | [W, n] |

A step is one update of the optimiser, of time 1. Training has no thermostat and minimises the loss, not H: it takes no
bias, and CVs are recorded through `observe`. `state.energy` stays the potential U of the system (0 for a flat prior),
which is computed only where the system has one and does not act; `state.forces` are minus the gradient that the next
update uses, at the positions of the state, so that a step costs one forward and one backward pass.

Training follows the gradient that torch gives, whatever it is: that of a straight-through estimator is not the
derivative of the loss, which is warned of. A loss without any gradient is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nnsim.errors import InputError, first_line, require_flag, require_integer, require_number, shown
from nnsim.forcefield import ForceField
from nnsim.integrators.mini_batches import MiniBatches, check_batch_size, train_points
from nnsim.program import Confine, LossForces, Moments, Momentum, Operation, Scheduled, Shuffle
from nnsim.protocols import Integrator
from nnsim.random.streams import RandomStreams
from nnsim.state import State

# From the number of updates done so far to a factor of the learning rate.
LearningRateSchedule = Callable[[int], float]


@dataclass(frozen=True)
class StepDecay:
    """The learning rate is multiplied by `factor` after every so many updates: factor^floor(t / every).

    Args:
        every: updates between two drops, at least 1.
        factor: above 0; 0.1 divides the learning rate by ten.

    >>> from nnsim.integrators import StepDecay
    >>> [StepDecay(every=2, factor=0.5)(step) for step in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        require_integer("StepDecay", "every", self.every, least=1)
        require_number("StepDecay", "factor", self.factor, above=0.0)

    def __call__(self, step: int) -> float:
        """Factor after `step` updates."""
        return float(self.factor ** (step // self.every))


@dataclass(frozen=True)
class CosineDecay:
    r"""Half a cosine from 1 to `final`: final + (1 - final) (1 + cos(pi t / steps)) / 2, and `final` from t = steps on.

    Args:
        steps: updates until `final` is reached, at least 1.
        final: factor at the end, at least 0.

    Reference: I. Loshchilov and F. Hutter, arXiv 1608.03983, eq. 5, without restarts.

    >>> from nnsim.integrators import CosineDecay
    >>> [round(CosineDecay(steps=4)(step), 3) for step in (0, 2, 4, 9)]
    [1.0, 0.5, 0.0, 0.0]
    """

    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        require_integer("CosineDecay", "steps", self.steps, least=1)
        require_number("CosineDecay", "final", self.final, least=0.0)

    def __call__(self, step: int) -> float:
        """Factor after `step` updates."""
        progress = min(step / self.steps, 1.0)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


class _Training(Integrator):
    """What the optimisers share: settings, mini-batches, and the gradient of the train loss."""

    follows_loss = True

    def __init__(
        self,
        learning_rate: float,
        weight_decay: float,
        batch_size: int | None,
        schedule: LearningRateSchedule | None,
        confine: bool,
    ) -> None:
        owner = type(self).__name__
        self.learning_rate = require_number(owner, "learning_rate", learning_rate, above=0.0)
        self.weight_decay = require_number(owner, "weight_decay", weight_decay, least=0.0)
        self.batch_size = check_batch_size(owner, batch_size)
        if schedule is not None and (isinstance(schedule, type) or not callable(schedule)):
            raise InputError(
                f"{owner}: schedule = {shown(schedule)} must be a function of the step; give one, such as "
                "StepDecay(...)"
            )
        self.schedule = schedule
        self.confine = require_flag(owner, "confine", confine)

    def init(self, positions: Tensor, force_field: ForceField, generator: torch.Generator) -> State:
        """Zero moments, the first mini-batches, and the gradient at positions [W, n]."""
        self._batches = self._check(force_field)
        nothing = positions.new_zeros(len(positions), dtype=torch.float64)
        cvs = nothing.new_zeros((len(positions), 0))
        zeros, streams = torch.zeros_like(positions), RandomStreams.of(generator)
        state = State(positions, zeros, zeros.clone(), nothing, nothing, cvs, streams)
        self._start(state)
        for operation in self._gradient():
            operation.apply(state, force_field)
        return state

    def program(self, force_field: ForceField) -> Sequence[Operation]:
        """One update of the parameters, then the gradient that the next one needs."""
        rate = Scheduled(self._rate) if self.schedule else self.learning_rate
        confine = [Confine()] if self.confine else []
        return self._update(rate), *confine, *self._gradient()

    def _rate(self, step: int) -> float:
        """The learning rate of a step, which follows `step - 1` updates."""
        return self.learning_rate * self._factor(step - 1)

    def _factor(self, step: int) -> float:
        """Of the learning rate; raises `InputError` where the schedule fails or gives something else."""
        assert self.schedule is not None
        owner = type(self).__name__
        try:
            factor = self.schedule(step)
        except Exception as error:
            raise InputError(
                f"{owner}: the schedule {shown(self.schedule)} fails at step {step}: {type(error).__name__}: "
                f"{first_line(error)}; give a function of the step, such as StepDecay(...)"
            ) from error
        return require_number(owner, f"schedule({step})", factor, least=0.0)

    def refresh(self, state: State, force_field: ForceField) -> None:
        """Energy and gradient anew at the same positions, on the same mini-batches."""
        state.energy, state.forces = force_field.loss_forces(state.positions, self._batch_of(state))

    def _start(self, state: State) -> None:
        """Make what the optimiser needs beside the velocities."""

    def _update(self, rate: float | Scheduled) -> Operation:
        """Of velocities and positions, given the learning rate."""
        raise NotImplementedError

    # ------------------------------------------------------------------ gradient

    def _gradient(self) -> list[Operation]:
        """Minus the gradient of the train loss at the positions, and the potential U where there is one."""
        return [*([Shuffle(self._batches)] if self._batches else []), LossForces(self._batches)]

    def _batch_of(self, state: State) -> Tensor | None:
        """Numbers of the points of each walker's next mini-batch, [W, B], or None for all points."""
        return self._batches.index(state) if self._batches else None

    # ------------------------------------------------------------------ checks

    def _check(self, force_field: ForceField) -> MiniBatches | None:
        """The mini-batches, or None for full ones, after refusing what cannot be trained."""
        owner, system = type(self).__name__, force_field.system
        if force_field.biases:
            names = ", ".join(bias.name for bias in force_field.biases)
            raise InputError(
                f"{owner}: training has no bias, but the simulation has {names}; leave it out and record CVs with "
                "observe=[...], or use a dynamics such as Langevin"
            )
        if self.confine and system.box.kind == "open":
            raise InputError(f"{owner}: confine = True needs a box with edges, but the system's is open; give it one")
        if not self.confine and system.box.period is not None:
            raise InputError(
                f"{owner}: the {system.box} is periodic, so that distances are those of nearest images, but without "
                "confine the parameters leave it; give confine=True, or Box(..., kind='reflecting'), which is ignored"
            )
        if self.batch_size is None:
            train_points(owner, system)
            return None
        return MiniBatches(owner, self.batch_size, system)


def _fraction(owner: str, name: str, value: object) -> float:
    """Return `value` as a float, or raise `InputError` unless it lies in [0, 1)."""
    number = require_number(owner, name, value, least=0.0)
    if number >= 1:
        raise InputError(f"{owner}: {name} = {number:g} must be below 1; lower it")
    return number


class GradientDescent(_Training):
    r"""Gradient descent on the train loss L, with momentum mu and weight decay lambda.

        g <- grad L(q) + lambda q
        b <- mu b + g
        q <- q - eta b                     or, with Nesterov's momentum, q <- q - eta (g + mu b)

    with eta the learning rate times the schedule's factor, and b = 0 at the start: `torch.optim.SGD` without dampening.
    With mini-batches L is the mean loss of each walker's own batch.

    Args:
        learning_rate: eta, in reduced units of q^2 / L, above 0.
        momentum: mu, from 0 to below 1.
        nesterov: Nesterov's momentum; needs `momentum` above 0.
        weight_decay: lambda, in units of L / q^2, at least 0.
        batch_size: points of a mini-batch, from 1 to the number of train points; None is all of them. Each walker
            reshuffles the points every epoch.
        schedule: from the number of updates done so far to a factor of the learning rate (`StepDecay`, `CosineDecay`,
            or any function); None is 1.
        confine: keep the parameters in the system's box, mirrored with reversed b at its edges (wrapped if it is
            periodic). By default the box is ignored, as in ordinary training.

    Raises:
        InputError: a number out of its range, Nesterov's momentum without momentum; when the simulation is made: a
            bias, a system without data, a batch larger than the data, `confine` in an open box, none in a periodic one.

    Reference: I. Sutskever et al., Proc. Mach. Learn. Res. 28(3), 1139 (2013), eqs. 1-4, with the learning rate outside
    the buffer, as `torch.optim.SGD` has it.

    >>> from nnsim import Box, Simulation, cv
    >>> from nnsim.integrators import GradientDescent
    >>> from nnsim.systems import spiral_classification
    >>> system = spiral_classification(box=Box(kind="open"), initial="reinitialise")
    >>> loss = cv.Loss("train")
    >>> runs = Simulation(system, GradientDescent(0.05), observe=[loss], walkers=3, every=100).advance(200)
    >>> runs.history["loss_train"].shape
    (2, 3)
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        batch_size: int | None = None,
        schedule: LearningRateSchedule | None = None,
        confine: bool = False,
    ) -> None:
        super().__init__(learning_rate, weight_decay, batch_size, schedule, confine)
        self.momentum = _fraction("GradientDescent", "momentum", momentum)
        self.nesterov = require_flag("GradientDescent", "nesterov", nesterov)
        if nesterov and not self.momentum:
            raise InputError("GradientDescent: nesterov = True needs momentum above 0; give one, such as 0.9")

    def _update(self, rate: float | Scheduled) -> Operation:
        return Momentum(rate, self.momentum, self.nesterov, self.weight_decay)


class Adam(_Training):
    r"""Adam on the train loss L, with weight decay lambda in the gradient.

        g <- grad L(q) + lambda q
        m <- beta1 m + (1 - beta1) g
        u <- beta2 u + (1 - beta2) g^2
        q <- q - eta m / (1 - beta1^t) / (sqrt(u / (1 - beta2^t)) + eps)

    with t = 1, 2, ... the number of the update, eta the learning rate times the schedule's factor, and m = u = 0 at the
    start: `torch.optim.Adam` (not AdamW, whose weight decay bypasses the moments).

    Args:
        learning_rate: eta, in units of q, above 0.
        betas: beta1 and beta2, each from 0 to below 1.
        eps: in units of L / q, above 0.
        weight_decay, batch_size, schedule, confine: as in `GradientDescent`; m is reversed at the edges of the box.

    Raises:
        InputError: a number out of its range; when the simulation is made: as `GradientDescent`.

    Reference: D. P. Kingma and J. Ba, arXiv 1412.6980, algorithm 1.

    >>> from nnsim.integrators import Adam, CosineDecay
    >>> Adam(1e-3, batch_size=16, schedule=CosineDecay(steps=10_000)).betas
    (0.9, 0.999)
    """

    def __init__(
        self,
        learning_rate: float = 1e-3,
        *,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        batch_size: int | None = None,
        schedule: LearningRateSchedule | None = None,
        confine: bool = False,
    ) -> None:
        super().__init__(learning_rate, weight_decay, batch_size, schedule, confine)
        if not isinstance(betas, Sequence) or isinstance(betas, (str, bytes)) or len(betas) != 2:
            raise InputError(f"Adam: betas = {shown(betas)} must be two numbers, such as (0.9, 0.999); change betas")
        self.betas = (_fraction("Adam", "betas[0]", betas[0]), _fraction("Adam", "betas[1]", betas[1]))
        self.eps = require_number("Adam", "eps", eps, above=0.0)

    def _start(self, state: State) -> None:
        state.integrator_state["second_moment"] = torch.zeros_like(state.positions)

    def _update(self, rate: float | Scheduled) -> Operation:
        return Moments(rate, self.betas, self.eps, self.weight_decay)
