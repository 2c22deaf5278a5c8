r"""Networks whose layers follow each other, and other names of their hidden neurons.

A network computes the same if the neurons of a hidden layer are permuted, and, where the activation is odd, such as
tanh, if the signs of all weights of a neuron are changed. With W_l [out, in] and b_l of layer l, permutations P_l and
signs S_l = diag(+-1), P_0 and P_L the identity,

    W_l -> S_l P_l W_l P_{l-1}^T S_{l-1},        b_l -> S_l P_l b_l

That holds for a chain, in which the outputs of a layer go to the next one alone, one by one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.landscape.axes import Floats
from nnsim.analysis.motion.blocks import Shapes
from nnsim.errors import InputError
from nnsim.networks.layout import places_of


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
        names: of the layers, which are the beginnings of those of their tensors.
    """

    tensors: tuple[Tensor, ...]
    widths: tuple[int, ...]
    names: tuple[str, ...]

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

    def rename_outputs(self, q: Floats, naming: Naming) -> Floats:
        """Parameters [n] in which only the outputs of layers are renamed, not the inputs that take them."""
        out = np.empty_like(q)
        for tensor in self.tensors:
            out[tensor.at] = self.outward(tensor, q[tensor.at].reshape(tensor.shape), naming).reshape(-1)
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
    names: list[str] = []
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
        names.append(name.rpartition(".")[0])
        convolution = len(size) > 2
    if len(widths) < 2:
        raise InputError(f"{owner}: a network of {len(widths)} layers has no hidden neurons to rename; do not align it")
    return Chain(tuple(tensors), tuple(widths), tuple(names))


def _no_chain(owner: str, name: str, shape: tuple[int, ...], why: str) -> InputError:
    return InputError(
        f"{owner}: parameter {name} of shape {list(shape)}: {why}; only chains of linear and convolutional layers can "
        "be aligned, whose parameters are named LAYER.weight and LAYER.bias, from inputs to outputs"
    )
