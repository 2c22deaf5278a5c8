"""How the kernels are compiled.

A value of a network is a block of rows: one for each number that a point has there, its entries the points of a block,
so that the innermost loops run over contiguous numbers, many at once. Rows are named by an array and a number, since a
view of a row would cost more than the row.

Nothing can be allocated in them. Python calls an `entry` only; see `nnsim.jit`.
"""

from __future__ import annotations

from nnsim.jit import FAST, FUSED, compiled

entry = compiled(FAST, python=True)
kernel = compiled(FAST)
inline = compiled(FAST, inline=True)
inline_in_order = compiled(FUSED, inline=True)  # sums as they are written
