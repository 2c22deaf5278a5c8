"""The empirical neural tangent kernel, and what describes it; as collective variables in `nnsim.cv`."""

from nnsim.cv.ntk.functions import diagonal, kernel
from nnsim.cv.ntk.measures import (
    class_blocks,
    covariance_entropy,
    entropy,
    magnitude_entropy,
    magnitude_variance,
    magnitudes,
    spectrum,
    trace,
)

__all__ = [
    "class_blocks",
    "covariance_entropy",
    "diagonal",
    "entropy",
    "kernel",
    "magnitude_entropy",
    "magnitude_variance",
    "magnitudes",
    "spectrum",
    "trace",
]
