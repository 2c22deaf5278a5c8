"""The arrays that the compiled Monte Carlo loop works on, made from a simulation's parts."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from nnsim.platforms import monte_carlo_kernel as kernel

if TYPE_CHECKING:
    from nnsim.forcefield import ForceField
    from nnsim.platforms.native import DenseNetwork

ACTIVATIONS = {"relu": kernel.RELU, "tanh": kernel.TANH, "silu": kernel.SILU, "sigmoid": kernel.SIGMOID}
STEPS = {"fixed": kernel.FIXED, "mixed": kernel.MIXED, "tuned": kernel.TUNED}
LOSSES = {"cross_entropy": kernel.CROSS_ENTROPY, "mse": kernel.MSE}
CVS = {
    "loss": kernel.LOSS,
    "ln_loss": kernel.LN_LOSS,
    "accuracy": kernel.ACCURACY,
    "smoothed": kernel.SMOOTHED,
    "logit_smoothed": kernel.LOGIT_SMOOTHED,
}
EPSILON = 1e-4  # of the logit of the smoothed accuracy, as in nnsim.cv.accuracy
TINY = float(np.finfo(np.float32).tiny)  # the smallest loss, as in nnsim.cv.loss for a float32 network


class Arrays:
    """Everything `monte_carlo_kernel.advance` takes, and the call of it for one walker."""

    def __init__(self, integrator: Any, force_field: ForceField, walkers: int) -> None:
        network: DenseNetwork = force_field.system.dense_network()  # type: ignore[attr-defined]
        self.network = _layers(network)
        self.neurons = [_neurons(network) for _ in range(walkers)]
        targets = np.ascontiguousarray(network.targets, dtype=np.float64)
        classify = network.loss == "cross_entropy"
        labels = targets[:, 0].astype(np.int64) if classify else np.zeros(len(targets), dtype=np.int64)
        self.problem = (targets, labels, network.train, LOSSES[network.loss], EPSILON, TINY)
        self.cvs = np.array([_cv(cv) for cv in force_field.cvs], dtype=np.float64).reshape(-1, 4)
        self.stepping = _stepping(integrator, force_field.system.box, len(self.network[5]))
        self.energy_terms = (integrator.kT, float(network.loss_factor), float(network.prior))
        self.bias: Any = force_field.biases[0] if force_field.biases else None
        self.new_s = np.zeros((walkers, 1, max(len(self.cvs), 1)))
        self.refresh = np.zeros((walkers, 1), dtype=np.int64)

    def advance(
        self, walker: int, moves: int, step: int, generator: np.random.Generator, place: Any, own: Any, counts: Any
    ) -> float:
        """Move one walker; `place` is (positions [n], cvs [1, k], step size [1]) and changes, `own` its bias."""
        positions, s, step_size = place
        potential, visits, height = own
        accepted, outside = counts
        if self.bias is None:
            shared = _NO_BIAS
        else:
            grid, table = self.bias.grid, self.bias.kernel
            shared = (grid.kind == "spline", grid.native_tables, grid.native_nodes, *table.native_tables)
        spline, tables, nodes, strides, indices, weights, widths = shared
        bias = (
            self.bias is not None,
            spline,
            potential,
            visits,
            height,
            tables,
            nodes,
            strides,
            indices,
            weights,
            widths,
        )
        counters = (s, self.new_s[walker], step_size, accepted, outside, self.refresh[walker])
        return kernel.advance(
            moves, step, generator, positions, self.network, self.neurons[walker], self.problem, self.cvs,
            self.stepping, self.energy_terms, bias, counters,
        )  # fmt: skip


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


def _layers(network: DenseNetwork) -> tuple[Any, ...]:
    """Sizes, first row of each layer, offsets, activation, and for each parameter its neuron's row and its source."""
    sizes = np.array(network.sizes, dtype=np.int64)
    rows = np.concatenate(([0], np.cumsum(sizes)))
    weights, biases = np.array(network.weights), np.array(network.biases)
    count = int(sum(a * b + b for a, b in pairwise(sizes)))
    owner, source = np.empty(count, dtype=np.int64), np.full(count, -1, dtype=np.int64)
    for layer, (a, b) in enumerate(pairwise(sizes)):
        places = weights[layer] + np.arange(a * b)
        owner[places], source[places] = rows[layer + 1] + np.arange(a * b) // a, np.arange(a * b) % a
        owner[biases[layer] + np.arange(b)] = rows[layer + 1] + np.arange(b)
    return sizes, rows, weights, biases, ACTIVATIONS[network.activation], owner, source


def _neurons(network: DenseNetwork) -> tuple[np.ndarray, ...]:
    """Values of all neurons before and after activation, now and in the trial, [rows, N]; the inputs filled in."""
    arrays = tuple(np.zeros((sum(network.sizes), len(network.points))) for _ in range(4))
    for values in arrays:
        values[: network.sizes[0]] = network.points.T
    return arrays


def _cv(cv: Any) -> tuple[float, ...]:
    kind, split, slope, scale = cv.native
    return CVS[kind], 0.0 if split == "train" else 1.0, slope, scale


def _stepping(integrator: Any, box: Any, n: int) -> tuple[Any, ...]:
    """Kind and range of step sizes, tuning, the lattice (empty for a box) and the limits of each parameter [2, n]."""
    size = {"low": 0.0, "high": 0.0, "target": 0.5, "warmup": 0, "largest": 1.0, **integrator.step_size.native}
    numbers = (
        float(size["low"]),
        float(size["high"]),
        float(size["target"]),
        int(size["warmup"]),
        float(size["largest"]),
    )
    lattice, limits = np.zeros(0), np.tile([[-np.inf], [np.inf]], n)
    if box.kind == "lattice":
        lattice = box.values.numpy()
    elif box.kind != "open":
        limits = np.stack([edge.double().expand(n).numpy() for edge in (box.lower, box.upper)])
    return STEPS[size["kind"]], *numbers, lattice, limits
