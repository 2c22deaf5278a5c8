"""How the kernels are compiled.

A value of a network is a block of rows: one for each number that a point has there, its entries the points of a block,
so that the innermost loops run over contiguous numbers, many at once. Rows are named by an array and a number, since a
view of a row would cost more than the row.

Without reference counts (`_nrt`), so that nothing can be allocated in them; sums in any order, as in a BLAS, but NaN
and infinity keep their meaning.
"""

from __future__ import annotations

from numba import njit

_FAST = {"contract", "reassoc", "nsz", "arcp"}

kernel = njit(cache=True, nogil=True, _nrt=False, error_model="numpy", fastmath=_FAST)
inline = njit(cache=True, nogil=True, _nrt=False, error_model="numpy", fastmath=_FAST, forceinline=True)
