"""What is learnt from trajectories; nothing here needs torch."""

from nnsim.analysis.axes import Axis, Curve, natural_value
from nnsim.analysis.boltzmann import boltzmann_averages, boltzmann_settings
from nnsim.analysis.convergence import Diagnosis, crossings, diagnose, has_record, round_trips
from nnsim.analysis.equilibrium import EquilibriumTable, equilibrium, mean_curve
from nnsim.analysis.landscape import EntropyLandscape
from nnsim.analysis.reweight import (
    ConditionalMean,
    average_bins,
    conditional_mean,
    conditional_mean_over_walkers,
    jackknife,
    log_weights,
)
from nnsim.analysis.training import TrainingCurve, entropy_advantage, first_passage, training_curve

__all__ = [
    "Axis",
    "ConditionalMean",
    "Curve",
    "Diagnosis",
    "EntropyLandscape",
    "EquilibriumTable",
    "TrainingCurve",
    "average_bins",
    "boltzmann_averages",
    "boltzmann_settings",
    "conditional_mean",
    "conditional_mean_over_walkers",
    "crossings",
    "diagnose",
    "entropy_advantage",
    "equilibrium",
    "first_passage",
    "has_record",
    "jackknife",
    "log_weights",
    "mean_curve",
    "natural_value",
    "round_trips",
    "training_curve",
]
