"""The arrays that the compiled Monte Carlo loop works on, made from a simulation's parts."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from nnsim.grid.deposits import NOW_AND_THEN
from nnsim.grid.grid import native_scratch
from nnsim.logit import EPSILON
from nnsim.platforms import monte_carlo_kernel as kernel
from nnsim.platforms.formulas import Row, rows_of
from nnsim.platforms.obstacles import main_bias, walls
from nnsim.random.streams import WALKERS, Purpose

if TYPE_CHECKING:
    from nnsim.forcefield import ForceField
    from nnsim.platforms.native import DenseNetwork
    from nnsim.state import State

ACTIVATIONS = {"relu": kernel.RELU, "tanh": kernel.TANH, "silu": kernel.SILU, "sigmoid": kernel.SIGMOID}
STEPS = {"fixed": kernel.FIXED, "mixed": kernel.MIXED, "tuned": kernel.TUNED}
LOSSES = {
    ("cross_entropy", False): kernel.CROSS_ENTROPY,
    ("cross_entropy", True): kernel.WEIGHTED_CROSS_ENTROPY,
    ("mse", False): kernel.MSE,
    ("bce", False): kernel.BCE,
    ("bce", True): kernel.WEIGHTED_BCE,
}
CVS = {
    "loss": kernel.LOSS,
    "ln_loss": kernel.LN_LOSS,
    "accuracy": kernel.ACCURACY,
    "smoothed": kernel.SMOOTHED,
    "logit_smoothed": kernel.LOGIT_SMOOTHED,
}


class Arrays:
    """Everything `monte_carlo_kernel.advance` takes, and the call of it for one walker."""

    def __init__(self, integrator: Any, force_field: ForceField, state: State) -> None:
        network = force_field.system.dense_network()
        assert network is not None
        self.network = _layers(network)
        self.problem = _problem(network)
        self.stepping = _stepping(integrator, force_field.system.box, state.positions.shape[1])
        bias: Any = main_bias(force_field)
        # The CVs in the order of the main bias, whose grid has the first columns; then those that only walls have.
        columns = {cv.name: column for column, cv in enumerate(force_field.cvs)}
        own = [] if bias is None else [columns[cv.name] for cv in bias.cvs]
        self.columns = np.array([*own, *(set(columns.values()) - set(own))], dtype=np.int64)
        cvs = [force_field.cvs[column] for column in self.columns]
        self.cvs = _rows(cvs)
        self.walls = _walls(force_field, {cv.name: column for column, cv in enumerate(cvs)})
        kind = None if bias is None else bias.native
        self.bias = bias if kind == "grid" else None  # one that walkers deposit on
        self.tilted = bias if kind in ("slope", "exchange") else None  # one that is linear in the train loss
        self.between = bias if kind in NOW_AND_THEN else None  # one that changes from time to time
        self.kernels = [_NO_KERNELS] * state.walkers
        self.ramp = float(max(self.tilted.ramp, 1)) if self.tilted is not None else 1.0
        self.slopes = [0.0] * state.walkers
        self.springs = _springs(bias, state.walkers) if kind == "springs" else [_NO_SPRING] * state.walkers
        self.terms = (integrator.kT, float(network.loss_factor), float(network.prior))
        self.streams = state.generator
        self.rooms = [_Room(network, sum(map(len, self.cvs)), state.positions[0].numpy()) for _ in range(state.walkers)]

    def take(self) -> None:
        """Take over the present slopes of a bias that is linear in the train loss, or kernels."""
        if self.tilted is not None:
            self.slopes = self.tilted.full_slope(len(self.slopes)).tolist()
        elif self.between is not None:
            shared = (self.between.kernels.numpy(), self.between.wraps, self.between.numbers())
            self.kernels = [(*shared, _apart((3,))) for _ in self.kernels]

    def advance(self, walker: int, moves: int, step: int, place: Any, own: Any) -> tuple[float, int, int]:
        """Move one walker; `place` is (positions [n], cvs [k], step size [1]) and changes, `own` its bias.

        Returns:
            Its energy, how many moves were accepted, and how many counted outside the grid.
        """
        room, (positions, cvs, step_size) = self.rooms[walker], place
        shared = _NO_BIAS
        if self.bias is not None:
            grid, table = self.bias.grid, self.bias.kernel
            shared = (grid.kind == "spline", grid.native_tables, grid.native_nodes, *table.native_tables)
        room.positions[:] = positions
        stream = np.uint64(self.streams.first_walker + walker + WALKERS * Purpose.MOVE)
        result = kernel.advance(
            moves, step, (np.uint64(self.streams.key), stream, room.words), room.positions, self.network, room.neurons,
            self.problem, self.cvs, self.stepping, step_size, (*self.terms, self.slopes[walker], self.ramp),
            self.springs[walker], self.kernels[walker], self.walls, (self.bias is not None, *own, *shared), room.s,
            room.scratch,
        )  # fmt: skip
        positions[:], cvs[self.columns] = room.positions, room.s[0, 0, : len(self.columns)]
        return result


class _Room:
    """What only one walker writes to, apart from others': two threads that write to the same 64 bytes collide."""

    def __init__(self, network: DenseNetwork, values: int, positions: np.ndarray) -> None:
        points, neurons = len(network.points), sum(network.sizes)
        self.positions = _apart(positions.shape, positions.dtype)
        self.s = _apart((2, 1, max(values, 1)))  # the CVs and their rows, now and in the trial
        pre, act = _apart((2 * neurons, points)), _apart((2 * neurons + 2, points))
        act[: network.sizes[0]] = network.points.T
        act[2 * neurons] = 1.0
        at, now = _apart((neurons,), np.int64), _apart((neurons,), np.int64)
        at[:] = now[:] = np.arange(neurons)
        self.neurons = (pre, act, at, now)
        self.scratch = (_apart((3, points)), _apart((1,)), _apart((1, 3)), *native_scratch())
        self.words = _apart((4, kernel.BATCH), np.uint64)


def _apart(shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    """Zeros with 128 unused bytes before and after them."""
    guard, count = 128 // np.dtype(dtype).itemsize, math.prod(shape)
    return np.zeros(count + 2 * guard, dtype)[guard : guard + count].reshape(shape)


_FLOATS, _INTS = np.zeros(1), np.zeros(1, dtype=np.int64)
_NO_BIAS = (
    False,
    (_FLOATS, _FLOATS, _FLOATS, _INTS, np.zeros(1, dtype=np.bool_)),
    np.zeros((1, 5), dtype=np.int64),
    _INTS,
    np.zeros((3, 1, 1), dtype=np.int64),
    np.zeros((3, 1, 1)),
    np.ones(3, dtype=np.int64),
)


_NO_KERNELS = (np.zeros((1, 1)), np.zeros(0), np.zeros(5), np.zeros(3))  # and room for the slope
_NO_SPRING = (np.zeros(0), np.zeros(0), np.zeros(0))


def _springs(umbrella: Any, walkers: int) -> list[tuple[np.ndarray, ...]]:
    """Stiffness, centre and period (0 for none) of each CV, for each walker."""
    rows = [values.expand(walkers, -1).numpy().copy() for values in (umbrella.stiffness, umbrella.center)]
    periods = np.array([period or 0.0 for period in umbrella.periods])
    return [(rows[0][walker], rows[1][walker], periods) for walker in range(walkers)]


def _walls(force_field: ForceField, columns: dict[str, int]) -> np.ndarray:
    """Column of the CV, lower and upper edge, strength and whether quadratic of each wall, [B, 5]."""
    rows = [(columns[wall.cvs[0].name], *wall.native) for wall in walls(force_field)]
    return np.array(rows, dtype=np.float64).reshape(-1, 5)


def _problem(network: DenseNetwork) -> tuple[Any, ...]:
    """Kind of loss, values, labels, signs (1 and -1 for the classes 0 and 1) and shares; what divides the sums."""
    splits = network.losses
    kind = LOSSES[splits[0].kind, any(split.weighted for split in splits)]
    values, labels, shares = (
        np.ascontiguousarray(np.concatenate([getattr(split, name) for split in splits]))
        for name in ("values", "labels", "shares")
    )
    answers = (kind, values, labels, 1.0 - 2.0 * labels, shares)
    norms, counted = np.array([split.norm for split in splits]), np.array([split.counted for split in splits])
    return answers, np.uint64(network.train), norms, counted, EPSILON, network.tiny


def _layers(network: DenseNetwork) -> tuple[Any, ...]:
    """Sizes, first row of each layer, offsets, activation, and for each parameter its neuron's row and its source."""
    sizes = np.array(network.sizes, dtype=np.int64)
    rows = np.concatenate(([0], np.cumsum(sizes)))
    weights, biases = np.array(network.weights), np.array(network.biases)
    count = int(sum(a * b + (b if bias >= 0 else 0) for (a, b), bias in zip(pairwise(sizes), biases, strict=True)))
    owner, source = np.empty(count, dtype=np.int64), np.full(count, -1, dtype=np.int64)
    for layer, (a, b) in enumerate(pairwise(sizes)):
        places = weights[layer] + np.arange(a * b)
        owner[places], source[places] = rows[layer + 1] + np.arange(a * b) // a, np.arange(a * b) % a
        if biases[layer] >= 0:
            owner[biases[layer] + np.arange(b)] = rows[layer + 1] + np.arange(b)
    return sizes, rows, weights, biases, ACTIVATIONS[network.activation], owner, source


def _rows(cvs: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Kind, split, slope, scale or number, and the two rows before that each row is made of, [R, 6]; the CVs' rows."""
    rows, shown = rows_of(cvs)
    return np.array([_row(one) for one in rows], dtype=np.float64).reshape(-1, 6), np.array(shown, dtype=np.int64)


def _row(row: Row) -> tuple[float, ...]:
    if row.known is None:
        return row.kind, 0.0, 0.0, row.number, row.left, row.right
    kind, split, slope, scale = row.known
    return CVS[kind], 0.0 if split == "train" else 1.0, slope, scale, 0, 0


def _stepping(integrator: Any, box: Any, n: int) -> tuple[Any, ...]:
    """Kind and range of step sizes, tuning, the lattice (empty for a box), the limits of each parameter, [2, n].

    The last is whether these are the same place.
    """
    size: dict[str, Any] = {"low": 0.0, "high": 0.0, "target": 0.5, "warmup": 0, "smallest": 0.0, "largest": 1.0}
    size |= integrator.native_step
    ends, tuned = (float(size["low"]), float(size["high"])), (float(size["smallest"]), float(size["largest"]))
    numbers = (*ends, float(size["target"]), int(size["warmup"]), *tuned)
    lattice, limits = np.zeros(0), np.tile([[-np.inf], [np.inf]], n)
    if box.kind == "lattice":
        lattice = box.values.numpy()
    elif box.kind != "open":
        limits = np.stack([edge.double().expand(n).numpy() for edge in (box.lower, box.upper)])
    return STEPS[size["kind"]], *numbers, lattice, limits, box.kind == "periodic"
