"""Systems: what the parameters are, where they may live, and the energy they have."""

from nnsim.systems.analytic import AnalyticSystem, DoubleWell, Harmonic
from nnsim.systems.network import NeuralNetwork
from nnsim.systems.potentials import GaussianPrior, LossPotential

__all__ = ["AnalyticSystem", "DoubleWell", "GaussianPrior", "Harmonic", "LossPotential", "NeuralNetwork"]
