"""Entropy landscape of a house-price network by Wang-Landau molecular dynamics.

The network 331-20-1 (6661 parameters) of arXiv 2503.13145 on the Ames house prices, half of the 1460 rows for training;
a flat prior on a box of one limit for each tensor (scale 3). Walkers share one bias on ln L_train and ln L_test.

    nnsim run examples/house_prices.py --steps 300
    nnsim plot landscape house_prices.zarr

The table is looked for in the folder named by NNSIM_DATA, then in the download cache, then on OpenML (id 42165).
"""

import nnsim
from nnsim import Grid, cv
from nnsim.bias import Wall, WangLandau
from nnsim.integrators import Langevin
from nnsim.schedules import RampHoldInverseTime
from nnsim.systems import house_prices


def build(
    width: int = 20,
    walkers: int = 8,
    seed: int = 0,
    dt: float = 1e-3,
    friction: float = 20.0,
    increment: float = 0.5,
    hold: float = 4e6,
    every: int = 20,
) -> nnsim.Simulation:
    system = house_prices(hidden=(width,), initial="reinitialise")  # starts near ln L = 0, inside the walls
    train, test = cv.LogLoss("train"), cv.LogLoss("test")
    bias = WangLandau(
        [train, test],
        Grid(lower=(-7, -4), upper=(3, 4), spacing=0.1),
        RampHoldInverseTime(increment, ramp=1e5, hold=hold),
        kernel=0.2,
    )
    walls = [Wall(train, lower=-6.0, upper=2.0), Wall(test, upper=3.0)]
    return nnsim.Simulation(
        system,
        Langevin(dt=dt, friction=friction, kT=1.0),
        bias=[bias, *walls],
        walkers=walkers,
        seed=seed,
        steps=100_000,
        every=every,
        positions_every=50 * every,
    )


if __name__ == "__main__":
    build().run()
