"""The tangent kernel of a torch module, by a call; `tangent.py` says how it is computed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nnsim.cv.ntk.tangent import TangentKernel
from nnsim.errors import InputError, require_flag, shown
from nnsim.networks.copies import evaluated_copy, unwrapped
from nnsim.networks.layout import Layout
from nnsim.networks.modes import undisturbed


@undisturbed
def kernel(
    module: nn.Module,
    points: Tensor,
    *,
    outputs: str = "mean",
    positions: Tensor | None = None,
    batch_size: int | None = None,
    method: str = "auto",
    max_memory: float | None = None,
    create_graph: bool = False,
) -> Tensor:
    r"""The empirical neural tangent kernel of a module on points.

    With `outputs="mean"` K_ij = (1 / O) sum_a sum_theta df_a(x_i)/dtheta df_a(x_j)/dtheta, [N, N]; with `"all"` all
    pairs of outputs, [N O, N O], sample-major. Parameters with `requires_grad=False` do not count.

    Args:
        module: maps points [N, ...] to outputs [N, O], each point by itself.
        points: [N, ...], converted to the type of the module's parameters unless they are integers.
        outputs: `"mean"` or `"all"`.
        positions: parameters [W, n] of several walkers, in the order of `module.named_parameters()`; the result is
            then [W, size, size]. It is differentiable if they need a gradient. None is the module's own.
        batch_size: points that are dealt with together; None is as many as memory allows. The result does not depend
            on it but for rounding.
        method: `"auto"`; `"layerwise"`, which insists on rules for all parameters; or `"jacobian"`, which uses none.
        max_memory: bytes that may be used; None is half of what is free.
        create_graph: make the result differentiable with respect to the module's own parameters.

    Raises:
        InputError: no points, points that the module cannot evaluate or that are not finite, outputs that are not
            [N, O], a module that is random or mixes points (such as BatchNorm in training mode), too little memory.

    Reference: arXiv 2410.07451; see `nnsim.cv.ntk.tangent` for the ways it is computed.

    >>> import torch
    >>> from nnsim.cv import ntk
    >>> ntk.kernel(torch.nn.Linear(3, 2), torch.eye(3))  # x x' + 1
    tensor([[2., 1., 1.],
            [1., 2., 1.],
            [1., 1., 2.]])
    """
    tangent, own, x = _prepared(module, points, positions, method, create_graph)
    found = tangent.kernel(own, x, outputs=outputs, batch_size=batch_size, max_memory=max_memory)
    return found if positions is not None else found[0]


@undisturbed
def diagonal(
    module: nn.Module,
    points: Tensor,
    *,
    outputs: str = "mean",
    positions: Tensor | None = None,
    batch_size: int | None = None,
    method: str = "auto",
    max_memory: float | None = None,
    create_graph: bool = False,
) -> Tensor:
    """The diagonal of `kernel`, [size] or [W, size], at the cost of N points instead of N^2 pairs; same arguments."""
    tangent, own, x = _prepared(module, points, positions, method, create_graph)
    found = tangent.diagonal(own, x, outputs=outputs, batch_size=batch_size, max_memory=max_memory)
    return found if positions is not None else found[0]


def _prepared(
    module: nn.Module, points: Tensor, positions: Tensor | None, method: str, create_graph: bool
) -> tuple[TangentKernel, Tensor, Tensor]:
    """The kernel's ways, the positions [W, n] and the points, all checked."""
    if not isinstance(module, nn.Module):
        raise InputError(f"ntk: module is a {type(module).__name__}; give a torch.nn.Module")
    module = unwrapped(module)
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not named:
        raise InputError("ntk: the module has no trainable parameters; set requires_grad=True on some")
    dtype = next(iter(named.values())).dtype
    if any(p.dtype != dtype for p in named.values()):
        raise InputError("ntk: the parameters are of several types; convert the module, as by module.double()")
    create_graph = require_flag("ntk", "create_graph", create_graph)
    layout = Layout({name: tuple(p.shape) for name, p in named.items()})
    x = checked_points(points, dtype)
    if positions is None:
        flat = torch.cat([p.flatten() for p in named.values()])[None]
        positions = flat if create_graph else flat.detach()
    elif not isinstance(positions, Tensor) or not positions.is_floating_point():
        raise InputError(f"ntk: positions = {shown(positions)} must be a tensor of floats; give [W, n], or None")
    elif positions.ndim != 2 or positions.shape[1] != sum(layout.sizes):
        raise InputError(
            f"ntk: positions have shape {tuple(positions.shape)}, but the module has {sum(layout.sizes)} parameters; "
            "give [W, n]"
        )
    # A copy, since layers may change their buffers when they are called.
    return TangentKernel(evaluated_copy(module, "ntk"), layout, x, dtype=dtype, method=method, check=True), positions, x


def checked_points(points: object, dtype: torch.dtype) -> Tensor:
    """Points [N, ...] in the type of the module, unless they are integers; raises `InputError` for none or NaN."""
    if not isinstance(points, Tensor):
        raise InputError(f"ntk: points are a {type(points).__name__}; give a tensor [N, ...]")
    if points.ndim < 1 or not len(points):
        raise InputError(f"ntk: points of shape {tuple(points.shape)} hold no point (N = 0); give at least one")
    if not points.is_floating_point():
        return points
    if not bool(torch.isfinite(points.sum())) and (bad := int((~torch.isfinite(points)).sum())):
        raise InputError(f"ntk: {bad} values of the points are NaN or infinite; clean the data first")
    return points.to(dtype)
