"""Random numbers as a function of a counter, compiled: Philox4x32-10, and what is made of its blocks.

A block is four words of 32 bits, a bijection of a counter of four words under a key of two. Ours are

    counter = (number of the block, walker + 2^26 purpose, low 32 bits of the step, its high 16 bits + 2^16 draw)
    key     = (low, high 32 bits of the seed)

so that no two streams have a block in common, and each begins anywhere at no cost. Number j of a stream comes from
block j // 4 (j // 2 of uniform numbers), however many are asked for.

The arithmetic is that of IEEE in a fixed order (no fastmath), hence the same bits on every CPU; the loops over tiles of
counters are simple enough for the compiler to take many at once.

Reference: J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, SC11 (2011), doi:10.1145/2063384.2063405; normal
numbers: G. E. P. Box and M. E. Muller, Ann. Math. Stat. 29, 610 (1958), doi:10.1214/aoms/1177706645.
"""

from __future__ import annotations

import math

import numpy as np

from nnsim.jit import IN_ORDER, compiled

TILE = 256  # counters that are worked on together: their rows fit the innermost cache

_INLINE = compiled(IN_ORDER, inline=True, python=True)
_PLAIN = compiled(IN_ORDER, python=True)
_CALLED = compiled(IN_ORDER, python=True, counted=True)

# Words are kept in 64 bits, which a product of two of them needs.
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_FACTORS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_STEPS = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@_INLINE
def block(a, b, c, d, low, high):  # type: ignore[no-untyped-def]
    """The four words of the counter (a, b, c, d) under the key (low, high); all of them uint64 below 2^32."""
    for _ in range(10):
        first, second = _FACTORS[0] * a, _FACTORS[1] * c
        a, b, c, d = (second >> _HALF) ^ b ^ low, second & _LOW, (first >> _HALF) ^ d ^ high, first & _LOW
        low, high = (low + _STEPS[0]) & _LOW, (high + _STEPS[1]) & _LOW
    return a, b, c, d


@_PLAIN
def encrypt(counters, c, d, key, words, count):  # type: ignore[no-untyped-def]
    """Fill words [4, TILE] with the blocks of the first `count` of counters [2, TILE], followed by c and d."""
    low, high = key & _LOW, key >> _HALF
    for i in range(count):
        words[0, i], words[1, i], words[2, i], words[3, i] = block(counters[0, i], counters[1, i], c, d, low, high)


@_PLAIN
def encrypt_steps(stream, step, key, words, count):  # type: ignore[no-untyped-def]
    """Fill words [4, ...] with the first blocks of a stream at `count` steps from `step` on, one draw in each."""
    low, high = key & _LOW, key >> _HALF
    for i in range(count):
        now = np.uint64(step + i)
        block_of_step = block(np.uint64(0), stream, now & _LOW, now >> _HALF, low, high)
        words[0, i], words[1, i], words[2, i], words[3, i] = block_of_step


# ---------------------------------------------------------------------- numbers from words

_EXPONENT = np.uint64(0x4330000000000000)  # of 2^52: with a word for its last bits, the float 2^52 + word
_ROOT_HALF = np.uint64(0x3FE6A09E667F3BCD)  # 2^-1/2
_MANTISSA, _BIAS = np.uint64(52), np.uint64(64 << 52)
_SIGN, _NEXT = np.uint64(0x8000000000000000), np.uint64(33)
_LN_2, _RADIANS = math.log(2.0), math.pi * 2.0**-31


@_INLINE
def _float(word):  # type: ignore[no-untyped-def]
    """A word as a float, without an instruction that some CPUs have for one number at a time only."""
    return np.uint64(word | _EXPONENT).view(np.float64) - 2.0**52


@_INLINE
def unit(word):  # type: ignore[no-untyped-def]
    """(word + 1/2) / 2^32: in (0, 1), and symmetric about 1/2."""
    return (_float(word) + 0.5) * 2.0**-32


@_INLINE
def below(word, count):  # type: ignore[no-untyped-def]
    """A whole number from 0 to count - 1; their probabilities differ by 2^-32 at most."""
    return np.int64((word * np.uint64(count)) >> _HALF)


@_INLINE
def _uniform(a, b):  # type: ignore[no-untyped-def]
    """53 bits of two words, in [0, 1)."""
    return (_float(a >> np.uint64(5)) * 2.0**26 + _float(b >> np.uint64(6))) * 2.0**-53


# The polynomials are Chebyshev fits; they are off by 3e-18 (ln, sin) and 5e-17 (cos), less than the rounding.


@_INLINE
def _ln(u):  # type: ignore[no-untyped-def]
    """ln u for u from 2^-64 to 1: e ln 2 + 2 artanh((m - 1) / (m + 1)) with u = m 2^e, 2^-1/2 <= m < 2^1/2."""
    bits = np.float64(u).view(np.uint64) + _BIAS
    exponent = (bits - _ROOT_HALF) >> _MANTISSA  # e + 64
    m = np.uint64(bits - (exponent << _MANTISSA)).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    x = s * s
    high = 0.22222197056726048 + x * (0.18183631680229329 + x * (0.1531252814836419 + x * 0.14809710360655276))
    series = 2.0 + x * (0.6666666666666765 + x * (0.3999999999930234 + x * (0.2857142876064168 + x * high)))
    return s * series + (_float(exponent) - 64.0) * _LN_2


@_INLINE
def _sin_cos(angle):  # type: ignore[no-untyped-def]
    """Sine and cosine of an angle within +-pi / 4."""
    x = angle * angle
    high = 2.755731337640013e-06 + x * (-2.5050716974102745e-08 + x * 1.5894736651849094e-10)
    sine = 1.0 + x * (-0.16666666666666616 + x * (0.008333333333320363 + x * (-0.000198412698286503 + x * high)))
    high = 2.4801578538562985e-05 + x * (-2.755523388484742e-07 + x * 2.0630454379662294e-09)
    cosine = 1.0 + x * (-0.4999999999999925 + x * (0.041666666666472306 + x * (-0.0013888888869978658 + x * high)))
    return angle * sine, cosine


@_INLINE
def normal_pair(a, b):  # type: ignore[no-untyped-def]
    """Two independent unit normal numbers from two words: a radius, and a quadrant and an angle within it.

    Exact to 4e-15, and within +-6.77, beyond which one of 8e10 would lie.
    """
    root = math.sqrt(-_ln(unit(a)))
    angle = (_float(b & np.uint64(0x3FFFFFFF)) + (0.5 - 2.0**29)) * _RADIANS
    sine, cosine = _sin_cos(angle)  # of the angle to the diagonal, where x = y = sqrt(-ln u)
    x, y = root * (cosine - sine), root * (cosine + sine)
    x = np.uint64(np.float64(x).view(np.uint64) ^ ((b << _HALF) & _SIGN)).view(np.float64)
    y = np.uint64(np.float64(y).view(np.uint64) ^ ((b << _NEXT) & _SIGN)).view(np.float64)
    return x, y


@_PLAIN
def _normals(words, numbers, count, n):  # type: ignore[no-untyped-def]
    for i in range(count):
        numbers[0, i], numbers[1, i] = normal_pair(words[0, i], words[1, i])
    for i in range(count if n > 2 else 0):
        numbers[2, i], numbers[3, i] = normal_pair(words[2, i], words[3, i])


@_PLAIN
def normals(counters, step, draw, key, words, numbers, count):  # type: ignore[no-untyped-def]
    """Fill numbers [4, TILE] with those of the first `count` of counters [2, TILE], in a draw of a step."""
    c, d = np.uint64(step) & _LOW, np.uint64(step) >> _HALF | np.uint64(draw) << np.uint64(16)
    encrypt(counters, c, d, key, words, count)
    _normals(words, numbers, count, 4)


@_PLAIN
def uniform_pair(stream, step, draw, key):  # type: ignore[no-untyped-def]
    """The first two uniform numbers of a walker's draw in a step."""
    c, d = np.uint64(step) & _LOW, np.uint64(step) >> _HALF | np.uint64(draw) << np.uint64(16)
    words = block(np.uint64(0), stream, c, d, key & _LOW, key >> _HALF)
    return _uniform(words[0], words[1]), _uniform(words[2], words[3])


@_PLAIN
def _uniforms(words, numbers, count):  # type: ignore[no-untyped-def]
    for i in range(count):
        numbers[0, i] = _uniform(words[0, i], words[1, i])
        numbers[1, i] = _uniform(words[2, i], words[3, i])


# ---------------------------------------------------------------------- streams

WORDS, UNIFORM, NORMAL = range(3)


@_INLINE
def _count(counters, blocks, begin, count, stream):  # type: ignore[no-untyped-def]
    """Number of the block and stream of `count` counters, from block `begin` of all rows on."""
    if blocks == 1:
        for i in range(count):
            counters[0, i], counters[1, i] = 0, stream + begin + i
        return
    row, place, i = begin // blocks, begin % blocks, 0
    while i < count:
        run = min(count - i, blocks - place)
        for k in range(run):
            counters[0, i + k], counters[1, i + k] = place + k, stream + row
        i, row, place = i + run, row + 1, 0


@_INLINE
def _spread(numbers, each, blocks, begin, count, out):  # type: ignore[no-untyped-def]
    """Lay `each` of the rows of numbers [4, TILE] beside each other in out, from block `begin` of all rows on."""
    n = out.shape[1]
    if blocks == 1:
        for j in range(n):
            for i in range(count):
                out[begin + i, j] = numbers[j, i]
        return
    row, place, i = begin // blocks, begin % blocks * each, 0
    while i < count:
        run = min(count - i, (n - place) // each)
        for k in range(run):
            for j in range(each):
                out[row, place + each * k + j] = numbers[j, i + k]
        i, place = i + run, place + run * each
        if i < count and place < n:
            for j in range(n - place):
                out[row, place + j] = numbers[j, i]
            i += 1
        row, place = row + 1, 0


@_CALLED
def fill(out, kind, key, stream, step, draw):  # type: ignore[no-untyped-def]
    """Fill out [W, n], a row for each walker, with words, uniform or normal numbers.

    Args:
        out: of int64 for words, of float64 or float32 for numbers.
        kind: `WORDS`, `UNIFORM` or `NORMAL`.
        key: the seed, its 64 bits as an int64.
        stream: first walker + 2^26 x purpose.
        step: below 2^48.
        draw: below 2^16.
    """
    rows, n = out.shape
    each = 2 if kind == UNIFORM else 4
    blocks = (n + each - 1) // each
    total = rows * blocks
    counters, words = np.empty((2, TILE), np.uint64), np.empty((4, TILE), np.uint64)
    numbers = np.empty((4, TILE))
    c = np.uint64(step) & _LOW
    d = np.uint64(step) >> _HALF | np.uint64(draw) << np.uint64(16)
    for begin in range(0, total, TILE):
        count = min(TILE, total - begin)
        whole = (count + 7) // 8 * 8  # some more than are needed, rather than the last few one by one
        _count(counters, blocks, begin, whole, stream)
        encrypt(counters, c, d, np.uint64(key), words, whole)
        if kind == WORDS:
            _spread(words, 4, blocks, begin, count, out)
        elif kind == UNIFORM:
            _uniforms(words, numbers, whole)
            _spread(numbers, 2, blocks, begin, count, out)
        else:
            _normals(words, numbers, whole, n)
            _spread(numbers, 4, blocks, begin, count, out)
