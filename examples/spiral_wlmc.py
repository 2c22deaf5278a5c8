"""Entropy landscape of a spiral classifier by Wang-Landau Monte Carlo.

The network 2-6-6-6-2 (116 parameters) of arXiv 2503.13145, a flat prior on the box +-2/sqrt(6). Moves of one parameter,
compiled; the exact test accuracy is the second collective variable, with a bin for each of its 41 levels. With
`plane=False` the bias is one of ln L_train alone, which travels more often between high and low loss; the equilibrium
accuracy is then the mean over the frames at each loss.

    nnsim run examples/spiral_wlmc.py
    nnsim plot landscape spiral_wlmc.zarr
    nnsim plot convergence spiral_wlmc.zarr
"""

from math import prod

import nnsim
from nnsim import Grid, cv
from nnsim.bias import WangLandau
from nnsim.integrators import Acceptance, MixedStep, MonteCarlo
from nnsim.schedules import RampHoldInverseTime
from nnsim.systems import spiral_classification


def build(
    width: int = 6,
    plane: bool = True,
    walkers: int = 2,
    seed: int = 0,
    increment: float | None = None,
    hold: float | None = None,
    lowest: float = -6.0,
    steps: int = 100_000_000,
    threads: int | None = None,
    every: int = 10_000,
) -> nnsim.Simulation:
    """Settings of one run; `increment` (kT) and `hold` (deposits) are by default those of docs/convergence.md.

    The increment is that of 116 parameters there, and in proportion to their number for other widths, as S is.
    """
    system = spiral_classification(hidden=(width,) * 3, points_per_class=20)
    loss, accuracy, size = cv.LogLoss("train"), cv.Accuracy("test"), sum(map(prod, system.parameters.values()))
    bins = round((1 - lowest) / 0.1)
    if plane:
        half = 0.5 / 40  # half of the step between two levels of the accuracy of 40 points
        grid = Grid(lower=(lowest, -half), upper=(1, 1 + half), bins=(bins, 41), kind="bins")
        biased, defaults = [loss, accuracy], (0.05 * size / 116, 1e6)
    else:
        grid = Grid(lower=lowest, upper=1, bins=bins, kind="bins")
        biased, defaults = [loss], (0.001 * size / 116, 5e6)
    given = zip((increment, hold), defaults, strict=True)
    height, until = (default if value is None else value for value, default in given)
    bias = WangLandau(biased, grid, RampHoldInverseTime(height, ramp=0, hold=until))  # counts moves of all walkers
    longest = 4 / width**0.5  # the width of the box
    return nnsim.Simulation(
        system,
        MonteCarlo(MixedStep(smallest=0.2 * longest, largest=longest)),
        bias=bias,
        observe=[Acceptance()] if plane else [accuracy, Acceptance()],
        walkers=walkers,
        seed=seed,
        steps=steps,
        every=every,
        positions_every=10 * every,
        threads=threads,
    )


if __name__ == "__main__":
    build().run()
