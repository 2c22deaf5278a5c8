"""Replica exchange with compiled Monte Carlo moves."""

import nnsim
from nnsim import Box, cv
from nnsim.bias import ReplicaExchange
from nnsim.integrators import MixedStep, MonteCarlo
from nnsim.systems import spiral_classification


def build(width: int = 4, seed: int = 3) -> nnsim.Simulation:
    bias = ReplicaExchange(cv.Loss("train"), [0, 2, 5, 12, 30, 80], every=50, pilot=10_000)
    return nnsim.Simulation(
        spiral_classification(hidden=(width,), points_per_class=10, box=Box(1.0), initial="uniform"),
        MonteCarlo(MixedStep(1e-2, 1.0)),
        bias=bias,
        observe=[cv.LogLoss("train"), cv.Accuracy("test")],
        walkers=6,
        seed=seed,
        steps=100_000,
        every=500,
        positions_every=20_000,
        threads=1,
    )
