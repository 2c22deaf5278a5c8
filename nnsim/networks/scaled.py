"""Layers in the NTK parametrisation: weights of variance 1, divided by sqrt(fan_in) in the layer, not at the start.

Training in these variables differs from training in the plain ones: the gradient of every weight is smaller by
sqrt(fan_in), which is what keeps the tangent kernel finite as the width grows.

Reference: A. Jacot, F. Gabriel, C. Hongler, arXiv 1806.07572, section 3.
"""

from __future__ import annotations

import copy
import math
from typing import Any

from torch import Tensor, nn

from nnsim.errors import InputError

# Layers that scale and shift what they have normalised: weight 1, bias 0 at the start in every parametrisation.
NORMS = (
    nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm,
)  # fmt: skip
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """fan_in and fan_out of weights [out, in / groups, *kernel].

    As torch.nn.init counts them: fan_in = shape[1] x size of the kernel, which is how many numbers an output sums up;
    fan_out = shape[0] x size of the kernel.
    """
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


class ScaledLinear(nn.Linear):
    r"""A linear layer on scaled inputs: $y = W (s x) + b$.

    Args:
        *args, **settings: of `torch.nn.Linear`; names and shapes of the parameters are the same.
        input_scale: s; None is 1 / sqrt(fan_in), the NTK parametrisation.
    """

    input_scale: float

    def __init__(self, *args: Any, input_scale: float | None = None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.input_scale = _standard_scale(self) if input_scale is None else input_scale

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [..., out] for inputs [..., in]."""
        return super().forward(x * self.input_scale)

    def extra_repr(self) -> str:
        """What a linear layer says, and the scale."""
        return f"{super().extra_repr()}, input_scale={self.input_scale:.6g}"


class ScaledConv2d(nn.Conv2d):
    r"""A convolution of scaled images: $y = W * (s x) + b$.

    Args:
        *args, **settings: of `torch.nn.Conv2d`; names and shapes of the parameters are the same.
        input_scale: s; None is 1 / sqrt(fan_in), the NTK parametrisation.
    """

    input_scale: float

    def __init__(self, *args: Any, input_scale: float | None = None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.input_scale = _standard_scale(self) if input_scale is None else input_scale

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, out, H', W'] for images [N, in, H, W]."""
        return super().forward(x * self.input_scale)

    def extra_repr(self) -> str:
        """What a convolution says, and the scale."""
        return f"{super().extra_repr()}, input_scale={self.input_scale:.6g}"


SCALED: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: ScaledLinear, nn.Conv2d: ScaledConv2d}


def _standard_scale(layer: Any) -> float:
    return 1.0 / math.sqrt(fans(tuple(layer.weight.shape))[0])


def ntk_parametrised(module: nn.Module, owner: str = "ntk_parametrised") -> nn.Module:
    r"""Copy a module, with every linear layer and 2d convolution in the NTK parametrisation.

    $y = W x / \sqrt{\mathrm{fan\_in}} + b$ in place of $y = W x + b$: with W of variance 1 and b = 0 the function is
    distributed as that of the plain module with W of variance 1 / fan_in. Names, shapes, values and order of the
    parameters stay. So do norms and embeddings, and layers whose weights are frozen: their values are not drawn anew.

    Args:
        module: is not changed.
        owner: who asks, for messages.

    Raises:
        InputError: other layers with trainable parameters of their own, for which the parametrisation is not defined
            here.

    Reference: arXiv 1806.07572, section 3.

    >>> from torch import nn
    >>> from nnsim.networks.scaled import ntk_parametrised
    >>> ntk_parametrised(nn.Sequential(nn.Linear(4, 3), nn.ReLU()))
    Sequential(
      (0): ScaledLinear(in_features=4, out_features=3, bias=True, input_scale=0.5)
      (1): ReLU()
    )
    """
    module = copy.deepcopy(module)
    for name, layer in module.named_modules():
        own = [p for p in layer.parameters(recurse=False) if p.requires_grad]
        if type(layer) in SCALED:
            if layer.weight.requires_grad:
                _rescale(layer)
        elif own and not isinstance(layer, (*SCALED.values(), *NORMS, *EMBEDDINGS)):
            raise InputError(
                f"{owner}: layer {name or 'module'!r} ({type(layer).__name__}) has no NTK parametrisation here, only "
                "Linear and Conv2d have; choose initial='lecun_normal', which gives the same functions at the start"
            )
    return module


def _rescale(layer: Any) -> None:
    """Let a layer become one of the scaled class; its hooks, its shared tensors and all else stay as they are."""
    scale = _standard_scale(layer)
    layer.__class__ = SCALED[type(layer)]
    layer.input_scale = scale
