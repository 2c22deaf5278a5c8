"""Entropy landscape of a spiral classifier by Wang-Landau molecular dynamics.

The network 2-6-6-6-2 (116 parameters) of arXiv 2503.13145 on two spirals of 20 points, a flat prior on the box
+-2/sqrt(6). Many walkers share one Wang-Landau bias on ln L_train and the smoothed test accuracy (times 10, so that one
grid spacing suits both); the exact test accuracy is recorded beside them.

    nnsim run examples/spiral_wlmd.py
    nnsim plot landscape spiral_wlmd.zarr
"""

import nnsim
from nnsim import Grid, cv
from nnsim.bias import Wall, WangLandau
from nnsim.integrators import Langevin
from nnsim.schedules import RampHoldInverseTime
from nnsim.systems import spiral_classification


def build(
    walkers: int = 64,
    seed: int = 0,
    dt: float = 4e-3,
    friction: float = 5.0,
    increment: float = 0.3,
    hold: float = 1.4e6,
    offset: float = 1.25e6,
    every: int = 20,
) -> nnsim.Simulation:
    system = spiral_classification(hidden=(6, 6, 6), points_per_class=20)
    loss, accuracy = cv.LogLoss("train"), cv.SmoothedAccuracy("test", slope=5.0, scale=10.0)
    bias = WangLandau(
        [loss, accuracy],
        Grid(lower=(-7, -1), upper=(2, 11), spacing=0.1),
        RampHoldInverseTime(increment, ramp=1e5, hold=hold, offset=offset),  # t counts deposits of all walkers
        kernel=0.2,
    )
    return nnsim.Simulation(
        system,
        Langevin(dt=dt, friction=friction, kT=1.0),
        bias=[bias, Wall(loss, lower=-6.0, upper=1.0, strength=3000.0)],
        observe=[cv.Accuracy("test")],
        walkers=walkers,
        seed=seed,
        steps=50_000,
        every=every,
        positions_every=100 * every,
        threads=1,  # tensors this small gain nothing from more
    )


if __name__ == "__main__":
    build().run()
