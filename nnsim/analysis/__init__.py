"""What is learnt from trajectories; nothing here needs torch."""

from nnsim.analysis.axes import Axis, Curve, natural_value
from nnsim.analysis.boltzmann import boltzmann_averages, boltzmann_settings
from nnsim.analysis.convergence import ConvergenceRecord, Diagnosis, convergence_records, diagnose
from nnsim.analysis.equilibrium import EquilibriumTable, averaged_type, biased_quantity, equilibrium, mean_curve
from nnsim.analysis.evolution import Evolution, evolution, running_average, steps_per_epoch, sweep_runs
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
from nnsim.analysis.scaling import LogarithmicLaw, PowerLaw, Scaling, fit_logarithm, fit_power, scaling
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
from nnsim.analysis.sweep_table import SweepGrid, SweepTable, read_sweep
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
    "Evolution",
    "FinalAdvantage",
    "FrameWeights",
    "HistogramFlatness",
    "LogarithmicLaw",
    "PowerLaw",
    "Profile",
    "Scaling",
    "SweepGrid",
    "SweepTable",
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
    "evolution",
    "final_advantage",
    "first_passage",
    "fit_logarithm",
    "fit_power",
    "flatness",
    "frame_weights",
    "has_record",
    "histogram_flatness",
    "jackknife",
    "log_weights",
    "mean_curve",
    "natural_value",
    "profile",
    "read_sweep",
    "round_trips",
    "round_trips_by",
    "running_average",
    "scaling",
    "steps_per_epoch",
    "sweep_runs",
    "training_curve",
]
