"""Simulated annealing of a spiral classifier: how low a loss is found, and how well those networks generalise.

The network 2-6-6-6-2 (116 parameters) and the box of `spiral_wlmd.py` with U = L_train, so that kT is the loss
temperature 1 / beta. It falls by the same factor at every step of Langevin dynamics; each walker is annealed on its
own. In 10 000 steps the mean ln L_train of 64 walkers came to -3.37 +- 0.09 and their accuracy to 0.846 +- 0.007, in
40 000 steps (two minutes) to -4.62 +- 0.05 and 0.873 +- 0.005: the slower, the lower, and the better.

    nnsim run examples/spiral_annealing.py
    nnsim plot timeseries spiral_annealing.zarr --observable ln_loss_train --observable accuracy_test
    nnsim plot histogram spiral_annealing.zarr --observable ln_loss_train --observable accuracy_test
"""

import nnsim
from nnsim import cv
from nnsim.integrators import Langevin
from nnsim.schedules import ExponentialRamp
from nnsim.systems import LossPotential, spiral_classification


def build(
    width: int = 6,
    walkers: int = 64,
    seed: int = 0,
    dt: float = 0.1,
    friction: float = 1.0,
    hottest: float = 0.03,
    coldest: float = 1e-4,
    steps: int = 40_000,
    every: int = 40,
) -> nnsim.Simulation:
    """Settings of one run; `hottest` and `coldest` are kT at its beginning and end.

    Change its length by `--set steps=1e5`, which kT follows; `--steps` alone would stop it on its way, or go on at the
    coldest.
    """
    return nnsim.Simulation(
        spiral_classification(hidden=(width,) * 3, points_per_class=20, potential=LossPotential(1.0)),
        Langevin(dt=dt, friction=friction, kT=ExponentialRamp(hottest, coldest, steps)),
        observe=[cv.LogLoss("train"), cv.Accuracy("test")],
        walkers=walkers,
        seed=seed,
        steps=steps,
        every=every,
        positions_every=50 * every,
        threads=1,  # tensors this small gain nothing from more
    )


if __name__ == "__main__":
    build().run()
