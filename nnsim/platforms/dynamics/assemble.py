"""The arrays that compiled dynamics works on, made from the parts of a simulation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nnsim.grid.deposits import LEARNT
from nnsim.logit import EPSILON
from nnsim.platforms.dynamics import structures as to
from nnsim.platforms.dynamics import variables
from nnsim.platforms.dynamics.network import losses, passes
from nnsim.platforms.dynamics.network.small import LANES
from nnsim.platforms.dynamics.network.tables import Tables, tables_of

if TYPE_CHECKING:
    from nnsim.forcefield import ForceField
    from nnsim.platforms.native import LossTable, TracedNetwork

LOSSES = {
    ("cross_entropy", False): losses.CROSS_ENTROPY,
    ("cross_entropy", True): losses.WEIGHTED_CROSS_ENTROPY,
    ("mse", False): losses.MSE,
    ("bce", False): losses.BCE,
    ("bce", True): losses.WEIGHTED_BCE,
}
CVS = {
    "loss": variables.LOSS,
    "ln_loss": variables.LN_LOSS,
    "accuracy": variables.ACCURACY,
    "smoothed": variables.SMOOTHED,
    "logit_smoothed": variables.LOGIT_SMOOTHED,
}
BLOCK, BLOCK_IMAGES = 512, 32  # most points in a block of dense networks, and of those with convolutions
CACHE = 2**19  # numbers of a block's values, beyond which it is made smaller
LEAST_BLOCK = 64  # points of a block of a dense network, however wide


def network_of(traced: TracedNetwork, size: int) -> tuple[to.Network, Tables]:
    """The tables of a network of `size` parameters; raises `tables.Unknown`."""
    points = np.concatenate([one.reshape(len(one), -1) for one in traced.points])
    tables = tables_of(traced.program, size, traced.points[0].shape[1:], points, 4 if traced.single else 8)
    return to.Network(
        tables.ops, _real(tables.reals, traced), tables.lists, tables.rows, tables.points_rows, tables.result,
        tables.outputs,
    ), tables  # fmt: skip


def _real(numbers: Any, traced: TracedNetwork) -> np.ndarray:
    return np.ascontiguousarray(numbers, dtype=np.float32 if traced.single else np.float64)


def block_width(tables: Tables, count: int) -> int:
    """Points of a block of a split of `count` points: as many as the cache takes, and blocks about equally full."""
    images = bool(np.isin(tables.ops[:, passes.KIND], (passes.DIRECT, passes.STRIPS, passes.MAX, passes.SUM)).any())
    most = BLOCK_IMAGES if images else max(LEAST_BLOCK, min(BLOCK, CACHE // max(tables.rows, 1)))
    each = math.ceil(count / math.ceil(count / most))
    return math.ceil(each / LANES) * LANES


def points_of(traced: TracedNetwork, tables: Tables) -> to.Points:
    """The points of all splits, with what their loss knows of them."""
    flat = [one.reshape(len(one), -1) for one in traced.points]
    widths = [block_width(tables, len(one)) for one in flat]
    blocks = [math.ceil(len(one) / width) for one, width in zip(flat, widths, strict=True)]
    kept = [_in_blocks(one[:, tables.full], width) for one, width in zip(flat, widths, strict=True)]
    rest = np.concatenate(flat)
    rest[:, tables.full] = 0
    kind, values, labels, shares, each = _known(traced.losses)
    counts = [len(one) for one in flat]
    return to.Points(
        numbers=_real(np.concatenate(kept), traced),
        pointers=_begins(np.count_nonzero(rest, axis=1), whole=True),
        places=np.nonzero(rest)[1].astype(np.int64),
        data=_real(rest[rest != 0], traced),
        start=_begins([len(one) for one in kept]),
        width=np.array(widths, dtype=np.int64),
        blocks=np.array(blocks, dtype=np.int64),
        counts=np.array(counts, dtype=np.int64),
        first=_begins(counts),
        kind=kind,
        right=losses.right_of(kind),
        values=_real(values.T, traced),
        labels=labels,
        shares=_real(shares.T, traced),
        norm=np.array([one.norm for one in traced.losses]),
        counted=np.array([one.counted for one in traced.losses]),
        each=each,
    )


def _begins(sizes: Any, whole: bool = False) -> np.ndarray:
    """Where parts of these sizes begin that lie one after the other; with `whole` also where the last one ends."""
    begins = np.concatenate(([0], np.cumsum(np.asarray(sizes, dtype=np.int64)))).astype(np.int64)
    return begins if whole else begins[:-1]


def _in_blocks(numbers: np.ndarray, width: int) -> np.ndarray:
    """Flat, from [N, rows]: blocks of [rows, width], the last one filled up with zeros."""
    blocks = math.ceil(len(numbers) / width)
    filled = np.zeros((blocks * width, numbers.shape[1]))
    filled[: len(numbers)] = numbers
    return filled.reshape(blocks, width, -1).transpose(0, 2, 1).reshape(-1)


def _known(tables: list[LossTable]) -> tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Kind of the loss; values [N, C], labels [N], shares [N, C] and parts of the norm [N] of all points."""
    kind = LOSSES[tables[0].kind, any(one.weighted for one in tables)]
    values, labels, shares, each = (np.concatenate([one[place] for one in tables]) for place in (2, 3, 4, 6))
    return kind, values, labels.astype(np.int64), shares, each


def batch_of(traced: TracedNetwork, tables: Tables, points: to.Points, batches: Any) -> to.Batch:
    """Room for a mini-batch; nothing without `batches`."""
    nothing = np.zeros(0, dtype=np.int64)
    loss = np.zeros(1, dtype=np.int64), np.full(1, variables.LOSS_SLOPE), np.zeros(1, dtype=np.int64)
    quantities = to.Quantities(*loss)
    order = np.zeros((1, 0), dtype=np.int64)
    if batches is None:
        none = points._replace(numbers=points.numbers[:0], start=nothing, width=nothing, blocks=nothing, counts=nothing)
        return to.Batch(none, quantities, _real(np.zeros((0, 0)), traced), points, order, 1, 1, traced.tiny)
    width = block_width(tables, batches.size)
    blocks = math.ceil(batches.size / width)
    one = np.zeros(1, dtype=np.int64)
    room = points._replace(
        numbers=_real(np.zeros(blocks * width * tables.points_rows), traced),
        start=one, width=one + width, blocks=one + blocks, counts=one + batches.size, first=one.copy(),
        values=_real(np.zeros((len(points.values), blocks * width)), traced),
        labels=np.zeros(blocks * width, dtype=np.int64),
        shares=_real(np.zeros((len(points.values), blocks * width)), traced),
        norm=np.ones(1), counted=np.ones(1),
    )  # fmt: skip
    train = traced.points[0].reshape(len(traced.points[0]), -1)
    return to.Batch(
        room, quantities, _real(train[:, tables.full], traced), points, order, batches.size, batches.per_epoch,
        traced.tiny,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------- what is computed of them


def quantities_of(
    traced: TracedNetwork, cvs: list[Any], gradients: list[bool], loss: bool, forces: bool
) -> tuple[to.Quantities, to.Variables, int]:
    """What must be computed of the outputs for CVs, and the number of the train loss among it (-1: not needed).

    Args:
        traced: the network.
        cvs: with a `native` description.
        gradients: whether each needs a gradient.
        loss: whether the train loss is needed, in the potential or for training.
        forces: whether its gradient is: not where mini-batches give it.
    """
    wanted: dict[tuple[int, float], bool] = {(0, variables.LOSS_SLOPE): forces} if loss else {}
    places = []
    for cv, smooth in zip(cvs, gradients, strict=True):
        kind, split, slope, _ = cv.native
        exact = kind == "accuracy"
        of = variables.LOSS_SLOPE if kind in ("loss", "ln_loss") else 0.0 if exact else slope
        place = traced.splits.index(split), float(of)
        wanted[place] = wanted.get(place, False) or (smooth and not exact)
        places.append(place)
    order = sorted(wanted)
    numbers = np.cumsum([wanted[place] for place in order]) - 1
    gradient = [int(number) if wanted[place] else -1 for place, number in zip(order, numbers, strict=True)]
    quantities = to.Quantities(
        np.array([split for split, _ in order], dtype=np.int64),
        np.array([slope for _, slope in order], dtype=np.float64),
        np.array(gradient, dtype=np.int64),
    )
    found = to.Variables(
        np.array([CVS[cv.native[0]] for cv in cvs], dtype=np.int64),
        np.array([order.index(place) for place in places], dtype=np.int64),
        np.array([cv.native[3] for cv in cvs], dtype=np.float64),
        EPSILON,
        traced.tiny,
    )
    return quantities, found, order.index((0, variables.LOSS_SLOPE)) if loss else -1


# ---------------------------------------------------------------------------------------- biases


class LearntGrids:
    """The grids of all biases that learn, side by side; the biases' own tables become parts of them."""

    def __init__(self, force_field: ForceField, walkers: int) -> None:
        self.biases: list[Any] = [bias for bias in force_field.biases if bias.native in LEARNT]
        columns = {cv.name: column for column, cv in enumerate(force_field.cvs)}
        self._columns = _padded([[columns[cv.name] for cv in bias.cvs] for bias in self.biases], np.int64)
        self._walkers = walkers
        self.join()

    def join(self) -> None:
        """Lay the tables side by side, if they are not, as after a load."""
        sizes = [bias.potential.numel() for bias in self.biases]
        begin = np.concatenate(([0], np.cumsum(sizes)))[:-1].astype(np.int64)
        if len(self.biases) == 1:
            self.biases[0].potential, self.biases[0].visits = (
                table.contiguous() for table in (self.biases[0].potential, self.biases[0].visits)
            )
            coefficients, visits = self.biases[0].potential.view(-1), self.biases[0].visits.view(-1)
        else:
            nothing = torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
            coefficients = torch.cat([nothing[0], *(bias.potential.view(-1) for bias in self.biases)])
            visits = torch.cat([nothing[1], *(bias.visits.view(-1) for bias in self.biases)])
            for bias, first, size in zip(self.biases, begin, sizes, strict=True):
                bias.potential = coefficients[first : first + size].view(bias.grid.shape)
                bias.visits = visits[first : first + size].view(bias.grid.shape)
        self._addresses = self._present()
        grids = [bias.grid for bias in self.biases]
        kernels = [bias.kernel.native_tables for bias in self.biases]
        tables = [grid.native_tables for grid in grids]
        self.arrays = to.Grids(
            self._columns,
            np.array([grid.dimensions for grid in grids], dtype=np.int64),
            begin,
            coefficients.numpy(),
            visits.numpy(),
            lower=_padded([table[0] for table in tables], np.float64),
            upper=_padded([table[1] for table in tables], np.float64),
            inverse=_padded([table[2] for table in tables], np.float64),
            bins=_padded([table[3] for table in tables], np.int64),
            wraps=_padded([table[4] for table in tables], np.bool_),
            strides=_padded([kernel[0] for kernel in kernels], np.int64),
            nodes=_stacked([grid.native_nodes for grid in grids], 2, np.int64),
            indices=_stacked([kernel[1] for kernel in kernels], 3, np.int64),
            weights=_stacked([kernel[2] for kernel in kernels], 3, np.float64),
            widths=_padded([kernel[3] for kernel in kernels], np.int64),
        )

    def _present(self) -> list[int]:
        return [table.data_ptr() for bias in self.biases for table in (bias.potential, bias.visits)]

    @property
    def moved(self) -> bool:
        """Whether a bias has got another table in the meantime."""
        return self._addresses != self._present()

    def plan(self, steps: int) -> tuple[to.Deposits, int]:
        """What the next steps deposit, and for how many steps that is known."""
        plans = [bias.deposit_plan(steps, self._walkers) for bias in self.biases]
        count = len(plans)
        deposits = to.Deposits(
            np.array([plan.pace for plan in plans], dtype=np.int64),
            _padded([plan.heights for plan in plans], np.float64, last=True),
            np.array([plan.tempering for plan in plans], dtype=np.float64),
            np.zeros(count, dtype=np.int64),
            np.zeros(count, dtype=np.int64),
            np.zeros(count),
        )
        return deposits, min([steps, *(plan.steps for plan in plans)])

    def rest(self) -> to.Deposits:
        """No deposits."""
        nothing = np.zeros(len(self.biases), dtype=np.int64)
        height = np.zeros((len(self.biases), 3))
        return to.Deposits(nothing, height, nothing * 0.0, nothing.copy(), nothing.copy(), nothing * 0.0)

    def take_account(self, deposits: to.Deposits) -> None:
        """Let the biases know what was deposited."""
        for bias, pace, *numbers in zip(
            self.biases, deposits.pace, deposits.made, deposits.outside, deposits.last, strict=True
        ):
            if pace:
                bias.take_account(int(numbers[0]), int(numbers[1]), float(numbers[2]))


def _padded(rows: list[Any], kind: Any, last: bool = False) -> np.ndarray:
    """Rows of different lengths as an array, at least three long, filled up with zeros or their `last` number."""
    width = max([3, *(len(row) for row in rows)])
    table = np.zeros((len(rows), width), dtype=kind)
    for to_row, row in zip(table, rows, strict=True):
        to_row[: len(row)] = row
        if last:
            to_row[len(row) :] = row[-1]
    return table


def _stacked(tables: list[np.ndarray], axes: int, kind: Any) -> np.ndarray:
    """Arrays of different shapes in one, filled up with zeros."""
    shape = np.max([(0,) * axes, *(table.shape for table in tables)], axis=0)
    stacked = np.zeros((len(tables), *shape), dtype=kind)
    for place, table in zip(stacked, tables, strict=True):
        place[tuple(slice(n) for n in table.shape)] = table
    return stacked


class Restrained:
    """Walls, slopes and umbrellas as arrays; those of umbrellas that move are taken from them and given back."""

    def __init__(self, force_field: ForceField, walkers: int) -> None:
        columns = {cv.name: column for column, cv in enumerate(force_field.cvs)}
        biases: list[Any] = list(force_field.biases)
        walls = [(columns[bias.cvs[0].name], *bias.native) for bias in biases if isinstance(bias.native, tuple)]
        self._sloped = [bias for bias in biases if bias.native in ("slope", "exchange")]
        self._umbrellas = [bias for bias in biases if bias.native == "springs"]
        springs = [(u, d) for u in range(len(self._umbrellas)) for d in range(len(self._umbrellas[u].cvs))]
        never = 2**62

        def each(what: str) -> np.ndarray:
            rows = [getattr(self._umbrellas[u], what)[:, d].numpy() for u, d in springs]
            return _rows([np.broadcast_to(row, walkers) for row in rows], walkers)

        self.springs, self.walkers = springs, walkers
        self.arrays = to.Restraints(
            np.array(walls, dtype=np.float64).reshape(-1, 5),
            np.zeros((len(self._sloped), walkers)),
            np.array([columns[bias.cvs[0].name] for bias in self._sloped], dtype=np.int64),
            np.array([bias.ramp for bias in self._sloped], dtype=np.float64),
            np.array([columns[self._umbrellas[u].cvs[d].name] for u, d in springs], dtype=np.int64),
            np.array([u for u, _ in springs], dtype=np.int64),
            center=each("center"),
            stiffness=each("stiffness"),
            velocity=each("velocity"),
            period=np.array([self._umbrellas[u].periods[d] or 0.0 for u, d in springs], dtype=np.float64),
            until=np.array([self._umbrellas[u].until or never for u, _ in springs], dtype=np.int64),
            last=np.zeros((len(springs), walkers)),
            work=np.zeros((len(self._umbrellas), walkers)),
            at_end=np.array([self._umbrellas[u].work_at_end for u, _ in springs], dtype=np.float64),
        )

    @property
    def moving(self) -> bool:
        """Whether any centre moves."""
        return any(umbrella.moving for umbrella in self._umbrellas)

    def take(self) -> None:
        """Take over slopes, and work so far."""
        for row, bias in zip(self.arrays.slopes, self._sloped, strict=True):
            row[:] = bias.full_slope(self.walkers).numpy()
        for number, (u, d) in enumerate(self.springs):
            if self._umbrellas[u].moving:
                self.arrays.last[number] = self._umbrellas[u].last_cvs[:, d].numpy()
                self.arrays.work[u] = self._umbrellas[u].work.numpy()

    def give_back(self) -> None:
        """Let umbrellas that move know of their work."""
        for u, umbrella in enumerate(self._umbrellas):
            if umbrella.moving:
                rows = [number for number, (owner, _) in enumerate(self.springs) if owner == u]
                umbrella.take_work(
                    torch.from_numpy(self.arrays.work[u].copy()), torch.from_numpy(self.arrays.last[rows].T.copy())
                )


def _rows(rows: list[np.ndarray], walkers: int) -> np.ndarray:
    return np.array(rows, dtype=np.float64).reshape(-1, walkers)


# ---------------------------------------------------------------------------------------- scratch


def scratch_of(
    traced: TracedNetwork,
    tables: Tables,
    widths: list[int],
    size: int,
    quantities: to.Quantities,
    cvs: int,
    walkers: int,
) -> to.Scratch:
    """Room for one thread."""
    kind = np.float32 if traced.single else np.float64
    width, numbers = max(widths), size + len(tables.fixed)
    gradients = int(quantities.gradient.max(initial=-1)) + 1
    theta = np.zeros(numbers, dtype=kind)
    theta[size:] = tables.fixed
    from nnsim.platforms.dynamics import operations
    from nnsim.random import philox

    return to.Scratch(
        theta,
        np.zeros((gradients, numbers), dtype=kind),
        np.zeros(tables.rows * width, dtype=kind),
        np.zeros(tables.rows * width, dtype=kind),
        np.zeros(max(tables.room(one) for one in widths), dtype=kind),
        np.zeros(max(len(quantities.split), 1)),
        np.zeros(cvs),
        np.zeros(cvs),
        np.zeros(gradients),
        np.zeros((1, 3)),
        np.zeros(1),
        np.zeros((1, 3)),
        np.zeros((7, 4)),
        np.zeros((3, 4), dtype=np.int64),
        np.zeros((2, philox.TILE), dtype=np.uint64),
        np.zeros((4, philox.TILE), dtype=np.uint64),
        np.zeros((4, philox.TILE)),
        np.zeros(operations.TILE),
        np.zeros(walkers),
    )
