"""The molecule that a network is to MD programs: chain = layer, residue = output neuron, atom = parameter.

A layer is a module that holds parameters itself. Its residue i has row i of the weight and entry i of the bias; of a
convolution, filter i likewise: entry i along the first axis of every tensor of the layer. Files of the MD world number
atoms residue by residue, while the flat positions of nnsim go tensor by tensor; `atom_order` translates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnsim.networks.layout import places_of

if TYPE_CHECKING:
    from mdtraj import Topology

Shapes = Mapping[str, Sequence[int]]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class _Tensor:
    name: str  # in its layer
    shape: tuple[int, ...]
    start: int

    @property
    def rows(self) -> int:
        return self.shape[0] if self.shape else 1

    def row(self, index: int) -> range:
        """Places of entry `index` along the first axis."""
        size = math.prod(self.shape[1:])
        return range(self.start + index * size, self.start + (index + 1) * size)

    @cached_property
    def atoms(self) -> list[str]:
        """Names in a row: `weight[3]` for its entry 3; the bias, one number a neuron, has no index."""
        if not self.shape[1:]:
            return [self.name]
        return [f"{self.name}[{','.join(map(str, index))}]" for index in np.ndindex(*self.shape[1:])]


def atom_order(parameters: Shapes) -> Indices:
    """Place in the flat positions of each atom, [n] int64: `xyz[:, i, 0]` is `positions[:, atom_order[i]]`.

    Args:
        parameters: name and shape of each tensor, in the order of the flat positions: `trajectory.parameters`.

    >>> atom_order({"0.weight": (2, 2), "0.bias": (2,)})
    array([0, 1, 4, 2, 3, 5])
    """
    places = [
        place
        for tensors in _layers(_checked("atom_order", parameters)).values()
        for neuron in range(_neurons(tensors))
        for tensor in tensors
        if neuron < tensor.rows
        for place in tensor.row(neuron)
    ]
    return np.array(places, dtype=np.int64)


def to_topology(parameters: Shapes, selection: str | None = None) -> Topology:
    """The topology for mdtraj, to be given as `top=` where a file has none (.dcd, .trr).

    Args:
        parameters: name and shape of each tensor: `trajectory.parameters`.
        selection: only these parameters, in the words of `nnsim.trajectory.selection`.

    Returns:
        A topology without bonds and with virtual elements. Chains and segments have the name of the layer.
        Residues are called `neuron`, `resSeq` is the number of the neuron, counted from 0; an atom is called
        `weight[3]` or `bias`. So in mdtraj's words `chainid 1 and resSeq 3` is neuron 3 of layer 1.
    """
    from mdtraj import Topology, element

    from nnsim.export.walker_frames import selected

    shapes = {name: tuple(shape) for name, shape in _checked("to_topology", parameters).items()}
    kept = np.isin(selected(shapes, None), selected(shapes, selection)).tolist()
    topology = Topology()
    for layer, tensors in _layers(parameters).items():
        chain = None
        for neuron in range(_neurons(tensors)):
            rows = [zip(one.atoms, one.row(neuron), strict=True) for one in tensors if neuron < one.rows]
            atoms = [atom for row in rows for atom, place in row if kept[place]]
            if not atoms:
                continue
            if chain is None:
                chain = topology.add_chain(layer)
            residue = topology.add_residue("neuron", chain, resSeq=neuron, segment_id=layer)
            for atom in atoms:
                topology.add_atom(atom, element.virtual, residue)
    return topology


def _checked(owner: str, parameters: Shapes) -> Shapes:
    from nnsim.analysis.motion.blocks import require_shapes

    return require_shapes(owner, parameters)


def _layers(parameters: Shapes) -> dict[str, list[_Tensor]]:
    """Tensors by layer; one that torch parametrises, `0.parametrizations.weight.original0`, is of layer 0."""
    layers: dict[str, list[_Tensor]] = {}
    for (name, shape), at in zip(parameters.items(), places_of(parameters).values(), strict=True):
        owner, parametrised, _ = name.partition(".parametrizations.")
        layer = owner if parametrised else name.rpartition(".")[0]
        own = name[len(layer) + 1 :] if layer else name
        layers.setdefault(layer, []).append(_Tensor(own, tuple(int(size) for size in shape), at.start))
    return layers


def _neurons(tensors: list[_Tensor]) -> int:
    return max(tensor.rows for tensor in tensors)
