r"""Numbers that describe a tangent kernel K: entropy, trace, magnitudes and spectrum.

All take kernels [..., n, n], symmetric and positive semi-definite, of any float type, and differentiate where that
makes sense. Definitions: arXiv 2410.07451, and papers cited there.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from nnsim.errors import InputError, require_flag, shown

SMALLEST = 1e-14  # eigenvalues are clipped there: a kernel has exact zeros, and rounding makes some of them negative


def entropy(kernel: Tensor, *, normalised: bool = False) -> Tensor:
    r"""The von Neumann entropy of the kernel, S = -sum_i p_i ln p_i with p_i = lambda_i / sum_j lambda_j, in nats.

    Eigenvalues lambda are clipped at 1e-14 before. S is 0 for a kernel of rank one and ln n for a multiple of the
    identity; a kernel that is zero counts as the latter. The gradient is dS/dK = -(ln rho + S) / tr K with
    rho = K / tr K, taken with eigenvectors that are never differentiated themselves, so that equal eigenvalues do no
    harm.

    Args:
        kernel: K [..., n, n].
        normalised: divide by ln n, its largest value; the entropy of a kernel of one point is then 0.

    Returns:
        S [...], between 0 and ln n; NaN for a kernel that is not finite.

    Reference: arXiv 2410.07451, "NTK entropy".

    >>> import math, torch
    >>> from nnsim.cv import ntk
    >>> bool(torch.isclose(ntk.entropy(torch.eye(4)), torch.tensor(math.log(4))))
    True
    """
    size, normalised = _size(kernel), require_flag("ntk", "normalised", normalised)
    found: Tensor = _Entropy.apply(kernel)
    return found / math.log(size) if normalised and size > 1 else found


def trace(kernel: Tensor, *, per_row: bool = False) -> Tensor:
    """Sum of the diagonal, [...]; with `per_row` its mean."""
    size, per_row = _size(kernel), require_flag("ntk", "per_row", per_row)
    found = kernel.diagonal(dim1=-2, dim2=-1).sum(-1)
    return found / size if per_row else found


def covariance_entropy(kernel: Tensor, *, normalised: bool = False) -> Tensor:
    """The entropy of K_ij / sqrt(K_ii K_jj), which knows the angles between the gradients but not their lengths, [...].

    Points without any gradient count as at right angles to all others.
    """
    _size(kernel)
    diagonal = kernel.diagonal(dim1=-2, dim2=-1)
    scale = torch.where(diagonal > 0, diagonal, 1).rsqrt()
    covariance = kernel * scale[..., :, None] * scale[..., None, :]
    return entropy(covariance, normalised=normalised)


def magnitudes(diagonal: Tensor) -> Tensor:
    """How the lengths of the gradients are distributed over the points, sqrt(K_ii) / sum_j sqrt(K_jj), [..., n].

    Args:
        diagonal: K_ii [..., n].
    """
    _require_reals("diagonal", diagonal)
    if not diagonal.ndim or not diagonal.shape[-1]:
        raise InputError(f"ntk: a diagonal of shape {tuple(diagonal.shape)} must be [..., n] with n above 0; give one")
    dead = diagonal <= 0  # where the slope of a root is infinite; here it is zero
    lengths = torch.where(dead, 0, torch.where(dead, 1, diagonal).sqrt())
    total = lengths.sum(-1, keepdim=True)
    nothing = total == 0
    return torch.where(nothing, 1 / lengths.shape[-1], lengths / torch.where(nothing, 1, total))


def magnitude_entropy(diagonal: Tensor, *, normalised: bool = False) -> Tensor:
    """Shannon entropy of the magnitudes m, -sum_i m_i ln m_i, in nats, [...]; of the diagonal K_ii [..., n]."""
    m, normalised = magnitudes(diagonal), require_flag("ntk", "normalised", normalised)
    found = torch.special.entr(torch.where(m == 0, 1, m)).sum(-1)  # 0 ln 0 = 1 ln 1, but its slope is infinite
    size = diagonal.shape[-1]
    return found / math.log(size) if normalised and size > 1 else found


def magnitude_variance(diagonal: Tensor) -> Tensor:
    """Variance over the points of n m, the magnitudes in units of their mean, [...]; of the diagonal K_ii [..., n]."""
    m = magnitudes(diagonal)
    return (m.shape[-1] * m).var(-1, correction=0)


def spectrum(kernel: Tensor) -> Tensor:
    """Eigenvalues of K [..., n, n], the largest first, those that rounding has made negative as 0, [..., n]."""
    _size(kernel)
    kernel, finite = _finite(kernel)
    values = torch.linalg.eigvalsh(kernel).clamp_min(0).flip(-1)
    return torch.where(finite[..., None], values, math.nan)


def class_blocks(kernel: Tensor, labels: Tensor) -> dict[int, Tensor]:
    """The kernels of each class on its own: blocks of the whole, by label.

    Args:
        kernel: K [..., n, n], of N points (n = N) or of N points and O outputs, sample-major (n = N O).
        labels: class of each point, [N] integers.

    Raises:
        InputError: the number of labels does not divide the size of the kernel.
    """
    size = _size(kernel)
    if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        raise InputError(f"class_blocks: labels = {shown(labels)} must be a tensor [N] of integers; change labels")
    points = len(labels)
    if not points or size % points:
        raise InputError(f"class_blocks: {points} labels do not fit a kernel of size {size}; give one for each point")
    rows = labels.repeat_interleave(size // points)
    blocks = {}
    for label in labels.unique().tolist():
        chosen = (rows == label).nonzero()[:, 0]
        blocks[int(label)] = kernel[..., chosen[:, None], chosen]
    return blocks


def _size(kernel: Tensor) -> int:
    """The n of a kernel [..., n, n]; raises `InputError` for another shape."""
    _require_reals("kernel", kernel)
    if kernel.ndim < 2 or kernel.shape[-1] != kernel.shape[-2] or not kernel.shape[-1]:
        raise InputError(
            f"ntk: a kernel of shape {tuple(kernel.shape)} must be square, [..., n, n] with n above 0; give one"
        )
    return kernel.shape[-1]


def _require_reals(name: str, values: Any) -> None:
    """Raise `InputError` unless it is a tensor of real numbers, which all that is done here needs."""
    if not isinstance(values, Tensor) or not values.is_floating_point():
        given = f"a tensor of {values.dtype}" if isinstance(values, Tensor) else shown(values)
        raise InputError(f"ntk: {name} = {given} must be a tensor of floats; give what ntk.{name} gives")


def _finite(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """The kernels [..., n, n], zero where one holds a NaN (LAPACK refuses the whole batch), and which do not, [...]."""
    finite = torch.isfinite(kernel.sum((-2, -1)))
    if not bool(finite.all()):
        kernel = torch.where(finite[..., None, None], kernel, 0)
    return kernel, finite


class _Entropy(torch.autograd.Function):
    """Entropy of the eigenvalues, with the eigenvectors only where the gradient needs them."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor) -> Tensor:
        kernel, finite = _finite(kernel)
        if ctx.needs_input_grad[0]:
            values, vectors = torch.linalg.eigh(kernel)
        else:
            values, vectors = torch.linalg.eigvalsh(kernel), None
        kept = values.clamp_min(SMALLEST)
        total = kept.sum(-1, keepdim=True)
        p = kept / total
        found = torch.where(finite, torch.special.entr(p).sum(-1), math.nan)
        if vectors is not None:
            ctx.save_for_backward(kernel)  # so that a second derivative comes back here, to be refused
            slope = torch.where(values > SMALLEST, -(p.log() + found[..., None]) / total, 0)
            slope = torch.where(finite[..., None], slope, math.nan)
            ctx.slope, ctx.vectors = slope, vectors
        return found

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (kernel,) = ctx.saved_tensors
        way = _Slope.apply if torch.is_grad_enabled() else _slope
        found: Tensor = way(kernel, g, ctx.slope, ctx.vectors)
        return found


def _slope(kernel: Tensor, g: Tensor, slope: Tensor, vectors: Tensor) -> Tensor:
    """dS/dK from its eigenvalues and the eigenvectors of K, times g."""
    return (vectors * (slope * g[..., None])[..., None, :]) @ vectors.mT


class _Slope(torch.autograd.Function):
    """The gradient of the entropy; a node of its own, because `once_differentiable` would let a second one be wrong."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, g: Tensor, slope: Tensor, vectors: Tensor) -> Tensor:
        return _slope(kernel, g, slope, vectors)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        raise InputError("ntk.entropy: it can be differentiated once, not twice; use the eigenvalues of torch.linalg")
