"""Entropy of a spiral classifier along ln L_train by Wang-Landau hybrid Monte Carlo.

The network 2-6-6-6-2 (116 parameters) and the box of `spiral_wlmd.py`. A step is a trajectory of Newton's dynamics of
each walker, accepted or rejected as a whole, after which the walker deposits on the shared bias; so the time step is
free of error, and what it costs is seen in the acceptance. A trajectory that leaves the grid is rejected, and needs no
wall. The exact test accuracy is recorded. After 3400 steps, three minutes, S(-4) - S(0.5) was -158 nats (Wang-Landau
Monte Carlo: -159 +- 2), with a single round trip. With `lowest` = -5 it was -162, and S(-4.75) was 90 nats too low:
walkers in the narrow valleys there accept few trajectories (down to 0.14 of them), and none came back up.

    nnsim run examples/spiral_wlhmc.py
    nnsim plot landscape spiral_wlhmc.zarr
    nnsim plot convergence spiral_wlhmc.zarr --between -3 0.5
    nnsim plot timeseries spiral_wlhmc.zarr --observable acceptance --observable ln_loss_train
    nnsim analyze equilibrium spiral_wlhmc.zarr --of accuracy_test
"""

import nnsim
from nnsim import Grid, cv
from nnsim.bias import WangLandau
from nnsim.integrators import Acceptance, HybridMonteCarlo
from nnsim.schedules import RampHoldInverseTime
from nnsim.systems import spiral_classification


def build(
    width: int = 6,
    walkers: int = 64,
    seed: int = 0,
    dt: float = 6e-3,
    leapfrog: int = 20,
    increment: float = 0.4,
    hold: float | None = None,
    lowest: float = -4.0,
    steps: int = 4000,
    every: int = 5,
) -> nnsim.Simulation:
    """Settings of one run; `hold`, in deposits of all walkers, is by default 0.4 of the run, then the increment falls.

    `leapfrog` is the number of time steps of a trajectory, each a gradient. Change the length by `--set steps=1e4`,
    which `hold` follows.
    """
    loss, until = cv.LogLoss("train"), 0.4 * steps * walkers if hold is None else hold
    bias = WangLandau(
        loss,
        Grid(lower=lowest - 0.5, upper=1.5, spacing=0.05),
        RampHoldInverseTime(increment, ramp=0, hold=until, offset=0.9 * until),
        kernel=0.05,
    )
    return nnsim.Simulation(
        spiral_classification(hidden=(width,) * 3, points_per_class=20),
        HybridMonteCarlo(dt=dt, steps=leapfrog, kT=1.0),
        bias=bias,
        observe=[cv.Accuracy("test"), Acceptance()],
        walkers=walkers,
        seed=seed,
        steps=steps,
        every=every,
        positions_every=40 * every,
        threads=1,  # tensors this small gain nothing from more
    )


if __name__ == "__main__":
    build().run()
