"""What is learnt from trajectories; nothing here needs torch."""

from nnsim.analysis.convergence import crossings, round_trips
from nnsim.analysis.landscape import Axis, Curve, EntropyLandscape, natural_value
from nnsim.analysis.reweight import (
    ConditionalMean,
    average_bins,
    conditional_mean,
    conditional_mean_over_walkers,
    log_weights,
)

__all__ = [
    "Axis",
    "ConditionalMean",
    "Curve",
    "EntropyLandscape",
    "average_bins",
    "conditional_mean",
    "conditional_mean_over_walkers",
    "crossings",
    "log_weights",
    "natural_value",
    "round_trips",
]
