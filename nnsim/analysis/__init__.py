"""What is learnt from trajectories; nothing here needs torch."""

from nnsim.analysis.convergence import Diagnosis, crossings, diagnose, round_trips
from nnsim.analysis.equilibrium import EquilibriumTable, equilibrium, mean_curve
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
    "Diagnosis",
    "EntropyLandscape",
    "EquilibriumTable",
    "average_bins",
    "conditional_mean",
    "conditional_mean_over_walkers",
    "crossings",
    "diagnose",
    "equilibrium",
    "log_weights",
    "mean_curve",
    "natural_value",
    "round_trips",
]
