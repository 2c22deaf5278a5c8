"""Bad input of every public class, function and command: taken as what it is, or refused in one line.

Each part has a call that works. In a trial one of its arguments is replaced by something else: what is no number of the
right kind must be refused, and whatever happens must be an error of nnsim of one line, or a result.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command_line import nnsim as command

import nnsim
from campaign import Trial
from campaign.runs import finished
from nnsim import Box, Grid, NNSimError, cv
from nnsim.bias import Boltzmann, Metadynamics, ReplicaExchange, Umbrella, Wall, WangLandau
from nnsim.integrators import (
    Adam,
    Brownian,
    CosineDecay,
    FixedStep,
    GradientDescent,
    HybridMonteCarlo,
    Langevin,
    MixedStep,
    MonteCarlo,
    NoseHoover,
    StepDecay,
    TunedStep,
    VelocityVerlet,
)  # fmt: skip
from nnsim.schedules import ExponentialRamp, InverseTime, LinearRamp, RampHoldInverseTime
from nnsim.systems import AnalyticSystem, GaussianPrior, Harmonic, LossPotential, NeuralNetwork, spiral_classification
from nnsim.systems.modules import mlp

LOSS = cv.LogLoss("train")
X, Y = torch.linspace(-1, 1, 24).reshape(12, 2), torch.arange(12) % 2


def grid() -> Grid:
    return Grid(-3.0, 2.0, bins=20)


# Parts, with arguments that work; they are only made.
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "Box": (Box, {"limit": 1.0, "kind": "reflecting"}),
    "Grid": (Grid, {"lower": -1.0, "upper": 1.0, "bins": 10, "kind": "spline", "periodic": False}),
    "Langevin": (Langevin, {"dt": 0.1, "friction": 1.0, "kT": 1.0, "splitting": "BAOAB", "batch_size": 4}),
    "Brownian": (Brownian, {"dt": 0.1, "friction": 1.0, "kT": 1.0, "scheme": "euler-maruyama", "masses": 1.0}),
    "NoseHoover": (NoseHoover, {"dt": 0.1, "tau": 1.0, "kT": 1.0, "chain": 3, "massive": False, "substeps": 1}),
    "VelocityVerlet": (VelocityVerlet, {"dt": 0.1}),
    "HybridMonteCarlo": (HybridMonteCarlo, {"dt": 0.1, "steps": 5, "kT": 1.0, "jitter": 0.2, "refreshment": 1.0}),
    "MonteCarlo": (MonteCarlo, {"step": 0.1, "kT": 1.0, "move": "one"}),
    "FixedStep": (FixedStep, {"size": 0.1}),
    "MixedStep": (MixedStep, {"smallest": 0.1, "largest": 1.0}),
    "TunedStep": (TunedStep, {"initial": 0.1, "target": 0.5, "warmup": 100, "largest": 0.5}),
    "GradientDescent": (GradientDescent, {"learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.1, "batch_size": 4}),
    "Adam": (Adam, {"learning_rate": 0.1, "betas": (0.9, 0.99), "eps": 1e-8}),
    "CosineDecay": (CosineDecay, {"steps": 10}),
    "StepDecay": (StepDecay, {"every": 10, "factor": 0.5}),
    "LinearRamp": (LinearRamp, {"start": 1.0, "end": 0.1, "steps": 10}),
    "ExponentialRamp": (ExponentialRamp, {"start": 1.0, "end": 0.1, "steps": 10}),
    "InverseTime": (InverseTime, {"maximum": 0.1, "scale": 10.0}),
    "RampHoldInverseTime": (RampHoldInverseTime, {"maximum": 0.1, "ramp": 10.0, "hold": 100.0, "offset": 0.0}),
    "WangLandau": (
        WangLandau, {"cvs": LOSS, "grid": grid(), "schedule": InverseTime(0.1, 10.0), "kernel": 0.5, "kT": 1.0}
    ),
    "Metadynamics": (
        Metadynamics,
        {"cvs": LOSS, "grid": grid(), "height": 0.1, "sigma": 0.5, "pace": 5, "bias_factor": 10.0, "kT": 1.0},
    ),
    "Umbrella": (Umbrella, {"cvs": LOSS, "center": 0.5, "stiffness": 10.0, "velocity": 0.0}),
    "Wall": (Wall, {"cv": LOSS, "upper": 1.0, "lower": -1.0, "strength": 10.0, "shape": "quadratic"}),
    "Boltzmann": (Boltzmann, {"cv": LOSS, "beta": [1.0, 2.0], "ramp": 10, "kT": 1.0}),
    "ReplicaExchange": (ReplicaExchange, {"cv": LOSS, "beta": [1.0, 2.0], "every": 10, "pilot": 0, "kT": 1.0}),
    "SmoothedAccuracy": (cv.SmoothedAccuracy, {"split": "test", "slope": 5.0, "coordinate": "linear", "scale": 1.0}),
    "LogLoss": (cv.LogLoss, {"split": "train"}),
    "Parameter": (cv.Parameter, {"index": 0}),
    "LossPotential": (LossPotential, {"factor": 5.0}),
    "GaussianPrior": (GaussianPrior, {"scale": 1.0}),
    "mlp": (mlp, {"sizes": (2, 3, 2), "activation": "tanh", "seed": 0}),
    "spiral_classification": (
        spiral_classification, {"hidden": (3,), "points_per_class": 5, "noise": 0.1, "train_seed": 0, "classes": 2}
    ),
    "NeuralNetwork": (
        NeuralNetwork,
        {"module": mlp((2, 3, 2)), "train": (X, Y), "test": (X, Y), "loss": "cross_entropy", "initial": "normal",
         "initial_scale": 1.0, "seed": 0, "max_memory": 1e6, "walkers": "auto", "box": Box(1.0)},
    ),
    "AnalyticSystem": (AnalyticSystem, {"n": 3, "potential": Harmonic(), "start": 0.5, "box": Box(1.0)}),
    "Simulation": (
        nnsim.Simulation,
        {"system": AnalyticSystem(2, Harmonic(), start=0.5), "integrator": Langevin(0.1, 1.0), "bias": (),
         "observe": (), "walkers": 2, "seed": 0, "every": 5, "steps": 10, "precision": "mixed", "device": "cpu",
         "threads": 1},
    ),
}  # fmt: skip
BAD: tuple[Any, ...] = (
    float("nan"), float("inf"), -1, 0, 1.5, "many", "", None, [], [1.0, "x"], {}, object(), True, 10**30, -0.0,
    np.array([[1.0]]), torch.tensor(float("nan")), b"x", lambda: 1, 1j, (float("nan"), 1.0),
)  # fmt: skip
NEVER_NUMBERS = ("many", b"x", 1j)  # never taken where a number is wanted

OPTIONS: list[tuple[str, ...]] = [
    ("analyze", "equilibrium", "RUN", "--of", "*"),
    ("analyze", "equilibrium", "RUN", "--of", "accuracy_test", "--width", "*"),
    ("analyze", "equilibrium", "RUN", "--of", "accuracy_test", "--since", "*"),
    ("analyze", "equilibrium", "RUN", "--of", "accuracy_test", "--given", "*"),
    ("analyze", "reweight", "RUN", "--along", "*"),
    ("analyze", "reweight", "RUN", "--along", "ln_loss_train", "--bins", "*"),
    ("analyze", "reweight", "RUN", "--along", "ln_loss_train", "--between", "*", "1"),
    ("analyze", "*", "RUN"),
    ("plot", "landscape", "RUN", "--between", "*", "0.5"),
    ("plot", "timeseries", "RUN", "--names", "*"),
    ("plot", "*", "RUN"),
    ("info", "*"),
    ("export", "RUN", "*"),
    ("export", "RUN", "out.npz", "--every", "*"),
    ("report", "*"),
    ("run", "*"),
    ("sweep", "*"),
    ("*",),
]
WORDS = (
    "nan", "inf", "-1", "0", "1e400", "many", "", "no_such.zarr", "../x", "\x1b[31m", "a\nb", "--bogus", "2.5", "1,2",
    "/", ".", "-", "input.py", "\udcff", "x" * 300,
)  # fmt: skip


def inputs(count: int, rng: random.Random) -> Iterator[Trial]:
    """So many bad inputs, two of three to classes and functions, the others to commands."""
    with tempfile.TemporaryDirectory() as folder:
        run = finished("monte_carlo", Path(folder))
        for number in range(count):
            yield _of_command(run, rng) if number % 3 == 2 else _of_call(rng)


def _of_call(rng: random.Random) -> Trial:
    name = rng.choice(sorted(CALLS))
    call, good = CALLS[name]
    key = rng.choice(sorted(good))
    bad = rng.choice(BAD)
    label = f"{name}({key}={bad!r:.40})"
    number = isinstance(good[key], (int, float)) and not isinstance(good[key], bool)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(**{**good, key: bad})
    except NNSimError as error:
        return Trial("input", label, "told" if "\n" not in str(error) else "raw", str(error))
    except Exception as error:  # whatever it is, it is a failure
        return Trial("input", label, "raw", f"{type(error).__name__}: {error}")
    wrong = number and (any(bad is one for one in NEVER_NUMBERS) or (isinstance(bad, float) and bad != bad))
    return Trial("input", label, "silent" if wrong else "right", "taken")


def _of_command(run: Path, rng: random.Random) -> Trial:
    template, word = rng.choice(OPTIONS), rng.choice(WORDS)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        arguments = [str(run) if one == "RUN" else word if one == "*" else one for one in template]
        label = f"nnsim {' '.join(template)} with {word!r:.40}"
        try:
            status, _, err = command(*arguments)
        except BaseException as error:  # what escapes the command line is a traceback for the user
            return Trial("input", label, "raw", f"{type(error).__name__}: {error}")
    if "Traceback" in err or len([line for line in err.splitlines() if line.startswith("Error")]) > 1:
        return Trial("input", label, "raw", err)
    if "\x1b[31m" in err:
        return Trial("input", label, "raw", "control characters on the terminal")
    return Trial("input", label, "told" if status else "right", err)
