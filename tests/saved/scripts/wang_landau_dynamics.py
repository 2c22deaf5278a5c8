"""Wang-Landau dynamics with a wall."""

import nnsim
from nnsim import Grid, cv
from nnsim.bias import Wall, WangLandau
from nnsim.integrators import Langevin
from nnsim.schedules import RampHoldInverseTime
from nnsim.systems import spiral_classification


def build(width: int = 4, seed: int = 3) -> nnsim.Simulation:
    loss, accuracy = cv.LogLoss("train"), cv.SmoothedAccuracy("test", slope=5.0, scale=10.0)
    bias = WangLandau(
        [loss, accuracy],
        Grid(lower=(-3, -1), upper=(3, 11), spacing=(0.1, 0.5)),
        RampHoldInverseTime(maximum=0.5, ramp=1e3, hold=1e4),
        kernel=(0.2, 0.5),
    )
    return nnsim.Simulation(
        spiral_classification(hidden=(width,), points_per_class=10),
        Langevin(dt=4e-3, friction=5.0, kT=1.0),
        bias=[bias, Wall(loss, lower=-2.5, upper=2.0)],
        observe=[cv.Accuracy("test")],
        walkers=8,
        seed=seed,
        steps=5000,
        every=25,
        positions_every=1000,
        snapshot_every=2500,
        threads=1,
    )
