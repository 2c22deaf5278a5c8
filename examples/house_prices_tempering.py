"""Test loss of a house-price network at given train loss, at an equilibrium that is tested from two sides.

The network 331-20-1 (6661 parameters) of `house_prices.py` on 16 rungs of temperature between two values of ln L_train:
8 ladders begin at random networks and 8 at trained ones, and have to come to the same averages. A pilot run finds
temperatures, time steps and friction by itself.

    nnsim run examples/house_prices_tempering.py
    nnsim report house_prices_tempering.zarr
    nnsim analyze tempering house_prices_tempering.zarr
"""

import nnsim
from nnsim.systems import house_prices


def build(
    width: int = 20,
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
        house_prices(hidden=(width,)),
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
