"""exp, logarithm and what is made of them, in arithmetic alone, so that the compiler can take many numbers at once."""

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


def log1p(x: Any) -> Any:
    """ln(1 + x) for x >= 0, below 1e18 or 1e8, to 2 units in the last place; NaN of NaN."""
    raise NotImplementedError


@overload(log1p, jit_options=_ORDERED, strict=False)
def _log1p_of(x):  # type: ignore[no-untyped-def]
    return _log1p_single if x == types.float32 else _log1p_double


# ln y = e ln 2 + 2 artanh((m - 1) / (m + 1)) with y = m 2^e, 2^-1/2 <= m < 2^1/2, of y = 1 + x as it is rounded; to the
# first order the rest is added, without which small x would be lost.
_ROOT_HALF, _WHOLE = np.int64(0x3FE6A09E667F3BCD), np.int64(0x4330000000000000)  # 2^-1/2; 2^52
_ROOT_HALF_32, _WHOLE_32 = np.int32(0x3F3504F3), np.int32(0x4B000000)  # 2^23
_L1, _L2, _L3, _L4 = (np.float32(2 / n) for n in (3, 5, 7, 9))
_LN2, _LN2_32, _TWO_32 = math.log(2.0), np.float32(math.log(2.0)), np.float32(2.0)


def _log1p_double(x):  # type: ignore[no-untyped-def]
    y = 1.0 + x
    bits = np.float64(y).view(np.int64)
    exponent = (bits - _ROOT_HALF) >> np.int64(52)
    m = np.int64(bits - (exponent << np.int64(52))).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    high = 0.22222197056726048 + z * (0.18183631680229329 + z * (0.1531252814836419 + z * 0.14809710360655276))
    series = 2.0 + z * (0.6666666666666765 + z * (0.3999999999930234 + z * (0.2857142876064168 + z * high)))
    e = np.int64(exponent | _WHOLE).view(np.float64) - 4503599627370496.0
    return s * series + (e * _LN2 + (x - (y - 1.0)) / y) + (x - x)


def _log1p_single(x):  # type: ignore[no-untyped-def]
    y = _ONE_32 + x
    bits = np.float32(y).view(np.int32)
    exponent = np.int32(bits - _ROOT_HALF_32) >> np.int32(23)
    m = np.int32(bits - np.int32(exponent << np.int32(23))).view(np.float32)
    s = (m - _ONE_32) / (m + _ONE_32)
    z = s * s
    series = _TWO_32 + z * (_L1 + z * (_L2 + z * (_L3 + z * _L4)))
    e = np.int32(exponent | _WHOLE_32).view(np.float32) - np.float32(8388608.0)
    return s * series + (e * _LN2_32 + (x - (y - _ONE_32)) / y) + (x - x)


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
