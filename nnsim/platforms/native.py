"""The native platform: Monte Carlo on dense networks, compiled, with walkers on threads.

Between two merges each walker works on a copy of its own of the bias, with a constant increment; at a merge the
deposits of all walkers are added up. So the result depends neither on the number of threads nor on how the run is cut
into pieces. Merges come often enough that walkers do not fill the same hill twice, which would make the bias overshoot;
see `_interval`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch

from nnsim.errors import DivergedError
from nnsim.platforms.obstacles import obstacle
from nnsim.protocols import Bias, Integrator, Platform

if TYPE_CHECKING:
    from nnsim.networks.program import Program as NetworkProgram
    from nnsim.simulation import Simulation
    from nnsim.state import State

LONGEST = 100_000  # moves between two merges


class LossTable(NamedTuple):
    """What a loss tells of the targets of one split, for N points and C outputs f.

    Attributes:
        kind: `"cross_entropy"`, `"mse"` or `"bce"`.
        weighted: whether it takes `shares`, instead of labels that all count alike.
        values: of mse and bce, [N, C].
        labels: right classes, [N]; -1 for points that do not count.
        shares: the cross-entropy is the sum of -shares ln softmax(f), bce that of each term times its share, [N, C].
        norm: the loss is the sum over points and outputs divided by this.
        each: what each point adds to the norm, [N], where the loss is a mean: of mini-batches it is that of theirs.
        counted: the accuracy is the number of right answers divided by this.
    """

    kind: str
    weighted: bool
    values: np.ndarray
    labels: np.ndarray
    shares: np.ndarray
    norm: float
    each: np.ndarray
    counted: float


class TracedNetwork(NamedTuple):
    """What a system tells of a network that compiled dynamics can evaluate.

    Attributes:
        program: its operations, traced with points.
        splits: `"train"`, and `"test"` if there is one.
        points: of each split, [N, ...], float64.
        losses: of each split; of one kind.
        loss_factor, prior: U = loss_factor x train loss + prior x |q|^2.
        single: whether it computes in float32.
        tiny: the smallest loss of which a logarithm is taken, as in `nnsim.cv.LogLoss`.
    """

    program: NetworkProgram
    splits: list[str]
    points: list[np.ndarray]
    losses: list[LossTable]
    loss_factor: float
    prior: float
    single: bool
    tiny: float


class DenseNetwork(NamedTuple):
    """What a system tells of a dense network that native code can evaluate.

    Attributes:
        sizes: width of each layer, the inputs first.
        weights, biases: place of each layer's weights (row by row) and biases in the positions; -1 for no biases.
        activation: of all hidden layers, `"relu"`, `"tanh"`, `"silu"` or `"sigmoid"`.
        losses: of the train points, and of the test points if there are any; of one kind.
        points: [N, sizes[0]], train then test.
        train: number of train points.
        loss_factor, prior: U = loss_factor x train loss + prior x |q|^2.
        tiny: the smallest loss of which a logarithm is taken, as in `nnsim.cv.LogLoss`.
    """

    sizes: list[int]
    weights: list[int]
    biases: list[int]
    activation: str
    losses: list[LossTable]
    points: np.ndarray
    train: int
    loss_factor: float
    prior: float
    tiny: float


class NativeMonteCarlo(Platform):
    """Monte Carlo moves of one parameter, for a dense network under walls and at most one other bias."""

    name = "native"
    compiled = True

    def attach(self, simulation: Simulation) -> None:
        """Take over a simulation: its parts as arrays, and a copy of the bias for each walker."""
        from nnsim.platforms import native_arrays

        integrator: Any = simulation.integrator
        state = simulation.state
        self.integrator, self.force_field = integrator, simulation.force_field
        self.arrays = native_arrays.Arrays(integrator, self.force_field, state)
        self.bias = self.arrays.bias
        self.between = self.arrays.between
        self.walkers, self.streams = state.walkers, state.generator
        threads = min(simulation.threads or os.cpu_count() or 1, state.walkers)
        self.shares = [range(first, state.walkers, threads) for first in range(threads)]
        self.pool = ThreadPoolExecutor(max(threads - 1, 1))  # the calling thread takes a share itself
        self.potentials = self.visits = np.zeros((state.walkers, 1))
        self.outside = np.zeros(state.walkers, dtype=np.int64)
        self._height, self._next_merge = 0.0, 0
        self._share(state.step)

    @classmethod
    def obstacle(cls, simulation: Simulation) -> str | None:
        """Why this simulation cannot run here, or None if it can."""
        return obstacle(simulation)

    @classmethod
    def serves(cls, integrator: Integrator) -> bool:
        """Whether there is native code for integrators of this kind."""
        return integrator.native is not None

    def summary(self) -> str:
        """In some words, how the steps are made."""
        return f"native: compiled moves, threads={len(self.shares)}"

    # ------------------------------------------------------------------ steps

    def advance(self, state: State, steps: int) -> State:
        """`steps` moves of each walker, with the merges that are due."""
        if self.bias is not None and self.bias.frozen == bool(self._height):
            self._merge(state.step)  # it was frozen, or let go, since the last merge
        end, settled = state.step + steps, False
        while state.step < end:
            stop = end if self.bias is None else min(end, self._next_merge)
            if self.between is not None:
                stop = min(stop, self.between.next_update(state.step))
            self._move(state, stop - state.step)
            if self.bias is not None and state.step == self._next_merge:
                self._merge(state.step)
            if self.between is not None:  # energies are those of the moves, unless it has changed all at once
                state.bias_energy = self.force_field.bias_energy(state.cvs, state.step)
                settled = not self.force_field.update_biases(state.cvs, state.step)
        if not settled:
            state.bias_energy = self.force_field.bias_energy(state.cvs, state.step)
        return state

    def _move(self, state: State, moves: int) -> None:
        positions, cvs, energies = state.positions.numpy(), state.cvs.numpy(), np.empty(state.walkers)
        accepted = state.integrator_state["accepted"].numpy()
        size = self.integrator.step_size
        tuned = self.integrator.native_step["kind"] == "tuned"
        step_size = size.sizes(state).numpy() if tuned else np.zeros(state.walkers)
        self.arrays.take()
        self.streams.warn_older()

        def move(share: range) -> None:
            for walker in share:
                place = (positions[walker], cvs[walker], step_size[walker : walker + 1])
                own = (self.potentials[walker], self.visits[walker], self._height)
                result = self.arrays.advance(walker, moves, state.step, place, own)
                energies[walker] = result[0]
                accepted[walker] += result[1]
                self.outside[walker] += result[2]

        others = [self.pool.submit(move, share) for share in self.shares[1:]]
        move(self.shares[0])
        for other in others:
            other.result()
        if not np.isfinite(energies).all():
            walker = int(np.flatnonzero(~np.isfinite(energies))[0])
            raise DivergedError(f"step {state.step}: energy of walker {walker} became NaN or infinite; check the data")
        state.step += moves
        state.energy = torch.from_numpy(energies)

    # ------------------------------------------------------------------ the shared bias

    def _share(self, step: int) -> None:
        """Give every walker a copy of the bias, and the increment until the next merge."""
        if self.bias is None:
            return
        bias: Any = self.bias
        self.potentials = np.tile(bias.potential.numpy().reshape(1, -1), (self.walkers, 1))
        self.visits = np.zeros((self.walkers, bias.visits.numel()), dtype=np.int64)
        self.outside[:] = 0
        self._height = 0.0 if bias.frozen else bias.kT * bias.increment
        self._next_merge = step + self._interval(step)

    def _interval(self, step: int) -> int:
        """Moves until the next merge.

        All walkers together then raise the visited part of the bias by kT at most in the mean, so that what they do not
        know of each other cannot make it overshoot; and by a tenth at most of what was deposited before.
        """
        bias: Any = self.bias
        visited = max(int(np.count_nonzero(bias.visits.numpy())), 1)
        raised = self.walkers * self._height / bias.kT  # by one move of each
        return int(max(min(visited / raised if raised else LONGEST, step / 10, LONGEST), 10))

    def _merge(self, step: int) -> None:
        """Add the deposits of all walkers since the last merge to the bias."""
        bias: Any = self.bias
        if self._height:
            outside, height = torch.from_numpy(self.outside).sum(), torch.tensor(self._height, dtype=torch.float64)
            bias.merge([{"visits": self._deposited(), "outside": outside, "height": height}])
        self._share(step)

    def _deposited(self) -> torch.Tensor:
        """Visits of all walkers since the last merge, in the grid's shape."""
        bias: Any = self.bias
        return torch.from_numpy(self.visits.sum(axis=0).reshape(bias.grid.shape))

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Show the bias with what was deposited since the last merge; afterwards it is as it was, to the bit."""
        if self.bias is None or not self._height:
            yield
            return
        bias: Any = self.bias
        before = bias.potential, bias.visits, bias.deposits, bias.outside
        visits = self._deposited()
        bias.potential = bias.potential + self._height * bias.kernel.convolve(visits.double())
        bias.visits = bias.visits + visits
        bias.deposits, bias.outside = bias.deposits + int(visits.sum()), bias.outside + int(self.outside.sum())
        try:
            yield
        finally:
            bias.potential, bias.visits, bias.deposits, bias.outside = before

    def state_dict(self) -> dict[str, Any]:
        """What the walkers deposited since the last merge."""
        return {
            "potentials": self.potentials,
            "visits": self.visits,
            "outside": self.outside,
            "height": self._height,
            "next_merge": self._next_merge,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.potentials, self.visits = np.array(saved["potentials"]), np.array(saved["visits"])
        self.outside, self._height = np.array(saved["outside"]), float(saved["height"])
        self._next_merge = int(saved["next_merge"])

    @classmethod
    def hand_over(cls, saved: dict[str, Any], biases: Sequence[Bias]) -> None:
        """Add to the bias that learns what walkers deposited since the last merge."""
        height = torch.tensor(saved["height"], dtype=torch.float64)
        for bias in (one for one in biases if one.kind == "grid" and height):
            visits = torch.from_numpy(np.sum(saved["visits"], axis=0)).reshape(cast(Any, bias).grid.shape)
            bias.merge([{"visits": visits, "outside": torch.tensor(int(np.sum(saved["outside"]))), "height": height}])
