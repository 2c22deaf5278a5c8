"""Which renamings of neurons leave a network's function as it is, told by its module, the text of it, or names.

A module prints itself as

    Sequential(
      (0): Linear(in_features=2, out_features=3, bias=True)
      (1): Tanh()
      ...

and a trajectory records that. Where all containers are `Sequential`, whose parts act in the order in which they stand,
it says all that is needed: between two layers their units must be taken one by one. What a class of the user's own does
with its parts no text tells; then its program must, if the module is at hand, or points (`nnsim.networks.renaming`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from nnsim.analysis.motion.blocks import Shapes
from nnsim.errors import InputError

if TYPE_CHECKING:
    from nnsim.networks.operations import Operation
    from nnsim.networks.program import Program

LINEAR, CONVOLUTION = ("Linear", "ScaledLinear"), ("Conv1d", "Conv2d", "Conv3d", "ScaledConv2d")
# They act on each unit by itself; the first also commute with a change of its sign.
ODD = (
    "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "Hardshrink", "Identity", "Softshrink", "Softsign", "Tanh",
    "Tanhshrink",
)  # fmt: skip
ONE_BY_ONE = (
    *ODD, "AlphaDropout", "CELU", "ELU", "FeatureAlphaDropout", "GELU", "Hardsigmoid", "Hardswish", "Hardtanh",
    "LeakyReLU", "LogSigmoid", "Mish", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Threshold",
)  # fmt: skip
POOL = re.compile(r"(Adaptive)?(Max|Avg)Pool([123])d")
WITHOUT_PARAMETERS = (*ONE_BY_ONE, "Flatten", "LogSoftmax", "Softmax", "Softmin", "Unflatten")
REMEDY = (
    "give system= (the NeuralNetwork, or the Simulation, of the run) or module= with points=, on which it is tried, or "
    "check=False if you know it"
)


@dataclass(frozen=True)
class Part:
    """A module without parts of its own: where it is, what it is, and its settings as printed."""

    path: str
    kind: str
    settings: str

    def __str__(self) -> str:
        return f"layer {self.path} is {self.kind}({self.settings})"


def parts_of(text: str) -> list[Part] | str:
    r"""The parts of a printed module in their order, or the container that is no `Sequential`.

    >>> parts_of("Sequential(\n  (0): Tanh()\n)")
    [Part(path='0', kind='Tanh', settings='')]
    """
    found: list[Part] = []
    around: list[str] = []  # names of the containers, of which the outermost has none
    for line in text.splitlines():
        if line.strip() == ")" and around:
            around.pop()
            continue
        match = re.fullmatch(r" *(?:\((?P<name>[^()]+)\): )?(?P<kind>\w+)\((?P<rest>.*)", line)
        if match is None:
            return "layer of another form"
        name, kind, rest = match["name"] or "", match["kind"], match["rest"]
        if rest.endswith(")"):
            found += [Part(".".join([*around[1:], name]), kind, rest[:-1])] if kind != "Sequential" else []
        elif rest or kind != "Sequential":
            return kind
        else:
            around.append(name)
    return found


def require_chain_by_text(owner: str, parameters: Shapes, text: str, signs: bool) -> None:
    """Raise `InputError` unless the printed module is a chain whose hidden units are taken one by one.

    Args:
        owner: who asks, for messages.
        parameters: names and shapes of what the run moves, which make a chain by themselves.
        text: the module, as printed.
        signs: whether signs are to be changed, too.
    """
    parts = parts_of(text)
    if isinstance(parts, str):
        raise _unclear(owner, f"the network is, or holds, a {parts}, of which its text does not tell what it does")
    names: list[str] = []
    last: Part | None = None
    between: list[Part] = []
    for part in parts:
        own = [name for name in parameters if name.rpartition(".")[0] == part.path]
        if own:
            _require_layer(owner, part, own)
            if last is not None:
                _require_one_by_one(owner, last, between, part, signs)
            names, last, between = [*names, *own], part, []
        elif last is not None:
            if part.kind not in WITHOUT_PARAMETERS and not POOL.fullmatch(part.kind):
                raise _unclear(owner, f"{part}, fixed or used twice or not known")
            between.append(part)
    if names != list(parameters):
        raise _unclear(owner, "the text of the network does not have the layers of its parameters")


def _require_layer(owner: str, part: Part, own: Sequence[str]) -> None:
    """Refuse a layer with parameters that is neither linear nor an ordinary convolution, whole."""
    if part.kind not in (*LINEAR, *CONVOLUTION):
        raise _unclear(owner, str(part))
    if "groups=" in part.settings:
        raise _unclear(owner, f"{part}, whose outputs each take some of the inputs only")
    if ("bias=False" in part.settings) == any(name.endswith(".bias") for name in own):
        raise _unclear(owner, f"{part}, whose weights or biases alone are fixed")


def _require_one_by_one(owner: str, one: Part, between: Sequence[Part], two: Part, signs: bool) -> None:
    """Refuse what mixes the outputs of one layer before they come to the next, or is not odd."""
    dimensions = _dimensions(one)
    channels = dimensions > 0  # still images, not yet flattened
    for part in between:
        pool = POOL.fullmatch(part.kind)
        if part.kind == "Flatten":
            if "start_dim=1, end_dim=-1" not in part.settings:
                raise _unclear(owner, str(part))
            channels = False
        elif not (part.kind in ONE_BY_ONE or (pool and channels and int(pool[3]) == dimensions)):
            raise _unclear(owner, f"{part}, which does not take the outputs of layer {one.path} one by one")
        if signs and not (part.kind in (*ODD, "Flatten") or (pool and pool[2] == "Avg") or _is_even_hardtanh(part)):
            raise InputError(
                f"{owner}: {part}, which is not odd, so that signs of neurons cannot be changed; leave signs out"
            )
    if channels != (_dimensions(two) > 0) or _dimensions(two) not in (0, dimensions):
        raise _unclear(owner, f"{two}, which does not take the units of layer {one.path}")


def _dimensions(part: Part) -> int:
    """Of the images of a convolution; 0 of a linear layer."""
    return int(part.kind[-2]) if part.kind in CONVOLUTION else 0


def _is_even_hardtanh(part: Part) -> bool:
    edges = re.fullmatch(r"min_val=-(\S+), max_val=(\S+)", part.settings)
    return part.kind == "Hardtanh" and edges is not None and float(edges[1]) == float(edges[2])


def is_chain(program: Program, parameters: Shapes, signs: bool) -> bool:
    """Whether a program is a chain whose hidden units are taken one by one, in the order of the parameters.

    Args:
        program: the operations of the network.
        parameters: names and shapes of what the run moves, which make a chain by themselves.
        signs: whether signs are to be changed, too.
    """
    names: list[str] = []
    dimensions, channels = 0, False  # of the images of the last layer, and whether they are still such
    for number, one in enumerate(program.operations):
        if one.reads != (number,):
            return False
        if not one.parameters:
            if names and len(names) < len(parameters):  # between two layers
                pool = one.kind in POOLS and channels and len(one.settings[POOLS[one.kind]]) == dimensions
                flat = one.kind == "flatten" and (one.settings["start_dim"], one.settings["end_dim"]) == (1, -1)
                if not (pool or flat or _acts_one_by_one(one)) or (signs and not (flat or _is_odd(one))):
                    return False
                channels = channels and not flat
            continue
        own = len(one.settings["kernel_size"]) if one.kind == "convolution" else 0
        if one.kind not in ("linear", "convolution") or one.settings.get("groups", 1) != 1:
            return False
        if names and (channels != (own > 0) or own not in (0, dimensions)):
            return False
        dimensions, channels = own, own > 0
        names += [place.name for place in one.parameters.values()]
    return names == list(parameters) and program.result == len(program.operations)


POOLS = {
    "max_pool": "kernel_size",
    "average_pool": "kernel_size",
    "adaptive_max_pool": "output_size",
    "adaptive_average_pool": "output_size",
}


def _acts_one_by_one(one: Operation) -> bool:
    return one.kind in ("activation", "rest") or (one.kind in ("add", "multiply") and "number" in one.settings)


def _is_odd(one: Operation) -> bool:
    if one.kind == "activation":
        name = one.settings["function"]
        even = name == "hardtanh" and one.settings["min_val"] == -one.settings["max_val"]
        return even or name in ("identity", "sin", "softsign", "tanh", "tanhshrink")
    return one.kind in ("rest", "multiply", "average_pool", "adaptive_average_pool")


def require_chain_by_names(owner: str, parameters: Shapes) -> None:
    """Raise `InputError` unless names and shapes are those of linear layers in one `Sequential`, and of nothing else.

    Such names are 0.weight, 0.bias, 2.weight, ... with weights [out, in], and room for an activation and a dropout
    between two layers. By these alone a square layer might be used twice where there is room for it, or a first weight
    without a bias be an embedding. They do not tell what has no parameters, or fixed ones, and mixes units.
    """
    places: list[int] = []
    shapes: list[tuple[int, ...]] = []
    for name, shape in parameters.items():
        match = re.fullmatch(r"(\d+)\.(weight|bias)", name)
        if match is None:
            raise _unclear(owner, f"the name {name} does not tell what its layer does")
        if match[2] == "weight":
            if len(shape) != 2:
                raise _unclear(owner, f"{name} of shape {list(shape)} may be of a transposed or grouped convolution")
            places, shapes = [*places, int(match[1])], [*shapes, tuple(shape)]
        elif int(match[1]) != places[-1]:
            raise _unclear(owner, f"{name} is not of the layer before it")
    for place, after in pairwise(places):
        if not place < after <= place + 3:
            raise _unclear(owner, f"the layer numbered {after} may not follow {place}, or not directly")
    rows, columns = shapes[0]
    if f"{places[0]}.bias" not in parameters and rows % columns == 0:
        raise _unclear(owner, f"{places[0]}.weight of shape {[rows, columns]} without a bias may be an embedding")
    for place, shape, following in zip(places, shapes, [*places[1:], None], strict=True):
        if shape[0] == shape[1] and (following is None or following - place > 2):
            raise _unclear(owner, f"{place}.weight of shape {list(shape)} is square, so that it may be used twice")


def _unclear(owner: str, why: str) -> InputError:
    return InputError(f"{owner}: {why}, so that it is not known which renaming of neurons changes nothing; {REMEDY}")
