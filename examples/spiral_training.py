"""Classical training of the spiral classifier: many independent runs side by side.

The network 2-6-6-6-2 (116 parameters) and the data of `spiral_wlmd.py`, by gradient descent on all points from torch's
default initialisation, without a box. The mean test accuracy of the runs at the same train loss is what the equilibrium
of arXiv 2503.13145 is compared with; not every run reaches a low loss, so their number is given beside each mean.

    nnsim run examples/spiral_training.py
    nnsim plot landscape spiral_wlmd.zarr --observable accuracy_test --training spiral_training.zarr
    nnsim analyze advantage spiral_wlmd.zarr --training spiral_training.zarr --of accuracy_test -o advantage.csv
"""

import nnsim
from nnsim import Box, cv
from nnsim.integrators import GradientDescent
from nnsim.systems import spiral_classification


def build(
    hidden: tuple[int, ...] = (6, 6, 6),
    runs: int = 100,
    seed: int = 0,
    learning_rate: float = 0.05,
    momentum: float = 0.0,
    batch_size: int | None = None,
    steps: int = 30_000,
    every: int = 50,
) -> nnsim.Simulation:
    system = spiral_classification(hidden=hidden, box=Box(kind="open"), initial="reinitialise")
    return nnsim.Simulation(
        system,
        GradientDescent(learning_rate, momentum=momentum, batch_size=batch_size),
        observe=[cv.LogLoss("train"), cv.Accuracy("test")],
        walkers=runs,
        seed=seed,
        steps=steps,
        every=every,
        positions_every=100 * every,
        threads=1,  # tensors this small gain nothing from more
    )


if __name__ == "__main__":
    build().run()
