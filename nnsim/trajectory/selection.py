"""Selections of parameters in words, as mdtraj and VMD select atoms.

| words | the parameters |
|---|---|
| `all`, `none` | all, none |
| `layer 1`, `layer 0 to 2`, `layer 0 3` | of these layers, numbered from 0 in the order in which they have parameters |
| `weight`, `bias` | of tensors whose own name holds this word: `0.weight`, `rnn.weight_ih_l0` |
| `neuron 3`, `neuron 0 to 9` | of output neurons (channels of a convolution): rows of weights, entries of biases |
| `input 2` | of inputs: columns of weights; nothing of biases |
| `name 0.weight`, `name *.bias` | of tensors of this name, `*`, `?` and `[...]` as in file names |
| `0.weight`, `hidden.*` | the same, without the word `name`, where it is no other word of this table |
| `index 0 to 99` | at these places of the flat positions |
| `not a`, `a and b`, `a or b`, `( )` | combined; `not` binds closest, then `and` |

Ranges hold both ends; negative numbers count from the end. A layer is a module of the network that holds parameters
itself: `0.weight` and `0.bias` are layer 0 and `2.weight` is layer 1 where the module 1 is an activation. Parameters
that a module of the user's own holds directly, such as `w1` and `w2`, are one layer. Neurons are the first axis of a
tensor and inputs the second, as in torch's Linear and Conv layers (ConvTranspose has them the other way round).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from nnsim.errors import InputError
from nnsim.networks.layout import places_of

Mask = NDArray[np.bool_]

_NUMBERED = ("layer", "neuron", "input", "index")
_WORDS = ("all", "none", "weight", "bias", "name", "not", "and", "or", "to", *_NUMBERED)
_NUMBER = re.compile(r"[+-]?\d+")


def select(parameters: Mapping[str, Sequence[int]], text: str) -> NDArray[np.int64]:
    """Places in the flat positions that a selection stands for, increasing.

    Args:
        parameters: name and shape of each tensor, in the order of the flat positions.
        text: the selection, in the words of the table above.

    Returns:
        [k] int64, k at least 1.

    Raises:
        InputError: a word that is not known, a number beyond what there is, or nothing selected.

    >>> select({"0.weight": (2, 3), "0.bias": (2,), "2.weight": (1, 2)}, "layer 0 and neuron 1")
    array([3, 4, 5, 7])
    """
    if not isinstance(text, str):
        raise InputError(f"select: {text!r} must be a selection in words, such as 'layer 1 and weight'; give a text")
    mask = _Parser(text, _Network(parameters)).whole()
    if not mask.any():
        raise InputError(f"select: {text!r} selects no parameter; widen it")
    return np.flatnonzero(mask)


def labels(parameters: Mapping[str, Sequence[int]], indices: Sequence[int] | NDArray[np.int64]) -> list[str]:
    """Names of places in the flat positions, for tables and pictures.

    >>> labels({"0.weight": (2, 3), "0.bias": (2,)}, [4, 7])
    ['0.weight[1, 1]', '0.bias[1]']
    """
    network = _Network(parameters)
    found = []
    for index in np.asarray(indices, dtype=np.int64).tolist():
        if not 0 <= index < network.size:
            raise InputError(f"labels: index {index} is beyond the {network.size} parameters; change it")
        one = next(tensor for tensor in reversed(network.tensors) if tensor.start <= index and tensor.size)
        place = np.unravel_index(index - one.start, one.shape)
        found.append(f"{one.name}[{', '.join(str(int(i)) for i in place)}]" if one.shape else one.name)
    return found


class _PointingError(InputError):
    """Shows the text on a line of its own, and below it which word is meant."""

    keep = "\n"


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    start: int
    layer: int
    leaf: str  # its own name in its module

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class _Network:
    """The tensors, numbered by layer."""

    def __init__(self, parameters: Mapping[str, Sequence[int]]) -> None:
        self.tensors: list[_Tensor] = []
        modules: dict[str, int] = {}
        places = places_of(parameters)
        for name, shape in parameters.items():
            # a parametrised tensor, `0.parametrizations.weight.original0`, is the weight of module 0
            owner, parametrised, rest = name.partition(".parametrizations.")
            module, leaf = (
                (owner, rest.split(".")[0]) if parametrised else (name.rpartition(".")[0], name.split(".")[-1])
            )
            layer = modules.setdefault(module, len(modules))
            self.tensors.append(_Tensor(name, tuple(int(size) for size in shape), places[name].start, layer, leaf))
        self.size, self.layers = sum(tensor.size for tensor in self.tensors), len(modules)

    def where(self, chosen: Sequence[bool]) -> Mask:
        """All of the tensors that are chosen."""
        sizes = [tensor.size for tensor in self.tensors]
        return np.repeat(np.asarray(chosen, dtype=bool), sizes)

    def along(self, axis: int, wanted: Sequence[tuple[int, int]]) -> Mask:
        """Entries of every tensor whose index along an axis lies in one of the ranges."""
        parts = []
        for tensor in self.tensors:
            mask = np.zeros(tensor.shape, dtype=bool)
            if mask.ndim > axis:
                rows = _in_ranges(mask.shape[axis], wanted)
                mask |= rows.reshape((-1,) + (1,) * (mask.ndim - axis - 1))
            parts.append(mask.reshape(-1))
        return np.concatenate([np.zeros(0, dtype=bool), *parts])

    def most(self, word: str) -> int:
        """How many there are of what is numbered."""
        if word == "layer":
            return self.layers
        if word == "index":
            return self.size
        axis = ("neuron", "input").index(word)
        return max((tensor.shape[axis] for tensor in self.tensors if len(tensor.shape) > axis), default=0)


def _in_ranges(count: int, ranges: Sequence[tuple[int, int]]) -> Mask:
    """Which of 0 ... count - 1 lie in the ranges, both ends included; negative ends count from the end."""
    numbers = np.arange(count)
    found = np.zeros(count, dtype=bool)
    for low, high in ranges:
        low, high = (number + count if number < 0 else number for number in (low, high))
        found |= (numbers >= low) & (numbers <= high)
    return found


class _Parser:
    """Recursive descent: expression = term {or term}, term = factor {and factor}, factor = not factor | ( ) | words."""

    def __init__(self, text: str, network: _Network) -> None:
        self.text, self.network = text, network
        self.tokens = [(m.group(), m.start()) for m in re.finditer(r"[()]|\"[^\"]*\"|'[^']*'|[^\s()]+", text)]
        self.place = 0

    def whole(self) -> Mask:
        found = self.expression()
        if self.word is not None:
            raise self.error("was not expected here; join selections by 'and' or 'or'")
        return found

    @property
    def word(self) -> str | None:
        return self.tokens[self.place][0] if self.place < len(self.tokens) else None

    def take(self, word: str) -> bool:
        """Step over a word if it comes next."""
        if self.word != word:
            return False
        self.place += 1
        return True

    def error(self, what: str, place: int | None = None) -> InputError:
        """An error that points at a word, by default the next one."""
        place = self.place if place is None else place
        inside = place < len(self.tokens)
        word, column = self.tokens[place] if inside else ("the end", len(self.text.rstrip()) + 1)
        pointer = f"\n  {' '.join(self.text.splitlines())}\n  {' ' * column}{'^' * (len(word) if inside else 1)}"
        return _PointingError(f"select: {repr(word) if inside else word} {what}{pointer}")

    def expression(self) -> Mask:
        found = self.term()
        while self.take("or"):
            found = found | self.term()
        return found

    def term(self) -> Mask:
        found = self.factor()
        while self.take("and"):
            found = found & self.factor()
        return found

    def factor(self) -> Mask:
        if self.take("not"):
            return ~self.factor()
        if self.take("("):
            opened = self.place - 1
            found = self.expression()
            if not self.take(")"):
                raise self.error("is never closed; add ')'", opened if self.word is None else None)
            return found
        return self.words()

    def words(self) -> Mask:
        word = self.word
        if word is None or word in ("and", "or", "to", ")"):
            raise self.error(f"stands where a selection is needed; use one of {', '.join(_WORDS[:5])}, {_listed()}")
        self.place += 1
        if word in ("all", "none"):
            return np.full(self.network.size, word == "all")
        if word in ("weight", "bias"):
            return self.network.where([word in tensor.leaf for tensor in self.network.tensors])
        if word in _NUMBERED:
            return self.numbered(word)
        if word == "name":
            if self.word is None or self.word in "()":
                raise self.error("stands where the name of a parameter is needed, such as name 0.weight")
            self.place += 1
        return self.named()

    def numbered(self, word: str) -> Mask:
        ranges = self.ranges(word)
        if word == "layer":
            layers = _in_ranges(self.network.layers, ranges)
            return self.network.where([bool(layers[tensor.layer]) for tensor in self.network.tensors])
        if word == "index":
            return _in_ranges(self.network.size, ranges)
        return self.network.along(("neuron", "input").index(word), ranges)

    def ranges(self, word: str) -> list[tuple[int, int]]:
        """One or more `N` or `N to M`."""
        found = [self.span(word)]
        while self.word is not None and _NUMBER.fullmatch(self.word):
            found.append(self.span(word))
        return found

    def span(self, word: str) -> tuple[int, int]:
        low = self.number(word)
        if not self.take("to"):
            return low, low
        high = self.number(word)
        if (low < 0) == (high < 0) and high < low:
            raise self.error(f"is below {low}, where the range begins; exchange them", self.place - 1)
        return low, high

    def number(self, word: str) -> int:
        if self.word is None or not _NUMBER.fullmatch(self.word):
            raise self.error(
                f"stands where the number of a{'n' if word in ('input', 'index') else ''} {word} is needed"
            )
        number, most = int(self.word), self.network.most(word)
        if not -most <= number < most:
            there = f"0 to {most - 1}" if most else "none"
            raise self.error(f"is no {word} of this network, which has {there}; change it")
        self.place += 1
        return number

    def named(self) -> Mask:
        pattern = self.tokens[self.place - 1][0].strip("\"'")
        chosen = [tensor.name == pattern or fnmatchcase(tensor.name, pattern) for tensor in self.network.tensors]
        if not any(chosen):
            known = [tensor.name for tensor in self.network.tensors]
            listed = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
            message = f"is neither a word of selections ({_listed()}) nor the name of a parameter ({listed})"
            raise self.error(f"{message}; change it", self.place - 1)
        return self.network.where(chosen)


def _listed() -> str:
    return "all, weight, bias, layer N, neuron N, input N, name GLOB, index A to B, and, or, not"
