"""How numba compiles the functions of nnsim.

What a function does not say itself it takes from the one that happens to call it first, and its cache keeps that for
all others: then the order in which things are compiled decides the last bits. So all of it is said here.

What is cached belongs to one state of all sources: numba compares that of the function's own file only, and would go on
with the old code of what has become part of it, as after a `git pull`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

IN_ORDER = False  # arithmetic as it is written: the same bits on every CPU
FUSED = {"contract"}  # but for a product and a sum at once
FAST = {"contract", "reassoc", "nsz", "arcp"}  # sums in any order, as in a BLAS; NaN and infinity keep their meaning

_ROOT = Path(__file__).parent
_ROOMS = ("grid", "platforms", "random")  # in which there are compiled functions


def _sources() -> str:
    """A checksum of all sources that compiled code is made from."""
    files = [Path(__file__), *sorted(file for room in _ROOMS for file in (_ROOT / room).rglob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


SOURCES = _sources()


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
    decorate = njit(
        cache=True, nogil=True, error_model="numpy", fastmath=arithmetic, forceinline=inline, _nrt=counted,
        no_cpython_wrapper=not python, no_cfunc_wrapper=True,
    )  # fmt: skip

    def decorated(function: Callable[..., Any]) -> Any:
        dispatcher = decorate(function)
        index = dispatcher._cache._cache_file  # what it holds counts only while this stamp is the same
        index._source_stamp = (index._source_stamp, SOURCES)
        return dispatcher

    return decorated


@compiled(IN_ORDER, inline=True)
def is_finite(x):  # type: ignore[no-untyped-def]
    """Whether x is a number. That of numba subtracts x from itself, which `FAST` may take for zero where x is a sum."""
    return abs(x) < math.inf
