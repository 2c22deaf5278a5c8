"""Where every random number of a run comes from: streams by counter."""

from typing import TYPE_CHECKING

from nnsim.lazy import lazily

if TYPE_CHECKING:
    from nnsim.random.streams import Purpose, RandomStreams, require_seed, undisturbed

__all__ = ["Purpose", "RandomStreams", "require_seed", "undisturbed"]
__getattr__ = lazily(
    __name__,
    {
        "nnsim.random.streams": ["Purpose", "RandomStreams", "require_seed", "undisturbed"],
    },
)
