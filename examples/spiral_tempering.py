"""Entropy and accuracy of a spiral classifier by replica exchange on the train loss.

The network 2-6-6-6-2 (116 parameters) and the box of `spiral_wlmc.py`, sampled with the weight exp(-beta L_train) on a
ladder of beta from 0 to `highest`; neighbours on the ladder swap. A pilot run, a quarter of the whole, spaces the
ladder so that all pairs swap alike. MBAR combines the rungs to S(ln L) and to averages at any beta. In a million steps
the pairs swapped 38 % of the time or more and S(-4) - S(0.5) was -155 nats (Wang-Landau Monte Carlo: -159 +- 2), but no
walker made a round trip: the accuracy at low loss is then that of few, independent descents.

    nnsim run examples/spiral_tempering.py
    nnsim analyze reweight spiral_tempering.zarr --along ln_loss_train
    nnsim analyze reweight spiral_tempering.zarr --along accuracy_test --bins values --beta 100
    nnsim analyze equilibrium spiral_tempering.zarr --of accuracy_test
    nnsim plot timeseries spiral_tempering.zarr --observable replica_exchange_rung
"""

import numpy as np

import nnsim
from nnsim import cv
from nnsim.bias import ReplicaExchange
from nnsim.integrators import Acceptance, MixedStep, MonteCarlo
from nnsim.systems import spiral_classification


def build(
    width: int = 6,
    rungs: int = 32,
    ladders: int = 1,
    lowest: float = 4.0,
    highest: float = 3000.0,
    swap_every: int = 100,
    seed: int = 0,
    steps: int = 3_000_000,
    pilot: int | None = None,
    threads: int | None = None,
    every: int = 2000,
) -> nnsim.Simulation:
    """Settings of one run; the rungs are beta = 0 and others from `lowest` to `highest`, `pilot` a quarter of steps.

    Change its length by `--set steps=1e7`, which the pilot run follows.
    """
    longest = 4 / width**0.5  # the width of the box
    beta = [0.0, *np.geomspace(lowest, highest, rungs - 1)]
    bias = ReplicaExchange(cv.Loss("train"), beta, every=swap_every, pilot=steps // 4 if pilot is None else pilot)
    return nnsim.Simulation(
        spiral_classification(hidden=(width,) * 3, points_per_class=20),
        MonteCarlo(MixedStep(smallest=0.2 * longest, largest=longest)),
        bias=bias,
        observe=[cv.LogLoss("train"), cv.Accuracy("test"), Acceptance()],
        walkers=rungs * ladders,
        seed=seed,
        steps=steps,
        every=every,
        positions_every=50 * every,
        threads=threads,
    )


if __name__ == "__main__":
    build().run()
