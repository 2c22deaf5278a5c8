"""Training on all points, with the tangent kernel: it goes on without random numbers."""

import nnsim
from nnsim import Box, cv
from nnsim.integrators import Adam
from nnsim.systems import spiral_classification


def build(width: int = 8, seed: int = 3) -> nnsim.Simulation:
    return nnsim.Simulation(
        spiral_classification(hidden=(width, width), points_per_class=10, box=Box(kind="open"), initial="reinitialise"),
        Adam(1e-2),
        observe=[cv.NTKEntropy("train"), cv.NTKTrace("train"), cv.LogLoss("train"), cv.Accuracy("test")],
        walkers=3,
        seed=seed,
        steps=200,
        every=10,
        record_start=True,
        positions_every=50,
        precision="double",
        threads=1,
    )
