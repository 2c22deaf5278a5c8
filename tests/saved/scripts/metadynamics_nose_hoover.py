"""Metadynamics by deterministic dynamics, which goes on without random numbers."""

import nnsim
from nnsim import Box, Grid, cv
from nnsim.bias import Metadynamics
from nnsim.integrators import NoseHoover
from nnsim.systems import spiral_classification


def build(width: int = 4, seed: int = 3) -> nnsim.Simulation:
    bias = Metadynamics(cv.LogLoss("train"), Grid(-4, 3, spacing=0.1), height=0.3, sigma=0.2, pace=10)
    return nnsim.Simulation(
        spiral_classification(hidden=(width,), points_per_class=10, box=Box(1.0), initial="uniform"),
        NoseHoover(dt=0.01, tau=0.5, kT=1.0),
        bias=bias,
        observe=[cv.WeightNorm()],
        walkers=4,
        seed=seed,
        steps=500,
        every=20,
        positions_every=100,
        snapshot_every=250,
        precision="double",
        threads=1,
    )
