"""Equilibrium accuracy of a spiral classifier by Boltzmann sampling, the independent check of its entropy landscape.

The network 2-6-6-6-2 (116 parameters) and the box of `spiral_wlmc.py`, sampled with the weight exp(-beta L_train) at
beta = 0, 1, 3 and 16 values from 10 to 10000, ten chains each. Beta rises from 0 to its value over the first 40 % of
the run, and averages are taken over the second half; at low loss a chain keeps what it was annealed into, so the error
is the spread over the chains.

    nnsim run examples/spiral_boltzmann.py
    nnsim analyze boltzmann spiral_boltzmann.zarr --of accuracy_test
    nnsim analyze equilibrium spiral_boltzmann.zarr --of accuracy_test
"""

import numpy as np

import nnsim
from nnsim import cv
from nnsim.bias import Boltzmann
from nnsim.integrators import Acceptance, MixedStep, MonteCarlo
from nnsim.systems import spiral_classification


def build(
    width: int = 6,
    lowest: float = 10.0,
    highest: float = 10_000.0,
    temperatures: int = 16,
    chains: int = 10,
    steps: int = 1_000_000,
    ramp: int = 400_000,
    seed: int = 0,
    threads: int | None = None,
    every: int = 2000,
) -> nnsim.Simulation:
    """Settings of one run: the ladder of beta, how many chains of each, and the steps until the full beta (`ramp`)."""
    box = 4 / width**0.5  # from one side to the other
    ladder = np.geomspace(lowest, highest, temperatures).round(1)
    beta = np.concatenate(([0.0, 1.0, 3.0], ladder)).repeat(chains)
    return nnsim.Simulation(
        spiral_classification(hidden=(width,) * 3, points_per_class=20),
        MonteCarlo(MixedStep(smallest=0.006 * box, largest=box)),
        bias=Boltzmann(cv.Loss("train"), beta.tolist(), ramp=ramp),
        observe=[cv.LogLoss("train"), cv.Accuracy("test"), Acceptance()],
        walkers=len(beta),
        seed=seed,
        steps=steps,
        every=every,
        positions_every=50 * every,
        threads=threads,
    )


if __name__ == "__main__":
    build().run()
