"""Matrix products of the BLAS that SciPy brings, called from compiled code without the GIL.

Numba's own `np.dot` needs arrays; here a matrix is a place in an array, so that nothing is allocated or counted. All
matrices are row-major. How many threads the BLAS takes is set by `nnsim.platforms.dynamics.threads`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic

PLAIN, TRANSPOSED = ord("N"), ord("T")


def addresses() -> np.ndarray:
    """Where the products of float32 and of float64 numbers are, [2], int64; as an argument, so that code is cached."""
    return np.array([get_cython_function_address("scipy.linalg.cython_blas", name) for name in ("sgemm", "dgemm")])


@intrinsic
def product(typingctx, blas, left, right, m, n, k, a, ia, lda, b, ib, ldb, add, c, ic, ldc):  # type: ignore[no-untyped-def]
    """C [m, n] <- A [m, k] B [k, n] (+ C, with `add`), for flat or two-dimensional arrays a, b, c of one type.

    `blas` is of `addresses`. `left` and `right` are `PLAIN`, or `TRANSPOSED` where A [k, m] or B [n, k] is stored;
    `add` is 1.0 to add to what is in C, 0.0 to write it. Each matrix is an array, the number of its first element, and
    how many elements lie between two rows.
    """
    signature = types.void(blas, left, right, m, n, k, a, ia, lda, b, ib, ldb, add, c, ic, ldc)
    return signature, _call


def _call(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    blas, left, right, m, n, k, a, ia, lda, b, ib, ldb, add, c, ic, ldc = args
    kinds = signature.args
    element = context.get_data_type(kinds[6].dtype)
    index, byte = ir.IntType(32), ir.IntType(8)

    def place(number: int, array: Any, first: Any) -> Any:
        data = context.make_array(kinds[number])(context, builder, array).data
        return builder.gep(data, [_whole(context, builder, kinds[number + 1], first)])

    def whole(number: int, value: Any) -> Any:
        wide = _whole(context, builder, kinds[number], value)
        return _stored(builder, builder.trunc(wide, index))

    def letter(number: int, value: Any) -> Any:
        return _stored(builder, builder.trunc(_whole(context, builder, kinds[number], value), byte))

    def real(value: Any) -> Any:
        return _stored(builder, value)

    one = real(ir.Constant(element, 1.0))
    beta = real(context.cast(builder, add, kinds[12], kinds[6].dtype))
    table = context.make_array(kinds[0])(context, builder, blas).data
    which = 0 if kinds[6].dtype == types.float32 else 1
    address = builder.load(builder.gep(table, [ir.Constant(ir.IntType(64), which)]))
    pointer, integers, numbers = byte.as_pointer(), index.as_pointer(), element.as_pointer()
    function = ir.FunctionType(
        ir.VoidType(),
        [pointer, pointer, *[integers] * 3, numbers, *[numbers, integers] * 2, numbers, numbers, integers],
    )
    # Fortran's matrices are column-major: C^T = B^T A^T.
    builder.call(
        builder.inttoptr(address, function.as_pointer()),
        [
            *(letter(2, right), letter(1, left), whole(4, n), whole(3, m), whole(5, k), one),
            *(place(9, b, ib), whole(11, ldb), place(6, a, ia), whole(8, lda), beta, place(13, c, ic), whole(15, ldc)),
        ],
    )
    return context.get_dummy_value()


def _whole(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return context.cast(builder, value, kind, types.int64)


def _stored(builder: Any, value: Any) -> Any:
    """A pointer to a value, since Fortran takes arguments by reference."""
    slot = cgutils.alloca_once(builder, value.type)
    builder.store(value, slot)
    return slot
