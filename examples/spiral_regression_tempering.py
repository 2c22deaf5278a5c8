"""Test loss of a spiral regression at given train loss, at an equilibrium that is tested from two sides.

The network 2-W-W-1 (1051 parameters with W = 30) on 16 rungs of temperature between two values of ln L_train:
8 ladders begin at random networks and 8 at trained ones, and have to come to the same averages. A pilot run finds
temperatures, time steps and friction by itself.

    nnsim run examples/spiral_regression_tempering.py --set width=100
    nnsim report spiral_regression_tempering.zarr
    nnsim analyze tempering spiral_regression_tempering.zarr
"""

import nnsim
from nnsim.systems import spiral_regression


def build(
    width: int = 30,
    low: float = -2.5,
    high: float = -0.5,
    rungs: int = 16,
    ladders: int = 16,
    seed: int = 0,
    steps: int = 16_000,
    every: int = 50,
    threads: int | None = None,
) -> nnsim.Simulation:
    """Settings of one run: ln L_train from `low` to `high`, on rungs x ladders walkers."""
    return nnsim.tempering(
        spiral_regression((width, width)),
        (low, high),
        rungs=rungs,
        ladders=ladders,
        seed=seed,
        steps=steps,
        every=every,
        positions_every=100 * every,
        threads=threads,
    )


if __name__ == "__main__":
    build().run()
