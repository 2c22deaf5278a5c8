"""What a module and its data must fulfil to become a system."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nnsim.box import Box
from nnsim.errors import InputError, NNSimError, first_line, require_integer, shown
from nnsim.networks.call import outputs_of
from nnsim.networks.checks import refuse_rounding, refuse_unfit, some_of
from nnsim.networks.copies import evaluated_copy, unwrapped
from nnsim.systems.data import Data, gathered, generators_kept


def made(module: Any, seed: object) -> tuple[nn.Module, int | None]:
    """A module as one process evaluates it, and the seed that it was made with, if it is given as a function."""
    number = require_integer("NeuralNetwork", "seed", seed, least=0)
    if isinstance(module, nn.Module):
        if number:
            raise InputError(
                f"NeuralNetwork: seed = {number} has no effect on a module that is made already; give a function that "
                "makes it, such as lambda: torch.nn.Linear(4, 2), or leave seed out"
            )
        return unwrapped(module), None
    if number >= 2**32:
        raise InputError(f"NeuralNetwork: seed = {number} must be below 2^32, since torch takes no more; change seed")
    what = f"NeuralNetwork: module is a {type(module).__name__}; give a torch.nn.Module, or a function"
    if not callable(module):
        raise InputError(f"{what} without arguments that makes one")
    try:
        with generators_kept(number):
            found = module()
    except NNSimError:
        raise
    except Exception as error:
        raise InputError(
            f"{what} without arguments that makes one (it fails: {type(error).__name__}: {first_line(error)})"
        ) from error
    if not isinstance(found, nn.Module):
        raise InputError(f"NeuralNetwork: the function module returns a {type(found).__name__}; it must make a Module")
    return unwrapped(found), number


def checked_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters by name, after checking that there are some, and that others can stand in for them."""
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise InputError(
            "NeuralNetwork: the module is compiled by TorchScript, which cannot be called with the parameters of other "
            "walkers; give the module as it was before torch.jit.script or torch.jit.trace"
        )
    for name, p in module.named_parameters():
        if isinstance(p, nn.parameter.UninitializedParameter):
            raise InputError(
                f"NeuralNetwork: the parameter {name!r} is not initialised, so its shape is unknown; "
                "call the module once on some points first"
            )
        if p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None):
            raise InputError(
                f"NeuralNetwork: the parameter {name!r} has a hook on its gradient, which would not be called: forces "
                "are the gradient itself; remove the hook, by handle.remove()"
            )
    for name, part in module.named_modules():
        if part._backward_hooks or part._backward_pre_hooks:
            raise InputError(
                f"NeuralNetwork: layer {name or 'module'!r} ({type(part).__name__}) has a backward hook, which may "
                "change gradients, but forces must be the gradient itself; remove the hook, by handle.remove()"
            )
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if value.is_complex():
            raise InputError(
                f"NeuralNetwork: {name!r} is complex, but parameters and buffers are turned into real numbers; keep "
                "its real and imaginary parts, as by torch.view_as_real"
            )
    trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not trainable:
        raise InputError("NeuralNetwork: the module has no trainable parameters; set requires_grad=True on some")
    return trainable


def checked_box(owner: str, box: Any) -> Any:
    """The box, after checking that it is an object that can hold positions; None is an open one."""
    box = Box(kind="open") if box is None else box
    if isinstance(box, type) or not all(hasattr(box, name) for name in ("kind", "check_size", "contains")):
        raise InputError(f"{owner}: box = {shown(box)} must be a box; give nnsim.Box(limit) or nnsim.Lattice(...)")
    return box


def checked_points(split: str, data: object, max_memory: float) -> Data:
    """The points and targets as tensors of equal length without NaN."""
    x, y = gathered(split, data, max_memory)
    if len(x) == len(y) == 0:
        raise InputError(f"NeuralNetwork: {split} is empty; give at least one point with its target")
    if len(x) != len(y):
        raise InputError(
            f"NeuralNetwork: {split} has {tuple(x.shape)} points and {tuple(y.shape)} targets; lengths must agree"
        )
    for name, values in (("points", x), ("targets", y)):
        if values.is_floating_point() and not bool(torch.isfinite(values).all()):
            count = int((~torch.isfinite(values)).sum())
            raise InputError(f"NeuralNetwork: {count} {split} {name} are NaN or infinite; clean the data first")
    return x, y


def trial_module(module: nn.Module, starts_there: bool) -> nn.Module:
    """A copy in single precision with finite parameters; values that walkers start with must be so already."""
    trial = evaluated_copy(module).to("cpu", torch.float32)
    generator = torch.Generator().manual_seed(0)
    for name, p in trial.named_parameters():
        bad = int((~torch.isfinite(p)).sum())
        if not bad:
            continue
        if starts_there or not p.requires_grad:
            remedy = ", or start with initial='reinitialise'" if p.requires_grad else ""
            raise InputError(
                f"NeuralNetwork: {bad} of {p.numel()} values of the parameter {name!r} are NaN or infinite; "
                f"repair the module{remedy}"
            )
        with torch.no_grad():  # the walkers start elsewhere: any values will do for the trial
            p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    return trial


def trial_outputs(module: nn.Module, split: str, x: Tensor) -> Tensor:
    """Outputs of a few points, after checking that the module is deterministic point by point."""
    few = some_of(single(x), 8)
    try:
        refuse_unfit("NeuralNetwork", module, few)
        with torch.no_grad():
            found: Tensor = outputs_of(module(few))
            return found
    except InputError:
        raise
    except Exception as error:
        kind = "" if x.is_floating_point() else f"{str(x.dtype).removeprefix('torch.')} "
        raise InputError(
            f"NeuralNetwork: the module cannot evaluate {kind}{split} points of shape {tuple(x.shape[1:])}: "
            f"{first_line(error)}; change the module or the points"
        ) from error


def refuse_other_precision(module: nn.Module, x: Tensor, dtype: torch.dtype) -> None:
    """Raise `InputError` for a module that does not compute outputs of points x [N, ...] in the type of its numbers."""
    try:
        with generators_kept():
            refuse_rounding("NeuralNetwork", dtype, lambda: outputs_of(module(x.clone())))
    except InputError:
        raise
    except Exception as error:
        name = str(dtype).removeprefix("torch.")
        raise InputError(
            f"NeuralNetwork: the module cannot be evaluated in {name} ({first_line(error)}); let its forward make "
            "constants of the type of its input, or choose another precision"
        ) from error


def fitting(module: nn.Module, x: Tensor) -> Tensor:
    """Points x [N, ...] in the form that the module takes: as they are, as floats, and each as a row if it is a number.

    Those that it takes in no form come back as they are; the trial that follows says why.
    """
    small = x.dtype in (torch.bool, torch.uint8, torch.int8, torch.int16)  # exact in single precision
    types = [x.dtype] if x.is_floating_point() else [x.dtype, torch.float32 if small else torch.float64]
    shapes = [x.shape, (len(x), 1)] if x.ndim == 1 else [x.shape]
    for dtype in types:
        for shape in shapes:
            if _gives_rows(module, single(x[:3].to(dtype)).reshape(min(3, len(x)), *shape[1:])):
                return x.to(dtype).reshape(shape)
    return x


def single(x: Tensor) -> Tensor:
    """Points in single precision, unless they are integers."""
    return x.float() if x.is_floating_point() else x


def _gives_rows(module: nn.Module, x: Tensor) -> bool:
    """Whether the module evaluates points x, as a copy that it may change, to one row for each."""
    try:
        with torch.no_grad(), generators_kept():
            outputs = outputs_of(module(x.clone()))
    except Exception:  # of any type; the trial that follows reports it
        return False
    return isinstance(outputs, Tensor) and outputs.ndim == 2 and len(outputs) == len(x)
