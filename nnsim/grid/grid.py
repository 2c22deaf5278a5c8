r"""Grids in the space of the collective variables, and functions on them.

A grid divides [lower, upper] of each CV into equal bins. The centres of the bins are also the nodes of a uniform cubic
B-spline, so the same index means a bin (for counting) and a node (for interpolation):

    S(s) = sum_i c_i B((s - s_i) / h)        s_i = lower + (i + 1/2) h

with the cardinal cubic B-spline B. S is twice continuously differentiable in every dimension, and a deposit is an
addition to a few coefficients: nothing is solved. At an edge the coefficients are mirrored (c_{-1-i} = c_i), which
makes the slope there exactly zero, so S continues as a constant outside without a kink. A periodic CV wraps instead.

Reference: C. de Boor, A Practical Guide to Splines (1978), chapter IX.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnsim.errors import InputError, require_choice, require_flag, require_integer, require_number, shown

LARGEST = 2 * 10**8  # bins; two arrays of 8 bytes each

# Row p holds the coefficients of t^p of the four basis functions that overlap the interval between two nodes.
_BASIS = [[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]]
# The same for their derivatives with respect to t.
_SLOPE = [[-3, 0, 3, 0], [6, -12, 6, 0], [-3, 9, -9, 3], [0, 0, 0, 0]]


class Grid:
    """A grid in 1 to 3 collective variables.

    Args:
        lower, upper: edges, one number for each CV (a plain number for one CV), in the units of the CV.
        bins: number of bins for each CV, at least 4 for a spline.
        spacing: instead of `bins`, the width of a bin; it must divide the range to 1e-6 of a bin.
        periodic: for each CV, whether `upper` is the same point as `lower`.
        kind: `"spline"`, functions on the grid are C2 (for dynamics), or `"bins"`, they are constant in each bin (for
            Monte Carlo on levels).

    Raises:
        InputError: lower >= upper, no bins, more than 2e8 of them, more than 3 dimensions, or lengths that differ.

    >>> from nnsim import Grid
    >>> Grid(lower=(-6, -1), upper=(1, 11), spacing=(0.1, 0.5)).shape
    (70, 24)
    """

    def __init__(
        self,
        lower: float | Sequence[float],
        upper: float | Sequence[float],
        bins: int | Sequence[int] | None = None,
        *,
        spacing: float | Sequence[float] | None = None,
        periodic: bool | Sequence[bool] = False,
        kind: str = "spline",
    ) -> None:
        self.kind = require_choice("Grid", "kind", kind, ("spline", "bins"))
        lows, highs = _sequence(lower), _sequence(upper)
        if not 1 <= len(lows) <= 3 or len(lows) != len(highs):
            raise InputError(f"Grid: {len(lows)} lower and {len(highs)} upper edges; give one of each for 1 to 3 CVs")
        self.lower = tuple(require_number("Grid", "lower", value) for value in lows)
        self.upper = tuple(require_number("Grid", "upper", value) for value in highs)
        for low, high in zip(self.lower, self.upper, strict=True):
            if low >= high:
                raise InputError(f"Grid: lower = {low:g} must be below upper = {high:g}; swap or widen them")
        if (bins is None) == (spacing is None):
            raise InputError(f"Grid: bins = {shown(bins)} and spacing = {shown(spacing)}; give either bins or spacing")
        if spacing is not None:
            bins = self._bins_of(_fill(spacing, self.dimensions, "spacing"))
        least = 4 if kind == "spline" else 1
        counts = _fill(bins, self.dimensions, "bins")
        self.shape = tuple(require_integer("Grid", "bins", value, least=least) for value in counts)
        self._refuse_too_large()
        self.periodic = tuple(
            require_flag("Grid", "periodic", value) for value in _fill(periodic, self.dimensions, "periodic")
        )
        self.spacing = tuple((h - lo) / m for lo, h, m in zip(self.lower, self.upper, self.shape, strict=True))
        self.prepare(torch.device("cpu"))

    def _refuse_too_large(self) -> None:
        total = math.prod(self.shape)
        if total > LARGEST:
            raise InputError(
                f"Grid: bins = {self.shape} make {total:.3g} bins, {16e-9 * total:.3g} GB of memory for a bias and its "
                f"histogram; at most {LARGEST:.0e} are allowed, so take fewer bins or fewer CVs"
            )

    def _bins_of(self, spacing: list[float]) -> list[int]:
        counts = []
        for low, high, step in zip(self.lower, self.upper, spacing, strict=True):
            ratio = (high - low) / require_number("Grid", "spacing", step, above=0.0)
            if abs(ratio - round(ratio)) > 1e-6:
                raise InputError(
                    f"Grid: spacing = {step:g} does not divide [{low:g}, {high:g}]; change it or the edges"
                )
            counts.append(round(ratio))
        return counts

    @property
    def dimensions(self) -> int:
        """Number of CVs."""
        return len(self.lower)

    def centers(self, axis: int = 0) -> np.ndarray:
        """Centres of the bins along an axis."""
        return self.lower[axis] + (np.arange(self.shape[axis]) + 0.5) * self.spacing[axis]

    def edges(self, axis: int = 0) -> np.ndarray:
        """Edges of the bins along an axis, one more than the bins."""
        return self.lower[axis] + np.arange(self.shape[axis] + 1) * self.spacing[axis]

    def prepare(self, device: torch.device, compiled: bool = True) -> None:
        """Build the lookup tables on a device; on a CPU, functions are compiled unless told otherwise."""
        self._lower = torch.tensor(self.lower, dtype=torch.float64, device=device)
        self._upper = torch.tensor(self.upper, dtype=torch.float64, device=device)
        self.center = (self._lower + self._upper) / 2
        self._inverse = 1 / torch.tensor(self.spacing, dtype=torch.float64, device=device)
        self._bins = torch.tensor(self.shape, device=device)
        self._wraps = torch.tensor(self.periodic, device=device)
        self.strides = tuple(math.prod(self.shape[d + 1 :]) for d in range(self.dimensions))
        self._strides = torch.tensor(self.strides, device=device)
        polynomial = torch.tensor([b + s for b, s in zip(_BASIS, _SLOPE, strict=True)], dtype=torch.float64) / 6
        self._polynomial = polynomial.to(device)
        self._nodes = [self._node_table(d).to(device) * self.strides[d] for d in range(self.dimensions)]
        self._native = compiled and device.type == "cpu"
        if self._native:
            self.native_tables = (
                *(np.array(values, dtype=np.float64) for values in (self.lower, self.upper)),
                self._inverse.numpy(),
                self._bins.numpy(),
                self._wraps.numpy(),
            )
            self.native_nodes = _stack([nodes.numpy() for nodes in self._nodes])

    def _node_table(self, axis: int) -> Tensor:
        """For node index i - 2 outside and inside the grid, the index of the coefficient that stands for it."""
        m = self.shape[axis]
        index = torch.arange(-2, m + 2)
        if self.periodic[axis]:
            return index % m
        return torch.where(index < 0, -1 - index, torch.where(index >= m, 2 * m - 1 - index, index))

    # ------------------------------------------------------------------ points on the grid

    def inside(self, s: Tensor) -> Tensor:
        """Whether each s [W, k] lies on the grid, [W]; NaN does not."""
        return (((s >= self._lower) & (s <= self._upper)) | (self._wraps & torch.isfinite(s))).all(-1)

    def bin_indices(self, s: Tensor) -> Tensor:
        """Index of the bin along each axis, [W, k], for s [W, k] inside; the upper edge belongs to the last bin."""
        index = torch.floor((s - self._lower) * self._inverse).long()
        wrapped = torch.remainder(index, self._bins)
        return torch.where(self._wraps, wrapped, torch.minimum(index.clamp_min(0), self._bins - 1))

    def flat(self, indices: Tensor) -> Tensor:
        """Index into the flattened grid, [W], of bin indices [W, k]."""
        return (indices * self._strides).sum(-1)

    # ------------------------------------------------------------------ functions on the grid

    def evaluate(self, coefficients: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Value [W] and gradient [W, k] at s [W, k] of the function with `coefficients` (the grid's shape).

        Outside the grid the function is constant along the outward direction. With `kind="bins"` it is constant in
        each bin and the gradient is zero.
        """
        s = s.to(torch.float64)
        if self.kind == "bins":
            return coefficients.flatten()[self.flat(self.bin_indices(s))], torch.zeros_like(s)
        return self._evaluate_native(coefficients, s) if self._native else self._evaluate_torch(coefficients, s)

    def _evaluate_native(self, coefficients: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        from nnsim.grid import compiled as grid_native

        value, gradient, scratch = np.empty(len(s)), np.empty(tuple(s.shape)), native_scratch()
        flat, tables = coefficients.view(-1).numpy(), (*self.native_tables, self.native_nodes)
        grid_native.evaluate(flat, s.contiguous().numpy(), *tables, value, gradient, *scratch)
        return torch.from_numpy(value), torch.from_numpy(gradient)

    def _evaluate_torch(self, coefficients: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        finite = torch.isfinite(s)
        known = torch.where(finite, s, self._lower)  # an index cannot be NaN; the value becomes so below
        clamped = torch.where(self._wraps, known, torch.clamp(known, self._lower, self._upper))
        scaled = (clamped - self._lower) * self._inverse - 0.5
        floor = torch.floor(scaled)
        t = scaled - floor
        first = floor.long() + 1  # in the node table, of the node left of the interval
        first = torch.where(self._wraps, torch.remainder(first - 1, self._bins) + 1, first)
        powers = torch.stack((torch.ones_like(t), t, t * t, t * t * t), dim=-1)
        basis, slope = (powers @ self._polynomial).split(4, dim=-1)  # each [W, k, 4]
        slope = slope * self._inverse[:, None]
        value, gradient = self._contract(coefficients, first, basis, slope)
        gradient = torch.where(clamped == known, gradient, 0.0)
        finite = finite.all(-1)
        return torch.where(finite, value, math.nan), torch.where(finite[:, None], gradient, math.nan)

    def _contract(self, coefficients: Tensor, first: Tensor, basis: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over the 4^k coefficients around each point of the products of basis functions or their slopes."""
        walkers, k = first.shape
        offsets = torch.arange(4, device=first.device)
        index: Tensor = torch.zeros((), dtype=torch.long, device=first.device)
        for d in range(k):
            nodes = self._nodes[d][first[:, d, None] + offsets]  # [W, 4]
            index = index[..., None] + nodes.view(walkers, *[1] * d, 4)
        local = coefficients.reshape(-1)[index]  # [W, 4, ..., 4]
        # Contract the last axis first, keeping the value and every slope found so far as extra rows.
        rows = local[:, None]
        for d in reversed(range(k)):
            both = torch.stack((basis[:, d], slope[:, d]), dim=-1)  # [W, 4, 2]
            shape = rows.shape
            product = torch.bmm(rows.reshape(walkers, -1, 4), both).reshape(*shape[:-1], 2)
            # row 0 is the plain value: it gains a slope row; the others are slopes already and only take the basis
            rows = torch.cat((product[:, :1, ..., 0], product[:, :1, ..., 1], product[:, 1:, ..., 0]), dim=1)
        return rows[:, 0], rows[:, 1:]

    def on_nodes(self, coefficients: Tensor) -> Tensor:
        """The function at the centres of all bins, in the grid's shape."""
        if self.kind == "bins":
            return coefficients.clone()
        values = coefficients
        for d in range(self.dimensions):
            table = self._nodes[d] // self.strides[d]
            left, right = table[1 : 1 + self.shape[d]], table[3 : 3 + self.shape[d]]
            values = (values.index_select(d, left) + 4 * values + values.index_select(d, right)) / 6
        return values

    # ------------------------------------------------------------------ for the record

    def describe(self) -> dict[str, Any]:
        """The arguments that make this grid again."""
        return {
            "lower": list(self.lower),
            "upper": list(self.upper),
            "bins": list(self.shape),
            "periodic": list(self.periodic),
            "kind": self.kind,
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self.describe() == other.describe()

    def __hash__(self) -> int:
        return hash((self.lower, self.upper, self.shape, self.periodic, self.kind))

    def __repr__(self) -> str:
        arguments = (f"{name}={value!r}" for name, value in self.describe().items())
        return f"Grid({', '.join(arguments)})"


class Kernel:
    r"""What one deposit adds to the coefficients: a single bin, or a Gaussian, both of total weight one.

    The Gaussian exp(-(s_i - s_j)^2 / (2 sigma^2)) is centred on the node j nearest to the walker, truncated at 4 sigma
    and normalised to a sum of one. Near an edge the part that would fall outside is mirrored back in, so that no weight
    is lost; a periodic CV wraps. Since every deposit is centred on a node, the sum of all deposits is a matter of
    integer counts, which many machines can add up in any order.

    Args:
        grid: the grid.
        sigma: width for each CV, in its units, above 0; None for a single bin.

    Raises:
        InputError: a kernel of more bins than the grid has along an axis.
    """

    def __init__(self, grid: Grid, sigma: float | Sequence[float] | None) -> None:
        self.grid = grid
        self.sigma = None
        if sigma is not None:
            widths = _fill(sigma, grid.dimensions, "sigma", owner="Kernel")
            self.sigma = tuple(require_number("Kernel", "sigma", value, above=0.0) for value in widths)
        tables = [self._table(d) for d in range(grid.dimensions)]
        self.indices = [index for index, _ in tables]  # [M, 2 m + 1] each: which nodes along this axis
        self.weights = [weight for _, weight in tables]  # [M, 2 m + 1] each: how much of the deposit
        self.prepare(torch.device("cpu"))

    def _table(self, axis: int) -> tuple[Tensor, Tensor]:
        grid, bins = self.grid, self.grid.shape[axis]
        if self.sigma is None:
            return torch.arange(bins)[:, None], torch.ones(bins, 1, dtype=torch.float64)
        sigma, h = self.sigma[axis], grid.spacing[axis]
        reach = math.floor(4 * sigma / h)
        if 2 * reach + 1 > bins:
            raise InputError(
                f"Kernel: sigma = {sigma:g} makes a kernel of {2 * reach + 1} bins (4 sigma to either side), more than "
                f"the grid's {bins}; take a smaller sigma or a larger grid"
            )
        offset = torch.arange(-reach, reach + 1)
        gaussian = torch.exp(-0.5 * (offset.double() * h / sigma) ** 2)
        gaussian /= gaussian.sum()
        target = torch.arange(bins)[:, None] + offset
        if grid.periodic[axis]:
            return target % bins, gaussian.expand(bins, -1).contiguous()
        mirrored = torch.where(target < 0, -1 - target, torch.where(target >= bins, 2 * bins - 1 - target, target))
        first = (torch.arange(bins) - reach).clamp(0, bins - 2 * reach - 1)
        weights = torch.zeros(bins, 2 * reach + 1, dtype=torch.float64)
        weights.scatter_add_(1, mirrored - first[:, None], gaussian.expand(bins, -1))
        return first[:, None] + torch.arange(2 * reach + 1), weights

    def prepare(self, device: torch.device, compiled: bool = True) -> None:
        """Bring the tables to a device; on a CPU, deposits are compiled unless told otherwise."""
        self.indices = [table.to(device) for table in self.indices]
        self.weights = [table.to(device) for table in self.weights]
        self._native = compiled and device.type == "cpu"
        if self._native:
            self.native_tables = self._make_native_tables()

    def _make_native_tables(self) -> tuple[np.ndarray, ...]:
        """Strides, and the tables of three axes, those beyond the grid's trivial, so that one loop fits all grids."""
        beyond = 3 - self.grid.dimensions
        indices = [table.numpy() * stride for table, stride in zip(self.indices, self.grid.strides, strict=True)]
        weights = [table.numpy() for table in self.weights]
        indices += [np.zeros((1, 1), dtype=np.int64)] * beyond
        weights += [np.ones((1, 1))] * beyond
        widths = np.array([table.shape[1] for table in weights])
        return np.array(self.grid.strides), _stack(indices), _stack(weights), widths

    def convolve(self, counts: Tensor) -> Tensor:
        """The sum of the kernels of `counts` deposits in each bin, float64, in the grid's shape."""
        for d in range(self.grid.dimensions):
            if self.weights[d].shape[1] == 1:  # a single bin
                continue
            spread, along = torch.zeros_like(counts), [1] * counts.ndim
            along[d] = -1
            for target, weight in zip(self.indices[d].unbind(1), self.weights[d].unbind(1), strict=True):
                spread.index_add_(d, target, counts * weight.view(along))
            counts = spread
        return counts

    def deposit_(self, coefficients: Tensor, visits: Tensor, s: Tensor, height: float) -> int:
        """Add `height` x kernel to `coefficients` and 1 to `visits` at each s [W, k] on the grid, in place.

        Returns:
            How many of the W lay on the grid.
        """
        if not self._native:
            return self._deposit_torch(coefficients, visits, s, height)
        from nnsim.grid import compiled as grid_native

        flat, counts = coefficients.view(-1).numpy(), visits.view(-1).numpy()  # views, or deposits would be lost
        where = s.double().contiguous().numpy()
        return grid_native.deposit(flat, counts, where, height, *self.grid.native_tables, *self.native_tables, 0, 1)

    def _deposit_torch(self, coefficients: Tensor, visits: Tensor, s: Tensor, height: float) -> int:
        s = s[self.grid.inside(s)]
        heights = torch.full((len(s),), height, dtype=torch.float64, device=s.device)
        self.deposit_each_(coefficients, visits, s, heights, torch.ones_like(heights, dtype=torch.bool))
        return len(s)

    def deposit_each_(self, coefficients: Tensor, visits: Tensor, s: Tensor, heights: Tensor, inside: Tensor) -> None:
        """Add heights [W] x kernel, and 1 to `visits`, at those s [W, k] that are `inside` [W]; the host need not wait.

        Walkers outside add zeros somewhere.
        """
        bins = self.grid.bin_indices(torch.where(inside[:, None], s.double(), self.grid.center))
        visits.view(-1).index_add_(0, self.grid.flat(bins), inside.long())
        index: Tensor = torch.zeros((), dtype=torch.long, device=bins.device)
        weight = torch.where(inside, heights, 0.0)
        for d, stride in enumerate(self.grid.strides):
            shape = (len(bins), *[1] * d, self.weights[d].shape[1])
            index = index[..., None] + (self.indices[d][bins[:, d]] * stride).view(shape)
            weight = weight[..., None] * self.weights[d][bins[:, d]].view(shape)
        coefficients.view(-1).index_add_(0, index.reshape(-1), weight.reshape(-1))


def native_scratch() -> tuple[np.ndarray, np.ndarray]:
    """Room for the intermediate results of `grid_native.evaluate`."""
    return np.empty((7, 4)), np.empty((3, 4), dtype=np.int64)


def _stack(tables: list[np.ndarray]) -> np.ndarray:
    """Arrays of different sizes in one, padded with zeros."""
    shape = np.max([table.shape for table in tables], axis=0)
    stacked = np.zeros((len(tables), *shape), dtype=tables[0].dtype)
    for row, table in zip(stacked, tables, strict=True):
        row[tuple(slice(n) for n in table.shape)] = table
    return stacked


def _sequence(value: Any) -> list[Any]:
    if isinstance(value, (str, bytes)) or getattr(value, "ndim", 1) == 0:
        return [value]
    return list(value) if isinstance(value, (Sequence, np.ndarray, Tensor)) else [value]


def _fill(value: Any, length: int, name: str, *, owner: str = "Grid") -> list[Any]:
    """One value for each axis."""
    values = _sequence(value)
    if len(values) == 1:
        values = values * length
    if len(values) != length:
        raise InputError(f"{owner}: {len(values)} values of {name} for {length} CVs; give one, or one for each CV")
    return values
