"""Entropy landscape of a spiral classifier by Wang-Landau Monte Carlo.

The network 2-6-6-6-2 (116 parameters) of arXiv 2503.13145, a flat prior on the box +-2/sqrt(6). Moves of one parameter,
compiled; the exact test accuracy is the second collective variable, with a bin for each of its 41 levels.

    nnsim run examples/spiral_wlmc.py
    nnsim plot landscape spiral_wlmc.zarr
"""

import nnsim
from nnsim import Grid, cv
from nnsim.bias import WangLandau
from nnsim.integrators import Acceptance, MixedStep, MonteCarlo
from nnsim.schedules import RampHoldInverseTime
from nnsim.systems import spiral_classification


def build(
    width: int = 6,
    walkers: int = 2,
    seed: int = 0,
    increment: float = 0.05,
    hold: float = 2e7,
    threads: int | None = None,
    every: int = 20_000,
) -> nnsim.Simulation:
    system = spiral_classification(hidden=(width,) * 3, points_per_class=20)
    half = 0.5 / 40  # half of the step between two levels of the accuracy of 40 points
    bias = WangLandau(
        [cv.LogLoss("train"), cv.Accuracy("test")],
        Grid(lower=(-6, -half), upper=(1, 1 + half), bins=(70, 41), kind="bins"),
        RampHoldInverseTime(increment, ramp=0, hold=hold),  # t counts the moves of all walkers
    )
    return nnsim.Simulation(
        system,
        MonteCarlo(MixedStep(smallest=1e-3, largest=1.0)),
        bias=bias,
        observe=[Acceptance()],
        walkers=walkers,
        seed=seed,
        steps=30_000_000,
        every=every,
        positions_every=10 * every,
        threads=threads,
    )


if __name__ == "__main__":
    build().run()
