"""How the kernels are compiled.

A value of a network is a block of rows: one for each number that a point has there, its entries the points of a block,
so that the innermost loops run over contiguous numbers, many at once. Rows are named by an array and a number, since a
view of a row would cost more than the row.

Without reference counts (`_nrt`), so that nothing can be allocated in them; sums in any order, as in a BLAS, but NaN
and infinity keep their meaning.

Python calls an `entry` only, and another one kills the process: to make a function callable from Python, with its
arguments taken out of tuples, takes the compiler as long as the function itself.
"""

from __future__ import annotations

from numba import njit

_FAST = {"contract", "reassoc", "nsz", "arcp"}

_SETTINGS = {"cache": True, "nogil": True, "_nrt": False, "error_model": "numpy", "fastmath": _FAST}
_INNER = {**_SETTINGS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

entry = njit(**_SETTINGS, no_cfunc_wrapper=True)
kernel = njit(**_INNER)
inline = njit(**_INNER, forceinline=True)
inline_in_order = njit(**{**_INNER, "fastmath": {"contract"}}, forceinline=True)  # sums as they are written
