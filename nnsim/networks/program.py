"""A network as a program: its operations in their order, found by tracing its module.

Whoever computes with a network in an own way, layer by layer or in compiled code, goes by its program; what cannot be
traced (control flow that depends on data, recurrent layers, calls that are not known) keeps the general way.
"""

from __future__ import annotations

import copy
import operator
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from nnsim.errors import first_line
from nnsim.networks.checks import has_hooks, some_of
from nnsim.networks.modes import undisturbed
from nnsim.networks.operations import Operation, Place
from nnsim.networks.vocabulary import FUNCTIONS, METHODS, MODULES
from nnsim.networks.writer import TRIAL, Untraced, Value, Writer

# Modules whose output is a tensor of its own, which may be changed in place.
_FRESH = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


@dataclass(frozen=True)
class Program:
    """What a network computes.

    Attributes:
        operations: in their order; see `nnsim.networks.operations`.
        places: of each parameter that moves, in the order of the flat positions; an operation that reads it holds the
            same place, two do if the parameter is used twice.
        fixed: the tensors that stay as they are, by name.
        result: number of the value that comes out.
    """

    operations: tuple[Operation, ...]
    places: Mapping[str, Place]
    fixed: Mapping[str, Tensor]
    result: int

    def readers(self, value: int) -> list[int]:
        """Numbers of the operations that read a value."""
        return [number for number, one in enumerate(self.operations) if value in one.reads]

    def users(self, parameter: str) -> list[int]:
        """Numbers of the operations that take a parameter."""
        return [
            number
            for number, one in enumerate(self.operations)
            if any(place.name == parameter for place in one.parameters.values())
        ]

    def outputs(self, positions: Tensor, x: Tensor) -> Tensor:
        """Outputs [N, C] of positions [n] at points x [N, ...]: the meaning of the program, operation by operation."""
        values = [x]
        for one in self.operations:
            tensors = {key: self.tensor(place, positions) for key, place in one.parameters.items()}
            values.append(one([values[number] for number in one.reads], tensors))
        return values[self.result]

    def tensor(self, place: Place, positions: Tensor) -> Tensor:
        """The tensor that lies at a place, in the type of the positions [n]."""
        if place.at is not None:
            return positions[place.at].view(place.shape)
        fixed = self.fixed[place.name].to(positions.device)
        return fixed.to(positions.dtype) if fixed.is_floating_point() else fixed


@undisturbed
def program_of(
    module: nn.Module, points: Tensor | None = None, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Program | str:
    """The program of a module, or in words what of it cannot be traced.

    Args:
        module: is not changed.
        points: some points [N, ...]: operations then have shapes, and the program is compared with the module at
            random parameters. Without them what asks for a shape is not traced.
        shapes: names and shapes of the parameters that move, in the order of the flat positions; None is all that are
            trainable.
    """
    if not isinstance(module, nn.Module):
        return f"a {type(module).__name__} is no torch module"
    if shapes is None:
        shapes = {name: tuple(p.shape) for name, p in module.named_parameters() if p.requires_grad}
    try:
        _refuse_extras(module)
        program = _traced(copy.deepcopy(module), points, shapes)
        if points is not None:
            _refuse_other_outputs(program, module, some_of(points, TRIAL))
    except Untraced as reason:
        return str(reason)
    except Exception as error:  # the forward of a user's module may do anything, and so fail in any way
        return f"{type(error).__name__}: {first_line(error)}"
    return program


def _refuse_extras(module: nn.Module) -> None:
    """What happens where layers are called, beside their forward."""
    for name, part in module.named_modules():
        what = f"layer {name or 'module'!r} ({type(part).__name__})"
        if has_hooks(part):
            raise Untraced(f"{what} has a hook")
        if parametrize.is_parametrized(part):
            raise Untraced(f"{what} is parametrised (torch.nn.utils.parametrize)")


# ---------------------------------------------------------------------- tracing


# While a module is traced, torch lets calls of modules in all threads go by the tracer; two at once would mix them up.
_ONE_AT_A_TIME = threading.Lock()


class _Proxy(fx.Proxy):
    """Stands for a tensor while a module is traced; torch's own takes x += 1 for x = x + 1."""

    def __iadd__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})


class _Whole(nn.Module):
    """A module called with points alone, so that other arguments of its forward have their defaults."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Any) -> Any:
        returned = self.module(x)
        return returned if isinstance(returned, fx.Proxy) else getattr(returned, "logits", returned)


class _Tracer(fx.Tracer):
    """Notes the calls of known layers, functions and methods; refuses what a list of calls does not tell."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in MODULES or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_node(self, *args: Any, **settings: Any) -> fx.Node:
        # So it is in the forward of an own autograd.Function, too, whose gradient is another one.
        if not torch.is_grad_enabled():
            raise Untraced("a part of it is computed without gradients, or has gradients of its own")
        if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            raise Untraced("a part of it is computed under autocast")
        return super().create_node(*args, **settings)


def _traced(module: nn.Module, points: Tensor | None, shapes: Mapping[str, tuple[int, ...]]) -> Program:
    writer = Writer(module, shapes, points)
    whole = _Whole(module)
    with _ONE_AT_A_TIME, torch.enable_grad(), torch.random.fork_rng(devices=[]):
        try:
            graph = _Tracer().trace(whole)
        except fx.proxy.TraceError as error:
            raise Untraced("control flow, or a loop, that depends on data") from error
    writer.fresh = frozenset(
        node for node in graph.nodes
        if node.op == "call_module" and isinstance(whole.get_submodule(str(node.target)), _FRESH)
    )  # fmt: skip
    values: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node.op == "output":
            result = fx.node.map_arg(node.args[0], values.__getitem__)
        elif node.op == "placeholder":
            values[node] = Value(0)
        else:  # also what nobody reads, which may still change something
            values[node] = _read(writer, whole, node, values)
    if not isinstance(result, Value):
        raise Untraced("it returns something else than a tensor that it computed")
    return Program(tuple(writer.operations), writer.places, writer.fixed, result.number)


def _read(writer: Writer, whole: nn.Module, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    """What a call makes, after it is written down."""
    if node.op == "get_attr":
        tensor = operator.attrgetter(str(node.target))(whole)
        if not isinstance(tensor, Tensor):
            raise Untraced(f"it reads {node.target}")
        return writer.place(tensor)
    args: Any = fx.node.map_arg(node.args, values.__getitem__)
    named = fx.node.map_arg(node.kwargs, values.__getitem__)
    reader: Any
    if node.op == "call_module":
        name = str(node.target).removeprefix("module").removeprefix(".")
        module = whole.get_submodule(str(node.target))
        writer.layer, what = name, f"layer {name or 'module'!r} ({type(module).__name__})"
        reader, args = MODULES.get(type(module)), (module, *args)
    else:
        name = str(getattr(node.target, "__name__", node.target))
        writer.layer, what = name, f"the function {name}"
        reader = METHODS.get(name) if node.op == "call_method" else FUNCTIONS.get(node.target)
    if reader is None:
        raise Untraced(f"{what} is not known")
    writer.node = node
    try:
        return reader(writer, *args, **named)
    except Untraced as reason:
        raise Untraced(f"{what}: {reason}") from reason
    except TypeError as error:  # a call with other arguments than the reader has
        raise Untraced(f"{what} is called in an unusual way ({first_line(error)})") from error


# ---------------------------------------------------------------------- the check


def _refuse_other_outputs(program: Program, module: nn.Module, x: Tensor) -> None:
    """Compare with the module itself, in double precision, at random parameters: what a trace misses shows there."""
    trial = copy.deepcopy(module).double()
    generator = torch.Generator().manual_seed(0)
    named = dict(trial.named_parameters())
    x = x.double() if x.is_floating_point() else x
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for name in program.places:
            drawn = 0.3 * torch.randn(named[name].shape, generator=generator, dtype=torch.float64)
            named[name].add_(drawn.to(named[name].device))
        parts = [named[name].flatten() for name in program.places]
        positions = torch.cat(parts) if parts else torch.empty(0, dtype=torch.float64)
        returned = trial(x.clone())
        expected = returned if isinstance(returned, Tensor) else returned.logits
        found = program.outputs(positions, x)
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-9, atol=1e-9, equal_nan=True):
        raise Untraced("its program gives other outputs than the module itself")
