"""What the parts of a simulation must offer each other.

Inherit from them: the protocols carry the defaults (a bias's gradient by automatic differentiation, an empty saved
state, and so on), so that a part of your own need only say what is its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from nnsim.arithmetic import SIGNS, name_of, number_name, period_of
from nnsim.errors import InputError, require_cv, require_number, require_text, shown
from nnsim.networks.margins import class_margins
from nnsim.program.operation import execute

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nnsim.box import Box
    from nnsim.cv.ntk.tangent import TangentKernel
    from nnsim.evaluation import Evaluation
    from nnsim.forcefield import ForceField
    from nnsim.platforms.native import DenseNetwork, TracedNetwork
    from nnsim.precision import Precision
    from nnsim.program.dynamics import Masses
    from nnsim.program.operation import Operation
    from nnsim.running.film import Film
    from nnsim.schedules import Numbers, Setting
    from nnsim.simulation import Simulation
    from nnsim.state import State

NEEDS_DATA = (
    "CVs of a loss or an accuracy (Loss, LogLoss, Accuracy, SmoothedAccuracy) or of the tangent kernel (NTKEntropy) "
    "need a system with data, such as a NeuralNetwork: use one, or a CV of the positions such as LogEnergy"
)

F = TypeVar("F", bound=Callable[..., Any])


def required(method: F) -> F:
    """Mark a method that each part must have of its own; one that lacks it is refused when a simulation is made."""
    vars(method)["__required__"] = True
    return method


def is_required(method: object) -> bool:
    """Whether it is a mark that a method is missing, and no method."""
    return getattr(method, "__required__", False) is True


def said(part: Any, protocol: Any, name: str) -> Any:
    """An attribute or method of a part that need not inherit from its protocol: its own, or else the protocol's.

    CVs and observables are such parts, and what integrators are made of; all others inherit, or have everything.
    """
    default = getattr(protocol, name)
    return getattr(part, name, MethodType(default, part) if isinstance(default, FunctionType) else default)


class System(Protocol):
    """What the parameters are, where they may live, and the energy they have.

    Attributes:
        parameters: name and shape of each parameter tensor, in the order of the flat positions.
        box: where the positions may live.
        nonnegative_loss: whether its loss cannot be below 0, so that it always has a logarithm.
    """

    parameters: Mapping[str, tuple[int, ...]]
    box: Box
    nonnegative_loss: bool = False

    def prepare(self, precision: Precision, device: torch.device) -> None:
        """Bring data and constants to the type and the device of the run."""
        return

    @required
    def initial_positions(self, walkers: int, generator: torch.Generator) -> Tensor:
        """Start of each walker, [W, n]; `generator` is the run's `nnsim.random.RandomStreams`."""
        ...

    def plan_evaluation(self, positions: Tensor, batch_size: int | None, gradients: bool) -> dict[str, Any]:
        """Decide how walkers at `positions` [W, n] are evaluated from now on, after `prepare`, by the memory there is.

        Args:
            positions: where they start.
            batch_size: of mini-batches; None without.
            gradients: whether forces will be asked for.

        Returns:
            What was decided and must not be decided otherwise when the run is resumed, as JSON values.
        """
        return {}

    def follow_plan(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Evaluate as `plan_evaluation` had decided for a run that is resumed; empty, if nothing was; what it does."""
        return {}

    def start_record(self) -> dict[str, Any]:
        """What is to be recorded of the start; `"unseeded"` says what it depends on beside the seed of the run."""
        return {}

    def forward(self, positions: Tensor, splits: Sequence[str]) -> dict[str, Tensor]:
        """Outputs [W, N, C] of the asked data splits (and of more, where that is cheaper at once)."""
        raise InputError(f"{type(self).__name__} has no data, so no outputs; {NEEDS_DATA}")

    def loss(self, outputs: Tensor, split: str) -> Tensor:
        """Mean loss [W] of the outputs [W, N, C] of a split."""
        raise InputError(f"{type(self).__name__} has no data, so no loss; {NEEDS_DATA}")

    def batch_loss(self, positions: Tensor, index: Tensor) -> Tensor:
        """Mean train loss [W] at positions [W, n] of each walker's mini-batch of train points, index [W, B]."""
        raise InputError(
            f"{type(self).__name__} has no batch_loss(positions, index), which mini-batches need; give it one, or "
            "leave batch_size out"
        )

    def targets(self, split: str) -> Tensor:
        """Labels or values of a split, [N] or [N, C]."""
        raise InputError(f"{type(self).__name__} has no data, so no targets; {NEEDS_DATA}")

    def points(self, split: str) -> Tensor:
        """Points of a split, [N, ...]."""
        raise InputError(f"{type(self).__name__} has no data, so no points; {NEEDS_DATA}")

    def margins(self, outputs: Tensor, split: str) -> Tensor:
        """Margins [W, M] of outputs [W, N, C] of a split, above 0 where the answer is right; accuracies are their mean.

        By default those of a classifier with the integer labels `targets(split)`, see `nnsim.networks.margins`.
        """
        return class_margins(self.targets(split), outputs, split)(outputs)

    def tangent(self) -> TangentKernel:
        """How the tangent kernel of the network is computed."""
        raise InputError(f"{type(self).__name__} has no torch module, so no tangent kernel; use a NeuralNetwork")

    def energy(self, evaluation: Evaluation) -> Tensor | None:
        """The potential U [W]; None means U = 0 everywhere, a flat prior on the box."""
        return None

    def energy_terms(self, evaluation: Evaluation) -> Mapping[str, Tensor]:
        """Terms [W] by name, of which U is the sum: for messages that say in which of them something is wrong."""
        energy = self.energy(evaluation)
        return {} if energy is None else {"U": energy}

    def dense_network(self) -> DenseNetwork | None:
        """What native platforms must know of a dense network; None if it is none, or one that they do not know."""
        return None

    def traced_network(self) -> TracedNetwork | str:
        """What compiled dynamics must know of a network that can be traced; in words, why it knows none."""
        return f"the system {type(self).__name__} is no network"

    def exact(self, device: torch.device) -> System | None:
        """A copy in double precision, perhaps with fewer data, by which gradients are checked; None if there is none.

        It may not change anything that the system itself uses.
        """
        return None

    def describe(self) -> dict[str, Any]:
        """What makes this system this system, for the record and for resume: by default its public attributes."""
        public = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return {"type": type(self).__name__, **public}


@runtime_checkable
class Observable(Protocol):
    """A quantity that is recorded: any shape that starts with the walkers.

    Attributes:
        name: unique; the name of the array in the trajectory.
        needs_bias_energy: whether it is made of the energies of all biases, which between the steps of slow ones are
            not known.
    """

    name: str
    needs_bias_energy: bool = False

    @required
    def observe(self, state: State, evaluation: Evaluation) -> Tensor:
        """The value at the state, [W, ...]; `evaluation` belongs to `state.positions`."""
        ...

    def period(self, box: Box) -> float | None:
        """By how much two values differ that are the same, as 2 pi of an angle, above 0; `math.inf` if none are.

        A bias must repeat as its CVs do, or it is refused when the simulation is made; the trajectory records the
        period, by which means and paths are taken. None says nothing: the bias is taken as it is.
        """
        return None


class CollectiveVariable(Observable, Protocol):
    """A scalar function s(q) of the parameters, [W], that biases may use.

    Sums, differences, products, quotients and powers of CVs and numbers are CVs, see `Combination`.

    Attributes:
        name: unique among the CVs of a simulation.
        differentiable: whether its gradient with respect to the positions exists and is useful.
        discrete: whether it takes a few values only, as an exact accuracy does; each then is a bin of its own.
        native: what native platforms must know of it; None if they do not know it.
    """

    differentiable: bool = True
    discrete: bool = False
    native: Any = None
    __array_ufunc__: None = None  # numbers of numpy leave arithmetic to the CV

    @required
    def __call__(self, evaluation: Evaluation) -> Tensor:
        """The value of each walker, [W]."""
        ...

    def observe(self, state: State, evaluation: Evaluation) -> Tensor:
        """A CV is an observable: itself."""
        return evaluation.value(self)

    def __add__(self, other: CollectiveVariable | float) -> Combination:
        return Combination("plus", self, other)

    def __radd__(self, other: CollectiveVariable | float) -> Combination:
        return Combination("plus", other, self)

    def __sub__(self, other: CollectiveVariable | float) -> Combination:
        return Combination("minus", self, other)

    def __rsub__(self, other: CollectiveVariable | float) -> Combination:
        return Combination("minus", other, self)

    def __neg__(self) -> Combination:
        return Combination("minus", 0.0, self)

    def __mul__(self, other: CollectiveVariable | float) -> Combination:
        return Combination("times", self, other)

    def __rmul__(self, other: CollectiveVariable | float) -> Combination:
        return Combination("times", other, self)

    def __truediv__(self, other: CollectiveVariable | float) -> Combination:
        return Combination("over", self, other)

    def __rtruediv__(self, other: CollectiveVariable | float) -> Combination:
        return Combination("over", other, self)

    def __pow__(self, exponent: float) -> Combination:
        return Combination("power", self, exponent)

    def __rpow__(self, base: CollectiveVariable | float) -> Combination:
        return Combination("power", base, self)


class Combination(CollectiveVariable):
    """What an operation makes of two CVs, or of a CV and a number: `a + b`, `a - 1`, `2 * a`, `a / b`, `a ** 2`.

    Its name says how it is made, `a_minus_b`; `named` gives it another one. What it is made of is evaluated once where
    several CVs are made of it.

    Args:
        word: `"plus"`, `"minus"`, `"times"`, `"over"` or `"power"`.
        left, right: a CV or a finite number each; of a power the number is the exponent.
        name: None makes one.

    Raises:
        InputError: an operand that is neither a CV nor a number, a division by 0, an exponent that is no number.
    """

    def __init__(
        self, word: str, left: CollectiveVariable | float, right: CollectiveVariable | float, name: str | None = None
    ) -> None:
        self.word = word
        self.left, self.right = self._operand(left), self._operand(right)
        if word == "power" and not isinstance(self.right, float):
            raise InputError(
                f"Combination: the exponent of a power, {shown(right)}, must be a number; "
                "for others use cv.Function(torch.pow, a, b)"
            )
        if word == "over" and self.right == 0.0:
            raise InputError(f"Combination: {shown(left)} is divided by 0; divide by another number")
        self.name = name_of(word, _called(self.left), _called(self.right)) if name is None else name

    @staticmethod
    def _operand(value: CollectiveVariable | float) -> CollectiveVariable | float:
        try:
            if callable(value):
                require_cv("Combination", "operand", value)
                return value
            return require_number("Combination", "operand", value)
        except InputError:
            raise InputError(
                f"Combination: the operand {shown(value)} must be a collective variable or a finite number; give one, "
                "such as nnsim.cv.LogLoss('train') or 2"
            ) from None

    def named(self, name: str) -> Combination:
        """The same under another name, of a series in the trajectory."""
        return Combination(self.word, self.left, self.right, require_text("Combination", "name", name))

    @property
    def cvs(self) -> tuple[CollectiveVariable, ...]:
        """The operands that are CVs."""
        return tuple(one for one in (self.left, self.right) if not isinstance(one, float))

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        """Whether all that it is made of is."""
        return all(said(one, CollectiveVariable, "differentiable") for one in self.cvs)

    @property
    def discrete(self) -> bool:  # type: ignore[override]
        """Whether all that it is made of is."""
        return all(said(one, CollectiveVariable, "discrete") for one in self.cvs)

    @property
    def native(self) -> tuple[str, CollectiveVariable | float, CollectiveVariable | float]:
        """The operation and its operands, which say for themselves whether native platforms know them."""
        return self.word, self.left, self.right

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """The value of each walker, [W]."""
        operands = (self.left, self.right)
        values = (one if isinstance(one, float) else evaluation.part(one, self.name) for one in operands)
        value: Tensor = SIGNS[self.word].of(*values)
        return value

    def period(self, box: Box) -> float | None:
        """After how much it comes round, by what it is made of; see `nnsim.arithmetic.period_of`."""
        numbers = [one for one in (self.left, self.right) if isinstance(one, float)]
        return period_of(self.word, _period(self.left, box), _period(self.right, box), numbers[0] if numbers else None)

    def describe(self) -> dict[str, Any]:
        """The operation and what it is made of, for the record and for resume."""
        return {"name": self.name, "word": self.word, "left": self.left, "right": self.right}


def _called(operand: CollectiveVariable | float) -> str:
    return number_name(operand) if isinstance(operand, float) else operand.name


def _period(operand: CollectiveVariable | float, box: Box) -> float | None:
    if isinstance(operand, float):
        return math.inf
    ask = said(operand, Observable, "period")
    return ask(box) if callable(ask) else None


class Bias(Protocol):
    """A potential V(s, t) on collective variables that may change as the walkers move.

    A bias that learns may be shared among threads, ranks or windows, each with a copy of its own. From `share` on a
    copy keeps apart what it learns itself, at a constant increment; `learnt` gives that as counts or as a list, which
    depend on no order of sums; and `merge` puts what all have learnt in its place, in the order that is given. So all
    copies are the same again, to the last bit, and what comes out depends on who merges with whom and when alone.

    Attributes:
        name: unique among the biases of a simulation.
        cvs: the k collective variables it acts on.
        kT: temperature of the dynamics that it is made for, in units of energy; None where it goes by none.
        differentiable: whether V has a useful gradient with respect to s.
        moving: whether V moves with time and `update` keeps account of that at every step, as the work of a moving
            `Umbrella` does; such a bias cannot be evaluated every few steps only.
        pace, every: steps from one time that it learns to the next, by either name, so that it is known whether that
            goes together with an evaluation every few steps; None is every step.
        kind: `"grid"`, a learnt potential on a grid; `"states"`, a known energy for each walker or rung; `"restraint"`,
            a known function of the CVs; or one of your own. None: no reader knows how to weigh frames.
        formula: by which readers evaluate V, see `nnsim.analysis.averages.kinds`, where `teach` adds another.
        periods: after how much V repeats along each CV, None along those where it does not; held against
            `CollectiveVariable.period`. None in place of all of them says nothing.
        frozen: whether V stands still and nothing is kept account of, so that several simulations may share the bias;
            one that has an `update` and is not frozen belongs to a single simulation.
        schedule: what its increments follow, if anything; one that has a state belongs to this bias alone.
        deposits: how often it has learnt something so far, recorded with its `tables`; None where it does not count.
        native: what native platforms must know of it; None if they do not know it.
    """

    name: str
    cvs: Sequence[CollectiveVariable]
    kT: float | None = None
    differentiable: bool = True
    moving: bool = False
    pace: int | None = None
    every: int | None = None
    kind: str | None = None
    formula: str | None = None
    periods: Sequence[float | None] | None = None
    frozen: bool = False
    schedule: Any = None
    deposits: int | None = None
    native: Any = None

    def prepare(self, device: torch.device) -> None:
        """Bring tables to the device of the run."""
        return

    @required
    def energy(self, s: Tensor, step: int) -> Tensor:
        """V [W] at s [W, k]."""
        ...

    def gradient(self, s: Tensor, step: int) -> Tensor:
        """dV/ds [W, k] at s [W, k]; by automatic differentiation of `energy` unless overridden."""
        with torch.enable_grad():
            leaf = s.detach().requires_grad_()
            energy = self.energy(leaf, step).sum()
        if not energy.requires_grad:
            return torch.zeros_like(s)
        return torch.autograd.grad(energy, leaf)[0]

    def energy_and_gradient(self, s: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Both at once, where they share work."""
        return self.energy(s, step), self.gradient(s, step)

    def attach(self, integrator: Integrator, generator: torch.Generator) -> None:
        """Begin a run: learn who moves the walkers, and keep its random generator if need be (the state saves it).

        A bias that forgets an earlier run does so here, before the first forces are computed.
        """
        return

    def update(self, s: Tensor, step: int, mask: Tensor | None = None) -> bool | None:
        """Learn from the walkers at s [W, k]; only those with `mask` [W] true, if one is given.

        Returns:
            True if V has changed so much at once that forces must be computed anew, as by a swap of temperatures; what
            a single deposit changes is found at the next step.
        """
        return None

    def allows(self, s: Tensor) -> Tensor:
        """Whether a Monte Carlo move may lead to s [W, k], [W]; a dynamics is held back by energies alone."""
        return torch.ones(len(s), dtype=torch.bool, device=s.device)

    def still(self, step: int) -> bool:
        """Whether V is known to stay as it is from a step on."""
        return self.frozen

    def start(self, s: Tensor) -> None:
        """Refuse, with an `InputError`, walkers that start at a useless s [W, k]."""
        return

    def observables(self) -> Mapping[str, float | Tensor]:
        """Numbers, or arrays, worth recording along the run, such as the current increment."""
        return {}

    def doubts(self) -> Sequence[str]:
        """What speaks against what it has learnt so far, in words; the summary of a run shows it."""
        return ()

    def tables(self) -> dict[str, Tensor]:
        """Arrays on the grid that are stored in the trajectory, the newest under their own names."""
        return {}

    def for_readers(self) -> dict[str, Any]:
        """What the record says beside the settings, so that V can be evaluated without this class."""
        if self.kind is None:
            return {}
        return {"kind": self.kind, "formula": self.formula, "cvs": [cv.name for cv in self.cvs]}

    def share(self) -> None:
        """From here on keep apart what is learnt, to be merged with what others learn from the same V."""
        raise InputError(f"the bias {self.name!r} ({type(self).__name__}) learns nothing that could be merged")

    def learnt(self) -> dict[str, Tensor]:
        """What it has learnt itself since `share`, or the last `merge`: counts, int64, or the rows of a list."""
        raise InputError(f"the bias {self.name!r} ({type(self).__name__}) learns nothing that could be merged")

    def merge(self, parts: Sequence[Mapping[str, Tensor]]) -> None:
        """Take over what all have learnt, each as its `learnt` gave it, in place of what this one has learnt itself."""
        raise InputError(f"the bias {self.name!r} ({type(self).__name__}) learns nothing that could be merged")

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers that change along the run."""
        return {}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        return


class Integrator(Protocol):
    """Moves the state one step of simulated time, or of Monte Carlo, forward.

    A step is said by `program`, as a sequence of operations that any platform may carry out (see `nnsim.program`), or
    by an own `step`, which runs on the reference platform.

    Attributes:
        needs_gradients: False for methods that only use energies, which then also work with CVs without a gradient.
        follows_loss: whether its forces are minus the gradient of the train loss alone, as in training.
        metropolis: a step accepts or rejects at its new time: moving biases do their work before it.
        multiple_time_stepping: whether a bias may be evaluated every few steps: all kicks use forces of the two ends of
            a step, brought up to date by `nnsim.integrators.pieces.update_forces_`.
        time_step: time that one step advances.
        dt: time step whose size makes an error, or its acceptance: a number, one for each walker [W], or a function of
            the step that gives either; None is `time_step`, of Metropolis methods none.
        friction: of the heat bath, per unit of time, in any of these forms; None where there is no such number.
        kT: temperature of the heat bath, in units of energy, in any of these forms; None without one.
        initial_kT: without a heat bath, the temperature of the initial velocities, a number or [W].
        masses: of the parameters, one number, [n], [W, 1] or [W, n].
        batch_size: number of train points on which forces are estimated; None is exact forces.
        order: power of dt with which the error of averages falls.
        symmetric: whether a step, followed back with the velocities reversed, is a step.
        native: what native platforms must know of it; None if they do not know it.
    """

    needs_gradients: bool = True
    follows_loss: bool = False
    metropolis: bool = False
    multiple_time_stepping: bool = False
    dt: Setting | None = None
    friction: Setting | None = None
    kT: Setting | None = None
    initial_kT: Numbers = 0.0
    masses: Masses = 1.0
    batch_size: int | None = None
    order: int = 2
    symmetric: bool = True
    native: Any = None

    @property
    def time_step(self) -> float:
        """Time that one step advances."""
        return 1.0

    @required
    def init(self, positions: Tensor, force_field: ForceField, generator: torch.Generator) -> State:
        """The state at step 0 of walkers at `positions` [W, n]; `generator` is the run's `RandomStreams`."""
        ...

    def program(self, force_field: ForceField) -> Sequence[Operation]:
        """The operations of a step, in their order, after `init`; asked for once for many steps. Replaces `step`."""
        raise NotImplementedError(f"{type(self).__name__} gives its step in another way")

    @property
    def is_program(self) -> bool:
        """Whether a step is its `program` and nothing else, so that a platform may carry that out instead."""
        return getattr(self.step, "__func__", None) is Integrator.step

    def step(self, state: State, force_field: ForceField) -> State:
        """One step: the operations of `program`. Updates the tensors of `state` in place and returns it."""
        return execute(self.program(force_field), state, force_field)

    def conserved(self, state: State) -> Tensor | None:
        """What exact steps would keep, but for the heat that is counted in `state.heat`, [W]; None if nothing is known.

        Its change tells the error of the time step, see `nnsim.running.step_error.shadow_work`.
        `pieces.ornstein_uhlenbeck_` counts heat.
        """
        return None

    def finished(self, state: State) -> bool:
        """Whether further steps would change nothing, as those of a minimisation that has converged: runs end then."""
        return False

    def summary(self, state: State) -> Mapping[str, str]:
        """What the table at the end of a run says of it, by name."""
        return {}

    def refresh(self, state: State, force_field: ForceField) -> None:
        """Energies, CVs and forces anew at the same positions: the potential is another than in the step before."""
        if self.needs_gradients:
            result = force_field(state.positions, state.step)
            state.energy, state.bias_energy, state.cvs, state.forces = result
        else:
            state.energy, state.bias_energy, state.cvs = force_field.energies(state.positions, state.step)


class Platform(Protocol):
    """Executes steps; every platform gives the results of the reference one.

    It is made without a simulation, asked for obstacles, and then takes over one simulation, by `attach`. One of your
    own is given as `Simulation(platform=...)`, its class or an object, of which each simulation takes a copy.

    Attributes:
        name: by which it is asked for, the record names it and a resume knows it again.
        compiled: whether its steps cost much less than those of the reference platform, so that these are taken to look
            at single steps less often.
        integrator, force_field: of the simulation, once it was taken over.
    """

    name: str
    compiled: bool = False
    integrator: Any = None
    force_field: Any = None

    def __init__(self, simulation: Simulation | None = None) -> None:
        if simulation is not None:
            self.attach(simulation)

    @classmethod
    def obstacle(cls, simulation: Simulation) -> str | None:
        """Why this platform cannot run a simulation, in a few words that name the part; None if it can."""
        return None

    @classmethod
    def serves(cls, integrator: Integrator) -> bool:
        """Whether it is made for integrators of this kind, so that being passed over costs speed."""
        return False

    def attach(self, simulation: Simulation) -> None:
        """Take over a simulation that has no obstacle, at its present step: before `advance`, and after a resume."""
        self.integrator, self.force_field = simulation.integrator, simulation.force_field

    @required
    def advance(self, state: State, steps: int) -> State:
        """`steps` times: a step of the integrator, then an update of every bias."""
        ...

    def settled(self) -> AbstractContextManager[None]:
        """While it lasts, the biases show all that was deposited, also what a platform still keeps to itself."""
        return nullcontext()

    def observe(self, state: State, things: Sequence[Observable]) -> Mapping[str, Tensor]:
        """Values [W, ...] by name of those of some observables at the state that it can compute faster itself."""
        return {}

    def filmed(self, things: Sequence[Observable]) -> Sequence[Observable] | None:
        """Which of some observables `film` computes; None if it keeps no frames."""
        return None

    def film(self, state: State, steps: int, film: Film) -> State:
        """`advance`, keeping in `film.frames` those steps that the film asks for, also if then something fails."""
        raise NotImplementedError

    @classmethod
    def concerns(cls, simulation: Simulation) -> bool:
        """Whether it is made for simulations of this kind, so that its `obstacle` is worth telling."""
        return cls.serves(simulation.integrator)

    def summary(self) -> str:
        """In some words, how the steps are made."""
        return self.name

    def state_dict(self) -> dict[str, Any]:
        """What the platform carries along, beyond the state and the biases."""
        return {}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        return

    @classmethod
    def hand_over(cls, saved: dict[str, Any], biases: Sequence[Bias]) -> None:
        """Give to the biases what it still kept to itself when it gave `saved`: the run goes on on another platform."""
        return


class Reporter(Protocol):
    """Takes something from the simulation at steps that it chooses."""

    @required
    def due(self, step: int) -> int:
        """The first step after `step` at which `report` wants to be called."""
        ...

    @required
    def report(self, simulation: Simulation) -> None:
        """Called with the simulation at a due step."""
        ...
