"""What is learnt from trajectories; nothing here needs torch."""

from nnsim.analysis.axes import Axis, Curve, natural_value
from nnsim.analysis.boltzmann import boltzmann_averages, boltzmann_settings
from nnsim.analysis.convergence import ConvergenceRecord, Diagnosis, convergence_records, diagnose
from nnsim.analysis.equilibrium import EquilibriumTable, averaged_type, biased_quantity, equilibrium, mean_curve
from nnsim.analysis.landscape import EntropyLandscape
from nnsim.analysis.passages import crossings, round_trips, round_trips_by
from nnsim.analysis.profile import Profile, profile
from nnsim.analysis.reweight import (
    ConditionalMean,
    average_bins,
    conditional_mean,
    conditional_mean_over_walkers,
    jackknife,
    log_weights,
)
from nnsim.analysis.snapshots import (
    EntropyChange,
    EntropyDifference,
    HistogramFlatness,
    entropy_change,
    entropy_difference,
    flatness,
    has_record,
    histogram_flatness,
)
from nnsim.analysis.training import (
    FinalAdvantage,
    TrainingCurve,
    entropy_advantage,
    final_advantage,
    first_passage,
    training_curve,
)
from nnsim.analysis.weights import FrameWeights, frame_weights

__all__ = [
    "Axis",
    "ConditionalMean",
    "ConvergenceRecord",
    "Curve",
    "Diagnosis",
    "EntropyChange",
    "EntropyDifference",
    "EntropyLandscape",
    "EquilibriumTable",
    "FinalAdvantage",
    "FrameWeights",
    "HistogramFlatness",
    "Profile",
    "TrainingCurve",
    "average_bins",
    "averaged_type",
    "biased_quantity",
    "boltzmann_averages",
    "boltzmann_settings",
    "conditional_mean",
    "conditional_mean_over_walkers",
    "convergence_records",
    "crossings",
    "diagnose",
    "entropy_advantage",
    "entropy_change",
    "entropy_difference",
    "equilibrium",
    "final_advantage",
    "first_passage",
    "flatness",
    "frame_weights",
    "has_record",
    "histogram_flatness",
    "jackknife",
    "log_weights",
    "mean_curve",
    "natural_value",
    "profile",
    "round_trips",
    "round_trips_by",
    "training_curve",
]
