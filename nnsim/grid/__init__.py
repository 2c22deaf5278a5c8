"""Grids in the space of the collective variables, and functions on them."""

from typing import TYPE_CHECKING

from nnsim.lazy import lazily

if TYPE_CHECKING:
    from nnsim.grid.grid import Grid, Kernel

__all__ = ["Grid", "Kernel"]
__getattr__ = lazily(
    __name__,
    {
        "nnsim.grid.grid": ["Grid", "Kernel"],
    },
)
