"""Well-tempered metadynamics by Langevin dynamics."""

import nnsim
from nnsim import Box, Grid, cv
from nnsim.bias import Metadynamics, Wall
from nnsim.integrators import Langevin
from nnsim.systems import spiral_classification


def build(width: int = 4, seed: int = 3) -> nnsim.Simulation:
    loss = cv.LogLoss("train")
    bias = Metadynamics(loss, Grid(-4, 3, spacing=0.1), height=0.3, sigma=0.2, pace=10, bias_factor=10.0)
    return nnsim.Simulation(
        spiral_classification(hidden=(width,), points_per_class=10, box=Box(1.0), initial="uniform"),
        Langevin(dt=0.01, friction=1.0, kT=1.0),
        bias=[bias, Wall(loss, lower=-3.0)],
        observe=[cv.Accuracy("test")],
        walkers=8,
        seed=seed,
        steps=4000,
        every=20,
        positions_every=1000,
        snapshot_every=2000,
        threads=1,
    )
