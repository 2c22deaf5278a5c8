"""How numba compiles the functions of nnsim.

What a function does not say itself it takes from the one that happens to call it first, and its cache keeps that for
all others: then the order in which things are compiled decides the last bits. So all of it is said here.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

IN_ORDER = False  # arithmetic as it is written: the same bits on every CPU
FUSED = {"contract"}  # but for a product and a sum at once
FAST = {"contract", "reassoc", "nsz", "arcp"}  # sums in any order, as in a BLAS; NaN and infinity keep their meaning


def compiled(arithmetic: Any, *, inline: bool = False, python: bool = False, counted: bool = False) -> Any:
    """A decorator; what is compiled is cached, holds no GIL, and divides by zero as IEEE says.

    Args:
        arithmetic: `IN_ORDER`, `FUSED` or `FAST`.
        inline: become part of what calls it.
        python: can be called from Python. Where it cannot, such a call kills the process; but to take arguments out of
            Python's tuples takes the compiler as long as the function itself.
        counted: can allocate arrays and give views of them away, which are counted then. That costs more than a short
            function does.
    """
    return njit(
        cache=True, nogil=True, error_model="numpy", fastmath=arithmetic, forceinline=inline, _nrt=counted,
        no_cpython_wrapper=not python, no_cfunc_wrapper=True,
    )  # fmt: skip


@compiled(IN_ORDER, inline=True)
def is_finite(x):  # type: ignore[no-untyped-def]
    """Whether x is a number. That of numba subtracts x from itself, which `FAST` may take for zero where x is a sum."""
    return abs(x) < math.inf
