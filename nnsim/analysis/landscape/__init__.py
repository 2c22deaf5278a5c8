"""Entropy landscapes: what a bias has learnt, how far it has converged, and where walkers went."""

from typing import TYPE_CHECKING

from nnsim.lazy import lazily

if TYPE_CHECKING:
    from nnsim.analysis.landscape.landscape import EntropyLandscape

__all__ = ["EntropyLandscape"]
__getattr__ = lazily(
    __name__,
    {
        "nnsim.analysis.landscape.landscape": ["EntropyLandscape"],
    },
)
