r"""What superposition is to a molecule, renaming of hidden neurons is to a network.

A network computes the same if the neurons of a hidden layer are permuted, and, where the activation is odd, such as
tanh, if the signs of all weights of a neuron are changed. With W_l [out, in] and b_l of layer l, permutations P_l and
signs S_l = diag(+-1), P_0 and P_L the identity,

    W_l -> S_l P_l W_l P_{l-1}^T S_{l-1},        b_l -> S_l P_l b_l

Of the prod_l h_l! 2^h_l names of a network, `align` seeks the one that is closest to a reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.axes import Floats
from nnsim.analysis.recorded import Shapes, as_numbers, places_of, require_parameters, vectors
from nnsim.errors import InputError, require_integer

SWEEPS = 200  # a start settles after about ten; each sweep lowers the distance, so that it cannot go round in circles


@dataclass(frozen=True, eq=False)
class Naming:
    """New names of the hidden neurons: neuron i of hidden layer l is `signs[l][i]` times the old `permutations[l][i]`.

    Attributes:
        permutations: of each hidden layer, [h_l] int64.
        signs: of each hidden layer, [h_l], +1 or -1.
    """

    permutations: tuple[NDArray[np.int64], ...]
    signs: tuple[Floats, ...]

    def replaced(self, layer: int, permutation: NDArray[np.int64], signs: Floats) -> Naming:
        """The same with other names in one layer."""
        permutations, others = list(self.permutations), list(self.signs)
        permutations[layer], others[layer] = permutation, signs
        return Naming(tuple(permutations), tuple(others))


@dataclass(frozen=True, eq=False)
class Alignment:
    """Networks with their hidden neurons renamed to come closest to a reference.

    Attributes:
        positions: the renamed parameters, in the shape that was given.
        permutations: of each hidden layer, [..., h_l]: neuron i is now what was neuron permutations[l][..., i].
        signs: of each hidden layer, [..., h_l], +1 or -1.
        rmsd: distance to the reference after, [...], in units of the parameters.
        rmsd_before: the same before.
    """

    positions: Floats
    permutations: tuple[NDArray[np.int64], ...]
    signs: tuple[Floats, ...]
    rmsd: Floats
    rmsd_before: Floats


@dataclass(frozen=True)
class Tensor:
    """One tensor in the flat positions: its shape [out, in, rest], or [out] as [out, 1, 1] for a bias."""

    at: slice
    shape: tuple[int, int, int]
    layer: int
    is_bias: bool


@dataclass(frozen=True)
class Chain:
    """Layers of which each takes the outputs of the one before.

    Attributes:
        tensors: weights and biases.
        widths: number of outputs of each layer; all but the last are hidden.
    """

    tensors: tuple[Tensor, ...]
    widths: tuple[int, ...]

    @property
    def hidden(self) -> tuple[int, ...]:
        """Number of neurons of each hidden layer."""
        return self.widths[:-1]

    def identity(self) -> Naming:
        """The names as they are."""
        return Naming(tuple(np.arange(h) for h in self.hidden), tuple(np.ones(h) for h in self.hidden))

    def random(self, generator: np.random.Generator, signs: bool = True) -> Naming:
        """Names at random."""
        permutations = tuple(generator.permutation(h) for h in self.hidden)
        flips = tuple(generator.choice([-1.0, 1.0], h) if signs else np.ones(h) for h in self.hidden)
        return Naming(permutations, flips)

    def rename(self, q: Floats, naming: Naming) -> Floats:
        """Parameters [n] of the same network under other names; a velocity is renamed in the same way."""
        out = np.empty_like(q)
        for tensor in self.tensors:
            weights = self.inward(tensor, self.outward(tensor, q[tensor.at].reshape(tensor.shape), naming), naming)
            out[tensor.at] = weights.reshape(-1)
        return out

    def outward(self, tensor: Tensor, weights: Floats, naming: Naming) -> Floats:
        """A tensor with its outputs renamed."""
        if tensor.layer >= len(self.hidden):
            return weights
        return weights[naming.permutations[tensor.layer]] * naming.signs[tensor.layer][:, None, None]

    def inward(self, tensor: Tensor, weights: Floats, naming: Naming) -> Floats:
        """A tensor with its inputs renamed."""
        if tensor.is_bias or tensor.layer == 0:
            return weights
        return weights[:, naming.permutations[tensor.layer - 1]] * naming.signs[tensor.layer - 1][:, None]


def chain_of(owner: str, parameters: Shapes) -> Chain:
    """The layers of a network by names and shapes of its tensors.

    Layers are in the order of the names; each is a `NAME.weight` of shape [out, in], or [out, in, ...] of a
    convolution, and perhaps a `NAME.bias` [out]. A linear layer after a convolution takes its flattened channels.

    Raises:
        InputError: tensors of other names or shapes, layers that do not follow each other, or a single layer.
    """
    tensors: list[Tensor] = []
    widths: list[int] = []
    convolution = False
    for (name, shape), at in zip(parameters.items(), places_of(parameters).values(), strict=True):
        part, size = name.rpartition(".")[2], tuple(int(s) for s in shape)
        if part == "bias" and widths and size == (widths[-1],) and not tensors[-1].is_bias:
            tensors.append(Tensor(at, (size[0], 1, 1), len(widths) - 1, True))
            continue
        if part != "weight" or len(size) < 2 or 0 in size:
            raise _no_chain(owner, name, size, "neither a weight [out, in, ...] nor the bias [out] of the layer before")
        units = size[1]
        if widths and convolution and len(size) == 2 and size[1] % widths[-1] == 0:
            units = widths[-1]
        if widths and units != widths[-1]:
            raise _no_chain(owner, name, size, f"its inputs are not the {widths[-1]} outputs of the layer before")
        tensors.append(Tensor(at, (size[0], units, math.prod(size) // (size[0] * units)), len(widths), False))
        widths.append(size[0])
        convolution = len(size) > 2
    if len(widths) < 2:
        raise InputError(f"{owner}: a network of {len(widths)} layers has no hidden neurons to rename; do not align it")
    return Chain(tuple(tensors), tuple(widths))


def _no_chain(owner: str, name: str, shape: tuple[int, ...], why: str) -> InputError:
    return InputError(
        f"{owner}: parameter {name} of shape {list(shape)}: {why}; only chains of linear and convolutional layers can "
        "be aligned, whose parameters are named LAYER.weight and LAYER.bias, from inputs to outputs"
    )


class Similarity:
    r"""What renaming one hidden layer l would gain, C [h_l, h_l], the others being renamed as they now are.

        C_ij = sum_k W^ref_l,ik W_l,jk + b^ref_l,i b_l,j + sum_k W^ref_l+1,ki W_l+1,kj

    Neuron i of the reference is matched to neuron j at a gain C_ij, and the squared distance falls by twice that.
    """

    def __init__(self, chain: Chain, q: Floats, target: Floats) -> None:
        self.chain = chain
        pairs = [(tensor, q[tensor.at], target[tensor.at]) for tensor in chain.tensors]
        self.pairs = [(tensor, a.reshape(tensor.shape), b.reshape(tensor.shape)) for tensor, a, b in pairs]
        self.fixed = [np.zeros((h, h)) for h in chain.hidden]  # of biases, and of the first layer, whose inputs stay
        for tensor, mine, other in self.pairs:
            if tensor.layer < len(chain.hidden) and (tensor.is_bias or tensor.layer == 0):
                self.fixed[tensor.layer] += _products(other, mine)
        self.weights = {tensor.layer: (tensor, mine, other) for tensor, mine, other in self.pairs if not tensor.is_bias}

    def of(self, layer: int, naming: Naming, sides: str = "both") -> Floats:
        """C of one layer; `sides` may be `"in"` or `"out"`, for a layer whose neighbour has no good names yet."""
        total = np.zeros_like(self.fixed[layer])
        if sides != "out":
            total += self.fixed[layer]
            if layer > 0:
                tensor, mine, other = self.weights[layer]
                total += _products(other, self.chain.inward(tensor, mine, naming))
        if sides != "in":
            tensor, mine, other = self.weights[layer + 1]
            renamed = self.chain.outward(tensor, mine, naming)
            total += _products(other.swapaxes(0, 1), renamed.swapaxes(0, 1))
        return total

    def best(self, layer: int, naming: Naming, signs: bool, sides: str = "both") -> tuple[Naming, float]:
        """The best names of one layer with all others as they are, and what they gain over the present ones."""
        from scipy.optimize import linear_sum_assignment

        gain = self.of(layer, naming, sides)
        rows, columns = linear_sum_assignment(np.abs(gain) if signs else gain, maximize=True)
        flips = np.where(gain[rows, columns] < 0, -1.0, 1.0) if signs else np.ones(len(rows))
        before = float((gain[rows, naming.permutations[layer]] * naming.signs[layer]).sum())
        better = float((gain[rows, columns] * flips).sum()) - before
        if better <= 1e-12 * float(np.abs(gain).max(initial=0.0)) * len(rows):  # ties must not go on for ever
            return naming, 0.0
        return naming.replaced(layer, columns.astype(np.int64), flips), better


def _products(one: Floats, two: Floats) -> Floats:
    """Scalar products of the rows of two tensors [h, ...], [h, h]."""
    return np.asarray(one.reshape(len(one), -1) @ two.reshape(len(two), -1).T)


@dataclass(frozen=True)
class Start:
    """Where a search begins.

    Attributes:
        naming: the first names.
        order: in which the layers are renamed, [number of hidden layers].
        side: `"in"` or `"out"`: the first round looks at this side of each layer alone; `""`: at both.
    """

    naming: Naming
    order: NDArray[np.int64]
    side: str = ""


def starts_of(chain: Chain, count: int, seed: int, signs: bool) -> list[Start]:
    """Different starts of the search.

    The first two go from the inputs on and from the outputs back, each layer by its known side alone, which finds what
    is only renamed at once; the third begins from the names as they are, all others from names at random, with the
    layers in random order.
    """
    generator = np.random.default_rng(seed)
    layers, same = np.arange(len(chain.hidden)), chain.identity()
    found = [Start(same, layers, "in"), Start(same, layers[::-1], "out"), Start(same, generator.permutation(layers))]
    while len(found) < count:
        found.append(Start(chain.random(generator, signs), generator.permutation(layers)))
    return found[:count]


def align_one(chain: Chain, q: Floats, target: Floats, signs: bool, starts: Sequence[Start]) -> Naming:
    """Names of the hidden neurons of one network [n] that bring it closest to another [n], the best of all starts."""
    similarity, best = Similarity(chain, q, target), chain.identity()
    least = float(((q - target) ** 2).sum())
    for start in starts:
        naming = start.naming
        for layer in start.order if start.side else ():
            naming, _ = similarity.best(int(layer), naming, signs, start.side)
        naming = _settled(similarity, naming, signs, start.order)
        distance = float(((chain.rename(q, naming) - target) ** 2).sum())
        if distance < least:
            best, least = naming, distance
    return best


def _settled(similarity: Similarity, naming: Naming, signs: bool, order: NDArray[np.int64]) -> Naming:
    """Rename layer after layer, each the best for the others, until none changes."""
    for _ in range(SWEEPS):
        gained = 0.0
        for layer in order:
            naming, better = similarity.best(int(layer), naming, signs)
            gained += better
        if gained == 0.0:
            break
    return naming


def align(
    positions: Any,
    reference: Any,
    parameters: Shapes,
    *,
    signs: bool = False,
    starts: int = 4,
    seed: int = 0,
) -> Alignment:
    r"""Rename the hidden neurons of networks so that they come closest to a reference.

        minimise over P_l, S_l:   |q^ref - rename(q)|^2

    One layer with all others fixed is a linear assignment problem, solved exactly; layers are solved in turn until
    none changes. That is a local minimum of a problem which is NP-hard as a whole, hence several starts, of which the
    best is kept. A network that is only renamed is found exactly; of two unrelated ones the result is an upper bound of
    their distance. Scales (of ReLU networks) are not touched.

    Args:
        positions: parameters [n], or frames of them, [..., n]; for a trajectory `trajectory.positions[a:b]`.
        reference: [n], or one for each walker, [W, n] for positions [T, W, n] or [W, n].
        parameters: names and shapes of the tensors in order, such as `trajectory.header["parameters"]`: a chain of
            layers `NAME.weight` [out, in] (or convolutions [out, in, ...]) and `NAME.bias` [out]. Skip connections,
            which names do not show, must not be aligned.
        signs: also try the sign of each neuron: only where the activation is odd (tanh, identity, softsign, hardtanh),
            otherwise the renamed network computes something else.
        starts: number of starts, at least 1.
        seed: of the order of layers from the third start on, and of the names from the fourth on.

    Raises:
        InputError: tensors that make no chain, shapes that do not fit, or values that are not finite.

    Reference: weight matching, S. K. Ainsworth, J. Hayase, S. Srinivasa, arXiv 2209.04836, sec. 3.2 and algorithm 1;
    the symmetry of signs: A. M. Chen, H. Lu, R. Hecht-Nielsen, DOI 10.1162/neco.1993.5.6.910.

    >>> shapes = {"0.weight": (2, 1), "2.weight": (1, 2)}
    >>> align([3.0, 1.0, 5.0, 2.0], [1.0, 3.0, 2.0, 5.0], shapes).positions.tolist()
    [1.0, 3.0, 2.0, 5.0]
    """
    starts = require_integer("align", "starts", starts, least=1)
    seed = require_integer("align", "seed", seed, least=0)
    q = as_numbers("align", "positions", positions[...] if hasattr(positions, "step") else positions).astype(np.float64)
    if q.ndim == 0 or not q.size or not np.isfinite(q).all():
        raise InputError(
            f"align: positions of shape {q.shape} must be finite numbers [..., n], at least one frame; change positions"
        )
    chain = chain_of("align", require_parameters("align", parameters, q.shape[-1]))
    walkers = q.shape[-2] if q.ndim > 1 else 1
    targets = vectors("align", "reference", reference, walkers, q.shape[-1])
    flat, out, names = q.reshape(-1, q.shape[-1]), np.empty_like(q).reshape(-1, q.shape[-1]), []
    every = starts_of(chain, starts, seed, signs)
    for index, one in enumerate(flat):
        names.append(align_one(chain, one, targets[index % walkers], signs, every))
        out[index] = chain.rename(one, names[-1])
    lead = q.shape[:-1]
    distances = [_distance(frames, targets).reshape(lead) for frames in (out, flat)]
    layers = range(len(chain.hidden))
    return Alignment(
        out.reshape(q.shape),
        tuple(_stacked([one.permutations[layer] for one in names], lead) for layer in layers),
        tuple(_stacked([one.signs[layer] for one in names], lead) for layer in layers),
        *distances,
    )


def rename_neurons(
    positions: Any, parameters: Shapes, permutations: Sequence[Any], signs: Sequence[Any] | None = None
) -> Floats:
    """Parameters, or velocities, of the same network with other names of its hidden neurons.

    Args:
        positions: [n].
        parameters: names and shapes, as for `align`.
        permutations: of each hidden layer, [h_l]: new neuron i is the old neuron permutations[l][i].
        signs: of each hidden layer, [h_l], +1 or -1; None is +1.

    Raises:
        InputError: tensors that make no chain, or something that is not one permutation and sign for each layer.
    """
    q = as_numbers("rename_neurons", "positions", positions)
    chain = chain_of(
        "rename_neurons", require_parameters("rename_neurons", parameters, q.shape[-1] if q.ndim == 1 else -1)
    )
    naming = Naming(
        tuple(np.asarray(one) for one in permutations),
        chain.identity().signs if signs is None else tuple(np.asarray(one, dtype=np.float64) for one in signs),
    )
    fits = [len(naming.permutations), len(naming.signs)] == [len(chain.hidden)] * 2 and all(
        np.array_equal(np.sort(p), np.arange(h)) and s.shape == (h,) and bool((np.abs(s) == 1).all())
        for p, s, h in zip(naming.permutations, naming.signs, chain.hidden, strict=True)
    )
    if not fits:
        raise InputError(
            f"rename_neurons: permutations and signs must be one of each hidden layer, of widths "
            f"{list(chain.hidden)}, the signs +1 or -1; change them"
        )
    return chain.rename(q, naming)


def _distance(frames: Floats, targets: Floats) -> Floats:
    """Rmsd of frames [F, n] to the targets [W, n] of their walkers."""
    difference = frames.reshape(-1, *targets.shape) - targets
    return np.asarray(np.sqrt((difference**2).mean(axis=-1)))


def _stacked(rows: list[NDArray[Any]], lead: tuple[int, ...]) -> NDArray[Any]:
    return np.stack(rows).reshape(*lead, -1)
