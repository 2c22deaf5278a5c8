"""What a module and its data must fulfil to become a system."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nnsim.errors import InputError
from nnsim.networks.checks import first_line

Data = tuple[Tensor, Tensor]


def checked_parameters(module: object) -> dict[str, nn.Parameter]:
    """The trainable parameters by name, after checking that the module has some and can be called with others."""
    if not isinstance(module, nn.Module):
        raise InputError(f"NeuralNetwork: module is a {type(module).__name__}; give a torch.nn.Module")
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
    trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not trainable:
        raise InputError("NeuralNetwork: the module has no trainable parameters; set requires_grad=True on some")
    return trainable


def checked_points(split: str, data: Data) -> Data:
    """The points and targets as tensors of equal length without NaN."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise InputError(f"NeuralNetwork: {split} must be a pair (points, targets)")
    x, y = (_as_tensor(split, name, values) for name, values in zip(("points", "targets"), data, strict=True))
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


def _as_tensor(split: str, name: str, values: object) -> Tensor:
    try:
        tensor = torch.as_tensor(values).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        remedy = "number the classes 0 ... C-1" if name == "targets" else "convert them to a numeric array"
        raise InputError(
            f"NeuralNetwork: {split} {name} cannot be turned into a tensor of numbers ({first_line(error)}); {remedy}"
        ) from None
    if tensor.ndim < 1 or tensor.is_complex():
        raise InputError(
            f"NeuralNetwork: {split} {name} have shape {tuple(tensor.shape)} and type {tensor.dtype}; "
            "give real numbers, one row for each point"
        )
    return tensor


def fitting(module: nn.Module, x: Tensor) -> Tensor:
    """Points x [N, ...] as they are, or as floats if they are integers and the module takes floats only."""
    if x.is_floating_point() or _evaluates(module, x[:2]):
        return x
    small = x.dtype in (torch.bool, torch.uint8, torch.int8, torch.int16)  # exact in single precision
    converted = x.to(torch.float32 if small else torch.float64)
    return converted if _evaluates(module, single(converted[:2])) else x


def single(x: Tensor) -> Tensor:
    """Points in single precision, unless they are integers."""
    return x.float() if x.is_floating_point() else x


def _evaluates(module: nn.Module, x: Tensor) -> bool:
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            module(x)
    except Exception:  # of any type; the trial that follows reports it
        return False
    return True
