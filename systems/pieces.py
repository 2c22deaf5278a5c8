"""Networks in pieces of walkers and points, so that what automatic differentiation keeps fits into the memory.

A graph holds every intermediate value of every point of every walker. Where that is too much, outputs are computed
piece by piece without a graph and, when their gradient is asked for, once more piece by piece with one: a third more
work, for the memory of one piece (checkpointing: T. Chen, B. Xu, C. Zhang and C. Guestrin, arXiv 1604.06174).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from nnsim.errors import InputError
from nnsim.networks.memory import free_bytes, readable
from nnsim.systems.dense import BatchedDense
from nnsim.systems.forward import Forward

logger = logging.getLogger("nnsim")

MOST_BYTES = 2**30  # of a piece, which keeps the processor busy; less where there is less memory
SHARE = 0.25  # of the memory that is free, which a piece may take
TRIAL_POINTS = 8, 16
GAIN = 1.5  # by which a loop must be faster than vmap to be taken: a choice by the clock should be no toss-up
LEAST_SECONDS = 0.01  # of a trial; below, it measures calls, of which vmap makes fewer for many walkers


@dataclass(frozen=True)
class Plan:
    """How a network is evaluated; another plan gives other last bits.

    Attributes:
        way: `"batched"`, `"vmap"` or `"loop"`, see `nnsim.systems.forward`.
        walkers, points: how many at once.
    """

    way: str
    walkers: int
    points: int

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


ALL = 2**62  # walkers or points


class InPieces:
    """A way to evaluate a network, carried out piece by piece where there is more than one piece."""

    def __init__(self, forward: Forward, plan: Plan) -> None:
        self.whole, self.plan = forward, plan

    def __call__(self, positions: Tensor, x: Tensor) -> Tensor:
        """Outputs [W, N, C] of positions [W, n] at points x [N, ...]."""
        return self._outputs(positions, x, self.whole, lambda walkers, points: x[points], len(x))

    def of_own_points(self, positions: Tensor, x: Tensor) -> Tensor:
        """Outputs [W, B, C] of positions [W, n], each at points of its own, x [W, B, ...]."""
        return self._outputs(
            positions, x, self.whole.of_own_points, lambda walkers, points: x[walkers, points], x.shape[1]
        )

    def _outputs(
        self,
        positions: Tensor,
        x: Tensor,
        forward: Callable[[Tensor, Tensor], Tensor],
        part: Callable[[slice, slice], Tensor],
        count: int,
    ) -> Tensor:
        if len(positions) <= self.plan.walkers and count <= self.plan.points:
            return forward(positions, x)
        if not (torch.is_grad_enabled() and positions.requires_grad):
            return _joined(positions, forward, part, count, self.plan)
        found: Tensor = _Pieces.apply(positions, x, forward, part, count, self.plan)
        return found


def _pieces(walkers: int, points: int, plan: Plan) -> Iterator[tuple[slice, list[slice]]]:
    """Walkers, with all pieces of the points, that belong together."""
    each = [slice(first, min(first + plan.points, points)) for first in range(0, points, plan.points)]
    for first in range(0, walkers, plan.walkers):
        yield slice(first, min(first + plan.walkers, walkers)), each


def _joined(positions: Tensor, forward: Any, part: Any, count: int, plan: Plan) -> Tensor:
    """Outputs [W, N, C], without a graph."""
    with torch.no_grad():
        rows = [
            torch.cat([forward(positions[walkers], part(walkers, points)) for points in each], dim=1)
            for walkers, each in _pieces(len(positions), count, plan)
        ]
        return torch.cat(rows)


class _Pieces(torch.autograd.Function):
    """All pieces as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, positions: Tensor, x: Tensor, forward: Any, part: Any, count: int, plan: Plan) -> Tensor:
        ctx.save_for_backward(positions, x)
        ctx.parts = forward, part, count, plan
        return _joined(positions, forward, part, count, plan)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        (positions, x), (forward, part, count, plan) = ctx.saved_tensors, ctx.parts
        nothing = (None,) * 5
        if torch.is_grad_enabled():  # a gradient that is to be differentiated again needs the whole graph
            return torch.autograd.grad(forward(positions, x), positions, g, create_graph=True)[0], *nothing
        gradient = torch.zeros_like(positions)
        for walkers, each in _pieces(len(positions), count, plan):
            for points in each:
                with torch.enable_grad():
                    leaf = positions[walkers].detach().requires_grad_()
                    outputs = forward(leaf, part(walkers, points))
                if outputs.requires_grad:
                    gradient[walkers] += torch.autograd.grad(outputs, leaf, g[walkers, points], materialize_grads=True)[
                        0
                    ]
        return gradient, *nothing


# ---------------------------------------------------------------------------------------- which pieces


def plan_of(forward: Forward, loop: Forward | None, positions: Tensor, x: Tensor, count: int, gradients: bool) -> Plan:
    """How to evaluate walkers at `positions` [W, n] on `count` points.

    Args:
        forward: the way to evaluate the network that was found right for it.
        loop: the way that may be taken instead where it is faster; None for none.
        positions: where the walkers start.
        x: some of the points, [*, ...].
        count: of the points that are evaluated at once.
        gradients: whether they will be asked for.

    Raises:
        InputError: the walkers' own numbers do not fit into the memory.
    """
    single = loop or forward  # what is counted is what one walker takes
    few = [min(points, len(x), count) for points in TRIAL_POINTS]
    costs = [_cost(single, positions[:1], x[:points]) for points in few]
    slope = (costs[1] - costs[0]) / max(few[1] - few[0], 1) if few[1] > few[0] else costs[0] / few[0]
    fixed, slope = max(costs[0] - slope * few[0], 0.0), max(slope, 1.0)
    free = free_bytes(positions.device)
    _check_walkers(positions, fixed + slope, free)
    budget = max(min(MOST_BYTES, SHARE * free), fixed + slope)
    points = count if fixed + slope * count <= budget else _power_of_two((budget - fixed) / slope)
    walkers = max(int(budget // (fixed + slope * points)), 1)
    walkers = len(positions) if walkers >= len(positions) else _power_of_two(walkers)
    way = forward.kind
    if loop is not None:
        way = _faster(forward, loop, positions[: min(walkers, 4)], x[: min(points, 64)], gradients)
    plan = Plan(way, walkers, points)
    if plan.walkers < len(positions) or plan.points < count:
        whole = readable((fixed + slope * count) * len(positions))
        logger.info(
            "the network is evaluated in pieces, %d of %d walkers and %d of %d points, since all would take %s",
            *(plan.walkers, len(positions), plan.points, count, whole),
        )
    return plan


def _cost(forward: Forward, positions: Tensor, x: Tensor) -> float:
    """Bytes that the evaluation of a walker takes, forward and backward, with something to spare."""
    if isinstance(forward, BatchedDense):
        return forward.bytes_of(len(x))
    kept: dict[int, int] = {}

    def keep(one: Tensor) -> Tensor:
        storage = one.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return one

    leaf = positions.detach().clone().requires_grad_()
    with torch.enable_grad(), saved_tensors_hooks(keep, lambda one: one):
        outputs = forward(leaf, x)  # alive until all is counted, so that no address is used twice
    sizes = [*kept.values(), outputs.untyped_storage().nbytes()]
    return float(2 * sum(sizes) + 4 * max(sizes))


def _check_walkers(positions: Tensor, least: float, free: float) -> None:
    """Refuse more walkers than there can be numbers of."""
    own = 8.0 * positions.element_size() * positions.numel()  # positions, velocities, forces, and what a step makes
    if own + least > free:
        raise InputError(
            f"NeuralNetwork: {len(positions)} walkers of {positions.shape[1]} parameters take about "
            f"{readable(own + least)}, and {readable(free)} of memory are free; use fewer walkers, or a smaller network"
        )


def _faster(forward: Forward, loop: Forward, positions: Tensor, x: Tensor, gradients: bool) -> str:
    """`"loop"` where it is clearly faster than vmap on a few walkers and points, and these take some time."""
    best: dict[str, float] = {}
    for one in (forward, loop):
        times = []
        for _ in range(3):
            if best.get(forward.kind, LEAST_SECONDS) < LEAST_SECONDS:
                return forward.kind
            begin = time.perf_counter()
            with torch.set_grad_enabled(gradients):
                leaf = positions.detach().clone().requires_grad_(gradients)
                outputs = one(leaf, x)
                if outputs.requires_grad:
                    torch.autograd.grad(outputs.sum(), leaf, allow_unused=True)
            times.append(time.perf_counter() - begin)
        best[one.kind] = min(times)
    return loop.kind if GAIN * best[loop.kind] < best[forward.kind] else forward.kind


def _power_of_two(number: float) -> int:
    """The largest that is not above a number, at least 1."""
    found: int = 2 ** max(int(number).bit_length() - 1, 0)
    return found
