"""Many numbers at once, where the compiler does not find by itself that they could be: `LANES` in three vectors."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 24
_FAST = ("contract",)


@intrinsic
def add_scaled(typingctx, y, at, factor, x, begin):  # type: ignore[no-untyped-def]
    """y[at ...] += factor x[begin ...], `LANES` numbers of flat arrays of one type."""
    return types.void(y, at, factor, x, begin), _add_scaled


@intrinsic
def sum_of_rows(typingctx, y, at, table, places, factors, low, high):  # type: ignore[no-untyped-def]
    """y[at ...] <- the sum over k from `low` to `high` of factors[k] table[places[k]], rows of `LANES` numbers."""
    return types.void(y, at, table, places, factors, low, high), _sum_of_rows


def _add_scaled(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    y, at, factor, x, begin = args
    kinds = signature.args
    to = _lanes(context, builder, kinds[0], y, _whole(context, builder, kinds[1], at))
    source = _lanes(context, builder, kinds[3], x, _whole(context, builder, kinds[4], begin))
    size = kinds[0].dtype.bitwidth // 8
    term = builder.fmul(spread(builder, factor), builder.load(source, align=size), flags=_FAST)
    builder.store(builder.fadd(builder.load(to, align=size), term, flags=_FAST), to, align=size)
    return context.get_dummy_value()


def _sum_of_rows(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    y, at, table = args[:3]
    kinds = signature.args
    size = kinds[0].dtype.bitwidth // 8
    start, stop = (_whole(context, builder, kinds[i], args[i]) for i in (5, 6))
    listed, numbers = (context.make_array(kinds[i])(context, builder, args[i]).data for i in (3, 4))
    vector = ir.VectorType(context.get_data_type(kinds[0].dtype), LANES)
    total = cgutils.alloca_once(builder, vector)  # which becomes registers
    builder.store(ir.Constant(vector, [0.0] * LANES), total)
    with cgutils.for_range_slice(builder, start, stop, ir.Constant(ir.IntType(64), 1)) as (k, _):
        row = builder.load(builder.gep(listed, [k]))
        first = builder.mul(_whole(context, builder, kinds[3].dtype, row), ir.Constant(ir.IntType(64), LANES))
        source = builder.load(_lanes(context, builder, kinds[2], table, first), align=size)
        term = builder.fmul(spread(builder, builder.load(builder.gep(numbers, [k]))), source, flags=_FAST)
        builder.store(builder.fadd(builder.load(total), term, flags=_FAST), total)
    to = _lanes(context, builder, kinds[0], y, _whole(context, builder, kinds[1], at))
    builder.store(builder.load(total), to, align=size)
    return context.get_dummy_value()


def _whole(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return context.cast(builder, value, kind, types.int64)


def _lanes(context: Any, builder: Any, kind: Any, array: Any, first: Any) -> Any:
    """A pointer to `LANES` numbers of an array."""
    vector = ir.VectorType(context.get_data_type(kind.dtype), LANES)
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [first]), vector.as_pointer())


def spread(builder: Any, number: Any, lanes: int = LANES) -> Any:
    """So many times a number."""
    nothing = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))
