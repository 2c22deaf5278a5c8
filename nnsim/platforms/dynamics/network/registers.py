"""Instructions for `LANES` points at once, whose sums stay in registers: what compiled code is written with by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

LANES = 16  # of which blocks of points are a multiple
FAST = ("contract", "reassoc", "nsz")
INDEX = ir.IntType(64)


class Code:
    """Instructions of an intrinsic, for arguments of certain types; numbers are of the type of the first array."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.context, self.builder, self.kinds, self.args = context, builder, signature.args, args
        element = context.get_data_type(self.kinds[0].dtype)
        self.vector, self.size = ir.VectorType(element, LANES), self.kinds[0].dtype.bitwidth // 8
        self.nothing = ir.Constant(self.vector, [0.0] * LANES)

    def data(self, number: int) -> Any:
        """Pointer to the numbers of an array."""
        return self.context.make_array(self.kinds[number])(self.context, self.builder, self.args[number]).data

    def index(self, number: int) -> Any:
        """An argument as an integer of 64 bits."""
        return self.context.cast(self.builder, self.args[number], self.kinds[number], types.int64)

    @contextmanager
    def each(self, count: Any, step: int = 1) -> Iterator[Any]:
        """A loop over 0, step, 2 step, ... below `count`."""
        with cgutils.for_range_slice(self.builder, INDEX(0), count, INDEX(step)) as (place, _):
            yield place

    def number(self, data: Any, place: Any) -> Any:
        """One number."""
        return self.builder.load(self.builder.gep(data, [place]))

    def row(self, data: Any, row: Any, points: Any, p: Any) -> Any:
        """Pointer to `LANES` points of a row from p on."""
        return self.at(data, self.builder.add(self.builder.mul(row, points), p))

    def at(self, data: Any, place: Any) -> Any:
        """Pointer to `LANES` numbers from a place on."""
        return self.builder.bitcast(self.builder.gep(data, [place]), self.vector.as_pointer())

    def load(self, pointer: Any) -> Any:
        """`LANES` numbers."""
        return self.builder.load(pointer, align=self.size)

    def accumulate(self, total: Any, a: Any, b: Any) -> None:
        """total += a b."""
        term = self.builder.fmul(a, b, flags=FAST)
        self.builder.store(self.builder.fadd(self.builder.load(total), term, flags=FAST), total)

    def sum(self, vector: Any) -> Any:
        """Of all lanes, by halves."""
        width = LANES
        while width > 1:
            width //= 2
            upper = ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(width, 2 * width)))
            lower = ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(width)))
            halves = [self.builder.shuffle_vector(vector, vector, half) for half in (lower, upper)]
            vector = self.builder.fadd(*halves, flags=FAST)
        return self.builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))
