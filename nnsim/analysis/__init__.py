"""What is learnt from trajectories; nothing here needs torch."""

from nnsim.analysis.averages.bins import (
    ConditionalMean,
    average_bins,
    conditional_mean,
    conditional_mean_over_walkers,
    jackknife,
)
from nnsim.analysis.averages.boltzmann import boltzmann_averages, boltzmann_settings
from nnsim.analysis.averages.conditions import start_of
from nnsim.analysis.averages.equilibrium import (
    EquilibriumTable,
    averaged_type,
    biased_quantity,
    equilibrium,
    mean_curve,
)
from nnsim.analysis.averages.kinds import teach
from nnsim.analysis.averages.profile import Profile, profile
from nnsim.analysis.averages.sides import Side, sides_of
from nnsim.analysis.averages.tempering import Tempering, tempering
from nnsim.analysis.averages.two_sided import Compared, TwoSided, two_sided
from nnsim.analysis.averages.weights import FrameWeights, frame_weights
from nnsim.analysis.landscape.axes import Axis, Curve, natural_value
from nnsim.analysis.landscape.convergence import ConvergenceRecord, Diagnosis, convergence_records, diagnose
from nnsim.analysis.landscape.interpolation import log_weights
from nnsim.analysis.landscape.landscape import EntropyLandscape
from nnsim.analysis.landscape.passages import crossings, round_trips, round_trips_by
from nnsim.analysis.landscape.sampling import FrameSample
from nnsim.analysis.landscape.snapshots import (
    EntropyChange,
    EntropyDifference,
    HistogramFlatness,
    entropy_change,
    entropy_difference,
    flatness,
    has_record,
    histogram_flatness,
)
from nnsim.analysis.motion.components import PrincipalComponents, principal_components
from nnsim.analysis.motion.correlation import (
    AutocorrelationTime,
    BlockAverages,
    autocorrelation,
    autocorrelation_time,
    block_averages,
    effective_sample_size,
)
from nnsim.analysis.motion.diffusion import (
    Diffusion,
    MeanSquaredDisplacement,
    VelocityAutocorrelation,
    diffusion_coefficient,
    mean_squared_displacement,
    velocity_autocorrelation,
)
from nnsim.analysis.motion.distances import Rmsd, Rmsf, rmsd, rmsf
from nnsim.analysis.motion.overlap import Overlap, overlap
from nnsim.analysis.motion.temperature import LayerTemperature, layer_temperatures
from nnsim.analysis.renaming.align import Alignment, align, rename_neurons
from nnsim.analysis.training.curves import (
    FinalAdvantage,
    TrainingCurve,
    entropy_advantage,
    final_advantage,
    first_passage,
    training_curve,
)
from nnsim.analysis.training.evolution import Evolution, evolution, running_average, steps_per_epoch, sweep_runs
from nnsim.analysis.training.scaling import LogarithmicLaw, PowerLaw, Scaling, fit_logarithm, fit_power, scaling
from nnsim.analysis.training.sweep_table import SweepGrid, SweepTable, read_sweep

__all__ = [
    "Alignment",
    "AutocorrelationTime",
    "Axis",
    "BlockAverages",
    "Compared",
    "ConditionalMean",
    "ConvergenceRecord",
    "Curve",
    "Diagnosis",
    "Diffusion",
    "EntropyChange",
    "EntropyDifference",
    "EntropyLandscape",
    "EquilibriumTable",
    "Evolution",
    "FinalAdvantage",
    "FrameSample",
    "FrameWeights",
    "HistogramFlatness",
    "LayerTemperature",
    "LogarithmicLaw",
    "MeanSquaredDisplacement",
    "Overlap",
    "PowerLaw",
    "PrincipalComponents",
    "Profile",
    "Rmsd",
    "Rmsf",
    "Scaling",
    "Side",
    "SweepGrid",
    "SweepTable",
    "Tempering",
    "TrainingCurve",
    "TwoSided",
    "VelocityAutocorrelation",
    "align",
    "autocorrelation",
    "autocorrelation_time",
    "average_bins",
    "averaged_type",
    "biased_quantity",
    "block_averages",
    "boltzmann_averages",
    "boltzmann_settings",
    "conditional_mean",
    "conditional_mean_over_walkers",
    "convergence_records",
    "crossings",
    "diagnose",
    "diffusion_coefficient",
    "effective_sample_size",
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
    "layer_temperatures",
    "log_weights",
    "mean_curve",
    "mean_squared_displacement",
    "natural_value",
    "overlap",
    "principal_components",
    "profile",
    "read_sweep",
    "rename_neurons",
    "rmsd",
    "rmsf",
    "round_trips",
    "round_trips_by",
    "running_average",
    "scaling",
    "sides_of",
    "start_of",
    "steps_per_epoch",
    "sweep_runs",
    "teach",
    "tempering",
    "training_curve",
    "two_sided",
    "velocity_autocorrelation",
]
