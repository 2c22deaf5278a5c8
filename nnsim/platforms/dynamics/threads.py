"""Threads that wait for each other inside compiled code, and the threads of the BLAS."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nnsim.platforms.dynamics.network.compile import kernel

LINE = 128  # bytes that a processor may take from another at once
SPINS = 2000  # looks at the counter before the processor is offered to others


@intrinsic
def _add(typingctx, array, value):  # type: ignore[no-untyped-def]
    """Add to the first number of an array of int64, for all threads to see; returns what it was before."""

    def call(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        wide = context.cast(builder, args[1], signature.args[1], types.int64)
        return builder.atomic_rmw("add", data, wide, "seq_cst")

    return types.int64(array, value), call


@intrinsic
def _look(typingctx, array):  # type: ignore[no-untyped-def]
    """The first number of an array of int64, as other threads have left it."""

    def call(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load_atomic(data, "acquire", 8)

    return types.int64(array), call


@intrinsic
def _yield(typingctx):  # type: ignore[no-untyped-def]
    """Let other threads of the machine have the processor."""

    def call(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        function = builder.module.globals.get("sched_yield") or ir.Function(builder.module, kind, "sched_yield")
        return context.cast(builder, builder.call(function, []), types.int32, types.int64)

    return types.int64(), call


@kernel
def arrive(team):  # type: ignore[no-untyped-def]
    """Let the team know that this thread has come so far; returns how often all threads must have, to wait for that."""
    return _add(team.arrived, 1) // team.size + 1 if team.size > 1 else 0


@kernel
def wait(team, turn):  # type: ignore[no-untyped-def]
    """Return when all threads of a team have arrived so often."""
    spins = 0
    while _look(team.arrived) < turn * team.size:
        spins += 1
        if spins % SPINS == 0:
            _yield()


def single_blas() -> None:
    """Let the BLAS that compiled code calls take one thread: walkers are on threads, and would be in each other's way.

    It is that of SciPy, which NumPy and torch do not share.
    """
    from threadpoolctl import ThreadpoolController

    for library in ThreadpoolController().lib_controllers:
        if library.user_api == "blas" and "scipy" in Path(library.filepath).parent.name:
            library.set_num_threads(1)


@contextmanager
def announced(seconds: float = 3.0) -> Iterator[None]:
    """Say what takes so long, if it takes longer than some seconds."""
    line = "compiling the steps for this kind of simulation, which is kept for the next ones; it takes up to a minute"
    timer = threading.Timer(seconds, logging.getLogger("nnsim").info, [line])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def alone(shape: int | tuple[int, ...], dtype: Any = np.float64) -> np.ndarray[Any, Any]:
    """Zeros in lines of the cache that hold nothing else: what one thread writes there takes nothing from another."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.zeros(size + 2 * LINE, dtype=np.uint8)
    begin = -room.ctypes.data % LINE
    return room[begin : begin + size].view(dtype).reshape(shape)
