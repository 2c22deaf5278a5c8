"""Training seen through the tangent kernel: its entropy and trace, and the loss, from the start on.

A dense or convolutional network on one of four data sets, trained by Adam from several independent starts side by side
(the walkers); after every so many epochs the kernel is taken on a fixed random part of the train and of the test
points. Follows arXiv 2410.07451; `ntk_evolution.py` makes whole figures of such runs, `ntk_architecture.py` maps.

    nnsim run examples/ntk_training.py --set data=digits --set width=100
    nnsim plot evolution ntk_training.zarr
    nnsim sweep examples/ntk_training.py --grid width=12,50,200 --grid depth=1,2,3 --set runs=2 --jobs 2
    nnsim plot map ntk_training-sweep --x width --y depth --value ntk_entropy_train_400points_last
"""

import math

import nnsim
from nnsim import cv
from nnsim.integrators import Adam
from nnsim.systems import auto_mpg, convolutional_mnist, dense_mnist, digits

SYSTEMS = {"digits": digits, "mnist": dense_mnist, "convolution": convolutional_mnist, "mpg": auto_mpg}


def build(
    data: str = "digits",
    width: int = 50,
    depth: int = 3,
    activation: str = "relu",
    runs: int = 3,
    seed: int = 0,
    epochs: int = 100,
    every: int = 2,
    kernel_points: int | None = 200,
    learning_rate: float = 1e-3,
    batch_size: int = 128,
    precision: str = "single",
) -> nnsim.Simulation:
    """Settings of one run; `every` counts epochs, and `kernel_points=none` takes the kernel on all points."""
    if data not in SYSTEMS:
        raise nnsim.InputError(f"data = {data!r} is not known; choose one of {', '.join(SYSTEMS)}")
    system = SYSTEMS[data](width, depth, activation=activation)
    epoch = math.ceil(len(system.targets("train")) / batch_size)
    kernels = [
        kind(split, points=kernel_points) for kind in (cv.NTKEntropy, cv.NTKTrace) for split in ("train", "test")
    ]
    return nnsim.Simulation(
        system,
        Adam(learning_rate, batch_size=batch_size),
        observe=[*kernels, cv.Loss("train"), cv.Loss("test")],
        walkers=runs,
        seed=seed,
        steps=epochs * epoch,
        every=every * epoch,
        record_start=True,
        positions_every=0,
        precision=precision,
    )


if __name__ == "__main__":
    build().run()
