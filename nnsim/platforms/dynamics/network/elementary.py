"""exp and what is made of it, in arithmetic alone, so that the compiler can take many numbers at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from nnsim.platforms.dynamics.network.compile import inline_in_order

# The order of sums is kept: adding a large number and taking it away again rounds to a whole one.
_ORDERED = {"fastmath": {"contract"}, "error_model": "numpy", "_nrt": False, "nogil": True, "forceinline": True}

_LOG2_E = 1 / math.log(2.0)
_TAYLOR = [1 / math.factorial(n) for n in range(14)]


def exp(x: Any) -> Any:
    """The exponential, to 2 units in the last place; 0 below the normal numbers, at most 2e38 or 1e308, NaN of NaN."""
    raise NotImplementedError


@overload(exp, jit_options=_ORDERED, strict=False)
def _exp_of(x):  # type: ignore[no-untyped-def]
    return _exp_single if x == types.float32 else _exp_double


_MAGIC_32, _LOW_32, _HIGH_32 = np.float32(12582912.0), np.float32(-87.0), np.float32(88.0)  # 1.5 x 2^23
_LOG2_E_32, _LN2_HIGH_32, _LN2_LOW_32 = np.float32(_LOG2_E), np.float32(0.693359375), np.float32(-2.12194440e-4)
_C2, _C3, _C4, _C5, _C6 = (np.float32(c) for c in _TAYLOR[2:7])
_ONE_32 = np.float32(1.0)


def _exp_single(x):  # type: ignore[no-untyped-def]
    c = min(max(x, _LOW_32), _HIGH_32)
    t = c * _LOG2_E_32 + _MAGIC_32
    n = t - _MAGIC_32
    r = (c - n * _LN2_HIGH_32) - n * _LN2_LOW_32  # within +-ln(2) / 2
    e = _ONE_32 + r * (_ONE_32 + r * (_C2 + r * (_C3 + r * (_C4 + r * (_C5 + r * _C6)))))
    scale = np.int32((np.float32(t).view(np.int32) << np.int32(23)) + np.int32(127 << 23)).view(np.float32)
    return e * scale + (x - x)


_MAGIC, _LN2_HIGH, _LN2_LOW = 6755399441055744.0, 6.93147180369123816490e-01, 1.90821492927058770002e-10  # 1.5 x 2^52
_D2, _D3, _D4, _D5, _D6, _D7, _D8, _D9, _D10, _D11, _D12, _D13 = _TAYLOR[2:]


def _exp_double(x):  # type: ignore[no-untyped-def]
    c = min(max(x, -708.0), 709.0)
    t = c * _LOG2_E + _MAGIC
    n = t - _MAGIC
    r = (c - n * _LN2_HIGH) - n * _LN2_LOW
    high = _D8 + r * (_D9 + r * (_D10 + r * (_D11 + r * (_D12 + r * _D13))))
    e = 1.0 + r * (1.0 + r * (_D2 + r * (_D3 + r * (_D4 + r * (_D5 + r * (_D6 + r * (_D7 + r * high)))))))
    scale = np.int64((np.float64(t).view(np.int64) << np.int64(52)) + np.int64(1023 << 52)).view(np.float64)
    return e * scale + (x - x)


@inline_in_order
def sigmoid(x):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(-x))."""
    one = type(x)(1)
    e = exp(-abs(x))
    return (one if x >= 0 else e) / (one + e)


@inline_in_order
def tanh(x):  # type: ignore[no-untyped-def]
    """Hyperbolic tangent, with an absolute error of a few roundings."""
    one = type(x)(1)
    e = exp(-(abs(x) + abs(x)))
    return math.copysign((one - e) / (one + e), x)
