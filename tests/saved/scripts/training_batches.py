"""Training on mini-batches."""

import nnsim
from nnsim import Box, cv
from nnsim.integrators import GradientDescent
from nnsim.systems import spiral_classification


def build(width: int = 8, seed: int = 3) -> nnsim.Simulation:
    return nnsim.Simulation(
        spiral_classification(hidden=(width, width), points_per_class=10, box=Box(kind="open"), initial="reinitialise"),
        GradientDescent(0.05, momentum=0.9, batch_size=6),
        observe=[cv.LogLoss("train"), cv.Accuracy("test")],
        walkers=3,
        seed=seed,
        steps=200,
        every=10,
        positions_every=50,
        threads=1,
    )
