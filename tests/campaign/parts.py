"""Every public part and function that needs no run, with arguments that work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch

import nnsim
from nnsim import Box, EntropyLandscape, Grid, Lattice, analysis, cv, per_tensor_limits
from nnsim import integrators as moves
from nnsim.analysis import Axis, Curve
from nnsim.bias import OPES, Boltzmann, Metadynamics, ReplicaExchange, Umbrella, Wall, WangLandau, Work
from nnsim.cv import ntk
from nnsim.export import atom_order, to_topology
from nnsim.integrators import Langevin
from nnsim.plotting import plot_landscape, plot_slices, readable, use_style
from nnsim.schedules import (
    CycleDecay,
    ExponentialRamp,
    FlatnessHalving,
    InverseTime,
    LinearRamp,
    RampHoldInverseTime,
)
from nnsim.systems import (
    AnalyticSystem,
    BinaryCrossEntropy,
    CrossEntropy,
    DoubleWell,
    GaussianPrior,
    Harmonic,
    LossPotential,
    MeanSquaredError,
    NeuralNetwork,
    auto_mpg,
    convolutional_mnist,
    dense_mnist,
    digits,
    house_prices,
    spiral_classification,
    spiral_regression,
)
from nnsim.systems.modules import mlp, mnist_cnn, mnist_pooled_cnn, resnet10

Call: TypeAlias = "tuple[Callable[..., Any], dict[str, Any]]"

LOSS, NORM = cv.LogLoss("train"), cv.WeightNorm()
X, Y = torch.linspace(-1, 1, 24).reshape(12, 2), torch.arange(12) // 6
NTK: dict[str, Any] = {"split": "train", "points": 4, "outputs": "mean", "label": None, "subsamples": 1, "seed": 0}
KERNEL = torch.eye(6, dtype=torch.float64) + 0.1
PARAMETERS = {"0.weight": (3, 2), "0.bias": (3,), "2.weight": (2, 3), "2.bias": (2,)}  # of mlp((2, 3, 2))
LINE = np.linspace(0.0, 1.0, 8)
WALK = np.cumsum(np.random.default_rng(0).standard_normal((40, 3)), axis=0)  # [T, W]
FRAMES = np.random.default_rng(1).standard_normal((40, 3, 17))  # [T, W, n]


def grid(cvs: int = 1) -> Grid:
    return Grid([-3.0] * cvs, [2.0] * cvs, bins=20)


def system() -> NeuralNetwork:
    return NeuralNetwork(mlp((2, 3, 2)), (X, Y), (X, Y), box=Box(1.0), initial="uniform")


def landscape(cvs: int = 2) -> EntropyLandscape:
    """A hill of entropy over `a` and `b`."""
    axes = tuple(Axis(name, LINE, np.linspace(-1 / 14, 1 + 1 / 14, 9)) for name in "abc"[:cvs])
    x = np.stack(np.meshgrid(*[LINE] * cvs, indexing="ij"))
    return EntropyLandscape(-((x - 0.5) ** 2).sum(axis=0), np.ones(x.shape[1:], dtype=bool), axes)


def learnt() -> Any:
    """A bias that knows something."""
    simulation = nnsim.Simulation(
        system(), moves.MonteCarlo(0.1), bias=WangLandau(LOSS, grid(), InverseTime(0.1, 10.0)), threads=1
    )
    return simulation.run(50, progress=False).force_field.biases[0]


def styled(name: str) -> None:
    with use_style(name):
        pass


def whole(make: Callable[..., Any]) -> Callable[..., None]:
    """A CV that is also evaluated, by a simulation."""

    def use(*parts: Any, **settings: Any) -> None:
        nnsim.Simulation(system(), Langevin(0.01, 1.0), observe=[make(*parts, **settings)], threads=1)

    return use


def cv_function(function: Any, part: Any, **settings: Any) -> None:
    """A function of two CVs, that is also evaluated."""
    whole(cv.Function)(function, part, NORM, **settings)


def arithmetic(left: Any, factor: Any, exponent: Any, name: Any) -> Any:
    """Every operation on CVs, with what is thrown on its left and on its right."""
    return (left - NORM + factor * (NORM**exponent) / left - factor / (1 + NORM)).named(name)


def named(name: str) -> None:
    """A bias of such a name, in a simulation, which is what checks names."""
    nnsim.Simulation(system(), Langevin(0.01, 1.0), bias=Umbrella(LOSS, 0.5, 1.0, name=name), threads=1)


INTEGRATORS: dict[str, Call] = {
    "Langevin": (
        Langevin, {"dt": 0.1, "friction": 1.0, "kT": 1.0, "splitting": "BAOAB", "masses": 1.0, "batch_size": 4}
    ),
    "Brownian": (
        moves.Brownian,
        {"dt": 0.1, "friction": 1.0, "kT": 1.0, "scheme": "euler-maruyama", "masses": 1.0, "batch_size": 4},
    ),
    "NoseHoover": (
        moves.NoseHoover,
        {"dt": 0.1, "tau": 1.0, "kT": 1.0, "chain": 3, "massive": False, "substeps": 1, "masses": 1.0},
    ),
    "VelocityVerlet": (moves.VelocityVerlet, {"dt": 0.1, "masses": 1.0, "kT": 1.0}),
    "HybridMonteCarlo": (
        moves.HybridMonteCarlo,
        {"dt": 0.1, "steps": 5, "kT": 1.0, "jitter": 0.2, "refreshment": 1.0, "masses": 1.0},
    ),
    "LBFGS": (moves.LBFGS, {"of": "potential", "gradient_norm": 1e-6, "memory": 5}),
    "MonteCarlo": (moves.MonteCarlo, {"step": 0.1, "kT": 1.0, "move": "one"}),
    "FixedStep": (moves.FixedStep, {"size": 0.1}),
    "MixedStep": (moves.MixedStep, {"smallest": 0.1, "largest": 1.0}),
    "TunedStep": (moves.TunedStep, {"initial": 0.1, "target": 0.5, "warmup": 100, "largest": 0.5}),
    "GradientDescent": (
        moves.GradientDescent,
        {"learning_rate": 0.1, "momentum": 0.5, "nesterov": False, "weight_decay": 0.1, "batch_size": 4,
         "schedule": moves.CosineDecay(10), "confine": False},
    ),
    "Adam": (
        moves.Adam,
        {"learning_rate": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "batch_size": 4,
         "schedule": moves.CosineDecay(10), "confine": False},
    ),
    "CosineDecay": (moves.CosineDecay, {"steps": 10, "final": 0.0}),
    "StepDecay": (moves.StepDecay, {"every": 10, "factor": 0.5}),
    "friction_from_fraction": (moves.friction_from_fraction, {"g": 0.5, "dt": 0.1}),
}  # fmt: skip
SCHEDULES: dict[str, Call] = {
    "LinearRamp": (LinearRamp, {"start": 1.0, "end": 0.1, "steps": 10}),
    "ExponentialRamp": (ExponentialRamp, {"start": 1.0, "end": 0.1, "steps": 10}),
    "InverseTime": (InverseTime, {"maximum": 0.1, "scale": 10.0}),
    "RampHoldInverseTime": (RampHoldInverseTime, {"maximum": 0.1, "ramp": 10.0, "hold": 100.0, "offset": 0.0}),
    "CycleDecay": (CycleDecay, {"numerator": 5.0, "cycle": 100.0, "offset": 10.0}),
    "FlatnessHalving": (
        FlatnessHalving, {"initial": 0.1, "flatness": 0.8, "check_every": 10, "final": 1e-6, "factor": 0.5}
    ),
}  # fmt: skip
BIASES: dict[str, Call] = {
    "WangLandau": (
        WangLandau,
        {"cvs": LOSS, "grid": grid(), "schedule": InverseTime(0.1, 10.0), "kT": 1.0, "kernel": 0.5},
    ),
    "Metadynamics": (
        Metadynamics,
        {"cvs": LOSS, "grid": grid(), "height": 0.1, "sigma": 0.5, "pace": 5, "bias_factor": 10.0, "kT": 1.0},
    ),
    "OPES": (
        OPES,
        {"cvs": LOSS, "barrier": 10.0, "pace": 5, "sigma": 0.5, "bias_factor": 8.0, "explore": False, "kT": 1.0,
         "epsilon": 1e-5, "cutoff": 5.0, "threshold": 1.0, "periods": None, "grid": grid()},
    ),
    "Umbrella": (
        Umbrella,
        {"cvs": LOSS, "center": 0.5, "stiffness": 10.0, "velocity": 0.0, "until": 10, "periods": 1.0},
    ),
    "Work": (Work, {"umbrella": Umbrella(LOSS, 0.5, 1.0, velocity=1e-3)}),
    "Wall": (
        Wall, {"cv": LOSS, "upper": 1.0, "lower": -1.0, "strength": 10.0, "shape": "quadratic"}
    ),
    "Bias.name": (named, {"name": "mine"}),
    "Boltzmann": (Boltzmann, {"cv": LOSS, "beta": [1.0, 2.0], "ramp": 10, "kT": 1.0}),
    "ReplicaExchange": (
        ReplicaExchange,
        {"cv": LOSS, "beta": [1.0, 2.0], "every": 10, "pilot": 0, "kT": 1.0},
    ),
}  # fmt: skip
CVS: dict[str, Call] = {
    "Accuracy": (cv.Accuracy, {"split": "test"}),
    "SmoothedAccuracy": (cv.SmoothedAccuracy, {"split": "test", "slope": 5.0, "coordinate": "linear", "scale": 1.0}),
    "Loss": (cv.Loss, {"split": "train"}),
    "LogLoss": (cv.LogLoss, {"split": "train"}),
    "LossDerivative": (cv.LossDerivative, {"split": "train"}),
    "Parameter": (cv.Parameter, {"index": 0}),
    "WeightNorm": (whole(cv.WeightNorm), {"name": "weight_norm"}),
    "Distance": (whole(cv.Distance), {"reference": 0.0, "name": "distance"}),
    "Energy": (whole(cv.Energy), {"function": Harmonic(), "name": "energy"}),
    "LogEnergy": (whole(cv.LogEnergy), {"function": Harmonic(), "name": "ln_energy"}),
    "Function": (cv_function, {"function": torch.maximum, "part": NORM, "name": "most", "period": 1.0}),
    "CollectiveVariable.arithmetic": (
        whole(arithmetic), {"left": LOSS, "factor": 2.0, "exponent": 2.0, "name": "mine"}
    ),
    "NTKEntropy": (cv.NTKEntropy, {**NTK, "normalised": False}),
    "NTKCovarianceEntropy": (cv.NTKCovarianceEntropy, {**NTK, "normalised": False}),
    "NTKMagnitudeEntropy": (cv.NTKMagnitudeEntropy, {**NTK, "normalised": False}),
    "NTKMagnitudeVariance": (cv.NTKMagnitudeVariance, NTK),
    "NTKSpectrum": (cv.NTKSpectrum, NTK),
    "NTKTrace": (cv.NTKTrace, {**NTK, "per_row": False}),
    "ntk.kernel": (
        ntk.kernel,
        {"module": mlp((2, 3, 2)), "points": X, "outputs": "mean", "positions": torch.zeros(1, 17), "batch_size": 4,
         "method": "auto", "max_memory": 1e9, "create_graph": False},
    ),
    "ntk.diagonal": (
        ntk.diagonal,
        {"module": mlp((2, 3, 2)), "points": X, "outputs": "mean", "positions": torch.zeros(1, 17), "batch_size": 4,
         "method": "auto", "max_memory": 1e9, "create_graph": False},
    ),
    "ntk.class_blocks": (ntk.class_blocks, {"kernel": KERNEL, "labels": torch.arange(6) % 2}),
    "ntk.covariance_entropy": (ntk.covariance_entropy, {"kernel": KERNEL, "normalised": False}),
    "ntk.entropy": (ntk.entropy, {"kernel": KERNEL, "normalised": False}),
    "ntk.magnitude_entropy": (ntk.magnitude_entropy, {"diagonal": KERNEL.diagonal(), "normalised": False}),
    "ntk.magnitude_variance": (ntk.magnitude_variance, {"diagonal": KERNEL.diagonal()}),
    "ntk.magnitudes": (ntk.magnitudes, {"diagonal": KERNEL.diagonal()}),
    "ntk.spectrum": (ntk.spectrum, {"kernel": KERNEL}),
    "ntk.trace": (ntk.trace, {"kernel": KERNEL, "per_row": False}),
}  # fmt: skip
SYSTEMS: dict[str, Call] = {
    "LossPotential": (LossPotential, {"factor": 5.0}),
    "GaussianPrior": (GaussianPrior, {"scale": 1.0}),
    "Harmonic": (Harmonic, {"stiffness": 1.0}),
    "DoubleWell": (DoubleWell, {"barrier": 5.0, "minimum": 1.0, "coupling": 0.0}),
    "BinaryCrossEntropy": (
        BinaryCrossEntropy, {"weight": torch.ones(2), "pos_weight": torch.ones(2), "reduction": "mean"}
    ),
    "CrossEntropy": (
        CrossEntropy, {"weight": torch.ones(2), "label_smoothing": 0.1, "ignore_index": -1, "reduction": "mean"}
    ),
    "MeanSquaredError": (MeanSquaredError, {"reduction": "mean"}),
    "mlp": (mlp, {"sizes": (2, 3, 2), "activation": "tanh", "seed": 0}),
    "mnist_cnn": (mnist_cnn, {"seed": 0}),
    "mnist_pooled_cnn": (mnist_pooled_cnn, {"width": 2, "depth": 1, "activation": "tanh", "seed": 0}),
    "resnet10": (resnet10, {"classes": 2, "seed": 0}),
    "spiral_classification": (
        spiral_classification,
        {"hidden": (3,), "points_per_class": 5, "classes": 2, "noise": 0.1, "train_seed": 0, "test_seed": 1,
         "activation": "tanh", "box": Box(1.0), "initial": "uniform"},
    ),
    "spiral_regression": (
        spiral_regression,
        {"hidden": (3,), "points": 5, "seed": 0, "noise": 0.1, "activation": "tanh", "box": Box(1.0),
         "initial": "uniform"},
    ),
    "auto_mpg": (
        auto_mpg,
        {"width": 3, "depth": 1, "seed": 0, "test_fraction": 0.2, "activation": "tanh", "box": Box(1.0),
         "initial": "uniform"},
    ),
    "convolutional_mnist": (
        convolutional_mnist,
        {"width": 2, "depth": 1, "train_points": 5, "test_points": 5, "activation": "tanh", "seed": 0,
         "box": Box(1.0), "initial": "uniform"},
    ),
    "dense_mnist": (
        dense_mnist,
        {"width": 2, "depth": 1, "train_points": 5, "test_points": 5, "activation": "tanh", "seed": 0,
         "box": Box(1.0), "initial": "uniform"},
    ),
    "digits": (
        digits,
        {"width": 2, "depth": 1, "train_points": 5, "activation": "tanh", "box": Box(1.0), "initial": "uniform"},
    ),
    "house_prices": (
        house_prices, {"hidden": (3,), "seed": 0, "activation": "tanh", "box": Box(1.0), "initial": "uniform"}
    ),
    "NeuralNetwork": (
        NeuralNetwork,
        {"module": mlp((2, 3, 2)), "train": (X, Y), "test": (X, Y), "loss": "cross_entropy",
         "potential": LossPotential(1.0), "box": Box(1.0), "initial": "normal", "initial_scale": 1.0,
         "walkers": "auto", "seed": 0, "max_memory": 1e6},
    ),
    "AnalyticSystem": (AnalyticSystem, {"n": 3, "potential": Harmonic(), "box": Box(1.0), "start": 0.5}),
}  # fmt: skip
CORE: dict[str, Call] = {
    "minimise": (
        nnsim.minimise,
        {"system": AnalyticSystem(2, Harmonic(), start=0.5), "positions": torch.ones(2, 2), "of": "potential",
         "gradient_norm": 1e-6, "steps": 5, "memory": 3, "observe": (), "walkers": 2, "seed": 0, "every": 1,
         "precision": "double", "device": "cpu", "threads": 1, "output": None, "overwrite": False, "progress": False},
    ),
    "tempering": (
        nnsim.tempering,
        {"system": system(), "between": (-1.0, 0.0), "rungs": 3, "ladders": 4, "trained": None, "observe": (),
         "swap_every": 5, "warmup": 10, "pilot": 100, "steps": 10, "every": 5, "seed": 0, "precision": "double",
         "device": "cpu", "threads": 1, "platform": "auto"},
    ),
    "states": (nnsim.states, {"source": [mlp((2, 3, 2)), mlp((2, 3, 2))], "frame": -1, "step": None, "walkers": 0}),
    "Box": (Box, {"limit": 1.0, "kind": "reflecting"}),
    "Box of edges": (Box, {"lower": -1.0, "upper": 1.0, "kind": "periodic"}),
    "per_tensor_limits": (per_tensor_limits, {"shapes": [(3, 2), (3,)], "scale": 1.0}),
    "Lattice": (Lattice, {"values": [-1.0, 1.0]}),
    "Grid": (Grid, {"lower": -1.0, "upper": 1.0, "bins": 10, "periodic": False, "kind": "spline"}),
    "Grid of a spacing": (Grid, {"lower": -1.0, "upper": 1.0, "spacing": 0.1}),
    "Simulation": (
        nnsim.Simulation,
        {"system": AnalyticSystem(2, Harmonic(), start=0.5), "integrator": Langevin(0.1, 1.0), "bias": (),
         "observe": (), "positions": torch.zeros(2, 2), "preparation": None, "walkers": 2, "seed": 0, "steps": 10,
         "every": 5, "record_start": False, "positions_every": 5, "velocities_every": 5, "snapshot_every": 5,
         "checkpoint_every": 5, "output": None, "reporters": (), "precision": "mixed", "device": "cpu", "threads": 1},
    ),
}  # fmt: skip
LANDSCAPES: dict[str, Call] = {
    "EntropyLandscape": (
        EntropyLandscape,
        {"entropy": np.zeros((8, 8)), "visited": np.ones((8, 8), dtype=bool), "axes": landscape().axes, "flat": True,
         "error": np.ones((8, 8))},
    ),
    "EntropyLandscape.from_coefficients": (
        EntropyLandscape.from_coefficients,
        {"coefficients": np.zeros(20), "visits": np.ones(20), "kT": 1.0, "names": ["a"], "flat": True,
         "grid": {"lower": [0.0], "upper": [1.0], "bins": [20], "periodic": [False], "kind": "bins"},
         "bias_factor": 10.0},
    ),
    "EntropyLandscape.from_means": (
        EntropyLandscape.from_means,
        {"means": np.zeros(8), "visited": np.ones(8, dtype=bool), "axes": landscape(1).axes},
    ),
    "EntropyLandscape.from_bias": (
        EntropyLandscape.from_bias, {"bias": learnt(), "flat": True}
    ),
    "EntropyLandscape.average": (EntropyLandscape.average, {"landscapes": [landscape(), landscape()]}),
    "EntropyLandscape.at": (landscape().at, {"a": 0.5, "b": 0.5}),
    "EntropyLandscape.slice": (landscape().slice, {"a": 0.5}),
    "EntropyLandscape.axis_index": (landscape().axis_index, {"axis": "a"}),
    "EntropyLandscape.equilibrium": (landscape().equilibrium, {"given": "a", "of": "b", "value": np.exp}),
    "EntropyLandscape.most_probable": (landscape().most_probable, {"given": "a", "of": "b"}),
    "EntropyLandscape.marginal": (lambda axis: landscape().marginal(axis), {"axis": "a"}),
    "Axis": (
        Axis,
        {"name": "a", "centers": LINE, "edges": landscape(1).axes[0].edges, "periodic": False, "discrete": False},
    ),
    "Curve": (Curve, {"x": LINE, "y": LINE, "error": LINE, "x_name": "a", "y_name": "b"}),
    "entropy_change": (analysis.entropy_change, {"before": landscape(), "after": landscape()}),
    "entropy_difference": (analysis.entropy_difference, {"landscape": landscape(1), "a": 0.2, "b": 0.8, "cv": "a"}),
    "log_weights": (analysis.log_weights, {"landscape": landscape(1), "samples": LINE}),
}  # fmt: skip
SERIES: dict[str, Call] = {
    "autocorrelation": (
        analysis.autocorrelation, {"series": WALK, "max_lag": 10, "common_mean": True, "period": 1.0}
    ),
    "autocorrelation_time": (
        analysis.autocorrelation_time,
        {"series": WALK, "window": 5.0, "common_mean": True, "interval": 1.0, "period": 1.0},
    ),
    "effective_sample_size": (
        analysis.effective_sample_size, {"series": WALK, "window": 5.0, "common_mean": True, "period": 1.0}
    ),
    "block_averages": (analysis.block_averages, {"series": WALK, "interval": 1.0, "period": 1.0}),
    "average_bins": (analysis.average_bins, {"centers": LINE, "values": LINE, "width": 2 / 7, "origin": -1 / 14}),
    "conditional_mean": (
        analysis.conditional_mean, {"x": LINE, "y": LINE, "log_weights": LINE, "edges": [0.0, 0.5, 1.0]}
    ),
    "conditional_mean_over_walkers": (
        analysis.conditional_mean_over_walkers,
        {"x": WALK, "y": WALK, "log_weights": WALK, "edges": [-9.0, 0.0, 9.0], "groups": 3, "time_blocks": 1},
    ),
    "crossings": (analysis.crossings, {"series": WALK, "low": 0.0, "high": 1.0}),
    "round_trips": (analysis.round_trips, {"series": WALK, "low": 0.0, "high": 1.0}),
    "round_trips_by": (
        analysis.round_trips_by,
        {"series": WALK, "step": np.arange(40), "until": [10, 30], "low": 0.0, "high": 1.0},
    ),
    "first_passage": (analysis.first_passage, {"x": WALK, "y": WALK, "levels": [0.0, 0.5]}),
    "fit_logarithm": (
        analysis.fit_logarithm, {"x": LINE + 1, "y": LINE + 1, "error": LINE + 1, "weighted": True}
    ),
    "fit_power": (analysis.fit_power, {"x": LINE + 1, "y": LINE + 1, "error": LINE + 1, "weighted": True}),
    "flatness": (analysis.flatness, {"visits": LINE, "known": LINE > 0.5}),
    "jackknife": (analysis.jackknife, {"left_out": LINE}),
    "natural_value": (analysis.natural_value, {"name": "ln_loss_train"}),
    "running_average": (analysis.running_average, {"values": LINE, "window": 3}),
    "rmsd": (
        analysis.rmsd,
        {"frames": FRAMES, "reference": 0, "selection": "weight", "by_layer": False, "align": True, "signs": False,
         "parameters": PARAMETERS, "period": 1.0, "starts": 2, "seed": 0, "check": False},
    ),
    "rmsf": (
        analysis.rmsf,
        {"frames": FRAMES, "selection": "weight", "parameters": PARAMETERS, "blocks": 4, "period": 9.0},
    ),
    "overlap": (
        analysis.overlap,
        {"frames": FRAMES, "centre": np.zeros(17), "selection": "weight", "parameters": PARAMETERS, "period": 9.0},
    ),
    "principal_components": (
        analysis.principal_components,
        {"frames": FRAMES, "components": 2, "selection": "weight", "parameters": PARAMETERS, "period": 9.0},
    ),
    "mean_squared_displacement": (
        analysis.mean_squared_displacement,
        {"frames": FRAMES, "max_lag": 10, "selection": "weight", "parameters": PARAMETERS, "period": 9.0,
         "interval": 1.0},
    ),
    "teach": (
        analysis.teach, {"formula": "parabola", "potential": lambda settings, values, kT: 0.0, "reads": ("width",)}
    ),
    "diffusion_coefficient": (
        analysis.diffusion_coefficient, {"frames": FRAMES, "between": (0.0, 8.0), "max_lag": 10, "interval": 1.0}
    ),
    "velocity_autocorrelation": (
        analysis.velocity_autocorrelation,
        {"frames": FRAMES, "max_lag": 10, "selection": "weight", "parameters": PARAMETERS, "interval": 1.0},
    ),
    "layer_temperatures": (
        analysis.layer_temperatures, {"frames": FRAMES, "masses": 1.0, "parameters": PARAMETERS}
    ),
    "align": (
        analysis.align,
        {"positions": FRAMES[0], "reference": FRAMES[0, 0], "parameters": PARAMETERS, "signs": False, "starts": 2,
         "seed": 0, "period": 9.0, "module": mlp((2, 3, 2), "tanh"), "points": X, "check": True},
    ),
    "rename_neurons": (
        analysis.rename_neurons,
        {"positions": FRAMES[0, 0], "parameters": PARAMETERS, "permutations": [[1, 0, 2]], "signs": [[1, 1, 1]],
         "module": mlp((2, 3, 2), "tanh"), "points": X, "check": True},
    ),
    "atom_order": (atom_order, {"parameters": PARAMETERS}),
    "to_topology": (to_topology, {"parameters": PARAMETERS, "selection": "0.weight"}),
    "readable": (readable, {"name": "ln_loss_train"}),
    "use_style": (styled, {"name": "column"}),
    "plot_landscape": (
        plot_landscape,
        {"landscape": landscape(), "equilibrium": Curve(LINE, LINE), "reference": Curve(LINE, LINE),
         "training": Curve(LINE, LINE), "value": np.exp, "value_label": "v", "equilibrium_label": "e",
         "reference_label": "r", "training_label": "t", "span": 1.0, "note": "n"},
    ),
    "plot_slices": (
        plot_slices, {"landscape": landscape(3), "along": "a", "count": 3, "span": 1.0, "note": "n"}
    ),
}  # fmt: skip
PARTS: dict[str, Call] = {
    **CORE, **INTEGRATORS, **SCHEDULES, **BIASES, **CVS, **SYSTEMS, **LANDSCAPES, **SERIES
}  # fmt: skip
