r"""What superposition is to a molecule, renaming of hidden neurons is to a network.

    W_l -> S_l P_l W_l P_{l-1}^T S_{l-1},        b_l -> S_l P_l b_l          (`nnsim.analysis.chain`)

Of the prod_l h_l! 2^h_l names of a network, `align` seeks the one that is closest to a reference. Names that would make
another network are refused; by what it is known is in `nnsim.analysis.proof`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.checks import as_floats, as_numbers
from nnsim.analysis.images import nearest, period_of_positions
from nnsim.analysis.landscape.axes import Floats
from nnsim.analysis.motion.blocks import (
    Shapes,
    header_of,
    module_text,
    require_parameters,
    require_period,
    vectors,
)
from nnsim.analysis.renaming.chain import Chain, Naming, chain_of
from nnsim.analysis.renaming.proof import Grounds
from nnsim.errors import InputError, require_flag, require_integer, shown

__all__ = ["Alignment", "align", "chain_of", "rename_neurons"]

SWEEPS = 200  # a start settles after about ten; each sweep lowers the distance, so that it cannot go round in circles


@dataclass(frozen=True, eq=False)
class Alignment:
    """Networks with their hidden neurons renamed to come closest to a reference.

    Attributes:
        positions: the renamed parameters, in the shape that was given.
        permutations: of each hidden layer, [..., h_l]: neuron i is now what was neuron permutations[l][..., i].
        signs: of each hidden layer, [..., h_l], +1 or -1.
        rmsd: distance to the reference after, [...], in units of the parameters.
        rmsd_before: the same before.
        proof: what shows that the renamed networks compute the same: `"points"` on which they were tried, the
            `"module"` as it prints itself, the `"names"` of its tensors, or `"none"` (`check=False`).
    """

    positions: Floats
    permutations: tuple[NDArray[np.int64], ...]
    signs: tuple[Floats, ...]
    rmsd: Floats
    rmsd_before: Floats
    proof: str


class Similarity:
    r"""What renaming one hidden layer l would gain, C [h_l, h_l], the others being renamed as they now are.

        C_ij = sum_k W^ref_l,ik W_l,jk + b^ref_l,i b_l,j + sum_k W^ref_l+1,ki W_l+1,kj

    Neuron i of the reference is matched to neuron j at a gain C_ij, and the squared distance falls by twice that; of
    neuron j with other signs the gain is -C_ij. In a periodic box, where squares of differences to nearest images are
    no scalar products, C_ij is -1/2 the sum of those squares, with one table for each sign.
    """

    def __init__(self, chain: Chain, q: Floats, target: Floats, period: Floats | None = None) -> None:
        self.chain = chain
        self.weights: dict[int, tuple[Any, ...]] = {}
        self.fixed = [np.zeros((2, h, h)) for h in chain.hidden]  # of biases, and of the first layer, whose inputs stay
        for tensor in chain.tensors:
            mine, other = q[tensor.at].reshape(tensor.shape), target[tensor.at].reshape(tensor.shape)
            widths = None if period is None else period[tensor.at].reshape(tensor.shape)
            if tensor.layer < len(chain.hidden) and (tensor.is_bias or tensor.layer == 0):
                self.fixed[tensor.layer] += _gains(other, mine, widths)
            if not tensor.is_bias:
                self.weights[tensor.layer] = tensor, mine, other, widths

    def of(self, layer: int, naming: Naming, sides: str = "both") -> Floats:
        """C of one layer for both signs, [2, h, h].

        `sides` may be `"in"` or `"out"`, for a layer whose neighbour has no good names yet.
        """
        total = np.zeros_like(self.fixed[layer])
        if sides != "out":
            total += self.fixed[layer]
            if layer > 0:
                tensor, mine, other, period = self.weights[layer]
                total += _gains(other, self.chain.inward(tensor, mine, naming), period)
        if sides != "in":
            tensor, mine, other, period = self.weights[layer + 1]
            renamed = self.chain.outward(tensor, mine, naming)
            turned = None if period is None else period.swapaxes(0, 1)
            total += _gains(other.swapaxes(0, 1), renamed.swapaxes(0, 1), turned)
        return total

    def best(self, layer: int, naming: Naming, signs: bool, sides: str = "both") -> tuple[Naming, float]:
        """The best names of one layer with all others as they are, and what they gain over the present ones."""
        from scipy.optimize import linear_sum_assignment

        plus, minus = self.of(layer, naming, sides)
        gain = np.maximum(plus, minus) if signs else plus
        rows, columns = linear_sum_assignment(gain, maximize=True)
        flips = np.where(minus > plus, -1.0, 1.0)[rows, columns] if signs else np.ones(len(rows))
        present = np.where(naming.signs[layer] < 0, minus[rows, naming.permutations[layer]], 0.0)
        present += np.where(naming.signs[layer] > 0, plus[rows, naming.permutations[layer]], 0.0)
        better = float(gain[rows, columns].sum() - present.sum())
        if better <= 1e-12 * float(np.abs(gain).max(initial=0.0)) * len(rows):  # ties must not go on for ever
            return naming, 0.0
        return naming.replaced(layer, columns.astype(np.int64), flips), better


def _gains(one: Floats, two: Floats, period: Floats | None) -> Floats:
    """What rows of two tensors [h, ...] have in common, and what those of opposite signs have, [2, h, h]."""
    one, two = one.reshape(len(one), -1), two.reshape(len(two), -1)
    if period is None:
        products = one @ two.T
        return np.stack((products, -products))
    pairs = list(zip(one, period.reshape(one.shape), strict=True))
    squares = [[(nearest(row - other, width) ** 2).sum(1) for row, width in pairs] for other in (two, -two)]
    return -0.5 * np.array(squares)


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


def align_one(
    chain: Chain, q: Floats, target: Floats, signs: bool, starts: Sequence[Start], period: Floats | None = None
) -> Naming:
    """Names of the hidden neurons of one network [n] that bring it closest to another [n], the best of all starts."""
    similarity, best = Similarity(chain, q, target, period), chain.identity()
    least = float((nearest(q - target, period) ** 2).sum())
    for start in starts:
        naming = start.naming
        for layer in start.order if start.side else ():
            naming, _ = similarity.best(int(layer), naming, signs, start.side)
        naming = _settled(similarity, naming, signs, start.order)
        distance = float((nearest(chain.rename(q, naming) - target, period) ** 2).sum())
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
    parameters: Shapes | None = None,
    *,
    signs: bool = False,
    starts: int = 4,
    seed: int = 0,
    period: Any = None,
    system: Any = None,
    module: Any = None,
    points: Any = None,
    check: bool = True,
) -> Alignment:
    r"""Rename the hidden neurons of networks so that they come closest to a reference.

        minimise over P_l, S_l:   |q^ref - rename(q)|^2

    One layer with all others fixed is a linear assignment problem, solved exactly; layers are solved in turn until
    none changes. That is a local minimum of a problem which is NP-hard as a whole, hence several starts, of which the
    best is kept. A network that is only renamed is found exactly; of two unrelated ones the result is an upper bound of
    their distance. Scales (of ReLU networks) are not touched.

    Only a chain of layers computes the same under other names: not one with residual connections, groups, normalised,
    embedded, recurrent, shared or fixed layers. What shows that a network is one is, in this order: a `system` or a
    `module` with `points`, on which other names of each layer are tried; the module as it prints itself, which a
    trajectory has recorded, where it is a `Sequential` of linear layers and ordinary convolutions, of activations,
    pooling and flattening; names and shapes as linear layers of a `Sequential` have them (`0.weight`, `0.bias`,
    `2.weight`, ...). All else is refused, and signs that names alone are to prove are warned of.

    Args:
        positions: parameters [n], or frames of them, [..., n], as `trajectory.positions[a:b]`; or, with all that is
            known of their run, `trajectory.positions` or a `trajectory.slice(...)`.
        reference: [n], or one for each walker, [W, n] for positions [T, W, n] or [W, n].
        parameters: names and shapes of the tensors in order, such as `trajectory.header["parameters"]`: a chain of
            layers `NAME.weight` [out, in] (or convolutions [out, in, ...]) and `NAME.bias` [out].
        signs: also try the sign of each neuron: only where the activation is odd (tanh, identity, softsign, hardtanh),
            otherwise the renamed network computes something else.
        starts: number of starts, at least 1.
        seed: of the order of layers from the third start on, and of the names from the fourth on.
        period: width of a periodic box, a number or [n], in which distances are those to nearest images; None takes
            that of a trajectory, and of an array that there is none.
        system: the `NeuralNetwork` of the run, or a `Simulation` of it.
        module: the torch module itself, in place of a system; with `points`, or where its text is enough.
        points: inputs of the module, [N, ...], of which 16 are taken.
        check: False takes the layers for a chain by their shapes, whatever they do.

    Raises:
        InputError: tensors that make no chain, a renaming that changes what the network computes, or is not known not
            to, shapes that do not fit, or values that are not finite.

    Reference: weight matching, S. K. Ainsworth, J. Hayase, S. Srinivasa, arXiv 2209.04836, sec. 3.2 and algorithm 1;
    the symmetry of signs: A. M. Chen, H. Lu, R. Hecht-Nielsen, DOI 10.1162/neco.1993.5.6.910.

    >>> shapes = {"0.weight": (2, 1), "0.bias": (2,), "2.weight": (1, 2)}
    >>> align([3.0, 1.0, 0.0, 4.0, 5.0, 2.0], [1.0, 3.0, 4.0, 0.0, 2.0, 5.0], shapes).positions.tolist()
    [1.0, 3.0, 4.0, 0.0, 2.0, 5.0]
    """
    signs, check = require_flag("align", "signs", signs), require_flag("align", "check", check)
    starts = require_integer("align", "starts", starts, least=1)
    seed = require_integer("align", "seed", seed, least=0)
    header = header_of(positions)
    q = as_numbers("align", "positions", positions[...] if hasattr(positions, "step") else positions).astype(np.float64)
    if q.ndim == 0 or not q.size or not np.isfinite(q).all():
        raise InputError(
            f"align: positions of shape {q.shape} must be finite numbers [..., n], at least one frame; change positions"
        )
    size, walkers = q.shape[-1], q.shape[-2] if q.ndim > 1 else 1
    flat, out, names = q.reshape(-1, size), np.empty_like(q).reshape(-1, size), []
    names_and_shapes = require_parameters("align", header.get("parameters") if parameters is None else parameters, size)
    grounds = Grounds(module_text(header), system, module, points, check)
    chain, proof = grounds.chain("align", names_and_shapes, flat[0], signs)
    targets = vectors("align", "reference", reference, walkers, size)
    widths = require_period("align", period, size)
    if widths is None:
        widths = period_of_positions("align", header, np.arange(size))
    every = starts_of(chain, starts, seed, signs)
    for index, one in enumerate(flat):
        names.append(align_one(chain, one, targets[index % walkers], signs, every, widths))
        out[index] = chain.rename(one, names[-1])
    lead = q.shape[:-1]
    after, before = (_distance(frames, targets, widths).reshape(lead) for frames in (out, flat))
    layers = range(len(chain.hidden))
    return Alignment(
        out.reshape(q.shape),
        tuple(_stacked([one.permutations[layer] for one in names], lead) for layer in layers),
        tuple(_stacked([one.signs[layer] for one in names], lead) for layer in layers),
        after,
        before,
        proof,
    )


def rename_neurons(
    positions: Any,
    parameters: Shapes,
    permutations: Sequence[Any],
    signs: Sequence[Any] | None = None,
    *,
    system: Any = None,
    module: Any = None,
    points: Any = None,
    check: bool = True,
) -> Floats:
    """Parameters, or velocities, of the same network with other names of its hidden neurons.

    Args:
        positions: [n].
        parameters: names and shapes, as for `align`.
        permutations: of each hidden layer, [h_l]: new neuron i is the old neuron permutations[l][i].
        signs: of each hidden layer, [h_l], +1 or -1; None is +1.
        system: what shows that the network then computes the same, as for `align`.
        module: likewise.
        points: likewise.
        check: likewise.

    Raises:
        InputError: tensors that make no chain, a renaming that changes what the network computes, or is not known not
            to, or something that is not one permutation and sign for each layer.
    """
    owner = "rename_neurons"
    q = as_numbers(owner, "positions", positions)
    if q.ndim != 1:
        raise InputError(f"{owner}: positions of shape {q.shape} must be those of one network, [n]; take one of them")
    shapes = require_parameters(owner, parameters, len(q))
    if not np.isfinite(q).all():
        raise InputError(f"{owner}: positions are not all finite; give those of another frame")
    check = require_flag(owner, "check", check)
    names = _layer_lists(owner, "permutations", permutations)
    flips = None if signs is None else _layer_lists(owner, "signs", signs)
    turned = flips is not None and any(bool((one != 1).any()) for one in flips)
    chain, _ = Grounds(None, system, module, points, check).chain(owner, shapes, q.astype(np.float64), turned)
    naming = Naming(
        cast("tuple[NDArray[np.int64], ...]", names),  # whole if they fit
        chain.identity().signs if flips is None else flips,
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
    whole = tuple(one.astype(np.int64) for one in naming.permutations)
    return chain.rename(q, Naming(whole, naming.signs))


def _layer_lists(owner: str, name: str, given: Any) -> tuple[Floats, ...]:
    """Numbers of each hidden layer."""
    if isinstance(given, str) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
        raise InputError(f"{owner}: {name} = {shown(given)} must be a list for each hidden layer; change {name}")
    return tuple(as_floats(owner, name, one, axes=1) for one in given)


def _distance(frames: Floats, targets: Floats, period: Floats | None) -> Floats:
    """Rmsd of frames [F, n] to the targets [W, n] of their walkers."""
    difference = nearest(frames.reshape(-1, *targets.shape) - targets, period)
    return np.asarray(np.sqrt((difference**2).mean(axis=-1)))


def _stacked(rows: list[NDArray[Any]], lead: tuple[int, ...]) -> NDArray[Any]:
    return np.stack(rows).reshape(*lead, -1)
