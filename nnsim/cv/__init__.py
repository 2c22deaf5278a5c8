"""Collective variables: scalar functions of the parameters."""

from nnsim.cv.accuracy import Accuracy, SmoothedAccuracy
from nnsim.cv.function import Function
from nnsim.cv.loss import LogLoss, Loss
from nnsim.cv.ntk.variables import (
    LossDerivative,
    NTKCovarianceEntropy,
    NTKEntropy,
    NTKMagnitudeEntropy,
    NTKMagnitudeVariance,
    NTKSpectrum,
    NTKTrace,
)
from nnsim.cv.parameters import Distance, Energy, LogEnergy, Parameter, WeightNorm
from nnsim.protocols import CollectiveVariable

__all__ = [
    "Accuracy",
    "CollectiveVariable",
    "Distance",
    "Energy",
    "Function",
    "LogEnergy",
    "LogLoss",
    "Loss",
    "LossDerivative",
    "NTKCovarianceEntropy",
    "NTKEntropy",
    "NTKMagnitudeEntropy",
    "NTKMagnitudeVariance",
    "NTKSpectrum",
    "NTKTrace",
    "Parameter",
    "SmoothedAccuracy",
    "WeightNorm",
]
