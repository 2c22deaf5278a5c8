"""Integrators: one algorithm per file, composed of the steps in `pieces`."""

from nnsim.integrators.langevin import Langevin, friction_from_fraction
from nnsim.integrators.verlet import VelocityVerlet

__all__ = ["Langevin", "VelocityVerlet", "friction_from_fraction"]
