"""Any torch module as a molecular system."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnsim.box import Box
from nnsim.cv.ntk.tangent import TangentKernel
from nnsim.describe import describe
from nnsim.errors import InputError, require_choice, require_number
from nnsim.evaluation import Evaluation
from nnsim.networks.checks import first_line, refuse_unfit
from nnsim.networks.layout import Layout
from nnsim.networks.scaled import ntk_parametrised
from nnsim.platforms.native import DenseNetwork
from nnsim.precision import Precision
from nnsim.protocols import System
from nnsim.systems.checks import Data, checked_parameters, checked_points, fitting, single
from nnsim.systems.dense import BatchedDense
from nnsim.systems.forward import FORWARDS, choose_kind
from nnsim.systems.initialisation import SCHEMES, initial_values, starts
from nnsim.systems.potentials import Potential, potential_terms

LossFunction = Callable[[Tensor, Tensor], Tensor]

INITIAL = ("module", "normal", "uniform", "reinitialise", *SCHEMES)


class NeuralNetwork(System):
    r"""A torch module with its data: the trainable parameters are the particles.

    Args:
        module: any module that maps points [N, ...] to outputs [N, C]. Parameters with `requires_grad=False` and
            buffers stay fixed.
        train: points [N, ...] and labels [N] (integers 0 ... C-1, cross-entropy) or values [N] or [N, C]. Integer
            points, such as raw images of 0 ... 255, become floats unless the module takes integers.
        test: the same, or None.
        loss: `"cross_entropy"`, `"mse"`, or a function of outputs [N, C] and targets that returns the mean loss.
        potential: U(q), made of `LossPotential` and `GaussianPrior`, or any function of an `Evaluation`; None is
            U = 0, a flat prior on the box.
        box: where the parameters may live; None is an open box. For the papers' box of one limit for each tensor:
            `Box(per_tensor_limits([p.shape for p in module.parameters()], 2.0))`.
        initial: where walkers start: `"module"` (its own values), `"normal"` (independent, standard deviation
            `initial_scale`), `"uniform"` in the box, `"reinitialise"` (every layer's `reset_parameters`, anew for each
            walker: torch's default initialisation), or with zero biases `"lecun_normal"`, `"lecun_truncated"`,
            `"he_normal"`, `"he_uniform"`, `"glorot_normal"`, `"glorot_uniform"` or `"ntk"` (see
            `nnsim.systems.initialisation`). With `"ntk"` the system's `module` is a copy whose layers divide by
            sqrt(fan_in). Random starts outside the box are mirrored back into it.
        initial_scale: above 0; for `"normal"`.
        walkers: how many walkers are evaluated: `"auto"`, `"batched"`, `"vmap"` or `"loop"`; what was chosen is logged
            once and is `kind`.

    Raises:
        InputError: data that do not fit each other or the module, values that are not finite, labels outside the
            classes, or a module that is compiled by TorchScript, has uninitialised or non-finite parameters or some
            that `initial` has no rule for, cannot be evaluated as `walkers` says, or whose outputs are random or depend
            on the rest of the batch.
    """

    def __init__(
        self,
        module: nn.Module,
        train: Data,
        test: Data | None = None,
        *,
        loss: str | LossFunction = "cross_entropy",
        potential: Potential | Callable[[Evaluation], Tensor] | None = None,
        box: Box | None = None,
        initial: str = "module",
        initial_scale: float = 1.0,
        walkers: str = "auto",
    ) -> None:
        trainable = checked_parameters(module)
        self.initial = require_choice("NeuralNetwork", "initial", initial, INITIAL)
        self.module = ntk_parametrised(module, "NeuralNetwork") if initial == "ntk" else module
        self.parameters = {name: tuple(p.shape) for name, p in trainable.items()}
        if initial in SCHEMES:
            starts(self.module, self.parameters, initial)  # refuses here what it has no rule for
        self.box = Box(kind="open") if box is None else box
        self.box.check_size(self.size)
        self.loss_function = loss if callable(loss) else require_choice(
            "NeuralNetwork", "loss", loss, ("cross_entropy", "mse")
        )  # fmt: skip
        self.potential = potential
        self.initial_scale = require_number("NeuralNetwork", "initial_scale", initial_scale, above=0.0)
        require_choice("NeuralNetwork", "walkers", walkers, ("auto", "batched", "vmap", "loop"))
        self._data = {"train": checked_points("train", train)}
        if test is not None:
            self._data["test"] = checked_points("test", test)
            if self._data["test"][0].shape[1:] != self._data["train"][0].shape[1:]:
                widths = " and ".join(str(tuple(x.shape[1:])) for x, _ in self._data.values())
                raise InputError(
                    f"NeuralNetwork: train and test points have different shapes, {widths}; make them equal"
                )
        self._layout = Layout(self.parameters)
        trial = self._trial_module()
        for split, (x, y) in self._data.items():
            x = fitting(trial, x)
            outputs = self._trial_outputs(trial, split, x)
            self._data[split] = x, self._checked_targets(split, y, outputs)
        self.kind = choose_kind(trial, self._layout, single(self._data["train"][0][:4]), walkers)
        self.prepare(Precision.named("mixed"), torch.device("cpu"))

    @property
    def size(self) -> int:
        """Number of parameters n."""
        return sum(math.prod(shape) for shape in self.parameters.values())

    def prepare(self, precision: Precision, device: torch.device) -> None:
        """Bring copies of module, data and box to the precision and device of the run.

        Nothing that a `copy.copy` of this system shares is changed, so that two runs can use one system.
        """
        self._dtype = precision.network
        self.box = copy.copy(self.box)
        self.box.prepare(precision.state, device)
        self._module = copy.deepcopy(self.module).to(device, precision.network)
        self._points = {split: self._converted(x).to(device) for split, (x, _) in self._data.items()}
        self._targets = {split: self._converted(y).to(device) for split, (_, y) in self._data.items()}
        self._tangent: TangentKernel | None = None
        self._joined: dict[tuple[str, ...], Tensor] = {}
        self._labels: dict[str, tuple[int, Tensor]] = {}
        self._forward = FORWARDS[self.kind](self._module, self._layout, self._dtype)

    def _converted(self, values: Tensor) -> Tensor:
        return values.to(self._dtype) if values.is_floating_point() else values

    # ------------------------------------------------------------------ evaluation

    def forward(self, positions: Tensor, splits: Sequence[str]) -> dict[str, Tensor]:
        """Outputs [W, N, C] of the splits at positions [W, n], all splits in one pass."""
        splits = tuple(splits)
        if splits not in self._joined:
            self._joined[splits] = torch.cat([self._split(self._points, split) for split in splits])
        outputs = self._forward(positions, self._joined[splits])
        lengths = [len(self._points[split]) for split in splits]
        return dict(zip(splits, outputs.split(lengths, dim=1), strict=True))

    def targets(self, split: str) -> Tensor:
        """Labels [N] or values [N, C] of a split."""
        return self._split(self._targets, split)

    def points(self, split: str) -> Tensor:
        """Points [N, ...] of a split."""
        return self._split(self._points, split)

    def tangent(self) -> TangentKernel:
        """How the tangent kernel of the module is computed; found out by a trial when it is first asked for."""
        if self._tangent is None:
            self._tangent = TangentKernel(self._module, self._layout, self._points["train"], dtype=self._dtype)
        return self._tangent

    def loss(self, outputs: Tensor, split: str) -> Tensor:
        """Mean loss [W] of outputs [W, N, C] on a split."""
        targets = self.targets(split)
        if self.loss_function == "mse":
            return (outputs - targets).square().mean(dim=(1, 2))
        if self.loss_function == "cross_entropy":
            walkers, points, classes = outputs.shape
            flat = F.cross_entropy(outputs.reshape(-1, classes), self._repeated(split, walkers), reduction="none")
            return flat.view(walkers, points).mean(1)
        return torch.stack([self.loss_function(row, targets) for row in outputs.unbind()])  # type: ignore[operator]

    def _repeated(self, split: str, walkers: int) -> Tensor:
        """The labels of a split once for each walker, [W N]; kept, since every step needs them."""
        if self._labels.get(split, (0,))[0] != walkers:
            self._labels[split] = (walkers, self.targets(split).repeat(walkers))
        return self._labels[split][1]

    def batch_loss(self, positions: Tensor, index: Tensor) -> Tensor:
        """Mean train loss [W] of each walker's own mini-batch.

        Args:
            positions: [W, n].
            index: numbers of the train points of each walker's batch, [W, B].
        """
        points, targets = self._points["train"][index], self._targets["train"][index]
        outputs = self._forward.of_own_points(positions, points)
        if self.loss_function == "mse":
            return (outputs - targets).square().mean(dim=(1, 2))
        if self.loss_function == "cross_entropy":
            return F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none").view_as(index).mean(1)
        pairs = zip(outputs, targets, strict=True)
        return torch.stack([self.loss_function(*pair) for pair in pairs])  # type: ignore[operator]

    def energy(self, evaluation: Evaluation) -> Tensor | None:
        """U [W], or None for a flat prior."""
        return None if self.potential is None else self.potential(evaluation)

    def _split(self, values: dict[str, Tensor], split: str) -> Tensor:
        if split not in values:
            raise InputError(f"NeuralNetwork: there is no {split!r} split; give {split}=(points, targets)")
        return values[split]

    def dense_network(self) -> DenseNetwork | None:
        """The network in the form that native code takes, or None if it cannot be put so."""
        if not isinstance(self._forward, BatchedDense) or not isinstance(self.loss_function, str):
            return None
        methods = ("energy", "forward", "targets", "loss")  # a subclass may compute something else
        if any(getattr(type(self), name) is not getattr(NeuralNetwork, name) for name in methods):
            return None
        shape, terms = self._forward.plain(), potential_terms(self.potential)
        if shape is None or terms is None:
            return None
        splits = list(self._data)
        points = torch.cat([self._data[split][0] for split in splits]).flatten(1).double().cpu().numpy()
        targets = torch.cat([self._data[split][1] for split in splits]).double().cpu()
        targets = targets[:, None] if targets.ndim == 1 else targets
        train = len(self._data["train"][0])
        tiny = float(torch.finfo(self._dtype).tiny)
        return DenseNetwork(*shape, self.loss_function, points, targets.numpy(), train, *terms, tiny)

    # ------------------------------------------------------------------ start

    def initial_positions(self, walkers: int, generator: torch.Generator) -> Tensor:
        """Start of each walker, [W, n], float64, inside the box."""
        if self.initial == "uniform":
            return self.box.uniform(walkers, self.size, generator)
        if self.initial == "normal":
            drawn = torch.randn(walkers, self.size, generator=generator, dtype=torch.float64, device=generator.device)
            positions = self.initial_scale * drawn
        elif self.initial in SCHEMES:
            positions = initial_values(self.module, self.parameters, self.initial, walkers, generator)
        elif self.initial == "reinitialise":
            seeds = torch.randint(2**62, (walkers,), generator=generator, device=generator.device).tolist()
            positions = torch.stack([self._reinitialised(seed) for seed in seeds]).to(generator.device)
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

    def _reinitialised(self, seed: int) -> Tensor:
        """Values of a copy whose layers were reset; torch's global generator is left as it was."""
        module = copy.deepcopy(self.module)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
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
        return self._own_values(module)

    # ------------------------------------------------------------------ checks and record

    def _trial_module(self) -> nn.Module:
        """A copy of the module with finite parameters; values that walkers would start with must be so already."""
        module = copy.deepcopy(self.module).to("cpu", torch.float32)
        generator = torch.Generator().manual_seed(0)
        for name, p in module.named_parameters():
            bad = int((~torch.isfinite(p)).sum())
            if not bad:
                continue
            if self.initial == "module" or not p.requires_grad:
                remedy = ", or start with initial='reinitialise'" if p.requires_grad else ""
                raise InputError(
                    f"NeuralNetwork: {bad} of {p.numel()} values of the parameter {name!r} are NaN or infinite; "
                    f"repair the module{remedy}"
                )
            with torch.no_grad():  # the walkers start elsewhere: any values will do for the trial
                p.copy_(0.1 * torch.randn(p.shape, generator=generator))
        return module

    def _trial_outputs(self, module: nn.Module, split: str, x: Tensor) -> Tensor:
        """Outputs of a few points, after checking that the module is deterministic point by point."""
        few = single(x[:8])
        try:
            refuse_unfit("NeuralNetwork", module, few)
            with torch.no_grad():
                return module(few)
        except InputError:
            raise
        except Exception as error:
            kind = "" if x.is_floating_point() else f"{str(x.dtype).removeprefix('torch.')} "
            raise InputError(
                f"NeuralNetwork: the module cannot evaluate {kind}{split} points of shape {tuple(x.shape[1:])}: "
                f"{first_line(error)}; change the module or the points"
            ) from error

    def _checked_targets(self, split: str, targets: Tensor, outputs: Tensor) -> Tensor:
        what, classes = f"NeuralNetwork: {split} targets", outputs.shape[1]
        if self.loss_function == "cross_entropy":
            if targets.is_floating_point() or targets.ndim != 1:
                raise InputError(f"{what} must be integer labels [N] for cross-entropy; use loss='mse' for values")
            low, high = int(targets.min()), int(targets.max())
            if low < 0 or high >= classes:
                raise InputError(
                    f"{what} reach from {low} to {high}, but the module has {classes} outputs: "
                    f"labels must lie in 0 ... {classes - 1}"
                )
            return targets.long()
        if self.loss_function == "mse":
            targets = targets[:, None] if targets.ndim == 1 else targets
            if targets.shape[1:] != outputs.shape[1:]:
                raise InputError(
                    f"{what} have shape {tuple(targets.shape)} for {classes} outputs; give [N, {classes}] values"
                )
            return targets.to(torch.float64)
        return targets

    def describe(self) -> dict[str, Any]:
        """Sizes, loss, potential, box and checksums of the data, for the record and for resume."""
        return {
            "type": type(self).__name__,
            "parameters": self.parameters,
            "module": str(self.module),
            "walkers": self.kind,
            "loss": describe(self.loss_function),
            "potential": describe(self.potential),
            "box": describe(self.box),
            "initial": [self.initial, self.initial_scale],
            "data": {split: [describe(x), describe(y)] for split, (x, y) in self._data.items()},
        }


def _children_first(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """All layers with their names, each after the layers it is made of, in which order they were initialised."""
    order: list[tuple[str, nn.Module]] = []
    for name, child in module.named_children():
        order += [(f"{name}.{inner}" if inner else name, layer) for inner, layer in _children_first(child)]
    return [*order, ("", module)]
