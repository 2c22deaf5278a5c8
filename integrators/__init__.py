"""Integrators: one algorithm per file, composed of the steps in `pieces`."""

from nnsim.integrators.langevin import Langevin, friction_from_fraction
from nnsim.integrators.monte_carlo import Acceptance, FixedStep, MixedStep, MonteCarlo, TunedStep
from nnsim.integrators.training import Adam, CosineDecay, GradientDescent, StepDecay
from nnsim.integrators.verlet import VelocityVerlet

__all__ = [
    "Acceptance",
    "Adam",
    "CosineDecay",
    "FixedStep",
    "GradientDescent",
    "Langevin",
    "MixedStep",
    "MonteCarlo",
    "StepDecay",
    "TunedStep",
    "VelocityVerlet",
    "friction_from_fraction",
]
