"""Bayesian posterior of a small network on the Ames house prices, by any of six samplers.

    U = N / (2 noise^2) L_train + |q|^2 / (2 scale^2),        kT = 1

is minus the logarithm of likelihood times prior, up to a constant: the N = 730 train points have a normal error of
standard deviation `noise` (in units of the standardised ln price), the parameters of the network 331-W-1 a normal prior
of standard deviation `scale`. The walkers are chains from independent starts. The mean test loss of the default run (80
seconds) is 0.1294 +- 0.0005, that of `hybrid` 0.1301 +- 0.0005; `sghmc`, heated by the noise of its gradients to a
kinetic temperature of 1.07, gives 0.1410 +- 0.0007 and needs a shorter dt.

    nnsim run examples/posterior.py
    nnsim plot timeseries posterior.zarr --observable loss_train --observable loss_test
    nnsim analyze reweight posterior.zarr --along loss_test
    nnsim run examples/posterior.py --set sampler=sgld --output sgld.zarr

The table is looked for in the folder named by NNSIM_DATA, then in the download cache, then on OpenML (id 42165).
"""

import nnsim
from nnsim import Box, Integrator, Observable, cv
from nnsim.integrators import Acceptance, Brownian, ConservedQuantity, HybridMonteCarlo, Langevin, NoseHoover
from nnsim.systems import GaussianPrior, LossPotential, house_prices


def samplers(dt: float, friction: float, leapfrog: int, batch_size: int) -> dict[str, Integrator]:
    """The integrators that sample exp(-U), by name; their steps are of similar length along the stiffest direction."""
    mobility = dt**2 / 2  # of Brownian dynamics: dt / friction there, as long as the steps of Langevin dynamics
    return {
        "langevin": Langevin(dt, friction),
        "brownian": Brownian(mobility, friction=1.0),
        "nose_hoover": NoseHoover(dt, tau=50 * dt, massive=True),
        "hybrid": HybridMonteCarlo(dt, leapfrog),
        "sgld": Brownian(mobility, friction=1.0, scheme="euler-maruyama", batch_size=batch_size),
        "sghmc": Langevin(dt, friction, batch_size=batch_size),
    }


def build(
    sampler: str = "langevin",
    width: int = 5,
    noise: float = 0.35,
    scale: float = 0.1,
    walkers: int = 8,
    seed: int = 0,
    dt: float = 2e-3,
    friction: float = 5.0,
    leapfrog: int = 20,
    batch_size: int = 73,
    steps: int = 20_000,
    every: int = 20,
) -> nnsim.Simulation:
    """Settings of one run; `leapfrog` is for the hybrid, which makes `steps` / `leapfrog` trajectories.

    `batch_size` is the number of train points of a gradient for sgld and sghmc.
    """
    integrators = samplers(dt, friction, leapfrog, batch_size)
    if sampler not in integrators:
        raise nnsim.InputError(f"posterior: sampler = {sampler!r} must be one of {', '.join(integrators)}; change it")
    own: dict[str, list[Observable]] = {"hybrid": [Acceptance()], "nose_hoover": [ConservedQuantity()]}
    points = 730
    length = leapfrog if sampler == "hybrid" else 1  # gradients in a step
    interval = max(every // length, 1)
    system = house_prices(
        hidden=(width,),
        activation="tanh",
        box=Box(kind="open"),
        initial="reinitialise",
        potential=LossPotential(points / (2 * noise**2)) + GaussianPrior(scale),
    )
    return nnsim.Simulation(
        system,
        integrators[sampler],
        observe=[cv.Loss("train"), cv.Loss("test"), *own.get(sampler, [])],
        walkers=walkers,
        seed=seed,
        steps=steps // length,
        every=interval,
        positions_every=100 * interval,
        threads=1,  # tensors this small gain nothing from more
    )


if __name__ == "__main__":
    build().run()
