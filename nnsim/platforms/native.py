"""The native platform: Monte Carlo on dense networks, compiled, with walkers on threads.

Between two merges each walker works on a copy of its own of the bias, with a constant increment; at a merge the
deposits of all walkers are added up. So the result depends neither on the number of threads nor on how the run is cut
into pieces. Merges come often enough that walkers do not fill the same hill twice, which would make the bias overshoot;
see `_interval`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from nnsim.errors import DivergedError, InputError
from nnsim.protocols import Platform

if TYPE_CHECKING:
    from nnsim.forcefield import ForceField
    from nnsim.state import State

LONGEST = 100_000  # moves between two merges


class DenseNetwork(NamedTuple):
    """What a system tells of a dense network that native code can evaluate.

    Attributes:
        sizes: width of each layer, the inputs first.
        weights, biases: place of each layer's weights (row by row) and biases in the positions.
        activation: of all hidden layers, `"relu"`, `"tanh"`, `"silu"` or `"sigmoid"`.
        loss: `"cross_entropy"` or `"mse"`.
        points: [N, sizes[0]], train then test.
        targets: [N, 1] labels or [N, C] values.
        train: number of train points.
        loss_factor, prior: U = loss_factor x train loss + prior x |q|^2.
        tiny: the smallest loss of which a logarithm is taken, as in `nnsim.cv.LogLoss`.
    """

    sizes: list[int]
    weights: list[int]
    biases: list[int]
    activation: str
    loss: str
    points: np.ndarray
    targets: np.ndarray
    train: int
    loss_factor: float
    prior: float
    tiny: float


class NativeMonteCarlo(Platform):
    """Monte Carlo moves of one parameter, for a dense network with at most one bias (see `_known`).

    Args:
        integrator: a `MonteCarlo`.
        force_field: of the simulation.
        state: its first state; gives the number of walkers.
        seed: of the walkers' random generators (numpy's PCG64, one each).
        threads: of the processor; None takes all.

    Raises:
        InputError: the simulation has a part that native code does not know; the message says which.
    """

    def __init__(
        self, integrator: Any, force_field: ForceField, state: State, seed: int, threads: int | None = None
    ) -> None:
        problem = self.obstacle(integrator, force_field)
        if problem:
            raise InputError(f"platform = 'native': {problem}; use platform='reference'")
        from nnsim.platforms import native_arrays

        self.integrator, self.force_field = integrator, force_field
        self.arrays = native_arrays.Arrays(integrator, force_field, state)
        self.bias = self.arrays.bias
        self.exchange = self.arrays.exchange
        spawned = np.random.SeedSequence(seed).spawn(state.walkers)
        self.generators = [np.random.Generator(np.random.PCG64(sequence)) for sequence in spawned]
        threads = min(threads or os.cpu_count() or 1, state.walkers)
        self.shares = [range(first, state.walkers, threads) for first in range(threads)]
        self.pool = ThreadPoolExecutor(max(threads - 1, 1))  # the calling thread takes a share itself
        self.potentials = self.visits = np.zeros((state.walkers, 1))
        self.outside = np.zeros(state.walkers, dtype=np.int64)
        self._height, self._next_merge = 0.0, 0
        self._share(state.step)

    @staticmethod
    def obstacle(integrator: Any, force_field: ForceField) -> str | None:
        """Why this simulation cannot run here, or None if it can."""
        if type(integrator).__name__ != "MonteCarlo":
            return f"{type(integrator).__name__} has no native code"
        if callable(integrator.kT):
            return "a schedule of kT has no native code"
        if integrator.move != "one":
            return "only moves of one parameter have native code"
        if not _native(integrator.step_size):
            return f"the step size {type(integrator.step_size).__name__} has no native code"
        if force_field.system.box.kind == "periodic":
            return "periodic boxes have no native code"
        network = getattr(force_field.system, "dense_network", lambda: None)()
        if network is None:
            return "the system is no dense network with one activation and a built-in loss and potential"
        if len(force_field.biases) > 1 or not all(_known(bias) for bias in force_field.biases):
            return (
                "native code knows one bias: WangLandau, an Umbrella at rest, or Boltzmann or ReplicaExchange on the "
                "train loss"
            )
        if force_field.slow:
            return "a bias that is evaluated every few steps has no native code"
        for cv in force_field.cvs:
            if not _native(cv):
                return f"the CV {cv.name!r} has no native code"
        if any(len(bias.cvs) != len(force_field.cvs) for bias in force_field.biases):
            return "a bias has one CV on two axes"
        return None

    # ------------------------------------------------------------------ steps

    def advance(self, state: State, steps: int) -> State:
        """`steps` moves of each walker, with the merges that are due."""
        if self.bias is not None and self.bias.frozen == bool(self._height):
            self._merge(state.step)  # it was frozen, or let go, since the last merge
        end = state.step + steps
        while state.step < end:
            stop = end if self.bias is None else min(end, self._next_merge)
            if self.exchange is not None:
                stop = min(stop, state.step - state.step % self.exchange.every + self.exchange.every)
            self._move(state, stop - state.step)
            if self.bias is not None and state.step == self._next_merge:
                self._merge(state.step)
            if self.exchange is not None:
                self.exchange.update(state.cvs, state.step)
        state.bias_energy = self.force_field.bias_energy(state.cvs, state.step)
        return state

    def _move(self, state: State, moves: int) -> None:
        positions, cvs, energies = state.positions.numpy(), state.cvs.numpy(), np.empty(state.walkers)
        accepted = state.integrator_state["accepted"].numpy()
        size = self.integrator.step_size
        step_size = size.sizes(state).numpy() if size.native["kind"] == "tuned" else np.zeros(state.walkers)
        self.arrays.tilt()

        def move(share: range) -> None:
            for walker in share:
                place = (positions[walker], cvs[walker], step_size[walker : walker + 1])
                own = (self.potentials[walker], self.visits[walker], self._height)
                result = self.arrays.advance(walker, moves, state.step, self.generators[walker], place, own)
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
        walkers = len(self.generators)
        self.potentials = np.tile(bias.potential.numpy().reshape(1, -1), (walkers, 1))
        self.visits = np.zeros((walkers, bias.visits.numel()), dtype=np.int64)
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
        raised = len(self.generators) * self._height / bias.kT  # by one move of each
        return int(max(min(visited / raised if raised else LONGEST, step / 10, LONGEST), 10))

    def _merge(self, step: int) -> None:
        """Add the deposits of all walkers since the last merge to the bias."""
        bias: Any = self.bias
        if self._height:
            bias.add(self._deposited(), int(self.outside.sum()), self._height)
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
        """Random generators and what the walkers deposited since the last merge."""
        return {
            "generators": [generator.bit_generator.state["state"] for generator in self.generators],
            "potentials": self.potentials,
            "visits": self.visits,
            "outside": self.outside,
            "height": self._height,
            "next_merge": self._next_merge,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        for generator, numbers in zip(self.generators, saved["generators"], strict=True):
            generator.bit_generator.state = {**generator.bit_generator.state, "state": numbers}
        self.potentials, self.visits = np.array(saved["potentials"]), np.array(saved["visits"])
        self.outside, self._height = np.array(saved["outside"]), float(saved["height"])
        self._next_merge = int(saved["next_merge"])


def _known(bias: Any) -> bool:
    """Whether a bias has native code."""
    kind = type(bias).__name__ if _built_in(bias) else ""
    if kind in ("Boltzmann", "ReplicaExchange"):
        return getattr(bias.cvs[0], "native", ())[:2] == ("loss", "train")
    return kind == "WangLandau" or (kind == "Umbrella" and not bias.moving)


def _native(part: Any) -> bool:
    """Whether a CV or a step size has native code."""
    return _built_in(part) and getattr(part, "native", None) is not None


def _built_in(part: Any) -> bool:
    """Whether a part is of nnsim itself; a subclass of your own may do something else than native code would."""
    return type(part).__module__.startswith("nnsim.")
