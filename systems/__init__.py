"""Systems: what the parameters are, where they may live, and the energy they have."""

from nnsim.systems.analytic import AnalyticSystem, DoubleWell, Harmonic
from nnsim.systems.auto_mpg import auto_mpg
from nnsim.systems.digits import digits
from nnsim.systems.house_prices import house_prices
from nnsim.systems.losses import BinaryCrossEntropy, CrossEntropy, MeanSquaredError
from nnsim.systems.mnist import convolutional_mnist, dense_mnist
from nnsim.systems.network import NeuralNetwork
from nnsim.systems.potentials import GaussianPrior, LossPotential
from nnsim.systems.spiral import spiral_classification, spiral_regression

__all__ = [
    "AnalyticSystem",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "DoubleWell",
    "GaussianPrior",
    "Harmonic",
    "LossPotential",
    "MeanSquaredError",
    "NeuralNetwork",
    "auto_mpg",
    "convolutional_mnist",
    "dense_mnist",
    "digits",
    "house_prices",
    "spiral_classification",
    "spiral_regression",
]
