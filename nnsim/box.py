"""Where the positions may live: reflecting, periodic or open boxes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from nnsim.errors import InputError, require_choice, require_integer, require_number, require_numbers, shown
from nnsim.random.streams import Purpose, RandomStreams

KINDS = ("reflecting", "periodic", "open")

Limits = float | Sequence[float] | np.ndarray | Tensor


class Box:
    """A box [lower, upper] for every parameter.

    Args:
        limit: the box is [-limit, limit]; a number above 0, or one for each parameter [n] (see `per_tensor_limits`).
        lower, upper: instead of `limit`, the two edges, numbers or [n].
        kind: `"reflecting"` (a position beyond an edge is mirrored and its velocity reversed), `"periodic"` (it
            re-enters on the other side) or `"open"` (no edges; takes no limits).

    Raises:
        InputError: an edge is no number or not finite, limit <= 0, lower >= upper, or an unknown kind.

    >>> from nnsim import Box
    >>> Box(0.8)
    Box(reflecting, [-0.8, 0.8])
    """

    _everywhere = False

    def __init__(
        self,
        limit: Limits | None = None,
        *,
        lower: Limits | None = None,
        upper: Limits | None = None,
        kind: str = "reflecting",
    ) -> None:
        self.kind = require_choice("Box", "kind", kind, KINDS)
        if kind == "open":
            if not (limit is None and lower is None and upper is None):
                raise InputError("Box: an open box has no limits; leave limit, lower and upper out")
            lower, upper = -math.inf, math.inf
        elif limit is not None:
            if lower is not None or upper is not None:
                raise InputError("Box: give either limit, or lower and upper, not both")
            upper = _positive(limit)
            lower = -upper
        elif lower is None or upper is None:
            raise InputError(f"Box: a {kind} box needs limit, or lower and upper; give them")
        self.lower, self.upper = require_numbers("Box", "lower", lower), require_numbers("Box", "upper", upper)
        self._edges = (self.lower, self.upper)
        sizes = {edge.numel() for edge in self._edges if edge.ndim}
        if len(sizes) > 1:
            raise InputError(
                f"Box: lower has {self.lower.numel()} values and upper {self.upper.numel()}; give as many of each"
            )
        if kind != "open" and not bool(torch.isfinite(self.lower + self.upper).all()):
            raise InputError("Box: a limit is not finite; for parameters without limits use Box(kind='open')")
        if bool((self.lower >= self.upper).any()):
            raise InputError(f"Box: lower = {_span(self.lower)} must be below upper = {_span(self.upper)}; swap them")

    def prepare(self, dtype: torch.dtype, device: torch.device) -> None:
        """Bring the edges to the type and device of the positions."""
        # From the original values: a system may be used in single precision first and then in double.
        self.lower, self.upper = (edge.to(device, dtype) for edge in self._edges)
        self._everywhere = device.type != "cpu"

    def check_size(self, n: int) -> None:
        """Raise `InputError` unless the limits fit n parameters."""
        for edge in (self.lower, self.upper):
            if edge.ndim and edge.shape != (n,):
                raise InputError(f"Box: {edge.numel()} limits for {n} parameters; give one number or one for each")

    @property
    def period(self) -> Tensor | None:
        """Width of a periodic box, a number or [n]; None of another one, in which nothing comes round."""
        return self.upper - self.lower if self.kind == "periodic" else None

    def nearest(self, difference: Tensor) -> Tensor:
        """Differences of positions [..., n], in a periodic box to the nearest image: none exceeds half of its width."""
        period = self.period
        return difference if period is None else difference - period * torch.round(difference / period)

    def contains(self, positions: Tensor) -> Tensor:
        """Whether each walker [W] lies inside, for positions [W, n]."""
        return ((positions >= self.lower) & (positions <= self.upper)).all(-1)

    def project(self, positions: Tensor) -> Tensor:
        """The nearest positions inside, for positions [..., n]; where nothing is a wall they stay as they are."""
        if self.kind != "reflecting":
            return positions
        return positions.clamp(self.lower.to(positions), self.upper.to(positions))

    def confine_(self, positions: Tensor, velocities: Tensor | None = None) -> None:
        """Bring positions [W, n] back into the box in place, reversing velocities [W, n] where they are mirrored."""
        if self.kind == "open":
            return
        if self._everywhere:
            self._confine_all_(positions, velocities)
            return
        # Few coordinates leave the box in one step, so only those are touched.
        where = ((positions < self.lower) | (positions > self.upper)).view(-1).nonzero()[:, 0]
        if not len(where):
            return
        lower, upper = (edge[where % len(edge)] if edge.ndim else edge for edge in (self.lower, self.upper))
        width = upper - lower
        beyond = positions.view(-1)[where] - lower
        if self.kind == "periodic":
            positions.view(-1)[where] = lower + torch.remainder(beyond, width)
            return
        # A long jump may cross the box several times: unfold onto a circle of twice the width.
        along = torch.remainder(beyond, 2 * width)
        mirrored = along > width
        positions.view(-1)[where] = lower + torch.where(mirrored, 2 * width - along, along)
        if velocities is not None:
            flat = velocities.view(-1)
            flat[where] = torch.where(mirrored, -flat[where], flat[where])

    def everywhere(self) -> None:
        """From here on look at all coordinates, so that `confine_` never waits to learn which have left the box."""
        self._everywhere = True

    def _confine_all_(self, positions: Tensor, velocities: Tensor | None) -> None:
        """The same in all places."""
        left, width = (positions < self.lower) | (positions > self.upper), self.upper - self.lower
        beyond = positions - self.lower
        if self.kind == "periodic":
            positions.copy_(torch.where(left, self.lower + torch.remainder(beyond, width), positions))
            return
        along = torch.remainder(beyond, 2 * width)
        mirrored = left & (along > width)
        if velocities is not None:
            velocities.copy_(torch.where(mirrored, -velocities, velocities))
        positions.copy_(torch.where(left, self.lower + torch.where(mirrored, 2 * width - along, along), positions))

    def uniform(self, walkers: int, n: int, generator: torch.Generator) -> Tensor:
        """Positions [walkers, n] drawn uniformly from the box."""
        if self.kind == "open":
            raise InputError("Box: an open box has no uniform distribution; choose another start or a closed box")
        drawn = RandomStreams.of(generator).uniform(Purpose.START, (walkers, n))
        lower, upper = self.lower.to(drawn), self.upper.to(drawn)
        return lower + (upper - lower) * drawn

    def describe(self) -> dict[str, object]:
        """Kind, range of the edges, and edges, for the record."""
        span: dict[str, object] = {"kind": self.kind, "lower": _span(self.lower), "upper": _span(self.upper)}
        if self.kind == "open":
            return span
        return {**span, "edges": dict(zip(("lower", "upper"), self._edges, strict=True))}  # of each parameter, exactly

    def record(self) -> dict[str, object]:
        """Kind and exact edges, for the head of a trajectory: a number, or [value, how many] of each run of equal ones.

        Limits mostly are one for each tensor, so that millions of parameters make a short list.
        """
        if self.kind == "open":
            return {"kind": self.kind}
        lower, upper = (_runs(edge) for edge in self._edges)
        return {"kind": self.kind, "lower": lower, "upper": upper}

    def __repr__(self) -> str:
        return "Box(open)" if self.kind == "open" else f"Box({self.kind}, [{_span(self.lower)}, {_span(self.upper)}])"


def _positive(limit: Limits) -> Tensor:
    """The limit as numbers; one that is NaN passes, since the message about edges that are not finite is better."""
    numbers = require_numbers("Box", "limit", limit)
    if bool((numbers <= 0).any()):
        raise InputError(f"Box: limit = {_span(numbers)} must be above 0: the box is [-limit, limit]; change limit")
    return numbers


def _span(edge: Tensor) -> str:
    low, high = float(edge.min()), float(edge.max())
    return f"{low:g}" if low == high else f"{low:g}..{high:g}"


def _runs(edge: Tensor) -> float | list[list[float]]:
    values, counts = torch.unique_consecutive(edge.reshape(-1), return_counts=True)
    if len(values) == 1:
        return float(values)
    return [[value, count] for value, count in zip(values.tolist(), counts.tolist(), strict=True)]


def per_tensor_limits(shapes: Iterable[tuple[int, ...]], scale: float) -> Tensor:
    r"""Limits of each parameter [n] by the rule of the papers' scripts: one for each tensor.

    A weight of two or more dimensions gets +-scale / sqrt(numel / shape[1]), which is the fan-out of a linear layer;
    every other tensor (a bias) gets +-scale / sqrt(numel). They use scale = 2 for classification, 3 for regression.

    Args:
        shapes: shape of each parameter tensor, in the order of the positions.
        scale: above 0.

    Reference: arXiv 2503.13145, public scripts.
    """
    scale = require_number("per_tensor_limits", "scale", scale, above=0.0)
    if isinstance(shapes, (str, bytes)) or not hasattr(shapes, "__iter__") or getattr(shapes, "ndim", 1) == 0:
        raise InputError(
            f"per_tensor_limits: shapes = {shown(shapes)} must be the shapes of the tensors, such as [(3, 2), (3,)]; "
            "give a list"
        )
    limits = []
    for shape in map(_sizes, shapes):
        numel = math.prod(shape)
        fan = numel / shape[1] if len(shape) > 1 else numel
        limits.append(torch.full((numel,), scale / math.sqrt(fan), dtype=torch.float64))
    if not limits:
        raise InputError("per_tensor_limits: shapes = [] must hold the shape of one tensor or more; give them")
    return torch.cat(limits)


def _sizes(shape: object) -> list[int]:
    if not isinstance(shape, Sequence) or isinstance(shape, (str, bytes)):
        raise InputError(f"per_tensor_limits: {shown(shape)} in shapes must be a shape, such as (3, 2); change shapes")
    return [require_integer("per_tensor_limits", "a size in shapes", size, least=1) for size in shape]
