"""Any torch module as a molecular system."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nnsim.box import Box
from nnsim.cv.ntk.tangent import TangentKernel
from nnsim.describe import Network
from nnsim.errors import InputError, require_choice, require_number
from nnsim.evaluation import Evaluation
from nnsim.networks.call import outputs_of
from nnsim.networks.checks import some_of
from nnsim.networks.copies import copied, evaluated_copy
from nnsim.networks.layout import Layout
from nnsim.networks.margins import Margins
from nnsim.networks.modes import undisturbed
from nnsim.networks.program import program_of
from nnsim.networks.scaled import ntk_parametrised
from nnsim.platforms.native import DenseNetwork, TracedNetwork
from nnsim.platforms.obstacles import unknown
from nnsim.precision import Precision
from nnsim.protocols import System
from nnsim.random.streams import MERSENNE, Purpose, RandomStreams, mersenne_state
from nnsim.systems.checks import (
    checked_box,
    checked_parameters,
    checked_points,
    fitting,
    made,
    refuse_other_precision,
    single,
    trial_module,
    trial_outputs,
)  # fmt: skip
from nnsim.systems.data import MAX_MEMORY, generators_kept
from nnsim.systems.dense import BatchedDense
from nnsim.systems.forward import FORWARDS, Forward, choose_kind
from nnsim.systems.initialisation import SCHEMES, initial_values, starts
from nnsim.systems.losses import Loss
from nnsim.systems.own_loss import LossFunction, OwnLoss, loss_of
from nnsim.systems.pieces import ALL, InPieces, Plan, plan_of
from nnsim.systems.potentials import Potential, checked_potential, potential_terms, terms_of

# Gradients are checked in double precision up to so many parameters, on all data if they are no more numbers than
# this, or else on so many points of each split.
LARGE_NETWORK, MANY_NUMBERS, FEW_POINTS = 10_000_000, 200_000, 64
_Values = TypeVar("_Values")
INITIAL = ("module", "normal", "uniform", "reinitialise", *SCHEMES)


class NeuralNetwork(System):
    r"""A torch module with its data: the trainable parameters are the particles.

    Args:
        module: any module that maps points [N, ...] to outputs [N, C] (or returns an object with such `logits`), or a
            function without arguments that makes one, which is called with torch's, numpy's and Python's generators
            started from `seed` (they are left as they were). Parameters with `requires_grad=False` and buffers stay
            fixed.
        train: points [N, ...] and labels [N] (integers 0 ... C-1, cross-entropy) or values [N] or [N, C], as a pair
            (points, targets) of tensors, arrays or lists, a dictionary with the keys `x` and `y`, or a `Dataset` or
            `DataLoader` of torch with such items, which is gathered in the order of the data set. Integer points, such
            as raw images of 0 ... 255, become floats unless the module takes integers. The data are copied.
        test: the same, or None.
        loss: `"cross_entropy"`, `"mse"`, `"bce"`, an object of `nnsim.systems.losses` or of torch, such as
            `torch.nn.CrossEntropyLoss(weight)`, or a function of outputs [N, C] and targets that returns the mean loss,
            which is called for one walker after the other.
        potential: U(q), made of `LossPotential` and `GaussianPrior`, or any function of an `Evaluation`; None is
            U = 0, a flat prior on the box.
        box: where the parameters may live; None is an open box. For the papers' box of one limit for each tensor:
            `Box(per_tensor_limits([p.shape for p in module.parameters()], 2.0))`.
        initial: where walkers start: `"module"` (its own values), `"normal"` (independent, standard deviation
            `initial_scale`), `"uniform"` in the box, `"reinitialise"` (every layer's `reset_parameters`, anew for each
            walker: torch's default initialisation), or with zero biases `"lecun_normal"`, `"lecun_truncated"`,
            `"he_normal"`, `"he_uniform"`, `"glorot_normal"`, `"glorot_uniform"` or `"ntk"` (see
            `nnsim.systems.initialisation`). With `"ntk"` the system's `module` is a copy whose layers divide by
            sqrt(fan_in). Random starts outside the box are mirrored back into it. The values of a module that is given
            ready are not determined by any seed, which is logged and recorded.
        initial_scale: above 0; for `"normal"`.
        walkers: how many walkers are evaluated: `"auto"`, `"batched"`, `"vmap"` or `"loop"`; what was chosen is logged
            once and is `kind`.
        seed: of a module that is given as a function, from 0 to below 2^32.
        max_memory: bytes that the points of a `Dataset` or `DataLoader` may take, above 0.

    Raises:
        InputError: data that do not fit each other or the module, values that are not finite, labels outside the
            classes, a loss that does not give one number, or a module that is compiled by TorchScript, has
            uninitialised, complex or non-finite parameters or some that `initial` has no rule for, cannot be evaluated
            as `walkers` says, changes its input or its parameters, or whose outputs are random or depend on the rest of
            the batch. When the simulation is made: forces that are not minus the gradient.
    """

    @undisturbed
    @torch.random.fork_rng(devices=[])  # a module that is tried may draw numbers, though its outputs are not random
    def __init__(
        self,
        module: nn.Module | Callable[[], nn.Module],
        train: Any,
        test: Any = None,
        *,
        loss: str | Loss | LossFunction = "cross_entropy",
        potential: Potential | Callable[[Evaluation], Tensor] | None = None,
        box: Box | None = None,
        initial: str = "module",
        initial_scale: float = 1.0,
        walkers: str = "auto",
        seed: int = 0,
        max_memory: float = MAX_MEMORY,
    ) -> None:
        module, self.seed = made(module, seed)
        trainable = checked_parameters(module)
        self.initial = require_choice("NeuralNetwork", "initial", initial, INITIAL)
        self.module = ntk_parametrised(module, "NeuralNetwork") if initial == "ntk" else module
        self.parameters = {name: tuple(p.shape) for name, p in trainable.items()}
        if initial in SCHEMES:
            starts(self.module, self.parameters, initial)  # refuses here what it has no rule for
        self.box = checked_box("NeuralNetwork", box)
        self.box.check_size(self.size)
        self._loss = loss_of(loss)
        self.loss_function = self._loss.recorded
        self.potential = checked_potential(potential)
        self.initial_scale = require_number("NeuralNetwork", "initial_scale", initial_scale, above=0.0)
        require_choice("NeuralNetwork", "walkers", walkers, ("auto", "batched", "vmap", "loop"))
        max_memory = require_number("NeuralNetwork", "max_memory", max_memory, above=0.0)
        self._data = {"train": checked_points("train", train, max_memory)}
        if test is not None:
            self._data["test"] = checked_points("test", test, max_memory)
            if self._data["test"][0].shape[1:] != self._data["train"][0].shape[1:]:
                widths = " and ".join(str(tuple(x.shape[1:])) for x, _ in self._data.values())
                raise InputError(
                    f"NeuralNetwork: train and test points have different shapes, {widths}; make them equal"
                )
        self._layout = Layout(self.parameters)
        trial = trial_module(self.module, initial == "module")
        fresh = copied(trial)
        for split, (x, y) in self._data.items():
            x = fitting(trial, x)
            outputs = trial_outputs(trial, split, x)
            self._outputs = outputs.shape[1]
            y = self._loss.fitted(f"NeuralNetwork: {split} targets", y, self._outputs)
            self._data[split] = x, y
        self._loss = self._loss.settled([y for _, y in self._data.values()])
        self._free = walkers == "auto"
        self.kind = choose_kind(trial, fresh, self._layout, some_of(single(self._data["train"][0]), 4), walkers)
        self.prepare(Precision.named("mixed"), torch.device("cpu"))
        self._try_loss(trial)

    @property
    def size(self) -> int:
        """Number of parameters n."""
        return sum(math.prod(shape) for shape in self.parameters.values())

    @undisturbed
    def prepare(self, precision: Precision, device: torch.device) -> None:
        """Bring copies of module, data and box to the precision and device of the run.

        Nothing that a `copy.copy` of this system shares is changed, so that two runs can use one system.
        """
        self._dtype = precision.network
        self.box = copy.copy(self.box)
        self.box.prepare(precision.state, device)
        self._module = evaluated_copy(self.module).to(device, precision.network)
        self._points = {split: self._converted(x).to(device) for split, (x, _) in self._data.items()}
        self._targets = {split: self._converted(y).to(device) for split, (_, y) in self._data.items()}
        self._tangent: TangentKernel | None = None
        self._joined: dict[tuple[str, ...], Tensor] = {}
        self._repeated: dict[str, tuple[int, Tensor]] = {}
        self._margins: dict[str, Margins] = {}
        self._take(Plan(self.kind, ALL, ALL))
        refuse_other_precision(self._module, some_of(self._points["train"], 4), self._dtype)

    def _take(self, plan: Plan) -> None:
        """Evaluate by a plan from now on."""
        self._forward = InPieces(self._way(plan.way), plan)

    def _way(self, kind: str) -> Forward:
        return FORWARDS[kind](self._module, self._layout, self._dtype)

    @undisturbed
    def plan_evaluation(self, positions: Tensor, batch_size: int | None, gradients: bool) -> dict[str, Any]:
        """Find the pieces that fit into the memory and, of ways that are both right, the faster one; see `Plan`."""
        with generators_kept():
            x = some_of(self._points["train"], 64)
            count = max(sum(map(len, self._points.values())), batch_size or 0)
            loop = self._way("loop") if self._free and self.kind == "vmap" else None
            plan = plan_of(self._way(self.kind), loop, positions, x, count, gradients)
        self._take(plan)
        return plan.record()

    def follow_plan(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Evaluate as `plan_evaluation` had found for this run, unless the module is another since.

        Version 0.2 had no plan, and evaluated everything at once.
        """
        if not plan:
            self._take(Plan(self.kind, ALL, ALL))
        elif plan.get("way") in (self.kind, "loop"):
            self._take(Plan(**plan))
        return self._forward.plan.record()

    def _converted(self, values: Tensor) -> Tensor:
        return values.to(self._dtype) if values.is_floating_point() else values

    # ------------------------------------------------------------------ evaluation

    @undisturbed
    def forward(self, positions: Tensor, splits: Sequence[str]) -> dict[str, Tensor]:
        """Outputs [W, N, C] of the splits at positions [W, n], all splits in one pass."""
        splits = tuple(splits)
        if splits not in self._joined:
            self._joined[splits] = torch.cat([self._split(self._points, split) for split in splits])
        points = self._joined[splits]
        version = points._version, positions._version
        outputs = self._forward(positions, points)
        if version != (points._version, positions._version):
            raise InputError(
                "NeuralNetwork: the module's forward changes its input or its parameters in place; "
                "compute something new instead"
            )
        lengths = [len(self._points[split]) for split in splits]
        return dict(zip(splits, outputs.split(lengths, dim=1), strict=True))

    def targets(self, split: str) -> Tensor:
        """Labels [N], or values or probabilities [N, C], of a split."""
        return self._split(self._targets, split)

    def points(self, split: str) -> Tensor:
        """Points [N, ...] of a split."""
        return self._split(self._points, split)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits: train, and test if there is one."""
        return tuple(self._data)

    def data(self, split: str) -> tuple[Tensor, Tensor]:
        """Points [N, ...] and targets of a split as they were given, in the precision that they had."""
        return self._split(self._data, split)

    @undisturbed
    def tangent(self) -> TangentKernel:
        """How the tangent kernel of the module is computed; found out by a trial when it is first asked for."""
        if self._tangent is None:
            self._tangent = TangentKernel(self._module, self._layout, self._points["train"], dtype=self._dtype)
        return self._tangent

    @undisturbed
    def loss(self, outputs: Tensor, split: str) -> Tensor:
        """Mean loss [W] of outputs [W, N, C] on a split."""
        return self._loss(outputs, self._targets_of_each(split, len(outputs)))

    @property
    def nonnegative_loss(self) -> bool:  # type: ignore[override]
        """Whether the loss cannot be below 0."""
        return self._loss.nonnegative

    def margins(self, outputs: Tensor, split: str) -> Tensor:
        """Margins [W, M] of outputs [W, N, C] of a split: what its accuracy is made of."""
        if split not in self._margins:
            self._margins[split] = self._loss.margins(self.targets(split), outputs, split)
        return self._margins[split](outputs)

    def _targets_of_each(self, split: str, walkers: int) -> Tensor:
        """The targets of a split once for each walker, [W, N, ...]; kept, since every step needs them."""
        if self._repeated.get(split, (0,))[0] != walkers:
            each = self.targets(split).expand(walkers, *self.targets(split).shape)
            self._repeated[split] = walkers, (each if each.is_floating_point() else each.contiguous())
        return self._repeated[split][1]

    @undisturbed
    def batch_loss(self, positions: Tensor, index: Tensor) -> Tensor:
        """Mean train loss [W] of each walker's own mini-batch.

        Args:
            positions: [W, n].
            index: numbers of the train points of each walker's batch, [W, B].

        Raises:
            InputError: the loss is a sum over the points.
        """
        if self._loss.of_batches:
            raise InputError(f"NeuralNetwork: the loss cannot be estimated on mini-batches: {self._loss.of_batches}")
        points, targets = self._points["train"][index], self._targets["train"][index]
        return self._loss(self._forward.of_own_points(positions, points), targets)

    def energy(self, evaluation: Evaluation) -> Tensor | None:
        """U [W], or None for a flat prior."""
        return None if self.potential is None else self.potential(evaluation)

    def energy_terms(self, evaluation: Evaluation) -> dict[str, Tensor]:
        """Each term of the potential by its name, [W]."""
        if type(self).energy is not NeuralNetwork.energy:
            return dict(super().energy_terms(evaluation))
        return {name: term(evaluation) for name, term in terms_of(self.potential).items()}

    def exact(self, device: torch.device) -> NeuralNetwork | None:
        """A copy in double precision, with fewer points where there are many; None if the module has no such."""
        if self.size > LARGE_NETWORK:
            return None
        other = copy.copy(self)
        if sum(x.numel() + y.numel() for x, y in self._data.values()) > MANY_NUMBERS:
            few = {split: [some_of(part, FEW_POINTS) for part in pair] for split, pair in self._data.items()}
            other._data = {split: (x, y) for split, (x, y) in few.items()}
        try:
            other.prepare(Precision.named("double"), device)
        except InputError:
            return None
        return other

    def _split(self, values: dict[str, _Values], split: str) -> _Values:
        if split not in values:
            raise InputError(f"NeuralNetwork: there is no {split!r} split; give {split}=(points, targets)")
        return values[split]

    def dense_network(self) -> DenseNetwork | None:
        """The network in the form that native code takes, or None if it cannot be put so."""
        if not isinstance(self._forward.whole, BatchedDense) or unknown("the loss", self._loss, self._loss.native):
            return None
        shape, terms = self._forward.whole.plain(), potential_terms(self.potential)
        if shape is None or terms is None:
            return None
        splits = list(self.splits)
        points = torch.cat([self._data[split][0] for split in splits]).flatten(1).double().cpu().numpy()
        losses = [self._loss.native(self._data[split][1].cpu(), shape[0][-1]) for split in splits]  # type: ignore[misc]
        train = len(self._data["train"][0])
        tiny = float(torch.finfo(self._dtype).tiny)
        return DenseNetwork(*shape, losses, points, train, *terms, tiny)

    def traced_network(self) -> TracedNetwork | str:
        """The network as a program with its data, for compiled dynamics, or in words why there is none."""
        if known := unknown("the loss", self._loss, self._loss.native):
            return known
        if (terms := potential_terms(self.potential)) is None:
            return "the potential is none of LossPotential and GaussianPrior"
        splits = list(self.splits)
        program = program_of(self._module, self._points["train"], self.parameters)
        if isinstance(program, str):
            return f"the module cannot be traced: {program}"
        classes = self._outputs
        losses = [self._loss.native(self._data[split][1].cpu(), classes) for split in splits]  # type: ignore[misc]
        points = [self._data[split][0].double().cpu().numpy() for split in splits]
        tiny = float(torch.finfo(self._dtype).tiny)
        return TracedNetwork(program, splits, points, losses, *terms, self._dtype == torch.float32, tiny)

    # ------------------------------------------------------------------ start

    def initial_positions(self, walkers: int, generator: torch.Generator) -> Tensor:
        """Start of each walker, [W, n], float64, inside the box."""
        if self.initial == "uniform":
            return self.box.uniform(walkers, self.size, generator)
        if self.initial == "normal":
            drawn = RandomStreams.of(generator).normal(Purpose.START, (walkers, self.size))
            positions = self.initial_scale * drawn
        elif self.initial in SCHEMES:
            positions = initial_values(self.module, self.parameters, self.initial, walkers, generator)
        elif self.initial == "reinitialise":
            words = RandomStreams.of(generator).words(Purpose.START, (walkers, MERSENNE)).cpu()
            positions = torch.stack([self._reinitialised(mersenne_state(own)) for own in words]).to(generator.device)
        else:
            positions = self._own_values().to(generator.device).repeat(walkers, 1)
            if not bool(self.box.contains(positions).all()):
                raise InputError(
                    f"NeuralNetwork: the module's own values reach {positions.abs().max():g}, outside the {self.box}; "
                    "widen the box or start with initial='uniform'"
                )
        self.box.confine_(positions)
        return positions

    def _own_values(self, module: nn.Module | None = None) -> Tensor:
        named = dict((module or self.module).named_parameters())
        return torch.cat([named[name].detach().double().flatten() for name in self.parameters])

    def _reinitialised(self, state: Tensor) -> Tensor:
        """Values of a copy whose layers were reset from that state of torch's generator, which is left as it was."""
        module = copied(self.module)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.set_rng_state(state)
            trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
            before = {name: p.add_(1.0).clone() for name, p in trainable.items()}  # which no reset gives by chance
            for name, layer in _children_first(module):
                # Some of torch's own modules, such as MultiheadAttention, have it under a private name only.
                reset = getattr(layer, "reset_parameters", None) or getattr(layer, "_reset_parameters", None)
                if reset is not None:
                    reset()
                elif any(p.requires_grad for p in layer.parameters(recurse=False)):
                    raise InputError(
                        f"NeuralNetwork: layer {name!r} ({type(layer).__name__}) has no reset_parameters; "
                        "give it one, or use another initial"
                    )
            for name, p in trainable.items():
                if p.numel() and torch.equal(p, before[name]):
                    raise InputError(
                        f"NeuralNetwork: reset_parameters leaves the parameter {name!r} as it is, so all walkers would "
                        "start with the same; let its layer reset it, or use another initial"
                    )
        return self._own_values(module)

    def start_record(self) -> dict[str, Any]:
        """The seed of a module that was made from one, or that the values of a ready one are not determined by any."""
        if self.initial != "module":
            return {}
        if self.seed is not None:
            return {"module_seed": self.seed}
        return {
            "unseeded": "walkers start at the module's own values, which no seed determines; for a start that can be "
            "repeated give a function that makes the module, such as NeuralNetwork(lambda: torch.nn.Linear(4, 2), ...)"
        }

    # ------------------------------------------------------------------ checks and record

    def _try_loss(self, module: nn.Module) -> None:
        """Let the loss refuse outputs and targets that do not fit each other."""
        if isinstance(self._loss, OwnLoss):
            with torch.no_grad():
                for split, x in self._points.items():
                    self._loss.try_on(outputs_of(module(x)), self._targets[split])

    def describe(self) -> dict[str, Any]:
        """Sizes, module, loss, potential, box and data, for the record and for resume."""
        return {
            "type": type(self).__name__,
            "parameters": self.parameters,
            "module": Network(self.module),
            "walkers": self.kind,
            "loss": self.loss_function,
            "potential": self.potential,
            "box": self.box,
            "initial": [self.initial, self.initial_scale],
            "data": self._data,
        }


def _children_first(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """All layers with their names, each after the layers it is made of, in which order they were initialised."""
    order: list[tuple[str, nn.Module]] = []
    for name, child in module.named_children():
        order += [(f"{name}.{inner}" if inner else name, layer) for inner, layer in _children_first(child)]
    return [*order, ("", module)]
