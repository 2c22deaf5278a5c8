"""Calls of compiled functions by their address.

What calls another compiled function directly is compiled together with it, and so is whatever calls that: the kernels
would be compiled again at every level, and all of them for every network. By their addresses each is compiled once, and
only where a network has such an operation. Addresses are arguments, so that the code that calls is cached too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def addresses_of(functions: list[Any], arguments: tuple[Any, ...], used: set[int]) -> np.ndarray[Any, Any]:
    """Addresses of compiled functions that return nothing, for arguments of certain types.

    Args:
        functions: of numba.
        arguments: values of the types that they will be called with.
        used: numbers of those that are needed; the others are not compiled, and have the address 0.
    """
    from numba import typeof

    kinds = tuple(typeof(one) for one in arguments)
    found = np.zeros(len(functions), dtype=np.int64)
    for number in used:
        functions[number].compile(kinds)
        compiled = functions[number].overloads[kinds]
        found[number] = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return found


@intrinsic
def call(typingctx, addresses, number, arguments):  # type: ignore[no-untyped-def]
    """Call function `number` of `addresses_of` with a tuple of arguments."""
    if not isinstance(arguments, types.BaseTuple):
        return None
    return types.void(addresses, number, arguments), _call


def _call(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    of_addresses, of_number, of_arguments = signature.args
    table = context.make_array(of_addresses)(context, builder, args[0]).data
    address = builder.load(builder.gep(table, [context.cast(builder, args[1], of_number, types.int64)]))
    kinds = list(of_arguments.types)
    kind: ir.FunctionType = context.call_conv.get_function_type(types.void, kinds)
    values = cgutils.unpack_tuple(builder, args[2], len(kinds))
    function = builder.inttoptr(address, kind.as_pointer())
    context.call_conv.call_function(builder, function, types.void, kinds, values)
    return context.get_dummy_value()
