"""Entropy of a spiral classifier along ln L_train from umbrella windows, combined by MBAR.

The network 2-6-6-6-2 (116 parameters) and the box of `spiral_wlmc.py`. Each walker is a window: a spring holds its
ln L_train near a centre of its own, from ln L = 0.5 down to `lowest`. A window knows nothing of those beside it: in
runs with a `lowest` of -4 several windows below -2.6 stayed at losses far above their centres, in minima from which a
walker comes down only by way of higher losses. See where each window is before believing the table.

    nnsim run examples/spiral_umbrella.py
    nnsim plot timeseries spiral_umbrella.zarr --observable ln_loss_train
    nnsim analyze reweight spiral_umbrella.zarr --along ln_loss_train --between -2.5 0.5 --bins 30
    nnsim analyze reweight spiral_umbrella.zarr --along accuracy_test --bins values --beta 50
"""

import numpy as np

import nnsim
from nnsim import cv
from nnsim.bias import Umbrella
from nnsim.integrators import Acceptance, MixedStep, MonteCarlo
from nnsim.systems import spiral_classification


def build(
    width: int = 6,
    lowest: float = -2.5,
    highest: float = 0.5,
    windows: int = 46,
    stiffness: float = 500.0,
    seed: int = 0,
    steps: int = 2_000_000,
    threads: int | None = None,
    every: int = 200,
) -> nnsim.Simulation:
    """Settings of one run; a window alone has a standard deviation of about 1 / sqrt(stiffness)."""
    loss = cv.LogLoss("train")
    longest = 4 / width**0.5  # the width of the box
    return nnsim.Simulation(
        spiral_classification(hidden=(width,) * 3, points_per_class=20),
        MonteCarlo(MixedStep(smallest=0.2 * longest, largest=longest)),
        bias=Umbrella(loss, np.linspace(lowest, highest, windows).tolist(), stiffness),
        observe=[loss, cv.Accuracy("test"), Acceptance()],
        walkers=windows,
        seed=seed,
        steps=steps,
        every=every,
        positions_every=500 * every,
        threads=threads,
    )


if __name__ == "__main__":
    build().run()
