"""Wang-Landau Monte Carlo, compiled."""

import nnsim
from nnsim import Box, Grid, cv
from nnsim.bias import WangLandau
from nnsim.integrators import MixedStep, MonteCarlo
from nnsim.schedules import InverseTime
from nnsim.systems import spiral_classification


def build(width: int = 4, seed: int = 3) -> nnsim.Simulation:
    bias = WangLandau(
        [cv.LogLoss("train"), cv.Accuracy("test")],
        Grid(lower=(-3, -0.025), upper=(3, 1.025), bins=(60, 21), kind="bins"),
        InverseTime(maximum=1.0, scale=1260),
    )
    return nnsim.Simulation(
        spiral_classification(hidden=(width,), points_per_class=10, box=Box(1.0), initial="uniform"),
        MonteCarlo(MixedStep(1e-2, 1.0)),
        bias=bias,
        walkers=2,
        seed=seed,
        steps=400_000,
        every=2000,
        positions_every=100_000,
        snapshot_every=200_000,
        threads=1,
    )
