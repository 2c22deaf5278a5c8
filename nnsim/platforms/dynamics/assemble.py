"""The arrays that compiled dynamics works on, made from the parts of a simulation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from nnsim.logit import EPSILON
from nnsim.platforms.dynamics import structures as to
from nnsim.platforms.dynamics import variables
from nnsim.platforms.dynamics.network import losses, passes
from nnsim.platforms.dynamics.network.registers import LANES
from nnsim.platforms.dynamics.network.tables import Tables, tables_of
from nnsim.platforms.formulas import Row, needed, rows_of

if TYPE_CHECKING:
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
    rows, shown = rows_of(cvs)
    smooth = needed(rows, [row for row, gradient in zip(shown, gradients, strict=True) if gradient])
    wanted: dict[tuple[int, float], bool] = {(0, variables.LOSS_SLOPE): forces} if loss else {}
    places = [_quantity(traced, row) for row in rows]
    for number, place in enumerate(places):
        if place is not None:
            wanted[place] = wanted.get(place, False) or (number in smooth and place[1] != 0)  # 0: exact
    order = sorted(wanted)
    numbers = np.cumsum([wanted[place] for place in order]) - 1
    gradient = [int(number) if wanted[place] else -1 for place, number in zip(order, numbers, strict=True)]
    quantities = to.Quantities(
        np.array([split for split, _ in order], dtype=np.int64),
        np.array([slope for _, slope in order], dtype=np.float64),
        np.array(gradient, dtype=np.int64),
    )
    found = to.Variables(
        np.array([CVS[row.known[0]] if row.known else row.kind for row in rows], dtype=np.int64),
        np.array([0 if place is None else order.index(place) for place in places], dtype=np.int64),
        np.array([row.known[3] if row.known else row.number for row in rows], dtype=np.float64),
        np.array([row.left for row in rows], dtype=np.int64),
        np.array([row.right for row in rows], dtype=np.int64),
        np.array(shown, dtype=np.int64),
        EPSILON,
        traced.tiny,
    )
    return quantities, found, order.index((0, variables.LOSS_SLOPE)) if loss else -1


def _quantity(traced: TracedNetwork, row: Row) -> tuple[int, float] | None:
    """Split and slope, as in `to.Quantities`, of what a row is made of; None if it is made of others."""
    if row.known is None:
        return None
    kind, split, slope, _ = row.known
    of = {"loss": variables.LOSS_SLOPE, "ln_loss": variables.LOSS_SLOPE, "accuracy": 0.0}.get(kind, slope)
    return traced.splits.index(split), float(of)


# ---------------------------------------------------------------------------------------- scratch


def sums_of(quantities: to.Quantities, cvs: to.Variables) -> np.ndarray:
    """Room for the quantities, and behind them the rows of the variables."""
    from nnsim.platforms.dynamics.threads import alone

    return alone(max(len(quantities.split), 1) + len(cvs.kind))


def scratch_of(
    traced: TracedNetwork,
    tables: Tables,
    widths: list[int],
    size: int,
    quantities: to.Quantities,
    cvs: to.Variables,
) -> to.Scratch:
    """Room for one thread."""
    kind = np.float32 if traced.single else np.float64
    width, numbers = max(widths), size + len(tables.fixed)
    gradients = int(quantities.gradient.max(initial=-1)) + 1
    from nnsim.platforms.dynamics import operations
    from nnsim.platforms.dynamics.threads import alone
    from nnsim.random import philox

    theta = alone(numbers, dtype=kind)
    theta[size:] = tables.fixed
    return to.Scratch(
        theta,
        alone((gradients, numbers), dtype=kind),
        alone(tables.rows * width, dtype=kind),
        alone(tables.rows * width, dtype=kind),
        alone(max(tables.room(one) for one in widths), dtype=kind),
        sums_of(quantities, cvs),
        alone(len(cvs.shown)),
        alone(len(cvs.kind)),
        alone(gradients),
        alone((1, 3)),
        alone(1),
        alone((1, 3)),
        alone((7, 4)),
        alone((3, 4), dtype=np.int64),
        alone((2, philox.TILE), dtype=np.uint64),
        alone((4, philox.TILE), dtype=np.uint64),
        alone((4, philox.TILE)),
        alone(operations.TILE),
        alone(1),
    )
