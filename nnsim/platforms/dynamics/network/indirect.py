"""Calls of compiled functions by their address.

What calls another compiled function directly is compiled together with it, and so is whatever calls that: the kernels
would be compiled again at every level, and all of them for every network. By their addresses each is compiled once, and
only where a network has such an operation. Addresses are arguments, so that the code that calls is cached too.

An array is eight numbers or so to a call, and the arrays of a step are a hundred: they are stored once, by `hold`, and
functions get the place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model


class Held(types.Type):
    """The type of the place of a tuple that a caller keeps."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        super().__init__(name=f"Held({kind})")


register_model(Held)(models.OpaqueModel)


class Holding:
    """Stands for the place of a tuple where only types matter."""

    def __init__(self, value: tuple[Any, ...]) -> None:
        self.value = value


def addresses_of(functions: list[Any], arguments: tuple[Any, ...], used: set[int]) -> np.ndarray[Any, Any]:
    """Addresses of compiled functions that return nothing, for arguments of certain types.

    Args:
        functions: of numba.
        arguments: values of the types that they will be called with.
        used: numbers of those that are needed; the others are not compiled, and have the address 0.
    """
    from numba import typeof

    kinds = tuple(Held(typeof(one.value)) if isinstance(one, Holding) else typeof(one) for one in arguments)
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


@intrinsic
def hold(typingctx, value):  # type: ignore[no-untyped-def]
    """The place of a tuple, which stays there as long as the calling function runs."""
    return Held(value)(value), _hold


@intrinsic
def held(typingctx, place):  # type: ignore[no-untyped-def]
    """The tuple at a place."""
    return place.kind(place), _held


def _hold(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    room = cgutils.alloca_once(builder, args[0].type)

    def store(value: Any, place: Any) -> None:
        for number, part in enumerate(_parts(value.type)):
            inner = cgutils.gep_inbounds(builder, place, 0, number)
            own = builder.extract_value(value, number)
            store(own, inner) if _parts(part) else builder.store(own, inner)

    store(args[0], room)
    return builder.bitcast(room, cgutils.voidptr_t)


def _held(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    kind = context.get_value_type(signature.return_type)

    def load(place: Any, kind: Any) -> Any:
        """Number by number, so that those that are not used are not read."""
        whole = ir.Constant(kind, ir.Undefined)
        for number, part in enumerate(_parts(kind)):
            inner = cgutils.gep_inbounds(builder, place, 0, number)
            own = load(inner, part) if _parts(part) else builder.load(inner)
            whole = builder.insert_value(whole, own, number)
        return whole

    return load(builder.bitcast(args[0], kind.as_pointer()), kind)


def _parts(kind: Any) -> list[Any]:
    """What a structure or an array consists of; nothing for a number."""
    if isinstance(kind, ir.ArrayType):
        return [kind.element] * kind.count
    return list(kind.elements) if isinstance(kind, ir.LiteralStructType) else []
