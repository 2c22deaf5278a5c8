"""Integrators: one algorithm per file, composed of the steps in `pieces`."""

from nnsim.integrators.brownian import Brownian
from nnsim.integrators.hybrid_monte_carlo import HybridMonteCarlo
from nnsim.integrators.langevin import Langevin, friction_from_fraction
from nnsim.integrators.lbfgs import LBFGS
from nnsim.integrators.monte_carlo import Acceptance, FixedStep, MixedStep, MonteCarlo, TunedStep
from nnsim.integrators.nose_hoover import ConservedQuantity, NoseHoover
from nnsim.integrators.training import Adam, CosineDecay, GradientDescent, StepDecay
from nnsim.integrators.verlet import VelocityVerlet

__all__ = [
    "LBFGS",
    "Acceptance",
    "Adam",
    "Brownian",
    "ConservedQuantity",
    "CosineDecay",
    "FixedStep",
    "GradientDescent",
    "HybridMonteCarlo",
    "Langevin",
    "MixedStep",
    "MonteCarlo",
    "NoseHoover",
    "StepDecay",
    "TunedStep",
    "VelocityVerlet",
    "friction_from_fraction",
]
