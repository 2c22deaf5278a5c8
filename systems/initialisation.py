r"""Where walkers start, by name: variances of weights after LeCun, He, Glorot, and the NTK parametrisation.

| name | weights | variance |
|---|---|---|
| `lecun_normal` | normal | 1 / fan_in |
| `lecun_truncated` | normal, cut at 2 standard deviations and rescaled, as in flax and jax | 1 / fan_in |
| `he_normal`, `he_uniform` | normal, uniform | 2 / fan_in |
| `glorot_normal`, `glorot_uniform` | normal, uniform | 2 / (fan_in + fan_out) |
| `ntk` | normal, in layers that divide by sqrt(fan_in); see `nnsim.networks.scaled` | 1 |

Biases are zero in all of them, norms scale by 1 and shift by 0, and embeddings are normal with variance 1 (zero where
they pad). Every other parameter of two or more dimensions [out, in, ...] whose name ends in `weight` counts as weights,
as do the matrices of recurrent layers; query, key and value matrices of attention, which torch keeps in one tensor,
count as three.

References: Y. LeCun et al., Efficient BackProp (1998), section 4.6; X. Glorot and Y. Bengio, AISTATS 2010, eq. 12 and
16; K. He et al., arXiv 1502.01852, eq. 10; A. Jacot et al., arXiv 1806.07572, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnsim.errors import InputError
from nnsim.networks.scaled import EMBEDDINGS, NORMS, fans
from nnsim.random.streams import Purpose, RandomStreams

CUT = 2.0
# Standard deviation of a normal number of variance 1 that is cut at +-2.
CUT_DEVIATION = 0.87962566103423978


def _normal(shape: tuple[int, ...], streams: RandomStreams) -> Tensor:
    return streams.normal(Purpose.START, shape)


def _centred(shape: tuple[int, ...], streams: RandomStreams) -> Tensor:
    """Uniform in [-1, 1)."""
    return 2 * streams.uniform(Purpose.START, shape) - 1


def _uniform(shape: tuple[int, ...], streams: RandomStreams) -> Tensor:
    return math.sqrt(3) * _centred(shape, streams)


def _truncated(shape: tuple[int, ...], streams: RandomStreams) -> Tensor:
    within = math.erf(CUT / math.sqrt(2))  # the inverse of the distribution function, between its values at the cuts
    cut = math.sqrt(2) * torch.erfinv(within * _centred(shape, streams))
    return cut.clamp_(-CUT, CUT) / CUT_DEVIATION


# Each draws numbers with mean 0 and variance 1.
_DRAWS = {"normal": _normal, "uniform": _uniform, "truncated": _truncated}

# Name: what is drawn, and its variance from fan_in and fan_out.
SCHEMES = {
    "lecun_normal": ("normal", lambda fan_in, fan_out: 1 / fan_in),
    "lecun_truncated": ("truncated", lambda fan_in, fan_out: 1 / fan_in),
    "he_normal": ("normal", lambda fan_in, fan_out: 2 / fan_in),
    "he_uniform": ("uniform", lambda fan_in, fan_out: 2 / fan_in),
    "glorot_normal": ("normal", lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
    "glorot_uniform": ("uniform", lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
    "ntk": ("normal", lambda fan_in, fan_out: 1.0),
}


@dataclass(frozen=True)
class Start:
    """How the values of one parameter tensor are drawn: `mean` + `deviation` x numbers of variance 1.

    Args:
        mean: of all values.
        deviation: their standard deviation; 0 draws nothing.
        kind: `"normal"`, `"uniform"` or `"truncated"`.
        padding: row of an embedding that stays zero, or None.
    """

    mean: float = 0.0
    deviation: float = 0.0
    kind: str = "normal"
    padding: int | None = None

    def draw(self, walkers: int, shape: tuple[int, ...], streams: RandomStreams) -> Tensor:
        """Values of each walker's own tensor, [W, *shape], float64, on the device of the streams."""
        full = (walkers, *shape)
        if not self.deviation:
            return torch.full(full, self.mean, dtype=torch.float64, device=streams.device)
        values = self.mean + self.deviation * _DRAWS[self.kind](full, streams)
        if self.padding is not None:
            values[:, self.padding] = 0.0
        return values


def starts(module: nn.Module, names: Collection[str], scheme: str) -> dict[str, Start]:
    """How each of the named parameters of a module starts.

    Args:
        module: the network.
        names: of its parameters, as in `module.named_parameters()`.
        scheme: one of `SCHEMES`.

    Raises:
        InputError: a parameter that is neither weight nor bias of anything known.
    """
    found: dict[str, Start] = {}
    for prefix, layer in module.named_modules():
        for leaf, p in layer.named_parameters(recurse=False):
            name = f"{prefix}.{leaf}" if prefix else leaf
            if name not in names:
                continue
            start = _start(layer, leaf, tuple(p.shape), scheme)
            if start is None:
                raise InputError(
                    f"NeuralNetwork: initial = {scheme!r} has no rule for the parameter {name!r} of shape "
                    f"{tuple(p.shape)} ({type(layer).__name__}); use initial='reinitialise' or 'module'"
                )
            found[name] = start
    return {name: found[name] for name in names}


def _start(layer: nn.Module, leaf: str, shape: tuple[int, ...], scheme: str) -> Start | None:
    if isinstance(layer, NORMS):
        return Start(mean=1.0 if leaf == "weight" else 0.0)
    if isinstance(layer, EMBEDDINGS):
        return Start(deviation=1.0, padding=layer.padding_idx)
    recurrent = isinstance(layer, (nn.RNNBase, nn.RNNCellBase))  # weight_ih_l0, bias_hh_l0, ...
    if leaf.endswith("bias") or (recurrent and leaf.startswith("bias")):
        return Start()
    if len(shape) < 2 or not (leaf.endswith("weight") or recurrent):
        return None
    if isinstance(layer, nn.MultiheadAttention) and leaf == "in_proj_weight":
        shape = (shape[0] // 3, *shape[1:])
    kind, variance = SCHEMES[scheme]
    return Start(deviation=math.sqrt(variance(*fans(shape))), kind=kind)


def initial_values(
    module: nn.Module, shapes: dict[str, tuple[int, ...]], scheme: str, walkers: int, generator: torch.Generator
) -> Tensor:
    """Independent starts of all walkers, [W, n], float64; one tensor after the other, each for all walkers at once.

    Args:
        module: the network.
        shapes: its trainable parameters, in the order of the positions.
        scheme: one of `SCHEMES`.
        walkers: W.
        generator: the only source of randomness.
    """
    rules, streams = starts(module, shapes, scheme), RandomStreams.of(generator)
    return torch.cat([rules[name].draw(walkers, shape, streams).flatten(1) for name, shape in shapes.items()], dim=1)
