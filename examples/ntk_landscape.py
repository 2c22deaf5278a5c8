"""Entropy landscape S(ln L_train, NTK entropy) of a spiral classifier by metadynamics along both.

A network 2-6-6-6-2 (116 parameters) on the 40 train points of `spiral_wlmd.py`, in the same box with a flat prior. The
bias acts on the train loss and on the entropy of the tangent kernel at the same time, so that networks of low and of
high NTK entropy are visited at every loss, wherever most of them are. The kernel costs as much as several steps of the
rest: the bias is evaluated every `slow` steps, with forces as many times as strong (multiple time stepping).

    nnsim run examples/ntk_landscape.py
    nnsim plot landscape ntk_landscape.zarr
    nnsim analyze equilibrium ntk_landscape.zarr --of ntk_entropy_train
    nnsim analyze equilibrium ntk_landscape.zarr --given ntk_entropy_train --of accuracy_test
"""

import nnsim
from nnsim import Grid, cv
from nnsim.bias import Metadynamics, Wall
from nnsim.integrators import Langevin
from nnsim.systems import spiral_classification


def build(
    width: int = 6,
    depth: int = 3,
    walkers: int = 64,
    seed: int = 0,
    dt: float = 3e-3,
    friction: float = 10.0,
    height: float = 0.3,
    sigma: float = 0.1,
    slow: int = 3,
    bias_factor: float = 60.0,
    lowest: float = -3.0,
    steps: int = 48_000,
    every: int = 24,
) -> nnsim.Simulation:
    loss, entropy = cv.LogLoss("train"), cv.NTKEntropy("train")
    grid = Grid(lower=(lowest - 1.0, -0.5), upper=(2.0, 3.5), spacing=0.05)
    bias = Metadynamics([loss, entropy], grid, height=height, sigma=sigma, pace=slow, bias_factor=bias_factor)
    return nnsim.Simulation(
        spiral_classification(hidden=(width,) * depth, points_per_class=20),
        Langevin(dt=dt, friction=friction, kT=1.0),
        bias=[(bias, slow), Wall(loss, lower=lowest, upper=1.0, strength=3000.0)],
        observe=[cv.Accuracy("test"), cv.NTKTrace("train")],
        walkers=walkers,
        seed=seed,
        steps=steps,
        every=every,
        positions_every=40 * every,
        threads=1,  # tensors this small gain nothing from more
    )


if __name__ == "__main__":
    build().run()
